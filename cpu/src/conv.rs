//! Dense convolution: a matrix product over the columns `(ky, kx, ci)` that each output pixel sees.
//!
//! ```text
//! y[n, oy, ox, co] = sum over ky, kx, ci of x[n, oy*s + ky*d - p, ox*s + kx*d - p, ci] * w[co, ci, ky, kx]
//! ```
//! A 1x1 window of stride 1 reads the images as they are; any other one copies a few rows of columns at a time.

use super::gemm::{BLOCK, OuterSum, Packed, outer, rows};
use super::scratch::Scratch;
use super::{Window, out_size};
use crate::jobs::each;
use crate::real::Real;

/// Elements of columns that are built at a time: they should stay in the second-level cache.
const COLUMNS: usize = 1 << 16;
/// Gradients of weights are summed in at most this many parts, whatever the number of threads.
const PARTS: usize = 32;

/// `y (+)= x * weight`.
pub fn forward<R: Real>(
    w: &Window,
    dims: [usize; 4],
    out_channels: usize,
    x: &[R],
    weight: &[R],
    y: &mut [R],
    accumulate: bool,
) {
    let Some(columns) = Columns::new(w, dims, out_channels) else { return };
    let by = Packed::new(columns.depth, out_channels, |k, co| weight[columns.weight(co, k)]);
    if columns.plain {
        return rows(x, &by, y, accumulate);
    }
    // the blocks of rows of all images, in order: each is one item of work
    let (image, blocks) = (x.len() / dims[0], columns.blocks());
    let out = y.len() / dims[0];
    each(
        y.chunks_mut(out).flat_map(|y| y.chunks_mut(columns.rows * columns.out[1] * out_channels)),
        || columns.scratch(),
        |scratch, i, y| {
            let columns = columns.build(&x[i / blocks * image..][..image], i % blocks, scratch);
            by.times(columns, y, accumulate);
        },
    );
}

/// `dx (+)= ` the gradient with respect to the input: columns of it, summed into their pixels image by image.
pub fn input_grad<R: Real>(
    w: &Window,
    dims: [usize; 4],
    out_channels: usize,
    weight: &[R],
    dy: &[R],
    dx: &mut [R],
    accumulate: bool,
) {
    let Some(columns) = Columns::new(w, dims, out_channels) else { return };
    let by = Packed::new(out_channels, columns.depth, |co, k| weight[columns.weight(co, k)]);
    if columns.plain {
        return rows(dy, &by, dx, accumulate);
    }
    let (image, out) = (dx.len() / dims[0], dy.len() / dims[0]);
    each(
        dx.chunks_mut(image).zip(dy.chunks(out)),
        || columns.scratch(),
        |scratch, _, (dx, dy)| {
            if !accumulate {
                dx.fill(R::ZERO);
            }
            for (block, dy) in dy.chunks(columns.rows * columns.out[1] * out_channels).enumerate() {
                let built = &mut scratch[..dy.len() / out_channels * columns.depth];
                by.times(dy, built, false);
                columns.add_back(built, block, dx);
            }
        },
    );
}

/// `dw (+)= ` the gradient with respect to the weight. Parts of the batch are summed apart, then in order.
pub fn weight_grad<R: Real>(
    w: &Window,
    dims: [usize; 4],
    out_channels: usize,
    x: &[R],
    dy: &[R],
    dw: &mut [R],
    accumulate: bool,
) {
    let Some(columns) = Columns::new(w, dims, out_channels) else { return };
    if columns.plain {
        return outer(out_channels, columns.depth, dy, x, dw, accumulate);
    }
    let sum = OuterSum::new(out_channels, columns.depth);
    let (image, out) = (x.len() / dims[0], dy.len() / dims[0]);
    let pixels = out / out_channels;
    // a sum of its own for less than a block costs more than it shares out
    let batch = dims[0].div_ceil(PARTS.min((dims[0] * pixels).div_ceil(BLOCK)));
    let together = if columns.blocks() == 1 { (BLOCK / pixels).clamp(1, batch) } else { 1 };
    let mut parts = Scratch::<R>::new(dims[0].div_ceil(batch) * sum.size());
    let groups = x.chunks(image * batch).zip(dy.chunks(out * batch));
    each(
        parts.chunks_mut(sum.size()).zip(groups),
        || (Scratch::new(together * columns.rows * columns.out[1] * columns.depth), sum.spare()),
        |(scratch, spare), _, (part, (x, dy))| {
            part.fill(R::ZERO);
            for (x, dy) in x.chunks(image * together).zip(dy.chunks(out * together)) {
                if together > 1 {
                    let size = pixels * columns.depth;
                    for (x, to) in x.chunks(image).zip(scratch.chunks_mut(size)) {
                        columns.build(x, 0, to);
                    }
                    sum.add(dy, &scratch[..x.len() / image * size], part, spare);
                    continue;
                }
                let blocks = dy.chunks(columns.rows * columns.out[1] * out_channels);
                for (block, dy) in blocks.enumerate() {
                    sum.add(dy, columns.build(x, block, scratch), part, spare);
                }
            }
        },
    );
    sum.total(&parts, |co, k, total| {
        let to = &mut dw[columns.weight(co, k)];
        *to = if accumulate { *to + total } else { total };
    });
}

