//! Reverse-mode differentiation: a tape of operations in the order they ran, and pullbacks over it.
//!
//! A backward is just another operation, so a recorded gradient can be differentiated again. Operations send
//! gradients; the engine decides whether they overwrite or accumulate. Only the nodes between `wrt` and the
//! result are visited.

pub mod check;
mod grad;
mod op;
mod params;
mod segment;

pub use grad::Pullback;
pub use op::{Cost, Op, Out, Saved};
pub use params::{Binding, Builder, Entry, Init, Layout, ParamSet};
pub use segment::Segment;

use crate::device::memory::Meter;
use crate::device::profile;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};
use std::rc::Rc;
use std::sync::Arc;

/// A value on one tape. Copying it is free; using it with another tape is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var(u32);

impl Var {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// What made a value.
#[derive(Clone, Debug)]
enum Step {
    Op(Rc<dyn Op>),
    /// Several operations on a tape of their own, which the pullback runs again.
    Segment(Rc<dyn Segment>),
}

struct Node {
    step: Option<Step>, // None for leaves and constants
    ins: Box<[Var]>,
    value: Option<Tensor>, // None once released
    saved: Vec<Tensor>,
    differentiable: bool,
}

/// What a tape has run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations run, accumulations included.
    pub launches: usize,
    /// Their declared cost.
    pub cost: Cost,
}

/// The operations of one pass, in topological order by construction.
#[derive(Default)]
pub struct Tape {
    nodes: Vec<Node>,
    counters: Counters,
    dry: Option<Arc<Meter>>,
    inference: bool,
    /// When the values of this tape end, if that is known beforehand.
    lifetimes: Option<segment::Lifetimes>,
    trace: u8,
}

