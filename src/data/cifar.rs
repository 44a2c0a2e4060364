//! CIFAR-10 and CIFAR-100 in the official binary layout (Krizhevsky 2009), from a folder or the archive as downloaded.

use super::{Archive, Dataset, ImageSet, files};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const IMAGE: usize = 3 * PLANE;

/// Where one of the two sets keeps what.
pub struct Layout {
    name: &'static str,
    /// The last one is for testing.
    batches: &'static [&'static str],
    /// Records of each batch.
    records: &'static [usize],
    folder: &'static str,
    archive: &'static str,
    /// Of the archive, as its publishers print it.
    md5: &'static str,
    /// Folder, archive and first batch of the version for python, which people take by mistake.
    python: [&'static str; 3],
    /// Number of classes of each label byte; the last byte is the class.
    labels: &'static [u8],
    classes: &'static [&'static str],
    mean: [f32; 3],
    std: [f32; 3],
}

pub const CIFAR10: Layout = Layout {
    name: "cifar10",
    batches: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ],
    records: &[10_000; 6],
    folder: "cifar-10-batches-bin",
    archive: "cifar-10-binary.tar.gz",
    md5: "c32a1d4ab5d03f1284b67883e8d87530",
    python: ["cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1"],
    labels: &[10],
    classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    // As in the published DARTS code.
    mean: [0.491_399_68, 0.482_158_27, 0.446_531_24],
    std: [0.247_032_33, 0.243_485_05, 0.261_587_68],
};

pub const CIFAR100: Layout = Layout {
    name: "cifar100",
    batches: &["train.bin", "test.bin"],
    records: &[50_000, 10_000],
    folder: "cifar-100-binary",
    archive: "cifar-100-binary.tar.gz",
    md5: "03b5dce01913d631647c71ecec9e9cb8",
    python: ["cifar-100-python", "cifar-100-python.tar.gz", "train"],
    labels: &[20, 100],
    classes: &FINE_CLASSES,
    mean: [0.507_075_16, 0.486_548_87, 0.440_917_84],
    std: [0.267_334_29, 0.256_438_46, 0.276_150_47],
};

/// The 100 fine labels, in the order of `fine_label_names.txt`.
#[rustfmt::skip]
const FINE_CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

impl Layout {
    /// The archive as its publishers give it out.
    pub fn published(&self) -> Archive {
        let url = format!("https://www.cs.toronto.edu/~kriz/{}", self.archive);
        Archive { url, file: self.archive.into(), md5: self.md5.into() }
    }
    /// Whether something of the set is at `path`, though it may turn out not to be all of it.
    pub fn is_at(&self, path: &Path) -> bool {
        path.is_file()
            || path.join(self.archive).is_file()
            || [path.to_owned(), path.join(self.folder)]
                .iter()
                .any(|dir| self.batches.iter().any(|batch| files::find(dir, &[batch]).is_some()))
    }
    fn record(&self) -> usize {
        self.labels.len() + IMAGE
    }
    fn batch_bytes(&self, batch: usize) -> u64 {
        (self.records[batch] * self.record()) as u64
    }
    fn python_version(&self, path: &Path) -> Error {
        Error::data(
            path,
            format!("is of the python version of the set; get the binary version, {}", self.archive),
        )
    }
}

/// Images and labels of one batch.
type Decoded = (Vec<u8>, Vec<u32>);

/// Loads the set from `path`: the folder of the batches (`.bin` or `.bin.gz`), the folder above it, the folder of the
/// archive, or the archive.
///
/// # Errors
/// `Error::Data` names the file that is missing, of a wrong size, damaged, or of another kind.
pub fn load(layout: &Layout, path: &Path) -> Result<Dataset> {
    files::check_exists(path, ", or let search or train fetch the set into it with --download")?;
    let decoded: Vec<Result<Decoded>> = match locate(layout, path)? {
        Source::Archive(archive) => {
            let batches = read_archive(layout, &archive)?;
            batches
                .into_par_iter()
                .enumerate()
                .map(|(i, (path, raw))| decode(layout, i, &path, &raw))
                .collect()
        }
        Source::Files(paths) => paths
            .par_iter()
            .enumerate()
            .map(|(i, path)| {
                let (raw, found) = files::read_up_to(&mut files::open(path)?, layout.batch_bytes(i), path)?;
                check_size(layout, i, path, &raw, found)?;
                decode(layout, i, path, &raw)
            })
            .collect(),
    };
    // Collected in two steps so that the first of several faults is the one reported.
    let mut decoded = decoded.into_iter().collect::<Result<Vec<Decoded>>>()?;
    let test = decoded.pop().map(|batch| image_set(layout, vec![batch]));
    Ok(Dataset { name: layout.name.into(), train: image_set(layout, decoded), test })
}

fn image_set(layout: &Layout, batches: Vec<Decoded>) -> ImageSet {
    let (images, labels): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
    ImageSet {
        images: images.concat(),
        labels: labels.concat(),
        height: SIDE,
        width: SIDE,
        channels: 3,
        classes: layout.classes.iter().map(|&class| class.into()).collect(),
        mean: layout.mean.to_vec(),
        std: layout.std.to_vec(),
    }
}

