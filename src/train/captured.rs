//! A training step as a CUDA graph: captured once, replayed as long as steps are of its kind.
//!
//! What changes from step to step - batch, factors of drop path, learning rate - is copied to where the graph reads it.

use super::pass::Pass;
use super::step::{Kind, Trainer};
use crate::data::loader::Batch;
use crate::device::cuda::Graph;
use crate::error::{Error, Result};
use crate::nn::Scalar;
use crate::tensor::{DType, Tensor};

/// A captured step and what it reads.
pub(super) struct Captured {
    pub kind: Kind,
    graph: Graph,
    inputs: Inputs,
    pass: Pass,
}

/// The places that a captured step reads its inputs from.
struct Inputs {
    batch: Batch,
    drop: Option<Tensor>,
    rate: Tensor,
}

impl Inputs {
    /// Places for inputs like these.
    fn like(batch: &Batch, drop: Option<&Tensor>) -> Result<Self> {
        let alike = |t: &Tensor| batch.images.alike(*t.shape(), t.dtype());
        Ok(Self {
            batch: Batch { images: alike(&batch.images)?, labels: alike(&batch.labels)? },
            drop: drop.map(alike).transpose()?,
            rate: batch.images.alike([1], DType::F64)?,
        })
    }
    fn set(&mut self, batch: &Batch, drop: Option<&Tensor>, rate: f64) -> Result<()> {
        self.batch.images.copy_from(&batch.images)?;
        self.batch.labels.copy_from(&batch.labels)?;
        if let (Some(to), Some(from)) = (&mut self.drop, drop) {
            to.copy_from(from)?;
        }
        self.rate.copy_from(&Tensor::from_slice([1], &[rate])?)
    }
}

impl Trainer {
    /// One step by the graph of its kind, which is captured first if there is none.
    pub(super) fn captured_step(
        &mut self,
        kind: Kind,
        batch: &Batch,
        drop: Option<&Tensor>,
        rate: f64,
    ) -> Result<Pass> {
        let mut captured = match self.captured.take() {
            Some(captured) if captured.kind == kind => captured,
            before => {
                std::mem::drop(before); // its memory goes first
                self.capture(kind, batch, drop)?
            }
        };
        captured.inputs.set(batch, drop, rate)?;
        captured.graph.launch()?;
        self.running.batches += 1;
        let pass = captured.pass.clone();
        self.captured = Some(captured);
        Ok(pass)
    }

    fn capture(&mut self, kind: Kind, batch: &Batch, drop: Option<&Tensor>) -> Result<Captured> {
        let Some(cuda) = self.weights.flat.cuda().cloned() else {
            return Err(Error::device("only a CUDA device captures steps"));
        };
        // what eager steps worked in is not needed beside the graph's own memory
        cuda.arena().trim();
        let inputs = Inputs::like(batch, drop)?;
        let rate = Scalar::Stored(inputs.rate.view(0, []));
        let (places, batches) = (self.places(), self.running.batches);
        let captured = cuda.capture(|| self.moves(&inputs.batch, inputs.drop.as_ref(), &rate));
        self.running.batches = batches; // nothing has run yet
        let (graph, pass) = captured?;
        if self.places() != places {
            return Err(Error::device(
                "a captured step moved what it should change in place; take --no-graph",
            ));
        }
        Ok(Captured { kind, graph, inputs, pass })
    }

    /// Bytes that tensors held at once, at the most, where this runs: since its device's last
    /// [`reset_peak`](crate::device::Device::reset_peak), with all that the captured step works in.
    pub fn peak_bytes(&self) -> usize {
        self.device().peak_bytes() + self.captured.as_ref().map_or(0, |captured| captured.graph.usage().held)
    }

    /// Addresses of all that a step changes.
    fn places(&self) -> Vec<u64> {
        let [means, variances] = self.running.addresses();
        vec![self.weights.flat.address(), self.momentum.address(), means, variances]
    }
}
