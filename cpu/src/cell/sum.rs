//! Weighted sums of images by channel, and the products with a gradient that their backward needs.

use super::pixels::add_to;
use crate::ahead::{Stream, Streams};
use crate::real::Real;
use crate::simd::{Kernel, Many, Stored, Vector};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// Elements of one block: what a sweep leaves stays in the first-level cache for the next one.
const BLOCK: usize = 4096;

/// Whether a pixel has so few channels that what is constant over pixels stays in registers. With more, all of a pixel is
/// read before the next: memory is read fastest from one end to the other.
fn few<V: Vector>(c: usize) -> bool {
    c <= 2 * V::LANES
}

/// An image that is read: its first element and elements from one pixel to the next.
pub type Image<R> = (*const R, usize);

/// Images that are read together: kept values, then numbers as they are.
pub struct Images<R: Real> {
    kept: SmallVec<[Image<R::Kept>; 16]>,
    plain: SmallVec<[Image<R>; 16]>,
}

impl<R: Real> Images<R> {
    pub fn new() -> Self {
        Self { kept: SmallVec::new(), plain: SmallVec::new() }
    }
    /// Kept values come before all others, unless they are the same.
    pub fn push_kept(&mut self, (from, step): Image<R::Kept>) {
        match Stored::plain(from) {
            Some(from) => self.plain.push((from, step)),
            None => self.kept.push((from, step)),
        }
    }
    pub fn push(&mut self, image: Image<R>) {
        self.plain.push(image);
    }
    pub fn len(&self) -> usize {
        self.kept.len() + self.plain.len()
    }
    /// All of them, pixels of `c` channels, to be fetched.
    pub fn streams(&self, c: usize) -> Streams {
        let kept = self.kept.iter().map(|&image| Stream::new(image, c));
        kept.chain(self.plain.iter().map(|&image| Stream::new(image, c))).collect()
    }
    /// Puts what is kept before what is not, as the images are, unless they are the same.
    pub fn sort<T>(terms: &mut [T], kept: impl Fn(&T) -> bool) {
        if !R::Kept::is_plain() {
            terms.sort_by_key(|term| !kept(term));
        }
    }
}

/// `out[pixel][c] = constant[c] + sum over terms of factors[term][c] * image[pixel][c]`.
///
/// The pointers must be valid for the pixels, and the lanes divide `constant`'s length.
pub struct Sum<'a, R: Real> {
    pub images: &'a Images<R>,
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
            let (kept, count) = (self.images.kept.len(), self.images.len());
            let mut k = 0;
            while k == 0 || k < count {
                let left = if k < kept { kept - k } else { count - k };
                let most = if few::<V>(c) { 8 } else { 4 };
                let terms = [8, 4, 2, 1, 0].into_iter().find(|&n| n <= left.min(most)).unwrap_or(0);
                let to = if k + terms == count { out } else { between };
                // SAFETY: the contract of the type.
                unsafe {
                    if k < kept {
                        let images = &self.images.kept[k..][..terms];
                        self.some::<V, R::Kept>(images, k, (start, pixels), between, to);
                    } else {
                        let images = &self.images.plain[k - kept..][..terms];
                        self.some::<V, R>(images, k, (start, pixels), between, to);
                    }
                }
                k += terms.max(1);
            }
        }
    }
}

