//! Loops that give every channel its own constants, and sums over everything but the channels.
//!
//! Channels are innermost, so the constants repeat with period C. They are expanded to a row of at least 64 elements;
//! loops then run over equal-length rows whatever C is.

use crate::device::simd::{Kernel, Vector, dispatch};
use crate::tape::Out;
use crate::tensor::{Element, Real, Tensor};
use rayon::prelude::*;

/// Elements of one row: a multiple of C, at least 64.
fn row(c: usize) -> usize {
    c * 64_usize.div_ceil(c)
}

/// Elements of one work item: a whole number of rows, about 64 KiB of `f32`.
pub fn chunk(c: usize) -> usize {
    row(c) * (super::elementwise::CHUNK / row(c)).max(1)
}

/// `constants` (one slice a constant, C numbers each) repeated to fill a row.
pub fn expand<R: Real>(constants: &[&[R]]) -> Vec<Vec<R>> {
    constants.iter().map(|c| c.iter().copied().cycle().take(row(c.len())).collect()).collect()
}

/// y = f(x, constants of the channel) with `K` constants a channel, or y += f(..).
pub fn apply<R: Real + Element>(
    x: &Tensor,
    constants: &[&[R]],
    out: &mut Out,
    f: impl Fn(R, [R; 4]) -> R + Sync + Send + Copy,
) {
    let accumulate = out.accumulate;
    let c = constants[0].len();
    let rows = expand(constants);
    let (x, y) = (x.as_slice::<R>(), out.value.make_mut::<R>());
    y.par_chunks_mut(chunk(c)).zip(x.par_chunks(chunk(c))).for_each(|(y, x)| {
        dispatch(usize::MAX, Apply { a: x, b: x, y, rows: &rows, accumulate, f: |x, _, p| f(x, p) });
    });
}

/// y = f(a, b, constants of the channel), or y += f(..).
pub fn apply2<R: Real + Element>(
    a: &[R],
    b: &[R],
    constants: &[&[R]],
    out: &mut Out,
    f: impl Fn(R, R, [R; 4]) -> R + Sync + Send + Copy,
) {
    let accumulate = out.accumulate;
    let size = chunk(constants[0].len());
    let rows = expand(constants);
    let y = out.value.make_mut::<R>();
    y.par_chunks_mut(size).zip(a.par_chunks(size).zip(b.par_chunks(size))).for_each(|(y, (a, b))| {
        dispatch(usize::MAX, Apply { a, b, y, rows: &rows, accumulate, f });
    });
}

struct Apply<'a, R, F> {
    a: &'a [R],
    b: &'a [R],
    y: &'a mut [R],
    rows: &'a [Vec<R>],
    accumulate: bool,
    f: F,
}
impl<R: Real, F: Fn(R, R, [R; 4]) -> R> Kernel<R> for Apply<'_, R, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let n = self.rows[0].len();
        let pick = |k: usize| &self.rows[k.min(self.rows.len() - 1)][..];
        let p = [pick(0), pick(1), pick(2), pick(3)];
        let pixels = self.y.chunks_mut(n).zip(self.a.chunks(n).zip(self.b.chunks(n)));
        for (y, (a, b)) in pixels {
            let m = y.len();
            let (a, b) = (&a[..m], &b[..m]);
            let (p0, p1, p2, p3) = (&p[0][..m], &p[1][..m], &p[2][..m], &p[3][..m]);
            if self.accumulate {
                for i in 0..m {
                    y[i] += (self.f)(a[i], b[i], [p0[i], p1[i], p2[i], p3[i]]);
                }
            } else {
                for i in 0..m {
                    y[i] = (self.f)(a[i], b[i], [p0[i], p1[i], p2[i], p3[i]]);
                }
            }
        }
    }
}

/// Sums of a row position by position over all rows of a slice; `S` sums at once.
struct Sums<'a, R, F, const S: usize> {
    a: &'a [R],
    b: &'a [R],
    rows: &'a [Vec<R>],
    f: F,
}
impl<R: Real, F: Fn(R, R, [R; 2]) -> [R; S], const S: usize> Kernel<R> for Sums<'_, R, F, S> {
    type Output = [Vec<R>; S];
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) -> [Vec<R>; S] {
        let n = self.rows[0].len();
        let (p0, p1) = (&self.rows[0][..], &self.rows[self.rows.len() - 1][..]);
        let mut sums: [Vec<R>; S] = std::array::from_fn(|_| vec![R::ZERO; n]);
        for (a, b) in self.a.chunks(n).zip(self.b.chunks(n)) {
            let m = a.len();
            let (b, p0, p1) = (&b[..m], &p0[..m], &p1[..m]);
            let to = sums.each_mut().map(|s| &mut s[..m]);
            for i in 0..m {
                let terms = (self.f)(a[i], b[i], [p0[i], p1[i]]);
                for s in 0..S {
                    to[s][i] += terms[s];
                }
            }
        }
        sums
    }
}

/// Per channel, the sums over a chunked walk of `S` terms of (a, b, up to two constants); combined in `f64`, in order.
pub fn sums<R: Real, const S: usize>(
    a: &[R],
    b: &[R],
    constants: &[&[R]],
    f: impl Fn(R, R, [R; 2]) -> [R; S] + Sync + Send + Copy,
) -> [Vec<f64>; S] {
    let c = constants[0].len();
    let (size, rows) = (chunk(c), expand(constants));
    let parts: Vec<[Vec<R>; S]> = a
        .par_chunks(size)
        .zip(b.par_chunks(size))
        .map(|(a, b)| dispatch(usize::MAX, Sums { a, b, rows: &rows, f }))
        .collect();
    std::array::from_fn(|s| {
        let mut total = vec![0.0; c];
        for part in &parts {
            part[s].iter().enumerate().for_each(|(i, x)| total[i % c] += x.f64());
        }
        total
    })
}

/// out = per-channel sums of a, or of a b.
pub fn reduce<R: Real + Element>(a: &[R], b: Option<&[R]>, out: &mut Out) {
    let ones = vec![R::ONE; out.value.count()];
    let [total] = match b {
        Some(b) => sums(a, b, &[&ones], |a, b, _| [a * b]),
        None => sums(a, a, &[&ones], |a, _, _| [a]),
    };
    let accumulate = out.accumulate;
    for (y, t) in out.value.make_mut::<R>().iter_mut().zip(total) {
        *y = if accumulate { *y + R::of(t) } else { R::of(t) };
    }
}
