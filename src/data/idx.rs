//! Image sets in the IDX format of MNIST and Fashion-MNIST: grey images in one file, their labels in another.

use super::{Dataset, ImageSet, files};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The format's magic numbers: two zero bytes, 8 for unsigned bytes, and the number of extents.
const IMAGES: u32 = 0x0000_0803;
const LABELS: u32 = 0x0000_0801;

/// Loads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, if they are there, the two of `t10k`; also with a
/// dot before `idx`, and with `.gz`. Classes are 0 up to the largest training label.
///
/// # Errors
/// `Error::Data` names the file that is missing, damaged, of another kind, or that does not fit the others.
pub fn load(dir: &Path) -> Result<Dataset> {
    files::check_exists(dir, "")?;
    let Some(paths) = pair(dir, "train")? else {
        return Err(Error::data(
            dir,
            "holds no train-images-idx3-ubyte and no train-labels-idx1-ubyte (also looked for with .idx and .gz); \
             give the folder that does",
        ));
    };
    let train = read_set(&paths, None)?;
    let test = match pair(dir, "t10k")? {
        Some(paths) => Some(read_set(&paths, Some(&train))?),
        None => None,
    };
    Ok(Dataset { name: "idx".into(), train, test }.standardise())
}

/// Paths of images and labels; none if both are missing, an error if one is.
fn pair(dir: &Path, part: &str) -> Result<Option<[PathBuf; 2]>> {
    let find = |kind: &str| {
        files::find(
            dir,
            &[&format!("{part}-{kind}-ubyte"), &format!("{part}-{}-ubyte", kind.replacen("-", ".", 1))],
        )
    };
    let missing = |kind: &str, other: &Path| {
        let what = format!("is missing, but {} is there", other.display());
        Err(Error::data(&dir.join(format!("{part}-{kind}-ubyte")), what))
    };
    match (find("images-idx3"), find("labels-idx1")) {
        (Some(images), Some(labels)) => Ok(Some([images, labels])),
        (Some(images), None) => missing("labels-idx1", &images),
        (None, Some(labels)) => missing("images-idx3", &labels),
        (None, None) => Ok(None),
    }
}

/// Mean and deviation are left empty. A test set has to fit its training set, `train`.
fn read_set([images_path, labels_path]: &[PathBuf; 2], train: Option<&ImageSet>) -> Result<ImageSet> {
    let ([count, height, width], images) = read::<3>(images_path, IMAGES)?;
    let ([label_count], labels) = read::<1>(labels_path, LABELS)?;
    if count != label_count {
        let what = format!("has {label_count} labels for the {count} images of {}", images_path.display());
        return Err(Error::data(labels_path, what));
    }
    if images.is_empty() {
        return Err(Error::data(
            images_path,
            format!("holds {count} images of {height} x {width} pixels: nothing"),
        ));
    }
    let most = labels.iter().copied().max().unwrap_or(0) as usize;
    let classes = match train {
        None => (0..=most).map(|class| class.to_string()).collect(),
        Some(train) => {
            if [train.height, train.width] != [height, width] {
                let size = format!("{} x {}", train.height, train.width);
                let what =
                    format!("holds images of {height} x {width} pixels, but those for training have {size}");
                return Err(Error::data(images_path, what));
            }
            if most >= train.classes.len() {
                let what =
                    format!("has label {most}, but training labels end at {}", train.classes.len() - 1);
                return Err(Error::data(labels_path, what));
            }
            train.classes.clone()
        }
    };
    let labels = labels.into_iter().map(u32::from).collect();
    Ok(ImageSet { images, labels, height, width, channels: 1, classes, mean: vec![], std: vec![] })
}

/// Extents and bytes of a file that must have exactly this magic number and the size that its header says.
fn read<const EXTENTS: usize>(path: &Path, magic: u32) -> Result<([usize; EXTENTS], Vec<u8>)> {
    let mut file = files::open(path)?;
    let mut header = [0u32; 4];
    let header = &mut header[..=EXTENTS];
    for (i, word) in header.iter_mut().enumerate() {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map_err(|e| header_error(path, EXTENTS, e))?;
        *word = u32::from_be_bytes(bytes);
        if i == 0 && *word != magic {
            let what = format!(
                "has magic number {word:#010x} where {magic:#010x} is wanted: not an IDX file of this kind"
            );
            return Err(Error::data(path, what));
        }
    }
    let extents: [usize; EXTENTS] = std::array::from_fn(|i| header[i + 1] as usize);
    let wanted = extents.iter().try_fold(1u64, |product, &extent| product.checked_mul(extent as u64));
    let Some(wanted) = wanted else {
        return Err(Error::data(path, format!("has an impossible header, {extents:?}; download it again")));
    };
    let (bytes, found) = files::read_up_to(&mut file, wanted, path)?;
    if found != wanted {
        let what =
            format!("has {found} bytes after its header where {extents:?} make {wanted}; download it again");
        return Err(Error::data(path, what));
    }
    Ok((extents, bytes))
}

fn header_error(path: &Path, extents: usize, error: std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::UnexpectedEof {
        return files::damage(path, &error);
    }
    Error::data(path, format!("ends within the {} bytes of its header; download it again", 4 + 4 * extents))
}
