//! The two inner loops of depthwise convolution: correlate a row with the taps, and dot rows into tap gradients.
//!
//! A row is a flat array of pixels times channels. Weights are repeated to a pattern whose period is a multiple of
//! both the channels and the vector, so that whole vectors are used whatever the number of channels.

use crate::simd::Vector;
use std::ops::Range;

/// One tap of a window over a padded copy.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    /// Rows below the first row of the window.
    pub row: usize,
    /// Elements after the start of that first row.
    pub offset: usize,
    /// Which weight.
    pub index: usize,
}

/// The taps (sorted by row) of a window starting at `top` whose rows lie in `rows`.
#[inline(always)]
pub fn within(taps: &[Tap], top: usize, rows: Range<usize>) -> &[Tap] {
    let start = taps.partition_point(|t| top + t.row < rows.start);
    let end = taps.partition_point(|t| top + t.row < rows.end);
    &taps[start..end.max(start)]
}

/// How the vectors of a row are spaced: the `i`-th with weights `r..r + LANES` of the pattern is at `r + i * step`.
#[derive(Clone, Copy)]
pub struct Spacing {
    /// Elements of the row.
    pub len: usize,
    /// Period of the pattern.
    pub period: usize,
    /// Step in the padded copy, and in the plain image.
    pub padded_step: usize,
    pub plain_step: usize,
}

impl Spacing {
    /// Whole vectors of residue `r`, and the elements of a last partial one.
    #[inline(always)]
    fn vectors(&self, r: usize, lanes: usize) -> (usize, usize) {
        let left = self.len.saturating_sub(r);
        let (whole, rest) = (left / self.period, left % self.period);
        if rest >= lanes { (whole + 1, 0) } else { (whole, rest) }
    }
}

/// `out[j] (+)= sum over taps of from[tap.offset + j] * pattern[tap.index][j % period]`.
///
/// # Safety
/// `from` is valid for every tap's offset plus the row plus one vector, `pattern` for every tap's period, `out` for
/// the row.
#[inline(always)]
pub unsafe fn correlate<V: Vector>(
    taps: &[Tap],
    from: *const V::Elem,
    pattern: *const V::Elem,
    out: *mut V::Elem,
    row: Spacing,
    accumulate: bool,
) {
    let mut r = 0;
    while r < row.period.min(row.len) {
        let (count, rest) = row.vectors(r, V::LANES);
        // SAFETY: vector `i < count` lies in the row, a partial one is read in the slack and written in part.
        unsafe {
            let (from, out, pattern) = (from.add(r), out.add(r), pattern.add(r));
            let at = |i: usize| (from.add(i * row.padded_step), out.add(i * row.plain_step));
            let mut i = 0;
            while i + 8 <= count {
                sums::<V, 8>(taps, at(i).0, pattern, row).finish(at(i).1, row.plain_step, accumulate);
                i += 8;
            }
            if i + 4 <= count {
                sums::<V, 4>(taps, at(i).0, pattern, row).finish(at(i).1, row.plain_step, accumulate);
                i += 4;
            }
            if i + 2 <= count {
                sums::<V, 2>(taps, at(i).0, pattern, row).finish(at(i).1, row.plain_step, accumulate);
                i += 2;
            }
            if i < count {
                sums::<V, 1>(taps, at(i).0, pattern, row).finish(at(i).1, row.plain_step, accumulate);
                i += 1;
            }
            if rest > 0 {
                let sum = sums::<V, 1>(taps, at(i).0, pattern, row).0[0];
                let old = if accumulate { V::load_part(at(i).1, rest) } else { V::zero() };
                sum.add(old).store_part(at(i).1, rest);
            }
        }
        r += V::LANES;
    }
}

struct Sums<V, const B: usize>([V; B]);

#[inline(always)]
unsafe fn sums<V: Vector, const B: usize>(
    taps: &[Tap],
    from: *const V::Elem,
    pattern: *const V::Elem,
    row: Spacing,
) -> Sums<V, B> {
    let mut sum = [V::zero(); B];
    for tap in taps {
        // SAFETY: see `correlate`.
        unsafe {
            let weight = V::load(pattern.add(tap.index * row.period));
            let from = from.add(tap.offset);
            for (b, sum) in sum.iter_mut().enumerate() {
                *sum = V::load(from.add(b * row.padded_step)).fma(weight, *sum);
            }
        }
    }
    Sums(sum)
}

impl<V: Vector, const B: usize> Sums<V, B> {
    #[inline(always)]
    unsafe fn finish(self, out: *mut V::Elem, step: usize, accumulate: bool) {
        for (b, sum) in self.0.into_iter().enumerate() {
            // SAFETY: see `correlate`.
            unsafe {
                let out = out.add(b * step);
                let sum = if accumulate { V::load(out).add(sum) } else { sum };
                sum.store(out);
            }
        }
    }
}

/// Taps of one [`dot`]: as many sums as stay in registers.
pub const GROUP: usize = 9;

/// `sums[g][0..LANES] += sum over rows y and pixels of padded[taps[g].offset + ..] * plain[..]`, for the residue `r`.
///
/// # Safety
/// `taps` has `G` elements; the pointers are valid for the rows in `rows`, `sums` for `G` vectors `period` apart.
#[inline(always)]
pub unsafe fn dot<V: Vector, const G: usize>(
    taps: &[Tap],
    padded: *const V::Elem,
    plain: *const V::Elem,
    strides: [usize; 2],
    rows: Range<usize>,
    (r, row): (usize, Spacing),
    sums: *mut V::Elem,
) {
    let (count, rest) = row.vectors(r, V::LANES);
    let mut sum = [V::zero(); G];
    let mut offset = [0; G];
    for (offset, tap) in offset.iter_mut().zip(taps) {
        *offset = tap.offset;
    }
    for y in rows {
        // SAFETY: see above; the lanes beyond a partial vector are zero in `plain` and finite in `padded`.
        unsafe {
            let (mut from, mut with) = (padded.add(y * strides[0] + r), plain.add(y * strides[1] + r));
            for _ in 0..count {
                let d = V::load(with);
                for g in 0..G {
                    sum[g] = V::load(from.add(offset[g])).fma(d, sum[g]);
                }
                from = from.wrapping_add(row.padded_step);
                with = with.wrapping_add(row.plain_step);
            }
            if rest > 0 {
                let d = V::load_part(with, rest);
                for g in 0..G {
                    sum[g] = V::load(from.add(offset[g])).fma(d, sum[g]);
                }
            }
        }
    }
    for (g, sum) in sum.into_iter().enumerate() {
        // SAFETY: `sums` holds `G` vectors.
        unsafe {
            let to = sums.add(g * row.period);
            V::load(to).add(sum).store(to);
        }
    }
}
