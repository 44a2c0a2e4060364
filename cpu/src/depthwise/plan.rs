//! What a pass of a depthwise convolution works out from shapes alone: the padded copy, the taps, the vectors.

use super::super::correlate::{GROUP, Spacing, Tap, correlate};
use super::super::padded::Padded;
use super::super::scratch::Scratch;
use super::super::slide::{self, Slide};
use super::super::{Window, isa, lanes, out_size};
use crate::real::Real;
use crate::simd::{Isa, Vector};
use std::marker::PhantomData;
use std::ops::Range;

/// Everything that one pass works out from shapes alone.
pub struct Plan<R> {
    pub isa: Isa,
    pub lanes: usize,
    pub source: Padded,
    /// `[height, width]` of the plain image that the rows of the pass belong to, and the window that walks it.
    pub size: [usize; 2],
    pub window: Window,
    pub spacing: Spacing,
    pub slide: Option<Slide>,
    /// Taps by phase of the target pixel: one list for the forward pass, `stride^2` for the input gradient.
    pub taps: Vec<Vec<Tap>>,
    of: PhantomData<R>,
}

impl<R: Real> Plan<R> {
    /// Of the passes that read the padded input: taps of output pixel (0, 0).
    pub fn over_input(w: &Window, dims: [usize; 4]) -> Option<Self> {
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
        Some(Self {
            isa,
            lanes,
            source,
            size: out,
            window: *w,
            spacing,
            slide: slide_of(w, c, lanes),
            taps,
            of: PhantomData,
        })
    }

    /// Of the pass that reads the padded gradient of the output.
    ///
    /// Input pixel `i` is `u = i + p = s*q + f` in padded coordinates; tap `k` with `k*d = f (mod s)` joins it to
    /// output pixel `q - (k*d - f)/s`. The copy has `d*(kernel-1)/s` rows of margin, so `q` is the first row of
    /// the window there.
    pub fn over_output(w: &Window, dims: [usize; 4]) -> Option<Self> {
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
        Some(Self {
            isa,
            lanes,
            source,
            size,
            window: *w,
            spacing,
            slide: slide_of(w, c, lanes),
            taps,
            of: PhantomData,
        })
    }

    pub fn copy_of_image(&self) -> Scratch<R> {
        Scratch::zeros(self.source.len(self.lanes))
    }

    /// `pattern[tap][j] = weight[j % C][tap]` for one period of `j`.
    pub fn pattern(&self, taps: usize, weight: &[R]) -> Scratch<R> {
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
    pub fn fold(&self, sums: &[R], part: &mut [R::Wide]) {
        let (period, channels) = (self.spacing.period, self.source.channels);
        for (sums, part) in sums.chunks(period).zip(part.chunks_mut(channels)) {
            part.fill(R::Wide::ZERO);
            for sums in sums.chunks(channels) {
                part.iter_mut().zip(sums).for_each(|(part, sum)| *part += sum.wide());
            }
        }
    }

    /// Rows of the copy that hold rows of the image.
    pub fn rows(&self) -> Range<usize> {
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

fn slide_of(w: &Window, channels: usize, lanes: usize) -> Option<Slide> {
    Slide::new(w.kernel[1], w.dilation[1], w.stride[1], channels.is_multiple_of(lanes))
}

/// Runs of taps whose sums are kept in registers together: whole rows of the kernel where they fit.
pub fn groups(kernel: [usize; 2]) -> Vec<Range<usize>> {
    let (unit, units) = if kernel[1] <= GROUP { (kernel[1], kernel[0]) } else { (1, kernel[0] * kernel[1]) };
    let count = units.div_ceil(GROUP / unit);
    (0..count).map(|i| i * units / count * unit..(i + 1) * units / count * unit).collect()
}

impl<R: Real> Plan<R> {
    /// One row, by the loop that fits.
    ///
    /// # Safety
    /// As [`correlate`].
    #[inline(always)]
    pub unsafe fn row<V: Vector<Elem = R>>(
        &self,
        taps: &[Tap],
        from: *const R,
        pattern: *const R,
        out: *mut R,
        spacing: Spacing,
        accumulate: bool,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match self.slide {
                Some(slide) if const { !V::SIMPLE } => {
                    let row = slide::Row { taps, from, pattern, out, spacing, accumulate };
                    slide::correlate::<V>(slide, row);
                }
                _ => correlate::<V>(taps, from, pattern, out, spacing, accumulate),
            }
        }
    }

    /// Output rows for which some of `taps` (sorted) lies in the image.
    #[inline(always)]
    pub fn rows_touching(&self, taps: &[Tap]) -> Range<usize> {
        let (first, last) = (taps[0].row, taps[taps.len() - 1].row);
        let (stride, rows) = (self.window.stride[0], self.rows());
        let start = rows.start.saturating_sub(last).div_ceil(stride);
        let end = rows.end.saturating_sub(first).div_ceil(stride);
        start.min(self.size[0])..end.min(self.size[0])
    }
}
