//! Several searches that differ in their seeds, and what their cells are worth.
//!
//! The published protocol (section 3.1 of arXiv 1806.09055): search with several seeds, train each cell for a short
//! time, keep the best by its accuracy on images held back. Beside them, trained alike, cells drawn at random from the
//! same space: without them nobody knows what the search was good for.

mod parts;
mod rows;

pub use rows::{Comparison, Row, Spread};

use super::checkpoint::NEWEST;
use super::cli::Outcome;
use super::config::{Configuration, SearchConfig};
use super::course::{Run, Work};
use super::jsonl::{self, JsonLines, Row as SearchRow, TrainRow, Trim};
use super::progress::Progress;
use super::search::Searching;
use super::train::Training;
use super::{folder, report, result};
use crate::error::{Error, Result};
use crate::space::genotype::{self, Genotype};
use crate::space::random;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Searches, trainings, and the folder that holds a folder of each.
pub struct Selection {
    config: SearchConfig,
    folder: PathBuf,
    /// Keeps others out of the folder.
    _claim: Option<File>,
    done: Vec<Row>,
    file: JsonLines,
    progress: Progress,
}

impl Selection {
    /// A new selection; its folder is made, and nothing run.
    pub fn start(config: SearchConfig) -> Result<Self> {
        let name = format!("search-{}-seeds", config.data.name);
        let folder = folder::create(&config.run.out, &name)?;
        folder::begin(&folder, &config.to_toml(), |claim| Self::assemble(config, folder.clone(), claim))
    }

    /// The selection in `folder`, from where it was interrupted.
    pub fn resume(config: SearchConfig, folder: &Path) -> Result<Self> {
        let (stored, file) = (folder.join(folder::CONFIG), folder.join(folder::SELECTION));
        if !file.is_file() {
            return Err(no_rows(folder));
        }
        let claim = folder::claim(folder)?;
        let (there, done) = (SearchConfig::from_file(&stored)?, jsonl::read::<Row>(&file)?);
        config.can_resume(&there, &stored)?;
        check_epochs([&there, &config], folder, &done)?;
        for row in &done {
            parts::check(&config, folder, row)?;
        }
        Trim::plan(&file, |_: &Row| true)?.apply()?; // a torn last line
        folder::write_atomic(&stored, config.to_toml().as_bytes())?;
        Self::assemble(config, folder.to_owned(), claim)
    }

    fn assemble(config: SearchConfig, folder: PathBuf, claim: Option<File>) -> Result<Self> {
        let path = folder.join(folder::SELECTION);
        let done = if path.exists() { jsonl::read(&path)? } else { vec![] };
        let progress = Progress::new(config.run.quiet, config.run.json).logged(&folder)?;
        let file = JsonLines::open(&path)?;
        Ok(Self { config, folder, _claim: claim, done, file, progress })
    }

    /// Runs what is not done yet, to the end or to the first signal.
    pub fn run(mut self) -> Result<Outcome> {
        self.progress.line(&format!("folder    {}", self.folder.display()));
        let (select, seeds) = (self.config.select.clone(), self.seeds());
        let mut over = true;
        for seed in &seeds {
            over = over && self.search(*seed)?;
        }
        if select.select {
            for seed in &seeds {
                over = over && self.train(&train_name(&search_name(*seed)), &search_name(*seed), false)?;
            }
            for index in 1..=select.random_cells {
                over = over && self.train_random(index)?;
            }
        }
        if !over {
            return Ok(Outcome::Interrupted);
        }
        self.conclude()
    }

    fn seeds(&self) -> Vec<u64> {
        (0..self.config.select.seeds as u64).map(|k| self.config.search.seed.wrapping_add(k)).collect()
    }

    fn is_done(&self, name: &str) -> bool {
        self.done.iter().any(|row| row.name() == name)
    }

    fn note(&mut self, row: Row) -> Result<()> {
        self.file.append(&row)?;
        self.done.push(row);
        Ok(())
    }

    /// Starts the run in `folder` or goes on with it.
    fn part<W: Work>(&self, config: W::Config, folder: &Path) -> Result<Outcome> {
        let run = match begun(folder)? {
            true => Run::<W>::resume(config, folder)?,
            false => Run::<W>::start(config)?,
        };
        run.part_of(&self.folder).run()
    }

    /// Searches with one seed; whether it came to its end.
    fn search(&mut self, seed: u64) -> Result<bool> {
        let name = search_name(seed);
        if self.is_done(&name) {
            return Ok(true);
        }
        let folder = self.folder.join(&name);
        let config = parts::search(&self.config, seed, &folder);
        self.progress.line(&format!("\n{name}: search with seed {seed}"));
        if self.part::<Searching>(config, &folder)? == Outcome::Interrupted {
            return Ok(false);
        }
        let rows = jsonl::read::<SearchRow>(&folder.join(folder::METRICS))?;
        let accuracy = rows.iter().rev().find_map(|row| match row {
            SearchRow::Epoch { valid_accuracy, .. } => Some(*valid_accuracy),
            SearchRow::Step { .. } => None,
        });
        let valid_accuracy = accuracy.ok_or_else(|| no_epoch(&folder))?;
        self.note(Row::Search { name, seed, valid_accuracy })?;
        Ok(true)
    }

    /// Trains the cell of random number `index`, from 1.
    fn train_random(&mut self, index: usize) -> Result<bool> {
        let (name, space) = (format!("random-{index}"), &self.config.space);
        let drawn = random::genotype(&space.candidates, space.nodes, self.config.search.seed, index as u64)?;
        let file = format!("{name}.json");
        folder::write_atomic(
            &self.folder.join(&file),
            format!("{}\n", drawn.to_json().trim_end()).as_bytes(),
        )?;
        self.train(&train_name(&name), &file, true)
    }

