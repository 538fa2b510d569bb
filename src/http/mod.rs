//! HTTP/1.1 as shards speak it: what to write, what was read, what is still due. No sockets here.
//!
//! In: what to ask for or to answer; bytes as they come. Out: bytes to send; a head, a body, or why there is none.
//! Owns: nothing beyond one exchange. Runs on: any thread; pure.
//! Invariant: the reader never asks for a byte that the peer does not owe, and never holds more than its bound.
//! Never: opens sockets, waits, knows what the body means.

pub mod received;
pub mod reply;
pub mod request;
pub mod response;

pub use received::{Received, ReceivedHead};
pub use reply::Response;
pub use request::Request;
pub use response::{Body, BodyReader, Head};

/// Why an answer is of no use: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Report: the peer does not speak HTTP/1.1. The words are those of Go's client.
    #[error("{0}")]
    Malformed(String),
    /// Report: more bytes than the caller allowed.
    #[error("body size limit exceeded")]
    TooLarge,
    /// Retry on a fresh connection if nothing came; else report.
    #[error("unexpected EOF")]
    Truncated,
}
