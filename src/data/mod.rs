//! Image sets in memory, and the one way to get them: `load` by name.

pub mod augment;
mod cifar;
pub mod colour;
mod files;
pub mod fingerprint;
mod folder;
mod idx;
pub mod loader;
pub mod pictures;
pub mod resident;
mod resize;
pub mod resized_crop;
pub mod split;
mod synthetic;

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The names that [`load`] knows.
pub const NAMES: [&str; 5] = ["cifar10", "cifar100", "idx", "folder", "synthetic"];
/// Side of the images in pixels that a request may ask for.
pub const IMAGE_SIZES: std::ops::RangeInclusive<usize> = 8..=512;
/// Numbers of training images that a request for the synthetic set may ask for.
pub const SYNTHETIC_IMAGES: std::ops::RangeInclusive<usize> = 10..=1_000_000;

/// Side in pixels of the images of `folder` and `synthetic` if none is asked for.
const DEFAULT_SIZE: usize = 32;

/// Labelled images of one size, 8 bit a channel. [`ImageSet::new`] makes one of arrays.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSet {
    /// `(N, height, width, channels)`, row-major, 0 to 255.
    pub images: Vec<u8>,
    /// `N` indices into `classes`.
    pub labels: Vec<u32>,
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    pub classes: Vec<String>,
    /// Mean per channel of `images / 255`, over the training images.
    pub mean: Vec<f32>,
    /// Standard deviation per channel of `images / 255`, over the training images; never 0.
    pub std: Vec<f32>,
}

impl ImageSet {
    /// A set of a caller's own: `images` of `[height, width, channels]`, one after the other, and a label for each, which
    /// is an index into `classes`. Mean and deviation are measured.
    ///
    /// ```
    /// use oche::data::ImageSet;
    /// let pixels = [[0; 8 * 8], [255; 8 * 8]].concat();
    /// let set = ImageSet::new(pixels, vec![0, 1], [8, 8, 1], &["black", "white"])?;
    /// assert_eq!((set.len(), set.mean[0], set.std[0]), (2, 0.5, 0.5));
    /// # Ok::<(), oche::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the lengths do not fit each other, a label names no class, images are neither grey nor RGB,
    /// or there are fewer than two images or classes.
    pub fn new(
        images: Vec<u8>,
        labels: Vec<u32>,
        [height, width, channels]: [usize; 3],
        classes: &[impl AsRef<str>],
    ) -> Result<Self> {
        let refuse = |what: String| Err(Error::config("data", what));
        if height == 0 || width == 0 || !matches!(channels, 1 | 3) {
            return refuse(format!("images of {height} x {width} x {channels} are neither grey nor RGB"));
        }
        let wanted = labels.len() * height * width * channels;
        if images.len() != wanted {
            let (found, count) = (images.len(), labels.len());
            return refuse(format!("{count} images take {wanted} bytes, but {found} were given"));
        }
        if labels.len() < 2 || classes.len() < 2 {
            let (images, classes) = (labels.len(), classes.len());
            return refuse(format!("{images} images of {classes} classes; there must be two of both"));
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes.len()) {
            return refuse(format!("label {label} names none of {} classes", classes.len()));
        }
        let classes = classes.iter().map(|class| class.as_ref().to_owned()).collect();
        let mut set = Self { images, labels, height, width, channels, classes, mean: vec![], std: vec![] };
        (set.mean, set.std) = set.statistics();
        Ok(set)
    }
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
    /// Bytes of one image: height x width x channels.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// Image `index`, `(height, width, channels)`. Panics beyond the last one.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * self.image_len()..][..self.image_len()]
    }
    /// Mean and population standard deviation per channel of `images / 255`. Summed in integers, so that the number
    /// of threads does not matter. A channel without any variation has deviation 1.
    pub fn statistics(&self) -> (Vec<f32>, Vec<f32>) {
        let channels = self.channels;
        let sums = self
            .images
            .par_chunks((1 << 16) * channels)
            .map(|pixels| {
                let mut sums = vec![[0u64; 2]; channels];
                for pixel in pixels.chunks_exact(channels) {
                    for (sum, &x) in sums.iter_mut().zip(pixel) {
                        sum[0] += x as u64;
                        sum[1] += x as u64 * x as u64;
                    }
                }
                sums
            })
            .reduce(
                || vec![[0; 2]; channels],
                |a, b| a.iter().zip(&b).map(|(a, b)| [a[0] + b[0], a[1] + b[1]]).collect(),
            );
        let count = (self.images.len() / channels) as f64;
        let moments = sums.iter().map(|&[sum, squares]| {
            let mean = sum as f64 / count;
            let variance = (squares as f64 / count - mean * mean).max(0.0);
            let std = if variance > 0.0 { variance.sqrt() / 255.0 } else { 1.0 };
            ((mean / 255.0) as f32, std as f32)
        });
        moments.unzip()
    }
}