    /// Trains the cell that `source` in the folder holds; whether that came to its end.
    fn train(&mut self, name: &str, source: &str, random: bool) -> Result<bool> {
        if self.is_done(name) {
            return Ok(true);
        }
        let folder = self.folder.join(name);
        let cells = match is_begun(&folder) {
            true => parts::cells(&folder)?,
            false => self.folder.join(source).display().to_string(),
        };
        let config = parts::training(&self.config, cells, &folder);
        config.validate()?;
        self.progress.line(&format!("\n{name}: {} epochs from scratch", config.train.epochs));
        if self.part::<Training>(config, &folder)? == Outcome::Interrupted {
            return Ok(false);
        }
        let rows = jsonl::read::<TrainRow>(&folder.join(folder::METRICS))?;
        let last = rows.iter().rev().find_map(|row| match row {
            TrainRow::Epoch { test_accuracy, test_top5, epoch, .. } => {
                Some((*test_accuracy, *test_top5, epoch + 1))
            }
            TrainRow::Step { .. } => None,
        });
        let (accuracy, top5, epochs) = last.ok_or_else(|| no_epoch(&folder))?;
        let genotype = genotype::read(&folder.join(folder::GENOTYPE_JSON))?.to_string();
        self.note(Row::Cell { name: name.into(), random, genotype, epochs, accuracy, top5 })?;
        Ok(true)
    }

    /// Writes the chosen cell and the reports, and says what came out.
    fn conclude(self) -> Result<Outcome> {
        let (mut lines, mut best) = (vec![String::new()], Value::Null);
        if let Some(all) = Comparison::of(&self.done) {
            lines.extend(all.lines());
            if let Some((name, accuracy)) = all.best() {
                let cell: Genotype = genotype::read(&self.folder.join(name).join(folder::GENOTYPE_JSON))?;
                result::write_cells(&self.folder, &cell)?;
                lines.extend([String::new(), cell.to_string()]);
                best = json!({ "name": name, "accuracy": accuracy, "genotype": cell.to_string() });
            }
        } else {
            let accuracies: Vec<f64> = self.done.iter().filter_map(searched).collect();
            lines.extend(
                Spread::of(&accuracies).map(|s| format!("supernets on the validation half: {}", s.text())),
            );
            lines.push("these do not rank cells: --select trains each cell and keeps the best".into());
        }
        let report = report::write_selection(&self.folder)?;
        lines.extend([String::new(), format!("report    {}", report.display())]);
        let json = json!({ "kind": "selection", "folder": self.folder, "rows": self.done, "best": best });
        self.progress.result(&(lines.join("\n") + "\n"), &json)?;
        Ok(Outcome::Finished)
    }
}

/// The rows in the folder of a selection; none if it is no such folder.
pub fn read(folder: &Path) -> Result<Option<Vec<Row>>> {
    let path = folder.join(folder::SELECTION);
    if path.is_file() { jsonl::read(&path).map(Some) } else { Ok(None) }
}

fn searched(row: &Row) -> Option<f64> {
    match row {
        Row::Search { valid_accuracy, .. } => Some(*valid_accuracy),
        Row::Cell { .. } => None,
    }
}

/// A run that ended without a whole epoch says nothing: its rows were taken away.
fn no_epoch(folder: &Path) -> Error {
    Error::data(
        &folder.join(folder::METRICS),
        "has no row of an epoch; remove the folder, to run this part again",
    )
}

fn search_name(seed: u64) -> String {
    format!("search-{seed}")
}

fn train_name(of: &str) -> String {
    format!("train-{of}")
}

/// For a folder without rows: of one search, or of several that has lost them.
fn no_rows(folder: &Path) -> Error {
    let shown = folder.display();
    let several =
        SearchConfig::from_file(&folder.join(folder::CONFIG)).is_ok_and(|there| there.is_selection());
    let what = if several {
        let file = folder::SELECTION;
        format!("{shown} is of several searches, but its {file} is missing; put that back or start a new run")
    } else {
        format!(
            "{shown} is the folder of one search; leave --seeds and --select out to go on with it, or start a new run"
        )
    };
    Error::config("--resume", what)
}

/// That the number of epochs of trainings, there and here, is one once a training has begun in `folder`.
fn check_epochs(configs: [&SearchConfig; 2], folder: &Path, done: &[Row]) -> Result<()> {
    let [there, here] = configs.map(|config| config.select.epochs);
    if there == here || !trains(folder, done)? {
        return Ok(());
    }
    let what = format!(
        "is {there} there and {here} here, and cannot change once a cell is trained; go on with {there} or start a new run"
    );
    Err(Error::config("select.epochs", what))
}

/// Whether the training of a cell has begun.
fn trains(folder: &Path, done: &[Row]) -> Result<bool> {
    let is_training = |name: &str| name.starts_with(&train_name(""));
    let mut parts = folder.read_dir().map_err(Error::io("read", folder))?.flatten();
    Ok(done.iter().any(|row| matches!(row, Row::Cell { .. }))
        || parts.any(|part| is_training(&part.file_name().to_string_lossy()) && is_begun(&part.path())))
}

fn is_begun(folder: &Path) -> bool {
    folder.join(NEWEST).is_file()
}

/// Whether there is a run in `folder` to go on with; what a kill left before its first checkpoint is taken away.
fn begun(folder: &Path) -> Result<bool> {
    if is_begun(folder) {
        return Ok(true);
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(Error::write(folder))?;
    }
    Ok(false)
}
