//! Depthwise convolution: every channel has its own filter.
//!
//! ```text
//! y[n, oy, ox, c] = sum over ky, kx of x[n, oy*s + ky*d - p, ox*s + kx*d - p, c] * w[c, ky, kx]
//! ```
//! An image is copied into zero-padded rows just ahead of its use, and each output row is one flat correlation.

use super::correlate::{GROUP, Spacing, Tap, correlate, dot, within};
use super::padded::{Padded, copy};
use super::scratch::Scratch;
use super::{Window, isa, lanes, out_size};
use crate::device::real::Real;
use crate::device::simd::{Isa, Kernel, Vector, dispatch_for};
use rayon::prelude::*;
use std::ops::Range;

/// Gradients of weights are summed in at most this many parts, whatever the number of threads.
const PARTS: usize = 32;

/// `y (+)= x * weight`.
pub fn forward<R: Real>(w: &Window, dims: [usize; 4], x: &[R], weight: &[R], y: &mut [R], accumulate: bool) {
    let Some(plan) = Plan::<R>::over_input(w, dims) else { return };
    let pattern = plan.pattern(w.taps(), weight);
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    y.par_chunks_mut(out).zip(x.par_chunks(image)).for_each_init(
        || plan.copy_of_image(),
        |padded, (y, x)| {
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
    dx.par_chunks_mut(image).zip(dy.par_chunks(out)).for_each_init(
        || (plan.copy_of_image(), Scratch::new(dims[2] * dims[3])),
        |(padded, row), (dx, dy)| {
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
    let mut parts = Scratch::<f64>::new(dims[0].div_ceil(batch) * taps * channels);
    let images = x.par_chunks(image * batch).zip(dy.par_chunks(out * batch));
    parts.par_chunks_mut(taps * channels).zip(images).for_each_init(
        || (plan.copy_of_image(), Scratch::new(taps * plan.spacing.period)),
        |(padded, sums), (part, (x, dy))| {
            sums.fill(R::ZERO);
            for (x, dy) in x.chunks(image).zip(dy.chunks(out)) {
                let job = WeightGrad { plan: &plan, groups: &groups, x, padded, dy, sums };
                dispatch_for(plan.isa, plan.lanes, job);
            }
            plan.fold(sums, part);
        },
    );
    let mut total = vec![0.0; taps * channels];
    for part in parts.chunks(taps * channels) {
        total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    for (i, dw) in dw.iter_mut().enumerate() {
        let sum = R::of(total[i % taps * channels + i / taps]);
        *dw = if accumulate { *dw + sum } else { sum };
    }
}

/// Everything that one pass works out from shapes alone.
struct Plan<R> {
    isa: Isa,
    lanes: usize,
    source: Padded,
    /// `[height, width]` of the plain image that the rows of the pass belong to, and the window that walks it.
    size: [usize; 2],
    window: Window,
    spacing: Spacing,
    /// Taps by phase of the target pixel: one list for the forward pass, `stride^2` for the input gradient.
    taps: Vec<Vec<Tap>>,
    of: std::marker::PhantomData<R>,
}

impl<R: Real> Plan<R> {
    /// Of the passes that read the padded input: taps of output pixel (0, 0).
    fn over_input(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, c], out) = (dims, out_size(w, dims));
        if dims.contains(&0) || out.contains(&0) {
            return None;
        }
        let (isa, lanes, period) = vectors::<R>(c, out[1] * c);
        let phases = if c.is_multiple_of(lanes) { 1 } else { w.stride[1] };
        let reach = [0, 1].map(|a| (out[a] - 1) * w.stride[a] + w.dilation[a] * (w.kernel[a] - 1) + 1);
        let source = Padded::new([h, width], c, w.padding, reach, phases);
        let tap = |i: usize| {
            let (row, column) = (i / w.kernel[1] * w.dilation[0], i % w.kernel[1] * w.dilation[1]);
            Tap { row, offset: row * source.row_stride + source.column(column), index: i }
        };
        let taps = vec![(0..w.taps()).map(tap).collect()];
        let spacing = Spacing {
            len: out[1] * c,
            period,
            padded_step: period * (w.stride[1] / phases),
            plain_step: period,
        };
        Some(Self { isa, lanes, source, size: out, window: *w, spacing, taps, of: std::marker::PhantomData })
    }

    /// Of the pass that reads the padded gradient of the output.
    ///
    /// Input pixel `i` is `u = i + p = s*q + f` in padded coordinates; tap `k` with `k*d = f (mod s)` joins it to
    /// output pixel `q - (k*d - f)/s`. The copy has `d*(kernel-1)/s` rows of margin, so `q` is the first row of
    /// the window there.
    fn over_output(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, c], out) = (dims, out_size(w, dims));
        if dims.contains(&0) || out.contains(&0) {
            return None;
        }
        let (isa, lanes, period) = vectors::<R>(c, width.div_ceil(w.stride[1]) * c);
        let margin = [0, 1].map(|a| w.dilation[a] * (w.kernel[a] - 1) / w.stride[a]);
        let reach = [h, width].map(|size| size - 1);
        let reach = [0, 1].map(|a| (reach[a] + w.padding[a]) / w.stride[a] + margin[a] + 1);
        let source = Padded::new(out, c, margin, reach, 1);
        let mut taps = Vec::new();
        for phase in (0..w.stride[0]).flat_map(|fy| (0..w.stride[1]).map(move |fx| [fy, fx])) {
            let place = |a: usize, k: usize| {
                let reach = k * w.dilation[a];
                (reach % w.stride[a] == phase[a]).then(|| margin[a] - reach / w.stride[a])
            };
            let tap = |i: usize| {
                let (row, column) = (place(0, i / w.kernel[1])?, place(1, i % w.kernel[1])?);
                Some(Tap { row, offset: row * source.row_stride + source.column(column), index: i })
            };
            taps.push((0..w.taps()).rev().filter_map(tap).collect());
        }
        let spacing = Spacing { len: 0, period, padded_step: period, plain_step: period };
        let size = [h, width];
        Some(Self { isa, lanes, source, size, window: *w, spacing, taps, of: std::marker::PhantomData })
    }

    fn copy_of_image(&self) -> Scratch<R> {
        Scratch::zeros(self.source.len(self.lanes))
    }

    /// `pattern[tap][j] = weight[j % C][tap]` for one period of `j`.
    fn pattern(&self, taps: usize, weight: &[R]) -> Scratch<R> {
        let (period, channels) = (self.spacing.period, self.source.channels);
        let mut pattern = Scratch::new(taps * period);
        for (tap, row) in pattern.chunks_mut(period).enumerate() {
            for (j, to) in row.iter_mut().enumerate() {
                *to = weight[j % channels * taps + tap];
            }
        }
        pattern
    }

    /// `part[tap][c]` = sum of the sums of the period that belong to channel `c`.
    fn fold(&self, sums: &[R], part: &mut [f64]) {
        let (period, channels) = (self.spacing.period, self.source.channels);
        for (sums, part) in sums.chunks(period).zip(part.chunks_mut(channels)) {
            part.fill(0.0);
            for sums in sums.chunks(channels) {
                part.iter_mut().zip(sums).for_each(|(part, sum)| *part += sum.f64());
            }
        }
    }

    /// Rows of the copy that hold rows of the image.
    fn rows(&self) -> Range<usize> {
        self.source.margin[0]..self.source.margin[0] + self.source.size[0]
    }
}

/// Instruction set, lanes, and the period of the pattern for rows of `len` elements.
fn vectors<R: Real>(channels: usize, len: usize) -> (Isa, usize, usize) {
    let isa = isa();
    let lanes = lanes::<R>(isa, len.min(16));
    let (mut a, mut b) = (channels, lanes);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    (isa, lanes, channels / a * lanes)
}

/// Runs of taps whose sums are kept in registers together: whole rows of the kernel where they fit.
fn groups(kernel: [usize; 2]) -> Vec<Range<usize>> {
    let (unit, units) = if kernel[1] <= GROUP { (kernel[1], kernel[0]) } else { (1, kernel[0] * kernel[1]) };
    let count = units.div_ceil(GROUP / unit);
    (0..count).map(|i| i * units / count * unit..(i + 1) * units / count * unit).collect()
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
                correlate::<V>(taps, from, self.pattern.as_ptr(), out, plan.spacing, self.accumulate);
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
                        correlate::<V>(taps, from, self.pattern.as_ptr(), out, spacing, self.accumulate);
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

impl<R: Real> Plan<R> {
    /// Output rows for which some of `taps` (sorted) lies in the image.
    #[inline(always)]
    fn rows_touching(&self, taps: &[Tap]) -> Range<usize> {
        let (first, last) = (taps[0].row, taps[taps.len() - 1].row);
        let (stride, rows) = (self.window.stride[0], self.rows());
        let start = rows.start.saturating_sub(last).div_ceil(stride);
        let end = rows.end.saturating_sub(first).div_ceil(stride);
        start.min(self.size[0])..end.min(self.size[0])
    }
}
