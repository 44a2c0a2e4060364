//! Seconds of repeated work: between two points of a device's stream, or by the clock.

use crate::device::Device;
use crate::device::cuda::Cuda;
use crate::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Runs are repeated until a sample takes about as long.
    sample: f64,
    samples: usize,
    /// Runs of a sample, at the most.
    most: usize,
}

impl Effort {
    pub fn new(quick: bool) -> Self {
        match quick {
            true => Self { sample: 0.0, samples: 1, most: 2 },
            false => Self { sample: 0.01, samples: 4, most: 200 },
        }
    }
    fn repeats(self, once: f64) -> usize {
        ((self.sample / once.max(1e-9)).ceil() as usize).clamp(1, self.most)
    }
}

/// What one run takes.
#[derive(Clone, Debug)]
pub struct Time {
    pub seconds: f64,
    /// Of a device, why the runs could not be captured, if they could not: launching may be the slower part then.
    pub uncaptured: Option<String>,
}

/// The fastest sample of `work`, after two runs that do not count.
pub fn fastest(device: &Device, effort: Effort, mut work: impl FnMut() -> Result<()>) -> Result<Time> {
    work()?;
    let Some(cuda) = device.cuda() else {
        let mut sample = |repeats: usize| -> Result<f64> {
            let start = Instant::now();
            (0..repeats).try_for_each(|_| work())?;
            Ok(start.elapsed().as_secs_f64() / repeats as f64)
        };
        let repeats = effort.repeats(sample(1)?);
        let seconds = least(effort, || sample(repeats))?;
        return Ok(Time { seconds, uncaptured: None });
    };
    let repeats = effort.repeats(cuda.timed(&mut work)?);
    let time = on_cuda(cuda, effort, repeats, work);
    cuda.arena().trim();
    time
}

/// As a captured step runs it, so that what launching takes does not count.
fn on_cuda(
    cuda: &Arc<Cuda>,
    effort: Effort,
    repeats: usize,
    mut work: impl FnMut() -> Result<()>,
) -> Result<Time> {
    let mut all = || (0..repeats).try_for_each(|_| work());
    let (seconds, uncaptured) = match cuda.capture(&mut all) {
        Ok((graph, ())) => {
            graph.launch()?;
            (least(effort, || cuda.timed(|| graph.launch()))?, None)
        }
        // some work copies from the host
        Err(why) => (least(effort, || cuda.timed(&mut all))?, Some(why.to_string())),
    };
    Ok(Time { seconds: seconds / repeats as f64, uncaptured })
}

fn least(effort: Effort, mut sample: impl FnMut() -> Result<f64>) -> Result<f64> {
    (0..effort.samples).try_fold(f64::INFINITY, |least, _| Ok(least.min(sample()?)))
}

/// Seconds of each of up to `most` runs of `work`, which waits for what it launches; one that begins after `limit` does
/// not begin.
pub fn each(most: usize, limit: Duration, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut seconds = vec![];
    while seconds.is_empty() || seconds.len() < most && begin.elapsed() < limit {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}
