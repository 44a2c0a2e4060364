//! The backward of relu, 1 x 1 convolution and batch norm as an operation: every gradient that is wanted from one run.

use super::relu_conv_norm::ReluConvNorm;
use crate::error::{Error, Result};
use crate::on_kept;
use crate::ops::cuda::preprocess as twin;
use crate::tape::{Cost, Op, Out, Saved};
use crate::tensor::{DType, Shape, Tensor};
use oche_cpu::{CellKernels, preprocess as kernel};

/// (g, y or, if affine, the convolution's result, statistics, what the forward was given ..) -> the first gradient that is wanted; saves the others.
#[derive(Clone, Copy, Debug)]
pub struct ReluConvNormGrad {
    pub forward: ReluConvNorm,
    pub x: bool,
    pub weights: bool,
}

/// Where the forward's inputs begin among this operation's.
const START: usize = 3;

impl ReluConvNormGrad {
    /// The forward's inputs to which the gradients belong.
    pub fn targets(&self) -> Vec<usize> {
        let weights = if self.weights { 1..self.forward.end() } else { 0..0 };
        self.x.then_some(0).into_iter().chain(weights).collect()
    }
}

impl Op for ReluConvNormGrad {
    fn name(&self) -> &'static str {
        "relu_conv_norm_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let y = self.forward.shape(&ins[START..])?;
        match (self.targets().first(), ins[0] == y && ins[1] == y) {
            (Some(first), true) => Ok(ins[START + first]),
            _ => Err(Error::shape(self.name(), format!("gradient {} of a result {y}", ins[0]))),
        }
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[START + self.targets().first().copied().unwrap_or(0)]
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let as_input = |k: usize| Saved::As(ins[START + k], START + k);
        self.targets().into_iter().skip(1).map(as_input).collect()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let cost = self.forward.cost_of(&ins[START..], u64::from(self.x) + u64::from(self.weights));
        // g and y instead of y alone; and what is written has the size of the inputs
        let writes = self.targets().into_iter().map(|k| ins[START + k].count() as u64).sum();
        Cost { reads: cost.reads + 2 * cost.writes, writes, ..cost }
    }
    fn scratch(&self, ins: &[Shape]) -> usize {
        let Ok(sizes) = self.forward.sizes(&ins[START..]) else { return 0 };
        let parts = sizes.n.div_ceil(sizes.n.div_ceil(kernel::PARTS));
        if self.weights { parts * sizes.input * sizes.output } else { 0 }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let own = &ins[START..];
        let shapes: Vec<Shape> = own.iter().map(|x| *x.shape()).collect();
        let sizes = self.forward.sizes(&shapes)?;
        if let Some(cuda) = out.value.cuda().cloned() {
            self.forward.host_only()?;
            return twin::gradient(&cuda, self, sizes, ins, out);
        }
        on_kept!(out.value.dtype(), self.forward.lean, R => {
            let slices: Vec<&[R]> = own[1..self.forward.end()].iter().map(|w| w.as_slice()).collect();
            let (weights, affine) = slices.split_at(self.forward.weights());
            let gamma = affine.first().copied();
            let kept = kernel::Kept { value: ins[1].as_slice(), stats: ins[2].as_slice(), given: self.forward.given, gamma };
            let saved = out.saved.iter_mut().map(|s| s.make_mut::<R>());
            let mut all = std::iter::once(out.value.make_mut::<R>()).chain(saved);
            let x = if self.x { all.next() } else { None };
            let weights_to = all.by_ref().take(weights.len()).collect();
            let affine = all.next().zip(all.next());
            let to = kernel::Gradients { x, weights: weights_to, affine, accumulate: out.accumulate };
            R::preprocess_gradient(&sizes, own[0].as_slice(), weights, &kept, ins[0].as_slice(), to);
        });
        Ok(())
    }
}