/// Shapes of one convolution as a matrix product.
struct Columns {
    window: Window,
    size: [usize; 2],
    out: [usize; 2],
    channels: usize,
    /// Columns: `kh * kw * Ci`.
    depth: usize,
    /// Output rows of one block.
    rows: usize,
    /// The columns of the product are the image itself.
    plain: bool,
}

impl Columns {
    fn new(w: &Window, dims: [usize; 4], out_channels: usize) -> Option<Self> {
        let out = out_size(w, dims);
        if dims.contains(&0) || out_channels == 0 {
            return None;
        }
        let depth = w.taps() * dims[3];
        let plain = w.kernel == [1, 1] && w.stride == [1, 1] && w.padding == [0, 0];
        let rows = (COLUMNS / (depth * out[1])).clamp(1, out[0]);
        let size = [dims[1], dims[2]];
        Some(Self { window: *w, size, out, channels: dims[3], depth, rows, plain })
    }

    /// Index in the stored weight of column `k = (ky, kx, ci)`.
    fn weight(&self, co: usize, k: usize) -> usize {
        (co * self.channels + k % self.channels) * self.window.taps() + k / self.channels
    }

    /// Blocks of rows in one image.
    fn blocks(&self) -> usize {
        self.out[0].div_ceil(self.rows)
    }

    fn scratch<R: Real>(&self) -> Scratch<R> {
        Scratch::new(self.rows * self.out[1] * self.depth)
    }

    /// Calls `run(range of columns, range of the image)` for every stretch of a block that lies in the image, and
    /// with `None` for those that do not.
    #[inline]
    fn each(&self, block: usize, mut run: impl FnMut(usize, Option<usize>, usize)) {
        let ([kh, kw], [sy, sx], [py, px]) = (self.window.kernel, self.window.stride, self.window.padding);
        let [dy, dx] = self.window.dilation;
        // pixels next to each other in the window are next to each other in memory unless it is dilated
        let (steps, pixels) = if dx == 1 { (1, kw) } else { (kw, 1) };
        let mut column = 0;
        for oy in block * self.rows..((block + 1) * self.rows).min(self.out[0]) {
            for ox in 0..self.out[1] {
                for ky in 0..kh {
                    let y = (oy * sy + ky * dy).checked_sub(py).filter(|&y| y < self.size[0]);
                    for step in 0..steps {
                        let x = ox * sx + step * dx; // with the padding
                        let inside = |x: usize| x.clamp(px, px + self.size[1]);
                        let (start, end) = (inside(x), inside(x + pixels));
                        let Some(y) = y.filter(|_| start < end) else {
                            run(column, None, pixels * self.channels);
                            column += pixels * self.channels;
                            continue;
                        };
                        let at = (y * self.size[1] + start - px) * self.channels;
                        let lens = [start - x.min(start), end - start, x + pixels - end];
                        let [before, len, after] = lens.map(|pixels| pixels * self.channels);
                        if before > 0 {
                            run(column, None, before);
                        }
                        run(column + before, Some(at), len);
                        if after > 0 {
                            run(column + before + len, None, after);
                        }
                        column += before + len + after;
                    }
                }
            }
        }
    }

    /// The columns of a block of output rows, one row for each output pixel.
    fn build<'a, R: Real>(&self, image: &[R], block: usize, to: &'a mut [R]) -> &'a [R] {
        let mut end = 0;
        self.each(block, |column, from, len| {
            let to = &mut to[column..column + len];
            match from {
                // a loop, not a call: the stretches are short
                Some(from) => to.iter_mut().zip(&image[from..from + len]).for_each(|(to, x)| *to = *x),
                None => to.iter_mut().for_each(|to| *to = R::ZERO),
            }
            end = column + len;
        });
        &to[..end]
    }

    /// Adds the columns of a block to the pixels that they were copied from.
    fn add_back<R: Real>(&self, columns: &[R], block: usize, image: &mut [R]) {
        self.each(block, |column, to, len| {
            if let Some(to) = to {
                image[to..to + len].iter_mut().zip(&columns[column..]).for_each(|(to, x)| *to += *x);
            }
        });
    }
}
