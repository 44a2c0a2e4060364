//! The planned peak of tensor memory against the live one. By itself, since the pool is the process's.

use oche::data::loader::Batch;
use oche::device::memory;
use oche::search::{Hyper, Order, Searcher, Workload};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};

const BATCH: usize = 32; // so large that what a thread needs for one image does not count

fn batch(seed: u64) -> Batch {
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 10).collect();
    Batch {
        images: normal([BATCH, 16, 16, 3], seed, 0).unwrap().to_dtype(DType::F32).unwrap(),
        labels: Tensor::from_slice([BATCH], &labels).unwrap(),
    }
}

#[test]
fn a_step_takes_what_was_planned() {
    let (train, valid) = (batch(1), batch(2));
    for recomputed in [vec![], vec![1], vec![0, 1, 2]] {
        for order in [Order::First, Order::Second, Order::Exact] {
            for fused in [true, false] {
                let slow = order == Order::Exact || !fused;
                if slow && recomputed.len() != 1 {
                    continue;
                }
                let config = CnnConfig {
                    channels: 8,
                    nodes: 2,
                    cells: 3,
                    fused,
                    recomputed: recomputed.clone(),
                    ..Default::default()
                };
                let net = CnnSupernet::new(&config).unwrap();
                let mut searcher = Searcher::new(Box::new(net), Hyper::default(), 1, DType::F32).unwrap();
                let load = Workload { order, batch: BATCH, image: [16, 16, 3] };
                let planned = load.plan(searcher.net()).unwrap().peak as f64;
                for step in 0..if order == Order::Exact { 1 } else { 2 } {
                    memory::reset_peak();
                    searcher.step(order, &train, &valid, 0.025).unwrap();
                    let live = memory::usage().peak as f64;
                    let off = planned / live - 1.0;
                    let what = format!(
                        "{recomputed:?} {order:?} fused {fused} step {step}: {planned} planned, {live} live"
                    );
                    assert!(off.abs() < 0.01, "{what}");
                }
            }
        }
    }
}
