//! Write-ahead log of one shard.
//!
//! In: batches of accepted samples. Out: a durable position; at start, the batches again.
//! Owns: files `wal/NNNNNNNN` and the tail. Runs on: its shard's core.
//! Invariant: a batch that was pushed survives a killed process; a commit is reported only after fdatasync.
//! Never: reads what it wrote (except at start), knows labels, compresses.
#![doc = include_str!("../../../docs/format/wal.md")]

pub mod frame;
pub mod log;
pub mod pending;
pub mod reader;
pub mod segment;
