//! Cases of the fused cells, any candidates on their edges, and of their preprocessing: as one operation or as the
//! reference.

use super::{Case, Kind as Values, any, of};
use crate::error::Result;
use crate::ops::batch_norm::fixed_statistics;
use crate::ops::fused::found_cell::FoundCell;
use crate::ops::fused::mixed_cell::{Candidate, Kind, MixedCell, Spec};
use crate::ops::fused::relu_conv_norm::ReluConvNorm;
use crate::ops::window::Window;
use crate::tape::{Op, Tape, Var};
use crate::tensor::{DType, Tensor};
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
        self.of(reference, false)
    }
    /// The case with values kept lean.
    pub fn lean(&self) -> Case {
        self.of(false, true).on_host()
    }
    fn of(&self, reference: bool, lean: bool) -> Case {
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
        let spec = Arc::new(Spec::new(nodes, &candidates, true));
        let op = MixedCell { given: given && spec.norms > 0, spec, keeps_pools: false, lean };
        let mut inputs =
            vec![any([1, weights]), of([n, h, w, c], Values::Spread), of([n, h, w, c], Values::Spread)];
        for candidate in &candidates {
            inputs.extend(weights_of(candidate.kind, c));
        }
        Case::of(format!("{self:?}, reference {reference}"), inputs, move |tape, ins| {
            let mut ins = ins.to_vec();
            let device = tape.value(ins[1]).cuda().is_some();
            let op = MixedCell { keeps_pools: device || lean, ..op.clone() };
            if op.given {
                ins.push(statistics(tape, op.spec.norms, c, ins[0])?);
            }
            if reference { op.reference(tape, &ins) } else { tape.apply(op.clone(), &ins) }
        })
    }
}

/// What a case of a found network's cell is made of.
#[derive(Clone, Debug)]
pub struct Found {
    /// (N, H, W, C) of both inputs.
    pub x: [usize; 4],
    /// Operations on the inputs have stride 2.
    pub reduction: bool,
    /// Two operations a node: the state that each reads, and its place in [`kinds`].
    pub genes: Vec<[usize; 2]>,
    /// Every second operation is multiplied by factors.
    pub drop: bool,
    /// Use statistics that are given.
    pub given: bool,
}

impl Found {
    /// The case; as its reference if told so.
    pub fn case(&self, reference: bool) -> Case {
        self.of(reference, false)
    }
    /// The case with values kept lean.
    pub fn lean(&self) -> Case {
        self.of(false, true)
    }
    fn of(&self, reference: bool, lean: bool) -> Case {
        let Self { x: [n, h, w, c], reduction, ref genes, drop, given } = *self;
        let kind = |from: usize, k: usize| kinds(if reduction && from < 2 { 2 } else { 1 })[k];
        let one = |(i, &[from, k]): (usize, &[usize; 2])| Candidate {
            from,
            node: i / 2,
            entry: i,
            kind: kind(from, k),
        };
        let candidates: Vec<Candidate> = genes.iter().enumerate().map(one).collect();
        let spec = Arc::new(Spec::new(genes.len() / 2, &candidates, false));
        let rows = (0..genes.len()).map(|i| (i % 2 == 0).then_some(i / 2)).collect();
        let mut inputs = vec![of([n, h, w, c], Values::Spread); 2];
        for candidate in &candidates {
            inputs.extend(weights_of(candidate.kind, c));
        }
        inputs.extend(vec![any([c]); 2 * spec.norms]);
        let paths = genes.len() / 2 + 1;
        let op = FoundCell { drop: drop.then_some(rows), given: given && spec.norms > 0, spec, lean };
        let case = Case::of(format!("{self:?}, reference {reference}"), inputs, move |tape, ins| {
            let mut ins = ins.to_vec();
            if drop {
                // as drop path has them: zeros, and a number above one
                let factors: Vec<f64> = (0..paths * n).map(|i| [1.25, 0.0, 1.25][i % 3]).collect();
                let factors = Tensor::from_f64([paths, n], &factors, DType::F64)?;
                ins.push(super::constant(tape, &factors, ins[0])?);
            }
            if op.given {
                ins.push(statistics(tape, op.spec.norms, c, ins[0])?);
            }
            if reference { op.reference(tape, &ins) } else { tape.apply(op.clone(), &ins) }
        });
        case.on_host()
    }
}

