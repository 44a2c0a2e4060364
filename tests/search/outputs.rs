//! What a search says and to whom: lines, a log, JSON, and TensorBoard's event file.

use super::*;
use oche::run::board::event::{Content, Event, SessionLog, Value as Item, What};
use std::collections::BTreeMap;

#[test]
fn json_is_the_rows_and_the_result_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ended = search(dir, &format!("{TINY} --epochs 2 --out run --json"));
    assert_eq!(ended.code, Some(0));
    let mut printed: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = printed.pop().unwrap();
    let metrics = rows(&dir.join("run"), "metrics.jsonl");
    assert_eq!(printed, metrics);
    assert_eq!(
        ended.out.lines().next(),
        fs::read_to_string(dir.join("run/metrics.jsonl")).unwrap().lines().next()
    );
    let genotype = fs::read_to_string(dir.join("run/genotype.txt")).unwrap();
    assert_eq!(result["kind"], "result");
    assert_eq!(result["folder"], "run");
    assert_eq!(result["genotype"], genotype.trim_end());
    for key in ["epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"] {
        assert_eq!(result[key], metrics.last().unwrap()[key], "{key}");
    }
    // the rest is for people
    for part in ["device    cpu", "epoch 2/2", "Genotype(", "everything lies in run"] {
        assert!(ended.err.contains(part), "no `{part}` in {}", ended.err);
    }
    // nothing is left but the result
    let resumed = search_well(dir, "--resume run --quiet");
    assert_eq!(serde_json::from_str::<Value>(&resumed.out).unwrap(), result);
    // a reader that has seen enough
    let script = format!("'{SEARCH}' {TINY} --epochs 1 --out other --json --quiet | head -n 1");
    let ended = run(assert_cmd::Command::new("sh").args(["-c", &script]).current_dir(dir));
    assert_eq!((ended.code, ended.err.as_str(), ended.out.lines().count()), (Some(0), "", 1));
    assert!(dir.join("other/genotype.txt").exists());
}

#[test]
fn the_log_has_what_was_printed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let log = || fs::read_to_string(dir.join("run/log.txt")).unwrap();
    let first = search_well(dir, &format!("{TINY} --epochs 2 --out run --max-steps 5"));
    assert_eq!(log(), first.out);
    let more = search_well(dir, "--resume run --max-steps 0");
    assert_eq!(log(), first.out.clone() + &more.out);
    assert!(!log().contains('\x1b'));
    // also when nothing is printed, and what went wrong
    fs::write(dir.join("run/checkpoint.safetensors"), "").unwrap();
    let ended = search(dir, "--resume run --quiet");
    assert_eq!(ended.code, Some(0));
    assert!(log().contains(ended.err.trim_end()) && log().matches("epoch 2/2").count() == 3, "{}", log());
    let ended = search(dir, &format!("{TINY} --epochs 2 --out bad --learning-rate 1e30 --quiet"));
    one_line(&ended, &["epoch 1, step 2"]);
    assert!(fs::read_to_string(dir.join("bad/log.txt")).unwrap().ends_with(&ended.err));
}

fn scalars(run: &Path) -> BTreeMap<String, Vec<(i64, f32)>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for event in events::read(&events::file(run)) {
        let Some(What::Summary(summary)) = event.what else { continue };
        for value in summary.value {
            if let Some(Content::Scalar(x)) = value.content {
                all.entry(value.tag).or_default().push((event.step, x));
            }
        }
    }
    all
}

#[test]
fn the_event_file_has_every_row_once() {
    let dir = tempfile::tempdir().unwrap();
    search_well(dir.path(), &format!("{TINY} --epochs 2 --out run"));
    let run = dir.path().join("run");
    let (found, metrics) = (scalars(&run), rows(&run, "metrics.jsonl"));
    let of = |kind: &str, key: &str| -> Vec<f32> {
        metrics
            .iter()
            .filter(|row| row["kind"] == kind)
            .map(|row| row[key].as_f64().unwrap() as f32)
            .collect()
    };
    for (kind, keys) in [
        ("step", &["train_loss", "train_accuracy", "valid_loss", "seconds"][..]),
        ("epoch", &["learning_rate", "train_loss", "valid_loss", "valid_accuracy", "peak_bytes", "seconds"]),
    ] {
        for key in keys {
            let wanted: Vec<(i64, f32)> = (0..).zip(of(kind, key)).collect();
            assert_eq!(found[&format!("{kind}/{key}")], wanted, "{kind}/{key}");
        }
    }
    for (key, count) in
        [("entropy/normal", 2), ("skip_connections/reduce", 2), ("weight_normal/sep_conv_3x3", 2)]
    {
        assert_eq!(found[key].len(), count, "{key}");
    }
    let all: f32 =
        found.iter().filter(|(tag, _)| tag.starts_with("weight_normal/")).map(|(_, of)| of[1].1).sum();
    assert!((all - 1.0).abs() < 1e-5, "means of softmaxes add up to 1: {all}");
    let events = events::read(&events::file(&run));
    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
    assert!(events.iter().is_sorted_by_key(|event| event.wall_time));
    // turned off
    search_well(dir.path(), &format!("{TINY} --epochs 1 --out without --tensorboard=false"));
    assert!(
        !listing(&dir.path().join("without"))
            .iter()
            .any(|(path, ..)| path.to_string_lossy().contains("tfevents"))
    );
}

