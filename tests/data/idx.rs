//! MNIST-like files: round trip, and files that do not fit each other.

use super::{complaint, gzip, request};
use oche::data::{Request, load};
use std::fs;
use std::path::Path;

/// The format as described on the MNIST web page: magic number and extents, big endian, then unsigned bytes.
fn idx(magic: u32, extents: &[u32], bytes: &[u8]) -> Vec<u8> {
    let header = std::iter::once(&magic).chain(extents).flat_map(|word| word.to_be_bytes());
    header.chain(bytes.iter().copied()).collect()
}

fn images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let bytes: Vec<u8> = (0..count * height * width).map(|i| (i * 7 % 256) as u8).collect();
    idx(0x803, &[count, height, width], &bytes)
}

fn labels(labels: &[u8]) -> Vec<u8> {
    idx(0x801, &[labels.len() as u32], labels)
}

fn write_train(dir: &Path) {
    fs::write(dir.join("train-images-idx3-ubyte"), images(4, 28, 28)).unwrap();
    fs::write(dir.join("train-labels-idx1-ubyte"), labels(&[0, 2, 1, 1])).unwrap();
}

#[test]
fn four_files_in_three_spellings_make_a_set() {
    let root = tempfile::tempdir().unwrap();
    write_train(root.path());
    let set = load(&request("idx", Some(root.path()))).unwrap();
    assert_eq!(set.test, None);
    fs::write(root.path().join("t10k-images.idx3-ubyte"), images(2, 28, 28)).unwrap();
    fs::write(root.path().join("t10k-labels.idx1-ubyte.gz"), gzip(&labels(&[2, 0]))).unwrap();
    let set = load(&request("idx", Some(root.path()))).unwrap();
    let (train, test) = (&set.train, set.test.as_ref().unwrap());
    assert_eq!([train.len(), train.height, train.width, train.channels], [4, 28, 28, 1]);
    assert_eq!((&train.labels[..], &test.labels[..]), (&[0, 2, 1, 1][..], &[2, 0][..]));
    assert_eq!(train.classes, ["0", "1", "2"]);
    assert_eq!((train.image(0)[1], train.image(1)[0]), (7, (784 * 7 % 256) as u8));
    let pixels = || train.images.iter().map(|&x| x as f64 / 255.0);
    let mean = pixels().sum::<f64>() / pixels().count() as f64;
    assert!((train.mean[0] as f64 - mean).abs() < 1e-6 && test.mean == train.mean && test.std == train.std);

    let sized = load(&Request { image_size: Some(14), ..request("idx", Some(root.path())) }).unwrap();
    assert_eq!((sized.train.image_len(), sized.test.map(|test| test.images.len())), (196, Some(392)));
}

#[test]
fn what_does_not_fit_is_said_by_file() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let fails = |parts: &[&str]| complaint(load(&request("idx", Some(dir))), parts);
    let replace = |name: &str, bytes: &[u8], parts: &[&str]| {
        let path = dir.join(name);
        let before = fs::read(&path).ok();
        fs::write(&path, bytes).unwrap();
        fails(parts);
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    };
    fails(&["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]);
    let (image_file, label_file) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    replace(image_file, &images(4, 28, 28), &["train-labels-idx1-ubyte:", "missing"]);
    write_train(dir);
    replace(image_file, &labels(&[1, 2]), &["train-images", "0x00000801", "0x00000803"]);
    replace(label_file, &images(4, 28, 28), &["train-labels", "0x00000803", "0x00000801"]);
    replace(image_file, &images(4, 28, 28)[..3000], &["train-images", "2984 bytes", "3136"]);
    replace(image_file, &[images(4, 28, 28), vec![0]].concat(), &["train-images", "3137 bytes", "3136"]);
    replace(image_file, &[0, 0, 8, 3, 0, 0], &["train-images", "header"]);
    replace(image_file, &[], &["train-images", "header"]);
    replace(image_file, &idx(0x803, &[u32::MAX; 3], &[]), &["train-images", "header"]);
    replace(image_file, &idx(0x803, &[u32::MAX, 28, 28], &[0; 9]), &["train-images", "9 bytes"]);
    replace(image_file, &images(3, 28, 28), &["train-labels", "4 labels", "3 images"]);
    replace(image_file, &idx(0x803, &[4, 0, 28], &[]), &["train-images", "0 x 28"]);
    let packed = gzip(&images(4, 28, 28));
    replace(image_file, &packed[..packed.len() - 8], &["train-images", "damaged"]);
    replace(label_file, &labels(&[0; 4]), &["at least two"]);
    replace("t10k-images-idx3-ubyte", &images(2, 28, 28), &["t10k-labels-idx1-ubyte:", "missing"]);
    fs::write(dir.join("t10k-labels-idx1-ubyte"), labels(&[0, 3])).unwrap();
    replace("t10k-images-idx3-ubyte", &images(2, 28, 28), &["t10k-labels", "label 3", "end at 2"]);
    fs::write(dir.join("t10k-labels-idx1-ubyte"), labels(&[0, 1])).unwrap();
    replace("t10k-images-idx3-ubyte", &images(2, 14, 28), &["t10k-images", "14 x 28", "28 x 28"]);
}
