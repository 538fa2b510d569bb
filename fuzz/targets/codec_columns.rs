//! No bytes make a decoder of numbers panic, or read or write where it may not, and all instruction sets make the same
//! of them: the same numbers or an error.

#![no_main]

use codec::chunk::ChunkReader;
use codec::{Isa, bitpack, column, time_column, value};
use libfuzzer_sys::fuzz_target;

/// Two blocks of patches and some.
const COUNT_END: usize = 1200;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, body)) = bytes.split_first_chunk::<2>() else { return };
    let count = usize::from(u16::from_le_bytes(*head)) % COUNT_END;
    let integers = |isa| {
        let mut out = vec![0i64; count];
        column::decode_with(isa, body, &mut out).map(|read| (read, out)).ok()
    };
    let doubles = |isa| {
        let mut out = vec![0.0f64; count];
        let read = value::decode_with(isa, body, &mut out).ok()?;
        Some((read, out.into_iter().map(f64::to_bits).collect::<Vec<u64>>()))
    };
    let (expect_integers, expect_doubles) = (integers(Isa::SCALAR), doubles(Isa::SCALAR));
    for isa in Isa::available() {
        assert_eq!(integers(isa), expect_integers, "{isa:?}");
        assert_eq!(doubles(isa), expect_doubles, "{isa:?}");
    }
    if let (Some(constant), Some((_, all))) = (value::constant(body, count), &expect_doubles) {
        assert!(all.iter().all(|bits| *bits == constant.to_bits()));
    }
    let _ = time_column::decode(body, count, &mut vec![0; count]);
    let _ = bitpack::unpack(body, u32::from(head[0]), &mut [0; 77]);
    if let Ok(chunk) = ChunkReader::parse(body) {
        let _ = chunk.decode(&mut vec![0; chunk.count], &mut vec![0.0; chunk.count]);
        let _ = chunk.decode_values(&mut vec![0.0; chunk.count]);
    }
});
