//! Pooling over windows: maximum with the tap it came from, and average over the taps inside the image.
//!
//! Targets are visited in runs of pixels that see the same taps, so that a run is one flat array.

mod plan;

use super::Window;
use super::scratch::Scratch;
use crate::jobs::{all, each};
use crate::real::Real;
use crate::simd::{Kernel, Plain, Vector, dispatch_for};
use plan::{Block, Plan, Run};
use std::sync::OnceLock;

/// `y` = maximum over the taps inside the image, `index` = the tap `ky * kw + kx` where it was found: the first of
/// equals; a NaN wins over every number.
pub fn max_forward<R: Real>(w: &Window, dims: [usize; 4], x: &[R], y: &mut [R], index: &mut [u8]) {
    let Some(plan) = Plan::over_input(w, dims) else { return };
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    let images = y.chunks_mut(out).zip(index.chunks_mut(out)).zip(x.chunks(image));
    all(images, |((y, index), x)| visit(&plan, Max { x, y, index }));
}

/// `y (+)= x` at the taps that `index` names.
pub fn max_gather<R: Real>(
    w: &Window,
    dims: [usize; 4],
    x: &[R],
    index: &[u8],
    y: &mut [R],
    accumulate: bool,
) {
    let Some(plan) = Plan::over_input(w, dims) else { return };
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    let images = y.chunks_mut(out).zip(index.chunks(out).zip(x.chunks(image)));
    all(images, |(y, (index, x))| visit(&plan, Gather { x, index, y, accumulate }));
}

/// `dx (+)= ` the transpose of [`max_gather`]: every `dy` goes to the pixel it was taken from.
pub fn max_scatter<R: Real>(
    w: &Window,
    dims: [usize; 4],
    dy: &[R],
    index: &[u8],
    dx: &mut [R],
    accumulate: bool,
) {
    let Some(plan) = Plan::over_output(w, dims) else { return };
    let (image, out) = (dx.len() / dims[0], dy.len() / dims[0]);
    let images = dx.chunks_mut(image).zip(index.chunks(out).zip(dy.chunks(out)));
    all(images, |(dx, (index, dy))| visit(&plan, Scatter { dy, index, dx, accumulate }));
}

/// `y (+)=` mean of `x` over the taps inside the image.
pub fn avg_forward<R: Real>(w: &Window, dims: [usize; 4], x: &[R], y: &mut [R], accumulate: bool) {
    let Some(plan) = Plan::over_input(w, dims) else { return };
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    let images = y.chunks_mut(out).zip(x.chunks(image));
    all(images, |(y, x)| visit(&plan, Sum { x, y, mean: true, accumulate }));
}

/// `dx (+)=` the gradient of [`avg_forward`]: every pixel sums its windows' `dy / taps inside`.
pub fn avg_input_grad<R: Real>(w: &Window, dims: [usize; 4], dy: &[R], dx: &mut [R], accumulate: bool) {
    let (Some(plan), Some(windows)) = (Plan::over_output(w, dims), Plan::over_input(w, dims)) else { return };
    let (image, out) = (dx.len() / dims[0], dy.len() / dims[0]);
    each(
        dx.chunks_mut(image).zip(dy.chunks(out)),
        || Scratch::new(out),
        |scaled, _, (dx, dy)| {
            visit(&windows, Scale { x: dy, y: &mut *scaled });
            visit(&plan, Sum { x: &*scaled, y: dx, mean: false, accumulate });
        },
    );
}

/// A pool over single images, on the calling thread.
pub struct Images {
    window: Window,
    dims: [usize; 4],
    over_input: Plan,
    /// Made when a gradient is asked for.
    over_output: OnceLock<Plan>,
}

