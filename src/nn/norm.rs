//! Batch normalisation layers and their running statistics.
//!
//! Probing passes (the virtual step, the Hessian probes) normalise by the batch and leave the running statistics
//! alone; only the weight step's forward moves them. The published code moves them in every pass.

use super::Context;
use super::cuda;
use crate::device::Device;
use crate::error::Result;
use crate::ops::batch_norm::{BatchNorm, EPSILON, Normalise, fixed_statistics};
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
    /// Rows mean, r and variance of the running statistics of layers that follow each other, all of one size,
    /// (norms, 3, C), for an operation that normalises as it reads.
    pub fn running(norms: &[Self], cx: &Context) -> Result<Tensor> {
        cx.running.rows(norms[0].index, norms.len())
    }
    /// Moves the running statistics of layers that follow each other, if the mode says so, towards those that an
    /// operation standing for these layers found, (norms, 3, C), in a batch of `count` values a channel.
    pub fn observe(norms: &[Self], cx: &mut Context, stats: &Tensor, count: usize) -> Result<()> {
        match cx.mode == NormMode::BatchAndUpdate && !cx.tape.is_dry() && !norms.is_empty() {
            true => cx.running.update(norms[0].index, norms.len(), stats, count),
            false => Ok(()),
        }
    }
    /// Whether each layer is the next one's predecessor in the network.
    pub fn follow_each_other(norms: &[Self]) -> bool {
        norms.windows(2).all(|pair| pair[1].index == pair[0].index + 1)
    }
    /// Whether the layer only normalises.
    pub fn is_plain(&self) -> bool {
        self.affine.is_none()
    }
    /// Scale and shift among the network's weights, if the layer has them.
    pub fn affine(&self) -> Option<[usize; 2]> {
        self.affine
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
            cx.running.update(self.index, 1, cx.tape.saved(y, 0), shape.count() / shape.last())?;
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
    /// The same on `device`.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let [means, variances] = &self.flat;
        let flat = [means.to_device(device)?, variances.to_device(device)?];
        Ok(Self { entries: self.entries.clone(), flat, batches: self.batches })
    }
    /// Where a captured step finds them.
    pub fn addresses(&self) -> [u64; 2] {
        self.flat.each_ref().map(Tensor::address)
    }
    /// Sets mean and variance of normalisation `index`, in the host's memory.
    pub fn set(&mut self, index: usize, values: [&Tensor; 2]) {
        let (_, start, channels) = self.entries[index];
        for (flat, value) in self.flat.iter_mut().zip(values) {
            crate::on_plain!(flat.dtype(), R => {
                flat.make_mut::<R>()[start..start + channels].copy_from_slice(value.as_slice::<R>());
            });
        }
    }
    /// Rows mean, r and variance of `norms` normalisations of one size from `first` on, (norms, 3, C).
    fn rows(&self, first: usize, norms: usize) -> Result<Tensor> {
        let (_, start, c) = self.entries[first];
        if let Some(cuda) = cuda::of(&self.flat[0])? {
            return cuda::running_rows(&cuda, &self.flat, start, [norms, c], EPSILON);
        }
        let row = |k: usize| {
            let [mean, variance] = self.get(first + k);
            fixed_statistics(&mean, &variance)
        };
        Tensor::stack(&(0..norms).map(row).collect::<Result<Vec<_>>>()?)
    }
    /// Moves `norms` normalisations of one size from `first` on towards the saved statistics, (norms, 3, C), of a batch
    /// of `count` values a channel.
    fn update(&mut self, first: usize, norms: usize, saved: &Tensor, count: usize) -> Result<()> {
        let (_, start, c) = self.entries[first];
        let unbiased = count as f64 / (count - 1) as f64;
        if let Some(cuda) = cuda::of(&self.flat[0])? {
            return cuda::running_update(&cuda, &self.flat, start, saved, [norms, c], [MOMENTUM, unbiased]);
        }
        let [means, variances] = &mut self.flat;
        crate::on_plain!(saved.dtype(), R => {
            let (means, variances) = (means.make_mut::<R>(), variances.make_mut::<R>());
            let toward = |old: &mut R, new: f64| *old = R::of((1.0 - MOMENTUM) * old.wide() + MOMENTUM * new);
            for (k, rows) in saved.as_slice::<R>().chunks_exact(3 * c).enumerate() {
                for i in 0..c {
                    toward(&mut means[start + k * c + i], rows[i].wide());
                    toward(&mut variances[start + k * c + i], rows[2 * c + i].wide() * unbiased);
                }
            }
        });
        Ok(())
    }
}
