//! Loops over pixels of one image: the relu as they are gathered, its gradient, and the norm in place.

use crate::real::Real;
use crate::simd::{Kernel, Vector};

/// Stretches of `len` elements of an image, rows of them: where they start, how many, and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Stretches {
    pub start: usize,
    /// Rows, and stretches of a row.
    pub counts: [usize; 2],
    pub steps: [usize; 2],
    pub len: usize,
}

impl Stretches {
    pub fn starts(&self) -> impl Iterator<Item = usize> {
        let Self { start, counts: [rows, columns], steps: [down, right], .. } = *self;
        (0..rows).flat_map(move |i| (0..columns).map(move |j| start + i * down + j * right))
    }
    /// Elements of all.
    pub fn elements(&self) -> usize {
        self.counts[0] * self.counts[1] * self.len
    }
}

/// to = relu(x), the stretches of x one after the other
pub struct Gather<'a, R> {
    pub x: &'a [R],
    pub from: Stretches,
    pub to: &'a mut [R],
}
impl<R: Real> Kernel<R> for Gather<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let len = self.from.len;
        for (start, to) in self.from.starts().zip(self.to.chunks_exact_mut(len)) {
            for (to, &x) in to.iter_mut().zip(&self.x[start..start + len]) {
                *to = if x < R::ZERO { R::ZERO } else { x };
            }
        }
    }
}

/// dx = da where x > 0, else 0, or dx += that, in stretches of dx and x
pub struct Open<'a, R> {
    pub da: &'a [R],
    pub x: &'a [R],
    pub at: Stretches,
    pub dx: &'a mut [R],
    pub accumulate: bool,
}
impl<R: Real> Kernel<R> for Open<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let len = self.at.len;
        for (start, da) in self.at.starts().zip(self.da.chunks_exact(len)) {
            let (dx, x) = (&mut self.dx[start..start + len], &self.x[start..start + len]);
            let all = dx.iter_mut().zip(x.iter().zip(da));
            if self.accumulate {
                all.for_each(|(dx, (&x, &da))| *dx += if x > R::ZERO { da } else { R::ZERO });
            } else {
                all.for_each(|(dx, (&x, &da))| *dx = if x > R::ZERO { da } else { R::ZERO });
            }
        }
    }
}

/// y = (y - mean) r, mean and r being repeated to rows of whole pixels
pub struct Normalise<'a, R> {
    pub y: &'a mut [R],
    pub mean: &'a [R],
    pub r: &'a [R],
}
impl<R: Real> Kernel<R> for Normalise<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        for y in self.y.chunks_mut(self.mean.len()) {
            for (y, (&mean, &r)) in y.iter_mut().zip(self.mean.iter().zip(self.r)) {
                *y = (*y - mean) * r;
            }
        }
    }
}
