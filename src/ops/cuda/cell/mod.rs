//! A whole cell on a device: what all that reads a state needs is one launch. Kernels: kernels/cell_*.cu.
//!
//! Forward, state by state as it becomes known: pools and first halves of all candidates that read it; their batch
//! statistics; second halves; theirs; then the next node's sum. Backward the other way round, node by node: see
//! `backward`. Nothing is read back: shapes and addresses go by value, so that all of it can be captured.

mod backward;
mod forward;
mod gather;
pub mod items;
pub mod launch;
mod weights;

pub use forward::forward;

use crate::device::cuda::{Cuda, THREADS};
use crate::error::{Error, Result};
use crate::ops::fused::grad::MixedCellGrad;
use crate::ops::fused::mixed_cell::MixedCell;
use crate::ops::window::Window;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};
use bytemuck::Zeroable;
use items::{CONVOLUTION, Images, Operand, Term};
use oche_cpu::cell::{Item, Kind, Sizes, Spec};

/// The kernel of this name for images of type `$dtype` and a tile of channels.
macro_rules! tiled {
    ($dtype:expr, $split:expr, $name:literal) => {
        match ($dtype, $split.whole, $split.quads) {
            (_, false, _) => $crate::ops::cuda::kernel!($dtype, concat!($name, "_any")),
            (_, true, 4) => $crate::ops::cuda::kernel!($dtype, concat!($name, "_16")),
            (_, true, 8) => $crate::ops::cuda::kernel!($dtype, concat!($name, "_32")),
            _ => $crate::ops::cuda::kernel!($dtype, concat!($name, "_64")),
        }
    };
}
/// The same of a kernel that works with any tile.
macro_rules! untiled {
    ($dtype:expr, $split:expr, $name:literal) => {
        match $split.whole {
            false => $crate::ops::cuda::kernel!($dtype, concat!($name, "_any")),
            true => $crate::ops::cuda::kernel!($dtype, $name),
        }
    };
}
use {tiled, untiled};

/// How kernels split channels among threads.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Groups of four channels a block has.
    pub quads: usize,
    /// Whether every group is whole and aligned.
    pub whole: bool,
}

impl Split {
    /// For `c` channels a thread block computes.
    pub fn new(c: usize, whole: bool) -> Self {
        let quads = match c {
            _ if !whole => 4,
            0..=16 => 4,
            17..=32 => 8,
            _ => 16,
        };
        Self { quads, whole }
    }
    /// Strips, or pixels, that a block has at a time.
    pub fn lanes(self) -> usize {
        THREADS / self.quads
    }
    /// Blocks side by side for `c` channels.
    pub fn blocks(self, c: usize) -> usize {
        c.div_ceil(4 * self.quads)
    }
    /// Blocks one after another for the strips of `n` images.
    pub fn strip_blocks(self, n: usize, [h, w]: [usize; 2]) -> usize {
        (n * h.div_ceil(4) * w).div_ceil(self.lanes())
    }
}

/// Images of `n`, height and width.
pub fn images(n: usize, [h, w]: [usize; 2]) -> Images {
    let [n, h, w] = [n, h, w].map(|x| x as i32);
    Images { n, h, w }
}

/// Fails if the kernels, which count the elements of an image and pixels in 32 bits, cannot take images of this size.
pub fn check_size(n: usize, [h, w]: [usize; 2], pitch: usize) -> Result<()> {
    let fits = h.max(w).max(pitch) <= i16::MAX as usize
        && h * w * pitch <= i32::MAX as usize
        && n * h * w * 4 <= i32::MAX as usize;
    if fits {
        return Ok(());
    }
    let what = format!("{n} images of {h} x {w} x {pitch} are too large for a device; take a smaller batch");
    Err(Error::device(what))
}

/// Whether groups of four elements of type `dtype` at these addresses are aligned.
pub fn aligned(addresses: &[u64], dtype: DType) -> bool {
    addresses.iter().all(|a| a.is_multiple_of(4 * dtype.size() as u64))
}

/// A state: where it is, elements from one pixel to the next, and its size.
#[derive(Clone, Copy)]
struct State {
    address: u64,
    pitch: usize,
    size: [usize; 2],
}

/// What the passes of a cell work on: addresses on the device.
struct Cell<'a> {
    cuda: &'a Cuda,
    /// Where temporaries go.
    like: &'a Tensor,
    spec: &'a Spec,
    sizes: Sizes,
    /// Of images.
    dtype: DType,
    split: Split,
    given: bool,
    mix: u64,
    inputs: [u64; 2],
    weights: Vec<u64>,
    /// The nodes, side by side.
    y: u64,
    stats: u64,
    values: Vec<u64>,
    taps: Vec<u64>,
}

/// What a forward pass leaves.
struct Saved<'a, T> {
    y: &'a Tensor,
    stats: &'a Tensor,
    values: &'a [T],
    taps: &'a [T],
}

