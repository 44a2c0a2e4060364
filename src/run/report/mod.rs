//! The report of a run: one HTML file that opens offline, drawn from the files of the run folder.
//!
//! The same files give the same bytes. Charts and the final cells are there without scripts; the script adds the
//! replay of the cells epoch by epoch and values under the pointer.

mod alpha;
mod args;
mod chart;
mod compare;
mod curves;
mod drawings;
mod page;
mod read;
mod settings;
mod text;

pub use args::{CompareArgs, ReportArgs};

use super::folder::{self, write_atomic};
use crate::error::{Error, Result};
use read::Run;
use std::path::{Path, PathBuf};

/// Writes the report of the run in `folder` into it; tells where, or nothing if no epoch is over yet.
///
/// # Errors
/// If a file of the run cannot be read, naming file and line, or the report cannot be written.
pub fn write(folder: &Path) -> Result<Option<PathBuf>> {
    let Some(run) = Run::read(folder)? else { return Ok(None) };
    let path = folder.join(folder::REPORT);
    write_atomic(&path, page::page(&run).as_bytes())?;
    Ok(Some(path))
}

/// [`write()`] for a person who asks for it.
///
/// # Errors
/// As [`write()`], and [`Error::Data`] if no epoch is over.
pub fn renew(folder: &Path) -> Result<PathBuf> {
    write(folder)?.ok_or_else(|| too_early(folder))
}

/// Writes one page on several runs to `out`.
///
/// # Errors
/// As [`renew`], for any of the runs.
pub fn compare(folders: &[PathBuf], out: &Path) -> Result<()> {
    let read = |folder: &PathBuf| Run::read(folder)?.ok_or_else(|| too_early(folder));
    let mut runs = folders.iter().map(read).collect::<Result<Vec<Run>>>()?;
    compare::distinguish(&mut runs, folders);
    write_atomic(out, compare::page(&runs).as_bytes())
}

fn too_early(folder: &Path) -> Error {
    Error::data(folder, "has no finished epoch yet; wait for the first one to end")
}
