//! What a found network has besides cells: the stems in front of them and the auxiliary classifier beside them.

use super::cnn::Stem;
use crate::error::{Error, Result};
use crate::nn::{Context, Conv2d, Linear, Norm};
use crate::ops::pointwise::Relu;
use crate::ops::pool::{AvgPool, GlobalAvgPool};
use crate::ops::window::Window;
use crate::tape::{Builder, Var};

/// Which of the two published networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Macro {
    /// For images of 32 pixels: a stem that keeps their size.
    #[default]
    Cifar,
    /// For images of 224 pixels: three convolutions of stride 2 before the first cell.
    ImageNet,
}

impl Macro {
    /// What one pixel of the first cell's newer input stands for, in pixels of the image.
    pub fn stem_stride(self) -> usize {
        match self {
            Self::Cifar => 1,
            Self::ImageNet => 8,
        }
    }
    /// Height and width of an image have to be multiples of this, for all halves to fit.
    pub fn multiple(self) -> usize {
        4 * self.stem_stride()
    }
    /// Window and stride of the average pool that begins the auxiliary classifier.
    fn auxiliary_pool(self) -> Window {
        let stride = if self == Self::Cifar { 3 } else { 2 };
        Window::square(5, stride, 0, 1)
    }
    /// The smallest image, in pixels, that the auxiliary classifier of a network of `reductions` reductions before it
    /// can look at, and what is left of it there.
    pub fn auxiliary_least(self, reductions: u32) -> [usize; 2] {
        // the convolution after the pool needs two pixels
        let there = 5 + self.auxiliary_pool().stride[0];
        [(there * self.stem_stride()) << reductions, there]
    }
}

/// In front of the first cell.
#[derive(Debug)]
pub(super) enum Stems {
    Cifar(Stem),
    /// Convolutions of stride 2 and their norms: two, whose result is the older input, and one more.
    ImageNet(Box<[(Conv2d, Norm); 3]>),
}

impl Stems {
    /// Stems whose results have [`Self::channels`].
    pub fn new(b: &mut Builder, kind: Macro, image_channels: usize, channels: usize) -> Self {
        if kind == Macro::Cifar {
            return Self::Cifar(Stem::new(b, image_channels, Self::channels(kind, channels)));
        }
        let half = |b: &mut Builder, at: usize, input: usize, output: usize| {
            let conv = Conv2d::dense(b, &at.to_string(), input, output, Window::same(3, 2, 1));
            (conv, Norm::new(b, &(at + 1).to_string(), output, true))
        };
        let [first, second] = b.within("stem0", |b| {
            [half(b, 0, image_channels, channels / 2), half(b, 3, channels / 2, channels)]
        });
        let third = b.within("stem1", |b| half(b, 1, channels, channels));
        Self::ImageNet(Box::new([first, second, third]))
    }
    /// Channels of both inputs of the first cell of C = `channels`.
    pub fn channels(kind: Macro, channels: usize) -> usize {
        if kind == Macro::Cifar { 3 * channels } else { channels }
    }
    /// The inputs of the first cell.
    pub fn forward(&self, cx: &mut Context, images: Var) -> Result<[Var; 2]> {
        match self {
            Self::Cifar(stem) => stem.forward(cx, images).map(|y| [y, y]),
            Self::ImageNet(halves) => {
                let [(conv0, norm0), (conv1, norm1), (conv2, norm2)] = &**halves;
                let x = conv0.forward(cx, images)?;
                let x = norm0.forward(cx, x)?;
                let x = cx.tape.apply(Relu, &[x])?;
                let x = conv1.forward(cx, x)?;
                let older = norm1.forward(cx, x)?;
                let x = cx.tape.apply(Relu, &[older])?;
                let x = conv2.forward(cx, x)?;
                Ok([older, norm2.forward(cx, x)?])
            }
        }
    }
}

/// The auxiliary classifier: relu, average pool, 1 x 1 convolution to 128 channels, norm, relu, 2 x 2 convolution to
/// 768, norm (left out for ImageNet, as in the published code), relu, linear layer.
///
/// The published one is for the one size of images that leaves one pixel; of more, the linear layer gets the mean.
#[derive(Debug)]
pub(super) struct AuxiliaryHead {
    kind: Macro,
    narrow: Conv2d,
    norm: Norm,
    wide: Conv2d,
    last_norm: Option<Norm>,
    classifier: Linear,
}

impl AuxiliaryHead {
    pub fn new(b: &mut Builder, kind: Macro, channels: usize, classes: usize) -> Self {
        b.within("auxiliary_head", |b| {
            let (narrow, norm, wide, last_norm) = b.within("features", |b| {
                let narrow = Conv2d::pointwise(b, "2", channels, 128);
                let norm = Norm::new(b, "3", 128, true);
                let wide = Conv2d::dense(b, "5", 128, 768, Window::square(2, 1, 0, 1));
                (narrow, norm, wide, (kind == Macro::Cifar).then(|| Norm::new(b, "6", 768, true)))
            });
            let classifier = Linear::new(b, "classifier", 768, classes);
            Self { kind, narrow, norm, wide, last_norm, classifier }
        })
    }

    /// Logits (N, classes).
    pub fn forward(&self, cx: &mut Context, x: Var) -> Result<Var> {
        self.check(cx, x)?;
        let x = cx.tape.apply(Relu, &[x])?;
        let x = cx.tape.apply(AvgPool { window: self.kind.auxiliary_pool() }, &[x])?;
        let x = self.narrow.forward(cx, x)?;
        let x = self.norm.forward(cx, x)?;
        let x = cx.tape.apply(Relu, &[x])?;
        let mut x = self.wide.forward(cx, x)?;
        if let Some(norm) = self.last_norm {
            x = norm.forward(cx, x)?;
        }
        let x = cx.tape.apply(Relu, &[x])?;
        let x = cx.tape.apply(GlobalAvgPool, &[x])?;
        self.classifier.forward(cx, x)
    }

    fn check(&self, cx: &Context, x: Var) -> Result<()> {
        let shape = cx.tape.shape(x);
        let [_, least] = self.kind.auxiliary_least(0);
        match shape.nhwc() {
            Some([_, h, w, _]) if h.min(w) >= least => Ok(()),
            _ => Err(Error::shape(
                "auxiliary head",
                format!("needs {least} x {least} pixels at its place, got {shape}"),
            )),
        }
    }
}
