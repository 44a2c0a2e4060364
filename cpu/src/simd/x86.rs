//! The vectors of x86-64, and the functions that compile a kernel for its instruction sets.

use super::{Kernel, Real, Vector};
use std::arch::x86_64::*;

// Not inlined: they are called from each other, by `call`, to be one copy of what they hold.

#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub fn avx512<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
    kernel.run::<V>()
}
/// [`avx512`] with products of bf16.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
pub fn bf16<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
    kernel.run::<V>()
}
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub fn avx2<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
    kernel.run::<V>()
}

macro_rules! masked {
    ($compare:ident, $blend:ident, $keep:ident) => {
        #[inline(always)]
        fn choose(self, other: Self, a: Self, b: Self) -> Self {
            Self(unsafe { $blend($compare::<_CMP_GT_OQ>(self.0, other.0), b.0, a.0) })
        }
        #[inline(always)]
        fn pick(self, tap: Self, best: Self, index: Self) -> (Self, Self) {
            unsafe {
                let above = $compare::<_CMP_GT_OQ>(self.0, best.0);
                let wins = above | $compare::<_CMP_UNORD_Q>(self.0, self.0);
                (Self($blend(wins, best.0, self.0)), Self($blend(wins, index.0, tap.0)))
            }
        }
        #[inline(always)]
        fn only(self, index: Self, tap: Self) -> Self {
            Self(unsafe { $keep($compare::<_CMP_EQ_OQ>(index.0, tap.0), self.0) })
        }
    };
}

macro_rules! blended {
    ($compare:ident, $blend:ident, $or:ident, $and:ident) => {
        #[inline(always)]
        fn choose(self, other: Self, a: Self, b: Self) -> Self {
            Self(unsafe { $blend(b.0, a.0, $compare::<_CMP_GT_OQ>(self.0, other.0)) })
        }
        #[inline(always)]
        fn pick(self, tap: Self, best: Self, index: Self) -> (Self, Self) {
            unsafe {
                let above = $compare::<_CMP_GT_OQ>(self.0, best.0);
                let wins = $or(above, $compare::<_CMP_UNORD_Q>(self.0, self.0));
                (Self($blend(best.0, self.0, wins)), Self($blend(index.0, tap.0, wins)))
            }
        }
        #[inline(always)]
        fn only(self, index: Self, tap: Self) -> Self {
            Self(unsafe { $and($compare::<_CMP_EQ_OQ>(index.0, tap.0), self.0) })
        }
    };
}

/// Pairs by the permutation of two registers that 512 bits have, given what goes to the even and odd elements, and to
/// the lower and upper half.
macro_rules! permuted_pairs {
    ($elem:ident, $load:ident, $store:ident, $permute:ident, [$even:expr, $odd:expr], [$low:expr, $high:expr]) => {
        #[inline(always)]
        unsafe fn load_pairs(from: *const $elem) -> [Self; 2] {
            unsafe {
                let (low, high) = ($load(from), $load(from.add(Self::LANES)));
                [Self($permute(low, $even, high)), Self($permute(low, $odd, high))]
            }
        }
        #[inline(always)]
        unsafe fn store_pairs([even, odd]: [Self; 2], to: *mut $elem) {
            unsafe {
                $store(to, $permute(even.0, $low, odd.0));
                $store(to.add(Self::LANES), $permute(even.0, $high, odd.0));
            }
        }
    };
}

/// Pairs by shuffles within 128 bits; 256 bits are put in order before or after.
macro_rules! shuffled_pairs {
    ($elem:ident, $load:ident, $store:ident, |$a:ident, $b:ident| $split:expr, $join:expr) => {
        #[inline(always)]
        unsafe fn load_pairs(from: *const $elem) -> [Self; 2] {
            unsafe {
                let ($a, $b) = ($load(from), $load(from.add(Self::LANES)));
                let [even, odd] = $split;
                [Self(even), Self(odd)]
            }
        }
        #[inline(always)]
        unsafe fn store_pairs([Self($a), Self($b)]: [Self; 2], to: *mut $elem) {
            unsafe {
                let [low, high] = $join;
                $store(to, low);
                $store(to.add(Self::LANES), high);
            }
        }
    };
}

