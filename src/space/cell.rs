//! A search cell: two preprocessed inputs, nodes that sum mixed edges, and the concatenation of the nodes.

use super::candidate::{Candidate, FactorizedReduce, Place, ReluConvBn, State, Term};
use super::operation::Operation;
use crate::error::Result;
use crate::nn::{Context, Norm, NormMode};
use crate::ops::concat::Concat;
use crate::ops::fused::mixed_cell::{self, MixedCell, Spec};
use crate::ops::fused::relu_conv_norm::ReluConvNorm;
use crate::ops::weighted_sum::WeightedSum;
use crate::tape::{Builder, Var};
use std::sync::Arc;

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
    /// As one operation, on the CPU, with products of lean numbers if told so.
    pub fn forward(&self, cx: &mut Context, input: Var, lean: bool) -> Result<Var> {
        let (weights, norm) = match self {
            Self::Same(layer) => layer.parts(),
            Self::Halve(layer) => layer.parts(),
        };
        if cx.fused {
            return self.fused(cx, input, &weights, norm, lean);
        }
        let mut state = State::new(input);
        let term = match self {
            Self::Same(layer) => layer.term(cx, &mut state)?,
            Self::Halve(layer) => layer.term(cx, &mut state)?,
        };
        term.normalised(cx)
    }
    /// The same as one operation.
    fn fused(&self, cx: &mut Context, input: Var, weights: &[usize], norm: Norm, lean: bool) -> Result<Var> {
        let mut ins = vec![input];
        ins.extend(weights.iter().chain(norm.affine().iter().flatten()).map(|&w| cx.weights[w]));
        let given = cx.mode == NormMode::Running;
        if given {
            let stats = Norm::running(&[norm], cx)?;
            ins.push(cx.tape.constant(stats.reshape([3, stats.shape().last()])));
        }
        let (halve, lean) = (matches!(self, Self::Halve(_)), lean && cx.tape.value(input).cuda().is_none());
        let y = cx.tape.apply(ReluConvNorm { halve, affine: !norm.is_plain(), given, lean }, &ins)?;
        let (stats, shape) = (cx.tape.saved(y, 0).clone(), cx.tape.shape(y));
        Norm::observe(&[norm], cx, &stats, shape.count() / shape.last())?;
        Ok(y)
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
    /// As one operation, on the CPU, keep values lean.
    pub lean: bool,
}

/// One cell of the supernet.
#[derive(Debug)]
pub struct SearchCell {
    preprocess: [Preprocess; 2],
    /// Candidates of each edge, in order of (node, input).
    edges: Vec<Vec<Box<dyn Candidate>>>,
    nodes: usize,
    /// Columns of the mixing weights: the candidates of the edge that has most.
    width: usize,
    /// The same at once, if every candidate can be part of it.
    fused: Option<FusedCell>,
}

/// A cell as one operation: what it computes, with which weights, and the layers that its norms stand for.
#[derive(Debug)]
struct FusedCell {
    spec: Arc<Spec>,
    weights: Vec<usize>,
    norms: Vec<Norm>,
    lean: bool,
}

impl FusedCell {
    fn new(edges: &[Vec<Box<dyn Candidate>>], nodes: usize, width: usize, lean: bool) -> Option<Self> {
        let (mut candidates, mut weights, mut norms) = (vec![], vec![], vec![]);
        let ends = (0..nodes).flat_map(|node| (0..node + 2).map(move |from| (from, node)));
        for (edge, ((from, node), ops)) in ends.zip(edges).enumerate() {
            for (k, op) in ops.iter().enumerate() {
                let fused = op.fused()?;
                let Some(kind) = fused.kind else { continue };
                let entry = edge * width + k;
                candidates.push(mixed_cell::Candidate { from, node, entry, kind });
                weights.extend(fused.weights);
                norms.extend(fused.norms);
            }
        }
        // their running statistics are read and moved all at once
        (Norm::follow_each_other(&norms) && norms.iter().all(Norm::is_plain)).then(|| Self {
            spec: Arc::new(Spec::new(nodes, &candidates, true)),
            weights,
            norms,
            lean,
        })
    }

