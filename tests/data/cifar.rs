//! CIFAR-10 and CIFAR-100: official layout in all its places, and files that are not it.

use super::{complaint, gzip, real_data, request};
use oche::data::load;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

const BATCHES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];
/// 10,000 records of a label and three planes of 32 x 32: the set's web page.
const BATCH: u64 = 30_730_000;

/// A file of `len` zero bytes (no disk space) with some others in it.
fn sparse(path: &Path, len: u64, bytes: &[(u64, u8)]) {
    let mut file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for &(at, byte) in bytes {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte]).unwrap();
    }
}

fn zeros10(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    BATCHES.iter().for_each(|name| sparse(&dir.join(name), BATCH, &[]));
}

#[test]
fn cifar10_is_read_plain_compressed_from_the_inner_folder_and_from_the_archive() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("cifar-10-batches-bin");
    zeros10(&inner);
    // Record 1 of batch 2: label 7, and the first red, second green and last blue value.
    let at = 3073;
    let marks = [(at, 7), (at + 1, 11), (at + 1 + 1024 + 1, 22), (at + 3072, 33)];
    sparse(&inner.join(BATCHES[1]), BATCH, &marks);
    let set = load(&request("cifar10", Some(root.path()))).unwrap();
    let (train, test) = (&set.train, set.test.as_ref().unwrap());
    assert_eq!((train.len(), test.len(), train.image_len()), (50_000, 10_000, 3072));
    assert_eq!((train.classes.len(), train.classes[7].as_str()), (10, "horse"));
    assert_eq!(train.labels.iter().position(|&label| label == 7), Some(10_001));
    let image = train.image(10_001);
    assert_eq!((image[0], image[3 + 1], image[3071]), (11, 22, 33));
    assert_eq!(train.images.iter().filter(|&&x| x > 0).count(), 3);
    assert_eq!((train.mean[0], test.std[2]), (0.491_399_68, 0.261_587_68));

    // The same through gzip, and the archive that holds it.
    let batch = gzip(&fs::read(inner.join(BATCHES[1])).unwrap());
    fs::write(inner.join("data_batch_2.bin.gz"), batch).unwrap();
    fs::remove_file(inner.join(BATCHES[1])).unwrap();
    assert!(load(&request("cifar10", Some(&inner))).unwrap() == set);
    sparse(&inner.join(BATCHES[1]), BATCH, &marks);
    let archive = root.path().join("cifar-10-binary.tar.gz");
    let encoder = flate2::write::GzEncoder::new(File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(encoder);
    for name in BATCHES.iter().rev() {
        tar.append_path_with_name(inner.join(name), format!("cifar-10-batches-bin/{name}")).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    fs::remove_dir_all(&inner).unwrap();
    assert!(load(&request("cifar10", Some(root.path()))).unwrap() == set);

    // Cut short, and with a flipped bit in the checksum at the end.
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    complaint(load(&request("cifar10", Some(&archive))), &["cifar-10-binary.tar.gz", "damaged"]);
    let mut flipped = whole;
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    fs::write(&archive, flipped).unwrap();
    complaint(load(&request("cifar10", Some(&archive))), &["cifar-10-binary.tar.gz", "damaged"]);
}

#[test]
fn cifar100_takes_the_fine_label() {
    let dir = tempfile::tempdir().unwrap();
    sparse(&dir.path().join("train.bin"), 50_000 * 3074, &[(0, 19), (1, 99), (2, 5)]);
    sparse(&dir.path().join("test.bin"), 10_000 * 3074, &[(3074, 3), (3075, 42)]);
    let set = load(&request("cifar100", Some(dir.path()))).unwrap();
    assert_eq!((set.train.len(), set.train.labels[0], set.train.images[0]), (50_000, 99, 5));
    assert_eq!((set.train.classes.len(), set.train.classes[99].as_str()), (100, "worm"));
    assert_eq!(set.test.as_ref().map(|test| (test.len(), test.labels[1])), Some((10_000, 42)));
    assert_eq!(set.train.classes[42], "leopard"); // fine_label_names.txt, line 43
    let sorted = set.train.classes.is_sorted();
    assert!(sorted, "the official order is alphabetical");

    sparse(&dir.path().join("test.bin"), 10_000 * 3074, &[(3074, 20)]);
    complaint(load(&request("cifar100", Some(dir.path()))), &["test.bin", "record 1", "label 20"]);
}

#[test]
fn what_is_wrong_with_a_folder_is_said_by_file() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let fails = |parts: &[&str]| complaint(load(&request("cifar10", Some(dir))), parts);
    let name = dir.file_name().unwrap().to_str().unwrap();
    fails(&[name, "data_batch_1.bin", "test_batch.bin", "cifar-10-binary.tar.gz"]);

    fs::write(dir.join("data_batch_1"), [0x80, 2]).unwrap();
    fails(&["data_batch_1:", "python version", "cifar-10-binary.tar.gz"]);

    // The other batches are empty: the fault that is told is the first one.
    BATCHES[1..].iter().for_each(|name| sparse(&dir.join(name), 0, &[]));
    let batch = dir.join(BATCHES[0]);
    fails(&["data_batch_1.bin:", "missing", "data_batch_1.bin.gz"]);

    sparse(&batch, BATCH - 5, &[]);
    fails(&["data_batch_1.bin:", "30729995", "30730000"]);
    sparse(&batch, BATCH + 1, &[]);
    fails(&["data_batch_1.bin:", "30730001", "30730000"]);
    sparse(&batch, 0, &[]);
    fails(&["data_batch_1.bin:", " 0 bytes"]);
    sparse(&batch, BATCH, &[(2 * 3073, 10)]);
    fails(&["data_batch_1.bin:", "record 2", "label 10"]);
    fs::write(&batch, [0x80, 2, 0x7d]).unwrap();
    fails(&["data_batch_1.bin:", "python version"]);
    sparse(&batch, BATCH, &[]);
    fails(&["data_batch_2.bin:", " 0 bytes"]);

    fs::remove_file(&batch).unwrap();
    let packed = dir.join("data_batch_1.bin.gz");
    let good = gzip(&[0; 50_000]);
    fs::write(&packed, &good).unwrap();
    fails(&["data_batch_1.bin.gz:", "50000", "30730000"]);
    fs::write(&packed, &good[..good.len() / 2]).unwrap();
    fails(&["data_batch_1.bin.gz:", "damaged"]);
    fs::write(&packed, b"not gzip").unwrap();
    fails(&["data_batch_1.bin.gz:", "gzip"]);
    let mut garbled = good;
    garbled[20..].fill(0xff);
    fs::write(&packed, garbled).unwrap();
    fails(&["data_batch_1.bin.gz:", "damaged"]);
}

