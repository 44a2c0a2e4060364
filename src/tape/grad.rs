//! The pullback: walks a tape backwards, collects what operations send, frees what is no longer needed.

use super::{Counters, Op, Step, Tape, Var};
use crate::error::{Error, Result};
use crate::ops::pointwise::{Add, Copy};
use crate::tensor::Tensor;

/// What becomes of the tape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// Gradients become nodes and can be differentiated again.
    Graph,
    /// Gradients are values; the forward part of the tape stays.
    Forward,
    /// Gradients are values; forward values are freed as the pullback passes them.
    Nothing,
}

impl Tape {
    /// d(y)/d(wrt) for a scalar `y`, as values. The tape can be used again.
    pub fn grad(&mut self, y: Var, wrt: &[Var]) -> Result<Vec<Tensor>> {
        self.scalar(y)?;
        self.values(y, None, wrt, Keep::Forward)
    }
    /// As [`Tape::grad`], with the tape spent: forward values are freed as the pullback passes them. Also says what
    /// the tape has run in all.
    pub fn into_grad(mut self, y: Var, wrt: &[Var]) -> Result<(Vec<Tensor>, Counters)> {
        self.scalar(y)?;
        let grads = self.values(y, None, wrt, Keep::Nothing)?;
        Ok((grads, self.counters))
    }
    /// d(y)/d(wrt) as nodes of this tape, to be differentiated again.
    pub fn grad_recorded(&mut self, y: Var, wrt: &[Var]) -> Result<Vec<Var>> {
        self.scalar(y)?;
        let grads = self.pull(y, None, wrt, Keep::Graph)?;
        grads.into_iter().zip(wrt).map(|(g, &w)| g.map_or_else(|| self.zeros_like(w), Ok)).collect()
    }

    fn scalar(&self, y: Var) -> Result<()> {
        match self.shape(y) {
            s if s.count() == 1 => Ok(()),
            s => Err(Error::shape("grad", format!("the result must be one number, not {s}"))),
        }
    }

    fn zeros_like(&mut self, v: Var) -> Result<Var> {
        let value = self.value(v);
        let zeros = match &self.dry {
            Some(meter) => Tensor::phantom(*value.shape(), value.dtype(), meter),
            None => value.zeros_alike(*value.shape(), value.dtype())?,
        };
        Ok(self.constant(zeros))
    }

    fn values(&mut self, y: Var, seed: Option<Var>, wrt: &[Var], keep: Keep) -> Result<Vec<Tensor>> {
        let mark = self.nodes.len();
        let grads = self.pull(y, seed, wrt, keep)?;
        let mut values = Vec::with_capacity(wrt.len());
        for (g, &w) in grads.into_iter().zip(wrt) {
            let g = g.map_or_else(|| self.zeros_like(w), Ok)?;
            values.push(self.value(g).clone());
        }
        self.nodes.truncate(mark);
        Ok(values)
    }

    fn pull(&mut self, y: Var, seed: Option<Var>, wrt: &[Var], keep: Keep) -> Result<Vec<Option<Var>>> {
        let mut grads: Vec<Option<Var>> = vec![None; y.at() + 1];
        grads[y.at()] = Some(match seed {
            Some(seed) => seed,
            None => self.one_like(y)?,
        });
        self.walk(grads, seed, wrt, keep)
    }

    /// The pullback over the first nodes, one an element of `grads`, from the gradients that are there at the start;
    /// all but `seed` are this walk's own.
    pub(super) fn walk(
        &mut self,
        mut grads: Vec<Option<Var>>,
        seed: Option<Var>,
        wrt: &[Var],
        keep: Keep,
    ) -> Result<Vec<Option<Var>>> {
        let end = grads.len();
        if self.trace == 3 {
            self.list(end);
        }
        let on_path = self.paths(end, wrt);
        let mut is_wrt = vec![false; end];
        wrt.iter().filter(|w| w.at() < end).for_each(|w| is_wrt[w.at()] = true);
        for i in (0..end).rev() {
            let mark = self.nodes.len();
            let (own, spent) = (!is_wrt[i] && grads[i] != seed, !is_wrt[i] && keep == Keep::Nothing);
            if let (true, Some(g), Some(step)) = (on_path[i], grads[i], self.nodes[i].step.clone()) {
                let (grads, on_path) = (&mut grads, &on_path[..]);
                match step {
                    Step::Segment(segment) if keep != Keep::Graph => {
                        let g = if own { self.take(g) } else { self.value(g).clone() };
                        if spent {
                            self.nodes[i].value = None; // nobody looks at it any more, and it is made again
                        }
                        self.pull_again(&*segment, i, g, grads, on_path)?;
                    }
                    step => step.vjp(&mut Pullback { tape: self, node: i, g, grads, on_path, keep })?,
                }
            }
            if keep == Keep::Graph {
                continue;
            }
            self.free_temporaries(i, mark, &grads);
            if let Some(g) = grads[i].filter(|_| own) {
                self.nodes[g.at()].value = None;
            }
            if spent && self.nodes[i].step.is_some() {
                self.nodes[i].value = None;
                self.nodes[i].saved.clear();
            }
        }
        Ok(wrt.iter().map(|w| grads.get(w.at()).copied().flatten()).collect())
    }

    /// Nodes below `end` that depend on `wrt`.
    fn paths(&self, end: usize, wrt: &[Var]) -> Vec<bool> {
        let mut on_path = vec![false; end];
        wrt.iter().filter(|w| w.at() < end).for_each(|w| on_path[w.at()] = true);
        for i in 0..end {
            on_path[i] = on_path[i] || self.nodes[i].ins.iter().any(|v| on_path[v.at()]);
        }
        on_path
    }

