//! Pooling over windows: maximum with the tap it came from, and average over the taps inside the image.
//!
//! Targets are visited in runs of pixels that see the same taps, so that a run is one flat array.

use super::scratch::Scratch;
use super::{Window, isa, out_size};
use crate::device::real::Real;
use crate::device::simd::{Isa, Kernel, Vector, dispatch_for};
use rayon::prelude::*;

/// `y` = maximum over the taps inside the image, `index` = the tap `ky * kw + kx` where it was found: the first of
/// equals; a NaN wins over every number.
pub fn max_forward<R: Real>(w: &Window, dims: [usize; 4], x: &[R], y: &mut [R], index: &mut [u8]) {
    let Some(plan) = Plan::over_input(w, dims) else { return };
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    let targets = y.par_chunks_mut(out).zip(index.par_chunks_mut(out));
    targets.zip(x.par_chunks(image)).for_each(|((y, index), x)| {
        visit(&plan, Max { x, y, index });
    });
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
    let sources = index.par_chunks(out).zip(x.par_chunks(image));
    y.par_chunks_mut(out).zip(sources).for_each(|(y, (index, x))| {
        visit(&plan, Gather { x, index, y, accumulate });
    });
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
    let sources = index.par_chunks(out).zip(dy.par_chunks(out));
    dx.par_chunks_mut(image).zip(sources).for_each(|(dx, (index, dy))| {
        visit(&plan, Scatter { dy, index, dx, accumulate });
    });
}

/// `y (+)=` mean of `x` over the taps inside the image.
pub fn avg_forward<R: Real>(w: &Window, dims: [usize; 4], x: &[R], y: &mut [R], accumulate: bool) {
    let Some(plan) = Plan::over_input(w, dims) else { return };
    let (image, out) = (x.len() / dims[0], y.len() / dims[0]);
    y.par_chunks_mut(out).zip(x.par_chunks(image)).for_each(|(y, x)| {
        visit(&plan, Sum { x, y, mean: true, accumulate });
    });
}

/// `dx (+)=` the gradient of [`avg_forward`]: every pixel sums its windows' `dy / taps inside`.
pub fn avg_input_grad<R: Real>(w: &Window, dims: [usize; 4], dy: &[R], dx: &mut [R], accumulate: bool) {
    let (Some(plan), Some(windows)) = (Plan::over_output(w, dims), Plan::over_input(w, dims)) else { return };
    let (image, out) = (dx.len() / dims[0], dy.len() / dims[0]);
    dx.par_chunks_mut(image).zip(dy.par_chunks(out)).for_each_init(
        || Scratch::new(out),
        |scaled, (dx, dy)| {
            visit(&windows, Scale { x: dy, y: &mut *scaled });
            visit(&plan, Sum { x: &*scaled, y: dx, mean: false, accumulate });
        },
    );
}

fn visit<B: Body>(plan: &Plan, body: B) {
    dispatch_for::<B::Elem, _>(plan.isa, 16, Visit { plan, body });
}

/// Which tap of an axis, and which row or column of the source it reads.
type Taps = Vec<(usize, usize)>;

/// Where every target pixel reads: one image's rows, and runs of its columns.
struct Plan {
    isa: Isa,
    width: usize,
    source_width: usize,
    channels: usize,
    kernel_width: usize,
    rows: Vec<Taps>,
    runs: Vec<Run>,
}

/// Columns `start..start + pixels` of the target: column `start + i` reads source columns `i` after those of `taps`.
struct Run {
    start: usize,
    pixels: usize,
    taps: Taps,
}

