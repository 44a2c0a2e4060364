//! Reports and comparisons of runs: whole, well-formed, self-contained, escaped, small, the same for the same files.

use oche::run::config::{Configuration, SearchConfig};
use oche::run::folder;
use oche::run::jsonl::{Alphas, Entropy, JsonLines, Row};
use oche::run::{report, result};
use oche::space::Genotype;
use oche::space::discretise::discretise;
use roxmltree::{Document, Node, ParsingOptions};
use std::fs;
use std::path::{Path, PathBuf};

const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");

/// Numbers from 0 to 1, the same on every machine.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
    /// Mixing weights of the edges of `nodes` nodes, further apart in later epochs.
    fn weights(&mut self, nodes: usize, candidates: usize, sharpness: f64) -> Vec<Vec<f64>> {
        let mut row = || {
            let powers: Vec<f64> = (0..candidates).map(|_| (sharpness * self.next()).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        };
        (0..nodes * (nodes + 3) / 2).map(|_| row()).collect()
    }
}

fn small() -> SearchConfig {
    let mut config = SearchConfig::default();
    (config.space.nodes, config.search.epochs) = (2, 6);
    config
}

/// A run folder as a search leaves it, with drawn numbers.
fn write_run(dir: &Path, config: &SearchConfig, epochs: usize, steps: usize) -> Vec<Genotype> {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(folder::CONFIG), config.to_toml()).unwrap();
    let mut metrics = JsonLines::open(&dir.join(folder::METRICS)).unwrap();
    let mut alphas = JsonLines::open(&dir.join(folder::ALPHAS)).unwrap();
    let (mut draw, mut found) = (Draw(7), vec![]);
    let (nodes, candidates) = (config.space.nodes, &config.space.candidates);
    for epoch in 0..epochs {
        let loss = 2.3 * (-0.05 * epoch as f64).exp();
        for step in 0..steps {
            metrics
                .append(&Row::Step {
                    epoch,
                    step,
                    train_loss: loss + 0.3 * draw.next(),
                    train_accuracy: 50.0,
                    valid_loss: loss + 0.5 * draw.next(),
                    seconds: 0.25,
                })
                .unwrap();
        }
        let sharpness = 4.0 * (epoch + 1) as f64 / epochs as f64;
        let [normal, reduce] = [(); 2].map(|()| draw.weights(nodes, candidates.len(), sharpness));
        metrics
            .append(&Row::Epoch {
                epoch,
                learning_rate: 0.025,
                train_loss: loss,
                train_accuracy: 30.0 + epoch as f64,
                valid_loss: loss + 0.1,
                valid_accuracy: 28.0 + epoch as f64,
                seconds: 100.0,
                peak_bytes: 123_000_000,
                peak_rss_bytes: Some(456_000_000 + epoch * 1000),
                entropy: Entropy { normal: vec![2.0 - 0.01 * epoch as f64], reduce: vec![1.9] },
            })
            .unwrap();
        let concat: Vec<usize> = (2..nodes + 2).collect();
        found.push(Genotype {
            normal: discretise(&normal, candidates, nodes).unwrap(),
            normal_concat: concat.clone(),
            reduce: discretise(&reduce, candidates, nodes).unwrap(),
            reduce_concat: concat,
        });
        alphas.append(&Alphas { epoch, normal, reduce }).unwrap();
    }
    if let Some(last) = found.last() {
        result::write_cells(dir, last).unwrap();
    }
    found
}

fn report_of(dir: &Path) -> String {
    let path = report::write(dir).unwrap().unwrap();
    assert_eq!(path, dir.join("report.html"));
    fs::read_to_string(path).unwrap()
}

fn compared(runs: &[PathBuf]) -> String {
    let dir = tempfile::tempdir().unwrap();
    report::compare(runs, &dir.path().join("all.html")).unwrap();
    fs::read_to_string(dir.path().join("all.html")).unwrap()
}

/// The page as a tree; what only a browser would forgive is an error.
fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap()
}

