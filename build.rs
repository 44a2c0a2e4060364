//! Puts the kernels of the CUDA backend into the program: compiled where there is an nvcc, else the checked-in PTX.
//!
//! Needs no GPU. `scripts/prebuild` runs this same program to write `kernels/prebuilt`.

#[path = "kernels/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

const KERNELS: &str = "kernels";
const PREBUILT: &str = "kernels/prebuilt";

/// The GPU that the PTX, as it is for every GPU since this one, is tried on.
const OLDEST_GPU: &str = "-arch=sm_80";

/// Besides PTX there is machine code for Hopper, whose own instructions (`a`) PTX for all cannot hold.
const HOPPER: &str = "-gencode=arch=compute_90a,code=sm_90a";

/// The first nvcc that knows Hopper.
const OLDEST_NVCC: (u32, u32) = (12, 0);

/// Versions of the PTX language, lowest first. nvcc labels PTX with its own, which drivers older than nvcc refuse, so
/// each kernel gets the lowest that holds what it uses; 7.8 came with the first driver for Hopper.
const PTX_VERSIONS: [(u32, u32); 4] = [(7, 8), (8, 0), (8, 3), (8, 6)];

/// How many errors of one kernel are shown.
const MOST_ERRORS: usize = 5;

fn main() {
    if let Err(message) = run() {
        // makes cargo fail, and, unlike a status that is not 0, without a dump of all that this printed
        message.lines().for_each(|line| println!("cargo::error={line}"));
    }
}

fn run() -> Result<(), String> {
    watch();
    let out = variable("OUT_DIR").ok_or("OUT_DIR is not set; cargo or scripts/prebuild has to run this")?;
    let (folder, out) = (Path::new(KERNELS), out.as_path());
    let (kernels, hash) = (sources::kernels(folder)?, sources::hash(folder)?);
    write(&out.join("SOURCES.hash"), &format!("{hash}\n"))?;

    let (origin, kernels, cubin) = if let Some(nvcc) = Nvcc::find()? {
        compile_all(&nvcc, &kernels, out)?;
        (format!("nvcc {}", nvcc.version), &kernels[..], true)
    } else if prebuilt_is_of(&hash) {
        copy_prebuilt(&kernels, out)?;
        ("prebuilt PTX".to_owned(), &kernels[..], false)
    } else {
        println!(
            "cargo::warning=this build cannot use a GPU: no nvcc was found and {PREBUILT} is not of these kernels; \
             scripts/nvcc installs an nvcc below target"
        );
        ("none".to_owned(), &[][..], false)
    };
    write(&out.join("kernels.rs"), &table(&origin, &hash, kernels, cubin))
}

/// When cargo has to run this again. Not when PATH changes: an editor's differs from a terminal's, and each change
/// would compile the crate anew.
fn watch() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={KERNELS}");
    for variable in ["OCHE_NVCC", "CUDA_PATH", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
}

/// What src/device/cuda/images.rs includes; the files lie beside it.
fn table(origin: &str, hash: &str, kernels: &[String], cubin: bool) -> String {
    let mut table = format!("pub const ORIGIN: &str = {origin:?};\npub const HASH: &str = {hash:?};\n");
    table += "pub static IMAGES: &[Image] = &[\n";
    for name in kernels {
        let ptx = format!("concat!(include_str!(\"{name}.ptx\"), \"\\0\").as_bytes()");
        let cubin = if cubin { format!("Some(include_bytes!(\"{name}.cubin\"))") } else { "None".to_owned() };
        table += &format!("    Image {{ name: {name:?}, ptx: {ptx}, cubin: {cubin} }},\n");
    }
    table + "];\n"
}

fn prebuilt_is_of(hash: &str) -> bool {
    sources::read(&Path::new(PREBUILT).join("SOURCES.hash")).is_ok_and(|prebuilt| prebuilt.trim() == hash)
}

fn copy_prebuilt(kernels: &[String], out: &Path) -> Result<(), String> {
    for name in kernels.iter().map(|kernel| format!("{kernel}.ptx")) {
        write(&out.join(&name), &sources::read(&Path::new(PREBUILT).join(&name))?)?;
    }
    Ok(())
}

/// Compiles all `kernels`, as many at a time as cargo allows, and reports on all that fail.
fn compile_all(nvcc: &Nvcc, kernels: &[String], out: &Path) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut failures = vec![];
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            failures.extend(compile(nvcc, kernel, out).err());
        }
        failures
    };
    let mut failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs().min(kernels.len())).map(|_| scope.spawn(worker)).collect();
        let panicked = |_| vec!["compiling a kernel panicked".to_owned()];
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(panicked)).collect()
    });
    if failures.is_empty() {
        return Ok(());
    }
    failures.sort();
    let advice = "could not compile the kernels; OCHE_NVCC=none builds without it";
    failures.push(format!("nvcc {} {advice}", nvcc.version));
    Err(failures.join("\n"))
}

fn jobs() -> usize {
    let allowed = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok());
    allowed.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// Writes `kernel`.ptx and `kernel`.cubin to `out`.
fn compile(nvcc: &Nvcc, kernel: &str, out: &Path) -> Result<(), String> {
    let source = Path::new(KERNELS).join(format!("{kernel}.cu"));
    let flags = format!("--options-file={KERNELS}/{}", sources::FLAGS);
    let ptx = out.join(format!("{kernel}.ptx"));
    let target = format!("-arch={}", sources::PTX_TARGET);
    nvcc.run(&[&flags, "-ptx", &target], &source, &ptx)?;
    relabel(nvcc, &ptx)?;
    nvcc.run(&[&flags, "-cubin", HOPPER], &source, &out.join(format!("{kernel}.cubin")))
}