impl Tape {
    pub fn new() -> Self {
        Self { trace: profile::debug_level(), ..Self::default() }
    }
    /// A tape for passes that nobody will differentiate: [`Tape::release_since`] frees what is no longer needed.
    pub fn inference() -> Self {
        Self { inference: true, ..Self::new() }
    }
    /// A tape that computes shapes, costs and memory but no values.
    pub fn dry() -> Self {
        Self { dry: Some(Arc::default()), ..Self::default() }
    }
    /// A [`Tape::dry`] of a pass that nobody will differentiate.
    pub fn dry_inference() -> Self {
        Self { inference: true, ..Self::dry() }
    }
    /// The memory a dry tape would have used, leaves not counted.
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.dry.as_ref()
    }
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// An input that gradients may be asked for.
    pub fn leaf(&mut self, value: Tensor) -> Var {
        self.push(None, &[], value, Vec::new(), true)
    }
    /// An input that is held fixed.
    pub fn constant(&mut self, value: Tensor) -> Var {
        self.push(None, &[], value, Vec::new(), false)
    }
    /// The value; panics if it was released, which is a bug of the caller.
    pub fn value(&self, v: Var) -> &Tensor {
        match &self.nodes[v.at()].value {
            Some(value) => value,
            None => panic!("node {} was released", v.0),
        }
    }
    pub fn shape(&self, v: Var) -> Shape {
        *self.value(v).shape()
    }
    pub fn dtype(&self, v: Var) -> DType {
        self.value(v).dtype()
    }
    /// What operation `v` saved for its backward, in the order of [`Op::saves`].
    pub fn saved(&self, v: Var, k: usize) -> &Tensor {
        &self.nodes[v.at()].saved[k]
    }
    /// Operations, their inputs and what they gave, in order; segments, which hide theirs, are left out.
    pub fn operations(&self) -> impl Iterator<Item = (&dyn Op, &[Var], Var)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| match &node.step {
            Some(Step::Op(op)) => Some((&**op, &*node.ins, Var(at as u32))),
            _ => None,
        })
    }
    /// The value of a leaf or a constant.
    pub fn constant_value(&self, v: Var) -> Option<&Tensor> {
        let node = &self.nodes[v.at()];
        node.value.as_ref().filter(|_| node.step.is_none())
    }
    pub fn is_inference(&self) -> bool {
        self.inference
    }
    pub fn is_dry(&self) -> bool {
        self.dry.is_some()
    }
    /// A mark for [`Tape::release_since`].
    pub fn mark(&self) -> usize {
        self.nodes.len()
    }
    /// On an inference tape: frees the values made since `mark`, but for those in `keep`, and what was saved for a
    /// backward that will not come.
    pub fn release_since(&mut self, mark: usize, keep: &[Var]) {
        if !self.inference {
            return;
        }
        for (i, node) in self.nodes.iter_mut().enumerate().skip(mark) {
            node.saved.clear(); // of kept values too
            if node.step.is_some() && !keep.iter().any(|v| v.at() == i) {
                node.value = None;
            }
        }
    }

    /// Runs `op` on `ins`. The result has the element type of the first input.
    pub fn apply(&mut self, op: impl Op, ins: &[Var]) -> Result<Var> {
        self.free_ended();
        let shapes: Vec<Shape> = ins.iter().map(|&v| self.shape(v)).collect();
        let shape = op.shape(&shapes)?;
        let dtypes: Vec<DType> = ins.iter().map(|&v| self.dtype(v)).collect();
        let dtype = op.dtype(&dtypes);
        let differentiable = ins.iter().any(|v| self.nodes[v.at()].differentiable);
        let like = self.value(ins[0]);
        let mut value = self.allocate(like, shape, dtype)?;
        let mut saved = self.allocate_saved(&op, &shapes, &value, &dtypes)?;
        let mut out = Out { value: &mut value, saved: &mut saved, accumulate: false };
        self.launch(&op, &shapes, ins, &mut out)?;
        Ok(self.push(Some(Step::Op(Rc::new(op))), ins, value, saved, differentiable))
    }

    /// Arbitrary content, where `like` is.
    fn allocate(&self, like: &Tensor, shape: Shape, dtype: DType) -> Result<Tensor> {
        match &self.dry {
            Some(meter) => Ok(Tensor::phantom(shape, dtype, meter)),
            None => like.alike(shape, dtype),
        }
    }

    fn push(
        &mut self,
        step: Option<Step>,
        ins: &[Var],
        value: Tensor,
        saved: Vec<Tensor>,
        differentiable: bool,
    ) -> Var {
        self.nodes.push(Node { step, ins: ins.into(), value: Some(value), saved, differentiable });
        Var(self.nodes.len() as u32 - 1)
    }

    /// `dst += op(ins)`; `dst` is copied first if somebody else holds it. Returns what the operation saved.
    fn accumulate(&mut self, dst: Var, op: &dyn Op, ins: &[Var]) -> Result<Vec<Tensor>> {
        let shapes: Vec<Shape> = ins.iter().map(|&v| self.shape(v)).collect();
        let Some(mut value) = self.nodes[dst.at()].value.take() else {
            panic!("node {} was released", dst.0);
        };
        value.make_unique()?;
        let dtypes: Vec<DType> = ins.iter().map(|&v| self.dtype(v)).collect();
        let mut saved = self.allocate_saved(op, &shapes, &value, &dtypes)?;
        let mut out = Out { value: &mut value, saved: &mut saved, accumulate: true };
        self.launch(op, &shapes, ins, &mut out)?;
        self.nodes[dst.at()].value = Some(value);
        Ok(saved)
    }

    fn allocate_saved(
        &self,
        op: &dyn Op,
        shapes: &[Shape],
        value: &Tensor,
        ins: &[DType],
    ) -> Result<Vec<Tensor>> {
        let saved = op.saves(shapes).into_iter();
        saved.map(|s| self.allocate(value, s.shape(), s.dtype(value.dtype(), ins))).collect()
    }

    fn launch(&mut self, op: &dyn Op, shapes: &[Shape], ins: &[Var], out: &mut Out) -> Result<()> {
        let cost = op.cost(shapes);
        self.counters.launches += 1;
        self.counters.cost += cost;
        if self.dry.is_some() {
            let scratch = op.scratch(shapes);
            if scratch > 0 {
                drop(self.allocate(out.value, Shape::from([scratch]), out.value.dtype())?); // counted
            }
            return Ok(());
        }
        let inputs: Vec<&Tensor> = ins.iter().map(|&v| self.value(v)).collect();
        let start = (self.trace == 2).then(std::time::Instant::now);
        op.run(&inputs, out)?;
        if let Some(start) = start {
            out.value.device().synchronize()?;
            profile::operation(op.name(), &out.value.shape().to_string(), start.elapsed(), cost.flops, {
                cost.bytes(out.value.dtype())
            });
        }
        if self.trace >= 4 && !out.value.to_host()?.is_finite() {
            let what = format!(
                "operation {} (node {}, result {}) gave NaN or infinity",
                op.name(),
                self.nodes.len(),
                out.value.shape()
            );
            return Err(Error::NotFinite { what });
        }
        Ok(())
    }
}
