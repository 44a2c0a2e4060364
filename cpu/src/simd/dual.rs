//! A vector of dual numbers: two vectors, one of values and one of tangents. In memory the two alternate.

use super::{Kernel, Vector};
use crate::dual::Dual;
use crate::real::Real;

/// Values, tangents.
#[derive(Clone, Copy)]
pub struct DualVec<V>(V, V);

impl<V: Vector> Vector for DualVec<V>
where
    Dual<V::Elem>: Real,
{
    type Elem = Dual<V::Elem>;
    const LANES: usize = V::LANES;
    const REGISTERS: usize = V::REGISTERS / 2;
    #[inline(always)]
    fn compiled<R: Real, U: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
        V::compiled::<R, U, K>(kernel)
    }
    one_by_one!();
    #[inline(always)]
    unsafe fn load(from: *const Self::Elem) -> Self {
        // SAFETY: the caller's; a dual number is two plain ones.
        let [value, tangent] = unsafe { V::load_pairs(from.cast()) };
        Self(value, tangent)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut Self::Elem) {
        // SAFETY: as above.
        unsafe { V::store_pairs([self.0, self.1], to.cast()) }
    }
    #[inline(always)]
    fn splat(x: Self::Elem) -> Self {
        Self(V::splat(x.value), V::splat(x.tangent))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(self.0.fma(b.0, c.0), self.0.fma(b.1, self.1.fma(b.0, c.1)))
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(self.0.add(b.0), self.1.add(b.1))
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(self.0.sub(b.0), self.1.sub(b.1))
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self(self.0.mul(b.0), self.0.fma(b.1, self.1.mul(b.0)))
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.choose(b, self, b)
    }
    #[inline(always)]
    fn choose(self, other: Self, a: Self, b: Self) -> Self {
        Self(self.0.choose(other.0, a.0, b.0), self.0.choose(other.0, a.1, b.1))
    }
    #[inline(always)]
    fn pick(self, tap: Self, best: Self, index: Self) -> (Self, Self) {
        let (value, at) = self.0.pick(tap.0, best.0, index.0);
        let (_, tangent) = self.0.pick(self.1, best.0, best.1);
        (Self(value, tangent), Self(at, index.1)) // an index has no tangent
    }
    #[inline(always)]
    fn only(self, index: Self, tap: Self) -> Self {
        Self(self.0.only(index.0, tap.0), self.1.only(index.0, tap.0))
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { V::load_u8(from) }, V::splat(V::Elem::ZERO))
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: the caller's.
        unsafe { self.0.store_u8(to) }
    }
}
