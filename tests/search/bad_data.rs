//! Mistakes in data sets, told before a run folder is made.

use super::*;
use std::io::{Seek, SeekFrom, Write};

const CIFAR_BATCH: u64 = 10_000 * (1 + 3 * 32 * 32);

fn cifar(dir: &Path, first_batch_bytes: u64) -> fs::File {
    fs::create_dir_all(dir).unwrap();
    for name in ["data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        fs::write(dir.join(format!("{name}.bin")), "").unwrap();
    }
    let first = fs::File::create(dir.join("data_batch_1.bin")).unwrap();
    first.set_len(first_batch_bytes).unwrap(); // sparse
    first
}

#[test]
fn cifar_batches() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let told = |parts: &[&str]| mistake(dir, "--data cifar10 --data-dir set", parts);
    told(&["set", "does not exist", "--data-dir"]);
    fs::create_dir(dir.join("set")).unwrap();
    told(&["set", "data_batch_1.bin", "cifar-10-binary.tar.gz"]);
    for bytes in [0, CIFAR_BATCH - 1, CIFAR_BATCH + 1] {
        cifar(&dir.join("set"), bytes);
        told(&["set/data_batch_1.bin", &format!("has {bytes} bytes"), "30730000"]);
    }
    let mut file = cifar(&dir.join("set"), CIFAR_BATCH);
    file.seek(SeekFrom::Start(7 * 3073)).unwrap();
    file.write_all(&[10]).unwrap();
    told(&["set/data_batch_1.bin", "record 7", "label 10", "end at 9"]);
    fs::remove_file(dir.join("set/data_batch_3.bin")).unwrap();
    told(&["set/data_batch_3.bin", "missing"]);
}

#[test]
fn idx_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("set")).unwrap();
    let write = |name: &str, header: &[u32], bytes: usize| {
        let mut content: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        content.extend((0..bytes).map(|i| (i % 2) as u8));
        fs::write(dir.join("set").join(name), content).unwrap();
    };
    let told = |parts: &[&str]| mistake(dir, "--data idx --data-dir set", parts);
    told(&["set", "train-images-idx3-ubyte"]);
    write("train-labels-idx1-ubyte", &[0x801, 4], 4);
    told(&["train-images-idx3-ubyte", "missing"]);
    write("train-images-idx3-ubyte", &[0x801, 4], 4);
    told(&["train-images-idx3-ubyte", "magic number 0x00000801", "0x00000803"]);
    write("train-images-idx3-ubyte", &[0x803, 4, 30, 30], 4 * 900 - 1);
    told(&["train-images-idx3-ubyte"]);
    write("train-images-idx3-ubyte", &[0x803, 4, 30, 30], 4 * 900);
    told(&["data.image_size", "30 x 30 pixels cannot be halved twice", "--image-size"]);
}

#[test]
fn image_folders() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let told = |parts: &[&str]| mistake(dir, "--data folder --data-dir set", parts);
    fs::create_dir_all(dir.join("set")).unwrap();
    told(&["set", "no class folder"]);
    fs::create_dir_all(dir.join("set/cat")).unwrap();
    told(&["set/cat", "without any .png"]);
    fs::write(dir.join("set/cat/1.png"), "no image").unwrap();
    told(&["set/cat/1.png", "cannot be read as an image"]);
    image::RgbImage::new(8, 8).save(dir.join("set/cat/1.png")).unwrap();
    told(&["set", "1 class", "at least two"]);
}

#[test]
fn foreign_files() {
    let Some(samples) = real_data("foreign_samples") else { return };
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.to_str().unwrap();
        for data in ["cifar10", "cifar100", "idx", "folder"] {
            mistake(dir.path(), &format!("--data {data} --data-dir {shown}"), &[shown]);
        }
        // under the name of a batch
        let set = dir.path().join("set");
        cifar(&set, 0);
        fs::copy(&path, set.join("data_batch_1.bin")).unwrap();
        mistake(dir.path(), "--data cifar10 --data-dir set", &["set/data_batch_1.bin"]);
    }
}

#[test]
fn downloads() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    mistake(dir, "--download", &["--download: gets cifar10 and cifar100", "not synthetic"]);
    mistake(
        dir,
        "--data idx --data-dir set --download",
        &["--download: gets cifar10 and cifar100", "not idx"],
    );
    mistake(dir, "--data cifar100", &["data.dir", "--data-dir", "fetch it with --download"]);
    mistake(dir, "--data cifar10 --data-dir set", &["does not exist", "with --download"]);
    // where there is no network: behind a proxy that is not there
    let offline = |program: &str, flags: &str| {
        let mut command = assert_cmd::Command::new(program);
        command.args(flags.split_whitespace()).current_dir(dir);
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env(name, "http://127.0.0.1:1");
        }
        run(command.env_remove("NO_PROXY").env_remove("no_proxy"))
    };
    for (program, flags, name, md5, place) in [
        (SEARCH, "", "10", "c32a1d4ab5d03f1284b67883e8d87530", "data"),
        (TRAIN, "--data-dir a/b", "100", "03b5dce01913d631647c71ecec9e9cb8", "a/b"),
    ] {
        let ended = offline(program, &format!("--data cifar{name} --download {flags}"));
        let file = format!("cifar-{name}-binary.tar.gz");
        let url = format!("https://www.cs.toronto.edu/~kriz/{file}");
        one_line(&ended, &[&url, "cannot be fetched", md5, &format!("{place}/{file}"), "another machine"]);
        assert_eq!(ended.out, format!("download  {url} into {place}\n"));
        assert_eq!(offline(program, &format!("--data cifar{name} --download {flags} --quiet")).out, "");
    }
    assert!(listing(dir).iter().all(|(_, size, _)| size.is_none()), "no file is left");
    // what is there is used, and what is wrong with it told
    cifar(&dir.join("data"), 7);
    one_line(&offline(SEARCH, "--data cifar10 --download"), &["data/data_batch_1.bin", "has 7 bytes"]);
    fs::write(dir.join("data/cifar-100-binary.tar.gz"), "x").unwrap();
    one_line(&offline(SEARCH, "--data cifar100 --download"), &["data/cifar-100-binary.tar.gz"]);
    // the folder is remembered
    let printed = search_well(dir, "--data cifar10 --download --print-config").out;
    assert!(printed.contains("\ndir = \"data\"\n"), "{printed}");
}
