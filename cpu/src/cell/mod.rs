//! A whole cell at once, image by image: every state is read once for all its candidates.
//!
//! Forward, for each state as it becomes known: pools and first halves of all candidates that read it; their batch
//! statistics; second halves; theirs; then the next node's sum with the norms applied as it reads. Backward the other
//! way round. Batch statistics are the only places where the images wait for each other.

/// Calls `$f::<stretch, sums>(.., channel)` for stretches of at most four vectors of `$c` channels, each as one vector,
/// with as many sums as hide the latency of an addition. So a pixel's channels are read together, and what is constant
/// over pixels is in registers.
macro_rules! stretches {
    ($v:ident, $c:expr, $($f:ident)::+ $(<$($t:ty),+>)? ($($arg:expr),*)) => {{
        use crate::simd::Many;
        let (c, mut r) = ($c, 0);
        while const { !$v::SIMPLE } && r + 4 * $v::LANES <= c {
            $($f)::+::<Many<$v, 4>, 1 $(, $($t),+)?>($($arg,)* r);
            r += 4 * $v::LANES;
        }
        while const { !$v::SIMPLE } && r + 2 * $v::LANES <= c {
            $($f)::+::<Many<$v, 2>, 2 $(, $($t),+)?>($($arg,)* r);
            r += 2 * $v::LANES;
        }
        while r < c {
            $($f)::+::<$v, 4 $(, $($t),+)?>($($arg,)* r);
            r += $v::LANES;
        }
    }};
}

mod backward;
mod forward;
mod half;
mod norm_sums;
mod pad;
mod pixels;
mod plan;
mod pools;
pub(crate) mod product;
mod pull;
mod rows;
mod spec;
mod sum;
mod weights;

#[cfg(not(test))]
pub(crate) use backward::gradient;
pub use backward::{Gradients, Kept};
#[cfg(not(test))]
pub(crate) use forward::forward;
pub use plan::Sizes;
pub use pools::{Pools, pools_scratch};
pub use spec::{Candidate, Item, Kind, Spec};
pub use weights::{gradient_scratch, moments_scratch};

use crate::real::Real;
use crate::simd::{Kernel, Stored, Vector};
use std::borrow::Cow;

/// What a cell is computed from.
pub struct Cell<'a, R: Real> {
    pub spec: &'a Spec,
    pub sizes: Sizes,
    /// The mixing weights, by entry.
    pub mix: Cow<'a, [R]>,
    /// Scale and shift of every norm, (c) each; none if norms only normalise.
    pub affine: Vec<[&'a [R]; 2]>,
    /// Of every candidate, what it is multiplied by, one number an image, if anything.
    pub drop: Vec<Option<&'a [R]>>,
    /// Images (n, h, w, c).
    pub inputs: [&'a [R]; 2],
    pub weights: Vec<&'a [R]>,
    /// Statistics (norms, 3, c) that are used instead of the batch's.
    pub given: Option<&'a [R]>,
    /// See [`plain`].
    pub plain: Vec<R>,
}

/// Scale and shift of a norm of `c` channels that has none: ones, then zeros.
pub fn plain<R: Real>(c: usize) -> Vec<R> {
    [vec![R::ONE; c], vec![R::ZERO; c]].concat()
}

impl<R: Real> Cell<'_, R> {
    /// Norm `at` by `stats`, those of all norms.
    fn norm<'s>(&'s self, stats: &'s [R], at: usize) -> pad::Norm<'s, R> {
        let c = self.sizes.c;
        let row = &stats[at * 3 * c..][..3 * c];
        let plain = || [&self.plain[..c], &self.plain[c..]];
        let [gamma, beta] = self.affine.get(at).copied().unwrap_or_else(plain);
        pad::Norm { mean: &row[..c], r: &row[c..2 * c], gamma, beta }
    }
    /// Elements of the nodes of one image.
    fn nodes(&self) -> usize {
        self.sizes.node() * self.spec.nodes
    }
    /// What the candidate `item` of image `i` is multiplied by.
    fn dropped(&self, item: usize, i: usize) -> Option<R> {
        Some((*self.drop.get(item)?)?[i])
    }
}

