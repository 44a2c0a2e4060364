//! What a run says: a bar on a terminal, a line per epoch everywhere, the same lines in its log.

use super::{cli, folder};
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Numbers of a running epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepNumbers {
    /// Mean over images so far, nats.
    pub train_loss: f64,
    /// Percent.
    pub train_accuracy: f64,
    /// Of a search.
    pub valid_loss: Option<f64>,
    /// Training images in a second of the whole step.
    pub images_per_second: f64,
    /// Until the end of the run.
    pub seconds_left: f64,
}

/// How an epoch went in this process, units as in [`StepNumbers`].
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochNumbers {
    /// From 0.
    pub epoch: usize,
    pub epochs: usize,
    pub images_per_second: f64,
    pub seconds: f64,
}

impl EpochNumbers {
    /// The line that stays of an epoch, with its loss and accuracy in training and what it was `judged`.
    pub fn line(&self, learning_rate: f64, (loss, accuracy): (f64, f64), judged: &str) -> String {
        let Self { epoch, epochs, images_per_second, seconds } = self;
        format!(
            "epoch {:>w$}/{epochs}  lr {learning_rate:.4}  train loss {loss:.4} accuracy {accuracy:5.2} %  \
             {judged}  {images_per_second:.0} images/s  {}",
            epoch + 1,
            clock(*seconds),
            w = epochs.to_string().len(),
        )
    }
}

/// The display of a run: the bar on stderr, lines on stdout, or on stderr beside JSON, and in the log.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
    json: bool,
    log: Option<File>,
}

/// Whether stderr is a terminal on which a line can be drawn over.
pub(super) fn shows_bars() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Progress {
    /// No bar unless stderr is a terminal; nothing at all if `quiet`; nothing but JSON on stdout if `json`.
    pub fn new(quiet: bool, json: bool) -> Self {
        let mixed = json && std::io::stdout().is_terminal(); // rows and bar would be drawn over each other
        let shown = !quiet && !mixed && shows_bars();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(nothing) = ProgressStyle::with_template("") {
            bar.set_style(nothing); // until the first epoch starts
        }
        Self { bar, quiet, json, log: None }
    }
    /// The same with a log in `folder`, behind what is in it.
    pub fn logged(self, folder: &Path) -> Result<Self> {
        let path = folder.join(folder::LOG);
        let log = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::write(&path))?;
        Ok(Self { log: Some(log), ..self })
    }
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
    /// Starts the bar of `epoch` (from 0) at `done` of `steps`.
    pub fn start_epoch(&self, epoch: usize, epochs: usize, steps: usize, done: usize) {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let bar = if plain { "{bar:10}" } else { "{bar:10.cyan}" };
        let wide = columns() >= 80;
        let template =
            if wide { format!("{{prefix}} {bar} {{wide_msg}}") } else { "{prefix} {wide_msg}".into() };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style);
        }
        self.bar.set_length(steps as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix(format!("{}/{epochs}", epoch + 1));
    }
    /// Shows that `done` steps of the epoch are over.
    pub fn step(&self, done: usize, numbers: &StepNumbers) {
        self.bar.set_position(done as u64);
        let used = self.bar.prefix().chars().count() + if columns() >= 80 { 12 } else { 1 };
        let steps = self.bar.length().unwrap_or_default() as usize;
        self.bar.set_message(step_line(done, steps, numbers, columns().saturating_sub(used)));
    }
    /// Takes the bar away and prints the line of the epoch.
    pub fn end_epoch(&self, line: &str) {
        self.bar.set_message("");
        self.line(line);
    }
    /// Prints a line, above the bar.
    pub fn line(&self, text: &str) {
        self.log(text);
        // A reader that went away (search | head) is no reason to stop searching.
        match (self.quiet, self.json) {
            (true, _) => {}
            (_, true) => self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{text}"))),
            _ => self.bar.suspend(|| drop(writeln!(std::io::stdout(), "{text}"))),
        }
    }
    /// Tells on stderr what is not as it should be, or where a run stopped.
    pub fn warn(&self, text: &str) {
        self.log(text);
        self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{text}")));
    }
    /// Writes a line to the log alone. A log that cannot be written is no reason to stop: what a full disk costs is
    /// told by the files that matter.
    pub fn log(&self, text: &str) {
        if let Some(mut log) = self.log.as_ref() {
            let _ = writeln!(log, "{text}");
        }
    }
    /// Prints what the run found, for people or as a JSON object.
    pub fn result(&self, text: &str, json: &Value) -> Result<()> {
        if !self.json {
            self.log(text.trim_end());
            return cli::print(text);
        }
        self.line(text.trim_end());
        cli::print(&format!("{json}\n"))
    }
    /// Takes the bar away for good.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Width of the terminal behind stderr, 80 if that is unknown.
fn columns() -> usize {
    console::Term::stderr().size_checked().map_or(80, |(_, columns)| columns.into())
}

/// The message of the bar in at most `columns` characters: what does not fit is left out from the right.
pub fn step_line(done: usize, steps: usize, numbers: &StepNumbers, columns: usize) -> String {
    let parts = [
        format!("loss {:.3}", numbers.train_loss),
        format!("acc {:.1} %", numbers.train_accuracy),
        format!("{} left", clock(numbers.seconds_left)),
        numbers.valid_loss.map_or(String::new(), |loss| format!("valid loss {loss:.3}")),
        format!("{:.0} images/s", numbers.images_per_second),
    ];
    let mut line = format!("{done}/{steps}");
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if line.len() + 2 + part.len() > columns {
            break;
        }
        line = format!("{line}  {part}");
    }
    line.truncate(columns); // ASCII throughout
    line
}

/// `part` of `whole` in percent.
pub(super) fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// `m:ss` or `h:mm:ss`; `--:--` while unknown.
pub(super) fn clock(seconds: f64) -> String {
    let Ok(time) = Duration::try_from_secs_f64(seconds.round()) else { return "--:--".into() };
    let s = time.as_secs();
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fits_every_terminal_and_says_what_matters_at_40_columns() {
        let numbers = StepNumbers {
            train_loss: 12.345,
            train_accuracy: 100.,
            valid_loss: Some(2.5),
            images_per_second: 12345.,
            seconds_left: 3e5,
        };
        for columns in 0..200 {
            assert!(step_line(1234, 1234, &numbers, columns).len() <= columns);
        }
        assert_eq!(
            step_line(31, 32, &StepNumbers { seconds_left: 75., ..numbers }, 40),
            "31/32  loss 12.345  acc 100.0 %"
        );
        assert!(step_line(31, 32, &numbers, 100).ends_with("12345 images/s"));
    }

    #[test]
    fn times_are_clocks() {
        assert_eq!(clock(59.6), "1:00");
        assert_eq!(clock(3725.), "1:02:05");
        assert_eq!(clock(f64::NAN), "--:--");
        assert_eq!(clock(f64::INFINITY), "--:--");
        assert_eq!(clock(-1.), "--:--");
    }

    #[test]
    fn an_epoch_is_one_line() {
        let numbers = EpochNumbers { epoch: 2, epochs: 10, ..Default::default() };
        let line = numbers.line(0.0, (0.0, 9.5), "valid loss 0");
        assert!(line.starts_with("epoch  3/10  lr 0.0000"), "{line}");
        assert!(line.contains("accuracy  9.50 %") && !line.contains('\n'), "{line}");
    }
}
