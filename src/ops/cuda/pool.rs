//! Pooling. Kernels: kernels/pool.cu.

use super::window::{ImageWindow, extents, shares};
use super::{flat, int, kernel};
use crate::device::cuda::{Argument, Cuda, THREADS};
use crate::error::Result;
use crate::ops::window::Window;
use crate::tape::Out;
use crate::tensor::{Shape, Tensor};

/// Channels of a block of a mean over whole images, at the most.
const MOST_CHANNELS: usize = 64;

/// The kernel of this name with four channels a thread, or with one if they cannot be divided so.
macro_rules! choose {
    ($out:expr, $four:literal, $single:literal) => {
        match wide($out.value.shape()) {
            4 => kernel!($out.value.dtype(), $four),
            _ => kernel!($out.value.dtype(), $single),
        }
    };
}

fn wide(image: &Shape) -> usize {
    if extents(image)[3].is_multiple_of(4) { 4 } else { 1 }
}

/// `kernel(addresses .., geometry, accumulate)`, a thread some channels of a pixel of the result.
fn launch(
    cuda: &Cuda,
    kernel: &'static str,
    ins: &[&Tensor],
    geometry: ImageWindow,
    out: &Out,
) -> Result<()> {
    let addresses: Vec<u64> = ins.iter().map(|x| x.address()).chain([out.value.address()]).collect();
    let mut arguments: Vec<&dyn Argument> = addresses.iter().map(|a| a as &dyn Argument).collect();
    let accumulate = i32::from(out.accumulate);
    arguments.extend([&geometry as &dyn Argument, &accumulate]);
    cuda.launch_flat(kernel, out.value.count() / wide(out.value.shape()), &arguments)
}

/// x -> maximum under the window; saves the taps
pub fn max(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let kernel = choose!(out, "max_pool", "max_pool_single")?;
    let geometry = ImageWindow::new(window, ins[0].shape(), out.value.shape());
    let [x, y, taps] = [ins[0].address(), out.value.address(), out.saved[0].address()];
    let accumulate = i32::from(out.accumulate);
    let threads = out.value.count() / wide(out.value.shape());
    cuda.launch_flat(kernel, threads, &[&x, &y, &taps, &geometry, &accumulate])
}

/// (x, taps) -> x at the taps
pub fn max_gather(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let geometry = ImageWindow::new(window, ins[0].shape(), out.value.shape());
    launch(cuda, choose!(out, "max_gather", "max_gather_single")?, ins, geometry, out)
}

/// (dy, taps) -> dx
pub fn max_scatter(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let geometry = ImageWindow::new(window, out.value.shape(), ins[0].shape());
    launch(cuda, choose!(out, "max_scatter", "max_scatter_single")?, ins, geometry, out)
}

/// x -> mean of the taps inside the image
pub fn avg(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let geometry = ImageWindow::new(window, ins[0].shape(), out.value.shape());
    launch(cuda, choose!(out, "avg_pool", "avg_pool_single")?, ins, geometry, out)
}

/// dy -> dx
pub fn avg_grad(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let geometry = ImageWindow::new(window, out.value.shape(), ins[0].shape());
    launch(cuda, choose!(out, "avg_pool_grad", "avg_pool_grad_single")?, ins, geometry, out)
}

/// x -> mean over the pixels
pub fn global_avg(cuda: &Cuda, x: &Tensor, out: &mut Out) -> Result<()> {
    let [n, h, w, c] = extents(x.shape());
    let [channels, blocks] = shares(c, MOST_CHANNELS);
    let kernel = kernel!(out.value.dtype(), "global_avg_pool")?;
    let [x, y] = [x.address(), out.value.address()];
    let accumulate = i32::from(out.accumulate);
    let threads = THREADS / channels * channels;
    let arguments: [&dyn Argument; 6] = [&x, &y, &int(h * w), &int(c), &int(channels), &accumulate];
    cuda.launch(kernel, [n, blocks, 1], threads, 0, &arguments)
}

/// dy -> dx
pub fn global_spread(cuda: &Cuda, dy: &Tensor, out: &mut Out) -> Result<()> {
    let [_, h, w, c] = extents(out.value.shape());
    flat(cuda, kernel!(out.value.dtype(), "global_spread")?, &[dy], out, &[&int(h * w), &int(c)])
}
