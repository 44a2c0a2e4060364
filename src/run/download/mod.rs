//! `--download`: gets a published data set that is not there yet.

mod fetch;

pub use fetch::{Watch, fetch};

use super::cli::Outcome;
use super::interrupt;
use super::progress::{Progress, shows_bars};
use crate::data::{self, PUBLISHED};
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::{Path, PathBuf};

/// Where a set is put when no folder was named.
const FOLDER: &str = "data";

/// That the set `name` can be downloaded, and where to: `dir`, or `data` if that is empty.
///
/// # Errors
/// [`Error::Config`] names the sets that can.
pub fn place(name: &str, dir: &Path) -> Result<PathBuf> {
    if !PUBLISHED.contains(&name) {
        let what = format!("gets {} and no other set, so not {name}; leave it out", PUBLISHED.join(" and "));
        return Err(Error::config("--download", what));
    }
    Ok(if dir.as_os_str().is_empty() { FOLDER.into() } else { dir.to_owned() })
}

/// Fetches the set `name` into `dir` if there is no file of it; stopped by Ctrl-C, it can be gone on with.
///
/// # Errors
/// As [`fetch()`].
pub fn data(name: &str, dir: &Path, words: &Progress) -> Result<Outcome> {
    let Some(archive) = data::wanted(name, dir) else { return Ok(Outcome::Finished) };
    words.line(&format!("download  {} into {}", archive.url, dir.display()));
    let bar = bar(words.is_quiet());
    let mut watch = |have: u64, all: Option<u64>| {
        bar.set_length(all.unwrap_or(have));
        bar.set_position(have);
        !interrupt::requested()
    };
    let fetched = fetch(&archive, dir, &mut watch);
    bar.finish_and_clear();
    let Some(path) = fetched? else {
        eprintln!(
            "interrupted; what has come is kept in {}, the same command goes on from there",
            dir.display()
        );
        return Ok(Outcome::Interrupted);
    };
    let bytes = path.metadata().map_err(Error::io("read", &path))?.len();
    words.line(&format!("download  {}, {:.1} MB, MD5 as published", path.display(), bytes as f64 / 1e6));
    Ok(Outcome::Finished)
}

fn bar(quiet: bool) -> ProgressBar {
    let shown = !quiet && shows_bars();
    let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{bytes} of {total_bytes}  {bytes_per_sec}  {eta} left") {
        bar.set_style(style);
    }
    bar
}
