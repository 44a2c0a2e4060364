//! One pass through a supernet: loss, accuracy, and the gradients that are asked for, no others.

use crate::data::loader::Batch;
use crate::error::Result;
use crate::nn::{Context, NormMode, RunningStats};
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::softmax::Softmax;
use crate::space::{CellKind, Supernet};
use crate::tape::{Counters, ParamSet, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use std::sync::Arc;

/// Which gradients a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    pub weights: bool,
    pub alphas: bool,
}

/// What a pass gives, where it ran.
#[derive(Clone, Debug)]
pub struct Pass {
    loss: Tensor,
    /// (N, classes).
    pub logits: Tensor,
    labels: Tensor,
    /// Gradient of the loss in the weights, flat, if wanted.
    pub weights: Option<Tensor>,
    /// Gradients in the alphas, if wanted.
    pub alphas: Option<Vec<Tensor>>,
}

/// The forward part of a pass, on its tape.
pub(super) struct Forward {
    pub tape: Tape,
    pub weights: Vec<Var>,
    pub alphas: Vec<Var>,
    pub logits: Var,
    pub loss: Var,
}

/// Runs `net` at `weights` (flat) and `alphas` on `batch` up to the loss.
pub(super) fn forward(
    net: &dyn Supernet,
    mut tape: Tape,
    (weights, alphas): (&Tensor, &[Tensor]),
    batch: &Batch,
    mode: NormMode,
    running: &mut RunningStats,
    want: Want,
) -> Result<Forward> {
    let params = ParamSet { layout: net.layout().clone(), flat: weights.clone() };
    let weights = params.bind(&mut tape, want.weights);
    let alphas: Vec<Var> = alphas
        .iter()
        .map(|a| if want.alphas { tape.leaf(a.clone()) } else { tape.constant(a.clone()) })
        .collect();
    let mix = alphas.iter().map(|&a| tape.apply(Softmax, &[a])).collect::<Result<Vec<_>>>()?;
    let images = tape.constant(batch.images.clone());
    let labels = tape.constant(batch.labels.clone());
    let mut cx = Context { tape: &mut tape, weights: &weights, mode, fused: false, running };
    let logits = net.forward(&mut cx, images, &mix)?;
    let loss = tape.apply(CrossEntropy, &[logits, labels])?;
    Ok(Forward { tape, weights, alphas, logits, loss })
}

impl Pass {
    /// A training-mode pass. `update` moves the running statistics.
    pub fn run(
        net: &dyn Supernet,
        at: (&Tensor, &[Tensor]),
        batch: &Batch,
        running: &mut RunningStats,
        update: bool,
        want: Want,
    ) -> Result<Self> {
        let mode = if update { NormMode::BatchAndUpdate } else { NormMode::Batch };
        let Forward { tape, weights, alphas, logits, loss } =
            forward(net, Tape::new(), at, batch, mode, running, want)?;
        let (value, logits) = (tape.value(loss).clone(), tape.value(logits).clone());
        let mut wrt = if want.weights { weights } else { Vec::new() };
        let split = wrt.len();
        wrt.extend(if want.alphas { alphas } else { Vec::new() });
        let (mut grads, _) = tape.into_grad(loss, &wrt)?;
        let alphas = want.alphas.then(|| grads.split_off(split));
        let weights = want.weights.then(|| ParamSet::gather(net.layout(), &grads)).transpose()?;
        Ok(Self { loss: value, logits, labels: batch.labels.clone(), weights, alphas })
    }

    /// Mean cross entropy of the batch. Waits for a device.
    pub fn loss(&self) -> Result<f64> {
        self.loss.read()
    }

    /// Images whose largest logit is their label's, the first of equals counting. Waits for a device.
    pub fn correct(&self) -> Result<usize> {
        Ok(correct(&self.logits.to_host()?, &self.labels.to_host()?))
    }

    /// What a training-mode pass over `batch` images of `size` (H, W, C) on numbers of type `dtype` would run, and the
    /// peak of its tensors in bytes, those that it is given not counted. Nothing is computed.
    pub fn plan(
        net: &dyn Supernet,
        batch: usize,
        size: [usize; 3],
        want: Want,
        dtype: DType,
    ) -> Result<(Counters, usize)> {
        let tape = Tape::dry();
        let meter = tape.meter().cloned().unwrap_or_default();
        let (batch, weights, alphas, mut running) = phantom_scene(net, batch, size, dtype);
        let run = forward(net, tape, (&weights, &alphas), &batch, NormMode::Batch, &mut running, want)?;
        let mut wrt = if want.weights { run.weights } else { Vec::new() };
        wrt.extend(if want.alphas { run.alphas } else { Vec::new() });
        let (_gradients, counters) = run.tape.into_grad(run.loss, &wrt)?;
        let _flat = want.weights.then(|| Tensor::phantom([net.layout().count], dtype.exact(), &meter));
        Ok((counters, meter.peak()))
    }

    /// An evaluation-mode pass with running statistics: loss and accuracy only, values freed on the way.
    pub fn evaluate(
        net: &dyn Supernet,
        at: (&Tensor, &[Tensor]),
        batch: &Batch,
        running: &mut RunningStats,
    ) -> Result<Self> {
        let want = Want { weights: false, alphas: false };
        let run = forward(net, Tape::inference(), at, batch, NormMode::Running, running, want)?;
        let (loss, logits) = (run.tape.value(run.loss).clone(), run.tape.value(run.logits).clone());
        Ok(Self { loss, logits, labels: batch.labels.clone(), weights: None, alphas: None })
    }
}

/// Batch, weights, alphas and running statistics for a dry tape, with a meter of their own.
pub(super) fn phantom_scene(
    net: &dyn Supernet,
    batch: usize,
    [h, w, c]: [usize; 3],
    dtype: DType,
) -> (Batch, Tensor, Vec<Tensor>, RunningStats) {
    let phantom = |shape: Shape, dtype| Tensor::phantom(shape, dtype, &Arc::default());
    let batch = Batch {
        images: phantom(Shape::from([batch, h, w, c]), dtype),
        labels: phantom(Shape::from([batch]), DType::U32),
    };
    let exact = dtype.exact();
    let weights = phantom(Shape::from([net.layout().count]), exact);
    let shape = |k: &CellKind| phantom(Shape::from(k.shape()), exact);
    let alphas = net.kinds().iter().map(shape).collect();
    (batch, weights, alphas, RunningStats::new(net.norms(), DType::F32))
}

/// Rows of `logits` (N, K) whose largest entry is at the label; the first of equals counts.
fn correct(logits: &Tensor, labels: &Tensor) -> usize {
    let k = logits.shape().last();
    let values = logits.to_f64();
    let hits = values.chunks_exact(k).zip(labels.as_slice::<u32>()).filter(|(row, label)| {
        let best = (0..k).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        best == **label as usize
    });
    hits.count()
}
