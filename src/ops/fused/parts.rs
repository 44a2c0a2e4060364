//! What the operations that stand for whole cells share: checks, costs, and the reference composition of a candidate.

use crate::error::{Error, Result};
use crate::ops::batch_norm::{BatchNorm, Normalise};
use crate::ops::concat::Concat;
use crate::ops::conv::{Conv, Geometry};
use crate::ops::pointwise::Relu;
use crate::ops::pool::{AvgPool, MaxPool};
use crate::ops::subsample::{Phase, Subsample};
use crate::ops::window::Window;
use crate::tape::{Cost, Op, Out, Saved, Tape, Var};
use crate::tensor::{Element, Shape, Tensor};
use oche_cpu::CellKernels;
use oche_cpu::cell::{self as kernel, Kind, Sizes, Spec};

pub(super) const POINTWISE: Geometry = Geometry {
    window: Window { kernel: [1; 2], stride: [1; 2], padding: [0; 2], dilation: [1; 2] },
    depthwise: false,
};

/// That there are as many inputs as there should be.
pub(super) fn count(op: &'static str, ins: &[Shape], expected: usize) -> Result<()> {
    match ins.len() == expected {
        true => Ok(()),
        false => Err(Error::shape(op, format!("wants {expected} inputs, got {}", ins.len()))),
    }
}

/// Extents of a cell of these states and weights. Norms by the batch need more than one value a channel.
pub(super) fn sizes(
    op: &'static str,
    spec: &Spec,
    states: [Shape; 2],
    weights: &[Shape],
    given: bool,
) -> Result<Sizes> {
    let wrong = |what: String| Error::shape(op, what);
    let (Some([n, h0, w0, c]), Some([n1, h1, w1, c1])) = (states[0].nhwc(), states[1].nhwc()) else {
        return Err(wrong(format!("wants images (N, H, W, C), got {} and {}", states[0], states[1])));
    };
    if (n, c) != (n1, c1) || [n, h0, w0, c, h1, w1].contains(&0) {
        return Err(wrong(format!("inputs {} and {} do not fit each other", states[0], states[1])));
    }
    let inputs = [[h0, w0], [h1, w1]];
    let mut out = None;
    for item in &spec.items {
        if item.node >= spec.nodes || item.from >= 2 + item.node {
            return Err(wrong(format!("no place for {item:?}")));
        }
        let Some(size) = inputs.get(item.from).copied().or(out) else {
            return Err(wrong("a node reads another before anything reads the inputs".to_owned()));
        };
        if item.kind == Kind::Reduce && (size[0] % 2, size[1] % 2, c % 2) != (0, 0, 0) {
            return Err(wrong(format!("a stride-2 skip wants even sizes and channels, got {size:?}, {c}")));
        }
        let size = item.kind.window().out(size).map_err(&wrong)?;
        if *out.get_or_insert(size) != size {
            return Err(wrong(format!("{item:?} gives {size:?} pixels where others give {out:?}")));
        }
        for (k, window) in item.kind.depthwise().iter().enumerate() {
            let [kh, kw] = window.kernel;
            let weights = [weights[item.weight + 2 * k], weights[item.weight + 2 * k + 1]];
            if weights != [Shape::from([c, 1, kh, kw]), Shape::from([c, c, 1, 1])] {
                return Err(wrong(format!("weights {weights:?} do not fit {c} channels and {window:?}")));
            }
            if k == 1 && window.out(size).map_err(&wrong)? != size {
                return Err(wrong(format!("the second half {window:?} changes the size")));
            }
        }
    }
    let out = out.unwrap_or(inputs[1]);
    if spec.norms > 0 && !given {
        BatchNorm.shape(&[Shape::from([n, out[0], out[1], c])])?;
    }
    Ok(Sizes { n, c, inputs, out })
}

/// Multiply-adds of the convolutions, those of the 1 x 1 apart.
fn macs(spec: &Spec, sizes: &Sizes) -> [u64; 2] {
    let (node, c) = ((sizes.n * sizes.node()) as u64, sizes.c as u64);
    let mut macs = [0, 0];
    for item in &spec.items {
        for window in item.kind.depthwise() {
            macs[0] += node * window.taps() as u64;
            macs[1] += node * c;
        }
        macs[1] += if item.kind == Kind::Reduce { node * c } else { 0 };
    }
    macs
}

/// What a forward (`passes` 1), or a backward with as many passes over the convolutions, does; `values` are the reads
/// and writes of a value a pass.
pub(super) fn cost(spec: &Spec, sizes: &Sizes, passes: u64, values: [u64; 2]) -> Cost {
    let node = (sizes.n * sizes.node()) as u64;
    let inputs: u64 = [0, 1].map(|from| (sizes.n * sizes.image(from)) as u64).iter().sum();
    let states = inputs + spec.nodes as u64 * node;
    let macs: u64 = passes * macs(spec, sizes).iter().sum::<u64>();
    let values = values.map(|k| k * spec.values as u64 * node);
    let sums = 2 * spec.items.len() as u64 * node;
    Cost { flops: 2 * macs + sums, macs, reads: states + values[0], writes: states + values[1] }
}

/// Values and taps that are saved: those of pools or not.
fn kept(spec: &Spec, pools: bool) -> [usize; 2] {
    if pools { [spec.values, spec.maxima.len()] } else { [spec.values - spec.pools.len(), 0] }
}

/// Tensors that are saved.
pub(super) fn saved(spec: &Spec, pools: bool) -> usize {
    1 + kept(spec, pools).iter().sum::<usize>()
}

