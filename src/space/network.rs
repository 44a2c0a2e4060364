//! The networks of a genotype for small and large images (section 3 of arXiv 1806.09055): what is trained from scratch.

use super::Genotype;
use super::cnn::is_reduction;
pub use super::ends::Macro;
use super::ends::{AuxiliaryHead, Stems};
use super::found_cell::{FoundCell, Site};
use super::operation::Operations;
use crate::device::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::nn::{Context, Linear, NormMode, RunningStats};
use crate::ops::pool::GlobalAvgPool;
use crate::tape::{Builder, Counters, Layout, ParamSet, Tape, Var};
use crate::tensor::{DType, Tensor};
use rand::RngExt;
use std::sync::Arc;

/// Size of a found network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    pub kind: Macro,
    /// Channels of the first cells, C.
    pub channels: usize,
    /// Number of cells, L.
    pub cells: usize,
    pub classes: usize,
    /// Channels of the images.
    pub image_channels: usize,
    /// A second classifier after cell 2L/3, for training only.
    pub auxiliary: bool,
    /// On the CPU, compute a cell as one operation where that can be done; without, every operation is one of its own:
    /// slower, larger, the reference.
    pub fused: bool,
    /// Then keep what a backward pass needs as bf16, and multiply bf16 in the convolutions of cells; see
    /// [`CnnConfig::lean`](super::cnn::CnnConfig::lean).
    pub lean: bool,
}

impl Default for NetworkConfig {
    /// The published evaluation on CIFAR-10: C = 36, 20 cells; its auxiliary classifier is not counted.
    fn default() -> Self {
        Self {
            kind: Macro::Cifar,
            channels: 36,
            cells: 20,
            classes: 10,
            image_channels: 3,
            auxiliary: false,
            fused: true,
            lean: false,
        }
    }
}

impl NetworkConfig {
    /// The published evaluation on ImageNet: C = 48, 14 cells.
    pub fn imagenet() -> Self {
        Self { kind: Macro::ImageNet, channels: 48, cells: 14, classes: 1000, ..Self::default() }
    }
    /// The cell after which the auxiliary classifier stands.
    fn auxiliary_cell(&self) -> usize {
        2 * self.cells / 3
    }
    /// Whether the network can look at images of [height, width]; `Error::Config` under the key `data.image_size` says
    /// why not.
    pub fn check_images(&self, [height, width]: [usize; 2]) -> Result<()> {
        let refuse = |what: String| Err(Error::config("data.image_size", what));
        let (multiple, shown) = (self.kind.multiple(), format!("images of {height} x {width} pixels"));
        if height == 0 || width == 0 || !height.is_multiple_of(multiple) || !width.is_multiple_of(multiple) {
            let times = if self.kind == Macro::Cifar { "twice" } else { "five times" };
            return refuse(format!(
                "{shown} cannot be halved {times}; choose a multiple of {multiple} with --image-size"
            ));
        }
        let reductions = (0..=self.auxiliary_cell()).filter(|&i| is_reduction(i, self.cells)).count();
        let [least, there] = self.kind.auxiliary_least(reductions as u32);
        if self.auxiliary && height.min(width) < least {
            return refuse(format!(
                "{shown} are too small for the auxiliary head, which needs {there} x {there} at its place: choose at least {least}, or --auxiliary-weight 0"
            ));
        }
        Ok(())
    }
}

/// The network of a genotype.
#[derive(Debug)]
pub struct Network {
    stems: Stems,
    cells: Vec<FoundCell>,
    /// And the cell after which it stands.
    auxiliary: Option<(usize, AuxiliaryHead)>,
    classifier: Linear,
    layout: Arc<Layout>,
    norms: Vec<(String, usize)>,
    image_channels: usize,
    fused: bool,
}

