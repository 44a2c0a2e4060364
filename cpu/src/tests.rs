//! Every kernel against a naive loop in f64: random shapes, both number types, every instruction set, any threads.

use super::{Window, conv, depthwise, gemm, out_size, pool};
use crate::dual::Dual;
use crate::real::Real;
use crate::simd::Isa;
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Instruction set that calls on this thread use instead of the best.
    pub static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// Deterministic numbers in (-1, 1).
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // kept short, so that products in f64 of numbers rounded to f32 are the same ones
        ((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0) as f32 as f64
    };
    (0..len).map(|_| next()).collect()
}

fn cast<R: Real<Wide = f64>>(x: &[f64]) -> Vec<R> {
    x.iter().map(|&x| R::of(x)).collect()
}

/// A result and the sum of magnitudes that it adds up: the scale of its rounding error.
#[derive(Clone)]
struct Sums(Vec<(f64, f64)>);

impl Sums {
    fn new(len: usize) -> Self {
        Self(vec![(0.0, 0.0); len])
    }
    fn add(&mut self, i: usize, x: f64) {
        self.0[i].0 += x;
        self.0[i].1 += x.abs();
    }
    fn check<R: Real<Wide = f64>>(&self, got: &[R], what: &str) {
        let tolerance = if size_of::<R>() == 4 { 1e-5 } else { 1e-12 };
        assert_eq!(got.len(), self.0.len());
        for (i, (got, &(want, magnitude))) in got.iter().zip(&self.0).enumerate() {
            let error = (got.wide() - want).abs();
            // a comparison that a NaN fails
            assert!(error <= tolerance * magnitude.max(1e-3), "{what}[{i}]: {got} instead of {want}");
        }
    }
}

/// Runs `kernel(destination, accumulate)` over garbage and over numbers, with each instruction set, on one thread
/// and on two, and checks every result.
fn verify<R: Real<Wide = f64>>(what: &str, want: &Sums, kernel: impl Fn(&mut [R], bool) + Sync) {
    let len = want.0.len();
    let old = numbers(len, 99);
    let mut added = want.clone();
    old.iter().enumerate().for_each(|(i, &x)| added.add(i, x));
    for isa in Isa::available() {
        FORCED.set(Some(isa));
        let mut fresh = vec![R::of(f64::NAN); len];
        kernel(&mut fresh, false);
        want.check(&fresh, &format!("{what}, {isa:?}"));
        let mut sum = cast::<R>(&old);
        kernel(&mut sum, true);
        added.check(&sum, &format!("{what}, {isa:?}, accumulated"));
    }
    FORCED.set(None);
    let bits: Vec<Vec<u8>> = POOLS.with(|pools| {
        let run = |pool: &rayon::ThreadPool| {
            let mut out = vec![R::of(f64::NAN); len];
            pool.install(|| kernel(&mut out, false));
            bytemuck::cast_slice(&out).to_vec()
        };
        pools.iter().map(run).collect()
    });
    assert!(bits[0] == bits[1], "{what}: other bits on two threads than on one");
}

thread_local! {
    static POOLS: [rayon::ThreadPool; 2] =
        [1, 2].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
}

/// Calls `run(tap, input element, output element)` of channel 0 for every tap inside the image.
fn each_tap(w: &Window, dims: [usize; 4], mut run: impl FnMut(usize, usize, usize)) {
    let ([n, h, width, c], [oh, ow]) = (dims, out_size(w, dims));
    for (n, oy, ox) in (0..n).flat_map(|n| (0..oh).flat_map(move |y| (0..ow).map(move |x| (n, y, x)))) {
        for tap in 0..w.taps() {
            let [ky, kx] = [tap / w.kernel[1], tap % w.kernel[1]];
            let y = (oy * w.stride[0] + ky * w.dilation[0]).wrapping_sub(w.padding[0]);
            let x = (ox * w.stride[1] + kx * w.dilation[1]).wrapping_sub(w.padding[1]);
            if y < h && x < width {
                run(tap, ((n * h + y) * width + x) * c, (n * oh + oy) * ow + ox);
            }
        }
    }
}

