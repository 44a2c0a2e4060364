//! Max, average and global average pooling of channels-last images.
//!
//! Padding never wins a maximum and is not counted in an average (`count_include_pad = false`). A maximum remembers
//! the tap it came from (the first of equals, in row-major order); given the taps it is linear.

use super::cuda::pool as twin;
use super::window::Window;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback, Saved};
use crate::tensor::{Real, Shape, Tensor};
use oche_cpu::LayerKernels;
use rayon::prelude::*;

fn dims(op: &'static str, x: Shape) -> Result<[usize; 4]> {
    x.nhwc().ok_or_else(|| Error::shape(op, format!("wants images (N, H, W, C), got {x}")))
}

fn pooled(op: &'static str, window: &Window, x: Shape) -> Result<Shape> {
    let [n, h, w, c] = dims(op, x)?;
    let too_wide = (0..2).any(|a| window.padding[a] * 2 > window.dilation[a] * (window.kernel[a] - 1) + 1);
    if too_wide || window.taps() > 255 {
        return Err(Error::shape(
            op,
            format!("padding must be at most half the kernel, which has at most 255 taps: {window:?}"),
        ));
    }
    let [oh, ow] = window.out([h, w]).map_err(|what| Error::shape(op, what))?;
    Ok(Shape::from([n, oh, ow, c]))
}

/// `out`, if all of `ins` have the shape `wanted`, as the gradients of a pooled image do.
fn transposed(op: &'static str, wanted: Shape, ins: &[Shape], out: Shape) -> Result<Shape> {
    match ins.iter().find(|s| **s != wanted) {
        Some(other) => Err(Error::shape(op, format!("{other} does not fit a pooled image {wanted}"))),
        None => Ok(out),
    }
}

fn image(x: Shape) -> [usize; 4] {
    x.nhwc().unwrap_or([1; 4])
}

macro_rules! window_op {
    ($(#[$doc:meta])* $op:ident { $($field:ident: $t:ty),* }, $name:literal, |$self:ident, $s:ident| $shape:expr, $twin:ident, |$r:ident, $x:ident, $out:ident| $run:expr, |$cx:ident| $vjp:block) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op { pub window: Window, $(pub $field: $t),* }
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn shape(&$self, $s: &[Shape]) -> Result<Shape> {
                $shape
            }
            fn cost(&self, ins: &[Shape]) -> Cost {
                let out = self.shape(ins).unwrap_or(ins[0]);
                Cost { flops: (out.count().min(ins[0].count()) * self.window.taps()) as u64, ..Cost::pointwise(&ins[..1], out, 0) }
            }
            fn run(&$self, $x: &[&Tensor], $out: &mut Out) -> Result<()> {
                if let Some(cuda) = $out.value.cuda().cloned() {
                    return twin::$twin(&cuda, &$self.window, $x, $out);
                }
                on_real!($out.value.dtype(), $r => $run);
                Ok(())
            }
            fn vjp(&$self, $cx: &mut Pullback) -> Result<()> $vjp
        }
    };
}

/// x -> maximum under the window; saves the winning taps.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    pub window: Window,
}
impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        pooled(self.name(), &self.window, ins[0])
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        self.shape(ins).map(Saved::Index).into_iter().collect()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let out = self.shape(ins).unwrap_or(ins[0]);
        Cost { flops: (out.count() * self.window.taps()) as u64, ..Cost::pointwise(ins, out, 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::max(&cuda, &self.window, ins, out);
        }
        let index = out.saved[0].make_mut::<u8>();
        on_real!(out.value.dtype(), R => {
            let (x, y) = (ins[0].as_slice::<R>(), out.value.make_mut::<R>());
            R::max_pool(&self.window, image(*ins[0].shape()), x, y, index);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, g, taps) = (cx.x(0), cx.g(), cx.saved(0));
        let shape = cx.tape().shape(x);
        cx.send(0, MaxScatter { window: self.window, shape }, &[g, taps])
    }
}

