//! A whole training: data, network, epochs, run folder, resume.

use super::board::Board;
use super::checkpoint::{BEST, Checkpoint, NEWEST, PREVIOUS};
use super::cli::Outcome;
use super::config::{Configuration, TrainConfig};
use super::jsonl::{TrainRow, Trim};
use super::network_state::Source;
use super::progress::{Progress, StepNumbers};
use super::records::Records;
use super::search::{at, percent};
use super::train_data::TrainData;
use super::train_result::{self as result, Tested};
use super::train_state::{self as state, Best, Position};
use super::{folder, found, interrupt, loaded};
use crate::data::split;
use crate::device::{Device, profile};
use crate::error::{Error, Result};
use crate::nn::Sgd;
use crate::space::Genotype;
use crate::space::genotype;
use crate::space::network::{Network, NetworkConfig};
use crate::tensor::DType;
use crate::train::{Decay, Hits, Hyper, Schedule, Trainer, drop_rate};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A training and its run folder.
pub struct TrainRun {
    config: TrainConfig,
    genotype: Genotype,
    folder: PathBuf,
    /// Keeps other runs out of the folder.
    _claim: Option<File>,
    data: TrainData,
    trainer: Trainer,
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

impl TrainRun {
    /// A new run; its folder is made only once data and network are there.
    pub fn start(mut config: TrainConfig) -> Result<Self> {
        if config.network.genotype.is_empty() {
            config.network.genotype = found::newest(Path::new(folder::RUNS));
        }
        let genotype = found::genotype(&config.network.genotype)?;
        let device = open(&config)?;
        let (data, mut trainer) = build(&config, &genotype, &device.0)?;
        loaded::start_from(
            &config.network.weights,
            Some(&genotype),
            &mut trainer.weights,
            &mut trainer.running,
        )?;
        let name = format!("train-{}-{}", found::label(&config.network.genotype), config.data.name);
        let folder = folder::create(&config.run.out, &name)?;
        let claim = folder::claim(&folder)?;
        let begin = || {
            folder::write_atomic(&folder.join(folder::CONFIG), config.to_toml().as_bytes())?;
            super::result::write_cells(&folder, &genotype)?;
            let (place, start) = ((folder.clone(), claim), Position::default());
            let run = Self::assemble(config, genotype, device, place, data, trainer, start)?;
            run.save().map(|()| run)
        };
        begin().inspect_err(|_| folder::undo(&folder, &folder::CELLS))
    }

    /// The run in `folder`, from its newest whole checkpoint on.
    pub fn resume(config: TrainConfig, folder: &Path) -> Result<Self> {
        let claim = folder::claim(folder)?;
        let (checkpoint, warning) = Checkpoint::load(folder)?;
        let file = folder.join(NEWEST);
        let source = Source { checkpoint: &checkpoint, path: &file };
        config.can_resume(&config.with_fixed(&source.settings()?, &file)?, &file)?;
        // the cells as they were: the file or run that they came from may have changed
        let Some(cells) = source.genotype()? else {
            return Err(Error::checkpoint(
                &file,
                "is of no training; go on with it by the program that wrote it",
            ));
        };
        let genotype = genotype::parse_any(&cells)?;
        let device = open(&config)?;
        let (data, mut trainer) = build(&config, &genotype, &device.0)?;
        let position = state::unpack(source, &mut trainer)?;
        let metrics = Trim::plan(&folder.join(folder::METRICS), |row: &TrainRow| match row {
            TrainRow::Step { epoch, step, .. } => (*epoch, *step) < (position.epoch, position.step),
            TrainRow::Epoch { epoch, .. } => *epoch < position.epoch,
        })?;
        // everything is checked: from here on files change
        if warning.is_some() {
            // else the next save would push the whole one out, to keep the damaged one
            folder::rename(&folder.join(PREVIOUS), &file)?;
        }
        metrics.apply()?;
        let (stored, settings) = (folder.join(folder::CONFIG), config.to_toml());
        if std::fs::read(&stored).ok().as_deref() != Some(settings.as_bytes()) {
            folder::write_atomic(&stored, settings.as_bytes())?; // the next resume goes on with these
        }
        let place = (folder.to_owned(), claim);
        let run = Self::assemble(config, genotype, device, place, data, trainer, position)?;
        if let Some(warning) = warning {
            run.progress.warn(&format!("warning: {warning}"));
        }
        run.progress.line(&run.standing());
        Ok(run)
    }

