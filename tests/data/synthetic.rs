//! The built-in set: repeatable, balanced, and out of reach of a linear classifier.

use super::request;
use oche::data::augment::{Augment, fill};
use oche::data::loader::batch;
use oche::data::split::epoch_order;
use oche::data::{Dataset, ImageSet, Request, load};
use oche::nn::{Context, Conv2d, Linear, Norm, NormMode, RunningStats, Scalar, Sgd, cosine};
use oche::ops::cross_entropy::CrossEntropy;
use oche::ops::pointwise::Relu;
use oche::ops::pool::GlobalAvgPool;
use oche::ops::window::Window;
use oche::tape::{Builder, ParamSet, Tape, Var};
use oche::tensor::DType;

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

/// Three strided convolutions with batch norm, a global average and a linear layer.
struct ConvNet {
    layers: Vec<(Conv2d, Norm)>,
    head: Linear,
}

impl ConvNet {
    fn new(b: &mut Builder) -> Self {
        let widths = [3, 16, 32, 64];
        let layer = |i: usize| {
            let conv = Conv2d::dense(b, &format!("conv{i}"), widths[i], widths[i + 1], Window::same(3, 2, 1));
            (conv, Norm::new(b, &format!("norm{i}"), widths[i + 1], true))
        };
        let layers = (0..3).map(layer).collect();
        Self { layers, head: Linear::new(b, "head", 64, 10) }
    }
    fn logits(&self, cx: &mut Context, images: Var) -> Var {
        let mut x = images;
        for (conv, norm) in &self.layers {
            x = conv.forward(cx, x).unwrap();
            x = norm.forward(cx, x).unwrap();
            x = cx.tape.apply(Relu, &[x]).unwrap();
        }
        let pooled = cx.tape.apply(GlobalAvgPool, &[x]).unwrap();
        self.head.forward(cx, pooled).unwrap()
    }
}

/// Trains on the default images with the optimiser of a search; returns the test accuracy in percent.
fn conv_net_accuracy(data: &Dataset, epochs: usize) -> f64 {
    let mut b = Builder::default();
    let net = ConvNet::new(&mut b);
    let (layout, norms) = b.finish();
    let mut weights = ParamSet::init(&layout, 2, DType::F32).unwrap();
    let mut momentum = ParamSet::zeros(&layout, DType::F32).flat;
    let mut running = RunningStats::new(&norms, DType::F32);
    let sgd = Sgd { momentum: 0.9, weight_decay: 3e-4 };
    let all: Vec<usize> = (0..data.train.len()).collect();
    let augment = Augment { crop_padding: 4, flip: true, cutout: None };
    for epoch in 0..epochs {
        let rate = cosine(0.1, 0.001, epoch, epochs);
        for (step, chosen) in epoch_order(&all, 2, epoch as u64).chunks(50).enumerate() {
            let draw = Some((&augment, 2, epoch as u64, step as u64));
            let batch = batch(&data.train, chosen, draw, DType::F32).unwrap();
            let mut tape = Tape::new();
            let vars = weights.bind(&mut tape, true);
            let (images, labels) = (tape.constant(batch.images), tape.constant(batch.labels));
            let mode = NormMode::BatchAndUpdate;
            let mut cx =
                Context { tape: &mut tape, weights: &vars, mode, fused: false, running: &mut running };
            let logits = net.logits(&mut cx, images);
            let loss = tape.apply(CrossEntropy, &[logits, labels]).unwrap();
            let (grads, _) = tape.into_grad(loss, &vars).unwrap();
            let gradient = ParamSet::gather(&layout, &grads).unwrap();
            sgd.step(&mut weights.flat, &mut momentum, &gradient, &rate.into(), &Scalar::Known(0.0), 0.0)
                .unwrap();
        }
    }
    let test = data.test.as_ref().unwrap();
    let images: Vec<usize> = (0..test.len()).collect();
    let mut right = 0;
    for chosen in images.chunks(100) {
        let batch = batch(test, chosen, None, DType::F32).unwrap();
        let mut tape = Tape::inference();
        let vars = weights.bind(&mut tape, false);
        let images = tape.constant(batch.images);
        let mode = NormMode::Running;
        let mut cx = Context { tape: &mut tape, weights: &vars, mode, fused: false, running: &mut running };
        let logits = net.logits(&mut cx, images);
        let rows = tape.value(logits).to_f64();
        for (row, &label) in rows.chunks(10).zip(batch.labels.as_slice::<u32>()) {
            let best = (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            right += usize::from(best == label as usize);
        }
    }
    100.0 * right as f64 / test.len() as f64
}

/// What makes a search on the set mean something; the linear classifier above stays below half.
#[test]
fn a_small_convolutional_network_passes_90_percent() {
    let accuracy = conv_net_accuracy(&synthetic(32, 10_000, 2), 6);
    println!("convolutional network: {accuracy:.1} %");
    assert!(accuracy > 90.0, "{accuracy:.1} %");
}
