//! Matrix products, row-major: many rows times packed weights, sums of outer products, and the general form.

use super::ahead::Ahead;
use super::scratch::Scratch;
use super::tile::{Strip, fetches, widest};
use super::{isa, lanes};
use crate::jobs::{all, each};
use crate::real::Real;
use crate::simd::{Isa, Kernel, Vector, call, dispatch_for};

/// Depth that one sweep of a tile covers: bounds the packed weights it streams, and the length of a plain sum.
const DEPTH: usize = 512;
/// Rows of one block of a sum of outer products: what it reads stays in the first-level cache.
pub const BLOCK: usize = 128;
/// Sums of outer products are cut in at most this many parts, whatever the number of threads.
const PARTS: usize = 32;

/// A small matrix `B[k, n]` in strips of whole vectors, each strip contiguous and padded with zeros.
pub struct Packed<R> {
    isa: Isa,
    lanes: usize,
    depth: usize,
    columns: usize,
    data: Scratch<R>,
}

/// Lanes that waste the fewest columns; the wider if equal.
fn lanes_for(columns: usize) -> usize {
    match columns % 16 {
        0 | 9.. => 16,
        1..=4 if columns < 8 => 4,
        _ => 8,
    }
}

/// Strips of `vectors` vectors: `(first vector, vectors)`, of near-equal width.
fn strips<R: Real>(vectors: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let count = vectors.div_ceil(widest::<R>(lanes));
    (0..count).map(move |i| (i * vectors / count, (i + 1) * vectors / count - i * vectors / count))
}

impl<R: Real> Packed<R> {
    /// Packs the matrix whose element `(k, n)` is `at(k, n)`.
    pub fn new(depth: usize, columns: usize, at: impl Fn(usize, usize) -> R) -> Self {
        let isa = isa();
        let lanes = lanes::<R>(isa, lanes_for(columns));
        let vectors = columns.div_ceil(lanes);
        let mut data = Scratch::new(vectors * lanes * depth);
        let mut rest = &mut data[..];
        for (first, count) in strips::<R>(vectors, lanes) {
            let (strip, after) = rest.split_at_mut(count * lanes * depth);
            for (k, row) in strip.chunks_mut(count * lanes).enumerate() {
                for (j, to) in row.iter_mut().enumerate() {
                    let n = first * lanes + j;
                    *to = if n < columns { at(k, n) } else { R::ZERO };
                }
            }
            rest = after;
        }
        Self { isa, lanes, depth, columns, data }
    }

    /// `y[rows, n] (+)= x[rows, k] * B` on the calling thread.
    pub fn times(&self, x: &[R], y: &mut [R], accumulate: bool) {
        let rows = y.len() / self.columns.max(1);
        let nothing = &mut Ahead::nothing();
        self.times_within((x, self.depth), (y, self.columns), rows, accumulate, nothing);
    }
    /// How often [`Self::times_within`] asks for what comes next.
    pub fn fetches(&self, rows: usize) -> usize {
        fetches(rows, self.columns, self.depth)
    }
    /// The same where the rows of `x` and `y` are parts of longer ones, so many elements from one to the next; asks for
    /// what is `ahead`.
    pub fn times_within(
        &self,
        (x, x_stride): (&[R], usize),
        (y, y_stride): (&mut [R], usize),
        rows: usize,
        accumulate: bool,
        ahead: &mut Ahead,
    ) {
        let Some(before) = rows.checked_sub(1) else { return };
        assert!(x.len() >= before * x_stride + self.depth, "rows of x");
        assert!(y.len() >= before * y_stride + self.columns, "rows of y");
        dispatch_for(
            self.isa,
            self.lanes,
            Times { by: self, x, x_stride, y, y_stride, rows, accumulate, ahead },
        );
    }
}

/// A strip's product, for [`Times`] and [`OuterBlock`].
struct Product<'a, R> {
    strip: Strip<R>,
    vectors: usize,
    ahead: &'a mut Ahead,
}

impl<R: Real> Kernel<R> for Product<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        // SAFETY: who makes it checked the lengths.
        unsafe { self.strip.run::<V>(self.vectors, self.ahead) }
    }
}

