//! Random sizes: derivatives of both orders, and values against loops written straight from the definition.

use super::check;
use oche::ops::cases::{Case, channel, image, mixed, pointwise};
use oche::ops::conv::Geometry;
use oche::ops::subsample::Phase;
use oche::ops::window::Window;
use oche::tape::Tape;
use oche::tensor::Tensor;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError};

/// The same sizes in every run; a failure prints its case.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..Default::default()
    }
}

fn verify(case: &Case, seed: u64) -> Result<(), TestCaseError> {
    check(case, seed).map_err(TestCaseError::fail)
}

fn pair(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

/// Images and a window that fits them; at most `kernel` taps an axis.
fn geometry(kernel: usize) -> impl Strategy<Value = ([usize; 4], Window)> {
    let window = (pair(1..kernel + 1), pair(1..4), pair(0..4), pair(1..4));
    let window =
        window.prop_map(|(kernel, stride, padding, dilation)| Window { kernel, stride, padding, dilation });
    let images = (1usize..4, pair(1..10), 1usize..7).prop_map(|(n, [h, w], c)| [n, h, w, c]);
    (images, window).prop_filter("the window fits", |(x, window)| window.out([x[1], x[2]]).is_ok())
}

/// A window whose padding is at most half of it, as pools want, and that has a pixel wherever it lies.
fn pooling() -> impl Strategy<Value = ([usize; 4], Window)> {
    geometry(4).prop_filter("padding of a pool", |(x, w)| {
        (0..2).all(|a| 2 * w.padding[a] <= w.dilation[a] * (w.kernel[a] - 1) + 1 && w.dilation[a] <= x[1 + a])
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn depthwise((x, window) in geometry(5), seed in 0u64..100) {
        verify(&image::depthwise(x, window), seed)?;
        for case in image::conv_gradients(x, x[3], Geometry { window, depthwise: true }).unwrap() {
            verify(&case, seed)?;
        }
    }

    #[test]
    fn dense((x, window) in geometry(4), out in 1usize..6, seed in 0u64..100) {
        verify(&image::conv(x, out, window), seed)?;
        for case in image::conv_gradients(x, out, Geometry { window, depthwise: false }).unwrap() {
            verify(&case, seed)?;
        }
    }

    #[test]
    fn pointwise_convolution(x in [1usize..4, 1..6, 1..6, 1..40], out in 1usize..40, seed in 0u64..100) {
        verify(&image::conv(x, out, Window::square(1, 1, 0, 1)), seed)?;
    }

    #[test]
    fn pools((x, window) in pooling(), seed in 0u64..100) {
        verify(&image::max_pool(x, window), seed)?;
        verify(&image::avg_pool(x, window), seed)?;
    }

    #[test]
    fn batch_norm(n in 2usize..5, [h, w] in pair(1..5), c in 1usize..20, seed in 0u64..100) {
        // at least 6 values a channel: of two, the variance may come out near zero, where it bends sharply
        let n = n.max(6usize.div_ceil(h * w));
        verify(&channel::batch_norm([n, h, w, c]), seed)?;
        verify(&channel::normalise([n, h, w, c]), seed)?;
    }

    #[test]
    fn weighted_sum(
        [edges, k] in pair(1..5),
        keep in prop::collection::vec(any::<bool>(), 16),
        x in [1usize..3, 1..4, 1..4, 1..6],
        seed in 0u64..100,
    ) {
        let entries: Vec<usize> = (0..edges * k).filter(|&e| keep[e] || e == 0).collect();
        verify(&mixed::weighted_sum([edges, k], entries, x), seed)?;
        verify(&mixed::mixed_operation([2, x[1] + 2, x[2] + 2, x[3]], edges), seed)?;
    }

    #[test]
    fn concat(x in [1usize..4, 1..5, 1..5], cs in prop::collection::vec(1usize..9, 1..5), seed in 0u64..100) {
        verify(&channel::concat(x, &cs), seed)?;
    }

    #[test]
    fn subsample(x in [1usize..4, 1..9, 1..9, 1..6], stride in 1usize..4, offset in 0usize..4, seed in 0u64..100) {
        let offset = offset.min(x[1] - 1).min(x[2] - 1);
        verify(&image::subsample(x, Phase { stride, offset }), seed)?;
    }

    #[test]
    fn matmul(size in [1usize..20, 1..20, 1..20], transpose in any::<[bool; 2]>(), seed in 0u64..100) {
        verify(&pointwise::matmul(size, transpose), seed)?;
    }

    #[test]
    fn rows([n, k] in pair(1..12), seed in 0u64..100) {
        verify(&pointwise::softmax(n, k), seed)?;
        verify(&pointwise::cross_entropy(n, k), seed)?;
    }

    #[test]
    fn values_follow_the_definition((x, window) in pooling(), out in 1usize..5, seed in 0u64..100) {
        let cases = [
            image::depthwise(x, window), image::conv(x, out, window),
            image::max_pool(x, window), image::avg_pool(x, window),
        ];
        for (case, sum) in cases.iter().zip([Sum::Depthwise, Sum::Dense, Sum::Max, Sum::Mean]) {
            let inputs = case.draw(seed).unwrap();
            let mut tape = Tape::new();
            let vars = super::leaves(&mut tape, &inputs);
            let y = case.run(&mut tape, &vars).unwrap();
            let expected = by_definition(sum, &inputs, x, window, tape.shape(y).last());
            let y = tape.value(y).to_f64();
            prop_assert_eq!(y.len(), expected.len(), "{}", case.name);
            for (a, b) in y.iter().zip(&expected) {
                prop_assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{}: {} instead of {}", case.name, a, b);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Sum {
    Depthwise,
    Dense,
    Max,
    Mean,
}

/// What the taps at one output pixel make of the images, channels-last, tap by tap.
fn by_definition(sum: Sum, inputs: &[Tensor], [n, h, w, c]: [usize; 4], v: Window, out: usize) -> Vec<f64> {
    let x = inputs[0].to_f64();
    let weight = inputs.get(1).map(Tensor::to_f64).unwrap_or_default();
    let size = |full: usize, a: usize| {
        (full + 2 * v.padding[a] - v.dilation[a] * (v.kernel[a] - 1) - 1) / v.stride[a] + 1
    };
    let place = |at: usize, tap: usize, a: usize, limit: usize| {
        (at * v.stride[a] + tap * v.dilation[a]).checked_sub(v.padding[a]).filter(|&p| p < limit)
    };
    let mut y = Vec::new();
    for (image, i, j, o) in (0..n)
        .flat_map(|a| (0..size(h, 0)).map(move |b| (a, b)))
        .flat_map(|(a, b)| (0..size(w, 1)).flat_map(move |j| (0..out).map(move |o| (a, b, j, o))))
    {
        let (mut total, mut count, mut max) = (0.0, 0.0, f64::NEG_INFINITY);
        for (a, b) in (0..v.kernel[0]).flat_map(|a| (0..v.kernel[1]).map(move |b| (a, b))) {
            let (Some(row), Some(column)) = (place(i, a, 0, h), place(j, b, 1, w)) else { continue };
            let pixel = &x[((image * h + row) * w + column) * c..][..c];
            let tap = |o: usize, c_in: usize, per: usize| {
                weight[((o * per + c_in) * v.kernel[0] + a) * v.kernel[1] + b]
            };
            total += match sum {
                Sum::Depthwise => pixel[o] * tap(o, 0, 1),
                Sum::Dense => (0..c).map(|k| pixel[k] * tap(o, k, c)).sum(),
                Sum::Max | Sum::Mean => pixel[o],
            };
            count += 1.0;
            max = max.max(pixel[o.min(c - 1)]);
        }
        y.push(match sum {
            Sum::Depthwise | Sum::Dense => total,
            Sum::Max => max,
            Sum::Mean => total / count,
        });
    }
    y
}
