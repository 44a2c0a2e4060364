//! `search`: finds a cell by differentiable architecture search. `search --help` explains every setting.

use oche::device::profile;
use oche::run::cli::{SearchArgs, parse, resolve};
use oche::run::interrupt;
use oche::run::search::{Outcome, SearchRun};
use oche::{Error, Result};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(status) => return status,
    };
    match run(&args) {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::EXIT_STATUS as u8),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &SearchArgs) -> Result<Outcome> {
    profile::check()?;
    let config = resolve(args)?;
    if args.print_config {
        return print(&config.to_toml()).map(|()| Outcome::Finished);
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

/// Prints `text`, which is all that was asked for: a full disk is an error, a reader that has seen enough is none.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("write to", Path::new("standard output"))(e))
        }
        _ => Ok(()),
    }
}
