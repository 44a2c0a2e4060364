//! One factor an image, and inner products of images. Kernels: kernels/image_scale.cu.

use super::{flat, images, int, kernel, single};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::Tensor;

/// y_n = s_n x_n
pub fn scale(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    single("image_scale", &ins[1..])?;
    let size = int(out.value.count() / ins[1].count().max(1));
    flat(cuda, kernel!(out.value.dtype(), "image_scale")?, ins, out, &[&size])
}

/// y_n = sum a_n b_n
pub fn dot(cuda: &Cuda, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    images("image_dot", ins)?;
    let n = out.value.count();
    let size = int(ins[0].count() / n.max(1));
    let [a, b, y] = [ins[0], ins[1], &*out.value].map(Tensor::address);
    let kernel = kernel!(ins[0].dtype(), "image_dot")?;
    cuda.launch(kernel, [n, 1, 1], THREADS, 0, &[&a, &b, &y, &size, &i32::from(out.accumulate)])
}
