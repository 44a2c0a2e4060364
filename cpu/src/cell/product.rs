//! 1 x 1 convolution of some pixels, and the sums of outer products that make its weights' gradient.

use super::rows::operands;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Isa, Kept, Kernel, Stored, Vector, abreast, call, operand_depth};

/// A matrix `[depth, columns]` in strips of at most [`abreast`] vectors, each strip contiguous, as operands of vectors.
pub struct Matrix<R: Real> {
    depth: usize,
    columns: usize,
    lanes: usize,
    data: Scratch<R::Kept>,
}

impl<R: Real> Matrix<R> {
    /// `columns` and, where operands have a depth, `depth` are multiples of the `lanes` of `isa`; element `(k, n)` is
    /// `at(k, n)`.
    pub fn new(
        depth: usize,
        columns: usize,
        (isa, lanes): (Isa, usize),
        at: impl Fn(usize, usize) -> R,
    ) -> Self {
        let mut data = Scratch::new(depth * columns);
        let strip = abreast(lanes) * lanes;
        for (start, strip) in (0..columns).step_by(strip).zip(data.chunks_mut(strip * depth)) {
            match operand_depth::<R>(isa, lanes) {
                2 => pack::<R, 2>(strip, depth, |k, n| at(k, start + n)),
                _ => pack::<R, 1>(strip, depth, |k, n| at(k, start + n)),
            }
        }
        Self { depth, columns, lanes, data }
    }

    /// `out[pixel][n] = sum over k of a[pixel][k] * self[k][n]`, pixels being so many elements apart, as a kernel.
    ///
    /// # Safety
    /// The pointers are valid for `pixels`; the kernel is run with vectors of the matrix's lanes.
    #[inline(always)]
    pub unsafe fn times<T: Stored<R>>(
        &self,
        (a, a_step): (*const R::Kept, usize),
        (out, out_step): (*mut T, usize),
        pixels: usize,
    ) -> Times<'_, R, T> {
        Times { by: self, a, a_step, out, out_step, pixels }
    }
}

/// A strip of a matrix of `depth` rows, of each column `DEEP` numbers at a time.
fn pack<R: Real, const DEEP: usize>(strip: &mut [R::Kept], depth: usize, at: impl Fn(usize, usize) -> R) {
    let columns = strip.len() / depth;
    for (row, to) in strip.chunks_exact_mut(DEEP * columns).enumerate() {
        for (n, to) in to.as_chunks_mut::<DEEP>().0.iter_mut().enumerate() {
            for (k, to) in to.iter_mut().enumerate() {
                *to = at(DEEP * row + k, n).keep();
            }
        }
    }
}

/// [`Matrix::times`]
pub struct Times<'a, R: Real, T> {
    by: &'a Matrix<R>,
    a: *const R::Kept,
    a_step: usize,
    out: *mut T,
    out_step: usize,
    pixels: usize,
}

impl<R: Real, T: Stored<R>> Kernel<R> for Times<'_, R, T> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { by, a, a_step, out, out_step, pixels } = self;
        debug_assert_eq!(by.lanes, V::LANES);
        let strip = |start: usize| Strip {
            a,
            a_step,
            depth: by.depth,
            b: by.data.as_ptr().wrapping_add(start * by.depth),
            out: out.wrapping_add(start),
            out_step,
        };
        let width = abreast(V::LANES) * V::LANES;
        let wide = by.columns / width * width;
        // SAFETY: `times`'.
        unsafe {
            for start in (0..wide).step_by(width) {
                if const { abreast(V::LANES) == 1 } {
                    strip(start).run::<V, 1>(pixels);
                } else {
                    strip(start).run::<V, 2>(pixels);
                }
            }
            if wide < by.columns {
                // constants, so that only what the vectors can take is compiled
                if const { V::LANES == 16 && V::DEPTH == 1 && R::PARTS == 1 } && by.depth == 16 {
                    strip(wide).run_held::<V, 16>(pixels);
                } else if const { V::LANES == 16 && V::DEPTH == 2 } && by.depth == 16 {
                    strip(wide).run_held::<V, 8>(pixels);
                } else {
                    strip(wide).run::<V, 1>(pixels);
                }
            }
        }
    }
}

/// Rows of the largest tile of sums, `NV` vectors each.
const fn rows<V: Vector>(nv: usize) -> usize {
    let sums = match V::REGISTERS {
        _ if V::SIMPLE => 4,
        32.. => 16,
        16.. => 12,
        _ => 6,
    };
    sums / nv
}

