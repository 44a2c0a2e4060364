//! What `inspect evaluate` does: a network's loss, hits and logits on the images of a data set or of a file.

mod images;

use crate::data::loader::Batch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::run::cli::{counted, line, within};
use crate::run::config::MOST_IMAGES;
use crate::run::config::{Configuration, SearchConfig, TrainConfig};
use crate::run::device::Wanted;
use crate::run::folder;
use crate::run::image_order::channels_first;
use crate::run::loaded::{Loaded, NetworkArgs};
use crate::run::progress::percent;
use crate::run::state_dict::{not_of_a_run, write_tensors};
use crate::space::network::NetworkConfig;
use crate::tensor::{DType, Tensor};
use crate::train::{Hits, Pass};
use clap::{Args, ValueEnum};
use images::{Asked, Images, asked_of_search, asked_of_training};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Data set whose test images are taken, or all if it has none [default: the run's, and of it what the run tests on]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Folder with the files of the data set [default: the run's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Height and width that images are brought to [default: the run's, else as in the files]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// What a training with this --augment tests on: whole images, or central crops of 7/8 [default: the run's, else cifar]
    #[arg(long, value_enum)]
    augment: Option<Augment>,
    /// Images from a .safetensors file instead: `images` (N, C, H, W), normalised, and `labels` (N), if it has any
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "data_dir", "image_size", "augment"])]
    images: Option<PathBuf>,
    /// Take the first N images only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch_size: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// File to write `images` (N, C, H, W), normalised, `labels` and `logits` (N, classes) to, as safetensors
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Augment {
    Cifar,
    Imagenet,
}

/// Sums over images, and what `--logits` writes.
#[derive(Default)]
struct Sums {
    loss: f64,
    hits: Hits,
    logits: Vec<f32>,
    /// Whether a loss or a logit is NaN or infinite.
    broken: bool,
}

impl EvaluateArgs {
    /// Prints what is evaluated and how it does.
    ///
    /// # Errors
    /// If the network, the data or the device cannot be had, if they do not fit, a loss or a logit is not finite, or the
    /// logits cannot be written.
    pub fn run(&self) -> Result<bool> {
        within("--batch-size", self.batch_size, 1..=MOST_IMAGES)?;
        if self.limit == Some(0) {
            return Err(Error::config("--limit", "must be at least 1"));
        }
        if let Some(path) = &self.logits {
            not_of_a_run("--logits", path)?;
        }
        let wanted: Wanted = self.device.parse().map_err(|what: String| Error::config("--device", what))?;
        let network = self.network.load()?;
        line(format_args!("network   {}", network.describe()))?;
        let (mut images, from) = self.images(&network)?;
        images.cut(self.limit.unwrap_or(usize::MAX));
        network.check(&images)?;
        line(format_args!("images    {from}: {}", images.describe()))?;
        let (device, text) = wanted.open()?;
        line(format_args!("device    {text}"))?;
        let mut network = network.on(&device)?;
        let mut sums = Sums::default();
        for start in (0..images.len()).step_by(self.batch_size) {
            let batch = images.batch(start..images.len().min(start + self.batch_size))?;
            sums.add(&mut network, &batch, &device)?;
            if sums.broken {
                let what = "gives a loss or logits that are NaN or infinite, as a diverged run does; take an earlier checkpoint, or check the images";
                return Err(Error::checkpoint(&self.network.file()?, what));
            }
        }
        if images.labelled() {
            let n = images.len();
            line(format_args!("loss      {:.6}", sums.loss / n as f64))?;
            line(format_args!("top-1     {:.2} %, {} of {n}", percent(sums.hits.top1, n), sums.hits.top1))?;
            line(format_args!("top-5     {:.2} %, {} of {n}", percent(sums.hits.top5, n), sums.hits.top5))?;
        }
        match &self.logits {
            Some(path) => write_logits(path, &images, &sums.logits),
            None => Ok(true),
        }
    }

    /// The images asked for, and where they are from.
    fn images(&self, network: &Loaded) -> Result<(Images, String)> {
        if let Some(path) = &self.images {
            return Ok((Images::read(path)?, path.display().to_string()));
        }
        let asked = match network {
            Loaded::Found(found) => match &found.settings {
                Some(settings) => asked_of_training(settings),
                None => {
                    let mut of_none = asked_of_training(&TrainConfig::default());
                    of_none.request.name.clear();
                    of_none
                }
            },
            Loaded::Supernet(searched) => asked_of_search(&searched.settings),
        };
        let Asked { mut request, mut held, crops } = asked;
        let crops = self.augment.map_or(crops, |augment| augment == Augment::Imagenet);
        if let Some(name) = &self.data {
            (request.name, held) = (name.clone(), None);
            request.train_images = request.train_images.filter(|_| name == "synthetic");
        }
        if request.name.is_empty() {
            let what =
                "needed, since weights do not say what they were trained on; name it, or give --images";
            return Err(Error::config("--data", what));
        }
        request.image_size = self.image_size.or(request.image_size);
        request.dir = match (&self.data_dir, &self.data) {
            (None, None) if request.name != "synthetic" => data_dir(&self.network.file()?, network)?,
            (given, _) => given.clone(),
        };
        let (images, which) = Images::of(&request, held, crops)?;
        Ok((images, format!("{} {which}", request.name)))
    }
}

