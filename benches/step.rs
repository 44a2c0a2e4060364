//! One whole search step: architecture step, then weight step. `cargo bench --bench step`.
//!
//! Prints the arithmetic and the bytes that the operations declare for a step, then criterion's times with FLOP/s.

use criterion::{Criterion, Throughput};
use oche::data::loader::Batch;
use oche::device::memory;
use oche::search::{Hyper, Order, Searcher};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};
use std::time::Duration;

/// C, cells, batch, image size.
const SIZES: [[usize; 4]; 3] = [[4, 3, 16, 16], [8, 5, 32, 32], [16, 8, 64, 32]];

fn batch(n: usize, size: usize, seed: u64) -> Batch {
    let images = normal([n, size, size, 3], seed, 0).and_then(|t| t.to_dtype(DType::F32)).expect("images");
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 10).collect();
    Batch { images, labels: Tensor::from_slice([n], &labels).expect("labels") }
}

fn main() {
    // inside the pool, as the search runs: small operations need not be handed over to it
    let pool = rayon::ThreadPoolBuilder::new().build().expect("threads");
    pool.install(run);
}

fn run() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for [channels, cells, n, size] in SIZES {
        let net = CnnSupernet::new(&CnnConfig { channels, cells, ..Default::default() }).expect("supernet");
        let mut searcher = Searcher::new(Box::new(net), Hyper::default(), 2, DType::F32).expect("searcher");
        let (train, valid) = (batch(n, size, 1), batch(n, size, 2));
        for order in [Order::First, Order::Second, Order::Exact] {
            let plan = order.plan(searcher.net(), n, [size, size, 3]).expect("plan");
            let name = format!("step/{order:?}/C{channels}-L{cells}-B{n}-{size}px").to_lowercase();
            println!(
                "{name}: {} operations, {:.1} GFLOP, {:.2} GB if each reads and writes once",
                plan.operations,
                plan.flops as f64 / 1e9,
                plan.bytes as f64 / 1e9
            );
            memory::reset_peak();
            let mut group = criterion.benchmark_group("search");
            group.throughput(Throughput::Elements(plan.flops));
            group.bench_function(&name, |b| {
                b.iter(|| searcher.step(order, &train, &valid, 0.025).expect("step"));
            });
            group.finish();
            println!("{name}: peak {:.2} GB of tensors", memory::usage().peak as f64 / 1e9);
        }
    }
    criterion.final_summary();
}
