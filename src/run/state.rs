//! A search as a checkpoint and back: tensors under the published state_dict names, and where the run stands.

use super::checkpoint::Checkpoint;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::search::Searcher;
use crate::tape::Layout;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Where a run stands. Random streams are functions of the seed and these counters, so they are the generator's whole
/// state; times are left out, so that two runs of one seed write the same bytes.
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    position: Position,
    /// Generator and seed of the random streams.
    rng: (String, u64),
    /// The settings that determine the numbers.
    config: Value,
}

const GENERATOR: &str = "chacha8(seed, purpose, epoch, step)";

/// The whole of a search at `position`, wherever it runs.
pub fn pack(searcher: &Searcher, position: Position, seed: u64, config: Value) -> Result<Checkpoint> {
    let mut all = Checkpoint::default();
    let layout = searcher.weights.layout.clone();
    let flat = |prefix: &str, flat: &Tensor| -> Vec<(String, Tensor)> {
        let one = |e: &crate::tape::Entry| (format!("{prefix}{}", e.name), flat.view(e.offset, e.shape));
        layout.entries.iter().map(one).collect()
    };
    all.tensors.extend(flat("", &searcher.weights.flat.to_host()?));
    all.tensors.extend(flat(MOMENTUM, &searcher.momentum.to_host()?));
    let running = searcher.running.to_device(&Device::Cpu)?;
    for (i, name) in running.names().enumerate() {
        let [mean, variance] = running.get(i);
        all.tensors.push((format!("{name}.running_mean"), mean));
        all.tensors.push((format!("{name}.running_var"), variance));
        all.counters.push((format!("{name}.num_batches_tracked"), running.batches as i64));
    }
    for (i, kind) in searcher.net().kinds().iter().enumerate() {
        all.tensors.push((format!("alphas_{}", kind.name), searcher.alphas[i].to_host()?));
        all.tensors.push((format!("{ADAM}.exp_avg.{}", kind.name), searcher.adam[i].first.to_host()?));
        all.tensors.push((format!("{ADAM}.exp_avg_sq.{}", kind.name), searcher.adam[i].second.to_host()?));
        all.counters.push((format!("{ADAM}.step.{}", kind.name), searcher.adam[i].steps as i64));
    }
    let state = State { position, rng: (GENERATOR.into(), seed), config };
    all.state = serde_json::to_value(state).map_err(|e| Error::NotFinite {
        what: format!("the state of the run cannot be written as JSON: {e}"),
    })?;
    Ok(all)
}

const MOMENTUM: &str = "optimizer.momentum_buffer.";
const ADAM: &str = "arch_optimizer";

/// The settings that `checkpoint` was written with, as [`pack`] was given them.
pub fn settings(checkpoint: &Checkpoint, path: &Path) -> Result<Value> {
    Ok(state(checkpoint, path)?.config)
}

fn state(checkpoint: &Checkpoint, path: &Path) -> Result<State> {
    serde_json::from_value(checkpoint.state.clone()).map_err(|e| {
        Error::checkpoint(path, format!("does not say where its run stands ({e}); start a new run"))
    })
}

/// Puts `checkpoint` into a search of the same configuration in the host's memory; `path` is for messages.
pub fn unpack(checkpoint: &Checkpoint, searcher: &mut Searcher, path: &Path) -> Result<Position> {
    let named = |name: &str, like: &Tensor| -> Result<Tensor> {
        match checkpoint.tensor(name) {
            Some(t) if t.shape() == like.shape() && t.dtype() == like.dtype() => Ok(t.clone()),
            Some(t) => {
                Err(Error::checkpoint(path, format!("{name} is {t:?}, this search needs {}", like.shape())))
            }
            None => {
                Err(Error::checkpoint(path, format!("has no tensor {name}; it is from another kind of run")))
            }
        }
    };
    let counter = |name: &str| -> Result<u64> {
        let found = checkpoint.counters.iter().find(|(n, _)| n == name);
        let missing =
            || Error::checkpoint(path, format!("has no counter {name}; it is from another kind of run"));
        found.and_then(|(_, count)| u64::try_from(*count).ok()).ok_or_else(missing)
    };
    let layout = searcher.weights.layout.clone();
    let flat = |prefix: &str, flat: &Tensor| {
        gather(&layout, |name, like| named(&format!("{prefix}{name}"), like), flat)
    };
    searcher.weights.flat = flat("", &searcher.weights.flat)?;
    searcher.momentum = flat(MOMENTUM, &searcher.momentum)?;
    let names: Vec<String> = searcher.running.names().map(str::to_owned).collect();
    for (i, name) in names.iter().enumerate() {
        let [mean, variance] = searcher.running.get(i);
        let mean = named(&format!("{name}.running_mean"), &mean)?;
        let variance = named(&format!("{name}.running_var"), &variance)?;
        searcher.running.set(i, [&mean, &variance]);
    }
    if let Some(name) = names.first() {
        searcher.running.batches = counter(&format!("{name}.num_batches_tracked"))?;
    }
    let kinds: Vec<String> = searcher.net().kinds().iter().map(|k| k.name.clone()).collect();
    for (i, kind) in kinds.iter().enumerate() {
        searcher.alphas[i] = named(&format!("alphas_{kind}"), &searcher.alphas[i])?;
        let adam = &mut searcher.adam[i];
        adam.first = named(&format!("{ADAM}.exp_avg.{kind}"), &adam.first)?;
        adam.second = named(&format!("{ADAM}.exp_avg_sq.{kind}"), &adam.second)?;
        adam.steps = counter(&format!("{ADAM}.step.{kind}"))?;
    }
    Ok(state(checkpoint, path)?.position)
}

fn gather(layout: &Layout, get: impl Fn(&str, &Tensor) -> Result<Tensor>, flat: &Tensor) -> Result<Tensor> {
    let parts: Result<Vec<Tensor>> =
        layout.entries.iter().map(|e| get(&e.name, &flat.view(e.offset, e.shape))).collect();
    crate::tape::ParamSet::gather(layout, &parts?)
}
