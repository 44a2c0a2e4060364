//! Images of any size, from files that are read as they are needed or from a set in memory, and their batches.

use super::fingerprint::Fingerprint;
use super::folder::{Files, decode};
use super::loader::Batch;
use super::resized_crop::{Picture, ResizedCrop, central};
use super::{DEFAULT_SIZE, Dataset, ImageSet, Request, check, check_use, folder};
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use rand::RngExt;
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::Path;

/// Means and deviations of the training images of ImageNet, as published code has them.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Labelled images whose crops become batches.
#[derive(Debug)]
pub struct Pictures {
    source: Source,
    /// Mean and deviation a channel.
    levels: [Vec<f32>; 2],
}

#[derive(Debug)]
enum Source {
    Set(ImageSet),
    Files(Files),
}

impl Pictures {
    /// Training and, if there are some, test images of a data set, and height and width of their crops: as asked for, else
    /// those of the images, 32 for `folder`. Files of `folder` are left where they are, see [`Self::folder`].
    ///
    /// # Errors
    /// As [`load`](super::load) and [`Self::folder`].
    pub fn load(request: &Request) -> Result<(Self, Option<Self>, [usize; 2])> {
        if request.name == "folder" {
            check(request)?;
            let (train, test) = Self::folder(request.files()?)?;
            return Ok((train, test, [request.image_size.unwrap_or(DEFAULT_SIZE); 2]));
        }
        let Dataset { train, test, .. } = super::load(request)?;
        let size = [train.height, train.width];
        Ok((Self::of(train), test.map(Self::of), size))
    }
    /// Of a set in memory, by its own mean and deviation.
    pub fn of(set: ImageSet) -> Self {
        let levels = [set.mean.clone(), set.std.clone()];
        Self { source: Source::Set(set), levels }
    }
    /// Training and, if there are some, test images of a folder of PNG and JPEG files, laid out as the data set `folder`
    /// is; normalised by the means and deviations of ImageNet. Of the files only the headers are read by now.
    ///
    /// # Errors
    /// [`Error::Data`] names the folder without classes or images, or the file that is no image.
    pub fn folder(dir: &Path) -> Result<(Self, Option<Self>)> {
        let of = |files| Self { source: Source::Files(files), levels: IMAGENET.map(Vec::from) };
        let (train, test) = folder::list(dir)?;
        check_use(train.classes.len(), train.paths.len(), dir)?;
        Ok((of(train), test.map(of)))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Set(set) => set.len(),
            Source::Files(files) => files.paths.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn fingerprint(&self) -> Fingerprint {
        match &self.source {
            Source::Set(set) => Fingerprint::of(set),
            Source::Files(files) => Fingerprint::of_files(files),
        }
    }
    pub fn classes(&self) -> &[String] {
        match &self.source {
            Source::Set(set) => &set.classes,
            Source::Files(files) => &files.classes,
        }
    }
    /// 1 (grey) or 3 (red, green, blue).
    pub fn channels(&self) -> usize {
        self.levels[0].len()
    }
    /// Mean and deviation of each channel, which batches are normalised by.
    pub fn levels(&self) -> [&[f32]; 2] {
        self.levels.each_ref().map(Vec::as_slice)
    }
    /// Bytes that the images take in memory.
    pub fn bytes(&self) -> usize {
        match &self.source {
            Source::Set(set) => set.images.len(),
            Source::Files(_) => 0,
        }
    }

    fn label(&self, index: usize) -> u32 {
        match &self.source {
            Source::Set(set) => set.labels[index],
            Source::Files(files) => files.labels[index],
        }
    }

    fn read(&self, index: usize) -> Result<(Cow<'_, [u8]>, [usize; 3])> {
        match &self.source {
            Source::Set(set) => Ok((Cow::Borrowed(set.image(index)), [set.height, set.width, set.channels])),
            Source::Files(files) => {
                let image = decode(&files.paths[index])?;
                let (width, height) = image.dimensions();
                Ok((Cow::Owned(image.into_raw()), [height as usize, width as usize, 3]))
            }
        }
    }

    /// The images `indices`, changed at random. Image `i` of a batch is a function of (seed, epoch, step, `i`).
    ///
    /// # Errors
    /// [`Error::Shape`] for an index beyond the last image; [`Error::Data`] for a file that is damaged.
    pub fn training_batch(
        &self,
        indices: &[usize],
        (augment, seed, epoch, step): (&ResizedCrop, u64, u64, u64),
    ) -> Result<Batch> {
        let mut rng = stream(seed, Purpose::Augment, epoch, step);
        // one stream an image: how much each draws depends on its size
        let seeds: Vec<u64> = indices.iter().map(|_| rng.random()).collect();
        self.batch(indices, augment.size, |i, picture, levels, out| {
            let mut rng = stream(seeds[i], Purpose::Augment, epoch, step);
            augment.training(picture, levels, &mut rng, out);
        })
    }

    /// The images `indices` to test on: of each the central crop of `size`, height and width, which leaves a margin of an
    /// eighth.
    ///
    /// # Errors
    /// As [`Self::training_batch`].
    pub fn test_batch(&self, indices: &[usize], size: [usize; 2]) -> Result<Batch> {
        self.batch(indices, size, |_, picture, levels, out| central(picture, size, levels, out))
    }

    fn batch(
        &self,
        indices: &[usize],
        [h, w]: [usize; 2],
        fill: impl Fn(usize, &Picture, [&[f32]; 2], &mut [f32]) + Sync,
    ) -> Result<Batch> {
        if let Some(index) = indices.iter().find(|&&index| index >= self.len()) {
            return Err(Error::shape("batch", format!("image {index} was asked of a set of {}", self.len())));
        }
        let mut images = Tensor::scratch([indices.len(), h, w, self.channels()], DType::F32);
        let out = images.make_mut::<f32>().par_chunks_exact_mut(h * w * self.channels());
        let levels = self.levels();
        let one = |(i, (out, &index)): (usize, (&mut [f32], &usize))| -> Result<()> {
            let (bytes, size) = self.read(index)?;
            fill(i, &Picture { bytes: &bytes, size }, levels, out);
            Ok(())
        };
        let done: Vec<Result<()>> = out.zip(indices).enumerate().map(one).collect();
        done.into_iter().collect::<Result<()>>()?; // the first of several faults is the one reported
        let labels: Vec<u32> = indices.iter().map(|&index| self.label(index)).collect();
        Ok(Batch { images, labels: Tensor::from_slice([indices.len()], &labels)? })
    }
}
