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
use super::parts;
use crate::device::cuda::Cuda;
use crate::error::{Error, Result};
use crate::on_kept;
use crate::ops::concat::Concat;
use crate::ops::cuda::cell as twin;
use crate::ops::weighted_sum::WeightedSum;
use crate::tape::{Cost, Op, Out, Pullback, Saved, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use oche_cpu::cell as kernel;
pub use oche_cpu::cell::{Candidate, Kind, Spec};
use std::sync::Arc;

/// (W, state 0, state 1, weights ..) -> the nodes side by side (N, H, W, nodes C).
///
/// Saves the statistics of all norms, (norms, 3, C) as `BatchNorm` does, and the values before the norms.
#[derive(Clone, Debug)]
pub struct MixedCell {
    pub spec: Arc<Spec>,
    /// Statistics (norms, 3, C) to use instead of the batch's are the last input.
    pub given: bool,
    /// Save values of pools and taps of maxima too, as the kernels of a device want it; on the host the backward can make
    /// them again.
    pub keeps_pools: bool,
    /// Compute `f32` as [`Lean`](crate::tensor::Lean) numbers, on the host: half the memory of what is saved.
    pub lean: bool,
}

impl MixedCell {
    /// The device that `out` is on, if any.
    pub(super) fn device(&self, out: &Out) -> Result<Option<Arc<Cuda>>> {
        let device = out.value.cuda().cloned();
        match device.is_none() || self.keeps_pools {
            true => Ok(device),
            false => Err(Error::device("a mixed cell on a device must keep its pools")),
        }
    }

    /// Extents of a cell of these inputs.
    pub(super) fn sizes(&self, ins: &[Shape]) -> Result<kernel::Sizes> {
        let (op, spec) = ("mixed_cell", &self.spec);
        parts::count(op, ins, 3 + spec.weights + usize::from(self.given))?;
        if let Some(item) = spec.items.iter().find(|item| item.entry >= ins[0].count()) {
            return Err(Error::shape(op, format!("no place for {item:?} in weights {}", ins[0])));
        }
        parts::sizes(op, spec, [ins[1], ins[2]], &ins[3..], self.given)
    }

    /// What a forward (`passes` 1), or a backward with as many passes over the convolutions, does; `values` are the
    /// reads and writes of a value a pass.
    pub(super) fn cost_of(&self, ins: &[Shape], passes: u64, values: [u64; 2]) -> Cost {
        let Ok(sizes) = self.sizes(ins) else { return Cost::default() };
        parts::cost(&self.spec, &sizes, passes, values)
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
        mix: ins[0].as_slice().into(),
        affine: vec![],
        drop: vec![],
        inputs: [ins[1].as_slice(), ins[2].as_slice()],
        weights,
        given: op.given.then(|| ins[3 + op.spec.weights].as_slice()),
        plain: kernel::plain(sizes.c),
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
        self.sizes(ins).map_or(vec![], |sizes| parts::saves(&self.spec, &sizes, self.keeps_pools, self.lean))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        self.cost_of(ins, 1, [1, 1])
    }
    fn scratch(&self, ins: &[Shape]) -> usize {
        let Ok(sizes) = self.sizes(ins) else { return 0 };
        let pools = if self.keeps_pools { 0 } else { kernel::pools_scratch(&self.spec, &sizes, self.lean) };
        pools + kernel::moments_scratch(&self.spec, &sizes)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if out.accumulate {
            return Err(Error::shape(self.name(), "its result cannot be added to another"));
        }
        let shapes: Vec<Shape> = ins.iter().map(|x| *x.shape()).collect();
        let sizes = self.sizes(&shapes)?;
        if let Some(cuda) = self.device(out)? {
            return twin::forward(&cuda, self, sizes, ins, out);
        }
        on_kept!(out.value.dtype(), self.lean, R => {
            let cell = operands::<R>(self, ins, sizes);
            parts::forward(&cell, out);
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
        ins.extend((0..parts::saved(&self.spec, self.keeps_pools)).map(|k| cx.saved(k)));
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
                terms.push(parts::candidate(tape, item.kind, states[item.from], weights, norm)?);
                entries.push(item.entry);
            }
            states.push(match terms.len() {
                1 => {
                    let shapes: Vec<Shape> = ins.iter().map(|&v| tape.shape(v)).collect();
                    parts::zeros(tape, ins[1], &self.sizes(&shapes)?)?
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
        let given = self.given.then(|| ins[3 + self.spec.weights]);
        parts::norm(tape, x, given, at)
    }
}
