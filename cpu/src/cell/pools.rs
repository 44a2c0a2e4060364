//! Values and taps of a cell's pools while a pass runs. Kept until the backward as `f32` they would be a tenth of a search
//! step's memory; to make them again is 3 % of its time.

use super::plan::{Pool, Sizes, lanes};
use super::spec::Spec;
use super::sum::Image;
use super::{Cell, Slot, by_image, equal_parts, room, state};
use crate::jobs::each;
use crate::memory::Block;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Isa, Kernel, Vector, dispatch_exactly, dispatch_widest};

/// Room for them, in the order of [`Spec::pools`] and [`Spec::maxima`].
pub struct Pools<R: Real> {
    values: Scratch<R::Kept>,
    taps: Block,
    /// Elements of one.
    size: usize,
}

/// Elements of [`Pools`], as large as those of `f32`, kept lean or not.
pub fn pools_scratch(spec: &Spec, sizes: &Sizes, lean: bool) -> usize {
    let size = sizes.n * sizes.node();
    (spec.pools.len() * size).div_ceil(1 + usize::from(lean))
        + (spec.maxima.len() * size).div_ceil(size_of::<f32>())
}

impl<R: Real> Pools<R> {
    pub fn new(spec: &Spec, sizes: &Sizes) -> Self {
        let size = sizes.n * sizes.node();
        let taps = Block::new(spec.maxima.len() * size);
        Self { values: Scratch::new(spec.pools.len() * size), taps, size }
    }
    /// Values, and taps of maxima.
    pub fn parts_mut(&mut self) -> (Vec<&mut [R::Kept]>, Vec<&mut [u8]>) {
        let taps = self.taps.bytes_mut().chunks_exact_mut(self.size);
        (self.values.chunks_exact_mut(self.size).collect(), taps.collect())
    }
    pub fn parts(&self) -> (Vec<&[R::Kept]>, Vec<&[u8]>) {
        let taps = self.taps.bytes().chunks_exact(self.size);
        (self.values.chunks_exact(self.size).collect(), taps.collect())
    }

    /// What the forward pass of `cell` had here, `y` being its nodes.
    pub(crate) fn again(cell: &Cell<R>, y: &[R]) -> Self {
        let (spec, sizes) = (cell.spec, &cell.sizes);
        let mut pools = Self::new(spec, sizes);
        let (mut values, mut taps) = pools.parts_mut();
        let vectors = lanes::<R>(spec, sizes.c);
        for from in 0..2 + spec.nodes {
            let plans = Pool::of_state(spec, sizes, from);
            if plans.is_empty() {
                continue;
            }
            let (mut outs, mut indices) = (vec![], vec![]);
            for pool in &plans {
                let place = spec.pools.iter().position(|&v| v == pool.item.value);
                outs.extend(place.map(|place| std::mem::take(&mut values[place])));
                indices.extend(pool.maximum.map(|m| std::mem::take(&mut taps[m])));
            }
            let (mut outs, mut indices) = (by_image(outs, sizes.n), by_image(indices, sizes.n));
            each(
                equal_parts(&mut outs, sizes.n).zip(equal_parts(&mut indices, sizes.n)),
                || {
                    let image = if from < 2 { 0 } else { sizes.image(from) };
                    (Scratch::new(image), Scratch::new(room::<R>(sizes.node())))
                },
                |(image, room), i, (outs, taps): (&mut [&mut [R::Kept]], &mut [&mut [u8]])| {
                    let x = state(cell, y[i * cell.nodes()..].as_ptr(), from, i);
                    // SAFETY: an image of this size; inputs are dense.
                    let x = unsafe { dense(x, sizes.image(from), sizes.c, image, vectors) };
                    let mut taps = taps.iter_mut().map(|taps| &mut **taps);
                    for (pool, to) in plans.iter().zip(outs) {
                        let mut slot = Slot { to, room: &mut *room };
                        pool.run(x, slot.numbers(), &mut taps);
                        dispatch_widest::<R, _>(slot);
                    }
                },
            );
        }
        pools
    }
}

impl Pool {
    /// The pool of one dense image; a maximum takes the next of `taps`.
    pub fn run<'t, R: Real>(&self, x: &[R], to: &mut [R], taps: &mut impl Iterator<Item = &'t mut [u8]>) {
        match self.maximum.and_then(|_| taps.next()) {
            Some(taps) => self.images.max(x, to, taps),
            None => self.images.avg(x, to),
        }
    }
}

/// The `len` elements of an image with its pixels side by side, copied to `room` where it has any.
///
/// # Safety
/// The image exists, and is dense where there is no room; the lanes divide `c`.
pub unsafe fn dense<R: Real>(
    x: Image<R>,
    len: usize,
    c: usize,
    room: &mut [R],
    (isa, lanes): (Isa, usize),
) -> &[R] {
    if room.is_empty() {
        // SAFETY: the caller's.
        return unsafe { std::slice::from_raw_parts(x.0, len) };
    }
    dispatch_exactly(isa, lanes, Dense { x, c, to: &mut room[..len] });
    &room[..len]
}

/// `to` = the pixels of an image, `c` channels each, side by side. The image must exist, and the lanes divide `c`.
pub struct Dense<'a, R: Real> {
    pub x: Image<R>,
    pub c: usize,
    pub to: &'a mut [R],
}

impl<R: Real> Kernel<R> for Dense<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let (x, step) = self.x;
        for (p, to) in self.to.chunks_exact_mut(self.c).enumerate() {
            for r in (0..self.c).step_by(V::LANES) {
                // SAFETY: the contract of the type.
                unsafe { V::load(x.add(p * step + r)).store(to.as_mut_ptr().add(r)) };
            }
        }
    }
}
