//! A whole search in memory, for programs of their own: epochs over images, then the genotype.

use super::bilevel::Order;
use super::feed::{Draws, Feed};
use super::step::{Hyper, Searcher, finite};
use crate::data::augment::Augment;
use crate::data::{ImageSet, split};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::cosine;
use crate::space::cnn::{CnnConfig, CnnSupernet};
use crate::space::{Genotype, Space, Supernet};
use crate::tensor::DType;
use std::fmt;

/// What a search is told besides space and images.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Channels of the first cells, C, an even number.
    pub channels: usize,
    /// Number of cells, L.
    pub cells: usize,
    /// How the architecture gradient is computed.
    pub order: Order,
    /// Passes over the images that train the weights.
    pub epochs: usize,
    pub batch_size: usize,
    /// Of everything random.
    pub seed: u64,
    /// Learning rate of the weights in the first epoch, and the one that its cosine ends at.
    pub learning_rate: [f64; 2],
    /// Part of the images that trains the weights; the rest trains the alphas.
    pub train_portion: f64,
    /// Random changes to the images.
    pub augment: Augment,
    /// Of the optimisers.
    pub hyper: Hyper,
    /// Where to compute.
    pub device: Device,
}

impl Default for Settings {
    /// The published search on CIFAR-10, of first order, on the CPU.
    fn default() -> Self {
        Self {
            channels: 16,
            cells: 8,
            order: Order::First,
            epochs: 50,
            batch_size: 64,
            seed: 2,
            learning_rate: [0.025, 0.001],
            train_portion: 0.5,
            augment: Augment { crop_padding: 4, flip: true, cutout: None },
            hyper: Hyper::default(),
            device: Device::Cpu,
        }
    }
}

impl Settings {
    fn check(&self, images: &ImageSet) -> Result<()> {
        let refuse = |key: &str, what: String| Err(Error::config(key, what));
        if self.epochs == 0 || self.batch_size < 2 {
            return refuse("search", "epochs must be at least 1 and batch_size at least 2".into());
        }
        let [h, w] = [images.height, images.width];
        if !h.is_multiple_of(4) || !w.is_multiple_of(4) {
            return refuse("data", format!("images of {h} x {w} pixels cannot be halved twice; resize them"));
        }
        if self.augment.cutout.is_some_and(|side| side > h.min(w)) {
            return refuse("augment.cutout", format!("must not exceed the images' {h} x {w} pixels"));
        }
        let train = split::count(images.len(), self.train_portion);
        match train >= 2 && images.len() - train.min(images.len()) >= 2 {
            true => Ok(()),
            false => {
                refuse("train_portion", format!("must leave two of {} images in both halves", images.len()))
            }
        }
    }
}

/// What an epoch saw; losses are means an image, accuracies in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// From 0.
    pub epoch: usize,
    /// Of the weights.
    pub learning_rate: f64,
    /// In the steps, before the weights moved.
    pub train_loss: f64,
    pub train_accuracy: f64,
    /// After the epoch, over the images that train the alphas, in evaluation mode.
    pub valid_loss: f64,
    pub valid_accuracy: f64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, train_loss, train_accuracy, valid_loss, valid_accuracy, .. } = self;
        write!(f, "epoch {}  train loss {train_loss:.4} accuracy {train_accuracy:.2} %", epoch + 1)?;
        write!(f, "  valid loss {valid_loss:.4} accuracy {valid_accuracy:.2} %")
    }
}

/// A search that runs in memory. [`SearchRun`](crate::run::search::SearchRun) is the same with a run folder and resume;
/// both give the same numbers.
///
/// ```
/// use oche::{data, search, space::Space};
/// let images = data::synthetic(8, 40, 0)?.train;
/// let settings = search::Settings { channels: 2, cells: 2, epochs: 1, batch_size: 10, ..Default::default() };
/// let genotype = search::Search::new(&Space::darts(1), images, settings)?.run(|epoch| println!("{epoch}"))?;
/// assert_eq!(genotype.normal.len(), 2);
/// # Ok::<(), oche::Error>(())
/// ```
pub struct Search {
    searcher: Searcher,
    feed: Feed,
    settings: Settings,
    /// Epochs done.
    done: usize,
}