impl Images {
    /// For images of `dims` without an empty extent, which the operation has checked the window to fit.
    pub fn new(window: Window, dims: [usize; 4]) -> Self {
        let over_input = some(Plan::over_input(&window, dims));
        Self { window, dims, over_input, over_output: OnceLock::new() }
    }
    fn over_output(&self) -> &Plan {
        self.over_output.get_or_init(|| some(Plan::over_output(&self.window, self.dims)))
    }
    /// As [`max_forward`].
    pub fn max<R: Real>(&self, x: &[R], y: &mut [R], index: &mut [u8]) {
        visit(&self.over_input, Max { x, y, index });
    }
    /// As [`avg_forward`].
    pub fn avg<R: Real>(&self, x: &[R], y: &mut [R]) {
        visit(&self.over_input, Sum { x, y, mean: true, accumulate: false });
    }
    /// `dx +=` the gradient of [`Self::max`].
    pub fn pull_max<R: Real>(&self, dy: &[R], index: &[u8], dx: &mut [R]) {
        visit(self.over_output(), Scatter { dy, index, dx, accumulate: true });
    }
    /// `dx +=` the gradient of [`Self::avg`]; `scaled` has the size of `dy`.
    pub fn pull_avg<R: Real>(&self, dy: &[R], scaled: &mut [R], dx: &mut [R]) {
        visit(&self.over_input, Scale { x: dy, y: &mut *scaled });
        visit(self.over_output(), Sum { x: &*scaled, y: dx, mean: false, accumulate: true });
    }
}

/// The plan for images that have no empty extent.
fn some(plan: Option<Plan>) -> Plan {
    match plan {
        Some(plan) => plan,
        None => unreachable!("images without an empty extent"),
    }
}

fn visit<B: Body>(plan: &Plan, body: B) {
    dispatch_for::<B::Elem, _>(plan.isa, plan.lanes(), Visit { plan, body });
}

/// What is done with `B` vectors of elements that see the same taps.
trait Body {
    type Elem: Real;
    /// Whether writing an element twice does no harm, so that blocks may overlap.
    fn idempotent(&self) -> bool;
    /// # Safety
    /// The target has `B` vectors from `block.target` on, the source at every tap.
    unsafe fn block<V: Vector<Elem = Self::Elem>, const B: usize>(&mut self, block: Block<Self::Elem>);
}

struct Visit<'a, B> {
    plan: &'a Plan,
    body: B,
}

impl<R: Real, B: Body<Elem = R>> Kernel<R> for Visit<'_, B> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(mut self) {
        for run in &self.plan.runs {
            for row in 0..run.rows {
                // SAFETY: the plan was made from the shapes.
                unsafe { self.row::<V>(run, row) };
            }
        }
    }
}

impl<R: Real, B: Body<Elem = R>> Visit<'_, B> {
    /// Row `row` of a run.
    ///
    /// # Safety
    /// The plan is one of the body's shapes.
    #[inline(always)]
    unsafe fn row<V: Vector<Elem = R>>(&mut self, run: &Run, row: usize) {
        let (overlap, len, taps) = (self.body.idempotent(), run.len, &run.taps[..]);
        let share = R::ONE / R::of(taps.len().max(1) as f64);
        let (target, source) = (run.start + row * run.steps[0], row * run.steps[1]);
        let block = |i| Block { taps, share, target: target + i, source: source + i };
        let mut i = 0;
        // SAFETY: blocks end at or before `len`.
        unsafe {
            while i + 4 * V::LANES <= len {
                self.body.block::<V, 4>(block(i));
                i += 4 * V::LANES;
            }
            if overlap && i < len && len >= 4 * V::LANES {
                return self.body.block::<V, 4>(block(len - 4 * V::LANES));
            }
            while i + V::LANES <= len {
                self.body.block::<V, 1>(block(i));
                i += V::LANES;
            }
            if overlap && i < len && len >= V::LANES {
                return self.body.block::<V, 1>(block(len - V::LANES));
            }
            while i < len {
                self.body.block::<Plain<R, 1>, 1>(block(i));
                i += 1;
            }
        }
    }
}

/// Writes sums, added to what is there if `accumulate`.
///
/// # Safety
/// `to` has `B` vectors.
#[inline(always)]
unsafe fn put<V: Vector, const B: usize>(to: *mut V::Elem, sums: [V; B], accumulate: bool) {
    for (b, sum) in sums.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(b * V::LANES);
            if accumulate { V::load(to).add(sum).store(to) } else { sum.store(to) }
        }
    }
}

struct Max<'a, R> {
    x: &'a [R],
    y: &'a mut [R],
    index: &'a mut [u8],
}

