//! A whole search: data, supernet, epochs, run folder, resume.

use super::board::{self, Board};
use super::checkpoint::{Checkpoint, NEWEST, PREVIOUS};
pub use super::cli::Outcome;
use super::config::{Configuration, SearchConfig};
use super::folder;
use super::interrupt;
use super::jsonl::{Alphas, Entropy, Row, Trim};
use super::loaded;
use super::memory as process;
use super::network_state::Source;
use super::progress::{EpochNumbers, Progress, StepNumbers, epoch_line};
use super::records::Records;
use super::report;
use super::result;
use super::state::{self, Position};
use crate::data::augment::Augment;
use crate::data::{self, ImageSet, Request};
use crate::device::{Device, profile};
use crate::error::{Error, Result};
use crate::nn::{Adam, Sgd, cosine};
use crate::search::{Draws, Feed, Hyper, Searcher, finite};
use crate::space::Space;
use crate::space::cnn::{CnnConfig, CnnSupernet};
use crate::tensor::DType;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A search and its run folder.
pub struct SearchRun {
    config: SearchConfig,
    folder: PathBuf,
    /// Keeps other searches out of the folder.
    _claim: Option<File>,
    feed: Feed,
    searcher: Searcher,
    /// Device and what it is called.
    device: (Device, String),
    position: Position,
    records: Records,
    progress: Progress,
    /// Steps since this process started, and when it did.
    pace: (usize, Instant),
    /// The folder to resume after an interruption: its own, or that of the runs that it is one of.
    whole: PathBuf,
}

impl SearchRun {
    /// A new run; its folder is made only once data and network are there.
    pub fn start(config: SearchConfig) -> Result<Self> {
        let device = config.device()?.open()?;
        let (images, mut searcher) = build(&config, &device.0)?;
        loaded::start_from(&config.search.weights, None, &mut searcher.weights, &mut searcher.running)?;
        let name = format!("search-{}", config.data.name);
        let folder = folder::create(&config.run.out, &name)?;
        let claim = folder::claim(&folder)?;
        let begin = || {
            folder::write_atomic(&folder.join(folder::CONFIG), config.to_toml().as_bytes())?;
            let start = Position::default();
            let run = Self::assemble(config, device, (folder.clone(), claim), images, searcher, start)?;
            run.save().map(|()| run)
        };
        begin().inspect_err(|_| folder::undo(&folder, &[folder::ALPHAS]))
    }

    /// The run in `folder`, from its newest whole checkpoint on.
    pub fn resume(config: SearchConfig, folder: &Path) -> Result<Self> {
        let claim = folder::claim(folder)?;
        let (checkpoint, warning) = Checkpoint::load(folder)?;
        let file = folder.join(NEWEST);
        let source = Source { checkpoint: &checkpoint, path: &file };
        config.can_resume(&config.with_fixed(&source.settings()?, &file)?, &file)?;
        let device = config.device()?.open()?;
        let (images, mut searcher) = build(&config, &device.0)?;
        let position = state::unpack(source, &mut searcher)?;
        let metrics = Trim::plan(&folder.join(folder::METRICS), |row: &Row| match row {
            Row::Step { epoch, step, .. } => (*epoch, *step) < (position.epoch, position.step),
            Row::Epoch { epoch, .. } => *epoch < position.epoch,
        })?;
        let alphas = Trim::plan(&folder.join(folder::ALPHAS), |row: &Alphas| row.epoch < position.epoch)?;
        // everything is checked: from here on files change
        if warning.is_some() {
            // else the next save would push the whole one out, to keep the damaged one
            folder::rename(&folder.join(PREVIOUS), &file)?;
        }
        metrics.apply()?;
        alphas.apply()?;
        let (stored, settings) = (folder.join(folder::CONFIG), config.to_toml());
        if std::fs::read(&stored).ok().as_deref() != Some(settings.as_bytes()) {
            folder::write_atomic(&stored, settings.as_bytes())?; // the next resume goes on with these
        }
        let run = Self::assemble(config, device, (folder.to_owned(), claim), images, searcher, position)?;
        if let Some(warning) = warning {
            run.progress.warn(&format!("warning: {warning}"));
        }
        run.progress.line(&run.standing());
        Ok(run)
    }

