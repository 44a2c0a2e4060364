//! The settings of a training: types, defaults, and the published recipes.

use super::key::Key;
use super::schema::{Configuration, Section};
use super::seed;
use super::train_keys::{KEYS, SECTIONS};
use crate::error::{Error, Result};
use crate::run::device::Wanted;
use crate::space::network::Macro;
use crate::tensor::DType;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that `train` can be told. Meaning and source of each field are in [`super::train_keys::KEYS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    pub data: Data,
    pub network: Network,
    pub train: Train,
    pub run: Run,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    pub name: String,
    pub dir: PathBuf,
    pub image_size: usize,
    pub train_images: usize,
    pub valid_portion: f64,
    #[serde(with = "seed")]
    pub seed: Option<u64>,
    pub augment: String,
    pub crop_padding: usize,
    pub crop_area: f64,
    pub jitter: f64,
    pub hue: f64,
    pub flip: bool,
    pub cutout: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub genotype: String,
    pub kind: String,
    pub channels: usize,
    pub cells: usize,
    pub weights: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    pub epochs: usize,
    pub max_steps: usize,
    pub batch_size: usize,
    pub seed: u64,
    pub learning_rate: f64,
    pub schedule: String,
    pub learning_rate_min: f64,
    pub gamma: f64,
    pub gamma_epochs: usize,
    pub warmup_epochs: usize,
    pub momentum: f64,
    pub weight_decay: f64,
    pub grad_clip: f64,
    pub label_smoothing: f64,
    pub auxiliary_weight: f64,
    pub drop_path: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    pub device: String,
    pub precision: String,
    pub graph: bool,
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
            valid_portion: 0.0,
            seed: None,
            augment: "cifar".into(),
            crop_padding: 4,
            crop_area: 0.08,
            jitter: 0.4,
            hue: 0.2,
            flip: true,
            cutout: 0,
        }
    }
}
impl Default for Network {
    fn default() -> Self {
        let (genotype, kind) = (String::new(), "cifar".into());
        Self { genotype, kind, channels: 8, cells: 5, weights: PathBuf::new() }
    }
}
impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 15,
            max_steps: 0,
            batch_size: 32,
            seed: 0,
            learning_rate: 0.025,
            schedule: "cosine".into(),
            learning_rate_min: 0.0,
            gamma: 0.97,
            gamma_epochs: 1,
            warmup_epochs: 0,
            momentum: 0.9,
            weight_decay: 3e-4,
            grad_clip: 5.0,
            label_smoothing: 0.0,
            auxiliary_weight: 0.4,
            drop_path: 0.0,
        }
    }
}
impl Default for Run {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            precision: "f32".into(),
            graph: true,
            threads: 0,
            out: PathBuf::new(),
            checkpoint_steps: 100,
            quiet: false,
            json: false,
            tensorboard: true,
        }
    }
}

impl Configuration for TrainConfig {
    const KEYS: &'static [Key] = KEYS;
    const SECTIONS: &'static [Section] = &SECTIONS;
    const TITLE: &'static str = "# Settings of a training; read with: train --config FILE";

    fn validate(&self) -> Result<()> {
        self.check()
    }
    fn resolved(&self) -> Self {
        let mut all = self.clone();
        all.data.seed = Some(self.data_seed());
        all
    }
}

impl TrainConfig {
    /// The published training on CIFAR-10.
    pub fn cifar() -> Self {
        let mut config = Self::default();
        config.data.cutout = 16;
        (config.network.channels, config.network.cells) = (36, 20);
        (config.train.epochs, config.train.batch_size, config.train.drop_path) = (600, 96, 0.2);
        config
    }
    /// The published training on ImageNet.
    pub fn imagenet() -> Self {
        let mut config = Self::default();
        config.data = Data { image_size: 224, augment: "imagenet".into(), crop_padding: 0, ..config.data };
        config.network = Network { kind: "imagenet".into(), channels: 48, cells: 14, ..config.network };
        config.train = Train {
            epochs: 250,
            batch_size: 128,
            learning_rate: 0.1,
            schedule: "step".into(),
            weight_decay: 3e-5,
            label_smoothing: 0.1,
            ..config.train
        };
        config
    }
    /// Seed of the drawn images and of the choice of those that are held back.
    pub fn data_seed(&self) -> u64 {
        self.data.seed.unwrap_or(self.train.seed)
    }
    /// Which of the two published networks.
    pub fn kind(&self) -> Macro {
        if self.network.kind == "imagenet" { Macro::ImageNet } else { Macro::Cifar }
    }
    /// Whether training images are crops of random size and shape.
    pub fn resized_crops(&self) -> bool {
        self.data.augment == "imagenet"
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
