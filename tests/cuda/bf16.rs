//! Images in `BF16` on the device against `F32` on the CPU.

use super::{device, distance, evaluate_at};
use oche::device::Device;
use oche::ops::cases::{Case, cases};
use oche::ops::cast::Cast;
use oche::tape::Tape;
use oche::tensor::{DType, Tensor};
use std::ops::RangeFrom;

/// Eight bits of a result are 4e-3; a gradient goes through some such roundings.
const TOLERANCE: f64 = 2e-2;

/// Beginnings of the names of cases, and which of their inputs are images.
const IMAGES: [(&str, Inputs); 17] = [
    ("channel_scale", Inputs::First(1)),
    ("channel_shift", Inputs::First(1)),
    ("channel_dot", Inputs::First(2)),
    ("channel_sum", Inputs::First(1)),
    ("channel_slice", Inputs::First(1)),
    ("channel_place", Inputs::First(1)),
    ("concat", Inputs::From(0..)),
    ("batch_norm (2, 3, 5, 3)", Inputs::First(1)),
    ("batch_norm (2, 5, 7, 16)", Inputs::First(1)),
    ("batch_norm with", Inputs::First(1)),
    ("batch_norm_grad", Inputs::From(0..)),
    ("normalise (", Inputs::First(1)),
    ("subsample", Inputs::First(1)),
    ("weighted_sum (", Inputs::From(1..)),
    ("scale_by_entry", Inputs::First(1)),
    ("weighted_sum_grad", Inputs::From(0..)),
    ("add 33", Inputs::First(2)),
];

enum Inputs {
    First(usize),
    From(RangeFrom<usize>),
}

impl Inputs {
    fn contain(&self, k: usize) -> bool {
        match self {
            Self::First(n) => k < *n,
            Self::From(range) => range.contains(&k),
        }
    }
}

/// What is wrong with the results and gradients of `case` when the inputs that are `images` are `BF16` on `device`. Both
/// sides have the same inputs, which `BF16` can hold.
fn wrong(case: &Case, images: &Inputs, device: &Device) -> Vec<String> {
    let drawn = case.draw(3).unwrap();
    let exact = |(k, x): (usize, &Tensor)| match images.contain(k) {
        true => x.to_dtype(DType::BF16).unwrap(),
        false => x.to_dtype(DType::F32).unwrap(),
    };
    let half: Vec<Tensor> = drawn.iter().enumerate().map(exact).collect();
    let single: Vec<Tensor> = half.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let order = case.orders;
    let (y, grads) = evaluate_at(case, &half, order, device);
    let (z, expected) = evaluate_at(case, &single, order, &Device::Cpu);
    for (g, x) in grads.iter().zip(&half) {
        assert_eq!(g.dtype(), x.dtype(), "{}: a gradient is of its input's type", case.name);
    }
    let pairs = std::iter::once((&y, &z)).chain(grads.iter().zip(&expected)).enumerate();
    let wrong = pairs.filter(|(_, (a, b))| distance(a, b) > TOLERANCE);
    wrong.map(|(k, (a, b))| format!("{}, result {k}: {:e}", case.name, distance(a, b))).collect()
}

#[test]
fn emulated_images_in_bf16_agree_with_single_precision() {
    let (device, _turn) = device();
    let (part, cases) = (std::env::var("OCHE_CASES").unwrap_or_default(), cases());
    let mut failed = vec![];
    for (name, images) in &IMAGES {
        let named: Vec<&Case> =
            cases.iter().filter(|case| !case.host_only && case.name.starts_with(name)).collect();
        assert!(!named.is_empty(), "no case is named {name}");
        let chosen = named.iter().filter(|case| case.name.contains(&part));
        failed.extend(chosen.flat_map(|case| wrong(case, images, &device)));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn emulated_casts_round_to_the_nearest() {
    let (device, _turn) = device();
    let x: Vec<f32> = (0..300).map(|i| (i as f32 - 150.0) * 1.003_7).chain([f32::INFINITY, 0.0]).collect();
    let x = Tensor::from_slice([x.len()], &x).unwrap();
    let mut tape = Tape::new();
    let var = tape.leaf(x.to_device(&device).unwrap());
    let half = tape.apply(Cast(DType::BF16), &[var]).unwrap();
    let back = tape.apply(Cast(DType::F32), &[half]).unwrap();
    let expected = x.to_dtype(DType::BF16).unwrap();
    assert_eq!(tape.value(half).to_host().unwrap().to_f64(), expected.to_f64());
    assert_eq!(tape.value(back).to_host().unwrap().to_f64(), expected.to_f64());
    assert_eq!(tape.dtype(back), DType::F32);
}
