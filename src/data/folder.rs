//! PNG and JPEG files in one folder a class.

use super::{Dataset, ImageSet, files, resize};
use crate::error::{Error, Result};
use image::{ImageError, ImageReader, Rgb, RgbImage};
use rayon::prelude::*;
use std::io::Cursor;
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Image files and their labels, which are indices into the classes.
#[derive(Debug)]
pub struct Files {
    pub paths: Vec<PathBuf>,
    pub labels: Vec<u32>,
    pub classes: Vec<String>,
}

/// Loads `train/<class>/*` with `test/<class>/*` or `val/<class>/*` (the first of them that is there) or, if there is
/// no `train`, `<class>/*` without a test set. Classes and files in byte order of their names; images as RGB, resized
/// to `size` x `size` pixels.
///
/// # Errors
/// `Error::Data` names the folder without classes or images, or the file that is no image.
pub fn load(dir: &Path, size: usize) -> Result<Dataset> {
    let (train, test) = find(dir)?;
    let (train, test) = (read_set(train, size)?, test.map(|files| read_set(files, size)).transpose()?);
    Ok(Dataset { name: "folder".into(), train, test }.standardise())
}

/// The files that [`load`] loads, each of which starts as an image does.
///
/// # Errors
/// Those of [`load`], but for files that are damaged further on.
pub fn list(dir: &Path) -> Result<(Files, Option<Files>)> {
    let (train, test) = find(dir)?;
    let all: Vec<&PathBuf> =
        [Some(&train), test.as_ref()].into_iter().flatten().flat_map(|f| &f.paths).collect();
    let checked: Vec<Result<()>> = all.into_par_iter().map(|path| check_header(path)).collect();
    checked.into_iter().collect::<Result<()>>()?;
    Ok((train, test))
}

fn find(dir: &Path) -> Result<(Files, Option<Files>)> {
    files::check_exists(dir, "")?;
    if dir.is_file() {
        return Err(Error::data(
            dir,
            "is a file; give the folder that has one folder of images for every class",
        ));
    }
    let split = dir.join("train").is_dir();
    let train = find_part(&if split { dir.join("train") } else { dir.to_owned() }, None)?;
    let parts = if split { &["test", "val"][..] } else { &[] };
    let test = match parts.iter().map(|part| dir.join(part)).find(|part| part.is_dir()) {
        Some(part) => Some(find_part(&part, Some(&train.classes))?),
        None => None,
    };
    Ok((train, test))
}

/// `expected`: the classes of the training set, for a test set.
fn find_part(dir: &Path, expected: Option<&[String]>) -> Result<Files> {
    let folders: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| path.is_dir()).collect();
    if folders.is_empty() {
        return Err(Error::data(
            dir,
            "has no class folder in it; put the images of every class in one of its name",
        ));
    }
    let classes: Vec<String> = folders.iter().map(|path| name(path)).collect();
    if let Some(expected) = expected {
        check_classes(dir, &classes, expected)?;
    }
    let (mut paths, mut labels) = (vec![], vec![]);
    for (label, folder) in folders.iter().enumerate() {
        let found = image_files(folder)?;
        labels.extend(vec![label as u32; found.len()]);
        paths.extend(found);
    }
    Ok(Files { paths, labels, classes })
}

/// Mean and deviation are left empty.
fn read_set(Files { paths, labels, classes }: Files, size: usize) -> Result<ImageSet> {
    let images: Vec<Result<Vec<u8>>> = paths.par_iter().map(|path| read_image(path, size)).collect();
    // Collected in two steps so that the first of several faults is the one reported.
    let images = images.into_iter().collect::<Result<Vec<_>>>()?.concat();
    Ok(ImageSet {
        images,
        labels,
        height: size,
        width: size,
        channels: 3,
        classes,
        mean: vec![],
        std: vec![],
    })
}

fn check_classes(dir: &Path, classes: &[String], expected: &[String]) -> Result<()> {
    if let Some(extra) = classes.iter().find(|class| !expected.contains(class)) {
        return Err(Error::data(&dir.join(extra), "is a class that the training images do not have"));
    }
    if let Some(missing) = expected.iter().find(|class| !classes.contains(class)) {
        return Err(Error::data(&dir.join(missing), "is missing, but the training images have this class"));
    }
    Ok(())
}

/// Everything in `dir` but hidden files, in byte order of the names.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = dir.read_dir().map_err(Error::io("list", dir))?;
    let paths = entries.map(|entry| Ok(entry.map_err(Error::io("list", dir))?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The images of a class folder. Notes beside them are passed over; anything else is a mistake to be told.
fn image_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut images = vec![];
    for path in entries(folder)? {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_dir() {
            return Err(Error::data(
                &path,
                "is a folder inside a class folder; move its images up or it away",
            ));
        } else if EXTENSIONS.contains(&extension.as_str()) {
            images.push(path);
        } else if !["txt", "md"].contains(&extension.as_str()) && name(&path) != "Thumbs.db" {
            return Err(Error::data(
                &path,
                "is neither PNG nor JPEG by its name; convert it or move it away",
            ));
        }
    }
    if images.is_empty() {
        return Err(Error::data(folder, "is a class folder without any .png, .jpg or .jpeg in it"));
    }
    Ok(images)
}

/// RGB bytes, `(size, size, 3)`.
fn read_image(path: &Path, size: usize) -> Result<Vec<u8>> {
    let image = decode(path)?;
    let (width, height) = image.dimensions();
    Ok(resize::image::<Rgb<u8>>(image.as_raw(), height as usize, width as usize, size))
}

/// The image in a file.
pub fn decode(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(plain(path)?).map_err(Error::io("read", path))?;
    // the decoder takes what is missing of a JPEG for grey
    if is_cut_off(&bytes) {
        return Err(Error::data(path, "is a JPEG file without an end; replace it or move it away"));
    }
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io("read", path))?;
    Ok(reader.decode().map_err(|e| no_image(path, &e))?.into_rgb8())
}

/// Whether a JPEG file has no end marker after its segments; those may hold whole files of their own.
fn is_cut_off(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&[0xff, 0xd8]) else { return false };
    loop {
        rest = match *rest {
            [0xff, 0xff, ..] => &rest[1..], // before a marker there may be more of them
            // the image itself, in whose bytes nothing else looks like the end
            [0xff, 0xda, ..] => return !rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            [0xff, _, high, low, ..] => {
                rest.get(2 + usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default()
            }
            [] | [0xff] | [0xff, _] | [0xff, _, _] => return true,
            _ => return false, // not as the format has it: for the decoder to judge
        };
    }
}

/// The path of a plain file: reading another kind, such as a pipe, may never end.
fn plain(path: &Path) -> Result<&Path> {
    match path.metadata().map_err(Error::io("read", path))?.is_file() {
        true => Ok(path),
        false => Err(Error::data(path, "is no plain file; replace it or move it away")),
    }
}

fn check_header(path: &Path) -> Result<()> {
    let reader = ImageReader::open(plain(path)?).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(Error::io("read", path))?;
    reader.into_dimensions().map(|_| ()).map_err(|e| no_image(path, &e))
}

fn no_image(path: &Path, error: &ImageError) -> Error {
    let reason = match error {
        ImageError::Unsupported(_) => "it is no PNG or JPEG of a kind known here".into(),
        ImageError::Limits(_) => "it is too large".into(),
        ImageError::IoError(e) if e.raw_os_error().is_some() => e.to_string(),
        _ => "it is damaged or cut short".into(), // a decoder's own words are for its makers
    };
    Error::data(path, format!("cannot be read as an image, since {reason}; replace it or move it away"))
}
