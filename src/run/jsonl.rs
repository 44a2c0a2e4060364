//! Files of one JSON object a line, and the rows that a search writes into them.

use super::folder;
use crate::error::{Error, Result};
use crate::space::Genotype;
use crate::space::discretise::discretise;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A row of `metrics.jsonl`. Losses are means over images in nats, accuracies in percent, times in seconds; `epoch`
/// and `step` (of its epoch) count from 0.
///
/// Of an epoch, `seconds`, `peak_bytes` (the most memory that tensors held at once) and `peak_rss_bytes` (the most that
/// the process had resident since it started, where the system tells) are those of the process that ended it: what an
/// interrupted process did before is not in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Row {
    Step {
        epoch: usize,
        step: usize,
        train_loss: f64,
        train_accuracy: f64,
        valid_loss: f64,
        seconds: f64,
    },
    Epoch {
        epoch: usize,
        learning_rate: f64,
        train_loss: f64,
        train_accuracy: f64,
        valid_loss: f64,
        valid_accuracy: f64,
        seconds: f64,
        peak_bytes: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_rss_bytes: Option<usize>,
        entropy: Entropy,
    },
}

/// A row of the `metrics.jsonl` of a training; units as in [`Row`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TrainRow {
    Step {
        epoch: usize,
        step: usize,
        train_loss: f64,
        train_accuracy: f64,
        seconds: f64,
    },
    Epoch {
        epoch: usize,
        learning_rate: f64,
        drop_path: f64,
        train_loss: f64,
        train_accuracy: f64,
        train_top5: f64,
        test_loss: f64,
        test_accuracy: f64,
        test_top5: f64,
        seconds: f64,
        peak_bytes: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_rss_bytes: Option<usize>,
    },
}

/// Entropy of the softmaxed candidates of each edge, in nats; 0 when an edge is decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entropy {
    pub normal: Vec<f64>,
    pub reduce: Vec<f64>,
}

/// A row of `alphas.jsonl`: softmaxed architecture parameters, `[edge][candidate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alphas {
    pub epoch: usize,
    pub normal: Vec<Vec<f64>>,
    pub reduce: Vec<Vec<f64>>,
}

impl Alphas {
    /// The cells that the published rule makes of these weights.
    pub fn genotype(&self, candidates: &[String], nodes: usize) -> Result<Genotype> {
        let normal = discretise(&self.normal, candidates, nodes)?;
        let reduce = discretise(&self.reduce, candidates, nodes)?;
        let concat: Vec<usize> = (2..nodes + 2).collect();
        Ok(Genotype { normal, normal_concat: concat.clone(), reduce, reduce_concat: concat })
    }
}

/// An append-only file of rows.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    path: PathBuf,
}

impl JsonLines {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(Error::write(path))?;
        Ok(Self { file, path: path.to_owned() })
    }
    /// Appends a row in one write, so that a crash leaves at most one torn line, the last.
    pub fn append(&mut self, row: &impl Serialize) -> Result<()> {
        self.try_append(row).map_err(Error::write(&self.path))
    }
    /// Brings the rows to the disk, before anything there that counts on them.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::write(&self.path))
    }
    fn try_append(&mut self, row: &impl Serialize) -> std::io::Result<()> {
        let before = self.file.metadata()?.len();
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        // A full disk may take a part of the line: without that part the rows before it stay readable.
        self.file.write_all(&line).inspect_err(|_| drop(self.file.set_len(before)))
    }
}

/// The rows of a file. A last line that a crash cut short is left out; any other line that is no row is an error.
pub fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    whole_lines(&text).enumerate().map(|(i, line)| parse(path, i, line)).collect()
}

/// Keeps the rows for which `keep` holds, byte for byte, and drops the others and a torn last line; the file is
/// replaced atomically, and only if there is something to drop. A missing file has no rows. Returns how many
/// lines went.
pub fn retain<R: DeserializeOwned>(path: &Path, keep: impl FnMut(&R) -> bool) -> Result<usize> {
    Trim::plan(path, keep)?.apply()
}

/// What [`retain`] will do to a file: planning finds every mistake in it, and changes nothing.
#[derive(Debug)]
pub struct Trim {
    path: PathBuf,
    kept: Vec<u8>,
    dropped: usize,
}

impl Trim {
    pub fn plan<R: DeserializeOwned>(path: &Path, mut keep: impl FnMut(&R) -> bool) -> Result<Self> {
        let text = match std::fs::read(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            text => text.map_err(Error::io("read", path))?,
        };
        let mut kept = Vec::with_capacity(text.len());
        let mut dropped = usize::from(text.last().is_some_and(|&last| last != b'\n'));
        for (i, line) in whole_lines(&text).enumerate() {
            if keep(&parse(path, i, line)?) {
                kept.extend_from_slice(line);
            } else {
                dropped += 1;
            }
        }
        Ok(Self { path: path.to_owned(), kept, dropped })
    }
    pub fn apply(self) -> Result<usize> {
        if self.dropped > 0 {
            folder::write_atomic(&self.path, &self.kept)?;
        }
        Ok(self.dropped)
    }
}

/// Lines that end in a newline, with it.
fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"))
}

fn parse<R: DeserializeOwned>(path: &Path, index: usize, line: &[u8]) -> Result<R> {
    serde_json::from_slice(line).map_err(|e| {
        let what =
            format!("line {} is not a row of this file ({e}); remove it or start a new run", index + 1);
        Error::data(path, what)
    })
}
