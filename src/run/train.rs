//! A whole training: data, network, steps, epochs, what it leaves.

use super::board::Board;
use super::checkpoint::{BEST, Checkpoint};
use super::config::{Configuration, TrainConfig};
use super::course::{Output, Plan, Reached, Run, Work};
use super::device::{check_fused, lean_on, stored_on};
use super::jsonl::{TrainRow, Trim};
use super::memory::check_machine;
use super::network_state::Source;
use super::progress::{EpochNumbers, StepNumbers, percent};
use super::records::Records;
use super::result::write_cells;
use super::train_data::TrainData;
use super::train_result as result;
use super::train_state::{self as state, Position, Test};
use super::{folder, found, interrupt, loaded};
use crate::data::fingerprint::Fingerprint;
use crate::data::split;
use crate::device::{Device, profile};
use crate::error::{Error, Result};
use crate::nn::Sgd;
use crate::search::largest_batch;
use crate::space::Genotype;
use crate::space::genotype;
use crate::space::network::{Network, NetworkConfig};
use crate::tensor::DType;
use crate::train::{Decay, Hits, Hyper, Schedule, Trainer, drop_rate};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A training and its run folder.
pub type TrainRun = Run<Training>;

/// A training, its images, and where it stands.
pub struct Training {
    config: TrainConfig,
    genotype: Genotype,
    data: TrainData,
    fingerprint: Fingerprint,
    trainer: Trainer,
    position: Position,
}

/// An epoch's test, in evaluation mode.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    /// Mean over the test images.
    loss: f64,
    hits: Hits,
    /// Than all whole epochs before.
    better: bool,
}

impl Work for Training {
    type Config = TrainConfig;
    /// Order of the images; learning rate and rate of drop path.
    type Epoch = (Vec<usize>, (f64, f64));
    type Judged = Tested;
    const VERB: &'static str = "train";

    fn open(config: &mut TrainConfig, from: Option<Source>) -> Result<(Self, (Device, String))> {
        let genotype = cells(config, from)?;
        let device = config.device()?.open_for(config.precision())?;
        let (mut data, mut trainer) = build(config, &genotype, &device.0)?;
        let (mut position, fingerprint) = (Position::default(), data.fingerprint());
        match from {
            Some(source) => {
                source.check_data(fingerprint)?;
                position = state::unpack(source, &mut trainer)?;
            }
            None => {
                let (weights, running) = (&mut trainer.weights, &mut trainer.running);
                loaded::start_from(&config.network.weights, Some(&genotype), weights, running)?;
            }
        }
        let mut trainer = trainer.on(&device.0)?;
        trainer.graphs = config.run.graph;
        data.put_on(&device.0, config.train.batch_size)?;
        Ok((Self { config: config.clone(), genotype, data, fingerprint, trainer, position }, device))
    }