impl Network {
    /// Of published operations.
    pub fn new(genotype: &Genotype, config: NetworkConfig) -> Result<Self> {
        Self::of(genotype, &Operations::published(), config)
    }
    /// Of `operations`: those of the space that the genotype was found in, say.
    ///
    /// # Errors
    /// What [`Genotype::validate_for`] refuses, and [`Error::Config`] about sizes that do not fit.
    pub fn of(genotype: &Genotype, operations: &Operations, config: NetworkConfig) -> Result<Self> {
        genotype.validate_for(&operations.names())?;
        let NetworkConfig { kind, channels, cells: count, classes, image_channels, fused, .. } = config;
        if channels == 0 || count == 0 || classes == 0 || image_channels == 0 {
            return Err(Error::config("network", "channels, cells and classes must be at least one"));
        }
        let mut b = Builder::default();
        let stems = Stems::new(&mut b, kind, image_channels, channels);
        let (mut inputs, mut channels) = ([Stems::channels(kind, channels); 2], channels);
        // the older stem of ImageNet is twice as large as the newer
        let (mut after_reduction, mut paths) = (kind == Macro::ImageNet, 0);
        let (mut cells, mut at_auxiliary) = (Vec::with_capacity(count), 0);
        for layer in 0..count {
            let reduction = is_reduction(layer, count);
            channels *= if reduction { 2 } else { 1 };
            let genes = match reduction {
                true => (&genotype.reduce[..], &genotype.reduce_concat[..]),
                false => (&genotype.normal[..], &genotype.normal_concat[..]),
            };
            let lean = config.lean;
            let site = Site { inputs, channels, reduction, after_reduction, paths, lean };
            let cell = b.within(format!("cells.{layer}"), |b| FoundCell::new(b, genes, operations, site))?;
            paths = cell.paths();
            cells.push(cell);
            (inputs, after_reduction) = ([inputs[1], genes.1.len() * channels], reduction);
            if layer == config.auxiliary_cell() {
                at_auxiliary = inputs[1];
            }
        }
        let auxiliary = config
            .auxiliary
            .then(|| (config.auxiliary_cell(), AuxiliaryHead::new(&mut b, kind, at_auxiliary, classes)));
        let classifier = Linear::new(&mut b, "classifier", inputs[1], classes);
        let (layout, norms) = b.finish();
        Ok(Self { stems, cells, auxiliary, classifier, layout, norms, image_channels, fused })
    }

    /// Channels of the images.
    pub fn image_channels(&self) -> usize {
        self.image_channels
    }
    /// Whether every cell can be computed as one operation.
    pub fn is_fused(&self) -> bool {
        self.fused && self.cells.iter().all(FoundCell::is_fused)
    }
    /// Paths that drop path may drop: two a node, without identities and `none`.
    pub fn paths(&self) -> usize {
        self.cells.last().map_or(0, FoundCell::paths)
    }
    /// What drop path multiplies each path of each of `images` images by, (paths, images): 0 with probability `rate`,
    /// else 1 / (1 - `rate`). The factors of a step are a function of (seed, epoch, step).
    pub fn draw_paths(&self, rate: f64, images: usize, [seed, epoch, step]: [u64; 3]) -> Result<Tensor> {
        let (keep, mut rng) = (1.0 - rate, stream(seed, Purpose::DropPath, epoch, step));
        let mut factor = || if rng.random::<f64>() < keep { (1.0 / keep) as f32 } else { 0.0 };
        let factors: Vec<f32> = (0..self.paths() * images).map(|_| factor()).collect();
        Tensor::from_slice([self.paths(), images], &factors)
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
        self.run(cx, images, None, false).map(|(logits, _)| logits)
    }
    /// The same in training, with the logits of the auxiliary classifier if there is one. `drop` holds the factors of
    /// drop path, (paths, N), where the images are.
    pub fn forward_training(
        &self,
        cx: &mut Context,
        images: Var,
        drop: Option<&Tensor>,
    ) -> Result<(Var, Option<Var>)> {
        self.run(cx, images, drop, true)
    }
    fn run(
        &self,
        cx: &mut Context,
        images: Var,
        drop: Option<&Tensor>,
        auxiliary: bool,
    ) -> Result<(Var, Option<Var>)> {
        cx.fused &= self.fused && cx.tape.value(images).cuda().is_none();
        let mark = cx.tape.mark(); // before all: the outputs of cells go as well, two cells later
        let (mut last, mut second) = (self.stems.forward(cx, images)?, None);
        cx.tape.release_since(mark, &last);
        for (layer, cell) in self.cells.iter().enumerate() {
            let out = cell.forward(cx, last, drop)?;
            last = [last[1], out];
            cx.tape.release_since(mark, &last);
            if let Some((place, head)) = self.auxiliary.as_ref().filter(|_| auxiliary)
                && *place == layer
            {
                second = Some(head.forward(cx, out)?);
            }
        }
        let pooled = cx.tape.apply(GlobalAvgPool, &[last[1]])?;
        Ok((self.classifier.forward(cx, pooled)?, second))
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
            &mut Context { tape: &mut tape, weights: &weights, mode, fused: true, running: &mut running },
            images,
        )?;
        Ok((tape.counters(), tape.meter().map_or(0, |m| m.peak())))
    }
}