fn count(tree: &Document, element: &str, class: &str) -> usize {
    let fits = |node: &Node| {
        let classes = node.attribute("class").unwrap_or_default();
        node.tag_name().name() == element && (class.is_empty() || classes.split(' ').any(|c| c == class))
    };
    tree.descendants().filter(fits).count()
}

/// What the script of the page is given.
fn data(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("const data = ").unwrap();
    serde_json::from_str(rest.split_once(";\n").unwrap().0).unwrap()
}

/// That nothing is fetched from anywhere.
fn self_contained(page: &str) {
    let without = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "@import", "url(", "fetch(", "XMLHttpRequest"] {
        assert!(!without.contains(word), "{word}");
    }
    for (at, _) in without.match_indices("href=") {
        assert!(without[at..].starts_with("href=\"data:,\""), "{}", &without[at..at + 40]);
    }
}

#[test]
fn a_report_has_every_part() {
    let dir = tempfile::tempdir().unwrap();
    let found = write_run(dir.path(), &small(), 6, 4);
    let page = report_of(dir.path());
    let tree = parse(&page);
    self_contained(&page);
    let headings: Vec<&str> = tree
        .descendants()
        .filter(|node| node.tag_name().name() == "figcaption")
        .filter_map(|node| node.first_element_child()?.text())
        .collect();
    let charts = ["Loss", "Accuracy", "Loss by step", "Learning rate", "Entropy", "Skip connections"];
    let maps = ["Weights, normal cell", "Weights, reduction cell"];
    let costs = ["Time of a step", "Speed", "Time of an epoch", "Memory at the peak"];
    assert_eq!(headings, [&maps[..], &charts, &costs].concat());
    let last = found.last().unwrap();
    let genotype = tree.descendants().find(|node| node.attribute("class") == Some("genotype")).unwrap();
    assert_eq!(genotype.text(), Some(last.to_string().as_str()));
    let cells: Vec<_> = tree.descendants().filter(|node| node.attribute("class") == Some("cell")).collect();
    assert_eq!(cells.len(), 2);
    for (cell, svg) in cells.iter().zip(["normal.svg", "reduce.svg"]) {
        let drawn = fs::read_to_string(dir.path().join(svg)).unwrap();
        assert!(page[cell.range()].contains(&drawn), "{svg} is not in the page");
    }
    // 5 edges of 8 candidates and what the cell keeps of them, twice
    let in_heat = |class| {
        let maps = tree.descendants().filter(|node| node.attribute("class") == Some("heat"));
        maps.flat_map(|map| map.descendants())
            .filter(|node| node.tag_name().name() == "g")
            .filter(|node| node.attribute("class").unwrap_or_default().contains(class))
            .count()
    };
    assert_eq!((in_heat(""), in_heat("kept"), in_heat("scale")), (2 * 40 + 2, 2 * 4, 2));
    // besides the charts a small one for each edge
    assert_eq!(count(&tree, "svg", "plot"), charts.len() + costs.len() + 2 * 5);
    let settings = tree.descendants().find(|node| node.tag_name().name() == "details").unwrap();
    for key in oche::run::config::keys::KEYS {
        assert!(settings.descendants().any(|node| node.text() == Some(key.path)), "{}", key.path);
    }
    for part in ["6 of 6", "synthetic", "33.00 %", "456 MB", "0.2500 s"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn the_replay_holds_every_epoch_by_the_published_rule() {
    let dir = tempfile::tempdir().unwrap();
    let found = write_run(dir.path(), &small(), 6, 4);
    let data = data(&report_of(dir.path()));
    let frames = data["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 6);
    for (index, (frame, genotype)) in frames.iter().zip(&found).enumerate() {
        assert_eq!(frame["epoch"], index + 1);
        assert_eq!(frame["text"], genotype.to_string());
        for (cell, genes) in
            frame["cells"].as_array().unwrap().iter().zip([&genotype.normal, &genotype.reduce])
        {
            assert_eq!(cell["weights"].as_array().unwrap().len(), 40);
            let kept = cell["kept"].as_array().unwrap();
            let wanted = genes.iter().enumerate().map(|(at, gene)| {
                let row = [0, 2][at / 2] + gene.input;
                let candidates = &small().space.candidates;
                row * 8 + candidates.iter().position(|name| *name == gene.op).unwrap()
            });
            assert!(kept.iter().map(|place| place.as_u64().unwrap() as usize).eq(wanted), "{cell}");
            assert!(data["drawings"][cell["drawing"].as_u64().unwrap() as usize].is_string());
        }
    }
}

#[test]
fn of_a_long_run_the_replay_shows_a_hundred_epochs_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &small(), 260, 1);
    let data = data(&report_of(dir.path()));
    let frames = data["frames"].as_array().unwrap();
    assert_eq!((frames.len(), &frames[0]["epoch"], &frames[99]["epoch"]), (100, &1.into(), &260.into()));
}

#[test]
fn names_and_settings_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let evil = "]]><script>alert('1 & \"2\"')<";
    let run = dir.path().join(evil.replace('/', ""));
    let mut config = small();
    config.data.dir = PathBuf::from(format!("/data/{evil}/\u{1}x"));
    config.run.out = run.clone();
    write_run(&run, &config, 2, 2);
    let page = report_of(&run);
    let tree = parse(&page);
    assert_eq!((count(&tree, "script", ""), page.matches("<script").count()), (1, 1));
    let title = tree.descendants().find(|node| node.tag_name().name() == "h1").unwrap();
    assert_eq!(title.text(), Some(evil));
    assert!(
        tree.descendants().any(|node| node.text().is_some_and(|text| text.contains("/data/]]><script>")))
    );
    let other = dir.path().join("plain");
    write_run(&other, &small(), 3, 2);
    let page = compared(&[run, other]);
    let tree = parse(&page);
    assert_eq!((count(&tree, "script", ""), page.matches("<script").count()), (1, 1));
    self_contained(&page);
}

