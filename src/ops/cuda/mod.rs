//! CUDA twins of the operations: they choose kernels and launch them. The kernels are in `kernels/`, under the same
//! names.
//!
//! Images are `F32` or `BF16`; parameters, their gradients and statistics are `F32`. Every sum has one order, so the
//! same inputs give the same bits every time.

pub mod batch_norm;
pub mod cast;
pub mod cell;
pub mod channel;
pub mod concat;
pub mod conv;
pub mod cross_entropy;
pub mod depthwise;
pub mod image_scale;
pub mod matmul;
mod parts;
pub mod pointwise;
pub mod pool;
pub mod preprocess;
pub mod softmax;
pub mod subsample;
mod walk;
pub mod weighted_sum;
mod window;

use crate::device::cuda::{Argument, Cuda};
use crate::error::{Error, Result};
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// The kernel of this name for images of type `$dtype`.
macro_rules! kernel {
    ($dtype:expr, $name:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => Ok(concat!($name, "_f32")),
            $crate::tensor::DType::BF16 => Ok(concat!($name, "_bf16")),
            other => Err($crate::ops::cuda::unsupported($name, other)),
        }
    };
}
pub(crate) use kernel;

/// What a device says to numbers that it has no kernels for.
pub(crate) fn unsupported(op: &str, dtype: DType) -> Error {
    Error::device(format!(
        "{op} has no kernel for {dtype:?}; a device computes in F32 and BF16, the CPU in all"
    ))
}

/// Fails unless all images are of one type.
fn images(op: &str, x: &[&Tensor]) -> Result<()> {
    match x.iter().find(|other| other.dtype() != x[0].dtype()) {
        Some(other) => Err(Error::device(format!("{op} of both {:?} and {:?}", x[0].dtype(), other.dtype()))),
        None => Ok(()),
    }
}

/// Fails unless all are `F32`: parameters and statistics, and what has no kernel for other types.
fn single(op: &str, x: &[&Tensor]) -> Result<()> {
    match x.iter().find(|x| x.dtype() != DType::F32) {
        Some(x) => Err(unsupported(op, x.dtype())),
        None => Ok(()),
    }
}

/// Element count and flags as kernels take them.
fn int(count: usize) -> i32 {
    debug_assert!(count <= i32::MAX as usize, "{count} elements");
    count as i32
}

/// `kernel(inputs .., result, extra .., count, accumulate)`, a thread an element of the result.
fn flat(
    cuda: &Cuda,
    kernel: &'static str,
    ins: &[&Tensor],
    out: &Out,
    extra: &[&dyn Argument],
) -> Result<()> {
    let addresses: Vec<u64> = ins.iter().map(|x| x.address()).chain([out.value.address()]).collect();
    let count = out.value.count();
    let (n, accumulate) = (int(count), i32::from(out.accumulate));
    let mut arguments: Vec<&dyn Argument> = addresses.iter().map(|a| a as &dyn Argument).collect();
    arguments.extend(extra);
    arguments.extend([&n as &dyn Argument, &accumulate]);
    cuda.launch_flat(kernel, count, &arguments)
}
