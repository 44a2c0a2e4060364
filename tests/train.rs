//! The `train` program as its users run it: run folder, repeatability, stops and resumes, mistakes.
#![cfg(unix)] // stops are signals

#[path = "common/events.rs"]
mod events;
#[path = "train/objective.rs"]
mod objective;
#[path = "common/program.rs"]
mod program;

use oche::device::simd::multiplies_bf16;
use oche::run::safetensors_read;
use oche::space::{genotype, zoo};
use program::{Ended, listing, one_line, rows, run, stopped};
use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

const TRAIN: &str = env!("CARGO_BIN_EXE_train");

/// A few milliseconds a step: 4 steps an epoch, both kinds of cells, dropped paths, 12 test images.
const TINY: &str = "--genotype DARTS_V2 --train-images 60 --channels 2 --cells 3 --image-size 8 --batch-size 16 \
                    --crop-padding 1 --cutout 2 --drop-path 0.4 --auxiliary-weight 0";

fn train(dir: &Path, flags: &str) -> Ended {
    run(assert_cmd::Command::new(TRAIN).args(flags.split_whitespace()).current_dir(dir))
}

/// Runs `train` in `dir` to its end, which has to be a success without a word on stderr.
fn train_well(dir: &Path, flags: &str) -> Ended {
    let ended = train(dir, flags);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{flags}\n{}", ended.out);
    ended
}

/// What must not depend on when and where a run took place.
fn essence(run: &Path) -> (Vec<Value>, Vec<Vec<u8>>) {
    let mut metrics = rows(run, "metrics.jsonl");
    for row in &mut metrics {
        let row = row.as_object_mut().unwrap();
        row.remove("seconds").unwrap();
        row.remove("peak_bytes");
        row.remove("peak_rss_bytes");
    }
    let files = ["checkpoint.safetensors", "best.safetensors", "genotype.json", "genotype.txt", "normal.svg"];
    (metrics, files.iter().map(|file| fs::read(run.join(file)).unwrap()).collect())
}

fn assert_same(a: &Path, b: &Path) {
    let ((rows_a, files_a), (rows_b, files_b)) = (essence(a), essence(b));
    assert_eq!(rows_a, rows_b, "{} and {}", a.display(), b.display());
    assert!(files_a == files_b, "files of {} and {} differ", a.display(), b.display());
    assert!(
        events::essence(a) == events::essence(b),
        "event files of {} and {} differ",
        a.display(),
        b.display()
    );
}

#[test]
fn a_training_leaves_every_file_of_the_run_folder() {
    let dir = tempfile::tempdir().unwrap();
    let flags = TINY.replace("--image-size 8", "--image-size 32").replace("--auxiliary-weight 0", "");
    let ended = train_well(dir.path(), &format!("{flags} --epochs 2 --label-smoothing 0.1"));
    let run = fs::read_dir(dir.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("train-DARTS_V2-synthetic-2"), "{name}");
    let mut files: Vec<_> =
        fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|file| !events::file(&run).ends_with(file));
    files.sort();
    let wanted = "best.safetensors checkpoint.previous.safetensors checkpoint.safetensors config.toml \
                  genotype.json genotype.txt log.txt metrics.jsonl normal.svg reduce.svg";
    assert_eq!(files.join(" "), wanted);
    let said = ["60 images to train, 12 to test", "DARTS_V2", "auxiliary head included", "drop path to 0.4"];
    for part in said.into_iter().chain(["label smoothing 0.1", "epoch 2/2", "top-5", "best test", name]) {
        assert!(ended.out.contains(part), "no `{part}` in {}", ended.out);
    }
    assert_eq!(genotype::read(&run.join("genotype.json")).unwrap(), zoo::named("DARTS_V2").unwrap());
    let metrics = rows(&run, "metrics.jsonl");
    assert_eq!(metrics.len(), 2 * (4 + 1));
    for (i, row) in metrics.iter().enumerate() {
        assert_eq!(row["epoch"], i / 5);
        let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        if i % 5 < 4 {
            assert_eq!((&row["kind"], &row["step"]), (&"step".into(), &(i % 5).into()));
            assert_eq!(keys.len(), 6, "{row}");
            continue;
        }
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert_eq!((&row["kind"], keys.len()), (&"epoch".into(), 13));
        assert!((number("drop_path") - 0.2 * (i / 5) as f64).abs() < 1e-12);
        assert!(
            number("test_top5") >= number("test_accuracy")
                && number("train_top5") >= number("train_accuracy")
        );
        assert!(number("test_loss") > 0. && number("peak_bytes") > 1e4 && number("learning_rate") <= 0.025);
    }
    let (tensors, _) = safetensors_read(&run.join("best.safetensors")).unwrap();
    for (name, shape) in [
        ("cells.0._ops.0.op.1.weight", &[2, 1, 3, 3][..]),
        ("auxiliary_head.features.6.running_var", &[768]),
        ("auxiliary_head.classifier.weight", &[10, 768]),
        ("optimizer.momentum_buffer.stem.0.weight", &[6, 3, 3, 3]),
        ("classifier.bias", &[10]),
    ] {
        let found = tensors.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(found.1.shape().dims(), shape, "{name}");
    }
}

