//! A data set of one's own: arrays of bytes, here of waves that run up and down or to the side, which none of the
//! built-in sets has. `cargo run --release --example own_dataset`.

use oche::data::{Dataset, ImageSet};
use oche::search::{Search, Settings};
use oche::space::Space;

const SIZE: usize = 16;

/// Grey waves of period 4 to 7: image i is of class i mod 2.
fn waves(count: usize, first: usize) -> oche::Result<ImageSet> {
    let labels: Vec<u32> = (0..count).map(|i| i as u32 % 2).collect();
    let pixel = |i: usize, at: usize| {
        let (row, column) = (at / SIZE, at % SIZE);
        let along = if i.is_multiple_of(2) { row } else { column };
        let (period, shift) = (4 + i / 2 % 4, i / 8);
        (255 * ((along + shift) % period) / (period - 1)) as u8
    };
    let images = (first..first + count).flat_map(|i| (0..SIZE * SIZE).map(move |at| pixel(i, at))).collect();
    ImageSet::new(images, labels, [SIZE, SIZE, 1], &["up and down", "to the side"])
}

pub fn main() -> oche::Result<()> {
    let data = Dataset::new("waves", waves(120, 0)?, Some(waves(40, 120)?))?;
    println!("{}: {} images of {SIZE} x {SIZE}, {:?}", data.name, data.train.len(), data.train.classes);
    let settings = Settings { channels: 4, cells: 2, epochs: 3, batch_size: 12, ..Settings::default() };
    let genotype = Search::new(&Space::darts(1), data.train, settings)?.run(|epoch| println!("{epoch}"))?;
    println!("{genotype}");
    Ok(())
}
