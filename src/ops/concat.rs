//! Joining tensors along the channels, and the pieces of the joined one.

use super::cuda::concat as twin;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback};
use crate::tensor::{Real, Shape, Tensor};
use rayon::prelude::*;

fn outer(s: Shape) -> Vec<usize> {
    s.dims()[..s.rank() - 1].to_vec()
}

fn with_last(s: Shape, last: usize) -> Shape {
    let mut dims = s.dims().to_vec();
    dims[s.rank() - 1] = last;
    Shape::from(&dims[..])
}

/// Pixels of one work item.
const PIXELS: usize = 512;

/// Writes `n` of `from`'s `cf` channels, from `f` on, over or onto `to`'s `ct`, from `t` on.
#[allow(clippy::too_many_arguments)] // two places, each start and pitch
fn copy<R: Real>(from: &[R], f: usize, cf: usize, to: &mut [R], t: usize, ct: usize, n: usize, add: bool) {
    to.par_chunks_mut(PIXELS * ct).zip(from.par_chunks(PIXELS * cf)).for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(ct).zip(from.chunks_exact(cf)) {
            let (to, from) = (&mut to[t..t + n], &from[f..f + n]);
            match add {
                true => to.iter_mut().zip(from).for_each(|(t, &f)| *t += f),
                false => to.copy_from_slice(from),
            }
        }
    });
}

/// (x_0, x_1, ...) -> their channels, one after the other
#[derive(Clone, Copy, Debug)]
pub struct Concat;
impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins.iter().any(|s| s.rank() == 0 || outer(*s) != outer(ins[0])) {
            return Err(Error::shape(self.name(), format!("inputs differ in more than channels: {ins:?}")));
        }
        Ok(with_last(ins[0], ins.iter().map(Shape::last).sum()))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, self.shape(ins).unwrap_or(ins[0]), 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::concat(&cuda, ins, out);
        }
        let (ct, add) = (out.value.shape().last(), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let to = out.value.make_mut::<R>();
            let mut start = 0;
            for x in ins {
                let c = x.shape().last();
                copy(x.as_slice::<R>(), 0, c, to, start, ct, c, add);
                start += c;
            }
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (xs, g) = (cx.xs(), cx.g());
        let mut start = 0;
        for (k, x) in xs.into_iter().enumerate() {
            let count = cx.tape().shape(x).last();
            cx.send(k, ChannelSlice { start, count }, &[g])?;
            start += count;
        }
        Ok(())
    }
}

/// x -> `count` of its channels from `start` on
#[derive(Clone, Copy, Debug)]
pub struct ChannelSlice {
    pub start: usize,
    pub count: usize,
}
impl Op for ChannelSlice {
    fn name(&self) -> &'static str {
        "channel_slice"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins[0].rank() == 0 || self.start + self.count > ins[0].last() || self.count == 0 {
            return Err(Error::shape(self.name(), format!("{self:?} of {}", ins[0])));
        }
        Ok(with_last(ins[0], self.count))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        let out = with_last(ins[0], self.count);
        Cost::pointwise(&[out], out, 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::slice(&cuda, ins[0], self.start, self.count, out);
        }
        let (c, add) = (ins[0].shape().last(), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let to = out.value.make_mut::<R>();
            copy(ins[0].as_slice::<R>(), self.start, c, to, 0, self.count, self.count, add);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, g) = (cx.x(0), cx.g());
        let channels = cx.tape().shape(x).last();
        cx.send(0, ChannelPlace { start: self.start, channels }, &[g])
    }
}

/// x -> a tensor of `channels` channels that holds x from `start` on and is 0 elsewhere
#[derive(Clone, Copy, Debug)]
pub struct ChannelPlace {
    pub start: usize,
    pub channels: usize,
}
impl Op for ChannelPlace {
    fn name(&self) -> &'static str {
        "channel_place"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        if ins[0].rank() == 0 || self.start + ins[0].last() > self.channels {
            return Err(Error::shape(self.name(), format!("{self:?} of {}", ins[0])));
        }
        Ok(with_last(ins[0], self.channels))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(ins, with_last(ins[0], self.channels), 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::place(&cuda, ins[0], self.start, out);
        }
        let (c, add) = (ins[0].shape().last(), out.accumulate);
        on_real!(out.value.dtype(), R => {
            let to = out.value.make_mut::<R>();
            if !add {
                to.fill(R::ZERO);
            }
            copy(ins[0].as_slice::<R>(), 0, c, to, self.start, self.channels, c, add);
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, g) = (cx.x(0), cx.g());
        let count = cx.tape().shape(x).last();
        cx.send(0, ChannelSlice { start: self.start, count }, &[g])
    }
}
