//! Files of the run folder: whole or not there, checked when read, the same bytes for the same content.

use oche::run::checkpoint::{Checkpoint, NEWEST, PREVIOUS};
use oche::run::config::{Configuration, SearchConfig};
use oche::run::jsonl::{self, Alphas, Entropy, JsonLines, Row};
use oche::run::{folder, safetensors_read};
use oche::tensor::{DType, Tensor};
use proptest::prelude::*;
use serde_json::json;
use std::fs;
use std::path::Path;

fn message<T: std::fmt::Debug>(result: oche::Result<T>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
    message
}

fn sample(step: u64) -> Checkpoint {
    let values: Vec<f32> = (0..6).map(|i| i as f32 * 0.1 - step as f32).collect();
    Checkpoint {
        tensors: vec![
            ("stem.0.weight".into(), Tensor::from_slice([2, 1, 3, 1], &values).unwrap()),
            ("alpha/normal".into(), Tensor::from_slice([2], &[f64::NAN, -0.0]).unwrap()),
            ("rng".into(), Tensor::from_slice([3], &[1u8, 2, 3]).unwrap()),
            ("labels".into(), Tensor::from_slice([1, 2], &[7u32, u32::MAX]).unwrap()),
            ("empty".into(), Tensor::zeros([0, 4], DType::F32)),
            ("also_empty".into(), Tensor::zeros([3, 0], DType::F64)),
            ("zzz_empty".into(), Tensor::zeros([0], DType::F64)),
            ("scalar".into(), Tensor::scalar(0.1, DType::F64)),
        ],
        counters: vec![("stem.1.num_batches_tracked".into(), -(1 << 40))],
        state: json!({"epoch": 1, "step": step, "lr": 0.1 + 0.2, "seed": u64::MAX, "note": "a \"quoted\" word"}),
    }
}

/// Everything in a checkpoint, in an order of its own and bit for bit.
fn content(checkpoint: &Checkpoint) -> Vec<String> {
    let bits = |t: &Tensor| t.to_f64().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut all: Vec<String> = (checkpoint.tensors.iter())
        .map(|(name, t)| format!("{name} {:?} {} {:?}", t.dtype(), t.shape(), bits(t)))
        .chain(checkpoint.counters.iter().map(|(name, n)| format!("{name} {n}")))
        .collect();
    all.sort();
    all.push(checkpoint.state.to_string());
    all
}

fn step_of(folder: &Path) -> (u64, Option<String>) {
    let (checkpoint, warning) = Checkpoint::load(folder).unwrap();
    (checkpoint.state["step"].as_u64().unwrap(), warning)
}

#[test]
fn a_checkpoint_comes_back_bit_for_bit_and_its_bytes_depend_on_nothing_else() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut shuffled = sample(5);
    shuffled.tensors.reverse();
    sample(5).save(dirs[0].path()).unwrap();
    shuffled.save(dirs[1].path()).unwrap();
    let bytes = dirs.each_ref().map(|dir| fs::read(dir.path().join(NEWEST)).unwrap());
    assert_eq!(bytes[0], bytes[1]);
    let (loaded, warning) = Checkpoint::load(dirs[0].path()).unwrap();
    assert_eq!(content(&loaded), content(&sample(5)));
    assert_eq!(warning, None);
    assert_eq!(loaded.tensor("scalar").unwrap().item(), 0.1);
    loaded.save(dirs[1].path()).unwrap();
    assert_eq!(fs::read(dirs[1].path().join(NEWEST)).unwrap(), bytes[0]);
    assert!(
        message(safetensors_read(&dirs[0].path().join(NEWEST))).contains("holds integers outside 0..2^32")
    );
}

#[test]
fn the_last_two_are_kept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for step in 0..4 {
        sample(step).save(dir.path()).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [PREVIOUS, NEWEST]);
    assert_eq!(step_of(dir.path()), (3, None));
    fs::remove_file(dir.path().join(NEWEST)).unwrap();
    let (step, warning) = step_of(dir.path());
    assert_eq!(step, 2);
    assert!(warning.unwrap().contains(PREVIOUS));
}

