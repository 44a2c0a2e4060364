//! Convolutions and pools at sizes that reach each of their kernels, and with images of bf16.

use super::{bits, device, distance, evaluate};
use oche::device::Device;
use oche::ops::cases::Case;
use oche::ops::cases::image::{avg_pool, conv, conv_gradients, depthwise, max_pool};
use oche::ops::conv::Geometry;
use oche::ops::pool::{AvgPoolGrad, GlobalAvgPool, GlobalSpread};
use oche::ops::window::Window;
use oche::tape::{Op, Out, Tape};
use oche::tensor::{DType, Tensor};

fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding, dilation }
}

/// Widths around those that a block takes, each with a window.
fn depthwise_cases() -> Vec<Case> {
    let mut all = vec![];
    let mut add = |x: [usize; 4], window| {
        all.push(depthwise(x, window));
        all.extend(conv_gradients(x, x[3], Geometry { window, depthwise: true }).unwrap());
    };
    for (kernel, channels) in [(3, 4), (3, 64), (3, 68), (5, 16), (5, 132), (7, 8), (7, 48), (2, 20), (4, 12)]
    {
        for (stride, dilation) in [(1, 1), (2, 1), (1, 2), (3, 1), (2, 2)] {
            let same = Window::same(kernel, stride, dilation);
            add(
                [2, 9, 11, channels],
                if kernel % 2 == 1 { same } else { window([kernel; 2], [stride; 2], [1, 0], [1; 2]) },
            );
        }
    }
    add([2, 8, 6, 70], Window::same(3, 1, 1));
    add([1, 8, 9, 8], window([1, 7], [1, 2], [0, 3], [1, 1]));
    add([1, 8, 9, 8], window([7, 1], [2, 1], [3, 0], [1, 1]));
    add([5, 16, 16, 16], Window::same(3, 1, 1)); // many spans
    all
}

fn conv_cases() -> Vec<Case> {
    let mut all = vec![];
    let mut add = |x: [usize; 4], channels, window| {
        all.push(conv(x, channels, window));
        all.extend(conv_gradients(x, channels, Geometry { window, depthwise: false }).unwrap());
    };
    let one = Window::square(1, 1, 0, 1);
    for (from, to) in
        [(16, 16), (17, 16), (16, 32), (40, 31), (64, 48), (68, 65), (130, 64), (20, 132), (3, 48)]
    {
        add([2, 9, 8, from], to, one);
        add([1, 7, 6, from], to, Window::same(3, 1, 1));
    }
    add([2, 12, 11, 3], 48, Window::same(3, 1, 1));
    add([2, 9, 8, 12], 20, Window::square(3, 2, 1, 1));
    add([2, 9, 8, 5], 7, window([3, 2], [1, 3], [2, 0], [2, 1]));
    add([1, 9, 8, 8], 8, window([1, 7], [1, 2], [0, 3], [1, 1]));
    // many spans, and enough of the largest tiles, forward and back
    add([2, 30, 30, 4], 520, one);
    add([2, 30, 30, 520], 4, one);
    all
}

fn pool_cases() -> Vec<Case> {
    let mut all = vec![];
    for channels in [3, 4, 20] {
        for (kernel, stride, padding, dilation) in
            [(3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1), (5, 3, 2, 1), (3, 1, 1, 2)]
        {
            let (x, window) = ([2, 9, 8, channels], Window::square(kernel, stride, padding, dilation));
            all.extend([max_pool(x, window), avg_pool(x, window)]);
            let [oh, ow] = window.out([9, 8]).unwrap();
            let grad = AvgPoolGrad { window, shape: x.into() };
            let name = format!("avg_pool_grad {channels} k{kernel} s{stride} d{dilation}");
            all.push(Case::op(name, grad, [oche::ops::cases::any([2, oh, ow, channels])]));
        }
    }
    for channels in [1, 33, 64, 130] {
        let (x, y) = ([3, 5, 4, channels], [3, channels]);
        let any = |shape: &[usize]| oche::ops::cases::any(shape);
        all.push(Case::op(format!("global_avg_pool {channels}"), GlobalAvgPool, [any(&x)]));
        all.push(Case::op(format!("global_spread {channels}"), GlobalSpread { shape: x.into() }, [any(&y)]));
    }
    all
}

/// Sums of some hundred products in another order. The registry's cases go on to order 2, of the same three operations.
const TOLERANCE: [f64; 2] = [5e-6, 2e-5];

fn agree(cases: Vec<Case>) {
    let (device, _turn) = device();
    let part = std::env::var("OCHE_CASES").unwrap_or_default();
    for case in cases.into_iter().filter(|case| case.name.contains(&part)) {
        for order in 0..=case.orders.min(1) {
            let (y, grads) = evaluate(&case, 3, order, &device);
            let (z, expected) = evaluate(&case, 3, order, &Device::Cpu);
            for (a, b) in std::iter::once((&y, &z)).chain(grads.iter().zip(&expected)) {
                let error = distance(a, b);
                assert!(error <= TOLERANCE[usize::from(order)], "{}, order {order}: {error:e}", case.name);
            }
            oche_emulated_driver::order(1);
            let (again, reversed) = evaluate(&case, 3, order, &device);
            oche_emulated_driver::order(0);
            let same =
                bits(&y) == bits(&again) && grads.iter().zip(&reversed).all(|(a, b)| bits(a) == bits(b));
            assert!(same, "{} depends on the order of threads", case.name);
        }
    }
}