impl<R: Real> Sum<'_, R> {
    /// `to` = terms from `k` on, of `images`, and what was there before them: the constant, or the sum `between` two
    /// sweeps.
    #[inline(always)]
    unsafe fn some<V: Vector<Elem = R>, T: Stored<R>>(
        &self,
        images: &[Image<T>],
        k: usize,
        pixels: (usize, usize),
        between: (*mut R, usize),
        to: (*mut R, usize),
    ) {
        // SAFETY: the caller's.
        unsafe {
            match images.len() {
                8 => self.sweep::<V, T, 8>(images, k, pixels, between, to),
                4 => self.sweep::<V, T, 4>(images, k, pixels, between, to),
                2 => self.sweep::<V, T, 2>(images, k, pixels, between, to),
                1 => self.sweep::<V, T, 1>(images, k, pixels, between, to),
                _ => self.sweep::<V, T, 0>(images, k, pixels, between, to),
            }
        }
    }

    #[inline(always)]
    unsafe fn sweep<V: Vector<Elem = R>, T: Stored<R>, const N: usize>(
        &self,
        images: &[Image<T>],
        k: usize,
        (start, pixels): (usize, usize),
        between: (*mut R, usize),
        to: (*mut R, usize),
    ) {
        let c = self.constant.len();
        // SAFETY: the caller's.
        unsafe {
            let from: [Image<T>; N] = std::array::from_fn(|i| {
                let (image, step) = images[i];
                (image.add(start * step), step)
            });
            // a constant first, so that eight at a time are compiled for few channels alone
            if const { N == 8 } || few::<V>(c) {
                let mut r = 0;
                if r + 2 * V::LANES <= c {
                    self.columns::<Many<V, 2>, T, N>(&from, k, pixels, between, to, r);
                    r += 2 * V::LANES;
                }
                if r < c {
                    self.columns::<V, T, N>(&from, k, pixels, between, to, r);
                }
            } else {
                self.rows::<V, T, N>(&from, k, pixels, between, to);
            }
        }
    }

    /// A sweep pixel by pixel.
    #[inline(always)]
    unsafe fn rows<V: Vector<Elem = R>, T: Stored<R>, const N: usize>(
        &self,
        from: &[Image<T>; N],
        k: usize,
        pixels: usize,
        between: (*mut R, usize),
        to: (*mut R, usize),
    ) {
        let c = self.constant.len();
        // SAFETY: the caller's.
        unsafe {
            let factors: [*const R; N] = std::array::from_fn(|i| self.factors.as_ptr().add((k + i) * c));
            for p in 0..pixels {
                let from: [*const T; N] = std::array::from_fn(|i| from[i].0.add(p * from[i].1));
                let before = if k == 0 { self.constant.as_ptr() } else { between.0.add(p * between.1) };
                let to = to.0.add(p * to.1);
                for r in (0..c).step_by(V::LANES) {
                    let mut sum = V::load(before.add(r));
                    for i in 0..N {
                        sum = T::load::<V>(from[i].add(r)).fma(V::load(factors[i].add(r)), sum);
                    }
                    sum.store(to.add(r));
                }
            }
        }
    }

    /// Channels `r..` of a sweep; what is constant over pixels is in registers.
    #[inline(always)]
    unsafe fn columns<V: Vector<Elem = R>, T: Stored<R>, const N: usize>(
        &self,
        from: &[Image<T>; N],
        k: usize,
        pixels: usize,
        between: (*mut R, usize),
        to: (*mut R, usize),
        r: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let constant = V::load(self.constant.as_ptr().add(r));
            let mut factors = [constant; N];
            for (i, factor) in factors.iter_mut().enumerate() {
                *factor = V::load(self.factors.as_ptr().add((k + i) * self.constant.len() + r));
            }
            for p in 0..pixels {
                let mut sum = if k == 0 { constant } else { V::load(between.0.add(p * between.1 + r)) };
                for (&(from, step), factor) in from.iter().zip(factors) {
                    sum = T::load::<V>(from.add(p * step + r)).fma(factor, sum);
                }
                sum.store(to.0.add(p * to.1 + r));
            }
        }
    }
}

/// `sums[term][c] = sum over pixels of g[pixel][c] * (image[pixel][c] - shifts[term][c])`, and in the row after the
/// last term's the sums of g.
///
/// The pointers must be valid for the pixels, and the lanes divide `c`.
pub struct Products<'a, R: Real> {
    pub g: Image<R>,
    pub images: &'a Images<R>,
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
            let (kept, count) = (self.images.kept.len(), self.images.len());
            // SAFETY: the contract of the type.
            unsafe {
                let mut k = 0;
                while k < count {
                    let left = if k < kept { kept - k } else { count - k };
                    let terms = [4, 2, 1].into_iter().find(|&n| n <= left).unwrap_or(1);
                    if k < kept {
                        let images = &self.images.kept[k..][..terms];
                        self.some::<V, R::Kept>(images, k, (start, pixels));
                    } else {
                        let images = &self.images.plain[k - kept..][..terms];
                        self.some::<V, R>(images, k, (start, pixels));
                    }
                    k += terms;
                }
                self.plain::<V>(start, pixels);
            }
        }
    }
}

