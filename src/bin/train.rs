//! `train`: trains the network of a genotype from scratch. `train --help` explains every setting.

use oche::Result;
use oche::device::profile;
use oche::run::cli::{Outcome, TrainArgs, in_pool, parse, print, resolve_training, status};
use oche::run::config::Configuration;
use oche::run::progress::Progress;
use oche::run::train::TrainRun;
use oche::run::{download, interrupt};
use std::process::ExitCode;

fn main() -> ExitCode {
    match parse::<TrainArgs>() {
        Ok(args) => status(run(&args)),
        Err(status) => status,
    }
}

fn run(args: &TrainArgs) -> Result<Outcome> {
    profile::check()?;
    let config = resolve_training(args)?;
    if args.print_config {
        return print(&config.to_toml()).map(|()| Outcome::Finished);
    }
    interrupt::install()?;
    if args.download {
        let words = Progress::new(config.run.quiet, config.run.json);
        if download::data(&config.data.name, &config.data.dir, &words)? == Outcome::Interrupted {
            return Ok(Outcome::Interrupted);
        }
    }
    in_pool(config.run.threads, || match &args.resume {
        Some(folder) => TrainRun::resume(config, folder)?.run(),
        None => TrainRun::start(config)?.run(),
    })
}
