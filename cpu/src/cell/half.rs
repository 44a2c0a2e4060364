//! Relu, depthwise, 1 x 1 of one image: a dilated convolution, or half a separable one. Rows go from the padded input
//! through the first-level cache to the result; nothing between is kept.

use super::pad::{Pad, Padded, before};
use super::pixels::{Incoming, Target, add_moments};
use super::product::{Matrix, Pair, outer};
use super::rows::{BLOCK, Rows, Taps, correlate, gather, products};
use crate::ahead::Ahead;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Isa, Kernel, Stored, Vector, call, fence, operand_depth};
use crate::window::Window;
use std::ops::Range;

/// Pixels of a band of rows that go through the 1 x 1 convolution together.
const BAND: usize = 64;

/// Offsets of taps in the padded gradient, with the index of each tap's weight.
type List = Vec<(usize, usize)>;

/// One half: its weights, packed, and where its passes find what they read.
pub struct Half<R: Real> {
    pub window: Window,
    c: usize,
    /// Of the input, and of the result.
    size: [usize; 2],
    pub out: [usize; 2],
    pub x_pad: Pad,
    pub g_pad: Pad,
    taps: Taps,
    /// The dilation of the pairs that taps read, if they do.
    paired: Option<usize>,
    /// Forward and, for a backward pass, in reverse order.
    weights: [Scratch<R::Kept>; 2],
    /// The 1 x 1 convolution; for a backward pass transposed.
    point: Matrix<R>,
    /// By phase of the input pixel, for strides other than one.
    lists: Vec<List>,
}

/// Whether a result is read again soon, or only when the caches have long forgotten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Near,
    Far,
}

/// Gradients of the weights, added to: `taps` (tap, c) and `point` (c, c); and the padded input they need.
pub struct Weights<'a, R: Real> {
    pub taps: &'a mut [R],
    pub point: &'a mut [R],
    pub x: &'a Padded<R>,
}

/// Working memory of one thread.
pub struct Bands<R: Real> {
    dz: Scratch<R::Kept>,
    d: Scratch<R::Kept>,
    z: Scratch<R>,
    row: Scratch<R>,
    /// Pairs of pixels for [`outer`].
    pairs: Scratch<R::Kept>,
}

impl<R: Real> Bands<R> {
    pub fn new(size: [usize; 2], out: [usize; 2], c: usize) -> Self {
        let band = (out[1].next_multiple_of(BLOCK) + BAND + out[1]) * c;
        let row = (size[1] + 2 * BLOCK).next_multiple_of(BLOCK) * 4 * c;
        let pairs = Scratch::new(if R::BF16 { 2 * band } else { 0 });
        let z = Scratch::new(band);
        Self { dz: Scratch::new(band), d: Scratch::new(band), z, row: Scratch::new(row), pairs }
    }
    /// Room for a band of gradients, and for pairs of it and of what it is multiplied by.
    pub fn parts(&mut self) -> (*mut R::Kept, &mut [R::Kept]) {
        (self.dz.as_mut_ptr(), &mut self.pairs)
    }
}

