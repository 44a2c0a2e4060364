//! The `search` program on the emulated device, as its users run it.

use oche::run::config::SearchConfig;
use oche::run::search::SearchRun;
use std::fs;
use std::path::Path;
use std::process::Output;

/// 3 steps of 16 and one of 8 images an epoch, both kinds of cells, every candidate.
const TINY: &str = "--device cuda --train-images 112 --channels 2 --cells 3 --nodes 1 --image-size 8 --batch-size 16 --crop-padding 1 --epochs 2";

/// A folder with the emulated driver under the name by which programs look for one.
pub fn driver() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(oche_emulated_driver::path(), dir.path().join("libcuda.so")).unwrap();
    dir
}

fn search(driver: &Path, dir: &Path, flags: &str) -> Output {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_search"));
    command.env("LD_LIBRARY_PATH", driver).env_remove("OCHE_DEBUG").current_dir(dir);
    command.args(flags.split_whitespace()).output().unwrap()
}

fn checkpoint(dir: &Path, run: &str) -> Vec<u8> {
    fs::read(dir.join(run).join("checkpoint.safetensors")).unwrap()
}

#[test]
fn emulated_searches_are_the_same_in_one_go_resumed_and_without_graphs() {
    let (driver, dir) = (driver(), tempfile::tempdir().unwrap());
    let (driver, dir) = (driver.path(), dir.path());
    let run = |flags: &str| {
        let ended = search(driver, dir, flags);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ended.status.success(), "{flags}\n{}{}", text(&ended.stdout), text(&ended.stderr));
        text(&ended.stdout)
    };
    let said = run(&format!("{TINY} --out whole"));
    assert!(said.contains("device    cuda:0 ") && said.contains("Genotype("), "{said}");
    run(&format!("{TINY} --out single --no-graph"));
    assert!(checkpoint(dir, "whole") == checkpoint(dir, "single"), "graphs change the numbers");
    run(&format!("{TINY} --out parts --max-steps 3"));
    run("--resume parts --max-steps 0");
    assert!(checkpoint(dir, "whole") == checkpoint(dir, "parts"), "resuming changes the numbers");
    // an auto run takes the device, and what it leaves the CPU can go on with
    let said = run(&format!("{} --out moved --max-steps 3", TINY.replace("--device cuda", "--device auto")));
    assert!(said.contains("device    cuda:0 ") && said.contains("(auto)"), "{said}");
    let said = run("--resume moved --max-steps 0 --device cpu");
    assert!(said.contains("device    cpu"), "{said}");
    assert_eq!(checkpoint(dir, "moved").len(), checkpoint(dir, "whole").len());
}

#[test]
fn emulated_searches_say_in_one_line_what_a_device_lacks() {
    let (driver, dir) = (driver(), tempfile::tempdir().unwrap());
    let mistake = |flags: &str, parts: &[&str]| {
        let ended = search(driver.path(), dir.path(), flags);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && said.lines().count() == 1, "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    mistake("--device cuda:7", &["error: device: there is no device 7", "cuda:0"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a mistake leaves nothing behind");
}

#[test]
fn emulated_searches_name_a_batch_that_fits_the_memory() {
    let (_, _turn) = super::device();
    let dir = tempfile::tempdir().unwrap();
    let mut config = SearchConfig::default();
    (config.space.channels, config.space.cells, config.space.nodes) = (16, 3, 1);
    (config.data.train_images, config.search.batch_size) = (2048, 1024);
    (config.run.device, config.run.out, config.run.quiet) = ("cuda".into(), dir.path().join("run"), true);
    // the first image of the stem alone takes 201 MB
    oche_emulated_driver::set("memory", 230 << 20);
    let said = SearchRun::start(config.clone()).and_then(SearchRun::run).unwrap_err().to_string();
    oche_emulated_driver::reset();
    let parts = ["device: out of memory: 201 MB asked for", "--batch-size ", " would fit", "--memory-budget"];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    let batch: usize =
        said.split("--batch-size ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((2..1024).contains(&batch), "{said}");
}
