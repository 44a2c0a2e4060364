//! The gradients: with z normalised, S1 = sum g and S2 = sum g z over the M pixels of a channel, the convolution's
//! result has the gradient `gamma r (g - S1/M - z S2/M)`, which is made block by block where it is read.

use super::pixels::{Gather, Open};
use super::{By, Sizes, lean};
use crate::ahead::{Ahead, Stream};
use crate::channel::{WithNormalised, apply_part, expand, sums};
use crate::gemm::OuterSum;
use crate::jobs::each;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::dispatch_widest;
use std::ops::Range;

/// For the weights' gradients the batch is cut in at most so many parts with sums of their own, whatever the number of
/// threads.
pub const PARTS: usize = 16;

/// Where the gradients go, as far as they are wanted.
pub struct Gradients<'a, R> {
    pub x: Option<&'a mut [R]>,
    /// One a weight tensor, or none.
    pub weights: Vec<&'a mut [R]>,
    /// Of scale and shift.
    pub affine: Option<(&'a mut [R], &'a mut [R])>,
    /// Add to the first of them instead of overwriting it.
    pub accumulate: bool,
}

/// What the forward pass left.
pub struct Kept<'a, R> {
    /// The normalised result or, with a scale, the convolution's.
    pub value: &'a [R],
    pub gamma: Option<&'a [R]>,
    pub stats: &'a [R],
    /// The statistics are constants.
    pub given: bool,
}

/// The gradients of everything from `g`, that of the result.
pub fn gradient<R: Real>(
    sizes: &Sizes,
    x: &[R],
    weights: &[&[R]],
    kept: &Kept<R>,
    g: &[R],
    mut to: Gradients<R>,
) {
    let pack = |w: &&[R]| By::new(sizes, [sizes.share(), sizes.input], |o, i| w[o * sizes.input + i]);
    let back = if to.x.is_some() { weights.iter().map(pack).collect() } else { vec![] };
    let outer = OuterSum::new(sizes.share(), sizes.input);
    let factors = factors(sizes, kept, g, to.affine.take());
    let pass = Pass { sizes, x, value: kept.value, g, factors, back, outer, weights: !to.weights.is_empty() };
    let group = if to.weights.is_empty() { 1 } else { sizes.n.div_ceil(PARTS) };
    let count = sizes.n.div_ceil(group);
    let mut parts: Vec<Scratch<R>> =
        to.weights.iter().map(|_| Scratch::zeros(count * pass.outer.size())).collect();
    let mut sums: Vec<Vec<&mut [R]>> = (0..count).map(|_| vec![]).collect();
    for all in &mut parts {
        sums.iter_mut().zip(all.chunks_exact_mut(pass.outer.size())).for_each(|(sums, sum)| sums.push(sum));
    }
    let accumulate = to.accumulate && to.x.is_some();
    let mut dx = to.x.take().map(|dx| dx.chunks_mut(group * sizes.image()));
    let dx: Vec<_> = (0..count).map(|_| dx.as_mut().and_then(Iterator::next)).collect();
    each(
        sums.into_iter().zip(dx),
        || Work::new(&pass),
        |work, k, (mut sums, mut dx)| {
            for i in k * group..((k + 1) * group).min(sizes.n) {
                let own = (i - k * group) * sizes.image()..(i - k * group + 1) * sizes.image();
                let dx = dx.as_deref_mut().map(|dx| &mut dx[own]);
                pass.pull(i, work, dx, accumulate, &mut sums);
            }
        },
    );
    let add = to.accumulate && !accumulate;
    for (k, (parts, dw)) in parts.iter().zip(to.weights).enumerate() {
        pass.outer.total(parts, |o, i, total| {
            let dw = &mut dw[o * sizes.input + i];
            *dw = if add && k == 0 { *dw + total } else { total };
        });
    }
}

