//! `search`: finds a cell by differentiable architecture search. `search --help` explains every setting.

use clap::Parser;
use oche::run::cli::{SearchArgs, resolve};
use oche::run::interrupt;
use oche::run::search::{Outcome, SearchRun};
use oche::{Error, Result};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&SearchArgs::parse()) {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::EXIT_STATUS as u8),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &SearchArgs) -> Result<Outcome> {
    let config = resolve(args)?;
    if args.print_config {
        print!("{}", config.to_toml());
        return Ok(Outcome::Finished);
    }
    interrupt::install()?;
    // everything runs inside the pool, so that small operations need not be handed over to it
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.run.threads).build();
    let pool = pool.map_err(|e| Error::config("run.threads", format!("cannot start the threads: {e}")))?;
    pool.install(|| match &args.resume {
        Some(folder) => SearchRun::resume(config, folder)?.run(),
        None => SearchRun::start(config)?.run(),
    })
}
