//! The `search` program as its users run it: run folder, repeatability, stops and resumes, mistakes, real data.
//!
//! `OCHE_DATA` names a folder with real files (`cifar10/`, `foreign_samples/`), without which the tests on them say so
//! and pass.
#![cfg(unix)] // stops are signals

#[path = "search/bad_data.rs"]
mod bad_data;
#[path = "search/bad_input.rs"]
mod bad_input;
#[path = "search/learning.rs"]
mod learning;
#[path = "search/resume.rs"]
mod resume;
#[path = "search/run_folder.rs"]
mod run_folder;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const SEARCH: &str = env!("CARGO_BIN_EXE_search");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");

/// A search of a few milliseconds a step: 4 steps an epoch, both kinds of cells, every candidate.
const TINY: &str =
    "--train-images 112 --channels 2 --cells 3 --nodes 1 --image-size 8 --batch-size 16 --crop-padding 1";

/// What a finished program left behind.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `search` in `dir` with `flags`, separated by spaces, to its end.
fn search(dir: &Path, flags: &str) -> Ended {
    run(assert_cmd::Command::new(SEARCH).args(flags.split_whitespace()).current_dir(dir))
}

fn run(command: &mut assert_cmd::Command) -> Ended {
    ended(command.env_remove("OCHE_DEBUG"))
}

fn ended(command: &mut assert_cmd::Command) -> Ended {
    let output = command.timeout(Duration::from_secs(300)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
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

/// That a program failed with one line, which holds every one of `parts`.
fn one_line(ended: &Ended, parts: &[&str]) {
    let line = &ended.err;
    assert!(matches!(ended.code, Some(1 | 2)), "{:?} {line}", ended.code);
    assert!(line.starts_with("error: ") && line.lines().count() == 1 && line.len() < 450, "{line}");
    assert!(!line.contains("panicked") && !line.trim_end().ends_with('.'), "{line}");
    for part in parts {
        assert!(line.contains(part), "no `{part}` in: {line}");
    }
}

/// Paths, kinds and contents of everything in `dir`.
fn listing(dir: &Path) -> Vec<(PathBuf, Option<u64>, u32)> {
    let mut all = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push((path.clone(), None, 0));
            all.extend(listing(&path));
        } else {
            let size = path.metadata().unwrap().len();
            let sum = if size < 1 << 20 { crc32fast::hash(&fs::read(&path).unwrap()) } else { 0 };
            all.push((path, Some(size), sum));
        }
    }
    all.sort();
    all
}

/// The rows of a file of the run folder.
fn rows(run: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(file)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{file} ends in a torn line");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

/// Starts `search` and sends it `signal` as soon as `metrics.jsonl` in `run` has `lines` lines. Returns how it ended
/// and what it said; none if it was over before the signal.
fn stopped(dir: &Path, flags: &str, run: &str, lines: usize, signal: &str) -> Option<(ExitStatus, String)> {
    let metrics = dir.join(run).join("metrics.jsonl");
    let mut child = Command::new(SEARCH)
        .args(flags.split_whitespace())
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while fs::read(&metrics).map_or(0, |text| text.iter().filter(|&&b| b == b'\n').count()) < lines {
        assert!(start.elapsed() < Duration::from_secs(120), "no {lines} rows");
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let sent = send(&child, signal);
    let output = child.wait_with_output().unwrap();
    let stopped = sent && !output.status.success();
    stopped.then(|| (output.status, String::from_utf8(output.stderr).unwrap()))
}

/// Whether the child was still there to take the signal.
fn send(child: &Child, signal: &str) -> bool {
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
    kill.unwrap().success()
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
