//! Weighted sums of images by channel, and the products with a gradient that their backward needs.

use super::pixels::add_to;
use crate::device::real::Real;
use crate::device::simd::{Kernel, Vector, prefetch};

/// Terms of one sweep: as many streams as prefetchers follow easily.
const SWEEP: usize = 4;
/// Elements of one block: what is written stays near from sweep to sweep.
const BLOCK: usize = 8192;
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
        let block = (BLOCK / self.constant.len()).max(1);
        for start in (0..self.pixels).step_by(block) {
            let pixels = block.min(self.pixels - start);
            // SAFETY: the contract of the type.
            unsafe {
                let mut k = 0;
                while k + SWEEP <= self.images.len() {
                    self.sweep::<V, SWEEP>(k, start, pixels);
                    k += SWEEP;
                }
                if k == 0 && self.images.is_empty() {
                    self.sweep::<V, 0>(0, start, pixels);
                }
                while k < self.images.len() {
                    self.sweep::<V, 1>(k, start, pixels);
                    k += 1;
                }
            }
        }
    }
}

impl<R: Real> Sum<'_, R> {
    /// Terms `k..k + N`; the first sweep starts from the constant.
    #[inline(always)]
    unsafe fn sweep<V: Vector<Elem = R>, const N: usize>(&self, k: usize, start: usize, pixels: usize) {
        let c = self.constant.len();
        // SAFETY: the caller's.
        unsafe {
            let out = self.out.0.add(start * self.out.1);
            let mut from = [(self.out.0.cast_const(), 0); N];
            for (i, from) in from.iter_mut().enumerate() {
                let (image, step) = self.images[k + i];
                *from = (image.add(start * step), step);
            }
            for p in 0..pixels {
                for r in (0..c).step_by(V::LANES) {
                    let to = out.add(p * self.out.1 + r);
                    let mut sum = V::load(if k == 0 { self.constant.as_ptr().add(r) } else { to });
                    for (i, (from, step)) in from.iter().enumerate() {
                        let factor = V::load(self.factors.as_ptr().add((k + i) * c + r));
                        prefetch(from.wrapping_add(p * step + r + AHEAD), V::LANES);
                        sum = V::load(from.add(p * step + r)).fma(factor, sum);
                    }
                    sum.store(to);
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