fn outputs(w: &Window, dims: [usize; 4]) -> usize {
    dims[0] * out_size(w, dims).iter().product::<usize>()
}

fn check_depthwise<R: Real<Wide = f64>>(w: &Window, dims: [usize; 4]) {
    let c = dims[3];
    let (count, out, taps) = (dims.iter().product(), outputs(w, dims) * c, w.taps());
    let (x, dy, weight) = (numbers(count, 1), numbers(out, 2), numbers(c * taps, 3));
    let (mut y, mut dx, mut dw) = (Sums::new(out), Sums::new(count), Sums::new(c * taps));
    each_tap(w, dims, |tap, i, o| {
        for c_ in 0..c {
            let (i, o, k) = (i + c_, o * c + c_, c_ * taps + tap);
            y.add(o, x[i] * weight[k]);
            dx.add(i, dy[o] * weight[k]);
            dw.add(k, x[i] * dy[o]);
        }
    });
    let (x, dy, weight) = (cast::<R>(&x), cast::<R>(&dy), cast::<R>(&weight));
    let name = |pass| format!("depthwise {pass} of {dims:?} by {w:?}");
    verify::<R>(&name("forward"), &y, |to, acc| depthwise::forward(w, dims, &x, &weight, to, acc));
    verify::<R>(&name("input"), &dx, |to, acc| depthwise::input_grad(w, dims, &weight, &dy, to, acc));
    verify::<R>(&name("weight"), &dw, |to, acc| depthwise::weight_grad(w, dims, &x, &dy, to, acc));
}

fn check_conv<R: Real<Wide = f64>>(w: &Window, dims: [usize; 4], co: usize) {
    let (ci, taps) = (dims[3], w.taps());
    let (count, out) = (dims.iter().product(), outputs(w, dims) * co);
    let (x, dy, weight) = (numbers(count, 1), numbers(out, 2), numbers(co * ci * taps, 3));
    let (mut y, mut dx, mut dw) = (Sums::new(out), Sums::new(count), Sums::new(weight.len()));
    each_tap(w, dims, |tap, i, o| {
        for (a, b) in (0..co).flat_map(|a| (0..ci).map(move |b| (a, b))) {
            let (i, o, k) = (i + b, o * co + a, (a * ci + b) * taps + tap);
            y.add(o, x[i] * weight[k]);
            dx.add(i, dy[o] * weight[k]);
            dw.add(k, x[i] * dy[o]);
        }
    });
    let (x, dy, weight) = (cast::<R>(&x), cast::<R>(&dy), cast::<R>(&weight));
    let name = |pass| format!("dense {pass} of {dims:?} to {co} by {w:?}");
    verify::<R>(&name("forward"), &y, |to, acc| conv::forward(w, dims, co, &x, &weight, to, acc));
    verify::<R>(&name("input"), &dx, |to, acc| conv::input_grad(w, dims, co, &weight, &dy, to, acc));
    verify::<R>(&name("weight"), &dw, |to, acc| conv::weight_grad(w, dims, co, &x, &dy, to, acc));
}

