//! Cases of operations that slide a window over images, or take some of their pixels.

use super::{Case, Kind, any, channel, mixed, of};
use crate::error::Error;
use crate::ops::conv::{Conv, ConvInput, ConvWeight, Geometry};
use crate::ops::pointwise::{Add, Relu};
use crate::ops::pool::{AvgPool, AvgPoolGrad, GlobalAvgPool, GlobalSpread, MaxGather, MaxPool, MaxScatter};
use crate::ops::subsample::{Phase, Subsample, SubsampleGrad};
use crate::ops::window::Window;
use crate::tape::check::normal;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

fn named(what: &str, x: [usize; 4], window: &Window) -> String {
    let Window { kernel: [kh, kw], stride, padding, dilation } = window;
    format!("{what} {} k{kh}x{kw} s{stride:?} p{padding:?} d{dilation:?}", Shape::from(x))
}

fn geometry_case(what: &str, x: [usize; 4], weight: [usize; 4], geometry: Geometry) -> Case {
    Case::op(named(what, x, &geometry.window), Conv(geometry), [any(x), any(weight)])
}

/// One kernel a channel over images (N, H, W, C).
pub fn depthwise(x: [usize; 4], window: Window) -> Case {
    let [kh, kw] = window.kernel;
    geometry_case("depthwise", x, [x[3], 1, kh, kw], Geometry { window, depthwise: true })
}

/// Dense convolution of images (N, H, W, C) to `channels` channels.
pub fn conv(x: [usize; 4], channels: usize, window: Window) -> Case {
    let [kh, kw] = window.kernel;
    geometry_case("conv", x, [channels, x[3], kh, kw], Geometry { window, depthwise: false })
}

/// The two gradients of a convolution, as operations on their own. The window must fit the images.
pub fn conv_gradients(x: [usize; 4], channels: usize, geometry: Geometry) -> crate::Result<[Case; 2]> {
    let Geometry { window, depthwise } = geometry;
    let ([kh, kw], [oh, ow]) =
        (window.kernel, window.out([x[1], x[2]]).map_err(|what| Error::shape("conv", what))?);
    let (y, weight) = match depthwise {
        true => ([x[0], oh, ow, x[3]], [x[3], 1, kh, kw]),
        false => ([x[0], oh, ow, channels], [channels, x[3], kh, kw]),
    };
    let input = ConvInput { geometry, shape: x.into() };
    let of_weight = ConvWeight { geometry, shape: weight.into() };
    let what = if depthwise { "depthwise" } else { "conv" };
    Ok([
        Case::op(named(&format!("{what}_input"), x, &window), input, [any(y), any(weight)]),
        Case::op(named(&format!("{what}_weight"), x, &window), of_weight, [any(x), any(y)]),
    ])
}

/// Maximum under the window.
pub fn max_pool(x: [usize; 4], window: Window) -> Case {
    Case::op(named("max_pool", x, &window), MaxPool { window }, [of(x, Kind::Spread)])
}

/// Mean of the pixels under the window.
pub fn avg_pool(x: [usize; 4], window: Window) -> Case {
    Case::op(named("avg_pool", x, &window), AvgPool { window }, [any(x)])
}

/// Every `stride`-th pixel from `offset` on.
pub fn subsample(x: [usize; 4], phase: Phase) -> Case {
    Case::op(format!("subsample {} {phase:?}", Shape::from(x)), Subsample(phase), [any(x)])
}

/// The taps that win a maximum over fixed images of shape `x`, as a constant where `like` is.
fn taps(tape: &mut Tape, x: [usize; 4], window: Window, like: Var) -> crate::Result<Var> {
    let fixed = tape.constant(normal(x, 4, 0)?);
    let pooled = tape.apply(MaxPool { window }, &[fixed])?;
    let saved = tape.saved(pooled, 0).clone();
    super::constant(tape, &saved, like)
}

