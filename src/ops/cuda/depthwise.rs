//! Depthwise convolution and its gradients. Kernels: kernels/depthwise.cu.

use super::parts::{self, spans};
use super::window::{ImageWindow, extents, shares};
use super::{int, kernel};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::ops::window::Window;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// Channels of a block, at the most.
const MOST_CHANNELS: usize = 64;
/// Pixels of a thread.
const PIXELS: usize = 2;
/// Pixels that a thread sums a weight's gradient over, at the least, so that the sum over the block is a small part.
const LEAST_PIXELS: usize = 8;

/// The kernel for a window and images of `channels` channels, four of which a thread takes if they can be divided so.
macro_rules! choose {
    ($dtype:expr, $channels:expr, $window:expr, $three:literal $five:literal $seven:literal $any:literal $single:literal) => {
        match $window.kernel {
            _ if $channels % 4 != 0 => kernel!($dtype, $single),
            [3, 3] => kernel!($dtype, $three),
            [5, 5] => kernel!($dtype, $five),
            [7, 7] => kernel!($dtype, $seven),
            _ => kernel!($dtype, $any),
        }
    };
}

/// (x, w) -> y
pub fn forward(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let channels = extents(out.value.shape())[3];
    let kernel = choose!(out.value.dtype(), channels, window,
        "depthwise_3" "depthwise_5" "depthwise_7" "depthwise_any" "depthwise_single")?;
    let geometry = ImageWindow::new(window, ins[0].shape(), out.value.shape());
    slide(cuda, kernel, geometry, ins, out)
}

/// (dy, w) -> dx
pub fn input(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let channels = extents(out.value.shape())[3];
    let kernel = choose!(out.value.dtype(), channels, window,
        "depthwise_input_3" "depthwise_input_5" "depthwise_input_7" "depthwise_input_any" "depthwise_input_single")?;
    let geometry = ImageWindow::new(window, out.value.shape(), ins[0].shape());
    slide(cuda, kernel, geometry, ins, out)
}

fn slide(cuda: &Cuda, kernel: &'static str, g: ImageWindow, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let [n, h, w, channels] = extents(out.value.shape());
    let wide = if channels.is_multiple_of(4) { 4 } else { 1 };
    let [groups, blocks] = shares(channels / wide, MOST_CHANNELS / wide);
    let rows = THREADS / groups;
    let [x, by, y] = [ins[0].address(), ins[1].address(), out.value.address()];
    let grid = [(n * h * w).div_ceil(rows * PIXELS), blocks, 1];
    let accumulate = i32::from(out.accumulate);
    cuda.launch(kernel, grid, rows * groups, 0, &[&x, &by, &y, &g, &int(groups), &accumulate])
}

/// (x, dy) -> dw: partial sums over spans of pixels, then those in order.
pub fn weight(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let [n, h, w, all] = extents(ins[1].shape());
    let (name, taps) = match window.kernel {
        [3, 3] => (kernel!(ins[0].dtype(), "depthwise_weight_3")?, 1),
        [5, 5] => (kernel!(ins[0].dtype(), "depthwise_weight_5")?, 1),
        [7, 7] => (kernel!(ins[0].dtype(), "depthwise_weight_7")?, 1),
        _ => (kernel!(ins[0].dtype(), "depthwise_weight_any")?, window.taps()),
    };
    let [channels, blocks] = shares(all, MOST_CHANNELS);
    let lanes = THREADS / channels;
    let [span, count] = spans(n * h * w, blocks * taps, LEAST_PIXELS * lanes);
    let partial = ins[0].alike([count, out.value.count()], DType::F32)?;
    let [x, dy, p] = [ins[0].address(), ins[1].address(), partial.address()];
    let g = ImageWindow::new(window, ins[0].shape(), ins[1].shape());
    let grid = [count, blocks, taps];
    cuda.launch(name, grid, lanes * channels, 0, &[&x, &dy, &p, &g, &int(channels), &int(span)])?;
    parts::total(cuda, &partial, out)
}
