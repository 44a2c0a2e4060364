//! Configuration and flags: precedence, round trips, one sentence per mistake.

use clap::{CommandFactory, Parser};
use oche::run::cli::{SearchArgs, resolve};
use oche::run::config::keys::{KEYS, SECTIONS, show};
use oche::run::config::{Configuration, Order, SearchConfig, TrainConfig};
use oche::space::genotype::CANDIDATES;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn flags(flags: &[&str]) -> oche::Result<SearchConfig> {
    resolve(&SearchArgs::try_parse_from([&["search"], flags].concat()).unwrap())
}

/// The message of a failed `result`, after checking that it is one line.
fn message<T: std::fmt::Debug>(result: oche::Result<T>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n') && message.len() < 300, "{message}");
    message
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let (_dir, path) = file("[space]\nchannels = 4\ncells = 3\n[weights]\nmomentum = 0\n");
    let path = path.to_str().unwrap();
    let config = flags(&["--config", path, "--channels", "6", "--candidates", "none, skip_connect"]).unwrap();
    assert_eq!((config.space.channels, config.space.cells, config.space.nodes), (6, 3, 4));
    assert_eq!(config.weights.momentum, 0.);
    assert_eq!(config.space.candidates, ["none", "skip_connect"]);
    assert_eq!(flags(&[]).unwrap(), SearchConfig::default());
}

#[test]
fn images_have_the_seed_of_the_run_unless_they_have_their_own() {
    let seed = |given: &[&str]| flags(given).unwrap().data_seed();
    assert_eq!([seed(&[]), seed(&["--seed", "7"]), seed(&["--seed", "7", "--data-seed", "5"])], [2, 7, 5]);
    assert_eq!(seed(&["--seed", "7", "--data-seed", "none"]), 7);
    let (_dir, path) = file("[data]\nseed = 5\n");
    assert_eq!(seed(&["--config", path.to_str().unwrap()]), 5);
    // what is meant decides, not how it is written
    let (none, two) = (flags(&[]).unwrap(), flags(&["--data-seed", "2"]).unwrap());
    assert!(none.can_resume(&two, &path).is_ok() && two.can_resume(&none, &path).is_ok());
    let said = message(flags(&["--data-seed", "3"]).unwrap().can_resume(&none, &path));
    assert!(said.contains("data.seed is none there and 3 here;"), "{said}");
    let said = message(flags(&["--seed", "3"]).unwrap().can_resume(&none, &path));
    assert!(said.contains("search.seed is 2 there and 3 here;") && !said.contains("data.seed"), "{said}");
}

#[test]
fn a_method_is_an_order_by_name() {
    assert_eq!(flags(&["--method", "darts2"]).unwrap().search.order, Order::Second);
    assert_eq!(flags(&["--method", "darts2", "--order", "second"]).unwrap().search.order, Order::Second);
    let (_dir, path) = file("[search]\norder = \"exact\"\n");
    let config = flags(&["--config", path.to_str().unwrap(), "--method", "darts1"]).unwrap();
    assert_eq!(config.search.order, Order::First);
    assert_eq!(
        message(flags(&["--method", "darts1", "--order", "exact"])),
        "--method: darts1 means --order first; leave one of the two out"
    );
}

#[test]
fn switches_take_no_value_or_one() {
    let config = flags(&["--quiet", "--flip=false"]).unwrap();
    assert!(config.run.quiet && !config.data.flip);
    assert_eq!(message(flags(&["--flip=maybe"])), "--flip: must be true or false, not \"maybe\"");
}

#[test]
fn a_resumed_run_has_the_settings_of_its_folder() {
    let (dir, path) = file("");
    let mut stored = SearchConfig::default();
    stored.space.channels = 4;
    std::fs::write(&path, stored.to_toml()).unwrap();
    let run = dir.path().to_str().unwrap();
    assert_eq!(flags(&["--resume", run]).unwrap(), stored);
    let now = flags(&["--resume", run, "--channels", "6", "--threads", "2"]).unwrap();
    assert_eq!(now.differences(&stored).len(), 2);
    let said = message(now.can_resume(&stored, Path::new("c.safetensors")));
    assert!(said.contains("space.channels is 4 there and 6 here;"), "{said}");
    assert!(flags(&["--resume", run, "--threads", "2"]).unwrap().can_resume(&stored, &path).is_ok());
    assert!(SearchArgs::try_parse_from(["search", "--resume", run, "--out", "x"]).is_err());
    assert!(
        message(flags(&["--resume", "no/such/run"]))
            .starts_with("--resume: no/such/run is not the folder of a run")
    );
}

