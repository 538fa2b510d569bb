//! Write-ahead log of one shard.
//!
//! In: batches of accepted samples. Out: frames to write; at start, the batches again.
//! Owns: the layout of files `wal/NNNNNNNN` and of the tail. Runs on: its shard's core.
//! Invariant: a batch that was pushed survives a killed process; a commit is reported only after fdatasync.
//! Never: reads what it wrote (except at start), knows labels, compresses.
#![doc = include_str!("../../../docs/format/wal.md")]

pub mod frame;
pub mod pending;