/// The windows of a search: published candidates, stem and 1 x 1.
fn windows() -> Vec<(Window, bool)> {
    let row = Window { kernel: [1, 7], stride: [1, 2], padding: [0, 3], dilation: [1, 1] };
    let column = Window { kernel: [7, 1], stride: [2, 1], padding: [3, 0], dilation: [1, 1] };
    let mut all = vec![(row, false), (column, false), (row, true)];
    for stride in [1, 2] {
        for (kernel, dilation) in [(3, 1), (5, 1), (7, 1), (3, 2), (5, 2)] {
            all.push((Window::same(kernel, stride, dilation), true));
        }
        all.extend([(Window::square(1, stride, 0, 1), false), (Window::same(3, stride, 1), false)]);
    }
    all.push((Window::square(2, 2, 0, 1), true)); // even, without padding
    all.push((Window::square(2, 1, 0, 1), false)); // that of the auxiliary head
    all.push((Window { kernel: [3, 2], stride: [1, 3], padding: [2, 0], dilation: [2, 1] }, false));
    all
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (window, depthwise_) in windows() {
        let x = if depthwise_ { [2, 7, 9, 3] } else { [2, 5, 7, 3] };
        all.push(if depthwise_ { depthwise(x, window) } else { conv(x, 4, window) });
        let geometry = Geometry { window, depthwise: depthwise_ };
        all.extend(conv_gradients(x, 4, geometry).into_iter().flatten());
    }
    for channels in [1, 17] {
        all.push(depthwise([1, 4, 6, channels], Window::same(3, 1, 1)));
        all.push(conv([3, 3, 3, channels], 33 - channels, Window::square(1, 1, 0, 1)));
    }
    // of the auxiliary heads
    all.extend([2, 3].map(|stride| avg_pool([2, 9, 8, 3], Window::square(5, stride, 0, 1))));
    for stride in [1, 2] {
        for x in [[2, 4, 4, 3], [1, 5, 7, 2], [1, 1, 2, 17]] {
            all.push(max_pool(x, Window::same(3, stride, 1)));
            all.push(avg_pool(x, Window::same(3, stride, 1)));
        }
        let (x, window) = ([2, 5, 4, 3], Window::same(3, stride, 1));
        let pooled = [2, 5usize.div_ceil(stride), 4usize.div_ceil(stride), 3];
        all.push(Case::op(
            format!("avg_pool_grad s{stride}"),
            AvgPoolGrad { window, shape: x.into() },
            [any(pooled)],
        ));
        all.push(Case::of(format!("max_gather s{stride}"), [any(x)], move |tape, xs| {
            let taps = taps(tape, x, window, xs[0])?;
            tape.apply(MaxGather { window }, &[xs[0], taps])
        }));
        all.push(Case::of(format!("max_scatter s{stride}"), [any(pooled)], move |tape, xs| {
            let taps = taps(tape, x, window, xs[0])?;
            tape.apply(MaxScatter { window, shape: x.into() }, &[xs[0], taps])
        }));
    }
    for (stride, offset) in [(1, 0), (2, 0), (2, 1), (3, 2), (2, 3)] {
        for x in [[2, 4, 6, 3], [1, 5, 7, 2]] {
            let phase = Phase { stride, offset };
            all.push(subsample(x, phase));
            let taken = |size: usize| (size - offset).div_ceil(stride);
            let grad = SubsampleGrad { phase, shape: x.into() };
            let name = format!("subsample_grad {} {phase:?}", Shape::from(x));
            all.push(Case::op(name, grad, [any([x[0], taken(x[1]), taken(x[2]), x[3]])]));
        }
    }
    all.push(Case::op("global_avg_pool", GlobalAvgPool, [any([3, 2, 5, 7])]));
    all.push(Case::op("global_spread", GlobalSpread { shape: [3, 2, 5, 7].into() }, [any([3, 7])]));
    all
}

/// What a cell runs on images of shape `x`, and the stem where they have its size.
pub fn search_cases(x: [usize; 4]) -> Vec<Case> {
    let [n, h, w, c] = x;
    let pointwise = Window::square(1, 1, 0, 1);
    let mut all = vec![
        Case::op(format!("relu {}", Shape::from(x)), Relu, [of(x, Kind::AwayFromZero)]),
        Case::op(format!("add {}", Shape::from(x)), Add, [any(x); 2]),
        conv(x, c, pointwise),
        conv([n, h, w, 4 * c], c, pointwise),
        channel::batch_norm(x),
        channel::concat([n, h, w], &[c; 4]),
        mixed::weighted_sum([2, 8], (0..16).filter(|k| k % 8 != 0), x),
        Case::op(format!("global_avg_pool {}", Shape::from(x)), GlobalAvgPool, [any(x)]),
    ];
    for stride in [1, 2] {
        all.extend([3, 5].map(|k| depthwise(x, Window::same(k, stride, 1))));
        all.extend([3, 5].map(|k| depthwise(x, Window::same(k, stride, 2))));
        all.extend([max_pool(x, Window::same(3, stride, 1)), avg_pool(x, Window::same(3, stride, 1))]);
    }
    if h == 32 {
        all.push(conv([n, h, w, 3], 3 * c, Window::same(3, 1, 1)));
    }
    all
}
