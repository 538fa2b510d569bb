//! Exchange with Prometheus's storage: its directories looked at, taken over, written.
//!
//! In: directories of Prometheus, files of OpenMetrics. Out: tables and dumps in promtool's words; blocks; batches.
//! Owns: the reading of such a directory as one database. Runs on: a plain thread of a command, while no server runs.
//! Invariant: a directory of Prometheus is only read, but for whole blocks that are renamed into it.
//! Never: serves, scrapes; says that all was read where something was damaged.

pub mod block; // one block on the disk
pub mod cursor; // series side by side, in order of time
pub mod directory; // all that a directory holds
pub mod log; // its log to series in memory
pub mod walk; // series of all its parts, in order of their labels
pub mod write; // a block put in place

pub mod analyze; // promtool tsdb analyze
pub mod analyze_chunks; // its extended part
pub mod bench; // promtool tsdb bench write, over our own storage
pub mod create; // promtool tsdb create-blocks-from openmetrics
pub mod dump; // promtool tsdb dump, dump-openmetrics
pub mod export; // our directory to blocks
pub mod import; // a directory of Prometheus to ours
pub mod list; // promtool tsdb list
pub mod openmetrics; // lines of an OpenMetrics file
pub mod table; // columns, times and sizes as promtool prints them

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

/// Why a command ends. Whoever typed it acts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses; in Go's words.
    #[error("{operation} {}: {}", path.display(), go_text(source))]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    /// The file is damaged or foreign.
    #[error("{}: {source}", path.display())]
    Damaged { path: PathBuf, source: prometheus_tsdb::Error },
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
    /// Nobody reads the output any more.
    #[error("write: {}", go_text(.0))]
    Output(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] prometheus_tsdb::Error),
    /// Our own storage fails.
    #[error(transparent)]
    Runtime(#[from] crate::rt::Error),
}

impl Error {
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::File { operation, path, source }
    }

    pub(crate) fn damaged(path: &Path) -> impl FnOnce(prometheus_tsdb::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::Damaged { path, source }
    }

    /// The same with words ahead of it.
    pub(crate) fn within(self, ahead: &str) -> Error {
        Error::Refused(format!("{ahead}: {self}"))
    }
}

/// `no such file or directory` rather than `No such file or directory (os error 2)`.
fn go_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}
