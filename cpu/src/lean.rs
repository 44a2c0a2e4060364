//! Numbers that compute as `f32` and are kept as bf16.

use super::real::{DType, Real};
use super::simd::{Both, Plain, Stored, Vector};
use half::bf16;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// An `f32`; what is kept of it for a backward pass, or multiplied by a convolution of a cell, is rounded to bf16, and those
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
    const ORACLE: bool = false;
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
    type V384 = Both<Self::V256, Self::V128>;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, dispatch_exactly, lanes_dividing};

    /// Numbers of many sizes, halfway between two of bf16 and not, and none.
    fn numbers(seed: u32) -> Vec<f32> {
        let mut all: Vec<f32> = (0..45u32)
            .map(|i| {
                let bits = (i + 7 * seed).wrapping_mul(2_654_435_761) ^ seed << 13;
                f32::from_bits(0x3c00_0000 + (bits & 0x07ff_8fff) + (bits & 1) * 0x8000_0000)
            })
            .collect();
        all.extend([0.0, f32::INFINITY, f32::NAN]);
        all
    }

    /// What every vector of a slice keeps, and loads of it; the slice with another in turn; and sums of products.
    struct All<'a>([&'a [f32]; 2]);
    impl Kernel<Lean> for All<'_> {
        type Output = (usize, Vec<u16>, Vec<u32>, Vec<u16>, Vec<f32>);
        #[inline(always)]
        fn run<V: Vector<Elem = Lean>>(self) -> Self::Output {
            let [a, b] = self.0.map(|x| x.iter().map(|&x| Lean(x)).collect::<Vec<_>>());
            let (mut kept, mut zipped) = ([vec![bf16::ZERO; 48], vec![bf16::ZERO; 48]], vec![bf16::ZERO; 96]);
            let (mut again, mut sums) = (vec![Lean(0.0); 48], vec![Lean(1.0); 48]);
            // SAFETY: all have as many numbers as whole vectors, or twice as many.
            unsafe {
                for i in (0..48).step_by(V::LANES) {
                    V::load(a.as_ptr().add(i)).store_kept(kept[0].as_mut_ptr().add(i));
                    V::load(b.as_ptr().add(i)).store_kept(kept[1].as_mut_ptr().add(i));
                    V::load_kept(kept[0].as_ptr().add(i)).store(again.as_mut_ptr().add(i));
                    let [x, y] = [0, 1].map(|k: usize| kept[k].as_ptr().add(i));
                    V::interleave(x, y, zipped.as_mut_ptr().add(2 * i));
                    // of the finite ones
                    let (x, y) =
                        (V::operand_of(kept[1].as_ptr()), V::operand(zipped.as_ptr().add(i * V::DEPTH)));
                    let sum = V::load(sums.as_ptr().add(i)).product(x, y);
                    sum.store(sums.as_mut_ptr().add(i));
                }
            }
            let bits = |kept: &[bf16]| kept.iter().map(|x| x.to_bits()).collect();
            let again = again.iter().map(|x| x.0.to_bits()).collect();
            (V::DEPTH, bits(&kept[0]), again, bits(&zipped), sums.iter().map(|x| x.0).collect())
        }
    }

    #[test]
    fn vectors_of_every_width_round_as_numbers_do() {
        let [a, b] = [1, 2].map(numbers);
        let rounded = |x: &[f32]| -> Vec<bf16> { x.iter().map(|&x| Lean(x).keep()).collect() };
        let (x, y) = (rounded(&a), rounded(&b));
        let in_turn: Vec<bf16> = x.iter().zip(&y).flat_map(|(&x, &y)| [x, y]).collect();
        for (isa, n) in Isa::available().into_iter().flat_map(|isa| [1, 4, 8, 12, 16].map(|n| (isa, n))) {
            let lanes = lanes_dividing::<Lean>(isa, n);
            let (depth, kept, again, zipped, sums) = dispatch_exactly(isa, lanes, All([&a, &b]));
            for i in 0..48 {
                let same = |got: u16, want: bf16| {
                    let got = bf16::from_bits(got);
                    got == want || got.is_nan() && want.is_nan()
                };
                assert!(same(kept[i], x[i]), "{isa:?}, {lanes}: {} is kept as {}", a[i], kept[i]);
                assert_eq!(again[i], u32::from(kept[i]) << 16);
                assert!(same(zipped[2 * i], in_turn[2 * i]) && same(zipped[2 * i + 1], in_turn[2 * i + 1]));
                // the operand of a lane is `depth` numbers of those in turn, multiplied by the first ones of b
                let of = |k: usize| f64::from(in_turn[i * depth + k]) * f64::from(y[k]);
                let want = 1.0 + (0..depth).map(of).sum::<f64>();
                let scale = 1.0 + (0..depth).map(|k| of(k).abs()).sum::<f64>();
                let off = (f64::from(sums[i]) - want).abs() / scale;
                assert!(off < 1e-6 || !want.is_finite(), "{isa:?}, {lanes}: {} of {want}", sums[i]);
            }
        }
    }
}
