//! Images and one number a channel. Kernels: kernels/channel.cu.

use super::walk::Walk;
use super::{images, int, kernel, single};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::Tensor;

/// Runs `name(x, c, y, walk, accumulate)`.
fn with_channels(cuda: &Cuda, name: &'static str, x: &[&Tensor], out: &mut Out) -> Result<()> {
    single(name, &x[1..])?;
    let walk = Walk::elements(&[x[0], out.value]);
    let [image, c, y] = [x[0], x[1], out.value].map(|t| t.address());
    let accumulate = i32::from(out.accumulate);
    cuda.launch(name, walk.blocks(), walk.threads(), 0, &[&image, &c, &y, &walk, &accumulate])
}

/// y = c x
pub fn scale(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    with_channels(cuda, kernel!(x[0].dtype(), "channel_scale")?, x, out)
}

/// y = x + c
pub fn shift(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    with_channels(cuda, kernel!(x[0].dtype(), "channel_shift")?, x, out)
}

/// y = c at every pixel
pub fn broadcast(cuda: &Cuda, c: &Tensor, out: &mut Out) -> Result<()> {
    images("channel_broadcast", &[c, out.value])?;
    let walk = Walk::single_elements(out.value);
    let kernel = kernel!(out.value.dtype(), "channel_broadcast")?;
    let (c, y, accumulate) = (c.address(), out.value.address(), i32::from(out.accumulate));
    cuda.launch(kernel, walk.blocks(), walk.threads(), 0, &[&c, &y, &walk, &accumulate])
}

/// y = sum a b over all but the channels
pub fn dot(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    images("channel_dot", x)?;
    let walk = Walk::sums(x);
    let parts = walk.room(x[0], 1)?;
    let kernel = kernel!(x[0].dtype(), "channel_dot_parts")?;
    let [a, b, to] = [x[0], x[1], &parts].map(|t| t.address());
    cuda.launch(kernel, walk.blocks(), walk.threads(), 0, &[&a, &b, &to, &walk])?;
    total(cuda, &walk, &parts, out)
}

/// y = sum over all but the channels
pub fn sum(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    let walk = Walk::sums(x);
    let parts = walk.room(x[0], 1)?;
    let kernel = kernel!(x[0].dtype(), "channel_sum_parts")?;
    let [x, to] = [x[0], &parts].map(|t| t.address());
    cuda.launch(kernel, walk.blocks(), walk.threads(), 0, &[&x, &to, &walk])?;
    total(cuda, &walk, &parts, out)
}

fn total(cuda: &Cuda, walk: &Walk, parts: &Tensor, out: &mut Out) -> Result<()> {
    let (from, y, accumulate) = (parts.address(), out.value.address(), i32::from(out.accumulate));
    let blocks = [walk.channels(), 1, 1];
    cuda.launch("channel_total_f32", blocks, THREADS, 0, &[&from, &y, &int(walk.parts()), &accumulate])
}
