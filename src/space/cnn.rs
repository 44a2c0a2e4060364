//! The supernet of the DARTS convolutional space for small images (section 3.1 of arXiv 1806.09055).
//!
//! Stem: 3 x 3 convolution to `stem_multiplier` C channels and an affine batch norm. Cells at L/3 and 2L/3 halve the
//! image and double the channels. Head: global average pool and a linear layer.

use super::cell::{CellShape, SearchCell};
use super::discretise::discretise_by_edge;
use super::operation::Operation;
use super::search_space::{CELLS, Space};
use super::supernet::{CellKind, Supernet};
use super::{Genotype, genotype};
use crate::error::{Error, Result};
use crate::nn::{Context, Conv2d, Linear, Norm, NormMode, RunningStats};
use crate::ops::pool::GlobalAvgPool;
use crate::ops::window::Window;
use crate::tape::{Builder, Layout, Segment, Tape, Var};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Space and size of the supernet.
#[derive(Clone, Debug)]
pub struct CnnConfig {
    /// Channels of the first cells, C.
    pub channels: usize,
    /// Number of cells, L.
    pub cells: usize,
    /// What its cells can become.
    pub space: Space,
    pub classes: usize,
    /// Channels of the images.
    pub image_channels: usize,
    /// The stem has this many times C channels.
    pub stem_multiplier: usize,
    /// Use the fused operations; without, every operation is one of its own: slower, larger, the reference. A cell with a
    /// candidate that has no fused form runs that way in any case, see [`Supernet::unfused`].
    pub fused: bool,
    /// On the CPU, fused operations keep what a backward pass needs as bf16, and convolutions multiply bf16 and sum in
    /// `f32`: half of that memory and other numbers; faster with AVX-512 BF16, much slower without. Cells that are not
    /// fused stay as they are.
    pub lean: bool,
    /// Cells that keep only their result and run again in the pullback: the same numbers in less memory.
    pub recomputed: Vec<usize>,
}

impl Default for CnnConfig {
    /// The published search on CIFAR-10: C = 16, 8 cells, 4 nodes, 8 candidates.
    fn default() -> Self {
        Self {
            channels: 16,
            cells: 8,
            space: Space::darts(4),
            classes: 10,
            image_channels: 3,
            stem_multiplier: 3,
            fused: true,
            lean: false,
            recomputed: Vec::new(),
        }
    }
}

/// Whether cell `layer` of `cells` halves the image.
pub fn is_reduction(layer: usize, cells: usize) -> bool {
    layer == cells / 3 || layer == 2 * cells / 3
}

/// Convolution and batch norm in front of the first cell.
#[derive(Debug)]
pub(super) struct Stem {
    conv: Conv2d,
    norm: Norm,
}

impl Stem {
    pub(super) fn new(b: &mut Builder, image_channels: usize, channels: usize) -> Self {
        b.within("stem", |b| {
            let conv = Conv2d::dense(b, "0", image_channels, channels, Window::same(3, 1, 1));
            Self { conv, norm: Norm::new(b, "1", channels, true) }
        })
    }
    pub(super) fn forward(&self, cx: &mut Context, images: Var) -> Result<Var> {
        let x = self.conv.forward(cx, images)?;
        self.norm.forward(cx, x)
    }
}

/// The supernet.
#[derive(Debug)]
pub struct CnnSupernet {
    stem: Stem,
    cells: Vec<Rc<Layer>>,
    recomputed: Vec<usize>,
    classifier: Linear,
    kinds: Vec<CellKind>,
    nodes: usize,
    fused: bool,
    unfused: Vec<String>,
    layout: Arc<Layout>,
    norms: Vec<(String, usize)>,
}

