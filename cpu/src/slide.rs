//! The inner loops of depthwise convolution at stride 1 when a pixel is whole vectors: every vector loaded serves all
//! the taps of its kernel row, which spares most of the loads that bound the general loops.
//!
//! Pixels `q, q + d, q + 2d, ...` of a row dilated by `d` see each other's taps, so they are taken together.

use super::correlate::{Spacing, Tap};
use crate::real::Real;
use crate::simd::Vector;
use std::ops::Range;

/// Taps of a kernel row and pixels between them.
#[derive(Clone, Copy)]
pub struct Slide {
    pub kernel: usize,
    pub dilation: usize,
}

impl Slide {
    /// Applies if the channels are whole vectors, the stride is 1 and the kernel has a loop of its own.
    pub fn new(kernel: usize, dilation: usize, stride: usize, whole_vectors: bool) -> Option<Self> {
        (whole_vectors && stride == 1 && matches!(kernel, 3 | 5)).then_some(Self { kernel, dilation })
    }
}

/// Where a row is read and written, and with which weights.
#[derive(Clone, Copy)]
pub struct Row<'a, R> {
    pub taps: &'a [Tap],
    pub from: *const R,
    pub pattern: *const R,
    pub out: *mut R,
    pub spacing: Spacing,
    pub accumulate: bool,
}

/// [`super::correlate::correlate`] under the conditions of [`Slide::new`].
///
/// # Safety
/// As there; `taps` are whole rows of the kernel.
#[inline(always)]
pub unsafe fn correlate<V: Vector>(slide: Slide, row: Row<V::Elem>) {
    // SAFETY: the caller's.
    unsafe { if slide.kernel == 3 { rows::<V, 3>(slide, row) } else { rows::<V, 5>(slide, row) } }
}

#[inline(always)]
unsafe fn rows<V: Vector, const K: usize>(slide: Slide, row: Row<V::Elem>) {
    let (channels, dilation) = (row.spacing.period, slide.dilation);
    let (pixels, step) = (row.spacing.len / channels, dilation * channels);
    for first in (0..dilation.min(pixels)).flat_map(|q| (0..channels).step_by(V::LANES).map(move |r| (q, r)))
    {
        let (q, r) = first;
        let count = (pixels - q).div_ceil(dilation);
        let mut i = 0;
        // SAFETY: pixels `q + i * dilation` of the row, vector `r` of each.
        unsafe {
            while i + 8 <= count {
                block::<V, K, 8>(&row, q * channels + r + i * step, r, step);
                i += 8;
            }
            if i + 4 <= count {
                block::<V, K, 4>(&row, q * channels + r + i * step, r, step);
                i += 4;
            }
            while i < count {
                block::<V, K, 1>(&row, q * channels + r + i * step, r, step);
                i += 1;
            }
        }
    }
}

/// `B` pixels `step` elements apart, from element `at` of the row on.
#[inline(always)]
unsafe fn block<V: Vector, const K: usize, const B: usize>(
    row: &Row<V::Elem>,
    at: usize,
    r: usize,
    step: usize,
) {
    let mut sum = [V::zero(); B];
    for taps in row.taps.chunks_exact(K) {
        let mut weight = [V::zero(); K];
        // SAFETY: the caller's.
        unsafe {
            for k in 0..K {
                weight[k] = V::load(row.pattern.add(taps[k].index * row.spacing.period + r));
            }
            let from = row.from.add(taps[0].offset + at);
            for j in 0..B + K - 1 {
                let x = V::load(from.add(j * step));
                for k in 0..K {
                    if j >= k && j - k < B {
                        sum[j - k] = x.fma(weight[k], sum[j - k]);
                    }
                }
            }
        }
    }
    for (b, sum) in sum.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let out = row.out.add(at + b * step);
            if row.accumulate { V::load(out).add(sum).store(out) } else { sum.store(out) }
        }
    }
}

/// [`super::correlate::dot`] under the conditions of [`Slide::new`], for `KY` rows of `K` taps.
///
/// # Safety
/// As there.
#[inline(always)]
pub unsafe fn dot<V: Vector, const K: usize, const KY: usize>(
    slide: Slide,
    taps: &[Tap],
    (padded, plain): (*const V::Elem, *const V::Elem),
    strides: [usize; 2],
    rows: Range<usize>,
    (r, row): (usize, Spacing),
    sums: *mut V::Elem,
) {
    let (channels, dilation) = (row.period, slide.dilation);
    let (pixels, step) = (row.len / channels, dilation * channels);
    let mut offset = [0; KY];
    for (ky, offset) in offset.iter_mut().enumerate() {
        *offset = taps[ky * K].offset;
    }
    let mut sum = [[V::zero(); K]; KY];
    for y in rows {
        for q in 0..dilation.min(pixels) {
            let count = (pixels - q).div_ceil(dilation);
            let mut i = 0;
            // SAFETY: pixels `q + i * dilation` of row `y`, vector `r` of each.
            unsafe {
                let at = q * channels + r;
                let (padded, plain) = (padded.add(y * strides[0] + at), plain.add(y * strides[1] + at));
                // eight more registers than sums leave room for, if a vector takes two
                while V::Elem::PARTS == 1 && i + 8 <= count {
                    products::<V, K, KY, 8>(
                        padded.add(i * step),
                        plain.add(i * step),
                        step,
                        offset,
                        &mut sum,
                    );
                    i += 8;
                }
                if i + 4 <= count {
                    products::<V, K, KY, 4>(
                        padded.add(i * step),
                        plain.add(i * step),
                        step,
                        offset,
                        &mut sum,
                    );
                    i += 4;
                }
                while i < count {
                    products::<V, K, KY, 1>(
                        padded.add(i * step),
                        plain.add(i * step),
                        step,
                        offset,
                        &mut sum,
                    );
                    i += 1;
                }
            }
        }
    }
    for (g, sum) in sum.into_iter().flatten().enumerate() {
        // SAFETY: `sums` holds a vector for each tap.
        unsafe {
            let to = sums.add(g * row.period);
            V::load(to).add(sum).store(to);
        }
    }
}

#[inline(always)]
unsafe fn products<V: Vector, const K: usize, const KY: usize, const B: usize>(
    padded: *const V::Elem,
    plain: *const V::Elem,
    step: usize,
    offset: [usize; KY],
    sum: &mut [[V; K]; KY],
) {
    let mut d = [V::zero(); B];
    // SAFETY: the caller's.
    unsafe {
        for (b, d) in d.iter_mut().enumerate() {
            *d = V::load(plain.add(b * step));
        }
        for ky in 0..KY {
            let from = padded.add(offset[ky]);
            for j in 0..B + K - 1 {
                let x = V::load(from.add(j * step));
                for k in 0..K {
                    if j >= k && j - k < B {
                        sum[ky][k] = x.fma(d[j - k], sum[ky][k]);
                    }
                }
            }
        }
    }
}
