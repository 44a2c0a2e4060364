//! Measurements on a device: what it can do at the most, each kind of kernel, and whole search steps.

mod args;
mod clock;
mod kernels;
mod roofline;
mod steps;

pub use args::BenchArgs;

use crate::device::Device;
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::search::Order;
use crate::tensor::DType;
use serde_json::{Value, json};

/// Of a thread, bytes: frames are large where the compiler does not optimise.
const STACK: usize = 16 << 20;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    pub parts: Vec<Part>,
    /// Tiny sizes and one run of each: shows that all runs, and measures nothing.
    pub quick: bool,
    /// Timed steps of a search, at the most; fewer where steps are slow.
    pub steps: usize,
    /// Of the supernet.
    pub channels: usize,
    pub cells: usize,
    pub nodes: usize,
    /// Height and width of the images of a step.
    pub image_size: usize,
    pub batches: Vec<usize>,
    pub orders: Vec<Order>,
    /// What images are stored as or, on a CPU, what cells of a step keep.
    pub dtypes: Vec<DType>,
    /// Use the fused operations in steps.
    pub fused: bool,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// With the roofline that the shares are of.
    Kernels,
    Steps,
}

/// Receives a line of the table, and all that was measured so far.
pub type Listener<'a> = dyn FnMut(&str, &Value) -> Result<()> + Send + 'a;

/// The measurements so far, and who hears of them.
struct Report<'a, 'b> {
    all: Value,
    listener: &'a mut Listener<'b>,
}

impl Report<'_, '_> {
    fn say(&mut self, line: &str) -> Result<()> {
        (self.listener)(line, &self.all)
    }
    /// Adds `row` to the list `part`.
    fn add(&mut self, part: &str, row: Value, line: &str) -> Result<()> {
        match &mut self.all[part] {
            Value::Array(rows) => rows.push(row),
            other => *other = Value::Array(vec![row]),
        }
        self.say(line)
    }
}

/// Measures what `options` ask for on `device`, which is called `name`; gives the whole as JSON.
pub fn run(device: &Device, name: &str, options: &Options, listener: &mut Listener) -> Result<Value> {
    check(options)?;
    let all = json!({
        "program": env!("CARGO_PKG_VERSION"),
        "device": name,
        "driver": device.cuda().map(|cuda| cuda.info().driver.clone()),
        "kernels_from": device.cuda().map(|_| cuda::ORIGIN),
        "sources": cuda::HASH,
        "quick": options.quick,
        "fused": options.fused,
    });
    let report = Report { all, listener };
    match device {
        // on a thread of a pool, as a search: small operations need not be handed over to it
        Device::Cpu => {
            let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK).build();
            let pool = pool.map_err(|error| Error::device(format!("cannot start threads: {error}")))?;
            pool.install(|| measure(device, name, options, report))
        }
        Device::Cuda(_) => measure(device, name, options, report),
    }
}

fn measure(device: &Device, name: &str, options: &Options, mut report: Report) -> Result<Value> {
    report.say(&format!("device {name}"))?;
    if options.parts.contains(&Part::Kernels) {
        let roofline = roofline::measure(device, options, &mut report)?;
        kernels::measure(device, options, &roofline, &mut report)?;
    }
    if options.parts.contains(&Part::Steps) {
        steps::measure(device, options, &mut report)?;
    }
    Ok(report.all)
}

fn check(options: &Options) -> Result<()> {
    let wrong = |key: &str, what: &str| Err(Error::config(key, what));
    match options {
        Options { steps: 0, .. } => wrong("--steps", "must be at least 1"),
        Options { batches, .. } if batches.iter().any(|&batch| batch < 2) => {
            wrong("--batch", "must be at least 2")
        }
        Options { image_size: size, .. } if *size == 0 || !size.is_multiple_of(4) => {
            wrong("--image-size", "must be a multiple of 4, so that it can be halved twice")
        }
        _ => Ok(()),
    }
}

fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bf16",
        _ => "f32",
    }
}

/// Fails if the device is lost: nothing after that can be measured.
fn still_there(device: &Device) -> Result<()> {
    device.cuda().map_or(Ok(()), |cuda| cuda.synchronize())
}

/// Whether images are of this type there.
fn stores(device: &Device, dtype: DType) -> bool {
    dtype != DType::BF16 || device.cuda().is_some()
}

/// `part` of `whole` in percent; nothing of what was not measured.
fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}
