//! Where a pool reads: runs of pixels of a row that see the same taps.

use super::super::{Window, isa, out_size};
use crate::simd::Isa;

/// Which tap of an axis, and which row or column of the source it reads.
type Taps = Vec<(usize, usize)>;

/// Which tap of the window, and its element of the source for the first element of a run.
#[derive(Clone, Copy)]
pub struct Tap {
    pub number: f64,
    pub source: usize,
}

/// Where every target pixel reads: runs of pixels of one image.
pub struct Plan {
    pub isa: Isa,
    pub runs: Vec<Run>,
}

/// Pixels of a row from element `start` of the target on, `len` elements, which see the same taps, in their order.
pub struct Run {
    pub start: usize,
    pub len: usize,
    pub taps: Vec<Tap>,
}

/// The same along a row: column `start + i` reads source columns `i` after those of `taps`.
struct Columns {
    start: usize,
    pixels: usize,
    taps: Taps,
}

impl Plan {
    /// Lanes of vectors of which a row of the inside has at least a block, if any do.
    pub fn lanes(&self) -> usize {
        let longest = self.runs.iter().map(|run| run.len).max().unwrap_or(0);
        if longest < 4 * 16 { 8 } else { 16 }
    }

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
        let mut columns: Vec<Columns> = Vec::new();
        for column in 0..target[1] {
            let taps = taps(1, column);
            if let Some(run) = columns.last_mut() {
                let next = run.taps.iter().map(|&(k, from)| (k, from + run.pixels));
                if next.eq(taps.iter().copied()) {
                    run.pixels += 1;
                    continue;
                }
            }
            columns.push(Columns { start: column, pixels: 1, taps });
        }
        let channels = dims[3];
        let mut runs = Vec::with_capacity(target[0] * columns.len());
        for row in 0..target[0] {
            let rows = taps(0, row);
            for run in &columns {
                let tap = |(ky, y): (usize, usize), (kx, x): (usize, usize)| Tap {
                    number: (ky * w.kernel[1] + kx) as f64,
                    source: (y * source[1] + x) * channels,
                };
                let taps = rows.iter().flat_map(|&y| run.taps.iter().map(move |&x| tap(y, x))).collect();
                let start = (row * target[1] + run.start) * channels;
                runs.push(Run { start, len: run.pixels * channels, taps });
            }
        }
        Some(Self { isa: isa(), runs })
    }
}

/// One block of a run.
#[derive(Clone, Copy)]
pub struct Block<'a, R> {
    pub taps: &'a [Tap],
    /// One over their number.
    pub share: R,
    /// Elements of the target before the block, and of the source on top of a tap's offset.
    pub target: usize,
    pub source: usize,
}
