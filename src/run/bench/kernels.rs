//! Each kind of kernel at the shapes of a search step: microseconds, and shares of what the device can do.

use super::clock::{Effort, Time, fastest};
use super::roofline::Roofline;
use super::{Options, Report, dtype_name, percent, still_there, stores};
use crate::device::Device;
use crate::error::Result;
use crate::ops::cases::fused::{Cell, Preprocess};
use crate::ops::cases::{Case, image};
use crate::run::caught::caught;
use crate::tape::{Cost, Op, Out, Pullback, Tape, Var};
use crate::tensor::{DType, Shape, Tensor};
use serde_json::json;

const BATCH: usize = 64;
/// The published candidates, without the one that is zero, by their places among all kinds.
const CANDIDATES: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];

/// A case and its name in the table.
struct Kernel {
    name: String,
    case: Case,
    /// Inputs whose gradients are measured by themselves too: those of an architecture pass.
    first: Option<usize>,
}

/// What a step of the published search runs: images (N, H, W, C) of its three stages.
fn kernels(quick: bool) -> Vec<Kernel> {
    let stages = match quick {
        true => vec![[2, 4, 4, 4]],
        false => vec![[BATCH, 32, 32, 16], [BATCH, 16, 16, 32], [BATCH, 8, 8, 64]],
    };
    let nodes = if quick { 1 } else { 4 };
    let mut all = vec![];
    for &x in &stages {
        let [n, h, w, c] = x;
        let at = |what: &str, c: usize| format!("{what} {c}@{h}x{w}");
        let mut preprocess = |name: String, x: [usize; 4], share, halve| {
            let case = Preprocess { x, share, halve, affine: false, given: false }.case(false);
            all.push(Kernel { name, case, first: None });
        };
        preprocess(at("preprocessing", 4 * c), [n, h, w, 4 * c], c, false);
        preprocess(at("halving preprocessing", 4 * c), [n, h, w, 4 * c], c, true);
        let mut cell = |name: String, x, reduction| {
            let chosen = vec![CANDIDATES.to_vec()];
            let case = Cell { x, nodes, reduction, chosen, given: false }.case(false);
            all.push(Kernel { name, case, first: Some(3) });
        };
        cell(at("fused cell", c), x, false);
        if h > 8 || quick {
            cell(at("fused reduction cell", 2 * c), [n, h, w, 2 * c], true);
        }
        let single = image::search_cases(x).into_iter();
        all.extend(single.map(|case| Kernel { name: shortened(&case.name), case, first: None }));
    }
    all
}

/// The name of a case without its longest lists.
fn shortened(name: &str) -> String {
    match name.split_once(" by ") {
        Some((short, _)) => short.to_owned(),
        None => name.to_owned(),
    }
}

/// Measures each; what fails is reported, and the rest goes on.
pub fn measure(device: &Device, options: &Options, roofline: &Roofline, report: &mut Report) -> Result<()> {
    report.say(&format!(
        "\n{:<52} {:<5} {:<10} {:>10} {:>8} {:>6} {:>9} {:>6}",
        "kernel", "type", "pass", "us", "GB/s", "of max", "GFLOP/s", "of max"
    ))?;
    for kernel in kernels(options.quick) {
        for &dtype in options.dtypes.iter().filter(|&&dtype| stores(device, dtype)) {
            let mut passes = vec![];
            if let Err(error) = caught(|| run(&kernel, dtype, device, options.quick, &mut passes)) {
                let row =
                    json!({ "name": kernel.name, "type": dtype_name(dtype), "error": error.to_string() });
                let line = format!("{:<52} {:<5} failed: {error}", kernel.name, dtype_name(dtype));
                report.add("kernels", row, &line)?;
            }
            for pass in passes {
                show(&kernel, dtype, &pass, roofline, report)?;
            }
            still_there(device)?;
        }
    }
    Ok(())
}

/// A measured pass.
struct Pass {
    name: &'static str,
    time: Time,
    cost: Cost,
    /// Kernels that a run launches, on a device.
    launches: Option<usize>,
}

fn show(kernel: &Kernel, dtype: DType, pass: &Pass, roofline: &Roofline, report: &mut Report) -> Result<()> {
    let seconds = pass.time.seconds;
    let (bytes, flops) = (pass.cost.bytes(dtype) as f64, pass.cost.flops as f64);
    let row = json!({
        "name": kernel.name, "type": dtype_name(dtype), "pass": pass.name, "seconds": seconds,
        "bytes": bytes, "flops": flops, "uncaptured": pass.time.uncaptured, "launches": pass.launches,
    });
    let uncaptured = pass.time.uncaptured.as_ref();
    let note = uncaptured.map_or(String::new(), |why| format!("  with launching: {why}"));
    let line = format!(
        "{:<52} {:<5} {:<10} {:>10.1} {:>8.1} {:>4.0} % {:>9.1} {:>4.0} %{note}",
        kernel.name,
        dtype_name(dtype),
        pass.name,
        seconds * 1e6,
        bytes / seconds / 1e9,
        percent(bytes / seconds, roofline.bytes_per_second),
        flops / seconds / 1e9,
        percent(flops / seconds, roofline.flops(dtype)),
    );
    report.add("kernels", row, &line)
}

