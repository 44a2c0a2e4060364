//! Cases of operations on channels: affine part, batch norm, joining and cutting; and of a factor an image.

use super::{Case, Kind, any, constant, of};
use crate::ops::batch_norm::{BatchNorm, BatchNormGrad, BatchNormGradGrad, Normalise, NormaliseGrad};
use crate::ops::channel::{ChannelBroadcast, ChannelDot, ChannelScale, ChannelShift, ChannelSum};
use crate::ops::concat::{ChannelPlace, ChannelSlice, Concat};
use crate::ops::image_scale::{ImageDot, ImageScale};
use crate::tape::check::normal;
use crate::tape::{Tape, Var};
use crate::tensor::{Shape, Tensor};

/// Batch norm by the statistics of the batch.
pub fn batch_norm(x: impl Into<Shape>) -> Case {
    let x = x.into();
    Case::op(format!("batch_norm {x}"), BatchNorm, [any(x)])
}

/// The statistics that batch norm saves for `x`, as a constant.
fn statistics(tape: &mut Tape, x: Var) -> crate::Result<Var> {
    let y = tape.apply(BatchNorm, &[x])?;
    let saved = tape.saved(y, 0).clone();
    Ok(tape.constant(saved))
}

/// Normalisation by statistics that are held fixed.
pub fn normalise(x: impl Into<Shape>) -> Case {
    let x = x.into();
    Case::of(format!("normalise {x}"), [any(x)], move |tape, xs| {
        let mean = normal([x.last()], 3, 0)?;
        let variance: Vec<f64> = normal([x.last()], 3, 1)?.to_f64().iter().map(|v| 0.5 + v.abs()).collect();
        let mean = constant(tape, &mean, xs[0])?;
        let variance = constant(tape, &Tensor::from_slice([x.last()], &variance)?, xs[0])?;
        tape.apply(Normalise, &[xs[0], mean, variance])
    })
}

/// Images (N, H, W, c) for each c of `channels`, joined.
pub fn concat([n, h, w]: [usize; 3], channels: &[usize]) -> Case {
    let inputs: Vec<_> = channels.iter().map(|&c| any([n, h, w, c])).collect();
    Case::op(format!("concat {n}x{h}x{w} of {channels:?}"), Concat, inputs)
}

pub(super) fn cases() -> Vec<Case> {
    let image = Shape::from([2, 3, 5, 3]);
    let (x, c) = (any(image), any([3]));
    let mut all = vec![
        Case::op("channel_scale", ChannelScale, [x, c]),
        Case::op("channel_shift", ChannelShift, [x, c]),
        Case::op("channel_shift of rows", ChannelShift, [any([4, 17]), any([17])]),
        Case::op("channel_dot", ChannelDot, [x, x]),
        Case::op("channel_dot one channel", ChannelDot, [any([2, 3, 5, 1]); 2]),
        Case::op("channel_sum", ChannelSum, [x]),
        Case::op("channel_broadcast", ChannelBroadcast(image), [c]),
        Case::op("image_scale", ImageScale, [x, any([2])]),
        Case::op("image_scale of rows", ImageScale, [any([5, 33]), any([5])]),
        Case::op("image_dot", ImageDot, [x, x]),
        Case::op("image_dot of one image", ImageDot, [any([1, 5, 7, 3]); 2]),
        Case::op("channel_slice", ChannelSlice { start: 1, count: 2 }, [x]),
        Case::op("channel_place", ChannelPlace { start: 2, channels: 6 }, [x]),
        Case::op("concat rows", Concat, [any([4, 2]), any([4, 3])]),
        Case::op("normalise_grad", NormaliseGrad, [x, of([3], Kind::Positive)]).orders(0),
        concat([2, 3, 3], &[1]),
        concat([2, 3, 5], &[1, 4, 2]),
        normalise(image),
        normalise([5, 17]),
    ];
    for shape in [[2, 3, 5, 3], [1, 1, 2, 1], [2, 5, 7, 16], [3, 1, 1, 33]] {
        all.push(batch_norm(shape));
    }
    all.push(batch_norm([6, 4]));
    all.push(Case::of("batch_norm with scale and shift", [x, c, c], |tape, xs| {
        let z = tape.apply(BatchNorm, &[xs[0]])?;
        let y = tape.apply(ChannelScale, &[z, xs[1]])?;
        tape.apply(ChannelShift, &[y, xs[2]])
    }));
    // its derivative in x takes in that the statistics depend on x
    let gradient = Case::of("batch_norm_grad", [x, x], |tape, xs| {
        let stats = statistics(tape, xs[1])?;
        tape.apply(BatchNormGrad, &[xs[0], xs[1], stats])
    });
    all.push(gradient.orders(1));
    let second = Case::of("batch_norm_grad_grad", [x, x, x], |tape, xs| {
        let stats = statistics(tape, xs[2])?;
        tape.apply(BatchNormGradGrad, &[xs[0], xs[1], xs[2], stats])
    });
    all.push(second.orders(0));
    all
}
