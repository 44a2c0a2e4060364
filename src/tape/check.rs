//! Numerical checks of derivatives, of order 1 and 2, along one random direction (so the cost does not grow).

use super::{Tape, Var};
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::ops::pointwise::{Add, Dot};
use crate::tensor::{DType, Tensor};
use rand_distr::{Distribution, StandardNormal};

/// A differentiable function of tensors.
pub type Function<'a> = dyn Fn(&mut Tape, &[Var]) -> Result<Var> + 'a;

/// A tensor of standard normal numbers drawn from `seed` and `k`.
pub fn normal(shape: impl Into<crate::tensor::Shape>, seed: u64, k: u64) -> Result<Tensor> {
    let shape = shape.into();
    let mut rng = stream(seed, Purpose::Check, k, 0);
    let values: Vec<f64> = (0..shape.count()).map(|_| StandardNormal.sample(&mut rng)).collect();
    Tensor::from_f64(shape, &values, DType::F64)
}

/// Compares the derivative along a random direction with five-point differences of step `h`.
///
/// Order 1 checks the gradient of c . f(x) for a random c; order 2 that of v . grad(c . f), the Hessian-vector product.
/// `xs` are `F64`. Returns (analytic, numerical); fails if they differ by more than `tolerance` relative to the
/// largest term of the sum.
pub fn gradient(
    f: &Function,
    xs: &[Tensor],
    order: u8,
    h: f64,
    tolerance: f64,
    seed: u64,
) -> Result<(f64, f64)> {
    let direction: Vec<Tensor> =
        xs.iter().enumerate().map(|(k, x)| normal(*x.shape(), seed, k as u64)).collect::<Result<_>>()?;
    let (_, grads) = scalar(f, xs, order, seed)?;
    let terms = grads
        .iter()
        .zip(&direction)
        .flat_map(|(g, d)| g.to_f64().into_iter().zip(d.to_f64()).map(|(a, b)| a * b).collect::<Vec<_>>());
    let (analytic, size) = terms.fold((0.0, 0.0), |(s, m): (f64, f64), t| (s + t, m.max(t.abs())));
    let at = |h: f64| -> Result<f64> { Ok(scalar(f, &moved(xs, &direction, h)?, order, seed)?.0) };
    // five points: of the three-point rule, batch norm at small variances would see the third derivative
    let numerical = (8.0 * (at(h)? - at(-h)?) - (at(2.0 * h)? - at(-2.0 * h)?)) / (12.0 * h);
    let agrees = (analytic - numerical).abs() <= tolerance * (1.0 + size + numerical.abs());
    if !agrees {
        // or either is NaN
        let what = format!("order {order}, seed {seed}: analytic {analytic:e}, numerical {numerical:e}");
        return Err(Error::Check { what });
    }
    Ok((analytic, numerical))
}

fn moved(xs: &[Tensor], direction: &[Tensor], h: f64) -> Result<Vec<Tensor>> {
    let step = |(x, d): (&Tensor, &Tensor)| {
        let values: Vec<f64> = x.to_f64().iter().zip(d.to_f64()).map(|(a, b)| a + h * b).collect();
        Tensor::from_f64(*x.shape(), &values, DType::F64)
    };
    xs.iter().zip(direction).map(step).collect()
}

/// The scalar that is checked, and its gradient.
fn scalar(f: &Function, xs: &[Tensor], order: u8, seed: u64) -> Result<(f64, Vec<Tensor>)> {
    let mut tape = Tape::new();
    let vars: Vec<Var> = xs.iter().map(|x| tape.leaf(x.clone())).collect();
    let y = f(&mut tape, &vars)?;
    let mut s = dot_with(&mut tape, y, seed, 1000)?;
    if order == 2 {
        let grads = tape.grad_recorded(s, &vars)?;
        let mut sum = None;
        for (k, g) in grads.into_iter().enumerate() {
            let term = dot_with(&mut tape, g, seed, 2000 + k as u64)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => tape.apply(Add, &[sum, term])?,
            });
        }
        s = sum.unwrap_or(s);
    }
    let value = tape.value(s).item();
    Ok((value, tape.grad(s, &vars)?))
}

fn dot_with(tape: &mut Tape, y: Var, seed: u64, k: u64) -> Result<Var> {
    let c = normal(tape.shape(y), seed, k)?;
    let c = tape.constant(c);
    tape.apply(Dot, &[y, c])
}
