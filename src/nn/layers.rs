//! Convolution and linear layers: indices of their weights, and a forward.

use super::Context;
use crate::error::Result;
use crate::ops::cast::Cast;
use crate::ops::channel::ChannelShift;
use crate::ops::conv::{Conv, Geometry};
use crate::ops::matmul::MatMul;
use crate::ops::window::Window;
use crate::tape::{Builder, Init, Var};
use crate::tensor::DType;

/// A convolution without bias.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: usize,
    geometry: Geometry,
}

impl Conv2d {
    /// Dense, (N, H, W, `input`) -> (N, H', W', `output`); the weight is called `name.weight`.
    pub fn dense(b: &mut Builder, name: &str, input: usize, output: usize, window: Window) -> Self {
        let [kh, kw] = window.kernel;
        let init = Init::FanIn(input * kh * kw);
        let weight = b.param(&format!("{name}.weight"), [output, input, kh, kw], init);
        Self { weight, geometry: Geometry { window, depthwise: false } }
    }
    /// 1 x 1.
    pub fn pointwise(b: &mut Builder, name: &str, input: usize, output: usize) -> Self {
        Self::dense(b, name, input, output, Window::square(1, 1, 0, 1))
    }
    /// One kernel a channel.
    pub fn depthwise(b: &mut Builder, name: &str, channels: usize, window: Window) -> Self {
        let [kh, kw] = window.kernel;
        let weight = b.param(&format!("{name}.weight"), [channels, 1, kh, kw], Init::FanIn(kh * kw));
        Self { weight, geometry: Geometry { window, depthwise: true } }
    }
    /// Of its weight among the network's.
    pub fn weight_index(&self) -> usize {
        self.weight
    }
    pub fn window(&self) -> Window {
        self.geometry.window
    }
    pub fn forward(&self, cx: &mut Context, x: Var) -> Result<Var> {
        cx.tape.apply(Conv(self.geometry), &[x, cx.weights[self.weight]])
    }
}

/// y = x W^T + b, (N, `input`) -> (N, `output`).
#[derive(Clone, Debug)]
pub struct Linear {
    weight: usize,
    bias: usize,
}

impl Linear {
    pub fn new(b: &mut Builder, name: &str, input: usize, output: usize) -> Self {
        let init = Init::FanIn(input);
        let weight = b.param(&format!("{name}.weight"), [output, input], init);
        Self { weight, bias: b.param(&format!("{name}.bias"), [output], init) }
    }
    pub fn forward(&self, cx: &mut Context, x: Var) -> Result<Var> {
        let product = MatMul { transpose: [false, true] };
        // images may be stored in BF16, products of matrices are not
        let x = match cx.tape.dtype(x) {
            DType::BF16 => cx.tape.apply(Cast(DType::F32), &[x])?,
            _ => x,
        };
        let y = cx.tape.apply(product, &[x, cx.weights[self.weight]])?;
        cx.tape.apply(ChannelShift, &[y, cx.weights[self.bias]])
    }
}
