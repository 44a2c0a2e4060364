//! The images of a training: which train, which test, and batches of both where the training runs.

use super::config::TrainConfig;
use crate::data::augment::{Augment, Draw};
use crate::data::colour::Jitter;
use crate::data::fingerprint::Fingerprint;
use crate::data::loader::{self, Batch};
use crate::data::pictures::Pictures;
use crate::data::resident::Resident;
use crate::data::resized_crop::ResizedCrop;
use crate::data::{self, Dataset, ImageSet, Request, split};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Images, and which of them are for what.
pub struct TrainData {
    images: Images,
    /// Height, width and channels that the network gets.
    pub image: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Indices of the images that train.
    pub train: Vec<usize>,
    /// Indices of the images that test, in the set that has them.
    pub test: Vec<usize>,
}

/// The training images, of which a part may be held back for testing; the test images, unless they are held back.
enum Images {
    /// Of one size, in memory, a device's too.
    Fixed { train: Held, test: Option<Held>, augment: Augment },
    /// Whose crops are resized and coloured by the host and copied to the device.
    Cropped { train: Pictures, test: Option<Pictures>, augment: ResizedCrop, device: Device },
}

/// A set, and the same on a device.
struct Held(ImageSet, Option<Box<Resident>>);

impl TrainData {
    /// Loads what `config` asks for. Fails with [`Error::Config`] if there are no images to test on, or if images do not
    /// suit the network.
    pub fn load(config: &TrainConfig) -> Result<Self> {
        if config.resized_crops() {
            return Self::cropped(config);
        }
        let Dataset { train, test, .. } = data::load(&request(config))?;
        let (image, classes) = ([train.height, train.width, train.channels], train.classes.len());
        let halves = halves(config, [train.len(), test.as_ref().map_or(0, ImageSet::len)])?;
        let test = test.filter(|_| config.data.valid_portion == 0.0).map(|set| Held(set, None));
        let images = Images::Fixed { train: Held(train, None), test, augment: augment(config) };
        Self::new(config, images, (image, classes), halves)
    }

    fn cropped(config: &TrainConfig) -> Result<Self> {
        let d = &config.data;
        let (train, test, size) = Pictures::load(&request(config))?;
        let (image, classes) = ([size[0], size[1], train.channels()], train.classes().len());
        let halves = halves(config, [train.len(), test.as_ref().map_or(0, Pictures::len)])?;
        let augment = ResizedCrop {
            size,
            least_area: d.crop_area,
            flip: d.flip,
            jitter: Jitter { factors: [d.jitter; 3], hue: d.hue },
            cutout: cutout(config),
        };
        let test = test.filter(|_| d.valid_portion == 0.0);
        let images = Images::Cropped { train, test, augment, device: Device::Cpu };
        Self::new(config, images, (image, classes), halves)
    }

    fn new(
        config: &TrainConfig,
        images: Images,
        (image, classes): ([usize; 3], usize),
        (train, test): (Vec<usize>, Vec<usize>),
    ) -> Result<Self> {
        config.check_images([image[0], image[1]])?;
        Ok(Self { images, image, classes, train, test })
    }

    /// Copies the images to `device`, if it is not the CPU, for batches of `most` images at the most; or has them copied
    /// batch by batch.
    pub fn put_on(&mut self, device: &Device, most: usize) -> Result<()> {
        match &mut self.images {
            Images::Fixed { train, test, .. } if device.cuda().is_some() => {
                for held in std::iter::once(train).chain(test) {
                    held.1 = Some(Box::new(Resident::new(&held.0, device, most)?));
                }
            }
            Images::Fixed { .. } => {}
            Images::Cropped { device: to, .. } => *to = device.clone(),
        }
        Ok(())
    }

    /// The training images `chosen`, changed at random by (seed, epoch, step).
    pub fn training_batch(&self, chosen: &[usize], draw: [u64; 3], dtype: DType) -> Result<Batch> {
        let [seed, epoch, step] = draw;
        match &self.images {
            Images::Fixed { train, augment, .. } => {
                train.batch(chosen, Some((augment, seed, epoch, step)), dtype)
            }
            Images::Cropped { train, augment, device, .. } => {
                train.training_batch(chosen, (augment, seed, epoch, step))?.on(device, dtype)
            }
        }
    }

    /// The test images `chosen`, as they are, or their central parts.
    pub fn test_batch(&self, chosen: &[usize], dtype: DType) -> Result<Batch> {
        match &self.images {
            Images::Fixed { train, test, .. } => test.as_ref().unwrap_or(train).batch(chosen, None, dtype),
            Images::Cropped { train, test, augment, device } => {
                test.as_ref().unwrap_or(train).test_batch(chosen, augment.size)?.on(device, dtype)
            }
        }
    }

    /// Of training and test images.
    pub fn fingerprint(&self) -> Fingerprint {
        let (train, test) = match &self.images {
            Images::Fixed { train, test, .. } => {
                (Fingerprint::of(&train.0), test.as_ref().map(|held| Fingerprint::of(&held.0)))
            }
            Images::Cropped { train, test, .. } => {
                (train.fingerprint(), test.as_ref().map(Pictures::fingerprint))
            }
        };
        test.map_or(train, |test| train.and(test))
    }

    /// Bytes of all images that lie where a training on `device` runs.
    pub fn bytes(&self, device: &Device) -> usize {
        match &self.images {
            Images::Fixed { train, test, .. } => {
                std::iter::once(train).chain(test).map(|held| super::memory::of_images(&held.0)).sum()
            }
            Images::Cropped { train, test, .. } if device.cuda().is_none() => {
                std::iter::once(train).chain(test).map(Pictures::bytes).sum()
            }
            Images::Cropped { .. } => 0,
        }
    }
}

impl Held {
    fn batch(&self, chosen: &[usize], draw: Option<Draw>, dtype: DType) -> Result<Batch> {
        match &self.1 {
            Some(resident) => resident.batch(chosen, draw, dtype),
            None => loader::batch(&self.0, chosen, draw, DType::F32),
        }
    }
}

fn request(config: &TrainConfig) -> Request {
    let d = &config.data;
    Request {
        name: d.name.clone(),
        dir: (!d.dir.as_os_str().is_empty()).then(|| d.dir.clone()),
        image_size: (d.image_size > 0).then_some(d.image_size),
        seed: config.data_seed(),
        train_images: (d.name == "synthetic").then_some(d.train_images),
    }
}

/// Indices of the images that train and that test, of so many training and test images.
fn halves(config: &TrainConfig, [count, tests]: [usize; 2]) -> Result<(Vec<usize>, Vec<usize>)> {
    let portion = config.data.valid_portion;
    let (train, test) = match (portion > 0.0, tests) {
        (true, _) => split::split(count, 1.0 - portion, config.data_seed()),
        (false, 0) => {
            let what = "is 0, but this data set has no test images; hold a part of the training images back, such as 0.1";
            return Err(Error::config("data.valid_portion", what));
        }
        (false, tests) => ((0..count).collect(), (0..tests).collect()),
    };
    if train.len() < 2 {
        let what = format!("leaves {} of {count} images to train on, must leave at least 2", train.len());
        return Err(Error::config("data.valid_portion", what));
    }
    Ok((train, test))
}

fn augment(config: &TrainConfig) -> Augment {
    let d = &config.data;
    Augment { crop_padding: d.crop_padding, flip: d.flip, cutout: cutout(config) }
}

fn cutout(config: &TrainConfig) -> Option<usize> {
    (config.data.cutout > 0).then_some(config.data.cutout)
}
