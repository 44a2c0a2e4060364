//! Flat parameters: all weights in one buffer, with named slices.
//!
//! What is updated together lies together: the virtual step, the probes w +- e v, clipping, momentum, snapshots and
//! checkpoints are one call each, and no network is ever copied.

use super::{Tape, Var};
use crate::device::cuda::{Cuda, THREADS};
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};
use rand_distr::{Distribution, Uniform};
use std::sync::Arc;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in +-1/sqrt(fan_in): what PyTorch draws for convolutions and linear layers.
    FanIn(usize),
    Constant(f64),
}

/// A named slice of the flat buffer. Shapes are PyTorch's: OIHW for convolutions, (out, in) for linear layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub offset: usize,
    pub shape: Shape,
    pub init: Init,
}

/// Names and places of all parameters of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub entries: Vec<Entry>,
    /// Number of parameters.
    pub count: usize,
}

/// Collects parameters and normalisations while a network is put together.
#[derive(Debug, Default)]
pub struct Builder {
    params: Layout,
    norms: Vec<(String, usize)>,
    prefix: String,
}

impl Builder {
    /// Adds a parameter under the current prefix; the result is its index.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> usize {
        let (name, shape) = (format!("{}{name}", self.prefix), shape.into());
        self.params.entries.push(Entry { name, offset: self.params.count, shape, init });
        self.params.count += shape.count();
        self.params.entries.len() - 1
    }
    /// Number of parameters so far: the index of the next one.
    pub fn params(&self) -> usize {
        self.params.entries.len()
    }
    /// Adds a normalisation of `channels` channels under the current prefix; the result is its index.
    pub fn norm(&mut self, name: &str, channels: usize) -> usize {
        self.norms.push((format!("{}{name}", self.prefix), channels));
        self.norms.len() - 1
    }
    /// Builds a part whose names start with `name` and a dot.
    pub fn within<T>(&mut self, name: impl std::fmt::Display, build: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.prefix.len();
        self.prefix += &format!("{name}.");
        let part = build(self);
        self.prefix.truncate(outer);
        part
    }
    /// The finished layout, and the names and channels of all normalisations.
    pub fn finish(self) -> (Arc<Layout>, Vec<(String, usize)>) {
        (Arc::new(self.params), self.norms)
    }
}

/// Parameters: a layout and its values.
#[derive(Clone, Debug)]
pub struct ParamSet {
    pub layout: Arc<Layout>,
    pub flat: Tensor,
}

/// The parameters as variables of one tape, in the order of the layout.
pub type Binding = Vec<Var>;

impl ParamSet {
    /// Freshly drawn from `seed`. The same numbers, rounded, for `F32` and `F64`.
    pub fn init(layout: &Arc<Layout>, seed: u64, dtype: DType) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Weights, 0, 0);
        let mut values = Vec::with_capacity(layout.count);
        for entry in &layout.entries {
            match entry.init {
                Init::Constant(c) => values.extend(std::iter::repeat_n(c, entry.shape.count())),
                Init::FanIn(fan_in) => {
                    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
                    let uniform = Uniform::new(-bound, bound)
                        .map_err(|e| Error::config("weights", format!("cannot draw initial values: {e}")))?;
                    values.extend((0..entry.shape.count()).map(|_| uniform.sample(&mut rng)));
                }
            }
        }
        Ok(Self { layout: layout.clone(), flat: Tensor::from_f64([layout.count], &values, dtype)? })
    }
    pub fn zeros(layout: &Arc<Layout>, dtype: DType) -> Self {
        Self { layout: layout.clone(), flat: Tensor::zeros([layout.count], dtype) }
    }
    /// Phantom values, for dry tapes.
    pub fn phantom(layout: &Arc<Layout>, dtype: DType) -> Self {
        // leaves have a meter of their own: a dry tape counts what the pass adds
        let flat = Tensor::phantom([layout.count], dtype, &Arc::default());
        Self { layout: layout.clone(), flat }
    }
    /// Parameter `index`, sharing the storage.
    pub fn slice(&self, index: usize) -> Tensor {
        let entry = &self.layout.entries[index];
        self.flat.view(entry.offset, entry.shape)
    }
    /// Puts all parameters on `tape`, to be differentiated or held fixed.
    pub fn bind(&self, tape: &mut Tape, differentiable: bool) -> Binding {
        (0..self.layout.entries.len())
            .map(|i| if differentiable { tape.leaf(self.slice(i)) } else { tape.constant(self.slice(i)) })
            .collect()
    }
    /// Gathers one tensor a parameter into a flat buffer of the same layout.
    pub fn gather(layout: &Layout, parts: &[Tensor]) -> Result<Tensor> {
        let Some(first) = parts.first() else { return Ok(Tensor::zeros([layout.count], DType::F32)) };
        let mut flat = first.alike([layout.count], first.dtype())?;
        if let Some(cuda) = first.cuda() {
            gather_on(cuda, layout, parts, &flat)?;
            return Ok(flat);
        }
        crate::on_plain!(first.dtype(), R => {
            let to = flat.make_mut::<R>();
            for (entry, part) in layout.entries.iter().zip(parts) {
                to[entry.offset..][..entry.shape.count()].copy_from_slice(part.as_slice::<R>());
            }
        });
        Ok(flat)
    }
}

/// Tensors of one launch of `gather_f32` (kernels/optim.cu).
const GATHERED: usize = 128;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Gather {
    from: [u64; GATHERED],
    start: [i32; GATHERED],
    count: [i32; GATHERED],
}

fn gather_on(cuda: &Cuda, layout: &Layout, parts: &[Tensor], flat: &Tensor) -> Result<()> {
    for (entries, parts) in layout.entries.chunks(GATHERED).zip(parts.chunks(GATHERED)) {
        let mut gather: Gather = bytemuck::Zeroable::zeroed();
        for (k, (entry, part)) in entries.iter().zip(parts).enumerate() {
            gather.from[k] = part.address();
            gather.start[k] = entry.offset as i32;
            gather.count[k] = part.count() as i32;
        }
        let most = parts.iter().map(Tensor::count).max().unwrap_or(0);
        let blocks = [most.div_ceil(THREADS).clamp(1, 64), parts.len(), 1];
        cuda.launch("gather_f32", blocks, THREADS, 0, &[&flat.address(), &gather])?;
    }
    Ok(())
}
