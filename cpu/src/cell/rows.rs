//! Depthwise convolution of one row at a time, every channel vector by itself: correlation with the taps, and the
//! products that make the taps' gradients.
//!
//! A pixel is `c` elements, a whole number of vectors. Rows are read from padded copies, so no tap needs a test.

use crate::real::Real;
use crate::simd::{Kept, Kernel, Stored, Vector, abreast, call};

/// Pixels whose sums are in registers together. Rows are computed in whole blocks, so sources and targets have room
/// for a last one.
pub const BLOCK: usize = 8;

/// Taps of a window on a padded copy whose rows are `row` elements apart.
#[derive(Clone, Copy)]
pub struct Taps {
    pub kernel: [usize; 2],
    /// Elements between the rows of taps, and between the taps of a row.
    pub steps: [usize; 2],
    /// Elements between the pixels that successive outputs look at.
    pub stride: usize,
    pub c: usize,
}

impl Taps {
    /// Whether neighbouring outputs share what they load, in one of the loops written for it: kernel and dilation.
    pub fn slides(&self) -> Option<(usize, usize)> {
        let dilation = self.steps[1] / self.c;
        let known = self.stride == self.c && self.kernel[0] == self.kernel[1];
        (known && matches!(self.kernel[1], 3 | 5) && matches!(dilation, 1 | 2))
            .then_some((self.kernel[1], dilation))
    }
}

/// `out[pixel][c] = sum over taps of from[tap + pixel * stride][c] * weights[tap][c]` for `pixels`, rounded up to
/// whole blocks. With operands of two numbers, where the taps slide, `from` holds pairs and `weights` pairs of taps.
///
/// # Safety
/// `from` and `out` have the pixels, rounded up; `weights` the taps.
#[inline(always)]
pub unsafe fn correlate<V: Vector, T: Stored<V::Elem>>(
    taps: &Taps,
    weights: *const Kept<V>,
    from: *const Kept<V>,
    out: *mut T,
    pixels: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        // an `if` of constants, so that only one kind of loops is compiled
        if const { V::DEPTH == 1 } {
            match taps.slides() {
                Some((3, 1)) => in_blocks::<V, T, 3, 3, 1>(taps, weights, from, out, pixels),
                Some((3, 2)) => in_blocks::<V, T, 3, 3, 2>(taps, weights, from, out, pixels),
                Some((5, 1)) => in_blocks::<V, T, 5, 5, 1>(taps, weights, from, out, pixels),
                Some((5, 2)) => in_blocks::<V, T, 5, 5, 2>(taps, weights, from, out, pixels),
                _ => plainly::<V, T>(taps, weights, from, out, pixels),
            }
        } else {
            match taps.slides() {
                Some((3, 1)) => in_blocks::<V, T, 3, 2, 2>(taps, weights, from, out, pixels),
                Some((3, 2)) => in_blocks::<V, T, 3, 2, 4>(taps, weights, from, out, pixels),
                Some((5, 1)) => in_blocks::<V, T, 5, 3, 2>(taps, weights, from, out, pixels),
                Some((5, 2)) => in_blocks::<V, T, 5, 3, 4>(taps, weights, from, out, pixels),
                _ => plainly::<V, T>(taps, weights, from, out, pixels),
            }
        }
    }
}

/// [`slide`] in blocks no longer than the row is worth.
#[inline(always)]
unsafe fn in_blocks<V: Vector, T: Stored<V::Elem>, const KY: usize, const K: usize, const D: usize>(
    taps: &Taps,
    weights: *const Kept<V>,
    from: *const Kept<V>,
    out: *mut T,
    pixels: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        // of vectors that are two registers only four fit
        if const { V::SIMPLE } || (const { abreast(V::LANES) == 2 } && pixels > BLOCK / 2) {
            slide::<V, T, KY, K, D, 8>(taps, weights, from, out, pixels);
        } else {
            slide::<V, T, KY, K, D, 4>(taps, weights, from, out, pixels);
        }
    }
}

/// [`correlate`] where outputs share nothing: each tap by itself.
#[inline(always)]
unsafe fn plainly<V: Vector, T: Stored<V::Elem>>(
    taps: &Taps,
    weights: *const Kept<V>,
    from: *const Kept<V>,
    out: *mut T,
    pixels: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        for r in (0..taps.c).step_by(V::LANES) {
            for p in (0..pixels).step_by(BLOCK) {
                let mut sum = [V::zero(); BLOCK];
                for k in 0..taps.kernel[0] * taps.kernel[1] {
                    let at = k / taps.kernel[1] * taps.steps[0] + k % taps.kernel[1] * taps.steps[1];
                    let (from, w) = (from.add(at + p * taps.stride + r), weights.add(k * taps.c + r));
                    add_tap::<V>(&mut sum, from, taps.stride, V::load_kept(w));
                }
                put(sum, out.add(p * taps.c + r), taps.c);
            }
        }
    }
}

