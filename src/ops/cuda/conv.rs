//! Dense convolution and its gradients. Kernels: kernels/conv.cu.

use super::parts::{self, BUSY, spans};
use super::window::{ImageWindow, extents};
use super::{int, kernel};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::ops::window::Window;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};

/// Pixels that a block sums a weight's gradient over, at the least.
const LEAST_PIXELS: usize = 64;

/// Pixels and targets of a block: as narrow as the result, and small where large ones would be few.
fn tile(pixels: usize, targets: usize) -> [usize; 2] {
    match targets {
        0..=16 => [128, 16],
        17..=32 => [128, 32],
        _ if pixels.div_ceil(128) * targets.div_ceil(64) < BUSY / 2 => [32, 64],
        _ => [128, 64],
    }
}

/// (x, w) -> y
pub fn forward(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let [n, h, w, targets] = extents(out.value.shape());
    let tile = tile(n * h * w, targets);
    let kernel = match tile {
        [_, 16] => kernel!(out.value.dtype(), "conv_128x16"),
        [_, 32] => kernel!(out.value.dtype(), "conv_128x32"),
        [32, _] => kernel!(out.value.dtype(), "conv_32x64"),
        _ => kernel!(out.value.dtype(), "conv_128x64"),
    };
    let geometry = ImageWindow::new(window, ins[0].shape(), out.value.shape());
    product(cuda, kernel?, tile, geometry, ins, out)
}

/// (dy, w) -> dx
pub fn input(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let [n, h, w, targets] = extents(out.value.shape());
    let tile = tile(n * h * w, targets);
    let kernel = match tile {
        [_, 16] => kernel!(out.value.dtype(), "conv_input_128x16"),
        [_, 32] => kernel!(out.value.dtype(), "conv_input_128x32"),
        [32, _] => kernel!(out.value.dtype(), "conv_input_32x64"),
        _ => kernel!(out.value.dtype(), "conv_input_128x64"),
    };
    let geometry = ImageWindow::new(window, out.value.shape(), ins[0].shape());
    product(cuda, kernel?, tile, geometry, ins, out)
}

fn product(
    cuda: &Cuda,
    kernel: &'static str,
    tile: [usize; 2],
    geometry: ImageWindow,
    ins: &[&Tensor],
    out: &mut Out,
) -> Result<()> {
    let [n, h, w, targets] = extents(out.value.shape());
    let grid = [(n * h * w).div_ceil(tile[0]), targets.div_ceil(tile[1]), 1];
    let [x, by, y] = [ins[0].address(), ins[1].address(), out.value.address()];
    cuda.launch(kernel, grid, THREADS, 0, &[&x, &by, &y, &geometry, &i32::from(out.accumulate)])
}

/// (x, dy) -> dw: partial sums over spans of pixels, then those in order.
pub fn weight(cuda: &Cuda, window: &Window, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let [n, h, w, outputs] = extents(ins[1].shape());
    let depth = window.taps() * extents(ins[0].shape())[3];
    let dtype = ins[0].dtype();
    let (name, tile) = match outputs {
        0..=16 => (kernel!(dtype, "conv_weight_16x64")?, [16, 64]),
        17..=32 => (kernel!(dtype, "conv_weight_32x64")?, [32, 64]),
        _ if depth <= 32 => (kernel!(dtype, "conv_weight_64x32")?, [64, 32]),
        _ => (kernel!(dtype, "conv_weight_64x64")?, [64, 64]),
    };
    let tiles = [outputs.div_ceil(tile[0]), depth.div_ceil(tile[1])];
    let [span, count] = spans(n * h * w, tiles[0] * tiles[1], LEAST_PIXELS);
    let partial = ins[0].alike([count, out.value.count()], DType::F32)?;
    let [x, dy, p] = [ins[0].address(), ins[1].address(), partial.address()];
    let geometry = ImageWindow::new(window, ins[0].shape(), ins[1].shape());
    let grid = [count, tiles[0], tiles[1]];
    cuda.launch(name, grid, THREADS, 0, &[&x, &dy, &p, &geometry, &int(span)])?;
    parts::total(cuda, &partial, out)
}
