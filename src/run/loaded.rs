//! A network to look at: of a run, of a checkpoint, or of weights from wherever.

use super::config::{Configuration, SearchConfig, TrainConfig};
use super::network_state::Source;
use super::search::{hyper, supernet};
use super::state_dict::{self, StateDict};
use super::{found, state};
use crate::error::{Error, Result};
use crate::nn::RunningStats;
use crate::search::Searcher;
use crate::space::Genotype;
use crate::space::genotype;
use crate::space::network::{Macro, Network, NetworkConfig};
use crate::tape::ParamSet;
use crate::tensor::DType;
use clap::Args;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Which network.
#[derive(Clone, Debug, Args)]
pub struct NetworkArgs {
    /// A run folder (of a training the checkpoint of the best test), a checkpoint, or weights (.safetensors with the
    /// names of the published state_dict)
    #[arg(value_name = "RUN|CHECKPOINT|WEIGHTS")]
    pub source: PathBuf,
    /// Of a training's folder take the newest checkpoint
    #[arg(long)]
    pub last: bool,
    /// The cells of weights that are no checkpoint: a published name, a file or a run folder
    #[arg(long, value_name = "NAME|FILE|RUN")]
    pub genotype: Option<String>,
}

/// A network with its weights, in the host's memory.
pub enum Loaded {
    Found(Box<Found>),
    Supernet(Box<Searched>),
}

/// The network of a genotype.
pub struct Found {
    pub network: Network,
    pub config: NetworkConfig,
    pub genotype: Genotype,
    pub weights: ParamSet,
    pub running: RunningStats,
    /// Of the run that trained it, if the file says so.
    pub settings: Option<TrainConfig>,
}

/// The supernet of a search with its alphas.
pub struct Searched {
    pub searcher: Searcher,
    pub settings: SearchConfig,
    pub classes: usize,
    /// Of the images.
    pub image_channels: usize,
}

impl NetworkArgs {
    /// The file that is meant; errors as those of [`state_dict::file`].
    pub fn file(&self) -> Result<PathBuf> {
        state_dict::file(&self.source, self.last)
    }

    /// Reads the network.
    ///
    /// # Errors
    /// As [`state_dict::file`], [`StateDict::read`] and [`StateDict::put_into`], and [`Error::Config`] if cells are missing or given twice.
    pub fn load(&self) -> Result<Loaded> {
        let dict = StateDict::read(&self.file()?)?;
        let Some(checkpoint) = &dict.checkpoint else {
            let Some(cells) = &self.genotype else {
                let what = format!("needed, since {} does not say which cells it is of", dict.path.display());
                return Err(Error::config("--genotype", what));
            };
            return found(&dict, found::genotype(cells)?, None);
        };
        if self.genotype.is_some() {
            let what =
                format!("{} is a checkpoint, which has its own cells; leave it out", dict.path.display());
            return Err(Error::config("--genotype", what));
        }
        let source = Source { checkpoint, path: &dict.path };
        match source.genotype()? {
            Some(cells) => {
                let settings = TrainConfig::default().with_fixed(&source.settings()?, &dict.path)?;
                found(&dict, genotype::parse_any(&cells)?, Some(settings))
            }
            None => searched(&dict, source),
        }
    }
}

fn found(dict: &StateDict, genotype: Genotype, settings: Option<TrainConfig>) -> Result<Loaded> {
    let config = extents(dict)?;
    let network = Network::new(&genotype, config)?;
    let mut weights = ParamSet::zeros(network.layout(), DType::F32);
    let mut running = RunningStats::new(network.norms(), DType::F32);
    dict.put_into(&mut weights, &mut running)?;
    Ok(Loaded::Found(Box::new(Found { network, config, genotype, weights, running, settings })))
}

fn searched(dict: &StateDict, source: Source) -> Result<Loaded> {
    let settings = SearchConfig::default().with_fixed(&source.settings()?, source.path)?;
    let [classes, _] = dims(dict, "classifier.weight")?;
    let [_, image_channels, ..] = dims::<4>(dict, "stem.0.weight")?;
    let net = supernet(&settings, classes, image_channels, false)?;
    let mut searcher = Searcher::new(Box::new(net), hyper(&settings), settings.search.seed, DType::F32)?;
    state::unpack(source, &mut searcher)?;
    Ok(Loaded::Supernet(Box::new(Searched { searcher, settings, classes, image_channels })))
}

/// The size of a found network, which the shapes of its weights tell.
fn extents(dict: &StateDict) -> Result<NetworkConfig> {
    if dict.names().any(|name| name.starts_with("cells.0._ops.0._ops.")) {
        let what = "weights of a supernet, without the alphas to evaluate them by; start from them with search --weights";
        return Err(Error::checkpoint(&dict.path, what));
    }
    let kind = if dict.shape("stem0.0.weight").is_some() { Macro::ImageNet } else { Macro::Cifar };
    let (first, last, times) = match kind {
        Macro::Cifar => ("stem.0.weight", "stem.0.weight", 3),
        Macro::ImageNet => ("stem0.0.weight", "stem0.3.weight", 1),
    };
    let [_, image_channels, ..] = dims::<4>(dict, first)?;
    let [stem, ..] = dims::<4>(dict, last)?;
    let [classes, _] = dims(dict, "classifier.weight")?;
    let cell = |name: &str| name.strip_prefix("cells.")?.split('.').next()?.parse::<usize>().ok();
    let cells = dict.names().filter_map(cell).collect::<HashSet<_>>().len();
    let auxiliary = dict.names().any(|name| name.starts_with("auxiliary_head."));
    Ok(NetworkConfig {
        kind,
        channels: stem / times,
        cells,
        classes,
        image_channels,
        auxiliary,
        fused: true,
        lean: false,
    })
}

fn dims<const N: usize>(dict: &StateDict, name: &str) -> Result<[usize; N]> {
    // none empty, so that what is built of them is no larger than the file
    let shape = dict.shape(name).filter(|shape| shape.count() > 0);
    let shape = shape.and_then(|shape| shape.dims().try_into().ok());
    let what = || format!("has no {name} with {N} dimensions; it is no network of the published code");
    shape.ok_or_else(|| Error::checkpoint(&dict.path, what()))
}

/// Puts the weights that `path` (a run folder, a checkpoint or weights) stands for into the network of `cells`, or into
/// a supernet; none if it is empty.
///
/// # Errors
/// As [`NetworkArgs::load`]; [`Error::Config`] for a checkpoint of other cells, whose weights
/// may have the same names and shapes.
pub fn start_from(
    path: &Path,
    cells: Option<&Genotype>,
    weights: &mut ParamSet,
    running: &mut RunningStats,
) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let dict = StateDict::read(&state_dict::file(path, false)?)?;
    if let Some(checkpoint) = &dict.checkpoint {
        let own = Source { checkpoint, path: &dict.path }.genotype()?;
        let own = own.as_deref().map(genotype::parse_any).transpose()?;
        if own.as_ref() != cells {
            let whose = if own.is_some() { "the network of other cells" } else { "a supernet" };
            let what = format!(
                "{} is of {whose}; start from weights of the same network (inspect export writes them without their cells)",
                dict.path.display()
            );
            return Err(Error::config("--weights", what));
        }
    }
    dict.put_into(weights, running)
}
