//! A left-to-right layered layout of a small graph whose edges carry labels.
//!
//! Longest-path layering, one helper vertex for every column an edge passes (one of them as wide and high as its
//! label), barycentre ordering, then heights that keep edges straight (Sugiyama et al. 1981; Gansner et al. 1993).
//! Everything that is drawn has its own place in its column, and edges bend only between columns, so labels, boxes
//! and passing edges cannot overlap.

mod heights;
mod order;

use heights::{bends, heights, straighten};
use order::{by_rank, crossings, ordered};

/// An edge to place; boxes are numbered so that `from < to`.
pub struct Link {
    pub from: usize,
    pub to: usize,
    /// Width of its label, 0 for none.
    pub label: f64,
}

/// A rectangle by its centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The course of an edge: horizontal runs, joined by curves that begin and end horizontally.
#[derive(Debug, PartialEq)]
pub struct Route {
    /// Begin and end in x, and y, of each run; the last ends at the target box.
    pub runs: Vec<(f64, f64, f64)>,
    pub label: Option<Rect>,
}

/// Where everything goes; x and y grow right and down from 0, in pixels.
#[derive(Debug, PartialEq)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    pub boxes: Vec<Rect>,
    pub routes: Vec<Route>,
}

const LABEL_HEIGHT: f64 = 18.0;
const BOX_HEIGHT: f64 = 34.0;
const LINE_HEIGHT: f64 = 6.0;
/// Free space between neighbours in a column.
const SPACE: f64 = 9.0;
/// Between the ends of edges on one side of a box.
const OUT_STEP: f64 = 6.0;
const IN_STEP: f64 = 11.0;

/// A box (the first ones) or the place where an edge passes a column.
struct Vertex {
    rank: usize,
    height: f64,
    width: f64,
    /// Neighbours in the ranks before and after.
    sides: [Vec<usize>; 2],
    is_box: bool,
}

struct Graph {
    vertices: Vec<Vertex>,
    ranks: usize,
    /// For each link its vertices from box to box.
    paths: Vec<Vec<usize>>,
    /// For each link the place in its path that holds the label.
    labels: Vec<Option<usize>>,
}

/// Lays out boxes of the given widths; the last box gets a column of its own at the right end.
pub fn layout(boxes: &[f64], links: &[Link]) -> Layout {
    let graph = graph(boxes, links);
    let by_number = by_rank(&graph, 0..graph.vertices.len());
    let reversed = by_rank(&graph, (0..graph.vertices.len()).rev());
    let mut best: Option<(f64, Vec<f64>)> = None;
    for start in [by_number, reversed] {
        let mut order = ordered(&graph, start);
        // The mirror image is as good: take the one with the boxes of a column in their order.
        if order.iter().any(|rank| rank.first().is_some_and(|first| *first == 1) && rank.contains(&0)) {
            order.iter_mut().for_each(|rank| rank.reverse());
        }
        let mut heights = heights(&graph, &order);
        straighten(&graph, &order, &mut heights);
        let cost = 1000.0 * crossings(&graph, &order) as f64 + bends(&graph, &heights);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, heights));
        }
    }
    let heights = best.map(|(_, heights)| heights).unwrap_or_default();
    place(&graph, boxes.len(), &heights)
}

fn graph(boxes: &[f64], links: &[Link]) -> Graph {
    let mut layers = vec![0; boxes.len()];
    for target in 0..boxes.len() {
        let sources = links.iter().filter(|link| link.to == target).map(|link| layers[link.from] + 1);
        layers[target] = sources.max().unwrap_or(0);
    }
    let mut last = 0;
    if let Some((sink, others)) = layers.split_last_mut() {
        last = others.iter().max().map_or(0, |deepest| deepest + 1);
        *sink = last;
    }
    // Boxes stand in even ranks, labels in the odd ones between; odd ranks without a label are left out.
    let label_ranks = label_ranks(&layers, links);
    let kept: Vec<usize> =
        (0..=2 * last).filter(|rank| rank % 2 == 0 || label_ranks.contains(&Some(*rank))).collect();
    let compact = |rank: usize| kept.partition_point(|kept| *kept < rank);

    let mut vertices: Vec<Vertex> = boxes
        .iter()
        .zip(&layers)
        .enumerate()
        .map(|(index, (width, layer))| Vertex {
            rank: compact(2 * layer),
            height: box_height(index, links),
            width: *width,
            sides: [Vec::new(), Vec::new()],
            is_box: true,
        })
        .collect();
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (link, label_rank) in links.iter().zip(label_ranks) {
        let mut path = vec![link.from];
        let label_place = label_rank.map(compact);
        for rank in vertices[link.from].rank + 1..vertices[link.to].rank {
            let (width, height) =
                if Some(rank) == label_place { (link.label, LABEL_HEIGHT) } else { (0.0, LINE_HEIGHT) };
            path.push(vertices.len());
            vertices.push(Vertex { rank, height, width, sides: [Vec::new(), Vec::new()], is_box: false });
        }
        path.push(link.to);
        for pair in path.windows(2) {
            vertices[pair[0]].sides[1].push(pair[1]);
            vertices[pair[1]].sides[0].push(pair[0]);
        }
        labels.push(label_place.map(|rank| rank - vertices[link.from].rank));
        paths.push(path);
    }
    Graph { vertices, ranks: kept.len(), paths, labels }
}

