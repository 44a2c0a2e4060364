//! Channels-last against channels-first: the measurement behind the layout of activations (see `docs/layout.md`).
//!
//! The channels-last side is the library's kernels. The channels-first side is written here with the same vectors:
//! depthwise over padded planes with vectors along a row, 1x1 as a product with vectors along the pixels.

use oche::device::simd::{Kernel, Vector, dispatch};
use oche::ops::window::Window;
use oche_cpu::LayerKernels;
use rayon::prelude::*;
use std::time::Instant;

const BATCH: usize = 64;
const STAGES: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];

/// A plane copied into zero margins, then correlated; each loaded row serves every `ky` it has a sum for.
struct PlaneForward<'a, const K: usize> {
    size: usize,
    padded: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    y: &'a mut [f32],
}

fn pad<const K: usize>(padded: &mut [f32], x: &[f32], size: usize) {
    let (margin, width) = (K / 2, size + K - 1);
    for (row, from) in x.chunks_exact(size).enumerate() {
        padded[(margin + row) * width + margin..][..size].copy_from_slice(from);
    }
}

impl<const K: usize> PlaneForward<'_, K> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // sums are indexed by two of the loops together
    fn rows<V: Vector<Elem = f32>, const ROWS: usize, const NV: usize>(self) {
        pad::<K>(self.padded, self.x, self.size);
        let width = self.size + K - 1;
        for oy in (0..self.size).step_by(ROWS) {
            let mut sum = [[V::zero(); NV]; ROWS];
            for kx in 0..K {
                let mut weight = [V::zero(); K];
                for (ky, weight) in weight.iter_mut().enumerate() {
                    *weight = V::splat(self.weight[ky * K + kx]);
                }
                for row in 0..ROWS + K - 1 {
                    for v in 0..NV {
                        // SAFETY: row `oy + row` and columns `kx + v * LANES ..` are within the padded plane.
                        let x = unsafe {
                            V::load(self.padded.as_ptr().add((oy + row) * width + kx + v * V::LANES))
                        };
                        for ky in 0..K {
                            if row >= ky && row - ky < ROWS {
                                sum[row - ky][v] = x.fma(weight[ky], sum[row - ky][v]);
                            }
                        }
                    }
                }
            }
            for (row, sum) in sum.into_iter().enumerate() {
                for (v, sum) in sum.into_iter().enumerate() {
                    // SAFETY: a vector of row `oy + row` of the plane.
                    unsafe { sum.store(self.y.as_mut_ptr().add((oy + row) * self.size + v * V::LANES)) };
                }
            }
        }
    }
}

impl<const K: usize> Kernel<f32> for PlaneForward<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = f32>>(self) {
        match self.size / V::LANES {
            1 => self.rows::<V, 8, 1>(),
            2 => self.rows::<V, 8, 2>(),
            4 => self.rows::<V, 4, 4>(), // AVX2: rows of 32 in vectors of 8
            other => panic!("no rows of {other} vectors in this bench"),
        }
    }
}

/// Tap gradients of one plane, a kernel row at a time unless all fit in registers.
struct PlaneWeight<'a, const K: usize> {
    size: usize,
    padded: &'a mut [f32],
    x: &'a [f32],
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl<const K: usize> PlaneWeight<'_, K> {
    #[inline(always)]
    fn rows<V: Vector<Elem = f32>, const KY: usize>(&mut self, first: usize) {
        let width = self.size + K - 1;
        let mut sum = [[V::zero(); K]; KY];
        for y in 0..self.size {
            for x in (0..self.size).step_by(V::LANES) {
                // SAFETY: vectors of a row of the plane, and of rows below it in the padded plane.
                unsafe {
                    let d = V::load(self.dy.as_ptr().add(y * self.size + x));
                    for (ky, sum) in sum.iter_mut().enumerate() {
                        for (kx, sum) in sum.iter_mut().enumerate() {
                            let at = (y + first + ky) * width + x + kx;
                            *sum = V::load(self.padded.as_ptr().add(at)).fma(d, *sum);
                        }
                    }
                }
            }
        }
        for (ky, sum) in sum.into_iter().enumerate() {
            for (kx, sum) in sum.into_iter().enumerate() {
                let mut lanes = [0f32; 16];
                // SAFETY: no vector has more than 16 lanes.
                unsafe { sum.store(lanes.as_mut_ptr()) };
                self.dw[(first + ky) * K + kx] += lanes.iter().sum::<f32>();
            }
        }
    }
}

impl<const K: usize> Kernel<f32> for PlaneWeight<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = f32>>(mut self) {
        pad::<K>(self.padded, self.x, self.size);
        if K == 3 {
            self.rows::<V, 3>(0);
        } else {
            for ky in 0..K {
                self.rows::<V, 1>(ky);
            }
        }
    }
}

