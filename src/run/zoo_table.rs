//! What `inspect zoo` does: the published cells in a table.

use crate::data::loader::Batch;
use crate::error::{Error, Result};
use crate::nn::RunningStats;
use crate::space::network::{Network, NetworkConfig};
use crate::space::{Genotype, zoo};
use crate::tape::ParamSet;
use crate::tensor::{DType, Tensor};
use crate::train::Pass;
use clap::Args;

#[derive(Args)]
pub struct ZooArgs {
    /// Run forwards of a batch on the CPU, and print images a second
    #[arg(long)]
    measure: bool,
    /// Images of a forward, for its memory and its speed
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
}

impl ZooArgs {
    /// Prints the table.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty batch.
    pub fn run(&self) -> Result<bool> {
        if self.batch_size == 0 {
            return Err(Error::config("--batch-size", "must be at least 1"));
        }
        let batch = self.batch_size;
        println!("CIFAR-10: C = 36, 20 cells, 32 x 32 pixels; ImageNet: C = 48, 14 cells, 224 x 224 pixels");
        println!("memory: of the tensors of a forward of {batch} images, weights not counted\n");
        println!(
            "{:<15} {:>10} {:>10} {:>8} {:>7} {:>9} {:>10} {:>8} {:>7} {:>9}",
            "CIFAR-10:",
            "parameters",
            "with aux",
            "M mul",
            "MB",
            "images/s",
            "ImageNet:",
            "M mul",
            "MB",
            "images/s"
        );
        let (cifar, imagenet) = (NetworkConfig::default(), NetworkConfig::imagenet());
        for (name, genotype) in zoo::all() {
            let with = Network::new(&genotype, NetworkConfig { auxiliary: true, ..cifar })?.layout().count;
            let small = zoo_entry(&genotype, cifar, 32, self)?;
            let large = zoo_entry(&genotype, imagenet, 224, self)?;
            println!(
                "{name:<15} {:>10} {with:>10} {:>8.2} {:>7.1} {:>9} {:>10} {:>8.2} {:>7.1} {:>9}",
                small.0, small.1, small.2, small.3, large.0, large.1, large.2, large.3
            );
        }
        Ok(true)
    }
}

/// Parameters, multiply-adds in millions, memory in MB and, if it is measured, images a second.
fn zoo_entry(
    genotype: &Genotype,
    config: NetworkConfig,
    pixels: usize,
    args: &ZooArgs,
) -> Result<(usize, f64, f64, String)> {
    let network = Network::new(genotype, config)?;
    let parameters = network.layout().count;
    let (counters, peak) = network.forward_cost(args.batch_size, [pixels; 2])?;
    let macs = counters.cost.macs as f64 / args.batch_size as f64 / 1e6;
    let mut speed = "-".to_owned();
    if args.measure {
        let weights = ParamSet::init(network.layout(), 0, DType::F32)?;
        let mut running = RunningStats::new(network.norms(), DType::F32);
        let batch = Batch {
            images: Tensor::zeros([args.batch_size, pixels, pixels, config.image_channels], DType::F32),
            labels: Tensor::zeros([args.batch_size], DType::U32),
        };
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            let start = std::time::Instant::now();
            Pass::evaluate(&network, &weights, &batch, &mut running)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        speed = format!("{:.1}", args.batch_size as f64 / best);
    }
    Ok((parameters, macs, peak as f64 / 1e6, speed))
}
