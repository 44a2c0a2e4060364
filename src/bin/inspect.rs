//! `inspect`: looks at genotypes, supernets, runs, golden files and devices without searching.

use clap::{Args, Parser, Subcommand, ValueEnum};
use oche::device::{Device, profile};
use oche::ops::cases::{Case, cases};
use oche::run::bench::{self, BenchArgs};
use oche::run::board::TensorboardArgs;
use oche::run::cases as comparison;
use oche::run::cli::{CLASSES, check_sizes, complain, counted, line, offer, parse, print, within};
use oche::run::config::{MOST_IMAGES, SearchConfig};
use oche::run::device::{self, Wanted};
use oche::run::draw::cell_text;
use oche::run::evaluate::EvaluateArgs;
use oche::run::export::ExportArgs;
use oche::run::report::{CompareArgs, ReportArgs};
use oche::run::state_dict::not_of_a_run;
use oche::run::zoo::ZooArgs;
use oche::run::{found, memory, parity, result};
use oche::search::{Order, Workload};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::space::genotype::{CANDIDATES, CellKind};
use oche::space::network::NetworkConfig;
use oche::space::{Space, Supernet, zoo};
use oche::tensor::DType;
use oche::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks at genotypes, supernets, runs, golden files and devices.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Draws a cell; counts the parameters and multiply-adds of its network
    Genotype(GenotypeArgs),
    /// Lists the published cells: parameters, multiply-adds and memory of their networks
    Zoo(ZooArgs),
    /// Tests a network on images, in f32 whatever it was trained in: loss, top-1, top-5, logits
    Evaluate(EvaluateArgs),
    /// Writes a network for other programs: PyTorch (safetensors), ONNX
    Export(ExportArgs),
    /// Counts weights, operations and memory of a supernet
    Supernet(SupernetArgs),
    /// Compares this program with golden files: every expect/* key, one row a group; exit status 1 if one fails
    Parity(ParityArgs),
    /// Says what there is to compute with: processor, CUDA driver, devices, and this program's kernels
    Device(DeviceArgs),
    /// Compares every operation on a device with the CPU, derivatives too; exit status 1 if one fails
    Cases(CasesArgs),
    /// Writes the report.html of a run folder anew
    Report(ReportArgs),
    /// Writes the TensorBoard event file of a run folder anew
    Tensorboard(TensorboardArgs),
    /// Writes one page on several runs: curves, results, differing settings, cells
    Compare(CompareArgs),
    /// Measures a device: copies and products, each kind of kernel, whole search steps
    Bench(BenchArgs),
}

#[derive(Args)]
struct GenotypeArgs {
    /// A published name (DARTS_V2, PDARTS, ...), a file (JSON or the published Python tuple) or a run folder
    genotype: String,
    /// Channels of the first cells [source: published evaluation on CIFAR-10]
    #[arg(long, default_value_t = 36)]
    channels: usize,
    /// Cells of the network [source: published evaluation on CIFAR-10]
    #[arg(long, default_value_t = 20)]
    cells: usize,
    /// Height and width of the images, pixels
    #[arg(long, default_value_t = 32)]
    image_size: usize,
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Print the cells as JSON and nothing else
    #[arg(long, conflicts_with_all = ["python", "svg"])]
    json: bool,
    /// Print the cells as the published code writes them, a Python tuple, and nothing else
    #[arg(long, conflicts_with = "svg")]
    python: bool,
    /// Folder to write normal.svg and reduce.svg to
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Args)]
struct SupernetArgs {
    /// Channels of the first cells [source: published search on CIFAR-10]
    #[arg(long, default_value_t = 16)]
    channels: usize,
    #[arg(long, default_value_t = 8)]
    cells: usize,
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Candidate operations, comma-separated [default: the published eight]
    #[arg(long, value_delimiter = ',')]
    candidates: Option<Vec<String>>,
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Height and width of the images, pixels
    #[arg(long, default_value_t = 32)]
    image_size: usize,
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Fused operations or one by one
    #[arg(long, value_enum, default_value_t = Fusion::On)]
    fusion: Fusion,
    /// What cells keep on a CPU; bf16 needs AVX-512 BF16 to be searched with, and --fusion on
    #[arg(long, value_enum, default_value_t = Kept::F32)]
    precision: Kept,
    /// Memory that a search may take, such as 900MB or 1.5GB: cells are recomputed until it is enough; exit status 1 if it
    /// is for no order
    #[arg(long, default_value = "none")]
    memory_budget: String,
    /// Images of the data set, which stay in memory [source: the training images of CIFAR-10]
    #[arg(long, default_value_t = 50_000)]
    train_images: usize,
}

