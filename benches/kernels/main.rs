//! Speed of the CPU kernels at the shapes of a search step, next to the machine's roofline.
//!
//! `cargo bench --bench kernels` uses all cores; `RAYON_NUM_THREADS=1` measures one. The table at the end gives for
//! each kernel its fastest sample: arithmetic and minimal memory traffic per second, and their shares of the measured
//! peak of multiply-adds and of the rate of a copy over 256 MiB. What fits into the caches can exceed the latter.

mod cell;
mod roofline;

use criterion::{Criterion, Throughput};
use oche::ops::window::Window;
use oche_cpu::LayerKernels;
use roofline::Roofline;
use std::time::{Duration, Instant};

const BATCH: usize = 64;
/// Of the fused cells with `--test`, which only shows that they run.
const TEST_BATCH: usize = 2;
/// `(channels, height = width)` of the three stages of the search network.
const STAGES: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

struct Bench {
    criterion: Criterion,
    /// None with `--test`.
    roofline: Option<Roofline>,
    table: Vec<String>,
}

impl Bench {
    /// `flops` and `bytes` are of one call; bytes count every operand once.
    fn run(&mut self, name: &str, flops: usize, bytes: usize, mut work: impl FnMut()) {
        let mut fastest = Duration::MAX;
        let mut group = self.criterion.benchmark_group("kernels");
        group.throughput(Throughput::Elements(flops as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    work();
                }
                let elapsed = start.elapsed();
                fastest = fastest.min(elapsed / iterations as u32);
                elapsed
            });
        });
        group.finish();
        if let Some(roofline) = self.roofline.filter(|_| fastest < Duration::MAX) {
            let seconds = fastest.as_secs_f64();
            let (flops, bytes) = (flops as f64 / seconds, bytes as f64 / seconds);
            self.table.push(format!(
                "{name:<44} {:>9.1} us {:>8.1} GFLOP/s {:>7.1} GB/s {:>5.0} % of FMA {:>5.0} % of memory",
                seconds * 1e6,
                flops / 1e9,
                bytes / 1e9,
                100.0 * flops / roofline.flops,
                100.0 * bytes / roofline.bytes,
            ));
        }
    }
}

fn depthwise_passes(bench: &mut Bench) {
    for (c, size) in STAGES {
        for (kernel, stride, dilation) in
            [(3, 1, 1), (5, 1, 1), (3, 1, 2), (5, 1, 2), (3, 2, 1), (5, 2, 1), (3, 2, 2), (5, 2, 2)]
        {
            let w = Window::same(kernel, stride, dilation);
            let dims = [BATCH, size, size, c];
            let (count, out) = (BATCH * size * size * c, BATCH * (size / stride).pow(2) * c);
            let (x, dy, weight) = (numbers(count), numbers(out), numbers(c * w.taps()));
            let (mut y, mut dx, mut dw) = (numbers(out), numbers(count), numbers(c * w.taps()));
            let (flops, bytes) = (2 * out * w.taps(), (count + out) * 4);
            let name = |pass| format!("depthwise {kernel}x{kernel} s{stride} d{dilation} {c}@{size} {pass}");
            bench
                .run(&name("forward"), flops, bytes, || f32::depthwise(&w, dims, &x, &weight, &mut y, false));
            bench.run(&name("input"), flops, bytes, || {
                f32::depthwise_input_grad(&w, dims, &weight, &dy, &mut dx, false)
            });
            bench.run(&name("weight"), flops, bytes, || {
                f32::depthwise_weight_grad(&w, dims, &x, &dy, &mut dw, false)
            });
        }
    }
}

fn dense_passes(bench: &mut Bench) {
    let point = Window::square(1, 1, 0, 1);
    let half = Window::square(1, 2, 0, 1);
    let stem = Window::same(3, 1, 1);
    for (name, w, ci, co, size) in [
        ("1x1", point, 16, 16, 32),
        ("1x1", point, 32, 32, 16),
        ("1x1", point, 64, 64, 8),
        ("1x1", point, 256, 64, 8),
        ("1x1", point, 48, 16, 32),
        ("1x1 s2", half, 64, 32, 32),
        ("stem 3x3", stem, 3, 48, 32),
        ("3x3", stem, 16, 16, 32),
    ] {
        let dims = [BATCH, size, size, ci];
        let (count, out) = (BATCH * size * size * ci, BATCH * (size / w.stride[0]).pow(2) * co);
        let (x, dy, weight) = (numbers(count), numbers(out), numbers(ci * co * w.taps()));
        let (mut y, mut dx, mut dw) = (numbers(out), numbers(count), weight.clone());
        let (flops, bytes) = (2 * out * ci * w.taps(), (count + out) * 4);
        let name = |pass| format!("{name} {ci}->{co}@{size} {pass}");
        bench.run(&name("forward"), flops, bytes, || f32::conv(&w, dims, co, &x, &weight, &mut y, false));
        bench.run(&name("input"), flops, bytes, || {
            f32::conv_input_grad(&w, dims, co, &weight, &dy, &mut dx, false)
        });
        bench.run(&name("weight"), flops, bytes, || {
            f32::conv_weight_grad(&w, dims, co, &x, &dy, &mut dw, false)
        });
    }
    let (m, k, n) = (64, 256, 10);
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
    bench.run("linear 64x256x10 forward", 2 * m * k * n, (m * k + k * n + m * n) * 4, || {
        f32::matmul((m, k, n), &a, false, &b, true, &mut c, false)
    });
}

fn pools(bench: &mut Bench) {
    for (c, size) in STAGES {
        for stride in [1, 2] {
            let w = Window::same(3, stride, 1);
            let dims = [BATCH, size, size, c];
            let (count, out) = (BATCH * size * size * c, BATCH * (size / stride).pow(2) * c);
            let (x, dy, mut index) = (numbers(count), numbers(out), vec![0u8; out]);
            let (mut y, mut dx) = (numbers(out), numbers(count));
            let (steps, bytes) = (out * w.taps(), (count + out) * 4);
            let name = |pass| format!("{pass} 3x3 s{stride} {c}@{size}");
            bench.run(&name("max pool"), steps, bytes + out, || {
                f32::max_pool(&w, dims, &x, &mut y, &mut index)
            });
            bench.run(&name("max gather"), out, bytes + out, || {
                f32::max_pool_gather(&w, dims, &x, &index, &mut y, false)
            });
            bench.run(&name("max scatter"), out, bytes + out, || {
                f32::max_pool_scatter(&w, dims, &dy, &index, &mut dx, false)
            });
            bench.run(&name("mean pool"), steps, bytes, || f32::avg_pool(&w, dims, &x, &mut y, false));
            bench.run(&name("mean pool input"), steps, bytes, || {
                f32::avg_pool_input_grad(&w, dims, &dy, &mut dx, false)
            });
        }
    }
}

fn main() {
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .without_plots()
        .configure_from_args();
    let measured = !std::env::args().any(|a| a == "--test");
    let roofline = measured.then(roofline::measure);
    let mut bench = Bench { criterion, roofline, table: Vec::new() };
    depthwise_passes(&mut bench);
    dense_passes(&mut bench);
    pools(&mut bench);
    cell::passes(&mut bench, if measured { BATCH } else { TEST_BATCH });
    bench.criterion.final_summary();
    if measured {
        println!("\n{}", bench.table.join("\n"));
    }
}
