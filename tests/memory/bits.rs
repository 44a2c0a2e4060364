//! Which cells run again changes no bit of a search.

use super::common::{batch, searcher, small};
use oche::search::{Order, Searcher};
use oche::space::Space;
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::space::genotype::CANDIDATES;
use oche::tensor::{DType, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64().iter().map(|x| x.to_bits()).collect()
}

/// All that a search changes.
fn state(s: &Searcher) -> Vec<Vec<u64>> {
    let running = (0..s.net().norms().len()).flat_map(|i| s.running.get(i));
    let adam = s.adam.iter().flat_map(|a| [a.first.clone(), a.second.clone()]);
    let tensors = [s.weights.flat.clone(), s.momentum.clone()].into_iter().chain(running).chain(adam);
    tensors.chain(s.alphas.clone()).map(|t| bits(&t)).collect()
}

/// The states after each of two steps, and what they and an evaluation reported.
fn steps(
    config: &CnnConfig,
    order: Order,
    dtype: DType,
    n: usize,
    seed: u64,
) -> (Vec<Vec<Vec<u64>>>, Vec<f64>) {
    let mut s = searcher(CnnSupernet::new(config).unwrap(), dtype, seed);
    let (train, valid) = (batch(n, 8, dtype, seed, 0), batch(n, 8, dtype, seed, 1));
    let (mut states, mut reports) = (vec![], vec![]);
    for _ in 0..2 {
        let report = s.step(order, &train, &valid, 0.1).unwrap();
        reports.extend([report.train_loss, report.valid_loss]);
        states.push(state(&s));
    }
    let pass = s.evaluate(&valid).unwrap();
    reports.push(pass.loss().unwrap());
    states.push(vec![bits(&pass.logits)]);
    (states, reports)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn any_cells_recomputed_give_the_same_bits(
        [cells, nodes] in [1usize..5, 1usize..4],
        candidates in prop::sample::subsequence(&CANDIDATES[..], 2..=CANDIDATES.len()),
        chosen in 1usize..16,
        order in prop::sample::select(&[Order::First, Order::Second, Order::Exact][..]),
        [fused, double, two_threads] in any::<[bool; 3]>(),
        batch in 2usize..5,
        seed in 0u64..1000,
    ) {
        let space = Space::published(nodes, &candidates).unwrap();
        let kept = CnnConfig { space, fused, ..small(cells, nodes) };
        let recomputed: Vec<usize> = (0..cells).filter(|cell| chosen >> cell & 1 == 1).collect();
        let again = CnnConfig { recomputed, ..kept.clone() };
        let dtype = if double { DType::F64 } else { DType::F32 };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1 + usize::from(two_threads)).build().unwrap();
        let (a, b) = pool.install(|| {
            (steps(&kept, order, dtype, batch, seed), steps(&again, order, dtype, batch, seed))
        });
        prop_assert_eq!(a.1, b.1);
        prop_assert!(a.0 == b.0, "states differ");
    }
}
