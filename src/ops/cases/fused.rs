//! Cases of the fused operations, with the statistics of their inputs computed on the way.

use super::{Case, Kind, any, of};
use crate::error::Result;
use crate::ops::batch_norm::BatchStatistics;
use crate::ops::fused::normed_sum::{NormedSum, Term};
use crate::ops::fused::relu_conv::ReluConv;
use crate::ops::window::Window;
use crate::tape::{Op, Tape, Var};

/// Adds the statistics of those of `xs` that are normalised.
fn with_statistics(tape: &mut Tape, ins: &[Var], normed: impl IntoIterator<Item = Var>) -> Result<Vec<Var>> {
    let mut all = ins.to_vec();
    for x in normed {
        all.push(tape.apply(BatchStatistics, &[x])?);
    }
    Ok(all)
}

fn fused_or_reference(tape: &mut Tape, op: impl Op, ins: &[Var], reference: bool) -> Result<Var> {
    if reference { op.reference(tape, ins) } else { tape.apply(op, ins) }
}

/// Relu, depthwise, 1 x 1 to `out` channels, of images `x`, which are normalised first if `normed`; as the fused
/// operation or as its reference.
pub fn relu_conv(x: [usize; 4], out: usize, window: Window, normed: bool, reference: bool) -> Case {
    let (c, [kh, kw]) = (x[3], window.kernel);
    let kind = if normed { Kind::Spread } else { Kind::AwayFromZero };
    let inputs = vec![of(x, kind), any([c, 1, kh, kw]), any([out, c, 1, 1])];
    let name = format!("relu_conv {x:?} to {out}, {window:?}, normed {normed}, reference {reference}");
    let op = ReluConv { window, normed };
    Case::of(name, inputs, move |tape, ins| {
        let ins = with_statistics(tape, ins, normed.then_some(ins[0]))?;
        fused_or_reference(tape, op, &ins, reference)
    })
}

/// Sum of images of shape `x`, those normalised for which `normed` says so, weighted by a row of as many weights and
/// one unused; as the fused operation or as its reference.
pub fn normed_sum(x: [usize; 4], normed: Vec<bool>, reference: bool) -> Case {
    let mut inputs = vec![any([1, normed.len() + 1])];
    inputs.extend(normed.iter().map(|_| any(x)));
    let name = format!("normed_sum {x:?}, {normed:?}, reference {reference}");
    let terms = normed.iter().enumerate().map(|(i, &normed)| Term { entry: i + 1, normed });
    let op = NormedSum { terms: terms.collect() };
    Case::of(name, inputs, move |tape, ins| {
        let chosen = op.terms.iter().zip(&ins[1..]).filter(|(t, _)| t.normed).map(|(_, &x)| x);
        let ins = with_statistics(tape, ins, chosen)?;
        fused_or_reference(tape, op.clone(), &ins, reference)
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for normed in [false, true] {
        all.push(relu_conv([2, 5, 4, 3], 2, Window::same(3, 1, 1), normed, false));
        all.push(relu_conv([3, 6, 6, 2], 2, Window::same(5, 2, 1), normed, false));
        all.push(relu_conv([2, 6, 5, 2], 3, Window::same(3, 2, 2), normed, false));
    }
    all.push(normed_sum([2, 3, 4, 3], vec![true, false, true, true, false], false));
    all.push(normed_sum([2, 2, 2, 2], vec![false], false));
    all.push(normed_sum([3, 5, 7, 5], vec![true; 9], false));
    all
}
