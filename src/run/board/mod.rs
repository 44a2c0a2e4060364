//! TensorBoard's event file of a run, made of the rows of its other files and of nothing else.

mod args;
pub mod event;

pub use args::TensorboardArgs;

use super::config::SearchConfig;
use super::draw::cell_text;
use super::folder;
use super::jsonl::{self, Alphas};
use crate::error::{Error, Result};
use crate::space::genotype::CellKind;
use event::{Event, SessionLog, SessionStatus, Summary, What};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What TensorBoard asks of the name of an event file; behind it comes when the file was begun, in seconds since 1970.
pub(super) const PREFIX: &str = "events.out.tfevents.";
/// Where others put the name of the machine.
const SUFFIX: &str = ".oche";

/// What has to be known of a search to read its alphas.
#[derive(Clone, Debug)]
pub struct Space {
    pub nodes: usize,
    pub candidates: Vec<String>,
}

impl Space {
    pub fn of(config: &SearchConfig) -> Self {
        Self { nodes: config.space.nodes, candidates: config.space.candidates.clone() }
    }
}

/// The event file of a run. It is written anew, from `metrics.jsonl` and `alphas.jsonl`, with the first row that comes,
/// and then grows with them: so it has every row once, whatever was stopped, killed and gone on with.
#[derive(Debug)]
pub struct Board {
    folder: PathBuf,
    /// As a file.
    settings: String,
    /// Of a search.
    space: Option<Space>,
    open: Option<(PathBuf, File)>,
    /// Steps of the run so far.
    steps: i64,
}

impl Board {
    /// Of the run in `folder` with these `settings`, a TOML text. Touches no file yet.
    pub fn new(folder: &Path, settings: String, space: Option<Space>) -> Self {
        Self { folder: folder.to_owned(), settings, space, open: None, steps: 0 }
    }

    /// Takes up a row that `metrics.jsonl` has at its end.
    pub fn row(&mut self, row: &Value) -> Result<()> {
        if self.open.is_none() {
            return self.write().map(drop);
        }
        let event = self.of_row(row, now());
        self.append(&event)
    }

    /// Takes up a row that `alphas.jsonl` has at its end.
    pub fn alphas(&mut self, row: &Alphas) -> Result<()> {
        if self.open.is_none() {
            return self.write().map(drop);
        }
        let event = self.of_alphas(row, now())?;
        self.append(&event)
    }

