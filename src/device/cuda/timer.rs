//! How long work takes on the device, by its own clock.

use super::Cuda;
use super::driver::failed;
use crate::error::Result;
use cudarc::driver::{result, sys};

/// A point of the stream, with the time at which the device got there.
struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Self> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Self(event.map_err(failed("make an event"))?))
    }
    fn record(&self, cuda: &Cuda) -> Result<()> {
        // SAFETY: event and stream are alive.
        unsafe { result::event::record(self.0, cuda.stream.0) }.map_err(failed("record an event"))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: not used any more; the driver keeps it for as long as the stream needs it.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

impl Cuda {
    /// Seconds that the device takes for what `work` launches, from when it begins to when it is done; waits for it.
    /// Launches that come slower than the device runs them count with the time between them.
    pub fn timed(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        self.context.enter()?;
        let (start, end) = (Event::new()?, Event::new()?);
        start.record(self)?;
        work()?;
        end.record(self)?;
        self.synchronize()?;
        // SAFETY: both were recorded on one stream, which has passed them.
        let milliseconds = unsafe { result::event::elapsed(start.0, end.0) };
        Ok(f64::from(milliseconds.map_err(failed("tell how long its work took"))?) / 1e3)
    }
}
