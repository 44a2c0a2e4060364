//! Candidate operations of the DARTS convolutional space, under their published names and weight names.
//!
//! Each ends in a batch norm or is an identity. One more of the kind is a [`Candidate`] and the
//! [`Operation`](super::Operation) that builds it, which a space takes as it takes these; `examples/own_operation.rs`
//! has one. A published one is a struct here and a line in `build` and in `genotype::CANDIDATES`. Sources: section 3.1 and appendix of arXiv 1806.09055; `conv_7x1_1x7` and `sep_conv_7x7`
//! from NASNet (arXiv 1707.07012).

use super::genotype::CANDIDATES;
use crate::error::{Error, Result};
use crate::nn::{Context, Conv2d, Norm};
use crate::ops::concat::Concat;
use crate::ops::fused::mixed_cell::Kind;
use crate::ops::pointwise::{Relu, Scale};
use crate::ops::pool::{AvgPool, MaxPool};
use crate::ops::subsample::{Phase, Subsample};
use crate::ops::window::Window;
use crate::suggest;
use crate::tape::{Builder, Var};

/// A node's value, and its relu once somebody asked for it: candidates share it.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub x: Var,
    relu: Option<Var>,
}

impl State {
    pub fn new(x: Var) -> Self {
        Self { x, relu: None }
    }
    pub fn relu(&mut self, cx: &mut Context) -> Result<Var> {
        match self.relu {
            Some(y) => Ok(y),
            None => {
                let y = cx.tape.apply(Relu, &[self.x])?;
                self.relu = Some(y);
                Ok(y)
            }
        }
    }
}

/// What a candidate computes: a value, and a normalisation that is still to be applied to it.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub value: Var,
    pub norm: Option<Norm>,
}

impl Term {
    /// `value`, with the batch norm that ends a candidate left to whoever sums it up.
    pub fn new(value: Var, norm: Option<Norm>) -> Self {
        Self { value, norm }
    }
    pub fn normalised(self, cx: &mut Context) -> Result<Var> {
        match self.norm {
            Some(norm) => norm.forward(cx, self.value),
            None => Ok(self.value),
        }
    }
}

/// A candidate in a form that a whole cell can be computed from at once.
#[derive(Clone, Debug)]
pub struct Fused {
    /// `None` contributes nothing.
    pub kind: Option<Kind>,
    pub weights: Vec<usize>,
    pub norms: Vec<Norm>,
}

impl Fused {
    fn of(
        kind: Kind,
        weights: impl IntoIterator<Item = usize>,
        norms: impl IntoIterator<Item = Norm>,
    ) -> Self {
        Self { kind: Some(kind), weights: weights.into_iter().collect(), norms: norms.into_iter().collect() }
    }
}

/// An operation on one edge. Of its input, (N, H, W, C), it makes (N, H / stride, W / stride, C).
pub trait Candidate: std::fmt::Debug {
    /// The contribution of `input`, or `None` if it is zero whatever the input (`none`).
    fn forward(&self, cx: &mut Context, input: &mut State) -> Result<Option<Term>>;
    /// Whether drop path applies to it: to all but identities.
    fn may_be_dropped(&self) -> bool {
        true
    }
    /// Its form in a fused cell, if it has one; a cell with a candidate that has none is computed one operation at a
    /// time.
    fn fused(&self) -> Option<Fused> {
        None
    }
}

/// Where a candidate is built.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub channels: usize,
    /// 2 on edges from the inputs of a reduction cell, else 1.
    pub stride: usize,
    /// Whether batch norms have scale and shift: yes in found networks, no in supernets.
    pub affine: bool,
    /// Whether pools are followed by a batch norm: no in found networks, yes in supernets.
    pub pool_norm: bool,
}

/// Builds the published candidate called `name`; its weights are named below the builder's prefix.
pub(super) fn build(b: &mut Builder, name: &str, place: Place) -> Result<Box<dyn Candidate>> {
    let Place { channels, stride, affine, .. } = place;
    Ok(match name {
        "none" => Box::new(Zero),
        "max_pool_3x3" => Box::new(Pool::new(b, Pooling::Max, place)),
        "avg_pool_3x3" => Box::new(Pool::new(b, Pooling::Avg, place)),
        "skip_connect" if stride == 1 => Box::new(Identity),
        "skip_connect" => Box::new(FactorizedReduce::new(b, channels, channels, affine)?),
        "sep_conv_3x3" => Box::new(SepConv::new(b, 3, place)),
        "sep_conv_5x5" => Box::new(SepConv::new(b, 5, place)),
        "sep_conv_7x7" => Box::new(SepConv::new(b, 7, place)),
        "dil_conv_3x3" => Box::new(DilConv::new(b, 3, place)),
        "dil_conv_5x5" => Box::new(DilConv::new(b, 5, place)),
        "conv_7x1_1x7" => Box::new(Conv7x1::new(b, place)),
        other => return Err(unknown(other)),
    })
}

