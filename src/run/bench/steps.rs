//! Whole search steps: architecture step, then weight step.

use super::clock::each;
use super::{Options, Report, dtype_name, still_there};
use crate::data::loader::Batch;
use crate::device::{Device, memory};
use crate::error::Result;
use crate::run::caught::caught;
use crate::run::device::{check_fused, check_lean, lean_on, stored_on};
use crate::search::{Hyper, Order, Searcher};
use crate::space::Space;
use crate::space::cnn::{CnnConfig, CnnSupernet};
use crate::tape::check::normal;
use crate::tensor::{DType, Tensor};
use serde_json::{Value, json};
use std::time::Duration;

/// Steps before those that count: the second is captured.
const WARM_UP: usize = 2;
/// No step begins later than this after the first that counts.
const LIMIT: Duration = Duration::from_secs(8);

/// Steps of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub order: Order,
    pub batch: usize,
    /// What images are stored as or, on a CPU, what cells keep.
    pub dtype: DType,
    /// Whether a device captures its steps.
    pub graph: bool,
}

impl Setup {
    /// All that are asked for, those that are compared beside each other.
    fn all(device: &Device, options: &Options) -> Vec<Self> {
        let modes: &[bool] = if device.cuda().is_some() { &[false, true] } else { &[false] };
        let mut all = vec![];
        for (k, &batch) in options.batches.iter().enumerate() {
            for &order in &options.orders {
                for &dtype in &options.dtypes {
                    for &graph in modes {
                        // the exact order is measured for what it costs more, which is the same everywhere
                        let once = k == 0 && dtype == DType::F32 && !graph;
                        if order != Order::Exact || once {
                            all.push(Self { order, batch, dtype, graph });
                        }
                    }
                }
            }
        }
        all
    }
    fn order_name(&self) -> &'static str {
        match self.order {
            Order::First => "first",
            Order::Second => "second",
            Order::Exact => "exact",
        }
    }
    fn mode(&self) -> &'static str {
        if self.graph { "graph" } else { "eager" }
    }
}

/// What steps of one kind took.
struct Measured {
    seconds: Vec<f64>,
    /// Largest number of bytes in use, and of bytes taken from the driver or the system.
    peak: usize,
    held: usize,
    /// Kernels of a step, on a device.
    launches: Option<usize>,
}

impl Measured {
    fn sorted(&self) -> Vec<f64> {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds
    }
}

/// Measures each kind of step; what fails is reported, and the rest goes on.
pub fn measure(device: &Device, options: &Options, report: &mut Report) -> Result<()> {
    let Options { channels, cells, image_size, .. } = *options;
    report.say(&format!(
        "\na search step, C = {channels}, {cells} cells, {image_size} x {image_size} pixels"
    ))?;
    report.say(&format!(
        "{:<7} {:>6} {:<5} {:<6} {:>11} {:>11} {:>6} {:>9} {:>9} {:>8}",
        "order", "batch", "type", "mode", "median s", "best s", "steps", "peak GB", "held GB", "kernels"
    ))?;
    for setup in Setup::all(device, options) {
        let result = check_lean(setup.dtype, device)
            .and_then(|()| check_fused(setup.dtype, device, options.fused))
            .and_then(|()| caught(|| run(device, options, &setup)));
        let Setup { batch, dtype, .. } = setup;
        let mut row = json!({
            "order": setup.order_name(), "batch": batch, "type": dtype_name(dtype), "mode": setup.mode(),
            "channels": channels, "cells": cells, "nodes": options.nodes, "image_size": image_size,
        });
        let start =
            format!("{:<7} {batch:>6} {:<5} {:<6}", setup.order_name(), dtype_name(dtype), setup.mode());
        let line = match &result {
            Ok(measured) => format!("{start} {}", describe(measured, &mut row)),
            Err(error) => {
                row["error"] = json!(error.to_string());
                format!("{start} not measured: {error}")
            }
        };
        report.add("steps", row, &line)?;
        still_there(device)?;
        if let Some(cuda) = device.cuda() {
            cuda.arena().trim();
        }
    }
    Ok(())
}

/// The row as text; and into `row`.
fn describe(measured: &Measured, row: &mut Value) -> String {
    let Measured { seconds, peak, held, launches } = measured;
    let sorted = measured.sorted();
    let (median, best) = (sorted[sorted.len() / 2], sorted[0]);
    row["seconds"] = json!(seconds);
    row["median"] = json!(median);
    row["best"] = json!(best);
    row["peak_bytes"] = json!(peak);
    row["held_bytes"] = json!(held);
    row["launches"] = json!(launches);
    let launches = launches.map_or("-".into(), |count| count.to_string());
    let [peak, held] = [*peak, *held].map(|bytes| bytes as f64 / 1e9);
    format!("{median:>11.5} {best:>11.5} {:>6} {peak:>9.3} {held:>9.3} {launches:>8}", seconds.len())
}

fn batch(n: usize, size: usize, seed: u64, device: &Device, dtype: DType) -> Result<Batch> {
    let images = normal([n, size, size, 3], seed, 0)?.to_dtype(DType::F32)?;
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 10).collect();
    Batch { images, labels: Tensor::from_slice([n], &labels)? }.on(device, dtype)
}

fn run(device: &Device, options: &Options, setup: &Setup) -> Result<Measured> {
    let Options { channels, cells, nodes, image_size, fused, .. } = *options;
    let net = CnnSupernet::new(&CnnConfig {
        channels,
        cells,
        space: Space::darts(nodes),
        fused,
        lean: lean_on(setup.dtype, device),
        ..CnnConfig::default()
    })?;
    let mut searcher = Searcher::new(Box::new(net), Hyper::default(), 2, DType::F32)?.on(device)?;
    searcher.graphs = setup.graph;
    let stored = stored_on(setup.dtype, device);
    let [train, valid] = [1, 2].map(|seed| batch(setup.batch, image_size, seed, device, stored));
    let (train, valid) = (train?, valid?);
    let mut launches = None;
    for _ in 0..WARM_UP {
        let before = device.cuda().map(|cuda| cuda.launches());
        searcher.step(setup.order, &train, &valid, 0.025)?;
        let after = device.cuda().map(|cuda| cuda.launches());
        launches = after.zip(before).map(|(after, before)| after - before);
    }
    match device.cuda() {
        Some(cuda) => cuda.arena().reset_peak(),
        None => memory::reset_peak(),
    }
    let seconds = each(options.steps, LIMIT, || searcher.step(setup.order, &train, &valid, 0.025).map(drop))?;
    let graph = searcher.graph_usage().unwrap_or_default();
    let (peak, held) = match device.cuda() {
        Some(cuda) => {
            let usage = cuda.arena().usage();
            (usage.peak + graph.held, usage.held + graph.held)
        }
        None => {
            let usage = memory::usage();
            (usage.peak, usage.live + usage.kept)
        }
    };
    Ok(Measured { seconds, peak, held, launches })
}
