//! A network's state_dict as a safetensors file: weights and batch-norm statistics under the names of the published
//! PyTorch code and nothing else, so that it loads there with `strict=True`, and files of that code load here.

use super::checkpoint::{BEST, Checkpoint, METADATA_KEY, NEWEST, PREVIOUS};
use super::found::no_run;
use super::network_state::{is_of_network, pack_weights};
use super::tensor_file::{self, Content, NamedTensors, Reader};
use super::{board, folder};
use crate::error::{Error, Result};
use crate::nn::RunningStats;
use crate::tape::ParamSet;
use crate::tensor::{DType, Shape, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What `torch.nn.DataParallel` puts before every name.
const PARALLEL: &str = "module.";
const BATCHES: &str = ".num_batches_tracked";

/// Replaces the file at `path` by the state_dict of a network, wherever that is.
///
/// # Errors
/// [`Error::Config`] for the name of a run's checkpoint, which holds more, and [`Error::Io`] if it cannot be written.
pub fn write(path: &Path, weights: &ParamSet, running: &RunningStats) -> Result<()> {
    not_a_checkpoint("--weights", path)?;
    let mut all = Checkpoint::default();
    pack_weights(&mut all, weights, running)?;
    write_tensors(path, &all.tensors, &all.counters)
}

/// Replaces the file at `path` by these tensors.
pub(super) fn write_tensors(path: &Path, tensors: &NamedTensors, counters: &[(String, i64)]) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]); // as PyTorch's own writer says
    let entries = tensor_file::entries(tensors, counters);
    tensor_file::write_temporary(path, entries, metadata)
        .and_then(|temporary| {
            folder::rename(&temporary, path).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        })
        .map_err(plainly)
}

/// A failed write outside of a run folder, which --out does not choose.
pub(super) fn plainly(error: Error) -> Error {
    match error {
        Error::Write { path, source } => Error::Io { action: "write", path, source },
        other => other,
    }
}

/// Fails if `path` has the name of a run's checkpoint: nobody means to lose one.
pub(super) fn not_a_checkpoint(flag: &str, path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default();
    if [NEWEST, PREVIOUS, BEST].iter().any(|checkpoint| name == *checkpoint) {
        let what = format!("{} is the name of a run's checkpoint; choose another", path.display());
        return Err(Error::config(flag, what));
    }
    Ok(())
}

