//! The images that a network is evaluated on.

use crate::data::loader::{self, Batch};
use crate::data::pictures::Pictures;
use crate::data::{self, Dataset, ImageSet, Request, split};
use crate::error::{Error, Result};
use crate::run::config::{SearchConfig, TrainConfig};
use crate::run::image_order::channels_last;
use crate::run::tensor_file::safetensors_read;
use crate::tensor::{DType, Tensor};
use std::ops::Range;
use std::path::Path;

/// Normalised images, in the host's memory.
pub enum Images {
    /// Whole ones of one size, and which of them.
    Set(Box<ImageSet>, Vec<usize>),
    /// Ones of any size, and which of them: central crops of this height and width.
    Crops(Box<Pictures>, Vec<usize>, [usize; 2]),
    File {
        images: Tensor,
        labels: Option<Tensor>,
    },
}

impl Images {
    /// Those to test on, and which those are: the ones that are held back if a portion of `held` trains, else the test
    /// images, else all.
    ///
    /// # Errors
    /// As [`data::load`] and [`Pictures::load`].
    pub fn of(request: &Request, held: Option<f64>, crops: bool) -> Result<(Self, &'static str)> {
        let held = held.map(|portion| (portion, request.seed));
        if crops {
            let (train, test, size) = Pictures::load(request)?;
            let (pictures, chosen, which) = tested((train, test), Pictures::len, held);
            return Ok((Self::Crops(Box::new(pictures), chosen, size), which));
        }
        let Dataset { train, test, .. } = data::load(request)?;
        let (set, chosen, which) = tested((train, test), ImageSet::len, held);
        Ok((Self::Set(Box::new(set), chosen), which))
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
            Self::Crops(pictures, chosen, [h, w]) => [chosen.len(), *h, *w, pictures.channels()],
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
            Self::Set(_, chosen) | Self::Crops(_, chosen, _) => chosen.truncate(limit),
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
            Self::Crops(pictures, chosen, size) => pictures.test_batch(&chosen[range], *size),
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
        let text = format!("{n} of {h} x {w} x {c}");
        let (crops, [mean, deviation]) = match self {
            Self::Set(set, _) => ("", [&set.mean[..], &set.std]),
            Self::Crops(pictures, ..) => (", central crops", pictures.levels()),
            Self::File { .. } => return text,
        };
        let numbers = |x: &[f32]| x.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        format!("{text}{crops}, normalised by mean {} and deviation {}", numbers(mean), numbers(deviation))
    }
    /// The flag that says which they are.
    pub fn flag(&self) -> &'static str {
        if matches!(self, Self::File { .. }) { "--images" } else { "--data" }
    }
    /// The error of a size that is no `multiple`, for images of a file, which are taken as they are.
    pub fn no_size_to_choose(&self, error: Error, multiple: usize) -> Error {
        match (self, error) {
            (Self::File { .. }, Error::Config { what, .. }) => {
                let wrong = what.split("; ").next().unwrap_or(&what);
                Error::config("--images", format!("{wrong}; write them at a multiple of {multiple}"))
            }
            (_, error) => error,
        }
    }
    /// Whether a network of `classes` classes can be asked about the labels.
    pub fn check_labels(&self, classes: usize) -> Result<()> {
        let there = match self {
            Self::Set(set, _) => set.classes.len(),
            Self::Crops(pictures, ..) => pictures.classes().len(),
            Self::File { labels, .. } => {
                let most = labels.as_ref().and_then(|labels| labels.as_slice::<u32>().iter().max().copied());
                return match most.filter(|&label| label as usize >= classes) {
                    Some(label) => {
                        let what = format!("has a label {label}, the network tells {classes} classes apart");
                        Err(Error::config("--images", what))
                    }
                    None => Ok(()),
                };
            }
        };
        if there != classes {
            let what = format!("has {there} classes, the network tells {classes} apart");
            return Err(Error::config("--data", what));
        }
        Ok(())
    }
}

/// What is tested on of the images that train and those that test: the set, the indices in it, and what they are called.
/// `held`: the portion that trains if the rest tests, and the seed.
fn tested<T>(
    (train, test): (T, Option<T>),
    len: fn(&T) -> usize,
    held: Option<(f64, u64)>,
) -> (T, Vec<usize>, &'static str) {
    if let Some((portion, seed)) = held {
        let (_, rest) = split::split(len(&train), portion, seed);
        return (train, rest, "images that were held back");
    }
    let (set, which) = match test.filter(|test| len(test) > 0) {
        Some(test) => (test, "test images"),
        None => (train, "images, none of which are for testing"),
    };
    let all = (0..len(&set)).collect();
    (set, all, which)
}

/// What a run's settings say of its images.
pub struct Asked {
    pub request: Request,
    /// The part of them that trains if the rest tests.
    pub held: Option<f64>,
    /// Whether it tests on central crops.
    pub crops: bool,
}

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
    let request = asked(&d.name, d.image_size, config.data_seed(), d.train_images);
    Asked { request, held, crops: config.resized_crops() }
}

pub fn asked_of_search(config: &SearchConfig) -> Asked {
    let d = &config.data;
    let request = asked(&d.name, d.image_size, config.data_seed(), d.train_images);
    Asked { request, held: Some(d.train_portion), crops: false }
}