#[test]
fn every_setting_has_one_key_one_flag_and_a_help_text_with_its_default() {
    let table: toml::Table = toml::from_str(&SearchConfig::default().to_toml()).unwrap();
    let settings: usize = table.values().map(|section| section.as_table().unwrap().len()).sum();
    assert_eq!(settings, KEYS.len());
    let command = SearchArgs::command();
    for key in KEYS {
        assert!(SECTIONS.iter().any(|(section, _)| *section == key.section()), "{}", key.path);
        let default = show(&table[key.section()][key.name()]);
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(key.flag)).unwrap();
        let help = arg.get_help().unwrap().to_string();
        assert!(help.ends_with(&format!("[default: {default}; {}]", key.source)), "{help}");
        assert!(!key.source.is_empty());
    }
    command.debug_assert();
    let flags = "data data-dir device order epochs max-steps batch-size channels cells nodes candidates image-size \
                 seed threads out config resume method print-config learning-rate quiet";
    for flag in flags.split_whitespace() {
        assert!(SearchArgs::command().get_arguments().any(|arg| arg.get_long() == Some(flag)), "--{flag}");
    }
}

#[test]
fn the_published_settings_are_the_defaults_of_the_optimisers() {
    let config = SearchConfig::default();
    let (w, a) = (&config.weights, &config.alpha);
    assert_eq!(
        [w.learning_rate, w.learning_rate_min, w.momentum, w.weight_decay, w.grad_clip],
        [0.025, 0.001, 0.9, 3e-4, 5.]
    );
    assert_eq!(
        [a.learning_rate, a.beta1, a.beta2, a.epsilon, a.weight_decay, a.init_scale],
        [3e-4, 0.5, 0.999, 1e-8, 1e-3, 1e-3]
    );
    assert_eq!((config.search.seed, config.search.finite_difference_radius), (2, 0.01));
}

#[test]
fn a_mistake_in_the_file_is_one_sentence_with_its_line() {
    let cases = [
        ("[space]\n\nchanels = 8\n", "line 3: unknown key space.chanels; did you mean space.channels?"),
        ("[space]\nlearning_rte = 8\n", "line 2: unknown key space.learning_rte; did you mean"),
        ("epochs = 8\n", "line 1: unknown key epochs; did you mean search.epochs?"),
        ("\n[spase]\nchannels = 8\n", "line 2: unknown section [spase]; did you mean [space]?"),
        ("[space]\nzzz = 8\n", "line 2: unknown key space.zzz; --print-config lists all"),
        ("space = 3\n", "line 1: space must be a section, written [space] on its own line"),
        (
            "[space]\nchannels = \"8\"\n",
            "line 2: space.channels must be a whole number, not a text in quotes",
        ),
        ("[space]\nchannels = 8.5\n", "line 2: space.channels must be a whole number, not a number"),
        ("[space]\nchannels = -8\n", "line 2: space.channels is -8, must not be negative"),
        ("[space]\nchannels = 99999999999999999999\n", "line 2: space.channels cannot be read"),
        (
            "[space]\ncandidates = [\"none\", 3]\n",
            "line 2: space.candidates must be a list of names in quotes",
        ),
        ("[data]\nseed = 1.5\n", "line 2: data.seed must be a whole number or none, not a number"),
        ("[data]\nflip = 1\n", "line 2: data.flip must be true or false, not a whole number"),
        ("[data]\nflip = 2020-01-01\n", "line 2: data.flip must be true or false, not a date"),
        ("[search]\norder = \"frist\"\n", "line 2: search.order \"frist\" is not known; did you mean first?"),
        ("[space]\nchannels = 8\nchannels = 9\n", "line 3: not TOML (duplicate key"),
        ("[space]\nchannels = \n", "line 2: not TOML ("),
        ("[space\n", "line 1: not TOML ("),
    ];
    for (text, expected) in cases {
        let (_dir, path) = file(text);
        let said = message(SearchConfig::from_file(&path));
        let start = format!("{}, {expected}", path.display());
        assert!(said.starts_with(&start), "{said}\nshould start\n{start}");
    }
    let (dir, path) = file("");
    std::fs::write(&path, b"[space]\n\xff = 1").unwrap();
    assert!(message(SearchConfig::from_file(&path)).contains("line 2: is not text in UTF-8"));
    assert!(message(SearchConfig::from_file(dir.path())).starts_with("cannot read "));
}

