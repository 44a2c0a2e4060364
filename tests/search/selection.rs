//! Several searches, their cells trained beside random ones: what is left, and stopping and going on.

use super::*;
use oche::data::loader;
use oche::run::config::{Configuration, SearchConfig, TrainConfig};
use oche::run::course::Work;
use oche::run::search::Searching;
use oche::run::train::Training;
use oche::tensor::DType;
use std::collections::BTreeSet;

const SELECT: &str = "--seeds 2 --select --select-epochs 2 --random-cells 2 --epochs 2";
const PARTS: [&str; 6] =
    ["search-2", "search-3", "train-search-2", "train-search-3", "train-random-1", "train-random-2"];

fn selection(run: &Path) -> Vec<Value> {
    rows(run, "selection.jsonl")
}

/// What a part trains on and what it is judged by: indices, and the images of the second half as a network gets them.
type Halves = ([BTreeSet<usize>; 2], Vec<f64>);

/// As the part itself makes them from its settings.
fn halves(part: &Path) -> Halves {
    let (stored, set) = (part.join("config.toml"), |half: &[usize]| half.iter().copied().collect());
    let in_order =
        |half: &[usize]| half.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    if part.join("alphas.jsonl").exists() {
        let mut config = SearchConfig::from_file(&stored).unwrap();
        config.run.device = "cpu".into();
        let (search, _) = Searching::open(&mut config, None).unwrap();
        let feed = search.feed();
        let batch = loader::batch(&feed.images, &in_order(&feed.halves.1), None, DType::F32).unwrap();
        ([set(&feed.halves.0), set(&feed.halves.1)], batch.images.to_f64())
    } else {
        let mut config = TrainConfig::from_file(&stored).unwrap();
        config.run.device = "cpu".into();
        config.network.genotype = part.display().to_string(); // wherever the test runs
        let (training, _) = Training::open(&mut config, None).unwrap();
        let data = training.data();
        let batch = data.test_batch(&in_order(&data.test), DType::F32).unwrap();
        ([set(&data.train), set(&data.test)], batch.images.to_f64())
    }
}

/// That the images that judge in the one part, and train the alphas if it is a search, are those of the other, to the
/// pixel, and the others train the weights.
fn assert_same_images(one: &Path, other: &Path) {
    let ((indices, images), (others, other_images)) = (halves(one), halves(other));
    assert_eq!(indices.each_ref().map(BTreeSet::len), [56, 56]);
    assert!(indices[0].is_disjoint(&indices[1]));
    assert_eq!(indices, others, "{}", other.display());
    assert!(images == other_images, "{}", other.display());
}

#[test]
fn the_best_of_several_cells_is_kept_and_set_beside_chance() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let said = search_well(dir, &format!("{TINY} {SELECT} --out all")).out;
    let run = dir.join("all");
    let rows = selection(&run);
    assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), PARTS);
    // every part is an ordinary run, and what is said of it is what it says
    for row in &rows[2..] {
        let own = program::rows(&run.join(row["name"].as_str().unwrap()), "metrics.jsonl");
        assert_eq!(row["accuracy"], own.last().unwrap()["test_accuracy"]);
    }
    let accuracy = |row: &Value| row["accuracy"].as_f64().unwrap();
    let best = if accuracy(&rows[3]) > accuracy(&rows[2]) { &rows[3] } else { &rows[2] };
    let kept = fs::read_to_string(run.join("genotype.txt")).unwrap();
    assert_eq!(kept.trim(), best["genotype"].as_str().unwrap());
    for part in [best["name"].as_str().unwrap(), "found ", "random ", "the mean of random cells", kept.trim()]
    {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    for part in PARTS {
        assert_same_images(&run.join("search-3"), &run.join(part));
    }
    for report in ["report.html", "search-3/report.html"] {
        let page = fs::read_to_string(run.join(report)).unwrap();
        assert!(page.contains("id=\"selection\"") && page.matches("<circle").count() >= 4, "{report}");
    }
    // a search alone, with the second seed, is the second search
    search_well(dir, &format!("{TINY} --epochs 2 --seed 3 --data-seed 2 --out alone"));
    let cells = |run: &Path| fs::read(run.join("checkpoint.safetensors")).unwrap();
    assert!(cells(&dir.join("alone")).len() == cells(&run.join("search-3")).len());
    assert_eq!(
        fs::read(dir.join("alone/alphas.jsonl")).unwrap(),
        fs::read(run.join("search-3/alphas.jsonl")).unwrap()
    );
}

