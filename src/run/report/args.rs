//! What `inspect report` and `inspect compare` are told, and what they do with it.

use crate::error::Result;
use crate::run::cli::line;
use crate::run::state_dict::not_of_a_run;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct ReportArgs {
    /// Run folder of a search
    run: PathBuf,
}

#[derive(Args)]
pub struct CompareArgs {
    /// Run folders of searches, two or more
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Page to write
    #[arg(long, value_name = "FILE", default_value = "compare.html")]
    out: PathBuf,
}

impl ReportArgs {
    /// Writes the report and says where.
    ///
    /// # Errors
    /// As [`super::renew`].
    pub fn run(&self) -> Result<bool> {
        line(super::renew(&self.run)?.display())?;
        Ok(true)
    }
}

impl CompareArgs {
    /// Writes the comparison and says where.
    ///
    /// # Errors
    /// As [`super::compare`], and [`crate::Error::Config`] if the page would replace a file of a run.
    pub fn run(&self) -> Result<bool> {
        not_of_a_run("--out", &self.out)?;
        super::compare(&self.runs, &self.out)?;
        line(self.out.display())?;
        Ok(true)
    }
}
