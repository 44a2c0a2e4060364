//! Launches of the kernels of a cell: items in as many as the parameters of a kernel hold.

use super::items::{
    ConvItem, Convs, DepthItem, Depths, Factors, FactorsItem, Images, PointItem, Points, PullItem, Pulls,
    Statistics, StatisticsItem, Sum, Sums, Term, TotalItem, Totals,
};
use super::{Split, tiled, untiled};
use crate::device::cuda::{Cuda, THREADS};
use crate::error::Result;
use crate::ops::batch_norm::EPSILON;
use crate::ops::cuda::int;
use crate::tensor::{DType, Tensor};

/// Blocks of a sum, at the most: each works out the factors of all terms first.
const SUM_BLOCKS: usize = 512;
/// Blocks that sums over parts of the pixels are spread over, about, and parts.
const PART_BLOCKS: usize = 512;
const PARTS: [usize; 2] = [8, 128];
/// Pixels of a thread and terms of a block of `cell_sums`.
const SUMS_PIXELS: usize = 8;
const SUMS_TERMS: usize = 8;

fn strip_blocks(split: Split, out: Images) -> usize {
    split.strip_blocks(out.n as usize, [out.h as usize, out.w as usize])
}

/// Runs convolutions and pools that give images of size `out`.
pub fn convolve(cuda: &Cuda, dtype: DType, split: Split, out: Images, items: &[ConvItem]) -> Result<()> {
    let kernel = tiled!(dtype, split, "cell_conv")?;
    let strips = strip_blocks(split, out);
    for items in items.chunks(Convs::MOST) {
        let cout = items.iter().map(|i| i.cout as usize).max().unwrap_or(0);
        let launch = Convs { out, count: int(items.len()), ..Convs::of(items) };
        cuda.launch(kernel, [strips, split.blocks(cout), items.len()], THREADS, 0, &[&launch])?;
    }
    Ok(())
}

/// Merges the moments that `blocks` blocks left of `pixels` pixels.
pub fn statistics(
    cuda: &Cuda,
    pixels: usize,
    blocks: usize,
    c: usize,
    items: &[StatisticsItem],
) -> Result<()> {
    for items in items.chunks(Statistics::MOST) {
        let launch = Statistics {
            pixels: pixels as f64,
            epsilon: EPSILON,
            blocks: int(blocks),
            c: int(c),
            ..Statistics::of(items)
        };
        cuda.launch("cell_statistics_f32", [c.div_ceil(16), items.len(), 1], THREADS, 0, &[&launch])?;
    }
    Ok(())
}

/// `to`, an address and a pitch, becomes the sum of `terms` with the weights `mix`, or with ones if that is null.
pub fn sum(
    cuda: &Cuda,
    dtype: DType,
    split: Split,
    (pixels, c): (usize, usize),
    mix: u64,
    terms: &[Term],
    (y, pitch): (u64, usize),
) -> Result<()> {
    let kernel = untiled!(dtype, split, "cell_sum")?;
    let blocks = [pixels.div_ceil(split.lanes()).min(SUM_BLOCKS), split.blocks(c), 1];
    let mut start = 0;
    while start == 0 || start < terms.len() {
        let some = &terms[start..(start + Sum::MOST).min(terms.len())];
        let launch = Sum {
            mix,
            y,
            pixels: int(pixels),
            c: int(c),
            quads: int(split.quads),
            count: int(some.len()),
            pitch: int(pitch),
            accumulate: i32::from(start > 0),
            ..Sum::of(some)
        };
        let shared = some.len() * 2 * 4 * split.quads * size_of::<f32>();
        cuda.launch(kernel, blocks, THREADS, shared, &[&launch])?;
        start += Sum::MOST;
    }
    Ok(())
}

