//! Networks go to other programs and come back: weights under the published names, against PyTorch's numbers; ONNX.
#![cfg(unix)] // as the other tests of programs

#[path = "exchange/files.rs"]
mod files;
#[path = "exchange/onnx.rs"]
mod onnx;
#[allow(dead_code)] // other tests stop programs
#[path = "common/program.rs"]
mod program;

use files::{Stored, golden, rewrite};
use oche::nn::{Context, NormMode, RunningStats};
use oche::run::checkpoint::Checkpoint;
use oche::run::image_order::channels_last;
use oche::run::loaded::{Found, Loaded, NetworkArgs};
use oche::run::safetensors_read;
use oche::run::state_dict::{self, StateDict};
use oche::search::{Hyper, Searcher};
use oche::space::cnn::{CnnConfig, CnnSupernet};
use oche::space::network::{Network, NetworkConfig};
use oche::space::{Space, genotype, zoo};
use oche::tape::{ParamSet, Tape};
use oche::tensor::{DType, Tensor};
use oche::train::{Hits, Pass};
use program::{Ended, listing, one_line, rows, run};
use std::fs;
use std::path::{Path, PathBuf};

const TRAIN: &str = env!("CARGO_BIN_EXE_train");
const SEARCH: &str = env!("CARGO_BIN_EXE_search");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");
const NAMES: [&str; 2] = ["cifar", "imagenet"];

fn tool(program: &str, dir: &Path, flags: &str) -> Ended {
    run(assert_cmd::Command::new(program).args(flags.split_whitespace()).current_dir(dir))
}

fn well(program: &str, dir: &Path, flags: &str) -> String {
    let ended = tool(program, dir, flags);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{flags}\n{}", ended.out);
    ended.out
}

/// The network of PyTorch's weights in the file at `source`.
fn found(source: PathBuf, name: &str) -> oche::Result<Box<Found>> {
    let genotype = Some(golden(&format!("{name}.json")).display().to_string());
    match (NetworkArgs { source, last: false, genotype }).load()? {
        Loaded::Found(found) => Ok(found),
        Loaded::Supernet(_) => panic!("not a search"),
    }
}

fn tensor(name: &str, file: &Path) -> Tensor {
    let (tensors, _) = safetensors_read(file).unwrap();
    tensors.into_iter().find(|(n, _)| n == name).unwrap().1
}

/// Images and labels of a golden file, for a network in `F32`.
fn batch(file: &Path) -> oche::data::loader::Batch {
    let images = channels_last(&tensor("images", file), DType::F32).unwrap();
    let labels = Tensor::zeros([images.shape().dims()[0]], DType::U32);
    oche::data::loader::Batch { images, labels }
}

fn logits(found: &mut Found, file: &Path) -> Tensor {
    Pass::evaluate(&found.network, &found.weights, &batch(file), &mut found.running).unwrap().logits
}

/// That logits are those of PyTorch to a part in 10^5 of the largest.
fn assert_close(ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.shape(), theirs.shape());
    let (ours, theirs) = (ours.to_f64(), theirs.to_f64());
    let largest = theirs.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= tolerance * largest, "{a} and {b} of {largest}");
    }
}

#[test]
fn weights_of_pytorch_give_its_logits_and_go_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    for name in NAMES {
        let (weights, answers) =
            (golden(&format!("{name}.safetensors")), golden(&format!("{name}.logits.safetensors")));
        let mut found = found(weights.clone(), name).unwrap();
        assert_close(&logits(&mut found, &answers), &tensor("logits", &answers), 1e-5);
        let again = dir.path().join("again.safetensors");
        state_dict::write(&again, &found.weights, &found.running).unwrap();
        assert_eq!(Stored::read(&again), Stored::read(&weights), "{name}");
    }
}