#[test]
fn emulated_depthwise_convolutions_agree_at_all_widths() {
    agree(depthwise_cases());
}

#[test]
fn emulated_convolutions_agree_at_all_widths() {
    agree(conv_cases());
}

#[test]
fn emulated_pools_agree_at_all_widths() {
    agree(pool_cases());
}

/// The result of `case` for numbers that bf16 can hold, as the type `images` where they are images.
fn result(case: &Case, images: DType, device: &Device) -> Tensor {
    let mut tape = Tape::new();
    let drawn = case.draw(5).unwrap();
    let vars: Vec<_> = (drawn.iter().enumerate())
        .map(|(k, x)| {
            let rounded = x.to_dtype(DType::BF16).unwrap();
            let weights = k == 1 && !case.name.contains("_weight");
            let dtype = if weights { DType::F32 } else { images };
            tape.leaf(rounded.to_dtype(dtype).unwrap().to_device(device).unwrap())
        })
        .collect();
    let y = case.run(&mut tape, &vars).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    tape.value(y).to_host().unwrap()
}

/// Sums are of float: what differs is the rounding of the result, half a unit of 8 bits.
#[test]
fn emulated_images_of_bf16_are_rounded_once() {
    let (device, _turn) = device();
    for case in depthwise_cases().into_iter().chain(conv_cases()).chain(pool_cases()) {
        let (y, z) = (result(&case, DType::BF16, &device), result(&case, DType::F32, &Device::Cpu));
        let of_weight = case.name.contains("_weight");
        assert_eq!(y.dtype(), if of_weight { DType::F32 } else { DType::BF16 }, "{}", case.name);
        let unit = if of_weight { 2e-5 } else { 1.0 / 256.0 };
        for (a, b) in y.to_f64().into_iter().zip(z.to_f64()) {
            assert!((a - b).abs() <= unit * b.abs() + 2e-5, "{}: {a} is not {b}", case.name);
        }
    }
}

/// The taps that a maximum saves are the CPU's, also among equals, NaN and minus infinity.
#[test]
fn emulated_maxima_come_from_the_same_taps() {
    let (device, _turn) = device();
    for channels in [3, 4] {
        let shape = [2, 6, 7, channels];
        let count: usize = shape.iter().product();
        let value = |i: usize| match i * 7919 % 13 {
            0 | 1 => f64::NAN,
            2..=8 => f64::NEG_INFINITY,
            other => (other % 2) as f64,
        };
        let x = Tensor::from_f64(shape, &(0..count).map(value).collect::<Vec<_>>(), DType::F32).unwrap();
        let taps = |device: &Device| {
            let mut tape = Tape::new();
            let x = tape.leaf(x.to_device(device).unwrap());
            let window = Window::same(3, 1, 1);
            let y = tape.apply(oche::ops::pool::MaxPool { window }, &[x]).unwrap();
            let host = |t: &Tensor| t.to_host().unwrap();
            (host(tape.saved(y, 0)).as_slice::<u8>().to_vec(), bits(&host(tape.value(y))))
        };
        assert_eq!(taps(&device).0, taps(&Device::Cpu).0);
        let infinite = |(_, values): (Vec<u8>, Vec<u64>)| -> Vec<bool> {
            values.into_iter().map(|x| f64::from_bits(x).is_nan()).collect()
        };
        assert_eq!(infinite(taps(&device)), infinite(taps(&Device::Cpu)));
    }
}

/// What an operation leaves when it adds to a tensor of ones.
fn added_to_ones(op: &dyn Op, ins: &[Tensor], device: &Device) -> Tensor {
    let ins: Vec<Tensor> = ins.iter().map(|x| x.to_device(device).unwrap()).collect();
    let shape = op.shape(&ins.iter().map(|x| *x.shape()).collect::<Vec<_>>()).unwrap();
    let ones = vec![1.0; shape.count()];
    let mut value = Tensor::from_f64(shape, &ones, DType::F32).unwrap().to_device(device).unwrap();
    let mut out = Out { value: &mut value, saved: &mut [], accumulate: true };
    op.run(&ins.iter().collect::<Vec<_>>(), &mut out).unwrap();
    value.to_host().unwrap()
}

#[test]
fn emulated_results_are_added_where_asked() {
    let (device, _turn) = device();
    let all = depthwise_cases().into_iter().chain(conv_cases()).chain(pool_cases());
    for case in all.filter(|case| !case.name.starts_with("max_pool")) {
        let op = case.op.clone().unwrap();
        let ins: Vec<_> = case.draw(7).unwrap().iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
        let [y, z] = [&device, &Device::Cpu].map(|device| added_to_ones(op.as_ref(), &ins, device));
        assert!(distance(&y, &z) <= TOLERANCE[0], "{}: {:e}", case.name, distance(&y, &z));
    }
}
