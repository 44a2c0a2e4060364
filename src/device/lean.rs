//! Numbers that compute as `f32` and are kept as bf16.

use super::real::{DType, Real};
use super::simd::{Plain, Stored, Vector};
use half::bf16;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// An `f32`; what is kept of it for a backward pass, or multiplied by a 1 x 1 convolution, is rounded to bf16, and those
/// products are summed in `f32`. The same bits as `f32` in memory, so that tensors of that type hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Lean(pub f32);

macro_rules! operators {
    ($($operator:ident $name:ident),*; $($assign:ident $in_place:ident $by:tt),*) => {
        $(impl $operator for Lean {
            type Output = Self;
            #[inline(always)]
            fn $name(self, b: Self) -> Self {
                Self(self.0.$name(b.0))
            }
        })*
        $(impl $assign for Lean {
            #[inline(always)]
            fn $in_place(&mut self, b: Self) {
                self.0 $by b.0;
            }
        })*
    };
}
operators!(Add add, Sub sub, Mul mul, Div div; AddAssign add_assign +=, SubAssign sub_assign -=, MulAssign mul_assign *=);

impl Neg for Lean {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl std::fmt::Display for Lean {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Real for Lean {
    const DTYPE: DType = DType::F32;
    const ZERO: Self = Self(0.0);
    const ONE: Self = Self(1.0);
    const PARTS: usize = 1;
    const AVX512: bool = true;
    const BF16: bool = true;
    #[cfg(target_arch = "x86_64")]
    type V512 = super::simd::LeanVec<super::simd::F32x16>;
    #[cfg(target_arch = "x86_64")]
    type V256 = super::simd::LeanVec<super::simd::F32x8>;
    #[cfg(target_arch = "x86_64")]
    type V128 = super::simd::LeanVec<super::simd::F32x4>;
    #[cfg(not(target_arch = "x86_64"))]
    type V512 = Plain<Self, 1>;
    #[cfg(not(target_arch = "x86_64"))]
    type V256 = Plain<Self, 1>;
    #[cfg(not(target_arch = "x86_64"))]
    type V128 = Plain<Self, 1>;
    type Plain = Plain<Self, 1>;
    type Wide = f64;
    type Kept = bf16;

    #[inline(always)]
    fn wide(self) -> f64 {
        self.0.into()
    }
    #[inline(always)]
    fn narrow(x: f64) -> Self {
        Self(x as f32)
    }
    #[inline(always)]
    fn keep(self) -> bf16 {
        bf16::from_f32(self.0)
    }
    #[inline(always)]
    fn kept(x: bf16) -> Self {
        Self(x.to_f32())
    }
    #[inline(always)]
    fn of(x: f64) -> Self {
        Self(x as f32)
    }
    #[inline(always)]
    fn byte(self) -> u8 {
        self.0 as u8
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }
    #[inline(always)]
    fn exp(self) -> Self {
        Self(self.0.exp())
    }
    #[inline(always)]
    fn ln(self) -> Self {
        Self(self.0.ln())
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(Real::max(self.0, other.0))
    }
}

impl Stored<Lean> for bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector<Elem = Lean>>(from: *const bf16) -> V {
        unsafe { V::load_kept(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector<Elem = Lean>>(vector: V, to: *mut bf16) {
        unsafe { vector.store_kept(to) }
    }
    #[inline(always)]
    unsafe fn stream<V: Vector<Elem = Lean>>(vector: V, to: *mut bf16) {
        unsafe { vector.stream_kept(to) }
    }
    #[inline(always)]
    fn plain(_: *const bf16) -> Option<*const Lean> {
        None
    }
}
