//! Strided slice of images: x[:, o::s, o::s, :], and its transpose.

use super::cuda::subsample as twin;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{Real, Shape, Tensor};
use rayon::prelude::*;

/// Every `stride`-th pixel of an axis, starting at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    pub stride: usize,
    pub offset: usize,
}

impl Phase {
    fn of(&self, op: &'static str, x: Shape) -> Result<Shape> {
        let Some([n, h, w, c]) = x.nhwc() else {
            return Err(Error::shape(op, format!("wants images (N, H, W, C), got {x}")));
        };
        if self.stride == 0 || self.offset >= h || self.offset >= w {
            return Err(Error::shape(op, format!("{self:?} leaves nothing of {x}")));
        }
        let taken = |size: usize| (size - self.offset).div_ceil(self.stride);
        Ok(Shape::from([n, taken(h), taken(w), c]))
    }

    /// Calls `f(large pixel, small pixel)` for every pixel that the slice takes, image by image.
    fn pixels<L: Send, S: Send>(
        &self,
        large: impl IndexedParallelIterator<Item = L>,
        small: impl IndexedParallelIterator<Item = S>,
        size: [usize; 4],
        f: impl Fn(&mut L, &mut S, usize, usize) + Sync + Send,
    ) {
        let [_, h, w, c] = size;
        large.zip(small).for_each(|(mut large, mut small)| {
            let mut to = 0;
            for i in (self.offset..h).step_by(self.stride) {
                for j in (self.offset..w).step_by(self.stride) {
                    f(&mut large, &mut small, (i * w + j) * c, to);
                    to += c;
                }
            }
        });
    }
}

/// x -> x[:, offset::stride, offset::stride, :]
#[derive(Clone, Copy, Debug)]
pub struct Subsample(pub Phase);
impl Op for Subsample {
    fn name(&self) -> &'static str {
        "subsample"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        self.0.of(self.name(), ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let out = self.shape(ins).unwrap_or(ins[0]);
        Cost::pointwise(&[out], out, 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::subsample(&cuda, self.0, ins[0], out);
        }
        let (size, add) = (ins[0].shape().nhwc().unwrap_or([1; 4]), out.accumulate);
        let [_, h, w, c] = size;
        let small = out.value.count() / size[0];
        on_real!(out.value.dtype(), R => {
            let from = ins[0].as_slice::<R>().par_chunks(h * w * c);
            let to = out.value.make_mut::<R>().par_chunks_mut(small);
            self.0.pixels(from, to, size, |x, y, i, j| put(&mut y[j..j + c], &x[i..i + c], add));
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, g) = (cx.x(0), cx.g());
        let shape = cx.tape().shape(x);
        cx.send(0, SubsampleGrad { phase: self.0, shape }, &[g])
    }
}

/// g -> an image of the given shape with g at the pixels taken and 0 elsewhere
#[derive(Clone, Copy, Debug)]
pub struct SubsampleGrad {
    pub phase: Phase,
    pub shape: Shape,
}
impl Op for SubsampleGrad {
    fn name(&self) -> &'static str {
        "subsample_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        match self.phase.of(self.name(), self.shape)? {
            s if s == ins[0] => Ok(self.shape),
            s => Err(Error::shape(self.name(), format!("gradient {} of a slice {s}", ins[0]))),
        }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, self.shape, 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::gradient(&cuda, self.phase, ins[0], out);
        }
        let (size, add) = (self.shape.nhwc().unwrap_or([1; 4]), out.accumulate);
        let [_, h, w, c] = size;
        let small = ins[0].count() / size[0];
        on_real!(out.value.dtype(), R => {
            let to = out.value.make_mut::<R>();
            if !add {
                to.par_chunks_mut(h * w * c).for_each(|to| to.fill(R::ZERO));
            }
            let (to, from) = (to.par_chunks_mut(h * w * c), ins[0].as_slice::<R>().par_chunks(small));
            self.phase.pixels(to, from, size, |x, y, i, j| put(&mut x[i..i + c], &y[j..j + c], add));
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let g = cx.g();
        cx.send(0, Subsample(self.phase), &[g])
    }
}

fn put<R: Real>(to: &mut [R], from: &[R], add: bool) {
    match add {
        true => to.iter_mut().zip(from).for_each(|(t, &f)| *t += f),
        false => to.copy_from_slice(from),
    }
}
