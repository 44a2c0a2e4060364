//! The bilevel search step: alpha by Adam on the architecture gradient, then weights by SGD on the training batch.

use super::bilevel::Order;
use super::gradient::Point;
use super::pass::{Pass, Want};
use crate::data::loader::Batch;
use crate::device::Device;
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::nn::replay::Replay;
use crate::nn::{Adam, AdamState, RunningStats, Scalar, Sgd, global_norm};
use crate::space::{CellKind, Genotype, Supernet};
use crate::tape::ParamSet;
use crate::tensor::{DType, Shape, Tensor};
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

/// The alpha of an element that stands for no candidate. Its weight and its gradient are 0 in any precision, and no
/// number of Adam's steps gets it near the others.
const NOTHING: f64 = -1e9;

/// What a search changes: weights, running statistics, alphas and the state of both optimisers.
pub struct Searcher {
    net: Box<dyn Supernet>,
    pub hyper: Hyper,
    pub weights: ParamSet,
    pub momentum: Tensor,
    pub running: RunningStats,
    /// One (edges, candidates) a cell kind, of the shape [`CellKind::shape`](crate::space::CellKind::shape).
    pub alphas: Vec<Tensor>,
    pub adam: Vec<AdamState>,
    /// Whether a device captures its steps and runs them again as graphs.
    pub graphs: bool,
    pub(super) replay: Replay<Kind, [Pass; 2]>,
}

/// Steps of one kind launch the same kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub order: Order,
    pub shapes: [Shape; 2],
}

/// The numbers that change from step to step.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub learning_rate: Scalar,
    /// Adam's.
    pub corrections: [Scalar; 2],
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

impl StepReport {
    pub(super) fn of(valid: &Pass, train: &Pass) -> Result<Self> {
        let report =
            Self { train_loss: train.loss()?, train_correct: train.correct()?, valid_loss: valid.loss()? };
        finite("validation", report.valid_loss)?;
        finite("training", report.train_loss)?;
        Ok(report)
    }
}

