//! What the registry's small cases do not reach: many blocks, all paths of a kernel, results that are added to.

use super::cases::{TOLERANCE, chosen};
use super::{bits, device, distance, evaluate};
use oche::device::Device;
use oche::ops::batch_norm::{NormaliseGrad, fixed_statistics};
use oche::ops::cases::{Case, Kind, any, channel, mixed, of, pointwise};
use oche::ops::channel::{ChannelBroadcast, ChannelDot, ChannelScale, ChannelShift, ChannelSum};
use oche::ops::concat::{ChannelPlace, ChannelSlice};
use oche::ops::cross_entropy::{CrossEntropy, OneHot};
use oche::ops::weighted_sum::{ScaleByEntry, WeightGrad};
use oche::tape::check::normal;
use oche::tape::{Out, Tape};
use oche::tensor::{DType, Shape, Tensor};

/// Sizes at which kernels take another way than at small ones.
fn cases() -> Vec<Case> {
    let mut all = vec![];
    // several blocks with vectors and without, a last one that is shorter, several blocks of channels
    for x in [[3, 16, 16, 16], [2, 31, 17, 12], [5, 9, 11, 7], [2, 1, 3, 300], [2, 1, 2, 1100]] {
        let (image, c) = (any(x), any([x[3]]));
        all.extend([channel::batch_norm(x), channel::normalise(x)]);
        all.push(Case::op(format!("channel_scale {x:?}"), ChannelScale, [image, c]));
        all.push(Case::op(format!("channel_shift {x:?}"), ChannelShift, [image, c]));
        all.push(Case::op(format!("channel_dot {x:?}"), ChannelDot, [image, image]));
        all.push(Case::op(format!("channel_sum {x:?}"), ChannelSum, [image]));
        all.push(Case::op(format!("channel_broadcast {x:?}"), ChannelBroadcast(x.into()), [c]));
        let variance = of([x[3]], Kind::Positive);
        all.push(Case::op(format!("normalise_grad {x:?}"), NormaliseGrad, [image, variance]).orders(0));
    }
    // as vectors, as single channels, in more than one launch
    all.extend([channel::concat([2, 3, 5], &[4, 8, 16]), channel::concat([2, 3, 5], &[4, 8, 3])]);
    all.push(channel::concat([1, 2, 2], &[2; 37]));
    all.push(Case::op("channel_slice by 4", ChannelSlice { start: 4, count: 8 }, [any([2, 3, 5, 16])]));
    all.push(Case::op("channel_slice at 2", ChannelSlice { start: 2, count: 8 }, [any([2, 3, 5, 16])]));
    all.push(Case::op("channel_place", ChannelPlace { start: 4, channels: 16 }, [any([2, 3, 5, 8])]));
    all.push(mixed::weighted_sum([10, 14], (0..140).rev(), [2, 3, 3, 2])); // three launches
    all.push(mixed::weighted_sum([3, 8], 4..21, [2, 16, 16, 7])); // groups of images, several blocks, no whole one
    all.push(Case::op("scale_by_entry", ScaleByEntry { entry: 3 }, [any([2, 9, 9, 7]), any([2, 3])]));
    let grad = WeightGrad { entries: (0..70).collect(), shape: [8, 9].into() };
    all.push(Case::op("weighted_sum_grad of 70", grad, vec![any([2, 5, 5, 3]); 71]));
    // a warp a result, small tiles, large tiles
    for transpose in [[false, false], [false, true], [true, false], [true, true]] {
        all.push(pointwise::matmul([10, 257, 33], transpose));
        all.push(pointwise::matmul([70, 37, 101], transpose));
        all.push(pointwise::matmul([530, 19, 513], transpose));
    }
    all.extend([
        pointwise::softmax(40, 101),
        pointwise::cross_entropy(300, 10),
        pointwise::cross_entropy(9, 70),
    ]);
    let part = std::env::var("OCHE_CASES").unwrap_or_default();
    all.into_iter().filter(|case| case.name.contains(&part)).collect()
}