#[test]
fn the_auxiliary_head_gives_the_logits_of_pytorch() {
    let dir = tempfile::tempdir().unwrap();
    let [zeros, weights] = ["zeros", "weights"].map(|name| dir.path().join(format!("{name}.safetensors")));
    for (name, config, pixels) in
        [("cifar", NetworkConfig::default(), 32), ("imagenet", NetworkConfig::imagenet(), 224)]
    {
        let config = NetworkConfig { channels: 2, cells: 3, classes: 4, auxiliary: true, ..config };
        let net = Network::new(&genotype::read(&golden(&format!("{name}.json"))).unwrap(), config).unwrap();
        let empty = ParamSet::zeros(net.layout(), DType::F32);
        state_dict::write(&zeros, &empty, &RunningStats::new(net.norms(), DType::F32)).unwrap();
        rewrite(&zeros, &weights, |all| files::fill(all));
        let mut found = found(weights.clone(), name).unwrap();
        assert_eq!(found.config, config);

        let count = 3 * pixels * pixels;
        let pixel = |(i, x): (usize, f64)| ((x - 0.5) * if i < count { 1.0 } else { 3.0 }) as f32;
        let images: Vec<f32> = files::spread("images", 2 * count).enumerate().map(pixel).collect();
        let images = Tensor::from_slice([2, 3, pixels, pixels], &images).unwrap();
        let mut tape = Tape::inference();
        let images = tape.constant(channels_last(&images, DType::F32).unwrap());
        let (mode, bound) = (NormMode::Running, found.weights.bind(&mut tape, false));
        let running = &mut found.running;
        let mut cx = Context { tape: &mut tape, weights: &bound, mode, fused: true, running };
        let (logits, auxiliary) = found.network.forward_training(&mut cx, images, None).unwrap();
        let answers = golden(&format!("{name}.auxiliary.safetensors"));
        assert_close(tape.value(logits), &tensor("logits", &answers), 1e-5);
        assert_close(tape.value(auxiliary.unwrap()), &tensor("auxiliary", &answers), 1e-5);
    }
}

#[test]
fn supernets_of_pytorch_do_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (weights, answers) = (golden("search.safetensors"), golden("search.logits.safetensors"));
    let config =
        CnnConfig { channels: 2, cells: 3, space: Space::darts(2), classes: 4, ..CnnConfig::default() };
    for fused in [true, false] {
        let net = CnnSupernet::new(&CnnConfig { fused, ..config.clone() }).unwrap();
        let mut searcher = Searcher::new(Box::new(net), Hyper::default(), 0, DType::F32).unwrap();
        let dict = StateDict::read(&weights).unwrap();
        dict.put_into(&mut searcher.weights, &mut searcher.running).unwrap();
        searcher.alphas = ["normal", "reduce"].map(|k| tensor(&format!("alphas_{k}"), &answers)).to_vec();
        let pass = searcher.evaluate(&batch(&answers)).unwrap();
        assert_close(&pass.logits, &tensor("logits", &answers), 1e-5);
        let again = dir.path().join("again.safetensors");
        state_dict::write(&again, &searcher.weights, &searcher.running).unwrap();
        assert_eq!(Stored::read(&again), Stored::read(&weights));
    }
}

#[test]
fn names_of_data_parallel_old_files_and_other_precisions_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (weights, answers) = (golden("cifar.safetensors"), golden("cifar.logits.safetensors"));
    let theirs = tensor("logits", &answers);
    let file = dir.path().join("other.safetensors");
    let check = |tolerance: f64, batches: u64| {
        let mut found = found(file.clone(), "cifar").unwrap();
        assert_close(&logits(&mut found, &answers), &theirs, tolerance);
        assert_eq!(found.running.batches, batches);
    };
    rewrite(&weights, &file, |all| all.iter_mut().for_each(|t| t.name.insert_str(0, "module.")));
    check(1e-5, 7);
    rewrite(&weights, &file, |all| all.retain(|t| !t.name.ends_with("num_batches_tracked")));
    check(1e-5, 0);
    for (dtype, tolerance) in [("F64", 1e-5), ("F16", 1e-2), ("BF16", 1e-1)] {
        rewrite(&weights, &file, |all| all.iter_mut().for_each(|t| t.convert(dtype)));
        check(tolerance, 7);
    }
}

