//! What a training says at its start, after each epoch and at its end.

use super::board;
use super::checkpoint::{BEST, NEWEST};
use super::config::TrainConfig;
use super::folder;
use super::memory::{needed, show};
use super::progress::percent;
use super::train_data::TrainData;
use super::train_state::{Position, Test};
use crate::error::Result;
use crate::space::Genotype;
use crate::train::Trainer;
use serde_json::{Value, json};
use std::path::Path;

/// What runs, on what, with which settings.
pub fn heading(
    config: &TrainConfig,
    data: &TrainData,
    trainer: &Trainer,
    device: &str,
    folder: &Path,
) -> Result<Vec<String>> {
    let (network, train, [height, width, channels]) = (&config.network, &config.train, data.image);
    let count = trainer.weights.layout.count;
    let (_, peak) = trainer.plan(train.batch_size, data.image)?;
    // weights and momentum stay
    let place = trainer.device();
    let bytes = needed(&place, peak + 2 * count * size_of::<f32>(), data.bytes(&place));
    Ok(vec![
        format!("device    {device}"),
        format!(
            "data      {}: {} images to train, {} to test, of {height} x {width} x {channels}, {} classes",
            config.data.name,
            data.train.len(),
            data.test.len(),
            data.classes
        ),
        format!("cells     {}", network.genotype),
        format!(
            "network   {}: C = {}, {} cells, {count} parameters{}",
            network.kind,
            network.channels,
            network.cells,
            if train.auxiliary_weight > 0.0 { ", auxiliary head included" } else { "" }
        ),
        format!("memory    {} planned", show(bytes)),
        format!("training  {}", settings(config)),
        format!("folder    {}", folder.display()),
    ])
}

/// The settings that are on, in words.
fn settings(config: &TrainConfig) -> String {
    let (train, data, weights) = (&config.train, &config.data, config.network.weights.as_path());
    let mut all = format!(
        "{} epochs, batch {}, learning rate {} by {}, seed {}",
        train.epochs, train.batch_size, train.learning_rate, train.schedule, train.seed
    );
    if let Some(seed) = data.seed {
        all += &format!(", data seed {seed}");
    }
    for (on, what) in [
        (weights != Path::new(""), format!("weights from {}", weights.display())),
        (train.warmup_epochs > 0, format!("warm-up of {} epochs", train.warmup_epochs)),
        (train.auxiliary_weight > 0.0, format!("auxiliary weight {}", train.auxiliary_weight)),
        (train.drop_path > 0.0, format!("drop path to {}", train.drop_path)),
        (train.label_smoothing > 0.0, format!("label smoothing {}", train.label_smoothing)),
        (config.resized_crops(), format!("crops of {} to 1 resized", data.crop_area)),
        (config.resized_crops() && data.jitter > 0.0, format!("colours by {}", data.jitter)),
        (config.resized_crops() && data.hue > 0.0, format!("hue by {}", data.hue)),
        (data.cutout > 0, format!("cutout {}", data.cutout)),
    ] {
        if on {
            all += &format!(", {what}");
        }
    }
    all
}

/// What `--json` prints last: folder, cells, and the last and the best test of `tested` images, null if no epoch is whole.
pub fn json(genotype: &Genotype, position: &Position, tested: usize, folder: &Path) -> Value {
    let of = |test: Option<Test>| {
        test.map(|Test { epoch, top1, top5 }| {
            let [accuracy, top5] = [top1, top5].map(|right| percent(right, tested));
            json!({ "epoch": epoch, "test_accuracy": accuracy, "test_top5": top5 })
        })
    };
    json!({
        "kind": "result",
        "folder": folder.display().to_string(),
        "genotype": genotype.to_string(),
        "last": of(position.last),
        "best": of(position.best),
    })
}

/// The text that ends a training tested on `tested` images.
pub fn ending(
    genotype: &Genotype,
    position: &Position,
    tested: usize,
    folder: &Path,
    tensorboard: bool,
) -> String {
    let mut text = format!("\n{genotype}\n\n");
    // the best of many is chosen by the images that it is tested on
    for (word, test) in [("last", position.last), ("best", position.best)] {
        if let Some(Test { epoch, top1, top5 }) = test {
            let (epoch, [top1, top5]) = (epoch + 1, [top1, top5].map(|right| percent(right, tested)));
            text += &format!("{word} test       epoch {epoch}: top-1 {top1:.2} %, top-5 {top5:.2} %\n");
        }
    }
    text += &format!("\neverything lies in {}\n", folder.display());
    for (file, what) in [
        (BEST, "weights after the epoch with the best test"),
        (NEWEST, "weights and optimiser after the last step"),
        (folder::METRICS, "a row a step and an epoch"),
        (folder::GENOTYPE_TEXT, "the cells, as the published code writes them"),
        (folder::LOG, "what was printed"),
        (folder::CONFIG, "all settings"),
    ] {
        text += &format!("  {file:<24} {what}\n");
    }
    text + board::mention(tensorboard)
}
