//! Relu, depthwise convolution, 1 x 1 convolution: half a separable convolution, or a dilated one, image by image.
//!
//! z = P (D * a),  a = max(x, 0) or max((x - m) r, 0) where a batch norm comes first.
//!
//! Nothing between x and z goes to memory; the depthwise result, which the gradient of P needs, is computed again. The
//! statistics of z, for the batch norm behind it, are gathered while z is in the cache.

use super::normed_sum::apply_norm_grad;
use crate::error::{Error, Result};
use crate::on_real;
use crate::ops::batch_norm::{BatchNorm, mean_and_r};
use crate::ops::conv::{Conv, Geometry};
use crate::ops::cpu::relu_conv as kernel;
use crate::ops::pointwise::Relu;
use crate::ops::window::Window;
use crate::tape::{Cost, Op, Out, Pullback, Saved, Tape, Var};
use crate::tensor::{Real, Shape, Tensor};

/// (x, D, P) or (x, D, P, statistics of x) -> z; saves the statistics of z as `BatchNorm` does.
#[derive(Clone, Copy, Debug)]
pub struct ReluConv {
    /// Of the depthwise convolution.
    pub window: Window,
    /// A batch norm of x, with the statistics given, comes before the relu.
    pub normed: bool,
}

const POINTWISE: Geometry = Geometry {
    window: Window { kernel: [1; 2], stride: [1; 2], padding: [0; 2], dilation: [1; 2] },
    depthwise: false,
};

impl ReluConv {
    fn depthwise(&self) -> Conv {
        Conv(Geometry { window: self.window, depthwise: true })
    }
    /// Shapes of the depthwise result and of z.
    fn shapes(&self, ins: &[Shape]) -> Result<[Shape; 2]> {
        if ins.len() != 3 + usize::from(self.normed) {
            return Err(Error::shape(
                "relu_conv",
                format!("{} inputs with normed = {}", ins.len(), self.normed),
            ));
        }
        let d = self.depthwise().shape(&ins[..2])?;
        Ok([d, Conv(POINTWISE).shape(&[d, ins[2]])?])
    }
    fn sizes(&self, x: &Tensor, pointwise: &Tensor) -> kernel::Sizes {
        kernel::Sizes {
            window: self.window,
            dims: x.shape().nhwc().unwrap_or([1; 4]),
            channels: pointwise.shape().dims()[0],
        }
    }
}

impl Op for ReluConv {
    fn name(&self) -> &'static str {
        "relu_conv"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let [_, z] = self.shapes(ins)?;
        BatchNorm.shape(&[z])
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let channels = ins[2].dims()[0];
        vec![Saved::Real(Shape::from([3, channels]))]
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let Ok([d, z]) = self.shapes(ins) else { return Cost::default() };
        let macs = d.count() * self.window.taps() + z.count() * d.last();
        Cost::products(ins, z, macs as u64)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if out.accumulate {
            // the statistics are those of z alone
            return Err(Error::shape(self.name(), "its result cannot be added to another"));
        }
        let sizes = self.sizes(ins[0], ins[2]);
        on_real!(out.value.dtype(), R => {
            let [x, d, p] = [0, 1, 2].map(|i| ins[i].as_slice::<R>());
            let stats = self.normed.then(|| mean_and_r::<R>(ins[3]));
            let (z, saved) = (out.value.make_mut::<R>(), out.saved[0].make_mut::<R>());
            kernel::forward(&sizes, x, stats, d, p, z, saved);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        if cx.records() {
            return cx.by_reference(|tape, ins| self.reference(tape, ins));
        }
        let (xs, g) = (cx.xs(), cx.g());
        let mut ins = vec![g];
        ins.extend(&xs);
        let grad = ReluConvGrad { forward: *self, weights: cx.wants(1) || cx.wants(2) };
        if !self.normed {
            let saved = cx.send_saving(0, grad, &ins)?;
            return pass_weights(cx, &saved);
        }
        let du = cx.tape().apply(grad, &ins)?;
        let saved: Vec<Tensor> = (0..grad.saves_count()).map(|k| cx.tape().saved(du, k).clone()).collect();
        let saved: Vec<Var> = saved.into_iter().map(|s| cx.tape().constant(s)).collect();
        pass_weights(cx, &saved[1..])?;
        cx.send(0, NormGrad, &[du, xs[0], xs[3], saved[0]])
    }
    fn reference(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        let x = if self.normed { tape.apply(BatchNorm, &[ins[0]])? } else { ins[0] };
        let a = tape.apply(Relu, &[x])?;
        let d = tape.apply(self.depthwise(), &[a, ins[1]])?;
        tape.apply(Conv(POINTWISE), &[d, ins[2]])
    }
}

fn pass_weights(cx: &mut Pullback, saved: &[Var]) -> Result<()> {
    match saved {
        [depthwise, pointwise] => {
            cx.pass(1, *depthwise)?;
            cx.pass(2, *pointwise)
        }
        _ => Ok(()),
    }
}

/// (dz, x, D, P, ..) -> the gradient at the relu's input; saves, if normed, sums over pixels of it and of it times z
/// there, (2, C), and, if weights are wanted, dD and dP
#[derive(Clone, Copy, Debug)]
struct ReluConvGrad {
    forward: ReluConv,
    weights: bool,
}
impl ReluConvGrad {
    fn saves_count(&self) -> usize {
        usize::from(self.forward.normed) + 2 * usize::from(self.weights)
    }
}
impl Op for ReluConvGrad {
    fn name(&self) -> &'static str {
        "relu_conv_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        match self.forward.shape(&ins[1..])? {
            z if z == ins[0] => Ok(ins[1]),
            z => Err(Error::shape(self.name(), format!("gradient {} of a result {z}", ins[0]))),
        }
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let sums = self.forward.normed.then(|| Saved::Real(Shape::from([2, ins[1].last()])));
        let weights = [Saved::Real(ins[2]), Saved::Real(ins[3])];
        sums.into_iter().chain(weights.into_iter().take(2 * usize::from(self.weights))).collect()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let forward = self.forward.cost(&ins[1..]);
        // with weights: the depthwise result again, and both weight gradients
        let macs = forward.macs * if self.weights { 2 } else { 1 };
        Cost::products(&ins[..2], ins[1], macs)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        let sizes = self.forward.sizes(ins[1], ins[3]);
        let add = out.accumulate;
        on_real!(out.value.dtype(), R => {
            let [dz, x, d, p] = [0, 1, 2, 3].map(|i| ins[i].as_slice::<R>());
            let stats = self.forward.normed.then(|| mean_and_r::<R>(ins[4]));
            let mut saved = out.saved.iter_mut().map(|s| s.make_mut::<R>());
            let sums = if self.forward.normed { saved.next() } else { None };
            let weights = saved.next().zip(saved.next());
            kernel::gradient(&sizes, dz, x, stats, d, p, out.value.make_mut::<R>(), add, sums, weights);
        });
        Ok(())
    }
}

/// (g, x, statistics of x, sums of g and g z) -> the gradient at the input of the batch norm
#[derive(Clone, Copy, Debug)]
struct NormGrad;
impl Op for NormGrad {
    fn name(&self) -> &'static str {
        "relu_conv_norm"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        Ok(ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(&ins[..2], ins[0], 5)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        on_real!(out.value.dtype(), R => {
            let (g, x) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>());
            let (s1, s2) = ins[3].as_slice::<R>().split_at(ins[0].shape().last());
            apply_norm_grad(g, x, mean_and_r::<R>(ins[2]), [s1, s2], <R as Real>::Wide::ONE, out);
        });
        Ok(())
    }
}
