//! A search space of one's own: which candidates stand on which edge of which cell.
//! `cargo run --release --example own_space`.

use oche::data;
use oche::search::{Search, Settings};
use oche::space::genotype::CellKind;
use oche::space::{Edge, Operation, Space};

pub fn main() -> oche::Result<()> {
    let named = |names: &[&str]| {
        names.iter().map(|name| Operation::published(name)).collect::<oche::Result<Vec<_>>>()
    };
    let convolutions = named(&["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3"])?;
    let pools = named(&["max_pool_3x3", "avg_pool_3x3"])?;
    let links = named(&["none", "skip_connect", "sep_conv_3x3"])?;
    // inputs are convolved in normal cells and pooled in reductions; nodes are linked, or not
    let space = Space::by_edge(2, |edge: Edge| match (edge.input, edge.cell) {
        (0 | 1, CellKind::Normal) => convolutions.clone(),
        (0 | 1, CellKind::Reduce) => pools.clone(),
        _ => links.clone(),
    });
    let images = data::synthetic(16, 80, 0)?.train;
    let settings = Settings { channels: 4, cells: 2, epochs: 2, batch_size: 10, ..Settings::default() };
    let mut search = Search::new(&space, images, settings)?;
    while let Some(epoch) = search.epoch()? {
        println!("{epoch}");
    }
    for (kind, weights) in search.searcher().net().kinds().iter().zip(search.searcher().edge_weights()?) {
        for (edge, (names, weights)) in kind.candidates.iter().zip(weights).enumerate() {
            let shown: Vec<String> =
                names.iter().zip(weights).map(|(name, w)| format!("{name} {w:.4}")).collect();
            println!("{} cell, edge {edge}: {}", kind.name, shown.join(", "));
        }
    }
    println!("{}", search.genotype()?);
    Ok(())
}
