//! Codec: columns of numbers to bytes and back, and the sets that postings are.
//!
//! In: slices of times, doubles, histograms. Out: bytes; and the same bits again, to the last one.
//! Owns: the byte formats of `docs/format/chunk.md`, and Prometheus's chunk encodings.
//! Runs on: any core; pure, no state but scratch buffers that the caller keeps.
//! Invariant: what any tier encodes, every instruction set decodes to the same bits; hostile bytes
//! give an error, never a panic.
//! Never: knows a series, a file, a clock; allocates while decoding numbers.

pub mod bitpack; // integers of one width, side by side
pub mod chunk; // one series in one window
pub mod column; // integer columns: format and decoder
pub mod column_encode; // integer columns: the choice of transform
pub mod crc32c; // checksums
pub mod error; // why bytes are refused
pub mod histogram; // native histograms, column by column
pub mod prom_histogram; // Prometheus's histogram chunks
pub mod sorted; // set algebra on sorted numbers
pub mod time_column; // timestamps shared by a scrape
pub mod value; // doubles: format and decoder
pub mod value_encode; // doubles: the search for integers in them
pub mod varint; // integers of variable length
pub mod xor; // Prometheus's XOR chunk
pub mod xor2; // Prometheus's XOR2 chunk

mod arch; // kernels
mod bitstream; // bits, highest first
mod patch; // residuals wider than their column

pub use arch::Isa;
pub use column_encode::Tier;
pub use error::Error;

#[cfg(test)]
mod adversary; // values chosen to break encoders