/// [`rows`] where sums are short: the next tile's begin while they end, so fewer suffice, and rows of images are whole tiles.
const fn short_rows<V: Vector>(nv: usize) -> usize {
    if V::SIXTEEN { 8 / nv } else { rows::<V>(nv) }
}

/// Calls `$call` with tiles of `$MR` rows, `$most` at most, from row `$at` on, until `$count` rows are through: the sums of a
/// tile stay in registers beside its operands, and there are enough of them to hide how long a sum takes.
macro_rules! tiles {
    ($most:expr, $count:expr, |$MR:ident, $at:ident| $call:expr) => {{
        let (count, mut next) = ($count, 0);
        macro_rules! tile {
            ($rows:literal) => {{
                const $MR: usize = $rows;
                let $at = next;
                $call;
                next += $rows;
            }};
        }
        while next < count {
            let left = count - next;
            // constants, so that tiles of other sizes are not compiled
            if const { $most >= 16 } && left >= 16 {
                tile!(16)
            } else if const { $most >= 8 } && left >= 8 {
                tile!(8)
            } else if const { matches!($most, 6 | 7) } && left >= 6 && left != 8 {
                tile!(6)
            } else if const { $most >= 4 } && left >= 4 {
                tile!(4)
            } else if const { $most < 4 } && left >= 2 {
                tile!(2)
            } else {
                tile!(1)
            }
        }
    }};
}

struct Strip<R: Real, T> {
    a: *const R::Kept,
    a_step: usize,
    depth: usize,
    b: *const R::Kept,
    out: *mut T,
    out_step: usize,
}

impl<R: Real, T: Stored<R>> Strip<R, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = R>, const NV: usize>(&self, pixels: usize) {
        // SAFETY: pixels `p..p + MR` exist.
        tiles!(short_rows::<V>(NV), pixels, |MR, p| unsafe { self.tile::<V, MR, NV>(p) });
    }

    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = R>, const MR: usize, const NV: usize>(&self, p: usize) {
        let mut sum = [[V::zero(); NV]; MR];
        // SAFETY: the caller's.
        unsafe {
            // short sums look at how far they are only now and then
            let (mut k, several) = (0, if V::SIXTEEN { 4 } else { 1 } * V::DEPTH);
            while k + several <= self.depth {
                for k in (k..k + several).step_by(V::DEPTH) {
                    self.add(&mut sum, p, k);
                }
                k += several;
            }
            for k in (k..self.depth).step_by(V::DEPTH) {
                self.add(&mut sum, p, k);
            }
            for (i, sum) in sum.into_iter().enumerate() {
                for (v, sum) in sum.into_iter().enumerate() {
                    T::store(sum, self.out.add((p + i) * self.out_step + v * V::LANES));
                }
            }
        }
    }

    /// Row `k` of the matrix, for pixels `p..p + MR`.
    #[inline(always)]
    unsafe fn add<V: Vector<Elem = R>, const MR: usize, const NV: usize>(
        &self,
        sum: &mut [[V; NV]; MR],
        p: usize,
        k: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let b = operands::<V, NV>(self.b.add(k * NV * V::LANES), V::DEPTH * V::LANES);
            for (i, sum) in sum.iter_mut().enumerate() {
                let x = V::operand_of(self.a.add((p + i) * self.a_step + k));
                for (sum, b) in sum.iter_mut().zip(b) {
                    *sum = sum.product(x, b);
                }
            }
        }
    }

    /// [`Self::run`] of one vector of columns and `K` operands, the matrix staying in registers.
    #[inline(always)]
    unsafe fn run_held<V: Vector<Elem = R>, const K: usize>(&self, pixels: usize) {
        // SAFETY: the caller's.
        unsafe {
            let b = operands::<V, K>(self.b, V::DEPTH * V::LANES);
            let mut p = 0;
            while p + 8 <= pixels {
                self.held::<V, 8, K>(p, &b);
                p += 8;
            }
            while p < pixels {
                self.held::<V, 1, K>(p, &b);
                p += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn held<V: Vector<Elem = R>, const MR: usize, const K: usize>(
        &self,
        p: usize,
        b: &[V::Operand; K],
    ) {
        let mut sum = [V::zero(); MR];
        // SAFETY: the caller's.
        unsafe {
            let a = self.a.add(p * self.a_step);
            for (k, b) in b.iter().enumerate() {
                for (i, sum) in sum.iter_mut().enumerate() {
                    *sum = sum.product(V::operand_of(a.add(i * self.a_step + k * V::DEPTH)), *b);
                }
            }
            for (i, sum) in sum.into_iter().enumerate() {
                T::store(sum, self.out.add((p + i) * self.out_step));
            }
        }
    }
}

/// Two sets of pixels: pointers and elements from one pixel to the next.
#[derive(Clone, Copy)]
pub struct Pair<T> {
    pub a: (*const T, usize),
    pub b: (*const T, usize),
    pub pixels: usize,
}

/// `sum[i][j] += sum over pixels of a[pixel][i] * b[pixel][j]`, `sum` being `[m, n]`, both multiples of the lanes. `room`
/// is for operands that have a depth: the elements of both sets and of one more pixel.
///
/// # Safety
/// The pointers are valid.
#[inline(always)]
pub unsafe fn outer<V: Vector>(
    pair: Pair<Kept<V>>,
    sizes: [usize; 2],
    sum: *mut V::Elem,
    room: &mut [Kept<V>],
) {
    call::<V, _>(Outer { pair, sizes, sum, room });
}

/// [`outer`]
struct Outer<'a, R: Real> {
    pair: Pair<R::Kept>,
    sizes: [usize; 2],
    sum: *mut R,
    room: &'a mut [R::Kept],
}

impl<R: Real> Kernel<R> for Outer<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { mut pair, sizes: [m, n], sum, room } = self;
        // SAFETY: `outer`'s.
        unsafe {
            if const { V::DEPTH == 2 } {
                let end = pair.pixels.next_multiple_of(2);
                debug_assert!(room.len() >= end * (m + n));
                let (a, b) = room.split_at_mut(end * m);
                in_turn::<V>(pair.a, m, pair.pixels, a.as_mut_ptr());
                in_turn::<V>(pair.b, n, pair.pixels, b.as_mut_ptr());
                pair = Pair { a: (a.as_ptr(), 2 * m), b: (b.as_ptr(), 2 * n), pixels: end / 2 };
            }
            let mut j = 0;
            while const { abreast(V::LANES) == 2 } && j + 2 * V::LANES <= n {
                outer_strip::<V, 2>(pair, m, n, j, sum);
                j += 2 * V::LANES;
            }
            while j < n {
                outer_strip::<V, 1>(pair, m, n, j, sum);
                j += V::LANES;
            }
        }
    }
}