#[test]
fn stopped_and_resumed_is_the_same_as_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = format!("{TINY} --epochs 6");
    train_well(dir, &format!("{flags} --out whole"));
    for (i, threads) in ["--threads 1", "--threads 2"].into_iter().enumerate() {
        train_well(dir, &format!("{flags} --out again{i} {threads}"));
        assert_same(&dir.join("whole"), &dir.join(format!("again{i}")));
    }
    for limit in [3, 8] {
        let out = format!("run{limit}");
        train_well(dir, &format!("{flags} --out {out} --max-steps {limit}"));
        let ended = train_well(dir, &format!("--resume {out} --max-steps 0"));
        assert!(ended.out.contains("resumed in epoch"), "{}", ended.out);
        assert_same(&dir.join("whole"), &dir.join(&out));
    }
    for (lines, every) in [(2, 0), (12, 3)] {
        let out = format!("killed{lines}");
        let flags = format!("{flags} --out {out} --checkpoint-steps {every}");
        let (status, _) = stopped(TRAIN, dir, &flags, (&out, lines), "-KILL").expect("killed in the middle");
        assert_eq!(status.signal(), Some(9));
        train_well(dir, &format!("--resume {out}"));
        assert_same(&dir.join("whole"), &dir.join(&out));
    }
    if multiplies_bf16() {
        let flags = flags.replace("--channels 2", "--channels 8") + " --device cpu";
        train_well(dir, &format!("{flags} --out exact"));
        let flags = format!("{flags} --precision bf16");
        train_well(dir, &format!("{flags} --out bf16 --threads 1"));
        train_well(dir, &format!("{flags} --out bf16-limited --max-steps 8"));
        train_well(dir, "--resume bf16-limited --max-steps 0");
        assert_same(&dir.join("bf16"), &dir.join("bf16-limited"));
        assert!(essence(&dir.join("bf16")) != essence(&dir.join("exact")));
    }
    let flags = format!("{flags} --out left");
    let (status, said) = stopped(TRAIN, dir, &flags, ("left", 7), "-INT").expect("stopped in the middle");
    assert_eq!(status.code(), Some(130));
    assert!(said.ends_with(&format!("go on with: {TRAIN} --resume left\n")), "{said}");
    train_well(dir, "--resume left");
    assert_same(&dir.join("whole"), &dir.join("left"));
}