fn planes_forward<const K: usize>(size: usize, c: usize, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let plane = size * size;
    y.par_chunks_mut(plane * c).zip(x.par_chunks(plane * c)).for_each_init(
        || vec![0.0; (size + K - 1).pow(2) + 16],
        |padded, (y, x)| {
            let planes = y.chunks_mut(plane).zip(x.chunks(plane)).zip(weight.chunks(K * K));
            for ((y, x), weight) in planes {
                dispatch(size.min(16), PlaneForward::<K> { size, padded, x, weight, y });
            }
        },
    );
}

fn planes_weight<const K: usize>(size: usize, c: usize, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plane = size * size;
    dw.par_chunks_mut(K * K).enumerate().for_each_init(
        || vec![0.0; (size + K - 1).pow(2) + 16],
        |padded, (channel, dw)| {
            dw.fill(0.0);
            for n in 0..x.len() / (plane * c) {
                let at = (n * c + channel) * plane;
                let (x, dy) = (&x[at..at + plane], &dy[at..at + plane]);
                dispatch(size.min(16), PlaneWeight::<K> { size, padded, x, dy, dw });
            }
        },
    );
}

/// `y[co, p] = sum over ci of w[co, ci] * x[ci, p]` of one image: four rows by four vectors of pixels.
struct PixelsForward<'a> {
    pixels: usize,
    ci: usize,
    weight: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel<f32> for PixelsForward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = f32>>(self) {
        for p in (0..self.pixels).step_by(4 * V::LANES) {
            for co in (0..self.y.len() / self.pixels).step_by(4) {
                let mut sum = [[V::zero(); 4]; 4];
                // SAFETY: channels are a multiple of 4 and pixels of 4 vectors here.
                unsafe {
                    for ci in 0..self.ci {
                        let mut x = [V::zero(); 4];
                        for (v, x) in x.iter_mut().enumerate() {
                            *x = V::load(self.x.as_ptr().add(ci * self.pixels + p + v * V::LANES));
                        }
                        for (r, sum) in sum.iter_mut().enumerate() {
                            let weight = V::splat(*self.weight.as_ptr().add((co + r) * self.ci + ci));
                            for (sum, x) in sum.iter_mut().zip(x) {
                                *sum = x.fma(weight, *sum);
                            }
                        }
                    }
                    for (r, sum) in sum.into_iter().enumerate() {
                        for (v, sum) in sum.into_iter().enumerate() {
                            sum.store(self.y.as_mut_ptr().add((co + r) * self.pixels + p + v * V::LANES));
                        }
                    }
                }
            }
        }
    }
}

/// Adds `sum over p of dy[co, p] * x[ci, p]` of one image to vectors of sums, four by four channels at a time.
struct PixelsWeight<'a> {
    pixels: usize,
    x: &'a [f32],
    dy: &'a [f32],
    /// A vector for each `(co, ci)`.
    sums: &'a mut [f32],
}

impl Kernel<f32> for PixelsWeight<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Elem = f32>>(self) {
        let (co_end, ci_end) = (self.dy.len() / self.pixels, self.x.len() / self.pixels);
        for co in (0..co_end).step_by(4) {
            for ci in (0..ci_end).step_by(4) {
                let mut sum = [[V::zero(); 4]; 4];
                // SAFETY: channels are a multiple of 4 and pixels of a vector here.
                unsafe {
                    for p in (0..self.pixels).step_by(V::LANES) {
                        let mut x = [V::zero(); 4];
                        for (j, x) in x.iter_mut().enumerate() {
                            *x = V::load(self.x.as_ptr().add((ci + j) * self.pixels + p));
                        }
                        for (i, sum) in sum.iter_mut().enumerate() {
                            let d = V::load(self.dy.as_ptr().add((co + i) * self.pixels + p));
                            for (sum, x) in sum.iter_mut().zip(x) {
                                *sum = x.fma(d, *sum);
                            }
                        }
                    }
                    for (i, sum) in sum.into_iter().enumerate() {
                        for (j, sum) in sum.into_iter().enumerate() {
                            let to = self.sums.as_mut_ptr().add(((co + i) * ci_end + ci + j) * 16);
                            V::load(to).add(sum).store(to);
                        }
                    }
                }
            }
        }
    }
}

fn pixels_forward(pixels: usize, ci: usize, co: usize, x: &[f32], weight: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(pixels * co).zip(x.par_chunks(pixels * ci)).for_each(|(y, x)| {
        dispatch(16, PixelsForward { pixels, ci, weight, x, y });
    });
}

fn pixels_weight(pixels: usize, ci: usize, co: usize, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let images = 4;
    let parts: Vec<Vec<f32>> = x
        .par_chunks(pixels * ci * images)
        .zip(dy.par_chunks(pixels * co * images))
        .map(|(x, dy)| {
            let mut sums = vec![0.0; co * ci * 16];
            for (x, dy) in x.chunks(pixels * ci).zip(dy.chunks(pixels * co)) {
                dispatch(16, PixelsWeight { pixels, x, dy, sums: &mut sums });
            }
            sums.chunks(16).map(|lanes| lanes.iter().sum()).collect()
        })
        .collect();
    dw.fill(0.0);
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(dw, part)| *dw += part);
    }
}

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// `(n, pixel, c)` as `(n, c, pixel)`.
fn channels_first(x: &[f32], pixels: usize, c: usize) -> Vec<f32> {
    let image = |x: &[f32]| (0..pixels * c).map(|i| x[i % pixels * c + i / pixels]).collect::<Vec<_>>();
    x.chunks(pixels * c).flat_map(image).collect()
}

