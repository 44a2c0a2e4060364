//! A whole search cell: all candidates on all edges, their batch norms and the weighted sums of the nodes.
//!
//! `node_i = sum over edges (j, i) and candidates k of W[entry] norm(op_k(state_j))`, eq. 2 of "DARTS: Differentiable
//! Architecture Search" (arXiv 1806.09055), `norm` being the identity behind an identity.
//!
//! A norm is applied as the sum, or the second half of a separable convolution, reads its input. With z = (x - m) r,
//! S1 = sum dy and S2 = sum dy z over the M pixels of a channel: `dW[entry]` = sum over channels of S2, and
//! `dx = W[entry] r (dy - S1/M - z S2/M)`, so the sums that the norms need give the mixing weights' gradient for
//! nothing, and dx is made where it is read. Between relu and 1 x 1 convolution nothing goes to memory.

use super::grad::MixedCellGrad;
use crate::error::{Error, Result};
use crate::on_real;
use crate::ops::batch_norm::{BatchNorm, Normalise};
use crate::ops::concat::Concat;
use crate::ops::conv::{Conv, Geometry};
use crate::ops::cpu::cell as kernel;
pub use crate::ops::cpu::cell::{Candidate, Kind, Spec};
use crate::ops::cuda::cell as twin;
use crate::ops::pointwise::Relu;
use crate::ops::pool::{AvgPool, MaxPool};
use crate::ops::subsample::{Phase, Subsample};
use crate::ops::weighted_sum::WeightedSum;
use crate::ops::window::Window;
use crate::tape::{Cost, Op, Out, Pullback, Saved, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

/// (W, state 0, state 1, weights ..) -> the nodes side by side (N, H, W, nodes C).
///
/// Saves the statistics of all norms, (norms, 3, C) as `BatchNorm` does, the values before the norms, and the taps of
/// maxima.
#[derive(Clone, Debug)]
pub struct MixedCell {
    pub spec: Arc<Spec>,
    /// Statistics (norms, 3, C) to use instead of the batch's are the last input.
    pub given: bool,
}

pub(super) const POINTWISE: Geometry = Geometry {
    window: Window { kernel: [1; 2], stride: [1; 2], padding: [0; 2], dilation: [1; 2] },
    depthwise: false,
};

impl MixedCell {
    /// Extents of a cell of these inputs.
    pub(super) fn sizes(&self, ins: &[Shape]) -> Result<kernel::Sizes> {
        let wrong = |what: String| Error::shape("mixed_cell", what);
        let spec = &self.spec;
        let expected = 3 + spec.weights + usize::from(self.given);
        if ins.len() != expected {
            return Err(wrong(format!("wants {expected} inputs, got {}", ins.len())));
        }
        let (Some([n, h0, w0, c]), Some([n1, h1, w1, c1])) = (ins[1].nhwc(), ins[2].nhwc()) else {
            return Err(wrong(format!("wants images (N, H, W, C), got {} and {}", ins[1], ins[2])));
        };
        if (n, c) != (n1, c1) || [n, h0, w0, c, h1, w1].contains(&0) {
            return Err(wrong(format!("inputs {} and {} do not fit each other", ins[1], ins[2])));
        }
        let inputs = [[h0, w0], [h1, w1]];
        let mut out = None;
        for item in &spec.items {
            if item.entry >= ins[0].count() || item.node >= spec.nodes || item.from >= 2 + item.node {
                return Err(wrong(format!("no place for {item:?} in weights {}", ins[0])));
            }
            let Some(size) = inputs.get(item.from).copied().or(out) else {
                return Err(wrong("a node reads another before anything reads the inputs".to_owned()));
            };
            if item.kind == Kind::Reduce && (size[0] % 2, size[1] % 2, c % 2) != (0, 0, 0) {
                let what = format!("a stride-2 skip wants even sizes and channels, got {size:?}, {c}");
                return Err(wrong(what));
            }
            let size = item.kind.window().out("mixed_cell", size)?;
            if *out.get_or_insert(size) != size {
                return Err(wrong(format!("{item:?} gives {size:?} pixels where others give {out:?}")));
            }
            for (k, window) in item.kind.depthwise().iter().enumerate() {
                let [kh, kw] = window.kernel;
                let weights = [ins[3 + item.weight + 2 * k], ins[3 + item.weight + 2 * k + 1]];
                if weights != [Shape::from([c, 1, kh, kw]), Shape::from([c, c, 1, 1])] {
                    return Err(wrong(format!("weights {weights:?} do not fit {c} channels and {window:?}")));
                }
                if k == 1 && window.out("mixed_cell", size)? != size {
                    return Err(wrong(format!("the second half {window:?} changes the size")));
                }
            }
        }
        let out = out.unwrap_or(inputs[1]);
        if spec.norms > 0 && !self.given {
            BatchNorm.shape(&[Shape::from([n, out[0], out[1], c])])?;
        }
        Ok(kernel::Sizes { n, c, inputs, out })
    }

    /// Multiply-adds of the convolutions, those of the 1 x 1 apart.
    fn macs(&self, sizes: &kernel::Sizes) -> [u64; 2] {
        let (node, c) = ((sizes.n * sizes.node()) as u64, sizes.c as u64);
        let mut macs = [0, 0];
        for item in &self.spec.items {
            for window in item.kind.depthwise() {
                macs[0] += node * window.taps() as u64;
                macs[1] += node * c;
            }
            macs[1] += if item.kind == Kind::Reduce { node * c } else { 0 };
        }
        macs
    }

    /// What a forward (`passes` 1), or a backward with as many passes over the convolutions, does; `values` are the
    /// reads and writes of a value a pass.
    pub(super) fn cost_of(&self, ins: &[Shape], passes: u64, values: [u64; 2]) -> Cost {
        let Ok(sizes) = self.sizes(ins) else { return Cost::default() };
        let node = (sizes.n * sizes.node()) as u64;
        let states = ins[1].count() as u64 + ins[2].count() as u64 + self.spec.nodes as u64 * node;
        let macs: u64 = passes * self.macs(&sizes).iter().sum::<u64>();
        let values = values.map(|k| k * self.spec.values as u64 * node);
        let sums = 2 * self.spec.items.len() as u64 * node;
        Cost { flops: 2 * macs + sums, macs, reads: states + values[0], writes: states + values[1] }
    }
}

/// The inputs of the kernels.
pub(super) fn operands<'a, R: crate::tensor::Element + crate::tensor::Real>(
    op: &'a MixedCell,
    ins: &[&'a Tensor],
    sizes: kernel::Sizes,
) -> kernel::Cell<'a, R> {
    let weights = ins[3..3 + op.spec.weights].iter().map(|w| w.as_slice::<R>()).collect();
    kernel::Cell {
        spec: &op.spec,
        sizes,
        mix: ins[0].as_slice(),
        inputs: [ins[1].as_slice(), ins[2].as_slice()],
        weights,
        given: op.given.then(|| ins[3 + op.spec.weights].as_slice()),
    }
}

