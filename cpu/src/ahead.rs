//! What the next piece of work reads and writes, fetched while this one computes.
//!
//! A core has few fetches under way at a time, so asking for much at once only moves the wait, and during products its
//! memory rests. So the fetches are spread over the rows and tiles of what is computed now.

use crate::simd::prefetch;
use smallvec::SmallVec;
use std::ops::Range;

/// Pixels one after the other, in bytes: the first, from one to the next, and of one. They need not exist.
#[derive(Clone, Copy)]
pub struct Stream {
    from: *const u8,
    step: usize,
    width: usize,
}

impl Stream {
    /// Of `width` elements each, so many from one to the next.
    pub fn new<R>((from, step): (*const R, usize), width: usize) -> Self {
        Self { from: from.cast(), step: step * size_of::<R>(), width: width * size_of::<R>() }
    }
    /// Asks for some of its pixels.
    #[inline(always)]
    fn fetch(&self, pixels: Range<usize>) {
        if self.step == self.width {
            prefetch(self.from.wrapping_add(pixels.start * self.step), pixels.len() * self.step);
        } else {
            pixels.for_each(|p| prefetch(self.from.wrapping_add(p * self.step), self.width));
        }
    }
}

/// As many as a state of the published space has.
pub type Streams = SmallVec<[Stream; 32]>;

/// Streams of as many pixels each, to be fetched a share at a time.
pub struct Ahead {
    streams: Streams,
    pixels: usize,
    /// Pixels of a share, and those asked for.
    share: usize,
    at: usize,
}

impl Ahead {
    /// So many pixels of `streams`, in so many shares.
    pub fn new(streams: impl IntoIterator<Item = Stream>, pixels: usize, shares: usize) -> Self {
        let streams = streams.into_iter().collect();
        Self { streams, pixels, share: pixels.div_ceil(shares.max(1)), at: 0 }
    }
    pub fn nothing() -> Self {
        Self::new([], 0, 1)
    }
    /// Asks for the next share.
    #[inline(always)]
    pub fn fetch(&mut self) {
        let end = self.pixels.min(self.at + self.share);
        if self.at < end {
            self.streams.iter().for_each(|stream| stream.fetch(self.at..end));
            self.at = end;
        }
    }
}
