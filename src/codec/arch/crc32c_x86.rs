//! CRC32C by the SSE4.2 instruction.

use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

/// Goes on from `crc` (not inverted here) over `bytes`.
///
/// # Safety
/// The CPU has SSE4.2.
#[target_feature(enable = "sse4.2")]
pub(super) fn update(crc: u32, bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut crc = u64::from(crc);
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    tail.iter().fold(crc as u32, |crc, &byte| _mm_crc32_u8(crc, byte))
}
