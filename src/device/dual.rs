//! Dual numbers v + e t with e^2 = 0: arithmetic on them carries a derivative t along with every value v.

use super::real::{DType, Real, Wide};
use super::simd::DualVec;
use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A value and its derivative along some direction. Compared by the value alone, so that branches are those of the
/// plain computation.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Dual<T> {
    pub value: T,
    pub tangent: T,
}

// SAFETY: two fields of one plain type, hence without padding.
unsafe impl<T: bytemuck::Zeroable> bytemuck::Zeroable for Dual<T> {}
unsafe impl<T: bytemuck::Pod> bytemuck::Pod for Dual<T> {}

impl<T: Real> Dual<T> {
    #[inline(always)]
    pub const fn new(value: T, tangent: T) -> Self {
        Self { value, tangent }
    }
}

impl<T: Real> Add for Dual<T> {
    type Output = Self;
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self::new(self.value + b.value, self.tangent + b.tangent)
    }
}
impl<T: Real> Sub for Dual<T> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self::new(self.value - b.value, self.tangent - b.tangent)
    }
}
impl<T: Real> Mul for Dual<T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self::new(self.value * b.value, self.value * b.tangent + self.tangent * b.value)
    }
}
impl<T: Real> Div for Dual<T> {
    type Output = Self;
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        let quotient = self.value / b.value;
        Self::new(quotient, (self.tangent - quotient * b.tangent) / b.value)
    }
}
impl<T: Real> Neg for Dual<T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self::new(-self.value, -self.tangent)
    }
}
impl<T: Real> AddAssign for Dual<T> {
    #[inline(always)]
    fn add_assign(&mut self, b: Self) {
        *self = *self + b;
    }
}
impl<T: Real> SubAssign for Dual<T> {
    #[inline(always)]
    fn sub_assign(&mut self, b: Self) {
        *self = *self - b;
    }
}
impl<T: Real> MulAssign for Dual<T> {
    #[inline(always)]
    fn mul_assign(&mut self, b: Self) {
        *self = *self * b;
    }
}
impl<T: Real> std::iter::Sum for Dual<T> {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::ZERO, |sum, x| sum + x)
    }
}

impl<T: Real> PartialEq for Dual<T> {
    #[inline(always)]
    fn eq(&self, b: &Self) -> bool {
        self.value == b.value
    }
}
// the operators one by one: through `partial_cmp` loops do not become vector instructions
impl<T: Real> PartialOrd for Dual<T> {
    #[inline(always)]
    fn partial_cmp(&self, b: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&b.value)
    }
    #[inline(always)]
    fn lt(&self, b: &Self) -> bool {
        self.value < b.value
    }
    #[inline(always)]
    fn gt(&self, b: &Self) -> bool {
        self.value > b.value
    }
}

impl<T: Real> std::fmt::Display for Dual<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} + {} e", self.value, self.tangent)
    }
}

impl<T: Real> Real for Dual<T> {
    const DTYPE: DType = T::DTYPE.dual();
    const ZERO: Self = Self::new(T::ZERO, T::ZERO);
    const ONE: Self = Self::new(T::ONE, T::ZERO);
    const PARTS: usize = 2 * T::PARTS;
    type V512 = DualVec<T::V512>;
    type V256 = DualVec<T::V256>;
    type V128 = DualVec<T::V128>;
    type Plain = DualVec<T::Plain>;
    type Wide = Dual<T::Wide>;

    #[inline(always)]
    fn wide(self) -> Self::Wide {
        Dual::new(self.value.wide(), self.tangent.wide())
    }
    #[inline(always)]
    fn narrow(x: Self::Wide) -> Self {
        Self::new(T::narrow(x.value), T::narrow(x.tangent))
    }
    #[inline(always)]
    fn of(x: f64) -> Self {
        Self::new(T::of(x), T::ZERO)
    }
    #[inline(always)]
    fn byte(self) -> u8 {
        self.value.byte()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        Self::new(root, self.tangent / (root + root))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        let power = self.value.exp();
        Self::new(power, power * self.tangent)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        Self::new(self.value.ln(), self.tangent / self.value)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self.value > other.value { self } else { other }
    }
}

impl<T: Wide> Wide for Dual<T> {}
