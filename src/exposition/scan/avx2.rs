//! Sixty-four bytes a step as two 32-byte compares.

use std::arch::x86_64::{__m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8};

use super::{Mismatch, scalar};

pub(super) fn detect() -> Option<Mismatch> {
    std::arch::is_x86_feature_detected!("avx2").then_some(mismatch as Mismatch)
}

fn mismatch(a: &[u8], b: &[u8]) -> usize {
    // SAFETY: only `detect` hands this function out, and only after it saw AVX2.
    unsafe { mismatch_avx2(a, b) }
}

#[target_feature(enable = "avx2")]
unsafe fn mismatch_avx2(a: &[u8], b: &[u8]) -> usize {
    let n = a.len().min(b.len());
    let mut i = 0;
    while i + 64 <= n {
        // SAFETY: i + 64 <= n, so both halves lie inside both slices.
        let equal = unsafe {
            u64::from(equal32(a.as_ptr().add(i), b.as_ptr().add(i)))
                | u64::from(equal32(a.as_ptr().add(i + 32), b.as_ptr().add(i + 32))) << 32
        };
        if equal != u64::MAX {
            return i + equal.trailing_ones() as usize;
        }
        i += 64;
    }
    if i + 32 <= n {
        // SAFETY: i + 32 <= n.
        let equal = unsafe { equal32(a.as_ptr().add(i), b.as_ptr().add(i)) };
        if equal != u32::MAX {
            return i + equal.trailing_ones() as usize;
        }
        i += 32;
    }
    i + scalar::mismatch(&a[i..n], &b[i..n])
}

/// One bit per equal byte of 32.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn equal32(a: *const u8, b: *const u8) -> u32 {
    // SAFETY: the caller gives 32 readable bytes at each pointer; the loads need no alignment.
    let (x, y) =
        unsafe { (_mm256_loadu_si256(a.cast::<__m256i>()), _mm256_loadu_si256(b.cast::<__m256i>())) };
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(x, y)) as u32
}