/// The sums of g, an address and a pitch, times every term less its mean, and in the row behind them of g alone: parts
/// (blocks, terms + 1, c). At most as many terms as one launch has.
pub fn sums(
    cuda: &Cuda,
    like: &Tensor,
    dtype: DType,
    split: Split,
    (pixels, c): (usize, usize),
    (g, g_pitch): (u64, usize),
    terms: &[Term],
) -> Result<(Tensor, usize)> {
    let kernel = untiled!(dtype, split, "cell_sums")?;
    let blocks = pixels.div_ceil(split.lanes() * SUMS_PIXELS);
    let mut all = terms.to_vec();
    all.push(Term { value: 0, stats: 0, pitch: 0, entry: 0 });
    let parts = like.alike([blocks, all.len(), c], DType::F32)?;
    let launch = Sums {
        g,
        parts: parts.address(),
        g_pitch: int(g_pitch),
        pixels: int(pixels),
        c: int(c),
        quads: int(split.quads),
        count: int(all.len()),
        ..Sums::of(&all)
    };
    let grid = [blocks, all.len().div_ceil(SUMS_TERMS), split.blocks(c)];
    cuda.launch(kernel, grid, THREADS, 0, &[&launch])?;
    Ok((parts, blocks))
}

/// What takes gradients through norms; `shared` says all but the items.
pub fn factors(cuda: &Cuda, shared: Factors, items: &[FactorsItem]) -> Result<()> {
    for items in items.chunks(Factors::MOST) {
        let launch = Factors { at: Factors::of(items).at, ..shared };
        cuda.launch("cell_factors_f32", [items.len(), 1, 1], THREADS, 0, &[&launch])?;
    }
    Ok(())
}

/// Takes gradients through norms and 1 x 1 convolutions.
pub fn pull(cuda: &Cuda, dtype: DType, split: Split, out: Images, items: &[PullItem]) -> Result<()> {
    let kernel = tiled!(dtype, split, "cell_pull")?;
    for items in items.chunks(Pulls::MOST) {
        let columns = items.iter().map(|i| i.columns as usize).max().unwrap_or(0);
        let launch = Pulls { out, count: int(items.len()), ..Pulls::of(items) };
        let grid = [strip_blocks(split, out), split.blocks(columns), items.len()];
        cuda.launch(kernel, grid, THREADS, 0, &[&launch])?;
    }
    Ok(())
}

/// In how many parts, and of how many rounds of `blocks` blocks each, sums over pixels are taken.
pub fn parts(blocks: usize, others: usize) -> (usize, usize) {
    let [least, most] = PARTS;
    let parts = (PART_BLOCKS / others.max(1)).clamp(least, most);
    let rounds = blocks.div_ceil(parts);
    (blocks.div_ceil(rounds.max(1)), rounds)
}

/// The gradients of 1 x 1 weights, in parts of `rounds` rounds.
pub fn point(
    cuda: &Cuda,
    dtype: DType,
    split: Split,
    out: Images,
    (parts, rounds): (usize, usize),
    items: &[PointItem],
) -> Result<()> {
    let kernel = tiled!(dtype, split, "cell_point")?;
    for items in items.chunks(Points::MOST) {
        let tiles = |i: &PointItem| split.blocks(i.grads.c as usize) * split.blocks(i.from.c as usize);
        let tiles = items.iter().map(tiles).max().unwrap_or(0);
        let launch = Points { out, rounds: int(rounds), count: int(items.len()), ..Points::of(items) };
        cuda.launch(kernel, [parts, tiles, items.len()], THREADS, 0, &[&launch])?;
    }
    Ok(())
}

/// The gradients of depthwise weights, in parts of `rounds` rounds.
pub fn depth(
    cuda: &Cuda,
    dtype: DType,
    split: Split,
    (out, c): (Images, usize),
    (parts, rounds): (usize, usize),
    items: &[DepthItem],
) -> Result<()> {
    let kernel = untiled!(dtype, split, "cell_depth")?;
    for items in items.chunks(Depths::MOST) {
        let (rounds, quads, count) = (int(rounds), int(split.quads), int(items.len()));
        let launch = Depths { out, rounds, quads, count, ..Depths::of(items) };
        cuda.launch(kernel, [parts, split.blocks(c), items.len()], THREADS, 0, &[&launch])?;
    }
    Ok(())
}

/// Adds up parts.
pub fn totals(cuda: &Cuda, items: &[TotalItem]) -> Result<()> {
    for items in items.chunks(Totals::MOST) {
        let most = items.iter().map(|i| i.count as usize).max().unwrap_or(0);
        let launch = Totals { count: items.len() as i64, ..Totals::of(items) };
        cuda.launch("cell_totals_f32", [most.div_ceil(THREADS), items.len(), 1], THREADS, 0, &[&launch])?;
    }
    Ok(())
}
