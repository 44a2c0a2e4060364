//! The run folder, and files in it that are whole or not there.

use crate::error::{Error, Result};
use chrono::{DateTime, Local};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub const CONFIG: &str = "config.toml";
pub const METRICS: &str = "metrics.jsonl";
pub const ALPHAS: &str = "alphas.jsonl";
pub const GENOTYPE_JSON: &str = "genotype.json";
pub const GENOTYPE_TEXT: &str = "genotype.txt";
pub const NORMAL_SVG: &str = "normal.svg";
pub const REDUCE_SVG: &str = "reduce.svg";
pub const REPORT: &str = "report.html";
/// A row for each search and training of a selection.
pub const SELECTION: &str = "selection.jsonl";
pub const LOG: &str = "log.txt";
/// The files that hold the cells.
pub const CELLS: [&str; 4] = [GENOTYPE_JSON, GENOTYPE_TEXT, NORMAL_SVG, REDUCE_SVG];
/// Where runs lie that were given no `--out`.
pub const RUNS: &str = "runs";

/// Makes the folder `out` or, if that is empty, `runs/<name>-<time>`.
pub fn create(out: &Path, name: &str) -> Result<PathBuf> {
    if !out.as_os_str().is_empty() {
        return create_named(out).map(|()| out.to_owned());
    }
    create_dated(Path::new(RUNS), name, Local::now())
}

/// Keeps every other run out of `folder` as long as the result lives, even if this process is killed.
///
/// A system that cannot lock a folder lets all in: that is no reason not to run.
pub fn claim(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let what = format!(
                "folder {} is in use by another search or training; wait until it is over",
                folder.display()
            );
            Err(Error::config("run.out", what))
        }
        _ => Ok(Some(file)),
    }
}

/// Starts a run in its new `folder`: claims that, writes the settings and lets `begin` go on. If that fails, takes away
/// what was written, and the folder if that leaves it empty.
pub fn begin<T>(folder: &Path, settings: &str, begin: impl FnOnce(Option<File>) -> Result<T>) -> Result<T> {
    let claim = claim(folder)?;
    let begun = write_atomic(&folder.join(CONFIG), settings.as_bytes()).and_then(|()| begin(claim));
    begun.inspect_err(|_| {
        for name in [CONFIG, METRICS, ALPHAS, SELECTION, LOG, super::checkpoint::NEWEST].iter().chain(&CELLS)
        {
            // Whatever stays, stays: the error that brought us here is the one to tell.
            let _ = fs::remove_file(folder.join(name));
        }
        let _ = fs::remove_dir(folder);
    })
}

/// Makes `dir`; fails if there is something in it already.
pub fn create_named(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::write(dir))?;
    let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
    if entries.next().is_some() {
        let shown = dir.display();
        let what = format!("folder {shown} is not empty; use --resume {shown} or choose another folder");
        return Err(Error::config("run.out", what));
    }
    Ok(())
}

/// Makes `parent/<name>-<YYYYmmdd-HHMMSS>`, with `-2`, `-3`, ... behind it while that exists.
pub fn create_dated(parent: &Path, name: &str, time: DateTime<Local>) -> Result<PathBuf> {
    fs::create_dir_all(parent).map_err(Error::write(parent))?;
    let name = format!("{name}-{}", time.format("%Y%m%d-%H%M%S"));
    let mut dir = parent.join(&name);
    for number in 2.. {
        match fs::create_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => dir = parent.join(format!("{name}-{number}")),
            made => {
                made.map_err(Error::write(&dir))?;
                break;
            }
        }
    }
    Ok(dir)
}

/// Replaces the file at `path` by `bytes`: whoever looks, also after a power cut, sees the old file or the new.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = write_temporary(path, |file| file.write_all(bytes))?;
    rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Where the new content of `path` lies until it is whole: the same folder, so that a rename is atomic.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Writes and syncs the new content of `path` beside it; removes what it wrote if that fails.
pub(super) fn write_temporary(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<PathBuf> {
    let temporary = temporary(path);
    let written = File::create(&temporary).and_then(|file| {
        let mut file = BufWriter::new(file);
        content(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()
    });
    match written {
        Ok(()) => Ok(temporary),
        Err(e) => {
            // Nothing better can be done if this fails too; the next write starts the file anew.
            let _ = fs::remove_file(&temporary);
            Err(Error::write(path)(e))
        }
    }
}

/// Renames within a folder and syncs the folder, without which the rename may not outlast a power cut.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::write(to))?;
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder).and_then(|f| f.sync_all()).map_err(Error::write(to)) } else { Ok(()) }
}
