//! A training step as a CUDA graph; see [`replay`].

use super::pass::Pass;
use super::step::{Kind, Trainer};
use crate::data::loader::Batch;
use crate::error::Result;
use crate::nn::Scalar;
use crate::nn::replay::{self, Replay, Steps};
use crate::tensor::Tensor;

impl Steps for Trainer {
    type Kind = Kind;
    type Passes = Pass;

    fn replay(&mut self) -> &mut Replay<Kind, Pass> {
        &mut self.replay
    }
    fn places(&mut self) -> Vec<u64> {
        let [means, variances] = self.running.addresses();
        vec![self.weights.flat.address(), self.momentum.address(), means, variances]
    }
    fn counters(&mut self) -> Vec<&mut u64> {
        vec![&mut self.running.batches]
    }
}

impl Trainer {
    /// One step by a graph.
    pub(super) fn captured_step(
        &mut self,
        kind: Kind,
        batch: &Batch,
        drop: Option<&Tensor>,
        rate: f64,
    ) -> Result<Pass> {
        let rate = Tensor::from_slice([1], &[rate])?;
        let inputs: Vec<&Tensor> = [&batch.images, &batch.labels, &rate].into_iter().chain(drop).collect();
        replay::step(self, kind, &inputs, |trainer, inputs| {
            let batch = Batch { images: inputs[0].clone(), labels: inputs[1].clone() };
            trainer.moves(&batch, inputs.get(3), &Scalar::Stored(inputs[2].view(0, [])))
        })
    }

    /// Bytes that tensors held at once, at the most, where this runs: since its device's last
    /// [`reset_peak`](crate::device::Device::reset_peak), with all that the captured step works in.
    pub fn peak_bytes(&self) -> usize {
        self.device().peak_bytes() + self.replay.usage().map_or(0, |usage| usage.held)
    }
}
