//! What a device can do at the most: bytes of a copy and multiply-adds of a large matrix product, measured.

use super::clock::{Effort, fastest};
use super::{Options, Report, dtype_name, stores};
use crate::device::Device;
use crate::error::Result;
use crate::ops::conv::{Conv, Geometry};
use crate::ops::matmul::MatMul;
use crate::ops::pointwise::Copy;
use crate::ops::window::Window;
use crate::run::caught::caught;
use crate::tape::{Op, Tape};
use crate::tensor::{DType, Shape, Tensor};
use serde_json::json;

/// Rates that the shares of kernels are of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roofline {
    /// Read plus written.
    pub bytes_per_second: f64,
    /// A multiply-add counting as two, of images in `F32` and in `BF16`.
    pub flops_per_second: [f64; 2],
}

impl Roofline {
    /// For images of type `dtype`; that of `F32` where there is no other.
    pub fn flops(&self, dtype: DType) -> f64 {
        let [single, half] = self.flops_per_second;
        if dtype == DType::BF16 && half > 0.0 { half } else { single }
    }
}

/// Sizes to measure at.
struct Sizes {
    /// Elements of a copy: more than caches hold.
    copy: usize,
    /// Rows and columns of the factors of a product.
    matrix: usize,
    /// (N, H, W, C) of the images that a 1 x 1 convolution takes to as many channels.
    image: [usize; 4],
}

impl Sizes {
    fn new(device: &Device, quick: bool) -> Result<Self> {
        if quick {
            return Ok(Self { copy: 1 << 12, matrix: 16, image: [2, 4, 4, 8] });
        }
        Ok(match device.cuda() {
            None => Self { copy: 1 << 26, matrix: 1024, image: [4, 32, 32, 256] },
            // two of these, a quarter of what is free at the most
            Some(cuda) => Self {
                copy: (cuda.memory()?.0 / 32).clamp(1 << 20, 1 << 28),
                matrix: 4096,
                image: [64, 32, 32, 256],
            },
        })
    }
}

/// Numbers of one size, none of them zero: what is in the memory can matter to a device's clock.
fn numbers(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    match device {
        Device::Cpu => Tensor::scalar(0.5, DType::F32).full_alike(shape, dtype, 0.5),
        Device::Cuda(_) => Tensor::on(device, [1], dtype)?.full_alike(shape, dtype, 0.5),
    }
}

/// Seconds and arithmetic of `op` on inputs of these shapes.
fn product(device: &Device, effort: Effort, op: impl Op + Clone, inputs: [(Shape, DType); 2]) -> Result<f64> {
    let shapes = inputs.map(|(shape, _)| shape);
    let [a, b] = inputs.map(|(shape, dtype)| numbers(device, shape, dtype));
    let (a, b) = (a?, b?);
    let flops = op.cost(&shapes).flops as f64;
    let time = caught(|| {
        fastest(device, effort, || {
            let mut tape = Tape::new();
            let ins = [tape.constant(a.clone()), tape.constant(b.clone())];
            tape.apply(op.clone(), &ins).map(drop)
        })
    })?;
    Ok(flops / time.seconds)
}

/// Measures, and reports each rate by itself. What fails is reported and counts as nothing.
pub fn measure(device: &Device, options: &Options, report: &mut Report) -> Result<Roofline> {
    let (sizes, effort) = (Sizes::new(device, options.quick)?, Effort::new(options.quick));
    let mut roofline = Roofline::default();
    report.say("\nwhat the device can do, measured: 100 % of the table below")?;
    let bytes = 2.0 * (sizes.copy * DType::F32.size()) as f64;
    let what = format!("copy of {:.1} MB", bytes / 2e6);
    for by in ["kernel", "driver"] {
        let rate = copy_rate(device, effort, sizes.copy, by == "driver").map(|seconds| bytes / seconds);
        add(report, &format!("{what}, {by}"), "GB/s", &rate)?;
        roofline.bytes_per_second = roofline.bytes_per_second.max(rate.unwrap_or(0.0));
    }
    for (k, dtype) in [DType::F32, DType::BF16].into_iter().enumerate() {
        if !options.dtypes.contains(&dtype) || !stores(device, dtype) {
            continue;
        }
        let mut add = |what: String, rate: Result<f64>| {
            add(report, &format!("{what}, {}", dtype_name(dtype)), "GFLOP/s", &rate)?;
            roofline.flops_per_second[k] = roofline.flops_per_second[k].max(rate.unwrap_or(0.0));
            Ok(())
        };
        let [n, h, w, c] = sizes.image;
        let geometry = Geometry { window: Window::square(1, 1, 0, 1), depthwise: false };
        // parameters are F32
        let conv = [([n, h, w, c].into(), dtype), ([c, c, 1, 1].into(), DType::F32)];
        add(format!("1x1 convolution of {n}x{h}x{w}x{c}"), product(device, effort, Conv(geometry), conv))?;
        if dtype == DType::F32 {
            let m = sizes.matrix;
            let factor = ([m, m].into(), dtype);
            let op = MatMul { transpose: [false, false] };
            add(format!("matrix product of {m}x{m}"), product(device, effort, op, [factor; 2]))?;
        }
    }
    let [single, half] = roofline.flops_per_second;
    report.all["roofline"] =
        json!({ "bytes_per_second": roofline.bytes_per_second, "f32": single, "bf16": half });
    Ok(roofline)
}

fn add(report: &mut Report, what: &str, unit: &str, rate: &Result<f64>) -> Result<()> {
    let (line, row) = match rate {
        Ok(rate) => (format!("{:>12.1} {unit}", rate / 1e9), json!({ "name": what, "per_second": rate })),
        Err(error) => (format!("failed: {error}"), json!({ "name": what, "error": error.to_string() })),
    };
    report.add("rates", row, &format!("  {what:<52} {line}"))
}

/// Seconds of a copy of `count` numbers.
fn copy_rate(device: &Device, effort: Effort, count: usize, by_driver: bool) -> Result<f64> {
    let from = numbers(device, [count], DType::F32)?;
    let mut to = from.alike(*from.shape(), DType::F32)?;
    let time = fastest(device, effort, || match by_driver {
        true => to.copy_from(&from),
        false => {
            let mut tape = Tape::new();
            let x = tape.constant(from.clone());
            tape.apply(Copy, &[x]).map(drop)
        }
    })?;
    Ok(time.seconds)
}
