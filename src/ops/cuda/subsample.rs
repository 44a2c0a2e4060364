//! Strided slices of images and their transpose. Kernels: kernels/subsample.cu.

use super::{int, kernel};
use crate::device::cuda::Cuda;
use crate::error::Result;
use crate::ops::subsample::Phase;
use crate::tape::Out;
use crate::tensor::Tensor;
use bytemuck::NoUninit;

/// Extents of the large and the small image, and the slice.
#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct Slice {
    large: [i32; 2],
    small: [i32; 2],
    channels: i32,
    stride: i32,
    offset: i32,
}

impl Slice {
    fn new(phase: Phase, large: &Tensor, small: &Tensor) -> Self {
        let [[_, hl, wl, c], [_, hs, ws, _]] =
            [large, small].map(|t| t.shape().nhwc().unwrap_or([1; 4]).map(int));
        let [stride, offset] = [phase.stride, phase.offset].map(int);
        Self { large: [hl, wl], small: [hs, ws], channels: c, stride, offset }
    }
}

/// y = the slice of `x`
pub fn subsample(cuda: &Cuda, phase: Phase, x: &Tensor, out: &mut Out) -> Result<()> {
    let slice = Slice::new(phase, x, out.value);
    run(cuda, kernel!(out.value.dtype(), "subsample")?, slice, x, out)
}

/// y = `g` at the slice, 0 elsewhere
pub fn gradient(cuda: &Cuda, phase: Phase, g: &Tensor, out: &mut Out) -> Result<()> {
    let slice = Slice::new(phase, out.value, g);
    run(cuda, kernel!(out.value.dtype(), "subsample_grad")?, slice, g, out)
}

fn run(cuda: &Cuda, kernel: &'static str, slice: Slice, x: &Tensor, out: &mut Out) -> Result<()> {
    let n = out.value.count();
    let (x, y, accumulate) = (x.address(), out.value.address(), i32::from(out.accumulate));
    cuda.launch_flat(kernel, n, &[&x, &y, &slice, &int(n), &accumulate])
}