#[test]
fn the_best_checkpoint_is_that_of_the_epoch_with_the_best_test() {
    let dir = tempfile::tempdir().unwrap();
    train_well(dir.path(), &format!("{TINY} --epochs 5 --out run --quiet"));
    let run = dir.path().join("run");
    let metrics = rows(&run, "metrics.jsonl");
    let tests: Vec<f64> = metrics.iter().filter_map(|row| row["test_accuracy"].as_f64()).collect();
    let best = (0..tests.len()).fold(0, |best, i| if tests[i] > tests[best] { i } else { best });
    let state = |file: &str| -> Value {
        let (_, metadata) = safetensors_read(&run.join(file)).unwrap();
        serde_json::from_str::<Value>(&metadata["oche"]).unwrap()["state"].clone()
    };
    assert_eq!(state("best.safetensors")["position"]["epoch"], best + 1);
    assert_eq!(state("checkpoint.safetensors")["position"]["best"]["epoch"], best);
    assert_eq!(tests.len(), 5);
}

#[test]
fn the_newest_search_is_trained_when_nothing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let flags = TINY.replace("--genotype DARTS_V2", "--epochs 1");
    let said = train_well(dir.path(), &format!("{flags} --out first")).out;
    assert!(said.contains("cells     DARTS_V2"), "{said}");
    for (name, cell) in [("search-a-1", "PDARTS"), ("train-b-2", "NASNet"), ("search-c-3", "GDAS_V1")] {
        let folder = dir.path().join("runs").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("genotype.json"), zoo::named(cell).unwrap().to_json()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let said = train_well(dir.path(), &format!("{flags} --out second")).out;
    assert!(said.contains("cells     runs/search-c-3"), "{said}");
    let trained = genotype::read(&dir.path().join("second/genotype.json")).unwrap();
    assert_eq!(trained, zoo::named("GDAS_V1").unwrap());
    // the run goes on with its own cells, whatever became of the search
    fs::remove_dir_all(dir.path().join("runs")).unwrap();
    train_well(dir.path(), "--resume second");
}

#[test]
fn a_part_held_back_is_tested_on_instead() {
    let dir = tempfile::tempdir().unwrap();
    let said = train_well(dir.path(), &format!("{TINY} --epochs 1 --valid-portion 0.25 --out run")).out;
    assert!(said.contains("45 images to train, 15 to test"), "{said}");
}

#[test]
fn the_network_for_large_images_trains() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--genotype DARTS_V2 --network imagenet --image-size 32 --channels 2 --cells 3 --train-images 10 \
                 --batch-size 5 --epochs 1 --auxiliary-weight 0 --schedule step --warmup-epochs 1 --out run";
    train_well(dir.path(), flags);
    let (tensors, _) = safetensors_read(&dir.path().join("run/checkpoint.safetensors")).unwrap();
    assert!(tensors.iter().any(|(name, _)| name == "stem0.3.weight"));
}

/// Of files of any size, in one go and stopped, on one thread and on two; and of images of one size.
#[test]
fn resized_crops_are_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (i, class) in ["cat", "dog"].iter().cycle().take(12).enumerate() {
        let folder = dir.join("set").join(if i < 8 { "train" } else { "val" }).join(class);
        fs::create_dir_all(&folder).unwrap();
        let pixel = |x: u32, y: u32| image::Rgb([(x * 9) as u8, (y * 7) as u8, 20 * i as u8]);
        let size = [10 + 5 * i as u32, 40 - 2 * i as u32];
        image::RgbImage::from_fn(size[0], size[1], pixel).save(folder.join(format!("{i}.png"))).unwrap();
    }
    let flags = "--genotype DARTS_V2 --channels 2 --cells 2 --image-size 8 --batch-size 4 --auxiliary-weight 0 \
                 --augment imagenet --crop-padding 0 --data folder --data-dir set --epochs 2";
    let said = train_well(dir, &format!("{flags} --out whole --threads 1")).out;
    assert!(said.contains("8 images to train, 4 to test, of 8 x 8 x 3, 2 classes"), "{said}");
    assert!(said.contains("crops of 0.08 to 1 resized, colours by 0.4, hue by 0.2"), "{said}");
    train_well(dir, &format!("{flags} --out run --threads 2 --max-steps 3"));
    train_well(dir, "--resume run --max-steps 0");
    assert_same(&dir.join("whole"), &dir.join("run"));
    train_well(dir, &format!("{flags} --out other --crop-area 0.5"));
    assert_ne!(essence(&dir.join("whole")).0, essence(&dir.join("other")).0);
    let held = flags.replace("--data folder --data-dir set", "--train-images 20 --valid-portion 0.2");
    let said = train_well(dir, &format!("{held} --out drawn")).out;
    assert!(said.contains("16 images to train, 4 to test"), "{said}");
}

