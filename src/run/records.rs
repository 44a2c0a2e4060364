//! Where the rows of a run go: into its files and, with `--json`, to standard output.

use super::board::Board;
use super::jsonl::{Alphas, JsonLines};
use super::{cli, folder};
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// The rows of a run.
pub struct Records {
    metrics: JsonLines,
    alphas: Option<JsonLines>,
    board: Option<Board>,
    json: bool,
}

impl Records {
    /// Opens `metrics.jsonl` in `folder`; `json`: prints its rows too; `board`: keeps TensorBoard's file of them.
    pub fn open(folder: &Path, json: bool, board: Option<Board>) -> Result<Self> {
        Ok(Self { metrics: JsonLines::open(&folder.join(folder::METRICS))?, alphas: None, board, json })
    }
    /// The same with `alphas.jsonl`.
    pub fn with_alphas(self, folder: &Path) -> Result<Self> {
        Ok(Self { alphas: Some(JsonLines::open(&folder.join(folder::ALPHAS))?), ..self })
    }
    /// Adds a row to `metrics.jsonl`.
    pub fn append(&mut self, row: &impl Serialize) -> Result<()> {
        self.metrics.append(row)?;
        if !self.json && self.board.is_none() {
            return Ok(());
        }
        let unreadable = |e: serde_json::Error| Error::config("metrics", format!("a row is no JSON: {e}"));
        if self.json {
            cli::print(&(serde_json::to_string(row).map_err(unreadable)? + "\n"))?;
        }
        match &mut self.board {
            Some(board) => board.row(&serde_json::to_value(row).map_err(unreadable)?),
            None => Ok(()),
        }
    }
    /// Brings the rows to the disk: a checkpoint that outlives a power cut has those before it.
    pub fn sync(&self) -> Result<()> {
        self.metrics.sync()?;
        self.alphas.as_ref().map_or(Ok(()), JsonLines::sync)
    }
    /// Adds a row to `alphas.jsonl`, behind that of its epoch in `metrics.jsonl`.
    pub fn append_alphas(&mut self, row: &Alphas) -> Result<()> {
        if let Some(alphas) = &mut self.alphas {
            alphas.append(row)?;
        }
        self.board.as_mut().map_or(Ok(()), |board| board.alphas(row))
    }
}
