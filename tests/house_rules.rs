//! The plan of the house, kept: which layer may use which, sizes of files, where errors and the environment are met.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and what it may use of this crate besides itself, `error` and `suggest`: nothing that lies above it.
/// The one exception is the engine's own adding and copying of gradients.
const LAYERS: [(&str, &[&str]); 11] = [
    ("device", &[]),
    ("tensor", &["device"]),
    ("tape", &["tensor", "device", "ops::pointwise"]),
    ("ops", &["tape", "tensor", "device"]),
    ("nn", &["ops", "tape", "tensor", "device"]),
    ("space", &["nn", "ops", "tape", "tensor", "device"]),
    ("data", &["tensor", "device"]),
    ("search", &["space", "data", "nn", "ops", "tape", "tensor", "device"]),
    ("train", &["space", "data", "nn", "ops", "tape", "tensor", "device"]),
    ("run", &["search", "train", "space", "data", "nn", "ops", "tape", "tensor", "device"]),
    ("bin", &["run", "search", "train", "space", "data", "nn", "ops", "tape", "tensor", "device"]),
];
/// What the CPU kernels are made of, and which do not use them; and who calls them.
const FOUNDATIONS: [&str; 6] = ["dual", "lean", "memory", "ranges", "real", "simd"];
const CALLERS: [&str; 2] = ["device/", "ops/"];
const SHARED: [&str; 4] = ["error", "suggest", "Error", "Result"];
/// Macros lie at the root of the crate, wherever they are written.
const MACROS: [(&str, &str); 3] = [("on_real", "tensor"), ("on_plain", "tensor"), ("on_kept", "tensor")];

const MOST_LINES: usize = 450;

/// Every source file by its path below `src`, those of the CPU kernels below `cpu`; without `tests.rs`, the unit tests
/// that have a file of their own.
fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let mut sources = BTreeMap::new();
    for (folder, below) in [("src", ""), ("cpu/src", "cpu/")] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files = vec![];
        walk(&root, &mut files);
        files.retain(|path| {
            path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs")
        });
        assert!(files.len() > 30, "sources not found");
        sources.extend(files.iter().map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            (format!("{below}{name}"), fs::read_to_string(path).unwrap())
        }));
    }
    sources
}

