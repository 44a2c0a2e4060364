//! Captured graphs: a sequence of launches recorded once and replayed as one.

use super::arena::{Arena, Usage};
use super::driver::{failed, refused};
use super::{Cuda, lock};
use crate::error::{Error, Result};
use cudarc::driver::{result, sys};
use std::sync::Arc;

/// Launches that run again, in memory of their own.
pub struct Graph {
    executable: sys::CUgraphExec,
    cuda: Arc<Cuda>,
    /// What the launches work in.
    arena: Arc<Arena>,
}

impl Cuda {
    /// Records what `work` launches instead of running it. All that it allocates is the graph's for as long as it
    /// lives; what it reads and writes besides must live as long.
    pub fn capture<T>(self: &Arc<Self>, work: impl FnOnce() -> Result<T>) -> Result<(Graph, T)> {
        self.synchronize()?;
        let mode = self.arena().mode();
        let own = Arena::new(self.context, mode, true);
        let before = std::mem::replace(&mut *lock(&self.arena), own.clone());
        let captured = self.record(work);
        *lock(&self.arena) = before;
        let (graph, result) = captured?;
        // SAFETY: a graph that the driver just gave, and that is not used after.
        let executable = unsafe {
            let executable = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            let _ = result::graph::destroy(graph);
            executable.map_err(failed("prepare a captured step"))?
        };
        Ok((Graph { executable, cuda: self.clone(), arena: own }, result))
    }

    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(sys::CUgraph, T)> {
        // relaxed: the graph's memory is taken from the driver meanwhile
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::begin_capture(self.stream.0, mode) }.map_err(failed("begin to capture"))?;
        let done = work();
        // SAFETY: as above; an invalid capture gives an error here.
        let graph = unsafe { result::stream::end_capture(self.stream.0) };
        let done = match (done, graph) {
            (Ok(done), Ok(graph)) if !graph.is_null() => return Ok((graph, done)),
            (Err(error), Ok(graph)) if !graph.is_null() => {
                // SAFETY: nobody else knows this graph.
                let _ = unsafe { result::graph::destroy(graph) };
                Err(error)
            }
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(refused("capture a step", error)),
            (Ok(_), Ok(_)) => Err(Error::device("the driver captured nothing; take --no-graph")),
        };
        done.map(|never: std::convert::Infallible| match never {})
    }
}

impl Graph {
    /// Launches everything once more, in order with all other work.
    pub fn launch(&self) -> Result<()> {
        self.cuda.context.enter()?;
        // SAFETY: instantiated, and its memory is held by `arena`.
        unsafe { result::graph::launch(self.executable, self.cuda.stream.0) }
            .map_err(failed("run a captured step"))
    }
    /// Memory that the launches work in.
    pub fn usage(&self) -> Usage {
        self.arena.usage()
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // the work must be done before its memory goes; an error is one of that work, which its user has seen
        drop(self.cuda.synchronize());
        // SAFETY: not launched any more.
        let _ = unsafe { result::graph::exec_destroy(self.executable) };
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "graph of {:?}", self.cuda)
    }
}