impl<R: Real> Half<R> {
    /// For the forward pass or `back`. `depthwise` is (c, 1, kh, kw), `pointwise` (c, c, 1, 1).
    #[allow(clippy::too_many_arguments)] // two weights, two sizes, two paddings
    pub fn new(
        window: Window,
        size: [usize; 2],
        out: [usize; 2],
        vectors: (Isa, usize),
        pads: [Pad; 2],
        [depthwise, pointwise]: [&[R]; 2],
        back: bool,
    ) -> Self {
        let [x_pad, g_pad] = pads;
        let (c, taps) = (x_pad.c, window.taps());
        let steps = [window.dilation[0] * x_pad.row, window.dilation[1] * c];
        let reads = Taps { kernel: window.kernel, steps, stride: window.stride[1] * c, c };
        let paired = paired::<R>(&window, vectors);
        let pattern = |flip: bool| {
            // taps of a row, two by two if they are paired, with zeros where there is none
            let ([rows, columns], deep) = (window.kernel, if paired.is_some() { 2 } else { 1 });
            let mut pattern = Scratch::new(rows * columns.next_multiple_of(deep) * c);
            let firsts = (0..rows).flat_map(|ky| (0..columns).step_by(deep).map(move |kx| (ky, kx)));
            for ((ky, first), to) in firsts.zip(pattern.chunks_exact_mut(deep * c)) {
                for (k, kx) in (first..columns.min(first + deep)).enumerate() {
                    let tap = ky * columns + kx;
                    let tap = if flip { taps - 1 - tap } else { tap };
                    let of_tap = depthwise.chunks_exact(taps).map(|own| own[tap].keep());
                    to[k..].iter_mut().step_by(deep).zip(of_tap).for_each(|(to, x)| *to = x);
                }
                if first + deep > columns {
                    to[1..].iter_mut().step_by(deep).for_each(|to| *to = R::ZERO.keep());
                }
            }
            pattern
        };
        let lists = if window.stride == [1, 1] { vec![] } else { lists(&window, &g_pad) };
        Self {
            window,
            c,
            size,
            out,
            x_pad,
            g_pad,
            taps: reads,
            paired,
            weights: [pattern(false), if back { pattern(true) } else { Scratch::new(0) }],
            point: match back {
                false => Matrix::new(c, c, vectors, |k, n| pointwise[n * c + k]),
                true => Matrix::new(c, c, vectors, |k, n| pointwise[k * c + n]),
            },
            lists,
        }
    }

    /// Elements of [`Weights::taps`] and [`Weights::point`].
    pub fn weight_sizes(&self) -> [usize; 2] {
        [self.window.taps() * self.c, self.c * self.c]
    }

    /// How often [`Self::run`] and [`Self::pull`] ask for what comes next.
    pub fn run_fetches(&self) -> usize {
        2 * self.out[0].div_ceil(self.band())
    }
    pub fn pull_fetches(&self, weights: bool) -> usize {
        let of_weights = if weights { 3 * self.out[0].div_ceil(self.band()) } else { 0 };
        self.out[0] + 2 * self.size[0] + of_weights
    }

    /// Rows of a band.
    fn band(&self) -> usize {
        (BAND / self.out[1]).max(1)
    }

    /// Offset in the padded input of the first tap of output row `y`.
    fn first_tap(&self, y: usize) -> usize {
        let at = |a: usize| self.x_pad.margin[a] - self.window.padding[a];
        self.x_pad.at(at(0) + y * self.window.stride[0], at(1))
    }

    /// z of the padded input, and, if wanted, the moments of its channels about its first pixel, and that pixel, to
    /// zeroed (3, c).
    ///
    /// # Safety
    /// `x` is laid out by `x_pad`, `z` holds the result; `V`'s lanes divide the channels.
    #[inline(always)]
    pub unsafe fn run<V: Vector<Elem = R>>(
        &self,
        x: &Padded<R>,
        bands: &mut Bands<R>,
        z: &mut [R::Kept],
        mut moments: Option<&mut [R]>,
        keep: Keep,
        ahead: &mut Ahead,
    ) {
        let (c, [h, w]) = (self.c, self.out);
        for y in (0..h).step_by(self.band()) {
            let rows = y..h.min(y + self.band());
            let pixels = rows.len() * w;
            // SAFETY: the caller's.
            unsafe {
                ahead.fetch();
                call::<V, _>(Depthwise { half: self, x, rows, d: bands.d.as_mut_ptr() });
                ahead.fetch();
                let to = z.as_mut_ptr().add(y * w * c);
                let at = match Stored::plain(to).filter(|_| keep == Keep::Near) {
                    Some(to) => to.cast_mut(),
                    None => bands.z.as_mut_ptr(),
                };
                call::<V, _>(self.point.times((bands.d.as_ptr(), c), (at, c), pixels));
                if let Some(moments) = &mut moments {
                    let shift = moments.as_mut_ptr().add(2 * c);
                    if y == 0 {
                        shift.copy_from_nonoverlapping(at, c);
                    }
                    add_moments::<V>(at, c, pixels, shift, moments.as_mut_ptr());
                }
                if keep == Keep::Far || !R::Kept::is_plain() {
                    for i in (0..pixels * c).step_by(V::LANES) {
                        let z = V::load(at.add(i));
                        if keep == Keep::Far { z.stream_kept(to.add(i)) } else { z.store_kept(to.add(i)) }
                    }
                }
            }
        }
        if keep == Keep::Far {
            fence();
        }
    }

