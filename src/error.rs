//! One error type for the whole crate: every variant says what was wrong and what to do.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. `Display` is one sentence fit for a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation was given inputs it cannot take.
    #[error("{op}: {what}")]
    Shape { op: &'static str, what: String },
    /// An operation has no recorded derivative of the order asked for.
    #[error("{op}: has no derivative of this order; differentiate its reference composition instead")]
    NoDerivative { op: &'static str },
    /// A derivative disagrees with finite differences.
    #[error("gradient check failed: {what}")]
    Check { what: String },
    /// A value became NaN or infinite.
    #[error("{what}")]
    NotFinite { what: String },
    /// A setting is out of range or contradicts another.
    #[error("{key}: {what}")]
    Config { key: String, what: String },
    /// A configuration file that cannot be read as one.
    #[error("{}, line {line}: {what}", path.display())]
    ConfigFile { path: PathBuf, line: usize, what: String },
    /// A file of a data set is missing, damaged or of another kind.
    #[error("{}: {what}", path.display())]
    Data { path: PathBuf, what: String },
    /// A file that a server did not give out whole.
    #[error("{url}: {what}")]
    Download { url: String, what: String },
    /// A cell description that is not one.
    #[error("genotype: {what}")]
    Genotype { what: String },
    /// A checkpoint that cannot be used.
    #[error("{}: {what}", path.display())]
    Checkpoint { path: PathBuf, what: String },
    /// A device that is missing or that failed.
    #[error("device: {what}")]
    Device { what: String },
    /// Device memory that is not there.
    #[error(
        "device: out of memory: {} asked for, {} of {} free, {} in use by this program; a smaller --batch-size, --channels or --cells needs less",
        bytes(*asked), bytes(*free), bytes(*total), bytes(*live)
    )]
    OutOfMemory { asked: usize, free: usize, total: usize, live: usize },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A file of the run folder could not be written.
    #[error("cannot write {}: {source}; {}", path.display(), after_failed_write(source))]
    Write { path: PathBuf, source: std::io::Error },
}

fn after_failed_write(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match source.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => "free space or write to another folder",
        PermissionDenied | ReadOnlyFilesystem => "make the folder writable or write to another",
        _ => "see that the folder is there and writable, or write to another",
    }
}

/// `count` bytes as a person reads them.
fn bytes(count: usize) -> String {
    match count as f64 {
        few @ ..1e9 => format!("{:.1} MB", few / 1e6),
        many => format!("{:.2} GB", many / 1e9),
    }
}

impl Error {
    pub fn device(what: impl Into<String>) -> Self {
        Self::Device { what: what.into() }
    }
    pub fn shape(op: &'static str, what: impl Into<String>) -> Self {
        Self::Shape { op, what: what.into() }
    }
    pub fn config(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Config { key: key.into(), what: what.into() }
    }
    pub fn data(path: &Path, what: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), what: what.into() }
    }
    pub fn genotype(what: impl Into<String>) -> Self {
        Self::Genotype { what: what.into() }
    }
    pub fn checkpoint(path: &Path, what: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_owned(), what: what.into() }
    }
    /// For `map_err`: `read(path).map_err(Error::io("read", path))`.
    pub fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
    /// For `map_err` on what writes into a run folder.
    pub fn write<'a>(path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Write { path: path.to_owned(), source }
    }
}
