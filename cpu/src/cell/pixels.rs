//! Loops over the pixels of one image: the gradient of a half as it is read, the relu's and the norm's share in it, and
//! the moments of a value.

use super::pad::Norm;
use crate::real::Real;
use crate::simd::{Kept, Stored, Vector};

/// The gradient of a half's result, as it is read: `factors[0] g + factors[1] z + factors[2]` in every channel.
pub struct Incoming<'a, R: Real, G> {
    pub g: (*const G, usize),
    pub z: &'a [R::Kept],
    pub factors: &'a [R],
}

/// Where the gradient at the relu goes.
pub enum Target<'a, R: Real> {
    /// Added to `to` where `x` is positive.
    Input { x: (*const R, usize), to: *mut R },
    /// Written to `to` where the norm of `z` is positive, with the sums of it and of it times the normalised `z`.
    Norm { z: &'a [R::Kept], norm: Norm<'a, R>, to: &'a mut [R::Kept], sums: &'a mut [R] },
}

impl<R: Real, G: Stored<R>> Incoming<'_, R, G> {
    /// Pixels `start..start + pixels` into `to`, dense.
    ///
    /// # Safety
    /// The pixels exist, and `to` holds them.
    #[inline(always)]
    pub unsafe fn read<V: Vector<Elem = R>>(&self, start: usize, pixels: usize, c: usize, to: *mut R::Kept) {
        // SAFETY: the caller's.
        unsafe { stretches!(V, c, Self::read_stretch(self, start, pixels, c, to)) }
    }
    #[inline(always)]
    unsafe fn read_stretch<V: Vector<Elem = R>, const P: usize>(
        &self,
        start: usize,
        pixels: usize,
        c: usize,
        to: *mut R::Kept,
        r: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let factors = self.factors.as_ptr().add(r);
            let (by_g, by_z, plus) = (V::load(factors), V::load(factors.add(c)), V::load(factors.add(2 * c)));
            let (g, z) = (self.g.0.add(start * self.g.1 + r), self.z.as_ptr().add(start * c + r));
            for p in 0..pixels {
                let (g, z): (V, V) = (G::load(g.add(p * self.g.1)), V::load_kept(z.add(p * c)));
                g.fma(by_g, z.fma(by_z, plus)).store_kept(to.add(p * c + r));
            }
        }
    }
}

impl<R: Real> Target<'_, R> {
    /// Takes pixels `start..start + pixels` of the gradient behind the relu.
    ///
    /// # Safety
    /// The pixels exist in the target's images and in `da`.
    #[inline(always)]
    pub unsafe fn take<V: Vector<Elem = R>>(&mut self, start: usize, pixels: usize, c: usize, da: *const R) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Input { x, to } => {
                    let x = (x.0.add(start * x.1), x.1);
                    add_open::<V>(da, x, (to.add(start * c), c), c, pixels);
                }
                Self::Norm { z, norm, to, sums } => {
                    let (z, to) = (z.as_ptr().add(start * c), to.as_mut_ptr().add(start * c));
                    let sums = sums.as_mut_ptr();
                    stretches!(V, c, open_and_sum(da, z, *norm, to, sums, pixels));
                }
            }
        }
    }
}

/// `to = da` where the norm of z is positive; `sums += ` of that and of that times the normalised z.
///
/// # Safety
/// The pointers are valid.
#[inline(always)]
unsafe fn open_and_sum<V: Vector, const P: usize>(
    da: *const V::Elem,
    z: *const Kept<V>,
    norm: Norm<V::Elem>,
    to: *mut Kept<V>,
    sums: *mut V::Elem,
    pixels: usize,
    r: usize,
) {
    let (c, mut sum) = (norm.mean.len(), [[V::zero(); 2]; P]);
    // SAFETY: the caller's.
    unsafe {
        let norm = norm.at::<V>(r);
        for start in (0..pixels).step_by(P) {
            for (part, [sum, product]) in sum.iter_mut().enumerate().take(pixels - start) {
                let at = (start + part) * c + r;
                let z = norm.z(V::load_kept(z.add(at)));
                let open = V::load(da.add(at)).where_positive(norm.affine(z));
                open.store_kept(to.add(at));
                *sum = sum.add(open);
                *product = open.fma(z, *product);
            }
        }
        for [sum, product] in sum {
            add_to(sum, sums.add(r));
            add_to(product, sums.add(c + r));
        }
    }
}

/// `to += da` where `x` is positive, over some pixels of `c` channels.
///
/// # Safety
/// The pointers are valid.
#[inline(always)]
pub unsafe fn add_open<V: Vector>(
    da: *const V::Elem,
    x: (*const V::Elem, usize),
    to: (*mut V::Elem, usize),
    c: usize,
    pixels: usize,
) {
    // SAFETY: the caller's.
    unsafe { stretches!(V, c, add_open_stretch(da, x, to, c, pixels)) }
}

#[inline(always)]
unsafe fn add_open_stretch<V: Vector, const P: usize>(
    da: *const V::Elem,
    (x, x_step): (*const V::Elem, usize),
    (to, to_step): (*mut V::Elem, usize),
    c: usize,
    pixels: usize,
    r: usize,
) {
    for p in 0..pixels {
        // SAFETY: the caller's.
        unsafe {
            let open = V::load(da.add(p * c + r)).where_positive(V::load(x.add(p * x_step + r)));
            let to = to.add(p * to_step + r);
            V::load(to).add(open).store(to);
        }
    }
}

/// The moments of an image's channels about its first pixel, and that pixel, to zeroed (3, c).
///
/// # Safety
/// `V`'s lanes divide `c`.
#[inline(always)]
pub unsafe fn set_moments<V: Vector>(image: &[V::Elem], c: usize, moments: &mut [V::Elem]) {
    moments[2 * c..].copy_from_slice(&image[..c]);
    // SAFETY: the caller's.
    unsafe { add_moments::<V>(image.as_ptr(), c, image.len() / c, image.as_ptr(), moments.as_mut_ptr()) }
}

/// `moments[0][c] += sum of x - shift`, `moments[1][c] += sum of its square` over some pixels.
///
/// # Safety
/// The pointers are valid.
#[inline(always)]
pub unsafe fn add_moments<V: Vector>(
    x: *const V::Elem,
    c: usize,
    pixels: usize,
    shift: *const V::Elem,
    moments: *mut V::Elem,
) {
    // SAFETY: the caller's.
    unsafe { stretches!(V, c, add_moments_stretch(x, c, pixels, shift, moments)) }
}

#[inline(always)]
unsafe fn add_moments_stretch<V: Vector, const P: usize>(
    x: *const V::Elem,
    c: usize,
    pixels: usize,
    shift: *const V::Elem,
    moments: *mut V::Elem,
    r: usize,
) {
    let mut sum = [[V::zero(); 2]; P];
    // SAFETY: the caller's.
    unsafe {
        let shift = V::load(shift.add(r));
        for start in (0..pixels).step_by(P) {
            for (part, [sum, square]) in sum.iter_mut().enumerate().take(pixels - start) {
                let d = V::load(x.add((start + part) * c + r)).sub(shift);
                *sum = sum.add(d);
                *square = d.fma(d, *square);
            }
        }
        for [sum, square] in sum {
            add_to(sum, moments.add(r));
            add_to(square, moments.add(c + r));
        }
    }
}

/// `to += x`
///
/// # Safety
/// `to` has a vector.
#[inline(always)]
pub unsafe fn add_to<V: Vector>(x: V, to: *mut V::Elem) {
    // SAFETY: the caller's.
    unsafe { V::load(to).add(x).store(to) }
}