    fn forward(&self, cx: &mut Context, states: [Var; 2], mix: Var) -> Result<Var> {
        let mut ins = vec![mix, states[0], states[1]];
        ins.extend(self.weights.iter().map(|&w| cx.weights[w]));
        let given = cx.mode == NormMode::Running && !self.norms.is_empty();
        if given {
            let stats = Norm::running(&self.norms, cx)?;
            ins.push(cx.tape.constant(stats));
        }
        let device = cx.tape.value(states[0]).cuda().is_some();
        let lean = self.lean && !device;
        // lean they are small; else to make them again costs 3 % of a step, and to keep them a tenth of its memory
        let keeps_pools = device || lean;
        let y = cx.tape.apply(MixedCell { spec: self.spec.clone(), given, keeps_pools, lean }, &ins)?;
        let (stats, shape) = (cx.tape.saved(y, 0).clone(), cx.tape.shape(y));
        Norm::observe(&self.norms, cx, &stats, shape.count() / shape.last())?;
        Ok(y)
    }
}

impl SearchCell {
    /// `candidates` has a list for each edge, in order of (node, input).
    pub fn new(b: &mut Builder, shape: CellShape, candidates: &[Vec<Operation>]) -> Result<Self> {
        let CellShape { inputs, channels, nodes, reduction, after_reduction, lean } = shape;
        let preprocess = Preprocess::pair(b, inputs, channels, after_reduction, false)?;
        let mut edges = Vec::new();
        for (input, list) in (0..nodes).flat_map(|node| 0..node + 2).zip(candidates) {
            let stride = if reduction && input < 2 { 2 } else { 1 };
            let place = Place { channels, stride, affine: false, pool_norm: true };
            let edge = b.within(format!("_ops.{}", edges.len()), |b| -> Result<Vec<_>> {
                let one = |(k, operation): (usize, &Operation)| {
                    b.within(format!("_ops.{k}"), |b| operation.build(b, place))
                };
                list.iter().enumerate().map(one).collect()
            })?;
            edges.push(edge);
        }
        let width = edges.iter().map(Vec::len).max().unwrap_or(0);
        let fused = FusedCell::new(&edges, nodes, width, lean);
        Ok(Self { preprocess, edges, nodes, width, fused })
    }

    /// Which of the `candidates` that it was built with keep the cell from being computed as one operation: those
    /// without a fused form, and a caller's own, whose norms may not follow each other.
    pub fn unfused<'a>(&self, candidates: &'a [Vec<Operation>]) -> Vec<&'a Operation> {
        let all = candidates.iter().flatten().zip(self.edges.iter().flatten());
        let apart = all.filter(|(operation, built)| built.fused().is_none() || operation.is_own());
        if self.fused.is_some() { Vec::new() } else { apart.map(|(operation, _)| operation).collect() }
    }

    /// The concatenated nodes. `mix` holds the candidates' weights, (edges, most candidates).
    pub fn forward(&self, cx: &mut Context, inputs: [Var; 2], mix: Var) -> Result<Var> {
        let [first, second] = &self.preprocess;
        let lean = self.fused.as_ref().is_some_and(|fused| fused.lean);
        let inputs = [first.forward(cx, inputs[0], lean)?, second.forward(cx, inputs[1], lean)?];
        if let (true, Some(fused)) = (cx.fused, &self.fused) {
            return fused.forward(cx, inputs, mix);
        }
        let mut states: Vec<State> = inputs.into_iter().map(State::new).collect();
        let mut edge = 0;
        for _ in 0..self.nodes {
            let mut terms = Vec::new();
            for state in &mut states {
                for (k, candidate) in self.edges[edge].iter().enumerate() {
                    if let Some(term) = candidate.forward(cx, state)? {
                        terms.push((edge * self.width + k, term));
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
    for (_, term) in terms {
        ins.push(term.normalised(cx)?);
    }
    cx.tape.apply(WeightedSum::new(terms.iter().map(|(entry, _)| *entry)), &ins)
}
