//! Every case of the registry, on the device and on the CPU.

use super::{bits, device, evaluate};
use oche::ops::cases::{Case, cases};
pub use oche::run::cases::TOLERANCE;
use oche::run::cases::compare;

/// The cases whose name contains `OCHE_CASES`, if that is set: for work on one kernel.
pub fn chosen() -> Vec<Case> {
    let part = std::env::var("OCHE_CASES").unwrap_or_default();
    cases().into_iter().filter(|case| !case.host_only && case.name.contains(&part)).collect()
}

#[test]
fn emulated_cases_agree_with_the_cpu() {
    let (device, _turn) = device();
    let compared = chosen().into_iter().map(|case| (compare(&case, &device), case));
    let wrong: Vec<String> =
        compared.filter_map(|(verdict, case)| Some(format!("{}: {}", case.name, verdict.wrong?))).collect();
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