#[test]
fn the_last_object_of_json_has_the_chosen_cell() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let objects = |flags: &str| -> Vec<Value> {
        let said = search(dir, &format!("{flags} --json --quiet"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let results = |all: &[Value]| all.iter().filter(|object| object["kind"] == "result").count();
    let all = objects(&format!("{TINY} --seeds 2 --epochs 1 --out all"));
    let last = all.last().unwrap();
    assert_eq!((&last["kind"], &last["best"], results(&all)), (&"selection".into(), &Value::Null, 2));
    let all = objects("--resume all --select --select-epochs 1 --random-cells 1");
    let last = all.last().unwrap();
    assert_eq!(results(&all), 3);
    assert_eq!(last["rows"].as_array().unwrap(), &selection(&dir.join("all")));
    let best =
        last["rows"].as_array().unwrap().iter().find(|row| row["name"] == last["best"]["name"]).unwrap();
    for key in ["accuracy", "genotype"] {
        assert_eq!(best[key], last["best"][key], "{key}");
    }
    assert_eq!(best["random"], false);
}

#[test]
fn a_selection_that_was_stopped_anywhere_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    search_well(dir, &format!("{TINY} {SELECT} --out whole"));
    let whole = selection(&dir.join("whole"));
    for (k, (part, signal)) in
        [("search-3", "-INT"), ("train-search-2", "-KILL"), ("train-random-1", "-INT")].iter().enumerate()
    {
        let out = format!("stopped{k}");
        let flags = format!("{TINY} {SELECT} --out {out}");
        let Some((_, said)) = stopped(dir, &flags, &format!("{out}/{part}"), 2, signal) else { continue };
        if *signal == "-INT" {
            assert!(said.trim_end().ends_with(&format!("--resume {out}")), "{said}");
        }
        search_well(dir, &format!("--resume {out}"));
        assert_eq!(selection(&dir.join(&out)), whole, "{part}");
    }
}

#[test]
fn a_stopped_selection_goes_on_from_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    search_well(dir, &format!("{TINY} {SELECT} --out whole"));
    let whole = selection(&dir.join("whole"));
    let flags = format!("{TINY} {SELECT} --out sm");
    let Some(_) = stopped(dir, &flags, "sm/train-search-2", 2, "-INT") else { return };
    let copy = |to: &Path| {
        let copied = Command::new("cp").args(["-r", "sm"]).arg(to).current_dir(dir).status().unwrap();
        assert!(copied.success());
    };
    let (elsewhere, inside) = (dir.join("elsewhere"), dir.join("inside"));
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(&inside).unwrap();
    let absolute = dir.join("absolute");
    let there = format!("--resume {}", absolute.display());
    for (to, at, flags) in [
        (dir.join("dotted"), dir, "--resume ./dotted"),
        (absolute, dir, there.as_str()),
        (dir.join("above"), elsewhere.as_path(), "--resume ../above"),
        (inside.join("moved"), inside.as_path(), "--resume moved"),
    ] {
        copy(&to);
        search_well(at, flags);
        assert_eq!(selection(&to), whole, "{flags}");
    }
}

#[test]
fn an_older_selection_goes_on_where_its_images_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    search_well(dir, &format!("{TINY} --seeds 2 --epochs 1 --out all"));
    let run = dir.join("all");
    let without_the_key = |part: &str| {
        let file = run.join(part).join("config.toml");
        let text = fs::read_to_string(&file).unwrap();
        let (before, from) = text.split_once("\nseed = ").unwrap(); // the first is data.seed
        let (_, rest) = from.split_once('\n').unwrap();
        fs::write(&file, format!("{before}\n{rest}")).unwrap();
    };
    without_the_key("");
    without_the_key("search-2");
    search_well(dir, "--resume all");
    without_the_key("search-3");
    mistake(
        dir,
        "--resume all",
        &["search-3", "another configuration", "data.seed is none there and 2 here"],
    );
    // a run of one seed has no other meaning of none
    search_well(dir, &format!("{TINY} --epochs 1 --out one"));
    search_well(dir, "--resume one --data-seed 2");
    mistake(dir, "--resume one --data-seed 3", &["data.seed is none there and 3 here"]);
}

#[test]
fn epochs_of_trainings_are_fixed_once_one_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("base.toml"), search_well(dir, &format!("{TINY} --epochs 1 --print-config")).out)
        .unwrap();
    search_well(dir, "--config base.toml --seeds 2 --out s2");
    let flags = "--resume s2 --select --select-epochs 40 --random-cells 0";
    let begun = stopped(dir, flags, "s2/train-search-2", 2, "-INT");
    if begun.is_some() {
        assert!(selection(&dir.join("s2")).iter().all(|row| row["kind"] == "search"));
    }
    mistake(dir, "--resume s2 --select-epochs 1", &["is 40 there and 1 here", "go on with 40"]);
    search_well(dir, "--config base.toml --seeds 2 --out s3");
    search_well(dir, "--resume s3 --select --select-epochs 1 --random-cells 0");
    assert!(selection(&dir.join("s3")).iter().skip(2).all(|row| row["epochs"] == 1));
    // a search of its own has nothing to do with it
    search_well(dir, &format!("{TINY} --epochs 1 --out one"));
    mistake(dir, "--resume one --select-epochs 7", &["--select-epochs", "no effect without --select"]);
}

#[test]
fn searches_alone_do_not_choose() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let said = search_well(dir, &format!("{TINY} --seeds 2 --epochs 1 --out all")).out;
    assert!(said.contains("these do not rank cells") && !dir.join("all/genotype.txt").exists(), "{said}");
    // the cells may be trained later, and there may be more of them
    let said = search_well(dir, "--resume all --seeds 3 --select --random-cells 1 --select-epochs 5").out;
    assert!(said.contains("search with seed 4") && !said.contains("search with seed 3"), "{said}");
    mistake(
        dir,
        "--resume all --select-epochs 6",
        &["select.epochs: is 5 there and 6 here", "once a cell is trained"],
    );
    mistake(dir, "--out x --seeds 0", &["seeds", "1 to 1000"]);
    search_well(dir, &format!("{TINY} --epochs 1 --out one"));
    mistake(
        dir,
        "--resume one --seeds 3",
        &["--resume", "folder of one search", "leave --seeds and --select out"],
    );
    fs::remove_file(dir.join("all/selection.jsonl")).unwrap();
    let said = mistake(dir, "--resume all", &["--resume", "several searches", "selection.jsonl is missing"]);
    assert!(!said.contains("--seeds"), "{said}");
}
