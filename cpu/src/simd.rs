//! Vector instructions chosen at run time: AVX-512, AVX2 with FMA, or plain arrays (any machine).
//!
//! A kernel is a struct whose [`Kernel::run`] is generic over the vector type; [`dispatch`] calls it inside a
//! function compiled for the instruction set found. `OCHE_SIMD=plain|avx2|avx512` overrides the choice.

use super::real::Real;

/// What numbers `R` may be stored as: themselves, or something shorter.
pub trait Stored<R: Real>: bytemuck::Pod + Send + Sync {
    /// # Safety
    /// `from` is valid for the vector's lanes.
    unsafe fn load<V: Vector<Elem = R>>(from: *const Self) -> V;
    /// # Safety
    /// `to` is valid for the vector's lanes.
    unsafe fn store<V: Vector<Elem = R>>(vector: V, to: *mut Self);
    /// [`Stored::store`] past the caches.
    ///
    /// # Safety
    /// As there, and `to` is aligned to what is written.
    unsafe fn stream<V: Vector<Elem = R>>(vector: V, to: *mut Self);
    /// The same pointer where this is `R` itself.
    fn plain(from: *const Self) -> Option<*const R>;
    /// Whether this is `R` itself.
    fn is_plain() -> bool {
        Self::plain(std::ptr::null()).is_some()
    }
}

impl<R: Real> Stored<R> for R {
    #[inline(always)]
    unsafe fn load<V: Vector<Elem = R>>(from: *const R) -> V {
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector<Elem = R>>(vector: V, to: *mut R) {
        unsafe { vector.store(to) }
    }
    #[inline(always)]
    unsafe fn stream<V: Vector<Elem = R>>(vector: V, to: *mut R) {
        unsafe { vector.stream(to) }
    }
    #[inline(always)]
    fn plain(from: *const R) -> Option<*const R> {
        Some(from)
    }
}

/// A run of lanes of one number type.
///
/// # Safety
/// Pointers must be valid for the lanes read or written. Methods of the x86 types may only run on a machine that
/// has the instructions, which [`dispatch`] sees to.
pub trait Vector: Copy {
    type Elem: Real;
    const LANES: usize;
    /// Vectors of this type that the machine's registers hold: what tiles of sums are cut by.
    const REGISTERS: usize = 16;
    /// Whether loops are to be few rather than fast: those of the oracle, and of single numbers, which serve channels that
    /// are no whole vectors. Each copy of a loop costs build time.
    const SIMPLE: bool = Self::LANES == 1 || Self::Elem::ORACLE;
    /// Whether loops are to get by with sixteen registers. Not those of duals of 512 bits, which are pairs of 32.
    const SIXTEEN: bool = Self::REGISTERS == 16 && Self::Elem::PARTS == 1 && !Self::SIMPLE;
    /// Kept numbers that one [`Vector::product`] multiplies and sums in a lane.
    const DEPTH: usize = 1;
    /// So many of them for every lane.
    type Operand: Copy;
    /// Of as many kept numbers as it has, those of a lane side by side.
    ///
    /// # Safety
    /// `from` is valid for `LANES * DEPTH` of them.
    unsafe fn operand(from: *const Kept<Self>) -> Self::Operand;
    /// The same of every lane.
    ///
    /// # Safety
    /// `from` is valid for `DEPTH` of them.
    unsafe fn operand_of(from: *const Kept<Self>) -> Self::Operand;
    /// self + a * b, summed over the depth.
    fn product(self, a: Self::Operand, b: Self::Operand) -> Self;
    /// # Safety
    /// `from` is valid for `LANES` kept numbers.
    #[inline(always)]
    unsafe fn load_kept(from: *const Kept<Self>) -> Self {
        if let Some(from) = Stored::plain(from) {
            return unsafe { Self::load(from) };
        }
        let mut lanes = [Self::Elem::ZERO; 16];
        for (i, lane) in lanes[..Self::LANES].iter_mut().enumerate() {
            *lane = Self::Elem::kept(unsafe { *from.add(i) });
        }
        unsafe { Self::load(lanes.as_ptr()) }
    }
    /// # Safety
    /// `to` is valid for `LANES` kept numbers.
    #[inline(always)]
    unsafe fn store_kept(self, to: *mut Kept<Self>) {
        if let Some(to) = Stored::plain(to) {
            return unsafe { self.store(to.cast_mut()) };
        }
        let mut lanes = [Self::Elem::ZERO; 16];
        unsafe { self.store(lanes.as_mut_ptr()) };
        for (i, lane) in lanes[..Self::LANES].iter().enumerate() {
            unsafe { *to.add(i) = lane.keep() };
        }
    }
    /// [`Vector::store_kept`] past the caches, where the machine can.
    ///
    /// # Safety
    /// As there, and `to` is aligned to what is written.
    #[inline(always)]
    unsafe fn stream_kept(self, to: *mut Kept<Self>) {
        match Stored::plain(to) {
            Some(to) => unsafe { self.stream(to.cast_mut()) },
            None => unsafe { self.store_kept(to) },
        }
    }
    /// Runs `kernel` with vectors `V`, made of these, in a function compiled for their instructions: see [`call`].
    fn compiled<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
        plain::<R, V, K>(kernel)
    }
    /// `LANES` kept numbers of `a` and of `b` in turn.
    ///
    /// # Safety
    /// The pointers are valid for `LANES` of them, `to` for twice as many.
    #[inline(always)]
    unsafe fn interleave(a: *const Kept<Self>, b: *const Kept<Self>, to: *mut Kept<Self>) {
        for i in 0..Self::LANES {
            unsafe {
                *to.add(2 * i) = *a.add(i);
                *to.add(2 * i + 1) = *b.add(i);
            }
        }
    }
    /// [`Vector::interleave`] of the kept numbers at `from` and those `step` later, of these and those `step` later, and
    /// so on `count` times; the results lie `2 * step` apart.
    ///
    /// # Safety
    /// The pointers are valid for that.
    #[inline(always)]
    unsafe fn interleave_each(from: *const Kept<Self>, step: usize, count: usize, to: *mut Kept<Self>) {
        for i in 0..count {
            unsafe {
                let a = from.add(i * step);
                Self::interleave(a, a.add(step), to.add(2 * i * step));
            }
        }
    }
    /// # Safety
    /// `from` is valid for `LANES` elements.
    unsafe fn load(from: *const Self::Elem) -> Self;
    /// # Safety
    /// `to` is valid for `LANES` elements.
    unsafe fn store(self, to: *mut Self::Elem);
    /// [`Self::store`] past the caches, where the machine can; [`fence`] makes it visible to other threads.
    ///
    /// # Safety
    /// As there, and `to` is aligned to the vector.
    #[inline(always)]
    unsafe fn stream(self, to: *mut Self::Elem) {
        unsafe { self.store(to) }
    }
    fn splat(x: Self::Elem) -> Self;
    /// self * b + c, in one rounding where the machine has it.
    fn fma(self, b: Self, c: Self) -> Self;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;

