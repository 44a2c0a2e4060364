//! Loops that give every channel its own constants, and sums over everything but the channels.
//!
//! Channels are innermost, so the constants repeat with period C. They are expanded to a row of at least 64 elements;
//! loops then run over equal-length rows whatever C is.

use crate::CHUNK;
use crate::jobs::{all, each};
use crate::real::Real;
use crate::simd::{self, Kernel, Vector, dispatch_widest};

/// Elements of one row: a multiple of C, at least 64.
fn row(c: usize) -> usize {
    c * 64_usize.div_ceil(c)
}

/// Elements of one work item: a whole number of rows, about 64 KiB of `f32`.
pub fn chunk(c: usize) -> usize {
    row(c) * (CHUNK / row(c)).max(1)
}

/// `constants` (one slice a constant, C numbers each) repeated to fill a row.
pub fn expand<R: Real>(constants: &[&[R]]) -> Vec<Vec<R>> {
    constants.iter().map(|c| c.iter().copied().cycle().take(row(c.len())).collect()).collect()
}

/// y = f(a, b, constants of the channel) with up to four constants a channel, or y += f(..).
pub fn apply<R: Real>(
    [a, b]: [&[R]; 2],
    constants: &[&[R]],
    y: &mut [R],
    accumulate: bool,
    f: impl Fn(R, R, [R; 4]) -> R + Sync + Send + Copy,
) {
    let size = chunk(constants[0].len());
    let rows = expand(constants);
    let parts = y.chunks_mut(size).zip(a.chunks(size).zip(b.chunks(size)));
    all(parts, |(y, (a, b))| dispatch_widest(Apply { a, b, y, rows: &rows, accumulate, f }));
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

/// `S` numbers to add up over the pixels, from two elements and up to two constants of their channel.
pub trait Terms<const S: usize>: Copy + Sync + Send {
    fn of<V: Vector>(self, a: V, b: V, constants: [V; 2]) -> [V; S];
}

/// a
#[derive(Clone, Copy)]
pub struct Plain;
impl Terms<1> for Plain {
    #[inline(always)]
    fn of<V: Vector>(self, a: V, _b: V, _p: [V; 2]) -> [V; 1] {
        [a]
    }
}

/// a b
#[derive(Clone, Copy)]
pub struct Product;
impl Terms<1> for Product {
    #[inline(always)]
    fn of<V: Vector>(self, a: V, b: V, _p: [V; 2]) -> [V; 1] {
        [a.mul(b)]
    }
}

/// a - p0 and its square: the moments about p0
#[derive(Clone, Copy)]
pub struct Moments;
impl Terms<2> for Moments {
    #[inline(always)]
    fn of<V: Vector>(self, a: V, _b: V, [shift, _]: [V; 2]) -> [V; 2] {
        let d = a.sub(shift);
        [d, d.mul(d)]
    }
}

/// a and a z for z = (b - p0) p1: what the backward of a batch norm needs
#[derive(Clone, Copy)]
pub struct WithNormalised;
impl Terms<2> for WithNormalised {
    #[inline(always)]
    fn of<V: Vector>(self, a: V, b: V, [mean, r]: [V; 2]) -> [V; 2] {
        [a, a.mul(b.sub(mean).mul(r))]
    }
}

/// a z for z = (b - p0) p1
#[derive(Clone, Copy)]
pub struct TimesNormalised;
impl Terms<1> for TimesNormalised {
    #[inline(always)]
    fn of<V: Vector>(self, a: V, b: V, [mean, r]: [V; 2]) -> [V; 1] {
        [a.mul(b.sub(mean).mul(r))]
    }
}

/// Sums of `S` terms, position by position of a row, over all rows of a slice; four vectors at a time in registers.
struct Sums<'a, R, T, const S: usize> {
    a: &'a [R],
    b: &'a [R],
    rows: [&'a [R]; 2],
    terms: T,
}
impl<R: Real, T: Terms<S>, const S: usize> Kernel<R> for Sums<'_, R, T, S> {
    type Output = [Vec<R>; S];
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) -> [Vec<R>; S] {
        let n = self.rows[0].len();
        let mut sums: [Vec<R>; S] = std::array::from_fn(|_| vec![R::ZERO; n]);
        let mut at = 0;
        while at < n {
            at += match n - at {
                rest if rest >= 4 * V::LANES => self.strip::<V, 4>(at, &mut sums),
                rest if rest >= V::LANES => self.strip::<V, 1>(at, &mut sums),
                rest => self.rest(at, rest, &mut sums),
            };
        }
        sums
    }
}

/// `W` vectors side by side. No closure: vector instructions in one may stay function calls.
///
/// # Safety
/// `from` holds them.
#[inline(always)]
unsafe fn load<V: Vector, const W: usize>(from: &[V::Elem]) -> [V; W] {
    let mut all = [V::zero(); W];
    for (v, x) in all.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *x = unsafe { V::load(from.as_ptr().add(v * V::LANES)) };
    }
    all
}

