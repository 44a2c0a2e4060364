//! The order of the vertices within each rank, for few crossings.

use super::Graph;

const SWEEPS: usize = 12;

/// The vertices of each rank in the order given.
pub fn by_rank(graph: &Graph, vertices: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
    let mut order = vec![Vec::new(); graph.ranks];
    vertices.for_each(|vertex| order[graph.vertices[vertex].rank].push(vertex));
    order
}

/// The order within each rank with the fewest crossings met on barycentre sweeps in both directions.
pub fn ordered(graph: &Graph, mut order: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut position = positions(graph, &order);
    let mut best = (crossings(graph, &order), order.clone());
    for sweep in 0..SWEEPS {
        let side = sweep % 2;
        for step in 0..graph.ranks {
            let rank = if side == 0 { step } else { graph.ranks - 1 - step };
            let barycentre = |vertex: &usize| {
                let near = &graph.vertices[*vertex].sides[side];
                let sum: usize = near.iter().map(|other| position[*other]).sum();
                if near.is_empty() { position[*vertex] as f64 } else { sum as f64 / near.len() as f64 }
            };
            order[rank].sort_by(|a, b| barycentre(a).total_cmp(&barycentre(b)));
            order[rank].iter().enumerate().for_each(|(place, vertex)| position[*vertex] = place);
        }
        swap_neighbours(graph, &mut order, &mut position);
        let count = crossings(graph, &order);
        if count < best.0 {
            best = (count, order.clone());
        }
    }
    best.1
}

/// Swaps neighbours in a rank where that removes crossings.
fn swap_neighbours(graph: &Graph, order: &mut [Vec<usize>], position: &mut [usize]) {
    for rank in order {
        for place in 1..rank.len() {
            let (upper, lower) = (rank[place - 1], rank[place]);
            if crossed(graph, position, upper, lower) > crossed(graph, position, lower, upper) {
                rank.swap(place - 1, place);
                position.swap(upper, lower);
            }
        }
    }
}

/// Crossings between the edges of two vertices of a rank if `upper` stands above `lower`.
fn crossed(graph: &Graph, position: &[usize], upper: usize, lower: usize) -> usize {
    let (upper, lower) = (&graph.vertices[upper].sides, &graph.vertices[lower].sides);
    let count = |above: &[usize], below: &[usize]| -> usize {
        above.iter().map(|a| below.iter().filter(|b| position[**b] < position[*a]).count()).sum()
    };
    count(&upper[0], &lower[0]) + count(&upper[1], &lower[1])
}

/// The place of each vertex in its rank.
pub fn positions(graph: &Graph, order: &[Vec<usize>]) -> Vec<usize> {
    let mut position = vec![0; graph.vertices.len()];
    for rank in order {
        rank.iter().enumerate().for_each(|(place, vertex)| position[*vertex] = place);
    }
    position
}

/// How many pairs of edges cross.
pub fn crossings(graph: &Graph, order: &[Vec<usize>]) -> usize {
    let position = positions(graph, order);
    let mut count = 0;
    for rank in order {
        let ends: Vec<(usize, usize)> = rank
            .iter()
            .flat_map(|v| graph.vertices[*v].sides[1].iter().map(|w| (position[*v], position[*w])))
            .collect();
        for (index, a) in ends.iter().enumerate() {
            count += ends[index + 1..].iter().filter(|b| a.0 < b.0 && a.1 > b.1).count();
        }
    }
    count
}