#[test]
fn weights_that_do_not_fit_say_what_does_not_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other.safetensors");
    let weights = golden("cifar.safetensors");
    let mut network = found(weights.clone(), "cifar").unwrap();
    let refusal = |network: &mut Found, change: &dyn Fn(&mut Vec<files::Entry>)| {
        rewrite(&weights, &file, change);
        let before = (network.weights.flat.to_f64(), network.running.get(0)[0].to_f64());
        let dict = StateDict::read(&file).unwrap();
        let message = dict.put_into(&mut network.weights, &mut network.running).unwrap_err().to_string();
        assert_eq!((network.weights.flat.to_f64(), network.running.get(0)[0].to_f64()), before);
        assert!(message.contains("other.safetensors: weights of another network: "), "{message}");
        assert!(!message.contains('\n') && message.len() < 450, "{message}");
        message
    };
    let message = refusal(&mut network, &|all| all.retain(|t| !t.name.starts_with("cells.1.")));
    assert!(message.contains(" names are missing (cells.1.preprocess0"), "{message}");
    let message = refusal(&mut network, &|all| all.retain(|t| t.name != "classifier.bias"));
    assert!(message.contains(": 1 name is missing (classifier.bias);"), "{message}");
    let message = refusal(&mut network, &|all| {
        let mut more = all[0].clone();
        more.name = "head.weight".into();
        all.push(more);
    });
    assert!(message.contains(": 1 name is unexpected (head.weight);"), "{message}");
    let message = refusal(&mut network, &|all| {
        let of = all.iter_mut().find(|t| t.name == "classifier.weight").unwrap();
        of.shape.reverse();
    });
    assert!(
        message.contains("1 name is of another shape (classifier.weight is (24, 4) there and (4, 24) here)"),
        "{message}"
    );
}

/// A training of a few steps that leaves its best checkpoint.
const TINY: &str = "--genotype GDAS_V1 --train-images 20 --channels 2 --cells 3 --image-size 8 --batch-size 10 --epochs 1 \
                    --crop-padding 1 --auxiliary-weight 0 --device cpu --quiet";

#[test]
fn a_run_is_exported_evaluated_and_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    well(TRAIN, dir, &format!("{TINY} --out run"));
    well(INSPECT, dir, "export run --weights w.safetensors");
    // the state_dict and nothing else
    let (file, checkpoint) =
        (Stored::read(&dir.join("w.safetensors")), Stored::read(&dir.join("run/best.safetensors")));
    let of_network = |name: &String| !name.starts_with("optimizer.");
    assert_eq!(file.0, checkpoint.0.into_iter().filter(|(name, _)| of_network(name)).collect());

    // from the run, from the file and from what was written of them, the same images have the same logits
    let said = well(INSPECT, dir, "evaluate run --logits a.safetensors");
    assert!(said.contains("synthetic test images: 4 of 8 x 8 x 3") && said.contains("top-5"), "{said}");
    let again = well(
        INSPECT,
        dir,
        "evaluate w.safetensors --genotype GDAS_V1 --images a.safetensors --logits b.safetensors --batch-size 3",
    );
    assert_eq!(
        said.split("loss").nth(1).unwrap().lines().take(3).collect::<Vec<_>>(),
        again.split("loss").nth(1).unwrap().lines().take(3).collect::<Vec<_>>()
    );
    let (a, b) = (dir.join("a.safetensors"), dir.join("b.safetensors"));
    assert_close(&tensor("logits", &b), &tensor("logits", &a), 1e-6);
    let hits = Hits::count(&tensor("logits", &a), &tensor("labels", &a));
    assert!(said.contains(&format!("{} of 4", hits.top1)) && said.contains(&format!("{} of 4", hits.top5)));
    let limited = well(INSPECT, dir, "evaluate run --limit 2 --last");
    assert!(limited.contains("images: 2 of 8 x 8 x 3"), "{limited}");

    // a training starts from them: its first checkpoint is the one before its only step
    well(TRAIN, dir, &format!("{TINY} --max-steps 1 --weights w.safetensors --out second"));
    let start = Stored::read(&dir.join("second/checkpoint.previous.safetensors"));
    assert!(file.0.iter().all(|(name, tensor)| start.0.get(name) == Some(tensor)));
    well(TRAIN, dir, &format!("{TINY} --max-steps 1 --weights run --out third"));
    // other cells may have weights of the same names and shapes
    let other = TINY.replace("GDAS_V1", "DARTS_V1");
    one_line(&tool(TRAIN, dir, &format!("{other} --weights run")), &["--weights", "other cells", "export"]);
    let third = Stored::read(&dir.join("third/checkpoint.safetensors"));
    let second = Stored::read(&dir.join("second/checkpoint.safetensors"));
    assert!(file.0.keys().all(|name| third.0[name] == second.0[name]));
    assert_ne!(third.0["stem.0.weight"], file.0["stem.0.weight"]);
    // the file is not needed to go on
    fs::remove_file(dir.join("w.safetensors")).unwrap();
    well(TRAIN, dir, "--resume second --max-steps 2");
}

