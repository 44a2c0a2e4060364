//! What `inspect bench` may be told, and what it measures if it is not.

use super::{Options, Part};
use crate::search::Order;
use crate::tensor::DType;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The flags of `inspect bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// File to write all numbers to, as JSON; it is whole after every row
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Parts, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kernels,steps")]
    parts: Vec<PartName>,
    /// Timed search steps of a kind, at the most; two come before them
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Tiny sizes, one run of each: shows that all runs, and measures nothing
    #[arg(long)]
    quick: bool,
    /// Channels of the first cells of a step [default: 16; 2 if quick]
    #[arg(long)]
    channels: Option<usize>,
    /// Cells of a step [default: 8; 3 if quick]
    #[arg(long)]
    cells: Option<usize>,
    /// Nodes of a cell of a step [default: 4; 1 if quick]
    #[arg(long)]
    nodes: Option<usize>,
    /// Images of a batch of a step, comma-separated [default: 64,256; 2 if quick]
    #[arg(long, value_delimiter = ',')]
    batch: Vec<usize>,
    /// Height and width of the images of a step [default: 32; 8 if quick]
    #[arg(long)]
    image_size: Option<usize>,
    /// Orders of a step, comma-separated; exact at the first batch size and eager, in f32
    #[arg(long, value_enum, value_delimiter = ',', default_value = "first,second,exact")]
    orders: Vec<OrderName>,
    /// What images are stored as, comma-separated; on a CPU what cells of a step keep, where it has AVX-512 BF16
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32,bf16")]
    precision: Vec<Stored>,
    /// Operations of a step: fused, or one by one
    #[arg(long, value_enum, default_value_t = Fusion::On)]
    fusion: Fusion,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartName {
    Kernels,
    Steps,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderName {
    First,
    Second,
    Exact,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stored {
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Fusion {
    On,
    Off,
}

impl BenchArgs {
    /// What to measure.
    pub fn options(&self) -> Options {
        let or = |value: Option<usize>, [usual, quick]: [usize; 2]| {
            value.unwrap_or(if self.quick { quick } else { usual })
        };
        let batches = match (&self.batch[..], self.quick) {
            ([], false) => vec![64, 256],
            ([], true) => vec![2],
            (given, _) => given.to_vec(),
        };
        let part = |part: &PartName| match part {
            PartName::Kernels => Part::Kernels,
            PartName::Steps => Part::Steps,
        };
        let order = |order: &OrderName| match order {
            OrderName::First => Order::First,
            OrderName::Second => Order::Second,
            OrderName::Exact => Order::Exact,
        };
        let dtype = |stored: &Stored| match stored {
            Stored::F32 => DType::F32,
            Stored::Bf16 => DType::BF16,
        };
        Options {
            parts: self.parts.iter().map(part).collect(),
            quick: self.quick,
            steps: if self.quick { 1 } else { self.steps },
            channels: or(self.channels, [16, 2]),
            cells: or(self.cells, [8, 3]),
            nodes: or(self.nodes, [4, 1]),
            image_size: or(self.image_size, [32, 8]),
            batches,
            orders: self.orders.iter().map(order).collect(),
            dtypes: self.precision.iter().map(dtype).collect(),
            fused: self.fusion == Fusion::On,
        }
    }
}
