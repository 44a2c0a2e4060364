//! Cases of the fused cell, any candidates on its edges, and of its preprocessing: as one operation or as the reference.

use super::{Case, Kind as Values, any, of};
use crate::error::Result;
use crate::ops::batch_norm::fixed_statistics;
use crate::ops::fused::mixed_cell::{Candidate, Kind, MixedCell, Spec};
use crate::ops::fused::relu_conv_norm::ReluConvNorm;
use crate::ops::window::Window;
use crate::tape::Op;
use crate::tensor::Tensor;
use std::sync::Arc;

/// All kinds of candidates that take an image to its `stride`-th part.
pub fn kinds(stride: usize) -> Vec<Kind> {
    let same = |kernel, dilation| Window::same(kernel, stride, dilation);
    let two = |kernel| Kind::TwoConvs([same(kernel, 1), Window::same(kernel, 1, 1)]);
    let skip = if stride == 1 { Kind::Identity } else { Kind::Reduce };
    vec![
        skip,
        Kind::MaxPool(same(3, 1)),
        Kind::AvgPool(same(3, 1)),
        Kind::Conv(same(3, 2)),
        Kind::Conv(same(5, 2)),
        two(3),
        two(5),
        two(7),
        Kind::Conv(same(3, 3)),
    ]
}

/// What a case of a cell is made of.
#[derive(Clone, Debug)]
pub struct Cell {
    /// (N, H, W, C) of both inputs.
    pub x: [usize; 4],
    pub nodes: usize,
    /// Edges from the inputs have stride 2.
    pub reduction: bool,
    /// Candidates of each edge in turn, and again from the start: places in [`kinds`].
    pub chosen: Vec<Vec<usize>>,
    /// Use statistics that are given.
    pub given: bool,
}

impl Cell {
    /// The case; as its reference if told so.
    pub fn case(&self, reference: bool) -> Case {
        let Self { x: [n, h, w, c], nodes, reduction, ref chosen, given } = *self;
        let ends = (0..nodes).flat_map(|node| (0..node + 2).map(move |from| (from, node)));
        let mut candidates = vec![];
        for ((from, node), chosen) in ends.zip(chosen.iter().cycle()) {
            let kinds = kinds(if reduction && from < 2 { 2 } else { 1 });
            for &k in chosen {
                // with gaps: weights that belong to nobody have no gradient
                let entry = 2 * candidates.len();
                candidates.push(Candidate { from, node, entry, kind: kinds[k] });
            }
        }
        let weights = 2 * candidates.len();
        let spec = Arc::new(Spec::new(nodes, &candidates));
        let op = MixedCell { given: given && spec.norms > 0, spec };
        let mut inputs =
            vec![any([1, weights]), of([n, h, w, c], Values::Spread), of([n, h, w, c], Values::Spread)];
        for candidate in &candidates {
            for window in candidate.kind.depthwise() {
                let [kh, kw] = window.kernel;
                inputs.extend([any([c, 1, kh, kw]), any([c, c, 1, 1])]);
            }
            if candidate.kind == Kind::Reduce {
                inputs.extend([any([c / 2, c, 1, 1]); 2]);
            }
        }
        Case::of(format!("{self:?}, reference {reference}"), inputs, move |tape, ins| {
            let mut ins = ins.to_vec();
            if op.given {
                let draw = |k| super::draw(&of([c], Values::Positive), 3, k);
                let norm = |k: u64| fixed_statistics(&draw(2 * k)?, &draw(2 * k + 1)?);
                let stats = (0..op.spec.norms as u64).map(norm).collect::<Result<Vec<_>>>()?;
                ins.push(super::constant(tape, &Tensor::stack(&stats)?, ins[0])?);
            }
            if reference { op.reference(tape, &ins) } else { tape.apply(op.clone(), &ins) }
        })
    }
}

/// What a case of a cell's preprocessing is made of.
#[derive(Clone, Copy, Debug)]
pub struct Preprocess {
    /// (N, H, W, C) of the input.
    pub x: [usize; 4],
    /// Output channels of each convolution.
    pub share: usize,
    pub halve: bool,
    /// Use statistics that are given.
    pub given: bool,
}

impl Preprocess {
    /// The case; as its reference if told so.
    pub fn case(&self, reference: bool) -> Case {
        let Self { x, share, halve, given } = *self;
        let op = ReluConvNorm { halve, given };
        let convs = if halve { 2 } else { 1 };
        let mut inputs = vec![of(x, Values::AwayFromZero)];
        inputs.extend(vec![any([share, x[3], 1, 1]); convs]);
        Case::of(format!("{self:?}, reference {reference}"), inputs, move |tape, ins| {
            let mut ins = ins.to_vec();
            if given {
                let draw = |k| super::draw(&of([convs * share], Values::Positive), 3, k);
                ins.push(super::constant(tape, &fixed_statistics(&draw(0)?, &draw(1)?)?, ins[0])?);
            }
            if reference { op.reference(tape, &ins) } else { tape.apply(op, &ins) }
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    let preprocess = |x, share, halve, given| Preprocess { x, share, halve, given }.case(false);
    let cell = |x, nodes, reduction, chosen: &[&[usize]]| {
        let chosen = chosen.iter().map(|c| c.to_vec()).collect();
        Cell { x, nodes, reduction, chosen, given: false }.case(false)
    };
    vec![
        cell([2, 3, 4, 3], 1, false, &[&[0, 3, 5]]),
        cell([2, 4, 4, 2], 1, true, &[&[0, 6], &[1, 2]]),
        cell([2, 3, 3, 2], 2, false, &[&[1, 2], &[0], &[], &[3, 5]]),
        preprocess([3, 3, 5, 7], 3, false, false),
        preprocess([2, 4, 2, 5], 3, true, false),
        preprocess([2, 2, 3, 8], 4, false, true),
        preprocess([1, 4, 4, 3], 1, true, true),
    ]
}
