//! Vector instructions chosen at run time: AVX-512, AVX2 with FMA, or plain arrays (any machine).
//!
//! A kernel is a struct whose [`Kernel::run`] is generic over the vector type; [`dispatch`] calls it inside a
//! function compiled for the instruction set found. `OCHE_SIMD=plain|avx2|avx512` overrides the choice.

use super::real::Real;
use std::sync::OnceLock;

/// Instruction sets a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    Plain,
    Avx2,
    Avx512,
}

impl Isa {
    /// Those this machine can run, weakest first.
    pub fn available() -> Vec<Isa> {
        [Isa::Plain, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= best()).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Plain,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Isa {
    Isa::Plain
}

/// The instruction set in use: the best there is, or the one asked for by `OCHE_SIMD` if the machine has it.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let wanted = match super::profile::simd_wanted().as_deref() {
            Some("plain") => Isa::Plain,
            Some("avx2") => Isa::Avx2,
            _ => Isa::Avx512,
        };
        wanted.min(best())
    })
}

/// A run of lanes of one number type.
///
/// # Safety
/// Pointers must be valid for the lanes read or written. Methods of the x86 types may only run on a machine that
/// has the instructions, which [`dispatch`] sees to.
pub trait Vector: Copy {
    type Elem: Real;
    const LANES: usize;
    /// # Safety
    /// `from` is valid for `LANES` elements.
    unsafe fn load(from: *const Self::Elem) -> Self;
    /// # Safety
    /// `to` is valid for `LANES` elements.
    unsafe fn store(self, to: *mut Self::Elem);
    fn splat(x: Self::Elem) -> Self;
    /// self * b + c, in one rounding where the machine has it.
    fn fma(self, b: Self, c: Self) -> Self;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(Self::Elem::ZERO)
    }
    /// The first `n` lanes from memory, zero in the others.
    ///
    /// # Safety
    /// `from` is valid for `n <= LANES` elements.
    #[inline(always)]
    unsafe fn load_part(from: *const Self::Elem, n: usize) -> Self {
        let mut lanes = [Self::Elem::ZERO; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            Self::load(lanes.as_ptr())
        }
    }
    /// Writes the first `n` lanes.
    ///
    /// # Safety
    /// `to` is valid for `n <= LANES` elements.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut Self::Elem, n: usize) {
        let mut lanes = [Self::Elem::ZERO; 16];
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
        }
    }
}

/// A loop body that [`dispatch`] compiles for every instruction set. `run` must be `#[inline(always)]`.
pub trait Kernel<R: Real> {
    type Output;
    fn run<V: Vector<Elem = R>>(self) -> Self::Output;
}

/// Runs `kernel` with the widest vectors of the machine that have at most `lanes` lanes (at least the narrowest).
#[inline]
pub fn dispatch<R: Real, K: Kernel<R>>(lanes: usize, kernel: K) -> K::Output {
    dispatch_for(isa(), lanes, kernel)
}

/// [`dispatch`] with the instruction set given; it must be one of [`Isa::available`].
#[inline]
pub fn dispatch_for<R: Real, K: Kernel<R>>(isa: Isa, lanes: usize, kernel: K) -> K::Output {
    // SAFETY: `isa` is one that the machine has.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        match isa {
            Isa::Avx512 if lanes >= R::V512::LANES => return x86::avx512::<R, R::V512, K>(kernel),
            Isa::Avx512 if lanes >= R::V256::LANES => return x86::avx512::<R, R::V256, K>(kernel),
            Isa::Avx512 => return x86::avx512::<R, R::V128, K>(kernel),
            Isa::Avx2 if lanes >= R::V256::LANES => return x86::avx2::<R, R::V256, K>(kernel),
            Isa::Avx2 => return x86::avx2::<R, R::V128, K>(kernel),
            Isa::Plain => {}
        }
    }
    let _ = (isa, lanes);
    kernel.run::<R::Plain>()
}

/// An array as a vector: what every machine can do. No fused multiply-add, which would be a library call here.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Plain<R, const N: usize>(pub [R; N]);

impl<R: Real, const N: usize> Vector for Plain<R, N> {
    type Elem = R;
    const LANES: usize = N;
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
}

#[cfg(not(target_arch = "x86_64"))]
mod names {
    use super::Plain;
    pub type F32x16 = Plain<f32, 16>;
    pub type F32x8 = Plain<f32, 8>;
    pub type F32x4 = Plain<f32, 4>;
    pub type F64x8 = Plain<f64, 8>;
    pub type F64x4 = Plain<f64, 4>;
    pub type F64x2 = Plain<f64, 2>;
}
#[cfg(not(target_arch = "x86_64"))]
pub use names::*;
#[cfg(target_arch = "x86_64")]
pub use x86::{F32x4, F32x8, F32x16, F64x2, F64x4, F64x8};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Real, Vector};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub fn avx512<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
        kernel.run::<V>()
    }
    #[target_feature(enable = "avx2,fma")]
    pub fn avx2<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
        kernel.run::<V>()
    }

    macro_rules! vector {
        ($name:ident, $raw:ident, $elem:ident, $lanes:literal, $load:ident, $store:ident, $splat:ident,
         $fma:ident, $add:ident, $sub:ident, $mul:ident, $max:ident) => {
            #[derive(Clone, Copy)]
            #[repr(transparent)]
            pub struct $name($raw);
            // SAFETY of every call: `dispatch` runs these only on a machine that has the instructions.
            impl Vector for $name {
                type Elem = $elem;
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn load(from: *const $elem) -> Self {
                    Self(unsafe { $load(from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $elem) {
                    unsafe { $store(to, self.0) }
                }
                #[inline(always)]
                fn splat(x: $elem) -> Self {
                    Self(unsafe { $splat(x) })
                }
                #[inline(always)]
                fn fma(self, b: Self, c: Self) -> Self {
                    Self(unsafe { $fma(self.0, b.0, c.0) })
                }
                #[inline(always)]
                fn add(self, b: Self) -> Self {
                    Self(unsafe { $add(self.0, b.0) })
                }
                #[inline(always)]
                fn sub(self, b: Self) -> Self {
                    Self(unsafe { $sub(self.0, b.0) })
                }
                #[inline(always)]
                fn mul(self, b: Self) -> Self {
                    Self(unsafe { $mul(self.0, b.0) })
                }
                #[inline(always)]
                fn max(self, b: Self) -> Self {
                    Self(unsafe { $max(self.0, b.0) })
                }
            }
        };
    }
    vector!(
        F32x16,
        __m512,
        f32,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_max_ps
    );
    vector!(
        F32x8,
        __m256,
        f32,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_max_ps
    );
    vector!(
        F32x4,
        __m128,
        f32,
        4,
        _mm_loadu_ps,
        _mm_storeu_ps,
        _mm_set1_ps,
        _mm_fmadd_ps,
        _mm_add_ps,
        _mm_sub_ps,
        _mm_mul_ps,
        _mm_max_ps
    );
    vector!(
        F64x8,
        __m512d,
        f64,
        8,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_set1_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_max_pd
    );
    vector!(
        F64x4,
        __m256d,
        f64,
        4,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_set1_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_max_pd
    );
    vector!(
        F64x2,
        __m128d,
        f64,
        2,
        _mm_loadu_pd,
        _mm_storeu_pd,
        _mm_set1_pd,
        _mm_fmadd_pd,
        _mm_add_pd,
        _mm_sub_pd,
        _mm_mul_pd,
        _mm_max_pd
    );
}
