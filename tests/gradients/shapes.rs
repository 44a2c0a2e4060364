//! Inputs that do not fit are refused in one line by the shape rule, before anything runs.

use oche::ops::batch_norm::{BatchNorm, BatchNormGrad, BatchNormGradGrad, Normalise, NormaliseGrad};
use oche::ops::channel::{ChannelBroadcast, ChannelDot, ChannelScale, ChannelShift};
use oche::ops::concat::{ChannelPlace, ChannelSlice, Concat};
use oche::ops::conv::{Conv, ConvInput, ConvWeight, Geometry};
use oche::ops::cross_entropy::{CrossEntropy, OneHot};
use oche::ops::fused::relu_conv_norm::ReluConvNorm;
use oche::ops::matmul::MatMul;
use oche::ops::pointwise::{Add, Dot, Mul, ReluGrad, ScaleBy, Sub};
use oche::ops::pool::{AvgPool, AvgPoolGrad, GlobalAvgPool, GlobalSpread, MaxGather, MaxPool, MaxScatter};
use oche::ops::softmax::SoftmaxGrad;
use oche::ops::subsample::{Phase, Subsample, SubsampleGrad};
use oche::ops::weighted_sum::{ScaleByEntry, WeightGrad, WeightedSum};
use oche::ops::window::Window;
use oche::tape::{Op, Tape};
use oche::tensor::{DType, Shape, Tensor};

fn refused(op: &dyn Op, shapes: &[&[usize]]) {
    let shapes: Vec<Shape> = shapes.iter().map(|&s| Shape::from(s)).collect();
    let message = match op.shape(&shapes) {
        Ok(shape) => panic!("{op:?} takes {shapes:?} and gives {shape}"),
        Err(e) => e.to_string(),
    };
    let one_line = !message.contains('\n') && message.len() < 250;
    assert!(one_line && message.starts_with(op.name()), "{op:?} of {shapes:?}: {message}");
}

#[test]
fn elementwise_and_rows() {
    for op in [&Add as &dyn Op, &Sub, &Mul, &Dot, &ReluGrad, &SoftmaxGrad, &ChannelDot] {
        refused(op, &[&[2, 3], &[3, 2]]);
        refused(op, &[&[6], &[2, 3]]);
    }
    refused(&ScaleBy, &[&[2, 3], &[2]]);
    refused(&CrossEntropy, &[&[2, 3], &[3]]);
    refused(&CrossEntropy, &[&[2, 3, 4], &[2]]);
    refused(&CrossEntropy, &[&[0, 3], &[0]]);
    assert!(OneHot.shape(&[Shape::from([2, 3]), Shape::from([3])]).is_err());
    for transpose in [[false, false], [false, true], [true, false], [true, true]] {
        refused(&MatMul { transpose }, &[&[2, 3], &[4, 5]]);
        refused(&MatMul { transpose }, &[&[2, 3, 1], &[3, 2]]);
    }
}

#[test]
fn channels() {
    for op in [&ChannelScale as &dyn Op, &ChannelShift] {
        refused(op, &[&[2, 3], &[2]]);
        refused(op, &[&[2, 3], &[1, 3]]);
        refused(op, &[&[], &[1]]);
    }
    refused(&ChannelBroadcast([2, 3].into()), &[&[2]]);
    refused(&BatchNorm, &[&[4]]);
    refused(&BatchNorm, &[&[1, 1, 1, 8]]); // one value a channel
    refused(&BatchNormGrad, &[&[4, 2], &[4, 2], &[2, 2]]);
    refused(&BatchNormGrad, &[&[4, 2], &[2, 4], &[3, 2]]);
    refused(&BatchNormGradGrad, &[&[4, 2], &[4, 2], &[4, 2], &[3, 4]]);
    refused(&Normalise, &[&[4, 2], &[2], &[4]]);
    refused(&NormaliseGrad, &[&[4, 2], &[4]]);
    refused(&Concat, &[&[2, 3, 4, 1], &[2, 4, 3, 1]]);
    refused(&Concat, &[&[2, 3], &[2, 3, 1]]);
    refused(&Concat, &[&[], &[]]);
    refused(&ChannelSlice { start: 2, count: 2 }, &[&[4, 3]]);
    refused(&ChannelSlice { start: 0, count: 0 }, &[&[4, 3]]);
    refused(&ChannelSlice { start: 0, count: 1 }, &[&[]]);
    refused(&ChannelPlace { start: 2, channels: 4 }, &[&[4, 3]]);
    refused(&ChannelPlace { start: 0, channels: 1 }, &[&[]]);
}

#[test]
fn weighted_sums() {
    let entries: std::rc::Rc<[usize]> = [0, 5].into();
    let sum = WeightedSum { entries: entries.clone() };
    refused(&sum, &[&[2, 3]]);
    refused(&sum, &[&[2, 3], &[4]]);
    refused(&sum, &[&[2, 3], &[4], &[4], &[4]]);
    refused(&sum, &[&[2, 2], &[4], &[4]]);
    refused(&sum, &[&[2, 3], &[4], &[2, 2]]);
    refused(&ScaleByEntry { entry: 6 }, &[&[4], &[2, 3]]);
    let grad = |shape: [usize; 2]| WeightGrad { entries: entries.clone(), shape: shape.into() };
    refused(&grad([2, 3]), &[&[4], &[4]]);
    refused(&grad([2, 3]), &[&[4], &[4], &[5]]);
    refused(&grad([1, 3]), &[&[4], &[4], &[4]]);
}