fn check_pool<R: Real<Wide = f64>>(w: &Window, dims: [usize; 4], coarse: bool) {
    let c = dims[3];
    let (count, pixels) = (dims.iter().product(), outputs(w, dims));
    // coarse numbers make ties
    let round = |x: f64| if coarse { (x * 2.0).round() } else { x };
    let x: Vec<f64> = numbers(count, 1).into_iter().map(round).collect();
    let dy = numbers(pixels * c, 2);
    let mut best = vec![(f64::NEG_INFINITY, 0u8, None); pixels * c];
    let mut inside = vec![0.0; pixels];
    each_tap(w, dims, |tap, i, o| {
        inside[o] += 1.0;
        for c_ in 0..c {
            let best = &mut best[o * c + c_];
            if best.2.is_none() || x[i + c_] > best.0 {
                *best = (x[i + c_], tap as u8, Some(i + c_));
            }
        }
    });
    let (mut mean, mut spread) = (Sums::new(pixels * c), Sums::new(count));
    each_tap(w, dims, |_, i, o| {
        for c_ in 0..c {
            mean.add(o * c + c_, x[i + c_] / inside[o]);
            spread.add(i + c_, dy[o * c + c_] / inside[o]);
        }
    });
    let (mut max, mut scattered) = (Sums::new(pixels * c), Sums::new(count));
    for (o, &(value, _, from)) in best.iter().enumerate() {
        if let Some(from) = from {
            max.add(o, value);
            scattered.add(from, dy[o]);
        }
    }
    let (x, dy) = (cast::<R>(&x), cast::<R>(&dy));
    let name = |pass| format!("{pass} of {dims:?} by {w:?}");
    let mut index = vec![255u8; pixels * c];
    for isa in Isa::available() {
        FORCED.set(Some(isa));
        let mut y = vec![R::of(f64::NAN); pixels * c];
        pool::max_forward(w, dims, &x, &mut y, &mut index);
        for (o, &(value, tap, from)) in best.iter().enumerate() {
            if from.is_some() {
                assert_eq!((y[o].wide(), index[o]), (value, tap), "{} [{o}]", name("maximum"));
            }
        }
    }
    verify::<R>(&name("gather"), &max, |to, acc| pool::max_gather(w, dims, &x, &index, to, acc));
    verify::<R>(&name("scatter"), &scattered, |to, acc| pool::max_scatter(w, dims, &dy, &index, to, acc));
    verify::<R>(&name("mean"), &mean, |to, acc| pool::avg_forward(w, dims, &x, to, acc));
    verify::<R>(&name("mean's gradient"), &spread, |to, acc| pool::avg_input_grad(w, dims, &dy, to, acc));
}

fn check_matmul<R: Real<Wide = f64>>(m: usize, k: usize, n: usize, ta: bool, tb: bool) {
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let mut c = Sums::new(m * n);
    for (i, j, l) in (0..m).flat_map(|i| (0..n).flat_map(move |j| (0..k).map(move |l| (i, j, l)))) {
        let a = a[if ta { l * m + i } else { i * k + l }];
        let b = b[if tb { j * k + l } else { l * n + j }];
        c.add(i * n + j, a * b);
    }
    let (a, b) = (cast::<R>(&a), cast::<R>(&b));
    let what = format!("matmul {m}x{k}x{n}, transposed {ta} {tb}");
    verify::<R>(&what, &c, |to, acc| gemm::matmul((m, k, n), &a, ta, &b, tb, to, acc));
}

const CHANNELS: [usize; 10] = [1, 2, 3, 5, 6, 12, 16, 20, 36, 64];

fn channels() -> impl Strategy<Value = usize> {
    prop::sample::select(&CHANNELS[..])
}

/// A window and `[height, width]` that it fits; padding may exceed what keeps the size.
fn windows() -> impl Strategy<Value = (Window, [usize; 2])> {
    let axis = || (1usize..=5, 1usize..=3, 0usize..=4, 1usize..=2, 1usize..=9);
    (axis(), axis()).prop_filter_map("the window fits", |(a, b)| {
        let w = Window { kernel: [a.0, b.0], stride: [a.1, b.1], padding: [a.2, b.2], dilation: [a.3, b.3] };
        let size = [a.4, b.4];
        w.out(size).ok().map(|_| (w, size))
    })
}

fn few() -> ProptestConfig {
    ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn depthwise_is_the_naive_sum((w, [h, width]) in windows(), c in channels(), n in 1usize..4) {
        check_depthwise::<f64>(&w, [n, h, width, c]);
        check_depthwise::<f32>(&w, [n, h, width, c]);
    }

    #[test]
    fn dense_is_the_naive_sum(
        (w, [h, width]) in windows(),
        ci in 1usize..8,
        co in prop::sample::select(&[1usize, 3, 8, 20][..]),
        n in 1usize..3,
    ) {
        check_conv::<f64>(&w, [n, h, width, ci], co);
        check_conv::<f32>(&w, [n, h, width, ci], co);
    }

    #[test]
    fn pools_are_the_naive_ones((w, [h, width]) in windows(), c in channels(), coarse: bool) {
        check_pool::<f64>(&w, [2, h, width, c], coarse);
        check_pool::<f32>(&w, [2, h, width, c], coarse);
    }

    #[test]
    fn matmul_is_the_naive_sum(
        m in 1usize..40, k in 1usize..200, n in 1usize..70, ta: bool, tb: bool,
    ) {
        check_matmul::<f64>(m, k, n, ta, tb);
        check_matmul::<f32>(m, k, n, ta, tb);
    }
}

