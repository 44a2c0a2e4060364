//! One factor an image: y_n = s_n x_n, and the inner product of each image that undoes it.
//!
//! Drop path (arXiv 1605.07648) is this with factors 0 and 1 / keep.

use super::cuda::image_scale as twin;
use super::elementwise::map_rows;
use super::pointwise::same;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{DType, Real, Shape, Tensor};
use rayon::prelude::*;

/// (x (N, ..), s (N)) -> s_n x_n
#[derive(Clone, Copy, Debug)]
pub struct ImageScale;
impl Op for ImageScale {
    fn name(&self) -> &'static str {
        "image_scale"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        match (ins[0].dims(), ins[1].dims()) {
            ([n, ..], [factors]) if n == factors => Ok(ins[0]),
            _ => Err(Error::shape(
                self.name(),
                format!("{} does not give one factor an image of {}", ins[1], ins[0]),
            )),
        }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, ins[0], 1)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::scale(&cuda, ins, out);
        }
        on_real!(out.value.dtype(), R => map_rows::<R>(ins[0], ins[1], out, |x, s| s * x));
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, s, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, Self, &[g, s])?;
        cx.send(1, ImageDot, &[x, g])
    }
}

/// (a (N, ..), b (N, ..)) -> sum a_n b_n of each image, (N)
#[derive(Clone, Copy, Debug)]
pub struct ImageDot;
impl Op for ImageDot {
    fn name(&self) -> &'static str {
        "image_dot"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        match same(self.name(), ins)?.dims() {
            [n, ..] => Ok(Shape::from([*n])),
            [] => Err(Error::shape(self.name(), "wants images, not one number")),
        }
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[0].exact()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let n = ins[0].dims().first().copied().unwrap_or(1);
        Cost { flops: 2 * ins[0].count() as u64, ..Cost::pointwise(ins, Shape::from([n]), 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::dot(&cuda, ins, out);
        }
        let (size, add) = (ins[0].count() / out.value.count().max(1), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let images = ins[0].as_slice::<R>().par_chunks(size.max(1)).zip(ins[1].as_slice::<R>().par_chunks(size.max(1)));
            out.value.make_mut::<R>().par_iter_mut().zip(images).for_each(|(y, (a, b))| {
                let sum = R::narrow(a.iter().zip(b).map(|(a, b)| a.wide() * b.wide()).sum());
                *y = if add { *y + sum } else { sum };
            });
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (a, b, g) = (cx.x(0), cx.x(1), cx.g());
        cx.send(0, ImageScale, &[b, g])?;
        cx.send(1, ImageScale, &[a, g])
    }
}
