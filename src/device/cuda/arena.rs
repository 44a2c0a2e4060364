//! Device memory: ranges cut from few large allocations, reused in the order of the one stream that uses them.

use super::driver::refused;
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult::CUDA_ERROR_OUT_OF_MEMORY};
use oche_cpu::ranges::Ranges;
use std::sync::{Arc, Mutex, MutexGuard};

/// Allocations come in multiples of this.
const CHUNK: usize = 32 << 20;
/// Ranges come in multiples of this, and no range reaches this close to the end of its allocation, so that ranges of
/// two neighbouring allocations never become one.
const GRAIN: usize = 256;

/// How memory is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From large allocations.
    Pooled,
    /// Each piece by itself, so that a checker sees its ends and its end of life.
    Separate,
}

/// Bytes that an arena has handed out and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub live: usize,
    pub peak: usize,
    /// Taken from the driver.
    pub held: usize,
}

#[derive(Debug, Default)]
struct State {
    free: Ranges,
    /// Start and size of what the driver gave.
    chunks: Vec<(u64, usize)>,
    usage: Usage,
}

/// A pool of device memory; gives it back to the driver when it goes.
#[derive(Debug)]
pub struct Arena {
    state: Mutex<State>,
    mode: Mode,
    /// Whether pieces stay mapped until the arena goes: what a captured graph works in.
    keeps: bool,
    context: Context,
}

/// A context, to make current before the driver is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context(pub sys::CUcontext);
// SAFETY: a handle that the driver allows every thread to use.
unsafe impl Send for Context {}
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn enter(self) -> Result<()> {
        // SAFETY: the primary context of a device, retained as long as the process lives.
        unsafe { result::ctx::set_current(self.0) }.map_err(|e| refused("use its context", e))
    }
}

/// A piece of an arena.
#[derive(Debug)]
pub struct Piece {
    pub address: u64,
    size: usize,
    arena: Arc<Arena>,
}

impl Arena {
    pub(super) fn new(context: Context, mode: Mode, keeps: bool) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), mode, keeps, context })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn usage(&self) -> Usage {
        self.state().usage
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Starts a new high-water mark at what is live now.
    pub fn reset_peak(&self) {
        let mut state = self.state();
        state.usage.peak = state.usage.live;
    }

    /// `bytes` bytes with arbitrary content.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Piece> {
        let size = bytes.max(1).next_multiple_of(GRAIN);
        let mut state = self.state();
        let found = if self.mode == Mode::Pooled { state.free.take(size) } else { None };
        let address = match found {
            Some(start) => start as u64,
            None => self.grow(&mut state, if self.mode == Mode::Separate { bytes.max(1) } else { size })?,
        };
        state.usage.live += size;
        state.usage.peak = state.usage.peak.max(state.usage.live);
        Ok(Piece { address, size, arena: self.clone() })
    }

    fn grow(&self, state: &mut State, size: usize) -> Result<u64> {
        self.context.enter()?;
        let whole = if self.mode == Mode::Separate { size } else { (size + GRAIN).next_multiple_of(CHUNK) };
        // SAFETY: a fresh allocation.
        let allocate = || unsafe { result::malloc_sync(whole) };
        let full = DriverError(CUDA_ERROR_OUT_OF_MEMORY);
        let allocated = allocate().or_else(|error| {
            if error == full {
                self.trim_now(state); // what is held in pieces too small for this one
                return allocate();
            }
            Err(error)
        });
        let start = match allocated {
            Ok(start) => start,
            Err(error) if error == full => return Err(self.exhausted(size, state.usage)),
            Err(error) => return Err(refused("allocate memory", error)),
        };
        state.chunks.push((start, whole));
        state.usage.held += whole;
        let rest = whole.saturating_sub(size + GRAIN);
        if self.mode == Mode::Pooled && rest > 0 {
            state.free.give(start as usize + size, rest);
        }
        Ok(start)
    }

    fn exhausted(&self, asked: usize, usage: Usage) -> Error {
        let (free, total) = result::mem_get_info().unwrap_or_default();
        Error::OutOfMemory { asked, free, total, live: usage.live }
    }

    fn give(&self, address: u64, size: usize) {
        let mut state = self.state();
        state.usage.live -= size;
        if self.mode == Mode::Pooled {
            state.free.give(address as usize, size);
        } else if !self.keeps {
            self.release(&mut state, |start| start == address);
        }
    }

    /// Gives allocations without a live piece back to the driver.
    pub fn trim(&self) {
        self.trim_now(&mut self.state());
    }

    fn trim_now(&self, state: &mut State) {
        if self.mode == Mode::Separate {
            return; // there are none
        }
        let State { free, chunks, .. } = state;
        // ranges of two allocations never touch, so an unused one is a range of its own
        let unused: Vec<u64> = (chunks.iter())
            .filter(|&&(start, size)| free.take_exactly(start as usize, size - GRAIN))
            .map(|&(start, _)| start)
            .collect();
        self.release(state, |start| unused.contains(&start));
    }

    fn release(&self, state: &mut State, which: impl Fn(u64) -> bool) {
        if self.context.enter().is_err() {
            return; // a context that is lost has lost its memory too
        }
        let (gone, stay): (Vec<_>, Vec<_>) = state.chunks.iter().partition(|(start, _)| which(*start));
        state.chunks = stay;
        for (start, size) in gone {
            state.usage.held -= size;
            // SAFETY: this arena's own, with no piece of it alive. The driver waits for work that still uses it.
            // An error here is one of earlier work, which the next call reports.
            let _ = unsafe { result::free_sync(start) };
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.state());
        self.release(&mut state, |_| true);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.arena.give(self.address, self.size);
    }
}