/// What a kept value holds, by image, and where it is computed: in itself, if it is kept as it is, else in some room.
struct Slot<'a, R: Real> {
    to: &'a mut [R::Kept],
    room: &'a mut [R],
}

impl<R: Real> Slot<'_, R> {
    fn numbers(&mut self) -> &mut [R] {
        let len = self.to.len();
        match Stored::plain(self.to.as_ptr()) {
            // SAFETY: `plain` says that it is the same type.
            Some(same) => unsafe { std::slice::from_raw_parts_mut(same.cast_mut(), len) },
            None => &mut self.room[..len],
        }
    }
    /// Keeps them.
    #[inline(always)]
    fn finish<V: Vector<Elem = R>>(self) {
        if !R::Kept::is_plain() {
            // SAFETY: both hold as many; what remains of the last vector is kept one by one.
            let whole = self.to.len() / V::LANES * V::LANES;
            for i in (0..whole).step_by(V::LANES) {
                unsafe { V::load(self.room.as_ptr().add(i)).store_kept(self.to.as_mut_ptr().add(i)) };
            }
            self.to[whole..].iter_mut().zip(&self.room[whole..]).for_each(|(to, &x)| *to = x.keep());
        }
    }
}

impl<R: Real> Kernel<R> for Slot<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        self.finish::<V>();
    }
}

/// Elements of the room that a [`Slot`] for `len` needs.
fn room<R: Real>(len: usize) -> usize {
    if R::Kept::is_plain() { 0 } else { len }
}

/// `n` parts of the same size, which may be 0.
fn equal_parts<T>(mut all: &mut [T], n: usize) -> impl Iterator<Item = &mut [T]> {
    let size = all.len() / n;
    (0..n).map(move |_| {
        let (part, rest) = std::mem::take(&mut all).split_at_mut(size);
        all = rest;
        part
    })
}

/// Image by image, its part of each tensor.
fn by_image<'a, T>(tensors: impl IntoIterator<Item = &'a mut [T]>, n: usize) -> Vec<&'a mut [T]> {
    let mut tensors: Vec<_> = tensors.into_iter().map(|tensor| equal_parts(tensor, n)).collect();
    let mut all = Vec::with_capacity(tensors.len() * n);
    (0..n).for_each(|_| all.extend(tensors.iter_mut().filter_map(|tensor| tensor.next())));
    all
}

/// State `from` of image `i`, whose nodes lie side by side at `y`: its first element and elements from one pixel to the
/// next.
fn state<R: Real>(cell: &Cell<R>, y: *const R, from: usize, i: usize) -> sum::Image<R> {
    let (c, nodes) = (cell.sizes.c, cell.spec.nodes);
    match cell.inputs.get(from) {
        Some(x) => (x.as_ptr().wrapping_add(i * cell.sizes.image(from)), c),
        None => (y.wrapping_add((from - 2) * c), nodes * c),
    }
}

/// What a sum over candidates reads of image `i`, whose nodes lie side by side at `y`: their last values, of which `values`
/// has all images, or the states themselves.
fn read<'r, R: Real>(
    cell: &Cell<R>,
    candidates: impl Iterator<Item = &'r spec::Item>,
    values: &[impl std::ops::Deref<Target = [R::Kept]>],
    y: *const R,
    i: usize,
) -> sum::Images<R> {
    let mut images = sum::Images::new();
    for item in candidates {
        match item.last() {
            Some(value) => images.push_kept((values[value][i * cell.sizes.node()..].as_ptr(), cell.sizes.c)),
            None => images.push(state(cell, y, item.from, i)),
        }
    }
    images
}
