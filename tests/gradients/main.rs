//! Operations and their derivatives in float64: the registry of cases, random sizes, and the engine's promises.

#[path = "../common/mod.rs"]
mod common;
mod dual;
mod engine;
mod fused;
mod lean;
mod random;
mod registry;
mod segment;
mod shapes;

use oche::ops::cases::Case;
use oche::ops::pointwise::{Add, Dot};
use oche::tape::check::{self, normal};
use oche::tape::{Tape, Var};
use oche::tensor::{DType, Tensor};

/// Step of the differences: their error is about its fourth power, their rounding 1e-16 over it.
const STEP: f64 = 1e-5;
/// Allowed difference, relative to the largest term of the directional derivative.
const TOLERANCE: f64 = 1e-7;

/// Checks all derivatives that `case` has.
fn check(case: &Case, seed: u64) -> Result<(), String> {
    let name = |e: oche::Error| format!("{}: {e}", case.name);
    let xs = case.draw(seed).map_err(name)?;
    for order in 1..=case.orders {
        let f = |tape: &mut Tape, xs: &[Var]| case.run(tape, xs);
        check::gradient(&f, &xs, order, STEP, TOLERANCE, seed).map_err(name)?;
    }
    Ok(())
}

/// c . y for a fixed random c of y's shape and type.
fn projected(tape: &mut Tape, y: Var, k: u64) -> Var {
    let c = normal(tape.shape(y), 9, k).unwrap().to_dtype(tape.dtype(y)).unwrap();
    let c = tape.constant(c);
    tape.apply(Dot, &[y, c]).unwrap()
}

/// A scalar of `y`, or of the gradient of that scalar if `order` is 2.
fn scalar_of(tape: &mut Tape, y: Var, xs: &[Var], order: u8) -> Var {
    let s = projected(tape, y, 0);
    if order < 2 {
        return s;
    }
    let grads = tape.grad_recorded(s, xs).unwrap();
    let terms: Vec<Var> = grads.iter().zip(1..).map(|(&g, k)| projected(tape, g, k)).collect();
    terms[1..].iter().fold(terms[0], |sum, &t| tape.apply(Add, &[sum, t]).unwrap())
}

fn leaves(tape: &mut Tape, xs: &[Tensor]) -> Vec<Var> {
    xs.iter().map(|x| tape.leaf(x.clone())).collect()
}

/// The result of `case`, and the gradient of a scalar of it in `dtype` (none for order 0).
fn evaluate(case: &Case, seed: u64, order: u8, dtype: DType) -> (Tensor, Vec<Tensor>) {
    let xs: Vec<Tensor> = case.draw(seed).unwrap().iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
    evaluate_at(case, &xs, order)
}

/// [`evaluate`] at given inputs.
fn evaluate_at(case: &Case, xs: &[Tensor], order: u8) -> (Tensor, Vec<Tensor>) {
    let mut tape = Tape::new();
    let vars = leaves(&mut tape, xs);
    let y = case.run(&mut tape, &vars).unwrap();
    let s = scalar_of(&mut tape, y, &vars, order);
    let wrt = if order == 0 { &[][..] } else { &vars };
    let grads = tape.grad(s, wrt).unwrap();
    (tape.value(y).clone(), grads)
}

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64().iter().map(|x| x.to_bits()).collect()
}

/// Largest difference relative to the largest element of `b`, or to 1 if that is smaller.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64(), b.to_f64());
    let scale = b.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    a.iter()
        .zip(&b)
        .fold(0.0, |m: f64, (a, b)| if (a - b).is_nan() { f64::INFINITY } else { m.max((a - b).abs()) })
        / scale
}
