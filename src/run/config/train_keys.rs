//! Every setting of a training once: its key, its flag, what it means and where its default comes from.

use super::key::Key;
use super::{Configuration, TrainConfig};
use std::sync::LazyLock;
use toml::Table;

/// Sections in the order in which the file and `--help` show them, with their titles.
pub const SECTIONS: [(&str, &str); 4] =
    [("data", "Data"), ("network", "Network"), ("train", "Training (SGD)"), ("run", "Run")];

const PUBLISHED: &str = "published code";
const OCHE: &str = "Oche";

const fn key(
    path: &'static str,
    flag: &'static str,
    value: &'static str,
    help: &'static str,
    source: &'static str,
) -> Key {
    Key { path, flag, value, help, source, may_change: false, needs: None, defaults }
}
const fn free(
    path: &'static str,
    flag: &'static str,
    value: &'static str,
    help: &'static str,
    source: &'static str,
) -> Key {
    Key { path, flag, value, help, source, may_change: true, needs: None, defaults }
}

/// All settings. "Published code" is the repository of the DARTS paper (Liu et al., 2019, arXiv:1806.09055); two values
/// are those for CIFAR-10 and for ImageNet, which --recipe sets.
#[rustfmt::skip] // a table
pub const KEYS: &[Key] = &[
    key("data.name", "data", "NAME", "Data set: synthetic (drawn, needs no files), cifar10, cifar100, idx (MNIST files) or folder (one sub-folder of images a class, as ImageNet has them)", "Oche; published: cifar10"),
    free("data.dir", "data-dir", "DIR", "Folder with the files of the data set; empty for synthetic", OCHE),
    key("data.image_size", "image-size", "PIXELS", "Height and width that images are brought to; 0 for the files' own, 32 for synthetic and folder", "Oche; published: 0 and 224"),
    key("data.train_images", "train-images", "N", "Images of the synthetic set to draw for training, and a fifth as many for testing; other sets use all they have", "Oche, small enough for a first run").only("data.name", "synthetic"),
    key("data.valid_portion", "valid-portion", "FRACTION", "Part of the training images that is held back and tested on instead of the test images, to choose among cells; 0 trains on all", OCHE),
    key("data.seed", "data-seed", "N|none", "Seed of the drawn images and of the choice of those held back; none for train.seed", OCHE),
    key("data.augment", "augment", "cifar|imagenet", "Random changes to training images: a crop of their own size out of a padded image; or crops of random size and shape, resized, with changes of colour, for which files are read as they are needed and test images are central crops of 7/8", "published code: cifar and imagenet"),
    key("data.crop_padding", "crop-padding", "PIXELS", "Zero padding of each side before the random crop of --augment cifar; 0 turns the crop off", "published code: 4 and 0"),
    key("data.crop_area", "crop-area", "PART", "With --augment imagenet: the least part of an image's area that a crop takes", PUBLISHED).only("data.augment", "imagenet"),
    key("data.jitter", "jitter", "RANGE", "With --augment imagenet: brightness, contrast and saturation change by a factor of up to 1 +- RANGE; 0 for none", PUBLISHED).only("data.augment", "imagenet"),
    key("data.hue", "hue", "RANGE", "With --augment imagenet: the hue turns by up to this part of the circle, at most 0.5; 0 for none", PUBLISHED).only("data.augment", "imagenet"),
    key("data.flip", "flip", "BOOL", "Mirror half of the images, chosen at random", PUBLISHED),
    key("data.cutout", "cutout", "PIXELS", "Side of the square blanked in each training image; 0 turns it off", "Oche, for a short training; published: 16 and 0"),
    key("network.genotype", "genotype", "NAME|FILE|RUN", "The cells: a published name (inspect zoo lists them), a file, or a run folder; empty for the newest search below runs/, else DARTS_V2", OCHE),
    key("network.kind", "network", "cifar|imagenet", "Ends of the network: cifar keeps the size of the images before the first cell, imagenet takes an eighth", PUBLISHED),
    key("network.channels", "channels", "N", "Channels of the first cells, an even number", "Oche, small enough for a first run; published: 36 and 48"),
    key("network.cells", "cells", "N", "Cells; those at one third and two thirds halve the image and double the channels", "Oche, small enough for a first run; published: 20 and 14"),
    key("network.weights", "weights", "FILE|RUN", "Weights to start from: a .safetensors file with the names of the published state_dict, a checkpoint, or a run folder (the best test's); empty draws them", OCHE),
    key("train.epochs", "epochs", "N", "Passes over the training images; a few are enough to choose among cells", "Oche, small enough for a first run; published: 600 and 250"),
    free("train.max_steps", "max-steps", "N", "Stop after this many steps in all; 0 for no limit", OCHE),
    key("train.batch_size", "batch-size", "N", "Images of a batch", "Oche, small enough for a first run; published: 96 and 128"),
    key("train.seed", "seed", "N", "Seed of everything random: weights, order of images, dropped paths and, unless data.seed is given, data", PUBLISHED),
    key("train.learning_rate", "learning-rate", "RATE", "Learning rate of the first epoch after the warm-up", "published code: 0.025 and 0.1"),
    key("train.schedule", "schedule", "cosine|step", "How the learning rate falls: along half a cosine, or by a factor", "published code: cosine and step"),
    key("train.learning_rate_min", "learning-rate-min", "RATE", "Learning rate that the cosine reaches after the last epoch", PUBLISHED).only("train.schedule", "cosine"),
    key("train.gamma", "gamma", "FACTOR", "With --schedule step: the factor", PUBLISHED).only("train.schedule", "step"),
    key("train.gamma_epochs", "gamma-epochs", "N", "With --schedule step: epochs between two falls", PUBLISHED).only("train.schedule", "step"),
    key("train.warmup_epochs", "warmup-epochs", "N", "The first N epochs take 1/N, 2/N, ... of their learning rate; 0 for no warm-up", "published code; PC-DARTS: 5 on ImageNet"),
    key("train.momentum", "momentum", "M", "Momentum", PUBLISHED),
    key("train.weight_decay", "weight-decay", "DECAY", "L2 penalty, added to the gradient", "published code: 3e-4 and 3e-5"),
    key("train.grad_clip", "grad-clip", "NORM", "Largest norm of the whole gradient; longer ones are scaled down", PUBLISHED),
    key("train.label_smoothing", "label-smoothing", "PART", "Part of each target that is spread over all classes", "published code: 0 and 0.1"),
    key("train.auxiliary_weight", "auxiliary-weight", "WEIGHT", "Weight of the loss of a second classifier after cell 2L/3; 0 for none", PUBLISHED),
    key("train.drop_path", "drop-path", "RATE", "Probability with which a path of a cell is dropped, reached on a line after the last epoch; 0 for never", "Oche, for a short training; published: 0.2 and 0"),
    free("run.device", "device", "DEVICE", "Where to compute: cpu, cuda[:N], or auto for the first CUDA device that works, else the cpu", OCHE),
    key("run.precision", "precision", "f32|bf16", "bf16: images between operations on a CUDA device; on a CPU that has AVX-512 BF16 what cells keep for the backward and what their convolutions multiply. Sums, weights and optimisers are always f32", OCHE),
    free("run.graph", "graph", "BOOL", "Capture a training step of a CUDA device once and replay it, which does not change the numbers; false (or --no-graph) launches every kernel anew", OCHE),
    free("run.threads", "threads", "N", "Worker threads, which do not change the numbers; 0 for one per core", OCHE),
    free("run.out", "out", "DIR", "New folder for the results; empty for runs/train-<genotype>-<data>-<time>", OCHE),
    free("run.checkpoint_steps", "checkpoint-steps", "N", "Write a checkpoint every N steps besides those at epoch ends; 0 for epoch ends only", OCHE),
    free("run.quiet", "quiet", "BOOL", "Print only the result and what went wrong", OCHE),
    free("run.json", "json", "BOOL", "Print the rows of metrics.jsonl and, last, the result, as JSON; everything else goes to stderr", OCHE),
    free("run.tensorboard", "tensorboard", "BOOL", "Keep a TensorBoard event file in the run folder", OCHE),
];

/// The defaults as the file's tables.
fn defaults() -> &'static Table {
    static DEFAULTS: LazyLock<Table> = LazyLock::new(|| TrainConfig::default().table());
    &DEFAULTS
}
