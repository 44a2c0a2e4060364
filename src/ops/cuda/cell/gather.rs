//! Gathers laid out in launches. Kernel: kernels/cell_gather.cu.

use super::backward::{Pass, Target};
use super::items::{GatherPart, GatherTarget, Gathers};
use super::untiled;
use crate::device::cuda::THREADS;
use crate::error::Result;
use bytemuck::Zeroable;

/// A launch that is filled.
#[derive(Default)]
struct Fill {
    targets: Vec<GatherTarget>,
    parts: Vec<GatherPart>,
}

impl Pass<'_> {
    /// Gathers the targets; one with more parts than a launch holds in several, each adding to the one before.
    pub(super) fn gather(&self, targets: &[Target]) -> Result<()> {
        let mut fill = Fill::default();
        for target in targets {
            let all: Vec<(bool, GatherPart)> = (target.masked.iter().map(|&part| (true, part)))
                .chain(target.open.iter().map(|&part| (false, part)))
                .collect();
            for (k, parts) in all.chunks(Gathers::MOST_PARTS).enumerate() {
                let full = fill.targets.len() == Gathers::MOST
                    || fill.parts.len() + parts.len() > Gathers::MOST_PARTS;
                if full || k > 0 {
                    self.launch(std::mem::take(&mut fill))?;
                }
                let mut at = target.at;
                if k > 0 {
                    (at.before, at.before_pitch) = (at.to, self.cell.sizes.c as i32);
                }
                at.first = fill.parts.len() as i16;
                at.masked = parts.iter().filter(|(masked, _)| *masked).count() as i16;
                at.count = parts.len() as i16;
                fill.parts.extend(parts.iter().map(|(_, part)| part));
                fill.targets.push(at);
            }
        }
        self.launch(fill)
    }

    fn launch(&self, fill: Fill) -> Result<()> {
        let (cell, c) = (self.cell, self.cell.sizes.c);
        let blocks = |t: &GatherTarget| cell.split.strip_blocks(cell.sizes.n, [t.h as usize, t.w as usize]);
        let blocks = fill.targets.iter().map(blocks).max().unwrap_or(0);
        let mut launch = Gathers {
            n: cell.sizes.n as i32,
            c: c as i32,
            quads: cell.split.quads as i32,
            count: fill.targets.len() as i32,
            ..Gathers::zeroed()
        };
        launch.part[..fill.parts.len()].copy_from_slice(&fill.parts);
        launch.at[..fill.targets.len()].copy_from_slice(&fill.targets);
        let kernel = untiled!(cell.dtype, cell.split, "cell_gather")?;
        cell.cuda.launch(kernel, [blocks, cell.split.blocks(c), fill.targets.len()], THREADS, 0, &[&launch])
    }
}
