//! Split, order, draw, augmentation and batches.

use oche::data::ImageSet;
use oche::data::augment::{Augment, fill};
use oche::data::loader::batch;
use oche::data::split::{draw, epoch_order, split};
use oche::tensor::DType;
use proptest::prelude::*;
use std::collections::HashSet;

/// `count` images whose pixels all differ from their neighbours and are never black.
fn set(count: usize, height: usize, width: usize, channels: usize) -> ImageSet {
    let len = count * height * width * channels;
    ImageSet {
        images: (0..len).map(|i| (i * 37 % 251 + 1) as u8).collect(),
        labels: (0..count as u32).map(|i| i % 3).collect(),
        height,
        width,
        channels,
        classes: ["a", "b", "c"].map(String::from).to_vec(),
        mean: [0.5, 0.25, 0.125][..channels].to_vec(),
        std: [0.25, 0.5, 0.75][..channels].to_vec(),
    }
}

fn normalised(set: &ImageSet, channel: usize, x: u8) -> f64 {
    (x as f64 / 255.0 - set.mean[channel] as f64) / set.std[channel] as f64
}

const DARTS: Augment = Augment { crop_padding: 4, flip: true, cutout: None };

fn filled(set: &ImageSet, indices: &[usize], augment: &Augment, key: [u64; 3]) -> Vec<f64> {
    let mut out = vec![f64::NAN; indices.len() * set.image_len()];
    fill(set, indices, Some((augment, key[0], key[1], key[2])), &mut out);
    out
}

