//! Batches as tensors.

use super::ImageSet;
use super::augment::{Draw, fill};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::on_plain;
use crate::tensor::{DType, Tensor};

/// Images and their labels.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `(N, height, width, channels)`, normalised.
    pub images: Tensor,
    /// `(N)`, `U32`.
    pub labels: Tensor,
}

impl Batch {
    /// The same on `device`, images as `dtype`.
    pub fn on(&self, device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self {
            images: self.images.to_dtype(dtype)?.to_device(device)?,
            labels: self.labels.to_device(device)?,
        })
    }
}

/// The images `indices` of `set`, augmented if asked for, normalised, as `dtype` (`F32` or `F64`).
///
/// # Errors
/// `Error::Shape` for another `dtype` or an index beyond the last image.
pub fn batch(set: &ImageSet, indices: &[usize], augment: Option<Draw>, dtype: DType) -> Result<Batch> {
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(Error::shape("batch", format!("images cannot be {dtype:?}; use F32 or F64")));
    }
    if let Some(index) = indices.iter().find(|&&index| index >= set.len()) {
        return Err(Error::shape("batch", format!("image {index} was asked of a set of {}", set.len())));
    }
    let mut images = Tensor::scratch([indices.len(), set.height, set.width, set.channels], dtype);
    on_plain!(dtype, R => fill::<R>(set, indices, augment, images.make_mut::<R>()));
    let labels: Vec<u32> = indices.iter().map(|&index| set.labels[index]).collect();
    Ok(Batch { images, labels: Tensor::from_slice([indices.len()], &labels)? })
}
