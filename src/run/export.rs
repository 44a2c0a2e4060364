//! What `inspect export` does: a network as files for other programs.

use super::cli::line;
use super::loaded::{Loaded, NetworkArgs};
use super::state_dict::not_of_a_run;
use super::{onnx, state_dict};
use crate::error::{Error, Result};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// File to write the state_dict to, as safetensors: the published PyTorch code loads it with strict=True
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// File to write a trained network to, as ONNX: `input` (batch, channels, height, width), normalised as in training
    /// (inspect evaluate says how), to `logits`, in evaluation mode
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Normalise in the ONNX file, whose `input` is then from 0 to 1: the mean of each channel
    #[arg(long, value_name = "X,Y,Z", value_delimiter = ',', requires_all = ["onnx", "deviation"])]
    mean: Option<Vec<f32>>,
    /// And its deviation
    #[arg(long, value_name = "X,Y,Z", value_delimiter = ',', requires = "mean")]
    deviation: Option<Vec<f32>>,
}

impl ExportArgs {
    /// Writes the files and says where.
    ///
    /// # Errors
    /// If the network cannot be had, a file cannot be written or is one of a run, or a supernet is to become ONNX.
    pub fn run(&self) -> Result<bool> {
        self.check()?;
        let network = self.network.load()?;
        if let Some(path) = &self.onnx {
            let Loaded::Found(found) = &network else {
                let what = "takes trained networks, and this is a search; train its cell first, with train --genotype RUN";
                return Err(Error::config("--onnx", what));
            };
            let normalisation = self.mean.clone().zip(self.deviation.clone()).map(|(m, d)| [m, d]);
            onnx::write(path, found, normalisation.as_ref())?;
            line(format_args!("onnx      {}", path.display()))?;
        }
        if let Some(path) = &self.weights {
            let (weights, running) = match &network {
                Loaded::Found(found) => (&found.weights, &found.running),
                Loaded::Supernet(searched) => (&searched.searcher.weights, &searched.searcher.running),
            };
            state_dict::write(path, weights, running)?;
            line(format_args!("weights   {}", path.display()))?;
        }
        Ok(true)
    }

    /// That there is a file to write, and that none is lost: one of a run, or the first of two of one name.
    fn check(&self) -> Result<()> {
        if self.onnx.is_none() && self.weights.is_none() {
            return Err(Error::config("--weights or --onnx", "needed, with the name of the file to write"));
        }
        for (flag, path) in [("--onnx", &self.onnx), ("--weights", &self.weights)] {
            path.as_ref().map_or(Ok(()), |path| not_of_a_run(flag, path))?;
        }
        match (self.onnx.as_deref().and_then(place), self.weights.as_deref().and_then(place)) {
            (Some(one), Some(other)) if one == other => {
                Err(Error::config("--weights", "is the file of --onnx too; choose another"))
            }
            _ => Ok(()),
        }
    }
}

/// Where the file at `path` lies or will lie, however it is called; none if its folder is not there.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}
