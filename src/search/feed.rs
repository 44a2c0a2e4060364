//! The images of a search: its two halves, and the batches of each step, where the search runs.

use crate::data::augment::{Augment, Draw};
use crate::data::loader::{self, Batch};
use crate::data::resident::Resident;
use crate::data::{ImageSet, split};
use crate::device::Device;
use crate::error::Result;
use crate::tensor::DType;

/// How images become batches: a function of these, the epoch and the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// Part of the images that trains the weights; the rest trains the alphas.
    pub train_portion: f64,
    pub batch_size: usize,
    pub seed: u64,
    /// Of the split.
    pub data_seed: u64,
    pub augment: Augment,
    /// What images are stored as on a CUDA device, `F32` or `BF16`.
    pub precision: DType,
}

/// The images, and which half of them is for what.
#[derive(Debug)]
pub struct Feed {
    pub images: ImageSet,
    /// Indices of the halves that train the weights and the alphas.
    pub halves: (Vec<usize>, Vec<usize>),
    /// The images on the device, if it is not the CPU.
    resident: Option<Resident>,
    draws: Draws,
}

impl Feed {
    /// Splits `images`, and copies them to `device` if it is not the CPU.
    pub fn new(images: ImageSet, draws: Draws, device: &Device) -> Result<Self> {
        let resident = device.cuda().map(|_| Resident::new(&images, device, draws.batch_size)).transpose()?;
        let halves = split::split(images.len(), draws.train_portion, draws.data_seed);
        Ok(Self { images, halves, resident, draws })
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.halves.0.len().div_ceil(self.draws.batch_size)
    }

    /// The images that train the weights, in the order of `epoch`.
    pub fn order(&self, epoch: usize) -> Vec<usize> {
        split::epoch_order(&self.halves.0, self.draws.seed, epoch as u64)
    }

    /// The batches that a step trains weights and alphas on, both changed at random; `order` is that of the epoch.
    pub fn step(&self, order: &[usize], epoch: usize, step: usize) -> Result<[Batch; 2]> {
        let Draws { batch_size: size, seed, augment, .. } = &self.draws;
        let chosen = &order[step * size..((step + 1) * size).min(order.len())];
        let (epoch, step) = (epoch as u64, step as u64);
        let drawn = split::draw(&self.halves.1, (*size).min(self.halves.1.len()), *seed, epoch, step);
        let train = self.batch(chosen, Some((augment, *seed, epoch, 2 * step)))?;
        Ok([train, self.batch(&drawn, Some((augment, *seed, epoch, 2 * step + 1)))?])
    }

    /// The images that train the alphas as they are, batch by batch.
    pub fn validation(&self) -> impl Iterator<Item = Result<Batch>> {
        self.halves.1.chunks(self.draws.batch_size).map(|chosen| self.batch(chosen, None))
    }

    fn batch(&self, chosen: &[usize], augment: Option<Draw>) -> Result<Batch> {
        match &self.resident {
            Some(resident) => resident.batch(chosen, augment, self.draws.precision),
            None => loader::batch(&self.images, chosen, augment, DType::F32),
        }
    }
}