/// Training images, and test images if the source has them. Both share size, classes, mean and deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// One of [`NAMES`], or what a caller calls it.
    pub name: String,
    pub train: ImageSet,
    pub test: Option<ImageSet>,
}

impl Dataset {
    /// A set of a caller's own; `test` is given the mean and deviation of `train`.
    ///
    /// # Errors
    /// [`Error::Config`] if the two differ in the size of their images or in their classes.
    pub fn new(name: &str, train: ImageSet, test: Option<ImageSet>) -> Result<Self> {
        let like = |set: &ImageSet| ([set.height, set.width, set.channels], set.classes.clone());
        match test.as_ref().map(like) {
            Some(other) if other != like(&train) => Err(Error::config(
                "data",
                "test images have another size or other classes than training images",
            )),
            _ => Ok(Self { name: name.into(), train, test }.standardise()),
        }
    }
    /// Measures mean and deviation on the training images and gives them to both parts.
    fn standardise(mut self) -> Self {
        let (mean, std) = self.train.statistics();
        for set in std::iter::once(&mut self.train).chain(&mut self.test) {
            (set.mean, set.std) = (mean.clone(), std.clone());
        }
        self
    }
}

/// Which data set to load, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// One of [`NAMES`].
    pub name: String,
    /// Where the files are: needed by every set but `synthetic`, which takes none.
    pub dir: Option<PathBuf>,
    /// Side in pixels, within [`IMAGE_SIZES`]. Default: as in the files; 32 for `folder` and `synthetic`.
    pub image_size: Option<usize>,
    /// Of the synthetic images.
    pub seed: u64,
    /// Number of synthetic training images, within [`SYNTHETIC_IMAGES`]; a fifth as many are made for testing.
    /// Default 10,000. No other set takes it.
    pub train_images: Option<usize>,
}

impl Request {
    /// The folder that files are read from, which has to be given.
    fn files(&self) -> Result<&Path> {
        self.dir.as_deref().ok_or_else(|| {
            let (name, or) = (&self.name, or_download(&self.name));
            let what = format!("`{name}` is read from files; say where they are with --data-dir{or}");
            Error::config("data.dir", what)
        })
    }
}

/// The built-in set of ten drawn shapes and textures: `train_images` images of `size` x `size` pixels, within
/// [`IMAGE_SIZES`] and [`SYNTHETIC_IMAGES`], and a fifth as many for testing.
///
/// # Errors
/// [`Error::Config`] for a size or a number outside these.
pub fn synthetic(size: usize, train_images: usize, seed: u64) -> Result<Dataset> {
    let (image_size, train_images) = (Some(size), Some(train_images));
    load(&Request { name: "synthetic".into(), dir: None, image_size, seed, train_images })
}

/// A file that the publishers of a data set give out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub url: String,
    /// Its name where it is looked for.
    pub file: String,
    /// MD5 of its bytes in lower-case hexadecimal.
    pub md5: String,
}

/// The names of the sets that have an [`Archive`].
pub const PUBLISHED: [&str; 2] = ["cifar10", "cifar100"];

/// The archive of the set `name`, one of [`PUBLISHED`], if no file of the set is at `dir` yet.
pub fn wanted(name: &str, dir: &Path) -> Option<Archive> {
    let layout = match name {
        "cifar10" => &cifar::CIFAR10,
        "cifar100" => &cifar::CIFAR100,
        _ => return None,
    };
    (!layout.is_at(dir)).then(|| layout.published())
}