    /// Passes the gradient of the result on to the relu's input and, if wanted, to the weights. `g` is working memory
    /// laid out by `g_pad` with zero margins.
    ///
    /// # Safety
    /// The pointers are valid for one image of the half; `V`'s lanes divide the channels.
    #[inline(always)]
    pub unsafe fn pull<V: Vector<Elem = R>, G: Stored<R>>(
        &self,
        incoming: &Incoming<R, G>,
        g: &mut Padded<R>,
        bands: &mut Bands<R>,
        target: Target<R>,
        weights: Option<Weights<R>>,
        ahead: &mut Ahead,
    ) {
        call::<V, _>(Pull { half: self, incoming, g, bands, target, weights, ahead });
    }

    /// [`Self::pull`]
    #[inline(always)]
    unsafe fn pull_rows<V: Vector<Elem = R>, G: Stored<R>>(&self, pull: Pull<R, G>) {
        let Pull { incoming, g, bands, mut target, mut weights, ahead, .. } = pull;
        let (c, [h, w], g_pad) = (self.c, self.out, &self.g_pad);
        let mut done = 0;
        for y in (0..h).step_by(self.band()) {
            let rows = y..h.min(y + self.band());
            let pixels = rows.len() * w;
            // SAFETY: the caller's.
            unsafe {
                incoming.read::<V>(y * w, pixels, c, bands.dz.as_mut_ptr());
                for (i, y) in rows.clone().enumerate() {
                    ahead.fetch();
                    let to = g.plain.as_mut_ptr().add(g_pad.at(y + g_pad.margin[0], g_pad.margin[1]));
                    self.point.times((bands.dz.as_ptr().add(i * w * c), c), (to, c), w).run::<V>();
                    g.pair::<V>(g_pad, y, w, self.paired);
                }
                if let Some(weights) = &mut weights {
                    ahead.fetch();
                    let (of, d) = (rows.clone(), bands.d.as_mut_ptr());
                    call::<V, _>(Depthwise { half: self, x: weights.x, rows: of, d });
                    let pair = Pair { a: (bands.dz.as_ptr(), c), b: (bands.d.as_ptr(), c), pixels };
                    ahead.fetch();
                    outer::<V>(pair, [c, c], weights.point.as_mut_ptr(), &mut bands.pairs);
                    ahead.fetch();
                    let ((x, deep), (g, _)) = (weights.x.read(self.paired), g.read(self.paired));
                    let rows = Rows {
                        x: x.add(self.first_tap(y) * deep),
                        x_row: self.window.stride[0] * self.x_pad.row,
                        g: g.add(g_pad.at(y + g_pad.margin[0], g_pad.margin[1]) * deep),
                        g_row: g_pad.row,
                        count: rows.len(),
                        pixels: w,
                    };
                    products::<V>(&self.taps, &rows, weights.taps.as_mut_ptr());
                }
                let ready = self.ready(rows.end);
                for y in done..ready {
                    ahead.fetch();
                    self.input_row::<V>(y, g, bands.row.as_mut_ptr());
                    ahead.fetch();
                    target.take::<V>(y * self.size[1], self.size[1], c, bands.row.as_ptr());
                }
                done = ready;
            }
        }
    }

    /// Input rows whose gradient is complete once the result's first `rows` rows are there.
    fn ready(&self, rows: usize) -> usize {
        let (s, p) = (self.window.stride[0], self.window.padding[0]);
        if rows == self.out[0] { self.size[0] } else { (rows * s).saturating_sub(p).min(self.size[0]) }
    }

