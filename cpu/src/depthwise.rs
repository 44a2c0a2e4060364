//! Depthwise convolution: every channel has its own filter.
//!
//! ```text
//! y[n, oy, ox, c] = sum over ky, kx of x[n, oy*s + ky*d - p, ox*s + kx*d - p, c] * w[c, ky, kx]
//! ```
//! An image is copied into zero-padded rows just ahead of its use, and each output row is one flat correlation.

mod plan;

use super::Window;
use super::correlate::{GROUP, Spacing, correlate, dot, within};
use super::padded::copy;
use super::scratch::Scratch;
use super::slide;
use crate::jobs::each;
use crate::real::Real;
use crate::simd::{Kernel, Vector, dispatch_for};
use plan::{Plan, groups};
use std::ops::Range;

/// Gradients of weights are summed in at most this many parts, whatever the number of threads.
const PARTS: usize = 32;

/// `y (+)= x * weight`.
pub fn forward<R: Real>(w: &Window, dims: [usize; 4], x: &[R], weight: &[R], y: &mut [R], accumulate: bool) {
    let Some(plan) = Plan::<R>::over_input(w, dims) else { return };
    let pattern = plan.pattern(w.taps(), weight);
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    each(
        y.chunks_mut(out).zip(x.chunks(image)),
        || plan.copy_of_image(),
        |padded, _, (y, x)| {
            let job = Forward { plan: &plan, pattern: &pattern, x, padded, y, accumulate };
            dispatch_for(plan.isa, plan.lanes, job);
        },
    );
}

/// `dx (+)= ` the gradient with respect to the input: the taps run backwards over the gradient of the output.
pub fn input_grad<R: Real>(
    w: &Window,
    dims: [usize; 4],
    weight: &[R],
    dy: &[R],
    dx: &mut [R],
    accumulate: bool,
) {
    let Some(plan) = Plan::<R>::over_output(w, dims) else { return };
    let pattern = plan.pattern(w.taps(), weight);
    let (image, out) = (dx.len() / dims[0], dy.len() / dims[0]);
    each(
        dx.chunks_mut(image).zip(dy.chunks(out)),
        || (plan.copy_of_image(), Scratch::new(dims[2] * dims[3])),
        |(padded, row), _, (dx, dy)| {
            let job = InputGrad { plan: &plan, pattern: &pattern, dy, padded, row, dx, accumulate };
            dispatch_for(plan.isa, plan.lanes, job);
        },
    );
}

/// `dw (+)= ` the gradient with respect to the weight. Parts of the batch are summed apart, then in order.
pub fn weight_grad<R: Real>(w: &Window, dims: [usize; 4], x: &[R], dy: &[R], dw: &mut [R], accumulate: bool) {
    let Some(plan) = Plan::<R>::over_input(w, dims) else { return };
    let (taps, channels) = (w.taps(), dims[3]);
    let batch = dims[0].div_ceil(PARTS);
    let (image, out) = (x.len() / dims[0], dy.len() / dims[0]);
    let groups = groups(w.kernel);
    let mut parts = Scratch::<R::Wide>::new(dims[0].div_ceil(batch) * taps * channels);
    let images = x.chunks(image * batch).zip(dy.chunks(out * batch));
    each(
        parts.chunks_mut(taps * channels).zip(images),
        || (plan.copy_of_image(), Scratch::new(taps * plan.spacing.period)),
        |(padded, sums), _, (part, (x, dy))| {
            sums.fill(R::ZERO);
            for (x, dy) in x.chunks(image).zip(dy.chunks(out)) {
                let job = WeightGrad { plan: &plan, groups: &groups, x, padded, dy, sums };
                dispatch_for(plan.isa, plan.lanes, job);
            }
            plan.fold(sums, part);
        },
    );
    let mut total = vec![R::Wide::ZERO; taps * channels];
    for part in parts.chunks(taps * channels) {
        total.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
    }
    for (i, dw) in dw.iter_mut().enumerate() {
        let sum = R::narrow(total[i % taps * channels + i / taps]);
        *dw = if accumulate { *dw + sum } else { sum };
    }
}

struct Forward<'a, R> {
    plan: &'a Plan<R>,
    pattern: &'a [R],
    x: &'a [R],
    padded: &'a mut [R],
    y: &'a mut [R],
    accumulate: bool,
}

impl<R: Real> Kernel<R> for Forward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { plan, .. } = self;
        let (source, rows) = (&plan.source, plan.rows());
        let mut filled = 0;
        for oy in 0..plan.size[0] {
            let top = oy * plan.window.stride[0];
            let taps = within(&plan.taps[0], top, rows.clone());
            let need = taps.last().map_or(0, |t| top + t.row + 1 - rows.start);
            // SAFETY: `source` was laid out to hold every row and tap of this pass.
            unsafe {
                source.fill::<V>(self.x.as_ptr(), filled..need, self.padded.as_mut_ptr());
                let from = self.padded.as_ptr().add(top * source.row_stride);
                let out = self.y.as_mut_ptr().add(oy * plan.spacing.len);
                plan.row::<V>(taps, from, self.pattern.as_ptr(), out, plan.spacing, self.accumulate);
            }
            filled = filled.max(need);
        }
    }
}

struct InputGrad<'a, R> {
    plan: &'a Plan<R>,
    pattern: &'a [R],
    dy: &'a [R],
    padded: &'a mut [R],
    /// Pixels of one phase of a row, when they cannot go straight to their places.
    row: &'a mut [R],
    dx: &'a mut [R],
    accumulate: bool,
}

