//! The forward pass of a cell. Kernels: kernels/cell_conv.cu, kernels/cell_sum.cu.

use super::items::{AVERAGE, ConvItem, MAXIMUM, Operand, StatisticsItem, Term, Window};
use super::launch::{convolve, statistics, sum};
use super::{Cell, Saved, images};
use crate::device::cuda::Cuda;
use crate::error::Result;
use crate::ops::fused::mixed_cell::MixedCell;
use crate::tape::Out;
use crate::tensor::{DType, Tensor};
use oche_cpu::cell::{Item, Kind, Sizes};

/// Computes the nodes, and what the backward needs, as `cpu::cell::forward` does.
pub fn forward(cuda: &Cuda, op: &MixedCell, sizes: Sizes, ins: &[&Tensor], out: &mut Out) -> Result<()> {
    let (values, taps) = out.saved[1..].split_at(op.spec.values);
    let saved = Saved { y: &*out.value, stats: &out.saved[0], values, taps };
    let cell = Cell::new(cuda, op, sizes, ins, &saved, &[])?;
    let spec = &*op.spec;
    if op.given {
        let given = ins[3 + spec.weights];
        cuda.copy(given.address(), cell.stats, given.bytes())?;
    }
    for known in 0..=spec.nodes {
        // both inputs are known at once, then a node at a time
        let states = match known.checked_sub(1) {
            None => 0..2,
            Some(node) => {
                cell.sum_node(node)?;
                2 + node..3 + node
            }
        };
        let reading: Vec<&Item> = spec.items.iter().filter(|i| states.contains(&i.from)).collect();
        let pools = states.clone().flat_map(|from| cell.pools(from));
        cell.values_of(pools.chain(reading.iter().flat_map(|item| cell.first_values(item))).collect())?;
        cell.values_of(reading.iter().filter_map(|item| cell.second_value(item)).collect())?;
    }
    Ok(())
}

/// An item of a launch, with the value, and its first channel, that it computes.
type Value = (usize, usize, ConvItem);

impl Cell<'_> {
    fn value(&self, place: usize, from: Operand, with: u64) -> Value {
        let c = self.sizes.c as i16;
        let z = self.values[place];
        (place, 0, ConvItem { from, with, z, moments: 0, z_pitch: c.into(), cout: c, moments_pitch: c })
    }

    /// The pools of a state, each once for all that read it.
    fn pools(&self, from: usize) -> Vec<Value> {
        let pool = |(item, maximum): (&Item, Option<usize>)| {
            let kind = if maximum.is_some() { MAXIMUM } else { AVERAGE };
            let operand = Operand { kind, ..self.reading(from, item.kind.window()) };
            self.value(item.value, operand, maximum.map_or(0, |at| self.taps[at]))
        };
        self.spec.pools_of(from).into_iter().map(pool).collect()
    }

    /// The first half of a convolution, or both of a stride-2 skip.
    fn first_values(&self, item: &Item) -> Vec<Value> {
        match item.kind {
            Kind::Conv(window) | Kind::TwoConvs([window, _]) => {
                vec![self.value(item.value, self.first(item, window), self.weights[item.weight + 1])]
            }
            Kind::Reduce => [0, 1].map(|k| self.half_of_skip(item, k)).to_vec(),
            Kind::Identity | Kind::MaxPool(_) | Kind::AvgPool(_) => vec![],
        }
    }

    fn half_of_skip(&self, item: &Item, k: usize) -> Value {
        let half = self.sizes.c / 2;
        let operand = self.reading(item.from, Window::pixels(2, k));
        let (place, _, whole) = self.value(item.value, operand, self.weights[item.weight + k]);
        let z = whole.z + self.bytes(k * half);
        (place, k * half, ConvItem { z, cout: half as i16, ..whole })
    }

    fn second_value(&self, item: &Item) -> Option<Value> {
        let Kind::TwoConvs([_, window]) = item.kind else { return None };
        Some(self.value(item.value + 1, self.second(item, window), self.weights[item.weight + 3]))
    }

    /// Computes values, and unless they are given the statistics of the norms that apply to them.
    fn values_of(&self, mut values: Vec<Value>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let (c, blocks) = (self.sizes.c, self.strip_blocks());
        let mut places: Vec<usize> = values.iter().map(|(place, ..)| *place).collect();
        places.dedup(); // the halves of a skip are neighbours
        let rows = if self.given { 0 } else { places.len() };
        let moments = self.like.alike([rows, blocks, 3, c], DType::F32)?;
        let row = |k: usize| moments.address() + (k * blocks * 3 * c * size_of::<f32>()) as u64;
        if !self.given {
            let mut k = 0;
            for (place, channel, item) in &mut values {
                k += usize::from(places[k] != *place);
                item.moments = row(k) + (*channel * size_of::<f32>()) as u64;
            }
        }
        let items: Vec<ConvItem> = values.into_iter().map(|(_, _, item)| item).collect();
        convolve(self.cuda, self.dtype, self.split, images(self.sizes.n, self.sizes.out), &items)?;
        if self.given {
            return Ok(());
        }
        let norms = |(k, &place): (usize, &usize)| {
            let all = self.spec.items.iter().flat_map(|i| (0..i.norms).map(move |later| (i, later)));
            let own = all.filter(move |(i, later)| i.value + later == place);
            let item = move |(i, later): (&Item, usize)| StatisticsItem {
                moments: row(k),
                stats: self.norm(i.norm + later),
            };
            own.map(item).collect::<Vec<_>>()
        };
        let items: Vec<StatisticsItem> = places.iter().enumerate().flat_map(norms).collect();
        statistics(self.cuda, self.pixels(), blocks, c, &items)
    }

    /// A node: the weighted sum of its candidates.
    fn sum_node(&self, node: usize) -> Result<()> {
        let (c, nodes) = (self.sizes.c, self.spec.nodes);
        let terms: Vec<Term> = self.spec.into_node(node).map(|item| self.term(item)).collect();
        let to = (self.y + self.bytes(node * c), nodes * c);
        sum(self.cuda, self.dtype, self.split, (self.pixels(), c), self.mix, &terms, to)
    }
}
