//! Whole steps: of a search, architecture step and then weight step; and of training the network of DARTS_V2, with the
//! auxiliary head and with paths dropped; each in f32 and, but for the exact order, with what cells keep in bf16.
//! `cargo bench --bench step [-- [NAME, OR PART OF NAMES] [--json]]`.
//!
//! Every case runs in a process of its own, so that its peak of resident memory is its own. Printed are the median and
//! the fastest of the steps after the first, in seconds, that peak, and the arithmetic and bytes that the operations
//! declare. `--json` prints a line a case instead, `--steps N` sets the number of steps, `--test` runs one of each but,
//! unless it is named, of the published network. Where the processor has no products of bf16, its cases run only if they
//! are named: on plain arrays they take minutes.

use oche::data::loader::Batch;
use oche::device::simd::multiplies_bf16;
use oche::nn::Sgd;
use oche::search::{Hyper, Order, Searcher, Workload};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::space::network::{Network, NetworkConfig};
use oche::space::zoo;
use oche::tape::Cost;
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};
use oche::train::{self, Trainer};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Instant;

/// C, cells, batch, image size.
const SIZES: [[usize; 4]; 3] = [[4, 3, 16, 16], [8, 5, 32, 32], [16, 8, 64, 32]];
/// The second as published.
const TRAINED: [[usize; 4]; 2] = [[16, 8, 96, 32], [36, 20, 96, 32]];
const ORDERS: [Order; 3] = [Order::First, Order::Second, Order::Exact];
/// Of drop path: that of the middle of a published training.
const DROP_RATE: f64 = 0.1;

#[derive(Clone, Copy)]
struct Case {
    /// Of a search; none of a training.
    order: Option<Order>,
    size: [usize; 4],
    /// With values kept as bf16.
    lean: bool,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|lean| {
            let searches = SIZES
                .into_iter()
                .flat_map(|size| ORDERS.map(|order| (Some(order), size)))
                .filter(move |(order, _)| !(lean && *order == Some(Order::Exact)));
            searches.chain(TRAINED.map(|size| (None, size))).map(move |(order, size)| Self {
                order,
                size,
                lean,
            })
        })
    }
    fn name(&self) -> String {
        let [channels, cells, batch, size] = self.size;
        let kind = self.order.map_or("train".into(), |order| format!("{order:?}"));
        let bf16 = if self.lean { "-bf16" } else { "" };
        format!("{kind}/C{channels}-L{cells}-B{batch}-{size}px{bf16}").to_lowercase()
    }
    fn steps(&self) -> usize {
        match self.size[0] {
            0..8 => 40,
            8..16 => 12,
            _ => 6,
        }
    }
}

fn batch(n: usize, size: usize, seed: u64) -> Batch {
    let images = normal([n, size, size, 3], seed, 0).and_then(|t| t.to_dtype(DType::F32)).expect("images");
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 10).collect();
    Batch { images, labels: Tensor::from_slice([n], &labels).expect("labels") }
}

fn searcher(case: Case) -> Searcher {
    let [channels, cells, ..] = case.size;
    let net = CnnSupernet::new(&CnnConfig { channels, cells, lean: case.lean, ..Default::default() })
        .expect("supernet");
    Searcher::new(Box::new(net), Hyper::default(), 2, DType::F32).expect("searcher")
}

fn trainer(case: Case) -> Trainer {
    let [channels, cells, ..] = case.size;
    let genotype = zoo::named("DARTS_V2").expect("a published name");
    let config = NetworkConfig { channels, cells, auxiliary: true, lean: case.lean, ..Default::default() };
    let net = Network::new(&genotype, config).expect("network");
    let sgd = Sgd { momentum: 0.9, weight_decay: 3e-4 };
    let hyper = train::Hyper { sgd, clip: 5.0, smoothing: 0.0, auxiliary: 0.4 };
    Trainer::new(net, hyper, 2, DType::F32).expect("trainer")
}

