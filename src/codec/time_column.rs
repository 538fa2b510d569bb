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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(times: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(times, &mut bytes);
        for isa in Isa::available() {
            let mut out = vec![0; times.len()];
            assert_eq!(column::decode_with(isa, &bytes, &mut out), Ok(bytes.len()));
            assert_eq!(out, times, "{isa:?}");
        }
        bytes.len()
    }

    fn scrapes(count: i64, jitter: impl Fn(i64) -> i64) -> Vec<i64> {
        (0..count).map(|i| 1_700_000_000_000 + i * 15_000 + jitter(i)).collect()
    }

    #[test]
    fn scrapes_on_time_cost_their_parameters() {
        assert!(check(&scrapes(480, |_| 0)) <= 11);
        assert_eq!(check(&[]), 1);
        check(&[1]);
        check(&[i64::MIN, i64::MAX]);
    }

    #[test]
    fn late_scrapes_are_patches() {
        let late = scrapes(480, |i| if i % 100 == 50 { 7_000 } else { i % 2 });
        assert!(check(&late) < 100);
    }

    #[test]
    fn jitter_costs_its_bits() {
        assert!(check(&scrapes(480, |i| i * 7919 % 8)) <= 200);
    }

    #[test]
    fn a_wrong_count_is_refused() {
        assert!(decode(&[0, 0], 3, &mut [0; 2]).is_err());
    }

    proptest! {
        #[test]
        fn any_times_come_back(times in proptest::collection::vec(any::<i64>(), 0..700)) {
            check(&times);
        }

        #[test]
        fn any_steps_come_back(steps in proptest::collection::vec(0i64..20_000, 0..1200), start in any::<i64>()) {
            let times: Vec<i64> = steps.iter().scan(start, |t, s| { *t = t.wrapping_add(*s); Some(*t) }).collect();
            check(&times);
        }
    }
}