impl Op for MixedCell {
    fn name(&self) -> &'static str {
        "mixed_cell"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let kernel::Sizes { n, c, out, .. } = self.sizes(ins)?;
        Ok(Shape::from([n, out[0], out[1], self.spec.nodes * c]))
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[1]
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let Ok(kernel::Sizes { n, c, out, .. }) = self.sizes(ins) else { return vec![] };
        let image = Shape::from([n, out[0], out[1], c]);
        let mut saved = vec![Saved::Exact(Shape::from([self.spec.norms, 3, c]))];
        saved.extend((0..self.spec.values).map(|_| Saved::Real(image)));
        saved.extend(self.spec.maxima.iter().map(|_| Saved::Index(image)));
        saved
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        self.cost_of(ins, 1, [1, 1])
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if out.accumulate {
            return Err(Error::shape(self.name(), "its result cannot be added to another"));
        }
        let shapes: Vec<Shape> = ins.iter().map(|x| *x.shape()).collect();
        let sizes = self.sizes(&shapes)?;
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::forward(&cuda, self, sizes, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let cell = operands::<R>(self, ins, sizes);
            let (stats, rest) = match out.saved.split_first_mut() {
                Some(parts) => parts,
                None => unreachable!("statistics are saved"),
            };
            let (values, indices) = rest.split_at_mut(self.spec.values);
            let mut values: Vec<&mut [R]> = values.iter_mut().map(|v| v.make_mut()).collect();
            let mut indices: Vec<&mut [u8]> = indices.iter_mut().map(|v| v.make_mut()).collect();
            kernel::forward(&cell, out.value.make_mut(), stats.make_mut(), &mut values, &mut indices);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        if cx.records() {
            return cx.by_reference(|tape, ins| self.reference(tape, ins));
        }
        let weights = (0..self.spec.weights).any(|k| cx.wants(3 + k));
        let grad = MixedCellGrad { forward: self.clone(), inputs: [cx.wants(1), cx.wants(2)], weights };
        let mut ins = vec![cx.g(), cx.y()];
        ins.extend((0..1 + self.spec.values + self.spec.maxima.len()).map(|k| cx.saved(k)));
        ins.extend(cx.xs());
        let mix = cx.tape().apply(grad.clone(), &ins)?;
        cx.pass(0, mix)?;
        for (k, to) in grad.targets().into_iter().enumerate() {
            let part = cx.tape().saved(mix, k).clone();
            let part = cx.tape().constant(part);
            cx.pass(to, part)?;
        }
        Ok(())
    }
    fn reference(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        let mut states = vec![ins[1], ins[2]];
        for node in 0..self.spec.nodes {
            let (mut entries, mut terms) = (vec![], vec![ins[0]]);
            for item in self.spec.into_node(node) {
                let weights = &ins[3 + item.weight..][..item.kind.weights()];
                let norm = |tape: &mut Tape, x, k| self.norm(tape, ins, x, item.norm + k);
                terms.push(candidate(tape, item.kind, states[item.from], weights, norm)?);
                entries.push(item.entry);
            }
            states.push(match terms.len() {
                1 => {
                    let shapes: Vec<Shape> = ins.iter().map(|&v| tape.shape(v)).collect();
                    let kernel::Sizes { n, c, out, .. } = self.sizes(&shapes)?;
                    let zeros = tape.value(ins[1]).zeros_alike([n, out[0], out[1], c], tape.dtype(ins[1]))?;
                    tape.constant(zeros)
                }
                _ => tape.apply(WeightedSum::new(entries), &terms)?,
            });
        }
        tape.apply(Concat, &states[2..])
    }
}

