//! Why bytes could not be turned back into numbers.

/// What a decoder says of bytes it cannot read. A caller sets the chunk aside and reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the numbers they announce.
    #[error("chunk ends early: {0}")]
    Truncated(&'static str),
    /// The bytes say something that no encoder writes.
    #[error("chunk is corrupt: {0}")]
    Corrupt(&'static str),
    /// The caller's buffer does not have the length the bytes announce.
    #[error("chunk holds {stored} samples, the buffer {given}")]
    Count { stored: usize, given: usize },
    /// The numbers cannot be written in this encoding (a limit of the format, not of the bytes).
    #[error("cannot be encoded: {0}")]
    Unencodable(&'static str),
}