/// The rank of each label: of the odd ranks its edge passes, the one with the fewest labels so far. Short edges,
/// which have no choice, choose first; of equals the rank nearest to the target is taken.
fn label_ranks(layers: &[usize], links: &[Link]) -> Vec<Option<usize>> {
    let mut taken = vec![0; 2 * layers.iter().max().unwrap_or(&0) + 1];
    let mut ranks = vec![None; links.len()];
    let mut labelled: Vec<usize> = (0..links.len()).filter(|index| links[*index].label > 0.0).collect();
    labelled.sort_by_key(|index| layers[links[*index].to] - layers[links[*index].from]);
    for index in labelled {
        let passed = 2 * layers[links[index].from] + 1..2 * layers[links[index].to];
        if let Some(rank) = passed.step_by(2).rev().min_by_key(|rank| taken[*rank]) {
            taken[rank] += 1;
            ranks[index] = Some(rank);
        }
    }
    ranks
}

/// High enough for the ends of all edges on either side.
fn box_height(index: usize, links: &[Link]) -> f64 {
    let incoming = links.iter().filter(|link| link.to == index).count() as f64;
    let outgoing = links.iter().filter(|link| link.from == index).count() as f64;
    BOX_HEIGHT.max((incoming - 1.0) * IN_STEP + 20.0).max((outgoing - 1.0) * OUT_STEP + 20.0)
}

/// Turns ranks and heights into rectangles and routes.
fn place(graph: &Graph, boxes: usize, heights: &[f64]) -> Layout {
    let vertices = &graph.vertices;
    let top =
        (0..vertices.len()).map(|v| heights[v] - vertices[v].height / 2.0).fold(f64::INFINITY, f64::min);
    let y: Vec<f64> = heights.iter().map(|height| height - top).collect();
    let columns = columns(graph, &y);
    let rect = |v: usize, width: f64| {
        let (left, right) = columns[vertices[v].rank];
        Rect { x: (left + right) / 2.0, y: y[v], width, height: vertices[v].height }
    };
    let mut routes = Vec::new();
    for (link, path) in graph.paths.iter().enumerate() {
        let last = path.len() - 1;
        let runs = path.iter().enumerate().map(|(place, v)| {
            let (left, right) = columns[vertices[*v].rank];
            let half = vertices[*v].width / 2.0;
            let middle = (left + right) / 2.0;
            match place {
                0 => (middle + half, right, y[*v] + port(graph, &y, link, 1)),
                _ if place == last => (left, middle - half, y[*v] + port(graph, &y, link, 0)),
                _ => (left, right, y[*v]),
            }
        });
        let label = graph.labels[link].map(|place| rect(path[place], vertices[path[place]].width));
        routes.push(Route { runs: runs.collect(), label });
    }
    let bottom = (0..vertices.len()).map(|v| y[v] + vertices[v].height / 2.0).fold(0.0, f64::max);
    Layout {
        width: columns.last().map_or(0.0, |column| column.1),
        height: bottom,
        boxes: (0..boxes).map(|v| rect(v, vertices[v].width)).collect(),
        routes,
    }
}

/// Left and right of each rank's column; steep edges get more room to bend.
fn columns(graph: &Graph, y: &[f64]) -> Vec<(f64, f64)> {
    let mut widths = vec![0.0_f64; graph.ranks];
    let mut steps = vec![0.0_f64; graph.ranks];
    for (index, vertex) in graph.vertices.iter().enumerate() {
        widths[vertex.rank] = widths[vertex.rank].max(vertex.width);
        for next in &vertex.sides[1] {
            steps[vertex.rank] = steps[vertex.rank].max((y[*next] - y[index]).abs());
        }
    }
    let mut right = 0.0;
    let mut columns = Vec::new();
    for (width, step) in widths.iter().zip(&steps) {
        columns.push((right, right + width));
        right += width + (14.0 + 0.35 * step).clamp(26.0, 90.0);
    }
    columns
}

/// Offset from the middle of its box at which a link leaves (`side` 1) or arrives (0), in the order of what it
/// comes from or goes to.
fn port(graph: &Graph, y: &[f64], link: usize, side: usize) -> f64 {
    let ends = |path: &[usize]| {
        let last = path.len() - 1;
        if side == 1 { (path[0], path[1]) } else { (path[last], path[last - 1]) }
    };
    let (own, far) = ends(&graph.paths[link]);
    let key = (y[far], link);
    let (mut before, mut all) = (0, 0);
    for (other, path) in graph.paths.iter().enumerate() {
        let (other_own, other_far) = ends(path);
        if other_own == own {
            all += 1;
            before += usize::from((y[other_far], other) < key);
        }
    }
    let step = if side == 1 { OUT_STEP } else { IN_STEP };
    step * (before as f64 - (all as f64 - 1.0) / 2.0)
}
