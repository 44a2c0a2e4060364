//! Compiles the emulated driver and every kernel with the C++ compiler into one `libcuda.so`.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{env, fs, thread};

/// Warnings of the compiler are shown, but for three that are about nothing that goes wrong.
const FLAGS: [&str; 13] = [
    "-std=c++20",
    "-O2",
    "-g1", // a fault names its line
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off", // the same numbers on every processor
    "-U_FORTIFY_SOURCE", // its longjmp does not know of fibres
    "-DOCHE_EMULATED",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-Wno-sign-compare",
    "-Wno-unused-parameter",
];

/// For kernels: an array's bounds and the alignment of what a pointer reaches are looked at, as a GPU looks at the latter.
const CHECKS: &str = "-fsanitize=alignment,bounds";

struct Unit {
    source: PathBuf,
    object: PathBuf,
}

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    // without dots, for the compiler's messages
    let kernels = here.join("../../kernels").canonicalize().expect("no folder of kernels");
    let folders = [kernels, here.join("kernels_for_tests"), here.join("emulator")];
    for folder in &folders {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    for variable in ["CXX", "CXXFLAGS"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }

    let mut flags: Vec<String> = FLAGS.map(String::from).to_vec();
    flags.extend(folders.iter().map(|folder| format!("-I{}", folder.display())));
    let compiler = || {
        let tool = cc::Build::new().cpp(true).no_default_flags(true).cargo_metadata(false).get_compiler();
        let mut command = tool.to_command();
        command.args(&flags);
        command
    };

    let files: Vec<PathBuf> = folders.iter().flat_map(|folder| files_in(folder)).collect();
    let (sources, headers): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| has_extension(file, &["cu", "cpp"]));
    let units: Vec<Unit> =
        sources.into_iter().map(|source| Unit { object: object_for(&source, &out), source }).collect();

    // an object is older than the flags or was made with them
    let stamp = out.join("flags");
    let wanted = format!("{:?} {CHECKS}", compiler());
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        fs::write(&stamp, wanted).unwrap();
    }
    let newest_common = headers.iter().chain([&stamp]).map(|file| changed(file)).max().flatten();

    let stale: Vec<&Unit> = units
        .iter()
        .filter(|unit| changed(&unit.object) < changed(&unit.source).max(newest_common))
        .collect();
    compile_all(&stale, compiler);

    let library = out.join("libcuda.so");
    let mut link = compiler();
    link.args(["-shared", "-Wl,-soname,libcuda.so", "-Wl,-z,defs", "-o"]).arg(&library);
    link.args(units.iter().map(|unit| &unit.object)).args(["-pthread", "-ldl"]);
    run(link);
    println!("cargo::rustc-env=OCHE_EMULATED_DRIVER={}", library.display());
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| has_extension(file, &["cu", "cuh", "cpp", "hpp"]));
    files.sort();
    files
}

fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    file.extension().is_some_and(|its| extensions.iter().any(|extension| its == *extension))
}

/// Files of the same name in two folders have an object each.
fn object_for(source: &Path, out: &Path) -> PathBuf {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    out.join(format!("{}.{}.o", name(source.parent().unwrap()), name(source)))
}

/// `None`, which is before any time, if there is no such file.
fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|data| data.modified()).ok()
}

fn compile_all(units: &[&Unit], compiler: impl Fn() -> Command + Sync) {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..units.len().min(jobs) {
            scope.spawn(|| {
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut command = compiler();
                    if has_extension(&unit.source, &["cu"]) {
                        command.arg(CHECKS);
                    }
                    command.args(["-x", "c++", "-c", "-o"]).arg(&unit.object).arg(&unit.source);
                    run(command);
                }
            });
        }
    });
}

/// Ends the build with the compiler's words if it fails, and shows them if it warns.
fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| {
        eprintln!(
            "cannot run {:?} ({error}): install g++, or name a C++ compiler in CXX",
            command.get_program()
        );
        exit(1);
    });
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{words}");
        exit(1);
    }
    for line in words.lines() {
        println!("cargo::warning={line}");
    }
}
