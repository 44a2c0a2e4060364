//! Cases of the weighted sum and of the mixed operation, softmax(alpha) times candidates.

use super::{Case, Kind, any, of};
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::{Conv, Geometry};
use crate::ops::pointwise::Relu;
use crate::ops::pool::{AvgPool, MaxPool};
use crate::ops::softmax::Softmax;
use crate::ops::weighted_sum::{ScaleByEntry, WeightGrad, WeightedSum};
use crate::ops::window::Window;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// Sum of inputs of shape `x`, one an entry of a matrix of weights.
pub fn weighted_sum(
    weights: [usize; 2],
    entries: impl IntoIterator<Item = usize>,
    x: impl Into<Shape>,
) -> Case {
    let (op, x) = (WeightedSum::new(entries), x.into());
    let mut inputs = vec![any(weights)];
    inputs.extend(op.entries.iter().map(|_| any(x)));
    Case::op(format!("weighted_sum {x} by {:?} of {}", op.entries, Shape::from(weights)), op, inputs)
}

/// One node of a cell: `edges` edges, each of none, max pool, average pool, identity and a separable convolution
/// whose weights the edges share.
pub fn mixed_operation(x: [usize; 4], edges: usize) -> Case {
    let c = x[3];
    let mut inputs = vec![any([edges, 5]), any([c, 1, 3, 3]), any([c, c, 1, 1])];
    inputs.extend(vec![of(x, Kind::Spread); edges]);
    Case::of(format!("mixed operation {} of {edges} edges", Shape::from(x)), inputs, move |tape, ins| {
        let mix = tape.apply(Softmax, &[ins[0]])?;
        let (mut terms, mut entries) = (vec![mix], Vec::new());
        for (edge, &x) in ins[3..].iter().enumerate() {
            terms.extend(candidates(tape, x, [ins[1], ins[2]])?);
            entries.extend((1..5).map(|k| edge * 5 + k));
        }
        tape.apply(WeightedSum::new(entries), &terms)
    })
}

fn candidates(tape: &mut Tape, x: Var, [depthwise, pointwise]: [Var; 2]) -> Result<[Var; 4]> {
    let window = Window::same(3, 1, 1);
    let max = tape.apply(MaxPool { window }, &[x])?;
    let max = tape.apply(BatchNorm, &[max])?;
    let avg = tape.apply(AvgPool { window }, &[x])?;
    let avg = tape.apply(BatchNorm, &[avg])?;
    let y = tape.apply(Relu, &[x])?;
    let y = tape.apply(Conv(Geometry { window, depthwise: true }), &[y, depthwise])?;
    let one = Geometry { window: Window::square(1, 1, 0, 1), depthwise: false };
    let y = tape.apply(Conv(one), &[y, pointwise])?;
    Ok([max, avg, x, tape.apply(BatchNorm, &[y])?])
}

pub(super) fn cases() -> Vec<Case> {
    let entries: [usize; 3] = [4, 0, 2];
    let x = any([2, 3, 5]);
    vec![
        weighted_sum([1, 1], [0], [7]),
        weighted_sum([2, 3], [1, 2, 4, 5], [2, 3, 3, 2]), // two edges, column 0 unused
        weighted_sum([2, 3], [5, 0, 3], [31]),            // any order
        weighted_sum([3, 4], 0..12, [33]),
        weighted_sum([1, 5], 0..5, [4099]), // more than one work item
        Case::op("scale_by_entry", ScaleByEntry { entry: 3 }, [x, any([2, 3])]),
        Case::op("weighted_sum_grad", WeightGrad { entries: entries.into(), shape: [2, 3].into() }, [x; 4]),
        mixed_operation([2, 4, 4, 2], 1),
        mixed_operation([2, 3, 5, 3], 2),
    ]
}
