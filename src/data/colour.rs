//! Random changes of colour: brightness, contrast, saturation and hue, as torchvision's `ColorJitter` on real numbers.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

/// Weights of red, green and blue in grey (ITU-R BT.601, rounded as in torchvision).
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

/// How far colours may move. The published ImageNet training: 0.4, 0.4, 0.4 and 0.2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jitter {
    /// The factors of brightness, contrast and saturation are uniform within this of 1.
    pub factors: [f64; 3],
    /// The hue turns by up to this part of the colour circle, 0 to 0.5, either way.
    pub hue: f64,
}

/// One change of an image whose values lie in 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// x f
    Brightness(f32),
    /// f x + (1 - f) m, m being the mean of the grey image.
    Contrast(f32),
    /// f x + (1 - f) g, g being the pixel's grey.
    Saturation(f32),
    /// The pixel's hue turns by this part of the circle.
    Hue(f32),
}

impl Jitter {
    /// The changes of one image, in random order; those whose range is 0 are left out, not drawn less.
    pub fn draw(&self, rng: &mut impl Rng) -> Vec<Change> {
        let mut factor = |range: f64| {
            let x: f64 = rng.random();
            (1.0 + range * (2.0 * x - 1.0)).max(0.0) as f32
        };
        let [brightness, contrast, saturation] = self.factors.map(&mut factor);
        let hue = factor(self.hue) - 1.0;
        let mut changes = vec![
            (self.factors[0], Change::Brightness(brightness)),
            (self.factors[1], Change::Contrast(contrast)),
            (self.factors[2], Change::Saturation(saturation)),
            (self.hue, Change::Hue(hue)),
        ];
        changes.shuffle(rng);
        changes.into_iter().filter(|(range, _)| *range > 0.0).map(|(_, change)| change).collect()
    }
}

impl Change {
    /// Changes an image of `channels`, 1 or 3, in place. What has no colour has neither saturation nor hue.
    pub fn apply(self, image: &mut [f32], channels: usize) {
        let coloured = channels == 3;
        match self {
            Self::Brightness(factor) => blend(image, factor, |_| 0.0, channels),
            Self::Contrast(factor) => {
                let sum: f64 = image.chunks_exact(channels).map(|pixel| grey(pixel) as f64).sum();
                let mean = (sum / (image.len() / channels) as f64) as f32;
                blend(image, factor, |_| mean, channels);
            }
            Self::Saturation(factor) if coloured => blend(image, factor, grey, channels),
            Self::Hue(turn) if coloured => {
                for pixel in image.chunks_exact_mut(3) {
                    pixel.copy_from_slice(&turned([pixel[0], pixel[1], pixel[2]], turn));
                }
            }
            Self::Saturation(_) | Self::Hue(_) => {}
        }
    }
}

/// f x + (1 - f) `other`, clamped to 0 to 1.
fn blend(image: &mut [f32], f: f32, other: impl Fn(&[f32]) -> f32, channels: usize) {
    for pixel in image.chunks_exact_mut(channels) {
        let other = (1.0 - f) * other(pixel);
        pixel.iter_mut().for_each(|x| *x = (f * *x + other).clamp(0.0, 1.0));
    }
}

fn grey(pixel: &[f32]) -> f32 {
    match pixel {
        [r, g, b] => GREY[0] * r + GREY[1] * g + GREY[2] * b,
        _ => pixel[0],
    }
}

/// By way of hue, saturation and value (the hexcone of Smith 1978).
fn turned([r, g, b]: [f32; 3], turn: f32) -> [f32; 3] {
    let (value, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = value - least;
    if range == 0.0 {
        return [r, g, b]; // grey has no hue
    }
    let sixth = if value == r {
        (g - b) / range
    } else if value == g {
        2.0 + (b - r) / range
    } else {
        4.0 + (r - g) / range
    };
    let sixth = (sixth / 6.0 + turn).rem_euclid(1.0) * 6.0;
    let (sector, part) = (sixth.floor(), sixth - sixth.floor());
    let saturation = range / value;
    let shade = |s: f32| (value * (1.0 - saturation * s)).clamp(0.0, 1.0);
    let (p, q, t) = (shade(1.0), shade(part), shade(1.0 - part));
    match sector as u32 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}
