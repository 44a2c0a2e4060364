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
mod selection;
mod settings;
mod text;

pub use args::{CompareArgs, ReportArgs};

use super::folder::{self, write_atomic};
use super::select::{self, Comparison, Row};
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
    let rows = folder.parent().map(select::read).transpose()?.flatten();
    let beside = rows.and_then(|rows| Comparison::of(&rows));
    write_atomic(&path, page::page(&run, beside.as_ref()).as_bytes())?;
    Ok(Some(path))
}

/// Writes the report of several searches and their cells' trainings into their folder, and those of the searches anew;
/// tells where the first is.
///
/// # Errors
/// As [`write()`].
pub fn write_selection(folder: &Path) -> Result<PathBuf> {
    let rows = select::read(folder)?.ok_or_else(|| too_early(folder))?;
    let searches = rows.iter().filter(|row| matches!(row, Row::Search { .. }));
    let folders: Vec<PathBuf> = searches.map(|row| folder.join(row.name())).collect();
    if folders.is_empty() {
        return Err(too_early(folder));
    }
    for folder in &folders {
        write(folder)?;
    }
    let path = folder.join(folder::REPORT);
    let beside = Comparison::of(&rows);
    write_atomic(&path, compare::page(&read_all(&folders)?, beside.as_ref()).as_bytes())?;
    Ok(path)
}

/// [`write()`] for a person who asks for it.
///
/// # Errors
/// As [`write()`], and [`Error::Data`] if no epoch is over.
pub fn renew(folder: &Path) -> Result<PathBuf> {
    if select::read(folder)?.is_some() {
        return write_selection(folder);
    }
    write(folder)?.ok_or_else(|| too_early(folder))
}

/// Writes one page on several runs to `out`.
///
/// # Errors
/// As [`renew`], for any of the runs.
pub fn compare(folders: &[PathBuf], out: &Path) -> Result<()> {
    write_atomic(out, compare::page(&read_all(folders)?, None).as_bytes())
}

fn read_all(folders: &[PathBuf]) -> Result<Vec<Run>> {
    let read = |folder: &PathBuf| Run::read(folder)?.ok_or_else(|| too_early(folder));
    let mut runs = folders.iter().map(read).collect::<Result<Vec<Run>>>()?;
    compare::distinguish(&mut runs, folders);
    Ok(runs)
}

fn too_early(folder: &Path) -> Error {
    Error::data(
        folder,
        "has no finished epoch; wait for the first one, or if the run has ended start another",
    )
}