impl MixedCell {
    /// Norm `at` of x.
    fn norm(&self, tape: &mut Tape, ins: &[Var], x: Var, at: usize) -> Result<Var> {
        if !self.given {
            return tape.apply(BatchNorm, &[x]);
        }
        let stats = tape.value(ins[3 + self.spec.weights]).clone();
        let c = stats.shape().last();
        let [mean, variance] = [0, 2].map(|row| stats.view((at * 3 + row) * c, [c]));
        let (mean, variance) = (tape.constant(mean), tape.constant(variance));
        tape.apply(Normalise, &[x, mean, variance])
    }
}

/// A candidate of `x`, its norms by `norm(tape, value, which)`.
fn candidate(
    tape: &mut Tape,
    kind: Kind,
    x: Var,
    weights: &[Var],
    norm: impl Fn(&mut Tape, Var, usize) -> Result<Var>,
) -> Result<Var> {
    let mut value = match kind {
        Kind::Identity => return Ok(x),
        Kind::MaxPool(window) => tape.apply(MaxPool { window }, &[x])?,
        Kind::AvgPool(window) => tape.apply(AvgPool { window }, &[x])?,
        Kind::Reduce => {
            let a = tape.apply(Relu, &[x])?;
            let mut halves = vec![];
            for (offset, &w) in weights.iter().enumerate() {
                let pixels = tape.apply(Subsample(Phase { stride: 2, offset }), &[a])?;
                halves.push(tape.apply(Conv(POINTWISE), &[pixels, w])?);
            }
            tape.apply(Concat, &halves)?
        }
        Kind::Conv(_) | Kind::TwoConvs(_) => x,
    };
    for (k, &window) in kind.depthwise().iter().enumerate() {
        let before = if k == 0 { value } else { norm(tape, value, 0)? };
        let a = tape.apply(Relu, &[before])?;
        let d = tape.apply(Conv(Geometry { window, depthwise: true }), &[a, weights[2 * k]])?;
        value = tape.apply(Conv(POINTWISE), &[d, weights[2 * k + 1]])?;
    }
    norm(tape, value, kind.norms() - 1)
}
