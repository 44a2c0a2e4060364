//! Relu, 1 x 1 convolution and batch norm of images at once, and all gradients of that.
//!
//! A block of rows is read through the relu into the first-level cache and multiplied from there, so that neither
//! relu(x) nor its gradient goes to memory. Batch statistics are the only places where the images wait for each other.

mod gradient;
mod lean;
mod pixels;

#[cfg(not(test))]
pub(crate) use gradient::gradient;
pub use gradient::{Gradients, Kept, PARTS};

use super::ahead::{Ahead, Stream};
use super::cell::product::Matrix;
use super::channel::{Moments, apply_part, chunk, expand, part_sums};
use super::gemm::Packed;
use super::scratch::Scratch;
use crate::EPSILON;
use crate::jobs::{all, each};
use crate::real::Real;
use crate::simd::{Isa, dispatch_widest};
use pixels::{Gather, Normalise, Stretches};
use std::ops::Range;

/// Elements of a block of rows: a part of the first-level cache.
const BLOCK: usize = 1 << 12;
/// Pixels that it has nearly at least, in whole rows: every block reads all weights again.
const PIXELS: usize = 64;

/// Extents: images (n, height, width, `input`) become (n, height / stride, width / stride, `output`).
///
/// There are `stride` convolutions, side by side in the channels. The k-th reads every `stride`-th pixel from (k, k) on.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub n: usize,
    pub size: [usize; 2],
    pub stride: usize,
    pub input: usize,
    pub output: usize,
}

impl Sizes {
    pub fn out(&self) -> [usize; 2] {
        self.size.map(|size| size / self.stride)
    }
    /// Pixels of an image of the result.
    pub fn pixels(&self) -> usize {
        self.out().iter().product()
    }
    /// Elements of an image.
    fn image(&self) -> usize {
        self.size[0] * self.size[1] * self.input
    }
    /// Output channels of one convolution.
    pub fn share(&self) -> usize {
        self.output / self.stride
    }
    /// Rows of the result that are computed together.
    fn rows(&self) -> usize {
        let [height, width] = self.out();
        (BLOCK / (width * self.input)).max(PIXELS / width).clamp(1, height)
    }
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (height, rows) = (self.out()[0], self.rows());
        (0..height).step_by(rows).map(move |start| start..(start + rows).min(height))
    }
    /// Room for relu(x) of a block, if products are not lean.
    fn gathered<R: Real>(&self) -> Scratch<R> {
        let lean = lean::vectors::<R>(self).is_some();
        Scratch::new(if lean { 0 } else { self.rows() * self.out()[1] * self.input })
    }
    /// Room for a block of so many channels as it is kept, if products are lean.
    fn kept<R: Real>(&self, channels: usize) -> Scratch<R::Kept> {
        let lean = lean::vectors::<R>(self).is_some();
        Scratch::new(if lean { (self.rows() * self.out()[1]) * channels } else { 0 })
    }
    /// The pixels of `x` from the one on that is read after `rows` of image `i`; none where not all are read.
    fn following<R>(&self, x: *const R, i: usize, rows: &Range<usize>) -> Option<Stream> {
        let at = i * self.image() + rows.end * self.out()[1] * self.input;
        (self.stride == 1).then(|| Stream::new((x.wrapping_add(at), self.input), self.input))
    }
    /// What convolution `k` reads for some rows of its result.
    fn read(&self, rows: &Range<usize>, k: usize) -> Stretches {
        let (row, c) = (self.size[1] * self.input, self.input);
        let start = (rows.start * self.stride + k) * row + k * c;
        match self.stride {
            1 => Stretches { start, counts: [1, 1], steps: [0, 0], len: rows.len() * row },
            s => Stretches { start, counts: [rows.len(), self.out()[1]], steps: [s * row, s * c], len: c },
        }
    }
}

/// Computes the result and the statistics (3, output) that `BatchNorm` saves; `weights` are (output / stride, input)
/// each. Given statistics are used and copied. The result is normalised; with scale, shift and room for the
/// convolution's result that is left there, and the result is scaled and shifted.
#[allow(clippy::type_complexity)] // scale, shift, room
pub(crate) fn forward<R: Real>(
    sizes: &Sizes,
    x: &[R],
    weights: &[&[R]],
    given: Option<&[R]>,
    y: &mut [R],
    stats: &mut [R],
    affine: Option<(&[R], &[R], &mut [R])>,
) {
    let (c, pixels) = (sizes.output, sizes.pixels());
    let pack = |w: &&[R]| By::new(sizes, [sizes.input, sizes.share()], |i, o| w[o * sizes.input + i]);
    let by: Vec<By<R>> = weights.iter().map(pack).collect();
    let (affine, raw) = affine.map_or((None, None), |(gamma, beta, raw)| (Some([gamma, beta]), Some(raw)));
    let (z, y) = match raw {
        Some(raw) => (raw, Some(y)),
        None => (y, None),
    };
    let moments: Vec<Vec<Moment<R>>> = each(
        z.chunks_mut(pixels * c),
        || (sizes.gathered(), sizes.kept::<R>(sizes.input)),
        |room, i, y| {
            convolve(sizes, (x, i), &by, room, y);
            if given.is_some() { vec![] } else { moments(y, c) }
        },
    );
    match given {
        Some(given) => stats.copy_from_slice(given),
        None => statistics(&moments, pixels, stats),
    }
    let (mean, r) = (&stats[..c], &stats[c..2 * c]);
    if let (Some([gamma, beta]), Some(y)) = (affine, y) {
        let rows = expand(&[mean, r, gamma, beta]);
        let parts = y.chunks_mut(chunk(c)).zip(z.chunks(chunk(c)));
        let norm = |x, p: [R; 4]| (x - p[0]) * p[1] * p[2] + p[3];
        return all(parts, |(y, z)| apply_part(z, z, &rows, y, false, |x, _, p| norm(x, p)));
    }
    let rows = expand(&[mean, r]);
    let normalise = |y| dispatch_widest(Normalise { y, mean: &rows[0], r: &rows[1] });
    all(z.chunks_mut(chunk(c)), normalise);
}

