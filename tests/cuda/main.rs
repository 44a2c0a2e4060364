//! The CUDA backend against the CPU, on the emulated driver, or on a real one if `OCHE_REQUIRE_CUDA` is set.

mod bf16;
mod cases;
#[path = "../common/mod.rs"]
#[allow(dead_code)]
mod common;
mod data;
mod device;
mod fused;
mod golden;
mod image;
mod search;
mod sizes;
mod supernet;
mod train;

use oche::device::Device;
use oche::device::cuda::{Cuda, Mode};
use oche::ops::cases::Case;
use oche::ops::pointwise::Dot;
use oche::tape::check::normal;
use oche::tape::{Tape, Var};
use oche::tensor::{DType, Tensor};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// The device, one test at a time: the emulated driver runs on the thread that calls it.
fn device() -> (Device, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let open = || {
        if std::env::var_os("OCHE_REQUIRE_CUDA").is_none() {
            oche_emulated_driver::install();
        }
        Device::Cuda(Cuda::open(0, Mode::Separate).unwrap())
    };
    (DEVICE.get_or_init(open).clone(), turn)
}

/// c . y for a fixed random c of y's shape and type.
fn projected(tape: &mut Tape, y: Var, k: u64) -> Var {
    let c = normal(tape.shape(y), 9, k).unwrap().to_dtype(tape.dtype(y)).unwrap();
    let c = c.to_device(&tape.value(y).device()).unwrap();
    let c = tape.constant(c);
    tape.apply(Dot, &[y, c]).unwrap()
}

/// The result of `case`, and the gradients of order 1 to 2 of a scalar of it in the inputs, on `device`.
fn evaluate(case: &Case, seed: u64, order: u8, device: &Device) -> (Tensor, Vec<Tensor>) {
    let drawn = case.draw(seed).unwrap();
    let inputs: Vec<Tensor> = drawn.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    evaluate_at(case, &inputs, order, device)
}

/// [`evaluate`] at given inputs.
fn evaluate_at(case: &Case, inputs: &[Tensor], order: u8, device: &Device) -> (Tensor, Vec<Tensor>) {
    let mut tape = Tape::new();
    let vars: Vec<Var> = inputs.iter().map(|x| tape.leaf(x.to_device(device).unwrap())).collect();
    let y = case.run(&mut tape, &vars).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let value = tape.value(y).to_host().unwrap();
    if order == 0 {
        return (value, vec![]);
    }
    let mut s = projected(&mut tape, y, 0);
    if order == 2 {
        let grads = tape.grad_recorded(s, &vars).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let terms: Vec<Var> = grads.iter().zip(1..).map(|(&g, k)| projected(&mut tape, g, k)).collect();
        let add = |sum, t: &Var| tape.apply(oche::ops::pointwise::Add, &[sum, *t]).unwrap();
        s = terms[1..].iter().fold(terms[0], add);
    }
    let grads = tape.grad(s, &vars).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    (value, grads.iter().map(|g| g.to_host().unwrap()).collect())
}

/// Largest difference relative to the largest element of `b`, or to 1 if that is smaller.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64(), b.to_f64());
    let scale = b.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    let worse =
        |m: f64, (a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { m.max((a - b).abs()) };
    a.iter().zip(&b).fold(0.0, worse) / scale
}

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64().iter().map(|x| x.to_bits()).collect()
}
