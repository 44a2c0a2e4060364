//! A search as a checkpoint and back: its network, alphas and their optimiser, and where the run stands.

use super::checkpoint::Checkpoint;
use super::network_state::{Source, describe, pack as pack_network};
use crate::data::fingerprint::Fingerprint;
use crate::error::Result;
use crate::search::Searcher;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Epochs finished.
    pub epoch: usize,
    /// Steps of the epoch that runs.
    pub step: usize,
    /// Images, rightly classified images and summed losses of the epoch so far.
    pub images: usize,
    pub correct: usize,
    pub train_loss: f64,
    pub valid_loss: f64,
}

const ADAM: &str = "arch_optimizer";

/// The whole of a search at `position`, wherever it runs.
pub fn pack(
    searcher: &Searcher,
    position: Position,
    seed: u64,
    config: Value,
    data: Fingerprint,
) -> Result<Checkpoint> {
    let mut all = Checkpoint::default();
    pack_network(&mut all, &searcher.weights, &searcher.momentum, &searcher.running)?;
    for (i, kind) in searcher.net().kinds().iter().enumerate() {
        all.tensors.push((format!("alphas_{}", kind.name), searcher.alphas[i].to_host()?));
        all.tensors.push((format!("{ADAM}.exp_avg.{}", kind.name), searcher.adam[i].first.to_host()?));
        all.tensors.push((format!("{ADAM}.exp_avg_sq.{}", kind.name), searcher.adam[i].second.to_host()?));
        all.counters.push((format!("{ADAM}.step.{}", kind.name), searcher.adam[i].steps as i64));
    }
    all.state = describe(position, seed, config, None, data)?;
    Ok(all)
}

/// Puts a checkpoint into a search of the same configuration in the host's memory.
pub fn unpack(source: Source, searcher: &mut Searcher) -> Result<Position> {
    source.network(&mut searcher.weights, &mut searcher.momentum, &mut searcher.running)?;
    let kinds: Vec<String> = searcher.net().kinds().iter().map(|k| k.name.clone()).collect();
    for (i, kind) in kinds.iter().enumerate() {
        searcher.alphas[i] = source.tensor(&format!("alphas_{kind}"), &searcher.alphas[i])?;
        let adam = &mut searcher.adam[i];
        adam.first = source.tensor(&format!("{ADAM}.exp_avg.{kind}"), &adam.first)?;
        adam.second = source.tensor(&format!("{ADAM}.exp_avg_sq.{kind}"), &adam.second)?;
        adam.steps = source.counter(&format!("{ADAM}.step.{kind}"))?;
    }
    source.position()
}