impl Search {
    /// Of the supernet of `space`.
    ///
    /// # Errors
    /// [`Error::Config`] if the space cannot be searched or the settings do not fit the images; [`Error::Device`] if the
    /// images do not fit on the device.
    pub fn new(space: &Space, images: ImageSet, settings: Settings) -> Result<Self> {
        let net = CnnSupernet::new(&CnnConfig {
            channels: settings.channels,
            cells: settings.cells,
            space: space.clone(),
            classes: images.classes.len(),
            image_channels: images.channels,
            ..CnnConfig::default()
        })?;
        Self::over(net, images, settings)
    }

    /// Of any supernet, which has channels and cells of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(net: impl Supernet + 'static, images: ImageSet, settings: Settings) -> Result<Self> {
        settings.check(&images)?;
        let searcher = Searcher::new(Box::new(net), settings.hyper, settings.seed, DType::F32)?;
        let draws = Draws {
            train_portion: settings.train_portion,
            batch_size: settings.batch_size,
            seed: settings.seed,
            data_seed: settings.seed,
            augment: settings.augment.clone(),
            precision: DType::F32,
        };
        let feed = Feed::new(images, draws, &settings.device)?;
        Ok(Self { searcher: searcher.on(&settings.device)?, feed, settings, done: 0 })
    }

    /// Weights, alphas and all that a search changes, as they are now.
    pub fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// Searches one epoch on; nothing once all are done.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a loss is NaN or infinite, [`Error::OutOfMemory`] or [`Error::Device`] of a device.
    pub fn epoch(&mut self) -> Result<Option<Epoch>> {
        let Settings { epochs, order, learning_rate: [first, last], .. } = self.settings;
        let epoch = self.done;
        if epoch == epochs {
            return Ok(None);
        }
        let learning_rate = cosine(first, last, epoch, epochs);
        let images = self.feed.order(epoch);
        let (mut loss, mut hits) = (0.0, 0);
        for step in 0..self.feed.steps() {
            let [train, valid] = self.feed.step(&images, epoch, step)?;
            let report = self.searcher.step(order, &train, &valid, learning_rate)?;
            loss += report.train_loss * train.labels.count() as f64;
            hits += report.train_correct;
        }
        let (valid_loss, valid_accuracy) = self.validate()?;
        self.done += 1;
        let count = images.len() as f64;
        let (train_loss, train_accuracy) = (loss / count, 100.0 * hits as f64 / count);
        Ok(Some(Epoch { epoch, learning_rate, train_loss, train_accuracy, valid_loss, valid_accuracy }))
    }

    fn validate(&mut self) -> Result<(f64, f64)> {
        let (mut loss, mut hits) = (0.0, 0);
        for batch in self.feed.validation() {
            let batch = batch?;
            let pass = self.searcher.evaluate(&batch)?;
            loss += pass.loss()? * batch.labels.count() as f64;
            hits += pass.correct()?;
        }
        let count = self.feed.halves.1.len() as f64;
        finite("validation", loss)?;
        Ok((loss / count, 100.0 * hits as f64 / count))
    }

    /// Searches to the end and tells of each epoch.
    ///
    /// # Errors
    /// As [`Self::epoch`].
    pub fn run(mut self, mut tell: impl FnMut(&Epoch)) -> Result<Genotype> {
        while let Some(epoch) = self.epoch()? {
            tell(&epoch);
        }
        self.genotype()
    }

    /// The architecture that the alphas stand for now.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if an alpha is NaN.
    pub fn genotype(&self) -> Result<Genotype> {
        self.searcher.genotype()
    }
}