/// `text` without comments and, which stand last in a file, unit tests.
fn code(text: &str) -> String {
    let program = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let line = |line: &str| match line.find("//") {
        Some(at) if line[..at].matches('"').count().is_multiple_of(2) => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    program.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The first two names of each path into the crate: `use crate::tape::{Tape, Var}` gives `tape::Tape` and `tape::Var`.
fn uses(code: &str, root: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, _) in code.match_indices(root) {
        for (name, rest) in names(&code[at + root.len()..]) {
            match rest.strip_prefix("::") {
                Some(rest) => {
                    found.extend(names(rest).into_iter().map(|(second, _)| format!("{name}::{second}")))
                }
                None => found.push(name.to_owned()),
            }
        }
    }
    found
}

/// The names at the start of `text`, one or a list in braces, each with what follows it.
fn names(text: &str) -> Vec<(&str, &str)> {
    fn split(text: &str) -> (&str, &str) {
        text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
    }
    let Some(list) = text.strip_prefix('{') else { return vec![split(text)] };
    let (mut depth, mut start, mut all) = (0, 0, vec![]);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                all.push(split(list[start..].trim_start()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    all.retain(|(name, _)| !name.is_empty());
    all
}

/// What is wrong with the arrows of the file `path` with `text`.
fn wrong_arrows(path: &str, text: &str) -> Vec<String> {
    if let Some(path) = path.strip_prefix("cpu/") {
        return wrong_arrows_of_kernels(path, text);
    }
    if text.contains("oche_cpu") && !CALLERS.iter().any(|caller| path.starts_with(caller)) {
        return vec![format!("{path}: calls CPU kernels")];
    }
    let Some((layer, _)) = path.split_once('/') else { return vec![] }; // lib, error, suggest: see below
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{path}: {layer} is no layer of the plan")];
    };
    let code = code(text);
    let mut used = uses(&code, if layer == "bin" { "oche::" } else { "crate::" });
    if path.matches('/').count() == 1 && path.ends_with("/mod.rs") {
        used.extend(uses(&code, "super::")); // from here, `super` is the crate
    }
    let fits = |used: &String| {
        let first = used.split("::").next().unwrap_or_default();
        let first = MACROS.iter().find(|(name, _)| *name == first).map_or(first, |(_, home)| *home);
        first == layer || SHARED.contains(&first) || allowed.iter().any(|may| *may == first || may == used)
    };
    used.into_iter()
        .filter(|used| !fits(used))
        .map(|used| format!("{path}: {layer} may not use {used}"))
        .collect()
}

/// The same of a file of the CPU kernels.
fn wrong_arrows_of_kernels(path: &str, text: &str) -> Vec<String> {
    let of = |name: &str| FOUNDATIONS.contains(&name.split("::").next().unwrap_or_default());
    if !of(path.split(['/', '.']).next().unwrap_or_default()) {
        return vec![];
    }
    let code = code(text);
    let mut used = uses(&code, "crate::");
    if !path.contains('/') {
        used.extend(uses(&code, "super::"));
    }
    let module = |used: &String| used.starts_with(char::is_lowercase);
    used.into_iter()
        .filter(|used| module(used) && !of(used))
        .map(|used| format!("cpu/{path}: may not use {used}"))
        .collect()
}

#[test]
fn no_arrow_runs_up() {
    let wrong: Vec<String> = sources().iter().flat_map(|(path, text)| wrong_arrows(path, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for path in ["error.rs", "suggest.rs"] {
        assert_eq!(uses(&code(&sources()[path]), "crate::"), [""; 0], "{path} is used by all and uses none");
    }
}

#[test]
fn the_rule_sees_an_arrow_that_runs_up() {
    let wrong = |path, text| wrong_arrows(path, text).len();
    assert_eq!(wrong("tape/mod.rs", "use crate::ops::pointwise::{Add, Copy};\nuse crate::error::Result;"), 0);
    assert_eq!(wrong("tape/mod.rs", "use crate::ops::conv::Conv;"), 1);
    assert_eq!(wrong("tape/mod.rs", "use super::nn::Linear;"), 1);
    assert_eq!(wrong("tape/grad.rs", "use super::Tape;"), 0);
    assert_eq!(wrong("ops/conv.rs", "use crate::{Result, nn::{Linear, norm}, on_real, tape::Op};"), 2);
    assert_eq!(wrong("device/simd.rs", "fn f() { $crate::tensor::f() }\n// crate::run is fine here"), 1);
    assert_eq!(wrong("data/mod.rs", "use crate::space::Genotype;"), 1);
    assert_eq!(wrong("bin/search.rs", "use oche::{Error, Result};\nuse oche::run::cli;"), 0);
    assert_eq!(wrong("attic/mod.rs", ""), 1);
    assert_eq!(wrong("run/search.rs", "use oche_cpu::cell::Cell;"), 1);
    assert_eq!(wrong("cpu/simd/isa.rs", "use crate::lean::Lean;\nuse crate::cell::Cell;"), 1);
    assert_eq!(wrong("cpu/real.rs", "use super::simd::Vector;\nuse super::gemm;"), 1);
    assert_eq!(wrong("cpu/cell/mod.rs", "use crate::gemm::Packed;"), 0);
    assert_eq!(wrong("nn/mod.rs", "#[cfg(test)]\nmod tests { use crate::run::cli; }"), 0);
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for (path, text) in sources() {
        assert!(text.lines().count() <= MOST_LINES, "{path} has {} lines", text.lines().count());
        let first = text.lines().next().unwrap_or_default();
        let says = first.starts_with("//! ") || (path == "lib.rs" && first.starts_with("#![doc = "));
        assert!(says, "{path} does not start with its responsibility");
        assert!(!text.contains(concat!("TO", "DO")), "{path} has something left to do");
    }
}

#[test]
fn errors_are_returned() {
    for (path, text) in sources() {
        for (i, line) in code(&text).lines().enumerate() {
            let panics = line.contains(".unwrap()") || line.contains(".expect(");
            assert!(!panics, "{path}, line {}: {}", i + 1, line.trim());
        }
    }
}

/// One place for what the compiler cannot check about a GPU.
#[test]
fn the_cuda_driver_is_called_in_its_place() {
    for (path, text) in sources() {
        let ours = path.starts_with("device/cuda/");
        assert!(ours || !code(&text).contains("cudarc"), "{path} calls the driver");
    }
}

/// Numbers must not depend on environment or clock; what may look at them can be counted on one hand.
#[test]
fn environment_and_clock_are_read_in_their_places() {
    for (path, text) in sources() {
        let code = code(&text);
        let ours = ["device/profile.rs", "cpu/simd/isa.rs"].contains(&&path[..]) || path.starts_with("run/");
        assert!(ours || !code.contains("env::var"), "{path} reads the environment");
        let trace = path.starts_with("tape/") || path.starts_with("bin/");
        assert!(ours || trace || !code.contains("std::time"), "{path} reads the clock");
    }
}
