//! Memory, vector instructions, CUDA devices, random streams, profile. Knows no shapes and no gradients.

pub mod cuda;
pub mod memory;
pub mod profile;
pub mod random;

use crate::error::Result;
pub use oche_cpu::{dual, lean, real, simd};
use std::sync::Arc;

/// Where tensors are and operations run.
#[derive(Clone, Debug)]
pub enum Device {
    Cpu,
    Cuda(Arc<cuda::Cuda>),
}

impl Device {
    /// The device, if it is one of CUDA.
    pub fn cuda(&self) -> Option<&Arc<cuda::Cuda>> {
        match self {
            Self::Cpu => None,
            Self::Cuda(cuda) => Some(cuda),
        }
    }
    /// Bytes that tensors held at once there, at the most, since the start or the last [`Device::reset_peak`]; without
    /// the memory of captured graphs.
    pub fn peak_bytes(&self) -> usize {
        self.cuda().map_or_else(|| memory::usage().peak, |cuda| cuda.arena().usage().peak)
    }
    /// Starts a new high-water mark at what is live now.
    pub fn reset_peak(&self) {
        self.cuda().map_or_else(memory::reset_peak, |cuda| cuda.arena().reset_peak());
    }
    /// Waits until everything that was launched is done.
    pub fn synchronize(&self) -> Result<()> {
        self.cuda().map_or(Ok(()), |cuda| cuda.synchronize())
    }
}