#[test]
fn a_run_gone_on_with_has_one_event_file_as_if_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = format!("{TINY} --epochs 6");
    search_well(dir, &format!("{flags} --out whole"));
    let whole = events::essence(&dir.join("whole"));
    assert_eq!(whole.len(), 6 * (4 * 3 + 5 + 2 + 2 * (2 * 8 + 1) + 1));
    search_well(dir, &format!("{flags} --out limited --max-steps 6"));
    search_well(dir, "--resume limited --max-steps 0");
    assert!(events::essence(&dir.join("limited")) == whole);
    for (lines, signal) in [(3, "-KILL"), (13, "-INT")] {
        let out = format!("run{lines}");
        stopped(dir, &format!("{flags} --out {out} --checkpoint-steps 3"), &out, lines, signal)
            .expect("stopped");
        let file = events::file(&dir.join(&out));
        assert!(events::read(&file).len() > lines, "readable while it is stopped");
        // a power cut may leave a part of a record
        let mut bytes = fs::read(&file).unwrap();
        bytes.truncate(bytes.len() - 3);
        fs::write(&file, bytes).unwrap();
        search_well(dir, &format!("--resume {out}"));
        assert!(!file.exists());
        assert!(events::essence(&dir.join(&out)) == whole, "{out}");
    }
    // from the rows alone, as for a run of an older version
    fs::remove_file(events::file(&dir.join("whole"))).unwrap();
    let ended = run(assert_cmd::Command::new(INSPECT).args(["tensorboard", "whole"]).current_dir(dir));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(dir.join(ended.out.trim_end()), events::file(&dir.join("whole")));
    assert!(events::essence(&dir.join("whole")) == whole);
    let ended = run(assert_cmd::Command::new(INSPECT).args(["tensorboard", "."]).current_dir(dir));
    one_line(&ended, &["is no run folder", "config.toml"]);
}

// Written by the package tensorboard 2.20.
const FILE_VERSION: &str =
    "1a00000000000000129bd82d09000000000000f83f10031a0d627261696e2e4576656e743a32e3c0b95c";
const SESSION_LOG: &str = "0f000000000000006d532b0909000000000000f83f10033a020801ec8612fc";
const SCALAR: &str = "1a00000000000000129bd82d09000000000000f83f10032a0d0a0b0a046c6f7373150000803ed054b255";
const HISTOGRAM: &str = "7500000000000000d7d9417809000000000000f83f10032a680a660a01682a61097b14ae47e17a843f11a4703d\
    0ad7a3c03f19000000000000084021a4703d0ad7a3d03f293255302aa913a03f32189a9999999999a93f9a9999\
    999999b93f333333333333c33f3a18000000000000f03f000000000000000000000000000000405cf077e3";
const TEXT: &str = "2b00000000000000861bc34b09000000000000f83f10032a1e0a1c0a0174420b08071200420561202a622a4a0a\
    0a060a04746578742002252ee731";

#[test]
fn events_are_the_bytes_that_tensorflow_writes() {
    let hex = |event: &Event| {
        let mut record = vec![];
        event.record(&mut record);
        record.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let event = |what| Event { wall_time: 1.5, step: 3, what: Some(what) };
    let summary = |value: Item| event(What::Summary(oche::run::board::event::Summary { value: vec![value] }));
    for (event, written) in [
        (event(What::FileVersion("brain.Event:2".into())), FILE_VERSION),
        (event(What::SessionLog(SessionLog { status: 1 })), SESSION_LOG),
        (summary(Item::scalar("loss", 0.25)), SCALAR),
        (summary(Item::histogram("h", &[0.01, 0.12, 0.13])), HISTOGRAM),
        (summary(Item::text("t", "a *b*")), TEXT),
    ] {
        assert_eq!(hex(&event), written);
    }
}

#[test]
fn the_zoo_is_a_json_object_a_cell() {
    let script = format!("'{INSPECT}' zoo --json");
    let ended = run(assert_cmd::Command::new("sh").args(["-c", &script]));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let cells: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cells.len(), 13);
    let darts = cells.iter().find(|cell| cell["name"] == "DARTS_V2").unwrap();
    assert_eq!(darts["cifar10"]["parameters"], 3_349_342);
    assert!(darts["imagenet"]["multiply_adds"].as_u64().unwrap() > 500_000_000, "{darts}");
    let head = run(assert_cmd::Command::new("sh").args(["-c", &format!("{script} | head -n 1")]));
    assert_eq!((head.err.as_str(), head.out.lines().count()), ("", 1));
}

