//! Every column comes back to the bit, through every tier and every instruction set.

use super::*;
use crate::adversary::{self, Chance};
use crate::{column, column_encode, xor, xor2};
use proptest::prelude::*;

const TIERS: [Tier; 3] = [Tier::Fast, Tier::Mid, Tier::Full];

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn check_with(encoder: &mut Encoder, values: &[f64]) {
    for tier in TIERS {
        let mut bytes = Vec::new();
        encoder.encode(values, tier, &mut bytes);
        let length = bytes.len();
        let mut slack = bytes.clone();
        slack.extend_from_slice(&[0xa5; 64]);
        for isa in Isa::available() {
            for bytes in [&bytes, &slack] {
                let mut out = vec![0.5; values.len()];
                let read = decode_with(isa, bytes, &mut out);
                assert_eq!(read, Ok(length), "{isa:?} {tier:?} {values:?}");
                assert_eq!(bits(&out), bits(values), "{isa:?} {tier:?} head {:#x}", bytes[0]);
            }
        }
        if let Some(value) = constant(&bytes, values.len()) {
            assert!(values.iter().all(|v| v.to_bits() == value.to_bits()));
        }
    }
}

fn check(values: &[f64]) {
    check_with(&mut Encoder::new(), values);
}

fn encoded(values: &[f64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(values, Tier::Full, &mut bytes);
    bytes
}

#[test]
fn short_columns_come_back() {
    check(&[]);
    check(&[1.5]);
    check(&[1.0, 2.0]);
    check(&[0.0, -0.0]);
    check(&[f64::NAN, 1.0]);
    check(&[f64::NAN; 7]);
    check(&[f64::INFINITY, f64::NEG_INFINITY, 0.1]);
    check(&[f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324]);
}

#[test]
fn constants_are_short_and_known_without_a_buffer() {
    assert_eq!(encoded(&[0.0; 480]).len(), 2);
    assert_eq!(encoded(&[0.75; 480]).len(), 4);
    assert_eq!(encoded(&[std::f64::consts::PI; 480]).len(), 9);
    for value in [0.0, -0.0, 7.0, 1e300, f64::from_bits(0x7ff0_0000_0000_0002)] {
        let found = constant(&encoded(&[value; 9]), 9).map(f64::to_bits);
        assert_eq!(found, Some(value.to_bits()));
    }
    assert_eq!(constant(&encoded(&[1.0, 2.0]), 2), None);
}

#[test]
fn a_line_costs_its_parameters() {
    let line: Vec<f64> = (0..480).map(|i| i as f64 * 15.0 + 3.5).collect();
    assert!(encoded(&line).len() <= 7, "{:?}", encoded(&line));
}

#[test]
fn one_reset_does_not_widen_a_counter() {
    let smooth: Vec<f64> =
        (0..480u64).map(|i| 1e9 as u64 + i * 1000 + i * 7919 % 64).map(|v| v as f64).collect();
    let mut reset = smooth.clone();
    for value in &mut reset[200..] {
        *value -= 1e9;
    }
    assert!(encoded(&reset).len() <= encoded(&smooth).len() + 12);
    check(&reset);
}

#[test]
fn sums_of_decimals_are_not_raw() {
    let mut sum = 0.0;
    let sums: Vec<f64> = (0..480)
        .map(|i| {
            sum += (i % 7) as f64 * 0.001 + 0.1;
            sum
        })
        .collect();
    assert!(encoded(&sums).len() < 480 * 2, "{} bytes", encoded(&sums).len());
    check(&sums);
}

#[test]
fn every_exponent_divides_as_the_scalar_does() {
    let chance = &mut Chance::new(7);
    for exponent in 0..=EXPONENT_MAX {
        let integers: Vec<i64> = (0..4096)
            .map(|_| (chance.next() >> chance.below(64)) as i64 * if chance.one_in(2) { 1 } else { -1 })
            .collect();
        let mut bytes = vec![Domain::Decimal as u8 | exponent << 3];
        crate::column_encode::Encoder::new().encode(&integers, Tier::Fast, &mut bytes);
        let mut expect = vec![0.0; integers.len()];
        decode_with(Isa::SCALAR, &bytes, &mut expect).unwrap();
        for isa in Isa::available() {
            let mut out = vec![0.0; integers.len()];
            decode_with(isa, &bytes, &mut out).unwrap();
            assert_eq!(bits(&out), bits(&expect), "{isa:?} 10^{exponent}");
        }
    }
}

fn check_integers(encoder: &mut column_encode::Encoder, values: &[i64]) {
    for tier in TIERS {
        let mut bytes = Vec::new();
        encoder.encode(values, tier, &mut bytes);
        for isa in Isa::available() {
            let mut out = vec![1; values.len()];
            assert_eq!(column::decode_with(isa, &bytes, &mut out), Ok(bytes.len()), "{isa:?} {tier:?}");
            assert_eq!(out, values, "{isa:?} {tier:?} head {:#x}", bytes[0]);
        }
    }
}

/// Through Prometheus's encodings, which hold any doubles at any times.
fn check_foreign(times: &[i64], values: &[f64]) {
    let (mut bytes, mut out_times, mut out) = (Vec::new(), Vec::new(), Vec::new());
    if xor::encode(times, values, &mut bytes).is_ok() {
        xor::decode(&bytes, &mut out_times, &mut out).unwrap();
        assert_eq!((&out_times[..], bits(&out)), (times, bits(values)));
    }
    let starts: Vec<i64> = times.iter().map(|t| if t & 3 == 0 { 0 } else { t >> 1 }).collect();
    let mut out_starts = Vec::new();
    bytes.clear();
    out_times.clear();
    out.clear();
    if xor2::encode(times, values, &starts, &mut bytes).is_ok() {
        xor2::decode(&bytes, &mut out_times, &mut out, &mut out_starts).unwrap();
        assert_eq!((&out_times[..], &out_starts, bits(&out)), (times, &starts, bits(values)));
    }
}

fn check_seeds(samples: usize, first_seed: u64) {
    let (mut encoder, mut integers) = (Encoder::new(), column_encode::Encoder::new());
    let mut seed = first_seed;
    let mut left = samples;
    while left > 0 {
        let count = adversary::length(seed);
        let values = adversary::column(seed, count);
        check_with(&mut encoder, &values);
        check_integers(&mut integers, &adversary::integers(seed, count));
        check_foreign(&adversary::integers(!seed, count), &values);
        left = left.saturating_sub(count.max(1));
        seed += 1;
    }
}

#[test]
fn adversarial_columns_come_back() {
    check_seeds(200_000, 1);
}

#[test]
#[ignore = "ten million samples: half a minute optimized"]
fn ten_million_adversarial_samples_come_back() {
    check_seeds(10_000_000, 1 << 32);
}

/// Decodes anything; every instruction set must agree on error or bits.
fn check_hostile(bytes: &[u8], count: usize) {
    let mut expect = vec![0.0; count];
    let verdict = decode_with(Isa::SCALAR, bytes, &mut expect);
    constant(bytes, count);
    for isa in Isa::available() {
        let mut out = vec![0.0; count];
        assert_eq!(decode_with(isa, bytes, &mut out), verdict, "{isa:?} {bytes:?}");
        if verdict.is_ok() {
            assert_eq!(bits(&out), bits(&expect), "{isa:?} {bytes:?}");
        }
    }
}

#[test]
fn damaged_chunks_are_refused_or_decoded_alike() {
    let mut encoder = Encoder::new();
    for seed in 0..2_000 {
        let chance = &mut Chance::new(seed);
        let count = chance.below(150) as usize;
        let mut bytes = Vec::new();
        encoder.encode(&adversary::column(seed, count), TIERS[seed as usize % 3], &mut bytes);
        for _ in 0..8 {
            let mut damaged = bytes.clone();
            let at = chance.below(bytes.len().min(24) as u64) as usize;
            damaged[at] ^= 1 << chance.below(8);
            if chance.one_in(2) {
                damaged.truncate(chance.below(bytes.len() as u64) as usize);
            }
            check_hostile(&damaged, count);
            check_hostile(&damaged, count + chance.below(700) as usize);
        }
    }
}

proptest! {
    #[test]
    fn any_column_comes_back(words in proptest::collection::vec(any::<u64>(), 0..80)) {
        check(&words.into_iter().map(f64::from_bits).collect::<Vec<_>>());
    }

    #[test]
    fn any_decimals_come_back(
        values in proptest::collection::vec(-1_000_000i64..1_000_000, 0..200),
        exponent in 0usize..8,
    ) {
        let power = 10f64.powi(exponent as i32);
        check(&values.into_iter().map(|v| v as f64 / power).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..120), count in 0usize..600) {
        check_hostile(&bytes, count);
    }
}
