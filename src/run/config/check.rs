//! Ranges of the settings: one sentence a problem, naming the key.

use super::SearchConfig;
use super::key::not_known;
use crate::data::{IMAGE_SIZES, NAMES, SYNTHETIC_IMAGES, or_download, split};
use crate::error::{Error, Result};
use crate::space::genotype::CANDIDATES;
use std::path::Path;

const SPACES: [&str; 1] = ["darts-cnn"];
/// The most images of a batch.
pub const MOST_IMAGES: usize = 1 << 20;

/// What a whole number of TOML can be.
const MOST_SEED: u64 = i64::MAX as u64;

impl SearchConfig {
    pub(super) fn check(&self) -> Result<()> {
        self.check_data()?;
        self.check_space()?;
        self.check_search()?;
        self.check_rates()?;
        one_of("run.fusion", &self.run.fusion, &["on", "off"])?;
        self.memory_budget()?;
        self.device()?;
        one_of("run.precision", &self.run.precision, &["f32", "bf16"])
    }

    fn check_data(&self) -> Result<()> {
        let data = &self.data;
        let synthetic = check_source(&data.name, &data.dir)?;
        let size = data.image_size;
        require(size.is_multiple_of(4), "data.image_size", || {
            let near = [size / 4 * 4, size.div_ceil(4) * 4].into_iter().find(|&s| s >= 8).unwrap_or(8);
            format!("{size} pixels cannot be halved twice; choose a multiple of 4, such as {near}")
        })?;
        let (smallest, largest) = (*IMAGE_SIZES.start(), *IMAGE_SIZES.end());
        if size > 0 {
            within("data.image_size", size, smallest, largest)?;
        }
        match (size, data.name.as_str()) {
            (0, "idx") => {} // is checked once the files are read
            (0, _) => self.check_augmentation(32)?,
            _ => self.check_augmentation(size)?,
        }
        check_seed("data.seed", data.seed.unwrap_or_default())?;
        let portion = data.train_portion;
        require(portion > 0. && portion < 1., "data.train_portion", || {
            format!("is {portion}, must lie between 0 and 1, both excluded")
        })?;
        if synthetic {
            within(
                "data.train_images",
                data.train_images,
                *SYNTHETIC_IMAGES.start(),
                *SYNTHETIC_IMAGES.end(),
            )?;
            let train = split::count(data.train_images, portion);
            let half = train.min(data.train_images - train);
            require(half >= 2, "data.train_portion", || {
                format!("leaves a half of {half} of {} images, must leave at least 2", data.train_images)
            })?;
        }
        Ok(())
    }

    fn check_augmentation(&self, size: usize) -> Result<()> {
        let data = &self.data;
        require(data.crop_padding < size, "data.crop_padding", || {
            format!("is {}, must be less than data.image_size, {size}", data.crop_padding)
        })?;
        require(data.cutout <= size, "data.cutout", || {
            format!("is {}, must not exceed data.image_size, {size}", data.cutout)
        })
    }

    /// What a search asks of the images that it was given.
    pub fn check_images(&self, height: usize, width: usize) -> Result<()> {
        require(height.is_multiple_of(4) && width.is_multiple_of(4), "data.image_size", || {
            format!(
                "images of {height} x {width} pixels cannot be halved twice; choose a multiple of 4 with --image-size"
            )
        })?;
        self.check_augmentation(height.min(width))
    }

    fn check_space(&self) -> Result<()> {
        let space = &self.space;
        one_of("space.name", &space.name, &SPACES)?;
        require(space.channels >= 2 && space.channels.is_multiple_of(2), "space.channels", || {
            format!(
                "{} channels cannot be split in two for factorised reduction; choose an even number from 2 on",
                space.channels
            )
        })?;
        within("space.channels", space.channels, 2, 4096)?;
        within("space.cells", space.cells, 1, 1000)?;
        within("space.nodes", space.nodes, 1, 16)?;
        within("space.stem_multiplier", space.stem_multiplier, 1, 64)?;
        for (i, name) in space.candidates.iter().enumerate() {
            one_of("space.candidates", name, &CANDIDATES)?;
            require(!space.candidates[..i].contains(name), "space.candidates", || {
                format!("{name} is listed twice; list each candidate once")
            })?;
        }
        require(space.candidates.iter().any(|name| name != "none"), "space.candidates", || {
            "lists no operation besides none; add at least one, such as skip_connect".into()
        })
    }

