//! One series in one window: header, time column, value column.
#![doc = include_str!("../../docs/format/chunk.md")]

use crate::arch::Isa;
use crate::column_encode;
use crate::error::Error;
use crate::time_column;
use crate::value;
use crate::value_encode;
use crate::varint::{self, Reader};
use crate::{Tier, column};

/// What a chunk's times are and where they lie.
#[derive(Clone, Copy, Debug)]
pub enum Times<'a> {
    /// Written into the chunk.
    Own(&'a [i64]),
    /// Kept once for many chunks, elsewhere; first and last are noted in the header.
    Shared(&'a [i64]),
}

/// What is known of the values without decoding them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// No value is less than the one before it, nor a NaN: a counter that never reset here.
    pub no_reset: bool,
    /// No value is a NaN: no stale marker either.
    pub no_nan: bool,
}

const OWN_TIMES: u8 = 1 << 0;
const NO_RESET: u8 = 1 << 1;
const NO_NAN: u8 = 1 << 2;
const KNOWN: u8 = OWN_TIMES | NO_RESET | NO_NAN;

/// A chunk never has more samples: a window of a day at one a second fits.
pub const SAMPLES_MAX: usize = 1 << 17;

impl Flags {
    /// Looks at every value once.
    pub fn of(values: &[f64]) -> Self {
        let mut flags = Self { no_reset: true, no_nan: true };
        let mut last = f64::NEG_INFINITY;
        for &value in values {
            flags.no_reset &= value >= last;
            flags.no_nan &= !value.is_nan();
            last = value;
        }
        flags
    }
}

/// Writes chunks; keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    values: value_encode::Encoder,
    times: column_encode::Encoder,
}

impl ChunkWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the chunk of `values` at `times`.
    pub fn encode(
        &mut self,
        times: Times<'_>,
        values: &[f64],
        tier: Tier,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let (own, at) = match times {
            Times::Own(at) => (true, at),
            Times::Shared(at) => (false, at),
        };
        if at.len() != values.len() {
            return Err(Error::Count { stored: at.len(), given: values.len() });
        }
        if values.len() > SAMPLES_MAX {
            return Err(Error::Unencodable("more samples than a chunk holds"));
        }
        let flags = Flags::of(values);
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        out.push(bit(own, OWN_TIMES) | bit(flags.no_reset, NO_RESET) | bit(flags.no_nan, NO_NAN));
        varint::write(values.len() as u64, out);
        if let (Some(&first), Some(&last)) = (at.first(), at.last()) {
            varint::write_signed(first, out);
            varint::write_signed(last.wrapping_sub(first), out);
        }
        if own {
            time_column::encode_with(&mut self.times, at, out);
        }
        self.values.encode(values, tier, out);
        Ok(())
    }
}

/// A chunk whose header is read; columns are decoded when asked for.
#[derive(Clone, Copy, Debug)]
pub struct ChunkReader<'a> {
    pub count: usize,
    /// Time of the first and the last sample; 0 in an empty chunk.
    pub first_time: i64,
    pub last_time: i64,
    pub flags: Flags,
    /// Whether the chunk carries its own times.
    pub own_times: bool,
    columns: &'a [u8],
}

impl<'a> ChunkReader<'a> {
    /// Reads the header. `bytes` may go on behind the chunk, and decoding is faster if they do.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let bits = reader.u8()?;
        if bits & !KNOWN != 0 {
            return Err(Error::Corrupt("chunk flags"));
        }
        let count = reader.varint_usize()?;
        if count > SAMPLES_MAX {
            return Err(Error::Corrupt("more samples than a chunk holds"));
        }
        let (mut first_time, mut last_time) = (0, 0);
        if count > 0 {
            first_time = reader.varint_signed()?;
            last_time = reader.varint_signed()?.wrapping_add(first_time);
        }
        let flags = Flags { no_reset: bits & NO_RESET != 0, no_nan: bits & NO_NAN != 0 };
        let own_times = bits & OWN_TIMES != 0;
        Ok(Self { count, first_time, last_time, flags, own_times, columns: reader.rest() })
    }

    /// Decodes the times, if the chunk has its own, and the values. Both buffers have `count` places;
    /// where the times are shared, `times` is left as it is.
    pub fn decode(&self, times: &mut [i64], values: &mut [f64]) -> Result<(), Error> {
        let values_at = if self.own_times {
            if times.len() != self.count {
                return Err(Error::Count { stored: self.count, given: times.len() });
            }
            column::decode_with(Isa::best(), self.columns, times)?
        } else {
            0
        };
        value::decode(&self.columns[values_at..], self.count, values)
    }

    /// The values alone, where the times are shared.
    pub fn decode_values(&self, values: &mut [f64]) -> Result<(), Error> {
        if self.own_times {
            return Err(Error::Corrupt("chunk has its own times"));
        }
        value::decode(self.columns, self.count, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary;
    use proptest::prelude::*;

    fn check(times: &[i64], values: &[f64]) {
        let mut writer = ChunkWriter::new();
        for own in [Times::Own(times), Times::Shared(times)] {
            let mut bytes = Vec::new();
            writer.encode(own, values, Tier::Full, &mut bytes).unwrap();
            let chunk = ChunkReader::parse(&bytes).unwrap();
            assert_eq!(chunk.count, values.len());
            assert_eq!(chunk.flags, Flags::of(values));
            if let (Some(&first), Some(&last)) = (times.first(), times.last()) {
                assert_eq!((chunk.first_time, chunk.last_time), (first, last));
            }
            let mut out_times = times.to_vec();
            let mut out = vec![0.0; values.len()];
            if chunk.own_times {
                out_times.fill(0);
            }
            chunk.decode(&mut out_times, &mut out).unwrap();
            assert_eq!(out_times, times);
            assert!(out.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    #[test]
    fn chunks_come_back() {
        check(&[], &[]);
        check(&[i64::MIN, i64::MAX], &[1.0, f64::NAN]);
        for seed in 0..200 {
            let count = adversary::length(seed);
            let times: Vec<i64> = (0..count as i64).map(|i| i * 15_000 + seed as i64).collect();
            check(&times, &adversary::column(seed, count));
        }
    }

    #[test]
    fn flags_tell_resets_and_nans() {
        let flags = |values: &[f64]| {
            let Flags { no_reset, no_nan } = Flags::of(values);
            (no_reset, no_nan)
        };
        assert_eq!(flags(&[]), (true, true));
        assert_eq!(flags(&[1.0, 1.0, 2.0]), (true, true));
        assert_eq!(flags(&[2.0, 1.0]), (false, true));
        assert_eq!(flags(&[1.0, f64::NAN, 2.0]), (false, false));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(chunk) = ChunkReader::parse(&bytes) {
                let (mut times, mut values) = (vec![0; chunk.count], vec![0.0; chunk.count]);
                let _ = chunk.decode(&mut times, &mut values);
            }
        }
    }
}