impl Plan {
    /// Targets are output pixels: source `o*s + k*d - p`.
    fn over_input(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, _], out) = (dims, out_size(w, dims));
        let size = [h, width];
        Self::new(w, dims, out, size, |a, o, k| {
            (o * w.stride[a] + k * w.dilation[a]).checked_sub(w.padding[a]).filter(|&i| i < size[a])
        })
    }

    /// Targets are input pixels: source `(i + p - k*d) / s` where that divides.
    fn over_output(w: &Window, dims: [usize; 4]) -> Option<Self> {
        let ([_, h, width, _], out) = (dims, out_size(w, dims));
        Self::new(w, dims, [h, width], out, |a, i, k| {
            let reach = (i + w.padding[a]).checked_sub(k * w.dilation[a])?;
            (reach % w.stride[a] == 0).then_some(reach / w.stride[a]).filter(|&o| o < out[a])
        })
    }

    fn new(
        w: &Window,
        dims: [usize; 4],
        target: [usize; 2],
        source: [usize; 2],
        read: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Option<Self> {
        if dims.contains(&0) {
            return None;
        }
        let taps = |a: usize, i: usize| -> Taps {
            (0..w.kernel[a]).filter_map(|k| Some((k, read(a, i, k)?))).collect()
        };
        let mut runs: Vec<Run> = Vec::new();
        for column in 0..target[1] {
            let taps = taps(1, column);
            if let Some(run) = runs.last_mut() {
                let next = run.taps.iter().map(|&(k, from)| (k, from + run.pixels));
                if next.eq(taps.iter().copied()) {
                    run.pixels += 1;
                    continue;
                }
            }
            runs.push(Run { start: column, pixels: 1, taps });
        }
        let rows = (0..target[0]).map(|row| taps(0, row)).collect();
        Some(Self {
            isa: isa(),
            width: target[1],
            source_width: source[1],
            channels: dims[3],
            kernel_width: w.kernel[1],
            rows,
            runs,
        })
    }
}

/// The taps of one block of a run.
#[derive(Clone, Copy)]
struct Block<'a> {
    plan: &'a Plan,
    rows: &'a [(usize, usize)],
    columns: &'a [(usize, usize)],
    /// Elements of the target and of the source before the block.
    target: usize,
    source: usize,
}

impl Block<'_> {
    fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
    /// `(tap, offset in the source)` in the order of the window's taps.
    #[inline(always)]
    fn taps(&self) -> impl Iterator<Item = (u8, usize)> {
        let Block { plan, rows, columns, source, .. } = *self;
        rows.iter().flat_map(move |&(ky, y)| {
            let row = y * plan.source_width;
            columns.iter().map(move |&(kx, x)| {
                ((ky * plan.kernel_width + kx) as u8, (row + x) * plan.channels + source)
            })
        })
    }
}

/// What is done with `L` elements that see the same taps.
trait Body {
    type Elem: Real;
    /// Whether writing an element twice does no harm, so that blocks may overlap.
    fn idempotent(&self) -> bool;
    /// # Safety
    /// The target has `L` elements from `block.target` on, the source at every tap.
    unsafe fn block<const L: usize>(&mut self, block: Block);
}

struct Visit<'a, B> {
    plan: &'a Plan,
    body: B,
}

impl<R: Real, B: Body<Elem = R>> Kernel<R> for Visit<'_, B> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(mut self) {
        let plan = self.plan;
        for (y, rows) in plan.rows.iter().enumerate() {
            for run in &plan.runs {
                let len = run.pixels * plan.channels;
                let start = (y * plan.width + run.start) * plan.channels;
                let columns = &run.taps[..];
                let block = |i| Block { plan, rows, columns, target: start + i, source: i };
                let overlap = self.body.idempotent();
                let mut i = 0;
                // SAFETY: blocks end at or before `len`; the plan was made from the shapes.
                unsafe {
                    while i + 32 <= len {
                        self.body.block::<32>(block(i));
                        i += 32;
                    }
                    while i + 16 <= len {
                        self.body.block::<16>(block(i));
                        i += 16;
                    }
                    if overlap && i < len && len >= 16 {
                        self.body.block::<16>(block(len - 16));
                        continue;
                    }
                    while i + 4 <= len {
                        self.body.block::<4>(block(i));
                        i += 4;
                    }
                    while i < len {
                        self.body.block::<1>(block(i));
                        i += 1;
                    }
                }
            }
        }
    }
}

