//! From stored images to network input: random crop, flip, normalisation, cutout.

use super::ImageSet;
use crate::device::random::{Purpose, stream};
use crate::device::real::Real;
use rand::RngExt;
use rayon::prelude::*;

/// Random changes to a training image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Augment {
    /// Black pixels put around the image before a window of its original size is cut out anywhere. DARTS: 4.
    pub crop_padding: usize,
    /// Mirror left and right with probability 1/2.
    pub flip: bool,
    /// Side in pixels of a square set to zero (DeVries and Taylor 2017). DARTS: 16, and only in evaluation.
    pub cutout: Option<usize>,
}

/// What to do to a batch, and what its random numbers are a function of: seed, epoch and step.
pub type Draw<'a> = (&'a Augment, u64, u64, u64);

pub(super) const NOTHING: Augment = Augment { crop_padding: 0, flip: false, cutout: None };

/// The random numbers of one image.
#[derive(Clone, Copy, Default)]
pub(super) struct Placement {
    pub crop: [usize; 2], // top left corner of the window in the padded image: row, column
    pub flip: bool,
    pub cutout: [usize; 2], // centre of the square: row, column
}

/// Writes the images `indices` of `set` to `out`, `(N, height, width, channels)`, normalised to `(x / 255 - mean) /
/// std`. Augmentation follows the published DARTS code: crop (padding is 0 before normalisation) and flip, then
/// normalisation, then cutout (0 after it), whose centre is anywhere in the image and whose square is clipped at the
/// border. Image `i` of a batch draws from (seed, epoch, step, `i`) only.
///
/// Panics on an index beyond the last image or an `out` of another length.
pub fn fill<R: Real>(set: &ImageSet, indices: &[usize], augment: Option<Draw>, out: &mut [R]) {
    assert_eq!(out.len(), indices.len() * set.image_len(), "length of the batch");
    let size = [set.height, set.width];
    let (augment, placements) = match augment {
        Some(draw) => (draw.0, placements(size, indices.len(), draw)),
        None => (&NOTHING, vec![Placement::default(); indices.len()]),
    };
    let levels = levels::<R>(set);
    out.par_chunks_exact_mut(set.image_len()).zip(indices).zip(placements).for_each(
        |((out, &index), placement)| {
            crop_and_flip(set, index, augment.crop_padding, &placement, &levels, out);
            if let Some(length) = augment.cutout {
                cut_out([set.height, set.width, set.channels], length, placement.cutout, out);
            }
        },
    );
}

/// Draws for all images, of `size` rows and columns, in one stream, in order. What is not used is drawn too, so that switching cutout on does not
/// move the crops.
pub(super) fn placements(
    size: [usize; 2],
    count: usize,
    (augment, seed, epoch, step): Draw,
) -> Vec<Placement> {
    let mut rng = stream(seed, Purpose::Augment, epoch, step);
    let mut place = || Placement {
        crop: [(); 2].map(|()| rng.random_range(0..=2 * augment.crop_padding as u32) as usize),
        flip: rng.random::<bool>() && augment.flip,
        cutout: size.map(|extent| rng.random_range(0..extent as u32) as usize),
    };
    (0..count).map(|_| place()).collect()
}

/// For every channel, what each of the 256 pixel values becomes.
pub(super) fn levels<R: Real>(set: &ImageSet) -> Vec<[R; 256]> {
    let level = |mean: f32, std: f32, x: usize| R::of((x as f64 / 255.0 - mean as f64) / std as f64);
    set.mean.iter().zip(&set.std).map(|(&mean, &std)| std::array::from_fn(|x| level(mean, std, x))).collect()
}

fn crop_and_flip<R: Real>(
    set: &ImageSet,
    index: usize,
    padding: usize,
    placement: &Placement,
    levels: &[[R; 256]],
    out: &mut [R],
) {
    let (image, channels) = (set.image(index), set.channels);
    for (y, row) in out.chunks_exact_mut(set.width * channels).enumerate() {
        // Coordinates of the padded image, less the padding; beyond the image is black.
        let from_y = (y + placement.crop[0]).checked_sub(padding).filter(|&y| y < set.height);
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let x = if placement.flip { set.width - 1 - x } else { x };
            let from_x = (x + placement.crop[1]).checked_sub(padding).filter(|&x| x < set.width);
            match (from_y, from_x) {
                (Some(y), Some(x)) => {
                    let start = (y * set.width + x) * channels;
                    for ((out, levels), &x) in pixel.iter_mut().zip(levels).zip(&image[start..]) {
                        *out = levels[x as usize];
                    }
                }
                _ => pixel.iter_mut().zip(levels).for_each(|(out, levels)| *out = levels[0]),
            }
        }
    }
}

/// Sets a square of side `length` around (row, column) to zero in an image of [height, width, channels].
pub(super) fn cut_out<R: Real>(
    [height, width, channels]: [usize; 3],
    length: usize,
    [y, x]: [usize; 2],
    out: &mut [R],
) {
    let half = length / 2; // an odd length reaches one pixel further to the right and down
    let span =
        |centre: usize, extent: usize| centre.saturating_sub(half)..(centre + length - half).min(extent);
    let (rows, columns) = (span(y, height), span(x, width));
    for row in out.chunks_exact_mut(width * channels).take(rows.end).skip(rows.start) {
        row[columns.start * channels..columns.end * channels].fill(R::ZERO);
    }
}
