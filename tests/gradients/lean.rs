//! Cells whose values are kept as bf16 against the same in double precision.

use super::evaluate;
use oche::device::simd::multiplies_bf16;
use oche::ops::cases::Case;
use oche::ops::cases::fused::{Cell, Found, Preprocess};
use oche::tensor::{DType, Tensor};

/// Square root of the sum of squares of a - b by that of b.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| square(a - b)).sum();
    (off / b.to_f64().into_iter().map(square).sum::<f64>().max(1e-30)).sqrt()
}

/// The error of the value, the mean one of the gradients, and the largest.
fn errors(lean: &Case, exact: &Case) -> [f64; 3] {
    let ((y, grads), (z, expected)) = (evaluate(lean, 3, 1, DType::F32), evaluate(exact, 3, 1, DType::F64));
    let off: Vec<f64> = grads.iter().zip(&expected).map(|(a, b)| distance(a, b)).collect();
    let worst = off.iter().copied().fold(0.0, f64::max);
    [distance(&y, &z), off.iter().sum::<f64>() / off.len() as f64, worst]
}

/// A number of bf16 is off by 2^-9 at most; a gradient behind a relu by more, of values whose sign that turns. `rounds` says
/// whether anything is rounded here.
fn close(lean: &Case, exact: &Case, rounds: bool, tolerance: f64, what: &str) {
    let [value, gradient, worst] = errors(lean, exact);
    println!("{what}: {value:.1e} {gradient:.1e} {worst:.1e}");
    assert_eq!(value > 1e-5, rounds, "{what}: is anything rounded? {value:e}");
    assert!(value < 0.02 && gradient < tolerance, "{what}: value {value:e}, gradient {gradient:e}");
    assert!(worst < 0.7, "{what}: one gradient {worst:e}"); // one that is missing is off by 1
}

/// Vectors of every width and none, odd rows, more images than parts.
const SIZES: [[usize; 4]; 9] = [
    [4, 16, 16, 16],
    [4, 8, 8, 32],
    [6, 6, 10, 64],
    [5, 12, 12, 8],
    [20, 4, 4, 4],
    [8, 6, 6, 6],
    [6, 10, 8, 48],
    [6, 8, 10, 24],
    [5, 6, 12, 36],
];

#[test]
fn cells() {
    for x in SIZES {
        for (reduction, given) in [(false, false), (true, false), (false, true)] {
            for k in 1..9 {
                let chosen = vec![vec![k], vec![k, 0]];
                let cell = Cell { x, nodes: 2, reduction, chosen, given };
                // separable convolutions have a relu behind rounded values, and pools are off where the maximum moves
                let tolerance = match (given, k) {
                    (true, _) => 0.15,
                    (false, 1 | 5..8) => 0.08,
                    _ => 0.03,
                };
                close(&cell.lean(), &cell.case(true), true, tolerance, &format!("{cell:?}"));
            }
        }
    }
}

#[test]
fn found_cells() {
    let genes = vec![[0, 5], [1, 6], [0, 3], [2, 1], [1, 0], [2, 4], [0, 1], [3, 7]];
    for x in SIZES {
        for reduction in [false, true] {
            let cell = Found { x, reduction, genes: genes.clone(), drop: true, given: false };
            close(&cell.lean(), &cell.case(true), true, 0.12, &format!("{cell:?}"));
        }
    }
}

#[test]
fn preprocessing() {
    // without products of bf16 its products are those of f32, since it keeps nothing
    let rounds = multiplies_bf16();
    for (x, share) in [
        ([3, 16, 16, 48], 16),
        ([17, 8, 8, 64], 32),
        ([2, 6, 10, 128], 8),
        ([4, 12, 12, 24], 8),
        ([3, 64, 6, 16], 24),
        ([2, 8, 6, 72], 36),
    ] {
        let rounds = rounds && share % 8 == 0; // other channels are multiplied as f32
        for (halve, affine) in [(false, false), (true, false), (false, true), (true, true)] {
            let layer = Preprocess { x, share, halve, affine, given: false };
            close(&layer.lean(), &layer.case(true), rounds, 0.01, &format!("{layer:?}"));
        }
    }
}
