//! Remote write, received: on any shard a request is read; its samples go to the shards that own their series.
//!
//! In: compressed bodies with their protocol. Out: status, text and counts for the sender, once all parts are durable.
//! Owns: on each shard the names it has met (hashes of label bytes) and the stream of what others pushed to it.
//! Runs on: shards.
//! Invariant: success is said only after every shard with a part has it in its log (or, where relaxed, its tail).
//! Never: opens sockets (it is given them), reads a clock of its own, lets two label sets share a series.

pub mod negotiate; // which protocol a request speaks

pub mod known; // label bytes met before
pub mod order; // what one shard asks of another
pub mod sorting; // a body to parts, one a shard

pub mod answer; // what the sender is told
pub mod connection; // requests of one connection, on a shard
pub mod probe; // counters
pub mod receiver; // the way of a request

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use negotiate::Protocol;
pub use order::{Order, Peers, Told};
pub use receiver::{Receiver, Settings, Terms};

/// Why a request was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Refuse: the sender's bytes are wrong, and will be wrong again.
    #[error("{0}")]
    Bad(String),
    /// Ask to retry: the log's tail or the disk is full, or a shard is behind.
    #[error("{0}")]
    Busy(String),
    /// Report: this shard takes no samples until somebody acts.
    #[error("{0}")]
    Broken(String),
}
