//! Dual numbers through every operation: values as without tangents, tangents as derivatives.

use super::{STEP, TOLERANCE, bits, distance, evaluate_at, leaves, projected, scalar_of};
use oche::device::simd::{Isa, isa};
use oche::ops::cases::{Case, cases, search_cases};
use oche::ops::pointwise::Add;
use oche::tape::Tape;
use oche::tape::check::normal;
use oche::tensor::{DType, Tensor};

/// Where the inputs of `case` move to.
fn directions(case: &Case) -> Vec<Tensor> {
    case.inputs.iter().zip(7000..).map(|(input, k)| normal(input.shape, 1, k).unwrap()).collect()
}

/// Inputs of `case` of type `dtype`, moving.
fn moving(case: &Case, dtype: DType) -> Vec<Tensor> {
    let cast = |t: &Tensor| t.to_dtype(dtype.plain()).unwrap();
    let xs = case.draw(1).unwrap();
    xs.iter().zip(directions(case)).map(|(x, d)| Tensor::dual(&cast(x), &cast(&d)).unwrap()).collect()
}

#[test]
fn values_have_the_bits_of_plain_numbers() {
    for case in cases().into_iter().chain(search_cases(3)) {
        let order = case.orders.min(1);
        let xs: Vec<Tensor> = moving(&case, DType::D32);
        let plain: Vec<Tensor> = xs.iter().map(|x| x.parts()[0].clone()).collect();
        let ((y, grads), (z, expected)) = (evaluate_at(&case, &xs, order), evaluate_at(&case, &plain, order));
        for (a, b) in std::iter::once((&y, &z)).chain(grads.iter().zip(&expected)) {
            assert_eq!(a.dtype(), DType::D32, "{}", case.name);
            let value = &a.parts()[0];
            // without vector instructions duals are summed one by one, other numbers several side by side
            let same = if isa() == Isa::Plain { distance(value, b) < 1e-5 } else { bits(value) == bits(b) };
            assert!(same, "{}", case.name);
        }
    }
}

#[test]
fn tangents_are_derivatives() {
    for case in cases() {
        let scalar = |xs: &[Tensor]| {
            let mut tape = Tape::new();
            let vars = leaves(&mut tape, xs);
            let y = case.run(&mut tape, &vars).unwrap();
            let s = projected(&mut tape, y, 0);
            tape.value(s).clone()
        };
        let (xs, directions) = (case.draw(1).unwrap(), directions(&case));
        let at = |h: f64| {
            let moved = |(x, d): (&Tensor, &Tensor)| {
                let values: Vec<f64> = x.to_f64().iter().zip(d.to_f64()).map(|(x, d)| x + h * d).collect();
                Tensor::from_slice(*x.shape(), &values).unwrap()
            };
            scalar(&xs.iter().zip(&directions).map(moved).collect::<Vec<_>>()).item()
        };
        let numerical = (8.0 * (at(STEP) - at(-STEP)) - (at(2.0 * STEP) - at(-2.0 * STEP))) / (12.0 * STEP);
        let tangent = scalar(&moving(&case, DType::D64)).parts()[1].item();
        let error = (tangent - numerical).abs() / (1.0 + numerical.abs());
        // sums of some hundred terms, of which the difference sees the rounding
        assert!(error < 10.0 * TOLERANCE, "{}: {tangent:e}, numerical {numerical:e}", case.name);
    }
}

/// The gradient's tangent is the Hessian times the direction, which the recorded pullback gives too.
#[test]
fn tangents_of_gradients_are_second_derivatives() {
    for case in cases().iter().filter(|c| c.orders == 2) {
        let mut tape = Tape::new();
        let vars = leaves(&mut tape, &case.draw(1).unwrap());
        let y = case.run(&mut tape, &vars).unwrap();
        let s = scalar_of(&mut tape, y, &vars, 1);
        let grads = tape.grad_recorded(s, &vars).unwrap();
        let mut slope = None;
        for (g, d) in grads.into_iter().zip(directions(case)) {
            let d = tape.constant(d.reshape(tape.shape(g)));
            let term = tape.apply(oche::ops::pointwise::Dot, &[g, d]).unwrap();
            slope = Some(slope.map_or(term, |sum| tape.apply(Add, &[sum, term]).unwrap()));
        }
        let expected = tape.grad(slope.unwrap(), &vars).unwrap();
        let (_, grads) = evaluate_at(case, &moving(case, DType::D64), 1);
        for (a, b) in grads.iter().zip(&expected) {
            let error = distance(&a.parts()[1], b);
            assert!(error < 1e-11, "{}: {error:e}", case.name);
        }
    }
}