/// That there is no published operation called `name`.
pub(super) fn unknown(name: &str) -> Error {
    let hint = suggest::hint(name, CANDIDATES);
    Error::config("space.candidates", format!("unknown candidate operation {name:?}; {hint}"))
}

/// Contributes nothing and costs nothing.
#[derive(Debug)]
struct Zero;
impl Candidate for Zero {
    fn forward(&self, _cx: &mut Context, _input: &mut State) -> Result<Option<Term>> {
        Ok(None)
    }
    fn may_be_dropped(&self) -> bool {
        false // there is nothing to drop
    }
    fn fused(&self) -> Option<Fused> {
        Some(Fused { kind: None, weights: vec![], norms: vec![] })
    }
}

/// A zero of the shape that an operation of this stride gives: a node all of whose operations are `none`.
pub fn zero(cx: &mut Context, input: &State, stride: usize) -> Result<Var> {
    let x = cx.tape.apply(Subsample(Phase { stride, offset: 0 }), &[input.x])?;
    cx.tape.apply(Scale(0.0), &[x])
}

#[derive(Debug)]
struct Identity;
impl Candidate for Identity {
    fn forward(&self, _cx: &mut Context, input: &mut State) -> Result<Option<Term>> {
        Ok(Some(Term::new(input.x, None)))
    }
    fn may_be_dropped(&self) -> bool {
        false
    }
    fn fused(&self) -> Option<Fused> {
        Some(Fused::of(Kind::Identity, [], []))
    }
}

#[derive(Clone, Copy, Debug)]
enum Pooling {
    Max,
    Avg,
}

/// 3 x 3 pooling, then batch norm in supernets.
#[derive(Debug)]
struct Pool {
    pooling: Pooling,
    window: Window,
    norm: Option<Norm>,
}
impl Pool {
    fn new(b: &mut Builder, pooling: Pooling, place: Place) -> Self {
        let norm = place.pool_norm.then(|| Norm::new(b, "1", place.channels, false));
        Self { pooling, window: Window::same(3, place.stride, 1), norm }
    }
}
impl Candidate for Pool {
    fn forward(&self, cx: &mut Context, input: &mut State) -> Result<Option<Term>> {
        let window = self.window;
        let value = match self.pooling {
            Pooling::Max => cx.tape.apply(MaxPool { window }, &[input.x])?,
            Pooling::Avg => cx.tape.apply(AvgPool { window }, &[input.x])?,
        };
        Ok(Some(Term::new(value, self.norm)))
    }
    fn fused(&self) -> Option<Fused> {
        let kind = match self.pooling {
            Pooling::Max => Kind::MaxPool(self.window),
            Pooling::Avg => Kind::AvgPool(self.window),
        };
        Some(Fused::of(kind, [], self.norm))
    }
}

/// Halves an image: relu, then two 1 x 1 convolutions of stride 2 on the even and on the odd pixels, concatenated.
#[derive(Clone, Debug)]
pub struct FactorizedReduce {
    even: Conv2d,
    odd: Conv2d,
    norm: Norm,
}
impl FactorizedReduce {
    pub fn new(b: &mut Builder, input: usize, output: usize, affine: bool) -> Result<Self> {
        if !output.is_multiple_of(2) {
            let what =
                format!("{output} cannot be split into two halves by a stride-2 skip; take an even number");
            return Err(Error::config("space.channels", what));
        }
        let even = Conv2d::pointwise(b, "conv_1", input, output / 2);
        let odd = Conv2d::pointwise(b, "conv_2", input, output / 2);
        Ok(Self { even, odd, norm: Norm::new(b, "bn", output, affine) })
    }
    pub fn term(&self, cx: &mut Context, input: &mut State) -> Result<Term> {
        let x = input.relu(cx)?;
        let half = |cx: &mut Context, conv: &Conv2d, offset| {
            let pixels = cx.tape.apply(Subsample(Phase { stride: 2, offset }), &[x])?;
            conv.forward(cx, pixels)
        };
        let halves = [half(cx, &self.even, 0)?, half(cx, &self.odd, 1)?];
        Ok(Term::new(cx.tape.apply(Concat, &halves)?, Some(self.norm)))
    }
    /// Its weights and its norm, for an operation that does all of it.
    pub fn parts(&self) -> (Vec<usize>, Norm) {
        ([&self.even, &self.odd].map(Conv2d::weight_index).to_vec(), self.norm)
    }
}
impl Candidate for FactorizedReduce {
    fn forward(&self, cx: &mut Context, input: &mut State) -> Result<Option<Term>> {
        self.term(cx, input).map(Some)
    }
    fn fused(&self) -> Option<Fused> {
        let (weights, norm) = self.parts();
        Some(Fused::of(Kind::Reduce, weights, [norm]))
    }
}