    fn check_search(&self) -> Result<()> {
        let search = &self.search;
        check_seed("search.seed", search.seed)?;
        within("search.epochs", search.epochs, 1, 1_000_000)?;
        within("search.batch_size", search.batch_size, 2, MOST_IMAGES)?;
        positive("search.finite_difference_radius", search.finite_difference_radius)?;
        within("select.seeds", self.select.seeds, 1, 1000)?;
        let last = MOST_SEED - (self.select.seeds as u64 - 1);
        require(search.seed <= last, "search.seed", || {
            format!("is {}, must be at most {last} for select.seeds = {}", search.seed, self.select.seeds)
        })?;
        within("select.epochs", self.select.epochs, 1, 1_000_000)?;
        within("select.random_cells", self.select.random_cells, 0, 1000)?;
        within("run.threads", self.run.threads, 0, 4096)
    }

    fn check_rates(&self) -> Result<()> {
        let (weights, alpha) = (&self.weights, &self.alpha);
        positive("weights.learning_rate", weights.learning_rate)?;
        not_negative("weights.learning_rate_min", weights.learning_rate_min)?;
        require(weights.learning_rate_min <= weights.learning_rate, "weights.learning_rate_min", || {
            let (min, max) = (weights.learning_rate_min, weights.learning_rate);
            format!("is {min}, must not exceed weights.learning_rate, {max}")
        })?;
        fraction("weights.momentum", weights.momentum)?;
        not_negative("weights.weight_decay", weights.weight_decay)?;
        positive("weights.grad_clip", weights.grad_clip)?;
        positive("alpha.learning_rate", alpha.learning_rate)?;
        fraction("alpha.beta1", alpha.beta1)?;
        fraction("alpha.beta2", alpha.beta2)?;
        positive("alpha.epsilon", alpha.epsilon)?;
        not_negative("alpha.weight_decay", alpha.weight_decay)?;
        not_negative("alpha.init_scale", alpha.init_scale)
    }
}

/// A data set and its folder; whether it is the synthetic one.
pub(super) fn check_source(name: &str, dir: &Path) -> Result<bool> {
    one_of("data.name", name, &NAMES)?;
    let (synthetic, no_dir) = (name == "synthetic", dir.as_os_str().is_empty());
    require(synthetic || !no_dir, "data.dir", || {
        format!("data set {name} needs a folder; give it with --data-dir{}", or_download(name))
    })?;
    require(!synthetic || no_dir, "data.dir", || {
        "is set, but the data set is synthetic, which has no files; name the data set with --data".into()
    })?;
    Ok(synthetic)
}

/// A seed that the file and checkpoints can hold.
pub(super) fn check_seed(key: &str, seed: u64) -> Result<()> {
    require(seed <= MOST_SEED, key, || format!("is {seed}, must be at most {MOST_SEED}"))
}

pub(super) fn require(holds: bool, key: &str, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(key, what())) }
}

pub(super) fn one_of(key: &str, name: &str, known: &[&str]) -> Result<()> {
    require(known.contains(&name), key, || not_known(name, known))
}

pub(super) fn within(key: &str, n: usize, min: usize, max: usize) -> Result<()> {
    require((min..=max).contains(&n), key, || format!("is {n}, must be from {min} to {max}"))
}

pub(super) fn positive(key: &str, x: f64) -> Result<()> {
    require(x > 0. && x.is_finite(), key, || format!("is {x}, must be a finite number above 0"))
}

pub(super) fn not_negative(key: &str, x: f64) -> Result<()> {
    require(x >= 0. && x.is_finite(), key, || format!("is {x}, must be a finite number from 0 on"))
}

pub(super) fn fraction(key: &str, x: f64) -> Result<()> {
    require((0. ..1.).contains(&x), key, || format!("is {x}, must be at least 0 and below 1"))
}
