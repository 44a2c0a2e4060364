//! Where a genotype comes from: a published name, a file, a run folder, or the newest search.

use super::folder;
use crate::error::{Error, Result};
use crate::space::genotype::{self, Genotype};
use crate::space::zoo;
use std::path::{Path, PathBuf};

/// The published genotype that is trained when there is no search to take one from.
const FALLBACK: &str = "DARTS_V2";

/// The genotype that a name, a file or a run folder stands for.
pub fn genotype(what: &str) -> Result<Genotype> {
    let path = Path::new(what);
    if path.is_dir() {
        let file = path.join(folder::GENOTYPE_JSON);
        return if file.exists() { genotype::read(&file) } else { Err(no_run(path, folder::GENOTYPE_JSON)) };
    }
    if path.exists() || what.contains(['/', '.']) { genotype::read(path) } else { zoo::named(what) }
}

/// Why the folder `path`, which has no `file`, is not taken for a run: it is one of runs, or of none.
pub(super) fn no_run(path: &Path, file: &str) -> Error {
    let inside = path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let what = match inside.filter(|run| run.join(file).is_file()).min() {
        Some(run) => format!("is a folder of runs; name one of them, such as {}", run.display()),
        None => format!("holds no {file}; name the folder of a run that has got as far, or a file"),
    };
    Error::data(path, what)
}

/// What [`genotype()`] is to be asked for when nothing was said: the folder of the newest search in `runs`, or a published
/// name.
pub fn newest(runs: &Path) -> String {
    let searches = runs.read_dir().into_iter().flatten().flatten();
    let found = searches.filter_map(|entry| {
        let path = entry.path();
        let written = path.join(folder::GENOTYPE_JSON).metadata().and_then(|file| file.modified()).ok()?;
        let search = path.file_name()?.to_str()?.starts_with("search-");
        search.then_some((written, path))
    });
    match found.max() {
        Some((_, path)) => path.display().to_string(),
        None => FALLBACK.into(),
    }
}

/// A short name for what [`genotype()`] was asked for, fit for the name of a folder.
pub fn label(what: &str) -> String {
    let path = PathBuf::from(what);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = name.unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    if name.is_empty() { "cell".into() } else { name }
}
