//! Relu, depthwise and 1 x 1 convolution of one image at a time, with everything between in the cache.

use super::channel::{Moments, WithNormalised, apply_part, expand, part_sums};
use super::depthwise::{PARTS, Passes};
use super::gemm::{OuterSum, Packed};
use super::padded::Map;
use super::scratch::Scratch;
use crate::ops::batch_norm::EPSILON;
use crate::ops::window::Window;
use crate::tensor::Real;
use rayon::prelude::*;

/// Shapes: the depthwise window, the input (N, H, W, C) and the channels of the result.
pub struct Sizes {
    pub window: Window,
    pub dims: [usize; 4],
    pub channels: usize,
}

/// Mean and r of each channel, repeated along a row of the image.
struct Norm<R>(Option<[Vec<R>; 2]>);

impl<R: Real> Norm<R> {
    fn new(stats: Option<(&[R], &[R])>, row: usize) -> Self {
        let repeat =
            |p: &[R]| p.iter().copied().cycle().take(row.max(p.len() * 64_usize.div_ceil(p.len()))).collect();
        Self(stats.map(|(mean, r)| [repeat(mean), repeat(r)]))
    }
    fn map(&self) -> Map<'_, R> {
        self.0.as_ref().map_or(Map::Relu, |[mean, r]| Map::NormRelu([mean, r]))
    }
}

/// z, and its mean, r and biased variance a channel.
pub fn forward<R: Real>(
    sizes: &Sizes,
    x: &[R],
    stats: Option<(&[R], &[R])>,
    depthwise: &[R],
    pointwise: &[R],
    z: &mut [R],
    saved: &mut [R],
) {
    let Sizes { window, dims: [n, .., c], channels: co } = *sizes;
    let passes = Passes::<R>::new(&window, sizes.dims, depthwise);
    let packed = Packed::new(c, co, |k, n| pointwise[n * c + k]);
    let norm = Norm::new(stats, sizes.dims[2] * c);
    let (image, out) = (x.len() / n, z.len() / n);
    // mean and centred sum of squares of every image
    let moments: Vec<Vec<[R::Wide; 2]>> = z
        .par_chunks_mut(out)
        .zip(x.par_chunks(image))
        .map_init(
            || (passes.forward_scratch(), Scratch::new(out / co * c)),
            |(padded, d), (z, x)| {
                passes.forward(x, &norm.map(), padded, d);
                packed.times(d, z, false);
                image_moments(z, co)
            },
        )
        .collect();
    let [images, pixels] = [n, out / co].map(|count| R::Wide::of(count as f64));
    for i in 0..co {
        let mean = moments.iter().map(|m| m[i][0]).sum::<R::Wide>() / images;
        let square = |d: R::Wide| d * d;
        let within: R::Wide = moments.iter().map(|m| m[i][1] + pixels * square(m[i][0] - mean)).sum();
        let variance = within / (images * pixels);
        let r = R::Wide::ONE / (variance + R::Wide::of(EPSILON)).sqrt();
        for (k, value) in [mean, r, variance].into_iter().enumerate() {
            saved[k * co + i] = R::narrow(value);
        }
    }
}

/// Mean, and sum of squares about it, of each channel of an image; about its first pixel, so that nothing cancels.
fn image_moments<R: Real>(z: &[R], c: usize) -> Vec<[R::Wide; 2]> {
    let shift = &expand(&[&z[..c]])[0];
    let [sum, square] = part_sums(z, z, c, [shift, shift], Moments);
    let m = R::Wide::of((z.len() / c) as f64);
    (0..c).map(|i| [z[i].wide() + sum[i] / m, (square[i] - sum[i] * sum[i] / m).max(R::Wide::ZERO)]).collect()
}

/// What the relu of `z` lets through.
#[inline(always)]
fn open<R: Real>(g: R, z: R) -> R {
    if z > R::ZERO { g } else { R::ZERO }
}

/// What a part of the batch adds up.
struct Part<R: Real> {
    sums: Vec<[Vec<R::Wide>; 2]>,
    depthwise: Scratch<R::Wide>,
    pointwise: Scratch<R>,
}

