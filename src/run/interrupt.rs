//! Ctrl-C and SIGTERM: the first asks the run to stop at the next step, the second stops the program.

use crate::error::{Error, Result};
use std::io::{IsTerminal, Write};
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
        if std::io::stderr().is_terminal() {
            // nobody is left to tell if this fails
            let _ = writeln!(std::io::stderr(), "\nstopping after this step; once more stops at once");
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
    let folder = quoted(&folder.display().to_string());
    format!("interrupted; the checkpoint is written, go on with: {program} --resume {folder}")
}

/// `path` as a shell takes it for one word.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Whether a signal came; the run polls this at every step.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_takes_a_path_for_one_word() {
        assert_eq!(quoted("runs/search-1"), "runs/search-1");
        assert_eq!(quoted("my run"), "'my run'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
