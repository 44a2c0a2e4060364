//! Segments: parts of a pass that keep only their result and run again in the pullback (arXiv 1604.06174).
//!
//! Memory for time. The gradients are the same bits as without: the same operations run in the same order, and what
//! others contributed to the inputs' gradients so far moves into the second run, which adds to it.

use super::grad::Keep;
use super::{Counters, Step, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A function of tensors that can run again.
pub trait Segment: std::fmt::Debug + 'static {
    /// The result, from the inputs that [`Tape::segment`] was given. Must run the same operations as the first run did.
    fn run(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var>;
}

/// When the values of a tape end: found by a dry run, since a tape cannot see what is still to come.
#[derive(Debug)]
pub(super) struct Lifetimes {
    /// Values that nothing after the node of this place uses.
    ends: Vec<Vec<Var>>,
    /// Nodes whose ends are freed.
    done: usize,
}

impl Tape {
    /// Runs `first`, and keeps nothing but its result: whoever differentiates runs `segment` instead, again. `first` is
    /// also run dry, before, and uses no variables but those it is given, which stand for `ins`.
    pub fn segment(
        &mut self,
        segment: impl Segment,
        ins: &[Var],
        mut first: impl FnMut(&mut Self, &[Var]) -> Result<Var>,
    ) -> Result<Var> {
        let mut run = self.aside();
        run.lifetimes = Some(self.lifetimes(ins, &mut first)?);
        let inputs = self.enter(&mut run, ins, None);
        let y = first(&mut run, &inputs)?;
        if let Some(k) = inputs.iter().position(|input| *input == y) {
            return Ok(ins[k]);
        }
        let value = run.take(y);
        self.counters += run.counters;
        let differentiable = ins.iter().any(|v| self.nodes[v.at()].differentiable);
        Ok(self.push(Some(Step::Segment(Rc::new(segment))), ins, value, Vec::new(), differentiable))
    }

    /// An empty tape of the same kind.
    fn aside(&self) -> Self {
        Self { dry: self.dry.clone(), trace: self.trace, ..Self::default() }
    }

    /// Puts the values of `ins` on `other`, one variable a distinct value; leaves where gradients are `wanted`.
    fn enter(&self, other: &mut Self, ins: &[Var], wanted: Option<&[bool]>) -> Vec<Var> {
        let mut entered = BTreeMap::new();
        let mut enter = |v: &Var| {
            *entered.entry(v.at()).or_insert_with(|| {
                let value = self.value(*v).clone();
                let leaf = wanted.is_none_or(|wanted| wanted[v.at()]);
                if leaf { other.leaf(value) } else { other.constant(value) }
            })
        };
        ins.iter().map(&mut enter).collect()
    }

    fn lifetimes(
        &self,
        ins: &[Var],
        first: &mut impl FnMut(&mut Self, &[Var]) -> Result<Var>,
    ) -> Result<Lifetimes> {
        let mut dry = Self::dry();
        let mut entered = BTreeMap::new();
        let meter = dry.meter().cloned().unwrap_or_default();
        let mut enter = |v: &Var| {
            let value = self.value(*v);
            let phantom = || Tensor::phantom(*value.shape(), value.dtype(), &meter);
            *entered.entry(v.at()).or_insert_with(|| dry.leaf(phantom()))
        };
        let inputs: Vec<Var> = ins.iter().map(&mut enter).collect();
        let y = first(&mut dry, &inputs)?;
        let mut last: Vec<usize> = (0..dry.nodes.len()).collect();
        for (i, node) in dry.nodes.iter().enumerate() {
            node.ins.iter().for_each(|v| last[v.at()] = i);
        }
        let mut ends = vec![Vec::new(); last.len()];
        for (i, &last) in last.iter().enumerate().filter(|(i, _)| *i != y.at()) {
            ends[last].push(Var(i as u32));
        }
        Ok(Lifetimes { ends, done: 0 })
    }

    /// Before a node is added: frees the values that ended with those that are there, and what those saved.
    pub(super) fn free_ended(&mut self) {
        let Some(lifetimes) = &mut self.lifetimes else { return };
        for i in lifetimes.done..self.nodes.len() {
            self.nodes[i].saved.clear();
            for v in lifetimes.ends.get(i).into_iter().flatten() {
                self.nodes[v.at()].value = None;
            }
        }
        lifetimes.done = self.nodes.len();
    }

    /// Moves a value out of its node.
    pub(super) fn take(&mut self, v: Var) -> Tensor {
        match self.nodes[v.at()].value.take() {
            Some(value) => value,
            None => panic!("node {} was released", v.0),
        }
    }

    /// Runs `segment`, whose result is `node` and has the gradient `g`, again and adds to the gradients of its inputs.
    pub(super) fn pull_again(
        &mut self,
        segment: &dyn Segment,
        node: usize,
        g: Tensor,
        grads: &mut [Option<Var>],
        on_path: &[bool],
    ) -> Result<()> {
        let mut run = self.aside();
        let ins = self.nodes[node].ins.clone();
        let inputs = self.enter(&mut run, &ins, Some(on_path));
        let y = segment.run(&mut run, &inputs)?;
        let mut starts = vec![None; run.nodes.len()];
        starts[y.at()] = Some(run.constant(g));
        let wanted: BTreeMap<usize, Var> = (ins.iter().zip(&inputs))
            .filter(|(v, _)| on_path[v.at()])
            .map(|(v, &input)| (v.at(), input))
            .collect();
        for (&at, input) in &wanted {
            if let Some(sum) = grads[at] {
                starts[input.at()] = Some(run.constant(self.take(sum)));
            }
        }
        let wrt: Vec<Var> = wanted.values().copied().collect();
        let sums = run.walk(starts, None, &wrt, Keep::Nothing)?;
        for (&at, sum) in wanted.keys().zip(sums) {
            let Some(sum) = sum.map(|sum| run.take(sum)) else { continue };
            match grads[at] {
                Some(before) => self.nodes[before.at()].value = Some(sum),
                None => grads[at] = Some(self.constant(sum)),
            }
        }
        self.counters += run.counters;
        Ok(())
    }
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.launches += other.launches;
        self.cost += other.cost;
    }
}
