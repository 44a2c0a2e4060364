//! Loops over equal-length slices, cut into chunks of a fixed size: the same bits for any number of threads.

use crate::device::simd::{Kernel, Vector, dispatch_widest};
use crate::tape::Out;
use crate::tensor::{Element, Real, Tensor, Wide};
use rayon::prelude::*;

pub use oche_cpu::CHUNK;

// Jobs by reference, so that rayon's part is compiled once a type of number instead of once a loop.
type Job1<'a, R> = &'a (dyn Fn(&mut [R], &[R]) + Sync);
type Job2<'a, R> = &'a (dyn Fn(&mut [R], &[R], &[R]) + Sync);
type JobOfRow<'a, R> = &'a (dyn Fn(&mut [R], &[R], R) + Sync);

/// `job` for the chunks of `y` and `x` that belong together.
fn chunks1<R: Real>(y: &mut [R], x: &[R], job: Job1<R>) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| job(y, x));
}

/// The same of `y`, `a` and `b`.
fn chunks2<R: Real>(y: &mut [R], a: &[R], b: &[R], job: Job2<R>) {
    y.par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
        .for_each(|(y, (a, b))| job(y, a, b));
}

/// `job` for the rows of `size` elements of `y` and `x`, and the element of `s` for each.
fn rows<R: Real>(y: &mut [R], x: &[R], s: &[R], size: usize, job: JobOfRow<R>) {
    y.par_chunks_mut(size).zip(x.par_chunks(size).zip(s)).for_each(|(y, (x, &s))| job(y, x, s));
}

struct Map1<'a, R, F>(&'a [R], &'a mut [R], bool, F);
impl<R: Real, F: Fn(R) -> R> Kernel<R> for Map1<'_, R, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self(x, y, accumulate, f) = self;
        if accumulate {
            x.iter().zip(y).for_each(|(&x, y)| *y += f(x));
        } else {
            x.iter().zip(y).for_each(|(&x, y)| *y = f(x));
        }
    }
}

/// y = f(x), or y += f(x).
pub fn map1<R: Real + Element>(x: &Tensor, out: &mut Out, f: impl Fn(R) -> R + Sync + Send + Copy) {
    let accumulate = out.accumulate;
    let (x, y) = (x.as_slice::<R>(), out.value.make_mut::<R>());
    chunks1(y, x, &|y, x| dispatch_widest(Map1(x, y, accumulate, f)));
}

struct Map2<'a, R, F>(&'a [R], &'a [R], &'a mut [R], bool, F);
impl<R: Real, F: Fn(R, R) -> R> Kernel<R> for Map2<'_, R, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self(a, b, y, accumulate, f) = self;
        if accumulate {
            a.iter().zip(b).zip(y).for_each(|((&a, &b), y)| *y += f(a, b));
        } else {
            a.iter().zip(b).zip(y).for_each(|((&a, &b), y)| *y = f(a, b));
        }
    }
}

/// y = f(a, b), or y += f(a, b).
pub fn map2<R: Real + Element>(
    a: &Tensor,
    b: &Tensor,
    out: &mut Out,
    f: impl Fn(R, R) -> R + Sync + Send + Copy,
) {
    let accumulate = out.accumulate;
    let (a, b, y) = (a.as_slice::<R>(), b.as_slice::<R>(), out.value.make_mut::<R>());
    chunks2(y, a, b, &|y, a, b| dispatch_widest(Map2(a, b, y, accumulate, f)));
}

/// y_n = f(x_n, s_n) for each element of row n of x, or y_n += f(x_n, s_n); a row is what lies under one s.
pub fn map_rows<R: Real + Element>(
    x: &Tensor,
    s: &Tensor,
    out: &mut Out,
    f: impl Fn(R, R) -> R + Sync + Send + Copy,
) {
    let (accumulate, size) = (out.accumulate, (x.count() / s.count().max(1)).max(1));
    let (x, s, y) = (x.as_slice::<R>(), s.as_slice::<R>(), out.value.make_mut::<R>());
    rows(y, x, s, size, &|y, x, s| dispatch_widest(Map1(x, y, accumulate, move |x| f(x, s))));
}

/// The sum over chunk starts 0, CHUNK, ... below `count` of `part(start)`, added in that order.
pub fn sum_chunks<W: Wide>(count: usize, part: impl Fn(usize) -> W + Sync + Send) -> W {
    parts(count.div_ceil(CHUNK), &|chunk| part(chunk * CHUNK)).into_iter().sum()
}

fn parts<W: Wide>(count: usize, part: &(dyn Fn(usize) -> W + Sync)) -> Vec<W> {
    (0..count).into_par_iter().map(part).collect()
}
