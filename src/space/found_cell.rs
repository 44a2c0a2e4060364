//! A cell of a found network: two chosen operations a node, with scale and shift in every batch norm.

use super::Gene;
use super::candidate::{Candidate, Place, State, zero};
use super::cell::Preprocess;
use super::operation::Operations;
use crate::error::Result;
use crate::nn::{Context, Norm, NormMode};
use crate::ops::concat::{ChannelSlice, Concat};
use crate::ops::fused::found_cell as fused;
use crate::ops::fused::mixed_cell::{self as parts, Spec};
use crate::ops::image_scale::ImageScale;
use crate::ops::pointwise::Add;
use crate::tape::{Builder, Var};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Where a found cell stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// Channels of the two inputs.
    pub inputs: [usize; 2],
    pub channels: usize,
    /// Operations on the two inputs have stride 2.
    pub reduction: bool,
    /// The cell before is a reduction, so the older input is twice as large.
    pub after_reduction: bool,
    /// Paths that may be dropped in the cells before.
    pub paths: usize,
    /// As one operation, keep values lean.
    pub lean: bool,
}

/// An operation of a node.
#[derive(Debug)]
struct Edge {
    input: usize,
    op: Box<dyn Candidate>,
    /// Its place among the paths of the network that may be dropped; an identity may not.
    path: Option<usize>,
}

/// A cell with two chosen operations a node.
#[derive(Debug)]
pub(super) struct FoundCell {
    preprocess: [Preprocess; 2],
    /// Two a node.
    edges: Vec<Edge>,
    concat: Vec<usize>,
    reduction: bool,
    /// Paths that may be dropped, here and in the cells before.
    paths: usize,
    /// All operations at once, if every one can be part of it.
    fused: Option<Fused>,
}

/// A cell's nodes as one operation: what it computes, with which weights, and the layers that its norms stand for.
#[derive(Debug)]
struct Fused {
    spec: Arc<Spec>,
    weights: Vec<usize>,
    norms: Vec<Norm>,
    /// Of every operation, the path that may be dropped.
    paths: Arc<[Option<usize>]>,
    lean: bool,
}

impl Fused {
    fn new(edges: &[Edge], lean: bool) -> Option<Self> {
        let (mut candidates, mut weights, mut norms, mut paths) = (vec![], vec![], vec![], vec![]);
        for (i, edge) in edges.iter().enumerate() {
            let part = edge.op.fused()?;
            let Some(kind) = part.kind else { continue };
            candidates.push(parts::Candidate {
                from: edge.input,
                node: i / 2,
                entry: candidates.len(),
                kind,
            });
            weights.extend(part.weights);
            norms.extend(part.norms);
            paths.push(edge.path);
        }
        let sized = candidates.first()?.from < 2; // else the size of the nodes is not known in time
        let alike = Norm::follow_each_other(&norms) && norms.iter().all(|norm| norm.affine().is_some());
        let spec = Arc::new(Spec::new(edges.len() / 2, &candidates, false));
        (sized && alike).then(|| Self { spec, weights, norms, paths: paths.into(), lean })
    }

    /// The nodes side by side.
    fn forward(&self, cx: &mut Context, states: [Var; 2], drop: Option<&Tensor>) -> Result<Var> {
        let affine = self.norms.iter().filter_map(Norm::affine).flatten();
        let mut ins = states.to_vec();
        ins.extend(self.weights.iter().copied().chain(affine).map(|w| cx.weights[w]));
        if let Some(factors) = drop {
            ins.push(cx.tape.constant(factors.clone()));
        }
        let given = cx.mode == NormMode::Running && !self.norms.is_empty();
        if given {
            let stats = Norm::running(&self.norms, cx)?;
            ins.push(cx.tape.constant(stats));
        }
        let drop = drop.map(|_| self.paths.clone());
        let op = fused::FoundCell { spec: self.spec.clone(), drop, given, lean: self.lean };
        let y = cx.tape.apply(op, &ins)?;
        let (stats, shape) = (cx.tape.saved(y, 0).clone(), cx.tape.shape(y));
        Norm::observe(&self.norms, cx, &stats, shape.count() / shape.last())?;
        Ok(y)
    }
}

