//! What a search step takes, found by dry runs, and which cells to recompute so that it fits into less memory.

use super::bilevel::{ALPHAS, BOTH, Order, WEIGHTS};
use super::pass::{Pass, Want, forward, phantom_scene};
use crate::error::Result;
use crate::nn::NormMode;
use crate::space::Supernet;
use crate::space::cnn::CnnSupernet;
use crate::tape::{Counters, Tape};
use crate::tensor::DType;

/// Cells up to which more sets of cells are tried than the obvious ones.
const FEW_CELLS: usize = 12;

/// The steps of one search: their batches and how they compute the architecture gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    pub order: Order,
    pub batch: usize,
    /// Height, width and channels of the images.
    pub image: [usize; 3],
    /// What images are stored as, between operations too: `F32`, or `BF16` on a CUDA device.
    pub precision: DType,
}

/// What a step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepPlan {
    /// Of all passes.
    pub counters: Counters,
    /// Bytes that tensors hold at once, at the most: all that a search holds, in `F32`.
    pub peak: usize,
}

/// What a search does that takes memory of its own, with the vectors of the weights' size that it needs besides
/// weights and momentum.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Pass(Want, DType, usize),
    Evaluation,
}

impl Order {
    fn phases(self) -> &'static [Phase] {
        use Phase::{Evaluation, Pass};
        const F: DType = DType::F32;
        const D: DType = F.dual();
        match self {
            Self::First => &[Evaluation, Pass(ALPHAS, F, 0), Pass(WEIGHTS, F, 0)],
            Self::Second => &[Evaluation, Pass(BOTH, F, 1), Pass(ALPHAS, F, 2), Pass(WEIGHTS, F, 0)],
            // the dual weights are two vectors
            Self::Exact => &[Evaluation, Pass(BOTH, F, 1), Pass(ALPHAS, D, 3), Pass(WEIGHTS, F, 0)],
        }
    }
}

impl Workload {
    /// What images are stored as in a pass on numbers of type `dtype`.
    fn stored(&self, dtype: DType) -> DType {
        if dtype == DType::F32 { self.precision } else { dtype }
    }

    /// What a step of `net` takes.
    pub fn plan(&self, net: &dyn Supernet) -> Result<StepPlan> {
        let mut counters = Counters::default();
        for &(want, dtype) in self.order.passes() {
            let mut pass = Pass::plan(net, self.batch, self.image, want, self.stored(dtype))?.0;
            let parts = (dtype.size() / DType::F32.size()) as u64;
            pass.cost.flops *= dtype.products();
            pass.cost.reads *= parts;
            pass.cost.writes *= parts;
            counters += pass;
        }
        Ok(StepPlan { counters, peak: self.peak(net)? })
    }

    /// Bytes that tensors hold at once, at the most, in steps and evaluations.
    pub fn peak(&self, net: &dyn Supernet) -> Result<usize> {
        let vector = net.layout().count * DType::F32.size();
        let mut most = 0;
        for phase in self.order.phases() {
            most = most.max(match *phase {
                Phase::Pass(want, dtype, vectors) => {
                    vectors * vector + Pass::plan(net, self.batch, self.image, want, self.stored(dtype))?.1
                }
                Phase::Evaluation => self.evaluation(net)?,
            });
        }
        Ok(most + self.held(net))
    }

    /// Bytes of weights, momentum, running statistics, alphas with Adam's moments, and two batches.
    fn held(&self, net: &dyn Supernet) -> usize {
        let running: usize = net.norms().iter().map(|(_, channels)| 2 * channels).sum();
        let alphas: usize = net.kinds().iter().map(|k| 3 * k.shape().iter().product::<usize>()).sum();
        let [height, width, channels] = self.image;
        let batches = 2 * self.batch * (height * width * channels + 1);
        (2 * net.layout().count + running + alphas + batches) * DType::F32.size()
    }

    fn evaluation(&self, net: &dyn Supernet) -> Result<usize> {
        let want = Want { weights: false, alphas: false };
        let tape = Tape::dry_inference();
        let meter = tape.meter().cloned().unwrap_or_default();
        let (batch, weights, alphas, mut running) =
            phantom_scene(net, self.batch, self.image, self.precision);
        forward(net, tape, (&weights, &alphas), &batch, NormMode::Running, &mut running, want)?;
        Ok(meter.peak())
    }