impl<R: Real> Products<'_, R> {
    #[inline(always)]
    unsafe fn some<V: Vector<Elem = R>, T: Stored<R>>(
        &mut self,
        images: &[Image<T>],
        k: usize,
        pixels: (usize, usize),
    ) {
        // SAFETY: the caller's.
        unsafe {
            match images.len() {
                1 if few::<V>(self.c) => self.columns::<V, T, 2, 4, 1>(images, k, pixels),
                1 => self.rows::<V, T, 1>(images, k, pixels),
                2 if few::<V>(self.c) => self.columns::<V, T, 2, 4, 2>(images, k, pixels),
                2 => self.rows::<V, T, 2>(images, k, pixels),
                _ if few::<V>(self.c) => self.columns::<V, T, 1, 2, 4>(images, k, pixels),
                _ => self.rows::<V, T, 4>(images, k, pixels),
            }
        }
    }

    /// Terms `k..k + N`, of `images`, a stretch of two vectors or one at a time with `P2` or `P` sums each.
    #[inline(always)]
    unsafe fn columns<V: Vector<Elem = R>, T: Stored<R>, const P2: usize, const P: usize, const N: usize>(
        &mut self,
        images: &[Image<T>],
        k: usize,
        pixels: (usize, usize),
    ) {
        let mut r = 0;
        // SAFETY: the caller's.
        unsafe {
            if const { !V::SIMPLE } && 2 * V::LANES <= self.c {
                self.terms::<Many<V, 2>, T, P2, N>(images, k, pixels, r);
                r += 2 * V::LANES;
            }
            while r < self.c {
                self.terms::<V, T, P, N>(images, k, pixels, r);
                r += V::LANES;
            }
        }
    }

    /// Terms `k..k + N`, of `images`, pixel by pixel.
    #[inline(always)]
    unsafe fn rows<V: Vector<Elem = R>, T: Stored<R>, const N: usize>(
        &mut self,
        images: &[Image<T>],
        k: usize,
        (start, pixels): (usize, usize),
    ) {
        // SAFETY: the caller's.
        unsafe {
            let shifts: [*const R; N] = std::array::from_fn(|i| self.shifts.as_ptr().add((k + i) * self.c));
            let sums: [*mut R; N] = std::array::from_fn(|i| self.sums.as_mut_ptr().add((k + i) * self.c));
            for p in start..start + pixels {
                let g = self.g.0.add(p * self.g.1);
                let from: [*const T; N] = std::array::from_fn(|i| images[i].0.add(p * images[i].1));
                for r in (0..self.c).step_by(V::LANES) {
                    let g = V::load(g.add(r));
                    for i in 0..N {
                        let to = sums[i].add(r);
                        let z = T::load::<V>(from[i].add(r)).sub(V::load(shifts[i].add(r)));
                        g.fma(z, V::load(to)).store(to);
                    }
                }
            }
        }
    }

    /// Channels `r..` of terms `k..k + N`, of `images`.
    #[inline(always)]
    unsafe fn terms<V: Vector<Elem = R>, T: Stored<R>, const P: usize, const N: usize>(
        &mut self,
        images: &[Image<T>],
        k: usize,
        (start, pixels): (usize, usize),
        r: usize,
    ) {
        let mut sum = [[V::zero(); N]; P];
        // SAFETY: the caller's.
        unsafe {
            let from: [Image<T>; N] = std::array::from_fn(|i| {
                let (image, step) = images[i];
                (image.add(start * step + r), step)
            });
            let mut shift = [V::zero(); N];
            for (i, shift) in shift.iter_mut().enumerate() {
                *shift = V::load(self.shifts.as_ptr().add((k + i) * self.c + r));
            }
            let g = self.g.0.add(start * self.g.1 + r);
            for first in (0..pixels).step_by(P) {
                for (part, sum) in sum.iter_mut().enumerate().take(pixels - first) {
                    let p = first + part;
                    let g = V::load(g.add(p * self.g.1));
                    for i in 0..N {
                        let at = from[i].0.wrapping_add(p * from[i].1);
                        sum[i] = g.fma(T::load::<V>(at).sub(shift[i]), sum[i]);
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
