//! The CUDA backend against the CPU, on the emulated driver, or on a real one if `OCHE_REQUIRE_CUDA` is set.
#![cfg(target_os = "linux")] // as the emulated driver

mod bf16;
mod cases;
#[path = "../common/mod.rs"]
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
use oche::run::cases::{self as comparison, Results, distance};
use oche::tensor::Tensor;
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

/// The result of `case`, and the gradients of order 1 to 2 of a scalar of it in the inputs, on `device`.
fn evaluate(case: &Case, seed: u64, order: u8, device: &Device) -> (Tensor, Vec<Tensor>) {
    results(case, comparison::evaluate(case, seed, order, device))
}

/// [`evaluate`] at given inputs.
fn evaluate_at(case: &Case, inputs: &[Tensor], order: u8, device: &Device) -> (Tensor, Vec<Tensor>) {
    results(case, comparison::evaluate_at(case, inputs, order, device))
}

fn results(case: &Case, evaluated: oche::Result<Results>) -> (Tensor, Vec<Tensor>) {
    let results = evaluated.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    (results.value, results.gradients)
}

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64().iter().map(|x| x.to_bits()).collect()
}
