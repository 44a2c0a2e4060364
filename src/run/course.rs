//! The course of every run: its folder, its epochs and their steps, interruption, end.

use super::checkpoint::{Checkpoint, NEWEST, PREVIOUS};
use super::cli::Outcome;
use super::config::Configuration;
use super::jsonl::Trim;
use super::network_state::Source;
use super::progress::{EpochNumbers, Progress, StepNumbers};
use super::records::Records;
use super::{folder, interrupt};
use crate::device::Device;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A kind of run: what it does where the course of all runs leaves it to each kind.
pub trait Work: Sized {
    type Config: Configuration;
    /// What the steps of an epoch share: the order of the images, the rates.
    type Epoch;
    /// What judging an epoch gives.
    type Judged: Copy;
    /// What is done, as a verb.
    const VERB: &'static str;

    /// Data and network as at a start, or as `from` has them, on their device, which comes with what it is called.
    fn open(config: &mut Self::Config, from: Option<Source>) -> Result<(Self, (Device, String))>;
    fn plan(&self) -> Plan;
    fn reached(&self) -> Reached;
    /// The whole of it, as it stands.
    fn pack(&self) -> Result<Checkpoint>;

    /// Makes the folder of a new run.
    fn create(&self) -> Result<PathBuf>;
    /// Writes what a new folder holds besides the settings.
    fn fill(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
    /// Plans to drop from the files of rows in `folder` what lies behind the point that is reached.
    fn trims(&self, folder: &Path) -> Result<Vec<Trim>>;
    fn records(&self, folder: &Path) -> Result<Records>;

    /// What runs, on what, with which settings.
    fn heading(&self, device: &str, folder: &Path) -> Result<Vec<String>>;
    fn epoch(&self, number: usize) -> Self::Epoch;
    /// Leaves its row in `records`; the result is of the epoch so far, but for rate and time, which are the course's.
    fn step(&mut self, epoch: &Self::Epoch, records: &mut Records) -> Result<StepNumbers>;
    /// Judges the network after the steps of an epoch, by images that its weights did not learn from; nothing if a
    /// signal came.
    fn judge(&mut self) -> Result<Option<Self::Judged>>;
    /// Rows and line of an epoch, and whatever else shows it.
    fn report(
        &self,
        epoch: &Self::Epoch,
        judged: Self::Judged,
        numbers: EpochNumbers,
        out: &mut Output,
    ) -> Result<()>;
    /// Moves on to the next epoch if this one is `whole`, and saves. Stopped by the limit of steps, an epoch stays
    /// unfinished in the checkpoint, so that it can be gone on with.
    fn close(&mut self, judged: Self::Judged, whole: bool, folder: &Path) -> Result<()>;
    /// Writes what was found; the result ends the run, as text and as JSON.
    fn end(&self, out: &Output) -> Result<(String, Value)>;
}

/// How long a run is, and how it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub epochs: usize,
    /// Of an epoch.
    pub steps: usize,
    /// Of the whole run; 0 for no limit.
    pub max_steps: usize,
    pub batch_size: usize,
    /// Steps from one checkpoint to the next; 0 for none but at the end of an epoch.
    pub checkpoint_steps: usize,
    pub quiet: bool,
    pub json: bool,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Epochs finished.
    pub epoch: usize,
    /// Steps and images of the epoch that runs.
    pub step: usize,
    pub images: usize,
}

/// Where a run leaves what it has to say.
pub struct Output {
    pub folder: PathBuf,
    pub records: Records,
    pub progress: Progress,
}

/// A run and its folder.
pub struct Run<W> {
    work: W,
    plan: Plan,
    /// Device and what it is called.
    device: (Device, String),
    out: Output,
    /// Keeps other runs out of the folder.
    _claim: Option<File>,
    /// Steps since this process started, and when it did.
    pace: (usize, Instant),
    /// The folder to resume after an interruption: its own, or that of the runs that it is one of.
    whole: PathBuf,
}

impl<W: Work> Run<W> {
    /// A new run; its folder is made only once data and network are there.
    pub fn start(mut config: W::Config) -> Result<Self> {
        let (work, device) = W::open(&mut config, None)?;
        let folder = work.create()?;
        folder::begin(&folder, &config.to_toml(), |claim| {
            work.fill(&folder)?;
            let run = Self::assemble(work, device, &folder, claim)?;
            run.save().map(|()| run)
        })
    }

    /// The run in `folder`, from its newest whole checkpoint on.
    pub fn resume(mut config: W::Config, folder: &Path) -> Result<Self> {
        let claim = folder::claim(folder)?;
        let (checkpoint, warning) = Checkpoint::load(folder)?;
        let file = folder.join(NEWEST);
        let source = Source { checkpoint: &checkpoint, path: &file };
        // a setting that an older version did not store was at its default
        let stored = W::Config::default().with_fixed(&source.settings()?, &file)?;
        config.can_resume(&stored, &file)?;
        let (work, device) = W::open(&mut config, Some(source))?;
        let trims = work.trims(folder)?;
        // everything is checked: from here on files change
        if warning.is_some() {
            // else the next save would push the whole one out, to keep the damaged one
            folder::rename(&folder.join(PREVIOUS), &file)?;
        }
        for trim in trims {
            trim.apply()?;
        }
        let (stored, settings) = (folder.join(folder::CONFIG), config.to_toml());
        if std::fs::read(&stored).ok().as_deref() != Some(settings.as_bytes()) {
            folder::write_atomic(&stored, settings.as_bytes())?; // the next resume goes on with these
        }
        let run = Self::assemble(work, device, folder, claim)?;
        if let Some(warning) = warning {
            run.out.progress.warn(&format!("warning: {warning}"));
        }
        run.out.progress.line(&run.standing());
        Ok(run)
    }

