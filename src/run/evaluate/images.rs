//! The images that a network is evaluated on.

use crate::data::loader::{self, Batch};
use crate::data::{Dataset, ImageSet, Request, split};
use crate::error::{Error, Result};
use crate::run::config::{SearchConfig, TrainConfig};
use crate::run::image_order::channels_last;
use crate::run::tensor_file::safetensors_read;
use crate::tensor::{DType, Tensor};
use std::ops::Range;
use std::path::Path;

/// Normalised images, in the host's memory.
pub enum Images {
    Set(Box<ImageSet>, Vec<usize>),
    File { images: Tensor, labels: Option<Tensor> },
}

impl Images {
    /// Those to test on, and which those are: the ones that are held back if a portion of `held` trains, else the test
    /// images, else all.
    pub fn of(set: Dataset, held: Option<f64>, seed: u64) -> (Self, &'static str) {
        let Dataset { train, test, .. } = set;
        if let Some(portion) = held {
            let (_, rest) = split::split(train.len(), portion, seed);
            return (Self::Set(Box::new(train), rest), "images that were held back");
        }
        let (set, which) = match test.filter(|test| !test.is_empty()) {
            Some(test) => (test, "test images"),
            None => (train, "images, none of which are for testing"),
        };
        let all = (0..set.len()).collect();
        (Self::Set(Box::new(set), all), which)
    }
    pub fn read(path: &Path) -> Result<Self> {
        let (tensors, _) = safetensors_read(path)?;
        let find = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        let wrong = |what: &str| Error::data(path, what);
        let images = find("images").ok_or_else(|| wrong("has no tensor `images`"))?;
        let real = matches!(images.dtype(), DType::F32 | DType::F64 | DType::BF16);
        if !real || images.shape().rank() != 4 || images.count() == 0 {
            return Err(wrong(
                "`images` must hold normalised images, (N, C, H, W), of a floating-point type",
            ));
        }
        let images = channels_last(images, DType::F32)?;
        let labels = find("labels").cloned();
        let n = images.shape().dims()[0];
        if labels.as_ref().is_some_and(|l| l.shape().dims() != [n] || l.dtype() != DType::U32) {
            return Err(wrong("`labels` must hold an integer for each of the images"));
        }
        Ok(Self::File { images, labels })
    }
    /// (N, H, W, C)
    pub fn extents(&self) -> [usize; 4] {
        match self {
            Self::Set(set, chosen) => [chosen.len(), set.height, set.width, set.channels],
            Self::File { images, .. } => images.shape().nhwc().unwrap_or_default(),
        }
    }
    pub fn len(&self) -> usize {
        self.extents()[0]
    }
    /// Leaves the first `limit`.
    pub fn cut(&mut self, limit: usize) {
        let [n, h, w, c] = self.extents();
        match self {
            Self::Set(_, chosen) => chosen.truncate(limit),
            Self::File { images, labels } => {
                let n = n.min(limit);
                *images = images.view(0, [n, h, w, c]);
                *labels = labels.as_ref().map(|l| l.view(0, [n]));
            }
        }
    }
    pub fn labelled(&self) -> bool {
        !matches!(self, Self::File { labels: None, .. })
    }
    /// Labels are 0 where there are none.
    pub fn batch(&self, range: Range<usize>) -> Result<Batch> {
        match self {
            Self::Set(set, chosen) => loader::batch(set, &chosen[range], None, DType::F32),
            Self::File { images, labels } => {
                let [_, h, w, c] = self.extents();
                let n = range.len();
                let images = images.view(range.start * h * w * c, [n, h, w, c]);
                let none = || Tensor::zeros([n], DType::U32);
                let labels = labels.as_ref().map_or_else(none, |l| l.view(range.start, [n]));
                Ok(Batch { images, labels })
            }
        }
    }
    pub fn describe(&self) -> String {
        let [n, h, w, c] = self.extents();
        let mut text = format!("{n} of {h} x {w} x {c}");
        if let Self::Set(set, _) = self {
            let numbers = |x: &[f32]| x.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
            text +=
                &format!(", normalised by mean {} and deviation {}", numbers(&set.mean), numbers(&set.std));
        }
        text
    }
    /// Whether a network of `classes` classes can be asked about the labels.
    pub fn check_labels(&self, classes: usize) -> Result<()> {
        let most = match self {
            Self::Set(set, _) if set.classes.len() != classes => {
                let what = format!("has {} classes, the network tells {classes} apart", set.classes.len());
                return Err(Error::config("--data", what));
            }
            Self::File { labels: Some(labels), .. } => labels.as_slice::<u32>().iter().max().copied(),
            _ => None,
        };
        match most.filter(|&label| label as usize >= classes) {
            Some(label) => {
                let what = format!("has a label {label}, the network tells {classes} classes apart");
                Err(Error::config("--images", what))
            }
            None => Ok(()),
        }
    }
}

/// What a run's settings say of its images, and the part of them that trains if the rest tests.
pub type Asked = (Request, Option<f64>);

fn asked(name: &str, image_size: usize, seed: u64, train_images: usize) -> Request {
    Request {
        name: name.to_owned(),
        dir: None,
        image_size: (image_size > 0).then_some(image_size),
        seed,
        train_images: (name == "synthetic").then_some(train_images),
    }
}

pub fn asked_of_training(config: &TrainConfig) -> Asked {
    let d = &config.data;
    let held = (d.valid_portion > 0.0).then_some(1.0 - d.valid_portion);
    (asked(&d.name, d.image_size, config.train.seed, d.train_images), held)
}

pub fn asked_of_search(config: &SearchConfig) -> Asked {
    let d = &config.data;
    (asked(&d.name, d.image_size, config.search.seed, d.train_images), Some(d.train_portion))
}
