//! The two number types that CPU kernels are written for, once: `f32` (fast) and `f64` (the oracle of gradients).

use super::simd::Vector;

/// `f32` or `f64`.
pub trait Real:
    bytemuck::Pod
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + std::fmt::Display
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::ops::MulAssign
    + 'static
{
    const DTYPE: DType;
    const ZERO: Self;
    const ONE: Self;
    /// 512-bit, 256-bit and 128-bit vectors where the machine has them, and plain arrays where it has not.
    type V512: Vector<Elem = Self>;
    type V256: Vector<Elem = Self>;
    type V128: Vector<Elem = Self>;
    type Plain: Vector<Elem = Self>;
    /// What long sums and statistics are computed in.
    type Wide: Wide;

    fn wide(self) -> Self::Wide;
    fn narrow(x: Self::Wide) -> Self;
    fn of(x: f64) -> Self;
    fn f64(self) -> f64;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn max(self, other: Self) -> Self;
}

/// A number of double precision.
pub trait Wide:
    Copy
    + Default
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::iter::Sum
    + 'static
{
    fn of(x: f64) -> Self;
    fn sqrt(self) -> Self;
}

impl Wide for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
}

/// Element type of a tensor. `U8` holds saved indices, `U32` labels; neither is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    F32,
    F64,
    U8,
    U32,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 | Self::U32 => 4,
            Self::F64 => 8,
        }
    }
}

macro_rules! real {
    ($t:ident, $dtype:ident, $v512:ident, $v256:ident, $v128:ident, $plain:expr) => {
        impl Real for $t {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            type V512 = super::simd::$v512;
            type V256 = super::simd::$v256;
            type V128 = super::simd::$v128;
            type Plain = super::simd::Plain<$t, { $plain }>;
            type Wide = f64;
            #[inline(always)]
            fn wide(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn narrow(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $t::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $t::ln(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
        }
    };
}
real!(f32, F32, F32x16, F32x8, F32x4, 4);
real!(f64, F64, F64x8, F64x4, F64x2, 2);
