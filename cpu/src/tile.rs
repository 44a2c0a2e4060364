//! Register tiles of matrix products: `MR` rows times `NV` vectors of sums that stay in registers over the depth.

use super::ahead::Ahead;
use crate::real::Real;
use crate::simd::Vector;

/// Vectors of columns in the widest tile, by their lanes: sixteen are AVX-512's, which has 32 registers, the others 16. A
/// third one there costs as many loads, and saves a tile of a single vector where their number is odd.
pub const fn widest<R: Real>(lanes: usize) -> usize {
    match lanes {
        1 => 1,
        _ if R::ORACLE => 1,
        16 => 4 / R::PARTS,
        8 if R::PARTS == 1 => 3,
        _ => 2 / R::PARTS,
    }
}

/// Depth after which a tile asks for what comes next.
const FETCH: usize = 16;

/// At most how often products of so many rows, columns and such a depth ask for what comes next.
pub fn fetches(rows: usize, columns: usize, depth: usize) -> usize {
    // as many as the largest tiles do
    rows.div_ceil(8) * columns.div_ceil(64) * depth.div_ceil(FETCH)
}

/// One product of a strip of columns: `out[i, j] (+)= sum over k of a[i, k] * b[k, j]`.
#[derive(Clone, Copy)]
pub struct Strip<R> {
    /// Element `(i, k)` is at `i * a_strides[0] + k * a_strides[1]`.
    pub a: *const R,
    pub a_strides: [usize; 2],
    /// Element `(k, j)` is at `k * b_stride + j`; whole vectors are read.
    pub b: *const R,
    pub b_stride: usize,
    pub out: *mut R,
    pub out_stride: usize,
    pub rows: usize,
    pub depth: usize,
    /// Columns written; the vectors read may reach further.
    pub columns: usize,
    pub accumulate: bool,
}

impl<R: Real> Strip<R> {
    /// `columns` must take exactly `vectors` vectors, at most [`widest`]. Asks for what is `ahead` as it goes.
    ///
    /// # Safety
    /// The pointers are valid for every element the fields describe.
    #[inline(always)]
    pub unsafe fn run<V: Vector<Elem = R>>(self, vectors: usize, ahead: &mut Ahead) {
        // SAFETY: the caller's.
        unsafe {
            // constants, so that wider tiles than the vectors' are not compiled
            if const { V::SIMPLE } {
                self.tiles::<V, 4, 1>(ahead)
            } else if const { widest::<R>(V::LANES) >= 4 } && vectors == 4 {
                self.tiles::<V, 6, 4>(ahead)
            } else if const { widest::<R>(V::LANES) > 3 } && vectors == 3 {
                self.tiles::<V, 8, 3>(ahead)
            } else if const { widest::<R>(V::LANES) == 3 } && vectors == 3 {
                self.tiles::<V, 4, 3>(ahead)
            } else if const { widest::<R>(V::LANES) >= 2 } && vectors == 2 {
                self.tiles::<V, 6, 2>(ahead)
            } else if const { R::PARTS > 1 } {
                self.tiles::<V, 6, 1>(ahead)
            } else {
                self.tiles::<V, 8, 1>(ahead)
            }
        }
    }

    #[inline(always)]
    unsafe fn tiles<V: Vector<Elem = R>, const MR: usize, const NV: usize>(self, ahead: &mut Ahead) {
        // SAFETY: row `i + MR` is at most `rows`.
        unsafe {
            let mut i = 0;
            while i + MR <= self.rows {
                self.tile::<V, MR, NV>(i, ahead);
                i += MR;
            }
            if const { MR > 4 } && i + 4 <= self.rows {
                self.tile::<V, 4, NV>(i, ahead);
                i += 4;
            }
            if const { MR > 2 && !V::SIMPLE } && i + 2 <= self.rows {
                self.tile::<V, 2, NV>(i, ahead);
                i += 2;
            }
            while i < self.rows {
                self.tile::<V, 1, NV>(i, ahead);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = R>, const MR: usize, const NV: usize>(
        &self,
        i: usize,
        ahead: &mut Ahead,
    ) {
        let mut sum = [[V::zero(); NV]; MR];
        // SAFETY: rows `i..i + MR` exist; `wrapping_add` only leaves the matrices after the last use.
        unsafe {
            let (mut a, mut b) = (self.a.add(i * self.a_strides[0]), self.b);
            for k in 0..self.depth {
                if k % FETCH == 0 {
                    ahead.fetch();
                }
                let mut columns = [V::zero(); NV];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = V::load(b.add(v * V::LANES));
                }
                for (r, sum) in sum.iter_mut().enumerate() {
                    let x = V::splat(*a.add(r * self.a_strides[0]));
                    for (sum, column) in sum.iter_mut().zip(columns) {
                        *sum = x.fma(column, *sum);
                    }
                }
                a = a.wrapping_add(self.a_strides[1]);
                b = b.wrapping_add(self.b_stride);
            }
            let out = self.out.add(i * self.out_stride);
            if self.columns < NV * V::LANES {
                return self.write_part(&sum, out);
            }
            if self.accumulate {
                for (r, sum) in sum.iter_mut().enumerate() {
                    for (v, sum) in sum.iter_mut().enumerate() {
                        *sum = V::load(out.add(r * self.out_stride + v * V::LANES)).add(*sum);
                    }
                }
            }
            for (r, sum) in sum.iter().enumerate() {
                for (v, sum) in sum.iter().enumerate() {
                    sum.store(out.add(r * self.out_stride + v * V::LANES));
                }
            }
        }
    }

    /// Writes a tile of whose last vectors not all columns exist.
    #[inline(always)]
    unsafe fn write_part<V: Vector<Elem = R>, const MR: usize, const NV: usize>(
        &self,
        sum: &[[V; NV]; MR],
        out: *mut R,
    ) {
        for (r, sum) in sum.iter().enumerate() {
            for (v, sum) in sum.iter().enumerate() {
                let lanes = (self.columns - v * V::LANES).min(V::LANES);
                // SAFETY: the caller's.
                unsafe {
                    let to = out.add(r * self.out_stride + v * V::LANES);
                    let old = if self.accumulate { V::load_part(to, lanes) } else { V::zero() };
                    old.add(*sum).store_part(to, lanes);
                }
            }
        }
    }
}