/// The convolutions' gradient is `[0]` g + `[1]` value + `[2]` in every channel; repeated to rows of whole pixels. Writes
/// the gradients of scale and shift, which need the same sums.
fn factors<R: Real>(
    sizes: &Sizes,
    kept: &Kept<R>,
    g: &[R],
    affine: Option<(&mut [R], &mut [R])>,
) -> Vec<Vec<R>> {
    let c = sizes.output;
    let (zeros, ones) = (vec![R::ZERO; c], vec![R::ONE; c]);
    // z = (value - mean) by
    let (mean, by) = match kept.gamma {
        Some(_) => (&kept.stats[..c], &kept.stats[c..2 * c]),
        None => (&zeros[..], &ones[..]),
    };
    let gamma = kept.gamma.unwrap_or(&ones);
    let scale: Vec<R> =
        kept.stats[c..2 * c].iter().zip(gamma).map(|(r, g)| R::narrow(r.wide() * g.wide())).collect();
    if kept.given && affine.is_none() {
        return expand(&[&scale, &zeros, &zeros]);
    }
    let [s1, s2] = sums(g, kept.value, &[mean, by], WithNormalised);
    if let Some((gamma, beta)) = affine {
        gamma.iter_mut().zip(&s2).for_each(|(to, &s)| *to = R::narrow(s));
        beta.iter_mut().zip(&s1).for_each(|(to, &s)| *to = R::narrow(s));
    }
    if kept.given {
        return expand(&[&scale, &zeros, &zeros]);
    }
    let m = R::Wide::of((sizes.n * sizes.pixels()) as f64);
    let (mut by_value, mut plus) = (vec![R::ZERO; c], vec![R::ZERO; c]);
    for ch in 0..c {
        let by_z = -(scale[ch].wide() * s2[ch]) / m;
        let slope = by_z * by[ch].wide();
        by_value[ch] = R::narrow(slope);
        plus[ch] = R::narrow(-(scale[ch].wide() * s1[ch]) / m - slope * mean[ch].wide());
    }
    expand(&[&scale, &by_value, &plus])
}

struct Pass<'a, R: Real> {
    sizes: &'a Sizes,
    x: &'a [R],
    value: &'a [R],
    g: &'a [R],
    factors: Vec<Vec<R>>,
    /// The transposed convolutions, if the gradient of x is wanted.
    back: Vec<By<R>>,
    outer: OuterSum<R>,
    /// The weights' gradients are wanted.
    weights: bool,
}

/// Working memory of one thread, for one block.
struct Work<R: Real> {
    dz: Scratch<R>,
    /// relu(x)
    a: Scratch<R>,
    da: Scratch<R>,
    spare: Scratch<R>,
    /// dz and relu(x) as they are kept, and pairs of them, if products are lean.
    kept: [Scratch<R::Kept>; 2],
    pairs: Scratch<R::Kept>,
}

impl<R: Real> Work<R> {
    fn new(pass: &Pass<R>) -> Self {
        let sizes = pass.sizes;
        Self {
            dz: Scratch::new(sizes.rows() * sizes.out()[1] * sizes.output),
            a: sizes.gathered(),
            da: Scratch::new(sizes.rows() * sizes.out()[1] * sizes.input),
            spare: pass.outer.spare(),
            kept: [sizes.output, sizes.input].map(|channels| sizes.kept::<R>(channels)),
            pairs: match lean::vectors::<R>(sizes) {
                Some(_) => Scratch::new((sizes.rows() * sizes.out()[1] + 1) * (sizes.share() + sizes.input)),
                None => Scratch::new(0),
            },
        }
    }
}