impl CnnSupernet {
    pub fn new(config: &CnnConfig) -> Result<Self> {
        let CnnConfig { channels, cells: count, space, .. } = config;
        if *channels == 0 || *count == 0 || config.classes == 0 {
            return Err(Error::config("space", "channels, cells and classes must be at least one"));
        }
        space.check()?;
        let nodes = space.nodes();
        let mut b = Builder::default();
        let stem_channels = config.stem_multiplier * channels;
        let stem = Stem::new(&mut b, config.image_channels, stem_channels);
        let (mut inputs, mut c, mut after_reduction) = ([stem_channels; 2], *channels, false);
        let (mut cells, mut unfused) = (Vec::with_capacity(*count), Vec::<String>::new());
        for layer in 0..*count {
            let reduction = is_reduction(layer, *count);
            c *= if reduction { 2 } else { 1 };
            let shape =
                CellShape { inputs, channels: c, nodes, reduction, after_reduction, lean: config.lean };
            let (first, kind) = (b.params(), usize::from(reduction));
            let candidates = space.edges(CELLS[kind]);
            let cell = b.within(format!("cells.{layer}"), |b| SearchCell::new(b, shape, candidates))?;
            for name in cell.unfused(candidates).into_iter().map(Operation::name) {
                if config.fused && !unfused.iter().any(|known| known == name) {
                    unfused.push(name.to_owned());
                }
            }
            cells.push(Rc::new(Layer { cell, kind, weights: first..b.params() }));
            (inputs, after_reduction) = ([inputs[1], nodes * c], reduction);
        }
        let classifier = Linear::new(&mut b, "classifier", inputs[1], config.classes);
        let kind = |cell: genotype::CellKind| CellKind {
            name: cell.name().into(),
            candidates: space.candidates(cell),
        };
        let (layout, norms) = b.finish();
        Ok(Self {
            stem,
            cells,
            recomputed: config.recomputed.clone(),
            classifier,
            kinds: CELLS.map(kind).to_vec(),
            nodes,
            fused: config.fused,
            unfused,
            layout,
            norms,
        })
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Chooses the cells that keep only their result and run again in the pullback.
    pub fn recompute(&mut self, cells: &[usize]) {
        self.recomputed = cells.to_vec();
    }

    fn cell(&self, cx: &mut Context, at: usize, inputs: [Var; 2], mix: &[Var]) -> Result<Var> {
        let layer = &self.cells[at];
        let mix = mix[layer.kind];
        // with running statistics nothing is differentiated
        let again = cx.mode != NormMode::Running || cx.tape.is_inference();
        if !(again && self.recomputed.contains(&at)) {
            return layer.cell.forward(cx, inputs, mix);
        }
        let weights = cx.weights[layer.weights.clone()].iter().copied();
        let ins: Vec<Var> = inputs.into_iter().chain([mix]).chain(weights).collect();
        let segment = Again { layer: layer.clone(), fused: self.fused };
        let (mode, fused, running) = (cx.mode, self.fused, &mut *cx.running);
        cx.tape.segment(segment, &ins, |tape, ins| layer.run((tape, ins), mode, fused, running))
    }
}

/// A cell and its place in the network.
#[derive(Debug)]
struct Layer {
    cell: SearchCell,
    /// 0 normal, 1 reduction.
    kind: usize,
    /// Indices of its weights.
    weights: Range<usize>,
}

impl Layer {
    /// The cell as a function of its two inputs, its mixing weights and its weights.
    fn run(
        &self,
        (tape, ins): (&mut Tape, &[Var]),
        mode: NormMode,
        fused: bool,
        running: &mut RunningStats,
    ) -> Result<Var> {
        let [older, newer, mix, own @ ..] = ins else {
            return Err(Error::shape("cell", "needs two inputs and mixing weights"));
        };
        // weights go by their index in the network; those of other layers are not looked at
        let mut weights = vec![*mix; self.weights.start];
        weights.extend(own);
        let weights = &weights;
        self.cell.forward(&mut Context { tape, weights, mode, fused, running }, [*older, *newer], *mix)
    }
}

/// The second run of a cell.
#[derive(Debug)]
struct Again {
    layer: Rc<Layer>,
    fused: bool,
}

impl Segment for Again {
    fn run(&self, tape: &mut Tape, ins: &[Var]) -> Result<Var> {
        // the first run moved the running statistics
        let mut none = RunningStats::new(&[], crate::tensor::DType::F32);
        self.layer.run((tape, ins), NormMode::Batch, self.fused, &mut none)
    }
}

impl Supernet for CnnSupernet {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
    fn norms(&self) -> &[(String, usize)] {
        &self.norms
    }
    fn kinds(&self) -> &[CellKind] {
        &self.kinds
    }
    fn forward(&self, cx: &mut Context, images: Var, mix: &[Var]) -> Result<Var> {
        cx.fused = self.fused;
        let mark = cx.tape.mark(); // before all: the outputs of cells go as well, two cells later
        let stem = self.stem.forward(cx, images)?;
        let mut last = [stem, stem];
        cx.tape.release_since(mark, &last);
        for layer in 0..self.cells.len() {
            let out = self.cell(cx, layer, last, mix)?;
            last = [last[1], out];
            cx.tape.release_since(mark, &last);
        }
        let pooled = cx.tape.apply(GlobalAvgPool, &[last[1]])?;
        self.classifier.forward(cx, pooled)
    }
    fn recomputed(&self) -> &[usize] {
        &self.recomputed
    }
    fn unfused(&self) -> &[String] {
        &self.unfused
    }
    fn genotype(&self, weights: &[Vec<Vec<f64>>]) -> Result<Genotype> {
        let genes =
            |kind: usize| discretise_by_edge(&weights[kind], &self.kinds[kind].candidates, self.nodes);
        let concat: Vec<usize> = (2..2 + self.nodes).collect();
        Ok(Genotype {
            normal: genes(0)?,
            normal_concat: concat.clone(),
            reduce: genes(1)?,
            reduce_concat: concat,
        })
    }
}
