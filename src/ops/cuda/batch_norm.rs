//! Batch normalisation. Kernels: kernels/batch_norm.cu.

use super::walk::Walk;
use super::{images, int, kernel, single};
use crate::device::cuda::{Argument, Cuda, THREADS};
use crate::error::Result;
use crate::ops::batch_norm::EPSILON;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// `name(addresses .., walk, extra ..)`
fn walked(
    cuda: &Cuda,
    name: &'static str,
    walk: &Walk,
    tensors: &[&Tensor],
    extra: &[&dyn Argument],
) -> Result<()> {
    let addresses: Vec<u64> = tensors.iter().map(|t| t.address()).collect();
    let mut arguments: Vec<&dyn Argument> = addresses.iter().map(|a| a as &dyn Argument).collect();
    arguments.push(walk);
    arguments.extend(extra);
    cuda.launch(name, walk.blocks(), walk.threads(), 0, &arguments)
}

/// y = z; the statistics go to what is saved.
pub fn forward(cuda: &Cuda, x: &Tensor, out: &mut Out) -> Result<()> {
    statistics(cuda, x, &out.saved[0])?;
    let walk = Walk::elements(&[x, out.value]);
    let kernel = kernel!(x.dtype(), "batch_norm")?;
    walked(cuda, kernel, &walk, &[x, &out.saved[0], out.value], &[&i32::from(out.accumulate)])
}

/// Mean, r and biased variance of `x`, to `stats`.
fn statistics(cuda: &Cuda, x: &Tensor, stats: &Tensor) -> Result<()> {
    let walk = Walk::sums(&[x]);
    let parts = walk.room(x, 3)?;
    walked(cuda, kernel!(x.dtype(), "batch_norm_parts")?, &walk, &[x, &parts], &[])?;
    let [from, to] = [&parts, stats].map(Tensor::address);
    let arguments: [&dyn Argument; 6] =
        [&from, &to, &int(walk.parts()), &walk.pixels(), &walk.span(), &EPSILON];
    cuda.launch("batch_norm_total_f32", [walk.channels(), 1, 1], THREADS, 0, &arguments)
}

/// (g, x, statistics): y = r (g - sum(g)/M - z sum(g z)/M)
pub fn gradient(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    images("batch_norm_grad", &ins[..2])?;
    single("batch_norm_grad", &ins[2..])?;
    let dtype = out.value.dtype();
    let walk = Walk::sums(&ins[..2]);
    let parts = walk.room(ins[0], 2)?;
    let means = ins[0].alike([2, walk.channels()], DType::F32)?;
    walked(cuda, kernel!(dtype, "batch_norm_grad_parts")?, &walk, &[ins[0], ins[1], ins[2], &parts], &[])?;
    let [from, to] = [&parts, &means].map(Tensor::address);
    let arguments: [&dyn Argument; 4] = [&from, &to, &int(walk.parts()), &walk.pixels()];
    cuda.launch("batch_norm_grad_total_f32", [walk.channels(), 1, 1], THREADS, 0, &arguments)?;
    let walk = Walk::elements(&[ins[0], ins[1], out.value]);
    let kernel = kernel!(dtype, "batch_norm_grad")?;
    let tensors = [ins[0], ins[1], ins[2], &means, out.value];
    walked(cuda, kernel, &walk, &tensors, &[&i32::from(out.accumulate)])
}

/// (v, g, x, statistics): the derivative of `gradient` in x, times v
pub fn second(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    images("batch_norm_grad_grad", &ins[..3])?;
    single("batch_norm_grad_grad", &ins[3..])?;
    let dtype = out.value.dtype();
    let walk = Walk::sums(&ins[..3]);
    let parts = walk.room(ins[0], 5)?;
    let factors = ins[0].alike([4, walk.channels()], DType::F32)?;
    let kernel = kernel!(dtype, "batch_norm_grad_grad_parts")?;
    walked(cuda, kernel, &walk, &[ins[0], ins[1], ins[2], ins[3], &parts], &[])?;
    let [from, stats, to] = [&parts, ins[3], &factors].map(Tensor::address);
    let arguments: [&dyn Argument; 5] = [&from, &stats, &to, &int(walk.parts()), &walk.pixels()];
    cuda.launch("batch_norm_grad_grad_total_f32", [walk.channels(), 1, 1], THREADS, 0, &arguments)?;
    let walk = Walk::elements(&[ins[0], ins[1], ins[2], out.value]);
    let kernel = kernel!(dtype, "batch_norm_grad_grad")?;
    let tensors = [ins[0], ins[1], ins[2], ins[3], &factors, out.value];
    walked(cuda, kernel, &walk, &tensors, &[&i32::from(out.accumulate)])
}

/// Rows mean, r and variance, (3, C).
pub fn fixed_statistics(cuda: &Cuda, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
    single("fixed_statistics", &[mean, variance])?;
    let c = mean.count();
    let stats = mean.alike([3, c], DType::F32)?;
    let [m, v, to] = [mean, variance, &stats].map(Tensor::address);
    cuda.launch_flat("fixed_statistics_f32", c, &[&m, &v, &to, &EPSILON, &int(c)])?;
    Ok(stats)
}

/// (x, mean, variance): y = (x - mean) r
pub fn normalise(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let stats = fixed_statistics(cuda, ins[1], ins[2])?;
    let walk = Walk::elements(&[ins[0], out.value]);
    let kernel = kernel!(out.value.dtype(), "batch_norm")?;
    walked(cuda, kernel, &walk, &[ins[0], &stats, out.value], &[&i32::from(out.accumulate)])
}

/// (g, variance): y = g r
pub fn normalise_gradient(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let stats = fixed_statistics(cuda, ins[1], ins[1])?; // of which r counts
    let walk = Walk::elements(&[ins[0], out.value]);
    let kernel = kernel!(out.value.dtype(), "normalise_grad")?;
    walked(cuda, kernel, &walk, &[ins[0], &stats, out.value], &[&i32::from(out.accumulate)])
}