/// The windows and channels of the search space, small in all else.
#[test]
fn windows_of_the_search_space() {
    for (kernel, stride, dilation) in [(3, 1, 1), (5, 1, 1), (3, 1, 2), (5, 1, 2), (3, 2, 1), (5, 2, 2)] {
        for c in [16, 36, 64] {
            check_depthwise::<f32>(&Window::same(kernel, stride, dilation), [2, 8, 8, c]);
        }
        check_depthwise::<f32>(&Window::same(kernel, stride, dilation), [1, 18, 19, 12]);
    }
    let wide = Window { kernel: [1, 7], stride: [1, 2], padding: [0, 3], dilation: [1, 1] };
    check_depthwise::<f32>(&wide, [33, 3, 10, 16]);
    check_depthwise::<f64>(&Window::square(11, 1, 5, 1), [1, 6, 7, 3]);
}

#[test]
fn pointwise_and_strided_and_stem() {
    let point = Window::square(1, 1, 0, 1);
    for (ci, co) in [(16, 16), (48, 16), (12, 36), (3, 48), (64, 64), (70, 5)] {
        check_conv::<f32>(&point, [3, 7, 9, ci], co);
        check_conv::<f32>(&Window::square(1, 2, 0, 1), [2, 6, 5, ci], co);
    }
    check_conv::<f32>(&Window::same(3, 1, 1), [2, 8, 8, 3], 48);
    check_conv::<f64>(&point, [5, 8, 8, 17], 33);
}

#[test]
fn deep_products() {
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        check_matmul::<f32>(5, 1100, 9, ta, tb);
        check_matmul::<f64>(17, 530, 70, ta, tb);
    }
    check_matmul::<f32>(64, 256, 10, false, true);
}

#[test]
fn a_nan_wins_and_padding_never_does() {
    let w = Window::same(3, 1, 1);
    for c in [1, 16, 36] {
        let dims = [1, 3, 3, c];
        let mut x = vec![f64::NEG_INFINITY; 9 * c];
        let (mut y, mut index) = (vec![0.0; 9 * c], vec![255; 9 * c]);
        pool::max_forward(&w, dims, &x, &mut y, &mut index);
        assert_eq!((index[0], index[4 * c], index[8 * c]), (4, 0, 0)); // the first tap inside
        x[4 * c] = f64::NAN;
        pool::max_forward(&w, dims, &x, &mut y, &mut index);
        for o in 0..9 {
            assert!(y[o * c].is_nan());
            assert_eq!(index[o * c] as usize, (2 - o / 3) * 3 + 2 - o % 3);
        }
    }
}

/// Tangents of a kernel that is linear in either input are given by the product rule, on every instruction set.
fn check_product_rule<T: Real<Wide = f64>>(
    what: &str,
    [a, b, out]: [usize; 3],
    plain: impl Fn(&[f64], &[f64], &mut [f64]),
    dual: impl Fn(&[Dual<T>], &[Dual<T>], &mut [Dual<T>]),
) where
    Dual<T>: Real,
{
    let [(a, da), (b, db)] = [(a, 1), (b, 3)].map(|(len, k)| (numbers(len, k), numbers(len, k + 1)));
    let sum = |factors: [[&[f64]; 2]; 2]| {
        let mut sums = [vec![0.0; out], vec![0.0; out]];
        sums.iter_mut().zip(factors).for_each(|(to, [a, b])| plain(a, b, to));
        sums[0].iter().zip(&sums[1]).map(|(x, y)| x + y).collect::<Vec<f64>>()
    };
    let want = sum([[&a, &db], [&da, &b]]);
    let size = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<f64>>();
    let scale = sum([[&size(&a), &size(&db)], [&size(&da), &size(&b)]]);
    let join = |x: &[f64], d: &[f64]| -> Vec<Dual<T>> {
        x.iter().zip(d).map(|(&x, &d)| Dual::new(T::of(x), T::of(d))).collect()
    };
    let (a, b) = (join(&a, &da), join(&b, &db));
    let tolerance = if size_of::<T>() == 4 { 1e-5 } else { 1e-12 };
    for isa in Isa::available() {
        FORCED.set(Some(isa));
        let mut to = vec![Dual::<T>::of(f64::NAN); out];
        dual(&a, &b, &mut to);
        for (i, (got, (want, scale))) in to.iter().zip(want.iter().zip(&scale)).enumerate() {
            let error = (got.tangent.wide() - want).abs();
            assert!(error <= tolerance * scale.max(1e-3), "{what}, {isa:?} [{i}]: {got}, tangent {want}");
        }
    }
    FORCED.set(None);
}

