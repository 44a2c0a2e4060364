//! Folders of images: both arrangements, and what must not be in them.

use super::{complaint, request};
use image::{GrayImage, Luma, Rgb, RgbImage};
use oche::data::{Request, load};
use std::fs;
use std::path::Path;

fn plain(path: &Path, side: u32, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(side, side, Rgb(colour)).save(path).unwrap();
}

#[test]
fn classes_and_files_come_in_byte_order() {
    let root = tempfile::tempdir().unwrap();
    plain(&root.path().join("train/b/10.png"), 20, [1, 2, 3]);
    plain(&root.path().join("train/b/2.PNG"), 32, [4, 5, 6]);
    plain(&root.path().join("train/a b/x.jpeg"), 32, [200, 200, 200]);
    plain(&root.path().join("train/C/x.png"), 40, [7, 8, 9]);
    GrayImage::from_pixel(5, 9, Luma([77])).save(root.path().join("train/C/grey.png")).unwrap();
    for note in ["Thumbs.db", "notes.txt", "README.md", ".DS_Store"] {
        fs::write(root.path().join("train/C").join(note), "x").unwrap();
    }
    fs::create_dir(root.path().join("train/.cache")).unwrap();
    let set = load(&request("folder", Some(root.path()))).unwrap();
    assert_eq!((&set.train.classes[..], set.test), (&["C", "a b", "b"].map(String::from)[..], None));
    assert_eq!(set.train.labels, [0, 0, 1, 2, 2]);
    assert_eq!([set.train.height, set.train.width, set.train.channels], [32, 32, 3]);
    let first = |i| set.train.image(i)[..3].to_vec();
    assert_eq!([first(0), first(1), first(3), first(4)], [[77; 3], [7, 8, 9], [1, 2, 3], [4, 5, 6]]);
    assert!((199..=201).contains(&first(2)[0]), "JPEG is lossy");

    // The same classes without `train`, and a test set.
    let flat = load(&request("folder", Some(&root.path().join("train")))).unwrap();
    assert!(flat.train == set.train);
    for (i, class) in ["a b", "b", "C"].iter().enumerate() {
        plain(&root.path().join("val").join(class).join("t.png"), 8, [i as u8; 3]);
    }
    let sized = Request { image_size: Some(16), ..request("folder", Some(root.path())) };
    let set = load(&sized).unwrap();
    let test = set.test.unwrap();
    assert_eq!((test.height, &test.labels[..], test.images[0]), (16, &[0, 1, 2][..], 2));
    assert_eq!((set.train.image_len(), &test.mean), (16 * 16 * 3, &set.train.mean));
}

#[test]
fn enlarging_is_bilinear_and_reducing_averages() {
    let root = tempfile::tempdir().unwrap();
    // Black and white columns: reduced to an eighth, every pixel is about grey.
    fs::create_dir_all(root.path().join("fine")).unwrap();
    let fine = RgbImage::from_fn(64, 64, |x, _| Rgb([if x % 2 == 0 { 0 } else { 255 }; 3]));
    fine.save(root.path().join("fine/x.png")).unwrap();
    plain(&root.path().join("wide/x.png"), 4, [10, 20, 30]);
    let set = load(&Request { image_size: Some(8), ..request("folder", Some(root.path())) }).unwrap();
    assert!(set.train.image(0).iter().all(|x| (120..=135).contains(x)));
    assert!(set.train.image(1).chunks(3).all(|pixel| pixel == [10, 20, 30]));
}

#[test]
fn what_is_wrong_is_said_by_file() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let fails = |parts: &[&str]| complaint(load(&request("folder", Some(dir))), parts);
    fails(&[dir.file_name().unwrap().to_str().unwrap(), "no class folder"]);
    plain(&dir.join("cat/1.png"), 8, [1; 3]);
    fails(&["1 class"]);
    fs::create_dir(dir.join("dog")).unwrap();
    fails(&["dog:", "without any"]);
    plain(&dir.join("dog/1.png"), 8, [2; 3]);
    load(&request("folder", Some(dir))).unwrap();

    fs::write(dir.join("dog/2.gif"), "GIF89a").unwrap();
    fails(&["2.gif:", "neither PNG nor JPEG"]);
    fs::remove_file(dir.join("dog/2.gif")).unwrap();
    for (name, bytes, what) in [
        ("2.png", &b"no picture"[..], "cannot be read as an image"),
        ("2.jpg", &[0xff, 0xd8, 0xff, 0xe0, 0], "JPEG file without an end"),
        ("2.jpg", &[0xff, 0xd8, 0xff], "JPEG file without an end"),
        ("2.png", &[], "cannot be read as an image"),
    ] {
        fs::write(dir.join("dog").join(name), bytes).unwrap();
        fails(&[&format!("dog/{name}:"), what]);
        fs::remove_file(dir.join("dog").join(name)).unwrap();
    }
    let png = fs::read(dir.join("dog/1.png")).unwrap();
    fs::write(dir.join("dog/3.png"), &png[..png.len() - 20]).unwrap();
    fails(&["dog/3.png:", "cannot be read as an image, since it is damaged or cut short; "]);
    fs::remove_file(dir.join("dog/3.png")).unwrap();
    // every length that holds the header and a part of the picture, of which a segment ends as a whole file does
    RgbImage::from_fn(40, 40, |x, y| Rgb([(x * y) as u8, x as u8, y as u8]))
        .save(dir.join("dog/4.jpg"))
        .unwrap();
    let jpeg = fs::read(dir.join("dog/4.jpg")).unwrap();
    let noted = [&jpeg[..2], &[0xff, 0xfe, 0, 4, 0xff, 0xd9], &jpeg[2..]].concat();
    fs::write(dir.join("dog/4.jpg"), &noted).unwrap();
    load(&request("folder", Some(dir))).unwrap();
    for len in (noted.len() / 2..noted.len()).step_by(37).chain([noted.len() - 1]) {
        fs::write(dir.join("dog/4.jpg"), &noted[..len]).unwrap();
        fails(&["dog/4.jpg:", "JPEG file without an end"]);
    }
    fs::remove_file(dir.join("dog/4.jpg")).unwrap();
    #[cfg(unix)]
    {
        let pipe = dir.join("dog/5.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fails(&["dog/5.png:", "no plain file"]);
        fs::remove_file(pipe).unwrap();
    }
    fs::create_dir(dir.join("dog/more")).unwrap();
    fails(&["dog/more:", "folder inside a class folder"]);
}

#[test]
fn a_test_set_of_other_classes_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for path in ["train/a/1.png", "train/b/1.png", "test/a/1.png"] {
        plain(&root.path().join(path), 8, [1; 3]);
    }
    let fails = |parts: &[&str]| complaint(load(&request("folder", Some(root.path()))), parts);
    fails(&["test/b:", "missing"]);
    plain(&root.path().join("test/b/1.png"), 8, [1; 3]);
    plain(&root.path().join("test/c/1.png"), 8, [1; 3]);
    fails(&["test/c:", "training images do not have"]);
}