    /// Row `y` of the depthwise convolution's input gradient.
    ///
    /// # Safety
    /// `g` is the padded gradient, `row` holds a row rounded up to blocks of every phase.
    #[inline(always)]
    unsafe fn input_row<V: Vector<Elem = R>>(&self, y: usize, g: &Padded<R>, row: *mut R) {
        let (w, c, pad) = (&self.window, self.c, &self.g_pad);
        let (g, deep) = g.read(self.paired);
        // SAFETY: the caller's.
        unsafe {
            if w.stride == [1, 1] {
                let first = |a: usize, at: usize| {
                    pad.margin[a] + at + w.padding[a] - w.dilation[a] * (w.kernel[a] - 1)
                };
                let taps =
                    Taps { steps: [w.dilation[0] * pad.row, w.dilation[1] * c], stride: c, ..self.taps };
                let from = g.add(pad.at(first(0, y), first(1, 0)) * deep);
                return correlate::<V, _>(&taps, self.weights[1].as_ptr(), from, row, self.size[1]);
            }
            let [sy, sx] = w.stride;
            let top = pad.margin[0] + (y + w.padding[0]) / sy - before(w, 0);
            for first in 0..sx.min(self.size[1]) {
                let x = first + w.padding[1];
                let list = &self.lists[(y + w.padding[0]) % sy * sx + x % sx];
                let from = g.add(pad.at(top, pad.margin[1] + x / sx - before(w, 1)));
                let pixels = (self.size[1] - first).div_ceil(sx);
                gather::<V>(list, c, self.weights[0].as_ptr(), from, (row.add(first * c), sx * c), pixels);
            }
        }
    }
}

/// [`Half::pull`]
struct Pull<'a, R: Real, G> {
    half: &'a Half<R>,
    incoming: &'a Incoming<'a, R, G>,
    g: &'a mut Padded<R>,
    bands: &'a mut Bands<R>,
    target: Target<'a, R>,
    weights: Option<Weights<'a, R>>,
    ahead: &'a mut Ahead,
}

impl<R: Real, G: Stored<R>> Kernel<R> for Pull<'_, R, G> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        // SAFETY: `pull`'s.
        unsafe { self.half.pull_rows::<V, G>(self) }
    }
}

/// The depthwise result of some rows, dense, to `d`. `x` is the padded input, the rows make at most a band.
struct Depthwise<'a, R: Real> {
    half: &'a Half<R>,
    x: &'a Padded<R>,
    rows: Range<usize>,
    d: *mut R::Kept,
}

impl<R: Real> Kernel<R> for Depthwise<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) {
        let half = self.half;
        let (x, deep) = self.x.read(half.paired);
        for (i, y) in self.rows.enumerate() {
            // SAFETY: as the type says; what a row writes beyond its pixels the next one overwrites.
            unsafe {
                let (from, to) = (x.add(half.first_tap(y) * deep), self.d.add(i * half.out[1] * half.c));
                correlate::<V, _>(&half.taps, half.weights[0].as_ptr(), from, to, half.out[1]);
            }
        }
    }
}

/// The dilation of the pairs that a depthwise convolution reads with these vectors, if it does.
pub fn paired<R: Real>(window: &Window, (isa, lanes): (Isa, usize)) -> Option<usize> {
    let steps = [0, window.dilation[1]];
    let slides = Taps { kernel: window.kernel, steps, stride: window.stride[1], c: 1 }.slides();
    slides.filter(|_| operand_depth::<R>(isa, lanes) == 2).map(|(_, dilation)| dilation)
}

/// For every phase of an input pixel, padding counted, the taps that reach it: input pixel `i` is `u = i + p = s q + f`,
/// and tap `k` with `d k = f (mod s)` joins it to result `q - (d k - f) / s`.
fn lists(w: &Window, pad: &Pad) -> Vec<List> {
    let phases = (0..w.stride[0]).flat_map(|fy| (0..w.stride[1]).map(move |fx| [fy, fx]));
    let list = |phase: [usize; 2]| {
        let back = |a: usize, k: usize| {
            let reach = w.dilation[a] * k;
            (reach % w.stride[a] == phase[a] && reach >= phase[a])
                .then(|| before(w, a) - (reach - phase[a]) / w.stride[a])
        };
        let tap = |k: usize| Some((pad.at(back(0, k / w.kernel[1])?, back(1, k % w.kernel[1])?), k));
        (0..w.taps()).filter_map(tap).collect()
    };
    phases.map(list).collect()
}
