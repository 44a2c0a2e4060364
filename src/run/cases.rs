//! Comparison of a device with the CPU: every operation's values and derivatives, and the same bits each time.

use super::caught::caught;
use crate::device::Device;
use crate::error::Result;
use crate::ops::cases::Case;
use crate::ops::pointwise::{Add, Dot};
use crate::tape::check::normal;
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Tensor};

/// Largest differences for each order of derivative: sums run in another order, which is a few units of the last of 24
/// bits, and as much again for each order.
pub const TOLERANCE: [f64; 3] = [5e-6, 2e-5, 2e-4];

/// What the inputs are drawn from.
const SEED: u64 = 3;

/// The value of a case, and gradients in its inputs.
#[derive(Clone, Debug)]
pub struct Results {
    pub value: Tensor,
    pub gradients: Vec<Tensor>,
}

impl Results {
    /// The value first.
    pub fn all(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.value).chain(&self.gradients)
    }
    /// What two computations must agree in to be the same.
    pub fn bits(&self) -> Vec<u64> {
        self.all().flat_map(|t| t.to_f64()).map(f64::to_bits).collect()
    }
}

/// What a comparison of one case gave.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Largest difference of each order of derivative that the case has.
    pub errors: Vec<f64>,
    /// What is wrong, in one sentence.
    pub wrong: Option<String>,
}

/// Compares `case` on `device`, in `F32`, with the CPU, and with itself.
pub fn compare(case: &Case, device: &Device) -> Verdict {
    let mut verdict = Verdict { errors: vec![], wrong: None };
    for order in 0..=case.orders {
        match caught(|| differences(case, order, device)) {
            Err(error) => {
                verdict.wrong.get_or_insert(format!("order {order}: {error}"));
            }
            Ok((errors, same)) => {
                let worst = errors.iter().copied().fold(0.0, f64::max);
                let tolerance = TOLERANCE[usize::from(order)];
                if worst > tolerance {
                    let result = errors.iter().position(|&e| e == worst).unwrap_or(0);
                    let what = if result == 0 { "value".into() } else { format!("gradient {}", result - 1) };
                    let text =
                        format!("order {order}: {what} is off by {worst:.1e}, allowed are {tolerance:.0e}");
                    verdict.wrong.get_or_insert(text);
                } else if !same {
                    verdict.wrong.get_or_insert(format!("order {order}: other bits the second time"));
                }
                verdict.errors.push(worst);
            }
        }
    }
    verdict
}

/// The distance of each result from the CPU's, and whether a second run gives the same bits.
fn differences(case: &Case, order: u8, device: &Device) -> Result<(Vec<f64>, bool)> {
    let run = |device| evaluate(case, SEED, order, device);
    let (here, again, expected) = (run(device)?, run(device)?, run(&Device::Cpu)?);
    let errors = here.all().zip(expected.all()).map(|(a, b)| distance(a, b)).collect();
    Ok((errors, here.bits() == again.bits()))
}

/// The value of `case` in `F32` on `device`, and the gradients of order `order`, 1 or 2, of a scalar of it.
pub fn evaluate(case: &Case, seed: u64, order: u8, device: &Device) -> Result<Results> {
    let inputs: Result<Vec<Tensor>> = case.draw(seed)?.iter().map(|x| x.to_dtype(DType::F32)).collect();
    evaluate_at(case, &inputs?, order, device)
}

/// [`evaluate`] at given inputs, wherever they are.
pub fn evaluate_at(case: &Case, inputs: &[Tensor], order: u8, device: &Device) -> Result<Results> {
    let mut tape = Tape::new();
    let inputs = inputs.iter().map(|x| x.to_device(device)).collect::<Result<Vec<_>>>()?;
    let vars: Vec<Var> = inputs.into_iter().map(|x| tape.leaf(x)).collect();
    let y = case.run(&mut tape, &vars)?;
    let value = tape.value(y).to_host()?;
    if order == 0 {
        return Ok(Results { value, gradients: vec![] });
    }
    let mut s = projected(&mut tape, y, 0)?;
    if order == 2 {
        let gradients = tape.grad_recorded(s, &vars)?;
        let mut sum = None;
        for (&g, k) in gradients.iter().zip(1..) {
            let term = projected(&mut tape, g, k)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => tape.apply(Add, &[sum, term])?,
            });
        }
        s = sum.unwrap_or(s);
    }
    let gradients = tape.grad(s, &vars)?.iter().map(Tensor::to_host).collect::<Result<_>>()?;
    Ok(Results { value, gradients })
}

/// c . y for a fixed random c of y's shape and type.
pub fn projected(tape: &mut Tape, y: Var, k: u64) -> Result<Var> {
    let c = normal(tape.shape(y), 9, k)?.to_dtype(tape.dtype(y))?.to_device(&tape.value(y).device())?;
    let c = tape.constant(c);
    tape.apply(Dot, &[y, c])
}

/// Largest difference relative to the largest element of `b`, or to 1 if that is smaller.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    if a.shape() != b.shape() {
        return f64::INFINITY;
    }
    let (a, b) = (a.to_f64(), b.to_f64());
    let scale = b.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    let worse =
        |m: f64, (a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { m.max((a - b).abs()) };
    a.iter().zip(&b).fold(0.0, worse) / scale
}
