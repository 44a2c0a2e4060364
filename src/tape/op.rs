//! What an operation is: a shape rule, a run, a cost and a pullback written in operations.

use super::{Pullback, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// One differentiable operation with its parameters.
pub trait Op: std::any::Any + std::fmt::Debug {
    fn name(&self) -> &'static str;
    /// The result's shape; the only place that rejects bad shapes.
    fn shape(&self, ins: &[Shape]) -> Result<Shape>;
    /// The result's element type, from those of the inputs.
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[0]
    }
    /// What the run leaves besides its result: statistics for the backward, or the gradients of further inputs.
    fn saves(&self, _ins: &[Shape]) -> Vec<Saved> {
        Vec::new()
    }
    /// Writes the result, or adds it to what is there.
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()>;
    fn cost(&self, ins: &[Shape]) -> Cost;
    /// Elements, of the result's type, that a run needs only while it runs, as far as they grow with the batch.
    fn scratch(&self, _ins: &[Shape]) -> usize {
        0
    }
    /// Sends gradients to the inputs that want one.
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        cx.by_reference(|tape, ins| self.reference(tape, ins))
    }
    /// The same function as a composition of other operations: specification, oracle and double backward.
    fn reference(&self, _tape: &mut Tape, _ins: &[Var]) -> Result<Var> {
        Err(Error::NoDerivative { op: self.name() })
    }
}

/// A tensor that an operation saves for its backward.
#[derive(Clone, Copy, Debug)]
pub enum Saved {
    /// Of the result's element type.
    Real(Shape),
    /// Of the type that is kept where values are to be kept lean: see [`DType::kept`].
    Kept(Shape),
    /// Of the type that goes with it for sums and parameters: see [`DType::exact`].
    Exact(Shape),
    /// Of the element type of the input of this place.
    As(Shape, usize),
    /// Indices.
    Index(Shape),
}

impl Saved {
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Real(shape)
            | Self::Kept(shape)
            | Self::Exact(shape)
            | Self::As(shape, _)
            | Self::Index(shape) => shape,
        }
    }
    pub(super) fn dtype(self, real: DType, ins: &[DType]) -> DType {
        match self {
            Self::Real(_) => real,
            Self::Kept(_) => real.kept(),
            Self::Exact(_) => real.exact(),
            Self::As(_, input) => ins[input],
            Self::Index(_) => DType::U8,
        }
    }
}

/// Where a run writes to.
pub struct Out<'a> {
    pub value: &'a mut Tensor,
    pub saved: &'a mut [Tensor],
    /// Add to `value` instead of overwriting it. Its old content is arbitrary when this is false.
    pub accumulate: bool,
}

/// What an operation must do at least: arithmetic, and elements read and written once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations, a multiply-add counting as two.
    pub flops: u64,
    /// Multiply-adds of convolutions and matrix products: what papers count.
    pub macs: u64,
    /// Elements read.
    pub reads: u64,
    /// Elements written.
    pub writes: u64,
}

impl Cost {
    /// `flops` per result element, reading all of `ins` and writing `out`.
    pub fn pointwise(ins: &[Shape], out: Shape, flops: u64) -> Self {
        let reads = ins.iter().map(|s| s.count() as u64).sum();
        let writes = out.count() as u64;
        Self { flops: flops * writes, macs: 0, reads, writes }
    }
    /// `macs` multiply-adds over `ins` into `out`.
    pub fn products(ins: &[Shape], out: Shape, macs: u64) -> Self {
        Self { flops: 2 * macs, macs, ..Self::pointwise(ins, out, 0) }
    }
    /// Bytes moved if elements are of type `dtype`.
    pub fn bytes(&self, dtype: DType) -> u64 {
        (self.reads + self.writes) * dtype.size() as u64
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.macs += other.macs;
        self.reads += other.reads;
        self.writes += other.writes;
    }
}