    /// `a` where `self > other`, elsewhere `b`.
    fn choose(self, other: Self, a: Self, b: Self) -> Self;
    /// Where `self` is above `best` or NaN: `self` and `tap`; elsewhere `best` and `index`.
    fn pick(self, tap: Self, best: Self, index: Self) -> (Self, Self);
    /// `self` where `index == tap`, zero elsewhere.
    fn only(self, index: Self, tap: Self) -> Self;
    /// self + the elements at `from` where the bytes at `index` are `tap`.
    ///
    /// # Safety
    /// The pointers are valid for the lanes.
    #[inline(always)]
    unsafe fn add_where(self, from: *const Self::Elem, index: *const u8, tap: u8) -> Self {
        let tap = Self::splat(Self::Elem::of(tap.into()));
        self.add(unsafe { Self::load(from).only(Self::load_u8(index), tap) })
    }
    /// `self` where `x` is above zero, zero elsewhere.
    #[inline(always)]
    fn where_positive(self, x: Self) -> Self {
        x.choose(Self::zero(), self, Self::zero())
    }

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(Self::Elem::ZERO)
    }
    /// The even and the odd ones of `2 * LANES` elements.
    ///
    /// # Safety
    /// `from` is valid for `2 * LANES` elements.
    #[inline(always)]
    unsafe fn load_pairs(from: *const Self::Elem) -> [Self; 2] {
        let mut parts = [[Self::Elem::ZERO; 16]; 2];
        for i in 0..2 * Self::LANES {
            parts[i % 2][i / 2] = unsafe { *from.add(i) };
        }
        unsafe { [Self::load(parts[0].as_ptr()), Self::load(parts[1].as_ptr())] }
    }
    /// Undoes [`Vector::load_pairs`].
    ///
    /// # Safety
    /// `to` is valid for `2 * LANES` elements.
    #[inline(always)]
    unsafe fn store_pairs([even, odd]: [Self; 2], to: *mut Self::Elem) {
        let mut parts = [[Self::Elem::ZERO; 16]; 2];
        unsafe {
            even.store(parts[0].as_mut_ptr());
            odd.store(parts[1].as_mut_ptr());
        }
        for i in 0..2 * Self::LANES {
            unsafe { *to.add(i) = parts[i % 2][i / 2] };
        }
    }
    /// Bytes as numbers.
    ///
    /// # Safety
    /// `from` is valid for `LANES` bytes.
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        let mut lanes = [Self::Elem::ZERO; 16];
        for (i, lane) in lanes[..Self::LANES].iter_mut().enumerate() {
            *lane = Self::Elem::of(unsafe { *from.add(i) }.into());
        }
        unsafe { Self::load(lanes.as_ptr()) }
    }
    /// Numbers, whole and within 0 to 255, as bytes.
    ///
    /// # Safety
    /// `to` is valid for `LANES` bytes.
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        let mut lanes = [Self::Elem::ZERO; 16];
        unsafe { self.store(lanes.as_mut_ptr()) };
        for (i, lane) in lanes[..Self::LANES].iter().enumerate() {
            unsafe { *to.add(i) = lane.byte() };
        }
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

