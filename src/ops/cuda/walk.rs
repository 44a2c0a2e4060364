//! How kernels share out images whose channels are innermost. Twin of kernels/channels.cuh.

use super::int;
use crate::device::cuda::THREADS;
use crate::tensor::{DType, Tensor};
use bytemuck::NoUninit;

/// Blocks of an elementwise kernel, about: a few waves of the largest device.
const BLOCKS: usize = 512;
/// Partial sums of a channel, at the most: what one block adds up in the end.
const PARTS: usize = 256;

/// Whether kernels may read four neighbours of each of `tensors` at once wherever they start at a multiple of four.
pub(super) fn aligned(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.address().is_multiple_of(4 * t.dtype().size() as u64))
}

/// A walk over images of `pixels` times `channels`, as kernels take it.
#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
pub(super) struct Walk {
    pixels: i32,
    channels: i32,
    span: i32,
    lanes: i32,
    vectors: i32,
}

impl Walk {
    /// Over images of one shape, for a kernel that writes elements.
    pub fn elements(images: &[&Tensor]) -> Self {
        Self::new(images, aligned(images), |pixels, rows| pixels.div_ceil(BLOCKS).next_multiple_of(rows))
    }
    /// The same without vectors.
    pub fn single_elements(image: &Tensor) -> Self {
        Self::new(&[image], false, |pixels, rows| pixels.div_ceil(BLOCKS).next_multiple_of(rows))
    }
    /// Over images of one shape, for a kernel that sums channels. Depends on sizes only, so that sums do, too.
    pub fn sums(images: &[&Tensor]) -> Self {
        Self::new(images, aligned(images), |pixels, rows| {
            pixels.div_ceil(PARTS).next_multiple_of(rows).max(2 * rows)
        })
    }
    fn new(images: &[&Tensor], aligned: bool, span: impl Fn(usize, usize) -> usize) -> Self {
        let channels = images[0].shape().last();
        let pixels = images[0].count() / channels;
        let vectors = aligned && channels.is_multiple_of(4);
        let lanes = (channels / if vectors { 4 } else { 1 }).min(THREADS);
        let span = span(pixels.max(1), THREADS / lanes);
        Self {
            pixels: int(pixels),
            channels: int(channels),
            span: int(span),
            lanes: int(lanes),
            vectors: vectors.into(),
        }
    }
    pub fn pixels(&self) -> i32 {
        self.pixels
    }
    pub fn span(&self) -> i32 {
        self.span
    }
    pub fn channels(&self) -> usize {
        self.channels as usize
    }
    /// Blocks along the pixels: partial sums of each channel.
    pub fn parts(&self) -> usize {
        self.pixels.div_euclid(self.span) as usize + usize::from(self.pixels % self.span != 0)
    }
    pub fn blocks(&self) -> [usize; 3] {
        let width = if self.vectors == 1 { 4 } else { 1 };
        [self.parts(), self.channels().div_ceil(self.lanes as usize * width), 1]
    }
    pub fn threads(&self) -> usize {
        let lanes = self.lanes as usize;
        THREADS / lanes * lanes
    }
    /// Room for `kinds` partial sums of each channel in each block, where `like` is.
    pub fn room(&self, like: &Tensor, kinds: usize) -> crate::Result<Tensor> {
        like.alike([self.parts(), kinds, self.channels()], DType::F32)
    }
}
