//! Other people's ways to send samples: OpenTelemetry's exporters, bulk imports, push gateways.
//!
//! In: bodies as they came, unpacked. Out: one request of remote write, or the reason to refuse.
//! Owns: names and labels as those ways mean them; the groups that were pushed and stay.
//! Runs on: any thread but a shard's; pure.
//! Invariant: what these bodies say is said once, to the same receiver that remote write has.
//! Never: opens sockets, reads a clock, knows shards.

pub mod gateway; // groups that are pushed and stay
pub mod import; // bulk
pub mod otlp; // OpenTelemetry
pub mod unpack; // what bodies are packed in

#[cfg(test)]
mod shown; // requests as text

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Refuse: these bytes are no such body.
    #[error("{0}")]
    Bad(String),
    /// Refuse, as a fault of ours: well-formed, and nothing here stands for it.
    #[error("{0}")]
    Untranslatable(String),
}
