//! Fused operations against their references, and the supernet on both paths.

use super::{check, distance, evaluate};
use oche::data::loader::Batch;
use oche::ops::cases::{Case, fused};
use oche::ops::window::Window;
use oche::search::{Hyper, Order, Searcher};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError};

/// The fused path and the reference compute the same sums in another order.
const ROUNDING: f64 = 1e-12;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Default::default() }
}

/// Values and gradients of both, in `F64` to rounding and in `F32` to its.
fn agree(fused: &Case, reference: &Case, seed: u64) -> Result<(), TestCaseError> {
    for (dtype, tolerance) in [(DType::F64, ROUNDING), (DType::F32, 2e-4)] {
        let ((y, grads), (z, expected)) =
            (evaluate(fused, seed, 1, dtype), evaluate(reference, seed, 1, dtype));
        for (a, b) in std::iter::once((&y, &z)).chain(grads.iter().zip(&expected)) {
            let error = distance(a, b);
            prop_assert!(error <= tolerance, "{}, {dtype:?}: {error:e}", fused.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn relu_conv(
        n in 2usize..5, h in 1usize..9, w in 1usize..9, c in 1usize..20, out in 1usize..20,
        kernel in prop::sample::select(vec![1usize, 3, 5]), stride in 1usize..3, dilation in 1usize..3,
        normed: bool, seed in 0u64..100,
    ) {
        let window = Window::same(kernel, stride, dilation);
        let case = |reference| fused::relu_conv([n, h, w, c], out, window, normed, reference);
        agree(&case(false), &case(true), seed)?;
    }

    #[test]
    fn normed_sum(
        n in 2usize..5, h in 1usize..7, w in 1usize..7, c in 1usize..40,
        normed in prop::collection::vec(any::<bool>(), 1..12), seed in 0u64..100,
    ) {
        let case = |reference| fused::normed_sum([n, h, w, c], normed.clone(), reference);
        agree(&case(false), &case(true), seed)?;
    }
}

#[test]
fn more_than_one_work_item() {
    let case = |reference| fused::normed_sum([40, 16, 16, 4], vec![true, true, false, true, true], reference);
    agree(&case(false), &case(true), 3).unwrap();
    let case = |reference| fused::relu_conv([70, 8, 8, 16], 16, Window::same(3, 1, 1), true, reference);
    agree(&case(false), &case(true), 3).unwrap();
    check(&fused::relu_conv([34, 3, 3, 2], 2, Window::same(3, 1, 1), true, false), 1).unwrap();
}

/// Architecture gradients and one whole step, on both paths.
#[test]
fn supernets_agree_on_both_paths() {
    let batch = |seed| Batch {
        images: normal([4, 8, 8, 3], seed, 0).unwrap(),
        labels: Tensor::from_slice([4], &[0u32, 3, 1, 2]).unwrap(),
    };
    let (train, valid) = (batch(1), batch(2));
    let searcher = |fused| {
        let config = CnnConfig { channels: 2, cells: 3, nodes: 2, classes: 4, fused, ..Default::default() };
        let hyper = Hyper { alpha_init: 0.5, ..Hyper::default() };
        Searcher::new(Box::new(CnnSupernet::new(&config).unwrap()), hyper, 7, DType::F64).unwrap()
    };
    let (mut on, mut off) = (searcher(true), searcher(false));
    for order in [Order::First, Order::Second, Order::Exact] {
        let (a, pass) = on.arch_gradient(order, &train, &valid, 0.025).unwrap();
        let (b, reference) = off.arch_gradient(order, &train, &valid, 0.025).unwrap();
        assert!((pass.loss - reference.loss).abs() < ROUNDING);
        for (a, b) in a.iter().zip(&b) {
            // the finite difference divides by e
            let tolerance = if order == Order::Second { 1e-8 } else { 1e-10 };
            assert!(distance(a, b) < tolerance, "{order:?}: {:e}", distance(a, b));
        }
    }
    on.step(Order::First, &train, &valid, 0.025).unwrap();
    off.step(Order::First, &train, &valid, 0.025).unwrap();
    assert!(distance(&on.weights.flat, &off.weights.flat) < 1e-10);
    for i in 0..on.running.names().count() {
        for (a, b) in on.running.get(i).iter().zip(&off.running.get(i)) {
            assert!(distance(a, b) < 1e-10);
        }
    }
    let (a, b) = (on.evaluate(&valid).unwrap(), off.evaluate(&valid).unwrap());
    assert!(distance(&a.logits, &b.logits) < 1e-9);
}
