//! What `inspect export` does: a network as a file for other programs.

use super::loaded::{Loaded, NetworkArgs};
use super::state_dict;
use crate::error::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// File to write the state_dict to, as safetensors: the published PyTorch code loads it with strict=True
    #[arg(long, value_name = "FILE", required = true)]
    weights: PathBuf,
}

impl ExportArgs {
    /// Writes the files and says where.
    ///
    /// # Errors
    /// If the network cannot be had or a file not be written.
    pub fn run(&self) -> Result<bool> {
        let (weights, running) = match &self.network.load()? {
            Loaded::Found(found) => (found.weights.clone(), found.running.clone()),
            Loaded::Supernet(searched) => {
                (searched.searcher.weights.clone(), searched.searcher.running.clone())
            }
        };
        state_dict::write(&self.weights, &weights, &running)?;
        println!("weights   {}", self.weights.display());
        Ok(true)
    }
}