    /// Writes the file anew from the files of the run and removes those before; where it is. Times are as if the run
    /// had never stopped: the newest row is of now.
    ///
    /// # Errors
    /// If a row cannot be read, with file and line, or the file cannot be written.
    pub fn write(&mut self) -> Result<PathBuf> {
        let rows: Vec<Value> = jsonl::read(&self.folder.join(folder::METRICS))?;
        let path = self.folder.join(folder::ALPHAS);
        let alphas = match &self.space {
            Some(_) if path.exists() => jsonl::read::<Alphas>(&path)?,
            _ => vec![],
        };
        let ages = ages(&rows);
        let now = now();
        let start = now - ages.first().copied().unwrap_or_default();
        let mut bytes = vec![];
        for event in self.head(start) {
            event.record(&mut bytes);
        }
        self.steps = 0;
        for (row, age) in rows.iter().zip(&ages) {
            let time = now - age;
            self.of_row(row, time).record(&mut bytes);
            let ended = (row["kind"] == "epoch").then(|| row["epoch"].as_u64()).flatten();
            if let Some(alphas) = alphas.iter().find(|alphas| Some(alphas.epoch as u64) == ended) {
                self.of_alphas(alphas, time)?.record(&mut bytes);
            }
        }
        self.replace(&bytes)
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<PathBuf> {
        let old = files(&self.folder)?;
        // under a new name, also within a second: a reader keeps its place in a file that it knows
        let newest = old.iter().filter_map(|path| time_of(path)).max();
        let time = newest.map_or(now() as u64, |newest| (now() as u64).max(newest + 1));
        let path = self.folder.join(format!("{PREFIX}{time:010}{SUFFIX}"));
        let temporary = folder::write_temporary(&self.folder.join("board"), |file| file.write_all(bytes))?;
        folder::rename(&temporary, &path).inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        for old in old {
            fs::remove_file(&old).map_err(Error::write(&old))?;
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::write(&path))?;
        self.open = Some((path.clone(), file));
        Ok(path)
    }

    /// Appends a record in one write; one that a full disk cuts short is taken back.
    fn append(&mut self, event: &Event) -> Result<()> {
        let Some((path, file)) = &mut self.open else { return Ok(()) };
        let before = file.metadata().map_err(Error::write(path))?.len();
        let mut bytes = vec![];
        event.record(&mut bytes);
        let written = file.write_all(&bytes).inspect_err(|_| drop(file.set_len(before)));
        written.map_err(Error::write(path))
    }

    /// What a file starts with: its version, that what was read before counts no more, the settings.
    fn head(&self, wall_time: f64) -> [Event; 3] {
        let settings = format!("```toml\n{}\n```", self.settings.trim_end());
        [
            What::FileVersion("brain.Event:2".into()),
            What::SessionLog(SessionLog { status: SessionStatus::Start.into() }),
            What::Summary(Summary { value: vec![event::Value::text("settings", &settings)] }),
        ]
        .map(|what| Event { wall_time, step: 0, what: Some(what) })
    }

    /// Every number of a row: of a step over the steps of the run, of an epoch over the epochs.
    fn of_row(&mut self, row: &Value, wall_time: f64) -> Event {
        let kind = row["kind"].as_str().unwrap_or_default();
        let step = if kind == "step" { self.steps } else { row["epoch"].as_i64().unwrap_or_default() };
        self.steps += i64::from(kind == "step");
        let mut value = vec![];
        for (key, content) in row.as_object().into_iter().flatten() {
            match content {
                _ if ["kind", "epoch", "step"].contains(&key.as_str()) => {}
                Value::Object(lists) => {
                    // of each kind of cell a number an edge
                    value.extend(lists.iter().map(|(name, list)| {
                        event::Value::scalar(format!("{key}/{name}"), mean(&numbers(list)))
                    }));
                }
                other => value.extend(
                    other.as_f64().map(|number| event::Value::scalar(format!("{kind}/{key}"), number)),
                ),
            }
        }
        Event { wall_time, step, what: Some(What::Summary(Summary { value })) }
    }

    /// Of each kind of cell: every candidate's weight, its mean and its histogram over the edges, and the skip
    /// connections of the discretised cell; and the cells.
    fn of_alphas(&self, row: &Alphas, wall_time: f64) -> Result<Event> {
        let (mut value, mut cells) = (vec![], String::new());
        let Some(space) = &self.space else { return Ok(Event::default()) };
        let genotype = row.genotype(&space.candidates, space.nodes)?;
        for (kind, name, weights) in
            [(CellKind::Normal, "normal", &row.normal), (CellKind::Reduce, "reduce", &row.reduce)]
        {
            for (i, candidate) in space.candidates.iter().enumerate() {
                let of: Vec<f64> = weights.iter().filter_map(|edge| edge.get(i).copied()).collect();
                value.push(event::Value::scalar(format!("weight_{name}/{candidate}"), mean(&of)));
                value.push(event::Value::histogram(format!("weights_{name}/{candidate}"), &of));
            }
            let genes = genotype.genes(kind);
            let skips = genes.iter().filter(|gene| gene.op == "skip_connect").count();
            value.push(event::Value::scalar(format!("skip_connections/{name}"), skips as f64));
            cells += &format!("{name}\n\n```\n{}\n```\n\n", cell_text(genes, genotype.concat(kind)));
        }
        value.push(event::Value::text("cells", &cells));
        Ok(Event { wall_time, step: row.epoch as i64, what: Some(What::Summary(Summary { value })) })
    }
}

/// The line on the event file at the end of a run that has one.
pub fn mention(there: bool) -> &'static str {
    if there { "  events.out.tfevents.*    the rows once more, for TensorBoard\n" } else { "" }
}

/// The event files in `folder` that a run has written.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.map(|entry| Ok(entry.map_err(Error::io("read", folder))?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.retain(|path| time_of(path).is_some());
    Ok(paths)
}

/// The time in the name of an event file.
fn time_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Seconds of the run from each row to the newest. An epoch takes what its steps do not.
fn ages(rows: &[Value]) -> Vec<f64> {
    let (mut all, mut steps) = (0.0, 0.0);
    let mut time = |row: &Value| {
        let seconds = row["seconds"].as_f64().unwrap_or_default();
        if row["kind"] == "step" {
            all += seconds;
            steps += seconds;
        } else {
            all += (seconds - steps).max(0.0);
            steps = 0.0;
        }
        all
    };
    let times: Vec<f64> = rows.iter().map(&mut time).collect();
    times.iter().map(|time| all - time).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
