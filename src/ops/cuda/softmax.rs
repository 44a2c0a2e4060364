//! Softmax and its derivatives, of `F32`. Kernels: kernels/softmax.cu.

use super::{int, single};
use crate::device::cuda::{Argument, Cuda};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::Tensor;

/// `name(x .., y, rows, k, accumulate)`, a warp a row
fn rows(cuda: &Cuda, name: &'static str, x: &[&Tensor], out: &mut Out) -> Result<()> {
    single(name, x)?;
    let k = out.value.shape().last();
    let rows = out.value.count() / k;
    let addresses: Vec<u64> = x.iter().map(|x| x.address()).chain([out.value.address()]).collect();
    let sizes = [int(rows), int(k), i32::from(out.accumulate)];
    let arguments = addresses.iter().map(|a| a as &dyn Argument).chain(sizes.iter().map(|n| n as _));
    cuda.launch_flat(name, 32 * rows, &arguments.collect::<Vec<_>>())
}

/// x -> p
pub fn softmax(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    rows(cuda, "softmax_f32", x, out)
}

/// (p, g) -> p (g - <p, g>)
pub fn gradient(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    rows(cuda, "softmax_grad_f32", x, out)
}

/// (p, g, v) -> v (g - <p, g>) - g <p, v>
pub fn second(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    rows(cuda, "softmax_grad_grad_f32", x, out)
}
