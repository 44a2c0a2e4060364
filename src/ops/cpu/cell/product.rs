//! 1 x 1 convolution of some pixels, and the sums of outer products that make its weights' gradient.

use crate::device::real::Real;
use crate::device::simd::Vector;
use crate::ops::cpu::scratch::Scratch;

/// A matrix `[depth, columns]` in strips of at most two vectors, each strip contiguous.
pub struct Matrix<R> {
    depth: usize,
    columns: usize,
    lanes: usize,
    data: Scratch<R>,
}

impl<R: Real> Matrix<R> {
    /// `columns` is a multiple of `lanes`; element `(k, n)` is `at(k, n)`.
    pub fn new(depth: usize, columns: usize, lanes: usize, at: impl Fn(usize, usize) -> R) -> Self {
        let mut data = Scratch::new(depth * columns);
        let mut to = data.iter_mut();
        for start in (0..columns).step_by(2 * lanes) {
            for k in 0..depth {
                for n in start..columns.min(start + 2 * lanes) {
                    if let Some(to) = to.next() {
                        *to = at(k, n);
                    }
                }
            }
        }
        Self { depth, columns, lanes, data }
    }

    /// `out[pixel][n] = sum over k of a[pixel][k] * self[k][n]`, pixels being so many elements apart.
    ///
    /// # Safety
    /// The pointers are valid for `pixels`; `V` has the lanes of the matrix.
    #[inline(always)]
    pub unsafe fn times<V: Vector<Elem = R>>(
        &self,
        (a, a_step): (*const R, usize),
        (out, out_step): (*mut R, usize),
        pixels: usize,
    ) {
        debug_assert_eq!(self.lanes, V::LANES);
        let strip = |start: usize| Strip {
            a,
            a_step,
            depth: self.depth,
            b: self.data.as_ptr().wrapping_add(start * self.depth),
            out: out.wrapping_add(start),
            out_step,
        };
        let wide = self.columns / (2 * V::LANES) * 2 * V::LANES;
        // SAFETY: the caller's.
        unsafe {
            for start in (0..wide).step_by(2 * V::LANES) {
                strip(start).run::<V, 2>(pixels);
            }
            if wide < self.columns {
                match (V::LANES, self.depth) {
                    (16, 16) if R::PARTS == 1 => strip(wide).run_held::<V, 16>(pixels),
                    _ => strip(wide).run::<V, 1>(pixels),
                }
            }
        }
    }
}

struct Strip<R> {
    a: *const R,
    a_step: usize,
    depth: usize,
    b: *const R,
    out: *mut R,
    out_step: usize,
}

impl<R: Real> Strip<R> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = R>, const NV: usize>(&self, pixels: usize) {
        let mut p = 0;
        // SAFETY: pixels `p..p + MR` exist.
        unsafe {
            while R::PARTS * NV < 4 && p + 8 <= pixels {
                self.tile::<V, 8, NV>(p);
                p += 8;
            }
            while p + 4 <= pixels {
                self.tile::<V, 4, NV>(p);
                p += 4;
            }
            while p < pixels {
                self.tile::<V, 1, NV>(p);
                p += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = R>, const MR: usize, const NV: usize>(&self, p: usize) {
        let mut sum = [[V::zero(); NV]; MR];
        // SAFETY: the caller's.
        unsafe {
            let a = self.a.add(p * self.a_step);
            for k in 0..self.depth {
                let mut b = [V::zero(); NV];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = V::load(self.b.add((k * NV + v) * V::LANES));
                }
                for (i, sum) in sum.iter_mut().enumerate() {
                    let x = V::splat(*a.add(i * self.a_step + k));
                    for (sum, b) in sum.iter_mut().zip(b) {
                        *sum = x.fma(b, *sum);
                    }
                }
            }
            for (i, sum) in sum.into_iter().enumerate() {
                for (v, sum) in sum.into_iter().enumerate() {
                    sum.store(self.out.add((p + i) * self.out_step + v * V::LANES));
                }
            }
        }
    }

    /// [`Self::run`] of one vector of columns and depth `K`, the matrix staying in registers.
    #[inline(always)]
    unsafe fn run_held<V: Vector<Elem = R>, const K: usize>(&self, pixels: usize) {
        let mut b = [V::zero(); K];
        // SAFETY: the caller's.
        unsafe {
            for (k, b) in b.iter_mut().enumerate() {
                *b = V::load(self.b.add(k * V::LANES));
            }
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
    unsafe fn held<V: Vector<Elem = R>, const MR: usize, const K: usize>(&self, p: usize, b: &[V; K]) {
        let mut sum = [V::zero(); MR];
        // SAFETY: the caller's.
        unsafe {
            let a = self.a.add(p * self.a_step);
            for (k, b) in b.iter().enumerate() {
                for (i, sum) in sum.iter_mut().enumerate() {
                    *sum = V::splat(*a.add(i * self.a_step + k)).fma(*b, *sum);
                }
            }
            for (i, sum) in sum.into_iter().enumerate() {
                sum.store(self.out.add((p + i) * self.out_step));
            }
        }
    }
}

/// Two sets of pixels: pointers and elements from one pixel to the next.
#[derive(Clone, Copy)]
pub struct Pair<R> {
    pub a: (*const R, usize),
    pub b: (*const R, usize),
    pub pixels: usize,
}

/// `sum[i][j] += sum over pixels of a[pixel][i] * b[pixel][j]`, `sum` being `[m, n]`, `n` a multiple of the lanes.
///
/// # Safety
/// The pointers are valid.
#[inline(always)]
pub unsafe fn outer<V: Vector>(pair: Pair<V::Elem>, [m, n]: [usize; 2], sum: *mut V::Elem) {
    // SAFETY: the caller's.
    unsafe {
        let mut j = 0;
        while j + 2 * V::LANES <= n {
            outer_strip::<V, 8, 2>(pair, m, n, j, sum);
            j += 2 * V::LANES;
        }
        if j < n {
            outer_strip::<V, 16, 1>(pair, m, n, j, sum);
        }
    }
}

#[inline(always)]
unsafe fn outer_strip<V: Vector, const MR: usize, const NV: usize>(
    pair: Pair<V::Elem>,
    m: usize,
    n: usize,
    j: usize,
    sum: *mut V::Elem,
) {
    let mut i = 0;
    // SAFETY: rows `i..i + MR` of the sum exist.
    unsafe {
        while V::Elem::PARTS == 1 && i + MR <= m {
            outer_tile::<V, MR, NV>(pair, n, [i, j], sum);
            i += MR;
        }
        while i + 4 <= m {
            outer_tile::<V, 4, NV>(pair, n, [i, j], sum);
            i += 4;
        }
        while i < m {
            outer_tile::<V, 1, NV>(pair, n, [i, j], sum);
            i += 1;
        }
    }
}

#[inline(always)]
unsafe fn outer_tile<V: Vector, const MR: usize, const NV: usize>(
    pair: Pair<V::Elem>,
    n: usize,
    [i, j]: [usize; 2],
    sum: *mut V::Elem,
) {
    let mut acc = [[V::zero(); NV]; MR];
    // SAFETY: the caller's.
    unsafe {
        for p in 0..pair.pixels {
            let a = pair.a.0.add(p * pair.a.1 + i);
            let mut b = [V::zero(); NV];
            for (v, b) in b.iter_mut().enumerate() {
                *b = V::load(pair.b.0.add(p * pair.b.1 + j + v * V::LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = V::splat(*a.add(r));
                for (acc, b) in acc.iter_mut().zip(b) {
                    *acc = x.fma(b, *acc);
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