    /// Where a resumed run stands, in words.
    fn standing(&self) -> String {
        let Position { epoch, step, .. } = self.position;
        if epoch >= self.config.train.epochs {
            "resumed after its last epoch: nothing is left to train".into()
        } else if self.at_limit() {
            let limit = self.config.train.max_steps;
            format!(
                "resumed at its limit of {limit} steps; give a larger --max-steps, or 0 for none, to go on"
            )
        } else {
            format!("resumed in epoch {} after {step} of its {} steps", epoch + 1, self.steps_per_epoch())
        }
    }

    fn assemble(
        config: TrainConfig,
        genotype: Genotype,
        device: (Device, String),
        (folder, claim): (PathBuf, Option<File>),
        mut data: TrainData,
        trainer: Trainer,
        position: Position,
    ) -> Result<Self> {
        let mut trainer = trainer.on(&device.0)?;
        trainer.graphs = config.run.graph;
        data.put_on(&device.0, config.train.batch_size)?;
        let board = config.run.tensorboard.then(|| Board::new(&folder, config.to_toml(), None));
        Ok(Self {
            records: Records::open(&folder, config.run.json, board)?,
            progress: Progress::new(config.run.quiet, config.run.json).logged(&folder)?,
            pace: (0, Instant::now()),
            whole: folder.clone(),
            config,
            genotype,
            folder,
            _claim: claim,
            data,
            trainer,
            device,
            position,
        })
    }

    /// The same as one of the runs in the folder `whole`, which is what goes on after an interruption.
    pub fn part_of(self, whole: &Path) -> Self {
        Self { whole: whole.to_owned(), ..self }
    }

    /// Trains to the end, or to the first signal.
    pub fn run(mut self) -> Result<Outcome> {
        self.train().inspect_err(|e| self.progress.log(&format!("error: {e}")))
    }