macro_rules! product_rule {
    ($what:expr, $sizes:expr, |$a:ident, $b:ident, $to:ident| $kernel:expr) => {
        check_product_rule::<f32>($what, $sizes, |$a, $b, $to| $kernel, |$a, $b, $to| $kernel);
        check_product_rule::<f64>($what, $sizes, |$a, $b, $to| $kernel, |$a, $b, $to| $kernel);
    };
}

#[test]
fn tangents_follow_the_product_rule() {
    for (kernel, stride, dilation) in [(1, 1, 1), (3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 2)] {
        let w = &Window::same(kernel, stride, dilation);
        for c in [1, 3, 4, 8, 16, 36] {
            let dims = [2, 9, 10, c];
            let (x, y, k) = (dims.iter().product(), outputs(w, dims), w.taps() * c);
            let name = format!("depthwise {w:?} {c}");
            product_rule!(&name, [x, k, y * c], |a, b, to| depthwise::forward(w, dims, a, b, to, false));
            product_rule!(&name, [k, y * c, x], |a, b, to| depthwise::input_grad(w, dims, a, b, to, false));
            product_rule!(&name, [x, y * c, k], |a, b, to| depthwise::weight_grad(w, dims, a, b, to, false));
            let (name, o) = (format!("dense {w:?} {c}"), 5);
            product_rule!(&name, [x, k * o, y * o], |a, b, to| conv::forward(w, dims, o, a, b, to, false));
            product_rule!(&name, [k * o, y * o, x], |a, b, to| conv::input_grad(w, dims, o, a, b, to, false));
            product_rule!(&name, [x, y * o, k * o], |a, b, to| conv::weight_grad(
                w, dims, o, a, b, to, false
            ));
        }
    }
    for (m, n) in [(1, 1), (13, 5), (9, 33), (7, 64), (6, 100)] {
        product_rule!("matmul", [m * 70, 70 * n, m * n], |a, b, to| {
            gemm::matmul((m, 70, n), a, false, b, false, to, false)
        });
    }
}

/// The tangent of a maximum is that of the tap that won.
#[test]
fn tangents_of_maxima_are_those_of_their_taps() {
    let w = &Window::same(3, 1, 1);
    for c in [1, 3, 16, 36] {
        let dims = [2, 5, 6, c];
        let (x, d) = (numbers(60 * c, 1), numbers(60 * c, 2));
        let moving: Vec<Dual<f64>> = x.iter().zip(&d).map(|(&x, &d)| Dual::new(x, d)).collect();
        for isa in Isa::available() {
            FORCED.set(Some(isa));
            let (mut y, mut index) = (vec![Dual::of(0.0); 60 * c], vec![255; 60 * c]);
            pool::max_forward(w, dims, &moving, &mut y, &mut index);
            let mut tangents = vec![0.0; 60 * c];
            pool::max_gather(w, dims, &d, &index, &mut tangents, false);
            assert!(y.iter().map(|y| y.tangent).eq(tangents.iter().copied()), "{isa:?}, {c}");
            let (mut back, mut plain) = (vec![Dual::of(0.0); 60 * c], vec![0.0; 60 * c]);
            pool::max_scatter(w, dims, &moving, &index, &mut back, false);
            pool::max_scatter(w, dims, &d, &index, &mut plain, false);
            assert!(back.iter().map(|y| y.tangent).eq(plain.iter().copied()), "{isa:?}, {c}");
        }
        FORCED.set(None);
    }
}
