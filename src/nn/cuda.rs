//! CUDA twins of optimisers and running statistics. Kernels: kernels/optim.cu.

use super::optim::{Adam, Sgd};
use super::scalar::{Factor, Scalar};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

/// Elements of one partial sum.
const SPAN: usize = 1 << 12;

/// The device of a flat buffer, if it is on one.
pub(super) fn of(flat: &Tensor) -> Result<Option<Arc<Cuda>>> {
    match (flat.cuda(), flat.dtype()) {
        (None, _) => Ok(None),
        (Some(cuda), DType::F32) => Ok(Some(cuda.clone())),
        (Some(_), other) => Err(Error::device(format!("parameters on a device are F32, not {other:?}"))),
    }
}

pub(super) fn global_norm(cuda: &Cuda, g: &Tensor) -> Result<Scalar> {
    let (n, parts) = (g.count(), g.count().div_ceil(SPAN));
    let (partial, norm) = (g.alike([parts], DType::F64)?, g.alike([], DType::F64)?);
    let (g, partial, to) = (g.address(), partial.address(), norm.address());
    cuda.launch("squares_f32", [parts, 1, 1], THREADS, 0, &[&g, &partial, &(n as i32), &(SPAN as i32)])?;
    cuda.launch("norm_f64", [1, 1, 1], THREADS, 0, &[&partial, &to, &(parts as i32)])?;
    Ok(Scalar::Stored(norm))
}

pub(super) fn sgd(
    cuda: &Cuda,
    sgd: &Sgd,
    [w, m, g]: [&Tensor; 3],
    rate: &Scalar,
    norm: &Scalar,
    limit: f64,
) -> Result<()> {
    let (n, [mu, wd]) = (w.count(), [sgd.momentum, sgd.weight_decay].map(|x| x as f32));
    let ([w, m, g], rate, norm) = ([w, m, g].map(Tensor::address), rate.argument(), norm.argument());
    cuda.launch_flat(
        "sgd_f32",
        n,
        &[&w, &m, &g, &rate.0, &rate.1, &norm.0, &norm.1, &limit, &mu, &wd, &(n as i32)],
    )
}

pub(super) fn virtual_step(cuda: &Cuda, sgd: &Sgd, [w, m, g]: [&Tensor; 3], rate: &Scalar) -> Result<Tensor> {
    let to = w.alike(*w.shape(), DType::F32)?;
    let (n, [mu, wd]) = (w.count(), [sgd.momentum, sgd.weight_decay].map(|x| x as f32));
    let ([y, w, m, g], rate) = ([&to, w, m, g].map(Tensor::address), rate.argument());
    cuda.launch_flat("virtual_step_f32", n, &[&y, &w, &m, &g, &rate.0, &rate.1, &mu, &wd, &(n as i32)])?;
    Ok(to)
}

/// `kernel(result, a, b, factor, n)`
pub(super) fn combined(
    cuda: &Cuda,
    kernel: &'static str,
    a: &Tensor,
    b: &Tensor,
    c: &Factor,
) -> Result<Tensor> {
    let to = a.alike(*a.shape(), DType::F32)?;
    let (n, (form, constant, number)) = (a.count(), c.argument());
    let [y, a, b] = [&to, a, b].map(Tensor::address);
    cuda.launch_flat(kernel, n, &[&y, &a, &b, &form, &constant, &number.0, &number.1, &(n as i32)])?;
    Ok(to)
}

pub(super) fn adam(
    cuda: &Cuda,
    adam: &Adam,
    [x, g, first, second]: [&Tensor; 4],
    c: &[Scalar; 2],
) -> Result<()> {
    let n = x.count();
    let [x, g, first, second] = [x, g, first, second].map(Tensor::address);
    let [c1, c2] = [c[0].argument(), c[1].argument()];
    let settings = [adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon, adam.weight_decay];
    cuda.launch_flat(
        "adam_f32",
        n,
        &[&x, &g, &first, &second, &settings, &c1.0, &c1.1, &c2.0, &c2.1, &(n as i32)],
    )
}

/// Moves `norms` running statistics of `c` channels, from element `start` of both buffers on, towards `stats`.
pub(super) fn running_update(
    cuda: &Cuda,
    flat: &[Tensor; 2],
    start: usize,
    stats: &Tensor,
    [norms, c]: [usize; 2],
    [momentum, unbiased]: [f64; 2],
) -> Result<()> {
    let [means, variances] = flat.each_ref().map(|t| t.view(start, [norms * c]).address());
    let stats = stats.address();
    cuda.launch_flat(
        "running_update_f32",
        norms * c,
        &[&means, &variances, &stats, &(norms as i32), &(c as i32), &momentum, &unbiased],
    )
}

/// Rows mean, r and variance of `norms` running statistics, (norms, 3, c).
pub(super) fn running_rows(
    cuda: &Cuda,
    flat: &[Tensor; 2],
    start: usize,
    [norms, c]: [usize; 2],
    epsilon: f64,
) -> Result<Tensor> {
    let rows = flat[0].alike([norms, 3, c], DType::F32)?;
    let [means, variances] = flat.each_ref().map(|t| t.view(start, [norms * c]).address());
    let to = rows.address();
    cuda.launch_flat(
        "running_rows_f32",
        norms * c,
        &[&means, &variances, &to, &(norms as i32), &(c as i32), &epsilon],
    )?;
    Ok(rows)
}
