//! `inspect device`, `cases` and `bench` as their users run them, on the emulated device and without one.
#![cfg(target_os = "linux")] // as the emulated driver

use oche::device::simd::multiplies_bf16;
use std::fs;
use std::path::Path;
use std::process::Output;

/// A folder with the emulated driver under the name by which programs look for one.
fn driver() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(oche_emulated_driver::path(), dir.path().join("libcuda.so")).unwrap();
    dir
}

fn inspect(driver: Option<&Path>, flags: &str) -> Output {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_inspect"));
    command.env_remove("OCHE_DEBUG").args(flags.split_whitespace());
    match driver {
        Some(folder) => command.env("LD_LIBRARY_PATH", folder),
        // hides real devices too
        None => command.env("CUDA_VISIBLE_DEVICES", ""),
    };
    command.output().unwrap()
}

fn succeeds(driver: Option<&Path>, flags: &str) -> String {
    let ended = inspect(driver, flags);
    let (said, complained) =
        (String::from_utf8(ended.stdout).unwrap(), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{flags}\n{said}{complained}");
    said
}

fn fails(driver: Option<&Path>, flags: &str, parts: &[&str]) {
    let ended = inspect(driver, flags);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.lines().count() == 1, "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn emulated_devices_are_reported_and_so_is_that_there_is_none() {
    let driver = driver();
    let said = succeeds(Some(driver.path()), "device --require");
    for part in
        ["driver          CUDA 12.4", "cuda:0          Emulated GPU, compute capability 9.0, ", " free)"]
    {
        assert!(said.contains(part), "{said}");
    }
    let said = succeeds(None, "device");
    assert!(said.lines().any(|line| line.starts_with("cpu             ")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("cuda            ")), "{said}");
    fails(None, "device --require", &["error: device: ", "CUDA"]);
}

#[test]
fn emulated_cases_are_compared_by_name() {
    let driver = driver();
    let said = succeeds(Some(driver.path()), "cases --filter relu");
    assert!(said.contains("order 2: largest error ") && said.contains(" cases, 0 failed"), "{said}");
    fails(Some(driver.path()), "cases --filter nothing", &["--filter", "\"nothing\""]);
    fails(None, "cases", &["error: device: "]);
}

#[test]
fn emulated_benches_measure_every_part() {
    let (driver, dir) = (driver(), tempfile::tempdir().unwrap());
    let out = dir.path().join("bench.json");
    let flags = format!("bench --device cuda --quick --orders first --out {}", out.display());
    let said = succeeds(Some(driver.path()), &flags);
    let all: serde_json::Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    let rows = |part: &str| all[part].as_array().unwrap().clone();
    for rate in rows("rates") {
        assert!(rate["per_second"].as_f64() > Some(0.0), "{rate}");
    }
    for row in rows("kernels") {
        assert!(row["seconds"].as_f64() > Some(0.0) && row["uncaptured"].is_null(), "{row}");
    }
    for row in rows("steps") {
        assert!(row["median"].as_f64() > Some(0.0) && row["launches"].as_u64() > Some(0), "{row}");
    }
    let kind = |row: &serde_json::Value| {
        ["type", "mode"].map(|key| row[key].as_str().unwrap_or_default().to_owned()).join(" ")
    };
    let kinds: Vec<String> = rows("steps").iter().map(kind).collect();
    assert_eq!(kinds, ["f32 eager", "f32 graph", "bf16 eager", "bf16 graph"]);
    assert!(said.contains("a search step, C = 2, 3 cells"), "{said}");
    fails(Some(driver.path()), "bench --batch 1", &["--batch", "from 2 to"]);
}

#[test]
fn a_processors_steps_are_measured_in_bf16_or_the_row_says_why_not() {
    let flags = "bench --device cpu --quick --parts steps --orders first --precision bf16";
    let row = |flags: &str| {
        let said = succeeds(None, flags);
        said.lines().find(|line| line.starts_with("first")).map(str::to_owned).expect(&said)
    };
    let off = row(&format!("{flags} --fusion off"));
    assert!(off.contains("not measured: run.precision: bf16") && off.contains("take f32"), "{off}");
    let on = row(flags);
    let here = multiplies_bf16();
    assert_eq!(!on.contains("not measured: run.precision: bf16 needs"), here, "{on}");
    assert!(here == (on.split_whitespace().filter(|word| word.parse::<f64>().is_ok()).count() > 3), "{on}");
}
