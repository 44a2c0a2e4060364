//! Several searches, their cells trained beside random ones: what is left, and stopping and going on.

use super::*;

const SELECT: &str = "--seeds 2 --select --select-epochs 2 --random-cells 2 --epochs 2";
const PARTS: [&str; 6] =
    ["search-2", "search-3", "train-search-2", "train-search-3", "train-random-1", "train-random-2"];

fn selection(run: &Path) -> Vec<Value> {
    rows(run, "selection.jsonl")
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
    // the images that choose are those that trained the alphas, never the test images
    let settings = fs::read_to_string(run.join("train-search-2/config.toml")).unwrap();
    assert!(settings.contains("valid_portion = 0.5"), "{settings}");
    for report in ["report.html", "search-3/report.html"] {
        let page = fs::read_to_string(run.join(report)).unwrap();
        assert!(page.contains("id=\"selection\"") && page.matches("<circle").count() >= 4, "{report}");
    }
    // a search alone, with the second seed, is the second search
    search_well(dir, &format!("{TINY} --epochs 2 --seed 3 --out alone"));
    let cells = |run: &Path| fs::read(run.join("checkpoint.safetensors")).unwrap();
    assert!(cells(&dir.join("alone")).len() == cells(&run.join("search-3")).len());
    assert_eq!(
        fs::read(dir.join("alone/alphas.jsonl")).unwrap(),
        fs::read(run.join("search-3/alphas.jsonl")).unwrap()
    );
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
fn searches_alone_do_not_choose() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let said = search_well(dir, &format!("{TINY} --seeds 2 --epochs 1 --out all")).out;
    assert!(said.contains("these do not rank cells") && !dir.join("all/genotype.txt").exists(), "{said}");
    // the cells may be trained later, and there may be more of them
    let said = search_well(dir, "--resume all --seeds 3 --select --random-cells 1 --select-epochs 5").out;
    assert!(said.contains("search with seed 4") && !said.contains("search with seed 3"), "{said}");
    mistake(dir, "--resume all --select-epochs 6", &["select.epochs is 5 there and 6 here"]);
    mistake(dir, "--out x --seeds 0", &["seeds", "1 to 1000"]);
    search_well(dir, &format!("{TINY} --epochs 1 --out one"));
    mistake(dir, "--resume one --seeds 3", &["--resume", "folder of one search"]);
}