#[derive(Args)]
struct ParityArgs {
    /// Golden files (.safetensors), such as tests/golden/cnn_c2_l3_8px.safetensors of the sources
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Element type to compute in [default: f64 on the cpu, f32 on CUDA devices]
    #[arg(long, value_enum)]
    dtype: Option<Precision>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Path to compute on: fused operations or one by one
    #[arg(long, value_enum, default_value_t = Fusion::On)]
    fusion: Fusion,
}

#[derive(Args)]
struct DeviceArgs {
    /// Fail if no CUDA device can be used
    #[arg(long)]
    require: bool,
}

#[derive(Args)]
struct CasesArgs {
    /// Where to compute: cuda or cuda:N, auto or cpu
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Only the cases with this in their name
    #[arg(long, default_value = "")]
    filter: String,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Fusion {
    On,
    Off,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kept {
    F32,
    Bf16,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F64,
    F32,
}

fn main() -> ExitCode {
    let command = match parse::<Cli>() {
        Ok(cli) => cli.command,
        Err(status) => return status,
    };
    match profile::check().and_then(|()| run(command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            complain(e);
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it should be.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Genotype(args) => inspect_genotype(&args),
        Command::Zoo(args) => args.run(),
        Command::Evaluate(args) => args.run(),
        Command::Export(args) => args.run(),
        Command::Supernet(args) => inspect_supernet(&args),
        Command::Parity(args) => inspect_parity(&args),
        Command::Device(args) => inspect_device(&args),
        Command::Cases(args) => inspect_cases(&args),
        Command::Report(args) => args.run(),
        Command::Tensorboard(args) => args.run(),
        Command::Compare(args) => args.run(),
        Command::Bench(args) => inspect_bench(&args),
    }
}

/// Settings of a search of these sizes and of the smallest batch: its limits are those of all networks here.
fn sized(channels: usize, cells: usize, image_size: usize) -> SearchConfig {
    let mut config = SearchConfig::default();
    config.search.batch_size = 2;
    (config.space.channels, config.space.cells, config.data.image_size) = (channels, cells, image_size);
    config
}

fn inspect_genotype(args: &GenotypeArgs) -> Result<bool> {
    let genotype = found::genotype(&args.genotype)?;
    if args.json || args.python {
        let text = if args.json { genotype.to_json() } else { format!("{genotype}\n") };
        return print(&text).map(|()| true);
    }
    let GenotypeArgs { channels, cells, classes, image_size, .. } = *args;
    check_sizes(sized(channels, cells, image_size))?;
    within("--classes", classes, CLASSES)?;
    let network = NetworkConfig { channels, cells, classes, ..NetworkConfig::default() };
    let (parameters, macs) = result::size(&genotype, network, [image_size; 2])?;
    line(format_args!("{genotype}\n"))?;
    for (name, kind) in [("normal", CellKind::Normal), ("reduction", CellKind::Reduce)] {
        line(format_args!("{name} cell\n{}\n", cell_text(genotype.genes(kind), genotype.concat(kind))))?;
    }
    if let Ok(source) = zoo::source(&args.genotype) {
        line(format_args!("source          {source}"))?;
    }
    line(format_args!(
        "network         C = {channels}, {}, {}, {image_size} x {image_size} images",
        counted(cells, "cell"),
        counted(classes, "class")
    ))?;
    line(format_args!("parameters      {parameters}"))?;
    line(format_args!("multiply-adds   {:.2} M an image, convolutions and linear layer", macs as f64 / 1e6))?;
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        result::write_drawings(folder, &genotype)?;
        line(format_args!("drawings        {}", folder.join("{normal,reduce}.svg").display()))?;
    }
    Ok(true)
}

fn inspect_supernet(args: &SupernetArgs) -> Result<bool> {
    let size = args.image_size;
    let candidates: Vec<String> =
        args.candidates.clone().unwrap_or_else(|| CANDIDATES[..8].iter().map(|c| c.to_string()).collect());
    let mut wanted = sized(args.channels, args.cells, size);
    (wanted.space.nodes, wanted.space.candidates) = (args.nodes, candidates.clone());
    (wanted.search.batch_size, wanted.run.memory_budget) = (args.batch_size, args.memory_budget.clone());
    let budget = check_sizes(wanted.clone()).and_then(|()| wanted.memory_budget())?;
    within("--classes", args.classes, CLASSES)?;
    within("--train-images", args.train_images, 0..=1_000_000_000)?;
    let config = CnnConfig {
        channels: args.channels,
        cells: args.cells,
        space: Space::published(args.nodes, &candidates)?,
        classes: args.classes,
        fused: args.fusion == Fusion::On,
        lean: args.precision == Kept::Bf16,
        ..CnnConfig::default()
    };
    if config.lean && !config.fused {
        return Err(Error::config("--precision", "bf16 is of fused cells; take --fusion on, or f32"));
    }
    let mut net = CnnSupernet::new(&config)?;
    let alphas: usize = net.kinds().iter().map(|kind| kind.alphas()).sum();
    line(format_args!("candidates      {}", candidates.join(", ")))?;
    line(format_args!("weights         {}", net.layout().count))?;
    line(format_args!("alphas          {alphas}"))?;
    line(format_args!("batch norms     {}", net.norms().len()))?;
    line(format_args!(
        "\na search step of batch {} at {size} x {size} pixels, {}:",
        args.batch_size,
        args.precision.name()
    ))?;
    line(format_args!(
        "{:<8} {:>6} {:>11} {:>9} {:>9} {:>11} {:>12}  cells",
        "order", "passes", "operations", "GFLOP", "GB moved", "tensors MB", "process MB"
    ))?;
    let mut possible = false;
    for (name, order) in [("first", Order::First), ("second", Order::Second), ("exact", Order::Exact)] {
        if config.lean && order == Order::Exact {
            line(format_args!("{name:<8} computes with dual numbers, which are f32"))?;
            continue;
        }
        let image = [size, size, config.image_channels];
        let load = Workload { order, batch: args.batch_size, image, precision: DType::F32 };
        possible |= print_step(name, &mut net, load, args.train_images, budget)?;
    }
    Ok(possible)
}

/// A row of the table: what a step of one order takes, within the budget if there is one; whether that can be.
fn print_step(
    name: &str,
    net: &mut CnnSupernet,
    load: Workload,
    train_images: usize,
    budget: Option<usize>,
) -> Result<bool> {
    let images = train_images * (load.image.iter().product::<usize>() + size_of::<u32>());
    match budget.map(|budget| memory::fit(net, &load, budget, images, &Device::Cpu)) {
        Some(Err(Error::Config { what, .. })) => {
            return line(format_args!("{name:<8} the budget {what}")).map(|()| false);
        }
        fitted => fitted.unwrap_or(Ok(()))?,
    }
    let plan = load.plan(net)?;
    let cost = plan.counters.cost;
    line(format_args!(
        "{name:<8} {:>6} {:>11} {:>9.1} {:>9.1} {:>11.1} {:>12.1}  {}",
        load.order.passes().len(),
        plan.counters.launches,
        cost.flops as f64 / 1e9,
        cost.bytes(DType::F32) as f64 / 1e9,
        plan.peak as f64 / 1e6,
        memory::process(plan.peak, images) as f64 / 1e6,
        memory::recomputed(net.recomputed())
    ))
    .map(|()| true)
}

fn open(device: &str) -> Result<(Device, String)> {
    let wanted: Wanted = device.parse().map_err(|what: String| Error::config("--device", what))?;
    wanted.open()
}

fn inspect_parity(args: &ParityArgs) -> Result<bool> {
    let (device, text) = open(&args.device)?;
    let dtype = match (args.dtype, &device) {
        (Some(Precision::F64), Device::Cuda(_)) => {
            return Err(Error::config(
                "--dtype",
                "CUDA devices compute in f32; leave it out, or take --device cpu",
            ));
        }
        (Some(Precision::F64) | None, Device::Cpu) => DType::F64,
        _ => DType::F32,
    };
    line(format_args!("device {text}"))?;
    let mut all = true;
    for path in &args.files {
        line(format_args!("{}, {dtype:?}", path.display()))?;
        line(format_args!("  {:<18} {:>7} {:>13} {:>10}", "group", "tensors", "largest error", "tolerance"))?;
        let rows = match parity::compare(path, dtype, args.fusion == Fusion::On, &device) {
            Ok(rows) => rows,
            Err(error) => {
                complain(error);
                all = false;
                continue;
            }
        };
        for row in rows {
            let verdict = if row.passes() { "pass".into() } else { format!("FAIL {}", row.worst) };
            all &= row.passes();
            line(format_args!(
                "  {:<18} {:>7} {:>13.1e} {:>10.0e} {verdict}",
                row.group, row.tensors, row.error, row.tolerance
            ))?;
        }
    }
    line(if all { "all groups pass" } else { "some groups FAIL" })?;
    Ok(all)
}

fn inspect_device(args: &DeviceArgs) -> Result<bool> {
    let (lines, usable) = device::report();
    line(lines.join("\n"))?;
    if args.require { usable.map(|()| true) } else { Ok(true) }
}

fn inspect_cases(args: &CasesArgs) -> Result<bool> {
    let (device, text) = open(&args.device)?;
    line(format_args!("device {text}"))?;
    let has_kernel = |case: &Case| device.cuda().is_none() || !case.host_only;
    let chosen: Vec<_> =
        cases().into_iter().filter(|case| has_kernel(case) && case.name.contains(&args.filter)).collect();
    if chosen.is_empty() {
        return Err(Error::config("--filter", format!("no case has \"{}\" in its name", args.filter)));
    }
    let mut failed = 0;
    // the largest difference of each order of derivative, and whose it is
    let mut worst = vec![(0.0, ""); comparison::TOLERANCE.len()];
    for case in &chosen {
        let verdict = comparison::compare(case, &device);
        for (worst, &error) in worst.iter_mut().zip(&verdict.errors) {
            if error >= worst.0 {
                *worst = (error, &case.name);
            }
        }
        if let Some(what) = verdict.wrong {
            failed += 1;
            line(format_args!("FAIL {}: {what}", case.name))?;
            if let Some(cuda) = device.cuda() {
                cuda.synchronize()?; // nothing can be said of the rest where the device is lost
            }
        }
    }
    for (order, ((error, name), tolerance)) in worst.iter().zip(comparison::TOLERANCE).enumerate() {
        line(format_args!("order {order}: largest error {error:.1e} of {tolerance:.0e} allowed, in {name}"))?;
    }
    line(format_args!("{}, {failed} failed", counted(chosen.len(), "case")))?;
    Ok(failed == 0)
}

fn inspect_bench(args: &BenchArgs) -> Result<bool> {
    args.out.as_ref().map_or(Ok(()), |path| not_of_a_run("--out", path))?;
    let options = args.options();
    let mut wanted = sized(options.channels, options.cells, options.image_size);
    wanted.space.nodes = options.nodes;
    check_sizes(wanted)?;
    options.batches.iter().try_for_each(|&batch| within("--batch", batch, 2..=MOST_IMAGES))?;
    let (device, text) = open(&args.device)?;
    let mut unread = false;
    let measured = bench::run(&device, &text, &options, &mut |row, all| {
        unread = !offer(&format!("{row}\n"))?;
        match &args.out {
            Some(path) => std::fs::write(path, format!("{all:#}\n")).map_err(Error::io("write", path)),
            None if unread => Err(Error::device("measured for nobody")), // no reason to go on, nor one to tell
            None => Ok(()),
        }
    });
    match measured {
        Err(_) if unread && args.out.is_none() => Ok(true),
        measured => measured.map(|_| true),
    }
}