#[test]
fn two_tensors_of_one_name_are_refused_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut twice = sample(1);
    twice.counters.push(("rng".into(), 1));
    assert!(message(twice.save(dir.path())).ends_with("two tensors are named rng; rename one"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    sample(1).save(dir.path()).unwrap();
    sample(2).save(dir.path()).unwrap();
    let path = dir.path().join(NEWEST);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        for mask in (0..8).map(|bit| 1 << bit).chain([b' ' ^ b'\t', 0xff]) {
            let mut bad = good.clone();
            bad[at] ^= mask;
            fs::write(&path, &bad).unwrap();
            let (step, warning) = step_of(dir.path());
            assert_eq!(step, 1, "byte {at} of {}, mask {mask:#x}", good.len());
            let warning = warning.unwrap();
            assert!(
                warning.contains(NEWEST) && warning.contains(PREVIOUS) && !warning.contains('\n'),
                "{warning}"
            );
        }
        fs::write(&path, &good[..at]).unwrap();
        assert_eq!(step_of(dir.path()).0, 1, "cut at {at}");
    }
    fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert_eq!(step_of(dir.path()).0, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_damaged_the_previous_one_is_used_or_the_error_is_one_sentence(
        values in proptest::collection::vec(any::<f64>(), 0..20),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        both: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoint = sample(1);
        checkpoint.tensors.push(("v".into(), Tensor::from_slice([values.len()], &values).unwrap()));
        checkpoint.save(dir.path()).unwrap();
        checkpoint.save(dir.path()).unwrap();
        for name in [NEWEST, PREVIOUS].iter().take(1 + usize::from(both)) {
            let path = dir.path().join(name);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            flips.iter().for_each(|(at, mask)| bad[at.index(good.len())] ^= mask);
            prop_assume!(bad != good);
            fs::write(&path, bad).unwrap();
        }
        if both {
            let said = message(Checkpoint::load(dir.path()));
            prop_assert!(said.contains(NEWEST) && said.contains(PREVIOUS), "{}", said);
        } else {
            let (loaded, warning) = Checkpoint::load(dir.path()).unwrap();
            prop_assert!(warning.is_some());
            prop_assert_eq!(content(&loaded), content(&checkpoint));
        }
    }
}

#[test]
fn a_crash_at_any_moment_of_a_save_leaves_a_whole_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (newest, previous) = (at(NEWEST), at(PREVIOUS));
    let temporary = folder::temporary(&newest);
    sample(1).save(dir.path()).unwrap();
    sample(2).save(dir.path()).unwrap();
    let second = fs::read(&newest).unwrap();
    sample(3).save(dir.path()).unwrap();
    let third = fs::read(&newest).unwrap();
    // While the third is being written, and when it is written but not yet renamed.
    for part in [0, 7, third.len() / 2, third.len()] {
        fs::write(&newest, &second).unwrap();
        fs::write(&temporary, &third[..part]).unwrap();
        assert_eq!(step_of(dir.path()), (2, None));
    }
    // Between the two renames.
    fs::rename(&newest, &previous).unwrap();
    assert_eq!(step_of(dir.path()), (3, None));
    // The newest gone, and a left-over temporary file that is not whole.
    fs::remove_file(&newest).unwrap();
    fs::write(&temporary, &third[..9]).unwrap();
    assert_eq!(step_of(dir.path()).0, 2);
    sample(4).save(dir.path()).unwrap();
    assert_eq!(step_of(dir.path()), (4, None));
    assert!(!temporary.exists());
}

