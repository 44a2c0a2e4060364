//! The images of a training: which train, which test, and batches of both where the training runs.

use super::config::TrainConfig;
use crate::data::augment::Draw;
use crate::data::loader::{self, Batch};
use crate::data::resident::Resident;
use crate::data::{self, ImageSet, Request, split};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Images, and which of them are for what.
pub struct TrainData {
    /// The training images, of which a part may be held back for testing.
    pub images: ImageSet,
    /// The test images, unless they are held back.
    test_images: Option<ImageSet>,
    /// Indices of the images that train.
    pub train: Vec<usize>,
    /// Indices of the images that test, in the set that has them.
    pub test: Vec<usize>,
    /// The same on a device: images and test images.
    resident: [Option<Resident>; 2],
}

impl TrainData {
    /// Loads what `config` asks for. Fails with [`Error::Config`] if there are no images to test on, or if images do not
    /// suit the network.
    pub fn load(config: &TrainConfig) -> Result<Self> {
        let d = &config.data;
        let set = data::load(&Request {
            name: d.name.clone(),
            dir: (!d.dir.as_os_str().is_empty()).then(|| d.dir.clone()),
            image_size: (d.image_size > 0).then_some(d.image_size),
            seed: config.train.seed,
            train_images: (d.name == "synthetic").then_some(d.train_images),
        })?;
        config.check_images([set.train.height, set.train.width])?;
        let count = set.train.len();
        let (train, test, test_images) = if d.valid_portion > 0.0 {
            let (train, test) = split::split(count, 1.0 - d.valid_portion, config.train.seed);
            (train, test, None)
        } else {
            let Some(test) = set.test.filter(|test| !test.is_empty()) else {
                let what = "is 0, but this data set has no test images; hold a part of the training images back, such as 0.1";
                return Err(Error::config("data.valid_portion", what));
            };
            ((0..count).collect(), (0..test.len()).collect(), Some(test))
        };
        if train.len() < 2 {
            let what = format!("leaves {} of {count} images to train on, must leave at least 2", train.len());
            return Err(Error::config("data.valid_portion", what));
        }
        Ok(Self { images: set.train, test_images, train, test, resident: [None, None] })
    }

    /// Copies the images to `device`, if it is not the CPU, for batches of `most` images at the most.
    pub fn put_on(&mut self, device: &Device, most: usize) -> Result<()> {
        if device.cuda().is_some() {
            let there = |set: &ImageSet| Resident::new(set, device, most);
            self.resident = [Some(there(&self.images)?), self.test_images.as_ref().map(there).transpose()?];
        }
        Ok(())
    }

    /// The training images `chosen`, changed at random.
    pub fn training_batch(&self, chosen: &[usize], draw: Draw, dtype: DType) -> Result<Batch> {
        batch(&self.images, self.resident[0].as_ref(), chosen, Some(draw), dtype)
    }

    /// The test images `chosen`, as they are.
    pub fn test_batch(&self, chosen: &[usize], dtype: DType) -> Result<Batch> {
        match &self.test_images {
            Some(test) => batch(test, self.resident[1].as_ref(), chosen, None, dtype),
            None => batch(&self.images, self.resident[0].as_ref(), chosen, None, dtype),
        }
    }

    /// Bytes of all images.
    pub fn bytes(&self) -> usize {
        let sets = std::iter::once(&self.images).chain(&self.test_images);
        sets.map(super::memory::of_images).sum()
    }
}

fn batch(
    images: &ImageSet,
    resident: Option<&Resident>,
    chosen: &[usize],
    draw: Option<Draw>,
    dtype: DType,
) -> Result<Batch> {
    match resident {
        Some(resident) => resident.batch(chosen, draw, dtype),
        None => loader::batch(images, chosen, draw, DType::F32),
    }
}
