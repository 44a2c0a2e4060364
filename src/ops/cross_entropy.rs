//! Mean cross entropy of logits and class indices: L = mean_n (log sum_k exp x_nk - x_n,label).
//!
//! dL/dx = (softmax(x) - onehot) / N.

use super::cuda::cross_entropy as twin;
use super::pointwise::{Add, Dot, Scale, ScaleBy, Sub};
use super::softmax::Softmax;
use crate::error::{Error, Result};
use crate::on_real;
use crate::tape::{Cost, Op, Out, Pullback, Tape, Var};
use crate::tensor::{DType, Real, Shape, Tensor};

/// (logits (N, K), labels (N) of `U32`) -> loss, a scalar
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;
impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        match (ins[0].dims(), ins[1].dims()) {
            ([n, k], [labels]) if n == labels && *k > 0 && *n > 0 => Ok(Shape::from([])),
            _ => Err(Error::shape(self.name(), format!("logits {} and labels {}", ins[0], ins[1]))),
        }
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost { flops: 4 * ins[0].count() as u64, ..Cost::pointwise(ins, Shape::from([]), 0) }
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        of_labels(ins[1])?;
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::cross_entropy(&cuda, ins, out);
        }
        let k = ins[0].shape().last();
        let labels = checked_labels(ins[1], k)?;
        on_real!(out.value.dtype(), R => {
            type W = <R as Real>::Wide;
            let mut sum = W::ZERO;
            for (x, &label) in ins[0].as_slice::<R>().chunks_exact(k).zip(labels) {
                let max = x.iter().map(|x| x.wide()).fold(W::of(f64::NEG_INFINITY), W::max);
                let total: W = x.iter().map(|x| (x.wide() - max).exp()).sum();
                sum += total.ln() + max - x[label as usize].wide();
            }
            let (y, mean) = (&mut out.value.make_mut::<R>()[0], R::narrow(sum / W::of(labels.len() as f64)));
            *y = if out.accumulate { *y + mean } else { mean };
        });
        Ok(())
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let (x, labels, g) = (cx.x(0), cx.x(1), cx.g());
        if !cx.wants(0) {
            return Ok(());
        }
        let tape = cx.tape();
        let n = tape.shape(labels).count();
        let p = tape.apply(Softmax, &[x])?;
        let target = tape.apply(OneHot, &[x, labels])?;
        let d = tape.apply(Sub, &[p, target])?;
        let d = tape.apply(Scale(1.0 / n as f64), &[d])?;
        cx.send(0, ScaleBy, &[d, g])
    }
}

/// Mean cross entropy against targets (1 - e) onehot + e / K (arXiv 1512.00567), e being `smoothing`:
/// L + e / N sum_n (x_n,label - mean_k x_nk), where L is the [`CrossEntropy`].
pub fn smoothed(tape: &mut Tape, logits: Var, labels: Var, smoothing: f64) -> Result<Var> {
    let loss = tape.apply(CrossEntropy, &[logits, labels])?;
    if smoothing == 0.0 {
        return Ok(loss);
    }
    let (shape, dtype) = (tape.shape(logits), tape.dtype(logits));
    let uniform = match tape.is_dry() {
        true => tape.value(logits).alike(shape, dtype)?,
        false => tape.value(logits).full_alike(shape, dtype, 1.0 / shape.last() as f32)?,
    };
    let uniform = tape.constant(uniform);
    let target = tape.apply(OneHot, &[logits, labels])?;
    let difference = tape.apply(Sub, &[target, uniform])?;
    let sum = tape.apply(Dot, &[logits, difference])?;
    let rows = shape.count() / shape.last();
    let term = tape.apply(Scale(smoothing / rows as f64), &[sum])?;
    tape.apply(Add, &[loss, term])
}

/// (logits (N, K), labels (N)) -> one-hot rows (N, K); depends on the logits' shape only
#[derive(Clone, Copy, Debug)]
pub struct OneHot;
impl Op for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }
    fn shape(&self, ins: &[Shape]) -> Result<Shape> {
        CrossEntropy.shape(ins)?;
        Ok(ins[0])
    }
    fn cost(&self, ins: &[Shape]) -> Cost {
        Cost::pointwise(&ins[1..], ins[0], 0)
    }
    fn run(&self, ins: &[&Tensor], out: &mut Out) -> Result<()> {
        of_labels(ins[1])?;
        if let Some(cuda) = out.value.cuda().cloned() {
            return twin::one_hot(&cuda, ins, out);
        }
        let (k, add) = (ins[0].shape().last(), out.accumulate);
        let labels = checked_labels(ins[1], k)?;
        on_real!(out.value.dtype(), R => {
            for (y, &label) in out.value.make_mut::<R>().chunks_exact_mut(k).zip(labels) {
                if !add {
                    y.fill(R::ZERO);
                }
                y[label as usize] += R::ONE;
            }
        });
        Ok(())
    }
    fn vjp(&self, _cx: &mut Pullback) -> Result<()> {
        Ok(()) // constant in the logits' values
    }
}

/// Fails if `labels` are no labels.
fn of_labels(labels: &Tensor) -> Result<()> {
    match labels.dtype() {
        DType::U32 => Ok(()),
        other => Err(Error::shape("cross_entropy", format!("labels must be U32, not {other:?}"))),
    }
}

/// The labels, in the host's memory, if all of them are classes. On a device nobody looks, since a captured step cannot
/// tell: there the loss is NaN.
fn checked_labels(labels: &Tensor, classes: usize) -> Result<&[u32]> {
    let labels = labels.as_slice::<u32>();
    match labels.iter().find(|&&l| l as usize >= classes) {
        Some(label) => Err(Error::shape("cross_entropy", format!("label {label} with {classes} classes"))),
        None => Ok(labels),
    }
}
