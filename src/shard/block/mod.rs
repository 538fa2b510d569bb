//! Blocks of one shard: what the head gave up, in files that never change.
//!
//! In: series with their samples of a time range; matchers and times. Out: files; the samples again.
//! Owns: the files `blocks/NNNNNNNN.block`, and the cache of what was read of them. Runs on: its shard's core.
//! Invariant: a block appears by one rename and vanishes by one unlink; every byte that is used was checksummed.
//! Never: knows the head, the log, or who is asking; panics on what a file holds.
#![doc = include_str!("../../../docs/format/block.md")]

pub mod aggregate;
pub mod cache;
pub mod chunk;
pub mod class;
pub mod layout;
pub mod part;
pub mod plan;
pub mod reader;
pub mod retention;
pub mod set;
pub mod store;
pub mod tombstones;
pub mod writer;

#[cfg(test)]
mod tests;

pub use reader::Block;
pub use store::Store;