#[test]
fn an_archive_of_the_wrong_kind_is_told() {
    let root = tempfile::tempdir().unwrap();
    let archive = root.path().join("cifar-10-binary.tar.gz");
    let pack = |member: &str, bytes: &[u8]| {
        let mut tar = tar::Builder::new(vec![]);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, member, bytes).unwrap();
        fs::write(&archive, gzip(&tar.into_inner().unwrap())).unwrap();
    };
    let fails = |parts: &[&str]| complaint(load(&request("cifar10", Some(root.path()))), parts);
    pack("cifar-10-batches-py/data_batch_1", &[0x80, 2]);
    fails(&["cifar-10-binary.tar.gz:", "python version"]);
    pack("cifar-10-batches-bin/data_batch_1.bin", &[1, 2, 3]);
    fails(&["cifar-10-batches-bin/data_batch_1.bin:", "3 bytes", "30730000"]);
    pack("readme.html", b"<html>");
    fails(&["cifar-10-binary.tar.gz:", "no data_batch_1.bin"]);
    fs::write(&archive, gzip(&[b'x'; 2000])).unwrap();
    fails(&["cifar-10-binary.tar.gz:", "damaged"]);
}

/// Facts of the official files: first labels, class counts of batch 1, and the published mean and deviation.
#[test]
fn the_real_cifar10_has_its_published_statistics() {
    let Some(dir) = real_data("cifar10") else { return };
    let set = load(&request("cifar10", Some(&dir))).unwrap();
    let test = set.test.unwrap();
    assert_eq!(set.train.labels[..8], [6, 9, 9, 4, 1, 1, 2, 7]);
    assert_eq!(test.labels[..8], [3, 8, 8, 0, 6, 6, 1, 6]);
    let count = |labels: &[u32], class| labels.iter().filter(|&&label| label == class).count();
    let counts: Vec<_> = (0..10).map(|class| count(&set.train.labels[..10_000], class)).collect();
    assert_eq!(counts, [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]);
    assert!(
        (0..10).all(|class| count(&test.labels, class) == 1000 && count(&set.train.labels, class) == 5000)
    );
    let (mean, std) = set.train.statistics();
    for (measured, published) in mean.iter().chain(&std).zip(set.train.mean.iter().chain(&set.train.std)) {
        assert!((measured - published).abs() < 1e-6, "{measured} is not {published}");
    }
}

#[test]
fn foreign_files_are_refused_by_name() {
    let Some(dir) = real_data("foreign_samples") else { return };
    let root = tempfile::tempdir().unwrap();
    let pickle = dir.join("cifar10_data_batch_1.truncated_at_524288.pickle");
    let records = dir.join("cifar_like_19_records.bin");
    complaint(load(&request("cifar10", Some(&dir))), &["foreign_samples", "holds none of"]);
    complaint(load(&request("cifar10", Some(&pickle))), &["524288.pickle", "python version"]);
    complaint(load(&request("cifar10", Some(&records))), &["19_records.bin", "single file"]);
    complaint(load(&request("folder", Some(&dir))), &["foreign_samples", "no class folder"]);
    complaint(load(&request("folder", Some(&records))), &["19_records.bin", "is a file"]);
    complaint(load(&request("idx", Some(&dir))), &["foreign_samples", "train-images-idx3-ubyte"]);

    BATCHES[1..].iter().for_each(|name| sparse(&root.path().join(name), 0, &[]));
    let batch = root.path().join(BATCHES[0]);
    fs::write(&batch, fs::read(&pickle).unwrap()).unwrap();
    complaint(load(&request("cifar10", Some(root.path()))), &["data_batch_1.bin:", "python version"]);
    fs::write(&batch, fs::read(&records).unwrap()).unwrap();
    complaint(load(&request("cifar10", Some(root.path()))), &["data_batch_1.bin:", "58387", "30730000"]);
    fs::remove_file(&batch).unwrap();
    fs::copy(&records, root.path().join("train-images-idx3-ubyte")).unwrap();
    fs::copy(&records, root.path().join("train-labels-idx1-ubyte")).unwrap();
    complaint(load(&request("idx", Some(root.path()))), &["train-images-idx3-ubyte:", "magic number"]);
}