/// Every two pixels of `c` elements in turn, an odd one with zeros.
#[inline(always)]
unsafe fn in_turn<V: Vector>(
    (from, step): (*const Kept<V>, usize),
    c: usize,
    pixels: usize,
    to: *mut Kept<V>,
) {
    let zeros = [V::Elem::ZERO.keep(); 16];
    for p in (0..pixels).step_by(2) {
        for r in (0..c).step_by(V::LANES) {
            // SAFETY: `outer`'s; no vector has more than 16 lanes.
            unsafe {
                let a = from.add(p * step + r);
                let b = if p + 1 < pixels { a.add(step) } else { zeros.as_ptr() };
                V::interleave(a, b, to.add(p * c + 2 * r));
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_strip<V: Vector, const NV: usize>(
    pair: Pair<Kept<V>>,
    m: usize,
    n: usize,
    j: usize,
    sum: *mut V::Elem,
) {
    // SAFETY: rows `i..i + MR` of the sum exist.
    tiles!(rows::<V>(NV), m, |MR, i| unsafe { outer_tile::<V, MR, NV>(pair, n, [i, j], sum) });
}

#[inline(always)]
unsafe fn outer_tile<V: Vector, const MR: usize, const NV: usize>(
    pair: Pair<Kept<V>>,
    n: usize,
    [i, j]: [usize; 2],
    sum: *mut V::Elem,
) {
    let mut acc = [[V::zero(); NV]; MR];
    // SAFETY: the caller's.
    unsafe {
        for p in 0..pair.pixels {
            let a = pair.a.0.add(p * pair.a.1 + i * V::DEPTH);
            let b = operands::<V, NV>(pair.b.0.add(p * pair.b.1 + j * V::DEPTH), V::LANES * V::DEPTH);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = V::operand_of(a.add(r * V::DEPTH));
                for (acc, b) in acc.iter_mut().zip(b) {
                    *acc = acc.product(x, b);
                }
            }
        }
        for (r, acc) in acc.into_iter().enumerate() {
            for (v, acc) in acc.into_iter().enumerate() {
                let to = sum.add((i + r) * n + j + v * V::LANES);
                V::load(to).add(acc).store(to);
            }
        }
    }
}