window_op!(
    /// (x, taps) -> x at the taps
    MaxGather {}, "max_gather", |self, s| {
        let y = pooled(self.name(), &self.window, s[0])?;
        transposed(self.name(), y, &s[1..], y)
    },
    max_gather,
    |R, x, out| {
        let add = out.accumulate;
        let dims = image(*x[0].shape());
        R::max_pool_gather(&self.window, dims, x[0].as_slice::<R>(), x[1].as_slice::<u8>(), out.value.make_mut::<R>(), add)
    },
    |cx| {
        let (x, taps, g) = (cx.x(0), cx.x(1), cx.g());
        let shape = cx.tape().shape(x);
        cx.send(0, MaxScatter { window: self.window, shape }, &[g, taps])
    }
);
window_op!(
    /// (g, taps) -> an image of the given shape that holds each g where its maximum came from
    MaxScatter { shape: Shape }, "max_scatter", |self, s| {
        let y = pooled(self.name(), &self.window, self.shape)?;
        transposed(self.name(), y, s, self.shape)
    },
    max_scatter,
    |R, x, out| {
        let (dims, add) = (image(self.shape), out.accumulate);
        R::max_pool_scatter(&self.window, dims, x[0].as_slice::<R>(), x[1].as_slice::<u8>(), out.value.make_mut::<R>(), add)
    },
    |cx| {
        let (taps, g) = (cx.x(1), cx.g());
        cx.send(0, MaxGather { window: self.window }, &[g, taps])
    }
);
window_op!(
    /// x -> mean of the taps inside the image
    AvgPool {}, "avg_pool", |self, s| pooled(self.name(), &self.window, s[0]),
    avg,
    |R, x, out| {
        let (dims, add) = (image(*x[0].shape()), out.accumulate);
        R::avg_pool(&self.window, dims, x[0].as_slice::<R>(), out.value.make_mut::<R>(), add)
    },
    |cx| {
        let (x, g) = (cx.x(0), cx.g());
        let shape = cx.tape().shape(x);
        cx.send(0, AvgPoolGrad { window: self.window, shape }, &[g])
    }
);
window_op!(
    /// g -> its transpose: an image of the given shape
    AvgPoolGrad { shape: Shape }, "avg_pool_grad", |self, s| {
        let y = pooled(self.name(), &self.window, self.shape)?;
        transposed(self.name(), y, s, self.shape)
    },
    avg_grad,
    |R, x, out| {
        let (dims, add) = (image(self.shape), out.accumulate);
        R::avg_pool_input_grad(&self.window, dims, x[0].as_slice::<R>(), out.value.make_mut::<R>(), add)
    },
    |cx| {
        let g = cx.g();
        cx.send(0, AvgPool { window: self.window }, &[g])
    }
);

/// (N, H, W, C) -> (N, C), the mean over the pixels
#[derive(Clone, Copy, Debug)]
pub struct GlobalAvgPool;
impl Op for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global_avg_pool"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let [n, _, _, c] = dims(self.name(), ins[0])?;
        Ok(Shape::from([n, c]))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let out = self.shape(ins).unwrap_or(ins[0]);
        Cost { flops: ins[0].count() as u64, ..Cost::pointwise(ins, out, 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::global_avg(&cuda, ins[0], out);
        }
        let ([_, h, w, c], add) = (image(*ins[0].shape()), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let (x, y) = (ins[0].as_slice::<R>(), out.value.make_mut::<R>());
            y.par_chunks_mut(c).zip(x.par_chunks(h * w * c)).for_each(|(y, x)| {
                let mut sum = vec![<R as Real>::Wide::ZERO; c];
                for pixel in x.chunks_exact(c) {
                    sum.iter_mut().zip(pixel).for_each(|(s, x)| *s += x.wide());
                }
                for (y, s) in y.iter_mut().zip(sum) {
                    let mean = R::narrow(s / <R as Real>::Wide::of((h * w) as f64));
                    *y = if add { *y + mean } else { mean };
                }
            });
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, g) = (cx.x(0), cx.g());
        let shape = cx.tape().shape(x);
        cx.send(0, GlobalSpread { shape }, &[g])
    }
}

/// (N, C) -> (N, H, W, C), every pixel g / (H W): the transpose of [`GlobalAvgPool`]
#[derive(Clone, Copy, Debug)]
pub struct GlobalSpread {
    pub shape: Shape,
}
impl Op for GlobalSpread {
    fn name(&self) -> &'static str {
        "global_spread"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let [n, _, _, c] = dims(self.name(), self.shape)?;
        transposed(self.name(), Shape::from([n, c]), ins, self.shape)
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, self.shape, 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::global_spread(&cuda, ins[0], out);
        }
        let ([_, h, w, c], add) = (image(self.shape), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let (g, y) = (ins[0].as_slice::<R>(), out.value.make_mut::<R>());
            let scale = R::of(1.0 / (h * w) as f64);
            y.par_chunks_mut(h * w * c).zip(g.par_chunks(c)).for_each(|(y, g)| {
                for pixel in y.chunks_exact_mut(c) {
                    pixel.iter_mut().zip(g).for_each(|(y, &g)| *y = if add { *y + g * scale } else { g * scale });
                }
            });
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let g = cx.g();
        cx.send(0, GlobalAvgPool, &[g])
    }
}
