//! The settings of a search: types, defaults, comparison. Defaults are the published ones, at a smaller size.

mod check;
pub(super) mod file;
pub mod keys;

use super::device::Wanted;
use super::memory;
use crate::error::{Error, Result};
pub use crate::search::Order;
use crate::space::genotype::CANDIDATES;
use crate::tensor::DType;
use keys::{KEYS, Key, show};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Everything that `search` can be told. Meaning and source of each field are in [`keys::KEYS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    pub data: Data,
    pub space: Space,
    pub search: Search,
    pub weights: Weights,
    pub alpha: Alpha,
    pub run: Run,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    pub name: String,
    pub dir: PathBuf,
    pub image_size: usize,
    pub train_images: usize,
    pub train_portion: f64,
    pub crop_padding: usize,
    pub flip: bool,
    pub cutout: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Space {
    pub name: String,
    pub channels: usize,
    pub cells: usize,
    pub nodes: usize,
    pub stem_multiplier: usize,
    pub candidates: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    pub order: Order,
    pub epochs: usize,
    pub max_steps: usize,
    pub batch_size: usize,
    pub seed: u64,
    pub finite_difference_radius: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub learning_rate: f64,
    pub learning_rate_min: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub grad_clip: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alpha {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub init_scale: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    pub device: String,
    pub precision: String,
    pub graph: bool,
    pub fusion: String,
    pub memory_budget: String,
    pub threads: usize,
    pub out: PathBuf,
    pub checkpoint_steps: usize,
    pub quiet: bool,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            name: "synthetic".into(),
            dir: PathBuf::new(),
            image_size: 0,
            train_images: 4000,
            train_portion: 0.5,
            crop_padding: 4,
            flip: true,
            cutout: 0,
        }
    }
}
impl Default for Space {
    fn default() -> Self {
        let candidates = CANDIDATES[..8].iter().map(|name| name.to_string()).collect();
        Self { name: "darts-cnn".into(), channels: 8, cells: 5, nodes: 4, stem_multiplier: 3, candidates }
    }
}
impl Default for Search {
    fn default() -> Self {
        Self {
            order: Order::First,
            epochs: 4,
            max_steps: 0,
            batch_size: 32,
            seed: 2,
            finite_difference_radius: 0.01,
        }
    }
}
impl Default for Weights {
    fn default() -> Self {
        Self {
            learning_rate: 0.025,
            learning_rate_min: 0.001,
            momentum: 0.9,
            weight_decay: 3e-4,
            grad_clip: 5.0,
        }
    }
}
impl Default for Alpha {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            beta1: 0.5,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-3,
            init_scale: 1e-3,
        }
    }
}
impl Default for Run {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            precision: "f32".into(),
            graph: true,
            fusion: "on".into(),
            memory_budget: "none".into(),
            threads: 0,
            out: PathBuf::new(),
            checkpoint_steps: 100,
            quiet: false,
        }
    }
}

/// Settings given explicitly, by a file or by flags.
pub(super) type Given = Vec<(&'static Key, Value)>;

impl SearchConfig {
    /// The settings in the file at `path` over the defaults. Fails with [`Error::ConfigFile`] and the line on an
    /// unknown key or a wrong type; ranges are the business of [`Self::validate`].
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::default().with(file::read(path)?)
    }
    /// These settings with `given` in their place.
    pub(super) fn with(&self, given: Given) -> Result<Self> {
        let mut table = self.table();
        for (key, value) in given {
            table[key.section()][key.name()] = value;
        }
        table.try_into().map_err(|e: toml::de::Error| Error::config("configuration", one_line(e.message())))
    }
    /// As the file's tables.
    pub(super) fn table(&self) -> Table {
        match Table::try_from(self) {
            Ok(table) => table,
            // All numbers came from TOML or a flag that is read as TOML, and text is UTF-8 for the same reason.
            Err(e) => unreachable!("settings that TOML cannot hold: {e}"),
        }
    }
    /// The whole file, a comment with meaning, default and source over each key; reads back equal.
    pub fn to_toml(&self) -> String {
        file::write(&self.table())
    }
    /// Keys in which the two differ: `(key, value here, value there)`, in the order of the file.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let (here, there) = (self.table(), other.table());
        let differing = KEYS.iter().filter(|key| key.of(&here) != key.of(&there));
        differing.map(|key| (key.path, show(key.of(&here)), show(key.of(&there)))).collect()
    }
    /// The settings that determine the numbers of a run, by dotted key: what a checkpoint remembers.
    pub fn fixed(&self) -> serde_json::Value {
        let table = self.table();
        let fixed = KEYS.iter().filter(|key| !key.may_change);
        // a TOML value without dates is a JSON value
        fixed.map(|key| (key.path.to_owned(), serde_json::json!(key.of(&table)))).collect()
    }
    /// These settings with those that a checkpoint remembers in their place; `path` is for messages.
    pub fn with_fixed(&self, fixed: &serde_json::Value, path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::checkpoint(path, format!("its settings cannot be read: {what}"));
        let mut given = Given::new();
        for (name, value) in fixed.as_object().into_iter().flatten() {
            let key = KEYS.iter().find(|key| key.path == name);
            let key = key.ok_or_else(|| wrong(format!("{name} is no setting of this version")))?;
            let value = Value::try_from(value).map_err(|e| wrong(one_line(&e.to_string())))?;
            given.push((key, key.accept(value).map_err(|what| wrong(format!("{name} {what}")))?));
        }
        self.with(given)
    }
    /// Whether a run with these settings goes on bit for bit from the `checkpoint` written with `stored`.
    pub fn can_resume(&self, stored: &Self, checkpoint: &Path) -> Result<()> {
        let fixed = |path: &str| KEYS.iter().any(|key| key.path == path && !key.may_change);
        let differing: Vec<String> = (self.differences(stored).into_iter())
            .filter(|(path, ..)| fixed(path))
            .map(|(path, here, there)| format!("{path} is {there} there and {here} here"))
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        let what = format!(
            "checkpoint from another configuration: {}; resume without changing these or start a new run",
            differing.join(", ")
        );
        Err(Error::checkpoint(checkpoint, what))
    }
    /// Bytes that the process may take, if `run.memory_budget` says so.
    pub fn memory_budget(&self) -> Result<Option<usize>> {
        memory::parse(&self.run.memory_budget).map_err(|what| Error::config("run.memory_budget", what))
    }
    /// What `run.device` asks for.
    pub fn device(&self) -> Result<Wanted> {
        self.run.device.parse().map_err(|what: String| Error::config("run.device", what))
    }
    /// What images are stored as on a device.
    pub fn precision(&self) -> DType {
        if self.run.precision == "bf16" { DType::BF16 } else { DType::F32 }
    }
}

/// Messages of the TOML parser run over several lines.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
