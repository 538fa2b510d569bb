//! Where two pages part: the one kernel of the page cache.
//!
//! The scalar loop is the oracle and the fallback; the vector form is chosen once, by what the CPU has.
//! A form with 512-bit compares and a masked tail was tried: the same on three recordings, a fifth slower on one.
#![allow(unsafe_code)] // Vector loads: each block says why it stays inside its slices.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::sync::OnceLock;

/// Length of the common prefix of two slices.
pub type Mismatch = fn(&[u8], &[u8]) -> usize;

/// The fastest form this CPU runs.
pub fn mismatch() -> Mismatch {
    static CHOSEN: OnceLock<Mismatch> = OnceLock::new();
    *CHOSEN.get_or_init(|| all().last().map_or(scalar::mismatch as Mismatch, |(_, f)| *f))
}

/// Every form this CPU runs, slowest first: tests and benches compare them.
pub fn all() -> Vec<(&'static str, Mismatch)> {
    let mut forms: Vec<(&'static str, Mismatch)> = vec![("scalar", scalar::mismatch)];
    #[cfg(target_arch = "x86_64")]
    {
        forms.extend(avx2::detect().map(|f| ("avx2", f)));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_agrees_at_every_length_and_place() {
        let a: Vec<u8> = (0..400u32).map(|i| (i * 7 % 251) as u8).collect();
        for (name, f) in all() {
            for n in 0..300 {
                assert_eq!(f(&a[..n], &a), n, "{name}: prefix of {n}");
                assert_eq!(f(&a[1..], &a[1..=n]), n, "{name}: unaligned prefix of {n}");
                let mut b = a.clone();
                b[n] ^= 0x80;
                assert_eq!(f(&a, &b), n, "{name}: differs at {n}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_form_agrees_with_the_scalar(mut a in proptest::collection::vec(0u8..3, 0..600), at: u16, cut: u16) {
            let b = a.clone();
            if let Some(n) = (!a.is_empty()).then(|| at as usize % a.len()) {
                a[n] = a[n].wrapping_add(1);
            }
            let b = &b[..cut as usize % (b.len() + 1)];
            for (name, f) in all() {
                prop_assert_eq!(f(&a, b), scalar::mismatch(&a, b), "{}", name);
            }
        }
    }
}
