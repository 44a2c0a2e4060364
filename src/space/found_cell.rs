//! A cell of a found network: two chosen operations a node, with scale and shift in every batch norm.

use super::Gene;
use super::candidate::{Candidate, Place, State, zero};
use super::cell::Preprocess;
use super::operation::Operations;
use crate::error::Result;
use crate::nn::Context;
use crate::ops::concat::Concat;
use crate::ops::image_scale::ImageScale;
use crate::ops::pointwise::Add;
use crate::tape::{Builder, Var};
use crate::tensor::Tensor;

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
}

impl FoundCell {
    pub fn new(
        b: &mut Builder,
        (genes, concat): (&[Gene], &[usize]),
        operations: &Operations,
        site: Site,
    ) -> Result<Self> {
        let Site { inputs, channels, reduction, after_reduction, paths } = site;
        let preprocess = Preprocess::pair(b, inputs, channels, after_reduction, true)?;
        let mut cell = Self { preprocess, edges: Vec::new(), concat: concat.to_vec(), reduction, paths };
        for (i, gene) in genes.iter().enumerate() {
            let place = Place { channels, stride: cell.stride(gene.input), affine: true, pool_norm: false };
            let op = b.within(format!("_ops.{i}"), |b| operations.get(&gene.op)?.build(b, place))?;
            let path = op.may_be_dropped().then_some(cell.paths);
            cell.paths += usize::from(path.is_some());
            cell.edges.push(Edge { input: gene.input, op, path });
        }
        Ok(cell)
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
        let mut states = Vec::with_capacity(2 + self.edges.len() / 2);
        for (layer, input) in self.preprocess.iter().zip(inputs) {
            states.push(State::new(layer.forward(cx, input)?));
        }
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
}

/// `x` times the factors of `path`, one an image.
fn drop_path(cx: &mut Context, x: Var, factors: &Tensor, path: usize) -> Result<Var> {
    let n = factors.shape().last();
    let factors = cx.tape.constant(factors.view(path * n, [n]));
    cx.tape.apply(ImageScale, &[x, factors])
}
