//! The height of each vertex, for straight edges.

use super::order::positions;
use super::{Graph, SPACE};

/// How strongly an edge between two vertices pulls them to one height: most inside a long edge.
fn pull(graph: &Graph, a: usize, b: usize) -> f64 {
    match (graph.vertices[a].is_box, graph.vertices[b].is_box) {
        (true, true) => 1.0,
        (false, false) => 8.0,
        _ => 2.0,
    }
}

/// The length of all vertical steps, weighted by how much they matter.
pub fn bends(graph: &Graph, heights: &[f64]) -> f64 {
    let steps = graph.paths.iter().flat_map(|path| path.windows(2));
    steps.map(|pair| pull(graph, pair[0], pair[1]) * (heights[pair[0]] - heights[pair[1]]).abs()).sum()
}

/// The y of each vertex: the least sum of squared vertical steps along edges that keeps order and space, found one
/// rank at a time.
pub fn heights(graph: &Graph, order: &[Vec<usize>]) -> Vec<f64> {
    let mut y = vec![0.0_f64; graph.vertices.len()];
    for sweep in 0..100 {
        for step in 0..order.len() {
            let rank = &order[if sweep % 2 == 0 { step } else { order.len() - 1 - step }];
            let mut offset = 0.0;
            let mut above = 0.0;
            let wanted: Vec<(f64, f64, f64)> = rank
                .iter()
                .map(|vertex| {
                    let own = &graph.vertices[*vertex];
                    offset += above + own.height / 2.0;
                    above = own.height / 2.0 + SPACE;
                    let (mut sum, mut weight) = (1e-3 * y[*vertex], 1e-3);
                    for other in own.sides.iter().flatten() {
                        let pull = pull(graph, *vertex, *other);
                        sum += pull * y[*other];
                        weight += pull;
                    }
                    (offset, sum / weight - offset, weight)
                })
                .collect();
            let risen = isotonic(wanted.iter().map(|(_, target, weight)| (*target, *weight)));
            for ((vertex, (offset, ..)), value) in rank.iter().zip(&wanted).zip(risen) {
                y[*vertex] = offset + value;
            }
        }
    }
    y
}

/// Lays the inside of each long edge on as few heights as its neighbours above and below allow.
pub fn straighten(graph: &Graph, order: &[Vec<usize>], y: &mut [f64]) {
    let place = positions(graph, order);
    for path in graph.paths.iter().chain(graph.paths.iter().rev()) {
        let inside = &path[1..path.len() - 1];
        let mut begin = 0;
        while begin < inside.len() {
            let (mut low, mut high, mut end) = (f64::NEG_INFINITY, f64::INFINITY, begin);
            while end < inside.len() {
                let (above, below) =
                    free(graph, &order[graph.vertices[inside[end]].rank], place[inside[end]], y);
                // One height for all so far, unless that has become impossible (the first always fits).
                if end > begin && low.max(above) > high.min(below) {
                    break;
                }
                (low, high, end) = (low.max(above), high.min(below), end + 1);
            }
            let run = &inside[begin..end];
            let mean = run.iter().map(|vertex| y[*vertex]).sum::<f64>() / run.len() as f64;
            run.iter().for_each(|vertex| y[*vertex] = mean.min(high).max(low));
            begin = end;
        }
    }
}

/// From where to where a vertex of a rank can move between its neighbours.
fn free(graph: &Graph, rank: &[usize], place: usize, y: &[f64]) -> (f64, f64) {
    let apart = |a: usize, b: usize| (graph.vertices[a].height + graph.vertices[b].height) / 2.0 + SPACE;
    let above = place.checked_sub(1).map(|above| y[rank[above]] + apart(rank[above], rank[place]));
    let below = rank.get(place + 1).map(|below| y[*below] - apart(*below, rank[place]));
    (above.unwrap_or(f64::NEG_INFINITY), below.unwrap_or(f64::INFINITY))
}

/// The nearest never-falling sequence to `(value, weight)` pairs in least squares, by pooling adjacent violators.
fn isotonic(values: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (value, weight) in values {
        let mut block = (value, weight, 1);
        while let Some(last) = blocks.pop_if(|last| last.0 > block.0) {
            let weight = last.1 + block.1;
            block = ((last.0 * last.1 + block.0 * block.1) / weight, weight, last.2 + block.2);
        }
        blocks.push(block);
    }
    blocks.into_iter().flat_map(|(value, _, count)| std::iter::repeat_n(value, count)).collect()
}
