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

impl Error {
    /// Whether a system did not come up because somebody else had its port.
    pub fn is_port_taken(&self) -> bool {
        let taken = |log: &str| log.to_ascii_lowercase().contains("address already in use");
        matches!(self, Error::System { log_tail, .. } if taken(log_tail))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_from_other_ends() {
        let check = |log_tail: &str, expect| {
            let e = Error::System { name: "a".into(), what: "ended".into(), log_tail: log_tail.into() };
            assert_eq!(e.is_port_taken(), expect, "{log_tail}");
        };
        check("listen tcp4 127.0.0.1:38235: bind: address already in use", true);
        check("127.0.0.1:9090: Address already in use (os error 98)", true);
        check("opening storage failed", false);
    }
}
