//! The `search` program as its users run it: run folder, repeatability, stops and resumes, mistakes, real data.
//!
//! `OCHE_DATA` names a folder with real files (`cifar10/`, `foreign_samples/`), without which the tests on them say so
//! and pass.
#![cfg(unix)] // stops are signals

#[path = "search/bad_data.rs"]
mod bad_data;
#[path = "search/bad_input.rs"]
mod bad_input;
#[path = "search/bf16.rs"]
mod bf16;
#[path = "search/learning.rs"]
mod learning;
#[path = "search/outputs.rs"]
mod outputs;
#[path = "search/resume.rs"]
mod resume;
#[path = "search/run_folder.rs"]
mod run_folder;
#[path = "search/selection.rs"]
mod selection;

#[path = "common/events.rs"]
mod events;
#[path = "common/program.rs"]
mod program;

use program::{Ended, ended, listing, one_line, rows, run};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

const SEARCH: &str = env!("CARGO_BIN_EXE_search");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");
const TRAIN: &str = env!("CARGO_BIN_EXE_train");

/// A search of a few milliseconds a step: 4 steps an epoch, both kinds of cells, every candidate.
const TINY: &str =
    "--train-images 112 --channels 2 --cells 3 --nodes 1 --image-size 8 --batch-size 16 --crop-padding 1";

/// Runs `search` in `dir` with `flags`, separated by spaces, to its end.
fn search(dir: &Path, flags: &str) -> Ended {
    run(assert_cmd::Command::new(SEARCH).args(flags.split_whitespace()).current_dir(dir))
}

/// Runs `search` in `dir` to its end, which has to be a success without a word on stderr.
fn search_well(dir: &Path, flags: &str) -> Ended {
    let ended = search(dir, flags);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{flags}\n{}", ended.out);
    ended
}

/// Runs `search` in `dir`, which has to fail with one line that holds every one of `parts` and to leave every file
/// as it was. Returns the line.
fn mistake(dir: &Path, flags: &str, parts: &[&str]) -> String {
    let before = listing(dir);
    let ended = search(dir, flags);
    one_line(&ended, parts);
    assert_eq!(listing(dir), before, "files changed: {flags}");
    assert_eq!(ended.out, "", "{flags}");
    ended.err
}

/// What must not depend on when and where a run took place: its rows without time and memory, and every bit of the
/// checkpoint and of the cells that it found.
fn essence(run: &Path) -> (Vec<Value>, Vec<Vec<u8>>) {
    let mut metrics = rows(run, "metrics.jsonl");
    for row in &mut metrics {
        let row = row.as_object_mut().unwrap();
        row.remove("seconds").unwrap();
        row.remove("peak_bytes");
        row.remove("peak_rss_bytes");
    }
    let files = ["checkpoint.safetensors", "alphas.jsonl", "genotype.json", "genotype.txt", "normal.svg"];
    (metrics, files.iter().map(|file| fs::read(run.join(file)).unwrap()).collect())
}

/// That two runs are one and the same, saying where they part.
fn assert_same(a: &Path, b: &Path) {
    let ((rows_a, files_a), (rows_b, files_b)) = (essence(a), essence(b));
    for (a, b) in rows_a.iter().zip(&rows_b) {
        assert_eq!(a, b);
    }
    assert_eq!(rows_a.len(), rows_b.len(), "rows");
    assert!(files_a == files_b, "files of {} and {} differ", a.display(), b.display());
}

/// [`program::stopped`] of `search`.
fn stopped(dir: &Path, flags: &str, run: &str, lines: usize, signal: &str) -> Option<(ExitStatus, String)> {
    program::stopped(SEARCH, dir, flags, (run, lines), signal)
}

/// The folder `part` of the real data, if there is one.
fn real_data(part: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("OCHE_DATA") else {
        println!("skipped: OCHE_DATA is not set");
        return None;
    };
    let dir = Path::new(&root).join(part);
    if dir.is_dir() {
        return Some(dir.canonicalize().unwrap());
    }
    println!("skipped: no {part} in OCHE_DATA");
    None
}
