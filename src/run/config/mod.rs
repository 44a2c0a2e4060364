//! The settings of a search: types, defaults, comparison. Defaults are the published ones, at a smaller size.

mod check;
pub(super) mod file;
mod key;
pub mod keys;
mod schema;
mod seed;
pub mod train;
mod train_check;
pub mod train_keys;

use super::device::Wanted;
use super::memory;
use crate::error::{Error, Result};
pub use crate::search::Order;
use crate::space::genotype::CANDIDATES;
use crate::tensor::DType;
pub use check::MOST_IMAGES;
pub use key::{Key, show};
use keys::{KEYS, SECTIONS};
pub use schema::{Configuration, Given};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
pub use train::TrainConfig;

/// Everything that `search` can be told. Meaning and source of each field are in [`keys::KEYS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    pub data: Data,
    pub space: Space,
    pub search: Search,
    pub weights: Weights,
    pub alpha: Alpha,
    pub select: Select,
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
    #[serde(with = "seed")]
    pub seed: Option<u64>,
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
    pub weights: PathBuf,
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
pub struct Select {
    pub seeds: usize,
    pub select: bool,
    pub epochs: usize,
    pub random_cells: usize,
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
    pub json: bool,
    pub tensorboard: bool,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            name: "synthetic".into(),
            dir: PathBuf::new(),
            image_size: 0,
            train_images: 4000,
            train_portion: 0.5,
            seed: None,
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
            weights: PathBuf::new(),
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
impl Default for Select {
    fn default() -> Self {
        Self { seeds: 1, select: false, epochs: 5, random_cells: 4 }
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
            json: false,
            tensorboard: true,
        }
    }
}

impl Configuration for SearchConfig {
    const KEYS: &'static [Key] = KEYS;
    const SECTIONS: &'static [schema::Section] = &SECTIONS;
    const TITLE: &'static str = "# Settings of a search; read with: search --config FILE";

    fn validate(&self) -> Result<()> {
        self.check()
    }
    fn resolved(&self) -> Self {
        let mut all = self.clone();
        all.data.seed = Some(self.data_seed());
        all
    }
}

impl SearchConfig {
    /// Whether more than one search is asked for, or what comes after it.
    pub fn is_selection(&self) -> bool {
        self.select.seeds > 1 || self.select.select
    }
    /// Seed of the drawn images and of the split into halves.
    pub fn data_seed(&self) -> u64 {
        self.data.seed.unwrap_or(self.search.seed)
    }
    /// Bytes that the process may take, if `run.memory_budget` says so.
    pub fn memory_budget(&self) -> Result<Option<usize>> {
        memory::parse(&self.run.memory_budget).map_err(|what| Error::config("run.memory_budget", what))
    }
    /// What `run.device` asks for.
    pub fn device(&self) -> Result<Wanted> {
        self.run.device.parse().map_err(|what: String| Error::config("run.device", what))
    }
    /// What is asked for; see `stored_on` and `lean_on` of the devices.
    pub fn precision(&self) -> DType {
        if self.run.precision == "bf16" { DType::BF16 } else { DType::F32 }
    }
}