#[test]
fn recipes_are_the_published_ones() {
    let dir = tempfile::tempdir().unwrap();
    let printed = |flags: &str| train_well(dir.path(), &format!("{flags} --print-config")).out;
    for (flags, parts) in [
        (
            "--recipe cifar",
            &["channels = 36\n", "cells = 20\n", "epochs = 600\n", "batch_size = 96\n", "cutout = 16\n"][..],
        ),
        ("--recipe cifar", &["drop_path = 0.2\n", "weight_decay = 0.0003\n", "learning_rate_min = 0.0\n"]),
        ("--recipe cifar --epochs 100", &["epochs = 100\n", "auxiliary_weight = 0.4\n"]),
        (
            "--recipe imagenet",
            &["channels = 48\n", "cells = 14\n", "label_smoothing = 0.1\n", "schedule = \"step\"\n"],
        ),
        (
            "--recipe imagenet",
            &["weight_decay = 0.00003\n", "learning_rate = 0.1\n", "gamma = 0.97\n", "epochs = 250\n"],
        ),
        (
            "--recipe imagenet",
            &[
                "augment = \"imagenet\"\n",
                "crop_padding = 0\n",
                "crop_area = 0.08\n",
                "jitter = 0.4\n",
                "hue = 0.2\n",
            ],
        ),
    ] {
        let text = printed(flags);
        for part in parts {
            assert!(
                text.contains(part) || text.contains(&part.replace("0.00003", "3e-5")),
                "{flags}: no {part} in {text}"
            );
        }
    }
    fs::write(dir.path().join("mine.toml"), printed("--recipe cifar")).unwrap();
    assert_eq!(printed("--config mine.toml"), printed("--recipe cifar"));
}

