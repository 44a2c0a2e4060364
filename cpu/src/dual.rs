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
        terms.fold(Self::new(T::ZERO, T::ZERO), |sum, x| sum + x)
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

/// `Real` with the vectors given, and a tangent for each function.
macro_rules! dual {
    ($t:ident, $v512:ident, $v256:ident, $v128:ident, $plain:ty) => {
        impl Real for Dual<$t> {
            const DTYPE: DType = <$t>::DTYPE.dual();
            const ZERO: Self = Self::new(0.0, 0.0);
            const ONE: Self = Self::new(1.0, 0.0);
            const PARTS: usize = 2;
            const ORACLE: bool = <$t as Real>::ORACLE;
            type V512 = DualVec<<$t as Real>::$v512>;
            type V256 = DualVec<<$t as Real>::$v256>;
            type V128 = DualVec<<$t as Real>::$v128>;
            type V384 = Self::V128;
            type Plain = $plain;
            type Wide = Dual<f64>;
            type Kept = Self;

            #[inline(always)]
            fn keep(self) -> Self {
                self
            }
            #[inline(always)]
            fn kept(x: Self) -> Self {
                x
            }
            #[inline(always)]
            fn wide(self) -> Self::Wide {
                Dual::new(self.value.wide(), self.tangent.wide())
            }
            #[inline(always)]
            fn narrow(x: Self::Wide) -> Self {
                Self::new(<$t>::narrow(x.value), <$t>::narrow(x.tangent))
            }
            #[inline(always)]
            fn of(x: f64) -> Self {
                Self::new(<$t>::of(x), 0.0)
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
    };
}
dual!(f32, V512, V256, V128, super::simd::Plain<Self, 1>);
dual!(f64, V256, V256, V256, super::simd::Plain<Self, 1>);

impl Wide for Dual<f64> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, Plain, Vector, dispatch_for};
    use proptest::prelude::*;

    type D = Dual<f64>;
    type Function = (&'static str, fn(D, D) -> D);

    proptest! {
        #[test]
        fn tangents_are_slopes(a in 0.2f64..3.0, b in 0.2f64..3.0, s in -1f64..1.0, t in -1f64..1.0) {
            prop_assume!((a - b).abs() > 1e-3); // max has a kink
            let functions: [Function; 12] = [
                ("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b), ("div", |a, b| a / b),
                ("neg", |a, _| -a), ("sqrt", |a, _| a.sqrt()), ("exp", |a, _| a.exp()), ("ln", |a, _| a.ln()),
                ("max", |a, b| a.max(b)), ("sum", |a, b| [a, b, a].into_iter().sum()),
                ("of", |a, _| D::of(3.0) * a), ("assign", |a, b| { let mut c = a; c += b; c *= a; c -= b; c }),
            ];
            for (name, f) in functions {
                let tangent = f(Dual::new(a, s), Dual::new(b, t)).tangent;
                let at = |h: f64| f(D::of(a + h * s), D::of(b + h * t)).value;
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                prop_assert!((tangent - slope).abs() < 1e-7 * (1.0 + slope.abs()), "{name}: {tangent} {slope}");
            }
        }
    }

    #[test]
    fn the_value_alone_decides() {
        let (low, high) = (Dual::new(1.0, 5.0), Dual::new(2.0, -5.0));
        assert_eq!(low.partial_cmp(&high), Some(Ordering::Less));
        assert_eq!([low < high, high < low, low > high, high > low], [true, false, false, true]);
        assert_eq!(low, Dual::new(1.0, 7.0));
        assert_eq!((low.max(high).tangent, high.max(low).tangent), (-5.0, -5.0));
        assert_eq!(D::narrow(low.wide()).tangent, 5.0);
    }

    /// Every vector operation on the first lanes of three slices.
    struct All<'a, R>([&'a [R]; 3]);
    impl<R: Real> Kernel<R> for All<'_, R> {
        type Output = Vec<Vec<R>>;
        #[inline(always)]
        fn run<V: Vector<Elem = R>>(self) -> Vec<Vec<R>> {
            let kept = |v: V| {
                let mut lanes = vec![R::ZERO; V::LANES];
                // SAFETY: as many lanes.
                unsafe { v.store(lanes.as_mut_ptr()) };
                lanes
            };
            // SAFETY: the slices have 16 elements, which no vector exceeds.
            let [a, b, c] = self.0.map(|x| unsafe { V::load(x.as_ptr()) });
            let (best, index) = a.pick(V::splat(R::of(3.0)), b, V::splat(R::of(2.0)));
            let mut bytes = [0; 16];
            // SAFETY: as above.
            let index = unsafe {
                index.store_u8(bytes.as_mut_ptr());
                V::load_u8(bytes.as_ptr())
            };
            let results = [
                a,
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.fma(b, c),
                a.max(b),
                a.choose(b, c, b),
                best,
                index,
                c.only(index, V::splat(R::of(3.0))),
                V::splat(self.0[0][0]),
            ];
            results.map(kept).to_vec()
        }
    }

    fn vectors_are_lanes_of_numbers<T: Real<Wide = f64>>(tolerance: f64)
    where
        Dual<T>: Real,
    {
        let number = |seed: usize| T::of(((seed * 7919 % 101) as f64 - 50.0) / 17.0);
        let numbers = |k: usize| -> Vec<Dual<T>> {
            (0..16).map(|i| Dual::new(number(3 * i + k), number(5 * i + 2 * k + 1))).collect()
        };
        let [a, b, c] = [1, 2, 3].map(numbers);
        let one = |i: usize| All([&a, &b, &c].map(|x| &x[i..])).run::<Plain<Dual<T>, 1>>();
        for (isa, lanes) in Isa::available().into_iter().flat_map(|isa| [2, 4, 8, 16].map(|n| (isa, n))) {
            let results = dispatch_for(isa, lanes, All([&a, &b, &c]));
            for (k, result) in results.iter().enumerate() {
                for (i, got) in result.iter().enumerate() {
                    let want = if k == 10 { a[0] } else { one(i)[k][0] };
                    for (got, want) in [(got.value, want.value), (got.tangent, want.tangent)] {
                        let error = (got.wide() - want.wide()).abs();
                        assert!(error < tolerance, "{isa:?}, {lanes}: {k}[{i}] {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn vectors_of_every_width_are_lanes_of_numbers() {
        vectors_are_lanes_of_numbers::<f32>(2e-6);
        vectors_are_lanes_of_numbers::<f64>(1e-14);
    }
}
