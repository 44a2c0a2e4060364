//! A training as a checkpoint and back: its network, and where the run stands.

use super::checkpoint::Checkpoint;
use super::network_state::{Source, describe, pack as pack_network};
use crate::data::fingerprint::Fingerprint;
use crate::error::Result;
use crate::space::Genotype;
use crate::train::{Hits, Trainer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a training stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Epochs finished.
    pub epoch: usize,
    /// Steps of the epoch that runs.
    pub step: usize,
    /// Images, rightly classified images (also among the first five) and summed losses of the epoch so far.
    pub images: usize,
    pub top1: usize,
    pub top5: usize,
    pub loss: f64,
    /// The epoch with the best test so far, of equal ones the first, and the last whole one.
    pub best: Option<Test>,
    #[serde(default)]
    pub last: Option<Test>,
}

/// The test of a whole epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    pub epoch: usize,
    /// Test images classified rightly.
    pub top1: usize,
    pub top5: usize,
}

impl Position {
    /// Adds a step on `images` images.
    pub fn add(&mut self, images: usize, loss: f64, hits: Hits) {
        self.step += 1;
        self.images += images;
        self.top1 += hits.top1;
        self.top5 += hits.top5;
        self.loss += loss * images as f64;
    }
}

/// The whole of a training at `position`, wherever it runs.
pub fn pack(
    trainer: &Trainer,
    position: Position,
    genotype: &Genotype,
    seed: u64,
    config: Value,
    data: Fingerprint,
) -> Result<Checkpoint> {
    let mut all = Checkpoint::default();
    pack_network(&mut all, &trainer.weights, &trainer.momentum, &trainer.running)?;
    all.state = describe(position, seed, config, Some(genotype.to_string()), data)?;
    Ok(all)
}

/// Puts a checkpoint into a training of the same configuration in the host's memory.
pub fn unpack(source: Source, trainer: &mut Trainer) -> Result<Position> {
    source.network(&mut trainer.weights, &mut trainer.momentum, &mut trainer.running)?;
    source.position()
}
