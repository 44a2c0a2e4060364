//! What a search leaves: every file, readable, and the same for the same seed.

use super::*;
use oche::run::config::{Configuration, SearchConfig};
use oche::run::safetensors_read;
use oche::space::genotype;
use std::collections::BTreeSet;

fn keys(row: &Value) -> BTreeSet<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_search_leaves_every_file_of_the_run_folder() {
    let dir = tempfile::tempdir().unwrap();
    let ended = search_well(dir.path(), &format!("{TINY} --epochs 2 --nodes 2").replace("--nodes 1 ", ""));
    let run = fs::read_dir(dir.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("search-synthetic-2"), "{name}");
    let event_file = events::file(&run).file_name().unwrap().to_owned();
    let mut files: Vec<_> = fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.retain(|file| *file != event_file);
    files.sort();
    assert_eq!(
        files,
        [
            "alphas.jsonl",
            "checkpoint.previous.safetensors",
            "checkpoint.safetensors",
            "config.toml",
            "genotype.json",
            "genotype.txt",
            "log.txt",
            "metrics.jsonl",
            "normal.svg",
            "reduce.svg",
            "report.html"
        ]
    );
    for part in ["device", "2 epochs", "epoch 1/2", "epoch 2/2", "Genotype(normal=", "parameters", name] {
        assert!(ended.out.contains(part), "no `{part}` in {}", ended.out);
    }
    check_metrics(&rows(&run, "metrics.jsonl"));
    check_alphas(&rows(&run, "alphas.jsonl"));
    let json = genotype::read(&run.join("genotype.json")).unwrap();
    assert_eq!(genotype::read(&run.join("genotype.txt")).unwrap(), json);
    assert!(ended.out.contains(&json.to_string()));
    for svg in ["normal.svg", "reduce.svg"] {
        let text = fs::read_to_string(run.join(svg)).unwrap();
        assert_eq!(roxmltree::Document::parse(&text).unwrap().root_element().tag_name().name(), "svg");
    }
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains(&format!("<h1>{name}</h1>")) && report.contains("2 of 2"), "{name}");
    let config = SearchConfig::from_file(&run.join("config.toml")).unwrap();
    assert_eq!((config.space.nodes, config.space.channels, config.search.epochs), (2, 2, 2));
    assert_eq!(fs::read_to_string(run.join("config.toml")).unwrap(), config.to_toml());
}

fn check_metrics(metrics: &[Value]) {
    assert_eq!(metrics.len(), 2 * (4 + 1));
    for (i, row) in metrics.iter().enumerate() {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert_eq!(row["epoch"], i / 5);
        assert!(number("seconds") > 0. && number("train_loss") > 0. && number("valid_loss") > 0., "{row}");
        assert!((0. ..=100.).contains(&number("train_accuracy")), "{row}");
        if i % 5 < 4 {
            assert_eq!((&row["kind"], &row["step"]), (&"step".into(), &(i % 5).into()));
            let wanted = ["kind", "epoch", "step", "train_loss", "train_accuracy", "valid_loss", "seconds"];
            assert_eq!(keys(row), wanted.into());
        } else {
            assert_eq!(row["kind"], "epoch");
            let wanted = [
                "kind",
                "epoch",
                "learning_rate",
                "train_loss",
                "train_accuracy",
                "valid_loss",
                "valid_accuracy",
                "seconds",
                "peak_bytes",
                "peak_rss_bytes",
                "entropy",
            ];
            assert_eq!(keys(row), wanted.into());
            assert!(number("peak_rss_bytes") > number("peak_bytes"));
            assert!(number("peak_bytes") > 1e4 && number("learning_rate") <= 0.025);
            for kind in ["normal", "reduce"] {
                let entropies = row["entropy"][kind].as_array().unwrap();
                assert_eq!(entropies.len(), 2 + 3);
                let near_uniform = |e: &Value| (e.as_f64().unwrap() - 8f64.ln()).abs() < 0.01;
                assert!(entropies.iter().all(near_uniform), "{row}");
            }
        }
    }
}

fn check_alphas(alphas: &[Value]) {
    assert_eq!(alphas.len(), 2);
    for (epoch, row) in alphas.iter().enumerate() {
        assert_eq!(row["epoch"], epoch);
        for kind in ["normal", "reduce"] {
            let edges = row[kind].as_array().unwrap();
            assert_eq!(edges.len(), 5);
            for edge in edges {
                let edge: Vec<f64> = edge.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
                assert_eq!(edge.len(), 8);
                assert!((edge.iter().sum::<f64>() - 1.).abs() < 1e-6, "{edge:?}");
            }
        }
    }
}

