//! Where a pool reads: the taps of every row, and runs of columns that see the same ones.

use super::super::{Window, isa, out_size};
use crate::device::real::Real;
use crate::device::simd::Isa;

/// Which tap of an axis, and which row or column of the source it reads.
pub type Taps = Vec<(usize, usize)>;

/// Where every target pixel reads: one image's rows, and runs of its columns.
pub struct Plan {
    pub isa: Isa,
    pub width: usize,
    pub source_width: usize,
    pub channels: usize,
    pub kernel_width: usize,
    pub rows: Vec<Taps>,
    pub runs: Vec<Run>,
}

/// Columns `start..start + pixels` of the target: column `start + i` reads source columns `i` after those of `taps`.
pub struct Run {
    pub start: usize,
    pub pixels: usize,
    pub taps: Taps,
}

impl Plan {
    /// Targets are output pixels: source `o*s + k*d - p`.
    pub fn over_input(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, _], out) = (dims, out_size(w, dims));
        let size = [h, width];
        Self::new(w, dims, out, size, |a, o, k| {
            (o * w.stride[a] + k * w.dilation[a]).checked_sub(w.padding[a]).filter(|&i| i < size[a])
        })
    }

    /// Targets are input pixels: source `(i + p - k*d) / s` where that divides.
    pub fn over_output(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, _], out) = (dims, out_size(w, dims));
        Self::new(w, dims, [h, width], out, |a, i, k| {
            let reach = (i + w.padding[a]).checked_sub(k * w.dilation[a])?;
            (reach % w.stride[a] == 0).then_some(reach / w.stride[a]).filter(|&o| o < out[a])
        })
    }

    fn new(
        w: &Window,
        dims: [usize; 4],
        target: [usize; 2],
        source: [usize; 2],
        read: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Option<Self> {
        if dims.contains(&0) {
            return None;
        }
        let taps = |a: usize, i: usize| -> Taps {
            (0..w.kernel[a]).filter_map(|k| Some((k, read(a, i, k)?))).collect()
        };
        let mut runs: Vec<Run> = Vec::new();
        for column in 0..target[1] {
            let taps = taps(1, column);
            if let Some(run) = runs.last_mut() {
                let next = run.taps.iter().map(|&(k, from)| (k, from + run.pixels));
                if next.eq(taps.iter().copied()) {
                    run.pixels += 1;
                    continue;
                }
            }
            runs.push(Run { start: column, pixels: 1, taps });
        }
        let rows = (0..target[0]).map(|row| taps(0, row)).collect();
        Some(Self {
            isa: isa(),
            width: target[1],
            source_width: source[1],
            channels: dims[3],
            kernel_width: w.kernel[1],
            rows,
            runs,
        })
    }
}

/// The taps of one block of a run.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub plan: &'a Plan,
    pub rows: &'a [(usize, usize)],
    pub columns: &'a [(usize, usize)],
    /// Elements of the target and of the source before the block.
    pub target: usize,
    pub source: usize,
}

impl<'a> Block<'a> {
    /// One over the number of taps.
    pub fn share<R: Real>(&self) -> R {
        R::ONE / R::of((self.rows.len() * self.columns.len()).max(1) as f64)
    }
    /// Taps and their offsets in the source, in the order of the window's taps.
    ///
    /// For a loop, not a closure to call: vector instructions in a closure may stay function calls.
    #[inline(always)]
    pub fn taps(self) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        self.rows.iter().flat_map(move |&(ky, y)| {
            let (row, tap) = (y * self.plan.source_width, ky * self.plan.kernel_width);
            let at = move |x| (row + x) * self.plan.channels + self.source;
            self.columns.iter().map(move |&(kx, x)| (tap + kx, at(x)))
        })
    }
    pub fn first_tap(&self) -> usize {
        match (self.rows.first(), self.columns.first()) {
            (Some((ky, _)), Some((kx, _))) => ky * self.plan.kernel_width + kx,
            _ => 0,
        }
    }
}
