//! `search`: finds a cell by differentiable architecture search. `search --help` explains every setting.

use oche::Result;
use oche::device::profile;
use oche::run::cli::{Outcome, SearchArgs, in_pool, parse, print, resolve, status};
use oche::run::config::Configuration;
use oche::run::progress::Progress;
use oche::run::search::SearchRun;
use oche::run::select::Selection;
use oche::run::{download, interrupt};
use std::process::ExitCode;

fn main() -> ExitCode {
    match parse::<SearchArgs>() {
        Ok(args) => status(run(&args)),
        Err(status) => status,
    }
}

fn run(args: &SearchArgs) -> Result<Outcome> {
    profile::check()?;
    let config = resolve(args)?;
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
        Some(folder) if config.is_selection() => Selection::resume(config, folder)?.run(),
        None if config.is_selection() => Selection::start(config)?.run(),
        Some(folder) => SearchRun::resume(config, folder)?.run(),
        None => SearchRun::start(config)?.run(),
    })
}
