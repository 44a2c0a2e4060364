//! What brings a cell's input to the cell's channels and size: relu, 1 x 1 convolution, batch norm.
//!
//! `y = norm(W relu(x))`. With y normalised, S1 = sum dy and S2 = sum dy y over the M pixels of a channel, the
//! convolution's result has the gradient `dz = r (dy - S1/M - y S2/M)`, so the backward needs y and r, and neither
//! relu(x) nor the convolution's result is kept. `dx = (x > 0) W^T dz`, `dW = sum dz relu(x)^T`.
//!
//! With scale and shift, `y = gamma z + beta`, gamma may be zero, so the convolution's result is kept and z made of it
//! again: `dgamma = sum dy z`, `dbeta = S1`, and dz has a factor gamma. This form is for the CPU only.

use super::relu_conv_norm_grad::ReluConvNormGrad;
use crate::error::{Error, Result};
use crate::on_kept;
use crate::ops::channel::{ChannelScale, ChannelShift};
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::cuda::preprocess as twin;
use crate::ops::pointwise::Relu;
use crate::ops::subsample::{Phase, Subsample};
use crate::tape::{Cost, Op, Out, Pullback, Saved, Tape, Var};
use crate::tensor::{Shape, Tensor};
use oche_cpu::{CellKernels, preprocess as kernel};

/// (x, weights .., gamma and beta if affine, statistics if given) -> y. Saves the statistics, (3, C), as `BatchNorm`
/// does, and if affine the convolution's result.
#[derive(Clone, Copy, Debug)]
pub struct ReluConvNorm {
    /// Two convolutions of stride 2, on the even and on the odd pixels, give half the channels each; else one of
    /// stride 1 gives all.
    pub halve: bool,
    /// Scale and shift follow.
    pub affine: bool,
    /// Statistics (3, C) to use instead of the batch's are the last input.
    pub given: bool,
    /// Compute `f32` as [`Lean`](crate::tensor::Lean) numbers, on the host.
    pub lean: bool,
}

impl ReluConvNorm {
    /// Weight tensors, and the stride.
    pub(super) fn weights(&self) -> usize {
        if self.halve { 2 } else { 1 }
    }
    /// Where statistics are or would be among the inputs: what comes before has gradients.
    pub(super) fn end(&self) -> usize {
        1 + self.weights() + if self.affine { 2 } else { 0 }
    }
    pub(super) fn sizes(&self, ins: &[Shape]) -> Result<kernel::Sizes> {
        let wrong = |what: String| Error::shape("relu_conv_norm", what);
        let stride = self.weights();
        super::parts::count("relu_conv_norm", ins, self.end() + usize::from(self.given))?;
        let (Some([n, h, w, input]), Some([share, ..])) = (ins[0].nhwc(), ins[1].nhwc()) else {
            return Err(wrong(format!(
                "wants images (N, H, W, C) and weights, got {} and {}",
                ins[0], ins[1]
            )));
        };
        if ins[1..=stride].iter().any(|w| *w != Shape::from([share, input, 1, 1])) {
            return Err(wrong(format!("weights {:?} do not fit images {}", &ins[1..=stride], ins[0])));
        }
        if [n, h, w, input, share].contains(&0) || (h % stride, w % stride) != (0, 0) {
            return Err(wrong(format!("images {} and {share} channels cannot be taken", ins[0])));
        }
        let sizes = kernel::Sizes { n, size: [h, w], stride, input, output: stride * share };
        if !self.given && n * sizes.pixels() == 1 {
            let what =
                format!("needs more than one value a channel, got {}; take a larger batch", result(&sizes));
            return Err(wrong(what));
        }
        if self.given && ins[self.end()] != Shape::from([3, sizes.output]) {
            let what = format!("statistics {} are not three numbers a channel", ins[self.end()]);
            return Err(wrong(what));
        }
        if let Some(affine) = ins[1 + stride..self.end()].iter().find(|s| **s != Shape::from([sizes.output]))
        {
            return Err(wrong(format!("{affine} is not one number a channel")));
        }
        Ok(sizes)
    }

    /// That a device can run it.
    pub(super) fn host_only(&self) -> Result<()> {
        match self.affine {
            false => Ok(()),
            true => Err(Error::device("relu_conv_norm with scale and shift has no kernel for a device")),
        }
    }

