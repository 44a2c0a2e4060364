//! Every setting of a search once: its key, its flag, what it means and where its default comes from.

pub use super::key::{Key, show};
use super::{Configuration, SearchConfig};
use std::sync::LazyLock;
use toml::Table;

/// Sections in the order in which the file and `--help` show them, with their titles.
pub const SECTIONS: [(&str, &str); 7] = [
    ("data", "Data"),
    ("space", "Search space"),
    ("search", "Search"),
    ("weights", "Weight step (SGD)"),
    ("alpha", "Architecture step (Adam)"),
    ("select", "Several searches"),
    ("run", "Run"),
];

const PUBLISHED: &str = "published code";
const SMALL: &str = "Oche, small enough for a first run";
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

/// All settings. "Published code" is the repository of the DARTS paper (Liu et al., 2019, arXiv:1806.09055).
#[rustfmt::skip] // a table
pub const KEYS: &[Key] = &[
    key("data.name", "data", "NAME", "Data set: synthetic (drawn, needs no files), cifar10, cifar100, idx (MNIST files) or folder (one sub-folder of images a class)", "Oche; published: cifar10"),
    free("data.dir", "data-dir", "DIR", "Folder with the files of the data set; empty for synthetic", OCHE),
    key("data.image_size", "image-size", "PIXELS", "Height and width that images are brought to, a multiple of 4; 0 for the files' own, 32 for synthetic and folder", OCHE),
    key("data.train_images", "train-images", "N", "Images of the synthetic set to draw, before they are split in two; other sets use all they have", SMALL).only("data.name", "synthetic"),
    key("data.train_portion", "train-portion", "FRACTION", "Part of the training images that trains the weights; the rest trains the architecture", PUBLISHED),
    key("data.seed", "data-seed", "N|none", "Seed of the drawn images and of the split in two; none for search.seed, of several searches for that of the first", OCHE),
    key("data.crop_padding", "crop-padding", "PIXELS", "Zero padding of each side before the random crop; 0 turns the crop off", PUBLISHED),
    key("data.flip", "flip", "BOOL", "Mirror half of the images, chosen at random", PUBLISHED),
    key("data.cutout", "cutout", "PIXELS", "Side of the square blanked in each image; 0 turns it off", "published code, off in search"),
    key("space.name", "space", "NAME", "Search space: darts-cnn", "DARTS paper"),
    key("space.channels", "channels", "N", "Channels of the first cells, an even number", "Oche, small enough for a first run; published: 16"),
    key("space.cells", "cells", "N", "Cells; those at one third and two thirds halve the image and double the channels", "Oche, small enough for a first run; published: 8"),
    key("space.nodes", "nodes", "N", "Intermediate nodes of a cell", PUBLISHED),
    key("space.stem_multiplier", "stem-multiplier", "N", "Channels of the stem, as a multiple of space.channels", PUBLISHED),
    key("space.candidates", "candidates", "NAMES", "Candidate operations of an edge, comma-separated, in index order", PUBLISHED),
    key("search.order", "order", "ORDER", "Architecture gradient: first (weights held), second (unrolled, finite differences) or exact (through the inner step)", "published code (its --unrolled is off)"),
    key("search.epochs", "epochs", "N", "Passes over the training half", "Oche, small enough for a first run; published: 50"),
    free("search.max_steps", "max-steps", "N", "Stop after this many steps in all; 0 for no limit", OCHE),
    key("search.batch_size", "batch-size", "N", "Images of a training batch and of a validation batch", "Oche, small enough for a first run; published: 64"),
    key("search.seed", "seed", "N", "Seed of everything random: weights, order of batches and, unless data.seed is given, data and split", PUBLISHED),
    key("search.finite_difference_radius", "finite-difference-radius", "R", "With --order second: length of the probing step R / norm(v) along the gradient v of the validation loss", PUBLISHED).only("search.order", "second"),
    key("search.weights", "weights", "FILE|RUN", "Weights of the supernet to start from: a .safetensors file with the names of the published state_dict, a checkpoint, or a run folder; alphas are drawn; empty draws them as well", OCHE),
    key("weights.learning_rate", "learning-rate", "RATE", "Learning rate of the first epoch, decays on a cosine", PUBLISHED),
    key("weights.learning_rate_min", "learning-rate-min", "RATE", "Learning rate that the cosine reaches after the last epoch", PUBLISHED),
    key("weights.momentum", "momentum", "M", "Momentum", PUBLISHED),
    key("weights.weight_decay", "weight-decay", "DECAY", "L2 penalty, added to the gradient", PUBLISHED),
    key("weights.grad_clip", "grad-clip", "NORM", "Largest norm of the whole gradient; longer ones are scaled down", PUBLISHED),
    key("alpha.learning_rate", "alpha-learning-rate", "RATE", "Learning rate, constant", PUBLISHED),
    key("alpha.beta1", "alpha-beta1", "BETA", "Decay of the running mean of the gradient", PUBLISHED),
    key("alpha.beta2", "alpha-beta2", "BETA", "Decay of the running mean of its square", PUBLISHED),
    key("alpha.epsilon", "alpha-epsilon", "EPS", "Added to the root of that mean", PUBLISHED),
    key("alpha.weight_decay", "alpha-weight-decay", "DECAY", "L2 penalty, added to the gradient", PUBLISHED),
    key("alpha.init_scale", "alpha-init-scale", "STD", "Standard deviation of the initial architecture parameters", PUBLISHED),
    free("select.seeds", "seeds", "N", "Searches to run, with seeds from --seed on, in folders of their own", "Oche; published: 4"),
    free("select.select", "select", "BOOL", "Train each cell found for a short time, and as many drawn at random, and keep the best found one", "DARTS paper, section 3.1"),
    free("select.epochs", "select-epochs", "N", "With --select: epochs of these trainings, in a network of the supernet's size; fixed once one has begun", "Oche, small enough for a first run; published: 100").only("select.select", "true"),
    free("select.random_cells", "random-cells", "N", "With --select: cells drawn at random from the same space, two or more for a deviation, 0 for none", "arXiv 1902.07638").only("select.select", "true"),
    free("run.device", "device", "DEVICE", "Where to compute: cpu, cuda[:N], or auto for the first CUDA device that works, else the cpu", OCHE),
    key("run.precision", "precision", "f32|bf16", "bf16: images between operations on a CUDA device; on a CPU that has AVX-512 BF16 what cells keep for the backward and what their convolutions multiply. Sums, weights and optimisers are always f32", OCHE),
    free("run.graph", "graph", "BOOL", "Capture a search step of a CUDA device once and replay it, which does not change the numbers; false (or --no-graph) launches every kernel anew", OCHE),
    key("run.fusion", "fusion", "on|off", "Operations that do the work of several in one pass; off computes each by itself, slower, as the reference", OCHE),
    free("run.memory_budget", "memory-budget", "SIZE", "Memory that the process may take, such as 900MB, 1.5GB, 1500MiB or bytes: cells are computed twice instead of kept until it is enough, which does not change the numbers; none keeps all", "Oche; method: arXiv 1604.06174"),
    free("run.threads", "threads", "N", "Worker threads, which do not change the numbers; 0 for one per core", OCHE),
    free("run.out", "out", "DIR", "New folder for the results; empty for runs/search-<data>-<time>", OCHE),
    free("run.checkpoint_steps", "checkpoint-steps", "N", "Write a checkpoint every N steps besides those at epoch ends; 0 for epoch ends only", OCHE),
    free("run.quiet", "quiet", "BOOL", "Print only the result and what went wrong", OCHE),
    free("run.json", "json", "BOOL", "Print the rows of metrics.jsonl and, last, the result, as JSON; everything else goes to stderr", OCHE),
    free("run.tensorboard", "tensorboard", "BOOL", "Keep a TensorBoard event file in the run folder", OCHE),
];

/// The defaults as the file's tables.
fn defaults() -> &'static Table {
    static DEFAULTS: LazyLock<Table> = LazyLock::new(|| SearchConfig::default().table());
    &DEFAULTS
}
