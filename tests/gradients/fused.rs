//! Fused operations against their references, and the supernet on both paths.

use super::common::{batch, searcher, small};
use super::{distance, evaluate};
use oche::ops::cases::Case;
use oche::ops::cases::fused::{Cell, Found, Preprocess};
use oche::search::Order;
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tensor::DType;
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
    fn cells(
        n in 2usize..5, h in 1usize..9, w in 1usize..9, c in 1usize..20, nodes in 1usize..4,
        chosen in prop::collection::vec(prop::collection::vec(0usize..9, 0..5), 1..6),
        reduction: bool, given: bool, seed in 0u64..100,
    ) {
        let [h, w, c] = if reduction { [h, w, c].map(|x| x.next_multiple_of(2)) } else { [h, w, c] };
        prop_assume!(chosen.iter().any(|c| !c.is_empty()));
        // the first edges have candidates, so that the size of the nodes is known
        let chosen = chosen.into_iter().filter(|c| !c.is_empty()).collect();
        let cell = Cell { x: [n, h, w, c], nodes, reduction, chosen, given };
        agree(&cell.case(false), &cell.case(true), seed)?;
    }

    #[test]
    fn found_cells(
        n in 2usize..5, h in 1usize..9, w in 1usize..9, c in 1usize..20,
        drawn in prop::collection::vec([0usize..9, 0usize..9], 1..5),
        reduction: bool, drop: bool, given: bool, seed in 0u64..100,
    ) {
        let [h, w, c] = if reduction { [h, w, c].map(|x| x.next_multiple_of(2)) } else { [h, w, c] };
        let pixels = if reduction { h * w / 4 } else { h * w };
        prop_assume!(n * pixels > 4); // of fewer values a channel the norms make nearly constants
        // every node reads two states before it, the first an input
        let mut genes = vec![];
        for (node, [a, b]) in drawn.into_iter().enumerate() {
            let from = |k: usize| if genes.is_empty() { k % 2 } else { k % (node + 2) };
            let own = [[from(a), b], [from(a + b), (a + 2 * b) % 9]];
            genes.extend(own);
        }
        let cell = Found { x: [n, h, w, c], reduction, genes, drop, given };
        agree(&cell.case(false), &cell.case(true), seed)?;
    }

    #[test]
    fn preprocessing(
        n in 1usize..5, h in 1usize..9, w in 1usize..9, c in 1usize..40, share in 1usize..40,
        halve: bool, affine: bool, given: bool, seed in 0u64..100,
    ) {
        prop_assume!(n * h * w > 4); // of fewer values a channel the norm makes nearly constants
        let [h, w] = if halve { [2 * h, 2 * w] } else { [h, w] };
        let layer = Preprocess { x: [n, h, w, c], share, halve, affine, given };
        agree(&layer.case(false), &layer.case(true), seed)?;
    }
}

/// Whole vectors of every width, and more images than there are parts.
#[test]
fn cells_at_the_sizes_of_a_search() {
    let all = |stride: bool| vec![(0..7).collect(), vec![if stride { 5 } else { 6 }, 2, 1]];
    for x in [[3, 16, 16, 16], [2, 8, 8, 64], [2, 8, 8, 32], [2, 8, 8, 72], [3, 12, 12, 8], [70, 4, 4, 4]] {
        for reduction in [false, true] {
            let cell = Cell { x, nodes: 3, reduction, chosen: all(reduction), given: false };
            agree(&cell.case(false), &cell.case(true), 3).unwrap();
        }
    }
}

/// Whole vectors of every width, more images than there are parts, and every operation.
#[test]
fn found_cells_at_the_sizes_of_a_training() {
    let genes = vec![[0, 5], [1, 6], [0, 3], [2, 1], [1, 0], [2, 4], [0, 1], [3, 7]];
    for x in [[3, 16, 16, 16], [2, 8, 8, 64], [2, 8, 8, 36], [2, 8, 8, 72], [3, 12, 12, 8], [70, 4, 4, 4]] {
        for reduction in [false, true] {
            let cell = Found { x, reduction, genes: genes.clone(), drop: true, given: false };
            agree(&cell.case(false), &cell.case(true), 3).unwrap();
        }
    }
}

/// Several blocks of rows an image, sums of weights in parts, and rows that are longer than a block.
#[test]
fn preprocessing_at_the_sizes_of_a_search() {
    for (x, share) in [
        ([3, 32, 32, 64], 16usize),
        ([2, 32, 32, 48], 16),
        ([35, 8, 8, 256], 64),
        ([2, 16, 16, 128], 32),
        ([2, 2, 70, 64], 5),
        ([17, 10, 6, 33], 7),
    ] {
        for halve in [false, true] {
            let share = if halve { share.div_ceil(2) } else { share };
            for affine in [false, true] {
                let layer = Preprocess { x, share, halve, affine, given: false };
                agree(&layer.case(false), &layer.case(true), 3).unwrap();
            }
        }
    }
}

/// Architecture gradients and one whole step, on both paths.
#[test]
fn supernets_agree_on_both_paths() {
    let [train, valid] = [1, 2].map(|k| batch(4, 8, DType::F64, 1, k));
    let on_path =
        |fused| searcher(CnnSupernet::new(&CnnConfig { fused, ..small(3, 2) }).unwrap(), DType::F64, 7);
    let (mut on, mut off) = (on_path(true), on_path(false));
    for order in [Order::First, Order::Second, Order::Exact] {
        let (a, pass) = on.arch_gradient(order, &train, &valid, 0.025).unwrap();
        let (b, reference) = off.arch_gradient(order, &train, &valid, 0.025).unwrap();
        assert!((pass.loss().unwrap() - reference.loss().unwrap()).abs() < ROUNDING);
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
