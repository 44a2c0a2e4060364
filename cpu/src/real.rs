//! The number types that CPU kernels are written for, once: `f32` (fast), `f64` (the oracle of gradients), and the dual
//! numbers of either, which carry a derivative along.

use super::simd::{Both, Stored, Vector};

/// `f32`, `f64`, or a [`Dual`](super::dual::Dual) of one of them.
///
/// There is no way from here to a plain `f64`: a derivative would be lost on it. Long sums go through [`Real::Wide`].
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
    /// Registers that a vector of these takes.
    const PARTS: usize;
    /// Whether it is there to check others by, as double precision is. Then it has one width of vectors, no kernels for
    /// AVX-512 and few loops: each copy of every kernel costs build time.
    const ORACLE: bool;
    /// 512-bit, 256-bit and 128-bit vectors where the machine has them, and plain arrays where it has not.
    type V512: Vector<Elem = Self>;
    type V256: Vector<Elem = Self>;
    type V128: Vector<Elem = Self>;
    /// A 256-bit and a 128-bit one as one, where their lanes are twelve; otherwise another of these. The published networks
    /// for CIFAR have 36 channels.
    type V384: Vector<Elem = Self>;
    type Plain: Vector<Elem = Self>;
    /// What long sums and statistics are computed in.
    type Wide: Wide;
    /// What values that a backward pass will need are stored as, and what convolutions of cells multiply.
    type Kept: Stored<Self>;
    /// Whether AVX-512 means the one with products of bf16, without which kernels run on plain arrays.
    const BF16: bool = false;

    fn wide(self) -> Self::Wide;
    fn narrow(x: Self::Wide) -> Self;
    fn keep(self) -> Self::Kept;
    fn kept(x: Self::Kept) -> Self;
    /// A constant.
    fn of(x: f64) -> Self;
    /// A saved index, which is whole and within 0 to 255.
    fn byte(self) -> u8;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn max(self, other: Self) -> Self;
}

/// A number of double precision.
pub trait Wide: Real<Wide = Self> + Default + std::iter::Sum {}
impl Wide for f64 {}

/// Element type of a tensor. `BF16` stores images on CUDA devices, and values that are kept for a backward pass; `D32` and `D64` are dual numbers, of the CPU only;
/// `U8` holds saved indices, `U32` labels, and neither of those is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    BF16,
    F32,
    F64,
    D32,
    D64,
    U8,
    U32,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::BF16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::F64 | Self::D32 => 8,
            Self::D64 => 16,
        }
    }
    /// What sums over elements and parameters beside them are stored as.
    pub const fn exact(self) -> Self {
        match self {
            Self::BF16 => Self::F32,
            other => other,
        }
    }
    /// What values that are kept lean for a backward pass are stored as.
    pub const fn kept(self) -> Self {
        match self {
            Self::F32 => Self::BF16,
            other => other,
        }
    }
    /// Products of plain numbers in one product.
    pub const fn products(self) -> u64 {
        match self {
            Self::D32 | Self::D64 => 3,
            _ => 1,
        }
    }
    /// Without tangents.
    pub const fn plain(self) -> Self {
        match self {
            Self::D32 => Self::F32,
            Self::D64 => Self::F64,
            plain => plain,
        }
    }
    /// The dual numbers of `F32` or `F64`.
    pub const fn dual(self) -> Self {
        match self {
            Self::F32 => Self::D32,
            Self::F64 => Self::D64,
            _ => panic!("dual numbers are of a plain floating-point type"),
        }
    }
}

macro_rules! real {
    ($t:ident, $dtype:ident, $oracle:literal, $v512:ident, $v256:ident, $v128:ident, $v384:ty, $plain:expr) => {
        impl Real for $t {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const PARTS: usize = 1;
            const ORACLE: bool = $oracle;
            type V512 = super::simd::$v512;
            type V256 = super::simd::$v256;
            type V128 = super::simd::$v128;
            type V384 = $v384;
            type Plain = super::simd::Plain<$t, { $plain }>;
            type Wide = f64;
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
            fn byte(self) -> u8 {
                self as u8
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
real!(f32, F32, false, F32x16, F32x8, F32x4, Both<Self::V256, Self::V128>, 4);
real!(f64, F64, true, F64x4, F64x4, F64x4, Self::V128, 1);