/// The weights of a candidate.
fn weights_of(kind: Kind, c: usize) -> Vec<super::Input> {
    let mut inputs = vec![];
    for window in kind.depthwise() {
        let [kh, kw] = window.kernel;
        inputs.extend([any([c, 1, kh, kw]), any([c, c, 1, 1])]);
    }
    if kind == Kind::Reduce {
        inputs.extend([any([c / 2, c, 1, 1]); 2]);
    }
    inputs
}

/// Statistics of so many norms, drawn.
fn statistics(tape: &mut Tape, norms: usize, c: usize, like: Var) -> Result<Var> {
    let draw = |k| super::draw(&of([c], Values::Positive), 3, k);
    let norm = |k: u64| fixed_statistics(&draw(2 * k)?, &draw(2 * k + 1)?);
    let stats = (0..norms as u64).map(norm).collect::<Result<Vec<_>>>()?;
    super::constant(tape, &Tensor::stack(&stats)?, like)
}

/// What a case of a cell's preprocessing is made of.
#[derive(Clone, Copy, Debug)]
pub struct Preprocess {
    /// (N, H, W, C) of the input.
    pub x: [usize; 4],
    /// Output channels of each convolution.
    pub share: usize,
    pub halve: bool,
    /// Scale and shift follow.
    pub affine: bool,
    /// Use statistics that are given.
    pub given: bool,
}

impl Preprocess {
    /// The case; as its reference if told so.
    pub fn case(&self, reference: bool) -> Case {
        self.of(reference, false)
    }
    /// The case with lean numbers.
    pub fn lean(&self) -> Case {
        self.of(false, true).on_host()
    }
    fn of(&self, reference: bool, lean: bool) -> Case {
        let Self { x, share, halve, affine, given } = *self;
        let op = ReluConvNorm { halve, affine, given, lean };
        let convs = if halve { 2 } else { 1 };
        let mut inputs = vec![of(x, Values::AwayFromZero)];
        inputs.extend(vec![any([share, x[3], 1, 1]); convs]);
        inputs.extend(vec![any([convs * share]); if affine { 2 } else { 0 }]);
        let case = Case::of(format!("{self:?}, reference {reference}"), inputs, move |tape, ins| {
            let mut ins = ins.to_vec();
            if given {
                let draw = |k| super::draw(&of([convs * share], Values::Positive), 3, k);
                ins.push(super::constant(tape, &fixed_statistics(&draw(0)?, &draw(1)?)?, ins[0])?);
            }
            if reference { op.reference(tape, &ins) } else { tape.apply(op, &ins) }
        });
        Case { host_only: affine, ..case }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let preprocess = |x, share, halve, given| {
        [false, true].map(|affine| Preprocess { x, share, halve, affine, given }.case(false))
    };
    let cell = |x, nodes, reduction, chosen: &[&[usize]]| {
        let chosen = chosen.iter().map(|c| c.to_vec()).collect();
        Cell { x, nodes, reduction, chosen, given: false }.case(false)
    };
    let found = |x, reduction, genes: &[[usize; 2]], drop, given| {
        Found { x, reduction, genes: genes.to_vec(), drop, given }.case(false)
    };
    let mut all = vec![
        cell([2, 3, 4, 3], 1, false, &[&[0, 3, 5]]),
        cell([2, 4, 4, 2], 1, true, &[&[0, 6], &[1, 2]]),
        cell([2, 3, 3, 2], 2, false, &[&[1, 2], &[0], &[], &[3, 5]]),
        found([2, 3, 4, 3], false, &[[0, 5], [1, 2]], true, false),
        found([2, 4, 4, 2], true, &[[0, 0], [1, 1], [2, 3], [1, 0]], true, false),
        found([3, 3, 3, 2], false, &[[0, 1], [0, 0], [1, 5], [2, 2]], false, true),
    ];
    all.extend(preprocess([3, 3, 5, 7], 3, false, false));
    all.extend(preprocess([2, 4, 2, 5], 3, true, false));
    all.extend(preprocess([2, 2, 3, 8], 4, false, true));
    all.extend(preprocess([1, 4, 4, 3], 1, true, true));
    all
}