impl<R: Real> Kernel<R> for InputGrad<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { plan, .. } = self;
        let (source, rows, [sy, sx]) = (&plan.source, plan.rows(), plan.window.stride);
        let ([height, width], channels) = (plan.size, source.channels);
        let direct = sx == 1 || channels.is_multiple_of(V::LANES);
        let mut filled = 0;
        for iy in 0..height {
            let (top, fy) = ((iy + plan.window.padding[0]) / sy, (iy + plan.window.padding[0]) % sy);
            for first in 0..sx.min(width) {
                let (left, fx) =
                    ((first + plan.window.padding[1]) / sx, (first + plan.window.padding[1]) % sx);
                let taps = within(&plan.taps[fy * sx + fx], top, rows.clone());
                let need = taps.last().map_or(0, |t| top + t.row + 1 - rows.start);
                let len = (width - first).div_ceil(sx) * channels;
                let plain_step = if direct { plan.spacing.period * sx } else { plan.spacing.period };
                let spacing = Spacing { len, plain_step, ..plan.spacing };
                // SAFETY: as in the forward pass; pixel `first` and every `sx`-th after it are in the row.
                unsafe {
                    source.fill::<V>(self.dy.as_ptr(), filled..need, self.padded.as_mut_ptr());
                    let from = self.padded.as_ptr().add(top * source.row_stride + left * channels);
                    let out = self.dx.as_mut_ptr().add((iy * width + first) * channels);
                    if direct {
                        plan.row::<V>(taps, from, self.pattern.as_ptr(), out, spacing, self.accumulate);
                    } else {
                        let row = self.row.as_mut_ptr();
                        correlate::<V>(taps, from, self.pattern.as_ptr(), row, spacing, false);
                        spread::<V>(row, out, [len, channels, sx], self.accumulate);
                    }
                }
                filled = filled.max(need);
            }
        }
    }
}

/// Writes the pixels of `row` to every `stride`-th pixel of `out`.
///
/// # Safety
/// `row` holds `len` elements, `out` as many pixels `stride` apart.
#[inline(always)]
unsafe fn spread<V: Vector>(
    row: *const V::Elem,
    out: *mut V::Elem,
    [len, channels, stride]: [usize; 3],
    accumulate: bool,
) {
    for pixel in 0..len / channels {
        // SAFETY: see above.
        unsafe {
            let (from, to) = (row.add(pixel * channels), out.add(pixel * stride * channels));
            if accumulate {
                for c in 0..channels {
                    *to.add(c) += *from.add(c);
                }
            } else {
                copy::<V>(from, to, channels);
            }
        }
    }
}

struct WeightGrad<'a, R> {
    plan: &'a Plan<R>,
    groups: &'a [Range<usize>],
    x: &'a [R],
    padded: &'a mut [R],
    dy: &'a [R],
    sums: &'a mut [R],
}

impl<R: Real> Kernel<R> for WeightGrad<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { plan, .. } = self;
        let (source, row) = (&plan.source, plan.spacing);
        // SAFETY: as in the forward pass.
        unsafe { source.fill::<V>(self.x.as_ptr(), 0..source.size[0], self.padded.as_mut_ptr()) };
        let strides = [source.row_stride * plan.window.stride[0], row.len];
        for r in (0..row.period.min(row.len)).step_by(V::LANES) {
            for group in self.groups {
                let taps = &plan.taps[0][group.clone()];
                let rows = plan.rows_touching(taps);
                // SAFETY: `sums` holds a period for every tap.
                unsafe {
                    let sums = self.sums.as_mut_ptr().add(group.start * row.period + r);
                    let (x, dy) = (self.padded.as_ptr(), self.dy.as_ptr());
                    if const { V::SIMPLE } {
                        for (i, tap) in taps.chunks(1).enumerate() {
                            dot::<V, 1>(
                                tap,
                                x,
                                dy,
                                strides,
                                rows.clone(),
                                (r, row),
                                sums.add(i * row.period),
                            );
                        }
                        continue;
                    }
                    if let Some(slide) = plan.slide {
                        let (at, images) = ((r, row), (x, dy));
                        match (slide.kernel, taps.len() / slide.kernel) {
                            (3, 1) => slide::dot::<V, 3, 1>(slide, taps, images, strides, rows, at, sums),
                            (3, 2) => slide::dot::<V, 3, 2>(slide, taps, images, strides, rows, at, sums),
                            (3, _) => slide::dot::<V, 3, 3>(slide, taps, images, strides, rows, at, sums),
                            _ => slide::dot::<V, 5, 1>(slide, taps, images, strides, rows, at, sums),
                        }
                        continue;
                    }
                    match taps.len() {
                        1 => dot::<V, 1>(taps, x, dy, strides, rows, (r, row), sums),
                        2 => dot::<V, 2>(taps, x, dy, strides, rows, (r, row), sums),
                        3 => dot::<V, 3>(taps, x, dy, strides, rows, (r, row), sums),
                        4 => dot::<V, 4>(taps, x, dy, strides, rows, (r, row), sums),
                        5 => dot::<V, 5>(taps, x, dy, strides, rows, (r, row), sums),
                        6 => dot::<V, 6>(taps, x, dy, strides, rows, (r, row), sums),
                        7 => dot::<V, 7>(taps, x, dy, strides, rows, (r, row), sums),
                        8 => dot::<V, 8>(taps, x, dy, strides, rows, (r, row), sums),
                        _ => dot::<V, GROUP>(taps, x, dy, strides, rows, (r, row), sums),
                    }
                }
            }
        }
    }
}
