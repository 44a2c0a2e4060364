//! The built-in set: repeatable, balanced, and out of reach of a linear classifier.

use super::request;
use oche::data::augment::fill;
use oche::data::split::epoch_order;
use oche::data::{Dataset, ImageSet, Request, load};

fn synthetic(image_size: usize, train_images: usize, seed: u64) -> Dataset {
    let request = Request {
        image_size: Some(image_size),
        train_images: Some(train_images),
        seed,
        ..request("synthetic", None)
    };
    load(&request).unwrap()
}

#[test]
fn defaults_are_as_documented() {
    let set = load(&request("synthetic", None)).unwrap();
    let test = set.test.unwrap();
    assert_eq!([set.train.len(), test.len()], [10_000, 2000]);
    assert_eq!([set.train.height, set.train.width, set.train.channels], [32, 32, 3]);
    let count = |set: &ImageSet, class| set.labels.iter().filter(|&&label| label == class).count();
    assert!((0..10).all(|class| count(&set.train, class) == 1000 && count(&test, class) == 200));
    assert_eq!((set.train.classes.len(), &test.mean, &test.std), (10, &set.train.mean, &set.train.std));
    assert!(set.train.mean.iter().all(|mean| (mean - 0.5).abs() < 0.02), "polarity is even");
}

#[test]
fn an_image_depends_on_seed_split_and_index_alone() {
    let (few, many) = (synthetic(16, 20, 2), synthetic(16, 50, 2));
    assert_eq!(few.train.images, many.train.images[..20 * 768]);
    let test = many.test.unwrap();
    assert_eq!(few.test.unwrap().images, test.images[..4 * 768]);
    assert_ne!(many.train.image(0), test.image(0));
    assert_ne!(many.train.image(0), many.train.image(10));
    assert_ne!(many.train.image(0), synthetic(16, 10, 3).train.image(0));
    // Recorded once; the same on every machine, since nothing but exactly rounded arithmetic is used.
    assert_eq!(crc32fast::hash(&many.train.images), CRC_OF_50);
}
const CRC_OF_50: u32 = 1_348_021_138;

/// Softmax regression on normalised pixels, trained by plain stochastic gradient descent.
#[test]
fn a_linear_classifier_stays_below_half() {
    let set = synthetic(32, 3000, 2);
    let test = set.test.as_ref().unwrap();
    let inputs = set.train.image_len();
    let mut weights = vec![0f32; 10 * inputs];
    let mut pixels = vec![0f32; inputs];
    let logits = |weights: &[f32], pixels: &[f32]| -> Vec<f32> {
        weights.chunks_exact(inputs).map(|w| w.iter().zip(pixels).map(|(w, x)| w * x).sum()).collect()
    };
    for epoch in 0..2 {
        for index in epoch_order(&(0..set.train.len()).collect::<Vec<_>>(), 2, epoch) {
            fill(&set.train, &[index], None, &mut pixels);
            let logits = logits(&weights, &pixels);
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let powers: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
            let sum: f32 = powers.iter().sum();
            for (class, weights) in weights.chunks_exact_mut(inputs).enumerate() {
                let target = f32::from(u8::from(class == set.train.labels[index] as usize));
                let step = 1e-4 * (target - powers[class] / sum);
                weights.iter_mut().zip(&pixels).for_each(|(w, x)| *w += step * x);
            }
        }
    }
    let right = (0..test.len()).filter(|&index| {
        fill(test, &[index], None, &mut pixels);
        let logits = logits(&weights, &pixels);
        (0..10).all(|class| logits[class] <= logits[test.labels[index] as usize])
    });
    let accuracy = right.count() as f64 / test.len() as f64;
    println!("linear classifier: {accuracy:.3}");
    assert!((0.10..0.50).contains(&accuracy), "accuracy {accuracy}");
}
