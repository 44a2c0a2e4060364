//! A search step as a CUDA graph: captured once, replayed as long as steps are of its kind.
//!
//! What changes from step to step - batches, learning rate, Adam's corrections - is copied to where the graph reads it.
//! All that the step moves stays where it is.

use super::pass::Pass;
use super::step::{Kind, Numbers, Searcher, StepReport};
use crate::data::loader::Batch;
use crate::device::cuda::{Graph, Usage};
use crate::error::{Error, Result};
use crate::nn::Scalar;
use crate::tensor::{DType, Tensor};

/// A captured step and what it reads.
pub(super) struct Captured {
    pub kind: Kind,
    graph: Graph,
    inputs: Inputs,
    /// Over the validation and the training batch.
    passes: [Pass; 2],
}

/// The places that a captured step reads its inputs from.
struct Inputs {
    train: Batch,
    valid: Batch,
    /// Learning rate and Adam's corrections.
    numbers: Tensor,
}

impl Inputs {
    /// Places for inputs like these.
    fn like(train: &Batch, valid: &Batch) -> Result<Self> {
        let place = |batch: &Batch| -> Result<Batch> {
            let alike = |t: &Tensor| t.alike(*t.shape(), t.dtype());
            Ok(Batch { images: alike(&batch.images)?, labels: alike(&batch.labels)? })
        };
        Ok(Self { train: place(train)?, valid: place(valid)?, numbers: train.images.alike([3], DType::F64)? })
    }
    fn set(&mut self, train: &Batch, valid: &Batch, numbers: [f64; 3]) -> Result<()> {
        for (to, from) in [(&mut self.train, train), (&mut self.valid, valid)] {
            to.images.copy_from(&from.images)?;
            to.labels.copy_from(&from.labels)?;
        }
        self.numbers.copy_from(&Tensor::from_slice([3], &numbers)?)
    }
    fn numbers(&self) -> Numbers {
        let [learning_rate, c1, c2] = [0, 1, 2].map(|i| Scalar::Stored(self.numbers.view(i, [])));
        Numbers { learning_rate, corrections: [c1, c2] }
    }
}

impl Searcher {
    /// One search step by the graph of its kind, which is captured first if there is none.
    pub(super) fn captured_step(
        &mut self,
        kind: Kind,
        train: &Batch,
        valid: &Batch,
        learning_rate: f64,
    ) -> Result<StepReport> {
        let [c1, c2] = self.corrections();
        let mut captured = match self.captured.take() {
            Some(captured) if captured.kind == kind => captured,
            before => {
                drop(before); // its memory goes first
                self.capture(kind, train, valid)?
            }
        };
        captured.inputs.set(train, valid, [learning_rate, c1, c2])?;
        captured.graph.launch()?;
        self.running.batches += 1;
        self.adam.iter_mut().for_each(|state| state.steps += 1);
        let report = StepReport::of(&captured.passes[0], &captured.passes[1]);
        self.captured = Some(captured);
        report
    }

    fn capture(&mut self, kind: Kind, train: &Batch, valid: &Batch) -> Result<Captured> {
        let Some(cuda) = self.weights.flat.cuda().cloned() else {
            return Err(Error::device("only a CUDA device captures steps"));
        };
        // what eager steps worked in is not needed beside the graph's own memory
        cuda.arena().trim();
        let inputs = Inputs::like(train, valid)?;
        let numbers = inputs.numbers();
        let (places, steps, batches) = (self.places(), self.steps(), self.running.batches);
        let captured = cuda.capture(|| self.moves(kind.order, &inputs.train, &inputs.valid, &numbers));
        // nothing has run yet
        self.running.batches = batches;
        self.adam.iter_mut().zip(steps).for_each(|(state, steps)| state.steps = steps);
        let (graph, passes) = captured?;
        if self.places() != places {
            return Err(Error::device(
                "a captured step moved what it should change in place; take --no-graph",
            ));
        }
        Ok(Captured { kind, graph, inputs, passes })
    }

    /// Bytes that tensors held at once, at the most, where this runs: since its device's last
    /// [`reset_peak`](crate::device::Device::reset_peak), with all that the captured step works in.
    pub fn peak_bytes(&self) -> usize {
        self.device().peak_bytes() + self.graph_usage().map_or(0, |usage| usage.held)
    }

    /// Memory of the captured step, if there is one.
    pub fn graph_usage(&self) -> Option<Usage> {
        Some(self.captured.as_ref()?.graph.usage())
    }

    fn steps(&self) -> Vec<u64> {
        self.adam.iter().map(|state| state.steps).collect()
    }

    /// Addresses of all that a step changes.
    fn places(&mut self) -> Vec<u64> {
        let mut places: Vec<u64> = self.tensors().map(|t| t.address()).collect();
        places.extend(self.running.addresses());
        places
    }
}
