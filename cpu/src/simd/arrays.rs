//! Vectors made of others: arrays of numbers, arrays of vectors, and pairs of two widths.

use super::{Kept, Kernel, Vector};
use crate::real::Real;

/// An array as a vector: what every machine can do. No fused multiply-add, which would be a library call here.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Plain<R, const N: usize>(pub [R; N]);

impl<R: Real, const N: usize> Vector for Plain<R, N> {
    type Elem = R;
    const LANES: usize = N;
    one_by_one!();
    #[inline(always)]
    unsafe fn load(from: *const R) -> Self {
        Self(unsafe { from.cast::<[R; N]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut R) {
        unsafe { to.cast::<[R; N]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn splat(x: R) -> Self {
        Self([x; N])
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i]))
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].max(b.0[i])))
    }
    #[inline(always)]
    fn choose(self, other: Self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > other.0[i] { a.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn pick(self, tap: Self, mut best: Self, mut index: Self) -> (Self, Self) {
        for i in 0..N {
            #[allow(clippy::eq_op)] // true of NaN alone
            let wins = self.0[i] > best.0[i] || self.0[i] != self.0[i];
            best.0[i] = if wins { self.0[i] } else { best.0[i] };
            index.0[i] = if wins { tap.0[i] } else { index.0[i] };
        }
        (best, index)
    }
    #[inline(always)]
    fn only(mut self, index: Self, tap: Self) -> Self {
        for i in 0..N {
            self.0[i] = if index.0[i] == tap.0[i] { self.0[i] } else { R::ZERO };
        }
        self
    }
}

/// `W` vectors side by side as one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Many<V, const W: usize>([V; W]);

macro_rules! lane_by_lane {
    ($($name:ident($self:ident $(, $arg:ident)*);)*) => {$(
        #[inline(always)]
        fn $name(mut self $(, $arg: Self)*) -> Self {
            for v in 0..W {
                self.0[v] = self.0[v].$name($($arg.0[v]),*);
            }
            self
        }
    )*};
}

impl<V: Vector, const W: usize> Vector for Many<V, W> {
    type Elem = V::Elem;
    const LANES: usize = W * V::LANES;
    const REGISTERS: usize = V::REGISTERS / W;
    one_by_one!();
    #[inline(always)]
    fn compiled<R: Real, U: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
        V::compiled::<R, U, K>(kernel)
    }
    #[inline(always)]
    unsafe fn load_kept(from: *const Kept<V>) -> Self {
        let mut x = [V::zero(); W];
        for (v, x) in x.iter_mut().enumerate() {
            *x = unsafe { V::load_kept(from.add(v * V::LANES)) };
        }
        Self(x)
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut Kept<V>) {
        for (v, x) in self.0.into_iter().enumerate() {
            unsafe { x.store_kept(to.add(v * V::LANES)) };
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const V::Elem) -> Self {
        let mut x = [V::zero(); W];
        for (v, x) in x.iter_mut().enumerate() {
            *x = unsafe { V::load(from.add(v * V::LANES)) };
        }
        Self(x)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut V::Elem) {
        for (v, x) in self.0.into_iter().enumerate() {
            unsafe { x.store(to.add(v * V::LANES)) };
        }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut V::Elem) {
        for (v, x) in self.0.into_iter().enumerate() {
            unsafe { x.stream(to.add(v * V::LANES)) };
        }
    }
    #[inline(always)]
    fn splat(x: V::Elem) -> Self {
        Self([V::splat(x); W])
    }
    lane_by_lane! {
        fma(self, b, c);
        add(self, b);
        sub(self, b);
        mul(self, b);
        max(self, b);
        choose(self, other, a, b);
        only(self, index, tap);
    }
    #[inline(always)]
    fn pick(mut self, tap: Self, best: Self, mut index: Self) -> (Self, Self) {
        for v in 0..W {
            (self.0[v], index.0[v]) = self.0[v].pick(tap.0[v], best.0[v], index.0[v]);
        }
        (self, index)
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        let mut x = [V::zero(); W];
        for (v, x) in x.iter_mut().enumerate() {
            *x = unsafe { V::load_u8(from.add(v * V::LANES)) };
        }
        Self(x)
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        for (v, x) in self.0.into_iter().enumerate() {
            unsafe { x.store_u8(to.add(v * V::LANES)) };
        }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const V::Elem, n: usize) -> Self {
        let mut x = [V::zero(); W];
        for (v, x) in x.iter_mut().enumerate() {
            let start = (v * V::LANES).min(n);
            *x = unsafe { V::load_part(from.add(start), (n - start).min(V::LANES)) };
        }
        Self(x)
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut V::Elem, n: usize) {
        for (v, x) in self.0.into_iter().enumerate() {
            let start = (v * V::LANES).min(n);
            unsafe { x.store_part(to.add(start), (n - start).min(V::LANES)) };
        }
    }
}

/// Two vectors of different widths side by side as one.
#[derive(Clone, Copy)]
pub struct Both<V, W>(V, W);

macro_rules! one_then_the_other {
    ($($name:ident($($arg:ident),*);)*) => {$(
        #[inline(always)]
        fn $name(self $(, $arg: Self)*) -> Self {
            Self(self.0.$name($($arg.0),*), self.1.$name($($arg.1),*))
        }
    )*};
}

impl<R: Real, V: Vector<Elem = R>, W: Vector<Elem = R>> Vector for Both<V, W> {
    type Elem = R;
    const LANES: usize = V::LANES + W::LANES;
    const REGISTERS: usize = V::REGISTERS / 2;
    const DEPTH: usize = V::DEPTH;
    type Operand = (V::Operand, W::Operand);
    #[inline(always)]
    unsafe fn operand(from: *const Kept<Self>) -> Self::Operand {
        unsafe { (V::operand(from), W::operand(from.add(V::LANES * V::DEPTH))) }
    }
    #[inline(always)]
    unsafe fn operand_of(from: *const Kept<Self>) -> Self::Operand {
        unsafe { (V::operand_of(from), W::operand_of(from)) }
    }
    #[inline(always)]
    fn product(self, a: Self::Operand, b: Self::Operand) -> Self {
        Self(self.0.product(a.0, b.0), self.1.product(a.1, b.1))
    }
    #[inline(always)]
    fn compiled<E: Real, U: Vector<Elem = E>, K: Kernel<E>>(kernel: K) -> K::Output {
        V::compiled::<E, U, K>(kernel)
    }
    #[inline(always)]
    unsafe fn load_kept(from: *const Kept<Self>) -> Self {
        unsafe { Self(V::load_kept(from), W::load_kept(from.add(V::LANES))) }
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut Kept<Self>) {
        unsafe {
            self.0.store_kept(to);
            self.1.store_kept(to.add(V::LANES));
        }
    }
    #[inline(always)]
    unsafe fn interleave(a: *const Kept<Self>, b: *const Kept<Self>, to: *mut Kept<Self>) {
        unsafe {
            V::interleave(a, b, to);
            W::interleave(a.add(V::LANES), b.add(V::LANES), to.add(2 * V::LANES));
        }
    }
    #[inline(always)]
    unsafe fn interleave_each(from: *const Kept<Self>, step: usize, count: usize, to: *mut Kept<Self>) {
        unsafe {
            V::interleave_each(from, step, count, to);
            W::interleave_each(from.add(V::LANES), step, count, to.add(2 * V::LANES));
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const R) -> Self {
        unsafe { Self(V::load(from), W::load(from.add(V::LANES))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut R) {
        unsafe {
            self.0.store(to);
            self.1.store(to.add(V::LANES));
        }
    }
    #[inline(always)]
    fn splat(x: R) -> Self {
        Self(V::splat(x), W::splat(x))
    }
    one_then_the_other! {
        fma(b, c);
        add(b);
        sub(b);
        mul(b);
        max(b);
        choose(other, a, b);
        only(index, tap);
    }
    #[inline(always)]
    fn pick(self, tap: Self, best: Self, index: Self) -> (Self, Self) {
        let (a, at) = self.0.pick(tap.0, best.0, index.0);
        let (b, bt) = self.1.pick(tap.1, best.1, index.1);
        (Self(a, b), Self(at, bt))
    }
}
