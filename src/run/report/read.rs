//! Reads a run folder for its report: settings, rows, and the cells of each epoch by the published rule.

use crate::error::{Error, Result};
use crate::run::config::{Configuration, SearchConfig, TrainConfig};
use crate::run::folder;
use crate::run::jsonl::{self, Alphas, Row};
use crate::space::genotype::{self, CellKind, Gene, Genotype};
use std::path::Path;

/// The two kinds of cells in the order of every pair here, with the words for them.
pub const KINDS: [(CellKind, &str); 2] = [(CellKind::Normal, "normal"), (CellKind::Reduce, "reduction")];

/// A search step.
pub struct Step {
    /// Epochs from the start of the search to the middle of the step.
    pub time: f64,
    pub train_loss: f64,
    pub valid_loss: f64,
}

/// An epoch that is over.
pub struct Epoch {
    /// From 1, as everywhere in a report.
    pub number: usize,
    pub train: Score,
    pub valid: Score,
    pub learning_rate: f64,
    pub seconds: f64,
    /// Mean of its steps; none if their rows are missing.
    pub seconds_a_step: Option<f64>,
    pub images_a_second: Option<f64>,
    pub peak_bytes: usize,
    pub peak_rss_bytes: Option<usize>,
    /// Mean over the edges of each kind of cell, nats.
    pub entropy: [f64; 2],
    /// softmax(alpha) of each kind, `[edge][candidate]`.
    pub weights: [Vec<Vec<f64>>; 2],
    pub genotype: Genotype,
}

/// Loss in nats, accuracy in percent.
pub struct Score {
    pub loss: f64,
    pub accuracy: f64,
}

impl Epoch {
    /// Skip connections in each kind of cell.
    pub fn skips(&self) -> [usize; 2] {
        let count = |genes: &[Gene]| genes.iter().filter(|gene| gene.op == "skip_connect").count();
        KINDS.map(|(kind, _)| count(self.genotype.genes(kind)))
    }
}

/// What is known of a run.
pub struct Run {
    pub name: String,
    pub config: SearchConfig,
    pub steps: Vec<Step>,
    /// At least one.
    pub epochs: Vec<Epoch>,
    /// As the folder has it.
    pub genotype: Genotype,
}

impl Run {
    /// The run in `folder`; none if no epoch of it is over.
    ///
    /// # Errors
    /// [`Error::Data`] if `folder` is no run folder or a row is not one, with file and line; [`Error::ConfigFile`],
    /// [`Error::Genotype`] and [`Error::Io`] if a file of it cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let settings = folder.join(folder::CONFIG);
        if !settings.is_file() {
            let what =
                format!("is no run folder, since it has no {}; give a folder of a search", folder::CONFIG);
            return Err(Error::data(folder, what));
        }
        if folder.join(folder::SELECTION).is_file() {
            let what =
                "holds several searches; give the folder of one of them, or have its report written anew";
            return Err(Error::data(folder, what));
        }
        let config =
            SearchConfig::from_file(&settings).map_err(|e| match TrainConfig::from_file(&settings) {
                Ok(_) => Error::data(folder, "is the folder of a training; give a folder of a search"),
                Err(_) => e,
            })?;
        let (Some(rows), Some(alphas)) = (
            read_if_there::<Row>(folder, folder::METRICS)?,
            read_if_there::<Alphas>(folder, folder::ALPHAS)?,
        ) else {
            return Ok(None);
        };
        let steps = steps(&rows);
        let mut epochs = vec![];
        for (index, alphas) in alphas.into_iter().enumerate() {
            let row =
                rows.iter().find(|row| matches!(row, Row::Epoch { epoch, .. } if *epoch == alphas.epoch));
            let Some(row) = row else { continue };
            let number = alphas.epoch + 1;
            let cells = alphas.genotype(&config.space.candidates, config.space.nodes);
            let genotype = cells.map_err(|e| {
                let what = format!("line {}: {e}", index + 1);
                Error::data(&folder.join(folder::ALPHAS), what)
            })?;
            epochs.extend(
                epoch(row, &rows, alphas, genotype, config.search.batch_size).map(|e| Epoch { number, ..e }),
            );
        }
        if epochs.is_empty() {
            return Ok(None);
        }
        let genotype = genotype::read(&folder.join(folder::GENOTYPE_JSON))?;
        Ok(Some(Self { name: name(folder), config, steps, epochs, genotype }))
    }
    pub fn last(&self) -> Option<&Epoch> {
        self.epochs.last()
    }
}

/// Name of the folder, also where it is given as `.` or `run/..`.
fn name(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let whole = if folder.file_name().is_none() { folder.canonicalize().unwrap_or(whole) } else { whole };
    whole.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn read_if_there<R: serde::de::DeserializeOwned>(folder: &Path, file: &str) -> Result<Option<Vec<R>>> {
    let path = folder.join(file);
    if path.exists() { jsonl::read(&path).map(Some) } else { Ok(None) }
}

fn steps(rows: &[Row]) -> Vec<Step> {
    // of the fullest epoch: the one that runs may have only begun
    let each =
        rows.iter().map(|row| if let Row::Step { step, .. } = row { step + 1 } else { 1 }).max().unwrap_or(1);
    let step = |row: &Row| match *row {
        Row::Step { epoch, step, train_loss, valid_loss, .. } => {
            Some(Step { time: epoch as f64 + (step as f64 + 0.5) / each as f64, train_loss, valid_loss })
        }
        Row::Epoch { .. } => None,
    };
    rows.iter().filter_map(step).collect()
}

fn epoch(row: &Row, rows: &[Row], alphas: Alphas, genotype: Genotype, batch: usize) -> Option<Epoch> {
    let Row::Epoch {
        epoch: number,
        learning_rate,
        seconds: whole,
        train_loss,
        train_accuracy,
        valid_loss,
        valid_accuracy,
        peak_bytes,
        peak_rss_bytes,
        entropy,
        ..
    } = row
    else {
        return None;
    };
    let seconds: Vec<f64> = (rows.iter())
        .filter_map(|row| match row {
            Row::Step { epoch, seconds, .. } if epoch == number => Some(*seconds),
            _ => None,
        })
        .collect();
    // the last batch of an epoch may be a small one, which says nothing about the rate
    let full = if seconds.len() > 1 { &seconds[..seconds.len() - 1] } else { &seconds[..] };
    Some(Epoch {
        number: number + 1,
        train: Score { loss: *train_loss, accuracy: *train_accuracy },
        valid: Score { loss: *valid_loss, accuracy: *valid_accuracy },
        learning_rate: *learning_rate,
        seconds: *whole,
        seconds_a_step: mean(&seconds),
        images_a_second: mean(full).filter(|mean| *mean > 0.0).map(|mean| batch as f64 / mean),
        peak_bytes: *peak_bytes,
        peak_rss_bytes: *peak_rss_bytes,
        entropy: [&entropy.normal, &entropy.reduce].map(|all| mean(all).unwrap_or_default()),
        weights: [alphas.normal, alphas.reduce],
        genotype,
    })
}

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