impl<R: Real> Pass<'_, R> {
    /// Image `i`: its gradient to `dx`, and its share in the `sums` of the weights.
    fn pull(
        &self,
        i: usize,
        work: &mut Work<R>,
        mut dx: Option<&mut [R]>,
        accumulate: bool,
        sums: &mut [&mut [R]],
    ) {
        let sizes = self.sizes;
        let x = &self.x[i * sizes.image()..][..sizes.image()];
        if let (Some(dx), false, 2..) = (&mut dx, accumulate, sizes.stride) {
            dx.fill(R::ZERO); // not every pixel is read
        }
        let accumulate = accumulate || sizes.stride > 1;
        for rows in sizes.blocks() {
            let pixels = rows.len() * sizes.out()[1];
            self.read(i, &rows, &mut work.dz);
            let mut ahead = self.ahead(i, &rows, dx.as_deref().map(|dx| dx.as_ptr()));
            let (vectors, len) = (lean::vectors::<R>(sizes), pixels * sizes.output);
            if let Some(vectors) = vectors {
                lean::Round { from: &work.dz[..len], to: &mut work.kept[0][..len] }.run_on(vectors);
            }
            for k in 0..sizes.stride {
                let (at, start) = (sizes.read(&rows, k), k * sizes.share());
                let dz = (&work.dz[start..], sizes.output);
                let [dz_kept, a_kept] = &mut work.kept;
                if let Some(sum) = sums.get_mut(k) {
                    match vectors {
                        None => {
                            let a = &mut work.a[..at.elements()];
                            dispatch_widest(Gather { x, from: at, to: a });
                            self.outer.add_within(dz, a, sum, &mut work.spare, &mut ahead);
                        }
                        Some(vectors) => {
                            let a_kept = &mut a_kept[..at.elements()];
                            lean::Gather { x, from: at, to: a_kept }.run_on(vectors);
                            let [a, b] = [(&dz_kept[start..], sizes.output), (&*a_kept, sizes.input)]
                                .map(|(kept, step)| lean::Factor { kept, step });
                            let (of, room) = ([sizes.share(), sizes.input], &mut work.pairs);
                            lean::Outer { a, b, of, pixels, sum, room }.run_on(vectors);
                        }
                    }
                }
                if let Some(dx) = dx.as_deref_mut() {
                    let da = &mut work.da[..at.elements()];
                    match &self.back[k] {
                        By::Wide(by) => by.times_within(dz, (da, sizes.input), pixels, false, &mut ahead),
                        &By::Lean { ref by, of, vectors } => {
                            let x = lean::Factor { kept: &dz_kept[start..], step: sizes.output };
                            let (y, y_step, ahead) = (&mut *da, sizes.input, &mut ahead);
                            lean::Times { x, by, of, y, y_step, pixels, ahead }.run_on(vectors);
                        }
                    }
                    dispatch_widest(Open { da, x, at, dx, accumulate });
                }
            }
        }
    }

    /// What comes after some rows of image `i`, whose part of the gradient is `dx`.
    fn ahead(&self, i: usize, rows: &Range<usize>, dx: Option<*const R>) -> Ahead {
        let (sizes, pixels) = (self.sizes, rows.len() * self.sizes.out()[1]);
        let c = sizes.output;
        let at = (i * sizes.pixels() + rows.end * sizes.out()[1]) * c;
        let of = |all: &[R]| Some(Stream::new((all.as_ptr().wrapping_add(at), c), c));
        let x = sizes.following(self.x.as_ptr(), i, rows);
        let dx = dx.and_then(|dx| sizes.following(dx, 0, rows));
        let products = self.back.iter().map(|back| back.fetches(pixels)).sum::<usize>();
        let sums = if self.weights { sizes.stride * self.outer.fetches(pixels) } else { 0 };
        let streams = [of(self.g), of(self.value), x, dx];
        Ahead::new(streams.into_iter().flatten(), pixels, products + sums)
    }

    /// The gradient of the convolutions' results in some rows of image `i`.
    fn read(&self, i: usize, rows: &Range<usize>, dz: &mut [R]) {
        let row = self.sizes.out()[1] * self.sizes.output;
        let (start, len) = (i * self.sizes.pixels() * self.sizes.output + rows.start * row, rows.len() * row);
        let (g, value) = (&self.g[start..start + len], &self.value[start..start + len]);
        apply_part(g, value, &self.factors, &mut dz[..len], false, |g, x, p| p[0] * g + p[1] * x + p[2]);
    }
}
