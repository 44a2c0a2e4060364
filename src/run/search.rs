//! A whole search: data, supernet, steps, epochs, what it leaves.

use super::board::{self, Board};
use super::checkpoint::Checkpoint;
use super::config::{Configuration, SearchConfig};
use super::course::{Output, Plan, Reached, Run, Work, not_finite};
use super::device::{check_fused, lean_on, stored_on};
use super::jsonl::{Alphas, Entropy, Row, Trim};
use super::network_state::Source;
use super::progress::{EpochNumbers, StepNumbers, percent};
use super::records::Records;
use super::state::{self, Position};
use super::{folder, interrupt, loaded, memory as process, report, result};
use crate::data::augment::Augment;
use crate::data::fingerprint::Fingerprint;
use crate::data::{self, ImageSet, Request};
use crate::device::{Device, profile};
use crate::error::{Error, Result};
use crate::nn::{Adam, Sgd, cosine};
use crate::search::{Draws, Feed, Hyper, Order, Searcher, finite};
use crate::space::cnn::{CnnConfig, CnnSupernet};
use crate::space::{Space, Supernet};
use crate::tensor::DType;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A search and its run folder.
pub type SearchRun = Run<Searching>;

/// A search, its images, and where it stands.
pub struct Searching {
    config: SearchConfig,
    feed: Feed,
    fingerprint: Fingerprint,
    searcher: Searcher,
    position: Position,
}

impl Work for Searching {
    type Config = SearchConfig;
    /// Order of the images, learning rate.
    type Epoch = (Vec<usize>, f64);
    /// Loss and accuracy in percent over the validation half in evaluation mode.
    type Judged = (f64, f64);
    const VERB: &'static str = "search";

    fn open(config: &mut SearchConfig, from: Option<Source>) -> Result<(Self, (Device, String))> {
        let device = config.device()?.open_for(config.precision())?;
        let (images, mut searcher) = build(config, &device.0)?;
        let (mut position, fingerprint) = (Position::default(), Fingerprint::of(&images));
        match from {
            Some(source) => {
                source.check_data(fingerprint)?;
                position = state::unpack(source, &mut searcher)?;
            }
            None => {
                let (weights, running) = (&mut searcher.weights, &mut searcher.running);
                loaded::start_from(&config.search.weights, None, weights, running)?;
            }
        }
        let mut searcher = searcher.on(&device.0)?;
        searcher.graphs = config.run.graph;
        let feed = Feed::new(images, draws(config, &device.0), &device.0)?;
        Ok((Self { config: config.clone(), feed, fingerprint, searcher, position }, device))
    }

    fn plan(&self) -> Plan {
        let SearchConfig { search, run, .. } = &self.config;
        Plan {
            epochs: search.epochs,
            steps: self.feed.steps(),
            max_steps: search.max_steps,
            batch_size: search.batch_size,
            checkpoint_steps: run.checkpoint_steps,
            quiet: run.quiet,
            json: run.json,
        }
    }

    fn reached(&self) -> Reached {
        let Position { epoch, step, images, .. } = self.position;
        Reached { epoch, step, images }
    }

    fn pack(&self) -> Result<Checkpoint> {
        let (seed, fixed) = (self.config.search.seed, self.config.fixed());
        state::pack(&self.searcher, self.position, seed, fixed, self.fingerprint)
    }

    fn create(&self) -> Result<PathBuf> {
        folder::create(&self.config.run.out, &format!("search-{}", self.config.data.name))
    }

    fn trims(&self, folder: &Path) -> Result<Vec<Trim>> {
        let position = self.position;
        let metrics = Trim::plan(&folder.join(folder::METRICS), |row: &Row| match row {
            Row::Step { epoch, step, .. } => (*epoch, *step) < (position.epoch, position.step),
            Row::Epoch { epoch, .. } => *epoch < position.epoch,
        })?;
        let alphas = Trim::plan(&folder.join(folder::ALPHAS), |row: &Alphas| row.epoch < position.epoch)?;
        Ok(vec![metrics, alphas])
    }

    fn records(&self, folder: &Path) -> Result<Records> {
        let config = &self.config;
        let board = || Board::new(folder, config.to_toml(), Some(board::Space::of(config)));
        let board = config.run.tensorboard.then(board);
        Records::open(folder, config.run.json, board)?.with_alphas(folder)
    }

