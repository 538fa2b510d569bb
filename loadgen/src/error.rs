//! What can go wrong in a run, named by what the person at the terminal will do about it.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The flags ask for something that cannot be: change them.
    #[error("{0}")]
    Usage(String),
    /// A peer's binary is not here: fetch it or leave the system out.
    #[error("{name}: no binary found ({hint})")]
    NoBinary { name: String, hint: String },
    /// A system was started and did not come up, or ended: read its log.
    #[error("{name}: {what}; its log ends with:\n{log_tail}")]
    System { name: String, what: String, log_tail: String },
    /// A system answered something that is no answer.
    #[error("{url}: {what}")]
    Answer { url: String, what: String },
    /// The machine refused.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// A file that was to be read is not of its kind.
    #[error("{path}: {what}")]
    File { path: PathBuf, what: String },
}

/// Says in an [`Error::Io`] what was being done.
pub trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