/// What a vector's numbers are kept as.
pub type Kept<V> = <<V as Vector>::Elem as Real>::Kept;

/// Operands of a vector that multiplies number by number.
macro_rules! one_by_one {
    () => {
        type Operand = Self;
        #[inline(always)]
        unsafe fn operand(from: *const crate::simd::Kept<Self>) -> Self {
            unsafe { Self::load_kept(from) }
        }
        #[inline(always)]
        unsafe fn operand_of(from: *const crate::simd::Kept<Self>) -> Self {
            Self::splat(Self::Elem::kept(unsafe { *from }))
        }
        #[inline(always)]
        fn product(self, a: Self, b: Self) -> Self {
            a.fma(b, self)
        }
    };
}
/// Asks for the cache lines of `count` elements from `from` on to be fetched into the second-level cache; in the first they
/// would displace what is computed with. Addresses need not be valid.
#[inline(always)]
pub fn prefetch<R>(from: *const R, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..count * size_of::<R>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, count);
}

/// Orders what [`Vector::stream`] wrote before anything written later.
#[inline(always)]
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// A loop body that [`dispatch`] compiles for every instruction set. `run` must be `#[inline(always)]`.
pub trait Kernel<R: Real> {
    type Output;
    fn run<V: Vector<Elem = R>>(self) -> Self::Output;
}

/// Runs a part of a kernel in a function of its own, one for all kernels that have this part: what is inlined everywhere
/// is compiled everywhere.
#[inline(always)]
pub fn call<V: Vector, K: Kernel<V::Elem>>(part: K) -> K::Output {
    V::compiled::<V::Elem, V, K>(part)
}

/// Runs `kernel` with the widest vectors of the machine that have at most `lanes` lanes (at least the narrowest).
#[inline]
pub fn dispatch<R: Real, K: Kernel<R>>(lanes: usize, kernel: K) -> K::Output {
    dispatch_for(isa(), lanes, kernel)
}

/// Runs `kernel` with the widest vectors of the machine, and compiles it for no others.
#[inline]
pub fn dispatch_widest<R: Real, K: Kernel<R>>(kernel: K) -> K::Output {
    // SAFETY: `isa` is one that the machine has.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        match isa().of::<R>() {
            Isa::Avx512 if R::BF16 => return x86::bf16::<R, R::V512, K>(kernel),
            Isa::Avx512 if !R::ORACLE => return x86::avx512::<R, R::V512, K>(kernel),
            Isa::Avx512 | Isa::Avx2 if !R::BF16 => return x86::avx2::<R, R::V256, K>(kernel),
            _ => {}
        }
    }
    plain::<R, R::Plain, K>(kernel)
}