/// Relu, 1 x 1 convolution, batch norm: brings a cell's input to the cell's channels.
#[derive(Clone, Debug)]
pub struct ReluConvBn {
    conv: Conv2d,
    norm: Norm,
}
impl ReluConvBn {
    pub fn new(b: &mut Builder, input: usize, output: usize, affine: bool) -> Self {
        let conv = Conv2d::pointwise(b, "op.1", input, output);
        Self { conv, norm: Norm::new(b, "op.2", output, affine) }
    }
    pub fn term(&self, cx: &mut Context, input: &mut State) -> Result<Term> {
        let x = input.relu(cx)?;
        Ok(Term::new(self.conv.forward(cx, x)?, Some(self.norm)))
    }
    /// Its weights and its norm, for an operation that does all of it.
    pub fn parts(&self) -> (Vec<usize>, Norm) {
        (vec![self.conv.weight_index()], self.norm)
    }
}

/// Relu, depthwise, 1 x 1, batch norm: a dilated convolution, or half a separable one.
#[derive(Debug)]
struct ReluConvNorm {
    depthwise: Conv2d,
    pointwise: Conv2d,
    norm: Norm,
}
impl ReluConvNorm {
    /// Weights are called `op.{at}` and the next two.
    fn new(b: &mut Builder, at: usize, window: Window, place: Place) -> Self {
        let c = place.channels;
        let depthwise = Conv2d::depthwise(b, &format!("op.{at}"), c, window);
        let pointwise = Conv2d::pointwise(b, &format!("op.{}", at + 1), c, c);
        Self { depthwise, pointwise, norm: Norm::new(b, &format!("op.{}", at + 2), c, place.affine) }
    }
    fn term(&self, cx: &mut Context, input: &mut State) -> Result<Term> {
        let x = input.relu(cx)?;
        let x = self.depthwise.forward(cx, x)?;
        Ok(Term::new(self.pointwise.forward(cx, x)?, Some(self.norm)))
    }
    fn weights(&self) -> [usize; 2] {
        [&self.depthwise, &self.pointwise].map(Conv2d::weight_index)
    }
}

/// Twice relu, depthwise, 1 x 1, batch norm, the stride being in the first.
#[derive(Debug)]
struct SepConv {
    halves: [ReluConvNorm; 2],
}
impl SepConv {
    fn new(b: &mut Builder, kernel: usize, place: Place) -> Self {
        let mut half = |at, stride| ReluConvNorm::new(b, at, Window::same(kernel, stride, 1), place);
        Self { halves: [half(1, place.stride), half(5, 1)] }
    }
}
impl Candidate for SepConv {
    fn forward(&self, cx: &mut Context, input: &mut State) -> Result<Option<Term>> {
        let [first, second] = &self.halves;
        let between = first.term(cx, input)?.normalised(cx)?;
        second.term(cx, &mut State::new(between)).map(Some)
    }
    fn fused(&self) -> Option<Fused> {
        let windows = self.halves.each_ref().map(|h| h.depthwise.window());
        let norms = self.halves.each_ref().map(|h| h.norm);
        let weights = self.halves.iter().flat_map(ReluConvNorm::weights);
        Some(Fused::of(Kind::TwoConvs(windows), weights, norms))
    }
}

/// Relu, depthwise of dilation 2, 1 x 1, batch norm.
#[derive(Debug)]
struct DilConv(ReluConvNorm);
impl DilConv {
    fn new(b: &mut Builder, kernel: usize, place: Place) -> Self {
        Self(ReluConvNorm::new(b, 1, Window::same(kernel, place.stride, 2), place))
    }
}
impl Candidate for DilConv {
    fn forward(&self, cx: &mut Context, input: &mut State) -> Result<Option<Term>> {
        self.0.term(cx, input).map(Some)
    }
    fn fused(&self) -> Option<Fused> {
        let ReluConvNorm { depthwise, norm, .. } = &self.0;
        Some(Fused::of(Kind::Conv(depthwise.window()), self.0.weights(), [*norm]))
    }
}

/// Relu, 1 x 7, 7 x 1, batch norm; the stride is split over the two.
#[derive(Debug)]
struct Conv7x1 {
    row: Conv2d,
    column: Conv2d,
    norm: Norm,
}
impl Conv7x1 {
    fn new(b: &mut Builder, place: Place) -> Self {
        let (c, s) = (place.channels, place.stride);
        let window = |kernel, stride, padding| Window { kernel, stride, padding, dilation: [1; 2] };
        let row = Conv2d::dense(b, "1", c, c, window([1, 7], [1, s], [0, 3]));
        let column = Conv2d::dense(b, "2", c, c, window([7, 1], [s, 1], [3, 0]));
        Self { row, column, norm: Norm::new(b, "3", c, place.affine) }
    }
}
impl Candidate for Conv7x1 {
    fn forward(&self, cx: &mut Context, input: &mut State) -> Result<Option<Term>> {
        let x = input.relu(cx)?;
        let x = self.row.forward(cx, x)?;
        Ok(Some(Term::new(self.column.forward(cx, x)?, Some(self.norm))))
    }
}