/// What a training with --augment imagenet tests on is what its network is evaluated on, to the last image.
#[test]
fn central_crops_are_evaluated_as_they_were_tested() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for i in 0..70u32 {
        let class = i * 7 % 10;
        let folder = dir.join("set").join(if i < 20 { "train" } else { "val" }).join(format!("c{class}"));
        fs::create_dir_all(&folder).unwrap();
        // what lies at the border is of another class than what lies in the middle
        let (w, h) = (24 + i % 5, 30 - i % 7);
        let pixel = |x: u32, y: u32| {
            let edge = x < 4 || y < 4 || x + 4 >= w || y + 4 >= h;
            image::Rgb([if edge { 9 - class } else { class } * 25, x * 5, y * 4 + i].map(|c| c as u8))
        };
        image::RgbImage::from_fn(w, h, pixel).save(folder.join(format!("{i}.png"))).unwrap();
    }
    let flags = TINY.replace("--train-images 20", "--data folder --data-dir set --augment imagenet");
    let flags = flags.replace("--crop-padding 1", "--crop-padding 0").replace("--epochs 1", "--epochs 3");
    let last = |run: &str| rows(&dir.join(run), "metrics.jsonl").pop().unwrap();
    let told = |said: &str, row: &serde_json::Value| {
        assert!(said.contains(" of 8 x 8 x 3, central crops, normalised by"), "{said}");
        for (what, key) in [("top-1", "test_accuracy"), ("top-5", "test_top5")] {
            let line = format!("{what}     {:.2} %,", row[key].as_f64().unwrap());
            assert!(said.contains(&line), "{said}\n{row}");
        }
        let loss = format!("loss      {:.6}", row["test_loss"].as_f64().unwrap());
        assert!(said.contains(&loss), "{said}\n{row}");
    };
    let loss = |said: &str| said.lines().find(|line| line.starts_with("loss")).unwrap().to_owned();
    well(TRAIN, dir, &format!("{flags} --out run"));
    let said = well(INSPECT, dir, "evaluate run --last --batch-size 10");
    assert!(
        said.contains("folder test images: 50 of") && said.contains("by mean 0.485,0.456,0.406"),
        "{said}"
    );
    told(&said, &last("run"));
    let whole = well(INSPECT, dir, "evaluate run --last --batch-size 10 --augment cifar");
    assert!(!whole.contains("central crops") && loss(&whole) != loss(&said), "{whole}");
    // weights do not say what they were trained on
    well(INSPECT, dir, "export run --last --weights w.safetensors");
    let weights = "evaluate w.safetensors --genotype GDAS_V1 --data folder --data-dir set --image-size 8 --batch-size 10";
    told(&well(INSPECT, dir, &format!("{weights} --augment imagenet")), &last("run"));
    assert_eq!(loss(&well(INSPECT, dir, weights)), loss(&whole));
    one_line(&tool(INSPECT, dir, &format!("{weights} --augment imagenat")), &["--augment", "imagenet"]);

    // of images of one size, a part of them held back
    let flags = flags.replace("--data folder --data-dir set", "--train-images 60 --valid-portion 0.5");
    well(TRAIN, dir, &format!("{flags} --out drawn"));
    let said = well(INSPECT, dir, "evaluate drawn --last --batch-size 10");
    assert!(said.contains("synthetic images that were held back: 30 of"), "{said}");
    told(&said, &last("drawn"));
}

