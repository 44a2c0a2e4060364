//! One pass through a found network: loss, hits, and the gradient in the weights if it is asked for.

use crate::data::loader::Batch;
use crate::error::Result;
use crate::nn::{Context, NormMode, RunningStats};
use crate::ops::cross_entropy::smoothed;
use crate::ops::pointwise::{Add, Scale};
use crate::space::network::Network;
use crate::tape::{Counters, ParamSet, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

/// Images classified rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The label has the largest logit.
    pub top1: usize,
    /// The label has one of the five largest.
    pub top5: usize,
}

/// What training adds to the cross entropy of the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Part of each target that is spread over all classes.
    pub smoothing: f64,
    /// Weight of the auxiliary classifier's loss.
    pub auxiliary: f64,
}

/// What a pass gives, where it ran.
#[derive(Clone, Debug)]
pub struct Pass {
    loss: Tensor,
    /// (N, classes).
    pub logits: Tensor,
    labels: Tensor,
    /// Gradient of the objective in the weights, flat, of a training pass.
    pub weights: Option<Tensor>,
}

/// The forward part of a training pass, on its tape.
struct Forward {
    tape: Tape,
    weights: Vec<Var>,
    logits: Var,
    /// Of the logits alone.
    loss: Var,
    objective: Var,
}

fn forward(
    net: &Network,
    mut tape: Tape,
    weights: &ParamSet,
    (batch, drop): (&Batch, Option<&Tensor>),
    (mode, running): (NormMode, &mut RunningStats),
    with: Objective,
) -> Result<Forward> {
    let weights = weights.bind(&mut tape, true);
    let images = tape.constant(batch.images.clone());
    let labels = tape.constant(batch.labels.clone());
    let mut cx = Context { tape: &mut tape, weights: &weights, mode, fused: true, running };
    let (logits, second) = net.forward_training(&mut cx, images, drop)?;
    let loss = smoothed(&mut tape, logits, labels, with.smoothing)?;
    let objective = match second {
        Some(second) => {
            let second = smoothed(&mut tape, second, labels, with.smoothing)?;
            let second = tape.apply(Scale(with.auxiliary), &[second])?;
            tape.apply(Add, &[loss, second])?
        }
        None => loss,
    };
    Ok(Forward { tape, weights, logits, loss, objective })
}

impl Pass {
    /// A training pass, which moves the running statistics. `drop` holds the factors of drop path, (paths, N).
    pub fn train(
        net: &Network,
        weights: &ParamSet,
        (batch, drop): (&Batch, Option<&Tensor>),
        running: &mut RunningStats,
        with: Objective,
    ) -> Result<Self> {
        let mode = (NormMode::BatchAndUpdate, running);
        let run = forward(net, Tape::new(), weights, (batch, drop), mode, with)?;
        let (loss, logits) = (run.tape.value(run.loss).clone(), run.tape.value(run.logits).clone());
        let (grads, _) = run.tape.into_grad(run.objective, &run.weights)?;
        let weights = Some(ParamSet::gather(net.layout(), &grads)?);
        Ok(Self { loss, logits, labels: batch.labels.clone(), weights })
    }

    /// A pass in evaluation mode, by running statistics: loss without smoothing and logits, values freed on the way.
    pub fn evaluate(
        net: &Network,
        weights: &ParamSet,
        batch: &Batch,
        running: &mut RunningStats,
    ) -> Result<Self> {
        let mut tape = Tape::inference();
        let weights = weights.bind(&mut tape, false);
        let images = tape.constant(batch.images.clone());
        let labels = tape.constant(batch.labels.clone());
        let mode = NormMode::Running;
        let mut cx = Context { tape: &mut tape, weights: &weights, mode, fused: true, running };
        let logits = net.forward(&mut cx, images)?;
        let loss = smoothed(&mut tape, logits, labels, 0.0)?;
        let (loss, logits) = (tape.value(loss).clone(), tape.value(logits).clone());
        Ok(Self { loss, logits, labels: batch.labels.clone(), weights: None })
    }

    /// What a training pass over `batch` images of `size` (H, W, C) would run, and the peak of its tensors in bytes.
    /// Nothing is computed.
    pub fn plan(
        net: &Network,
        batch: usize,
        [h, w, c]: [usize; 3],
        with: Objective,
    ) -> Result<(Counters, usize)> {
        let phantom = |shape: Shape, dtype| Tensor::phantom(shape, dtype, &Arc::default());
        let images = phantom(Shape::from([batch, h, w, c]), DType::F32);
        let labels = phantom(Shape::from([batch]), DType::U32);
        let drop = phantom(Shape::from([net.paths(), batch]), DType::F32);
        let weights = ParamSet::phantom(net.layout(), DType::F32);
        let mut running = RunningStats::new(net.norms(), DType::F32);
        let (tape, batch) = (Tape::dry(), Batch { images, labels });
        let meter = tape.meter().cloned().unwrap_or_default();
        let mode = (NormMode::Batch, &mut running);
        let run = forward(net, tape, &weights, (&batch, Some(&drop)), mode, with)?;
        let (_gradients, counters) = run.tape.into_grad(run.objective, &run.weights)?;
        let _flat = Tensor::phantom([net.layout().count], DType::F32, &meter);
        Ok((counters, meter.peak()))
    }

    /// Mean cross entropy of the logits, in training against smoothed targets. Waits for a device.
    pub fn loss(&self) -> Result<f64> {
        self.loss.read()
    }

    /// Images classified rightly. Waits for a device.
    pub fn hits(&self) -> Result<Hits> {
        Ok(Hits::count(&self.logits.to_host()?, &self.labels.to_host()?))
    }
}

impl Hits {
    /// Of logits (N, classes) and labels (N) in the host's memory; of equal logits the first counts as the larger.
    pub fn count(logits: &Tensor, labels: &Tensor) -> Self {
        let values = logits.to_f64();
        let mut hits = Self::default();
        for (row, &label) in values.chunks_exact(logits.shape().last()).zip(labels.as_slice::<u32>()) {
            let rank = rank(row, label as usize);
            hits.top1 += usize::from(rank < 1);
            hits.top5 += usize::from(rank < 5);
        }
        hits
    }
}

/// How many logits go before that of `label`.
fn rank(row: &[f64], label: usize) -> usize {
    let own = row[label];
    let before = |(k, x): (usize, &f64)| own.is_nan() || *x > own || *x == own && k < label;
    row.iter().enumerate().filter(|&(k, x)| before((k, x))).count()
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn logits_have_ranks() {
        let row = [0.5, 2.0, 0.5, -1.0];
        assert_eq!([0, 1, 2, 3].map(|label| rank(&row, label)), [1, 0, 2, 3]);
        assert_eq!(rank(&[f64::NAN; 6], 0), 6);
    }
}
