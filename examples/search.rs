//! A whole search in ten lines: `cargo run --release --example search`.

use oche::search::{Search, Settings};
use oche::{data, space::Space};

pub fn main() -> oche::Result<()> {
    let images = data::synthetic(16, 120, 0)?.train;
    let settings = Settings { channels: 4, cells: 2, epochs: 4, batch_size: 12, ..Settings::default() };
    let search = Search::new(&Space::darts(1), images, settings)?;
    let genotype = search.run(|epoch| println!("{epoch}"))?;
    println!("{genotype}");
    Ok(())
}