    fn train(&mut self) -> Result<Outcome> {
        let device = &self.device.1;
        for line in result::heading(&self.config, &self.data, &self.trainer, device, &self.folder)? {
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
        let best = self.position.best.map(|best| (best, self.data.test.len()));
        let text = result::ending(&self.genotype, best, &self.folder, self.config.run.tensorboard);
        self.progress.result(&text, &result::json(&self.genotype, best, &self.folder))?;
        Ok(Outcome::Finished)
    }

    fn steps_per_epoch(&self) -> usize {
        steps(self.data.train.len(), self.config.train.batch_size)
    }

    /// Steps of the whole run so far.
    fn steps_done(&self) -> usize {
        self.position.epoch * self.steps_per_epoch() + self.position.step
    }

    fn more(&self) -> bool {
        self.position.epoch < self.config.train.epochs && !self.at_limit()
    }

    fn at_limit(&self) -> bool {
        let limit = self.config.train.max_steps;
        limit > 0 && self.steps_done() >= limit
    }

    /// The rest of the epoch that runs: its steps, its test, its rows and its checkpoints. Stopped by the limit of
    /// steps, an epoch is reported but stays unfinished in the checkpoint, so that it can be gone on with.
    fn epoch(&mut self) -> Result<Outcome> {
        let (epoch, start) = (self.position.epoch, Instant::now());
        let (steps, train) = (self.steps_per_epoch(), &self.config.train);
        let rates = (schedule(&self.config).rate(epoch), drop_rate(train.drop_path, epoch, train.epochs));
        let order = split::epoch_order(&self.data.train, train.seed, epoch as u64);
        self.progress.start_epoch(epoch, train.epochs, steps, self.position.step);
        self.device.0.reset_peak();
        let before = self.position.images;
        while self.position.step < steps && !self.at_limit() {
            if interrupt::requested() {
                return Ok(Outcome::Interrupted);
            }
            self.step(&order, rates)?;
            let every = self.config.run.checkpoint_steps;
            if every > 0 && self.position.step.is_multiple_of(every) && self.position.step < steps {
                self.save()?;
            }
        }
        let images_per_second = (self.position.images - before) as f64 / start.elapsed().as_secs_f64();
        let Some((test_loss, test)) = self.test()? else { return Ok(Outcome::Interrupted) };
        let whole = self.position.step == steps;
        let better = whole && self.position.best.is_none_or(|best| test.top1 > best.top1);
        let numbers = Tested { epoch, rates, images_per_second, test_loss, test, start, better };
        profile::memory();
        self.report(&numbers)?;
        if whole {
            let this = Best { epoch, top1: test.top1, top5: test.top5 };
            let best = if better { Some(this) } else { self.position.best };
            self.position = Position { epoch: epoch + 1, best, ..Position::default() };
        }
        if better {
            self.pack()?.save_as(&self.folder, BEST)?;
        }
        self.save()?;
        Ok(Outcome::Finished)
    }

    fn step(&mut self, order: &[usize], (learning_rate, drop): (f64, f64)) -> Result<()> {
        let (start, Position { epoch, step, .. }) = (Instant::now(), self.position);
        let train = &self.config.train;
        let chosen = &order[step * train.batch_size..((step + 1) * train.batch_size).min(order.len())];
        let (e, s) = (epoch as u64, step as u64);
        let batch = self.data.training_batch(chosen, [train.seed, e, s], self.config.precision())?;
        let net = self.trainer.net();
        let draw = || net.draw_paths(drop, chosen.len(), [train.seed, e, s]);
        let factors = (drop > 0.0 && net.paths() > 0).then(draw).transpose()?;
        let report = self.trainer.step(&batch, factors.as_ref(), learning_rate);
        let (loss, hits) = report.map_err(at(|| format!("epoch {}, step {}", epoch + 1, step + 1)))?;
        self.position.add(chosen.len(), loss, hits);
        self.records.append(&TrainRow::Step {
            epoch,
            step,
            train_loss: loss,
            train_accuracy: percent(hits.top1, chosen.len()),
            seconds: start.elapsed().as_secs_f64(),
        })?;
        self.pace.0 += 1;
        self.show();
        Ok(())
    }

    fn show(&self) {
        let Position { step, images, top1, loss, .. } = self.position;
        let train = &self.config.train;
        let all = train.epochs * self.steps_per_epoch();
        let all = if train.max_steps > 0 { all.min(train.max_steps) } else { all };
        let each = self.pace.1.elapsed().as_secs_f64() / self.pace.0 as f64;
        self.progress.step(
            step,
            &StepNumbers {
                train_loss: loss / images as f64,
                train_accuracy: percent(top1, images),
                valid_loss: None,
                images_per_second: train.batch_size as f64 / each,
                seconds_left: each * all.saturating_sub(self.steps_done()) as f64,
            },
        );
    }

    /// Mean loss and hits on the test images in evaluation mode; nothing if a signal came.
    fn test(&mut self) -> Result<Option<(f64, Hits)>> {
        let (mut loss, mut all) = (0.0, Hits::default());
        for chosen in self.data.test.chunks(self.config.train.batch_size) {
            if interrupt::requested() {
                return Ok(None);
            }
            let batch = self.data.test_batch(chosen, self.config.precision())?;
            let (mean, hits) = self.trainer.evaluate(&batch)?;
            loss += mean * chosen.len() as f64;
            all.top1 += hits.top1;
            all.top5 += hits.top5;
        }
        let mean = loss / self.data.test.len() as f64;
        if !mean.is_finite() {
            let what = format!("the test loss became {mean}; lower the learning rate");
            return Err(at(|| format!("epoch {}", self.position.epoch + 1))(Error::NotFinite { what }));
        }
        Ok(Some((mean, all)))
    }

    /// Row and line of an epoch.
    fn report(&mut self, n: &Tested) -> Result<()> {
        let (seen, tested) = (self.position.images, self.data.test.len());
        let row = TrainRow::Epoch {
            epoch: n.epoch,
            learning_rate: n.rates.0,
            drop_path: n.rates.1,
            train_loss: self.position.loss / seen.max(1) as f64,
            train_accuracy: percent(self.position.top1, seen),
            train_top5: percent(self.position.top5, seen),
            test_loss: n.test_loss,
            test_accuracy: percent(n.test.top1, tested),
            test_top5: percent(n.test.top5, tested),
            seconds: n.start.elapsed().as_secs_f64(),
            peak_bytes: self.trainer.peak_bytes(),
            peak_rss_bytes: profile::peak_resident(),
        };
        self.records.append(&row)?;
        self.progress.end_epoch(&result::epoch_line(n, &row, self.config.train.epochs));
        Ok(())
    }

    fn pack(&self) -> Result<Checkpoint> {
        let (seed, fixed) = (self.config.train.seed, self.config.fixed());
        state::pack(&self.trainer, self.position, &self.genotype, seed, fixed)
    }

    fn save(&self) -> Result<()> {
        self.pack()?.save(&self.folder)
    }
}

/// Steps of an epoch of `images` images; a last batch of one image, which has no variance, is left out.
fn steps(images: usize, batch: usize) -> usize {
    images / batch + usize::from(images % batch > 1)
}

fn open(config: &TrainConfig) -> Result<(Device, String)> {
    let device = config.device()?.open()?;
    if config.precision() == DType::BF16 && device.0.cuda().is_none() {
        let what = "bf16 is stored on CUDA devices only, and auto found none; take f32";
        return Err(Error::config("run.precision", what));
    }
    Ok(device)
}

/// Data and a training at its start, in the host's memory, which will go on on `device`.
fn build(config: &TrainConfig, genotype: &Genotype, device: &Device) -> Result<(TrainData, Trainer)> {
    let data = TrainData::load(config)?;
    let train = &config.train;
    let network = NetworkConfig {
        kind: config.kind(),
        channels: config.network.channels,
        cells: config.network.cells,
        classes: data.classes,
        image_channels: data.image[2],
        auxiliary: train.auxiliary_weight > 0.0,
        fused: device.cuda().is_none(), // what a step is planned to take depends on it
    };
    let hyper = Hyper {
        sgd: Sgd { momentum: train.momentum, weight_decay: train.weight_decay },
        clip: train.grad_clip,
        smoothing: train.label_smoothing,
        auxiliary: train.auxiliary_weight,
    };
    let trainer = Trainer::new(Network::new(genotype, network)?, hyper, train.seed, DType::F32)?;
    Ok((data, trainer))
}

fn schedule(config: &TrainConfig) -> Schedule {
    let train = &config.train;
    let decay = match train.schedule.as_str() {
        "step" => Decay::Step { gamma: train.gamma, every: train.gamma_epochs },
        _ => Decay::Cosine { last: train.learning_rate_min },
    };
    Schedule { first: train.learning_rate, decay, epochs: train.epochs, warmup: train.warmup_epochs }
}

#[cfg(test)]
mod tests {
    use super::steps;

    #[test]
    fn an_epoch_leaves_out_a_last_batch_of_one_image() {
        assert_eq!([steps(8, 4), steps(9, 4), steps(10, 4), steps(3, 4)], [2, 2, 3, 1]);
    }
}
