//! The weights of the candidates: a heat map of one epoch, curves over all, and what the replay needs of each.

use super::drawings::Drawings;
use super::read::{Epoch, KINDS, Run};
use super::text::{coordinate, edge_name, edges, escape};
use crate::space::genotype::{CANDIDATES, Genotype};
use serde::Serialize;

/// Epochs that the replay can show and that curves have points of; of more, as many at even distances.
const FRAMES: usize = 100;
/// Candidates drawn for each edge.
const STRONGEST: usize = 4;
/// Weights are stored and shown in tenths of a percent.
const UNIT: f64 = 1000.0;

/// What the replay shows of one epoch.
#[derive(Serialize)]
pub struct Frame {
    pub epoch: usize,
    pub text: String,
    pub cells: [Cell; 2],
}

#[derive(Serialize)]
pub struct Cell {
    /// Weights in the order of the heat map, in tenths of a percent.
    pub weights: Vec<u32>,
    /// Places in the heat map that the genotype keeps.
    pub kept: Vec<usize>,
    pub drawing: usize,
}

/// The epochs of the replay, first and last included.
pub fn chosen(run: &Run) -> Vec<&Epoch> {
    let count = run.epochs.len();
    if count <= FRAMES {
        return run.epochs.iter().collect();
    }
    (0..FRAMES).map(|i| &run.epochs[i * (count - 1) / (FRAMES - 1)]).collect()
}

pub fn frame(epoch: &Epoch, candidates: &[String], drawings: &mut Drawings) -> Frame {
    let cell = |index: usize| Cell {
        weights: tenths(&epoch.weights[index]),
        kept: kept(&epoch.genotype, index, candidates),
        drawing: drawings.number(&epoch.genotype, index),
    };
    Frame { epoch: epoch.number, text: epoch.genotype.to_string(), cells: [0, 1].map(cell) }
}

fn tenths(weights: &[Vec<f64>]) -> Vec<u32> {
    weights.iter().flatten().map(|weight| (weight * UNIT).round() as u32).collect()
}

/// Where in the heat map the genes of a cell lie.
fn kept(genotype: &Genotype, index: usize, candidates: &[String]) -> Vec<usize> {
    let (genes, columns) = (genotype.genes(KINDS[index].0), candidates.len());
    let place = |(at, gene): (usize, &crate::space::genotype::Gene)| {
        let node = at / 2;
        // the nodes before have 2, 3, ... edges
        let row = node * (node + 3) / 2 + gene.input;
        candidates.iter().position(|name| *name == gene.op).map(|column| row * columns + column)
    };
    genes.iter().enumerate().filter_map(place).collect()
}

/// Smallest and largest weight of a kind over all frames: the ends of the colour scale.
pub fn range(frames: &[Frame], index: usize) -> [u32; 2] {
    let all = || frames.iter().flat_map(|frame| &frame.cells[index].weights).copied();
    let (low, high) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
    [low, high.max(low + 1)]
}

/// A weight as the heat map shows it, in percent.
fn shown(tenths: u32) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Class of a candidate's colour, the same in every run.
pub fn colour(candidate: &str) -> String {
    let known = CANDIDATES.iter().position(|name| *name == candidate);
    known.map_or_else(|| "o0".into(), |index| format!("o{index}"))
}

const ROW: usize = 22;
const COLUMN: usize = 44;
const LABEL: usize = 82;
const HEAD: usize = 84;

