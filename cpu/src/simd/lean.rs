//! Vectors of numbers that are kept as bf16: those of `f32` with the conversions and products of AVX-512 BF16.

use super::{F32x4, F32x8, F32x16, Kernel, Vector};
use crate::lean::Lean;
use crate::real::Real;
use half::bf16;
use std::arch::x86_64::*;

/// Vectors of `f32` whose lanes can be bf16 in memory. All of it needs AVX-512 BF16.
pub trait Brief: Vector<Elem = f32> {
    /// Two bf16 a lane.
    type Pairs: Copy;
    /// # Safety
    /// `from` is valid for the lanes, as in all of these.
    unsafe fn load_brief(from: *const bf16) -> Self;
    /// # Safety
    /// As above.
    unsafe fn store_brief(self, to: *mut bf16);
    /// Past the caches.
    ///
    /// # Safety
    /// As above, and `to` is aligned to what is written.
    unsafe fn stream_brief(self, to: *mut bf16);
    /// # Safety
    /// As above, of two a lane.
    unsafe fn pairs(from: *const bf16) -> Self::Pairs;
    /// The same two in every lane.
    ///
    /// # Safety
    /// There are two.
    unsafe fn pairs_of(from: *const bf16) -> Self::Pairs;
    /// self + both products.
    fn dot(self, a: Self::Pairs, b: Self::Pairs) -> Self;
    /// Writes `a` and `b` in turn.
    ///
    /// # Safety
    /// As above, `to` being valid for both.
    unsafe fn zip(a: *const bf16, b: *const bf16, to: *mut bf16);
    /// As [`Vector::interleave_each`].
    ///
    /// # Safety
    /// As there.
    unsafe fn zip_each(from: *const bf16, step: usize, count: usize, to: *mut bf16);
}

macro_rules! brief {
    ($name:ident, $pairs:ident, $kept:ident, $bits:ident, $load:expr, $widen:ident, $shift:ident, $cast:ident, $narrow:ident,
     $store:expr, $stream:expr, $splat:ident, $dot:ident, $or:ident, $store_pairs:ident, $load_pairs:ident) => {
        // SAFETY of every call: these run on machines with AVX-512 BF16 only, as `Isa::of` sees to.
        impl Brief for $name {
            type Pairs = $pairs;
            #[inline(always)]
            unsafe fn load_brief(from: *const bf16) -> Self {
                unsafe { Self($cast($shift::<16>($widen($load(from.cast()))))) }
            }
            #[inline(always)]
            unsafe fn store_brief(self, to: *mut bf16) {
                unsafe { $store(to.cast(), std::mem::transmute::<$kept, $bits>($narrow(self.0))) }
            }
            #[inline(always)]
            unsafe fn stream_brief(self, to: *mut bf16) {
                unsafe { $stream(to.cast(), std::mem::transmute::<$kept, $bits>($narrow(self.0))) }
            }
            #[inline(always)]
            unsafe fn pairs(from: *const bf16) -> $pairs {
                unsafe { std::mem::transmute($load_pairs(from.cast())) }
            }
            #[inline(always)]
            unsafe fn pairs_of(from: *const bf16) -> $pairs {
                unsafe { std::mem::transmute($splat(from.cast::<i32>().read_unaligned())) }
            }
            #[inline(always)]
            fn dot(self, a: $pairs, b: $pairs) -> Self {
                unsafe { Self($dot(self.0, a, b)) }
            }
            #[inline(always)]
            unsafe fn zip(a: *const bf16, b: *const bf16, to: *mut bf16) {
                unsafe {
                    let (a, b) = ($widen($load(a.cast())), $widen($load(b.cast())));
                    $store_pairs(to.cast(), $or(a, $shift::<16>(b)));
                }
            }
            #[inline(always)]
            unsafe fn zip_each(from: *const bf16, step: usize, count: usize, to: *mut bf16) {
                unsafe {
                    let mut a = $widen($load(from.cast()));
                    for i in 0..count {
                        // each is loaded once
                        let b = $widen($load(from.add((i + 1) * step).cast()));
                        $store_pairs(to.add(2 * i * step).cast(), $or(a, $shift::<16>(b)));
                        a = b;
                    }
                }
            }
        }
    };
}
brief!(
    F32x16,
    __m512bh,
    __m256bh,
    __m256i,
    |from| _mm256_loadu_si256(from),
    _mm512_cvtepu16_epi32,
    _mm512_slli_epi32,
    _mm512_castsi512_ps,
    _mm512_cvtneps_pbh,
    |to, x| _mm256_storeu_si256(to, x),
    |to, x| _mm256_stream_si256(to, x),
    _mm512_set1_epi32,
    _mm512_dpbf16_ps,
    _mm512_or_si512,
    _mm512_storeu_si512,
    _mm512_loadu_si512
);
brief!(
    F32x8,
    __m256bh,
    __m128bh,
    __m128i,
    |from| _mm_loadu_si128(from),
    _mm256_cvtepu16_epi32,
    _mm256_slli_epi32,
    _mm256_castsi256_ps,
    _mm256_cvtneps_pbh,
    |to, x| _mm_storeu_si128(to, x),
    |to, x| _mm_stream_si128(to, x),
    _mm256_set1_epi32,
    _mm256_dpbf16_ps,
    _mm256_or_si256,
    _mm256_storeu_si256,
    _mm256_loadu_si256
);
brief!(
    F32x4,
    __m128bh,
    __m128bh,
    __m128i,
    |from| _mm_loadl_epi64(from),
    _mm_cvtepu16_epi32,
    _mm_slli_epi32,
    _mm_castsi128_ps,
    _mm_cvtneps_pbh,
    |to, x| _mm_storel_epi64(to, x),
    |to, x| _mm_storel_epi64(to, x),
    _mm_set1_epi32,
    _mm_dpbf16_ps,
    _mm_or_si128,
    _mm_storeu_si128,
    _mm_loadu_si128
);