/// The window of the padded image at (`dy`, `dx`), mirrored if asked: the definition, pixel by pixel.
fn window(set: &ImageSet, index: usize, padding: usize, [dy, dx]: [usize; 2], flip: bool) -> Vec<f64> {
    let (h, w, c) = (set.height as isize, set.width as isize, set.channels);
    let mut out = vec![];
    for y in 0..h {
        for x in 0..w {
            let x = if flip { w - 1 - x } else { x };
            let (y, x) = (y + dy as isize - padding as isize, x + dx as isize - padding as isize);
            for channel in 0..c {
                let inside = (0..h).contains(&y) && (0..w).contains(&x);
                let at = if inside { (y * w + x) as usize * c + channel } else { 0 };
                out.push(normalised(set, channel, if inside { set.image(index)[at] } else { 0 }));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_split_is_a_permutation_cut_in_two(n in 2usize..500, portion in -0.5f64..1.5, seed: u64) {
        let (first, rest) = split(n, portion, seed);
        prop_assert_eq!(first.len(), ((portion * n as f64).floor().max(0.0) as usize).clamp(1, n - 1));
        let mut all = [first, rest].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        prop_assert_eq!(split(n, portion, seed), split(n, portion, seed));
    }

    #[test]
    fn an_epoch_visits_every_index_once(n in 20usize..200, seed: u64, epoch: u64) {
        let indices: Vec<usize> = (0..n).map(|i| 3 * i + 1).collect();
        let mut order = epoch_order(&indices, seed, epoch);
        prop_assert_ne!(&order, &epoch_order(&indices, seed, epoch ^ 1));
        prop_assert_eq!(&order, &epoch_order(&indices, seed, epoch));
        order.sort_unstable();
        prop_assert_eq!(order, indices);
    }

    #[test]
    fn a_draw_repeats_nothing_before_it_has_to(n in 1usize..60, count in 0usize..150, step: u64) {
        let indices: Vec<usize> = (0..n).map(|i| 2 * i).collect();
        let drawn = draw(&indices, count, 2, 1, step);
        prop_assert_eq!(drawn.len(), count);
        for chunk in drawn.chunks(n) {
            prop_assert_eq!(chunk.iter().collect::<HashSet<_>>().len(), chunk.len());
            prop_assert!(chunk.iter().all(|index| indices.contains(index)));
        }
    }

    #[test]
    fn augmented_images_are_windows_of_the_padded_image(
        height in 4usize..9, width in 4usize..9, channels in 1usize..4, padding in 0usize..4, flip: bool, key: [u64; 3],
    ) {
        let set = set(3, height, width, channels);
        let indices = [2, 0, 0, 1];
        let out = filled(&set, &indices, &Augment { crop_padding: padding, flip, cutout: None }, key);
        for (&index, out) in indices.iter().zip(out.chunks(set.image_len())) {
            let places = (0..=2 * padding).flat_map(|dy| (0..=2 * padding).map(move |dx| [dy, dx]));
            let matches = places.flat_map(|at| [false, true].map(|mirror| (at, mirror)))
                .filter(|&(at, mirror)| window(&set, index, padding, at, mirror) == out);
            let matches: Vec<_> = matches.collect();
            prop_assert!(!matches.is_empty());
            prop_assert!(flip || matches.iter().any(|(_, mirror)| !mirror));
        }
    }

    #[test]
    fn cutout_zeroes_a_clipped_square_after_normalisation(length in 0usize..20, key: [u64; 3]) {
        let set = set(2, 12, 9, 3);
        let whole = filled(&set, &[0, 1], &DARTS, key);
        let cut = filled(&set, &[0, 1], &Augment { cutout: Some(length), ..DARTS }, key);
        for (whole, cut) in whole.chunks(12 * 27).zip(cut.chunks(12 * 27)) {
            // A centre for which exactly the square is zero and everything else as without cutout.
            let fits = |cy: usize, cx: usize| (0..12).all(|y| (0..9).all(|x| {
                let inside = |at: usize, centre: usize| {
                    let start = centre as isize - (length / 2) as isize;
                    (start..start + length as isize).contains(&(at as isize))
                };
                let at = (y * 9 + x) * 3;
                let expected = if inside(y, cy) && inside(x, cx) { &[0.0; 3][..] } else { &whole[at..at + 3] };
                cut[at..at + 3] == *expected
            }));
            prop_assert!((0..12).any(|cy| (0..9).any(|cx| fits(cy, cx))));
        }
    }
}

#[test]
fn batches_of_the_architecture_step_are_uniform() {
    let indices: Vec<usize> = (0..50).collect();
    let mut counts = [0; 50];
    for step in 0..2000 {
        draw(&indices, 10, 2, 0, step).into_iter().for_each(|index| counts[index] += 1);
    }
    // 2000 draws with probability 1/5: 400 expected, deviation 17.9; five of them.
    assert!(counts.iter().all(|&count| (310..=490).contains(&count)), "{counts:?}");
    assert_ne!(draw(&indices, 10, 2, 0, 1), draw(&indices, 10, 2, 1, 0));
    assert!(draw(&[], 4, 2, 0, 0).is_empty());
}

#[test]
fn every_window_and_both_directions_are_equally_likely() {
    let set = set(1, 8, 8, 1);
    let mut counts = vec![0; 50];
    for step in 0..100 {
        let augment = Augment { crop_padding: 2, ..DARTS };
        for out in filled(&set, &[0; 50], &augment, [2, 1, step]).chunks(64) {
            let found = (0..50).find(|i| out == window(&set, 0, 2, [i / 10, i / 2 % 5], i % 2 == 1));
            counts[found.expect("a window")] += 1;
        }
    }
    // 5000 draws of 50 equally likely ones. Chi-squared with 49 degrees of freedom exceeds 85.4 once in a thousand.
    let chi: f64 = counts.iter().map(|&n| (n as f64 - 100.0).powi(2) / 100.0).sum();
    assert!(chi < 85.4, "chi-squared {chi:.1} of {counts:?}");
}

#[test]
fn plain_images_are_normalised_by_the_definition() {
    let set = set(4, 5, 6, 3);
    let mut out = vec![0f64; 2 * 90];
    fill(&set, &[3, 1], None, &mut out);
    let mut single = vec![0f32; 2 * 90];
    fill(&set, &[3, 1], None, &mut single);
    for (i, (&x, &y)) in out.iter().zip(&single).enumerate() {
        let pixel = set.image([3, 1][i / 90])[i % 90];
        assert_eq!(x, normalised(&set, i % 3, pixel));
        assert_eq!(y, x as f32);
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads_and_whatever_follows_in_the_batch() {
    let set = set(7, 16, 16, 3);
    let indices: Vec<usize> = (0..40).map(|i| i * 5 % 7).collect();
    let augment = Augment { cutout: Some(6), ..DARTS };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| filled(&set, &indices, &augment, [2, 3, 4]))
    };
    let one = with(1);
    assert!(one == with(2) && one == with(5));
    let head = filled(&set, &indices[..9], &augment, [2, 3, 4]);
    assert!(one[..head.len()] == head);
    for other in [[3, 3, 4], [2, 4, 4], [2, 3, 5]] {
        assert!(one != filled(&set, &indices, &augment, other));
    }
}

#[test]
fn a_batch_is_two_tensors() {
    let set = set(4, 5, 6, 3);
    for dtype in [DType::F32, DType::F64] {
        let batch = batch(&set, &[3, 1, 1], Some((&DARTS, 2, 0, 7)), dtype).unwrap();
        assert_eq!((batch.images.shape().dims(), batch.images.dtype()), (&[3, 5, 6, 3][..], dtype));
        assert_eq!(batch.labels.as_slice::<u32>(), [0, 1, 1]);
        let direct = filled(&set, &[3, 1, 1], &DARTS, [2, 0, 7]);
        let pairs = batch.images.to_f64().into_iter().zip(direct);
        assert!(pairs.into_iter().all(|(x, y)| if dtype == DType::F64 {
            x == y
        } else {
            x == (y as f32) as f64
        }));
    }
    assert!(batch(&set, &[4], None, DType::F32).unwrap_err().to_string().contains("image 4"));
    assert!(batch(&set, &[0], None, DType::U8).unwrap_err().to_string().contains("U8"));
}