struct Times<'a, R> {
    by: &'a Packed<R>,
    x: &'a [R],
    x_stride: usize,
    y: &'a mut [R],
    y_stride: usize,
    rows: usize,
    accumulate: bool,
    ahead: &'a mut Ahead,
}

impl<R: Real> Kernel<R> for Times<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let Packed { depth, columns, ref data, .. } = *self.by;
        for k in (0..depth.max(1)).step_by(DEPTH) {
            for (first, vectors) in strips::<R>(columns.div_ceil(V::LANES), V::LANES) {
                let (start, width) = (first * V::LANES, vectors * V::LANES);
                // SAFETY: `times_within` checked the lengths; strip `first` of the packed matrix starts at `start * depth`.
                unsafe {
                    let strip = Strip {
                        a: self.x.as_ptr().add(k),
                        a_strides: [self.x_stride, 1],
                        b: data.as_ptr().add(start * depth + k * width),
                        b_stride: width,
                        out: self.y.as_mut_ptr().add(start),
                        out_stride: self.y_stride,
                        rows: self.rows,
                        depth: DEPTH.min(depth - k),
                        columns: width.min(columns - start),
                        accumulate: self.accumulate || k > 0,
                    };
                    call::<V, _>(Product { strip, vectors, ahead: &mut *self.ahead });
                }
            }
        }
    }
}

/// `y[p, n] (+)= x[p, k] * B`, in parallel over blocks of rows.
pub fn rows<R: Real>(x: &[R], by: &Packed<R>, y: &mut [R], accumulate: bool) {
    if by.columns == 0 || y.is_empty() {
        return;
    }
    // about 2^19 multiplications an item, in whole tiles of 6 or 8 rows
    let block = ((1 << 19) / (by.depth.max(1) * by.columns)).clamp(1, 1 << 12).next_multiple_of(24);
    let blocks = y.chunks_mut(block * by.columns);
    all(blocks.enumerate(), |(i, y)| by.times(&x[i * block * by.depth..], y, accumulate));
}

/// `out[m, n] (+)= sum over p of a[p, m] * b[p, n]`. Parts of `p` are summed apart, then added in order.
pub fn outer<R: Real>(m: usize, n: usize, a: &[R], b: &[R], out: &mut [R], accumulate: bool) {
    if m * n == 0 {
        return;
    }
    let sum = OuterSum::<R>::new(m, n);
    let rows = a.len() / m;
    let part = (rows.div_ceil(PARTS)).next_multiple_of(BLOCK);
    let mut parts = Scratch::new(rows.div_ceil(part) * sum.size());
    each(
        parts.chunks_mut(sum.size()).zip(a.chunks(part * m).zip(b.chunks(part * n))),
        || sum.spare(),
        |spare, _, (parts, (a, b))| {
            parts.fill(R::ZERO);
            sum.add(a, b, parts, spare);
        },
    );
    sum.total(&parts, |i, j, total| {
        let to = &mut out[i * n + j];
        *to = if accumulate { *to + total } else { total };
    });
}

/// A sum of outer products `[m, n]` that is built up block by block, its rows padded to whole vectors.
pub struct OuterSum<R> {
    isa: Isa,
    lanes: usize,
    m: usize,
    n: usize,
    of: std::marker::PhantomData<R>,
}

