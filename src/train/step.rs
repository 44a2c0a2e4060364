//! The training step: loss and gradient on a batch, clipped, then SGD with momentum.

use super::pass::{Hits, Objective, Pass};
use crate::data::loader::Batch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::replay::Replay;
use crate::nn::{RunningStats, Scalar, Sgd, global_norm};
use crate::space::network::Network;
use crate::tape::{Counters, ParamSet};
use crate::tensor::{DType, Shape, Tensor};

/// Settings of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    pub sgd: Sgd,
    /// Largest norm of the gradient; 0 for no limit.
    pub clip: f64,
    /// Part of each target that is spread over all classes.
    pub smoothing: f64,
    /// Weight of the auxiliary classifier's loss.
    pub auxiliary: f64,
}

impl Hyper {
    pub(super) fn objective(&self) -> Objective {
        Objective { smoothing: self.smoothing, auxiliary: self.auxiliary }
    }
    /// What a step of `net` on `batch` images of `size` (H, W, C) would run, and the peak of its tensors in bytes; weights
    /// and momentum, which stay, are not among them.
    pub fn plan(&self, net: &Network, batch: usize, size: [usize; 3]) -> Result<(Counters, usize)> {
        Pass::plan(net, batch, size, self.objective())
    }
}

/// What training changes: weights, running statistics and momentum.
pub struct Trainer {
    pub(super) net: Network,
    pub hyper: Hyper,
    pub weights: ParamSet,
    pub momentum: Tensor,
    pub running: RunningStats,
    /// Whether a device captures its steps and runs them again as graphs.
    pub graphs: bool,
    pub(super) replay: Replay<Kind, Pass>,
}

/// Steps of one kind launch the same kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub images: Shape,
    pub drops: bool,
}

impl Trainer {
    /// Training at its start: weights as PyTorch draws them.
    pub fn new(net: Network, hyper: Hyper, seed: u64, dtype: DType) -> Result<Self> {
        let weights = ParamSet::init(net.layout(), seed, dtype)?;
        Ok(Self {
            momentum: Tensor::zeros([weights.layout.count], dtype),
            running: RunningStats::new(net.norms(), dtype),
            weights,
            hyper,
            net,
            graphs: true,
            replay: Replay::new(),
        })
    }

    /// The same training, gone on with on `device`.
    pub fn on(mut self, device: &Device) -> Result<Self> {
        self.replay.forget();
        for tensor in [&mut self.weights.flat, &mut self.momentum] {
            *tensor = tensor.to_device(device)?;
        }
        self.running = self.running.to_device(device)?;
        Ok(self)
    }

    /// Where the training runs.
    pub fn device(&self) -> Device {
        self.weights.flat.device()
    }

    pub fn net(&self) -> &Network {
        &self.net
    }

    /// What a step on `batch` images of `size` (H, W, C) would run, and the peak of its tensors in bytes.
    pub fn plan(&self, batch: usize, size: [usize; 3]) -> Result<(Counters, usize)> {
        self.hyper.plan(&self.net, batch, size)
    }

    /// Moves weights, momentum and running statistics, without a look at what came out.
    pub(super) fn moves(&mut self, batch: &Batch, drop: Option<&Tensor>, rate: &Scalar) -> Result<Pass> {
        let objective = self.hyper.objective();
        let mut pass = Pass::train(&self.net, &self.weights, (batch, drop), &mut self.running, objective)?;
        self.running.batches += 1;
        if let Some(g) = pass.weights.take() {
            let (norm, limit) = (global_norm(&g)?, self.hyper.clip);
            let (w, m) = (&mut self.weights.flat, &mut self.momentum);
            self.hyper.sgd.step(w, m, &g, rate, &norm, limit)?;
        }
        Ok(pass)
    }

    /// One training step: loss and hits on the batch before the weights moved. `drop` holds the factors of drop path,
    /// (paths, N), in any memory. Fails if the loss is not finite, with everything as it is by then.
    pub fn step(&mut self, batch: &Batch, drop: Option<&Tensor>, rate: f64) -> Result<(f64, Hits)> {
        let kind = Kind { images: *batch.images.shape(), drops: drop.is_some() };
        let pass = if self.replay.suits(kind, &self.device()) && self.graphs {
            self.captured_step(kind, batch, drop, rate)?
        } else {
            let dtype = self.weights.flat.dtype();
            let there = |factors: &Tensor| factors.to_dtype(dtype)?.to_device(&self.device());
            let drop = drop.map(there).transpose()?;
            self.moves(batch, drop.as_ref(), &rate.into())?
        };
        let loss = pass.loss()?;
        if !loss.is_finite() {
            let what = format!(
                "the training loss became {loss}; run with OCHE_DEBUG=4 to see which operation it came from, or lower the learning rate"
            );
            return Err(Error::NotFinite { what });
        }
        Ok((loss, pass.hits()?))
    }

    /// Loss and hits in evaluation mode.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<(f64, Hits)> {
        let pass = Pass::evaluate(&self.net, &self.weights, batch, &mut self.running)?;
        Ok((pass.loss()?, pass.hits()?))
    }
}