#[test]
fn sizes_that_no_network_has_are_mistakes_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let inspect =
        |flags: &str| run(assert_cmd::Command::new(INSPECT).args(flags.split_whitespace()).current_dir(&dir));
    for command in ["genotype DARTS_V2", "supernet", "bench --device cpu"] {
        for (flags, parts) in [
            ("--channels 99999999998", &["--channels: is 99999999998", "from 2 to 4096"][..]),
            ("--channels 3", &["--channels: 3 channels cannot be split"]),
            ("--cells 0", &["--cells: is 0", "from 1 to 1000"]),
            ("--cells 100000000000", &["--cells", "from 1 to 1000"]),
            ("--image-size 0", &["--image-size: is 0", "from 8 to 512"]),
            ("--image-size 1000000", &["--image-size: is 1000000", "from 8 to 512"]),
            ("--image-size 30", &["--image-size: 30 pixels cannot be halved", "28"]),
            ("--channels 4096 --cells 1000", &["--channels: is 4096", "smaller sizes"]),
        ] {
            one_line(&inspect(&format!("{command} {flags}")), parts);
        }
    }
    for (flags, parts) in [
        ("genotype DARTS_V2 --classes 18446744073709551615", &["--classes", "from 1 to 1000000"][..]),
        ("supernet --classes 18446744073709551615", &["--classes", "from 1 to 1000000"]),
        ("supernet --nodes 100", &["--nodes: is 100", "from 1 to 16"]),
        ("supernet --batch-size 1", &["--batch-size: is 1,", "from 2 to 1048576"]),
        ("supernet --batch-size 1000000000000", &["--batch-size", "from 2 to 1048576"]),
        ("supernet --batch-size 1048576 --image-size 512 --channels 256", &["--channels", "smaller sizes"]),
        ("supernet --train-images 18446744073709551615", &["--train-images"]),
        ("supernet --memory-budget 9XB", &["--memory-budget", "\"9XB\" is no size"]),
        ("bench --nodes 100 --device cpu", &["--nodes", "from 1 to 16"]),
        ("bench --batch 1000000000000 --device cpu", &["--batch:", "from 2 to 1048576"]),
        ("zoo --batch-size 999999999999999", &["--batch-size", "from 1 to 1048576"]),
        ("zoo --batch-size 0 --json", &["--batch-size", "from 1 to 1048576"]),
        ("evaluate nothing --batch-size 1000000000000", &["--batch-size", "from 1 to 1048576"]),
    ] {
        let ended = inspect(flags);
        one_line(&ended, parts);
        assert_eq!(ended.out, "", "{flags}");
    }
}

#[test]
fn a_budget_that_no_order_keeps_is_a_failure_with_its_rows() {
    let flags = "supernet --channels 2 --cells 3 --nodes 1 --image-size 8 --train-images 100 --memory-budget";
    let inspect =
        |budget: &str| run(assert_cmd::Command::new(INSPECT).args(flags.split_whitespace()).arg(budget));
    let none = inspect("1MB");
    assert_eq!((none.code, none.err.as_str()), (Some(1), ""));
    for order in ["first", "second", "exact"] {
        let row = none.out.lines().find(|line| line.starts_with(order)).unwrap();
        assert!(row.contains("the budget is 1.0 MB, but batches of 64 need at least"), "{row}");
    }
    let all = inspect("1GB");
    assert_eq!((all.code, all.err.as_str()), (Some(0), ""));
    assert!(!all.out.contains("the budget"), "{}", all.out);
}

/// How `inspect` ends whose output goes `to` somewhere.
fn inspect_into(dir: &Path, flags: &str, to: impl Into<Stdio>) -> Ended {
    let mut command = Command::new(INSPECT);
    command.args(flags.split_whitespace()).current_dir(dir).env_remove("OCHE_DEBUG").stdout(to);
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ended { code: output.status.code(), out: String::new(), err }
}

#[test]
fn a_reader_that_went_away_is_no_mistake_and_a_full_disk_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    search_well(dir, &format!("{TINY} --epochs 1 --out run"));
    let bench = "bench --device cpu --quick --parts steps --orders first";
    for flags in [
        "genotype DARTS_V2",
        "supernet --channels 2 --cells 3 --nodes 1 --image-size 8",
        "device",
        "cases --device cpu --filter relu",
        "report run",
        "tensorboard run",
        "compare run run",
        "evaluate run --logits out.safetensors",
        "export run --weights out.safetensors",
        bench,
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = inspect_into(dir, flags, writer);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{flags}");
        if cfg!(target_os = "linux") {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            one_line(&inspect_into(dir, flags, full), &["cannot write to standard output: "]);
        }
    }
    // what was asked for besides is done all the same
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    fs::remove_file(dir.join("out.safetensors")).unwrap();
    assert_eq!(inspect_into(dir, "evaluate run --logits out.safetensors", writer).code, Some(0));
    assert!(dir.join("out.safetensors").exists());
}