#[test]
fn a_value_out_of_range_is_one_sentence_with_its_key() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--image-size", "30"],
            "data.image_size: 30 pixels cannot be halved twice; choose a multiple of 4, such as 28",
        ),
        (&["--image-size", "4"], "data.image_size: is 4, must be from 8 to 512"),
        (&["--channels", "7"], "space.channels: 7 channels cannot be split in two"),
        (&["--channels", "0"], "space.channels: 0 channels cannot be split in two"),
        (&["--channels", "many"], "--channels: must be a whole number, not \"many\""),
        (&["--channels", "-2"], "--channels: is -2, must not be negative"),
        (&["--cells", "0"], "space.cells: is 0, must be from 1 to 1000"),
        (&["--nodes", "0"], "space.nodes: is 0, must be from 1 to 16"),
        (&["--space", "nasbench"], "space.name: \"nasbench\" is not known; use one of darts-cnn"),
        (
            &["--candidates", "none,skip_conect"],
            "space.candidates: \"skip_conect\" is not known; did you mean skip_connect?",
        ),
        (&["--candidates", "none"], "space.candidates: lists no operation besides none"),
        (&["--candidates", "none,none"], "space.candidates: none is listed twice"),
        (&["--candidates", ""], "space.candidates: \"\" is not known; use one of none,"),
        (&["--order", "third"], "--order: \"third\" is not known; use one of first, second, exact"),
        (&["--epochs", "0"], "search.epochs: is 0, must be from 1"),
        (&["--batch-size", "1"], "search.batch_size: is 1, must be from 2"),
        (&["--train-portion", "1"], "data.train_portion: is 1, must lie between 0 and 1"),
        (&["--train-portion", "nan"], "data.train_portion: is NaN, must lie"),
        (&["--train-portion", "0.0001"], "data.train_portion: leaves a half of 0 of 4000 images"),
        (&["--data-seed", "many"], "--data-seed: must be a whole number or none, not \"many\""),
        (&["--data-seed", "9223372036854775808"], "--data-seed: is 9223372036854775808, must be at most"),
        (&["--seed", "9223372036854775808"], "--seed: is 9223372036854775808, must be at most"),
        (
            &["--seed", "9223372036854775806", "--seeds", "3"],
            "search.seed: is 9223372036854775806, must be at most 9223372036854775805 for select.seeds = 3",
        ),
        (&["--data-seed", "-1"], "--data-seed: is -1, must not be negative"),
        (&["--train-images", "3"], "data.train_images: is 3, must be from 10"),
        (&["--crop-padding", "32"], "data.crop_padding: is 32, must be less than data.image_size, 32"),
        (&["--cutout", "33"], "data.cutout: is 33, must not exceed data.image_size, 32"),
        (&["--learning-rate", "0"], "weights.learning_rate: is 0, must be a finite number above 0"),
        (&["--learning-rate", "inf"], "weights.learning_rate: is inf, must be"),
        (
            &["--learning-rate-min", "1"],
            "weights.learning_rate_min: is 1, must not exceed weights.learning_rate, 0.025",
        ),
        (&["--momentum", "1"], "weights.momentum: is 1, must be at least 0 and below 1"),
        (&["--weight-decay", "-1"], "weights.weight_decay: is -1, must be"),
        (&["--alpha-beta2", "1"], "alpha.beta2: is 1, must be"),
        (&["--alpha-epsilon", "0"], "alpha.epsilon: is 0, must be"),
        (&["--finite-difference-radius", "0"], "search.finite_difference_radius: is 0, must be"),
        (
            &["--finite-difference-radius", "0.1"],
            "--finite-difference-radius: has no effect with --order first; leave it out, or give --order second",
        ),
        (
            &["--select-epochs", "3"],
            "--select-epochs: has no effect without --select; give that too, or leave it out",
        ),
        (&["--data", "cifar10"], "data.dir: data set cifar10 needs a folder; give it with --data-dir"),
        (&["--data", "cifar"], "data.name: \"cifar\" is not known; did you mean cifar10"),
        (&["--data-dir", "x"], "data.dir: is set, but the data set is synthetic"),
        (&["--precision", "fp8"], "run.precision: \"fp8\" is not known"),
        (&["--device", "cuda:x"], "run.device: \"cuda:x\" is no device; use auto, cpu or cuda[:N]"),
        (&["--device", "tpu"], "run.device: \"tpu\" is no device"),
    ];
    for (given, expected) in cases {
        let said = message(flags(given));
        assert!(said.starts_with(expected), "{given:?}: {said}");
    }
}

