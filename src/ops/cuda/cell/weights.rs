//! The gradients of a cell's weights. Kernels: kernels/cell_weights.cu.

use super::backward::{Half, Pass};
use super::images;
use super::items::{DepthItem, PointItem, TotalItem};
use super::launch::{depth, parts, point, totals};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

impl Pass<'_> {
    /// Writes the gradients of the weights of `halves`: sums over parts of the pixels, then their totals.
    pub(super) fn pull_weights<'h>(
        &self,
        halves: impl Iterator<Item = &'h Half<'h>>,
        to: &[&Tensor],
    ) -> Result<()> {
        let (cell, c) = (self.cell, self.cell.sizes.c);
        let (blocks, out) = (cell.strip_blocks(), images(cell.sizes.n, cell.sizes.out));
        let halves: Vec<&Half> = halves.collect();
        let (deep, tiles) = (halves.iter().filter(|h| h.depth.is_some()).count(), cell.split.blocks(c));
        let (of_point, of_depth) = (parts(blocks, halves.len() * tiles * tiles), parts(blocks, deep * tiles));
        let (mut points, mut depths, mut all, mut held) = (vec![], vec![], vec![], vec![]);
        let mut total = |at: usize, parts_count: usize, channels: usize| -> Result<u64> {
            let count = to[at].count();
            let parts = cell.like.alike([parts_count, count], DType::F32)?;
            let address = parts.address();
            held.push(parts);
            all.push(TotalItem {
                parts: address,
                to: to[at].address(),
                count: count as i32,
                parts_count: parts_count as i32,
                channels: channels as i32,
                accumulate: 0,
            });
            Ok(address)
        };
        for half in halves {
            let parts = total(half.point, of_point.0, 0)?;
            points.push(PointItem { from: half.from, grads: half.grads, parts });
            if let Some(at) = half.depth {
                let parts = total(at, of_depth.0, c)?;
                depths.push(DepthItem { from: half.from, grads: half.d.address(), parts });
            }
        }
        point(cell.cuda, cell.dtype, cell.split, out, of_point, &points)?;
        depth(cell.cuda, cell.dtype, cell.split, (out, c), of_depth, &depths)?;
        totals(cell.cuda, &all)
    }
}
