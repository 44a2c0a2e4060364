//! What a search says at its start and leaves at its end.

use super::board;
use super::config::SearchConfig;
use super::draw::{cell_svg, cell_text};
use super::folder::{self, write_atomic};
use super::jsonl;
use super::memory;
use super::report;
use crate::data::ImageSet;
use crate::error::Result;
use crate::search::{Feed, Order, Searcher};
use crate::space::Genotype;
use crate::space::genotype::CellKind;
use crate::space::network::{Network, NetworkConfig};
use serde_json::{Value, json};
use std::path::Path;

/// What runs, on what, with which settings.
pub fn heading(
    config: &SearchConfig,
    feed: &Feed,
    searcher: &Searcher,
    device: &str,
    folder: &Path,
) -> Result<Vec<String>> {
    let (s, space, images, halves) = (&config.search, &config.space, &feed.images, &feed.halves);
    let unfused = searcher.net().unfused().join(", ");
    let order = match s.order {
        Order::First => "first order",
        Order::Second => "second order (unrolled, finite differences)",
        Order::Exact => "second order (unrolled, exact)",
    };
    let from = match s.weights.as_os_str().is_empty() {
        true => String::new(),
        false => format!(", weights from {}", s.weights.display()),
    };
    let data_seed = config.data.seed.map_or(String::new(), |seed| format!(", data seed {seed}"));
    Ok(vec![
        format!("device    {device}"),
        format!(
            "data      {}: {} + {} images of {} x {} x {}, {} classes",
            config.data.name,
            halves.0.len(),
            halves.1.len(),
            images.height,
            images.width,
            images.channels,
            images.classes.len()
        ),
        format!(
            "supernet  {}: C = {}, {} cells, {} nodes, {} candidates, {} weights{}",
            space.name,
            space.channels,
            space.cells,
            space.nodes,
            space.candidates.len(),
            searcher.weights.layout.count,
            if unfused.is_empty() { unfused } else { format!("; not fused, for {unfused}") },
        ),
        format!("memory    {}", memory::planned(config, searcher, images)?),
        format!(
            "search    {order}, {} epochs, batch {}, seed {}{data_seed}{from}",
            s.epochs, s.batch_size, s.seed
        ),
        format!("folder    {}", folder.display()),
    ])
}

/// Writes genotype and drawings.
pub fn write_cells(folder: &Path, genotype: &Genotype) -> Result<()> {
    write_atomic(
        &folder.join(folder::GENOTYPE_JSON),
        format!("{}\n", genotype.to_json().trim_end()).as_bytes(),
    )?;
    write_atomic(&folder.join(folder::GENOTYPE_TEXT), format!("{genotype}\n").as_bytes())?;
    write_drawings(folder, genotype)
}

/// Writes the cells drawn.
pub fn write_drawings(folder: &Path, genotype: &Genotype) -> Result<()> {
    for (kind, file, title) in [
        (CellKind::Normal, folder::NORMAL_SVG, "normal cell"),
        (CellKind::Reduce, folder::REDUCE_SVG, "reduction cell"),
    ] {
        let svg = cell_svg(title, genotype.genes(kind), genotype.concat(kind));
        write_atomic(&folder.join(file), svg.as_bytes())?;
    }
    Ok(())
}

/// Writes genotype, drawings and report; the result is the text that ends a search.
pub fn write(
    folder: &Path,
    genotype: &Genotype,
    config: &SearchConfig,
    [height, width]: [usize; 2],
    images: &ImageSet,
) -> Result<String> {
    write_cells(folder, genotype)?;
    report::write(folder)?;
    let classes = images.classes.len();
    let mut text = format!("\n{genotype}\n\n");
    for (name, kind) in [("normal", CellKind::Normal), ("reduction", CellKind::Reduce)] {
        text += &format!("{name} cell\n{}\n\n", cell_text(genotype.genes(kind), genotype.concat(kind)));
    }
    let published = NetworkConfig { classes, image_channels: images.channels, ..NetworkConfig::default() };
    let searched = NetworkConfig { channels: config.space.channels, cells: config.space.cells, ..published };
    for (what, network) in [("searched size", searched), ("published size", published)] {
        let (parameters, macs) = size(genotype, network, [height, width])?;
        let NetworkConfig { channels, cells, .. } = network;
        text += &format!(
            "{what:<15} C = {channels}, {cells} cells: {parameters} parameters, {:.2} M multiply-adds\n",
            macs as f64 / 1e6
        );
    }
    text += &format!("\neverything lies in {}\n", folder.display());
    for (file, what) in [
        (folder::GENOTYPE_TEXT, "the cells, as the published code writes them"),
        (folder::GENOTYPE_JSON, "the same as JSON"),
        ("normal.svg reduce.svg", "the cells drawn"),
        (folder::REPORT, "all of it to look at in a browser"),
        (folder::METRICS, "a row a step and an epoch"),
        (folder::ALPHAS, "softmax(alpha) after each epoch"),
        (folder::LOG, "what was printed"),
        (super::checkpoint::NEWEST, "weights, alphas and optimisers"),
        (folder::CONFIG, "all settings"),
    ] {
        text += &format!("  {file:<24} {what}\n");
    }
    text += board::mention(config.run.tensorboard);
    Ok(text)
}

/// What `--json` prints last: folder, cells, and losses and accuracies of the newest epoch.
pub fn json(folder: &Path, genotype: &Genotype) -> Result<Value> {
    let rows = jsonl::read::<Value>(&folder.join(folder::METRICS))?;
    let last = rows.iter().rfind(|row| row["kind"] == "epoch").unwrap_or(&Value::Null);
    let mut result =
        json!({ "kind": "result", "folder": folder.display().to_string(), "genotype": genotype.to_string() });
    for key in ["epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"] {
        result[key] = last[key].clone();
    }
    Ok(result)
}

/// Parameters, and multiply-adds a forward of one image, of the network of a genotype.
pub fn size(genotype: &Genotype, config: NetworkConfig, image: [usize; 2]) -> Result<(usize, u64)> {
    let network = Network::new(genotype, config)?;
    let (counters, _) = network.forward_cost(1, image)?;
    Ok((network.layout().count, counters.cost.macs))
}
