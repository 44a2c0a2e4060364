//! The choice of cells to recompute: it fits, a larger budget never recomputes more, and what cannot be is told.

use super::common::small;
use oche::device::Device;
use oche::run::memory;
use oche::search::{Order, Pass, Want, Workload};
use oche::space::Supernet;
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tensor::DType;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn macs(load: &Workload, net: &CnnSupernet) -> u64 {
    let want = Want { weights: false, alphas: true };
    Pass::plan(net, load.batch, load.image, want, DType::F32).unwrap().0.cost.macs
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn a_choice_fits_and_a_larger_budget_never_recomputes_more(
        [cells, nodes] in [1usize..7, 1usize..4],
        order in prop::sample::select(&[Order::First, Order::Second, Order::Exact][..]),
        fused in any::<bool>(),
        channels in (1usize..4).prop_map(|half| 2 * half),
    ) {
        let config = CnnConfig { channels, fused, ..small(cells, nodes) };
        let mut net = CnnSupernet::new(&config).unwrap();
        let load = Workload { order, batch: 8, image: [16, 16, 3], precision: DType::F32 };
        let all_kept = load.peak(&net).unwrap();
        let mut before = u64::MAX;
        for percent in (10..=100).step_by(6) {
            let budget = all_kept / 100 * percent + 100;
            let peak = load.fit(&mut net, |peak| peak <= budget).unwrap();
            prop_assert_eq!(peak, load.peak(&net).unwrap());
            let cost = macs(&load, &net);
            if peak <= budget {
                prop_assert!(cost <= before, "{} of the budget: {} after {}", percent, cost, before);
                before = cost;
            } else {
                prop_assert_eq!(before, u64::MAX); // a smaller budget did not fit either
            }
        }
        load.fit(&mut net, |peak| peak <= all_kept).unwrap();
        prop_assert!(net.recomputed().is_empty());
    }
}

#[test]
fn what_cannot_fit_is_told_in_one_sentence_with_the_batch_that_would() {
    let config = CnnConfig { channels: 8, cells: 5, ..Default::default() };
    let mut net = CnnSupernet::new(&config).unwrap();
    let load = Workload { order: Order::Second, batch: 64, image: [32, 32, 3], precision: DType::F32 };
    let mut batch_that_fits = |budget| {
        let what = memory::fit(&mut net, &load, budget, 0, &Device::Cpu).unwrap_err().to_string();
        assert!(what.starts_with("run.memory_budget: is ") && !what.contains('\n'), "{what}");
        let batch = what.split("--batch-size ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        (what, batch)
    };
    let (what, batch) = batch_that_fits(100_000_000);
    let batch: usize = batch.unwrap_or_else(|| panic!("{what}"));
    let (_, none) = batch_that_fits(1_000_000);
    assert_eq!(none, None);
    let fits =
        |batch| memory::fit(&mut net, &Workload { batch, ..load }, 100_000_000, 0, &Device::Cpu).is_ok();
    assert_eq!([batch, batch + 1].map(fits), [true, false]);
}
