//! What the machine can do: multiply-adds and bytes per second.

use oche::device::real::Real;
use oche::device::simd::{Kernel, Vector, dispatch};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

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

/// What the machine can do at the most, per second.
#[derive(Clone, Copy)]
pub struct Roofline {
    /// Multiply-adds counting as two.
    pub flops: f64,
    /// Read plus written, of more than the caches hold.
    pub bytes: f64,
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

/// Prints the roofline of one thread and of two; returns that of all threads.
pub fn measure() -> Roofline {
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
    Roofline { flops: fma_peak(threads), bytes: copy_rate(threads, 128 << 20) }
}
