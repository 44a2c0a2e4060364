//! The settings of the runs that a selection consists of.

use super::Row;
use crate::error::Result;
use crate::run::config::{Configuration, SearchConfig, TrainConfig, train};
use crate::run::folder;
use std::path::Path;

/// The search with `seed` in `folder`: that of the whole, on the same halves of the same images whatever its seed, so that
/// what judges a cell has trained no weights of the search that found it.
pub fn search(whole: &SearchConfig, seed: u64, folder: &Path) -> SearchConfig {
    let mut config = whole.clone();
    config.data.seed = Some(whole.data_seed());
    config.search.seed = seed;
    config.select = Default::default();
    config.run.out = folder.to_owned();
    config
}

/// How the cell `genotype` is trained in `folder`: a network of the supernet's size, on the half of the images that trained
/// its weights, judged by the other half. Test images are left for the end.
pub fn training(whole: &SearchConfig, genotype: String, folder: &Path) -> TrainConfig {
    let SearchConfig { data, space, search, weights, run, select, .. } = whole;
    let mut config = TrainConfig::default();
    config.data = train::Data {
        name: data.name.clone(),
        dir: data.dir.clone(),
        image_size: data.image_size,
        train_images: data.train_images,
        valid_portion: 1.0 - data.train_portion,
        seed: Some(whole.data_seed()),
        crop_padding: data.crop_padding,
        flip: data.flip,
        cutout: data.cutout,
        ..config.data
    };
    config.network.genotype = genotype;
    (config.network.channels, config.network.cells) = (space.channels, space.cells);
    config.train = train::Train {
        epochs: select.epochs,
        batch_size: search.batch_size,
        seed: search.seed,
        learning_rate: weights.learning_rate,
        momentum: weights.momentum,
        weight_decay: weights.weight_decay,
        grad_clip: weights.grad_clip,
        auxiliary_weight: 0.0, // small images leave no room for the head
        ..config.train
    };
    config.run = train::Run {
        device: run.device.clone(),
        precision: run.precision.clone(),
        graph: run.graph,
        threads: run.threads,
        out: folder.to_owned(),
        checkpoint_steps: run.checkpoint_steps,
        quiet: run.quiet,
        json: run.json,
        tensorboard: run.tensorboard,
    };
    config
}

/// What the training that is begun in `folder` calls its cells, which are in its checkpoint: the path that they were read
/// from, wherever the folder lies by now and whatever way it is named.
pub fn cells(folder: &Path) -> Result<String> {
    Ok(TrainConfig::from_file(&folder.join(folder::CONFIG))?.network.genotype)
}

/// That the part of `row`, which is over, ran with the settings that it would be given now.
pub fn check(whole: &SearchConfig, folder: &Path, row: &Row) -> Result<()> {
    let folder = folder.join(row.name());
    let stored = folder.join(folder::CONFIG);
    match row {
        Row::Search { seed, .. } => {
            search(whole, *seed, &folder).can_resume(&SearchConfig::from_file(&stored)?, &stored)
        }
        Row::Cell { .. } => {
            training(whole, cells(&folder)?, &folder).can_resume(&TrainConfig::from_file(&stored)?, &stored)
        }
    }
}