#[test]
fn a_failed_save_leaves_the_old_checkpoint_and_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    sample(1).save(dir.path()).unwrap();
    let temporary = folder::temporary(&dir.path().join(NEWEST));
    // A full disk under the temporary file.
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();
        let said = message(sample(2).save(dir.path()));
        let shown = dir.path().join(NEWEST);
        let expected = format!(
            "cannot write {}: No space left on device (os error 28); free space or write to another folder",
            shown.display()
        );
        assert_eq!(said, expected);
    }
    // Something in the way of the first rename.
    fs::create_dir(dir.path().join(PREVIOUS)).unwrap();
    fs::write(dir.path().join(PREVIOUS).join("x"), "").unwrap();
    assert!(message(sample(2).save(dir.path())).starts_with("cannot write "));
    assert!(!temporary.exists() && temporary.symlink_metadata().is_err());
    assert_eq!(step_of(dir.path()), (1, None));
    // No folder at all.
    assert!(message(sample(2).save(&dir.path().join(NEWEST))).starts_with("cannot write "));
}

#[test]
fn what_is_no_checkpoint_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    assert!(message(Checkpoint::load(dir.path())).contains("holds no checkpoint"));
    fs::write(dir.path().join(NEWEST), "hello").unwrap();
    let said = message(Checkpoint::load(dir.path()));
    assert!(said.contains("not a safetensors file, or a damaged one (") && said.contains(PREVIOUS), "{said}");
    for junk in [&b""[..], b"\x89PNG\r\n\x1a\n12345678", &[0; 64], b"\x02\0\0\0\0\0\0\0{}x"] {
        fs::write(dir.path().join("junk"), junk).unwrap();
        let said = message(safetensors_read(&dir.path().join("junk")));
        assert!(said.contains("not a safetensors file, or a damaged one ("), "{said}");
    }
    assert!(message(safetensors_read(dir.path())).contains("not a plain file"));
    assert!(message(safetensors_read(Path::new("nowhere"))).starts_with("cannot read nowhere: "));
    let mut short = br#"{"a":{"dtype":"I16","shape":[1],"data_offsets":[0,2]}}"#.to_vec();
    short.splice(0..0, (short.len() as u64).to_le_bytes());
    short.extend([0, 0]);
    fs::write(dir.path().join("junk"), short).unwrap();
    assert!(message(safetensors_read(&dir.path().join("junk"))).contains("tensor a is of type I16;"));
}

#[test]
fn foreign_files_give_their_tensors_labels_and_metadata() {
    let Some(data) = std::env::var_os("OCHE_DATA") else {
        return eprintln!("skipped: OCHE_DATA names no folder of real data");
    };
    let path = Path::new(&data).join("../golden/cnn_c2_l3_8px.safetensors");
    let (tensors, metadata) = safetensors_read(&path).unwrap();
    let labels = &tensors.iter().find(|(name, _)| name == "train/labels").unwrap().1;
    assert_eq!((labels.dtype(), labels.shape().dims()), (DType::U32, &[4][..]));
    assert_eq!(metadata["channels"], "2");
    assert!(tensors.iter().any(|(name, t)| name == "alpha/normal" && t.dtype() == DType::F64));
}

#[test]
fn a_run_folder_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let time = chrono::TimeZone::with_ymd_and_hms(&chrono::Local, 2025, 3, 4, 15, 6, 7).unwrap();
    let names: Vec<String> = (0..3)
        .map(|_| folder::create_dated(&dir.path().join("runs"), "search-synthetic", time).unwrap())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let first = "search-synthetic-20250304-150607";
    assert_eq!(names, [first.to_owned(), format!("{first}-2"), format!("{first}-3")]);

    let mut config = SearchConfig::default();
    config.run.out = dir.path().join("a/b");
    let create = |config: &SearchConfig| folder::create(&config.run.out, "search-synthetic");
    assert_eq!(create(&config).unwrap(), config.run.out);
    assert!(create(&config).is_ok()); // still empty
    folder::write_atomic(&config.run.out.join(folder::CONFIG), config.to_toml().as_bytes()).unwrap();
    let said = message(create(&config));
    assert!(said.contains("is not empty; use --resume "), "{said}");
    config.run.out = config.run.out.join(folder::CONFIG).join("c");
    let said = message(create(&config));
    assert!(said.starts_with("cannot write ") && said.ends_with("or write to another"), "{said}");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("genotype.json");
    folder::write_atomic(&path, b"old").unwrap();
    folder::write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/dev/full", folder::temporary(&path)).unwrap();
        assert!(message(folder::write_atomic(&path, b"newer")).contains("No space left on device"));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