#[test]
fn a_report_of_a_search_of_the_published_size_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = SearchConfig::default();
    (config.space.channels, config.space.cells, config.search.batch_size) = (16, 8, 64);
    config.search.epochs = 50;
    write_run(dir.path(), &config, 50, 390);
    let page = report_of(dir.path());
    parse(&page);
    // every epoch has two cells of its own here, the most that can be
    assert_eq!(data(&page)["drawings"].as_array().unwrap().len(), 100);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert!(page.contains("means of 20 steps"));
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let runs = ["a/run", "b/run"].map(|name| dir.path().join(name));
    for run in &runs {
        write_run(run, &small(), 3, 4);
    }
    assert_eq!(report_of(&runs[0]), report_of(&runs[1]));
    assert_eq!(report_of(&runs[0]), report_of(&runs[0]));
    assert_eq!(compared(&runs), compared(&runs));
}

#[test]
fn one_epoch_and_a_begun_one_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &small(), 1, 3);
    let mut metrics = JsonLines::open(&dir.path().join(folder::METRICS)).unwrap();
    metrics
        .append(&Row::Step {
            epoch: 1,
            step: 0,
            train_loss: 1.0,
            train_accuracy: 50.0,
            valid_loss: 1.0,
            seconds: 1.0,
        })
        .unwrap();
    let page = report_of(dir.path());
    parse(&page);
    assert!(page.contains("1 of 6") && !page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn a_comparison_has_every_run_in_every_part() {
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = (0..3).map(|i| dir.path().join(format!("run-{i}"))).collect();
    for (i, run) in runs.iter().enumerate() {
        let mut config = small();
        config.search.seed = i as u64;
        config.run.out = run.clone();
        write_run(run, &config, 3 + i, 4);
    }
    let page = compared(&runs);
    let tree = parse(&page);
    self_contained(&page);
    assert_eq!(count(&tree, "svg", "plot"), 10);
    assert_eq!(count(&tree, "polyline", "line"), 3 * 10);
    assert_eq!(
        (count(&tree, "article", ""), count(&tree, "div", "cell"), count(&tree, "pre", "")),
        (3, 6, 3)
    );
    assert!(page.contains("<tr><th>search.seed</th><td>0</td><td>1</td><td>2</td></tr>"));
    assert!(!page.contains("run.out") && !page.contains("space.nodes"), "settings that do not differ");
    let same = compared(&[runs[0].clone(), runs[0].clone()]);
    assert!(same.contains("the runs have the same settings") && same.contains("(2)"), "{same}");
}

/// `inspect` with `args` in `dir`: success, stdout, stderr.
fn inspect(dir: &Path, args: &[&str]) -> (bool, String, String) {
    let output = assert_cmd::Command::new(INSPECT).args(args).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn inspect_writes_reports_and_comparisons() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        write_run(&dir.path().join(name), &small(), 2, 2);
    }
    assert_eq!(inspect(dir.path(), &["report", "a"]), (true, "a/report.html\n".into(), String::new()));
    let page = fs::read_to_string(dir.path().join("a/report.html")).unwrap();
    assert!(page.contains("<h1>a</h1>"));
    assert_eq!(
        inspect(&dir.path().join("a"), &["report", "."]),
        (true, "./report.html\n".into(), String::new())
    );
    assert_eq!(fs::read_to_string(dir.path().join("a/report.html")).unwrap(), page);
    assert_eq!(inspect(dir.path(), &["compare", "a", "b"]), (true, "compare.html\n".into(), String::new()));
    let told = inspect(dir.path(), &["compare", "a", "b", "--out", "x.html"]);
    assert_eq!(told, (true, "x.html\n".into(), String::new()));
    let written = |name| fs::read(dir.path().join(name)).unwrap();
    assert_eq!(written("x.html"), written("compare.html"));
}

