//! The backward of a whole cell as an operation: every gradient that is wanted from one run.

use super::mixed_cell::{MixedCell, operands};
use super::parts;
use crate::error::{Error, Result};
use crate::on_kept;
use crate::ops::cuda::cell as twin;
use crate::tape::{Cost, Op, Out, Saved};
use crate::tensor::{DType, Shape, Tensor};
use oche_cpu::cell as kernel;

/// (g, nodes, what the cell saved .., what it was given ..) -> dW; saves the gradients of the inputs and of the
/// weights, as far as they are wanted.
#[derive(Clone, Debug)]
pub struct MixedCellGrad {
    pub forward: MixedCell,
    pub inputs: [bool; 2],
    pub weights: bool,
}

impl MixedCellGrad {
    /// The cell's inputs to which the saved gradients belong.
    pub fn targets(&self) -> Vec<usize> {
        let inputs = [1, 2].into_iter().filter(|&k| self.inputs[k - 1]);
        let weights = if self.weights { 3..3 + self.forward.spec.weights } else { 0..0 };
        inputs.chain(weights).collect()
    }
    /// Where the cell's inputs begin among this operation's.
    fn start(&self) -> usize {
        2 + parts::saved(&self.forward.spec, self.forward.keeps_pools)
    }
}

impl Op for MixedCellGrad {
    fn name(&self) -> &'static str {
        "mixed_cell_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let y = self.forward.shape(&ins[self.start()..])?;
        match ins[0] == y && ins[1] == y {
            true => Ok(ins[self.start()]),
            false => Err(Error::shape(self.name(), format!("gradient {} of a result {y}", ins[0]))),
        }
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[self.start()]
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let as_input = |k: usize| Saved::As(ins[self.start() + k], self.start() + k);
        self.targets().into_iter().map(as_input).collect()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        // with weights: the depthwise results again, and both weight gradients
        let passes = if self.weights { 2 } else { 1 };
        self.forward.cost_of(&ins[self.start()..], passes, [2, 0])
    }
    fn scratch(&self, ins: &[Shape]) -> usize {
        let own = &ins[self.start()..];
        let Ok(sizes) = self.forward.sizes(own) else { return 0 };
        let spec = &self.forward.spec;
        let pools =
            if self.forward.keeps_pools { 0 } else { kernel::pools_scratch(spec, &sizes, self.forward.lean) };
        let kinds = (self.weights, self.forward.lean);
        kernel::gradient_scratch(spec, &sizes, |k| own[3 + k].count(), kinds) + pools
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let own = &ins[self.start()..];
        let shapes: Vec<Shape> = own.iter().map(|x| *x.shape()).collect();
        let sizes = self.forward.sizes(&shapes)?;
        if let Some(cuda) = self.forward.device(out)? {
            return twin::gradient(&cuda, self, sizes, (ins, self.start()), out);
        }
        on_kept!(out.value.dtype(), self.forward.lean, R => {
            let cell = operands::<R>(&self.forward, own, sizes);
            let mut saved = out.saved.iter_mut().map(|s| s.make_mut::<R>());
            let inputs = self.inputs.map(|wanted| if wanted { saved.next() } else { None });
            let weights = self.weights.then(|| saved.collect());
            let to = kernel::Gradients { mix: Some(out.value.make_mut()), inputs, affine: None, weights };
            parts::gradient(&cell, &ins[..self.start()], to);
        });
        Ok(())
    }
}
