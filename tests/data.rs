//! Data sets: reading, drawing, splitting, augmenting. Fixtures are written by the tests; `OCHE_DATA` names a folder with
//! real files (`cifar10/`, `foreign_samples/`), without which the tests on them say so and pass.

#[path = "data/batches.rs"]
mod batches;
#[path = "data/cifar.rs"]
mod cifar;
#[path = "data/crops.rs"]
mod crops;
#[path = "data/download.rs"]
mod download;
#[path = "data/folder.rs"]
mod folder;
#[path = "data/idx.rs"]
mod idx;
#[path = "data/synthetic.rs"]
mod synthetic;

use oche::Result;
use oche::data::{Dataset, Request, load};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A request with nothing but a name and a folder.
fn request(name: &str, dir: Option<&Path>) -> Request {
    let dir = dir.map(Path::to_owned);
    Request { name: name.into(), dir, image_size: None, seed: 2, train_images: None }
}

/// The message of a load that has to fail, checked to be one sentence and to contain every one of `parts`.
fn complaint(result: Result<Dataset>, parts: &[&str]) -> String {
    let message = result.map(|set| set.train.len()).expect_err("has to fail").to_string();
    assert!(
        !message.contains('\n') && !message.contains(". ") && !message.ends_with('.'),
        "one sentence: {message}"
    );
    assert!(message.len() < 400, "short: {message}");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    message
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The folder `part` of the real data, if there is one.
fn real_data(part: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("OCHE_DATA") else {
        println!("skipped: OCHE_DATA is not set");
        return None;
    };
    let dir = Path::new(&root).join(part);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no {part} in OCHE_DATA");
    None
}

#[test]
fn a_request_that_makes_no_sense_is_told_before_any_file_is_read() {
    complaint(
        load(&request("cifar", None)),
        &["data.name", "`cifar`", "synthetic", "did you mean `cifar10`?"],
    );
    complaint(
        load(&request("wikitext", None)),
        &["`wikitext` is none of cifar10, cifar100, idx, folder, synthetic"],
    );
    for name in ["cifar10", "cifar100", "idx", "folder"] {
        complaint(load(&request(name, None)), &[name, "--data-dir"]);
        let capped = Request { train_images: Some(50), ..request(name, None) };
        complaint(load(&capped), &["train_images", name]);
        complaint(
            load(&request(name, Some(Path::new("no/such/place")))),
            &["no/such/place", "does not exist"],
        );
    }
    complaint(load(&request("synthetic", Some(Path::new(".")))), &["data.dir", "synthetic"]);
    for size in [0, 7, 513] {
        let sized = Request { image_size: Some(size), ..request("synthetic", None) };
        complaint(load(&sized), &["image_size", &format!("{size} is outside 8 to 512")]);
    }
    for count in [0, 9, 1_000_001] {
        let counted = Request { train_images: Some(count), ..request("synthetic", None) };
        complaint(load(&counted), &["train_images", &format!("{count} is outside 10 to 1000000")]);
    }
}