#[test]
fn a_setting_may_wait_for_another_only_in_a_file() {
    let (_dir, path) = file("[search]\nfinite_difference_radius = 0.1\n[select]\nepochs = 3\n");
    let config = flags(&["--config", path.to_str().unwrap()]).unwrap();
    assert_eq!((config.search.finite_difference_radius, config.select.epochs), (0.1, 3));
    assert!(flags(&["--finite-difference-radius", "0.1", "--method", "darts2"]).is_ok());
    assert!(flags(&["--select-epochs", "3", "--select"]).is_ok());
    for keys in [SearchConfig::KEYS, TrainConfig::KEYS] {
        for (other, _) in keys.iter().filter_map(|key| key.needs) {
            assert!(keys.iter().any(|key| key.path == other), "no setting {other}");
        }
    }
}

#[test]
fn a_seed_beyond_what_a_file_holds_is_refused() {
    let most = i64::MAX as u64;
    let mut config = SearchConfig::default();
    (config.search.seed, config.data.seed) = (most, Some(most));
    assert!(config.validate().is_ok());
    config.data.seed = Some(most + 1);
    let said = message(config.validate());
    assert_eq!(said, "data.seed: is 9223372036854775808, must be at most 9223372036854775807");
    (config.search.seed, config.data.seed) = (most + 1, None);
    assert!(message(config.validate()).starts_with("search.seed: is 9223372036854775808, must be at most"));
    let mut config = TrainConfig::default();
    config.train.seed = most;
    assert!(config.validate().is_ok());
    config.train.seed = u64::MAX;
    assert!(message(config.validate()).starts_with("train.seed: is 18446744073709551615, must be at most"));
    (config.train.seed, config.data.seed) = (0, Some(u64::MAX));
    assert!(message(config.validate()).starts_with("data.seed: is 18446744073709551615, must be at most"));
}

#[test]
fn a_value_out_of_range_in_a_file_has_its_line() {
    let (_dir, path) = file("[space]\nchannels = 4\n\nnodes = 0\n[data]\nimage_size = 8\n");
    let said = |more: &[&str]| message(flags(&[&["--config", path.to_str().unwrap()], more].concat()));
    assert_eq!(
        said(&["--crop-padding", "2"]),
        format!("{}, line 4: space.nodes: is 0, must be from 1 to 16", path.display())
    );
    // a flag stands on no line, and neither does a default
    assert_eq!(said(&["--crop-padding", "2", "--nodes", "17"]), "space.nodes: is 17, must be from 1 to 16");
    assert!(said(&["--nodes", "1", "--cutout", "9"]).starts_with("data.cutout: is 9, must not exceed"));
    assert_eq!(
        said(&["--nodes", "1", "--channels", "3", "--image-size", "6"]),
        "data.image_size: 6 pixels cannot be halved twice; choose a multiple of 4, such as 8"
    );
}

proptest! {
    #[test]
    fn the_written_file_reads_back_equal(
        numbers in proptest::collection::vec(0usize..1 << 40, 8),
        reals in proptest::collection::vec(1e-12f64..1e12, 9),
        count in 1usize..10, order in 0usize..3, dir in "[ -~]{0,12}", flip: bool, seed in 0u64..1 << 63,
    ) {
        let mut config = SearchConfig::default();
        config.data.dir = dir.into();
        config.data.flip = flip;
        config.data.train_images = numbers[0];
        config.data.train_portion = reals[0];
        (config.space.channels, config.space.cells, config.space.nodes) = (numbers[1], numbers[2], numbers[3]);
        config.space.candidates = CANDIDATES[..count].iter().rev().map(|name| name.to_string()).collect();
        config.search.order = [Order::First, Order::Second, Order::Exact][order];
        config.search.seed = seed;
        config.data.seed = (seed % 2 == 0).then_some(seed / 2);
        (config.weights.learning_rate, config.weights.momentum) = (reals[1], reals[2].trunc());
        (config.alpha.epsilon, config.alpha.weight_decay) = (1. / reals[3], -reals[4]);
        let (_dir, path) = file(&config.to_toml());
        let read = SearchConfig::from_file(&path).unwrap();
        prop_assert_eq!(read.differences(&config), vec![]);
        prop_assert_eq!(read.to_toml(), config.to_toml());
        prop_assert_eq!(read, config);
    }

    #[test]
    fn no_file_makes_the_reader_panic_or_ramble(text in "[\\[\\]a-z_.=0-9\"\n ]{0,60}") {
        let (_dir, path) = file(&text);
        if SearchConfig::from_file(&path).is_err() {
            message(SearchConfig::from_file(&path));
        }
    }
}