#[test]
fn a_search_is_exported_evaluated_and_started_from() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tiny = "--train-images 20 --channels 2 --cells 3 --nodes 1 --image-size 8 --batch-size 5 --epochs 1 \
                --crop-padding 1 --device cpu --quiet --max-steps 1";
    well(SEARCH, dir, &format!("{tiny} --out run"));
    well(INSPECT, dir, "export run --weights w.safetensors");
    let said = well(INSPECT, dir, "evaluate run");
    assert!(said.contains("synthetic images that were held back: 10 of 8 x 8 x 3"), "{said}");
    well(SEARCH, dir, &format!("{tiny} --weights w.safetensors --seed 5 --out second"));
    let start = Stored::read(&dir.join("second/checkpoint.previous.safetensors"));
    let file = Stored::read(&dir.join("w.safetensors"));
    assert!(file.0.iter().all(|(name, tensor)| start.0.get(name) == Some(tensor)));
    assert!(file.0.keys().all(|name| !name.contains("alphas") && !name.contains("optimizer")));

    let before = listing(dir);
    for (flags, parts) in [
        ("export run --onnx x.onnx", &["--onnx: ", "train its cell first"][..]),
        ("evaluate w.safetensors --genotype PDARTS", &["w.safetensors: ", "supernet", "search --weights"]),
    ] {
        one_line(&tool(INSPECT, dir, flags), parts);
    }
    one_line(
        &tool(
            SEARCH,
            dir,
            &format!("{} --weights w.safetensors", tiny.replace("--channels 2", "--channels 4")),
        ),
        &["another shape"],
    );
    one_line(&tool(TRAIN, dir, &format!("{TINY} --weights w.safetensors")), &["unexpected", "missing"]);
    assert_eq!(listing(dir), before);
}