    fn one_like(&mut self, y: Var) -> Result<Var> {
        let (shape, dtype) = (self.shape(y), self.dtype(y));
        let one = match &self.dry {
            Some(meter) => Tensor::phantom(shape, dtype, meter),
            None => self.value(y).full_alike(shape, dtype, 1.0)?,
        };
        Ok(self.constant(one))
    }

    /// Frees what the vjp of `node` made since `mark`, but for the gradients of its inputs.
    fn free_temporaries(&mut self, node: usize, mark: usize, grads: &[Option<Var>]) {
        let mut held = vec![false; self.nodes.len() - mark];
        for g in self.nodes[node].ins.iter().filter_map(|v| grads[v.at()]).filter(|g| g.at() >= mark) {
            held[g.at() - mark] = true;
        }
        for (node, held) in self.nodes[mark..].iter_mut().zip(held) {
            if !held {
                node.value = None;
                node.saved.clear();
            }
        }
    }

    fn list(&self, end: usize) {
        eprintln!("tape of {end} nodes");
        for (i, node) in self.nodes[..end].iter().enumerate() {
            let shape = node.value.as_ref().map_or("freed".to_owned(), |v| v.shape().to_string());
            let ins: Vec<u32> = node.ins.iter().map(|v| v.0).collect();
            match &node.step {
                Some(step) => eprintln!("{i:>6} {shape:<20} {step:?} {ins:?}"),
                None if node.differentiable => eprintln!("{i:>6} {shape:<20} leaf"),
                None => eprintln!("{i:>6} {shape:<20} constant"),
            }
        }
    }
}

impl Step {
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        match self {
            Self::Op(op) => op.vjp(cx),
            Self::Segment(segment) => cx.by_reference(|tape, ins| segment.run(tape, ins)),
        }
    }
}

/// What [`Op::vjp`] works with: the inputs, the result's gradient, and a way to send.
pub struct Pullback<'a> {
    tape: &'a mut Tape,
    node: usize,
    g: Var,
    grads: &'a mut Vec<Option<Var>>,
    on_path: &'a [bool],
    keep: Keep,
}

impl Pullback<'_> {
    /// Input `k`.
    pub fn x(&self, k: usize) -> Var {
        self.tape.nodes[self.node].ins[k]
    }
    /// All inputs.
    pub fn xs(&self) -> Vec<Var> {
        self.tape.nodes[self.node].ins.to_vec()
    }
    /// The result.
    pub fn y(&self) -> Var {
        Var(self.node as u32)
    }
    /// The gradient of the result.
    pub fn g(&self) -> Var {
        self.g
    }
    /// What the run saved, as a constant.
    pub fn saved(&mut self, k: usize) -> Var {
        let value = self.tape.nodes[self.node].saved[k].clone();
        self.tape.constant(value)
    }
    pub fn tape(&mut self) -> &mut Tape {
        self.tape
    }
    /// Whether a gradient for input `k` is asked for.
    pub fn wants(&self, k: usize) -> bool {
        self.on_path[self.x(k).at()]
    }
    /// gradient(input k) += op(ins)
    pub fn send(&mut self, k: usize, op: impl Op, ins: &[Var]) -> Result<()> {
        if self.wants(k) {
            self.send_saving(k, op, ins)?;
        }
        Ok(())
    }
    /// gradient(input k) += op(ins), whether it is wanted or not; and what `op` saved, as constants. So one run gives
    /// the gradients of several inputs: the others are passed on from what it saved.
    pub fn send_saving(&mut self, k: usize, op: impl Op, ins: &[Var]) -> Result<Vec<Var>> {
        let dst = self.x(k).at();
        let saved = match self.grads[dst] {
            Some(sum) if self.keep != Keep::Graph => self.tape.accumulate(sum, &op, ins)?,
            before => {
                let term = self.tape.apply(op, ins)?;
                let saved = self.tape.nodes[term.at()].saved.clone();
                self.grads[dst] = Some(match before {
                    None => term,
                    Some(sum) => self.tape.apply(Add, &[sum, term])?,
                });
                saved
            }
        };
        Ok(saved.into_iter().map(|s| self.tape.constant(s)).collect())
    }
    /// Whether the gradients are to be differentiated again.
    pub fn records(&self) -> bool {
        self.keep == Keep::Graph
    }
    /// gradient(input k) += v, at no cost when it is the first contribution.
    pub fn pass(&mut self, k: usize, v: Var) -> Result<()> {
        let dst = self.x(k).at();
        if self.grads[dst].is_some() || !self.wants(k) {
            return self.send(k, Copy, &[v]);
        }
        self.grads[dst] = Some(match self.keep {
            Keep::Graph => v,
            _ => {
                // an alias: accumulation copies it if it must
                let value = self.tape.value(v).clone();
                self.tape.constant(value)
            }
        });
        Ok(())
    }
    /// Differentiates the reference composition instead.
    pub fn by_reference(&mut self, f: impl Fn(&mut Tape, &[Var]) -> Result<Var>) -> Result<()> {
        let wanted: Vec<usize> = (0..self.xs().len()).filter(|&k| self.wants(k)).collect();
        // own copies of the inputs, so that only the reference's paths are differentiated
        let mut copies = self.xs();
        for &k in &wanted {
            copies[k] = self.tape.apply(Copy, &[copies[k]])?;
        }
        let y = f(self.tape, &copies)?;
        let wrt: Vec<Var> = wanted.iter().map(|&k| copies[k]).collect();
        let keep = if self.keep == Keep::Graph { Keep::Graph } else { Keep::Forward };
        let grads = self.tape.pull(y, Some(self.g), &wrt, keep)?;
        for (k, g) in wanted.into_iter().zip(grads) {
            if let Some(g) = g {
                self.pass(k, g)?;
            }
        }
        Ok(())
    }
}
