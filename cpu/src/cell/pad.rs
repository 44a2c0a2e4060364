//! Copies of images with zero margins, in which every tap of a window lies at a constant offset.

use super::rows::BLOCK;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::simd::{Kept, Stored, Vector};
use crate::window::Window;

/// Rows of pixels of `c` elements, the image starting `margin` rows and columns in.
#[derive(Clone, Copy, Debug)]
pub struct Pad {
    pub c: usize,
    pub margin: [usize; 2],
    /// Elements of a row.
    pub row: usize,
    rows: usize,
    /// Of the image.
    size: [usize; 2],
}

impl Pad {
    /// Of images of `size`, for windows that are read at `out` pixels each, a row rounded up to whole blocks.
    pub fn for_windows(windows: &[Window], size: [usize; 2], out: [usize; 2], c: usize) -> Self {
        let margin = [0, 1].map(|a| windows.iter().map(|w| w.padding[a]).max().unwrap_or(0));
        let count = [out[0], out[1].next_multiple_of(BLOCK)];
        let reach = [0, 1].map(|a| {
            let of = |w: &Window| {
                margin[a] - w.padding[a]
                    + (count[a] - 1) * w.stride[a]
                    + w.dilation[a] * (w.kernel[a] - 1)
                    + 1
            };
            windows.iter().map(of).max().unwrap_or(0).max(margin[a] + size[a])
        });
        Self { c, margin, row: reach[1] * c, rows: reach[0], size }
    }
    /// Of gradients at the `out` pixels of the windows, for the gradients of their inputs of `size`.
    pub fn for_gradients(windows: &[(Window, [usize; 2])], out: [usize; 2], c: usize) -> Self {
        let margin = [0, 1].map(|a| windows.iter().map(|(w, _)| before(w, a)).max().unwrap_or(0));
        let reach = [0, 1].map(|a| {
            // the last pixel's first tap, a row rounded up to whole blocks
            let of = |(w, size): &(Window, [usize; 2])| (size[a] - 1 + w.padding[a]) / w.stride[a] + 1;
            let last = windows.iter().map(of).max().unwrap_or(0).max(out[a]);
            margin[a] + if a == 1 { last.next_multiple_of(BLOCK) + BLOCK } else { last }
        });
        Self { c, margin, row: reach[1] * c, rows: reach[0], size: out }
    }
    /// Memory for a copy of pixels of so many times `c` elements, zero but for the image.
    fn around<T: bytemuck::Pod>(&self, times: usize) -> Scratch<T> {
        // a last pixel's pair lies beyond
        let len = self.rows * self.row + 2 * self.c;
        let mut copy = Scratch::new(len * times);
        let mut from = 0;
        for y in 0..self.size[0] {
            let start = self.at(self.margin[0] + y, self.margin[1]);
            copy[from * times..start * times].fill(T::zeroed());
            from = start + self.size[1] * self.c;
        }
        copy[from * times..].fill(T::zeroed());
        copy
    }
    /// Elements from the start to pixel `(y, x)`, margins counted.
    pub fn at(&self, y: usize, x: usize) -> usize {
        y * self.row + x * self.c
    }
    /// Copies `max(f(x), 0)` of an image of `size`, `f` from [`Norm`], its pixels `step` apart.
    ///
    /// # Safety
    /// The pointers are valid, the norm has `c` channels.
    #[inline(always)]
    pub unsafe fn fill<V: Vector, T: Stored<V::Elem>>(
        &self,
        x: (*const T, usize),
        norm: Option<Norm<V::Elem>>,
        size: [usize; 2],
        to: &mut Padded<V::Elem>,
    ) {
        let (plain, paired) =
            (to.plain.as_mut_ptr(), const { V::DEPTH == 2 } && !to.pairs.iter().all(|p| p.is_empty()));
        // rows that are paired are, while they are near
        let rows = if paired { 1 } else { size[0] };
        for y in (0..size[0]).step_by(rows) {
            let (x, part) = ((x.0.wrapping_add(y * size[1] * x.1), x.1), [rows, size[1]]);
            // SAFETY: the caller's.
            unsafe {
                let row = plain.add(self.at(y, 0));
                match norm {
                    None => stretches!(V, self.c, Self::fill_with<T>(self, x, None, part, row)),
                    Some(norm) => stretches!(V, self.c, Self::fill_with<T>(self, x, Some(norm), part, row)),
                }
                for dilation in 1..=2 {
                    to.pair::<V>(self, y, size[1], to.has(dilation).then_some(dilation));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn fill_with<V: Vector, const P: usize, T: Stored<V::Elem>>(
        &self,
        (x, step): (*const T, usize),
        norm: Option<Norm<V::Elem>>,
        [h, w]: [usize; 2],
        to: *mut Kept<V>,
        r: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let norm = norm.map(|norm| norm.at::<V>(r));
            for y in 0..h {
                let to = to.add(self.at(y + self.margin[0], self.margin[1]) + r);
                let x = x.add(y * w * step + r);
                for p in 0..w {
                    let x: V = T::load(x.add(p * step));
                    // no closure: vector instructions in one may stay function calls
                    let x = if let Some(norm) = norm { norm.affine(norm.z(x)) } else { x };
                    V::zero().max(x).store_kept(to.add(p * self.c)); // in this order NaN stays
                }
            }
        }
    }
}

/// A padded copy as vectors read it: as it is, and, for operands of two numbers, every pixel with the one a dilation
/// further.
pub struct Padded<R: Real> {
    pub plain: Scratch<R::Kept>,
    /// For the dilations 1 and 2.
    pairs: [Scratch<R::Kept>; 2],
}

impl<R: Real> Padded<R> {
    /// Memory with zeros around the image for a copy by `pad` and for pairs of the dilations that are `paired`.
    pub fn new(pad: &Pad, paired: [bool; 2]) -> Self {
        let pairs = paired.map(|p| if p { pad.around(2) } else { Scratch::new(0) });
        Self { plain: pad.around(1), pairs }
    }
    fn has(&self, dilation: usize) -> bool {
        !self.pairs[dilation - 1].is_empty()
    }
    /// What is read with `paired` operands, and how many numbers each holds.
    pub fn read(&self, paired: Option<usize>) -> (*const R::Kept, usize) {
        match paired {
            Some(dilation) => (self.pairs[dilation - 1].as_ptr(), 2),
            None => (self.plain.as_ptr(), 1),
        }
    }
    /// Pairs the pixels of row `y` of an image of `width`, for one dilation if there are several.
    ///
    /// # Safety
    /// The copy is by `pad`, `V`'s lanes divide the channels.
    #[inline(always)]
    pub unsafe fn pair<V: Vector<Elem = R>>(
        &mut self,
        pad: &Pad,
        y: usize,
        width: usize,
        dilation: Option<usize>,
    ) {
        if const { V::DEPTH == 1 } {
            return;
        }
        if let Some(dilation) = dilation {
            let start = pad.margin[1].saturating_sub(dilation);
            let at = pad.at(y + pad.margin[0], start);
            let (count, step) = (pad.margin[1] + width - start, dilation * pad.c);
            let (from, to) = (self.plain.as_ptr().wrapping_add(at), self.pairs[dilation - 1].as_mut_ptr());
            let to = to.wrapping_add(2 * at);
            for r in (0..step).step_by(V::LANES) {
                let count = (count - r / pad.c).div_ceil(dilation);
                // SAFETY: the caller's.
                unsafe { V::interleave_each(from.add(r), step, count, to.add(2 * r)) };
            }
        }
    }
}

/// Pixels before the image that the gradient of an input reads, along an axis.
pub fn before(w: &Window, axis: usize) -> usize {
    let reach = w.dilation[axis] * (w.kernel[axis] - 1);
    if w.stride == [1, 1] { reach.saturating_sub(w.padding[axis]) } else { reach / w.stride[axis] }
}

/// A batch norm, each constant one number a channel: z = (x - mean) r, then gamma z + beta.
#[derive(Clone, Copy)]
pub struct Norm<'a, R> {
    pub mean: &'a [R],
    /// 1 / standard deviation.
    pub r: &'a [R],
    pub gamma: &'a [R],
    pub beta: &'a [R],
}

impl<R: Real> Norm<'_, R> {
    /// The constants of a vector of channels from `channel` on.
    ///
    /// # Safety
    /// The channels exist.
    #[inline(always)]
    pub unsafe fn at<V: Vector<Elem = R>>(&self, channel: usize) -> Constants<V> {
        // SAFETY: the caller's.
        unsafe {
            Constants {
                mean: V::load(self.mean.as_ptr().add(channel)),
                r: V::load(self.r.as_ptr().add(channel)),
                gamma: V::load(self.gamma.as_ptr().add(channel)),
                beta: V::load(self.beta.as_ptr().add(channel)),
            }
        }
    }
}

/// A batch norm of a vector of channels.
#[derive(Clone, Copy)]
pub struct Constants<V> {
    mean: V,
    r: V,
    gamma: V,
    beta: V,
}

impl<V: Vector> Constants<V> {
    #[inline(always)]
    pub fn z(self, x: V) -> V {
        x.sub(self.mean).mul(self.r)
    }
    #[inline(always)]
    pub fn affine(self, z: V) -> V {
        z.fma(self.gamma, self.beta)
    }
}