#[test]
fn the_checkpoint_has_the_published_names() {
    let dir = tempfile::tempdir().unwrap();
    search_well(dir.path(), &format!("{TINY} --epochs 1 --out run --quiet"));
    let (tensors, _) = safetensors_read(&dir.path().join("run/checkpoint.safetensors")).unwrap();
    for (name, shape) in [
        ("stem.0.weight", &[6, 3, 3, 3][..]),
        ("stem.1.weight", &[6]),
        ("stem.1.running_mean", &[6]),
        ("stem.1.num_batches_tracked", &[]),
        ("cells.0.preprocess0.op.1.weight", &[2, 6, 1, 1]),
        ("cells.0._ops.0._ops.4.op.1.weight", &[2, 1, 3, 3]),
        ("cells.0._ops.0._ops.4.op.3.running_var", &[2]),
        ("classifier.weight", &[10, 8]),
        ("classifier.bias", &[10]),
        ("alphas_normal", &[2, 8]),
        ("alphas_reduce", &[2, 8]),
    ] {
        let found = tensors.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(found.1.shape().dims(), shape, "{name}");
    }
}

#[test]
fn one_seed_is_one_search_whatever_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    for (out, more) in
        [("a", ""), ("b", ""), ("one", "--threads 1"), ("two", "--threads 2"), ("seed", "--seed 7")]
    {
        search_well(dir.path(), &format!("{TINY} --order second --epochs 2 --out {out} {more}"));
    }
    for other in ["b", "one", "two"] {
        assert_same(&dir.path().join("a"), &dir.path().join(other));
    }
    assert!(essence(&dir.path().join("a")) != essence(&dir.path().join("seed")));
}

#[test]
fn every_odd_size_runs() {
    let dir = tempfile::tempdir().unwrap();
    for (i, flags) in [
        // a last batch of one image, of which normalisation sees four values
        "--train-images 18 --batch-size 4 --cells 3",
        "--train-images 10 --batch-size 64 --cells 3",
        "--train-images 18 --train-portion 0.12 --batch-size 4 --order exact --cells 2",
        "--train-images 18 --train-portion 0.9 --batch-size 4 --order second --cells 1",
        "--train-images 18 --candidates skip_connect --cells 4 --cutout 4 --stem-multiplier 1",
        "--train-images 18 --candidates conv_7x1_1x7,none,sep_conv_7x7 --cells 2 --flip=false",
    ]
    .into_iter()
    .enumerate()
    {
        let flags = format!("--channels 2 --nodes 1 --image-size 8 --epochs 2 --quiet --out run{i} {flags}");
        search_well(dir.path(), &flags);
    }
}

#[test]
fn a_reader_that_goes_away_does_not_stop_a_search() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("'{SEARCH}' {TINY} --epochs 1 --out run | head -n 1; '{SEARCH}' --print-config | head -n 1");
    let ended = run(assert_cmd::Command::new("sh").args(["-c", &script]).current_dir(dir.path()));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert_eq!(ended.out.lines().count(), 2, "{}", ended.out);
    assert!(dir.path().join("run/genotype.txt").exists());
}

#[test]
fn a_printed_configuration_is_one_to_run_with() {
    let dir = tempfile::tempdir().unwrap();
    let printed = search_well(dir.path(), &format!("{TINY} --method darts2 --epochs 1 --print-config")).out;
    fs::write(dir.path().join("mine.toml"), &printed).unwrap();
    search_well(dir.path(), "--config mine.toml --out run --quiet");
    let stored = fs::read_to_string(dir.path().join("run/config.toml")).unwrap();
    assert_eq!(
        stored,
        printed.replace("out = \"\"", "out = \"run\"").replace("quiet = false", "quiet = true")
    );
}

#[test]
fn cells_that_cannot_be_fused_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let flags = format!("{TINY} --epochs 1 --max-steps 1 --candidates skip_connect,conv_7x1_1x7");
    let said = search_well(dir.path(), &flags).out;
    assert!(said.contains("; not fused, for conv_7x1_1x7\n"), "{said}");
    let said = search_well(dir.path(), &format!("{flags} --fusion off")).out;
    assert!(!said.contains("not fused"), "{said}");
}
