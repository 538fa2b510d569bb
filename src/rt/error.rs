//! What can go wrong between the house and the machine, by what the caller will do about it.

use std::io;
use std::path::PathBuf;

/// Why work or a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The mailbox of the shard (or the asker's own bound on open questions) is full: retry later or shed load.
    #[error("the shard's mailbox is full")]
    Full,
    /// The shard has stopped or is stopping: give up.
    #[error("the shard has stopped")]
    Stopped,
    /// There is no such shard: a bug of the caller.
    #[error("there is no such shard")]
    Unknown,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something the appliance cannot run without: say it and exit. The text holds the fix.
    #[error("{0}")]
    Environment(String),
    /// A shard could not be built: say it and exit.
    #[error("shard {shard} did not start: {reason}")]
    Start { shard: u32, reason: String },
    /// A shard did not stop in the time it was given: exit anyway.
    #[error("{count} shards did not stop in time")]
    Stop { count: usize },
    /// Another process holds the directory: say it and exit.
    #[error("data directory {} is in use by {holder}", path.display())]
    InUse { path: PathBuf, holder: String },
    /// A file operation failed: report; [`Error::is_full`] tells a full disk, which heals.
    #[error("{operation} {}: {source}", path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    /// A socket operation failed: close the connection, report.
    #[error("{operation} {peer}: {source}")]
    Net { operation: &'static str, peer: String, source: io::Error },
    /// The peer closed the connection where more bytes were due.
    #[error("{peer} closed the connection")]
    Closed { peer: String },
    /// The caller's deadline passed.
    #[error("deadline exceeded")]
    TimedOut,
    /// A bounded queue was full or its owner gone.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Error {
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::File { operation, path: path.into(), source }
    }

    /// True when space has run out: refuse appends and wait, nothing is broken.
    pub fn is_full(&self) -> bool {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Error::File { source, .. } if kinds.contains(&source.kind()))
    }

    /// True when the named file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The operating system's error, where one lies beneath.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Error::File { source, .. } | Error::Net { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The system's error beneath glommio's, with its number kept (the conversion that glommio offers loses it).
pub(crate) fn io_error<T: std::fmt::Debug>(error: glommio::GlommioError<T>) -> io::Error
where
    io::Error: From<glommio::GlommioError<T>>,
{
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error),
    }
}
