//! Where a pool reads: runs of pixels of a row that see the same taps.

use super::super::{Window, isa, out_size};
use crate::simd::Isa;

/// Which tap of an axis, and which row or column of the source it reads.
type Taps = Vec<(usize, usize)>;

/// Which tap of the window, and its element of the source for the first element of a run.
#[derive(Clone, Copy)]
pub struct Tap {
    /// Row by row; the operation refuses windows of more taps than a byte counts.
    pub number: u8,
    pub source: usize,
}

/// Where every target pixel reads: runs of pixels of one image.
pub struct Plan {
    pub isa: Isa,
    pub runs: Vec<Run>,
}

/// Pixels of some rows, which see the same taps, in their order, in every row as far further on as the row before.
pub struct Run {
    /// Elements of the target before the first row's pixels, and in a row.
    pub start: usize,
    pub len: usize,
    pub rows: usize,
    /// Elements of target and source from one row to the next.
    pub steps: [usize; 2],
    /// Of the first row.
    pub taps: Vec<Tap>,
}

/// The same along an axis: targets from `start` on, each with its taps as far further on as the one before.
struct Stretch {
    start: usize,
    count: usize,
    taps: Taps,
}

/// All `targets` of an axis; within a stretch a target's taps are `step` after those of the one before.
fn stretches(targets: usize, step: usize, taps: impl Fn(usize) -> Taps) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for start in 0..targets {
        let taps = taps(start);
        let next = |last: &Stretch| {
            let next = last.taps.iter().map(|&(k, from)| (k, from + last.count * step));
            next.eq(taps.iter().copied())
        };
        match all.last_mut().filter(|last| next(last)) {
            Some(last) => last.count += 1,
            None => all.push(Stretch { start, count: 1, taps }),
        }
    }
    all
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
        Self::new(w, dims, [out, size], w.stride[0], |a, o, k| {
            (o * w.stride[a] + k * w.dilation[a]).checked_sub(w.padding[a]).filter(|&i| i < size[a])
        })
    }

    /// Targets are input pixels: source `(i + p - k*d) / s` where that divides.
    pub fn over_output(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, _], out) = (dims, out_size(w, dims));
        Self::new(w, dims, [[h, width], out], 1, |a, i, k| {
            let reach = (i + w.padding[a]).checked_sub(k * w.dilation[a])?;
            (reach % w.stride[a] == 0).then_some(reach / w.stride[a]).filter(|&o| o < out[a])
        })
    }

    /// `step`: how many rows further a row of the target reads than the one before.
    fn new(
        w: &Window,
        dims: [usize; 4],
        [target, source]: [[usize; 2]; 2],
        step: usize,
        read: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Option<Self> {
        if dims.contains(&0) {
            return None;
        }
        let taps = |a: usize, i: usize| -> Taps {
            (0..w.kernel[a]).filter_map(|k| Some((k, read(a, i, k)?))).collect()
        };
        let c = dims[3];
        let columns = stretches(target[1], 1, |i| taps(1, i));
        let mut runs = vec![];
        for Stretch { start: row, count: rows, taps: of_rows } in stretches(target[0], step, |i| taps(0, i)) {
            for Stretch { start, count, taps: of_columns } in &columns {
                let tap = |(ky, y): (usize, usize), (kx, x): (usize, usize)| Tap {
                    number: (ky * w.kernel[1] + kx) as u8,
                    source: (y * source[1] + x) * c,
                };
                runs.push(Run {
                    start: (row * target[1] + start) * c,
                    len: count * c,
                    rows,
                    steps: [target[1] * c, step * source[1] * c],
                    taps: of_rows.iter().flat_map(|&y| of_columns.iter().map(move |&x| tap(y, x))).collect(),
                });
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