    fn assemble(work: W, device: (Device, String), folder: &Path, claim: Option<File>) -> Result<Self> {
        let plan = work.plan();
        let out = Output {
            folder: folder.to_owned(),
            records: work.records(folder)?,
            progress: Progress::new(plan.quiet, plan.json).logged(folder)?,
        };
        let (pace, whole) = ((0, Instant::now()), folder.to_owned());
        Ok(Self { work, plan, device, out, _claim: claim, pace, whole })
    }

    /// The same as one of the runs in the folder `whole`, which is what goes on after an interruption.
    pub fn part_of(self, whole: &Path) -> Self {
        Self { whole: whole.to_owned(), ..self }
    }

    /// Runs to the end, or to the first signal.
    pub fn run(mut self) -> Result<Outcome> {
        self.epochs().inspect_err(|e| self.out.progress.log(&format!("error: {e}")))
    }

    fn epochs(&mut self) -> Result<Outcome> {
        for line in self.work.heading(&self.device.1, &self.out.folder)? {
            self.out.progress.line(&line);
        }
        // an epoch that the limit cut short was dropped from the files by resuming: it is reported again
        let mut more = self.more() || self.work.reached().step > 0;
        while more {
            if self.epoch()? == Outcome::Interrupted {
                self.save()?;
                self.out.progress.finish();
                self.out.progress.warn(&interrupt::advice(&self.whole));
                return Ok(Outcome::Interrupted);
            }
            more = self.more();
        }
        self.out.progress.finish();
        let (text, json) = self.work.end(&self.out)?;
        self.out.progress.result(&text, &json)?;
        Ok(Outcome::Finished)
    }

    /// The rest of the epoch that runs.
    fn epoch(&mut self) -> Result<Outcome> {
        let (from, start, plan) = (self.work.reached(), Instant::now(), self.plan);
        let epoch = self.work.epoch(from.epoch);
        self.out.progress.start_epoch(from.epoch, plan.epochs, plan.steps, from.step);
        self.device.0.reset_peak();
        let mut at = from;
        while at.step < plan.steps && !self.at_limit() {
            if interrupt::requested() {
                return Ok(Outcome::Interrupted);
            }
            let place = || format!("epoch {}, step {}", at.epoch + 1, at.step + 1);
            let means = self.work.step(&epoch, &mut self.out.records).map_err(not_finite(place))?;
            at = self.work.reached();
            self.pace.0 += 1;
            self.show(means);
            let every = plan.checkpoint_steps;
            if every > 0 && at.step.is_multiple_of(every) && at.step < plan.steps {
                self.save()?;
            }
        }
        let images_per_second = (at.images - from.images) as f64 / start.elapsed().as_secs_f64();
        let Some(judged) = self.work.judge()? else { return Ok(Outcome::Interrupted) };
        let seconds = start.elapsed().as_secs_f64();
        let numbers = EpochNumbers { epoch: from.epoch, epochs: plan.epochs, images_per_second, seconds };
        self.work.report(&epoch, judged, numbers, &mut self.out)?;
        self.out.records.sync()?;
        self.work.close(judged, at.step == plan.steps, &self.out.folder)?;
        Ok(Outcome::Finished)
    }

    fn show(&self, means: StepNumbers) {
        let Plan { epochs, steps, max_steps, batch_size, .. } = self.plan;
        let all = if max_steps > 0 { max_steps.min(epochs * steps) } else { epochs * steps };
        let each = self.pace.1.elapsed().as_secs_f64() / self.pace.0 as f64;
        let numbers = StepNumbers {
            images_per_second: batch_size as f64 / each,
            seconds_left: each * all.saturating_sub(self.steps_done()) as f64,
            ..means
        };
        self.out.progress.step(self.work.reached().step, &numbers);
    }

    /// Where a resumed run stands, in words.
    fn standing(&self) -> String {
        let (Reached { epoch, step, .. }, plan) = (self.work.reached(), &self.plan);
        if epoch >= plan.epochs {
            format!("resumed after its last epoch: nothing is left to {}", W::VERB)
        } else if self.at_limit() {
            let limit = plan.max_steps;
            format!(
                "resumed at its limit of {limit} steps; give a larger --max-steps, or 0 for none, to go on"
            )
        } else {
            format!("resumed in epoch {} after {step} of its {} steps", epoch + 1, plan.steps)
        }
    }

    /// Steps of the whole run so far.
    fn steps_done(&self) -> usize {
        let Reached { epoch, step, .. } = self.work.reached();
        epoch * self.plan.steps + step
    }

    fn more(&self) -> bool {
        self.work.reached().epoch < self.plan.epochs && !self.at_limit()
    }

    fn at_limit(&self) -> bool {
        self.plan.max_steps > 0 && self.steps_done() >= self.plan.max_steps
    }

    fn save(&self) -> Result<()> {
        self.out.records.sync()?;
        self.work.pack()?.save(&self.out.folder)
    }
}

/// For `map_err`: says `where_` a value that is not finite came up.
pub(super) fn not_finite(where_: impl FnOnce() -> String) -> impl FnOnce(Error) -> Error {
    |e| match e {
        Error::NotFinite { what } => Error::NotFinite { what: format!("{}: {what}", where_()) },
        other => other,
    }
}