impl<R: Real, T: Terms<S>, const S: usize> Sums<'_, R, T, S> {
    /// Positions `at..at + W * LANES` of every row; returns how many those are.
    #[inline(always)]
    fn strip<V: Vector<Elem = R>, const W: usize>(&self, at: usize, sums: &mut [Vec<R>; S]) -> usize {
        let (n, width) = (self.rows[0].len(), W * V::LANES);
        let mut acc = [[V::zero(); W]; S];
        // SAFETY: `i + width <= a.len() = b.len()` and `at + width <= n`, the length of the constant rows and sums.
        unsafe {
            let (p0, p1): ([V; W], [V; W]) = (load(&self.rows[0][at..]), load(&self.rows[1][at..]));
            let mut i = at;
            while i + width <= self.a.len() {
                let (a, b): ([V; W], [V; W]) = (load(&self.a[i..]), load(&self.b[i..]));
                for v in 0..W {
                    let terms = self.terms.of(a[v], b[v], [p0[v], p1[v]]);
                    for (acc, term) in acc.iter_mut().zip(terms) {
                        acc[v] = acc[v].add(term);
                    }
                }
                i += n;
            }
            for (sums, acc) in sums.iter_mut().zip(acc) {
                for (v, acc) in acc.into_iter().enumerate() {
                    acc.store(sums.as_mut_ptr().add(at + v * V::LANES));
                }
            }
            self.cut(i, at, width, sums);
        }
        width
    }
    /// The positions of the last row, if it ends within the strip.
    #[inline(always)]
    fn cut(&self, i: usize, at: usize, width: usize, sums: &mut [Vec<R>; S]) {
        for k in 0..width.min(self.a.len().saturating_sub(i)) {
            self.one(i + k, at + k, sums);
        }
    }
    /// The last positions of every row, fewer than a vector.
    #[inline(always)]
    fn rest(&self, at: usize, width: usize, sums: &mut [Vec<R>; S]) -> usize {
        for start in (at..self.a.len()).step_by(self.rows[0].len()) {
            self.cut(start, at, width, sums);
        }
        width
    }
    #[inline(always)]
    fn one(&self, i: usize, at: usize, sums: &mut [Vec<R>; S]) {
        let [a, b, p0, p1] =
            [self.a[i], self.b[i], self.rows[0][at], self.rows[1][at]].map(|x| simd::Plain([x]));
        let terms: [simd::Plain<R, 1>; S] = self.terms.of(a, b, [p0, p1]);
        sums.iter_mut().zip(terms).for_each(|(sums, term)| sums[at] += term.0[0]);
    }
}

/// Per channel, the sums of `terms` over the pixels of one work item, on the calling thread.
pub fn part_sums<R: Real, T: Terms<S>, const S: usize>(
    a: &[R],
    b: &[R],
    c: usize,
    rows: [&[R]; 2],
    terms: T,
) -> [Vec<R::Wide>; S] {
    dispatch_widest(Sums { a, b, rows, terms }).map(|part| {
        let mut total = vec![R::Wide::ZERO; c];
        part.iter().enumerate().for_each(|(i, x)| total[i % c] += x.wide());
        total
    })
}

/// y = f(a, b, constants of the channel), or y += f(..), on the calling thread; `rows` from [`expand`].
pub fn apply_part<R: Real>(
    a: &[R],
    b: &[R],
    rows: &[Vec<R>],
    y: &mut [R],
    accumulate: bool,
    f: impl Fn(R, R, [R; 4]) -> R + Copy,
) {
    dispatch_widest(Apply { a, b, y, rows, accumulate, f });
}

/// Per channel, the sums of `terms` over all pixels; chunk by chunk, then in double precision and in order.
pub fn sums<R: Real, T: Terms<S>, const S: usize>(
    a: &[R],
    b: &[R],
    constants: &[&[R]],
    terms: T,
) -> [Vec<R::Wide>; S] {
    let c = constants[0].len();
    let (size, rows) = (chunk(c), expand(constants));
    let rows = [&rows[0][..], &rows[rows.len() - 1][..]];
    let parts = a.chunks(size).zip(b.chunks(size));
    let parts: Vec<[Vec<R>; S]> =
        each(parts, || (), |(), _, (a, b)| dispatch_widest(Sums { a, b, rows, terms }));
    std::array::from_fn(|s| {
        let mut total = vec![R::Wide::ZERO; c];
        for part in &parts {
            part[s].iter().enumerate().for_each(|(i, x)| total[i % c] += x.wide());
        }
        total
    })
}

/// y = per-channel sums of a, or of a b; or y += those.
pub fn reduce<R: Real>(a: &[R], b: Option<&[R]>, y: &mut [R], accumulate: bool) {
    let ones = vec![R::ONE; y.len()];
    let [total] = match b {
        Some(b) => sums(a, b, &[&ones], Product),
        None => sums(a, a, &[&ones], Plain),
    };
    for (y, t) in y.iter_mut().zip(total) {
        *y = if accumulate { *y + R::narrow(t) } else { R::narrow(t) };
    }
}
