//! `inspect zoo`: what the networks of the published cells take.

use super::cli::{counted, print, within};
use super::config::MOST_IMAGES;
use super::memory::show;
use crate::data::loader::Batch;
use crate::error::{Error, Result};
use crate::nn::RunningStats;
use crate::space::network::{Network, NetworkConfig};
use crate::space::{Genotype, zoo};
use crate::tape::ParamSet;
use crate::tensor::{DType, Tensor};
use crate::train::Pass;
use clap::Args;
use serde_json::{Value, json};
use std::time::Instant;

#[derive(Args)]
pub struct ZooArgs {
    /// Run forwards of a batch on the CPU, and print images a second
    #[arg(long)]
    measure: bool,
    /// Images of a forward, for its memory and its speed
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// Print a JSON object a cell, in units instead of millions
    #[arg(long)]
    json: bool,
}

impl ZooArgs {
    /// Prints a line a cell.
    ///
    /// # Errors
    /// [`Error::Config`] if the batch has no image or too many.
    pub fn run(&self) -> Result<bool> {
        within("--batch-size", self.batch_size, 1..=MOST_IMAGES)?;
        if !self.json {
            print(&self.heading())?;
        }
        let (cifar, imagenet) = (NetworkConfig::default(), NetworkConfig::imagenet());
        for (name, genotype) in zoo::all() {
            let with = NetworkConfig { auxiliary: true, ..cifar };
            let with = Network::new(&genotype, with)?.layout().count;
            let small = self.entry(&genotype, cifar, 32)?;
            let large = self.entry(&genotype, imagenet, 224)?;
            print(&if self.json {
                let mut cifar = small.json();
                cifar["parameters_with_auxiliary_head"] = with.into();
                format!("{}\n", json!({ "name": name, "cifar10": cifar, "imagenet": large.json() }))
            } else {
                let (s, l) = (small.columns(), large.columns());
                format!("{name:<15} {:>10} {with:>10} {s} {:>10} {l}\n", small.parameters, large.parameters)
            })?;
        }
        Ok(true)
    }

    fn heading(&self) -> String {
        let columns = format!("{:>8} {:>7} {:>9}", "M mul", "MB", "images/s");
        format!(
            "CIFAR-10: C = 36, 20 cells, 32 x 32 pixels; ImageNet: C = 48, 14 cells, 224 x 224 pixels\n\
             memory: of the tensors of a forward of {}, weights not counted\n\n\
             {:<15} {:>10} {:>10} {columns} {:>10} {columns}\n",
            counted(self.batch_size, "image"),
            "CIFAR-10:",
            "parameters",
            "with aux",
            "ImageNet:"
        )
    }

    fn entry(&self, genotype: &Genotype, config: NetworkConfig, pixels: usize) -> Result<Entry> {
        let network = Network::new(genotype, config)?;
        let (counters, bytes) = network.forward_cost(self.batch_size, [pixels; 2])?;
        if self.measure && !can_be_had(bytes) {
            let what = format!(
                "is {}, whose forward takes {}, more than can be had; choose fewer",
                self.batch_size,
                show(bytes)
            );
            return Err(Error::config("--batch-size", what));
        }
        Ok(Entry {
            parameters: network.layout().count,
            multiply_adds: counters.cost.macs / self.batch_size as u64,
            bytes,
            images_per_second: self.measure.then(|| self.speed(&network, config, pixels)).transpose()?,
        })
    }

    /// Images in a second of the fastest of three forwards.
    fn speed(&self, network: &Network, config: NetworkConfig, pixels: usize) -> Result<f64> {
        let weights = ParamSet::init(network.layout(), 0, DType::F32)?;
        let mut running = RunningStats::new(network.norms(), DType::F32);
        let batch = Batch {
            images: Tensor::zeros([self.batch_size, pixels, pixels, config.image_channels], DType::F32),
            labels: Tensor::zeros([self.batch_size], DType::U32),
        };
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            let start = Instant::now();
            Pass::evaluate(network, &weights, &batch, &mut running)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(self.batch_size as f64 / best)
    }
}

/// Whether the system would give a program so many bytes.
fn can_be_had(bytes: usize) -> bool {
    let mut space: Vec<u8> = vec![];
    let had = space.try_reserve_exact(bytes).is_ok();
    std::hint::black_box(&mut space); // else the compiler may leave out to ask
    had
}

/// A network of a cell.
struct Entry {
    parameters: usize,
    /// A forward of one image.
    multiply_adds: u64,
    /// The most that the tensors of a forward of a batch hold at once.
    bytes: usize,
    /// If it was measured.
    images_per_second: Option<f64>,
}

impl Entry {
    fn columns(&self) -> String {
        let speed = self.images_per_second.map_or("-".to_owned(), |speed| format!("{speed:.1}"));
        format!("{:>8.2} {:>7.1} {speed:>9}", self.multiply_adds as f64 / 1e6, self.bytes as f64 / 1e6)
    }
    fn json(&self) -> Value {
        let mut entry = json!({
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "forward_bytes": self.bytes
        });
        if let Some(speed) = self.images_per_second {
            entry["images_per_second"] = speed.into();
        }
        entry
    }
}
