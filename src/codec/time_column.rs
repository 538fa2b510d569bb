//! Time columns: the timestamps that the series of one scrape share.
//!
//! An integer column in which a line is expected: 11 bytes when scrapes are on time, the jitter's
//! bits otherwise, late scrapes as patches.

use crate::arch::Isa;
use crate::column;
use crate::column_encode::{Encoder, Tier};
use crate::error::Error;

/// Appends the column of `times`. Allocates scratch memory; see [`encode_with`].
pub fn encode(times: &[i64], out: &mut Vec<u8>) {
    encode_with(&mut Encoder::new(), times, out);
}

/// Appends the column of `times` with scratch memory that is kept.
pub fn encode_with(encoder: &mut Encoder, times: &[i64], out: &mut Vec<u8>) {
    // One column serves hundreds of series: always worth the full search.
    encoder.encode(times, Tier::Full, out);
}

/// Decodes `n` timestamps into `out`, which has that length; returns the bytes read.
pub fn decode(bytes: &[u8], n: usize, out: &mut [i64]) -> Result<usize, Error> {
    if out.len() != n {
        return Err(Error::Count { stored: n, given: out.len() });
    }
    column::decode_with(Isa::best(), bytes, out)
}