/// `L` numbers from `offset` on.
///
/// # Safety
/// They are in the slice.
#[inline(always)]
unsafe fn load<T: Copy, const L: usize>(from: &[T], offset: usize) -> [T; L] {
    debug_assert!(offset + L <= from.len(), "block within the source");
    unsafe { from.as_ptr().add(offset).cast::<[T; L]>().read_unaligned() }
}

/// # Safety
/// The slice has `L` elements from `offset` on.
#[inline(always)]
unsafe fn store<T: Copy, const L: usize>(to: &mut [T], offset: usize, value: [T; L]) {
    debug_assert!(offset + L <= to.len(), "block within the target");
    unsafe { to.as_mut_ptr().add(offset).cast::<[T; L]>().write_unaligned(value) }
}

/// Stores sums, added to what is there if `accumulate`.
#[inline(always)]
unsafe fn put<R: Real, const L: usize>(to: &mut [R], offset: usize, mut sum: [R; L], accumulate: bool) {
    // SAFETY: the caller's.
    unsafe {
        if accumulate {
            let old: [R; L] = load(to, offset);
            for i in 0..L {
                sum[i] += old[i];
            }
        }
        store(to, offset, sum);
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
    unsafe fn block<const L: usize>(&mut self, block: Block) {
        let (mut best, mut index) = ([R::of(f64::NEG_INFINITY); L], [0u8; L]);
        if let Some((first, _)) = block.taps().next() {
            index = [first; L]; // of a window of -inf alone
        }
        for (tap, at) in block.taps() {
            // SAFETY: `block`'s contract.
            let x: [R; L] = unsafe { load(self.x, at) };
            for i in 0..L {
                #[allow(clippy::eq_op)] // true of NaN alone
                let wins = (x[i] > best[i]) | (x[i] != x[i]);
                best[i] = if wins { x[i] } else { best[i] };
                index[i] = if wins { tap } else { index[i] };
            }
        }
        // SAFETY: as above.
        unsafe {
            store(self.y, block.target, best);
            store(self.index, block.target, index);
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
    unsafe fn block<const L: usize>(&mut self, block: Block) {
        // SAFETY: `block`'s contract.
        unsafe {
            let index: [u8; L] = load(self.index, block.target);
            let mut sum = [R::ZERO; L];
            for (tap, at) in block.taps() {
                let x: [R; L] = load(self.x, at);
                for i in 0..L {
                    sum[i] = if index[i] == tap { x[i] } else { sum[i] };
                }
            }
            put(self.y, block.target, sum, self.accumulate);
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
    unsafe fn block<const L: usize>(&mut self, block: Block) {
        // SAFETY: `block`'s contract.
        unsafe {
            let mut sum = [R::ZERO; L];
            for (tap, at) in block.taps() {
                let (dy, index): ([R; L], [u8; L]) = (load(self.dy, at), load(self.index, at));
                for i in 0..L {
                    sum[i] += if index[i] == tap { dy[i] } else { R::ZERO };
                }
            }
            put(self.dx, block.target, sum, self.accumulate);
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
    unsafe fn block<const L: usize>(&mut self, block: Block) {
        let mut sum = [R::ZERO; L];
        let scale = if self.mean { R::ONE / R::of(block.count().max(1) as f64) } else { R::ONE };
        // SAFETY: `block`'s contract.
        unsafe {
            for (_, at) in block.taps() {
                let x: [R; L] = load(self.x, at);
                for i in 0..L {
                    sum[i] += x[i];
                }
            }
            for sum in &mut sum {
                *sum *= scale;
            }
            put(self.y, block.target, sum, self.accumulate);
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
    unsafe fn block<const L: usize>(&mut self, block: Block) {
        let scale = R::ONE / R::of(block.count().max(1) as f64);
        // SAFETY: `block`'s contract.
        unsafe {
            let mut x: [R; L] = load(self.x, block.target);
            for x in &mut x {
                *x *= scale;
            }
            store(self.y, block.target, x);
        }
    }
}