impl<R: Real> OuterSum<R> {
    pub fn new(m: usize, n: usize) -> Self {
        let isa = isa();
        Self { isa, lanes: lanes::<R>(isa, lanes_for(n)), m, n, of: std::marker::PhantomData }
    }
    fn width(&self) -> usize {
        self.n.next_multiple_of(self.lanes)
    }
    /// Elements of one sum.
    pub fn size(&self) -> usize {
        self.m * self.width()
    }
    /// Working memory of [`OuterSum::add`].
    pub fn spare(&self) -> Scratch<R> {
        Scratch::zeros(if self.width() == self.n { 0 } else { BLOCK * self.width() })
    }
    /// `sum += a^T b` over the rows of `a[p, m]` and `b[p, n]`, on the calling thread.
    pub fn add(&self, a: &[R], b: &[R], sum: &mut [R], spare: &mut [R]) {
        self.add_within((a, self.m), b, sum, spare, &mut Ahead::nothing());
    }
    /// How often [`Self::add_within`] asks for what comes next.
    pub fn fetches(&self, rows: usize) -> usize {
        fetches(self.m, self.n, rows)
    }
    /// The same where the rows of `a` are parts of longer ones, so many elements from one to the next; asks for what is
    /// `ahead`.
    pub fn add_within(
        &self,
        (a, a_stride): (&[R], usize),
        b: &[R],
        sum: &mut [R],
        spare: &mut [R],
        ahead: &mut Ahead,
    ) {
        for (a, b) in a.chunks(BLOCK * a_stride).zip(b.chunks(BLOCK * self.n)) {
            let rows = b.len() / self.n;
            assert!(a.len() >= (rows - 1) * a_stride + self.m, "rows of both factors");
            assert!(b.len() == rows * self.n && sum.len() == self.size(), "whole rows and sums");
            let b = if self.width() == self.n {
                b
            } else {
                for (to, from) in spare.chunks_mut(self.width()).zip(b.chunks(self.n)) {
                    to[..self.n].copy_from_slice(from);
                }
                &*spare
            };
            dispatch_for(self.isa, self.lanes, OuterBlock { plan: self, rows, a, a_stride, b, sum, ahead });
        }
    }
    /// Calls `put(i, j, total)` with the total of several sums, added in order.
    pub fn total(&self, sums: &[R], mut put: impl FnMut(usize, usize, R)) {
        let mut row = vec![R::Wide::ZERO; self.n];
        for i in 0..self.m {
            row.fill(R::Wide::ZERO);
            for sum in sums.chunks(self.size()) {
                row.iter_mut().zip(&sum[i * self.width()..]).for_each(|(total, x)| *total += x.wide());
            }
            row.iter().enumerate().for_each(|(j, &total)| put(i, j, R::narrow(total)));
        }
    }
}

struct OuterBlock<'a, R> {
    plan: &'a OuterSum<R>,
    rows: usize,
    a: &'a [R],
    a_stride: usize,
    b: &'a [R],
    sum: &'a mut [R],
    ahead: &'a mut Ahead,
}

impl<R: Real> Kernel<R> for OuterBlock<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let (m, width) = (self.plan.m, self.plan.width());
        for (first, vectors) in strips::<R>(width / V::LANES, V::LANES) {
            let start = first * V::LANES;
            // SAFETY: `add` checked the lengths, and `b` has rows of whole vectors.
            unsafe {
                let strip = Strip {
                    a: self.a.as_ptr(),
                    a_strides: [1, self.a_stride],
                    b: self.b.as_ptr().add(start),
                    b_stride: width,
                    out: self.sum.as_mut_ptr().add(start),
                    out_stride: width,
                    rows: m,
                    depth: self.rows,
                    columns: vectors * V::LANES,
                    accumulate: true,
                };
                call::<V, _>(Product { strip, vectors, ahead: &mut *self.ahead });
            }
        }
    }
}

/// `c[m, n] (+)= op(a)[m, k] * op(b)[k, n]`, where `op` transposes if told to: `a` is then stored `[k, m]`.
#[allow(clippy::too_many_arguments)] // the argument list of every matrix product
pub fn matmul<R: Real>(
    (m, k, n): (usize, usize, usize),
    a: &[R],
    transpose_a: bool,
    b: &[R],
    transpose_b: bool,
    c: &mut [R],
    accumulate: bool,
) {
    if m * n == 0 {
        return;
    }
    if transpose_a && !transpose_b && k >= BLOCK {
        return outer(m, n, a, b, c, accumulate);
    }
    let packed = Packed::new(k, n, |k_, j| if transpose_b { b[j * k + k_] } else { b[k_ * n + j] });
    if !transpose_a {
        return rows(a, &packed, c, accumulate);
    }
    let mut rows_of_a = Scratch::new(m * k);
    for (i, row) in rows_of_a.chunks_mut(k.max(1)).enumerate() {
        row.iter_mut().enumerate().for_each(|(k, to)| *to = a[k * m + i]);
    }
    rows(&rows_of_a, &packed, c, accumulate)
}
