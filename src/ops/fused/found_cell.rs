//! A whole cell of a found network: two chosen operations a node, norms with scale and shift, paths that are dropped.
//!
//! `node_i = sum over its operations k of s_k norm_k(op_k(state))`, `norm(x) = gamma z + beta` with z = (x - m) r, and
//! s_k 0 or 1 / keep for every image (drop path, arXiv 1605.07648) or 1. With S1 = sum s dy and S2 = sum s dy z over
//! the M pixels of a channel: `dgamma` = S2, `dbeta` = S1 and `dx = gamma r (s dy - S1/M - z S2/M)`; the sums that the
//! norms need are the gradients of scale and shift. Everything else is as in `mixed_cell`. For the CPU only.

use super::parts;
use crate::error::{Error, Result};
use crate::on_kept;
use crate::ops::channel::{ChannelScale, ChannelShift};
use crate::ops::concat::Concat;
use crate::ops::image_scale::ImageScale;
use crate::ops::pointwise::Add;
use crate::tape::{Cost, Op, Out, Pullback, Saved, Tape, Var};
use crate::tensor::{DType, Element, Real, Shape, Tensor};
use oche_cpu::cell::{self as kernel, Sizes, Spec};
use std::sync::Arc;

/// (state 0, state 1, weights .., gamma and beta of every norm .., factors (paths, N) if any, statistics if given) ->
/// the nodes side by side, (N, H, W, nodes C). Saves what `MixedCell` does.
#[derive(Clone, Debug)]
pub struct FoundCell {
    pub spec: Arc<Spec>,
    /// Of every operation, the row of the factors that it is multiplied by, if any; none if there are no factors.
    pub drop: Option<Arc<[Option<usize>]>>,
    /// Statistics (norms, 3, C) to use instead of the batch's are the last input.
    pub given: bool,
    /// Compute `f32` as [`Lean`](crate::tensor::Lean) numbers: half the memory of what is saved.
    pub lean: bool,
}

impl FoundCell {
    /// Where scales and shifts begin among the inputs, where the factors are or would be, and how many inputs there are.
    fn places(&self) -> [usize; 3] {
        let affine = 2 + self.spec.weights;
        let drop = affine + 2 * self.spec.norms;
        [affine, drop, drop + usize::from(self.drop.is_some()) + usize::from(self.given)]
    }

    fn sizes(&self, ins: &[Shape]) -> Result<Sizes> {
        let (op, [affine, drop, count]) = ("found_cell", self.places());
        parts::count(op, ins, count)?;
        let sizes = parts::sizes(op, &self.spec, [ins[0], ins[1]], &ins[2..], self.given)?;
        let c = Shape::from([sizes.c]);
        if let Some(wrong) = ins[affine..drop].iter().find(|s| **s != c) {
            return Err(Error::shape(op, format!("{wrong} is not one number a channel of {}", ins[0])));
        }
        if let Some(rows) = &self.drop {
            let paths = rows.iter().flatten().max().map_or(0, |last| last + 1);
            match *ins[drop].dims() {
                [all, n] if all >= paths && n == sizes.n => {}
                _ => return Err(Error::shape(op, format!("{} are not factors of {paths} paths", ins[drop]))),
            }
        }
        Ok(sizes)
    }

