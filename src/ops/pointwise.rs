//! Elementwise operations: copy, add, subtract, multiply, relu, scaling, and the inner product that undoes scaling.

use super::cuda::pointwise as twin;
use super::elementwise::{CHUNK, map1, map2, sum_chunks};
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{DType, Real, Shape, Tensor};

/// All inputs of one shape, which is the result's.
pub(super) fn same(op: &'static str, ins: &[Shape]) -> Result<Shape> {
    match ins.iter().find(|s| **s != ins[0]) {
        Some(other) => Err(Error::shape(op, format!("inputs of different shapes {} and {other}", ins[0]))),
        None => Ok(ins[0]),
    }
}

macro_rules! elementwise {
    ($(#[$doc:meta])* $op:ident $twin:ident, $name:literal, $flops:literal, |$r:ident, $x:ident, $out:ident| $run:expr, |$cx:ident| $vjp:block) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn shape(&self, ins: &[Shape]) -> Result<Shape> {
                same($name, ins)
            }
            fn cost(&self, ins: &[Shape]) -> Cost {
                Cost::pointwise(ins, ins[0], $flops)
            }
            fn run(&self, $x: &[&Tensor], $out: &mut Out) -> Result<()> {
                if let Some(cuda) = $out.value.cuda().cloned() {
                    return twin::$twin(&cuda, $x, $out);
                }
                on_real!($out.value.dtype(), $r => $run);
                Ok(())
            }
            fn vjp(&self, $cx: &mut Pullback) -> Result<()> $vjp
        }
    };
}

elementwise!(
    /// y = x
    Copy copy, "copy", 0, |R, x, out| map1::<R>(x[0], out, |x| x), |cx| {
        let g = cx.g();
        cx.pass(0, g)
    }
);
elementwise!(
    /// y = a + b
    Add add, "add", 1, |R, x, out| map2::<R>(x[0], x[1], out, |a, b| a + b), |cx| {
        let g = cx.g();
        cx.pass(0, g)?;
        cx.pass(1, g)
    }
);
elementwise!(
    /// y = a - b
    Sub sub, "sub", 1, |R, x, out| map2::<R>(x[0], x[1], out, |a, b| a - b), |cx| {
        let g = cx.g();
        cx.pass(0, g)?;
        cx.send(1, Scale(-1.0), &[g])
    }
);
elementwise!(
    /// y = a b
    Mul mul, "mul", 1, |R, x, out| map2::<R>(x[0], x[1], out, |a, b| a * b), |cx| {
        let (a, b, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, Mul, &[g, b])?;
        cx.send(1, Mul, &[g, a])
    }
);
elementwise!(
    /// y = max(x, 0); its gradient at 0 is 0, as PyTorch's. NaN stays NaN.
    Relu relu, "relu", 1, |R, x, out| map1::<R>(x[0], out, |x| if x < R::ZERO { R::ZERO } else { x }), |cx| {
        let (x, g) = (cx.x(0), cx.g());
        cx.send(0, ReluGrad, &[g, x])
    }
);
elementwise!(
    /// (g, x) -> g where x > 0, else 0; its derivative in x is 0 almost everywhere.
    ReluGrad relu_grad, "relu_grad", 1,
    |R, x, out| map2::<R>(x[0], x[1], out, |g, x| if x > R::ZERO { g } else { R::ZERO }), |cx| {
        let (x, g) = (cx.x(1), cx.g());
        cx.send(0, ReluGrad, &[g, x])
    }
);

/// y = c x for a constant c.
#[derive(Clone, Copy, Debug)]
pub struct Scale(pub f64);
impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        Ok(ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::scale(&cuda, ins[0], self.0, out);
        }
        on_real!(out.value.dtype(), R => {
            let c = R::of(self.0);
            map1::<R>(ins[0], out, move |x| c * x);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let g = cx.g();
        cx.send(0, *self, &[g])
    }
}

/// (x, s) -> s x for a tensor s of one element.
#[derive(Clone, Copy, Debug)]
pub struct ScaleBy;
impl Op for ScaleBy {
    fn name(&self) -> &'static str {
        "scale_by"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        match ins[1].count() {
            1 => Ok(ins[0]),
            n => Err(Error::shape(self.name(), format!("the factor must be one number, not {n}"))),
        }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::scale_by(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let c = ins[1].as_slice::<R>()[0];
            map1::<R>(ins[0], out, move |x| c * x);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, s, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, ScaleBy, &[g, s])?;
        cx.send(1, Dot, &[x, g])
    }
}

/// (a, b) -> sum a b, a scalar.
#[derive(Clone, Copy, Debug)]
pub struct Dot;
impl Op for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        same(self.name(), ins)?;
        Ok(Shape::from([]))
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[0].exact()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost { flops: 2 * ins[0].count() as u64, ..Cost::pointwise(ins, Shape::from([]), 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::dot(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => {
            let (a, b) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>());
            let sum = sum_chunks(a.len(), |i| {
                let range = i..(i + CHUNK).min(a.len());
                a[range.clone()].iter().zip(&b[range]).map(|(a, b)| a.wide() * b.wide()).sum()
            });
            let y = &mut out.value.make_mut::<R>()[0];
            *y = if out.accumulate { *y + R::narrow(sum) } else { R::narrow(sum) };
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (a, b, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, ScaleBy, &[b, g])?;
        cx.send(1, ScaleBy, &[a, g])
    }
}