/// Largest resident memory of this process so far, in bytes, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// What runs one step of a case.
fn stepper(case: Case) -> Box<dyn FnMut()> {
    let [.., n, size] = case.size;
    let (first, second) = (batch(n, size, 1), batch(n, size, 2));
    match case.order {
        Some(order) => {
            let mut searcher = searcher(case);
            Box::new(move || {
                searcher.step(order, &first, &second, 0.025).expect("step");
            })
        }
        None => {
            let mut trainer = trainer(case);
            let paths = trainer.net().draw_paths(DROP_RATE, n, [2, 0, 0]).expect("factors of drop path");
            Box::new(move || {
                trainer.step(&first, Some(&paths), 0.025).expect("step");
            })
        }
    }
}

/// Runs a case in this process: one step to warm up, then `steps`.
fn run(case: Case, steps: usize) -> Value {
    let mut one = stepper(case);
    let mut step = || {
        let start = Instant::now();
        one();
        start.elapsed().as_secs_f64()
    };
    let first = step();
    let seconds: Vec<f64> = (0..steps).map(|_| step()).collect();
    json!({ "name": case.name(), "first": first, "seconds": seconds, "peak_rss_bytes": peak_rss() })
}

/// What the operations of a step declare.
fn cost(case: Case) -> Cost {
    let [.., n, size] = case.size;
    let image = [size, size, 3];
    match case.order {
        Some(order) => {
            let load = Workload { order, batch: n, image, precision: DType::F32 };
            load.plan(searcher(case).net()).expect("plan").counters.cost
        }
        None => trainer(case).plan(n, image).expect("plan").0.cost,
    }
}

/// Runs a case in a process of its own.
fn measure(index: usize, steps: usize) -> Value {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let out = child.args(["--one", &index.to_string(), "--steps", &steps.to_string()]).output().expect("run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("a line of JSON")
}

fn report(case: Case, result: &Value) {
    let mut seconds: Vec<f64> =
        result["seconds"].as_array().expect("times").iter().filter_map(Value::as_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let (median, best) = (seconds[seconds.len() / 2], seconds[0]);
    let cost = cost(case);
    let [flops, bytes] = [cost.flops, cost.bytes(DType::F32)];
    let peak = result["peak_rss_bytes"].as_f64().unwrap_or(f64::NAN) / 1e9;
    println!(
        "{:<26} median {median:7.4} s  best {best:7.4} s  peak {peak:5.2} GB  {:6.1} GFLOP {:6.1} GFLOP/s  {:5.1} GB",
        case.name(),
        flops as f64 / 1e9,
        flops as f64 / best / 1e9,
        bytes as f64 / 1e9
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)?.parse().ok());
    let test = args.iter().any(|a| a == "--test");
    let steps: Option<usize> = if test { Some(1) } else { after("--steps") };
    if let Some(index) = after("--one") {
        let case = Case::all().nth(index).expect("a case");
        // inside the pool, as the search runs: small operations need not be handed over to it
        let pool = rayon::ThreadPoolBuilder::new().build().expect("threads");
        println!("{}", pool.install(|| run(case, steps.unwrap_or(case.steps()))));
        return;
    }
    let wanted = args.iter().find(|a| !a.starts_with("--") && a.parse::<usize>().is_err());
    let whole = wanted.is_some_and(|part| Case::all().any(|case| case.name() == *part));
    let fast = multiplies_bf16();
    for (index, case) in Case::all().enumerate() {
        let name = case.name();
        if wanted.is_some_and(|part| if whole { name != *part } else { !name.contains(part) }) {
            continue;
        }
        if case.lean && wanted.is_none() && !fast {
            println!("{name:<26} not run: takes minutes without AVX-512 BF16, unless it is named");
            continue;
        }
        if test && wanted.is_none() && case.size == TRAINED[1] {
            println!("{name:<26} not run by --test, unless it is named");
            continue;
        }
        let result = measure(index, steps.unwrap_or(case.steps()));
        match args.iter().any(|a| a == "--json") {
            true => println!("{result}"),
            false => report(case, &result),
        }
    }
}
