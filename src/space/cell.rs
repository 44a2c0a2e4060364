//! A search cell: two preprocessed inputs, nodes that sum mixed edges, and the concatenation of the nodes.

use super::candidate::{Candidate, FactorizedReduce, Place, ReluConvBn, State, Term, build};
use crate::error::Result;
use crate::nn::Context;
use crate::ops::concat::Concat;
use crate::ops::fused::normed_sum::{self, NormedSum};
use crate::ops::weighted_sum::WeightedSum;
use crate::tape::{Builder, Var};

/// Edges of a cell of `nodes` nodes: node i has one from each of the two inputs and of the i nodes before it.
pub fn edges(nodes: usize) -> usize {
    nodes * (nodes + 3) / 2
}

/// Brings a cell's input to the cell's channels and, after a reduction, to its size.
#[derive(Clone, Debug)]
pub enum Preprocess {
    Same(ReluConvBn),
    Halve(FactorizedReduce),
}

impl Preprocess {
    /// The two inputs of a cell, called `preprocess0` and `preprocess1`.
    pub fn pair(
        b: &mut Builder,
        inputs: [usize; 2],
        c: usize,
        halve: bool,
        affine: bool,
    ) -> Result<[Self; 2]> {
        let first = b.within("preprocess0", |b| -> Result<_> {
            Ok(match halve {
                true => Self::Halve(FactorizedReduce::new(b, inputs[0], c, affine)?),
                false => Self::Same(ReluConvBn::new(b, inputs[0], c, affine)),
            })
        })?;
        let second = b.within("preprocess1", |b| Self::Same(ReluConvBn::new(b, inputs[1], c, affine)));
        Ok([first, second])
    }
    pub fn forward(&self, cx: &mut Context, input: Var) -> Result<Var> {
        let mut state = State::new(input);
        let term = match self {
            Self::Same(layer) => layer.term(cx, &mut state)?,
            Self::Halve(layer) => layer.term(cx, &mut state)?,
        };
        term.normalised(cx)
    }
}

/// Extents of a cell.
#[derive(Clone, Copy, Debug)]
pub struct CellShape {
    /// Channels of the outputs of the cell before the last and of the last one.
    pub inputs: [usize; 2],
    pub channels: usize,
    pub nodes: usize,
    /// Edges from the two inputs have stride 2.
    pub reduction: bool,
    /// The cell before is a reduction, so the older input is twice as large.
    pub after_reduction: bool,
}

/// One cell of the supernet.
#[derive(Debug)]
pub struct SearchCell {
    preprocess: [Preprocess; 2],
    /// Candidates of each edge, in order of (node, input).
    edges: Vec<Vec<Box<dyn Candidate>>>,
    nodes: usize,
}

impl SearchCell {
    pub fn new(b: &mut Builder, shape: CellShape, candidates: &[String]) -> Result<Self> {
        let CellShape { inputs, channels, nodes, reduction, after_reduction } = shape;
        let preprocess = Preprocess::pair(b, inputs, channels, after_reduction, false)?;
        let mut edges = Vec::new();
        for input in (0..nodes).flat_map(|node| 0..node + 2) {
            let stride = if reduction && input < 2 { 2 } else { 1 };
            let place = Place { channels, stride, affine: false, pool_norm: true };
            let edge = b.within(format!("_ops.{}", edges.len()), |b| -> Result<Vec<_>> {
                let one =
                    |(k, name): (usize, &String)| b.within(format!("_ops.{k}"), |b| build(b, name, place));
                candidates.iter().enumerate().map(one).collect()
            })?;
            edges.push(edge);
        }
        Ok(Self { preprocess, edges, nodes })
    }

    /// The concatenated nodes. `mix` holds the candidates' weights, (edges, candidates).
    pub fn forward(&self, cx: &mut Context, inputs: [Var; 2], mix: Var) -> Result<Var> {
        let mut states = Vec::with_capacity(2 + self.nodes);
        for (layer, input) in self.preprocess.iter().zip(inputs) {
            states.push(State::new(layer.forward(cx, input)?));
        }
        let mut edge = 0;
        for _ in 0..self.nodes {
            let mut terms = Vec::new();
            for state in &mut states {
                for (k, candidate) in self.edges[edge].iter().enumerate() {
                    if let Some(term) = candidate.forward(cx, state)? {
                        terms.push((edge * self.edges[edge].len() + k, term));
                    }
                }
                edge += 1;
            }
            states.push(State::new(mixed_sum(cx, mix, &terms)?));
        }
        let nodes: Vec<Var> = states[2..].iter().map(|s| s.x).collect();
        cx.tape.apply(Concat, &nodes)
    }
}

/// sum_k W[i_k] norm_k(value_k) over all candidates of all edges into a node.
fn mixed_sum(cx: &mut Context, mix: Var, terms: &[(usize, Term)]) -> Result<Var> {
    let mut ins = vec![mix];
    if cx.fused && terms.iter().all(|(_, t)| t.norm.is_none_or(|n| n.is_plain())) {
        ins.extend(terms.iter().map(|(_, term)| term.value));
        for (_, term) in terms {
            if let Some(norm) = term.norm {
                ins.push(norm.statistics(cx, term.value, term.statistics)?);
            }
        }
        let terms =
            terms.iter().map(|(entry, term)| normed_sum::Term { entry: *entry, normed: term.norm.is_some() });
        return cx.tape.apply(NormedSum { terms: terms.collect() }, &ins);
    }
    for (_, term) in terms {
        ins.push(term.normalised(cx)?);
    }
    cx.tape.apply(WeightedSum::new(terms.iter().map(|(entry, _)| *entry)), &ins)
}