    fn plan(&self) -> Plan {
        let TrainConfig { train, run, .. } = &self.config;
        Plan {
            epochs: train.epochs,
            steps: steps(self.data.train.len(), train.batch_size),
            max_steps: train.max_steps,
            batch_size: train.batch_size,
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
        let (seed, fixed) = (self.config.train.seed, self.config.fixed());
        state::pack(&self.trainer, self.position, &self.genotype, seed, fixed, self.fingerprint)
    }

    fn create(&self) -> Result<PathBuf> {
        let label = found::label(&self.config.network.genotype);
        folder::create(&self.config.run.out, &format!("train-{label}-{}", self.config.data.name))
    }

    fn fill(&self, folder: &Path) -> Result<()> {
        write_cells(folder, &self.genotype)
    }

    fn trims(&self, folder: &Path) -> Result<Vec<Trim>> {
        let position = self.position;
        let metrics = Trim::plan(&folder.join(folder::METRICS), |row: &TrainRow| match row {
            TrainRow::Step { epoch, step, .. } => (*epoch, *step) < (position.epoch, position.step),
            TrainRow::Epoch { epoch, .. } => *epoch < position.epoch,
        })?;
        Ok(vec![metrics])
    }

    fn records(&self, folder: &Path) -> Result<Records> {
        let config = &self.config;
        let board = config.run.tensorboard.then(|| Board::new(folder, config.to_toml(), None));
        Records::open(folder, config.run.json, board)
    }

    fn heading(&self, device: &str, folder: &Path) -> Result<Vec<String>> {
        result::heading(&self.config, &self.data, &self.trainer, device, folder)
    }

    fn epoch(&self, epoch: usize) -> Self::Epoch {
        let train = &self.config.train;
        let rates = (schedule(&self.config).rate(epoch), drop_rate(train.drop_path, epoch, train.epochs));
        (split::epoch_order(&self.data.train, train.seed, epoch as u64), rates)
    }

    fn step(&mut self, (order, rates): &Self::Epoch, records: &mut Records) -> Result<StepNumbers> {
        let (start, Position { epoch, step, .. }) = (Instant::now(), self.position);
        let ((learning_rate, drop), train) = (*rates, &self.config.train);
        let chosen = &order[step * train.batch_size..((step + 1) * train.batch_size).min(order.len())];
        let (e, s) = (epoch as u64, step as u64);
        let precision = stored_on(self.config.precision(), &self.trainer.device());
        let batch = self.data.training_batch(chosen, [train.seed, e, s], precision)?;
        let net = self.trainer.net();
        let draw = || net.draw_paths(drop, chosen.len(), [train.seed, e, s]);
        let factors = (drop > 0.0 && net.paths() > 0).then(draw).transpose()?;
        let (loss, hits) = self.trainer.step(&batch, factors.as_ref(), learning_rate)?;
        self.position.add(chosen.len(), loss, hits);
        records.append(&TrainRow::Step {
            epoch,
            step,
            train_loss: loss,
            train_accuracy: percent(hits.top1, chosen.len()),
            seconds: start.elapsed().as_secs_f64(),
        })?;
        let Position { images, top1, loss, .. } = self.position;
        let train_loss = loss / images as f64;
        Ok(StepNumbers { train_loss, train_accuracy: percent(top1, images), ..StepNumbers::default() })
    }

    fn judge(&mut self) -> Result<Option<Tested>> {
        let (mut loss, mut hits) = (0.0, Hits::default());
        for chosen in self.data.test.chunks(self.config.train.batch_size) {
            if interrupt::requested() {
                return Ok(None);
            }
            let batch =
                self.data.test_batch(chosen, stored_on(self.config.precision(), &self.trainer.device()))?;
            let (mean, more) = self.trainer.evaluate(&batch)?;
            loss += mean * chosen.len() as f64;
            hits.top1 += more.top1;
            hits.top5 += more.top5;
        }
        let loss = loss / self.data.test.len() as f64;
        if !loss.is_finite() {
            let epoch = self.position.epoch + 1;
            let what = format!("epoch {epoch}: the test loss became {loss}; lower the learning rate");
            return Err(Error::NotFinite { what });
        }
        let (Position { step, best, .. }, plan) = (self.position, self.plan());
        let better = step == plan.steps && best.is_none_or(|best| hits.top1 > best.top1);
        Ok(Some(Tested { loss, hits, better }))
    }

    fn report(
        &self,
        (_, (learning_rate, drop_path)): &Self::Epoch,
        Tested { loss: test_loss, hits, better }: Tested,
        numbers: EpochNumbers,
        out: &mut Output,
    ) -> Result<()> {
        let Position { images, top1, top5, loss, .. } = self.position;
        let (train_loss, train_accuracy) = (loss / images.max(1) as f64, percent(top1, images));
        let [test_accuracy, test_top5] = [hits.top1, hits.top5].map(|n| percent(n, self.data.test.len()));
        profile::memory();
        out.records.append(&TrainRow::Epoch {
            epoch: numbers.epoch,
            learning_rate: *learning_rate,
            drop_path: *drop_path,
            train_loss,
            train_accuracy,
            train_top5: percent(top5, images),
            test_loss,
            test_accuracy,
            test_top5,
            seconds: numbers.seconds,
            peak_bytes: self.trainer.peak_bytes(),
            peak_rss_bytes: profile::peak_resident(),
        })?;
        let judged = format!("test loss {test_loss:.4} top-1 {test_accuracy:5.2} % top-5 {test_top5:5.2} %");
        let line = numbers.line(*learning_rate, (train_loss, train_accuracy), &judged);
        out.progress.end_epoch(&(line + if better { "  best" } else { "" }));
        Ok(())
    }

    fn close(&mut self, Tested { hits, better, .. }: Tested, whole: bool, folder: &Path) -> Result<()> {
        let Position { epoch, best, .. } = self.position;
        if whole {
            let last = Some(Test { epoch, top1: hits.top1, top5: hits.top5 });
            let best = if better { last } else { best };
            self.position = Position { epoch: epoch + 1, best, last, ..Position::default() };
        }
        if better {
            self.pack()?.save_as(folder, BEST)?;
        }
        self.pack()?.save(folder)
    }

    fn end(&self, out: &Output) -> Result<(String, Value)> {
        let (position, tested) = (&self.position, self.data.test.len());
        let text = result::ending(&self.genotype, position, tested, &out.folder, self.config.run.tensorboard);
        Ok((text, result::json(&self.genotype, position, tested, &out.folder)))
    }
}

impl Training {
    /// The images, and which of them train and test.
    pub fn data(&self) -> &TrainData {
        &self.data
    }
}

/// Steps of an epoch of `images` images; a last batch of one image, which has no variance, is left out.
fn steps(images: usize, batch: usize) -> usize {
    images / batch + usize::from(images % batch > 1)
}

/// The cells to train: of a run that goes on as they were, since the file or run that they came from may have changed.
fn cells(config: &mut TrainConfig, from: Option<Source>) -> Result<Genotype> {
    if let Some(source) = from {
        let what = "is of no training; go on with it by the program that wrote it";
        let cells = source.genotype()?.ok_or_else(|| Error::checkpoint(source.path, what))?;
        return genotype::parse_any(&cells);
    }
    if config.network.genotype.is_empty() {
        config.network.genotype = found::newest(Path::new(folder::RUNS));
    }
    found::genotype(&config.network.genotype)
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
        lean: lean_on(config.precision(), device),
    };
    let hyper = Hyper {
        sgd: Sgd { momentum: train.momentum, weight_decay: train.weight_decay },
        clip: train.grad_clip,
        smoothing: train.label_smoothing,
        auxiliary: train.auxiliary_weight,
    };
    let network = Network::new(genotype, network)?;
    check_fused(config.precision(), device, network.is_fused())?;
    let stays = 2 * network.layout().count * size_of::<f32>(); // weights and momentum
    let peak = |batch| Ok(stays + hyper.plan(&network, batch, data.image)?.1);
    let smaller =
        |fits: &dyn Fn(usize) -> bool| largest_batch(train.batch_size, |batch| Ok(fits(peak(batch)?)));
    check_machine(device, [peak(train.batch_size)?, data.bytes(device)], smaller)?;
    let trainer = Trainer::new(network, hyper, train.seed, DType::F32)?;
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
