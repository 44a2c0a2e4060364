//! Relu, 1 x 1 convolution and batch norm of images at once, and all gradients of that, with the kernels of a cell.

use super::cell::items::{
    ACCUMULATE, ConvItem, Factors, FactorsItem, Incoming, Operand, PointItem, PullItem, StatisticsItem, Term,
    TotalItem, Window,
};
use super::cell::launch::{convolve, factors, parts, point, pull, statistics, sum, sums, totals};
use super::cell::{Split, aligned, check_size, images};
use crate::device::cuda::Cuda;
use crate::error::Result;
use crate::ops::fused::relu_conv_norm_grad::ReluConvNormGrad;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};
use bytemuck::Zeroable;
use oche_cpu::preprocess::Sizes;

const FLOAT: usize = size_of::<f32>();

/// What both passes work on.
struct Layer<'a> {
    cuda: &'a Cuda,
    sizes: Sizes,
    x: &'a Tensor,
    weights: &'a [&'a Tensor],
    /// Whether channels come in whole, aligned groups of four.
    whole: bool,
}

impl<'a> Layer<'a> {
    fn new(
        cuda: &'a Cuda,
        sizes: Sizes,
        x: &'a Tensor,
        weights: &'a [&'a Tensor],
        others: &[u64],
    ) -> Result<Self> {
        check_size(sizes.n, sizes.size, sizes.input)?;
        check_size(sizes.n, sizes.out(), sizes.output)?;
        let addresses = [&[x.address()], others].concat();
        let fours = [sizes.input, sizes.share()].iter().all(|c| c.is_multiple_of(4));
        Ok(Self { cuda, sizes, x, weights, whole: fours && aligned(&addresses, x.dtype()) })
    }
    fn pixels(&self) -> usize {
        self.sizes.n * self.sizes.pixels()
    }
    /// For a tile of `c` channels.
    fn split(&self, c: usize) -> Split {
        Split::new(c, self.whole)
    }
    /// What convolution `k` reads.
    fn operand(&self, k: usize) -> Operand {
        let ([h, w], c) = (self.sizes.size.map(|x| x as i16), self.sizes.input as i32);
        let window = Window::pixels(self.sizes.stride, k);
        Operand { x: self.x.address(), window, pitch: c, c, h, w, ..Operand::zeroed() }
    }
    /// The address of the channels of convolution `k` in an image of all, whose elements have `size` bytes.
    fn share(&self, image: u64, k: usize, size: usize) -> u64 {
        image + (k * self.sizes.share() * size) as u64
    }
}

/// Computes the normalised result and its statistics; given ones are used and copied.
pub fn forward(
    cuda: &Cuda,
    sizes: Sizes,
    x: &Tensor,
    weights: &[&Tensor],
    given: Option<&Tensor>,
    out: &mut Out,
) -> Result<()> {
    let (y, stats, dtype, c) = (&*out.value, out.saved[0].address(), out.value.dtype(), sizes.output);
    let layer = Layer::new(cuda, sizes, x, weights, &[])?;
    let (split, size) = (layer.split(sizes.share()), sizes.out());
    let blocks = split.strip_blocks(sizes.n, size);
    let moments = y.alike([if given.is_some() { 0 } else { blocks }, 3, c], DType::F32)?;
    let item = |(k, w): (usize, &&Tensor)| ConvItem {
        from: layer.operand(k),
        with: w.address(),
        z: layer.share(y.address(), k, dtype.size()),
        moments: if given.is_some() { 0 } else { layer.share(moments.address(), k, FLOAT) },
        z_pitch: c as i32,
        cout: sizes.share() as i16,
        moments_pitch: c as i16,
    };
    let items: Vec<ConvItem> = weights.iter().enumerate().map(item).collect();
    convolve(cuda, dtype, split, images(sizes.n, size), &items)?;
    match given {
        Some(given) => cuda.copy(given.address(), stats, given.bytes())?,
        None => {
            let item = StatisticsItem { moments: moments.address(), stats };
            statistics(cuda, layer.pixels(), blocks, c, &[item])?;
        }
    }
    let term = Term { value: y.address(), stats, pitch: c as i32, entry: 0 };
    sum(cuda, dtype, layer.split(c), (layer.pixels(), c), 0, &[term], (y.address(), c))
}

