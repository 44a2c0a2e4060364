//! Reading files that may be gzip-compressed, telling damage from what the operating system refuses.

use crate::error::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The first of `names` in `dir`, each looked for as it is and with `.gz` behind it.
pub fn find(dir: &Path, names: &[&str]) -> Option<PathBuf> {
    let candidates = names.iter().flat_map(|name| [dir.join(name), dir.join(format!("{name}.gz"))]);
    candidates.into_iter().find(|path| path.is_file())
}

/// A reader of the content: decompressed if the file starts as a gzip file does, whatever its name.
pub fn open(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io("open", path))?);
    let mut head = Vec::new();
    file.by_ref().take(2).read_to_end(&mut head).map_err(Error::io("read", path))?;
    let is_gzip = head == [0x1f, 0x8b]; // RFC 1952, ID1 and ID2
    if !is_gzip && path.extension().is_some_and(|extension| extension == "gz") {
        return Err(Error::data(
            path,
            "is named .gz but does not start as a gzip file; download it again or rename it",
        ));
    }
    let whole = Cursor::new(head).chain(file);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(BufReader::new(whole))) } else { Box::new(whole) })
}

/// Up to `wanted` bytes, and how many there were to read.
pub fn read_up_to(reader: &mut impl Read, wanted: u64, path: &Path) -> Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::with_capacity(wanted.min(1 << 26) as usize);
    reader.by_ref().take(wanted).read_to_end(&mut bytes).map_err(|e| damage(path, &e))?;
    let beyond = io::copy(reader, &mut io::sink()).map_err(|e| damage(path, &e))?;
    let found = bytes.len() as u64 + beyond;
    Ok((bytes, found))
}

/// The error of a read that failed inside a compressed file.
pub fn damage(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::Other => {
            Error::data(path, format!("is a damaged compressed file ({error}); download it again"))
        }
        kind => Error::Io { action: "read", path: path.to_owned(), source: kind.into() },
    }
}

/// Fails if there is nothing at `path`, or it cannot be looked at; `or` is what else can be done about the first.
pub fn check_exists(path: &Path, or: &str) -> Result<()> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::data(
            path,
            format!("does not exist; give the folder of the data set with --data-dir{or}"),
        )),
        Err(e) => Err(Error::io("open", path)(e)),
    }
}
