//! What `inspect tensorboard` is told, and what it does with it.

use super::{Board, Space};
use crate::error::{Error, Result};
use crate::run::cli::line;
use crate::run::config::{Configuration, SearchConfig, TrainConfig};
use crate::run::folder;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct TensorboardArgs {
    /// Run folder of a search or of a training
    run: PathBuf,
}

impl TensorboardArgs {
    /// Writes the event file and says where.
    ///
    /// # Errors
    /// If the folder is of no run or in use by one, a file of it cannot be read, or the event file cannot be written.
    pub fn run(&self) -> Result<bool> {
        let settings = self.run.join(folder::CONFIG);
        if !settings.is_file() {
            let what =
                format!("is no run folder, since it has no {}; give a folder of a run", folder::CONFIG);
            return Err(Error::data(&self.run, what));
        }
        let _claim = folder::claim(&self.run)?;
        let search = self.run.join(folder::ALPHAS).exists();
        let mut board = if search {
            let config = SearchConfig::from_file(&settings)?;
            Board::new(&self.run, config.to_toml(), Some(Space::of(&config)))
        } else {
            Board::new(&self.run, TrainConfig::from_file(&settings)?.to_toml(), None)
        };
        line(board.write()?.display()).map(|()| true)
    }
}