#[test]
fn what_cannot_be_drawn_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_run(&at("good"), &small(), 2, 2);
    fs::create_dir(at("empty")).unwrap();
    write_run(&at("early"), &small(), 0, 0);
    write_run(&at("torn"), &small(), 2, 2);
    let metrics = fs::read_to_string(at("torn/metrics.jsonl")).unwrap();
    fs::write(at("torn/metrics.jsonl"), metrics.replacen("{\"kind\":\"epoch\"", "{\"kind\":\"era\"", 1))
        .unwrap();
    let mut other = small();
    write_run(&at("nodes"), &other, 2, 2);
    other.space.nodes = 3;
    fs::write(at("nodes/config.toml"), other.to_toml()).unwrap();
    write_run(&at("settings"), &small(), 2, 2);
    fs::write(at("settings/config.toml"), "[space]\nnodez = 2\n").unwrap();
    write_run(&at("cells"), &small(), 2, 2);
    fs::write(at("cells/genotype.json"), "{").unwrap();
    for (run, parts) in [
        ("empty", &["empty: is no run folder", "config.toml"][..]),
        ("nowhere", &["nowhere: is no run folder"]),
        ("early", &["early: has no finished epoch; wait"]),
        ("torn", &["torn/metrics.jsonl: line 3 is not a row"]),
        ("nodes", &["nodes/alphas.jsonl: line 1: ", "3 nodes have 9 edges, but the weights have 5 rows"]),
        ("settings", &["settings/config.toml, line 2: unknown key space.nodez"]),
        ("cells", &["cells/genotype.json", "not a genotype"]),
    ] {
        for args in [&["report", run][..], &["compare", "good", run]] {
            let (well, out, err) = inspect(dir.path(), args);
            assert!(!well && out.is_empty() && err.lines().count() == 1, "{args:?} {out} {err}");
            assert!(err.starts_with("error: ") && parts.iter().all(|part| err.contains(part)), "{err}");
        }
    }
    assert!(!at("compare.html").exists());
    let (well, _, err) = inspect(dir.path(), &["compare", "good"]);
    assert!(!well && err.contains("2 values required"), "{err}");
    let (well, _, err) = inspect(dir.path(), &["compare", "good", "good", "--out", "no/such/place.html"]);
    assert!(!well && err.starts_with("error: cannot write no/such/place.html: "), "{err}");
    assert!(report::write(&at("early")).unwrap().is_none());
}
