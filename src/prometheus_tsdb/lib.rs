//! Prometheus's own storage, byte for byte: blocks, the write-ahead log, chunks of the head.
//!
//! In: bytes of its files. Out: series, samples and what a block says of itself; and the bytes of a block.
//! Owns: nothing; the formats are Prometheus's.
//! Runs on: any thread; pure.
//! Invariant: what is written here Prometheus opens; hostile bytes give an error with an offset, never a panic.
//! Never: opens a file, reads a clock; knows our own storage.

pub mod block; // a block under construction
pub mod bytes; // big-endian numbers with their place in the file
pub mod chunk; // chunks and their samples
pub mod cut; // samples to chunks as the head cuts them
pub mod error; // why bytes are refused
pub mod head; // series of a log, in memory
pub mod head_chunks; // full chunks of a head that still grows
pub mod index; // the index of a block, read
pub mod index_write; // the index of a block, written
pub mod json; // the little JSON that a block's meta file is
pub mod meta; // what a block says of itself
pub mod record; // records of the log
pub mod record_v2; // records of the log that carry start times
pub mod sample; // a sample of either kind
pub mod tombstones; // deleted intervals
pub mod ulid; // names of blocks
pub mod wal; // segments of the log, page by page

pub use error::Error;
pub use sample::{Sample, Value};