#[test]
fn mistakes_are_told_in_one_line_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    well(TRAIN, dir, &format!("{TINY} --out run"));
    fs::copy(golden("cifar.safetensors"), dir.join("w.safetensors")).unwrap();
    fs::copy(golden("cifar.logits.safetensors"), dir.join("images.safetensors")).unwrap();
    fs::write(dir.join("model.pt"), b"PK\x03\x04 and more than that").unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    rewrite(&dir.join("w.safetensors"), &dir.join("nan.safetensors"), |all| {
        all.iter_mut().find(|t| t.name == "classifier.bias").unwrap().spoil()
    });
    let odd = Tensor::zeros([1, 3, 10, 10], DType::F32);
    let tensors = vec![("images".into(), odd)];
    let odd = Checkpoint { tensors, counters: vec![], state: serde_json::json!({}) };
    odd.save_as(dir, "odd.safetensors").unwrap();
    let before = listing(dir);
    for (flags, parts) in [
        ("export run", &["--weights or --onnx: needed"][..]),
        ("export empty --weights x", &["empty: holds no checkpoint.safetensors"]),
        ("export . --weights x", &[".: is a folder of runs; name one of them, such as ./run"]),
        ("export w.safetensors --weights x --genotype empty", &["empty: holds no genotype.json"]),
        ("export missing --weights x", &["missing"]),
        ("export model.pt --weights x --genotype PDARTS", &["model.pt", "save_file(model.state_dict()"]),
        ("export w.safetensors --weights x", &["--genotype", "which cells"]),
        ("export w.safetensors --weights x --genotype PDARTS", &["weights of another network", "missing"]),
        ("export run --weights x --genotype PDARTS", &["--genotype", "its own cells"]),
        ("export run --weights run/best.safetensors", &["--weights", "a run's checkpoint"]),
        ("export run --onnx run/checkpoint.safetensors", &["--onnx", "a run's checkpoint"]),
        ("export run --weights run/config.toml", &["--weights", "a file of the run"]),
        ("export run --onnx same --weights ./same", &["--weights", "--onnx too"]),
        ("evaluate run --logits run/metrics.jsonl", &["--logits", "a file of the run"]),
        ("compare run run --out run/best.safetensors", &["--out", "a run's checkpoint"]),
        ("compare run run --out run/config.toml", &["--out", "a file of the run"]),
        ("bench --quick --out run/log.txt", &["--out", "a file of the run"]),
        ("export run --weights no/x", &["cannot write no/x"]),
        ("export run --onnx no/x.onnx", &["cannot write no/x.onnx"]),
        ("export run --onnx x --mean 1,2,3", &["--deviation"]),
        ("export run --onnx x --mean 1,2 --deviation 1,2", &["--mean", "3 numbers"]),
        ("export run --onnx x --mean 1,2,3 --deviation 1,0,1", &["--deviation", "above 0"]),
        ("export images.safetensors --weights x --genotype PDARTS", &["no stem.0.weight"]),
        ("evaluate run --limit 0", &["--limit"]),
        ("evaluate run --data cifar10", &["--data-dir"]),
        ("evaluate run --images w.safetensors", &["w.safetensors", "no tensor `images`"]),
        ("evaluate run --logits run/best.safetensors", &["--logits", "a run's checkpoint"]),
        ("evaluate run --image-size 10", &["10 x 10", "multiple of 4"]),
        ("evaluate w.safetensors --genotype PDARTS", &["weights of another network"]),
        ("evaluate run --device nowhere", &["--device"]),
    ] {
        one_line(&tool(INSPECT, dir, flags), parts);
    }
    let cells = golden("cifar.json");
    let evaluate = format!("evaluate w.safetensors --genotype {}", cells.display());
    one_line(&tool(INSPECT, dir, &evaluate), &["--data", "needed"]);
    let odd = format!("{evaluate} --images odd.safetensors");
    one_line(&tool(INSPECT, dir, &odd), &["--images: images of 10 x 10", "; write them at a multiple of 4"]);
    let diverged =
        evaluate.replace("w.safetensors", "nan.safetensors --logits new --images images.safetensors");
    let ended = tool(INSPECT, dir, &diverged);
    one_line(&ended, &["nan.safetensors: gives a loss or logits that are NaN"]);
    assert!(!ended.out.contains("loss") && !ended.out.contains("top-1"), "{}", ended.out);
    one_line(&tool(INSPECT, dir, &format!("{evaluate} --data synthetic")), &["10 classes", "tells 4 apart"]);
    one_line(&tool(TRAIN, dir, &format!("{TINY} --weights w.safetensors --out new")), &["another network"]);
    one_line(&tool(TRAIN, dir, &format!("{TINY} --weights nowhere --out new")), &["nowhere"]);
    assert_eq!(listing(dir), before);
}

#[test]
fn cells_are_written_as_json_and_as_python() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cells = zoo::named("AmoebaNet").unwrap();
    let (json, python) =
        (well(INSPECT, dir, "genotype AmoebaNet --json"), well(INSPECT, dir, "genotype AmoebaNet --python"));
    assert_eq!((json.as_str(), python.trim_end()), (cells.to_json().as_str(), cells.to_string().as_str()));
    fs::write(dir.join("cells.json"), &json).unwrap();
    fs::write(dir.join("cells.txt"), &python).unwrap();
    assert_eq!(genotype::read(&dir.join("cells.txt")).unwrap(), cells);
    assert_eq!(well(INSPECT, dir, "genotype cells.txt --json"), json);
    assert_eq!(well(INSPECT, dir, "genotype cells.json --python"), python);
    one_line(&tool(INSPECT, dir, "genotype cells.json --python --json"), &["--python", "--json"]);
}

/// Weights of a network are put in whole: what a file leaves open would be left at its start.
#[test]
fn every_weight_is_put_in() {
    let found = found(golden("imagenet.safetensors"), "imagenet").unwrap();
    let mut weights = ParamSet::init(&found.weights.layout, 3, DType::F32).unwrap();
    let mut running = RunningStats::new(found.network.norms(), DType::F32);
    StateDict::read(&golden("imagenet.safetensors")).unwrap().put_into(&mut weights, &mut running).unwrap();
    assert_eq!(weights.flat.to_f64(), found.weights.flat.to_f64());
}