impl<'a> Cell<'a> {
    /// `ins` are the inputs of the forward pass. Channels are taken by fours if they and everything at `others` allow it.
    fn new<T: std::borrow::Borrow<Tensor>>(
        cuda: &'a Cuda,
        op: &'a MixedCell,
        sizes: Sizes,
        ins: &[&'a Tensor],
        saved: &Saved<T>,
        others: &[u64],
    ) -> Result<Self> {
        let (spec, c, dtype) = (&*op.spec, sizes.c, ins[1].dtype());
        for from in 0..2 + usize::from(spec.nodes > 0) {
            check_size(sizes.n, sizes.of(from), if from < 2 { c } else { spec.nodes * c })?;
        }
        let addresses = |tensors: &[T]| tensors.iter().map(|t| t.borrow().address()).collect::<Vec<u64>>();
        let inputs = [1, 2].map(|k: usize| ins[k].address());
        let halved = spec.items.iter().any(|i| i.kind == Kind::Reduce);
        let whole = c.is_multiple_of(if halved { 8 } else { 4 })
            && aligned(&inputs, dtype)
            && aligned(others, dtype)
            && aligned(&[saved.stats.address()], DType::F32);
        Ok(Self {
            cuda,
            like: ins[1],
            spec,
            sizes,
            dtype,
            split: Split::new(c, whole),
            given: op.given,
            mix: ins[0].address(),
            inputs,
            weights: ins[3..3 + spec.weights].iter().map(|w| w.address()).collect(),
            y: saved.y.address(),
            stats: saved.stats.address(),
            values: addresses(saved.values),
            taps: addresses(saved.taps),
        })
    }
    /// Bytes of `count` elements of an image.
    fn bytes(&self, count: usize) -> u64 {
        (count * self.dtype.size()) as u64
    }
    /// Pixels of a node in all images.
    fn pixels(&self) -> usize {
        self.sizes.n * self.sizes.out[0] * self.sizes.out[1]
    }
    /// Blocks that the pixels of the nodes make in kernels that work strip by strip.
    fn strip_blocks(&self) -> usize {
        self.split.strip_blocks(self.sizes.n, self.sizes.out)
    }
    fn state(&self, from: usize) -> State {
        let (c, nodes, size) = (self.sizes.c, self.spec.nodes, self.sizes.of(from));
        match self.inputs.get(from) {
            Some(&address) => State { address, pitch: c, size },
            None => State { address: self.y + self.bytes((from - 2) * c), pitch: nodes * c, size },
        }
    }
    /// The statistics of norm `at`.
    fn norm(&self, at: usize) -> u64 {
        self.stats + (at * 3 * self.sizes.c * size_of::<f32>()) as u64
    }
    /// A candidate as the sum of its node has it.
    fn term(&self, item: &Item) -> Term {
        let (value, stats, pitch) = match item.last().zip(item.last_norm()) {
            Some((value, norm)) => (self.values[value], self.norm(norm), self.sizes.c),
            None => (self.state(item.from).address, 0, self.state(item.from).pitch),
        };
        Term { value, stats, pitch: pitch as i32, entry: item.entry as i32 }
    }
    /// What reads state `from` through `window`.
    fn reading(&self, from: usize, window: impl Into<items::Window>) -> Operand {
        let State { address, pitch, size } = self.state(from);
        let [h, w] = size.map(|x| x as i16);
        let (pitch, c, kind) = (pitch as i32, self.sizes.c as i32, CONVOLUTION);
        Operand { x: address, window: window.into(), pitch, c, h, w, kind, ..Operand::zeroed() }
    }
    /// What the first half of a convolution of `item` reads.
    fn first(&self, item: &Item, window: Window) -> Operand {
        Operand { depth: self.weights[item.weight], ..self.reading(item.from, window) }
    }
    /// What the second half reads.
    fn second(&self, item: &Item, window: Window) -> Operand {
        let [h, w] = self.sizes.out.map(|x| x as i16);
        Operand {
            x: self.values[item.value],
            depth: self.weights[item.weight + 2],
            stats: self.norm(item.norm),
            window: window.into(),
            pitch: self.sizes.c as i32,
            c: self.sizes.c as i32,
            h,
            w,
            kind: CONVOLUTION,
        }
    }
}

/// The gradients of everything, as `cpu::cell::gradient` computes them; `start` is where the inputs of the forward pass
/// begin among `ins`.
pub fn gradient(
    cuda: &Cuda,
    op: &MixedCellGrad,
    sizes: Sizes,
    (ins, start): (&[&Tensor], usize),
    out: &mut Out,
) -> Result<()> {
    let (values, taps) = ins[3..start].split_at(op.forward.spec.values);
    let saved = Saved { y: ins[1], stats: ins[2], values, taps };
    let g = ins[0].address();
    let wanted: Vec<u64> = out.saved.iter().map(|s| s.address()).collect();
    let inputs = op.inputs.iter().filter(|wanted| **wanted).count();
    let others = [&[g, ins[1].address()], &wanted[..inputs]].concat();
    let cell = Cell::new(cuda, &op.forward, sizes, &ins[start..], &saved, &others)?;
    let mut saved = out.saved.iter();
    let inputs = op.inputs.map(|wanted| if wanted { saved.next() } else { None });
    let weights = op.weights.then(|| saved.collect());
    backward::gradient(&cell, g, backward::Gradients { mix: &*out.value, inputs, weights })
}