    /// Where a resumed run stands, in words.
    fn standing(&self) -> String {
        let Position { epoch, step, .. } = self.position;
        if epoch >= self.config.search.epochs {
            "resumed after its last epoch: nothing is left to search".into()
        } else if self.at_limit() {
            let limit = self.config.search.max_steps;
            format!(
                "resumed at its limit of {limit} steps; give a larger --max-steps, or 0 for none, to go on"
            )
        } else {
            format!("resumed in epoch {} after {step} of its {} steps", epoch + 1, self.steps_per_epoch())
        }
    }

    fn assemble(
        config: SearchConfig,
        device: (Device, String),
        (folder, claim): (PathBuf, Option<File>),
        images: ImageSet,
        searcher: Searcher,
        position: Position,
    ) -> Result<Self> {
        let mut searcher = searcher.on(&device.0)?;
        searcher.graphs = config.run.graph;
        Ok(Self {
            feed: Feed::new(images, draws(&config), &device.0)?,
            records: Records::open(&folder, config.run.json, board(&config, &folder))?
                .with_alphas(&folder)?,
            progress: Progress::new(config.run.quiet, config.run.json).logged(&folder)?,
            pace: (0, Instant::now()),
            whole: folder.clone(),
            config,
            folder,
            _claim: claim,
            searcher,
            device,
            position,
        })
    }

    /// The same as one of the runs in the folder `whole`, which is what goes on after an interruption.
    pub fn part_of(self, whole: &Path) -> Self {
        Self { whole: whole.to_owned(), ..self }
    }

    /// Searches to the end, or to the first signal.
    pub fn run(mut self) -> Result<Outcome> {
        self.search().inspect_err(|e| self.progress.log(&format!("error: {e}")))
    }

    fn search(&mut self) -> Result<Outcome> {
        let (config, device) = (&self.config, &self.device.1);
        for line in result::heading(config, &self.feed, &self.searcher, device, &self.folder)? {
            self.progress.line(&line);
        }
        // an epoch that the limit cut short was dropped from the files by resuming: it is reported again
        let mut more = self.more() || self.position.step > 0;
        while more {
            if self.epoch()? == Outcome::Interrupted {
                self.save()?;
                self.progress.finish();
                self.progress.warn(&interrupt::advice(&self.whole));
                return Ok(Outcome::Interrupted);
            }
            more = self.more();
        }
        self.progress.finish();
        if let Some(bytes) = profile::peak_resident() {
            self.progress.line(&format!("memory    {} resident at the peak", process::show(bytes)));
        }
        let images = &self.feed.images;
        let (size, genotype) = ([images.height, images.width], self.searcher.genotype()?);
        let text = result::write(&self.folder, &genotype, &self.config, size, images)?;
        self.progress.result(&text, &result::json(&self.folder, &genotype)?)?;
        Ok(Outcome::Finished)
    }

    fn steps_per_epoch(&self) -> usize {
        self.feed.steps()
    }

    /// Steps of the whole run so far.
    fn steps_done(&self) -> usize {
        self.position.epoch * self.steps_per_epoch() + self.position.step
    }

    fn more(&self) -> bool {
        self.position.epoch < self.config.search.epochs && !self.at_limit()
    }

    fn at_limit(&self) -> bool {
        let limit = self.config.search.max_steps;
        limit > 0 && self.steps_done() >= limit
    }

