//! Resizing of images to a square.

use super::ImageSet;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Pixel, Rgb};
use rayon::prelude::*;

/// Bilinear when it enlarges; when it reduces, the triangle widens to cover every source pixel, so nothing aliases.
const FILTER: FilterType = FilterType::Triangle;

/// The set with every image resized to `size` x `size` pixels; the aspect ratio is not kept. Mean and deviation are
/// those of the set before.
pub fn set(set: &ImageSet, size: usize) -> ImageSet {
    let images: Vec<u8> = (0..set.len())
        .into_par_iter()
        .flat_map_iter(|i| match set.channels {
            1 => image::<Luma<u8>>(set.image(i), set.height, set.width, size),
            _ => image::<Rgb<u8>>(set.image(i), set.height, set.width, size),
        })
        .collect();
    ImageSet {
        images,
        labels: set.labels.clone(),
        height: size,
        width: size,
        channels: set.channels,
        classes: set.classes.clone(),
        mean: set.mean.clone(),
        std: set.std.clone(),
    }
}

/// One image of pixels `P`, `(height, width, channels)` bytes, resized to `size` x `size`.
pub fn image<P>(bytes: &[u8], height: usize, width: usize, size: usize) -> Vec<u8>
where
    P: Pixel<Subpixel = u8> + 'static,
{
    if [height, width] == [size; 2] {
        return bytes.to_vec();
    }
    match ImageBuffer::<P, &[u8]>::from_raw(width as u32, height as u32, bytes) {
        Some(source) => imageops::resize(&source, size as u32, size as u32, FILTER).into_raw(),
        None => unreachable!("an image has height x width x channels bytes"),
    }
}
