//! Mistakes in flags, files of settings and folders: one line, a status that is not 0, no file touched.

use super::*;
use oche::device::simd::Isa;

#[test]
fn flags() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (flags, parts) in [
        ("--chanels 4", &["--chanels", "--channels"][..]),
        ("--channels", &["--channels", "value"]),
        ("--channels x", &["--channels", "whole number", "\"x\""]),
        ("--channels 3", &["space.channels", "3 channels cannot be split"]),
        ("--channels 0", &["space.channels", "cannot be split"]),
        ("--image-size 30", &["data.image_size", "30 pixels cannot be halved twice", "28"]),
        ("--image-size 4", &["data.image_size", "8 to 512"]),
        ("--candidates sep_conv_3x3,foo", &["space.candidates", "\"foo\"", "sep_conv_5x5"]),
        ("--candidates none", &["space.candidates", "besides none"]),
        ("--nodes 0", &["space.nodes", "1 to 16"]),
        ("--epochs -1", &["--epochs", "must not be negative"]),
        ("--batch-size 1", &["search.batch_size", "from 2"]),
        ("--train-images 9", &["data.train_images", "from 10 to 1000000"]),
        ("--train-portion 1", &["data.train_portion", "between 0 and 1"]),
        ("--learning-rate nan", &["weights.learning_rate"]),
        ("--order third", &["--order", "first, second, exact"]),
        ("--method darts3", &["darts3", "darts1", "darts2"]),
        ("--method darts1 --order exact", &["--method", "leave one of the two out"]),
        ("--memory-budget 9XB", &["run.memory_budget", "\"9XB\" is no size", "900MB"]),
        ("--memory-budget 1MB", &["run.memory_budget: is 1.0 MB", "need at least", "batches of 32"]),
        (
            "--channels 4096 --cells 20 --image-size 64 --train-images 100",
            &["memory: would take", "this machine has", "not even batches of 2"],
        ),
        ("--device cuda", &["device: there is no CUDA driver", "--device cpu"]),
        ("--data cifar", &["data.name", "cifar10"]),
        ("--data cifar10", &["data.dir", "--data-dir"]),
        ("--data-dir .", &["data.dir", "synthetic", "--data"]),
        ("more", &["more", "--help"]),
        ("--resume run --out other", &["--resume", "--out"]),
    ] {
        mistake(dir, flags, parts);
    }
}

#[test]
fn files_of_settings() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (text, parts) in [
        (
            "[space]\nchannels = 4\nchanels = 3\n",
            &["mine.toml, line 3", "space.chanels", "space.channels"][..],
        ),
        ("[space]\n\nchannels = \"4\"\n", &["mine.toml, line 3", "space.channels", "whole number"]),
        ("[search]\nseed = 1\norder = \"third\"\n", &["mine.toml, line 3", "search.order", "third"]),
        ("seed = 1\n", &["mine.toml, line 1", "seed"]),
        ("\n[spaces]\nchannels = 4\n", &["mine.toml, line 2", "[space]"]),
        ("[space\n", &["mine.toml, line 1", "not TOML"]),
        ("[space]\nchannels = 3\n", &["mine.toml, line 2: space.channels", "cannot be split"]),
    ] {
        fs::write(dir.join("mine.toml"), text).unwrap();
        mistake(dir, "--config mine.toml", parts);
    }
    mistake(dir, "--config none.toml", &["none.toml", "cannot read"]);
}

#[test]
fn variables_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    for (variable, value, parts) in [
        ("OCHE_SIMD", "avx3", &["OCHE_SIMD", "\"avx3\"", "plain, avx2 or avx512"][..]),
        ("OCHE_SIMD", "AVX2", &["OCHE_SIMD", "\"AVX2\"", "plain, avx2 or avx512"]),
        ("OCHE_DEBUG", "x", &["OCHE_DEBUG", "\"x\"", "0 to 4"]),
        ("OCHE_DEBUG", "9", &["OCHE_DEBUG", "\"9\"", "0 to 4"]),
        ("OCHE_DEBUG", "-1", &["OCHE_DEBUG", "\"-1\"", "0 to 4"]),
    ] {
        for (program, flags) in [(SEARCH, TINY), (INSPECT, "genotype DARTS_V2")] {
            let command = &mut assert_cmd::Command::new(program);
            command.args(flags.split_whitespace()).current_dir(dir.path());
            one_line(&ended(command.env_remove("OCHE_DEBUG").env(variable, value)), parts);
        }
    }
    assert_eq!(listing(dir.path()), []);
    // what is set to nothing is not set
    let command = &mut assert_cmd::Command::new(INSPECT);
    let told = ended(command.args(["genotype", "DARTS_V2"]).env("OCHE_SIMD", "").env("OCHE_DEBUG", ""));
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
}

#[test]
fn an_instruction_set_that_the_machine_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let Some(lacking) = ["avx2", "avx512"].into_iter().nth(Isa::available().len() - 1) else {
        println!("skipped: this machine has all");
        return;
    };
    let command = &mut assert_cmd::Command::new(SEARCH);
    let command = command.args(TINY.split_whitespace()).current_dir(dir.path()).env("OCHE_SIMD", lacking);
    one_line(&run(command), &["OCHE_SIMD", lacking, "does not have", "plain"]);
}

#[test]
fn folders() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    mistake(dir, "--resume nowhere", &["--resume", "nowhere", "not the folder of a run"]);
    fs::create_dir(dir.join("taken")).unwrap();
    mistake(dir, "--resume taken", &["--resume", "taken", "not the folder of a run"]);
    fs::write(dir.join("taken/notes.txt"), "mine").unwrap();
    mistake(dir, &format!("{TINY} --out taken"), &["folder taken is not empty"]);
    mistake(dir, &format!("{TINY} --out taken/notes.txt/run"), &["cannot write taken/notes.txt/run"]);
    fs::write(dir.join("taken/config.toml"), "").unwrap();
    mistake(dir, "--resume taken", &["taken", "no checkpoint"]);
}

#[test]
fn a_folder_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    mistake(dir.path(), &format!("{TINY} --out closed/run"), &["cannot write closed/run", "writable"]);
    mistake(dir.path(), &format!("{TINY} --out closed"), &["cannot write closed/config.toml", "writable"]);
}

#[test]
fn a_loss_that_is_no_number_names_its_step_and_with_debug_its_operation() {
    let dir = tempfile::tempdir().unwrap();
    let flags = format!("{TINY} --learning-rate 1e30");
    one_line(
        &search(dir.path(), &format!("{flags} --out a")),
        &["epoch 1, step 2", "loss became NaN", "OCHE_DEBUG=4", "learning rate"],
    );
    // the folder stays readable: what was before that step
    assert_eq!(rows(&dir.path().join("a"), "metrics.jsonl").len(), 1);
    let command = &mut assert_cmd::Command::new(SEARCH);
    let command = command.args(format!("{flags} --out b").split_whitespace()).current_dir(dir.path());
    let output = command.env("OCHE_DEBUG", "4").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    let last = err.lines().last().unwrap();
    assert!(last.starts_with("error: epoch 1, step 2: operation relu_conv_norm"), "{last}");
    // after the last step only the validation can see it
    one_line(
        &search(dir.path(), &format!("{flags} --max-steps 1 --out c")),
        &["epoch 1, validation after step 1", "loss became NaN"],
    );
}
