//! A search step as a CUDA graph; see [`replay`].

use super::pass::Pass;
use super::step::{Kind, Numbers, Searcher};
use crate::data::loader::Batch;
use crate::device::cuda::Usage;
use crate::error::Result;
use crate::nn::Scalar;
use crate::nn::replay::{self, Replay, Steps};
use crate::tensor::Tensor;

impl Steps for Searcher {
    type Kind = Kind;
    /// Over the validation and the training batch.
    type Passes = [Pass; 2];

    fn replay(&mut self) -> &mut Replay<Kind, [Pass; 2]> {
        &mut self.replay
    }
    fn places(&mut self) -> Vec<u64> {
        let mut places: Vec<u64> = self.tensors().map(|t| t.address()).collect();
        places.extend(self.running.addresses());
        places
    }
    fn counters(&mut self) -> Vec<&mut u64> {
        let adam = self.adam.iter_mut().map(|state| &mut state.steps);
        adam.chain([&mut self.running.batches]).collect()
    }
}

impl Searcher {
    /// One search step by a graph: the passes over `valid` and `train`.
    pub(super) fn captured_step(
        &mut self,
        kind: Kind,
        train: &Batch,
        valid: &Batch,
        learning_rate: f64,
    ) -> Result<[Pass; 2]> {
        let [c1, c2] = self.corrections();
        let numbers = Tensor::from_slice([3], &[learning_rate, c1, c2])?;
        let inputs = [&train.images, &train.labels, &valid.images, &valid.labels, &numbers];
        replay::step(self, kind, &inputs, |searcher, inputs| {
            let batch = |i: usize| Batch { images: inputs[i].clone(), labels: inputs[i + 1].clone() };
            let [learning_rate, c1, c2] = [0, 1, 2].map(|i| Scalar::Stored(inputs[4].view(i, [])));
            let numbers = Numbers { learning_rate, corrections: [c1, c2] };
            searcher.moves(kind.order, &batch(0), &batch(2), &numbers)
        })
    }

    /// Bytes that tensors held at once, at the most, where this runs: since its device's last
    /// [`reset_peak`](crate::device::Device::reset_peak), with all that the captured step works in.
    pub fn peak_bytes(&self) -> usize {
        self.device().peak_bytes() + self.graph_usage().map_or(0, |usage| usage.held)
    }

    /// Memory of the captured step, if there is one.
    pub fn graph_usage(&self) -> Option<Usage> {
        self.replay.usage()
    }
}