/// Fails if `path` is a file of a run or has the name of a checkpoint: nobody means to lose one.
///
/// # Errors
/// [`Error::Config`] under `flag`.
pub fn not_of_a_run(flag: &str, path: &Path) -> Result<()> {
    not_a_checkpoint(flag, path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let others =
        [folder::CONFIG, folder::METRICS, folder::ALPHAS, folder::REPORT, folder::SELECTION, folder::LOG];
    let known =
        others.iter().chain(&folder::CELLS).any(|other| name == *other) || name.starts_with(board::PREFIX);
    if known && path.with_file_name(folder::CONFIG).is_file() {
        let what = format!("{} is a file of the run in that folder; choose another", path.display());
        return Err(Error::config(flag, what));
    }
    Ok(())
}

/// The file that `path` stands for: of a run folder the checkpoint after the best test, if there is one and `last` does
/// not ask for the newest, else the newest.
///
/// # Errors
/// [`Error::Data`] for a folder without a checkpoint.
pub fn file(path: &Path, last: bool) -> Result<PathBuf> {
    let (best, newest) = (path.join(BEST), path.join(NEWEST));
    match path.is_dir() {
        false => Ok(path.to_owned()),
        true if best.exists() && !last => Ok(best),
        true if newest.exists() => Ok(newest),
        true => Err(no_run(path, NEWEST)),
    }
}

/// The tensors of a network as they stand in a file, and the state of the run if that is a checkpoint.
#[derive(Debug)]
pub struct StateDict {
    pub path: PathBuf,
    /// Under the names of the published code.
    tensors: HashMap<String, Tensor>,
    /// `num_batches_tracked`, which files of PyTorch 0.3 do not have.
    counters: HashMap<String, i64>,
    pub checkpoint: Option<Checkpoint>,
}

impl StateDict {
    /// Reads weights or a checkpoint. Names may have the prefix of `torch.nn.DataParallel`; `F64`, `F16` and `BF16` are
    /// taken as `F32`.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Checkpoint`] if the file is neither, or damaged; [`Error::Io`] if it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let reader = Reader::open(path).map_err(suggest_conversion)?;
        let ours = reader.metadata.metadata().as_ref().is_some_and(|all| all.contains_key(METADATA_KEY));
        let (tensors, counters, checkpoint) = if ours {
            let all = Checkpoint::read(path)?;
            let mut tensors = all.tensors.clone();
            tensors.retain(|(name, _)| is_of_network(name));
            let mut counters = all.counters.clone();
            counters.retain(|(name, _)| is_of_network(name));
            (tensors, counters, Some(all))
        } else {
            let (tensors, counters) = plain(reader)?;
            (tensors, counters, None)
        };
        let names = || tensors.iter().map(|(name, _)| name).chain(counters.iter().map(|(name, _)| name));
        let prefix = if names().all(|name| name.starts_with(PARALLEL)) { PARALLEL } else { "" };
        let strip = |name: String| name[prefix.len()..].to_owned();
        Ok(Self {
            path: path.to_owned(),
            tensors: tensors.into_iter().map(|(name, t)| (strip(name), t)).collect(),
            counters: counters.into_iter().map(|(name, n)| (strip(name), n)).collect(),
            checkpoint,
        })
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<Shape> {
        self.tensors.get(name).map(|t| *t.shape())
    }

    /// The names of all tensors, in any order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Puts weights and statistics into a network in the host's memory, which has to have all of these names and no
    /// others, in these shapes.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] saying which names are missing or unexpected and which shapes differ; nothing is changed.
    pub fn put_into(&self, weights: &mut ParamSet, running: &mut RunningStats) -> Result<()> {
        let layout = weights.layout.clone();
        let norms: Vec<String> = running.names().map(str::to_owned).collect();
        let mut wanted: Vec<(String, Shape)> =
            layout.entries.iter().map(|e| (e.name.clone(), e.shape)).collect();
        for (i, name) in norms.iter().enumerate() {
            let [mean, variance] = running.get(i);
            wanted.push((format!("{name}.running_mean"), *mean.shape()));
            wanted.push((format!("{name}.running_var"), *variance.shape()));
        }
        self.fits(&wanted, &norms)?;
        let values = wanted.iter().map(|(name, _)| self.tensors[name].to_dtype(weights.flat.dtype()));
        let values = values.collect::<Result<Vec<_>>>()?;
        let (parts, statistics) = values.split_at(layout.entries.len());
        weights.flat = ParamSet::gather(&layout, parts)?;
        for (i, pair) in statistics.chunks_exact(2).enumerate() {
            running.set(i, [&pair[0], &pair[1]]);
        }
        running.batches = self.counters.values().map(|&n| n.max(0) as u64).max().unwrap_or(0);
        Ok(())
    }

    fn fits(&self, wanted: &[(String, Shape)], norms: &[String]) -> Result<()> {
        let missing: Vec<&str> = wanted
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !self.tensors.contains_key(*name))
            .collect();
        let known: HashMap<&str, Shape> =
            wanted.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        let mut unexpected: Vec<&str> = self.names().filter(|name| !known.contains_key(name)).collect();
        let counts = |name: &&str| name.strip_suffix(BATCHES).is_some_and(|n| norms.iter().any(|m| m == n));
        unexpected.extend(self.counters.keys().map(String::as_str).filter(|name| !counts(name)));
        unexpected.sort_unstable();
        let differs = |(name, shape): &(String, Shape)| {
            let there = self.tensors.get(name)?;
            match there.dtype() {
                DType::U8 | DType::U32 => Some(format!("{name} holds {:?}", there.dtype())),
                _ if there.shape() != shape => {
                    Some(format!("{name} is {} there and {shape} here", there.shape()))
                }
                _ => None,
            }
        };
        let differing: Vec<String> = wanted.iter().filter_map(differs).collect();
        let differing: Vec<&str> = differing.iter().map(String::as_str).collect();
        let mut wrong = vec![];
        for (what, names, shown) in
            [("missing", missing, 2), ("unexpected", unexpected, 2), ("of another shape", differing, 1)]
        {
            if !names.is_empty() {
                wrong.push(format!("{} {what} ({})", count(names.len()), first(&names, shown)));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let what = format!(
            "weights of another network: {}; give the cells and the sizes that they are of",
            wrong.join(", ")
        );
        Err(Error::checkpoint(&self.path, what))
    }
}

fn count(n: usize) -> String {
    if n == 1 { "1 name is".into() } else { format!("{n} names are") }
}

/// The first `most` of `names`.
fn first(names: &[&str], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    if names.len() > most { format!("{shown}, ...") } else { shown }
}

/// Tensors and 64-bit counters of a file of whatever program.
fn plain(mut reader: Reader) -> Result<(NamedTensors, Vec<(String, i64)>)> {
    let (mut tensors, mut counters) = (vec![], vec![]);
    while let Some((name, content)) = reader.next()? {
        match content {
            Content::Tensor(tensor) => tensors.push((name, tensor)),
            Content::Integers(_, values) => counters.push((name, values.first().copied().unwrap_or(0))),
        }
    }
    Ok((tensors, counters))
}

/// Weights are most often missed as a file of PyTorch's own.
fn suggest_conversion(error: Error) -> Error {
    match error {
        Error::Data { path, what } => {
            let what = format!(
                "{what}; from PyTorch, write it with safetensors.torch.save_file(model.state_dict(), FILE)"
            );
            Error::Data { path, what }
        }
        other => other,
    }
}
