//! Convolutions: depthwise (one kernel a channel) and dense (1 x 1 included), channels-last images, PyTorch's weights.
//!
//! `y[n,i,j,o] = sum_{a,b,c} x[n, i s - p + a d, j s - p + b d, c] w[o,c,a,b]`   (depthwise: only c = o)
//!
//! A convolution is linear in x and in w. Its forward, input gradient and weight gradient are each other's
//! derivatives, so all orders are covered by the three.

use super::cuda::{conv as conv_twin, depthwise as depthwise_twin};
use super::window::Window;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{DType, Shape, Tensor};
use oche_cpu::LayerKernels;

/// What is slid over the image, and whether channels mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub window: Window,
    pub depthwise: bool,
}

impl Geometry {
    /// Output shape for images `x` (N, H, W, C) and weights `w` (O, C, kh, kw), or (C, 1, kh, kw) if depthwise.
    fn out(&self, op: &'static str, x: Shape, w: Shape) -> Result<Shape> {
        let (Some([n, height, width, c]), Some([o, i, kh, kw])) = (x.nhwc(), w.nhwc()) else {
            return Err(Error::shape(
                op,
                format!("wants images (N, H, W, C) and weights (O, C, h, w), got {x}, {w}"),
            ));
        };
        let fits = if self.depthwise { o == c && i == 1 } else { i == c };
        if !fits || [kh, kw] != self.window.kernel {
            let what = format!("weights {w} do not fit images {x} and a kernel of {:?}", self.window.kernel);
            return Err(Error::shape(op, what));
        }
        let [oh, ow] = self.window.out([height, width]).map_err(|what| Error::shape(op, what))?;
        Ok(Shape::from([n, oh, ow, o]))
    }
    fn macs(&self, y: Shape, w: Shape) -> u64 {
        (y.count() * w.count() / w.dims()[0]) as u64
    }
    fn names(&self, depthwise: &'static str, dense: &'static str) -> &'static str {
        if self.depthwise { depthwise } else { dense }
    }
}

fn image(x: &Tensor) -> [usize; 4] {
    x.shape().nhwc().unwrap_or([1; 4])
}

/// (x, w) -> y
#[derive(Clone, Copy, Debug)]
pub struct Conv(pub Geometry);
impl Op for Conv {
    fn name(&self) -> &'static str {
        self.0.names("depthwise", "conv")
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        self.0.out(self.name(), ins[0], ins[1])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let y = self.shape(ins).unwrap_or(ins[0]);
        Cost::products(ins, y, self.0.macs(y, ins[1]))
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return match self.0.depthwise {
                true => depthwise_twin::forward(&cuda, &self.0.window, ins, out),
                false => conv_twin::forward(&cuda, &self.0.window, ins, out),
            };
        }
        let (Geometry { window, .. }, dims, add) = (&self.0, image(ins[0]), out.accumulate);
        let channels = ins[1].shape().dims()[0];
        on_real!(out.value.dtype(), R => {
            let (x, w, y) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>(), out.value.make_mut::<R>());
            match self.0.depthwise {
                true => R::depthwise(window, dims, x, w, y, add),
                false => R::conv(window, dims, channels, x, w, y, add),
            }
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, w, g) = (cx.x(0), cx.x(1), cx.g());
        let (sx, sw) = (cx.tape().shape(x), cx.tape().shape(w));
        cx.send(0, ConvInput { geometry: self.0, shape: sx }, &[g, w])?;
        cx.send(1, ConvWeight { geometry: self.0, shape: sw }, &[x, g])
    }
}

/// (dy, w) -> dx
#[derive(Clone, Copy, Debug)]
pub struct ConvInput {
    pub geometry: Geometry,
    /// Shape of x.
    pub shape: Shape,
}
impl Op for ConvInput {
    fn name(&self) -> &'static str {
        self.geometry.names("depthwise_input", "conv_input")
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let y = self.geometry.out(self.name(), self.shape, ins[1])?;
        if y != ins[0] {
            return Err(Error::shape(self.name(), format!("gradient {} of a result {y}", ins[0])));
        }
        Ok(self.shape)
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::products(ins, self.shape, self.geometry.macs(ins[0], ins[1]))
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return match self.geometry.depthwise {
                true => depthwise_twin::input(&cuda, &self.geometry.window, ins, out),
                false => conv_twin::input(&cuda, &self.geometry.window, ins, out),
            };
        }
        let (window, dims, add) = (&self.geometry.window, image(out.value), out.accumulate);
        let channels = ins[1].shape().dims()[0];
        on_real!(out.value.dtype(), R => {
            let (dy, w, dx) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>(), out.value.make_mut::<R>());
            match self.geometry.depthwise {
                true => R::depthwise_input_grad(window, dims, w, dy, dx, add),
                false => R::conv_input_grad(window, dims, channels, w, dy, dx, add),
            }
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (dy, w, v) = (cx.x(0), cx.x(1), cx.g());
        let shape = cx.tape().shape(w);
        cx.send(0, Conv(self.geometry), &[v, w])?;
        cx.send(1, ConvWeight { geometry: self.geometry, shape }, &[v, dy])
    }
}

/// (x, dy) -> dw
#[derive(Clone, Copy, Debug)]
pub struct ConvWeight {
    pub geometry: Geometry,
    /// Shape of w.
    pub shape: Shape,
}
impl Op for ConvWeight {
    fn name(&self) -> &'static str {
        self.geometry.names("depthwise_weight", "conv_weight")
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let y = self.geometry.out(self.name(), ins[0], self.shape)?;
        if y != ins[1] {
            return Err(Error::shape(self.name(), format!("gradient {} of a result {y}", ins[1])));
        }
        Ok(self.shape)
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[0].exact()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::products(ins, self.shape, self.geometry.macs(ins[1], self.shape))
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return match self.geometry.depthwise {
                true => depthwise_twin::weight(&cuda, &self.geometry.window, ins, out),
                false => conv_twin::weight(&cuda, &self.geometry.window, ins, out),
            };
        }
        let (window, dims, add) = (&self.geometry.window, image(ins[0]), out.accumulate);
        let channels = self.shape.dims()[0];
        on_real!(out.value.dtype(), R => {
            let (x, dy, dw) = (ins[0].as_slice::<R>(), ins[1].as_slice::<R>(), out.value.make_mut::<R>());
            match self.geometry.depthwise {
                true => R::depthwise_weight_grad(window, dims, x, dy, dw, add),
                false => R::conv_weight_grad(window, dims, channels, x, dy, dw, add),
            }
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, dy, v) = (cx.x(0), cx.x(1), cx.g());
        let shape = cx.tape().shape(x);
        cx.send(0, ConvInput { geometry: self.geometry, shape }, &[dy, v])?;
        cx.send(1, Conv(self.geometry), &[x, v])
    }
}
