//! Matrix product: y = A B with either factor transposed. A linear layer is x W^T and a channel shift.

use super::cuda::matmul as twin;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{Shape, Tensor};
use oche_cpu::LayerKernels;

/// (A, B) -> A B, (m, k) x (k, n); `transpose` says which factors are stored transposed.
#[derive(Clone, Copy, Debug)]
pub struct MatMul {
    pub transpose: [bool; 2],
}

impl MatMul {
    fn sizes(&self, ins: &[Shape]) -> Result<[usize; 3]> {
        let ([a, b], [c, d]) = (ins[0].dims(), ins[1].dims()) else {
            return Err(Error::shape(
                self.name(),
                format!("wants two matrices, got {} and {}", ins[0], ins[1]),
            ));
        };
        let (m, k) = if self.transpose[0] { (*b, *a) } else { (*a, *b) };
        let (inner, n) = if self.transpose[1] { (*d, *c) } else { (*c, *d) };
        if k != inner {
            let what = format!("{} and {} do not fit (transposed: {:?})", ins[0], ins[1], self.transpose);
            return Err(Error::shape(self.name(), what));
        }
        Ok([m, k, n])
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let [m, _, n] = self.sizes(ins)?;
        Ok(Shape::from([m, n]))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let [m, k, n] = self.sizes(ins).unwrap_or_default();
        Cost::products(ins, Shape::from([m, n]), (m * k * n) as u64)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let [m, k, n] = self.sizes(&[*ins[0].shape(), *ins[1].shape()])?;
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::matmul(&cuda, [m, k, n], self.transpose, ins, out);
        }
        let ([ta, tb], add) = (self.transpose, out.accumulate);
        on_real!(out.value.dtype(), R => {
            let (a, b, y) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>(), out.value.make_mut::<R>());
            R::matmul((m, k, n), a, ta, b, tb, y, add);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (a, b, g) = (cx.x(0), cx.x(1), cx.g());
        let [ta, tb] = self.transpose;
        // with A' = op(A), B' = op(B): dA' = g B'^T, dB' = A'^T g
        match ta {
            false => cx.send(0, MatMul { transpose: [false, !tb] }, &[g, b])?,
            true => cx.send(0, MatMul { transpose: [tb, true] }, &[b, g])?,
        }
        match tb {
            false => cx.send(1, MatMul { transpose: [!ta, false] }, &[a, g]),
            true => cx.send(1, MatMul { transpose: [true, ta] }, &[g, a]),
        }
    }
}