/// The gradients that are wanted, from the result's gradient `ins[0]`, the result and its statistics; the forward's
/// inputs follow.
pub fn gradient(
    cuda: &Cuda,
    op: &ReluConvNormGrad,
    sizes: Sizes,
    ins: &[&Tensor],
    out: &mut Out,
) -> Result<()> {
    let (g, y, stats, x) = (ins[0], ins[1], ins[2].address(), ins[3]);
    let (weights, dtype, c) = (&ins[4..4 + sizes.stride], x.dtype(), sizes.output);
    let targets: Vec<&Tensor> = std::iter::once(&*out.value).chain(&*out.saved).collect();
    let (dx, dw) = targets.split_at(usize::from(op.x));
    let others =
        [&[g.address(), y.address()][..], &dx.iter().map(|t| t.address()).collect::<Vec<_>>()].concat();
    let layer = Layer::new(cuda, sizes, x, weights, &others)?;

    let through = x.alike([3, c], DType::F32)?;
    layer.factors((g, y, stats), op.forward.given, &through)?;
    let incoming = |k: usize| Incoming {
        g: layer.share(g.address(), k, dtype.size()),
        z: layer.share(y.address(), k, dtype.size()),
        factors: layer.share(through.address(), k, FLOAT),
        g_pitch: c as i32,
        z_pitch: c as i32,
        factors_pitch: c as i32,
        c: sizes.share() as i32,
    };
    let incoming: Vec<Incoming> = (0..sizes.stride).map(incoming).collect();
    if let Some(dx) = dx.first() {
        layer.pull(&incoming, dx, out.accumulate)?;
    }
    if op.weights {
        layer.pull_weights(&incoming, dw, out.accumulate && !op.x)?;
    }
    Ok(())
}

impl Layer<'_> {
    /// What takes the gradient through the norm.
    fn factors(&self, (g, y, stats): (&Tensor, &Tensor, u64), given: bool, to: &Tensor) -> Result<()> {
        let c = self.sizes.output;
        let mut item = FactorsItem { stats, factors: to.address(), normalised: 1, ..FactorsItem::zeroed() };
        let mut parts = None;
        if !given {
            let term = Term { value: y.address(), stats: 0, pitch: c as i32, entry: 0 };
            let (size, split) = ((self.pixels(), c), self.split(c));
            let (sums, blocks) =
                sums(self.cuda, self.x, self.x.dtype(), split, size, (g.address(), c), &[term])?;
            item.s1 = sums.address() + (c * FLOAT) as u64;
            item.s2 = sums.address();
            item.step = 2 * c as i32;
            item.blocks = blocks as i32;
            parts = Some(sums); // until the launch
        }
        let (pixels, c) = (self.pixels() as f64, c as i32);
        factors(self.cuda, Factors { pixels, c, given: i32::from(given), ..Factors::zeroed() }, &[item])?;
        drop(parts);
        Ok(())
    }

    /// The gradient of x. With a stride some pixels are in no convolution's way.
    fn pull(&self, incoming: &[Incoming], dx: &Tensor, accumulate: bool) -> Result<()> {
        let (sizes, c) = (self.sizes, self.sizes.input);
        if sizes.stride > 1 && !accumulate {
            self.cuda.zero(dx.address(), dx.bytes())?;
        }
        let [h, w] = sizes.size.map(|x| x as i16);
        let item = |(k, (&from, point)): (usize, (&Incoming, &&Tensor))| PullItem {
            from,
            point: point.address(),
            to: dx.address(),
            mask: self.x.address(),
            to_pitch: c as i32,
            columns: c as i16,
            h,
            w,
            stride: sizes.stride as i16,
            offset: k as i16,
            flags: if accumulate { ACCUMULATE } else { 0 },
            ..PullItem::zeroed()
        };
        let items: Vec<PullItem> = incoming.iter().zip(self.weights).enumerate().map(item).collect();
        pull(self.cuda, self.x.dtype(), self.split(c), images(sizes.n, sizes.out()), &items)
    }

    /// The gradients of the weights; the first is added to what is there if told so.
    fn pull_weights(&self, incoming: &[Incoming], to: &[&Tensor], accumulate: bool) -> Result<()> {
        let (sizes, count) = (self.sizes, self.sizes.input * self.sizes.share());
        let split = self.split(sizes.input.min(sizes.share()));
        let tiles = split.blocks(sizes.input) * split.blocks(sizes.share());
        let in_parts = parts(split.strip_blocks(sizes.n, sizes.out()), tiles * to.len());
        let sums = self.x.alike([to.len(), in_parts.0, count], DType::F32)?;
        let part = |k: usize| sums.address() + (k * in_parts.0 * count * FLOAT) as u64;
        let item =
            |(k, &grads): (usize, &Incoming)| PointItem { from: self.operand(k), grads, parts: part(k) };
        let items: Vec<PointItem> = incoming.iter().enumerate().map(item).collect();
        point(self.cuda, self.x.dtype(), split, images(sizes.n, sizes.out()), in_parts, &items)?;
        let item = |(k, to): (usize, &&Tensor)| TotalItem {
            parts: part(k),
            to: to.address(),
            count: count as i32,
            parts_count: in_parts.0 as i32,
            channels: 0,
            accumulate: i32::from(accumulate && k == 0),
        };
        totals(self.cuda, &to.iter().enumerate().map(item).collect::<Vec<_>>())
    }
}