/// How a sentence ends on the files of `name` that are not there.
pub fn or_download(name: &str) -> &'static str {
    if PUBLISHED.contains(&name) { ", or let search or train fetch it with --download" } else { "" }
}

/// Loads a data set into memory.
///
/// # Errors
/// A request that makes no sense is `Error::Config`; a file that is missing, damaged or of another kind is
/// `Error::Data` and names it.
pub fn load(request: &Request) -> Result<Dataset> {
    check(request)?;
    let name = request.name.as_str();
    if name == "synthetic" {
        let count = request.train_images.unwrap_or(10_000);
        return Ok(synthetic::load(request.image_size.unwrap_or(DEFAULT_SIZE), request.seed, count));
    }
    let dir = request.files()?;
    let dataset = match name {
        "cifar10" => cifar::load(&cifar::CIFAR10, dir)?,
        "cifar100" => cifar::load(&cifar::CIFAR100, dir)?,
        "idx" => idx::load(dir)?,
        _ => folder::load(dir, request.image_size.unwrap_or(DEFAULT_SIZE))?,
    };
    check_use(dataset.train.classes.len(), dataset.train.len(), dir)?;
    match request.image_size {
        Some(size) if [dataset.train.height, dataset.train.width] != [size; 2] => Ok(Dataset {
            train: resize::set(&dataset.train, size),
            test: dataset.test.as_ref().map(|set| resize::set(set, size)),
            ..dataset
        }
        .standardise()),
        _ => Ok(dataset),
    }
}

/// What can be said before any file is touched.
fn check(request: &Request) -> Result<()> {
    let name = request.name.as_str();
    if !NAMES.contains(&name) {
        let hint = nearest(name).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let names = NAMES.join(", ");
        return Err(Error::config("data.name", format!("`{name}` is none of {names}{hint}")));
    }
    if let Some(size) = request.image_size.filter(|size| !IMAGE_SIZES.contains(size)) {
        let (low, high) = (IMAGE_SIZES.start(), IMAGE_SIZES.end());
        return Err(Error::config("data.image_size", format!("{size} is outside {low} to {high} pixels")));
    }
    if name == "synthetic" && request.dir.is_some() {
        return Err(Error::config(
            "data.dir",
            "the synthetic set reads no files; name the set that the files hold, or leave --data-dir out",
        ));
    }
    match request.train_images {
        Some(_) if name != "synthetic" => Err(Error::config(
            "data.train_images",
            format!("only the synthetic set has a size to choose; leave it out for `{name}`"),
        )),
        Some(count) if !SYNTHETIC_IMAGES.contains(&count) => {
            let (low, high) = (SYNTHETIC_IMAGES.start(), SYNTHETIC_IMAGES.end());
            Err(Error::config("data.train_images", format!("{count} is outside {low} to {high} images")))
        }
        _ => Ok(()),
    }
}

/// A set to learn from has two classes and, to be split in two, two images.
fn check_use(classes: usize, images: usize, dir: &Path) -> Result<()> {
    if classes < 2 || images < 2 {
        let what = format!(
            "has {images} training image(s) of {classes} class(es); a search needs at least two of both"
        );
        return Err(Error::data(dir, what));
    }
    Ok(())
}

/// The name that was most likely meant.
fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    if lower.contains("mnist") {
        return Some("idx"); // the format of its files
    }
    crate::suggest::nearest(name, NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_guessed_from_near_misses_only() {
        assert_eq!(nearest("CIFAR-10"), Some("cifar10"));
        assert_eq!(nearest("cifar"), Some("cifar10"));
        assert_eq!(nearest("fashion-mnist"), Some("idx"));
        assert_eq!(nearest("sintetic"), Some("synthetic"));
        assert_eq!(nearest("wikitext"), None);
    }

    #[test]
    fn statistics_of_known_pixels() {
        // Channel 0: 0 and 255, mean 1/2, deviation 1/2. Channel 1 is constant.
        let set = ImageSet {
            images: vec![0, 51, 255, 51, 0, 51, 255, 51],
            labels: vec![0, 1],
            height: 1,
            width: 2,
            channels: 2,
            classes: vec!["a".into(), "b".into()],
            mean: vec![],
            std: vec![],
        };
        assert_eq!(set.statistics(), (vec![0.5, 0.2], vec![0.5, 1.0]));
    }
}