/// [`dispatch`] with the instruction set given; it must be one of [`Isa::available`].
#[inline]
pub fn dispatch_for<R: Real, K: Kernel<R>>(isa: Isa, lanes: usize, kernel: K) -> K::Output {
    // SAFETY: `isa` is one that the machine has.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        match isa.of::<R>() {
            Isa::Avx512 if R::BF16 && lanes >= R::V512::LANES => {
                return x86::bf16::<R, R::V512, K>(kernel);
            }
            Isa::Avx512 if R::BF16 && lanes >= R::V256::LANES => {
                return x86::bf16::<R, R::V256, K>(kernel);
            }
            Isa::Avx512 if R::BF16 => return x86::bf16::<R, R::V128, K>(kernel),
            Isa::Avx512 if !R::ORACLE && lanes >= R::V512::LANES => {
                return x86::avx512::<R, R::V512, K>(kernel);
            }
            // narrower vectors are no faster with its other registers, and a second copy of all kernels is long to compile
            Isa::Avx512 | Isa::Avx2 if !R::BF16 && lanes >= R::V256::LANES => {
                return x86::avx2::<R, R::V256, K>(kernel);
            }
            Isa::Avx512 | Isa::Avx2 if !R::BF16 => return x86::avx2::<R, R::V128, K>(kernel),
            _ => {}
        }
    }
    let _ = (isa, lanes);
    plain::<R, R::Plain, K>(kernel)
}

/// Lanes of the widest vectors that `size` elements are whole numbers of: one if there are none.
pub fn lanes_dividing<R: Real>(isa: Isa, size: usize) -> usize {
    let all = match isa.of::<R>() {
        Isa::Avx512 => [R::V512::LANES, R::V256::LANES, R::V384::LANES, R::V128::LANES],
        Isa::Avx2 => [R::V256::LANES, R::V256::LANES, R::V384::LANES, R::V128::LANES],
        Isa::Plain => [R::Plain::LANES; 4],
    };
    all.into_iter().find(|&lanes| size.is_multiple_of(lanes)).unwrap_or(1)
}

/// [`Vector::DEPTH`] of the vectors that [`dispatch_exactly`] takes.
pub fn operand_depth<R: Real>(isa: Isa, lanes: usize) -> usize {
    if R::BF16 && isa.of::<R>() != Isa::Plain && lanes > 1 { 2 } else { 1 }
}

/// Vectors of `lanes` lanes in a row of a tile of sums. One, where a vector is two of sixteen registers: tiles of more rows
/// then load less.
pub const fn abreast(lanes: usize) -> usize {
    if lanes == 12 { 1 } else { 2 }
}

/// [`dispatch_for`] with exactly the `lanes` that [`lanes_dividing`] gave.
#[inline]
pub fn dispatch_exactly<R: Real, K: Kernel<R>>(isa: Isa, lanes: usize, kernel: K) -> K::Output {
    match lanes {
        1 => plain::<R, Plain<R, 1>, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `lanes_dividing` gives these for instruction sets that have both halves.
        12 if const { R::V384::LANES == 12 } => unsafe {
            if const { R::BF16 } {
                x86::bf16::<R, R::V384, K>(kernel)
            } else {
                x86::avx2::<R, R::V384, K>(kernel)
            }
        },
        _ => dispatch_for(isa, lanes, kernel),
    }
}

/// Not inlined, as the functions of the instruction sets are not: without optimisation a kernel's frame has a place for
/// every value of all that it inlines, up to 1.6 MB, and those of several vectors would lie in one stack.
#[inline(never)]
fn plain<R: Real, V: Vector<Elem = R>, K: Kernel<R>>(kernel: K) -> K::Output {
    kernel.run::<V>()
}

#[cfg(not(target_arch = "x86_64"))]
mod names {
    use super::Plain;
    pub type F32x16 = Plain<f32, 16>;
    pub type F32x8 = Plain<f32, 8>;
    pub type F32x4 = Plain<f32, 4>;
    pub type F64x4 = Plain<f64, 4>;
}
pub use arrays::{Both, Many, Plain};
pub use dual::DualVec;
pub use isa::{Isa, has_bf16, isa, multiplies_bf16, wanted};
#[cfg(target_arch = "x86_64")]
pub use lean::LeanVec;
#[cfg(not(target_arch = "x86_64"))]
pub use names::*;
#[cfg(target_arch = "x86_64")]
pub use x86::{F32x4, F32x8, F32x16, F64x4};

mod arrays;
mod dual;
mod isa;
#[cfg(target_arch = "x86_64")]
mod lean;
#[cfg(target_arch = "x86_64")]
mod x86;
