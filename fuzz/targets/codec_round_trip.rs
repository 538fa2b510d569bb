//! Any doubles and any times come back to the bit, from every tier, by every instruction set, and through Prometheus's
//! encodings.

#![no_main]

use codec::value_encode::Encoder;
use codec::{Isa, Tier, column, column_encode, value, xor, xor2};
use libfuzzer_sys::fuzz_target;

/// Doubles from bytes that a fuzzer changes: plain bits, integers, decimals, what was there before, a step from it.
fn doubles(mut bytes: &[u8]) -> Vec<f64> {
    let mut all = Vec::new();
    let mut last = 0i64;
    while let Some((&kind, rest)) = bytes.split_first() {
        bytes = rest;
        if kind & 7 == 7 {
            let Some((bits, rest)) = bytes.split_first_chunk::<8>() else { break };
            bytes = rest;
            all.push(f64::from_bits(u64::from_le_bytes(*bits)));
            continue;
        }
        let Some((&byte, rest)) = bytes.split_first() else { break };
        bytes = rest;
        last = match kind & 7 {
            0 => last,
            1 => last.wrapping_add(i64::from(byte)),
            2 => last.wrapping_sub(i64::from(byte)),
            3 => i64::from(byte) << (kind >> 3),
            _ => last.wrapping_add(i64::from(byte as i8) << (kind >> 5)),
        };
        let value = last as f64 / [1.0, 10.0, 1000.0][usize::from(kind >> 6) % 3];
        all.extend(std::iter::repeat_n(value, 1 + usize::from(kind & 7 == 0) * usize::from(byte)));
    }
    all
}

fuzz_target!(|bytes: &[u8]| {
    let values = doubles(bytes);
    let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
    let times: Vec<i64> = bits.iter().map(|b| *b as i64).collect();
    let mut encoder = Encoder::new();
    for tier in [Tier::Fast, Tier::Mid, Tier::Full] {
        let (mut chunk, mut ints) = (Vec::new(), Vec::new());
        encoder.encode(&values, tier, &mut chunk);
        column_encode::Encoder::new().encode(&times, tier, &mut ints);
        for isa in Isa::available() {
            let (mut out, mut out_ints) = (vec![0.5; values.len()], vec![1; times.len()]);
            assert_eq!(value::decode_with(isa, &chunk, &mut out), Ok(chunk.len()));
            assert!(out.iter().zip(&bits).all(|(a, b)| a.to_bits() == *b), "{isa:?} {tier:?}");
            assert_eq!(column::decode_with(isa, &ints, &mut out_ints), Ok(ints.len()));
            assert_eq!(out_ints, times, "{isa:?} {tier:?}");
        }
    }
    let mut chunk = Vec::new();
    if xor::encode(&times, &values, &mut chunk).is_ok() {
        let (mut out_times, mut out) = (Vec::new(), Vec::new());
        xor::decode(&chunk, &mut out_times, &mut out).expect("what was encoded decodes");
        assert_eq!(out_times, times);
        assert!(out.iter().zip(&bits).all(|(a, b)| a.to_bits() == *b));
    }
    chunk.clear();
    let starts: Vec<i64> = times.iter().map(|t| if t % 3 == 0 { 0 } else { t >> 1 }).collect();
    if xor2::encode(&times, &values, &starts, &mut chunk).is_ok() {
        let (mut out_times, mut out, mut out_starts) = (Vec::new(), Vec::new(), Vec::new());
        xor2::decode(&chunk, &mut out_times, &mut out, &mut out_starts).expect("what was encoded decodes");
        assert_eq!((out_times, out_starts), (times, starts));
        assert!(out.iter().zip(&bits).all(|(a, b)| a.to_bits() == *b));
    }
});
