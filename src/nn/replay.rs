//! Steps as CUDA graphs: one is captured, and replayed as long as steps are of its kind.
//!
//! What changes from step to step - batches, rates - is copied to where the graph reads it. All that a step moves stays
//! where it is.

use crate::device::cuda::{Graph, Usage};
use crate::device::{Device, profile};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What goes on by steps that a device can capture.
pub(crate) trait Steps {
    /// Steps of one kind launch the same kernels.
    type Kind: Copy + PartialEq;
    /// What a step gives, where it ran.
    type Passes: Clone;

    fn replay(&mut self) -> &mut Replay<Self::Kind, Self::Passes>;
    /// Addresses of all that a step changes.
    fn places(&mut self) -> Vec<u64>;
    /// The host's counters, each of which a step moves on by 1.
    fn counters(&mut self) -> Vec<&mut u64>;
}

/// The captured step, if there is one.
pub(crate) struct Replay<K, P> {
    captured: Option<Captured<K, P>>,
    /// What the last step was like: a step like it is worth capturing.
    last: Option<K>,
}

struct Captured<K, P> {
    kind: K,
    graph: Graph,
    /// The places that the graph reads its inputs from.
    inputs: Vec<Tensor>,
    passes: P,
}

impl<K: Copy + PartialEq, P> Replay<K, P> {
    pub fn new() -> Self {
        Self { captured: None, last: None }
    }
    /// Whether the next step, of `kind`, is one for [`step`]: the second of its kind in a row, or like the captured one.
    pub fn suits(&mut self, kind: K, device: &Device) -> bool {
        let captured = self.captured.as_ref().is_some_and(|captured| captured.kind == kind);
        let again = self.last.replace(kind) == Some(kind);
        // from level 2 on every operation is looked at by itself, which a graph has no place for
        (captured || again) && profile::debug_level() < 2 && device.cuda().is_some()
    }
    /// Drops the captured step, as what it moves will be elsewhere.
    pub fn forget(&mut self) {
        self.captured = None;
    }
    /// Memory of the captured step, if there is one.
    pub fn usage(&self) -> Option<Usage> {
        Some(self.captured.as_ref()?.graph.usage())
    }
}

/// One step by the graph of its kind, which is captured first if there is none. `work` is that step on tensors like
/// `inputs`; the first of these is where the step runs, others may be in the host's memory.
pub(crate) fn step<S: Steps>(
    steps: &mut S,
    kind: S::Kind,
    inputs: &[&Tensor],
    work: impl FnOnce(&mut S, &[Tensor]) -> Result<S::Passes>,
) -> Result<S::Passes> {
    // of another kind, its memory goes first
    let captured = steps.replay().captured.take().filter(|captured| captured.kind == kind);
    let mut captured = captured.map_or_else(|| capture(steps, kind, inputs, work), Ok)?;
    for (place, input) in captured.inputs.iter_mut().zip(inputs) {
        place.copy_from(input)?;
    }
    captured.graph.launch()?;
    steps.counters().into_iter().for_each(|count| *count += 1);
    let passes = captured.passes.clone();
    steps.replay().captured = Some(captured);
    Ok(passes)
}

fn capture<S: Steps>(
    steps: &mut S,
    kind: S::Kind,
    inputs: &[&Tensor],
    work: impl FnOnce(&mut S, &[Tensor]) -> Result<S::Passes>,
) -> Result<Captured<S::Kind, S::Passes>> {
    let Some((first, cuda)) = inputs.first().and_then(|first| Some((first, first.cuda()?))) else {
        return Err(Error::device("only a CUDA device captures steps"));
    };
    // what eager steps worked in is not needed beside the graph's own memory
    cuda.arena().trim();
    let place = |input: &&Tensor| first.alike(*input.shape(), input.dtype());
    let inputs = inputs.iter().map(place).collect::<Result<Vec<_>>>()?;
    let counts: Vec<u64> = steps.counters().into_iter().map(|count| *count).collect();
    let places = steps.places();
    let captured = cuda.capture(|| work(steps, &inputs));
    // nothing has run yet
    steps.counters().into_iter().zip(counts).for_each(|(count, before)| *count = before);
    let (graph, passes) = captured?;
    if steps.places() != places {
        return Err(Error::device("a captured step moved what it should change in place; take --no-graph"));
    }
    Ok(Captured { kind, graph, inputs, passes })
}
