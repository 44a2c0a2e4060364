//! The planned peak of tensor memory against the live one. By itself, since the pool is the process's.

mod common;

use common::{batch, searcher, small};
use oche::device::memory;
use oche::search::{Order, Workload};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tensor::DType;

const BATCH: usize = 64; // so large that what the thread needs for one image does not count

#[test]
fn a_step_takes_what_was_planned() {
    // what threads need for one image each is not planned
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(steps);
}

fn steps() {
    let (train, valid) = (batch(BATCH, 16, DType::F32, 1, 0), batch(BATCH, 16, DType::F32, 1, 1));
    for recomputed in [vec![], vec![1], vec![0, 1, 2]] {
        for order in [Order::First, Order::Second, Order::Exact] {
            for (fused, lean) in [(true, false), (true, true), (false, false)] {
                let slow = order == Order::Exact || !fused;
                if lean && order == Order::Exact {
                    continue; // computes with dual numbers, of which nothing is kept lean
                }
                if slow && recomputed.len() != 1 {
                    continue;
                }
                let config =
                    CnnConfig { channels: 8, fused, lean, recomputed: recomputed.clone(), ..small(3, 2) };
                let mut searcher = searcher(CnnSupernet::new(&config).unwrap(), DType::F32, 1);
                let load = Workload { order, batch: BATCH, image: [16, 16, 3], precision: DType::F32 };
                let planned = load.plan(searcher.net()).unwrap().peak as f64;
                for step in 0..if order == Order::Exact { 1 } else { 2 } {
                    memory::reset_peak();
                    searcher.step(order, &train, &valid, 0.025).unwrap();
                    let live = memory::usage().peak as f64;
                    let off = planned / live - 1.0;
                    let what = format!(
                        "{recomputed:?} {order:?} fused {fused} lean {lean} step {step}: {planned} planned, {live} live"
                    );
                    assert!(off.abs() < 0.01, "{what}");
                }
            }
        }
    }
}