impl Searcher {
    /// A search at its start: weights as PyTorch draws them, alphas normal.
    pub fn new(net: Box<dyn Supernet>, hyper: Hyper, seed: u64, dtype: DType) -> Result<Self> {
        let weights = ParamSet::init(net.layout(), seed, dtype)?;
        let mut rng = stream(seed, Purpose::Alphas, 0, 0);
        let mut alphas = Vec::new();
        for kind in net.kinds() {
            let shape = kind.shape();
            let draw = || -> f64 {
                hyper.alpha_init * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng)
            };
            let mut values: Vec<f64> = std::iter::repeat_with(draw).take(shape[0] * shape[1]).collect();
            for (row, names) in values.chunks_exact_mut(shape[1].max(1)).zip(&kind.candidates) {
                row[names.len()..].fill(NOTHING);
            }
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
            graphs: true,
            replay: Replay::new(),
        })
    }

    /// The same search, gone on with on `device`.
    pub fn on(mut self, device: &Device) -> Result<Self> {
        self.replay.forget();
        for tensor in self.tensors() {
            *tensor = tensor.to_device(device)?;
        }
        self.running = self.running.to_device(device)?;
        Ok(self)
    }

    /// All that a step moves, but the running statistics.
    pub(super) fn tensors(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let adam = self.adam.iter_mut().flat_map(|state| [&mut state.first, &mut state.second]);
        [&mut self.weights.flat, &mut self.momentum].into_iter().chain(&mut self.alphas).chain(adam)
    }

    /// Where the search runs.
    pub fn device(&self) -> Device {
        self.weights.flat.device()
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
        learning_rate: impl Into<Scalar>,
    ) -> Result<(Vec<Tensor>, Pass)> {
        let mut point = Point {
            net: &*self.net,
            weights: &self.weights.flat,
            momentum: &self.momentum,
            alphas: &self.alphas,
            running: &mut self.running,
            learning_rate: learning_rate.into(),
            hyper: &self.hyper,
        };
        point.gradient(order, train, valid)
    }

    /// Moves the alphas; the result is the pass over `valid`.
    fn arch_step(&mut self, order: Order, train: &Batch, valid: &Batch, numbers: &Numbers) -> Result<Pass> {
        let (gradient, pass) = self.arch_gradient(order, train, valid, numbers.learning_rate.clone())?;
        for ((alpha, g), state) in self.alphas.iter_mut().zip(&gradient).zip(&mut self.adam) {
            self.hyper.adam.step(alpha, g, state, &numbers.corrections)?;
        }
        Ok(pass)
    }

    /// Moves weights, momentum and running statistics; the result is the pass over `train`.
    pub fn weight_step(&mut self, train: &Batch, learning_rate: &Scalar) -> Result<Pass> {
        let want = Want { weights: true, alphas: false };
        let at = (&self.weights.flat, &self.alphas[..]);
        let mut pass = Pass::run(&*self.net, at, train, &mut self.running, true, want)?;
        self.running.batches += 1;
        if let Some(g) = pass.weights.take() {
            let (norm, limit) = (global_norm(&g)?, self.hyper.clip);
            let (w, m) = (&mut self.weights.flat, &mut self.momentum);
            self.hyper.sgd.step(w, m, &g, learning_rate, &norm, limit)?;
        }
        Ok(pass)
    }

    /// Both, without a look at what came out: the passes over `valid` and `train`.
    pub(super) fn moves(
        &mut self,
        order: Order,
        train: &Batch,
        valid: &Batch,
        numbers: &Numbers,
    ) -> Result<[Pass; 2]> {
        Ok([self.arch_step(order, train, valid, numbers)?, self.weight_step(train, &numbers.learning_rate)?])
    }

    /// Adam's corrections for the next step.
    pub(super) fn corrections(&self) -> [f64; 2] {
        self.hyper.adam.corrections(self.adam.first().map_or(0, |state| state.steps) + 1)
    }

    /// One search step. Fails if a loss is not finite, with everything as it is by then.
    pub fn step(
        &mut self,
        order: Order,
        train: &Batch,
        valid: &Batch,
        learning_rate: f64,
    ) -> Result<StepReport> {
        let kind = Kind { order, shapes: [*train.images.shape(), *valid.images.shape()] };
        if self.replay.suits(kind, &self.device()) && self.graphs {
            let [arch, weights] = self.captured_step(kind, train, valid, learning_rate)?;
            return StepReport::of(&arch, &weights);
        }
        let numbers = Numbers {
            learning_rate: learning_rate.into(),
            corrections: self.corrections().map(Scalar::from),
        };
        let arch = self.arch_step(order, train, valid, &numbers)?;
        finite("validation", arch.loss()?)?;
        let weights = self.weight_step(train, &numbers.learning_rate)?;
        StepReport::of(&arch, &weights)
    }

    /// Loss and accuracy in evaluation mode.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<Pass> {
        Pass::evaluate(&*self.net, (&self.weights.flat, &self.alphas), batch, &mut self.running)
    }

    /// softmax(alpha), one matrix a cell kind, one row an edge, which has its candidates and no more.
    pub fn edge_weights(&self) -> Result<Vec<Vec<Vec<f64>>>> {
        let rows = |(a, kind): (&Tensor, &CellKind)| {
            let values = a.to_host()?.to_f64();
            let rows = values.chunks_exact(a.shape().last()).zip(&kind.candidates);
            Ok(rows.map(|(row, names)| softmax(&row[..names.len()])).collect::<Vec<_>>())
        };
        self.alphas.iter().zip(self.net.kinds()).map(rows).collect()
    }

    /// The architecture that the alphas stand for now.
    pub fn genotype(&self) -> Result<Genotype> {
        self.net.genotype(&self.edge_weights()?)
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