/// Statistics of all norms, (norms, 3, C) as `BatchNorm` saves them, the values before the norms, the taps of maxima;
/// `pools` says whether those of pools are among them, `lean` whether the values are kept lean.
pub(super) fn saves(spec: &Spec, sizes: &Sizes, pools: bool, lean: bool) -> Vec<Saved> {
    let [values, taps] = kept(spec, pools);
    let image = Shape::from([sizes.n, sizes.out[0], sizes.out[1], sizes.c]);
    let mut saved = vec![Saved::Exact(Shape::from([spec.norms, 3, sizes.c]))];
    saved.extend((0..values).map(|_| if lean { Saved::Kept(image) } else { Saved::Real(image) }));
    saved.extend((0..taps).map(|_| Saved::Index(image)));
    saved
}

/// Runs the forward, `out` saving what [`saves`] says.
pub(super) fn forward<R: CellKernels<Kept: Element> + Element>(cell: &kernel::Cell<R>, out: &mut Out) {
    let spec = cell.spec;
    let mut pools = (out.saved.len() < saved(spec, true)).then(|| kernel::Pools::<R>::new(spec, &cell.sizes));
    let (of_pools, mut taps) = pools.as_mut().map_or((vec![], vec![]), |pools| pools.parts_mut());
    let Some((stats, kept)) = out.saved.split_first_mut() else { unreachable!("statistics are saved") };
    let (values, indices) = kept.split_at_mut(spec.values - of_pools.len());
    taps.extend(indices.iter_mut().map(|taps| taps.make_mut::<u8>()));
    let mut values = in_order(spec, values.iter_mut().map(|v| v.make_mut()), of_pools);
    R::cell(cell, out.value.make_mut(), stats.make_mut(), &mut values, &mut taps);
}

/// Runs the backward of that; `kept` are the gradient of the nodes, the nodes and what the forward saved.
pub(super) fn gradient<R: CellKernels<Kept: Element> + Element>(
    cell: &kernel::Cell<R>,
    kept: &[&Tensor],
    to: kernel::Gradients<R>,
) {
    let (spec, y) = (cell.spec, kept[1].as_slice::<R>());
    let again = (kept.len() - 2 < saved(spec, true)).then(|| R::pools_again(cell, y));
    let (of_pools, mut taps) = again.as_ref().map_or((vec![], vec![]), |pools| pools.parts());
    let (values, indices) = kept[3..].split_at(spec.values - of_pools.len());
    taps.extend(indices.iter().map(|taps| taps.as_slice::<u8>()));
    let values = in_order(spec, values.iter().map(|v| v.as_slice()), of_pools);
    let left = kernel::Kept { y, stats: kept[2].as_slice(), values, indices: taps };
    R::cell_gradient(cell, &left, kept[0].as_slice(), to);
}

/// All values, from those that are saved and those of pools, if these are not among them.
fn in_order<T>(spec: &Spec, saved: impl Iterator<Item = T>, pools: Vec<T>) -> Vec<T> {
    let (mut saved, mut pools) = (saved, pools.into_iter());
    let apart = pools.len() > 0;
    let next = |v: usize| if apart && spec.pools.contains(&v) { pools.next() } else { saved.next() };
    (0..spec.values).filter_map(next).collect()
}

/// A node that nothing goes into.
pub(super) fn zeros(tape: &mut Tape, like: Var, sizes: &Sizes) -> Result<Var> {
    let shape = [sizes.n, sizes.out[0], sizes.out[1], sizes.c];
    let zeros = tape.value(like).zeros_alike(shape, tape.dtype(like))?;
    Ok(tape.constant(zeros))
}

/// x normalised by the batch, or by row `at` of given statistics.
pub(super) fn norm(tape: &mut Tape, x: Var, given: Option<Var>, at: usize) -> Result<Var> {
    let Some(given) = given else { return tape.apply(BatchNorm, &[x]) };
    let stats = tape.value(given).clone();
    let c = stats.shape().last();
    let [mean, variance] = [0, 2].map(|row| stats.view((at * 3 + row) * c, [c]));
    let (mean, variance) = (tape.constant(mean), tape.constant(variance));
    tape.apply(Normalise, &[x, mean, variance])
}

/// A candidate of `x`, its norms by `norm(tape, value, which)`.
pub(super) fn candidate(
    tape: &mut Tape,
    kind: Kind,
    x: Var,
    weights: &[Var],
    norm: impl Fn(&mut Tape, Var, usize) -> Result<Var>,
) -> Result<Var> {
    let mut value = match kind {
        Kind::Identity => return Ok(x),
        Kind::MaxPool(window) => tape.apply(MaxPool { window }, &[x])?,
        Kind::AvgPool(window) => tape.apply(AvgPool { window }, &[x])?,
        Kind::Reduce => {
            let a = tape.apply(Relu, &[x])?;
            let mut halves = vec![];
            for (offset, &w) in weights.iter().enumerate() {
                let pixels = tape.apply(Subsample(Phase { stride: 2, offset }), &[a])?;
                halves.push(tape.apply(Conv(POINTWISE), &[pixels, w])?);
            }
            tape.apply(Concat, &halves)?
        }
        Kind::Conv(_) | Kind::TwoConvs(_) => x,
    };
    for (k, &window) in kind.depthwise().iter().enumerate() {
        let before = if k == 0 { value } else { norm(tape, value, 0)? };
        let a = tape.apply(Relu, &[before])?;
        let d = tape.apply(Conv(Geometry { window, depthwise: true }), &[a, weights[2 * k]])?;
        value = tape.apply(Conv(POINTWISE), &[d, weights[2 * k + 1]])?;
    }
    norm(tape, value, kind.values() - 1)
}