/// Whether an input is images, as parameters stay `F32`.
fn is_images(shape: &Shape, batch: usize) -> bool {
    matches!(*shape.dims(), [n, h, w, _] if n == batch && h == w)
}

/// How many copies of all that a run of so many bytes goes through take more room than caches have.
fn copies(bytes: u64, quick: bool) -> usize {
    const COLD: u64 = 128 << 20;
    if quick { 1 } else { COLD.div_ceil(bytes.max(1)).min(64) as usize }
}

/// What `run` makes of one copy after the other; each result is held until its copy's next turn, so that what is written
/// next is out of the caches as well.
fn in_turn<T>(copies: usize, mut run: impl FnMut(usize) -> Result<T>) -> impl FnMut() -> Result<()> {
    let mut results: Vec<Option<T>> = (0..copies).map(|_| None).collect();
    let mut at = 0;
    move || {
        results[at] = None;
        results[at] = Some(run(at)?);
        at = (at + 1) % copies;
        Ok(())
    }
}

/// Forward and gradient of one case.
fn run(kernel: &Kernel, dtype: DType, device: &Device, quick: bool, passes: &mut Vec<Pass>) -> Result<()> {
    let (case, effort) = (&kernel.case, Effort::new(quick));
    let batch = case.inputs.iter().find_map(|input| input.shape.nhwc()).map_or(0, |[n, ..]| n);
    let inputs = case.draw(1)?.into_iter().map(|x| {
        let images = case.inputs.iter().any(|i| i.shape == *x.shape()) && is_images(x.shape(), batch);
        x.to_dtype(if images { dtype } else { DType::F32 })?.to_device(device)
    });
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    let forward = |inputs: &[Tensor]| -> Result<(Tape, Vec<Var>, Var)> {
        let mut tape = Tape::new();
        let vars: Vec<Var> = inputs.iter().map(|x| tape.leaf(x.clone())).collect();
        let y = case.run(&mut tape, &vars)?;
        Ok((tape, vars, y))
    };
    let launches = || device.cuda().map(|cuda| cuda.launches());
    let since = |before: Option<usize>| launches().zip(before).map(|(after, before)| after - before);

    let before = launches();
    let cost = forward(&inputs)?.0.counters().cost;
    let count = since(before);
    let copies = copies(cost.bytes(dtype), quick);
    let copy = |x: &Tensor| -> Result<Tensor> {
        let mut own = x.clone();
        own.make_unique()?;
        Ok(own)
    };
    let sets = (0..copies).map(|_| inputs.iter().map(copy).collect());
    let sets: Vec<Vec<Tensor>> = sets.collect::<Result<_>>()?;
    let time = fastest(device, effort, in_turn(copies, |at| forward(&sets[at])))?;
    passes.push(Pass { name: "forward", time, cost, launches: count });
    if case.orders == 0 {
        return Ok(());
    }
    let seeded = sets.iter().map(|inputs| {
        let (mut tape, vars, y) = forward(inputs)?;
        let g = tape.value(y).full_alike(tape.shape(y), tape.dtype(y), 0.5)?;
        let result = tape.apply(Seed { g }, &[y])?;
        Ok((tape, vars, result))
    });
    let mut tapes: Vec<(Tape, Vec<Var>, Var)> = seeded.collect::<Result<_>>()?;
    let inputs = inputs.len();
    let first = kernel.first.filter(|&first| first < inputs);
    for (name, count) in first.map(|first| ("alphas", first)).into_iter().chain([("gradient", inputs)]) {
        let mut grad = |at: usize| {
            let (tape, vars, result) = &mut tapes[at];
            let (before, grads) = (tape.counters().cost, tape.grad(*result, &vars[..count])?);
            Ok((grads, difference(tape.counters().cost, before)))
        };
        let before = launches();
        let ((_, cost), launches) = (grad(0)?, since(before));
        let time = fastest(device, effort, in_turn(copies, grad))?;
        passes.push(Pass { name, time, cost, launches });
    }
    Ok(())
}

fn difference(after: Cost, before: Cost) -> Cost {
    Cost {
        flops: after.flops - before.flops,
        macs: after.macs - before.macs,
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
    }
}

/// A number whose gradient in the input is `g`, at next to no cost.
#[derive(Debug)]
struct Seed {
    g: Tensor,
}

impl Op for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }
    fn shape(&self, _: &[Shape]) -> Result<Shape> {
        Ok(Shape::from([1]))
    }
    fn dtype(&self, _: &[DType]) -> DType {
        DType::F32
    }
    fn run(&self, _: &[&Tensor], out: &mut Out) -> Result<()> {
        match out.value.cuda().cloned() {
            Some(cuda) => cuda.zero(out.value.address(), out.value.bytes()),
            None => {
                out.value.make_mut::<f32>().fill(0.0);
                Ok(())
            }
        }
    }
    fn cost(&self, _: &[Shape]) -> Cost {
        Cost::default()
    }
    fn vjp(&self, cx: &mut Pullback) -> Result<()> {
        let g = cx.tape().constant(self.g.clone());
        cx.pass(0, g)
    }
}