/// Rows are edges, columns candidates; what the genotype keeps is framed.
pub fn heat_map(run: &Run, frame: &Frame, index: usize, [low, high]: [u32; 2]) -> String {
    let (cell, candidates) = (&frame.cells[index], &run.config.space.candidates);
    let edges: Vec<_> = edges(run.config.space.nodes).collect();
    // the slanted name of the last column leans over to the right
    let width = LABEL + COLUMN * candidates.len() + 44;
    let height = HEAD + ROW * edges.len() + 46;
    let title = KINDS[index].1;
    let mut out = format!(
        "<figure class=\"heat\" data-cell=\"{index}\" data-low=\"{low}\" data-high=\"{high}\">\n<figcaption><b>Weights, {title} cell</b> \
         <span class=\"unit\">softmax(alpha) in %, epoch <span class=\"now\">{}</span>; framed: kept</span></figcaption>\n\
         <div class=\"wide\"><svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"weights of the candidates of each edge, {title} cell\">\n",
        frame.epoch
    );
    for (column, name) in candidates.iter().enumerate() {
        let (x, y) = (LABEL + COLUMN * column + COLUMN / 2 - 4, HEAD - 7);
        out += &format!("<text transform=\"translate({x} {y}) rotate(-40)\">{}</text>", escape(name));
    }
    for (row, (from, node)) in edges.iter().enumerate() {
        let y = HEAD + ROW * row;
        out += &format!(
            "\n<text class=\"row\" x=\"{}\" y=\"{}\">{}</text>",
            LABEL - 8,
            y + 15,
            edge_name(*from, *node)
        );
        if *from == 0 && row > 0 {
            out += &format!("<path class=\"rule\" d=\"M4 {y}H{}\"/>", LABEL + COLUMN * candidates.len());
        }
        for column in 0..candidates.len() {
            let place = row * candidates.len() + column;
            let weight = cell.weights.get(place).copied().unwrap_or(0);
            out += &heat_cell(LABEL + COLUMN * column, y, weight, [low, high], cell.kept.contains(&place));
        }
    }
    out += &scale(HEAD + ROW * edges.len() + 16, COLUMN * candidates.len(), [low, high]);
    out + "\n</svg></div>\n</figure>\n"
}

fn heat_cell(x: usize, y: usize, weight: u32, [low, high]: [u32; 2], kept: bool) -> String {
    let part = f64::from(weight.saturating_sub(low)) / f64::from(high - low);
    let class = match (part > 0.55, kept) {
        (true, true) => " class=\"deep kept\"",
        (true, false) => " class=\"deep\"",
        (false, true) => " class=\"kept\"",
        (false, false) => "",
    };
    format!(
        "<g{class}><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill-opacity=\"{part:.2}\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
        x + 1,
        y + 1,
        COLUMN - 2,
        ROW - 2,
        x + COLUMN / 2,
        y + 15,
        shown(weight)
    )
}

/// The colours from the smallest to the largest weight of the run.
fn scale(y: usize, width: usize, [low, high]: [u32; 2]) -> String {
    const STEPS: usize = 24;
    let width = width.min(220) / STEPS * STEPS;
    let mut out = String::from("\n<g class=\"scale\">");
    for step in 0..STEPS {
        let (x, part) = (LABEL + width / STEPS * step, step as f64 / (STEPS - 1) as f64);
        let each = width / STEPS;
        out +=
            &format!("<rect x=\"{x}\" y=\"{y}\" width=\"{each}\" height=\"9\" fill-opacity=\"{part:.2}\"/>");
    }
    out += &format!("<text x=\"{LABEL}\" y=\"{}\">{} %</text>", y + 24, shown(low));
    out +=
        &format!("<text x=\"{}\" y=\"{}\" class=\"end\">{} %</text></g>", LABEL + width, y + 24, shown(high));
    out
}

/// Candidates of an edge by their weight in the last epoch, the strongest first, as they are drawn.
fn strongest(last: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..last.len()).collect();
    // stable: equal ones stay in their order
    order.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
    order.truncate(STRONGEST);
    order
}

