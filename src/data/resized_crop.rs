//! Crops of random size and shape, resized (Szegedy et al. 2015, arXiv 1409.4842, section 6), and central ones to test on;
//! as torchvision's `RandomResizedCrop`, `Resize` and `CenterCrop`.

use super::augment::cut_out;
use super::colour::Jitter;
use super::resize;
use image::{Luma, Rgb};
use rand::{Rng, RngExt};

/// Width over height of a random window lies between this and its inverse.
const NARROWEST: f64 = 3.0 / 4.0;
/// How often a window is drawn anew if it does not fit.
const TRIES: usize = 10;
/// A test image is brought to 8/7 of the crop: 256 pixels for 224.
const MARGIN: [usize; 2] = [8, 7];

/// Random changes to a training image, in this order: crop and resize, flip, colours, cutout.
#[derive(Clone, Debug, PartialEq)]
pub struct ResizedCrop {
    /// Height and width of the result.
    pub size: [usize; 2],
    /// The least part of the image's area that is cropped; published: 0.08.
    pub least_area: f64,
    /// Mirror left and right with probability 1/2.
    pub flip: bool,
    pub jitter: Jitter,
    /// Side in pixels of a square set to zero after normalisation.
    pub cutout: Option<usize>,
}

/// Bytes of one image with its height, width and channels, 1 or 3.
pub(super) struct Picture<'a> {
    pub bytes: &'a [u8],
    pub size: [usize; 3],
}

/// A part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Top left corner: row, column.
    pub corner: [usize; 2],
    /// Height and width.
    pub size: [usize; 2],
}

impl Window {
    /// A random one of an image of [height, width]: its area uniform from `least_area` of the image's to all of it, the
    /// logarithm of its width over its height uniform between those of 3/4 and 4/3, its place uniform. If none fits in
    /// ten tries, the largest central one of a shape within these bounds.
    pub fn random([height, width]: [usize; 2], least_area: f64, rng: &mut impl Rng) -> Self {
        let area = (height * width) as f64;
        for _ in 0..TRIES {
            let part = area * (least_area + (1.0 - least_area) * rng.random::<f64>());
            let shape = (NARROWEST.ln() * (1.0 - 2.0 * rng.random::<f64>())).exp();
            let [h, w] = [part / shape, part * shape].map(|square| square.sqrt().round() as usize);
            if (1..=height).contains(&h) && (1..=width).contains(&w) {
                let corner = [height - h, width - w].map(|most| rng.random_range(0..=most as u32) as usize);
                return Self { corner, size: [h, w] };
            }
        }
        let (h, w) = (height as f64, width as f64);
        let size = match w / h {
            narrow if narrow < NARROWEST => [(w / NARROWEST).round() as usize, width],
            wide if wide > 1.0 / NARROWEST => [height, (h / NARROWEST).round() as usize],
            _ => [height, width],
        };
        Self { corner: [(height - size[0]) / 2, (width - size[1]) / 2], size }
    }

    /// The central one of [height, width] of an image of `of`, which is no smaller.
    fn central(of: [usize; 2], size: [usize; 2]) -> Self {
        let middle = |k: usize| ((of[k] - size[k]) as f64 / 2.0).round_ties_even() as usize;
        Self { corner: [middle(0), middle(1)], size }
    }

    fn of(&self, picture: &Picture) -> Vec<u8> {
        let ([_, width, channels], [top, left], [h, w]) = (picture.size, self.corner, self.size);
        let row = |row| &picture.bytes[((top + row) * width + left) * channels..][..w * channels];
        (0..h).flat_map(row).copied().collect()
    }
}

/// Height and width of the whole of an image of `from` when its parts that a crop of `size` leaves off are the margin.
fn with_margin([h, w]: [usize; 2], size: [usize; 2]) -> [usize; 2] {
    let [most, crop] = MARGIN;
    let [rows, columns] = size.map(|side| (side * most + crop / 2) / crop);
    match h * columns <= w * rows {
        true => [rows, rows * w / h],
        false => [columns * h / w, columns],
    }
}

fn resized(bytes: &[u8], [h, w, channels]: [usize; 3], size: [usize; 2]) -> Vec<u8> {
    match channels {
        1 => resize::to::<Luma<u8>>(bytes, [h, w], size),
        _ => resize::to::<Rgb<u8>>(bytes, [h, w], size),
    }
}

impl ResizedCrop {
    /// Writes `picture`, changed at random, to `out`, `size` x channels, normalised to (x / 255 - mean) / std.
    pub(super) fn training(
        &self,
        picture: &Picture,
        levels: [&[f32]; 2],
        rng: &mut impl Rng,
        out: &mut [f32],
    ) {
        let [h, w, channels] = picture.size;
        let window = Window::random([h, w], self.least_area, rng);
        let bytes = resized(&window.of(picture), [window.size[0], window.size[1], channels], self.size);
        let (flip, changes) = (rng.random::<bool>() && self.flip, self.jitter.draw(rng));
        let centre = self.size.map(|extent| rng.random_range(0..extent as u32) as usize);
        unit(&bytes, out);
        if flip {
            mirror(out, self.size[1], channels);
        }
        changes.into_iter().for_each(|change| change.apply(out, channels));
        normalise(out, levels);
        if let Some(side) = self.cutout {
            cut_out([self.size[0], self.size[1], channels], side, centre, out);
        }
    }
}

/// Writes the central part of `picture`, to test on, to `out`, `size` x channels, normalised.
pub(super) fn central(picture: &Picture, size: [usize; 2], levels: [&[f32]; 2], out: &mut [f32]) {
    let [h, w, channels] = picture.size;
    let whole = with_margin([h, w], size);
    let bytes = resized(picture.bytes, picture.size, whole);
    let picture = Picture { bytes: &bytes, size: [whole[0], whole[1], channels] };
    unit(&Window::central(whole, size).of(&picture), out);
    normalise(out, levels);
}

fn unit(bytes: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(bytes).for_each(|(out, &x)| *out = x as f32 / 255.0);
}

fn mirror(image: &mut [f32], width: usize, channels: usize) {
    for row in image.chunks_exact_mut(width * channels) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - x) * channels);
            left[x * channels..][..channels].swap_with_slice(&mut right[..channels]);
        }
    }
}

fn normalise(image: &mut [f32], [mean, std]: [&[f32]; 2]) {
    for pixel in image.chunks_exact_mut(mean.len()) {
        pixel.iter_mut().zip(mean.iter().zip(std)).for_each(|(x, (mean, std))| *x = (*x - mean) / std);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_those_of_the_published_sizes() {
        assert_eq!(with_margin([375, 500], [224, 224]), [256, 341]);
        assert_eq!(with_margin([500, 375], [224, 224]), [341, 256]);
        assert_eq!(with_margin([32, 32], [32, 32]), [37, 37]);
        for [h, w] in [[7, 1000], [1000, 7], [1, 1], [224, 225]] {
            let [rows, columns] = with_margin([h, w], [224, 160]);
            assert!(rows >= 224 && columns >= 160, "{rows} {columns}");
        }
        assert_eq!(Window::central([256, 341], [224, 224]).corner, [16, 58]);
    }

    #[test]
    fn mirrors_turn_rows_around() {
        let mut image = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];
        mirror(&mut image, 3, 2);
        assert_eq!(image, [4.0, 5.0, 2.0, 3.0, 0.0, 1.0, 10.0, 11.0, 8.0, 9.0, 6.0, 7.0]);
    }
}
