//! A program under test: run to its end or stopped by a signal, its mistakes, the files that it leaves.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a finished program left behind.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn run(command: &mut assert_cmd::Command) -> Ended {
    ended(command.env_remove("OCHE_DEBUG"))
}

pub fn ended(command: &mut assert_cmd::Command) -> Ended {
    let output = command.timeout(Duration::from_secs(300)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// That a program failed with one line, which holds every one of `parts`.
pub fn one_line(ended: &Ended, parts: &[&str]) {
    let line = &ended.err;
    assert!(matches!(ended.code, Some(1 | 2)), "{:?} {line}", ended.code);
    assert!(line.starts_with("error: ") && line.lines().count() == 1 && line.len() < 450, "{line}");
    assert!(!line.contains("panicked") && !line.trim_end().ends_with('.'), "{line}");
    for part in parts {
        assert!(line.contains(part), "no `{part}` in: {line}");
    }
}

/// Paths, kinds and contents of everything in `dir`.
pub fn listing(dir: &Path) -> Vec<(PathBuf, Option<u64>, u32)> {
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
pub fn rows(run: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(file)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{file} ends in a torn line");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Starts `program` and sends it `signal` as soon as `metrics.jsonl` in a run has so many lines. Returns how it ended
/// and what it said; none if it was over before the signal.
pub fn stopped(
    program: &str,
    dir: &Path,
    flags: &str,
    (run, lines): (&str, usize),
    signal: &str,
) -> Option<(ExitStatus, String)> {
    let metrics = dir.join(run).join("metrics.jsonl");
    let mut child = Command::new(program)
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
