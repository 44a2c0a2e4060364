//! Memory of tensors: the host's, from the pool of the CPU kernels, or a device's; or none, only counted.

use super::cuda::{Cuda, Piece};
use crate::error::Result;
use oche_cpu::memory::{self as host, size_class};
pub use oche_cpu::memory::{Usage, reset_peak, resident, trim_heap, usage};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes of phantom blocks: what a dry run would have needed.
#[derive(Debug, Default)]
pub struct Meter {
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Meter {
    /// Largest number of bytes that were live at once.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
    /// Bytes live now.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}

/// An owned, aligned run of bytes. Its content is initialised, but arbitrary: whatever the last owner left.
/// A phantom block has a size but no memory; the bytes of a block on a CUDA device are not the host's to look at.
pub struct Block(Place);

enum Place {
    Host(host::Block),
    Phantom { meter: Arc<Meter>, bytes: usize },
    Cuda(Piece, Arc<Cuda>),
}

impl Block {
    /// A block of `bytes` bytes with arbitrary content.
    pub fn new(bytes: usize) -> Self {
        Self(Place::Host(host::Block::new(bytes)))
    }

    /// A block on a device.
    pub fn on(cuda: &Arc<Cuda>, bytes: usize) -> Result<Self> {
        Ok(Self(Place::Cuda(cuda.take(bytes)?, cuda.clone())))
    }

    /// A block of `bytes` bytes where this one is.
    pub fn alike(&self, bytes: usize) -> Result<Self> {
        Ok(match &self.0 {
            Place::Host(_) => Self::new(bytes),
            Place::Phantom { meter, .. } => Self::phantom(bytes, meter),
            Place::Cuda(_, cuda) => Self::on(cuda, bytes)?,
        })
    }

    /// A block that is only counted, by `meter`.
    pub fn phantom(bytes: usize, meter: &Arc<Meter>) -> Self {
        let capacity = size_class(bytes);
        let live = meter.live.fetch_add(capacity, Ordering::Relaxed) + capacity;
        meter.peak.fetch_max(live, Ordering::Relaxed);
        Self(Place::Phantom { meter: meter.clone(), bytes })
    }

    /// Whether it is only counted.
    pub fn is_phantom(&self) -> bool {
        matches!(self.0, Place::Phantom { .. })
    }

    /// Its device and address, if it is on one.
    pub fn cuda(&self) -> Option<(&Arc<Cuda>, u64)> {
        match &self.0 {
            Place::Cuda(piece, cuda) => Some((cuda, piece.address)),
            _ => None,
        }
    }

    /// Panics on a block that is not in the host's memory: a bug of the caller.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Host(block) => block.bytes(),
            other => other.out_of_reach(),
        }
    }

    /// As [`Block::bytes`].
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Place::Host(block) => block.bytes_mut(),
            other => other.out_of_reach(),
        }
    }
}

impl Place {
    fn out_of_reach(&self) -> ! {
        match self {
            Self::Cuda(..) => panic!("values on a device have to be copied to the host to be looked at"),
            _ => panic!("a dry run has no values to look at"),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Place::Phantom { meter, bytes } = &self.0 {
            meter.live.fetch_sub(size_class(*bytes), Ordering::Relaxed);
        }
    }
}