    /// What a forward does, or a backward with as many products over the convolutions.
    pub(super) fn cost_of(&self, ins: &[Shape], products: u64) -> Cost {
        let Ok(sizes) = self.sizes(ins) else { return Cost::default() };
        let pixels = (sizes.n * sizes.pixels()) as u64;
        let (gathered, y) = (pixels * (sizes.stride * sizes.input) as u64, pixels * sizes.output as u64);
        let macs = products * pixels * (sizes.input * sizes.output) as u64;
        let weights: u64 = ins[1..].iter().map(|w| w.count() as u64).sum();
        Cost { flops: 2 * macs + products * gathered + 7 * y, macs, reads: gathered + weights, writes: y }
    }
}

/// The shape of the result.
fn result(sizes: &kernel::Sizes) -> Shape {
    let [h, w] = sizes.out();
    Shape::from([sizes.n, h, w, sizes.output])
}

impl Op for ReluConvNorm {
    fn name(&self) -> &'static str {
        "relu_conv_norm"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        self.sizes(ins).map(|sizes| result(&sizes))
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let Ok(sizes) = self.sizes(ins) else { return vec![] };
        let stats = Saved::Exact(Shape::from([3, sizes.output]));
        if self.affine { vec![stats, Saved::Real(result(&sizes))] } else { vec![stats] }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        self.cost_of(ins, 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if out.accumulate {
            return Err(Error::shape(self.name(), "its result cannot be added to another"));
        }
        let shapes: Vec<Shape> = ins.iter().map(|x| *x.shape()).collect();
        let sizes = self.sizes(&shapes)?;
        if let Some(cuda) = out.value.cuda().cloned() {
            self.host_only()?;
            let (weights, given) = ins[1..].split_at(self.weights());
            return twin::forward(&cuda, sizes, ins[0], weights, given.first().copied(), out);
        }
        on_kept!(out.value.dtype(), self.lean, R => {
            let slices: Vec<&[R]> = ins.iter().map(|x| x.as_slice()).collect();
            let (ins, given) = slices.split_at(self.end());
            let (weights, affine) = ins[1..].split_at(self.weights());
            let y = out.value.make_mut();
            let (stats, raw) = out.saved.split_at_mut(1);
            let affine = match (affine, raw) {
                (&[gamma, beta], [raw]) => Some((gamma, beta, raw.make_mut())),
                _ => None,
            };
            let stats = stats[0].make_mut();
            R::preprocess(&sizes, slices[0], weights, given.first().copied(), y, stats, affine);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        if cx.records() {
            return cx.by_reference(|tape, ins| self.reference(tape, ins));
        }
        let weights = (1..self.end()).any(|k| cx.wants(k));
        let grad = ReluConvNormGrad { forward: *self, x: cx.wants(0), weights };
        let targets = grad.targets();
        let Some((&first, others)) = targets.split_first() else { return Ok(()) };
        let kept = if self.affine { cx.saved(1) } else { cx.y() };
        let mut ins = vec![cx.g(), kept, cx.saved(0)];
        ins.extend(cx.xs());
        let saved = cx.send_saving(first, grad, &ins)?;
        for (&to, part) in others.iter().zip(saved) {
            cx.pass(to, part)?;
        }
        Ok(())
    }
    fn reference(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        let a = tape.apply(Relu, &[ins[0]])?;
        let mut shares = vec![];
        for (offset, &w) in ins[1..=self.weights()].iter().enumerate() {
            let phase = Phase { stride: self.weights(), offset };
            let pixels = if self.halve { tape.apply(Subsample(phase), &[a])? } else { a };
            shares.push(tape.apply(Conv(super::parts::POINTWISE), &[pixels, w])?);
        }
        let z = if self.halve { tape.apply(Concat, &shares)? } else { shares[0] };
        let z = super::parts::norm(tape, z, self.given.then(|| ins[self.end()]), 0)?;
        if !self.affine {
            return Ok(z);
        }
        let y = tape.apply(ChannelScale, &[z, ins[1 + self.weights()]])?;
        tape.apply(ChannelShift, &[y, ins[2 + self.weights()]])
    }
}
