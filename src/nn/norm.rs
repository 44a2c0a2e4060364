//! Batch normalisation layers and their running statistics.
//!
//! Probing passes (the virtual step, the Hessian probes) normalise by the batch and leave the running statistics
//! alone; only the weight step's forward moves them. The published code moves them in every pass.

use super::Context;
use crate::error::Result;
use crate::ops::batch_norm::{BatchNorm, Normalise, fixed_statistics};
use crate::ops::channel::{ChannelScale, ChannelShift};
use crate::tape::{Builder, Init, Var};
use crate::tensor::{DType, Real, Tensor};

/// Share of the newest batch in the running statistics, as PyTorch's default.
const MOMENTUM: f64 = 0.1;

/// Which statistics normalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormMode {
    /// The batch's.
    Batch,
    /// The batch's, which also move the running ones.
    BatchAndUpdate,
    /// The running ones.
    Running,
}

/// A batch normalisation, with scale and shift or without.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    index: usize,
    affine: Option<[usize; 2]>,
}

impl Norm {
    pub fn new(b: &mut Builder, name: &str, channels: usize, affine: bool) -> Self {
        let affine = affine.then(|| {
            let weight = b.param(&format!("{name}.weight"), [channels], Init::Constant(1.0));
            [weight, b.param(&format!("{name}.bias"), [channels], Init::Constant(0.0))]
        });
        Self { index: b.norm(name, channels), affine }
    }
    /// The running mean, r and variance, (3, C), for an operation that normalises as it reads.
    pub fn running(&self, cx: &Context) -> Tensor {
        let [mean, variance] = cx.running.get(self.index);
        fixed_statistics(&mean, &variance)
    }
    /// Moves the running statistics, if the mode says so, towards those that an operation standing for this layer
    /// found, (3, C), in a batch of `count` values a channel.
    pub fn observe(&self, cx: &mut Context, stats: &Tensor, count: usize) {
        if cx.mode == NormMode::BatchAndUpdate && !cx.tape.is_dry() {
            cx.running.update(self.index, stats, count);
        }
    }
    /// Whether the layer only normalises.
    pub fn is_plain(&self) -> bool {
        self.affine.is_none()
    }
    pub fn forward(&self, cx: &mut Context, x: Var) -> Result<Var> {
        let mut y = match cx.mode {
            NormMode::Running => {
                let [mean, variance] = cx.running.get(self.index);
                let (mean, variance) = (cx.tape.constant(mean), cx.tape.constant(variance));
                cx.tape.apply(Normalise, &[x, mean, variance])?
            }
            NormMode::Batch | NormMode::BatchAndUpdate => cx.tape.apply(BatchNorm, &[x])?,
        };
        if cx.mode == NormMode::BatchAndUpdate && !cx.tape.is_dry() {
            let shape = cx.tape.shape(x);
            cx.running.update(self.index, cx.tape.saved(y, 0), shape.count() / shape.last());
        }
        if let Some([weight, bias]) = self.affine {
            y = cx.tape.apply(ChannelScale, &[y, cx.weights[weight]])?;
            y = cx.tape.apply(ChannelShift, &[y, cx.weights[bias]])?;
        }
        Ok(y)
    }
}

/// Running mean and variance of every normalisation of a network, in two flat buffers.
#[derive(Clone, Debug)]
pub struct RunningStats {
    /// Name, first element and channels of each.
    entries: Vec<(String, usize, usize)>,
    /// Means, then unbiased variances.
    flat: [Tensor; 2],
    /// Updates so far; PyTorch's `num_batches_tracked`.
    pub batches: u64,
}

impl RunningStats {
    /// Mean 0 and variance 1 for normalisations of these names and channels.
    pub fn new(norms: &[(String, usize)], dtype: DType) -> Self {
        let mut count = 0;
        let mut entries = Vec::with_capacity(norms.len());
        for (name, channels) in norms {
            entries.push((name.clone(), count, *channels));
            count += channels;
        }
        let mut ones = Tensor::zeros([count], dtype);
        crate::on_plain!(dtype, R => ones.make_mut::<R>().fill(R::ONE));
        Self { entries, flat: [Tensor::zeros([count], dtype), ones], batches: 0 }
    }
    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, ..)| name.as_str())
    }
    /// Mean and variance of normalisation `index`, sharing the storage.
    pub fn get(&self, index: usize) -> [Tensor; 2] {
        let (_, start, channels) = self.entries[index];
        self.flat.each_ref().map(|t| t.view(start, [channels]))
    }
    /// Sets mean and variance of normalisation `index`.
    pub fn set(&mut self, index: usize, values: [&Tensor; 2]) {
        let (_, start, channels) = self.entries[index];
        for (flat, value) in self.flat.iter_mut().zip(values) {
            crate::on_plain!(flat.dtype(), R => {
                flat.make_mut::<R>()[start..start + channels].copy_from_slice(value.as_slice::<R>());
            });
        }
    }
    /// Moves towards the saved statistics of a batch of `count` values a channel.
    fn update(&mut self, index: usize, saved: &Tensor, count: usize) {
        let (_, start, c) = self.entries[index];
        let unbiased = count as f64 / (count - 1) as f64;
        let [means, variances] = &mut self.flat;
        crate::on_plain!(saved.dtype(), R => {
            let saved = saved.as_slice::<R>();
            let toward = |old: &mut R, new: f64| *old = R::of((1.0 - MOMENTUM) * old.wide() + MOMENTUM * new);
            for i in 0..c {
                toward(&mut means.make_mut::<R>()[start + i], saved[i].wide());
                toward(&mut variances.make_mut::<R>()[start + i], saved[2 * c + i].wide() * unbiased);
            }
        });
    }
}
