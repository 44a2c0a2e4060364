//! Every case of the registry, on the device and on the CPU.

use super::{bits, device, distance, evaluate};
use oche::device::Device;
use oche::ops::cases::{Case, cases};

/// The cases whose name contains `OCHE_CASES`, if that is set: for work on one kernel.
pub fn chosen() -> Vec<Case> {
    let part = std::env::var("OCHE_CASES").unwrap_or_default();
    cases().into_iter().filter(|case| case.name.contains(&part)).collect()
}

/// Sums in another order: a few units of the last of 24 bits, and as much again for each order of derivative.
pub const TOLERANCE: [f64; 3] = [5e-6, 2e-5, 2e-4];

#[test]
fn emulated_cases_agree_with_the_cpu() {
    let (device, _turn) = device();
    let mut wrong = vec![];
    for case in chosen() {
        for order in 0..=case.orders {
            let (y, grads) = evaluate(&case, 3, order, &device);
            let (z, expected) = evaluate(&case, 3, order, &Device::Cpu);
            let tolerance = TOLERANCE[usize::from(order)];
            let pairs = std::iter::once((&y, &z)).chain(grads.iter().zip(&expected));
            for (k, (a, b)) in pairs.enumerate() {
                let error = distance(a, b);
                if error > tolerance {
                    wrong.push(format!("{}, order {order}, result {k}: {error:e}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn emulated_cases_give_the_same_bits_twice_and_in_any_order_of_threads() {
    let (device, _turn) = device();
    let all = |order| {
        oche_emulated_driver::order(order);
        let one = |case: &Case| {
            let (y, grads) = evaluate(case, 3, case.orders.min(1), &device);
            (case.name.clone(), bits(&y), grads.iter().map(bits).collect::<Vec<_>>())
        };
        chosen().iter().map(one).collect::<Vec<_>>()
    };
    let (ascending, descending) = (all(0), all(1));
    oche_emulated_driver::order(0);
    for (a, b) in ascending.into_iter().zip(descending) {
        assert!(a == b, "{} depends on the order of threads", a.0);
    }
}
