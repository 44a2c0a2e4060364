//! The architecture gradient: against closed forms, against numerical differentiation through the inner step, and
//! against PyTorch's numbers.

#[path = "../common/mod.rs"]
mod common;
mod golden;
mod supernet;
mod toy;

use oche::tensor::Tensor;

/// A directional derivative, and whether it agrees with what is claimed of it.
fn agrees(claimed: f64, numerical: f64, tolerance: f64) -> Result<(), String> {
    let relative = (claimed - numerical).abs() / numerical.abs().max(1e-3);
    match relative <= tolerance {
        true => Ok(()),
        false => Err(format!("{claimed:e} claimed, {numerical:e} by differences: off by {relative:e}")),
    }
}

/// Inner product over several tensors.
fn dot(a: &[Tensor], b: &[Tensor]) -> f64 {
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.to_f64().into_iter().zip(b.to_f64()));
    pairs.map(|(a, b)| a * b).sum()
}

/// a + c b, tensor by tensor.
fn moved(a: &[Tensor], c: f64, b: &[Tensor]) -> Vec<Tensor> {
    let step = |(a, b): (&Tensor, &Tensor)| {
        let values: Vec<f64> = a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| a + c * b).collect();
        Tensor::from_slice(*a.shape(), &values).unwrap()
    };
    a.iter().zip(b).map(step).collect()
}

/// |a - b| / |b| in the Euclidean norm.
fn relative(a: &[Tensor], b: &[Tensor]) -> f64 {
    let d = moved(a, -1.0, b);
    (dot(&d, &d) / dot(b, b)).sqrt()
}

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64().iter().map(|x| x.to_bits()).collect()
}
