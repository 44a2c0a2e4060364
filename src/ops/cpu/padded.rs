//! One image copied into rows with zero margins, so that every tap of a window is a run at a constant offset.

use crate::device::real::Real;
use crate::device::simd::{Plain, Vector};
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

    /// Copies `rows` of the image at `from`, mapped, to their places; the margins stay as they are.
    ///
    /// # Safety
    /// `from` holds the image, `to` holds `len()` elements.
    #[inline(always)]
    pub unsafe fn fill<V: Vector>(
        &self,
        from: *const V::Elem,
        rows: Range<usize>,
        to: *mut V::Elem,
        map: &Map<V::Elem>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match *map {
                Map::Same => self.fill_with::<V>(from, rows, to, Same),
                Map::Relu => self.fill_with::<V>(from, rows, to, Relu),
                Map::NormRelu([mean, r]) => self.fill_with::<V>(from, rows, to, NormRelu([mean, r])),
            }
        }
    }

    /// # Safety
    /// As [`Self::fill`]; rows of constants are at least as long as a row of the image.
    #[inline(always)]
    unsafe fn fill_with<V: Vector>(
        &self,
        from: *const V::Elem,
        rows: Range<usize>,
        to: *mut V::Elem,
        map: impl Each<V::Elem>,
    ) {
        let width = self.size[1] * self.channels;
        for y in rows {
            // SAFETY: row `y` of the image and its place in the copy.
            unsafe {
                let (from, to) = (from.add(y * width), to.add((self.margin[0] + y) * self.row_stride));
                if self.phases == 1 {
                    copy_with::<V>(from, to.add(self.margin[1] * self.channels), width, map);
                } else {
                    for x in 0..self.size[1] {
                        let column = self.column(self.margin[1] + x);
                        copy_with::<V>(from.add(x * self.channels), to.add(column), self.channels, map);
                    }
                }
            }
        }
    }
}

/// What happens to a number on its way into the copy.
pub enum Map<'a, R> {
    Same,
    /// max(x, 0); NaN stays.
    Relu,
    /// max((x - mean) r, 0), with the constants of each channel repeated along a row of the image.
    NormRelu([&'a [R]; 2]),
}

trait Each<R>: Copy {
    /// `x` starts at element `at` of a row.
    ///
    /// # Safety
    /// Constants are there for the lanes from `at` on.
    unsafe fn each<V: Vector<Elem = R>>(self, x: V, at: usize) -> V;
}

#[derive(Clone, Copy)]
struct Same;
impl<R> Each<R> for Same {
    #[inline(always)]
    unsafe fn each<V: Vector<Elem = R>>(self, x: V, _at: usize) -> V {
        x
    }
}

#[derive(Clone, Copy)]
struct Relu;
impl<R> Each<R> for Relu {
    #[inline(always)]
    unsafe fn each<V: Vector<Elem = R>>(self, x: V, _at: usize) -> V {
        V::zero().max(x) // in this order NaN stays
    }
}

#[derive(Clone, Copy)]
struct NormRelu<'a, R>([&'a [R]; 2]);
impl<R: Real> Each<R> for NormRelu<'_, R> {
    #[inline(always)]
    unsafe fn each<V: Vector<Elem = R>>(self, x: V, at: usize) -> V {
        // SAFETY: the caller's.
        let [mean, r] = self.0.map(|row| unsafe { V::load(row.as_ptr().add(at)) });
        V::zero().max(x.sub(mean).mul(r))
    }
}

/// Copies a short run; the last vector may overlap the one before it.
///
/// # Safety
/// Both pointers are valid for `len` elements, and the runs do not overlap.
#[inline(always)]
pub unsafe fn copy<V: Vector>(from: *const V::Elem, to: *mut V::Elem, len: usize) {
    // SAFETY: the caller's.
    unsafe { copy_with::<V>(from, to, len, Same) }
}

/// # Safety
/// As [`copy`], and `map` has constants for `len` elements.
#[inline(always)]
unsafe fn copy_with<V: Vector>(from: *const V::Elem, to: *mut V::Elem, len: usize, map: impl Each<V::Elem>) {
    // SAFETY: every index is below `len`.
    unsafe {
        if len < V::LANES {
            for i in 0..len {
                let x = map.each(Plain([*from.add(i)]), i);
                *to.add(i) = x.0[0];
            }
            return;
        }
        let last = len - V::LANES;
        let mut i = 0;
        while i < last {
            map.each(V::load(from.add(i)), i).store(to.add(i));
            i += V::LANES;
        }
        map.each(V::load(from.add(last)), last).store(to.add(last));
    }
}