    /// The rest of the epoch that runs: its steps, its validation, its rows and its checkpoint. Stopped by the limit
    /// of steps, an epoch is reported but stays unfinished in the checkpoint, so that it can be gone on with.
    fn epoch(&mut self) -> Result<Outcome> {
        let (epoch, start) = (self.position.epoch, Instant::now());
        let (steps, weights) = (self.steps_per_epoch(), &self.config.weights);
        let (first, last) = (weights.learning_rate, weights.learning_rate_min);
        let learning_rate = cosine(first, last, epoch, self.config.search.epochs);
        let order = self.feed.order(epoch);
        self.progress.start_epoch(epoch, self.config.search.epochs, steps, self.position.step);
        self.device.0.reset_peak();
        let before = self.position.images;
        while self.position.step < steps && !self.at_limit() {
            if interrupt::requested() {
                return Ok(Outcome::Interrupted);
            }
            self.step(&order, learning_rate)?;
            let every = self.config.run.checkpoint_steps;
            if every > 0 && self.position.step.is_multiple_of(every) && self.position.step < steps {
                self.save()?;
            }
        }
        let images_per_second = (self.position.images - before) as f64 / start.elapsed().as_secs_f64();
        let Some((valid_loss, valid_accuracy)) = self.validate()? else { return Ok(Outcome::Interrupted) };
        let numbers = EpochNumbers {
            epoch,
            epochs: self.config.search.epochs,
            learning_rate,
            train_loss: self.position.train_loss / self.position.images.max(1) as f64,
            train_accuracy: percent(self.position.correct, self.position.images),
            valid_loss,
            valid_accuracy,
            images_per_second,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: self.searcher.peak_bytes(),
            peak_rss_bytes: profile::peak_resident(),
        };
        profile::memory();
        self.report(&numbers)?;
        if self.position.step == steps {
            self.position = Position { epoch: epoch + 1, ..Position::default() };
        }
        self.save()?;
        report::write(&self.folder)?; // what it shows is safe by now
        Ok(Outcome::Finished)
    }

    fn step(&mut self, order: &[usize], learning_rate: f64) -> Result<()> {
        let (start, Position { epoch, step, .. }) = (Instant::now(), self.position);
        let [train, valid] = self.feed.step(order, epoch, step)?;
        let images = train.labels.count();
        let report = self.searcher.step(self.config.search.order, &train, &valid, learning_rate);
        let report = report
            .map_err(at(|| format!("epoch {}, step {}", epoch + 1, step + 1)))
            .map_err(|e| process::exhausted(e, &self.config, &self.searcher, &self.feed.images))?;
        self.position.step += 1;
        self.position.images += images;
        self.position.correct += report.train_correct;
        self.position.train_loss += report.train_loss * images as f64;
        self.position.valid_loss += report.valid_loss * images as f64;
        self.records.append(&Row::Step {
            epoch,
            step,
            train_loss: report.train_loss,
            train_accuracy: percent(report.train_correct, images),
            valid_loss: report.valid_loss,
            seconds: start.elapsed().as_secs_f64(),
        })?;
        self.pace.0 += 1;
        self.show();
        Ok(())
    }

    fn show(&self) {
        let Position { step, images, correct, train_loss, valid_loss, .. } = self.position;
        let search = &self.config.search;
        let all = search.epochs * self.steps_per_epoch();
        let all = if search.max_steps > 0 { all.min(search.max_steps) } else { all };
        let each = self.pace.1.elapsed().as_secs_f64() / self.pace.0 as f64;
        let mean = |sum: f64| sum / images as f64;
        self.progress.step(
            step,
            &StepNumbers {
                train_loss: mean(train_loss),
                train_accuracy: percent(correct, images),
                valid_loss: Some(mean(valid_loss)),
                images_per_second: search.batch_size as f64 / each,
                seconds_left: each * all.saturating_sub(self.steps_done()) as f64,
            },
        );
    }

    /// Loss and accuracy in percent over the validation half in evaluation mode; nothing if a signal came.
    fn validate(&mut self) -> Result<Option<(f64, f64)>> {
        let ((mut loss, mut correct), Position { epoch, step, .. }) = ((0.0, 0), self.position);
        for batch in self.feed.validation() {
            if interrupt::requested() {
                return Ok(None);
            }
            let batch = batch?;
            let place = || format!("epoch {}, validation after step {}", epoch + 1, step);
            let pass = self.searcher.evaluate(&batch).map_err(at(place))?;
            let mean = pass.loss()?;
            finite("validation", mean).map_err(at(place))?;
            loss += mean * batch.labels.count() as f64;
            correct += pass.correct()?;
        }
        let count = self.feed.halves.1.len();
        Ok(Some((loss / count as f64, percent(correct, count))))
    }