    fn operands<'a, R: Element + Real>(&'a self, ins: &[&'a Tensor], sizes: Sizes) -> kernel::Cell<'a, R> {
        let [affine, drop, count] = self.places();
        let slices = |ins: &[&'a Tensor]| ins.iter().map(|x| x.as_slice::<R>()).collect::<Vec<_>>();
        let row = |row: &Option<usize>| row.map(|row| &ins[drop].as_slice::<R>()[row * sizes.n..][..sizes.n]);
        kernel::Cell {
            spec: &self.spec,
            sizes,
            mix: vec![R::ONE; self.spec.items.len()].into(),
            affine: slices(&ins[affine..drop]).chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect(),
            drop: self.drop.iter().flat_map(|rows| rows.iter().map(row)).collect(),
            inputs: [ins[0].as_slice(), ins[1].as_slice()],
            weights: slices(&ins[2..affine]),
            given: self.given.then(|| ins[count - 1].as_slice()),
            plain: vec![],
        }
    }
}

fn shapes(ins: &[&Tensor]) -> Vec<Shape> {
    ins.iter().map(|x| *x.shape()).collect()
}

fn host_only(out: &Out) -> Result<()> {
    match out.value.cuda() {
        None => Ok(()),
        Some(_) => {
            Err(Error::device("found_cell has no kernel for a device; compute the cell by its operations"))
        }
    }
}

impl Op for FoundCell {
    fn name(&self) -> &'static str {
        "found_cell"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let Sizes { n, c, out, .. } = self.sizes(ins)?;
        Ok(Shape::from([n, out[0], out[1], self.spec.nodes * c]))
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        self.sizes(ins).map_or(vec![], |sizes| parts::saves(&self.spec, &sizes, false, self.lean))
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        self.sizes(ins).map_or(Cost::default(), |sizes| parts::cost(&self.spec, &sizes, 1, [1, 1]))
    }
    fn scratch(&self, ins: &[Shape]) -> usize {
        let Ok(sizes) = self.sizes(ins) else { return 0 };
        kernel::pools_scratch(&self.spec, &sizes, self.lean) + kernel::moments_scratch(&self.spec, &sizes)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        host_only(out)?;
        if out.accumulate {
            return Err(Error::shape(self.name(), "its result cannot be added to another"));
        }
        let sizes = self.sizes(&shapes(ins))?;
        on_kept!(out.value.dtype(), self.lean, R => parts::forward(&self.operands::<R>(ins, sizes), out));
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let [_, drop, count] = self.places();
        if cx.records() || (drop..count).any(|k| cx.wants(k)) {
            return cx.by_reference(|tape, ins| self.reference(tape, ins));
        }
        let weights = (2..drop).any(|k| cx.wants(k));
        let grad = FoundCellGrad { forward: self.clone(), inputs: [cx.wants(0), cx.wants(1)], weights };
        let targets = grad.targets();
        let Some((&first, others)) = targets.split_first() else { return Ok(()) };
        let mut ins = vec![cx.g(), cx.y()];
        ins.extend((0..parts::saved(&self.spec, false)).map(|k| cx.saved(k)));
        ins.extend(cx.xs());
        let part = cx.tape().apply(grad, &ins)?;
        cx.pass(first, part)?;
        for (k, &to) in others.iter().enumerate() {
            let other = cx.tape().saved(part, k).clone();
            let other = cx.tape().constant(other);
            cx.pass(to, other)?;
        }
        Ok(())
    }
    fn reference(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        let ([affine, drop, count], n) = (self.places(), tape.shape(ins[0]).dims()[0]);
        let given = self.given.then(|| ins[count - 1]);
        let mut states = vec![ins[0], ins[1]];
        for node in 0..self.spec.nodes {
            let mut sum = None;
            for item in self.spec.into_node(node) {
                let norm = |tape: &mut Tape, x, k| {
                    if item.norms == 0 {
                        return Ok(x);
                    }
                    let at = item.norm + k;
                    let z = parts::norm(tape, x, given, at)?;
                    let z = tape.apply(ChannelScale, &[z, ins[affine + 2 * at]])?;
                    tape.apply(ChannelShift, &[z, ins[affine + 2 * at + 1]])
                };
                let weights = &ins[2 + item.weight..][..item.kind.weights()];
                let mut y = parts::candidate(tape, item.kind, states[item.from], weights, norm)?;
                if let Some(row) = self.drop.as_ref().and_then(|rows| rows[item.index]) {
                    let factors = tape.value(ins[drop]).view(row * n, [n]);
                    let factors = tape.constant(factors);
                    y = tape.apply(ImageScale, &[y, factors])?;
                }
                sum = Some(match sum {
                    None => y,
                    Some(sum) => tape.apply(Add, &[sum, y])?,
                });
            }
            states.push(match sum {
                Some(sum) => sum,
                None => {
                    let shapes: Vec<Shape> = ins.iter().map(|&v| tape.shape(v)).collect();
                    parts::zeros(tape, ins[0], &self.sizes(&shapes)?)?
                }
            });
        }
        tape.apply(Concat, &states[2..])
    }
}

/// (g, nodes, what the cell saved .., what it was given ..) -> the first gradient that is wanted; saves the others: of
/// the inputs, and of weights, scales and shifts.
#[derive(Clone, Debug)]
pub struct FoundCellGrad {
    forward: FoundCell,
    inputs: [bool; 2],
    weights: bool,
}

impl FoundCellGrad {
    /// The cell's inputs to which the gradients belong.
    fn targets(&self) -> Vec<usize> {
        let inputs = [0, 1].into_iter().filter(|&k| self.inputs[k]);
        let [_, end, _] = self.forward.places();
        inputs.chain(if self.weights { 2..end } else { 0..0 }).collect()
    }
    /// Where the cell's inputs begin among this operation's.
    fn start(&self) -> usize {
        2 + parts::saved(&self.forward.spec, false)
    }
}

impl Op for FoundCellGrad {
    fn name(&self) -> &'static str {
        "found_cell_grad"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        let y = self.forward.shape(&ins[self.start()..])?;
        match (self.targets().first(), ins[0] == y && ins[1] == y) {
            (Some(first), true) => Ok(ins[self.start() + first]),
            _ => Err(Error::shape(self.name(), format!("gradient {} of a result {y}", ins[0]))),
        }
    }
    fn dtype(&self, ins: &[DType]) -> DType {
        ins[self.start()]
    }
    fn saves(&self, ins: &[Shape]) -> Vec<Saved> {
        let as_input = |k: usize| Saved::As(ins[self.start() + k], self.start() + k);
        self.targets().into_iter().skip(1).map(as_input).collect()
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        // with weights: the depthwise results again, and both weight gradients
        let passes = if self.weights { 2 } else { 1 };
        let sizes = self.forward.sizes(&ins[self.start()..]);
        sizes.map_or(Cost::default(), |sizes| parts::cost(&self.forward.spec, &sizes, passes, [2, 0]))
    }
    fn scratch(&self, ins: &[Shape]) -> usize {
        let own = &ins[self.start()..];
        let Ok(sizes) = self.forward.sizes(own) else { return 0 };
        let spec = &self.forward.spec;
        kernel::gradient_scratch(spec, &sizes, |k| own[2 + k].count(), (self.weights, self.forward.lean))
            + kernel::pools_scratch(spec, &sizes, self.forward.lean)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        host_only(out)?;
        if out.accumulate {
            return Err(Error::shape(self.name(), "its result cannot be added to another"));
        }
        let (spec, own) = (&self.forward.spec, &ins[self.start()..]);
        let sizes = self.forward.sizes(&shapes(own))?;
        on_kept!(out.value.dtype(), self.forward.lean, R => {
            let cell = self.forward.operands::<R>(own, sizes);
            let saved = out.saved.iter_mut().map(|s| s.make_mut::<R>());
            let mut all = std::iter::once(out.value.make_mut::<R>()).chain(saved);
            let inputs = self.inputs.map(|wanted| if wanted { all.next() } else { None });
            let (mut weights, mut affine) = (None, None);
            if self.weights {
                weights = Some(all.by_ref().take(spec.weights).collect());
                affine = Some((0..spec.norms).filter_map(|_| Some([all.next()?, all.next()?])).collect());
            }
            let to = kernel::Gradients { mix: None, inputs, affine, weights };
            parts::gradient(&cell, &ins[..self.start()], to);
        });
        Ok(())
    }
}
