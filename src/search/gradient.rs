//! The architecture gradient of a supernet: its cross entropy on two batches as a bilevel problem.
//!
//! All passes normalise by the batch and leave running statistics, weights and momentum as they were.

use super::bilevel::{ALPHAS, BOTH, Gradients, Half, Inner, Order, Problem, WEIGHTS, mixed_product};
use super::pass::{Pass, Want, forward};
use super::step::Hyper;
use crate::data::loader::Batch;
use crate::error::Result;
use crate::nn::{NormMode, RunningStats, Scalar};
use crate::space::Supernet;
use crate::tape::Tape;
use crate::tensor::{DType, Tensor};

impl Order {
    /// The passes of a whole search step: which gradients each computes, and on what numbers.
    pub fn passes(self) -> &'static [(Want, DType)] {
        const F: DType = DType::F32;
        const D: DType = F.dual();
        match self {
            Order::First => &[(ALPHAS, F), (WEIGHTS, F)],
            Order::Second => &[(WEIGHTS, F), (BOTH, F), (ALPHAS, F), (ALPHAS, F), (WEIGHTS, F)],
            Order::Exact => &[(WEIGHTS, F), (BOTH, F), (ALPHAS, D), (WEIGHTS, F)],
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
    pub learning_rate: Scalar,
    pub hyper: &'a Hyper,
}

impl Point<'_> {
    /// The gradient, and the pass over `valid` that it contains.
    pub fn gradient(&mut self, order: Order, train: &Batch, valid: &Batch) -> Result<(Vec<Tensor>, Pass)> {
        let inner = Inner {
            weights: self.weights,
            momentum: self.momentum,
            sgd: self.hyper.sgd,
            learning_rate: self.learning_rate.clone(),
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

    /// Forward over reverse: the pass for the alphas' gradient, on dual numbers that move along v, has the product in
    /// its tangents. A device, which has no dual numbers, differentiates the recorded pullback.
    fn product(&mut self, weights: &Tensor, v: &Tensor) -> Result<Vec<Tensor>> {
        if weights.cuda().is_some() {
            let at = (weights, self.alphas);
            let run = forward(self.net, Tape::new(), at, self.train, NormMode::Batch, self.running, BOTH)?;
            let parts = self.net.layout().entries.iter().map(|entry| v.view(entry.offset, entry.shape));
            return mixed_product(run.tape, run.loss, &run.weights, &run.alphas, parts);
        }
        let still = |t: &Tensor| t.to_dtype(t.dtype().dual());
        let moving = Tensor::dual(weights, v)?;
        let alphas: Vec<Tensor> = self.alphas.iter().map(still).collect::<Result<_>>()?;
        let batch = Batch { images: still(&self.train.images)?, labels: self.train.labels.clone() };
        let at = (&moving, &alphas[..]);
        let run = forward(self.net, Tape::new(), at, &batch, NormMode::Batch, self.running, ALPHAS)?;
        let grads = run.tape.into_grad(run.loss, &run.alphas)?.0;
        Ok(grads.iter().map(|g| g.parts()[1].clone()).collect())
    }
}