fn close(a: &[f32], b: &[f32], scale: f32) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * scale));
}

/// Fastest of many calls of each side, taken in turns so that both see the same machine.
fn race(once: bool, mut last: impl FnMut(), mut first: impl FnMut()) -> [f64; 2] {
    let mut best = [f64::MAX; 2];
    let start = Instant::now();
    while best[0] == f64::MAX || (!once && start.elapsed().as_secs_f64() < 1.0) {
        for (best, run) in best.iter_mut().zip([&mut last as &mut dyn FnMut(), &mut first]) {
            let start = Instant::now();
            run();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

fn report(name: &str, flops: usize, [last, first]: [f64; 2]) {
    let rate = |seconds: f64| flops as f64 / seconds / 1e9;
    println!(
        "| {name} | {:.0} | {:.0} | {:.1} | {:.1} | {:.2} |",
        last * 1e6,
        first * 1e6,
        rate(last),
        rate(first),
        first / last
    );
}

fn race_depthwise<const K: usize>(once: bool, c: usize, size: usize) {
    let (w, dims, pixels) = (Window::same(K, 1, 1), [BATCH, size, size, c], size * size);
    let count = BATCH * pixels * c;
    let (x, dy, weight) = (numbers(count, 1), numbers(count, 2), numbers(c * K * K, 3));
    let (x1, dy1) = (channels_first(&x, pixels, c), channels_first(&dy, pixels, c));
    let (mut y, mut y1) = (vec![0.0; count], vec![0.0; count]);
    let (mut dw, mut dw1) = (vec![0.0; c * K * K], vec![0.0; c * K * K]);
    let flops = 2 * count * K * K;
    let times = race(
        once,
        || f32::depthwise(&w, dims, &x, &weight, &mut y, false),
        || planes_forward::<K>(size, c, &x1, &weight, &mut y1),
    );
    close(&channels_first(&y, pixels, c), &y1, K as f32);
    report(&format!("depthwise {K}x{K}, {c} channels {size}x{size}, forward"), flops, times);
    let times = race(
        once,
        || f32::depthwise_weight_grad(&w, dims, &x, &dy, &mut dw, false),
        || planes_weight::<K>(size, c, &x1, &dy1, &mut dw1),
    );
    close(&dw, &dw1, 1e3);
    report(&format!("depthwise {K}x{K}, {c} channels {size}x{size}, weight"), flops, times);
}

fn race_pointwise(once: bool, ci: usize, co: usize, size: usize) {
    let (w, dims, pixels) = (Window::square(1, 1, 0, 1), [BATCH, size, size, ci], size * size);
    let (x, dy) = (numbers(BATCH * pixels * ci, 1), numbers(BATCH * pixels * co, 2));
    let (x1, dy1) = (channels_first(&x, pixels, ci), channels_first(&dy, pixels, co));
    let weight = numbers(ci * co, 3);
    let (mut y, mut y1) = (vec![0.0; dy.len()], vec![0.0; dy.len()]);
    let (mut dw, mut dw1) = (vec![0.0; ci * co], vec![0.0; ci * co]);
    let flops = 2 * BATCH * pixels * ci * co;
    let times = race(
        once,
        || f32::conv(&w, dims, co, &x, &weight, &mut y, false),
        || pixels_forward(pixels, ci, co, &x1, &weight, &mut y1),
    );
    close(&channels_first(&y, pixels, co), &y1, ci as f32);
    report(&format!("1x1, {ci} to {co} channels, {size}x{size}, forward"), flops, times);
    let times = race(
        once,
        || f32::conv_weight_grad(&w, dims, co, &x, &dy, &mut dw, false),
        || pixels_weight(pixels, ci, co, &x1, &dy1, &mut dw1),
    );
    close(&dw, &dw1, 1e3);
    report(&format!("1x1, {ci} to {co} channels, {size}x{size}, weight"), flops, times);
}

fn main() {
    // `cargo bench` passes --bench; as a test, everything runs once
    let once = !std::env::args().any(|a| a == "--bench") || std::env::args().any(|a| a == "--test");
    println!("batch {BATCH}, f32, {} thread(s)\n", rayon::current_num_threads());
    println!("| kernel | last, us | first, us | last, GFLOP/s | first, GFLOP/s | first / last |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (c, size) in STAGES {
        race_depthwise::<3>(once, c, size);
        race_depthwise::<5>(once, c, size);
    }
    for (ci, co, size) in [(16, 16, 32), (32, 32, 16), (64, 64, 8), (256, 64, 8)] {
        race_pointwise(once, ci, co, size);
    }
}
