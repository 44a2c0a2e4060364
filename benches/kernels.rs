//! Speed of the CPU kernels at the shapes of a search step, next to the machine's roofline.
//!
//! `cargo bench --bench kernels` uses all cores; `RAYON_NUM_THREADS=1` measures one. The table at the end gives for
//! each kernel its fastest sample: arithmetic and minimal memory traffic per second, and the share of peak arithmetic.

use criterion::{Criterion, Throughput};
use oche::device::real::Real;
use oche::device::simd::{Kernel, Vector, dispatch};
use oche::ops::cpu::{conv, depthwise, gemm, pool};
use oche::ops::window::Window;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

const BATCH: usize = 64;
/// `(channels, height = width)` of the three stages of the search network.
const STAGES: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];

/// Twelve independent chains of multiply-adds: more than latency times issue of any machine so far.
struct Peak(usize);
impl<R: Real<Wide = f64>> Kernel<R> for Peak {
    type Output = (f64, f64);
    #[inline(always)]
    fn run<V: Vector<Elem = R>>(self) -> (f64, f64) {
        let (by, plus) = (V::splat(black_box(R::of(0.5))), V::splat(black_box(R::ONE)));
        let mut chains = [V::splat(black_box(R::ONE)); 12];
        for _ in 0..self.0 {
            for chain in &mut chains {
                *chain = chain.fma(by, plus);
            }
        }
        let mut out = [R::ZERO; 16];
        let mut sum = 0.0;
        for chain in chains {
            // SAFETY: no vector has more than 16 lanes.
            unsafe { chain.store(out.as_mut_ptr()) };
            sum += out[0].wide();
        }
        ((self.0 * 12 * 2 * V::LANES) as f64, sum)
    }
}

/// Best rate of several runs of `work`, which returns what it did.
fn best(runs: usize, mut work: impl FnMut() -> f64) -> f64 {
    let rate = |work: &mut dyn FnMut() -> f64| {
        let start = Instant::now();
        let done = work();
        done / start.elapsed().as_secs_f64()
    };
    (0..runs).map(|_| rate(&mut work)).fold(0.0, f64::max)
}

fn fma_peak(threads: usize) -> f64 {
    best(20, || {
        let counts = (0..threads).into_par_iter().map(|_| {
            let (done, sum) = dispatch::<f32, _>(16, Peak(1_000_000));
            black_box(sum);
            done
        });
        counts.sum()
    })
}

/// Bytes read plus bytes written per second by a copy of `bytes` bytes, split over `threads` threads.
fn copy_rate(threads: usize, bytes: usize) -> f64 {
    let from = vec![1u8; bytes];
    let mut to = vec![0u8; bytes];
    let part = bytes.div_ceil(threads);
    best(20, || {
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&to);
        2.0 * bytes as f64
    })
}

fn roofline() -> f64 {
    let threads = rayon::current_num_threads();
    println!("roofline (f32, {threads} threads available, {:?})", oche::device::simd::isa());
    for count in 1..=threads.min(2) {
        println!(
            "  {count} thread(s): FMA peak {:.1} GFLOP/s; copy {:.1} GB/s within 4 MiB, \
             {:.1} GB/s within 8 MiB, {:.1} GB/s over 256 MiB",
            fma_peak(count) / 1e9,
            copy_rate(count, 2 << 20) / 1e9,
            copy_rate(count, 4 << 20) / 1e9,
            copy_rate(count, 128 << 20) / 1e9,
        );
    }
    fma_peak(threads)
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

struct Bench {
    criterion: Criterion,
    peak: f64,
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
        if fastest < Duration::MAX {
            let (seconds, flops, bytes) = (fastest.as_secs_f64(), flops as f64, bytes as f64);
            self.table.push(format!(
                "{name:<44} {:>9.1} us {:>8.1} GFLOP/s {:>7.1} GB/s {:>5.0} % of peak",
                seconds * 1e6,
                flops / seconds / 1e9,
                bytes / seconds / 1e9,
                100.0 * flops / seconds / self.peak,
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
            bench.run(&name("forward"), flops, bytes, || {
                depthwise::forward(&w, dims, &x, &weight, &mut y, false)
            });
            bench.run(&name("input"), flops, bytes, || {
                depthwise::input_grad(&w, dims, &weight, &dy, &mut dx, false)
            });
            bench.run(&name("weight"), flops, bytes, || {
                depthwise::weight_grad(&w, dims, &x, &dy, &mut dw, false)
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
        bench.run(&name("forward"), flops, bytes, || conv::forward(&w, dims, co, &x, &weight, &mut y, false));
        bench.run(&name("input"), flops, bytes, || {
            conv::input_grad(&w, dims, co, &weight, &dy, &mut dx, false)
        });
        bench.run(&name("weight"), flops, bytes, || conv::weight_grad(&w, dims, co, &x, &dy, &mut dw, false));
    }
    let (m, k, n) = (64, 256, 10);
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
    bench.run("linear 64x256x10 forward", 2 * m * k * n, (m * k + k * n + m * n) * 4, || {
        gemm::matmul((m, k, n), &a, false, &b, true, &mut c, false)
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
                pool::max_forward(&w, dims, &x, &mut y, &mut index)
            });
            bench.run(&name("max gather"), out, bytes + out, || {
                pool::max_gather(&w, dims, &x, &index, &mut y, false)
            });
            bench.run(&name("max scatter"), out, bytes + out, || {
                pool::max_scatter(&w, dims, &dy, &index, &mut dx, false)
            });
            bench.run(&name("mean pool"), steps, bytes, || pool::avg_forward(&w, dims, &x, &mut y, false));
            bench.run(&name("mean pool input"), steps, bytes, || {
                pool::avg_input_grad(&w, dims, &dy, &mut dx, false)
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
    let peak = if measured { roofline() } else { 1.0 };
    let mut bench = Bench { criterion, peak, table: Vec::new() };
    depthwise_passes(&mut bench);
    dense_passes(&mut bench);
    pools(&mut bench);
    bench.criterion.final_summary();
    if measured {
        println!("\n{}", bench.table.join("\n"));
    }
}
