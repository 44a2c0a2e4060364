//! One image copied into rows with zero margins, so that every tap of a window is a run at a constant offset.

use crate::simd::Vector;
use std::ops::Range;

/// Layout of the copy. Columns may be split by phase, that is by `column % phases`, which makes the pixels that one
/// tap of a strided window visits contiguous:
///
/// `(row, column, c)` is at `row * row_stride + column % phases * phase_stride + column / phases * channels + c`.
pub struct Padded {
    /// `[rows, columns]` of the image itself.
    pub size: [usize; 2],
    pub channels: usize,
    /// Zero rows above and zero columns left of it.
    pub margin: [usize; 2],
    pub phases: usize,
    pub phase_stride: usize,
    pub row_stride: usize,
    rows: usize,
}

impl Padded {
    /// Room for the image, and for `reach` (`[rows, columns]`, margins included) that windows read.
    pub fn new(
        size: [usize; 2],
        channels: usize,
        margin: [usize; 2],
        reach: [usize; 2],
        phases: usize,
    ) -> Self {
        let rows = reach[0].max(margin[0] + size[0]);
        let phase_stride = reach[1].max(margin[1] + size[1]).div_ceil(phases) * channels;
        Self { size, channels, margin, phases, phase_stride, row_stride: phase_stride * phases, rows }
    }

    /// Elements of the copy, with slack for a vector that starts at its last one.
    pub fn len(&self, lanes: usize) -> usize {
        self.rows * self.row_stride + lanes
    }

    /// Offset of a column within a row.
    pub fn column(&self, column: usize) -> usize {
        column % self.phases * self.phase_stride + column / self.phases * self.channels
    }

    /// Copies `rows` of the image at `from` to their places; the margins stay as they are.
    ///
    /// # Safety
    /// `from` holds the image, `to` holds `len()` elements.
    #[inline(always)]
    pub unsafe fn fill<V: Vector>(&self, from: *const V::Elem, rows: Range<usize>, to: *mut V::Elem) {
        let width = self.size[1] * self.channels;
        for y in rows {
            // SAFETY: row `y` of the image and its place in the copy.
            unsafe {
                let (from, to) = (from.add(y * width), to.add((self.margin[0] + y) * self.row_stride));
                if self.phases == 1 {
                    copy::<V>(from, to.add(self.margin[1] * self.channels), width);
                } else {
                    for x in 0..self.size[1] {
                        let column = self.column(self.margin[1] + x);
                        copy::<V>(from.add(x * self.channels), to.add(column), self.channels);
                    }
                }
            }
        }
    }
}

/// Copies a short run; the last vector may overlap the one before it.
///
/// # Safety
/// Both pointers are valid for `len` elements, and the runs do not overlap.
#[inline(always)]
pub unsafe fn copy<V: Vector>(from: *const V::Elem, to: *mut V::Elem, len: usize) {
    // SAFETY: every index is below `len`.
    unsafe {
        if len < V::LANES {
            std::ptr::copy_nonoverlapping(from, to, len);
            return;
        }
        let last = len - V::LANES;
        let mut i = 0;
        while i < last {
            V::load(from.add(i)).store(to.add(i));
            i += V::LANES;
        }
        V::load(from.add(last)).store(to.add(last));
    }
}