impl FoundCell {
    pub fn new(
        b: &mut Builder,
        (genes, concat): (&[Gene], &[usize]),
        operations: &Operations,
        site: Site,
    ) -> Result<Self> {
        let Site { inputs, channels, reduction, after_reduction, paths, lean } = site;
        let preprocess = Preprocess::pair(b, inputs, channels, after_reduction, true)?;
        let concat = concat.to_vec();
        let mut cell = Self { preprocess, edges: Vec::new(), concat, reduction, paths, fused: None };
        for (i, gene) in genes.iter().enumerate() {
            let place = Place { channels, stride: cell.stride(gene.input), affine: true, pool_norm: false };
            let op = b.within(format!("_ops.{i}"), |b| operations.get(&gene.op)?.build(b, place))?;
            let path = op.may_be_dropped().then_some(cell.paths);
            cell.paths += usize::from(path.is_some());
            cell.edges.push(Edge { input: gene.input, op, path });
        }
        cell.fused = Fused::new(&cell.edges, lean);
        Ok(cell)
    }

    /// Whether it can be computed as one operation.
    pub fn is_fused(&self) -> bool {
        self.fused.is_some()
    }

    /// Paths that may be dropped, here and in the cells before.
    pub fn paths(&self) -> usize {
        self.paths
    }

    fn stride(&self, input: usize) -> usize {
        if self.reduction && input < 2 { 2 } else { 1 }
    }

    /// The concatenated nodes. `drop` holds a factor for each path of the network and each image, (paths, N).
    pub fn forward(&self, cx: &mut Context, inputs: [Var; 2], drop: Option<&Tensor>) -> Result<Var> {
        let [first, second] = &self.preprocess;
        let lean = self.fused.as_ref().is_some_and(|fused| fused.lean);
        let inputs = [first.forward(cx, inputs[0], lean)?, second.forward(cx, inputs[1], lean)?];
        if let (true, Some(fused)) = (cx.fused, &self.fused) {
            let nodes = fused.forward(cx, inputs, drop)?;
            return self.joined(cx, nodes);
        }
        let mut states: Vec<State> = inputs.into_iter().map(State::new).collect();
        for pair in self.edges.chunks_exact(2) {
            let mut sum = None;
            for edge in pair {
                let Some(term) = edge.op.forward(cx, &mut states[edge.input])? else { continue };
                let y = term.normalised(cx)?;
                let y = match (edge.path, drop) {
                    (Some(path), Some(factors)) => drop_path(cx, y, factors, path)?,
                    _ => y,
                };
                sum = Some(match sum {
                    None => y,
                    Some(sum) => cx.tape.apply(Add, &[sum, y])?,
                });
            }
            let sum = match sum {
                Some(sum) => sum,
                None => zero(cx, &states[pair[0].input], self.stride(pair[0].input))?,
            };
            states.push(State::new(sum));
        }
        let out: Vec<Var> = self.concat.iter().map(|&i| states[i].x).collect();
        cx.tape.apply(Concat, &out)
    }

    /// The nodes of the concatenation, from all of them side by side.
    fn joined(&self, cx: &mut Context, nodes: Var) -> Result<Var> {
        let all = self.edges.len() / 2;
        if self.concat.iter().copied().eq(2..2 + all) {
            return Ok(nodes);
        }
        let count = cx.tape.shape(nodes).last() / all;
        let slice = |i: &usize| cx.tape.apply(ChannelSlice { start: (i - 2) * count, count }, &[nodes]);
        let out = self.concat.iter().map(slice).collect::<Result<Vec<_>>>()?;
        cx.tape.apply(Concat, &out)
    }
}

/// `x` times the factors of `path`, one an image.
fn drop_path(cx: &mut Context, x: Var, factors: &Tensor, path: usize) -> Result<Var> {
    let n = factors.shape().last();
    let factors = cx.tape.constant(factors.view(path * n, [n]));
    cx.tape.apply(ImageScale, &[x, factors])
}