macro_rules! vector {
    ($name:ident, $raw:ident, $elem:ident, $lanes:literal, $load:ident, $store:ident, $stream:ident, $splat:ident,
     $fma:ident, $add:ident, $sub:ident, $mul:ident, $max:ident, { $($extra:tt)* }) => {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct $name(pub(super) $raw);
        // SAFETY of every call: `dispatch` runs these only on a machine that has the instructions.
        impl Vector for $name {
            type Elem = $elem;
            const LANES: usize = $lanes;
            const REGISTERS: usize = if size_of::<$raw>() == 64 { 32 } else { 16 };
            one_by_one!();
            #[inline(always)]
            fn compiled<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
                // SAFETY: as of every call.
                unsafe { if const { Self::LANES == 16 } { avx512::<R, V, K>(kernel) } else { avx2::<R, V, K>(kernel) } }
            }
            #[inline(always)]
            unsafe fn load(from: *const $elem) -> Self {
                Self(unsafe { $load(from) })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $elem) {
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            unsafe fn stream(self, to: *mut $elem) {
                unsafe { $stream(to, self.0) }
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
            $($extra)*
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
    _mm512_stream_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_max_ps,
    {
        permuted_pairs!(
            f32,
            _mm512_loadu_ps,
            _mm512_storeu_ps,
            _mm512_permutex2var_ps,
            [
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
            ],
            [
                _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
                _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
            ]
        );
        masked!(_mm512_cmp_ps_mask, _mm512_mask_blend_ps, _mm512_maskz_mov_ps);
        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self {
            Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) })
        }
        #[inline(always)]
        unsafe fn store_u8(self, to: *mut u8) {
            unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(self.0))) }
        }
        #[inline(always)]
        unsafe fn add_where(self, from: *const f32, index: *const u8, tap: u8) -> Self {
            unsafe {
                let index = _mm_loadu_si128(index.cast());
                let lanes = _mm_cmpeq_epi8_mask(index, _mm_set1_epi8(tap as i8));
                Self(_mm512_mask_add_ps(self.0, lanes, self.0, _mm512_loadu_ps(from)))
            }
        }
    }
);
vector!(
    F32x8,
    __m256,
    f32,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_stream_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_max_ps,
    {
        shuffled_pairs!(
            f32,
            _mm256_loadu_ps,
            _mm256_storeu_ps,
            |a, b| {
                let (even, odd) = (_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xDD>(a, b));
                [
                    _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(even))),
                    _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(odd))),
                ]
            },
            {
                let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
            }
        );
        blended!(_mm256_cmp_ps, _mm256_blendv_ps, _mm256_or_ps, _mm256_and_ps);
        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self {
            Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) })
        }
        #[inline(always)]
        unsafe fn store_u8(self, to: *mut u8) {
            unsafe {
                {
                    let wide = _mm256_cvttps_epi32(self.0);
                    let (low, high) = (_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
                    let words = _mm_packus_epi32(low, high);
                    _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words))
                }
            }
        }
    }
);
vector!(
    F32x4,
    __m128,
    f32,
    4,
    _mm_loadu_ps,
    _mm_storeu_ps,
    _mm_stream_ps,
    _mm_set1_ps,
    _mm_fmadd_ps,
    _mm_add_ps,
    _mm_sub_ps,
    _mm_mul_ps,
    _mm_max_ps,
    {
        shuffled_pairs!(
            f32,
            _mm_loadu_ps,
            _mm_storeu_ps,
            |a, b| [_mm_shuffle_ps::<0x88>(a, b), _mm_shuffle_ps::<0xDD>(a, b)],
            [_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)]
        );
        blended!(_mm_cmp_ps, _mm_blendv_ps, _mm_or_ps, _mm_and_ps);
    }
);
vector!(
    F64x4,
    __m256d,
    f64,
    4,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_stream_pd,
    _mm256_set1_pd,
    _mm256_fmadd_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_max_pd,
    {
        shuffled_pairs!(
            f64,
            _mm256_loadu_pd,
            _mm256_storeu_pd,
            |a, b| [
                _mm256_permute4x64_pd::<0xD8>(_mm256_unpacklo_pd(a, b)),
                _mm256_permute4x64_pd::<0xD8>(_mm256_unpackhi_pd(a, b))
            ],
            {
                let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
                [_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high)]
            }
        );
        blended!(_mm256_cmp_pd, _mm256_blendv_pd, _mm256_or_pd, _mm256_and_pd);
    }
);