enum Source {
    Files(Vec<PathBuf>),
    Archive(PathBuf),
}

fn locate(layout: &Layout, path: &Path) -> Result<Source> {
    if path.is_file() {
        let head = files::read_up_to(&mut files::open(path)?, 2, path)?.0;
        if is_pickle(&head) {
            return Err(layout.python_version(path));
        }
        let is_archive = [".tar.gz", ".tgz", ".tar"].iter().any(|end| path.to_string_lossy().ends_with(end));
        let wanted =
            format!("is a single file; give the folder of {} or {}", layout.batches[0], layout.archive);
        return if is_archive {
            Ok(Source::Archive(path.to_owned()))
        } else {
            Err(Error::data(path, wanted))
        };
    }
    for dir in [path.to_owned(), path.join(layout.folder)] {
        let found: Vec<_> = layout.batches.iter().map(|batch| files::find(&dir, &[batch])).collect();
        if found.iter().all(Option::is_none) {
            continue;
        }
        let named = layout.batches.iter().zip(found);
        let paths = named.map(|(name, found)| {
            let missing = || format!("is missing, and so is {name}.gz, while others of its set are there");
            found.ok_or_else(|| Error::data(&dir.join(name), missing()))
        });
        return Ok(Source::Files(paths.collect::<Result<_>>()?));
    }
    let archive = path.join(layout.archive);
    if archive.is_file() {
        return Ok(Source::Archive(archive));
    }
    if let Some(python) = layout.python.iter().map(|name| path.join(name)).find(|path| path.exists()) {
        return Err(layout.python_version(&python));
    }
    Err(Error::data(
        path,
        format!(
            "holds none of {} (also as .gz or in {}) and no {}; give the folder that does, or let search or train fetch it with --download",
            layout.batches.join(", "),
            layout.folder,
            layout.archive
        ),
    ))
}

/// The batches of an archive, in order, each with a path that names archive and member.
fn read_archive(layout: &Layout, archive: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let damage = |e: std::io::Error| files::damage(archive, &e);
    let mut tar = tar::Archive::new(files::open(archive)?);
    let mut batches: Vec<Option<(PathBuf, Vec<u8>)>> = vec![None; layout.batches.len()];
    let mut python = false;
    for entry in tar.entries().map_err(damage)? {
        let mut entry = entry.map_err(damage)?;
        let member = entry.path().map_err(damage)?.into_owned();
        let name = member.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        python |= name == layout.python[2];
        let Some(batch) = layout.batches.iter().position(|&batch| batch == name) else { continue };
        let path = archive.join(&member);
        let (raw, found) = files::read_up_to(&mut entry, layout.batch_bytes(batch), archive)?;
        check_size(layout, batch, &path, &raw, found)?;
        batches[batch] = Some((path, raw));
    }
    // To the end: the checksum of the gzip stream comes last.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(damage)?;
    if python {
        return Err(layout.python_version(archive));
    }
    let named = layout.batches.iter().zip(batches);
    let missing = |name: &str| Error::data(archive, format!("has no {name} in it; get {}", layout.archive));
    named.map(|(name, batch)| batch.ok_or_else(|| missing(name))).collect()
}

fn check_size(layout: &Layout, batch: usize, path: &Path, raw: &[u8], found: u64) -> Result<()> {
    if is_pickle(raw) {
        return Err(layout.python_version(path));
    }
    let (records, record) = (layout.records[batch], layout.record());
    let wanted = layout.batch_bytes(batch);
    if found != wanted {
        let what = format!(
            "has {found} bytes where {records} records of {record} make {wanted}; download the set again"
        );
        return Err(Error::data(path, what));
    }
    Ok(())
}

/// Python's pickle starts with the opcode PROTO and its version; no label is as large.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Records of label bytes and three colour planes, to `(N, H, W, C)`.
fn decode(layout: &Layout, batch: usize, path: &Path, raw: &[u8]) -> Result<Decoded> {
    let mut images = vec![0; layout.records[batch] * IMAGE];
    let mut labels = Vec::with_capacity(layout.records[batch]);
    let records = raw.chunks_exact(layout.record()).zip(images.chunks_exact_mut(IMAGE));
    for (i, (record, image)) in records.enumerate() {
        let (label, planes) = record.split_at(layout.labels.len());
        if let Some((label, limit)) = label.iter().zip(layout.labels).find(|(label, limit)| label >= limit) {
            let what = format!(
                "gives record {i} (counted from 0) the label {label}, but labels end at {}; download it again",
                limit - 1
            );
            return Err(Error::data(path, what));
        }
        labels.extend(label.last().map(|&label| label as u32));
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        for (((pixel, &r), &g), &b) in image.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
            pixel.copy_from_slice(&[r, g, b]);
        }
    }
    Ok((images, labels))
}
