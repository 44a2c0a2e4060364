//! The products of a block of pixels where numbers are kept lean: both factors rounded, sums as they are.

use super::Sizes;
use super::pixels::Stretches;
use crate::ahead::Ahead;
use crate::cell::product::{Matrix, Pair, outer};
use crate::isa;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Isa, Kernel, Vector, dispatch_exactly, lanes_dividing, operand_depth};

/// Pixels between two requests for what comes next.
pub const FETCH: usize = 8;

/// Vectors that have such products, and that the channels of both sides are whole numbers of.
pub fn vectors<R: Real>(sizes: &Sizes) -> Option<(Isa, usize)> {
    let isa = isa();
    let of = [sizes.input, sizes.share()].map(|channels| lanes_dividing::<R>(isa, channels));
    // wider sums are padded to whole vectors, and what is a whole number of 16 may be none of 12
    let known = of.iter().all(|lanes| matches!(lanes, 8 | 16));
    let lanes = of[0].min(of[1]);
    (operand_depth::<R>(isa, lanes) == 2 && known).then_some((isa, lanes))
}

/// What runs on [`vectors`].
macro_rules! run_on {
    ($($name:ident),*) => {$(
        impl<R: Real> $name<'_, R> {
            pub fn run_on(self, (isa, lanes): (Isa, usize)) {
                dispatch_exactly(isa, lanes, self);
            }
        }
    )*};
}
run_on!(Gather, Round, Times, Outer);

/// Pixels as they are kept, so many elements from one to the next, from which on some are factors.
#[derive(Clone, Copy)]
pub struct Factor<'a, R: Real> {
    pub kept: &'a [R::Kept],
    pub step: usize,
}

/// to = relu(x), rounded, the stretches of x one after the other
pub struct Gather<'a, R: Real> {
    pub x: &'a [R],
    pub from: Stretches,
    pub to: &'a mut [R::Kept],
}
impl<R: Real> Kernel<R> for Gather<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let len = self.from.len;
        assert!(len.is_multiple_of(V::LANES), "whole vectors");
        for (start, to) in self.from.starts().zip(self.to.chunks_exact_mut(len)) {
            let (x, to) = (self.x[start..start + len].as_ptr(), to.as_mut_ptr());
            for i in (0..len).step_by(V::LANES) {
                // SAFETY: both have `len`; in this order NaN stays.
                unsafe { V::zero().max(V::load(x.add(i))).store_kept(to.add(i)) };
            }
        }
    }
}

/// Rounds numbers to what is kept.
pub struct Round<'a, R: Real> {
    pub from: &'a [R],
    pub to: &'a mut [R::Kept],
}
impl<R: Real> Kernel<R> for Round<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        assert!(
            self.from.len() == self.to.len() && self.from.len().is_multiple_of(V::LANES),
            "whole vectors"
        );
        for i in (0..self.from.len()).step_by(V::LANES) {
            // SAFETY: both have as many.
            unsafe { V::load(self.from.as_ptr().add(i)).store_kept(self.to.as_mut_ptr().add(i)) };
        }
    }
}

/// `y[pixel][n] = sum over k of x[pixel][k] * by[k][n]`, asking for what is ahead.
pub struct Times<'a, R: Real> {
    pub x: Factor<'a, R>,
    pub by: &'a Matrix<R>,
    /// Rows, columns.
    pub of: [usize; 2],
    pub y: &'a mut [R],
    pub y_step: usize,
    pub pixels: usize,
    pub ahead: &'a mut Ahead,
}
impl<R: Real> Kernel<R> for Times<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let (before, [depth, columns]) = (self.pixels - 1, self.of);
        assert!(self.x.kept.len() >= before * self.x.step + depth, "pixels of x");
        assert!(self.y.len() >= before * self.y_step + columns, "pixels of y");
        for p in (0..self.pixels).step_by(FETCH) {
            self.ahead.fetch();
            // SAFETY: the pixels exist, as just seen.
            unsafe {
                let x = (self.x.kept.as_ptr().add(p * self.x.step), self.x.step);
                let y = (self.y.as_mut_ptr().add(p * self.y_step), self.y_step);
                self.by.times(x, y, FETCH.min(self.pixels - p)).run::<V>();
            }
        }
    }
}

/// `sum[m][n] += sum over pixels of a[pixel][m] * b[pixel][n]`.
pub struct Outer<'a, R: Real> {
    pub a: Factor<'a, R>,
    pub b: Factor<'a, R>,
    pub of: [usize; 2],
    pub pixels: usize,
    pub sum: &'a mut [R],
    /// As [`outer`] wants it.
    pub room: &'a mut Scratch<R::Kept>,
}
impl<R: Real> Kernel<R> for Outer<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let (before, [m, n]) = (self.pixels - 1, self.of);
        assert!(self.a.kept.len() >= before * self.a.step + m, "pixels of a");
        assert!(self.b.kept.len() >= before * self.b.step + n, "pixels of b");
        assert!(self.sum.len() == m * n && self.room.len() >= (self.pixels + 1) * (m + n), "sums and room");
        // SAFETY: the pixels exist, as just seen.
        unsafe {
            let (a, b) = ((self.a.kept.as_ptr(), self.a.step), (self.b.kept.as_ptr(), self.b.step));
            outer::<V>(Pair { a, b, pixels: self.pixels }, [m, n], self.sum.as_mut_ptr(), self.room);
        }
    }
}