    fn heading(&self, device: &str, folder: &Path) -> Result<Vec<String>> {
        result::heading(&self.config, &self.feed, &self.searcher, device, folder)
    }

    fn epoch(&self, epoch: usize) -> Self::Epoch {
        let weights = &self.config.weights;
        let (first, last) = (weights.learning_rate, weights.learning_rate_min);
        (self.feed.order(epoch), cosine(first, last, epoch, self.config.search.epochs))
    }

    fn step(&mut self, (order, learning_rate): &Self::Epoch, records: &mut Records) -> Result<StepNumbers> {
        let (start, Position { epoch, step, .. }) = (Instant::now(), self.position);
        let [train, valid] = self.feed.step(order, epoch, step)?;
        let images = train.labels.count();
        let report = self.searcher.step(self.config.search.order, &train, &valid, *learning_rate);
        let exhausted = |e| process::exhausted(e, &self.config, &self.searcher, &self.feed.images);
        let report = report.map_err(exhausted)?;
        self.position.step += 1;
        self.position.images += images;
        self.position.correct += report.train_correct;
        self.position.train_loss += report.train_loss * images as f64;
        self.position.valid_loss += report.valid_loss * images as f64;
        records.append(&Row::Step {
            epoch,
            step,
            train_loss: report.train_loss,
            train_accuracy: percent(report.train_correct, images),
            valid_loss: report.valid_loss,
            seconds: start.elapsed().as_secs_f64(),
        })?;
        let Position { images, correct, train_loss, valid_loss, .. } = self.position;
        Ok(StepNumbers {
            train_loss: train_loss / images as f64,
            train_accuracy: percent(correct, images),
            valid_loss: Some(valid_loss / images as f64),
            ..StepNumbers::default()
        })
    }

    fn judge(&mut self) -> Result<Option<(f64, f64)>> {
        let ((mut loss, mut correct), Position { epoch, step, .. }) = ((0.0, 0), self.position);
        for batch in self.feed.validation() {
            if interrupt::requested() {
                return Ok(None);
            }
            let batch = batch?;
            let place = || format!("epoch {}, validation after step {}", epoch + 1, step);
            let pass = self.searcher.evaluate(&batch).map_err(not_finite(place))?;
            let mean = pass.loss()?;
            finite("validation", mean).map_err(not_finite(place))?;
            loss += mean * batch.labels.count() as f64;
            correct += pass.correct()?;
        }
        let count = self.feed.halves.1.len();
        Ok(Some((loss / count as f64, percent(correct, count))))
    }

    fn report(
        &self,
        (_, learning_rate): &Self::Epoch,
        (valid_loss, valid_accuracy): (f64, f64),
        numbers: EpochNumbers,
        out: &mut Output,
    ) -> Result<()> {
        let (learning_rate, Position { images, correct, train_loss, .. }) = (*learning_rate, self.position);
        let (train_loss, train_accuracy) = (train_loss / images.max(1) as f64, percent(correct, images));
        let (epoch, peak_bytes) = (numbers.epoch, self.searcher.peak_bytes());
        profile::memory();
        let mut weights = self.searcher.edge_weights()?.into_iter();
        let [normal, reduce] = [weights.next().unwrap_or_default(), weights.next().unwrap_or_default()];
        out.records.append(&Row::Epoch {
            epoch,
            learning_rate,
            train_loss,
            train_accuracy,
            valid_loss,
            valid_accuracy,
            seconds: numbers.seconds,
            peak_bytes,
            peak_rss_bytes: profile::peak_resident(),
            entropy: Entropy { normal: entropies(&normal), reduce: entropies(&reduce) },
        })?;
        out.records.append_alphas(&Alphas { epoch, normal, reduce })?;
        result::write_cells(&out.folder, &self.searcher.genotype()?)?;
        let judged = format!("valid loss {valid_loss:.4} accuracy {valid_accuracy:5.2} %");
        let line = numbers.line(learning_rate, (train_loss, train_accuracy), &judged);
        let peak = peak_bytes as f64 / (1 << 20) as f64;
        out.progress.end_epoch(&format!("{line}  peak {peak:.0} MiB"));
        Ok(())
    }

    fn close(&mut self, _: Self::Judged, whole: bool, folder: &Path) -> Result<()> {
        if whole {
            self.position = Position { epoch: self.position.epoch + 1, ..Position::default() };
        }
        self.pack()?.save(folder)?;
        report::write(folder).map(drop) // what it shows is safe by now
    }