impl<R: Real> Body for Max<'_, R> {
    type Elem = R;
    fn idempotent(&self) -> bool {
        true
    }
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = R>, const B: usize>(&mut self, block: Block<R>) {
        // the first tap, should all be minus infinity
        let mut index = [V::splat(R::of(block.taps.first().map_or(0, |tap| tap.number).into())); B];
        let mut best = [V::splat(R::of(f64::NEG_INFINITY)); B];
        for tap in block.taps {
            let (tap, at) = (V::splat(R::of(tap.number.into())), tap.source + block.source);
            for b in 0..B {
                // SAFETY: `block`'s contract.
                let x = unsafe { V::load(self.x.as_ptr().add(at + b * V::LANES)) };
                (best[b], index[b]) = x.pick(tap, best[b], index[b]);
            }
        }
        for b in 0..B {
            // SAFETY: as above.
            unsafe {
                let at = block.target + b * V::LANES;
                best[b].store(self.y.as_mut_ptr().add(at));
                index[b].store_u8(self.index.as_mut_ptr().add(at));
            }
        }
    }
}

struct Gather<'a, R> {
    x: &'a [R],
    index: &'a [u8],
    y: &'a mut [R],
    accumulate: bool,
}

impl<R: Real> Body for Gather<'_, R> {
    type Elem = R;
    fn idempotent(&self) -> bool {
        !self.accumulate
    }
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = R>, const B: usize>(&mut self, block: Block<R>) {
        let (mut sum, mut index) = ([V::zero(); B], [V::zero(); B]);
        // SAFETY: `block`'s contract.
        unsafe {
            for (b, index) in index.iter_mut().enumerate() {
                *index = V::load_u8(self.index.as_ptr().add(block.target + b * V::LANES));
            }
            for tap in block.taps {
                let (tap, at) = (V::splat(R::of(tap.number.into())), tap.source + block.source);
                for b in 0..B {
                    let x = V::load(self.x.as_ptr().add(at + b * V::LANES));
                    sum[b] = sum[b].add(x.only(index[b], tap));
                }
            }
            put(self.y.as_mut_ptr().add(block.target), sum, self.accumulate);
        }
    }
}

struct Scatter<'a, R> {
    dy: &'a [R],
    index: &'a [u8],
    dx: &'a mut [R],
    accumulate: bool,
}

impl<R: Real> Body for Scatter<'_, R> {
    type Elem = R;
    fn idempotent(&self) -> bool {
        !self.accumulate
    }
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = R>, const B: usize>(&mut self, block: Block<R>) {
        let mut sum = [V::zero(); B];
        // SAFETY: `block`'s contract.
        unsafe {
            for tap in block.taps {
                for (b, sum) in sum.iter_mut().enumerate() {
                    let at = tap.source + block.source + b * V::LANES;
                    let (dy, index) = (self.dy.as_ptr().add(at), self.index.as_ptr().add(at));
                    *sum = sum.add_where(dy, index, tap.number);
                }
            }
            put(self.dx.as_mut_ptr().add(block.target), sum, self.accumulate);
        }
    }
}

struct Sum<'a, R> {
    x: &'a [R],
    y: &'a mut [R],
    mean: bool,
    accumulate: bool,
}

impl<R: Real> Body for Sum<'_, R> {
    type Elem = R;
    fn idempotent(&self) -> bool {
        !self.accumulate
    }
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = R>, const B: usize>(&mut self, block: Block<R>) {
        let mut sum = [V::zero(); B];
        // SAFETY: `block`'s contract.
        unsafe {
            for tap in block.taps {
                let at = tap.source + block.source;
                for (b, sum) in sum.iter_mut().enumerate() {
                    *sum = sum.add(V::load(self.x.as_ptr().add(at + b * V::LANES)));
                }
            }
            if self.mean {
                let scale = V::splat(block.share);
                sum.iter_mut().for_each(|sum| *sum = sum.mul(scale));
            }
            put(self.y.as_mut_ptr().add(block.target), sum, self.accumulate);
        }
    }
}

/// Divides by the number of taps of the target pixel; the source is laid out like the target.
struct Scale<'a, R> {
    x: &'a [R],
    y: &'a mut [R],
}

impl<R: Real> Body for Scale<'_, R> {
    type Elem = R;
    fn idempotent(&self) -> bool {
        true
    }
    #[inline(always)]
    unsafe fn block<V: Vector<Elem = R>, const B: usize>(&mut self, block: Block<R>) {
        let scale = V::splat(block.share);
        for at in (0..B).map(|b| block.target + b * V::LANES) {
            // SAFETY: `block`'s contract.
            unsafe { V::load(self.x.as_ptr().add(at)).mul(scale).store(self.y.as_mut_ptr().add(at)) };
        }
    }
}
