//! Joining along the channels and the pieces of the joined. Kernels: kernels/concat.cu.

use super::walk::aligned;
use super::{images, int, kernel};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::tape::Out;
use crate::tensor::Tensor;
use bytemuck::{Pod, Zeroable};

/// The channels `to` .. `to + count` of the result: the first `count` at `from`, of pixels of `pitch` channels.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Piece {
    from: u64,
    pitch: i32,
    count: i32,
    to: i32,
    reserved: i32,
}

/// Pieces of one launch.
const MOST: usize = 16;

/// The channels of `x`, one after the other
pub fn concat(cuda: &Cuda, x: &[&Tensor], out: &mut Out) -> Result<()> {
    images("concat", x)?;
    let mut to = 0;
    let mut pieces = vec![];
    for x in x {
        let count = int(x.shape().last());
        pieces.push(Piece { from: x.address(), pitch: count, count, to, reserved: 0 });
        to += count;
    }
    pieces.chunks(MOST).try_for_each(|pieces| copy(cuda, pieces, out))
}

/// `count` channels of `x` from `start` on
pub fn slice(cuda: &Cuda, x: &Tensor, start: usize, count: usize, out: &mut Out) -> Result<()> {
    let from = x.address() + (start * x.dtype().size()) as u64;
    let piece = Piece { from, pitch: int(x.shape().last()), count: int(count), to: 0, reserved: 0 };
    copy(cuda, &[piece], out)
}

/// Copies up to [`MOST`] pieces, of the result's type.
fn copy(cuda: &Cuda, pieces: &[Piece], out: &mut Out) -> Result<()> {
    let c = out.value.shape().last();
    let pixels = out.value.count() / c;
    let step = 4 * out.value.dtype().size() as u64;
    let fits = |p: &Piece| {
        p.from.is_multiple_of(step) && [p.pitch, p.count, p.to].iter().all(|n| n.rem_euclid(4) == 0)
    };
    let vectors = aligned(&[out.value]) && c.is_multiple_of(4) && pieces.iter().all(fits);
    let widest = pieces.iter().map(|p| p.count as usize).max().unwrap_or(0);
    let threads = pixels * widest / if vectors { 4 } else { 1 };
    let mut all = [Piece::zeroed(); MOST];
    all[..pieces.len()].copy_from_slice(pieces);
    let kernel = kernel!(out.value.dtype(), "concat")?;
    let (y, accumulate) = (out.value.address(), i32::from(out.accumulate));
    let blocks = [threads.div_ceil(THREADS), pieces.len(), 1];
    cuda.launch(
        kernel,
        blocks,
        THREADS,
        0,
        &[&all, &y, &int(pixels), &int(c), &i32::from(vectors), &accumulate],
    )
}

/// `x` from channel `start` on, and 0 elsewhere
pub fn place(cuda: &Cuda, x: &Tensor, start: usize, out: &mut Out) -> Result<()> {
    let kernel = kernel!(out.value.dtype(), "channel_place")?;
    let n = out.value.count();
    let (from, y, accumulate) = (x.address(), out.value.address(), i32::from(out.accumulate));
    let [c, start, channels] = [x.shape().last(), start, out.value.shape().last()].map(int);
    cuda.launch_flat(kernel, n, &[&from, &y, &c, &start, &channels, &int(n), &accumulate])
}
