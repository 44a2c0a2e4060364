//! What every run's checkpoint holds: weights, momentum and batch-norm statistics of its network, and where it stands.

use super::checkpoint::Checkpoint;
use super::tensor_file::NamedTensors;
use crate::data::fingerprint::Fingerprint;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::RunningStats;
use crate::tape::{Entry, Layout, ParamSet};
use crate::tensor::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

const MOMENTUM: &str = "optimizer.momentum_buffer.";
const GENERATOR: &str = "chacha8(seed, purpose, epoch, step)";

/// Random streams are functions of the seed and the counters in the position, so they are the generator's whole state;
/// times are left out, so that two runs of one seed write the same bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State<P> {
    position: P,
    /// Generator and seed of the random streams.
    rng: (String, u64),
    /// The settings that determine the numbers.
    config: Value,
    /// The cells of a network that is trained, as the published code writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    genotype: Option<String>,
    /// The images, by number the same at every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Fingerprint>,
}

/// The state of a checkpoint: `position`, seed, the settings that determine the numbers, the cells trained, and the images.
pub fn describe(
    position: impl Serialize,
    seed: u64,
    config: Value,
    genotype: Option<String>,
    data: Fingerprint,
) -> Result<Value> {
    let state = State { position, rng: (GENERATOR.into(), seed), config, genotype, data: Some(data) };
    serde_json::to_value(state).map_err(|e| Error::NotFinite {
        what: format!("the state of the run cannot be written as JSON: {e}"),
    })
}

/// Adds a network to `all`, under the published state_dict names, wherever it is, and its momentum.
pub fn pack(
    all: &mut Checkpoint,
    weights: &ParamSet,
    momentum: &Tensor,
    running: &RunningStats,
) -> Result<()> {
    pack_weights(all, weights, running)?;
    all.tensors.extend(named(MOMENTUM, &weights.layout, &momentum.to_host()?));
    Ok(())
}

/// Adds weights and batch-norm statistics: the state_dict and nothing else.
pub fn pack_weights(all: &mut Checkpoint, weights: &ParamSet, running: &RunningStats) -> Result<()> {
    all.tensors.extend(named("", &weights.layout, &weights.flat.to_host()?));
    let running = running.to_device(&Device::Cpu)?;
    for (i, name) in running.names().enumerate() {
        let [mean, variance] = running.get(i);
        all.tensors.push((format!("{name}.running_mean"), mean));
        all.tensors.push((format!("{name}.running_var"), variance));
        all.counters.push((format!("{name}.num_batches_tracked"), running.batches as i64));
    }
    Ok(())
}

/// The slices of `flat` under their names.
fn named(prefix: &str, layout: &Layout, flat: &Tensor) -> NamedTensors {
    let one = |e: &Entry| (format!("{prefix}{}", e.name), flat.view(e.offset, e.shape));
    layout.entries.iter().map(one).collect()
}

/// Whether a tensor of a checkpoint belongs to the network and not to an optimiser or the search.
pub fn is_of_network(name: &str) -> bool {
    !["optimizer.", "arch_optimizer.", "alphas_"].iter().any(|other| name.starts_with(other))
}

/// A checkpoint being read, and its file for messages.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub checkpoint: &'a Checkpoint,
    pub path: &'a Path,
}

impl Source<'_> {
    /// The tensor of this name, which has to be of the shape and type of `like`.
    pub fn tensor(&self, name: &str, like: &Tensor) -> Result<Tensor> {
        match self.checkpoint.tensor(name) {
            Some(t) if t.shape() == like.shape() && t.dtype() == like.dtype() => Ok(t.clone()),
            Some(t) => {
                let what = format!(
                    "{name} is {:?} of {}, this run needs {:?} of {}",
                    t.dtype(),
                    t.shape(),
                    like.dtype(),
                    like.shape()
                );
                Err(Error::checkpoint(self.path, what))
            }
            None => {
                let what = format!("has no tensor {name}; it is from another kind of run");
                Err(Error::checkpoint(self.path, what))
            }
        }
    }
    pub fn counter(&self, name: &str) -> Result<u64> {
        let found = self.checkpoint.counters.iter().find(|(n, _)| n == name);
        found.and_then(|(_, count)| u64::try_from(*count).ok()).ok_or_else(|| {
            Error::checkpoint(self.path, format!("has no counter {name}; it is from another kind of run"))
        })
    }
    fn state<P: DeserializeOwned>(&self) -> Result<State<P>> {
        serde_json::from_value(self.checkpoint.state.clone()).map_err(|e| {
            let what = format!("does not say where its run stands ({e}); start a new run");
            Error::checkpoint(self.path, what)
        })
    }
    pub fn position<P: DeserializeOwned>(&self) -> Result<P> {
        Ok(self.state()?.position)
    }
    /// The settings that it was written with.
    pub fn settings(&self) -> Result<Value> {
        Ok(self.state::<Value>()?.config)
    }
    /// That the run had the images that there are `now`: what step takes which goes by their numbers.
    pub fn check_data(&self, now: Fingerprint) -> Result<()> {
        match self.state::<Value>()?.data {
            Some(then) if then != now => {
                let changed = match (then.images, now.images) {
                    (then, now) if then != now => format!("{then} images and {now} now"),
                    (same, _) => format!("{same} images, and others or otherwise labelled ones now"),
                };
                let what = format!(
                    "its run had {changed}; put the data set back as it was to go on, or start a new run"
                );
                Err(Error::checkpoint(self.path, what))
            }
            _ => Ok(()),
        }
    }
    /// The cells that were trained.
    pub fn genotype(&self) -> Result<Option<String>> {
        Ok(self.state::<Value>()?.genotype)
    }
    /// Puts the network into one of the same layout, in the host's memory.
    pub fn network(
        &self,
        weights: &mut ParamSet,
        momentum: &mut Tensor,
        running: &mut RunningStats,
    ) -> Result<()> {
        let layout = weights.layout.clone();
        let gather = |prefix: &str, flat: &Tensor| -> Result<Tensor> {
            let one = |e: &Entry| self.tensor(&format!("{prefix}{}", e.name), &flat.view(e.offset, e.shape));
            let parts = layout.entries.iter().map(one).collect::<Result<Vec<_>>>()?;
            ParamSet::gather(&layout, &parts)
        };
        weights.flat = gather("", &weights.flat)?;
        *momentum = gather(MOMENTUM, momentum)?;
        let names: Vec<String> = running.names().map(str::to_owned).collect();
        for (i, name) in names.iter().enumerate() {
            let [mean, variance] = running.get(i);
            let mean = self.tensor(&format!("{name}.running_mean"), &mean)?;
            let variance = self.tensor(&format!("{name}.running_var"), &variance)?;
            running.set(i, [&mean, &variance]);
        }
        if let Some(name) = names.first() {
            running.batches = self.counter(&format!("{name}.num_batches_tracked"))?;
        }
        Ok(())
    }
}
