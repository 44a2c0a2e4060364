//! What the engine promises of every gradient: pruning, freeing, recording, dry tapes, inference tapes.

use super::common::small;
use super::{bits, distance, leaves, projected, scalar_of};
use oche::nn::{Context, NormMode, RunningStats};
use oche::ops::cases::{cases, mixed};
use oche::ops::pointwise::{Add, Mul, Relu, Scale};
use oche::search::{Pass, Want};
use oche::space::Supernet;
use oche::space::cnn::CnnSupernet;
use oche::tape::check::normal;
use oche::tape::{ParamSet, Tape, Var};
use oche::tensor::{DType, Tensor};
use std::sync::Arc;

fn numbers(n: usize, k: u64) -> Tensor {
    normal([n], 6, k).unwrap()
}

#[test]
fn only_what_leads_to_the_wanted_inputs_is_differentiated() {
    let case = mixed::mixed_operation([2, 4, 4, 2], 2);
    let xs = case.draw(1).unwrap();
    let launches = |wrt: &[usize]| {
        let mut tape = Tape::new();
        let vars = leaves(&mut tape, &xs);
        let y = case.run(&mut tape, &vars).unwrap();
        let s = projected(&mut tape, y, 0);
        let forward = tape.counters().launches;
        let wrt: Vec<Var> = wrt.iter().map(|&k| vars[k]).collect();
        tape.into_grad(s, &wrt).unwrap().1.launches - forward
    };
    let [nothing, alpha, weights, both] = [&[][..], &[0], &[1, 2], &[0, 1, 2]].map(launches);
    // alpha: the inner product, the sum's gradient in its weights, softmax; no candidate is looked at
    assert_eq!((nothing, alpha), (0, 3));
    assert!(weights > alpha && both > weights && both <= alpha + weights, "{alpha} {weights} {both}");
}

#[test]
fn a_supernets_alphas_alone_need_fewer_operations_than_with_weights() {
    let net = CnnSupernet::new(&small(2, 2)).unwrap();
    let plan =
        |weights, alphas| Pass::plan(&net, 2, [8, 8, 3], Want { weights, alphas }, DType::F32).unwrap();
    let [(none, _), (alphas, _), (weights, _), (both, peak)] =
        [plan(false, false), plan(false, true), plan(true, false), plan(true, true)];
    assert!(none.launches < alphas.launches && alphas.launches < weights.launches);
    assert!(weights.launches < both.launches && weights.cost.flops < both.cost.flops);
    assert!(alphas.cost.macs < weights.cost.macs && peak > 0);
}

#[test]
fn the_four_ways_to_a_gradient_agree() {
    for case in cases().iter().filter(|c| c.orders > 0) {
        let xs = case.draw(5).unwrap();
        let begin = || {
            let mut tape = Tape::new();
            let vars = leaves(&mut tape, &xs);
            let y = case.run(&mut tape, &vars).unwrap();
            let s = scalar_of(&mut tape, y, &vars, 1);
            (tape, vars, s)
        };
        let (mut tape, vars, s) = begin();
        let kept = tape.grad(s, &vars).unwrap();
        let again = tape.grad(s, &vars).unwrap();
        let recorded = tape.grad_recorded(s, &vars).unwrap();
        let (spent, vars, s) = begin();
        let spent = spent.into_grad(s, &vars).unwrap().0;
        for k in 0..xs.len() {
            assert_eq!(bits(&kept[k]), bits(&again[k]), "{}: the tape is not as it was", case.name);
            assert_eq!(bits(&kept[k]), bits(&spent[k]), "{}: into_grad", case.name);
            // recording adds with an operation of its own where the other accumulates: rounding may differ
            let d = distance(tape.value(recorded[k]), &kept[k]);
            assert!(d < 1e-13, "{}: recorded differs by {d}", case.name);
        }
    }
}

#[test]
fn a_spent_tape_needs_less_memory() {
    // y = x w_1 w_2 ...: the gradients in the w are as large as the values that they make superfluous
    let peak = |spend: bool| {
        let mut tape = Tape::dry();
        let meter = tape.meter().unwrap().clone();
        let phantom = || Tensor::phantom([1 << 16], DType::F64, &Arc::default());
        let weights: Vec<Var> = (0..16).map(|_| tape.leaf(phantom())).collect();
        let x = tape.constant(phantom());
        let y = weights.iter().fold(x, |y, &w| tape.apply(Mul, &[y, w]).unwrap());
        let s = tape.apply(oche::ops::pointwise::Dot, &[y, x]).unwrap();
        let grads = match spend {
            true => tape.into_grad(s, &weights).unwrap().0,
            false => tape.grad(s, &weights).unwrap(),
        };
        drop(grads);
        meter.peak() >> 19 // in tensors
    };
    let (spent, kept) = (peak(true), peak(false));
    assert!(kept >= 32 && spent <= 20, "{spent} of {kept} tensors");
}

