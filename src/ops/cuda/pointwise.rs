//! Elementwise operations. Kernels: kernels/pointwise.cu.

use super::{flat, int, kernel};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// `name(x .., y, n, accumulate)`; the kernel is of y's type.
macro_rules! elementwise {
    ($($op:ident $name:literal),*) => {
        $(pub fn $op(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
            flat(cuda, kernel!(out.value.dtype(), $name)?, x, out, &[])
        })*
    };
}
elementwise!(copy "copy", add "add", sub "sub", mul "mul", relu "relu", relu_grad "relu_grad");

/// y = c x
pub fn scale(cuda: &Cuda, x: &Tensor, c: f64, out: &mut Out) -> Result<()> {
    flat(cuda, kernel!(out.value.dtype(), "scale")?, &[x], out, &[&(c as f32)])
}

/// y = s x
pub fn scale_by(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    flat(cuda, kernel!(out.value.dtype(), "scale_by")?, x, out, &[])
}

/// Elements of one partial sum.
const SPAN: usize = 1 << 12;

/// y = sum a b: partial sums of `SPAN` elements each, then those in order.
pub fn dot(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    let count = x[0].count();
    let parts = count.div_ceil(SPAN).max(1);
    let partial = x[0].alike([parts], DType::F64)?;
    let kernel = kernel!(x[0].dtype(), "dot_parts")?;
    let arguments: [u64; 3] = [x[0].address(), x[1].address(), partial.address()];
    let [a, b, p] = &arguments;
    cuda.launch(kernel, [parts, 1, 1], THREADS, 0, &[a, b, p, &int(count), &int(SPAN)])?;
    let y = out.value.address();
    cuda.launch("dot_total_f32", [1, 1, 1], THREADS, 0, &[p, &y, &int(parts), &i32::from(out.accumulate)])
}
