//! Segments: whatever is differentiated through one, how often, and with which inputs in common.

use super::bits;
use oche::Result;
use oche::ops::pointwise::{Add, Dot, Mul};
use oche::tape::check::{gradient, normal};
use oche::tape::{Segment, Tape, Var};

/// (a, b) -> a b b + a
#[derive(Clone, Copy, Debug)]
struct Cubic;

impl Segment for Cubic {
    fn run(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        let ab = tape.apply(Mul, &[ins[0], ins[1]])?;
        let abb = tape.apply(Mul, &[ab, ins[1]])?;
        tape.apply(Add, &[abb, ins[0]])
    }
}

/// Two of them in a row and a third one of one input twice, all inputs in common with what comes before and after.
fn chain(tape: &mut Tape, xs: &[Var], again: bool) -> Result<Var> {
    let cubic = |tape: &mut Tape, ins: &[Var]| match again {
        true => tape.segment(Cubic, ins, |tape, ins| Cubic.run(tape, ins)),
        false => Cubic.run(tape, ins),
    };
    let before = tape.apply(Mul, &[xs[0], xs[0]])?;
    let first = cubic(tape, &[before, xs[1]])?;
    let second = cubic(tape, &[xs[1], first])?;
    let third = cubic(tape, &[second, second])?;
    let sum = tape.apply(Add, &[third, xs[0]])?;
    tape.apply(Mul, &[sum, xs[1]])
}

#[test]
fn first_and_second_derivatives_go_through_segments() {
    for seed in 0..4 {
        let xs = [0, 1].map(|k| normal([3], seed, k).unwrap());
        for order in [1, 2] {
            gradient(&|tape, xs| chain(tape, xs, true), &xs, order, 1e-3, 1e-6, seed).unwrap();
        }
    }
}

#[test]
fn contributions_arrive_in_the_order_of_a_recorded_segment() {
    for seed in 0..20 {
        let xs = [0, 1].map(|k| normal([3], seed, k).unwrap());
        for wanted in [&[0][..], &[1], &[0, 1]] {
            let run = |again: bool| {
                let mut tape = Tape::new();
                let vars: Vec<Var> = xs.iter().map(|x| tape.leaf(x.clone())).collect();
                let y = chain(&mut tape, &vars, again).unwrap();
                let y = tape.apply(Dot, &[y, vars[0]]).unwrap();
                let wrt: Vec<Var> = wanted.iter().map(|&k| vars[k]).collect();
                let twice = [tape.grad(y, &wrt).unwrap(), tape.grad(y, &wrt).unwrap()];
                let spent = tape.into_grad(y, &wrt).unwrap().0;
                twice.into_iter().chain([spent]).flatten().map(|g| bits(&g)).collect::<Vec<_>>()
            };
            assert_eq!(run(true), run(false), "seed {seed}, {wanted:?}");
        }
    }
}

#[test]
fn nothing_but_the_result_is_kept() {
    let live = |again: bool| {
        let mut tape = Tape::dry();
        let xs = [0, 1].map(|k| tape.leaf(normal([1 << 10], 1, k).unwrap()));
        let y = match again {
            true => tape.segment(Cubic, &xs, |tape, ins| Cubic.run(tape, ins)),
            false => Cubic.run(&mut tape, &xs),
        };
        y.unwrap();
        tape.meter().map(|meter| [meter.live(), meter.peak()].map(|bytes| bytes >> 13)).unwrap()
    };
    // three results kept; or one, and never more than two at once
    assert_eq!((live(false), live(true)), ([3, 3], [1, 2]));
}