/// # Safety
/// `from` has a block of pixels `stride` apart.
#[inline(always)]
unsafe fn add_tap<V: Vector>(sum: &mut [V; BLOCK], from: *const Kept<V>, stride: usize, weight: V) {
    for (b, sum) in sum.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *sum = unsafe { V::load_kept(from.add(b * stride)) }.fma(weight, *sum);
    }
}

/// `N` operands, so many elements from one to the next.
///
/// # Safety
/// They exist.
#[inline(always)]
pub unsafe fn operands<V: Vector, const N: usize>(from: *const Kept<V>, step: usize) -> [V::Operand; N] {
    // SAFETY: the caller's. In a loop, since vector instructions in a closure may stay function calls.
    unsafe {
        let mut all = [V::operand(from); N];
        for (i, operand) in all.iter_mut().enumerate().skip(1) {
            *operand = V::operand(from.add(i * step));
        }
        all
    }
}

/// # Safety
/// `out` has `B` pixels `step` apart.
#[inline(always)]
unsafe fn put<V: Vector, T: Stored<V::Elem>, const B: usize>(sum: [V; B], out: *mut T, step: usize) {
    for (b, sum) in sum.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { T::store(sum, out.add(b * step)) };
    }
}

/// Taps of a row that share what they load. With sixteen registers none do: a product then takes its operand from memory,
/// and the sums, each of one tap after the other, wait for each other less.
const fn sharing<V: Vector>(taps: usize) -> usize {
    if V::SIXTEEN { 1 } else { taps }
}

/// [`correlate`] with `KY` rows of `K` operands `D` pixels apart at stride 1.
#[inline(always)]
unsafe fn slide<
    V: Vector,
    T: Stored<V::Elem>,
    const KY: usize,
    const K: usize,
    const D: usize,
    const B: usize,
>(
    taps: &Taps,
    weights: *const Kept<V>,
    from: *const Kept<V>,
    out: *mut T,
    pixels: usize,
) {
    let c = taps.c;
    for p in (0..pixels).step_by(B) {
        for r in (0..c).step_by(V::LANES) {
            let mut sum = [V::zero(); B];
            // SAFETY: the caller's.
            unsafe {
                for ky in 0..KY {
                    let w = operands::<V, K>(weights.add((ky * K * c + r) * V::DEPTH), c * V::DEPTH);
                    let from = from.add((ky * taps.steps[0] + p * c + r) * V::DEPTH);
                    for first in (0..K).step_by(sharing::<V>(K)) {
                        let taps = first..K.min(first + sharing::<V>(K));
                        // pixels so far apart see each other's taps
                        for q in 0..D {
                            for j in taps.start..B / D + taps.end - 1 {
                                let x = V::operand(from.add((D * j + q) * c * V::DEPTH));
                                for k in taps.clone() {
                                    if j >= k && j - k < B / D {
                                        let sum = &mut sum[D * (j - k) + q];
                                        *sum = sum.product(x, w[k]);
                                    }
                                }
                            }
                        }
                    }
                }
                put(sum, out.add(p * c + r), c);
            }
        }
    }
}

/// The gradient of [`correlate`]'s input at the pixels `first + i * stride` of a row: the taps that reach a pixel lie
/// at `list` of offsets in the padded gradient, with the weight each has. Written `out_step` elements apart.
///
/// # Safety
/// `from` has, at each offset, the pixels, rounded up to whole blocks; so has `out`.
#[inline(always)]
pub unsafe fn gather<V: Vector>(
    list: &[(usize, usize)],
    c: usize,
    weights: *const Kept<V>,
    from: *const Kept<V>,
    (out, out_step): (*mut V::Elem, usize),
    pixels: usize,
) {
    for r in (0..c).step_by(V::LANES) {
        for p in (0..pixels).step_by(BLOCK) {
            let mut sum = [V::zero(); BLOCK];
            // SAFETY: the caller's.
            unsafe {
                for &(offset, k) in list {
                    let weight = V::load_kept(weights.add(k * c + r));
                    add_tap::<V>(&mut sum, from.add(offset + p * c + r), c, weight);
                }
                put(sum, out.add(p * out_step + r), out_step);
            }
        }
    }
}

/// Rows of a padded copy and of a padded gradient, both ready for a window's first tap at its first output.
#[derive(Clone, Copy)]
pub struct Rows<T> {
    pub x: *const T,
    /// Elements from one output row's first tap to the next one's.
    pub x_row: usize,
    pub g: *const T,
    pub g_row: usize,
    pub count: usize,
    pub pixels: usize,
}

