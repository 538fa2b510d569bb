//! Sixty-four bytes a step as one masked compare; the mask also reads the tail without a byte loop.

use std::arch::x86_64::{
    __m512i, _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_mask_cmpneq_epi8_mask,
    _mm512_maskz_loadu_epi8,
};

use super::Mismatch;

pub(super) fn detect() -> Option<Mismatch> {
    std::arch::is_x86_feature_detected!("avx512bw").then_some(mismatch as Mismatch)
}

fn mismatch(a: &[u8], b: &[u8]) -> usize {
    // SAFETY: only `detect` hands this function out, and only after it saw AVX-512BW.
    unsafe { mismatch_avx512(a, b) }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn mismatch_avx512(a: &[u8], b: &[u8]) -> usize {
    let n = a.len().min(b.len());
    let mut i = 0;
    while i + 64 <= n {
        // SAFETY: i + 64 <= n, so 64 bytes are readable in both slices.
        let differ = unsafe {
            let x = _mm512_loadu_si512(a.as_ptr().add(i).cast::<__m512i>());
            let y = _mm512_loadu_si512(b.as_ptr().add(i).cast::<__m512i>());
            _mm512_cmpneq_epi8_mask(x, y)
        };
        if differ != 0 {
            return i + differ.trailing_zeros() as usize;
        }
        i += 64;
    }
    let rest = n - i;
    if rest == 0 {
        return n;
    }
    let mask = (1u64 << rest) - 1;
    // SAFETY: the mask has bits for the `rest` < 64 bytes before n only; masked-out bytes are not read.
    let differ = unsafe {
        let x = _mm512_maskz_loadu_epi8(mask, a.as_ptr().add(i).cast());
        let y = _mm512_maskz_loadu_epi8(mask, b.as_ptr().add(i).cast());
        _mm512_mask_cmpneq_epi8_mask(mask, x, y)
    };
    if differ == 0 { n } else { i + differ.trailing_zeros() as usize }
}
