//! The `train` program on the emulated device: in one go, resumed, without graphs, and gone on with on the CPU.

use oche::device::Device;
use oche::run::safetensors_read;
use std::fs;
use std::path::Path;

/// 2 steps of 16 and one of 8 images an epoch, both kinds of cells, dropped paths from the second epoch on.
const TINY: &str = "--genotype DARTS_V2 --train-images 40 --channels 2 --cells 3 --image-size 8 --batch-size 16 \
                    --crop-padding 1 --cutout 2 --drop-path 0.4 --label-smoothing 0.1 --auxiliary-weight 0 --epochs 2";

fn train(driver: &Path, dir: &Path, flags: &str) -> String {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_train"));
    command.env("LD_LIBRARY_PATH", driver).env_remove("OCHE_DEBUG").current_dir(dir);
    let ended = command.args(flags.split_whitespace()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{flags}\n{}{}", text(&ended.stdout), text(&ended.stderr));
    text(&ended.stdout)
}

#[test]
fn emulated_trainings_are_the_same_in_one_go_resumed_and_without_graphs() {
    let (driver, dir) = (super::search::driver(), tempfile::tempdir().unwrap());
    let (driver, dir) = (driver.path(), dir.path());
    let checkpoint = |run: &str| fs::read(dir.join(run).join("checkpoint.safetensors")).unwrap();
    let said = train(driver, dir, &format!("{TINY} --device cuda --out whole"));
    assert!(said.contains("device    cuda:0 ") && said.contains("best test"), "{said}");
    train(driver, dir, &format!("{TINY} --device cuda --out single --no-graph"));
    assert!(checkpoint("whole") == checkpoint("single"), "graphs change the numbers");
    train(driver, dir, &format!("{TINY} --device cuda --out parts --max-steps 4"));
    train(driver, dir, "--resume parts --max-steps 0");
    assert!(checkpoint("whole") == checkpoint("parts"), "resuming changes the numbers");
    // what a device leaves the CPU can go on with, to nearly the same weights
    train(driver, dir, &format!("{TINY} --device cuda --out moved --max-steps 4"));
    train(driver, dir, "--resume moved --max-steps 0 --device cpu");
    let weights = |run: &str| {
        let (tensors, _) = safetensors_read(&dir.join(run).join("checkpoint.safetensors")).unwrap();
        tensors.into_iter().find(|(name, _)| name == "classifier.weight").unwrap().1
    };
    assert!(super::distance(&weights("moved"), &weights("whole")) < 1e-4);
}

/// Batches that the host makes, captured steps and all: the same in two goes, and nearly those of the CPU.
#[test]
fn emulated_trainings_take_resized_crops() {
    let (driver, dir) = (super::search::driver(), tempfile::tempdir().unwrap());
    let (driver, dir) = (driver.path(), dir.path());
    let tiny = TINY.replace("--crop-padding 1", "--augment imagenet --crop-padding 0");
    train(driver, dir, &format!("{tiny} --device cuda --out whole"));
    train(driver, dir, &format!("{tiny} --device cuda --out parts --max-steps 4"));
    train(driver, dir, "--resume parts --max-steps 0");
    train(driver, dir, &format!("{tiny} --device cpu --out host"));
    let bytes = |run: &str| fs::read(dir.join(run).join("checkpoint.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("parts"), "resuming changes the numbers");
    let weights = |run: &str| {
        let (tensors, _) = safetensors_read(&dir.join(run).join("checkpoint.safetensors")).unwrap();
        tensors.into_iter().find(|(name, _)| name == "classifier.weight").unwrap().1
    };
    assert!(super::distance(&weights("whole"), &weights("host")) < 1e-3);
    train(driver, dir, &format!("{tiny} --device cuda --precision bf16 --out half --max-steps 3"));
}

/// The auxiliary head, on both devices.
#[test]
fn emulated_training_steps_agree_with_the_cpu() {
    use oche::nn::Sgd;
    use oche::space::network::{Network, NetworkConfig};
    use oche::space::zoo;
    use oche::tensor::DType;
    use oche::train::{Hyper, Trainer};
    let (device, _turn) = super::device();
    let config =
        NetworkConfig { channels: 2, cells: 2, classes: 3, auxiliary: true, ..NetworkConfig::default() };
    let run = |device: &Device| {
        let net = Network::new(&zoo::named("PDARTS").unwrap(), config).unwrap();
        let sgd = Sgd { momentum: 0.9, weight_decay: 3e-4 };
        let hyper = Hyper { sgd, clip: 5.0, smoothing: 0.1, auxiliary: 0.4 };
        let mut trainer = Trainer::new(net, hyper, 1, DType::F32).unwrap().on(device).unwrap();
        trainer.graphs = false;
        let batch = super::common::batch(3, 32, DType::F32, 5, 0).on(device, DType::F32).unwrap();
        let drop = trainer.net().draw_paths(0.3, 3, [1, 0, 0]).unwrap();
        let (loss, hits) = trainer.step(&batch, Some(&drop), 0.1).unwrap();
        let tested = trainer.evaluate(&batch).unwrap();
        ([loss, tested.0], [hits, tested.1], trainer.weights.flat.to_host().unwrap())
    };
    let (there, here) = (run(&device), run(&Device::Cpu));
    assert!(there.0.iter().zip(here.0).all(|(a, b)| (a - b).abs() < 1e-4), "{:?} {:?}", there.0, here.0);
    assert_eq!(there.1, here.1);
    assert!(super::distance(&there.2, &here.2) < 1e-4);
}