    fn end(&self, out: &Output) -> Result<(String, Value)> {
        if let Some(bytes) = profile::peak_resident() {
            out.progress.line(&format!("memory    {} resident at the peak", process::show(bytes)));
        }
        let images = &self.feed.images;
        let (size, genotype) = ([images.height, images.width], self.searcher.genotype()?);
        let text = result::write(&out.folder, &genotype, &self.config, size, images)?;
        Ok((text, result::json(&out.folder, &genotype)?))
    }
}

impl Searching {
    /// The images, and which half of them is for what.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// Data and a search at its start, in the host's memory, that fits into what `device` may take.
fn build(config: &SearchConfig, device: &Device) -> Result<(ImageSet, Searcher)> {
    let d = &config.data;
    let images = data::load(&Request {
        name: d.name.clone(),
        dir: (!d.dir.as_os_str().is_empty()).then(|| d.dir.clone()),
        image_size: (d.image_size > 0).then_some(d.image_size),
        seed: config.data_seed(),
        train_images: (d.name == "synthetic").then_some(d.train_images),
    })?
    .train;
    config.check_images(images.height, images.width)?;
    let mut net = supernet(config, images.classes.len(), images.channels, lean(config, device)?)?;
    check_fused(config.precision(), device, net.unfused().is_empty())?;
    let (load, bytes) = (process::workload(config, &images, device), process::of_images(&images));
    if let Some(budget) = config.memory_budget()? {
        process::fit(&mut net, &load, budget, bytes, device)?;
    }
    let smaller = |fits: &dyn Fn(usize) -> bool| load.largest_batch(&net, fits);
    process::check_machine(device, [load.peak(&net)?, bytes], smaller)?;
    let searcher = Searcher::new(Box::new(net), hyper(config), config.search.seed, DType::F32)?;
    Ok((images, searcher))
}

/// Whether cells keep values lean on `device`.
fn lean(config: &SearchConfig, device: &Device) -> Result<bool> {
    let lean = lean_on(config.precision(), device);
    let refuse =
        |what: &str| Err(Error::config("run.precision", format!("bf16 on the CPU {what}; take f32")));
    match (config.search.order, &*config.run.fusion) {
        (Order::Exact, _) if lean => refuse("has no dual numbers, which --order exact computes with"),
        (_, "off") if lean => refuse("is of fused cells, which --fusion off rules out"),
        _ => Ok(lean),
    }
}

/// The supernet for images of so many classes and channels.
pub(super) fn supernet(
    config: &SearchConfig,
    classes: usize,
    image_channels: usize,
    lean: bool,
) -> Result<CnnSupernet> {
    let s = &config.space;
    CnnSupernet::new(&CnnConfig {
        channels: s.channels,
        cells: s.cells,
        space: Space::published(s.nodes, &s.candidates)?,
        classes,
        image_channels,
        stem_multiplier: s.stem_multiplier,
        fused: config.run.fusion == "on",
        lean,
        ..CnnConfig::default()
    })
}

pub(super) fn hyper(config: &SearchConfig) -> Hyper {
    let (w, a) = (&config.weights, &config.alpha);
    Hyper {
        sgd: Sgd { momentum: w.momentum, weight_decay: w.weight_decay },
        clip: w.grad_clip,
        adam: Adam {
            learning_rate: a.learning_rate,
            beta1: a.beta1,
            beta2: a.beta2,
            epsilon: a.epsilon,
            weight_decay: a.weight_decay,
        },
        radius: config.search.finite_difference_radius,
        alpha_init: a.init_scale,
    }
}

fn draws(config: &SearchConfig, device: &Device) -> Draws {
    let d = &config.data;
    let cutout = (d.cutout > 0).then_some(d.cutout);
    Draws {
        train_portion: d.train_portion,
        batch_size: config.search.batch_size,
        seed: config.search.seed,
        data_seed: config.data_seed(),
        augment: Augment { crop_padding: d.crop_padding, flip: d.flip, cutout },
        precision: stored_on(config.precision(), device),
    }
}

/// Entropy of each row in nats.
fn entropies(weights: &[Vec<f64>]) -> Vec<f64> {
    let row = |row: &Vec<f64>| -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
    weights.iter().map(row).collect()
}