    /// Recomputes those cells of `net` that cost the fewest multiply-adds among those with which the peak `fits` or, if
    /// there are none, those with the smallest peak; which comes back.
    pub fn fit(&self, net: &mut CnnSupernet, fits: impl Fn(usize) -> bool) -> Result<usize> {
        let mut least: Option<(usize, Vec<usize>)> = None;
        for cells in self.candidates(net)? {
            net.recompute(&cells);
            let peak = self.peak(net)?;
            if fits(peak) {
                return Ok(peak);
            }
            if least.as_ref().is_none_or(|(bytes, _)| peak < *bytes) {
                least = Some((peak, cells));
            }
        }
        let (peak, cells) = least.unwrap_or_default();
        net.recompute(&cells);
        Ok(peak)
    }

    /// Sets of cells to recompute, cheapest first. They do not depend on a budget, so a larger one never recomputes
    /// more: the cells that free most memory a multiply-add, one more each time, and the same without one of them.
    fn candidates(&self, net: &mut CnnSupernet) -> Result<Vec<Vec<usize>>> {
        let costs = self.costs(net)?;
        let mut order: Vec<usize> = (0..costs.len()).collect();
        let worth = |cell: usize| costs[cell].bytes as f64 / costs[cell].macs.max(1) as f64;
        order.sort_by(|&a, &b| worth(b).total_cmp(&worth(a)));
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        for count in 1..=order.len() {
            let first = &order[..count];
            sets.push(first.to_vec());
            if costs.len() <= FEW_CELLS {
                sets.extend(
                    first.iter().map(|out| first.iter().copied().filter(|cell| cell != out).collect()),
                );
            }
        }
        sets.iter_mut().for_each(|set| set.sort_unstable());
        let macs = |set: &[usize]| set.iter().map(|&cell| costs[cell].macs).sum::<u64>();
        sets.sort_by_cached_key(|set| (macs(set), set.clone()));
        sets.dedup();
        Ok(sets)
    }

    /// What recomputing each cell costs and frees.
    fn costs(&self, net: &mut CnnSupernet) -> Result<Vec<CellCost>> {
        let cells = net.cells();
        let mut measure = |cells: &[usize]| -> Result<(u64, usize)> {
            net.recompute(cells);
            let macs = Pass::plan(net, self.batch, self.image, ALPHAS, self.precision)?.0.cost.macs;
            Ok((macs, self.kept(net)?))
        };
        let (macs, bytes) = measure(&[])?;
        let cost = |cell| {
            let (with, kept) = measure(&[cell])?;
            Ok(CellCost { macs: with.saturating_sub(macs), bytes: bytes.saturating_sub(kept) })
        };
        (0..cells).map(cost).collect()
    }

    /// Bytes that a forward keeps for the pullback.
    fn kept(&self, net: &dyn Supernet) -> Result<usize> {
        let (batch, weights, alphas, mut running) =
            phantom_scene(net, self.batch, self.image, self.precision);
        let run =
            forward(net, Tape::dry(), (&weights, &alphas), &batch, NormMode::Batch, &mut running, ALPHAS)?;
        Ok(run.tape.meter().map_or(0, |meter| meter.live()))
    }

    /// The largest batch below this one with which the peak `fits`.
    pub fn largest_batch(&self, net: &dyn Supernet, fits: impl Fn(usize) -> bool) -> Result<Option<usize>> {
        largest_batch(self.batch, |batch| Ok(fits(Self { batch, ..*self }.peak(net)?)))
    }
}

/// The largest batch below `batch` that `fits`, if there is one.
pub fn largest_batch(batch: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<Option<usize>> {
    let (mut good, mut bad) = (1, batch); // no batch norm can do with one image
    while bad - good > 1 {
        let batch = good + (bad - good) / 2;
        *(if fits(batch)? { &mut good } else { &mut bad }) = batch;
    }
    Ok((good > 1).then_some(good))
}

struct CellCost {
    macs: u64,
    bytes: usize,
}
