//! What the next piece of work reads and writes, fetched while this one computes.
//!
//! A core has few fetches under way at a time, so asking for much at once only moves the wait, and during products its
//! memory rests. So the fetches are spread over the rows and tiles of what is computed now.

use crate::simd::prefetch;

/// The most images that one piece of work goes through.
const STREAMS: usize = 4;

/// Pixels one after the other: the first element, elements from one to the next, and elements of one. They need not
/// exist.
pub type Stream<R> = (*const R, usize, usize);

/// Streams to be fetched a share at a time.
pub struct Ahead {
    /// In bytes.
    streams: [Stream<u8>; STREAMS],
    count: usize,
    /// Pixels asked for, of so many, and those of a share.
    at: usize,
    pixels: usize,
    share: usize,
}

impl Ahead {
    /// So many pixels of `streams`, in so many shares.
    pub fn new<R>(streams: impl IntoIterator<Item = Stream<R>>, pixels: usize, shares: usize) -> Self {
        let all = [(std::ptr::null(), 0, 0); STREAMS];
        Self { streams: all, count: 0, at: 0, pixels, share: pixels.div_ceil(shares.max(1)) }.and(streams)
    }
    pub fn nothing() -> Self {
        Self::new::<u8>([], 0, 1)
    }
    /// The same pixels of `streams` too.
    pub fn and<R>(mut self, streams: impl IntoIterator<Item = Stream<R>>) -> Self {
        for (to, (from, step, width)) in self.streams[self.count..].iter_mut().zip(streams) {
            *to = (from.cast(), step * size_of::<R>(), width * size_of::<R>());
            self.count += 1;
        }
        self
    }
    /// Asks for the next share.
    #[inline(always)]
    pub fn fetch(&mut self) {
        if self.at < self.pixels {
            let end = self.pixels.min(self.at + self.share);
            for &(from, step, width) in &self.streams[..self.count] {
                if step == width {
                    prefetch(from.wrapping_add(self.at * step), (end - self.at) * step);
                } else {
                    (self.at..end).for_each(|p| prefetch(from.wrapping_add(p * step), width));
                }
            }
            self.at = end;
        }
    }
}
