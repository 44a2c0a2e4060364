//! That searching learns something: on drawn images, and on CIFAR-10 through a kill and a resume.

use super::*;
use std::os::unix::process::ExitStatusExt;

/// Column `key` of the rows of one kind.
fn column(run: &Path, kind: &str, key: &str) -> Vec<f64> {
    let of_kind = rows(run, "metrics.jsonl").into_iter().filter(|row| row["kind"] == kind);
    of_kind.map(|row| row[key].as_f64().unwrap()).collect()
}

#[test]
fn the_loss_falls_on_drawn_images() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--train-images 512 --channels 4 --cells 1 --nodes 1 --image-size 8 --batch-size 32 --epochs 24 \
                 --learning-rate 0.1 --crop-padding 1 --out run";
    search_well(dir.path(), flags);
    let run = dir.path().join("run");
    let (loss, accuracy) = (column(&run, "epoch", "train_loss"), column(&run, "epoch", "train_accuracy"));
    assert!(loss[23] < loss[0] - 0.4, "{loss:?}");
    assert!(accuracy[23] > 25., "{accuracy:?}"); // chance is 10 %
    let valid = column(&run, "epoch", "valid_accuracy");
    assert!(valid[23] > 17., "{valid:?}");
}

#[test]
fn a_search_on_cifar10_learns_and_survives_a_kill() {
    let Some(cifar10) = real_data("cifar10") else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = format!(
        "--data cifar10 --data-dir {} --train-portion 0.98 --channels 4 --cells 2 --nodes 2 --image-size 16 \
         --batch-size 32 --crop-padding 2 --learning-rate 0.1 --max-steps 300",
        cifar10.display()
    );
    search_well(dir, &format!("{flags} --out whole"));
    let accuracy = column(&dir.join("whole"), "step", "train_accuracy");
    let late = accuracy[200..].iter().sum::<f64>() / 100.;
    assert!(late > 20., "{late}"); // chance is 10 %
    let loss = column(&dir.join("whole"), "step", "train_loss");
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&loss[250..]) < mean(&loss[..50]) - 0.1);

    let killed = stopped(dir, &format!("{flags} --out run --checkpoint-steps 40"), "run", 150, "-KILL");
    assert_eq!(killed.expect("killed in the middle").0.signal(), Some(9));
    search_well(dir, "--resume run");
    assert_same(&dir.join("whole"), &dir.join("run"));
}
