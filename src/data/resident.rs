//! A data set on a device, which makes its batches there. Kernels: kernels/augment.cu.

use super::ImageSet;
use super::augment::{Draw, NOTHING, Placement, levels, placements};
use super::loader::Batch;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Images and labels on a device. Only what is drawn for a batch goes there with each batch.
#[derive(Debug)]
pub struct Resident {
    /// `(N, height, width, channels)`, `U8`.
    images: Tensor,
    /// `(N)`, `U32`.
    labels: Tensor,
    /// `(channels, 256)`, `F32`: what each pixel value becomes.
    levels: Tensor,
    /// `(most, 6)`, the [`Row`]s of a batch.
    rows: Tensor,
}

/// Where an image of a batch comes from, as the kernel takes it.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Row {
    index: i32,
    /// Of the window's top left corner in the image: row, column.
    corner: [i32; 2],
    flip: i32,
    /// Centre of the square.
    cutout: [i32; 2],
}

/// Numbers in a [`Row`].
const ROW: usize = size_of::<Row>() / size_of::<u32>();

/// The kernel's `BatchShape`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct BatchShape {
    image: [i32; 4],
    /// Side of the square, 0 for none.
    cutout: i32,
}

impl Resident {
    /// Copies `set` to `device`, for batches of `most` images at the most.
    ///
    /// # Errors
    /// `Error::Device` for the CPU, which makes batches from the set itself, and if the set does not fit.
    pub fn new(set: &ImageSet, device: &Device, most: usize) -> Result<Self> {
        if device.cuda().is_none() {
            return Err(Error::device("the CPU holds its data sets already; make its batches by the loader"));
        }
        let there = |t: Tensor| t.to_device(device);
        let shape = [set.len(), set.height, set.width, set.channels];
        Ok(Self {
            images: there(Tensor::from_slice(shape, &set.images)?)?,
            labels: there(Tensor::from_slice([set.len()], &set.labels)?)?,
            levels: there(Tensor::from_slice([set.channels, 256], levels::<f32>(set).as_flattened())?)?,
            rows: Tensor::on(device, [most, ROW], DType::U32)?,
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.count()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Height, width and channels of an image.
    pub fn image(&self) -> [usize; 3] {
        let [_, h, w, c] = self.images.shape().nhwc().unwrap_or_default();
        [h, w, c]
    }

    /// Writes the images `indices`, augmented if asked for, normalised, to `images`, `(N, height, width, channels)` of
    /// `F32` or `BF16`, and their labels to `labels`, `(N)` of `U32`: in `F32` the bits that
    /// [`fill`](super::augment::fill) writes on the CPU. Both tensors are on the device and held by nobody else's work.
    ///
    /// # Errors
    /// `Error::Shape` for tensors of other shapes or types, an index beyond the last image, or more images than was
    /// said.
    pub fn fill(
        &self,
        indices: &[usize],
        augment: Option<Draw>,
        images: &mut Tensor,
        labels: &mut Tensor,
    ) -> Result<()> {
        self.check(indices, images, labels)?;
        let Some(cuda) = images.cuda().cloned() else {
            return Err(Error::device("a resident data set fills tensors on its device only"));
        };
        let kernel = match images.dtype() {
            DType::BF16 => "fill_batch_bf16",
            _ => "fill_batch_f32",
        };
        let rows = self.rows(indices, augment);
        cuda.upload(bytemuck::cast_slice(&rows), self.rows.address())?;
        let [h, w, c] = self.image();
        let image = [indices.len(), h, w, c].map(|x| x as i32);
        let shape = BatchShape { image, cutout: augment.and_then(|a| a.0.cutout).unwrap_or(0) as i32 };
        let [stored, levels, all, rows] =
            [&self.images, &self.levels, &self.labels, &self.rows].map(Tensor::address);
        let (x, y) = (images.address(), labels.address());
        cuda.launch_flat(kernel, images.count(), &[&stored, &levels, &all, &rows, &x, &y, &shape])
    }

    /// A new batch of the images `indices`, augmented if asked for, normalised, as `dtype`; [`Resident::fill`] says what
    /// can be wrong.
    pub fn batch(&self, indices: &[usize], augment: Option<Draw>, dtype: DType) -> Result<Batch> {
        let [h, w, c] = self.image();
        let mut images = self.images.alike([indices.len(), h, w, c], dtype)?;
        let mut labels = self.labels.alike([indices.len()], DType::U32)?;
        self.fill(indices, augment, &mut images, &mut labels)?;
        Ok(Batch { images, labels })
    }

    fn check(&self, indices: &[usize], images: &Tensor, labels: &Tensor) -> Result<()> {
        let (n, [h, w, c]) = (indices.len(), self.image());
        let wrong = |what: String| Err(Error::shape("batch", what));
        if let Some(index) = indices.iter().find(|&&index| index >= self.len()) {
            return wrong(format!("image {index} was asked of a set of {}", self.len()));
        }
        let most = self.rows.count() / ROW;
        if n > most {
            return wrong(format!("{n} images were asked where {most} were to be the most"));
        }
        if images.shape().dims() != [n, h, w, c] || !matches!(images.dtype(), DType::F32 | DType::BF16) {
            return wrong(format!("images {images:?} are not ({n}, {h}, {w}, {c}) of F32 or BF16"));
        }
        if labels.shape().dims() != [n] || labels.dtype() != DType::U32 || labels.cuda().is_none() {
            return wrong(format!("labels {labels:?} are not ({n}) of U32 on the device"));
        }
        Ok(())
    }

    fn rows(&self, indices: &[usize], augment: Option<Draw>) -> Vec<Row> {
        let [h, w, _] = self.image();
        let (augment, placements) = match augment {
            Some(draw) => (draw.0, placements([h, w], indices.len(), draw)),
            None => (&NOTHING, vec![Placement::default(); indices.len()]),
        };
        let row = |(&index, place): (&usize, Placement)| Row {
            index: index as i32,
            corner: place.crop.map(|at| at as i32 - augment.crop_padding as i32),
            flip: i32::from(place.flip),
            cutout: place.cutout.map(|at| at as i32),
        };
        indices.iter().zip(placements).map(row).collect()
    }
}