/// Small charts, one an edge, with the curves of the candidates that are strongest at the end.
pub fn curves(run: &Run, chosen: &[&Epoch], index: usize) -> String {
    let candidates = &run.config.space.candidates;
    let Some(last) = chosen.last() else { return String::new() };
    let rows: Vec<Vec<usize>> = last.weights[index].iter().map(|row| strongest(row)).collect();
    let drawn = |row: usize, column: usize| chosen.iter().map(move |epoch| epoch.weights[index][row][column]);
    let all = || {
        rows.iter().enumerate().flat_map(|(row, columns)| columns.iter().flat_map(move |c| drawn(row, *c)))
    };
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(low, f64::max);
    let pad = ((high - low) * 0.06).max(1e-4);
    let range = [(low - pad).max(0.0), (high + pad).min(1.0)];
    let mut out =
        format!("<h3>{} cell</h3>\n<div class=\"small\">\n", if index == 0 { "Normal" } else { "Reduction" });
    for (row, (from, node)) in edges(run.config.space.nodes).enumerate() {
        let lines: Vec<(usize, Vec<f64>)> =
            rows[row].iter().map(|c| (*c, drawn(row, *c).collect())).collect();
        let epochs: Vec<usize> = chosen.iter().map(|epoch| epoch.number).collect();
        out += &small(&edge_name(from, node), &lines, candidates, &epochs, range);
    }
    out + "</div>\n"
}

/// A small chart of an edge: the weights of some candidates by epoch.
fn small(
    edge: &str,
    lines: &[(usize, Vec<f64>)],
    candidates: &[String],
    epochs: &[usize],
    range: [f64; 2],
) -> String {
    const PLOT: [f64; 4] = [36.0, 170.0, 24.0, 100.0];
    let [left, right, top, bottom] = PLOT;
    let (first, last) = (epochs.first().copied().unwrap_or(1), epochs.last().copied().unwrap_or(1));
    let x = |epoch: usize| left + (right - left) * (epoch - first) as f64 / (last - first).max(1) as f64;
    let y = |weight: f64| bottom - (bottom - top) * (weight - range[0]) / (range[1] - range[0]);
    let says: Vec<String> = lines.iter().map(|(column, _)| candidates[*column].clone()).collect();
    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 178 122\" role=\"img\" aria-label=\"{edge}: {} at the end\" data-scale=\"{first} {last} {left} {right} {} {} {bottom} {top}\">",
        escape(&says.join(", ")),
        range[0] * 100.0,
        range[1] * 100.0
    );
    out += &format!("<text class=\"edge\" x=\"{left}\" y=\"15\">{edge}</text><g class=\"axes\">");
    out += &format!("<path class=\"base\" d=\"M{left} {top}V{bottom}H{right}\"/>");
    for (weight, at) in [(range[1], top + 4.0), (range[0], bottom)] {
        let digits = if range[1] - range[0] < 0.02 { 1 } else { 0 };
        out +=
            &format!("<text class=\"y\" x=\"{}\" y=\"{at}\">{:.digits$}</text>", left - 5.0, weight * 100.0);
    }
    out += &format!("<text class=\"x\" x=\"{left}\" y=\"115\">{first}</text>");
    if last > first {
        out += &format!("<text class=\"x\" x=\"{right}\" y=\"115\">{last}</text>");
    }
    out += "</g>";
    // the strongest last, on top
    for (column, weights) in lines.iter().rev() {
        let places: Vec<(String, String)> = weights
            .iter()
            .zip(epochs)
            .map(|(weight, epoch)| (coordinate(x(*epoch)), coordinate(y(*weight))))
            .collect();
        let points: Vec<String> = places.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let (class, name) = (colour(&candidates[*column]), escape(&candidates[*column]));
        out += &format!(
            "<polyline class=\"line {class}\" data-name=\"{name}\" points=\"{}\"/>",
            points.join(" ")
        );
        if let [(x, y)] = &places[..] {
            out += &format!("<g class=\"dots {class}\"><circle cx=\"{x}\" cy=\"{y}\" r=\"2.8\"/></g>");
        }
    }
    out + "</svg>\n"
}