/// Labels the PTX in `file` with the lowest version that nvcc's assembler accepts for what it holds.
fn relabel(nvcc: &Nvcc, file: &Path) -> Result<(), String> {
    // hints for the assembler, and alone in what they need of it
    let hint = |line: &str| line.trim_start().starts_with(".pragma \"used_bytes_mask");
    let text: String = sources::read(file)?.split_inclusive('\n').filter(|line| !hint(line)).collect();
    let label = text.lines().find_map(|line| line.strip_prefix(".version "));
    let label = label.ok_or_else(|| format!("{} has no .version", file.display()))?;
    let own = number_pair(label);
    for (major, minor) in PTX_VERSIONS.into_iter().filter(|version| Some(*version) < own) {
        let lower = format!(".version {major}.{minor}");
        write(file, &text.replacen(&format!(".version {label}"), &lower, 1))?;
        if assemble(nvcc, file).is_ok() {
            return Ok(());
        }
    }
    write(file, &text)?;
    assemble(nvcc, file)
}

fn assemble(nvcc: &Nvcc, ptx: &Path) -> Result<(), String> {
    nvcc.run(&["-cubin", OLDEST_GPU], ptx, &ptx.with_extension("assembled"))
}

/// The compiler, and its version as in `13.0.88`.
struct Nvcc {
    program: PathBuf,
    version: String,
}

impl Nvcc {
    /// The one OCHE_NVCC names, nothing if that is `none`, else the first in the usual places that can be used.
    fn find() -> Result<Option<Nvcc>, String> {
        let nvcc = match variable("OCHE_NVCC") {
            Some(path) if path == Path::new("none") => None,
            Some(path) => Some(Nvcc::named(path)?),
            None => usual_folders().into_iter().find_map(|folder| Nvcc::found(&folder)),
        };
        if let Some(nvcc) = &nvcc {
            println!("cargo::rerun-if-changed={}", nvcc.program.display()); // it may be replaced or go
        }
        Ok(nvcc)
    }

    fn named(program: PathBuf) -> Result<Nvcc, String> {
        let name = program.display().to_string();
        if !program.is_file() {
            return Err(format!("OCHE_NVCC is {name}, which is no file; it takes the path of nvcc, or none"));
        }
        Nvcc::ask(program).map_err(|why| format!("OCHE_NVCC is {name}, which {why}"))
    }

    fn found(folder: &Path) -> Option<Nvcc> {
        let program = folder.join(format!("nvcc{}", env::consts::EXE_SUFFIX));
        if !program.is_file() {
            return None;
        }
        let name = program.display().to_string();
        // no reason to fail: there may be another, or the checked-in PTX
        Nvcc::ask(program).map_err(|why| println!("cargo::warning=passed over {name}, which {why}")).ok()
    }

    fn ask(program: PathBuf) -> Result<Nvcc, String> {
        let output = Command::new(&program).arg("--version").output();
        let output = output.map_err(|why| format!("cannot be run: {why}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // Cuda compilation tools, release 13.0, V13.0.88
        let version = text.split_whitespace().filter_map(|word| word.strip_prefix('V'));
        let Some((pair, version)) = version.filter_map(|word| Some((number_pair(word)?, word))).next() else {
            return Err("does not tell its version".to_owned());
        };
        if pair < OLDEST_NVCC {
            return Err(format!("is nvcc {version} and too old: 12.0 is needed"));
        }
        let version = version.to_owned();
        Ok(Nvcc { program, version })
    }

    fn run(&self, args: &[&str], input: &Path, output: &Path) -> Result<(), String> {
        let result = Command::new(&self.program).args(args).arg("-o").arg(output).arg(input).output();
        let result = result.map_err(|why| format!("cannot run {}: {why}", self.program.display()))?;
        let messages = String::from_utf8_lossy(&result.stderr);
        if result.status.success() { Ok(()) } else { Err(errors(input, &messages)) }
    }
}

/// Where an nvcc may lie, the best first.
fn usual_folders() -> Vec<PathBuf> {
    let toolkits = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(variable);
    let mut folders: Vec<PathBuf> = toolkits.map(|folder| folder.join("bin")).collect();
    folders.extend(variable("PATH").iter().flat_map(env::split_paths));
    folders.push("/usr/local/cuda/bin".into());
    // by scripts/nvcc; the wheels call their folder by the version of CUDA
    let wheels = fs::read_dir("target/nvcc/nvidia").into_iter().flatten().flatten();
    let mut wheels: Vec<PathBuf> = wheels.map(|entry| entry.path().join("bin")).collect();
    wheels.sort();
    folders.extend(wheels);
    folders
}

/// The first errors among nvcc's `messages` on `input`, each of which names file and line.
fn errors(input: &Path, messages: &str) -> String {
    let is_error = |line: &&str| line.contains("error") && !line.contains("detected in the compil");
    let mut errors: Vec<String> = messages.lines().filter(is_error).map(str::to_owned).collect();
    if errors.is_empty() {
        // no error in the kernel, but of nvcc itself, which names no file
        errors.push(format!("{}: {}", input.display(), messages.replace('\n', " ").trim()));
    }
    if errors.len() > MOST_ERRORS {
        let rest = errors.split_off(MOST_ERRORS).len();
        errors.push(format!("{}: and {rest} more", input.display()));
    }
    errors.join("\n")
}

/// The first two numbers of a version.
fn number_pair(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// A variable of the environment that is set and not empty.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|why| format!("cannot write {}: {why}", path.display()))
}