    /// Rows, line, drawings and genotype of an epoch.
    fn report(&mut self, n: &EpochNumbers) -> Result<()> {
        let mut weights = self.searcher.edge_weights()?.into_iter();
        let [normal, reduce] = [weights.next().unwrap_or_default(), weights.next().unwrap_or_default()];
        let entropy = Entropy { normal: entropies(&normal), reduce: entropies(&reduce) };
        self.records.append(&Row::Epoch {
            epoch: n.epoch,
            learning_rate: n.learning_rate,
            train_loss: n.train_loss,
            train_accuracy: n.train_accuracy,
            valid_loss: n.valid_loss,
            valid_accuracy: n.valid_accuracy,
            seconds: n.seconds,
            peak_bytes: n.peak_bytes,
            peak_rss_bytes: n.peak_rss_bytes,
            entropy,
        })?;
        self.records.append_alphas(&Alphas { epoch: n.epoch, normal, reduce })?;
        result::write_cells(&self.folder, &self.searcher.genotype()?)?;
        self.progress.end_epoch(&epoch_line(n));
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let seed = self.config.search.seed;
        state::pack(&self.searcher, self.position, seed, self.config.fixed())?.save(&self.folder)
    }
}

/// Data and a search at its start, in the host's memory, that fits into what `device` may take.
fn build(config: &SearchConfig, device: &Device) -> Result<(ImageSet, Searcher)> {
    if config.precision() == DType::BF16 && device.cuda().is_none() {
        let what = "bf16 is stored on CUDA devices only, and auto found none; take f32";
        return Err(Error::config("run.precision", what));
    }
    let d = &config.data;
    let images = data::load(&Request {
        name: d.name.clone(),
        dir: (!d.dir.as_os_str().is_empty()).then(|| d.dir.clone()),
        image_size: (d.image_size > 0).then_some(d.image_size),
        seed: config.search.seed,
        train_images: (d.name == "synthetic").then_some(d.train_images),
    })?
    .train;
    config.check_images(images.height, images.width)?;
    let mut net = supernet(config, images.classes.len(), images.channels)?;
    if let Some(budget) = config.memory_budget()? {
        process::fit(
            &mut net,
            &process::workload(config, &images),
            budget,
            process::of_images(&images),
            device,
        )?;
    }
    let searcher = Searcher::new(Box::new(net), hyper(config), config.search.seed, DType::F32)?;
    Ok((images, searcher))
}

fn board(config: &SearchConfig, folder: &Path) -> Option<Board> {
    config.run.tensorboard.then(|| Board::new(folder, config.to_toml(), Some(board::Space::of(config))))
}

/// The supernet for images of so many classes and channels.
pub(super) fn supernet(config: &SearchConfig, classes: usize, image_channels: usize) -> Result<CnnSupernet> {
    let s = &config.space;
    CnnSupernet::new(&CnnConfig {
        channels: s.channels,
        cells: s.cells,
        space: Space::published(s.nodes, &s.candidates)?,
        classes,
        image_channels,
        stem_multiplier: s.stem_multiplier,
        fused: config.run.fusion == "on",
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

fn draws(config: &SearchConfig) -> Draws {
    let d = &config.data;
    let cutout = (d.cutout > 0).then_some(d.cutout);
    Draws {
        train_portion: d.train_portion,
        batch_size: config.search.batch_size,
        seed: config.search.seed,
        augment: Augment { crop_padding: d.crop_padding, flip: d.flip, cutout },
        precision: config.precision(),
    }
}

/// For `map_err`: says `where_` a value that is not finite came up.
pub(super) fn at(where_: impl FnOnce() -> String) -> impl FnOnce(Error) -> Error {
    |e| match e {
        Error::NotFinite { what } => Error::NotFinite { what: format!("{}: {what}", where_()) },
        other => other,
    }
}

pub(super) fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Entropy of each row in nats.
fn entropies(weights: &[Vec<f64>]) -> Vec<f64> {
    let row = |row: &Vec<f64>| -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
    weights.iter().map(row).collect()
}