/// `sums[tap][c] += sum over pixels of x[tap + pixel * stride][c] * g[pixel][c]`. Both are pairs where [`correlate`]'s
/// are.
///
/// # Safety
/// The pointers are valid for the rows, their pixels rounded up to whole blocks; `g` is zero beyond the last pixel.
#[inline(always)]
pub unsafe fn products<V: Vector>(taps: &Taps, rows: &Rows<Kept<V>>, sums: *mut V::Elem) {
    call::<V, _>(Products { taps, rows, sums });
}

/// [`products`]
struct Products<'a, R: Real> {
    taps: &'a Taps,
    rows: &'a Rows<R::Kept>,
    sums: *mut R,
}

impl<R: Real> Kernel<R> for Products<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Self { taps, rows, sums } = self;
        // SAFETY: `products`'.
        unsafe {
            match taps.slides() {
                Some((3, 1)) => sliding_products::<V, 3, 3, 1>(taps, rows, sums),
                Some((3, 2)) => sliding_products::<V, 3, 3, 2>(taps, rows, sums),
                Some((5, 1)) => sliding_products::<V, 1, 5, 1>(taps, rows, sums),
                Some((5, 2)) => sliding_products::<V, 1, 5, 2>(taps, rows, sums),
                _ => {
                    for k in 0..taps.kernel[0] * taps.kernel[1] {
                        let at = k / taps.kernel[1] * taps.steps[0] + k % taps.kernel[1] * taps.steps[1];
                        for r in (0..taps.c).step_by(V::LANES) {
                            tap_product::<V>(taps, rows, at + r, r, sums.add(k * taps.c + r));
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tap_product<V: Vector>(taps: &Taps, rows: &Rows<Kept<V>>, at: usize, r: usize, sum: *mut V::Elem) {
    let mut sums = [V::zero(); 4];
    for y in 0..rows.count {
        // SAFETY: `products`'.
        unsafe {
            let (x, g) = (rows.x.add(y * rows.x_row + at), rows.g.add(y * rows.g_row + r));
            for p in (0..rows.pixels).step_by(4) {
                for (b, sum) in sums.iter_mut().enumerate() {
                    let x = V::load_kept(x.add((p + b) * taps.stride));
                    *sum = x.fma(V::load_kept(g.add((p + b) * taps.c)), *sum);
                }
            }
        }
    }
    // SAFETY: as above.
    unsafe { V::load(sum).add(sums[0].add(sums[1]).add(sums[2].add(sums[3]))).store(sum) }
}

/// Of `KY` rows of `K` taps at a time, whose sums are in registers.
#[inline(always)]
unsafe fn sliding_products<V: Vector, const KY: usize, const K: usize, const D: usize>(
    taps: &Taps,
    rows: &Rows<Kept<V>>,
    sums: *mut V::Elem,
) {
    let c = taps.c;
    for r in (0..c).step_by(V::LANES) {
        for first in (0..K).step_by(KY) {
            let mut sum = [[V::zero(); K]; KY];
            for y in 0..rows.count {
                // SAFETY: `products`'.
                unsafe {
                    let x = rows.x.add((y * rows.x_row + first * taps.steps[0] + r) * V::DEPTH);
                    let g = rows.g.add((y * rows.g_row + r) * V::DEPTH);
                    for p in (0..rows.pixels).step_by(BLOCK) {
                        let (x, g) = (x.add(p * c * V::DEPTH), g.add(p * c * V::DEPTH));
                        block::<V, KY, K, D>(x, taps.steps[0], g, c, &mut sum);
                    }
                }
            }
            for (k, sum) in sum.into_iter().flatten().enumerate() {
                // SAFETY: as above.
                unsafe {
                    let to = sums.add((first * K + k) * c + r);
                    V::load(to).add(sum).store(to);
                }
            }
        }
    }
}

/// Pixels `D` apart are an operand together where operands hold two.
#[inline(always)]
unsafe fn block<V: Vector, const KY: usize, const K: usize, const D: usize>(
    x: *const Kept<V>,
    x_row: usize,
    g: *const Kept<V>,
    c: usize,
    sum: &mut [[V; K]; KY],
) {
    // SAFETY: a block of pixels and the taps it sees; of pairs only those of every second pixel are used.
    unsafe {
        let d = operands::<V, BLOCK>(g, c * V::DEPTH);
        for (ky, sum) in sum.iter_mut().enumerate() {
            let x = x.add(ky * x_row * V::DEPTH);
            for q in 0..D {
                for j in 0..BLOCK / D + K - V::DEPTH {
                    let x = V::operand(x.add((D * j + q) * c * V::DEPTH));
                    for k in 0..K {
                        if j >= k && j - k < BLOCK / D && (j - k) % V::DEPTH == 0 {
                            sum[k] = sum[k].product(x, d[D * (j - k) + q]);
                        }
                    }
                }
            }
        }
    }
}