#[test]
fn what_the_result_does_not_depend_on_has_gradient_zero() {
    let mut tape = Tape::new();
    let [x, other] = [0, 1].map(|k| tape.leaf(numbers(5, k)));
    let s = projected(&mut tape, x, 0);
    let later = tape.apply(Relu, &[other]).unwrap();
    for grads in [tape.grad(s, &[other, x, later]).unwrap(), {
        let recorded = tape.grad_recorded(s, &[other, x, later]).unwrap();
        recorded.into_iter().map(|g| tape.value(g).clone()).collect()
    }] {
        assert_eq!(grads[0].to_f64(), [0.0; 5]);
        assert_eq!(grads[2].to_f64(), [0.0; 5]);
        assert!(grads[1].to_f64().iter().all(|g| *g != 0.0));
    }
    let constant = tape.constant(Tensor::scalar(1.0, DType::F64));
    assert_eq!(tape.grad(constant, &[x]).unwrap()[0].to_f64(), [0.0; 5]);
    assert_eq!(tape.grad(s, &[s]).unwrap()[0].item(), 1.0);
}

#[test]
fn gradients_in_the_middle_of_a_tape_and_in_one_input_twice() {
    let mut tape = Tape::new();
    let x = tape.leaf(numbers(4, 0));
    let y = tape.apply(Scale(3.0), &[x]).unwrap();
    let z = tape.apply(Add, &[y, y]).unwrap();
    let s = projected(&mut tape, z, 0);
    let grads = tape.grad(s, &[x, y, x, z]).unwrap();
    let of = |k: usize| grads[k].to_f64();
    let c = of(3);
    assert_eq!(of(1), c.iter().map(|c| 2.0 * c).collect::<Vec<_>>());
    assert_eq!(of(0), c.iter().map(|c| 3.0 * (2.0 * c)).collect::<Vec<_>>());
    assert_eq!(of(0), of(2));
}

#[test]
fn only_a_single_number_can_be_differentiated() {
    let mut tape = Tape::new();
    let x = tape.leaf(numbers(3, 0));
    let message = tape.grad(x, &[x]).unwrap_err().to_string();
    assert_eq!(message, "grad: the result must be one number, not (3)");
    assert!(tape.grad_recorded(x, &[x]).is_err());
    assert!(tape.into_grad(x, &[x]).is_err());
}

#[test]
fn an_order_that_does_not_exist_is_an_error() {
    let case = oche::ops::cases::channel::batch_norm([2, 3, 3, 2]);
    let mut tape = Tape::new();
    let vars = leaves(&mut tape, &case.draw(1).unwrap());
    let y = case.run(&mut tape, &vars).unwrap();
    let s = scalar_of(&mut tape, y, &vars, 2);
    let third = scalar_of(&mut tape, s, &vars, 2);
    let message = tape.grad(third, &vars).unwrap_err().to_string();
    assert!(message.contains("no derivative of this order"), "{message}");
}

/// Logits of a small supernet by running statistics, on a given tape.
fn logits(mut tape: Tape, images: Tensor) -> (Tape, Var) {
    let net = CnnSupernet::new(&small(8, 2)).unwrap();
    let dry = tape.is_dry();
    let params = match dry {
        true => ParamSet::phantom(net.layout(), DType::F64),
        false => ParamSet::init(net.layout(), 3, DType::F64).unwrap(),
    };
    let weights = params.bind(&mut tape, true);
    let mix: Vec<Var> = (net.kinds().iter().zip(0..))
        .map(|(kind, k)| tape.leaf(normal(kind.shape(), 1, k).unwrap()))
        .collect();
    let images = tape.constant(images);
    let mut running = RunningStats::new(net.norms(), DType::F64);
    let mut cx = Context {
        tape: &mut tape,
        weights: &weights,
        mode: NormMode::Running,
        fused: false,
        running: &mut running,
    };
    let y = net.forward(&mut cx, images, &mix).unwrap();
    (tape, y)
}

#[test]
fn an_inference_tape_frees_without_changing_the_result() {
    let images = normal([2, 8, 8, 3], 1, 9).unwrap();
    let (tape, y) = logits(Tape::new(), images.clone());
    let (freed, z) = logits(Tape::inference(), images.clone());
    assert_eq!(bits(tape.value(y)), bits(freed.value(z)));
    let phantom = || Tensor::phantom(*images.shape(), DType::F64, &Arc::default());
    let peak = |tape| logits(tape, phantom()).0.meter().map_or(0, |m| m.peak());
    let (kept, freed) = (peak(Tape::dry()), peak(Tape::dry_inference()));
    assert!(freed < kept / 3, "{freed} of {kept} bytes");
}