#[test]
fn windows() {
    let window = Window::same(3, 2, 1);
    let depthwise = Geometry { window, depthwise: true };
    let dense = Geometry { window, depthwise: false };
    refused(&Conv(depthwise), &[&[1, 4, 4, 2], &[3, 1, 3, 3]]);
    refused(&Conv(depthwise), &[&[1, 4, 4, 2], &[2, 2, 3, 3]]);
    refused(&Conv(dense), &[&[1, 4, 4, 2], &[5, 3, 3, 3]]);
    refused(&Conv(dense), &[&[1, 4, 4, 2], &[5, 2, 3, 5]]);
    refused(&Conv(dense), &[&[4, 4, 2], &[5, 2, 3, 3]]);
    let wide = Geometry { window: Window::square(5, 1, 0, 2), depthwise: true };
    refused(&Conv(wide), &[&[1, 8, 9, 2], &[2, 1, 5, 5]]);
    for broken in [Window::square(0, 1, 0, 1), Window::square(3, 0, 0, 1), Window::square(3, 1, 0, 0)] {
        let k = broken.kernel[0];
        refused(&Conv(Geometry { window: broken, depthwise: true }), &[&[1, 8, 8, 2], &[2, 1, k, k]]);
    }
    let (shape, weight) = (Shape::from([1, 4, 4, 2]), Shape::from([2, 1, 3, 3]));
    refused(&ConvInput { geometry: depthwise, shape }, &[&[1, 4, 4, 2], &[2, 1, 3, 3]]);
    refused(&ConvWeight { geometry: depthwise, shape: weight }, &[&[1, 4, 4, 2], &[1, 3, 2, 2]]);
    for op in [&MaxPool { window } as &dyn Op, &AvgPool { window }, &GlobalAvgPool] {
        refused(op, &[&[4, 4, 2]]);
    }
    refused(&AvgPool { window: Window::square(3, 1, 2, 1) }, &[&[1, 4, 4, 2]]);
    refused(&MaxPool { window: Window::square(16, 1, 8, 1) }, &[&[1, 16, 16, 1]]);
    refused(&MaxGather { window }, &[&[1, 4, 4, 2], &[1, 4, 4, 2]]);
    refused(&MaxScatter { window, shape }, &[&[1, 2, 2, 2], &[1, 2, 2, 3]]);
    refused(&MaxScatter { window, shape }, &[&[1, 3, 2, 2], &[1, 3, 2, 2]]);
    refused(&AvgPoolGrad { window, shape }, &[&[1, 4, 4, 2]]);
    refused(&GlobalSpread { shape }, &[&[2, 2]]);
    for phase in [Phase { stride: 0, offset: 0 }, Phase { stride: 2, offset: 4 }] {
        refused(&Subsample(phase), &[&[1, 4, 4, 2]]);
    }
    refused(&SubsampleGrad { phase: Phase { stride: 2, offset: 1 }, shape }, &[&[1, 3, 2, 2]]);
}

#[test]
fn preprocessing() {
    let [same, halve] =
        [false, true].map(|halve| ReluConvNorm { halve, affine: false, given: false, lean: false });
    let given = ReluConvNorm { halve: false, affine: false, given: true, lean: false };
    refused(&same, &[&[2, 4, 4, 3]]);
    refused(&same, &[&[2, 4, 3], &[5, 3, 1, 1]]);
    refused(&same, &[&[2, 4, 4, 3], &[5, 4, 1, 1]]);
    refused(&same, &[&[2, 4, 4, 3], &[5, 3, 3, 3]]);
    refused(&same, &[&[1, 1, 1, 3], &[5, 3, 1, 1]]); // one value a channel
    refused(&halve, &[&[2, 4, 4, 3], &[5, 3, 1, 1]]);
    refused(&halve, &[&[2, 4, 4, 3], &[5, 3, 1, 1], &[4, 3, 1, 1]]);
    refused(&halve, &[&[2, 4, 5, 3], &[5, 3, 1, 1], &[5, 3, 1, 1]]);
    refused(&given, &[&[2, 4, 4, 3], &[5, 3, 1, 1], &[3, 3]]);
}

#[test]
fn a_tape_passes_the_refusal_on_and_stays_usable() {
    let mut tape = Tape::new();
    let a = tape.leaf(Tensor::zeros([2, 3], DType::F64));
    let b = tape.leaf(Tensor::zeros([3, 2], DType::F64));
    assert!(tape.apply(Add, &[a, b]).is_err());
    let labels = tape.constant(Tensor::from_slice([2], &[0u32, 3]).unwrap());
    let error = tape.apply(CrossEntropy, &[a, labels]).unwrap_err().to_string();
    assert_eq!(error, "cross_entropy: label 3 with 3 classes");
    let y = tape.apply(Add, &[a, a]).unwrap();
    assert_eq!(tape.shape(y), Shape::from([2, 3]));
}
