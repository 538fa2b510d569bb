//! Why bytes are refused, and where. The file is known to who opened it.

/// An error in one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Set aside: the bytes are not what the format says.
    #[error("at byte {at}: {what}")]
    Corrupt { at: u64, what: &'static str },
    /// Set aside: written fully, damaged since.
    #[error("at byte {at}: invalid checksum of {what}: stored {stored:08x}, computed {computed:08x}")]
    Checksum { at: u64, what: &'static str, stored: u32, computed: u32 },
    /// Refuse: written by a program that is newer, or not by Prometheus at all.
    #[error("{what} {found}")]
    Version { what: &'static str, found: String },
    /// Report: it cannot be written in this format.
    #[error("{0}")]
    Unwritable(String),
}

impl Error {
    pub(crate) fn corrupt(at: u64, what: &'static str) -> Error {
        Error::Corrupt { at, what }
    }

    pub(crate) fn codec(at: u64, error: &codec::Error) -> Error {
        let what = match error {
            codec::Error::Truncated(what) | codec::Error::Corrupt(what) | codec::Error::Unencodable(what) => {
                what
            }
            codec::Error::Count { .. } => "columns of different lengths",
        };
        Error::Corrupt { at, what }
    }
}