#[test]
fn mistakes_are_one_sentence_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("cell.txt"), "Genotype(normal=[('sep_conv3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[('none', 0), ('none', 1)], reduce_concat=[2])").unwrap();
    fs::write(dir.join("late.json"), r#"{"normal": [["none", 0], ["none", 2]], "normal_concat": [2], "reduce": [["none", 0], ["none", 1]], "reduce_concat": [2]}"#).unwrap();
    fs::create_dir_all(dir.join("set/cat")).unwrap();
    fs::create_dir_all(dir.join("set/dog")).unwrap();
    for class in ["cat", "dog"] {
        image::RgbImage::new(8, 8).save(dir.join("set").join(class).join("1.png")).unwrap();
    }
    fs::write(dir.join("search.toml"), "[alpha]\nlearning_rate = 0.1\n").unwrap();
    fs::write(dir.join("mine.toml"), "[train]\nepochs = 3\nschedule = \"stpe\"\n").unwrap();
    for (flags, parts) in [
        (
            "--genotype DARTSV2",
            &["no published genotype is called \"DARTSV2\"", "did you mean DARTS_V2?"][..],
        ),
        ("--genotype cell.txt", &["cell.txt", "unknown operation", "did you mean sep_conv_3x3?"]),
        ("--genotype late.json", &["late.json", "second gene of node 0 reads state 2, which comes later"]),
        ("--genotype none.json", &["cannot read none.json"]),
        ("--genotype set", &["set: holds no genotype.json"]),
        (
            "--image-size 16",
            &[
                "data.image_size",
                "16 x 16",
                "needs 8 x 8 at its place",
                "at least 32",
                "--auxiliary-weight 0",
            ],
        ),
        ("--image-size 30", &["data.image_size", "30 x 30 pixels cannot be halved twice", "multiple of 4"]),
        (
            "--recipe imagenet --image-size 48",
            &["48 x 48 pixels cannot be halved five times", "multiple of 32"],
        ),
        ("--recipe imagenet --image-size 192", &["needs 7 x 7 at its place", "at least 224"]),
        ("--recipe imagenet --crop-padding 4", &["data.crop_padding", "is 4", "--crop-padding 0"]),
        ("--augment imagnet", &["data.augment", "did you mean imagenet?"]),
        ("--augment imagenet --crop-padding 0 --crop-area 0", &["data.crop_area", "above 0 and at most 1"]),
        ("--hue 0.6", &["data.hue", "from 0 to 0.5"]),
        ("--hue 0.1", &["--hue", "no effect with --augment cifar", "--augment imagenet"]),
        ("--gamma 0.9", &["--gamma", "no effect with --schedule cosine", "--schedule step"]),
        ("--jitter -0.1", &["data.jitter", "from 0 to 1"]),
        ("--recipe cifer", &["cifer", "cifar"]),
        ("--recipe cifar --resume x", &["--recipe", "--resume"]),
        ("--channels 3", &["network.channels", "3 channels cannot be split"]),
        ("--drop-path 1", &["train.drop_path", "below 1"]),
        ("--label-smoothing -1", &["train.label_smoothing", "at least 0"]),
        ("--schedule linear", &["train.schedule", "use one of cosine, step"]),
        ("--valid-portion 0.99 --train-images 60", &["data.valid_portion", "leaves 1 of 60 images"]),
        ("--data folder --data-dir set", &["data.valid_portion", "no test images", "0.1"]),
        ("--config mine.toml", &["mine.toml, line 3: train.schedule", "did you mean step?"]),
        ("--config search.toml", &["search.toml: has the settings of `search`", "give it to that program"]),
        ("--device cuda:99", &["device: "]),
        ("--precision bf8 --device cpu", &["run.precision", "\"bf8\" is not known"]),
        ("--chanels 4", &["--chanels", "--channels"]),
        ("--resume nowhere", &["nowhere is not the folder of a run"]),
    ] {
        let before = listing(dir);
        let ended = train(dir, flags);
        one_line(&ended, parts);
        assert_eq!(listing(dir), before, "files changed: {flags}");
        assert_eq!(ended.out, "", "{flags}");
    }
    train_well(dir, &format!("{TINY} --epochs 2 --max-steps 2 --out run"));
    one_line(
        &train(dir, "--resume run --channels 4 --genotype PDARTS"),
        &[
            "another configuration",
            "network.genotype is DARTS_V2 there and PDARTS here",
            "network.channels is 2 there",
        ],
    );
}

#[test]
fn json_is_the_rows_and_the_result_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let ended = train(dir.path(), &format!("{TINY} --epochs 2 --out run --json"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let mut printed: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = printed.pop().unwrap();
    let metrics = rows(&dir.path().join("run"), "metrics.jsonl");
    assert_eq!(printed, metrics);
    let accuracy = |row: &Value| row["test_accuracy"].as_f64().unwrap();
    let tests: Vec<&Value> = metrics.iter().filter(|row| row["kind"] == "epoch").collect();
    let best = if accuracy(tests[1]) > accuracy(tests[0]) { tests[1] } else { tests[0] };
    for key in ["epoch", "test_accuracy", "test_top5"] {
        assert_eq!(result["best"][key], best[key], "{key}");
        assert_eq!(result["last"][key], tests[1][key], "{key}");
    }
    assert_eq!((&result["kind"], &result["folder"]), (&"result".into(), &"run".into()));
    assert_eq!(result["genotype"], zoo::named("DARTS_V2").unwrap().to_string());
    assert_eq!(fs::read_to_string(dir.path().join("run/log.txt")).unwrap(), ended.err);
    let quiet = train(dir.path(), &format!("{TINY} --epochs 1 --max-steps 1 --out none --json --quiet"));
    assert_eq!((quiet.err.as_str(), quiet.out.lines().count()), ("", 3));
    let result: Value = serde_json::from_str(quiet.out.lines().last().unwrap()).unwrap();
    assert!(result["best"].is_null(), "{result}");
}