#[test]
fn emulated_kernels_agree_with_the_cpu_at_larger_sizes() {
    let (device, _turn) = device();
    let mut wrong = vec![];
    for case in cases() {
        let order = case.orders.min(1);
        let (y, grads) = evaluate(&case, 5, order, &device);
        let (z, expected) = evaluate(&case, 5, order, &Device::Cpu);
        let pairs = std::iter::once((&y, &z)).chain(grads.iter().zip(&expected)).enumerate();
        for (k, (a, b)) in pairs {
            let error = distance(a, b);
            if error > TOLERANCE[k.min(1)] {
                wrong.push(format!("{}, result {k}: {error:e}", case.name));
            }
        }
        oche_emulated_driver::order(1);
        let (again, grads_again) = evaluate(&case, 5, order, &device);
        oche_emulated_driver::order(0);
        let same = bits(&y) == bits(&again) && grads.iter().map(bits).eq(grads_again.iter().map(bits));
        assert!(same, "{} depends on the order of threads", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Moments that a sum of squares in single precision would lose.
#[test]
fn emulated_statistics_survive_a_mean_far_from_zero() {
    let (device, _turn) = device();
    let c = 12;
    let values: Vec<f32> =
        normal([40, 5, 3, c], 1, 0).unwrap().to_f64().iter().map(|x| 1000.0 + *x as f32).collect();
    let x = Tensor::from_slice([40, 5, 3, c], &values).unwrap();
    let stats = |x: Tensor| {
        let mut tape = Tape::new();
        let x = tape.leaf(x);
        let y = tape.apply(oche::ops::batch_norm::BatchNorm, &[x]).unwrap();
        tape.saved(y, 0).to_host().unwrap()
    };
    let (there, here) = (stats(x.to_device(&device).unwrap()), stats(x));
    for row in 0..3 {
        let (a, b) = (there.view(row * c, [c]), here.view(row * c, [c]));
        assert!(distance(&a, &b) < 3e-7, "row {row}: {a:?} {b:?}");
    }
}

/// The case's operation run onto `old`; none for operations that save something.
fn run_onto(case: &Case, old: &Tensor, device: &Device) -> Option<Tensor> {
    let op = case.op.clone()?;
    let xs: Vec<Tensor> = case.draw(1).unwrap().iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let shapes: Vec<Shape> = xs.iter().map(|x| *x.shape()).collect();
    if !op.saves(&shapes).is_empty() {
        return None;
    }
    let xs: Vec<Tensor> = xs.iter().map(|x| x.to_device(device).unwrap()).collect();
    let mut value = old.to_device(device).unwrap();
    value.make_unique().unwrap();
    let mut out = Out { value: &mut value, saved: &mut [], accumulate: true };
    op.run(&xs.iter().collect::<Vec<_>>(), &mut out).ok()?; // some have no way to add
    Some(value.to_host().unwrap())
}

#[test]
fn emulated_kernels_add_what_the_cpu_adds() {
    let (device, _turn) = device();
    for case in chosen().into_iter().chain(cases()) {
        let Some(op) = &case.op else { continue };
        let shapes: Vec<Shape> = case.inputs.iter().map(|i| i.shape).collect();
        let old = normal(op.shape(&shapes).unwrap(), 7, 0).unwrap().to_dtype(DType::F32).unwrap();
        let Some(here) = run_onto(&case, &old, &Device::Cpu) else { continue };
        let there = run_onto(&case, &old, &device).unwrap_or_else(|| panic!("{} failed", case.name));
        assert!(distance(&there, &here) < TOLERANCE[0], "{}: {}", case.name, distance(&there, &here));
    }
}

#[test]
fn emulated_kernels_read_parameters_and_images_at_any_place() {
    let (device, _turn) = device();
    let flat = normal([200], 2, 0).unwrap().to_dtype(DType::F32).unwrap();
    let on = |device: &Device| {
        let flat = flat.to_device(device).unwrap();
        let mut tape = Tape::new();
        let x = tape.leaf(flat.view(1, [2, 3, 8]));
        let c = tape.leaf(flat.view(77, [8]));
        let y = tape.apply(ChannelScale, &[x, c]).unwrap();
        let z = tape.apply(oche::ops::batch_norm::BatchNorm, &[x]).unwrap();
        let w = tape.apply(ScaleByEntry { entry: 5 }, &[x, c]).unwrap();
        [y, z, w].map(|v| tape.value(v).to_host().unwrap())
    };
    for (a, b) in on(&device).iter().zip(&on(&Device::Cpu)) {
        assert!(distance(a, b) < TOLERANCE[0]);
    }
}

#[test]
fn emulated_fixed_statistics_are_those_of_the_cpu() {
    let (device, _turn) = device();
    let variance = of([300], Kind::Positive);
    let drawn = Case::op("statistics", ChannelShift, [any([300]), variance]).draw(1).unwrap();
    let on = |device: &Device| {
        let [mean, variance] =
            [0, 1].map(|k: usize| drawn[k].to_dtype(DType::F32).unwrap().to_device(device).unwrap());
        fixed_statistics(&mean, &variance).unwrap().to_host().unwrap()
    };
    assert_eq!(bits(&on(&device)), bits(&on(&Device::Cpu)));
}

#[test]
fn emulated_labels_that_are_no_class_are_seen_in_the_loss() {
    let (device, _turn) = device();
    let logits = normal([3, 4], 1, 0).unwrap().to_dtype(DType::F32).unwrap().to_device(&device).unwrap();
    let labels = Tensor::from_slice([3], &[1u32, 4, 0]).unwrap().to_device(&device).unwrap();
    let mut tape = Tape::new();
    let (x, labels) = (tape.leaf(logits), tape.constant(labels));
    let loss = tape.apply(CrossEntropy, &[x, labels]).unwrap();
    let rows = tape.apply(OneHot, &[x, labels]).unwrap();
    assert!(tape.value(loss).read().unwrap().is_nan());
    let rows = tape.value(rows).to_host().unwrap();
    assert_eq!(rows.to_f64(), [0., 1., 0., 0., 0., 0., 0., 0., 1., 0., 0., 0.]);
}
