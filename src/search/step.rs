//! The bilevel search step: alpha by Adam on the architecture gradient, then weights by SGD on the training batch.

use super::bilevel::Order;
use super::gradient::Point;
use super::pass::{Pass, Want};
use crate::data::loader::Batch;
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::nn::{Adam, AdamState, RunningStats, Sgd, clip_factor, global_norm};
use crate::space::{Genotype, Supernet};
use crate::tape::ParamSet;
use crate::tensor::{DType, Tensor};
use rand_distr::{Distribution, StandardNormal};

/// Settings of the two optimisers and of the finite difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    pub sgd: Sgd,
    /// Largest norm of the weights' gradient; 0 for no limit.
    pub clip: f64,
    pub adam: Adam,
    /// e = radius / |v| in the finite difference.
    pub radius: f64,
    /// Standard deviation of the initial alphas.
    pub alpha_init: f64,
}

impl Default for Hyper {
    /// Those of the published search on CIFAR-10.
    fn default() -> Self {
        Self {
            sgd: Sgd { momentum: 0.9, weight_decay: 3e-4 },
            clip: 5.0,
            adam: Adam { learning_rate: 3e-4, beta1: 0.5, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-3 },
            radius: 0.01,
            alpha_init: 1e-3,
        }
    }
}

/// What a search changes: weights, running statistics, alphas and the state of both optimisers.
pub struct Searcher {
    net: Box<dyn Supernet>,
    pub hyper: Hyper,
    pub weights: ParamSet,
    pub momentum: Tensor,
    pub running: RunningStats,
    /// One (edges, candidates) a cell kind.
    pub alphas: Vec<Tensor>,
    pub adam: Vec<AdamState>,
}

/// What one search step saw.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Loss on the training batch, before the weights moved.
    pub train_loss: f64,
    /// Images of the training batch classified rightly in that pass.
    pub train_correct: usize,
    /// Loss on the validation batch in the architecture step (at w' for the unrolled orders).
    pub valid_loss: f64,
}

impl Searcher {
    /// A search at its start: weights as PyTorch draws them, alphas normal.
    pub fn new(net: Box<dyn Supernet>, hyper: Hyper, seed: u64, dtype: DType) -> Result<Self> {
        let weights = ParamSet::init(net.layout(), seed, dtype)?;
        let mut rng = stream(seed, Purpose::Alphas, 0, 0);
        let mut alphas = Vec::new();
        for kind in net.kinds() {
            let shape = [kind.edges, kind.candidates.len()];
            let draw = || -> f64 {
                hyper.alpha_init * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng)
            };
            let values: Vec<f64> = std::iter::repeat_with(draw).take(shape[0] * shape[1]).collect();
            alphas.push(Tensor::from_f64(shape, &values, dtype)?);
        }
        Ok(Self {
            momentum: Tensor::zeros([weights.layout.count], dtype),
            running: RunningStats::new(net.norms(), dtype),
            adam: alphas.iter().map(AdamState::new).collect(),
            hyper,
            weights,
            alphas,
            net,
        })
    }

    pub fn net(&self) -> &dyn Supernet {
        &*self.net
    }

    /// The architecture gradient at the present point; nothing changes.
    pub fn arch_gradient(
        &mut self,
        order: Order,
        train: &Batch,
        valid: &Batch,
        learning_rate: f64,
    ) -> Result<(Vec<Tensor>, Pass)> {
        let mut point = Point {
            net: &*self.net,
            weights: &self.weights.flat,
            momentum: &self.momentum,
            alphas: &self.alphas,
            running: &mut self.running,
            learning_rate,
            hyper: &self.hyper,
        };
        point.gradient(order, train, valid)
    }

    /// Moves the alphas; the result is the pass over `valid`.
    pub fn arch_step(
        &mut self,
        order: Order,
        train: &Batch,
        valid: &Batch,
        learning_rate: f64,
    ) -> Result<Pass> {
        let (gradient, pass) = self.arch_gradient(order, train, valid, learning_rate)?;
        for ((alpha, g), state) in self.alphas.iter_mut().zip(&gradient).zip(&mut self.adam) {
            self.hyper.adam.step(alpha, g, state);
        }
        Ok(pass)
    }

    /// Moves weights, momentum and running statistics; the result is the pass over `train`.
    pub fn weight_step(&mut self, train: &Batch, learning_rate: f64) -> Result<Pass> {
        let want = Want { weights: true, alphas: false };
        let at = (&self.weights.flat, &self.alphas[..]);
        let mut pass = Pass::run(&*self.net, at, train, &mut self.running, true, want)?;
        self.running.batches += 1;
        if let Some(g) = pass.weights.take() {
            let clip = clip_factor(global_norm(&g), self.hyper.clip);
            self.hyper.sgd.step(&mut self.weights.flat, &mut self.momentum, &g, learning_rate, clip);
        }
        Ok(pass)
    }

    /// One search step. Fails if a loss is not finite, with everything as it is by then.
    pub fn step(
        &mut self,
        order: Order,
        train: &Batch,
        valid: &Batch,
        learning_rate: f64,
    ) -> Result<StepReport> {
        let arch = self.arch_step(order, train, valid, learning_rate)?;
        finite("validation", arch.loss)?;
        let weights = self.weight_step(train, learning_rate)?;
        finite("training", weights.loss)?;
        Ok(StepReport { train_loss: weights.loss, train_correct: weights.correct, valid_loss: arch.loss })
    }

    /// Loss and accuracy in evaluation mode.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<Pass> {
        Pass::evaluate(&*self.net, (&self.weights.flat, &self.alphas), batch, &mut self.running)
    }

    /// softmax(alpha), one matrix a cell kind, one row an edge.
    pub fn edge_weights(&self) -> Vec<Vec<Vec<f64>>> {
        self.alphas.iter().map(|a| a.to_f64().chunks_exact(a.shape().last()).map(softmax).collect()).collect()
    }

    /// The architecture that the alphas stand for now.
    pub fn genotype(&self) -> Result<Genotype> {
        self.net.genotype(&self.edge_weights())
    }
}

/// Fails if the `which` loss is not a number to go on with.
pub fn finite(which: &str, loss: f64) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    let what = format!(
        "the {which} loss became {loss}; run with OCHE_DEBUG=4 to see which operation it came from, or lower the learning rate"
    );
    Err(Error::NotFinite { what })
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}
