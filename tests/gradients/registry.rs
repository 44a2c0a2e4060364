//! What holds of every case of the registry.

use super::{bits, check, distance, evaluate, leaves, scalar_of};
use oche::ops::cases::{Case, cases, search_cases};
use oche::ops::pointwise::Add;
use oche::tape::check::normal;
use oche::tape::{Out, Tape};
use oche::tensor::{DType, Shape, Tensor};

#[test]
fn the_registry_names_each_case_once() {
    let mut names: Vec<String> = cases().into_iter().map(|c| c.name).collect();
    let count = names.len();
    assert!(count > 100, "{count} cases");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn derivatives_of_first_and_second_order() {
    let failed: Vec<String> = cases().iter().filter_map(|case| check(case, 1).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The case's operation run into a buffer of `fill`, in `F64`; none for operations that save something.
fn run_into(case: &Case, accumulate: bool, fill: &Tensor) -> Option<Tensor> {
    let op = case.op.clone()?;
    let xs = case.draw(1).unwrap();
    let shapes: Vec<Shape> = xs.iter().map(|x| *x.shape()).collect();
    if !op.saves(&shapes).is_empty() {
        return None;
    }
    let mut value = fill.clone();
    value.make_unique().unwrap();
    let mut out = Out { value: &mut value, saved: &mut [], accumulate };
    op.run(&xs.iter().collect::<Vec<_>>(), &mut out).unwrap();
    Some(value)
}

#[test]
fn a_run_writes_all_of_the_declared_shape() {
    for case in cases() {
        let Some(op) = case.op.clone() else { continue };
        let shapes: Vec<Shape> = case.inputs.iter().map(|i| i.shape).collect();
        let shape = op.shape(&shapes).unwrap();
        let (y, _) = evaluate(&case, 1, 0, DType::F64);
        assert_eq!(*y.shape(), shape, "{}", case.name);
        let nan = Tensor::from_slice(shape, &vec![f64::NAN; shape.count()]).unwrap();
        if let Some(value) = run_into(&case, false, &nan) {
            assert!(value.is_finite(), "{} leaves elements unwritten or reads old ones", case.name);
            assert_eq!(bits(&value), bits(&y), "{}", case.name);
        }
    }
}

#[test]
fn accumulating_adds_what_overwriting_writes() {
    for case in cases() {
        let (y, _) = evaluate(&case, 1, 0, DType::F64);
        let old = normal(*y.shape(), 7, 0).unwrap();
        let Some(sum) = run_into(&case, true, &old) else { continue };
        let expected: Vec<f64> = y.to_f64().iter().zip(old.to_f64()).map(|(a, b)| a + b).collect();
        let expected = Tensor::from_slice(*y.shape(), &expected).unwrap();
        assert!(distance(&sum, &expected) < 1e-13, "{}: {}", case.name, distance(&sum, &expected));
    }
}

/// f(x) + f(x) at the same leaves: every gradient is sent twice, so the second one accumulates onto the first.
#[test]
fn an_input_used_twice_has_twice_the_gradient() {
    // the registry is built twice so that one copy can move into the doubled function
    for (case, same) in cases().into_iter().zip(cases()) {
        let doubled = Case::of(case.name.clone(), case.inputs.clone(), move |tape, xs| {
            let (a, b) = (same.run(tape, xs)?, same.run(tape, xs)?);
            tape.apply(Add, &[a, b])
        });
        for order in 1..=case.orders {
            let once = evaluate(&case, 2, order, DType::F64).1;
            for (a, b) in evaluate(&doubled, 2, order, DType::F64).1.iter().zip(&once) {
                let twice: Vec<f64> = b.to_f64().iter().map(|b| 2.0 * b).collect();
                let twice = Tensor::from_slice(*b.shape(), &twice).unwrap();
                let d = distance(a, &twice);
                assert!(d < 1e-12, "{}, order {order}: {d}", case.name);
            }
        }
    }
}

/// A float has 24 bits (6e-8); sums of some hundred terms and the divisions of batch norm lose a few of them.
#[test]
fn single_precision_agrees_with_double() {
    for case in cases() {
        for order in 0..=case.orders {
            let (y64, g64) = evaluate(&case, 3, order, DType::F64);
            let (y32, g32) = evaluate(&case, 3, order, DType::F32);
            assert_eq!(y32.dtype(), DType::F32, "{}", case.name);
            assert!(distance(&y32, &y64) < 5e-6, "{}: {}", case.name, distance(&y32, &y64));
            // each order of derivative multiplies by another factor of batch norm's 1/sqrt(variance)
            let tolerance = [0.0, 2e-5, 2e-4][order as usize];
            for (a, b) in g32.iter().zip(&g64).filter(|_| order > 0) {
                let d = distance(a, b);
                assert!(d < tolerance, "{}, order {order}: {d}", case.name);
            }
        }
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let all: Vec<Case> = cases().into_iter().chain(search_cases(3)).collect();
            let result = |case: &Case| {
                let (y, grads) = evaluate(case, 4, case.orders.min(1), DType::F32);
                (case.name.clone(), bits(&y), grads.iter().map(bits).collect::<Vec<_>>())
            };
            all.iter().map(result).collect::<Vec<_>>()
        })
    };
    for (one, two) in run(1).into_iter().zip(run(2)) {
        assert!(one == two, "{} depends on the number of threads", one.0);
    }
}

#[test]
fn a_dry_tape_counts_what_a_real_one_runs() {
    for case in cases().iter().filter(|c| c.orders > 0) {
        let count = |mut tape: Tape, xs: &[Tensor]| {
            let vars = leaves(&mut tape, xs);
            let y = case.run(&mut tape, &vars).unwrap();
            let s = scalar_of(&mut tape, y, &vars, case.orders);
            tape.into_grad(s, &vars).unwrap().1
        };
        let xs = case.draw(1).unwrap();
        let meter = Default::default();
        let phantoms: Vec<Tensor> =
            xs.iter().map(|x| Tensor::phantom(*x.shape(), x.dtype(), &meter)).collect();
        assert_eq!(count(Tape::new(), &xs), count(Tape::dry(), &phantoms), "{}", case.name);
    }
}
