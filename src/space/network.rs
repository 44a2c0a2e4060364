//! The network of a genotype for small images (section 3.1.2 of arXiv 1806.09055): what is trained from scratch.

use super::candidate::{Candidate, Place, State, build, zero};
use super::cell::Preprocess;
use super::cnn::{Stem, is_reduction};
use super::{Gene, Genotype};
use crate::error::{Error, Result};
use crate::nn::{Context, Linear, NormMode, RunningStats};
use crate::ops::concat::Concat;
use crate::ops::pointwise::Add;
use crate::ops::pool::GlobalAvgPool;
use crate::tape::{Builder, Counters, Layout, ParamSet, Tape, Var};
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

/// Size of a found network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Channels of the first cells, C.
    pub channels: usize,
    /// Number of cells, L.
    pub cells: usize,
    pub classes: usize,
    /// Channels of the images.
    pub image_channels: usize,
}

impl Default for NetworkConfig {
    /// The published evaluation on CIFAR-10: C = 36, 20 cells.
    fn default() -> Self {
        Self { channels: 36, cells: 20, classes: 10, image_channels: 3 }
    }
}

/// A cell with two chosen operations a node.
#[derive(Debug)]
struct FoundCell {
    preprocess: [Preprocess; 2],
    /// Input and operation, two a node.
    ops: Vec<(usize, Box<dyn Candidate>)>,
    concat: Vec<usize>,
    reduction: bool,
}

impl FoundCell {
    fn new(
        b: &mut Builder,
        (genes, concat): (&[Gene], &[usize]),
        inputs: [usize; 2],
        channels: usize,
        reduction: bool,
        after_reduction: bool,
    ) -> Result<Self> {
        let preprocess = Preprocess::pair(b, inputs, channels, after_reduction, true)?;
        let mut cell = Self { preprocess, ops: Vec::new(), concat: concat.to_vec(), reduction };
        for (i, gene) in genes.iter().enumerate() {
            let place = Place { channels, stride: cell.stride(gene.input), affine: true, pool_norm: false };
            cell.ops.push((gene.input, b.within(format!("_ops.{i}"), |b| build(b, &gene.op, place))?));
        }
        Ok(cell)
    }

    fn stride(&self, input: usize) -> usize {
        if self.reduction && input < 2 { 2 } else { 1 }
    }

    fn forward(&self, cx: &mut Context, inputs: [Var; 2]) -> Result<Var> {
        let mut states = Vec::with_capacity(2 + self.ops.len() / 2);
        for (layer, input) in self.preprocess.iter().zip(inputs) {
            states.push(State::new(layer.forward(cx, input)?));
        }
        for pair in self.ops.chunks_exact(2) {
            let mut sum = None;
            for (input, op) in pair {
                let Some(term) = op.forward(cx, &mut states[*input])? else { continue };
                let y = term.normalised(cx)?;
                sum = Some(match sum {
                    None => y,
                    Some(sum) => cx.tape.apply(Add, &[sum, y])?,
                });
            }
            let sum = match sum {
                Some(sum) => sum,
                None => zero(cx, &states[pair[0].0], self.stride(pair[0].0))?,
            };
            states.push(State::new(sum));
        }
        let out: Vec<Var> = self.concat.iter().map(|&i| states[i].x).collect();
        cx.tape.apply(Concat, &out)
    }
}

/// The network of a genotype.
#[derive(Debug)]
pub struct Network {
    stem: Stem,
    cells: Vec<FoundCell>,
    classifier: Linear,
    layout: Arc<Layout>,
    norms: Vec<(String, usize)>,
    image_channels: usize,
}

impl Network {
    pub fn new(genotype: &Genotype, config: NetworkConfig) -> Result<Self> {
        genotype.validate()?;
        let NetworkConfig { channels, cells: count, classes, image_channels } = config;
        if channels == 0 || count == 0 || classes == 0 || image_channels == 0 {
            return Err(Error::config("network", "channels, cells and classes must be at least one"));
        }
        let mut b = Builder::default();
        let stem = Stem::new(&mut b, image_channels, 3 * channels);
        let (mut inputs, mut c, mut after_reduction) = ([3 * channels; 2], channels, false);
        let mut cells = Vec::with_capacity(count);
        for layer in 0..count {
            let reduction = is_reduction(layer, count);
            c *= if reduction { 2 } else { 1 };
            let genes = match reduction {
                true => (&genotype.reduce[..], &genotype.reduce_concat[..]),
                false => (&genotype.normal[..], &genotype.normal_concat[..]),
            };
            cells.push(b.within(format!("cells.{layer}"), |b| {
                FoundCell::new(b, genes, inputs, c, reduction, after_reduction)
            })?);
            (inputs, after_reduction) = ([inputs[1], genes.1.len() * c], reduction);
        }
        let classifier = Linear::new(&mut b, "classifier", inputs[1], classes);
        let (layout, norms) = b.finish();
        Ok(Self { stem, cells, classifier, layout, norms, image_channels })
    }

    /// Names and places of the weights.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
    /// Names and channels of the normalisations.
    pub fn norms(&self) -> &[(String, usize)] {
        &self.norms
    }
    /// Logits (N, classes) of images (N, H, W, C).
    pub fn forward(&self, cx: &mut Context, images: Var) -> Result<Var> {
        let mark = cx.tape.mark(); // before all: the outputs of cells go as well, two cells later
        let stem = self.stem.forward(cx, images)?;
        let mut last = [stem, stem];
        cx.tape.release_since(mark, &last);
        for cell in &self.cells {
            let out = cell.forward(cx, last)?;
            last = [last[1], out];
            cx.tape.release_since(mark, &last);
        }
        let pooled = cx.tape.apply(GlobalAvgPool, &[last[1]])?;
        self.classifier.forward(cx, pooled)
    }
    /// What one forward of `batch` images of [height, width] takes, without running it; and its peak bytes.
    pub fn forward_cost(&self, batch: usize, [height, width]: [usize; 2]) -> Result<(Counters, usize)> {
        let mut tape = Tape::dry_inference();
        let weights = ParamSet::phantom(&self.layout, DType::F32).bind(&mut tape, false);
        let images =
            Tensor::phantom([batch, height, width, self.image_channels], DType::F32, &Arc::default());
        let images = tape.constant(images);
        let mut running = RunningStats::new(&self.norms, DType::F32);
        let mode = NormMode::Running;
        self.forward(
            &mut Context { tape: &mut tape, weights: &weights, mode, fused: false, running: &mut running },
            images,
        )?;
        Ok((tape.counters(), tape.meter().map_or(0, |m| m.peak())))
    }
}
