//! Ctrl-C and SIGTERM: the first asks the run to stop at the next step, the second stops the program.

use crate::error::{Error, Result};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();

/// Exit status of a program that Ctrl-C ended, as shells report it.
pub const EXIT_STATUS: i32 = 130;

/// Catches the signals from now on; later calls change nothing.
pub fn install() -> Result<()> {
    let handler = || {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_STATUS);
        }
    };
    let installed = INSTALLED.get_or_init(|| ctrlc::set_handler(handler).map_err(|e| e.to_string()));
    let failed =
        |e: &String| Error::config("Ctrl-C", format!("cannot be caught ({e}); run in a plain terminal"));
    installed.as_ref().copied().map_err(failed)
}

/// How to go on with the run in `folder`, whose checkpoint is written.
pub fn advice(folder: &Path) -> String {
    // how this program was called, for a command that can be copied
    let program = std::env::args().next().unwrap_or_else(|| "search".into());
    let folder = folder.display();
    format!("interrupted; the checkpoint is written, go on with: {program} --resume {folder}")
}

/// Whether a signal came; the run polls this at every step.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
