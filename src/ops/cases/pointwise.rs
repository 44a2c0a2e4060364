//! Cases of elementwise operations, matrix products, softmax and cross entropy.

use super::{Case, Kind, any, constant, of};
use crate::ops::cast::Cast;
use crate::ops::cross_entropy::{CrossEntropy, smoothed};
use crate::ops::matmul::MatMul;
use crate::ops::pointwise::{Add, Copy, Dot, Mul, Relu, ReluGrad, Scale, ScaleBy, Sub};
use crate::ops::softmax::{Softmax, SoftmaxGrad, SoftmaxGradGrad};
use crate::tensor::{DType, Tensor};

/// Lengths around those of vectors, and one beyond the last whole one.
const LENGTHS: [usize; 4] = [1, 31, 33, 1025];

/// Matrix product of (m, k) and (k, n), each stored transposed or not.
pub fn matmul([m, k, n]: [usize; 3], transpose: [bool; 2]) -> Case {
    let stored = |shape: [usize; 2], t: bool| any(if t { [shape[1], shape[0]] } else { shape });
    let inputs = [stored([m, k], transpose[0]), stored([k, n], transpose[1])];
    Case::op(format!("matmul {m}x{k}x{n} transposed {transpose:?}"), MatMul { transpose }, inputs)
}

/// Softmax of `rows` rows of `k`.
pub fn softmax(rows: usize, k: usize) -> Case {
    Case::op(format!("softmax {rows}x{k}"), Softmax, [any([rows, k])])
}

/// Cross entropy of `n` rows of `k` logits; labels go round the classes.
pub fn cross_entropy(n: usize, k: usize) -> Case {
    Case::of(format!("cross_entropy {n}x{k}"), [any([n, k])], move |tape, xs| {
        let labels: Vec<u32> = (0..n).map(|i| ((3 * i + 1) % k) as u32).collect();
        let labels = constant(tape, &Tensor::from_slice([n], &labels)?, xs[0])?;
        tape.apply(CrossEntropy, &[xs[0], labels])
    })
}

/// The same against smoothed targets.
pub fn smoothed_cross_entropy(n: usize, k: usize, smoothing: f64) -> Case {
    Case::of(format!("cross_entropy {n}x{k} smoothed by {smoothing}"), [any([n, k])], move |tape, xs| {
        let labels: Vec<u32> = (0..n).map(|i| ((3 * i + 1) % k) as u32).collect();
        let labels = constant(tape, &Tensor::from_slice([n], &labels)?, xs[0])?;
        smoothed(tape, xs[0], labels, smoothing)
    })
}

pub(super) fn cases() -> Vec<Case> {
    let x = any([3, 5]);
    let kinked = of([3, 5], Kind::AwayFromZero);
    let mut all = vec![
        Case::op("copy", Copy, [x]),
        Case::op("sub", Sub, [x, x]),
        Case::op("mul", Mul, [x, x]),
        Case::op("scale", Scale(-1.5), [x]),
        Case::op("scale_by", ScaleBy, [x, any([])]),
        Case::op("scale_by a (1, 1)", ScaleBy, [x, any([1, 1])]),
        Case::op("relu_grad", ReluGrad, [x, kinked]),
        Case::op("relu of one number", Relu, [of([], Kind::AwayFromZero)]),
        Case::op("softmax_grad", SoftmaxGrad, [x, x]).orders(1),
        Case::op("softmax_grad_grad", SoftmaxGradGrad, [x, x, x]).orders(0),
    ];
    for n in LENGTHS {
        all.push(Case::op(format!("add {n}"), Add, [any([n]); 2]));
        all.push(Case::op(format!("dot {n}"), Dot, [any([n]); 2]));
        all.push(Case::op(format!("relu {n}"), Relu, [of([n], Kind::AwayFromZero)]));
    }
    for transpose in [[false, false], [false, true], [true, false], [true, true]] {
        all.push(matmul([3, 5, 4], transpose));
        all.push(matmul([17, 33, 9], transpose));
    }
    all.extend([matmul([1, 1, 1], [false; 2]), softmax(14, 8), softmax(3, 1), softmax(1, 33)]);
    all.extend([cross_entropy(4, 10), cross_entropy(1, 2), cross_entropy(3, 1)]);
    all.extend([smoothed_cross_entropy(4, 10, 0.1), smoothed_cross_entropy(3, 2, 1.0)]);
    all.push(Case::of("cast to its own type", [x], |tape, xs| {
        let dtype = tape.dtype(xs[0]);
        tape.apply(Cast(dtype), xs)
    }));
    all.push(Case::of("one_hot is constant", [x], |tape, xs| {
        let labels = constant(tape, &Tensor::from_slice([3], &[4u32, 0, 2])?, xs[0])?;
        tape.apply(crate::ops::cross_entropy::OneHot, &[xs[0], labels])
    }));
    all.push(Case::of("softmax of a product of shared factors", [x], |tape, xs| {
        let square = tape.apply(Mul, &[xs[0], xs[0]])?;
        let half = constant(tape, &Tensor::scalar(0.5, DType::F64), xs[0])?;
        let square = tape.apply(ScaleBy, &[square, half])?;
        tape.apply(Softmax, &[square])
    }));
    all
}
