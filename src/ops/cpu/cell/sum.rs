//! Weighted sums of images by channel, and the products with a gradient that their backward needs.

use super::pixels::add_to;
use crate::device::real::Real;
use crate::device::simd::{Kernel, Vector, prefetch};
use std::mem::MaybeUninit;

/// Elements of one block: what a sweep leaves stays in the first-level cache for the next one.
const BLOCK: usize = 4096;
/// Elements that are fetched ahead of their use.
const AHEAD: usize = 512;

/// An image that is read: its first element and elements from one pixel to the next.
pub type Image<R> = (*const R, usize);

/// `out[pixel][c] = constant[c] + sum over terms of factors[term][c] * image[pixel][c]`.
///
/// The pointers must be valid for the pixels, and the lanes divide `constant`'s length.
pub struct Sum<'a, R> {
    pub images: &'a [Image<R>],
    pub factors: &'a [R],
    pub constant: &'a [R],
    pub out: (*mut R, usize),
    pub pixels: usize,
}

impl<R: Real> Kernel<R> for Sum<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let (c, mut near) = (self.constant.len(), [const { MaybeUninit::<R>::uninit() }; BLOCK]);
        let block = (BLOCK / c).max(1);
        for start in (0..self.pixels).step_by(block) {
            let pixels = block.min(self.pixels - start);
            let out = (self.out.0.wrapping_add(start * self.out.1), self.out.1);
            let between = if c <= BLOCK { (near.as_mut_ptr().cast(), c) } else { out };
            let mut k = 0;
            while k == 0 || k < self.images.len() {
                let left = self.images.len() - k;
                let terms = [8, 4, 1, 0].into_iter().find(|&n| n <= left).unwrap_or(0);
                let to = if terms == left { out } else { between };
                // SAFETY: the contract of the type.
                unsafe {
                    match terms {
                        8 => self.sweep::<V, 8>(k, start, pixels, between, to),
                        4 => self.sweep::<V, 4>(k, start, pixels, between, to),
                        1 => self.sweep::<V, 1>(k, start, pixels, between, to),
                        _ => self.sweep::<V, 0>(k, start, pixels, between, to),
                    }
                }
                k += terms.max(1);
            }
        }
    }
}

impl<R: Real> Sum<'_, R> {
    /// `to` = terms `k..k + N` and what was there before them: the constant, or the sum `between` two sweeps.
    #[inline(always)]
    unsafe fn sweep<V: Vector<Elem = R>, const N: usize>(
        &self,
        k: usize,
        start: usize,
        pixels: usize,
        between: (*mut R, usize),
        to: (*mut R, usize),
    ) {
        let c = self.constant.len();
        // SAFETY: the caller's.
        unsafe {
            let mut from = [(to.0.cast_const(), 0); N];
            for (i, from) in from.iter_mut().enumerate() {
                let (image, step) = self.images[k + i];
                *from = (image.add(start * step), step);
            }
            for p in 0..pixels {
                for r in (0..c).step_by(V::LANES) {
                    let before = between.0.add(p * between.1 + r).cast_const();
                    let mut sum = V::load(if k == 0 { self.constant.as_ptr().add(r) } else { before });
                    for (i, (from, step)) in from.iter().enumerate() {
                        let factor = V::load(self.factors.as_ptr().add((k + i) * c + r));
                        prefetch(from.wrapping_add(p * step + r + AHEAD), V::LANES);
                        sum = V::load(from.add(p * step + r)).fma(factor, sum);
                    }
                    sum.store(to.0.add(p * to.1 + r));
                }
            }
        }
    }
}

/// `sums[term][c] = sum over pixels of g[pixel][c] * (image[pixel][c] - shifts[term][c])`, and in the row after the
/// last term's the sums of g.
///
/// The pointers must be valid for the pixels, and the lanes divide `c`.
pub struct Products<'a, R> {
    pub g: Image<R>,
    pub images: &'a [Image<R>],
    pub shifts: &'a [R],
    pub c: usize,
    pub pixels: usize,
    /// Zeroed.
    pub sums: &'a mut [R],
}

impl<R: Real> Kernel<R> for Products<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(mut self) {
        let block = (BLOCK / self.c).max(1);
        for start in (0..self.pixels).step_by(block) {
            let pixels = block.min(self.pixels - start);
            // SAFETY: the contract of the type.
            unsafe {
                for k in (0..self.images.len()).step_by(2) {
                    match self.images.len() - k {
                        1 => self.sweep::<V, 1>(k, start, pixels),
                        _ => self.sweep::<V, 2>(k, start, pixels),
                    }
                }
                self.plain::<V>(start, pixels);
            }
        }
    }
}

impl<R: Real> Products<'_, R> {
    #[inline(always)]
    unsafe fn sweep<V: Vector<Elem = R>, const N: usize>(&mut self, k: usize, start: usize, pixels: usize) {
        // SAFETY: the caller's.
        unsafe {
            match N {
                1 => stretches!(V, self.c, Self::one(self, k, start, pixels)),
                _ => stretches!(V, self.c, Self::two(self, k, start, pixels)),
            }
        }
    }
    #[inline(always)]
    unsafe fn one<V: Vector<Elem = R>, const P: usize>(
        &mut self,
        k: usize,
        start: usize,
        pixels: usize,
        r: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { self.terms::<V, P, 1>(k, start, pixels, r) }
    }
    #[inline(always)]
    unsafe fn two<V: Vector<Elem = R>, const P: usize>(
        &mut self,
        k: usize,
        start: usize,
        pixels: usize,
        r: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { self.terms::<V, P, 2>(k, start, pixels, r) }
    }

    /// Channels `r..` of terms `k..k + N`.
    #[inline(always)]
    unsafe fn terms<V: Vector<Elem = R>, const P: usize, const N: usize>(
        &mut self,
        k: usize,
        start: usize,
        pixels: usize,
        r: usize,
    ) {
        let mut sum = [[V::zero(); N]; P];
        let (mut shift, mut from) = ([V::zero(); N], [(self.g.0, 0); N]);
        // SAFETY: the caller's.
        unsafe {
            for i in 0..N {
                let (image, step) = self.images[k + i];
                from[i] = (image.add(start * step + r), step);
                shift[i] = V::load(self.shifts.as_ptr().add((k + i) * self.c + r));
            }
            let g = self.g.0.add(start * self.g.1 + r);
            for first in (0..pixels).step_by(P) {
                for (part, sum) in sum.iter_mut().enumerate().take(pixels - first) {
                    let p = first + part;
                    let g = V::load(g.add(p * self.g.1));
                    for i in 0..N {
                        let at = from[i].0.wrapping_add(p * from[i].1);
                        prefetch(at.wrapping_add(AHEAD), V::LANES);
                        sum[i] = g.fma(V::load(at).sub(shift[i]), sum[i]);
                    }
                }
            }
            for (i, x) in sum.into_iter().flat_map(|part| part.into_iter().enumerate()) {
                add_to(x, self.sums.as_mut_ptr().add((k + i) * self.c + r));
            }
        }
    }

    #[inline(always)]
    unsafe fn plain<V: Vector<Elem = R>>(&mut self, start: usize, pixels: usize) {
        for r in (0..self.c).step_by(V::LANES) {
            // SAFETY: the caller's.
            unsafe {
                let g = self.g.0.add(start * self.g.1 + r);
                let to = self.sums.as_mut_ptr().add(self.images.len() * self.c + r);
                let mut sum = V::load(to);
                for p in 0..pixels {
                    sum = sum.add(V::load(g.add(p * self.g.1)));
                }
                sum.store(to);
            }
        }
    }
}