/// A vector of [`Lean`] numbers.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct LeanVec<V>(V);

macro_rules! as_inside {
    ($($name:ident($self:ident $(, $arg:ident)*);)*) => {$(
        #[inline(always)]
        fn $name($self $(, $arg: Self)*) -> Self {
            Self($self.0.$name($($arg.0),*))
        }
    )*};
}

// SAFETY of every call: the caller's; a `Lean` is an `f32` in memory.
impl<V: Brief> Vector for LeanVec<V> {
    type Elem = Lean;
    const LANES: usize = V::LANES;
    const REGISTERS: usize = 32;
    const DEPTH: usize = 2;
    type Operand = V::Pairs;
    #[inline(always)]
    fn compiled<R: Real, U: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
        // SAFETY: as of every call.
        unsafe { super::x86::bf16::<R, U, K>(kernel) }
    }
    #[inline(always)]
    unsafe fn operand(from: *const bf16) -> V::Pairs {
        unsafe { V::pairs(from) }
    }
    #[inline(always)]
    unsafe fn operand_of(from: *const bf16) -> V::Pairs {
        unsafe { V::pairs_of(from) }
    }
    #[inline(always)]
    fn product(self, a: V::Pairs, b: V::Pairs) -> Self {
        Self(self.0.dot(a, b))
    }
    #[inline(always)]
    unsafe fn load_kept(from: *const bf16) -> Self {
        Self(unsafe { V::load_brief(from) })
    }
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut bf16) {
        unsafe { self.0.store_brief(to) }
    }
    #[inline(always)]
    unsafe fn stream_kept(self, to: *mut bf16) {
        unsafe { self.0.stream_brief(to) }
    }
    #[inline(always)]
    unsafe fn interleave(a: *const bf16, b: *const bf16, to: *mut bf16) {
        unsafe { V::zip(a, b, to) }
    }
    #[inline(always)]
    unsafe fn interleave_each(from: *const bf16, step: usize, count: usize, to: *mut bf16) {
        unsafe { V::zip_each(from, step, count, to) }
    }
    #[inline(always)]
    unsafe fn load(from: *const Lean) -> Self {
        Self(unsafe { V::load(from.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut Lean) {
        unsafe { self.0.store(to.cast()) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut Lean) {
        unsafe { self.0.stream(to.cast()) }
    }
    #[inline(always)]
    fn splat(x: Lean) -> Self {
        Self(V::splat(x.0))
    }
    as_inside! {
        fma(self, b, c);
        add(self, b);
        sub(self, b);
        mul(self, b);
        max(self, b);
        choose(self, other, a, b);
        only(self, index, tap);
    }
    #[inline(always)]
    fn pick(self, tap: Self, best: Self, index: Self) -> (Self, Self) {
        let (best, index) = self.0.pick(tap.0, best.0, index.0);
        (Self(best), Self(index))
    }
    #[inline(always)]
    unsafe fn add_where(self, from: *const Lean, index: *const u8, tap: u8) -> Self {
        Self(unsafe { self.0.add_where(from.cast(), index, tap) })
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        Self(unsafe { V::load_u8(from) })
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        unsafe { self.0.store_u8(to) }
    }
}
