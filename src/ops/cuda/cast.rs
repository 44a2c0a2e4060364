//! Conversion between `F32` and `BF16`. Kernels: kernels/cast.cu.

use super::{flat, kernel, pointwise, unsupported};
use crate::device::cuda::Cuda;
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// y = x, rounded to y's type
pub fn cast(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    match (x[0].dtype(), out.value.dtype()) {
        (from, to) if from == to => pointwise::copy(cuda, x, out),
        (DType::F32 | DType::BF16, to) => flat(cuda, kernel!(to, "cast")?, x, out, &[]),
        (other, _) => Err(unsupported("cast", other)),
    }
}
