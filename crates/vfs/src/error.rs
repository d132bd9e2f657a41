//! Errors that say which operation failed on which path.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What every [`io::Error`] of [`OsFs`](crate::OsFs) and [`SimFs`](crate::SimFs) holds: the
/// operation, the path, and the error of the system as its source.
///
/// The [`io::ErrorKind`] of the outer error is that of the source. To get at it:
/// `error.get_ref().and_then(|e| e.downcast_ref::<FileError>())`.
#[derive(Debug)]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    offset: Option<u64>,
    source: io::Error,
}

impl FileError {
    pub(crate) fn wrap(operation: &'static str, path: &Path, source: io::Error) -> io::Error {
        FileError::build(operation, path, None, source)
    }

    pub(crate) fn wrap_at(
        operation: &'static str,
        path: &Path,
        offset: u64,
        source: io::Error,
    ) -> io::Error {
        FileError::build(operation, path, Some(offset), source)
    }

    fn build(op: &'static str, path: &Path, offset: Option<u64>, source: io::Error) -> io::Error {
        let kind = source.kind();
        io::Error::new(kind, FileError { operation: op, path: path.to_path_buf(), offset, source })
    }

    /// What was tried, in a word: `open`, `read`, `write`, `sync`, …
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The path it was tried on.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where in the file, for reads and writes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// The number of the system's error, if it has one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        match self.source.raw_os_error() {
            // The standard library calls EIO "uncategorized", the one that matters most here.
            Some(number) if number == rustix::io::Errno::IO.raw_os_error() => {
                f.write_str(": input/output error")
            }
            Some(number) => write!(f, ": {} (os error {number})", self.source.kind()),
            None => write!(f, ": {}", self.source.kind()),
        }
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// A plain cause for errors that this crate raises by itself.
#[derive(Debug)]
pub(crate) struct Reason(pub(crate) String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Reason {}

pub(crate) fn reason(kind: io::ErrorKind, text: impl Into<String>) -> io::Error {
    io::Error::new(kind, Reason(text.into()))
}