/// du (+)= the gradient at the relu's input; `sums` = its sums and those of du z, (2, C), z being the relu's input;
/// `weights` = the gradients of both convolutions.
#[allow(clippy::too_many_arguments)] // the operands of two convolutions and their gradients
pub fn gradient<R: Real>(
    sizes: &Sizes,
    dz: &[R],
    x: &[R],
    stats: Option<(&[R], &[R])>,
    depthwise: &[R],
    pointwise: &[R],
    du: &mut [R],
    accumulate: bool,
    sums: Option<&mut [R]>,
    weights: Option<(&mut [R], &mut [R])>,
) {
    let Sizes { window, dims: [n, .., c], channels: co } = *sizes;
    let passes = Passes::<R>::new(&window, sizes.dims, depthwise);
    let packed = Packed::new(co, c, |k, n| pointwise[k * c + n]);
    let outer = OuterSum::<R>::new(co, c);
    let norm = Norm::new(stats, sizes.dims[2] * c);
    let none = vec![R::ZERO; c];
    let rows = match stats {
        Some((mean, r)) => expand(&[mean, r]),
        None => expand(&[&none[..]]),
    };
    let (image, out) = (x.len() / n, dz.len() / n);
    let (group, taps) = (n.div_ceil(PARTS), window.taps());
    let (wants_weights, wants_sums) = (weights.is_some(), sums.is_some());
    let parts: Vec<Part<R>> = du
        .par_chunks_mut(image * group)
        .zip(x.par_chunks(image * group).zip(dz.par_chunks(out * group)))
        .map_init(
            || Spare::new(&passes, image, out / co * c, &outer),
            |spare, (du, (x, dz))| {
                let mut part = Part {
                    sums: Vec::new(),
                    depthwise: Scratch::zeros(if wants_weights { taps * c } else { 0 }),
                    pointwise: Scratch::zeros(if wants_weights { outer.size() } else { 0 }),
                };
                spare.tap_sums.fill(R::ZERO);
                for (du, (x, dz)) in du.chunks_mut(image).zip(x.chunks(image).zip(dz.chunks(out))) {
                    let Spare { padded, padded_back, row, d, dd, da, tap_sums, outer: spare_outer } = spare;
                    packed.times(dz, dd, false);
                    if wants_weights {
                        passes.forward(x, &norm.map(), padded, d);
                        outer.add(dz, d, &mut part.pointwise, spare_outer);
                        passes.weight_grad(padded, dd, tap_sums);
                    }
                    passes.input_grad(dd, padded_back, row, da);
                    match stats {
                        None => apply_part(da, x, &rows, du, accumulate, |da, x, _| open(da, x)),
                        Some(_) => {
                            let normed = |da, x, p: [R; 4]| open(da, (x - p[0]) * p[1]);
                            apply_part(da, x, &rows, du, accumulate, normed);
                        }
                    }
                    if wants_sums {
                        let rows = [&rows[0][..], &rows[rows.len() - 1][..]];
                        part.sums.push(part_sums(du, x, c, rows, WithNormalised));
                    }
                }
                if wants_weights {
                    passes.fold(&spare.tap_sums, &mut part.depthwise);
                }
                part
            },
        )
        .collect();
    if let Some(sums) = sums {
        for (i, to) in sums.iter_mut().enumerate() {
            *to = R::narrow(parts.iter().flat_map(|p| &p.sums).map(|s| s[i / c][i % c]).sum());
        }
    }
    if let Some((dd, dp)) = weights {
        for (i, to) in dd.iter_mut().enumerate() {
            *to = R::narrow(parts.iter().map(|p| p.depthwise[i % taps * c + i / taps]).sum());
        }
        let mut all = Scratch::new(parts.len() * outer.size());
        all.chunks_mut(outer.size()).zip(&parts).for_each(|(to, p)| to.copy_from_slice(&p.pointwise));
        outer.total(&all, |i, j, total| dp[i * c + j] = total);
    }
}

/// Working memory of one thread.
struct Spare<R> {
    padded: Scratch<R>,
    padded_back: Scratch<R>,
    row: Scratch<R>,
    d: Scratch<R>,
    dd: Scratch<R>,
    da: Scratch<R>,
    tap_sums: Scratch<R>,
    outer: Scratch<R>,
}

impl<R: Real> Spare<R> {
    fn new(passes: &Passes<R>, image: usize, between: usize, outer: &OuterSum<R>) -> Self {
        let (padded_back, row) = passes.input_grad_scratch();
        Self {
            padded: passes.forward_scratch(),
            padded_back,
            row,
            d: Scratch::new(between),
            dd: Scratch::new(between),
            da: Scratch::new(image),
            tap_sums: Scratch::new(passes.tap_sums_len()),
            outer: outer.spare(),
        }
    }
}
