//! Cross entropy and one-hot rows, of `F32`. Kernels: kernels/cross_entropy.cu.

use super::{int, single};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// (logits, labels) -> mean loss
pub fn cross_entropy(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    single("cross_entropy", &ins[..1])?;
    let (rows, k) = (ins[1].count(), ins[0].shape().last());
    let losses = ins[0].alike([rows], DType::F64)?;
    let [x, labels, between, y] = [ins[0], ins[1], &losses, out.value].map(|t| t.address());
    let (n, accumulate) = (int(rows), i32::from(out.accumulate));
    cuda.launch_flat("cross_entropy_rows_f32", 32 * rows, &[&x, &labels, &between, &n, &int(k)])?;
    cuda.launch("cross_entropy_f32", [1, 1, 1], THREADS, 0, &[&between, &y, &n, &accumulate])
}

/// (logits, labels) -> one-hot rows
pub fn one_hot(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    single("one_hot", &ins[..1])?;
    let (k, n) = (ins[0].shape().last(), out.value.count());
    let [labels, y] = [ins[1], out.value].map(|t| t.address());
    cuda.launch_flat("one_hot_f32", n, &[&labels, &y, &int(k), &int(n), &i32::from(out.accumulate)])
}