fn step(epoch: usize, step: usize) -> Row {
    let loss = 1. / 3. + step as f64;
    Row::Step { epoch, step, train_loss: loss, train_accuracy: 12.5, valid_loss: loss, seconds: 0.1 }
}

#[test]
fn rows_have_the_documented_form_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(folder::METRICS);
    let epoch = Row::Epoch {
        epoch: 0,
        learning_rate: 0.025,
        train_loss: 2.3,
        train_accuracy: 10.,
        valid_loss: 2.3,
        valid_accuracy: 10.,
        seconds: 1.5,
        peak_bytes: 1 << 33,
        peak_rss_bytes: Some(1 << 34),
        entropy: Entropy { normal: vec![8f64.ln()], reduce: vec![0.] },
    };
    let mut file = JsonLines::open(&path).unwrap();
    let rows = [step(0, 0), step(0, 1), epoch];
    rows.iter().for_each(|row| file.append(row).unwrap());
    assert_eq!(jsonl::read::<Row>(&path).unwrap(), rows);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with(r#"{"kind":"step","epoch":0,"step":0,"train_loss":0.3333333333333333,"#),
        "{text}"
    );
    assert!(text.contains(r#"{"kind":"epoch","epoch":0,"learning_rate":0.025,"#), "{text}");

    let path = dir.path().join(folder::ALPHAS);
    let alphas = Alphas { epoch: 3, normal: vec![vec![0.25, 0.75]], reduce: vec![vec![1.], vec![]] };
    JsonLines::open(&path).unwrap().append(&alphas).unwrap();
    assert_eq!(jsonl::read::<Alphas>(&path).unwrap(), [alphas]);
}

#[test]
fn resuming_drops_rows_after_the_checkpoint_and_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(folder::METRICS);
    let early = |row: &Row| matches!(row, Row::Step { step, .. } if *step < 3);
    assert_eq!(jsonl::retain(&path, early).unwrap(), 0);
    assert!(!path.exists());
    let mut file = JsonLines::open(&path).unwrap();
    (0..3).for_each(|i| file.append(&step(0, i)).unwrap());
    let whole = fs::read(&path).unwrap();
    let line = serde_json::to_string(&step(0, 3)).unwrap();
    for cut in 1..=line.len() {
        fs::write(&path, [&whole[..], &line.as_bytes()[..cut]].concat()).unwrap();
        assert_eq!(jsonl::read::<Row>(&path).unwrap().len(), 3);
        assert_eq!(jsonl::retain(&path, early).unwrap(), 1);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    let mut file = JsonLines::open(&path).unwrap();
    (3..9).for_each(|i| file.append(&step(1, i)).unwrap());
    assert_eq!(jsonl::retain(&path, early).unwrap(), 6);
    assert_eq!(fs::read(&path).unwrap(), whole);
    fs::write(&path, [b"{\"kind\":\"walk\"}\n", &whole[..]].concat()).unwrap();
    let said = message(jsonl::retain(&path, early));
    assert!(said.contains("line 1 is not a row of this file"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_row_that_does_not_fit_the_disk_is_an_error() {
    let said = message(JsonLines::open(Path::new("/dev/full")).unwrap().append(&step(0, 0)));
    assert!(
        said.starts_with("cannot write /dev/full: No space left on device (os error 28); free space"),
        "{said}"
    );
    assert!(
        message(JsonLines::open(Path::new("/nowhere/at/all"))).starts_with("cannot write /nowhere/at/all: ")
    );
}
