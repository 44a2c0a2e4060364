//! Drop path and label smoothing against what defines them.

use oche::data::loader::Batch;
use oche::nn::{Context, NormMode, RunningStats};
use oche::ops::cross_entropy::smoothed;
use oche::space::network::{Network, NetworkConfig};
use oche::space::zoo;
use oche::tape::check::normal;
use oche::tape::{ParamSet, Tape};
use oche::tensor::{DType, Tensor};
use oche::train::{Objective, Pass};
use proptest::prelude::*;

fn network() -> Network {
    let config = NetworkConfig { channels: 2, cells: 3, classes: 4, ..NetworkConfig::default() };
    Network::new(&zoo::named("DARTS_V2").unwrap(), config).unwrap()
}

/// Logits of three images by running statistics, with these factors of drop path.
fn logits(net: &Network, drop: Option<&Tensor>) -> Vec<f64> {
    let mut tape = Tape::new();
    let weights = ParamSet::init(net.layout(), 3, DType::F32).unwrap().bind(&mut tape, false);
    let images = tape.constant(normal([3, 8, 8, 3], 1, 0).unwrap().to_dtype(DType::F32).unwrap());
    let mut running = RunningStats::new(net.norms(), DType::F32);
    let mode = NormMode::Running;
    let mut cx = Context { tape: &mut tape, weights: &weights, mode, fused: false, running: &mut running };
    let (y, second) = net.forward_training(&mut cx, images, drop).unwrap();
    assert!(second.is_none(), "no auxiliary head was asked for");
    tape.value(y).to_f64()
}

#[test]
fn all_paths_but_identities_may_be_dropped() {
    // the normal cell has two identities of eight, a reduction cell three: skips from a node have stride 1
    assert_eq!(network().paths(), 6 + 5 + 5);
}

#[test]
fn factors_keep_the_expectation_and_are_drawn_anew_for_each_step() {
    let net = network();
    for rate in [0.1, 0.5, 0.8] {
        let (images, draw) = (2000, |place| net.draw_paths(rate, 2000, place).unwrap());
        let factors = draw([5, 1, 2]);
        assert_eq!(factors.shape().dims(), [net.paths(), images]);
        let (keep, values) = (1.0 - rate, factors.to_f64());
        assert!(values.iter().all(|&f| f == 0.0 || (f * keep - 1.0).abs() < 1e-6));
        let deviation = (rate / keep / values.len() as f64).sqrt();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - 1.0).abs() < 4.0 * deviation, "{mean} at rate {rate}");
        // neither images nor paths go together
        assert!(values.chunks(images).all(|path| path.contains(&0.0) && path.iter().any(|&f| f > 0.0)));
        assert_eq!(draw([5, 1, 2]).to_f64(), values);
        for other in [[6, 1, 2], [5, 2, 2], [5, 1, 3]] {
            assert_ne!(draw(other).to_f64(), values);
        }
    }
}

#[test]
fn a_rate_of_zero_changes_nothing_and_each_image_has_its_own_factors() {
    let net = network();
    let whole = logits(&net, None);
    let all = net.draw_paths(0.0, 3, [1, 0, 0]).unwrap();
    assert_eq!(logits(&net, Some(&all)), whole);
    let mut factors = all.to_f64();
    factors.iter_mut().skip(1).step_by(3).for_each(|f| *f = 0.0);
    let dropped = Tensor::from_f64(*all.shape(), &factors, DType::F32).unwrap();
    let changed = logits(&net, Some(&dropped));
    assert_eq!((&changed[..4], &changed[8..]), (&whole[..4], &whole[8..]));
    assert_ne!(changed[4..8], whole[4..8]);
}

/// Gradient of the training's objective, with this weight of the auxiliary loss; or of the auxiliary loss alone.
fn gradient(auxiliary: Option<f64>) -> Vec<f64> {
    let config =
        NetworkConfig { channels: 2, cells: 3, classes: 4, auxiliary: true, ..NetworkConfig::default() };
    let net = Network::new(&zoo::named("DARTS_V2").unwrap(), config).unwrap();
    let weights = ParamSet::init(net.layout(), 3, DType::F64).unwrap();
    let mut running = RunningStats::new(net.norms(), DType::F64);
    let images = normal([2, 32, 32, 3], 1, 0).unwrap();
    let labels = Tensor::from_slice([2], &[1_u32, 3]).unwrap();
    if let Some(auxiliary) = auxiliary {
        let with = Objective { smoothing: 0.1, auxiliary };
        let batch = Batch { images, labels };
        let pass = Pass::train(&net, &weights, (&batch, None), &mut running, with).unwrap();
        return pass.weights.unwrap().to_f64();
    }
    let mut tape = Tape::new();
    let vars = weights.bind(&mut tape, true);
    let (images, labels) = (tape.constant(images), tape.constant(labels));
    let mode = NormMode::Batch;
    let mut cx = Context { tape: &mut tape, weights: &vars, mode, fused: false, running: &mut running };
    let (_, second) = net.forward_training(&mut cx, images, None).unwrap();
    let loss = smoothed(&mut tape, second.expect("a head"), labels, 0.1).unwrap();
    let grads = tape.grad(loss, &vars).unwrap();
    ParamSet::gather(net.layout(), &grads).unwrap().to_f64()
}

#[test]
fn the_auxiliary_loss_counts_by_its_weight() {
    let (without, alone) = (gradient(Some(0.0)), gradient(None));
    let largest = alone.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
    assert!(largest > 1e-3, "the head moves weights");
    for weight in [0.4, 1.0] {
        for ((both, without), alone) in gradient(Some(weight)).iter().zip(&without).zip(&alone) {
            assert!((both - without - weight * alone).abs() < 1e-9 * largest, "{both} {without} {alone}");
        }
    }
}

proptest! {
    #[test]
    fn smoothing_is_the_cross_entropy_against_mixed_targets(
        (n, k) in (1..6_usize, 1..12_usize),
        smoothing in 0.0..1.0_f64,
        seed in 0..1000_u64,
    ) {
        let x = normal([n, k], seed, 0).unwrap();
        let labels: Vec<u32> = (0..n).map(|i| ((i * 7 + seed as usize) % k) as u32).collect();
        let mut tape = Tape::new();
        let (logits, targets) =
            (tape.leaf(x.clone()), tape.constant(Tensor::from_slice([n], &labels).unwrap()));
        let loss = smoothed(&mut tape, logits, targets, smoothing).unwrap();
        let mut expected = 0.0;
        for (row, &label) in x.to_f64().chunks(k).zip(&labels) {
            let total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            for (i, x) in row.iter().enumerate() {
                let hot = if i == label as usize { 1.0 - smoothing } else { 0.0 };
                expected -= (hot + smoothing / k as f64) * (x - total) / n as f64;
            }
        }
        // 1 / k is drawn in single precision
        prop_assert!((tape.value(loss).item() - expected).abs() < 1e-6 * (1.0 + expected.abs()));
    }
}
