//! The architecture gradient of a supernet: its cross entropy on two batches as a bilevel problem.
//!
//! All passes normalise by the batch and leave running statistics, weights and momentum as they were.

use super::bilevel::{ALPHAS, BOTH, Gradients, Half, Inner, Order, Problem, WEIGHTS, mixed_product};
use super::pass::{Forward, Pass, Want, forward};
use super::step::Hyper;
use crate::data::loader::Batch;
use crate::error::Result;
use crate::nn::{NormMode, RunningStats};
use crate::space::Supernet;
use crate::tape::{ParamSet, Tape};
use crate::tensor::Tensor;

impl Order {
    /// The passes of a whole search step: which gradients each computes. The exact order's recorded pass counts as one
    /// that computes both, which is less than it does.
    pub fn passes(self) -> &'static [Want] {
        match self {
            Order::First => &[ALPHAS, WEIGHTS],
            Order::Second => &[WEIGHTS, BOTH, ALPHAS, ALPHAS, WEIGHTS],
            Order::Exact => &[WEIGHTS, BOTH, BOTH, WEIGHTS],
        }
    }
}

/// Where the gradient is taken.
pub struct Point<'a> {
    pub net: &'a dyn Supernet,
    pub weights: &'a Tensor,
    pub momentum: &'a Tensor,
    pub alphas: &'a [Tensor],
    pub running: &'a mut RunningStats,
    /// Learning rate of the weights, which is also the virtual step's (xi).
    pub learning_rate: f64,
    pub hyper: &'a Hyper,
}

impl Point<'_> {
    /// The gradient, and the pass over `valid` that it contains.
    pub fn gradient(&mut self, order: Order, train: &Batch, valid: &Batch) -> Result<(Vec<Tensor>, Pass)> {
        let inner = Inner {
            weights: self.weights,
            momentum: self.momentum,
            sgd: self.hyper.sgd,
            learning_rate: self.learning_rate,
            radius: self.hyper.radius,
        };
        let (net, alphas, running) = (self.net, self.alphas, &mut *self.running);
        inner.gradient(&mut Classification { net, alphas, running, train, valid }, order)
    }
}

/// Cross entropy of the training and of the validation batch.
struct Classification<'a> {
    net: &'a dyn Supernet,
    alphas: &'a [Tensor],
    running: &'a mut RunningStats,
    train: &'a Batch,
    valid: &'a Batch,
}

impl Problem for Classification<'_> {
    type Report = Pass;

    fn pass(&mut self, weights: &Tensor, half: Half, want: Want) -> Result<(Gradients, Pass)> {
        let batch = if half == Half::Train { self.train } else { self.valid };
        let mut pass = Pass::run(self.net, (weights, self.alphas), batch, self.running, false, want)?;
        Ok((Gradients { weights: pass.weights.take(), alphas: pass.alphas.take() }, pass))
    }

    fn product(&mut self, weights: &Tensor, v: &Tensor) -> Result<Vec<Tensor>> {
        let at = (weights, self.alphas);
        let run =
            forward(self.net, Tape::new().inline(), at, self.train, NormMode::Batch, self.running, BOTH)?;
        let Forward { tape, weights, alphas, loss, .. } = run;
        let direction = ParamSet { layout: self.net.layout().clone(), flat: v.clone() };
        let parts: Vec<Tensor> = (0..weights.len()).map(|k| direction.slice(k)).collect();
        mixed_product(tape, loss, &weights, &alphas, parts)
    }
}