/// The folder that the settings beside the checkpoint at `file` name.
fn data_dir(file: &Path, network: &Loaded) -> Result<Option<PathBuf>> {
    let settings = file.with_file_name(folder::CONFIG);
    if !settings.is_file() {
        return Ok(None); // the data set asks for it
    }
    let dir = match network {
        Loaded::Found(_) => TrainConfig::from_file(&settings)?.data.dir,
        Loaded::Supernet(_) => SearchConfig::from_file(&settings)?.data.dir,
    };
    Ok((!dir.as_os_str().is_empty()).then_some(dir))
}

impl Loaded {
    fn describe(&self) -> String {
        match self {
            Self::Found(found) => {
                let NetworkConfig { kind, channels, cells, classes, .. } = found.config;
                let count = found.weights.layout.count;
                let kind = format!("{kind:?}").to_lowercase();
                let (cells, classes) = (counted(cells, "cell"), counted(classes, "class"));
                format!("{kind}: C = {channels}, {cells}, {classes}, {count} parameters")
            }
            Self::Supernet(searched) => {
                let space = &searched.settings.space;
                let count = searched.searcher.weights.layout.count;
                let cells = counted(space.cells, "cell");
                format!("{}: C = {}, {cells}, {count} weights", space.name, space.channels)
            }
        }
    }
    /// Whether the images suit the network.
    fn check(&self, images: &Images) -> Result<()> {
        let [_, height, width, channels] = images.extents();
        let (config, classes, image_channels) = match self {
            Self::Found(found) => (found.config, found.config.classes, found.config.image_channels),
            Self::Supernet(searched) => (NetworkConfig::default(), searched.classes, searched.image_channels),
        };
        let sizes = NetworkConfig { auxiliary: false, ..config }.check_images([height, width]);
        sizes.map_err(|e| images.no_size_to_choose(e, config.kind.multiple()))?;
        if channels != image_channels {
            let channels = counted(channels, "channel");
            let what = format!("images have {channels}, the network takes {image_channels}");
            return Err(Error::config(images.flag(), what));
        }
        images.check_labels(classes)
    }
    fn on(self, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Found(mut found) => {
                found.weights.flat = found.weights.flat.to_device(device)?;
                found.running = found.running.to_device(device)?;
                Self::Found(found)
            }
            Self::Supernet(mut searched) => {
                searched.searcher = searched.searcher.on(device)?;
                Self::Supernet(searched)
            }
        })
    }
}

impl Sums {
    fn add(&mut self, network: &mut Loaded, batch: &Batch, device: &Device) -> Result<()> {
        let there = batch.on(device, DType::F32)?;
        let (loss, logits) = match network {
            Loaded::Found(f) => {
                let pass = Pass::evaluate(&f.network, &f.weights, &there, &mut f.running)?;
                (pass.loss()?, pass.logits)
            }
            Loaded::Supernet(s) => {
                let pass = s.searcher.evaluate(&there)?;
                (pass.loss()?, pass.logits)
            }
        };
        let logits = logits.to_host()?;
        let hits = Hits::count(&logits, &batch.labels);
        self.loss += loss * batch.labels.count() as f64;
        self.hits.top1 += hits.top1;
        self.hits.top5 += hits.top5;
        let logits = logits.as_slice::<f32>();
        self.broken |= !loss.is_finite() || logits.iter().any(|logit| !logit.is_finite());
        self.logits.extend(logits);
        Ok(())
    }
}

fn write_logits(path: &Path, images: &Images, logits: &[f32]) -> Result<bool> {
    let n = images.len();
    let all = images.batch(0..n)?;
    let mut tensors = vec![
        ("images".to_owned(), channels_first(&all.images)?),
        ("logits".to_owned(), Tensor::from_slice([n, logits.len() / n.max(1)], logits)?),
    ];
    if images.labelled() {
        tensors.push(("labels".to_owned(), all.labels));
    }
    write_tensors(path, &tensors, &[])?;
    line(format_args!("logits    {}", path.display()))?;
    Ok(true)
}
