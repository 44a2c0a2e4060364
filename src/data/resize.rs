//! Resizing of images.

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
    to::<P>(bytes, [height, width], [size; 2])
}

/// One image of pixels `P`, of [height, width] `from`, resized to [height, width] `size`.
pub fn to<P>(bytes: &[u8], from: [usize; 2], size: [usize; 2]) -> Vec<u8>
where
    P: Pixel<Subpixel = u8> + 'static,
{
    if from == size {
        return bytes.to_vec();
    }
    let ([height, width], [rows, columns]) = (from, size.map(|side| side as u32));
    match ImageBuffer::<P, &[u8]>::from_raw(width as u32, height as u32, bytes) {
        Some(source) => imageops::resize(&source, columns, rows, FILTER).into_raw(),
        None => unreachable!("an image has height x width x channels bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_apart_and_halving_averages() {
        let grey = |x: u8| [x, 100, 200];
        let before = ImageSet {
            images: [[10, 10, 30, 30], [50, 50, 50, 50]].concat().into_iter().flat_map(grey).collect(),
            labels: vec![0, 1],
            height: 1,
            width: 4,
            channels: 3,
            classes: vec!["a".into(), "b".into()],
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
        };
        let after = set(&before, 2);
        assert_eq!([after.height, after.width, after.images.len()], [2, 2, 24]);
        assert!(after.images.chunks(3).all(|pixel| pixel[1..] == [100, 200]));
        // Reduced to half, a pixel weighs its four nearest by 1, 3, 3, 1 (as many as there are).
        let expected = [(10 * 3 + 10 * 3 + 30) as f64 / 7.0, (10 + 30 * 3 + 30 * 3) as f64 / 7.0];
        assert_eq!([after.images[0], after.images[3]], expected.map(|x| x.round() as u8));
        assert!(after.image(1).chunks(3).all(|pixel| pixel[0] == 50));
        assert_eq!((after.labels, after.mean), (before.labels, before.mean));
    }
}