/// The convolutions of image `i`; `a` is room for a block.
fn convolve<R: Real>(
    sizes: &Sizes,
    (all, i): (&[R], usize),
    by: &[By<R>],
    (a, kept): &mut (Scratch<R>, Scratch<R::Kept>),
    y: &mut [R],
) {
    let (c, width) = (sizes.output, sizes.out()[1]);
    let x = &all[i * sizes.image()..][..sizes.image()];
    for rows in sizes.blocks() {
        let pixels = rows.len() * width;
        let shares = by.iter().map(|by| by.fetches(pixels)).sum();
        let mut ahead = Ahead::new(sizes.following(all.as_ptr(), i, &rows), pixels, shares);
        for (k, by) in by.iter().enumerate() {
            let from = sizes.read(&rows, k);
            let y = &mut y[rows.start * width * c + k * sizes.share()..];
            match by {
                By::Wide(by) => {
                    dispatch_widest(Gather { x, from, to: &mut a[..from.elements()] });
                    by.times_within((a, sizes.input), (y, c), pixels, false, &mut ahead);
                }
                &By::Lean { ref by, of, vectors } => {
                    lean::Gather { x, from, to: &mut kept[..from.elements()] }.run_on(vectors);
                    let x = lean::Factor { kept, step: sizes.input };
                    lean::Times { x, by, of, y, y_step: c, pixels, ahead: &mut ahead }.run_on(vectors);
                }
            }
        }
    }
}

/// A convolution's weights, packed for its products.
enum By<R: Real> {
    Wide(Packed<R>),
    Lean { by: Matrix<R>, of: [usize; 2], vectors: (Isa, usize) },
}

impl<R: Real> By<R> {
    /// Of `[depth, columns]`, whose element `(k, n)` is `at(k, n)`.
    fn new(sizes: &Sizes, of: [usize; 2], at: impl Fn(usize, usize) -> R) -> Self {
        match lean::vectors::<R>(sizes) {
            Some(vectors) => Self::Lean { by: Matrix::new(of[0], of[1], vectors, at), of, vectors },
            None => Self::Wide(Packed::new(of[0], of[1], at)),
        }
    }
    /// How often its products ask for what comes next.
    fn fetches(&self, pixels: usize) -> usize {
        match self {
            Self::Wide(by) => by.fetches(pixels),
            Self::Lean { .. } => pixels.div_ceil(lean::FETCH),
        }
    }
}

/// Of a channel of one image: the mean, and the sum of squares about it.
type Moment<R> = [<R as Real>::Wide; 2];

/// Taken about the first pixel, a value of the right size, so that nothing cancels.
fn moments<R: Real>(y: &[R], c: usize) -> Vec<Moment<R>> {
    let (first, pixels) = (&y[..c], R::Wide::of((y.len() / c) as f64));
    let rows = expand(&[first]);
    let [sum, square] = part_sums(y, y, c, [&rows[0]; 2], Moments);
    let of = |ch: usize| {
        let d = sum[ch] / pixels;
        [first[ch].wide() + d, square[ch] - sum[ch] * d]
    };
    (0..c).map(of).collect()
}

/// Writes mean, r and biased variance of all images, from those of each.
fn statistics<R: Real>(images: &[Vec<Moment<R>>], pixels: usize, stats: &mut [R]) {
    let c = stats.len() / 3;
    let [n, pixels] = [images.len(), pixels].map(|count| R::Wide::of(count as f64));
    for ch in 0..c {
        let mean = images.iter().map(|image| image[ch][0]).sum::<R::Wide>() / n;
        let about = |&[m, square]: &Moment<R>| square + pixels * (m - mean) * (m - mean);
        let square: R::Wide = images.iter().map(|image| about(&image[ch])).sum();
        let variance = (square / (n * pixels)).max(R::Wide::ZERO);
        let r = R::Wide::ONE / (variance + R::Wide::of(EPSILON)).sqrt();
        for (k, x) in [mean, r, variance].into_iter().enumerate() {
            stats[k * c + ch] = R::narrow(x);
        }
    }
}
