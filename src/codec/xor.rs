//! Prometheus's XOR chunk: what its blocks hold of floats.
//!
//! Bits, highest first: count u16; t0 varint; v0 64 bits; t1 - t0 uvarint; v1; then for each sample
//! the second difference of its time and its value.

use crate::bitstream::{BitReader, BitWriter, fits_signed, signed};
use crate::error::Error;

/// Most samples that the count of a chunk can tell.
pub const SAMPLES_MAX: usize = u16::MAX as usize;
/// Bytes of the count.
pub(crate) const COUNT_BYTES: usize = 2;

/// Widths behind the prefixes 10, 110, 1110, 1111 of a second difference.
const DOD_WIDTHS: [u32; 4] = [14, 17, 20, 64];

/// The window of bits that differed last: both ends count zeros. `None` before the first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window(Option<(u32, u32)>);

impl Window {
    /// Writes how `value` differs from `before`.
    pub(crate) fn write(&mut self, writer: &mut BitWriter<'_>, value: u64, before: u64) {
        let difference = value ^ before;
        writer.bit(difference != 0);
        if difference != 0 {
            self.write_difference(writer, difference);
        }
    }

    /// Writes a difference that is known not to be zero: `0` in the window, `1` with a new one.
    pub(crate) fn write_difference(&mut self, writer: &mut BitWriter<'_>, difference: u64) {
        self.write_with(writer, difference, 1);
    }

    /// The same with `10` for a new window, so that `11` can mean something else.
    pub(crate) fn write_difference_spaced(&mut self, writer: &mut BitWriter<'_>, difference: u64) {
        self.write_with(writer, difference, 2);
    }

    fn write_with(&mut self, writer: &mut BitWriter<'_>, difference: u64, prefix_bits: u32) {
        // Five bits tell the leading zeros.
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        if let Some((window_leading, window_trailing)) = self.0
            && leading >= window_leading
            && trailing >= window_trailing
        {
            writer.bit(false);
            return writer.bits(difference >> window_trailing, 64 - window_leading - window_trailing);
        }
        self.0 = Some((leading, trailing));
        let length = 64 - leading - trailing;
        writer.bits(1 << (prefix_bits - 1), prefix_bits);
        writer.bits(u64::from(leading), 5);
        // Six bits: 64 is written as 0.
        writer.bits(u64::from(length), 6);
        writer.bits(difference >> trailing, length);
    }

    /// Reads the value that follows `before`.
    #[inline]
    pub(crate) fn read(&mut self, reader: &mut BitReader<'_>, before: u64) -> Result<u64, Error> {
        if reader.bit()? { Ok(before ^ self.read_difference(reader)?) } else { Ok(before) }
    }

    /// Inverse of [`Self::write_difference`].
    #[inline]
    pub(crate) fn read_difference(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Error> {
        if reader.bit()? {
            self.read_window(reader)?;
        }
        self.read_bits(reader)
    }

    /// Inverse of [`Self::write_difference_spaced`]; `None` is `11`.
    pub(crate) fn read_difference_spaced(
        &mut self,
        reader: &mut BitReader<'_>,
    ) -> Result<Option<u64>, Error> {
        if reader.bit()? {
            if reader.bit()? {
                return Ok(None);
            }
            self.read_window(reader)?;
        }
        self.read_bits(reader).map(Some)
    }

    fn read_window(&mut self, reader: &mut BitReader<'_>) -> Result<(), Error> {
        let leading = reader.bits(5)? as u32;
        let length = match reader.bits(6)? as u32 {
            0 => 64,
            length => length,
        };
        if leading + length > 64 {
            return Err(Error::Corrupt("window over 64 bits"));
        }
        self.0 = Some((leading, 64 - leading - length));
        Ok(())
    }

    fn read_bits(&self, reader: &mut BitReader<'_>) -> Result<u64, Error> {
        let (leading, trailing) = self.0.unwrap_or((0, 0));
        Ok(reader.bits(64 - leading - trailing)? << trailing)
    }
}

/// Samples of the chunk, without decoding it.
pub fn count(bytes: &[u8]) -> Result<usize, Error> {
    let head = bytes.first_chunk::<COUNT_BYTES>().ok_or(Error::Truncated("count"))?;
    Ok(usize::from(u16::from_be_bytes(*head)))
}

/// Checks that the columns are of one length that a chunk can have, and writes it.
pub(crate) fn write_count(times: usize, values: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    if times != values {
        return Err(Error::Count { stored: times, given: values });
    }
    let count = u16::try_from(times).map_err(|_| Error::Unencodable("more than 65535 samples"))?;
    out.extend_from_slice(&count.to_be_bytes());
    Ok(())
}

/// Appends the chunk of `values` at `times`.
pub fn encode(times: &[i64], values: &[f64], out: &mut Vec<u8>) -> Result<(), Error> {
    write_count(times.len(), values.len(), out)?;
    let mut writer = BitWriter::new(out);
    let mut window = Window::default();
    let (mut time, mut delta, mut bits) = (0i64, 0i64, 0u64);
    for (idx, (&at, value)) in times.iter().zip(values).enumerate() {
        let value = value.to_bits();
        let new_delta = at.wrapping_sub(time);
        match idx {
            0 => {
                writer.varint_signed(at);
                writer.bits(value, 64);
            }
            1 => {
                writer.varint(new_delta as u64);
                window.write(&mut writer, value, bits);
            }
            _ => {
                write_dod(&mut writer, new_delta.wrapping_sub(delta));
                window.write(&mut writer, value, bits);
            }
        }
        (time, bits) = (at, value);
        delta = if idx == 0 { 0 } else { new_delta };
    }
    Ok(())
}

fn write_dod(writer: &mut BitWriter<'_>, dod: i64) {
    if dod == 0 {
        return writer.bit(false);
    }
    let class = DOD_WIDTHS[..3].iter().position(|&width| fits_signed(dod, width)).unwrap_or(3);
    match class {
        3 => writer.bits(0b1111, 4),
        _ => writer.bits((1 << (class + 2)) - 2, class as u32 + 2),
    }
    writer.bits(dod as u64, DOD_WIDTHS[class]);
}

fn read_dod(reader: &mut BitReader<'_>) -> Result<i64, Error> {
    match reader.ones(4)? {
        0 => Ok(0),
        ones => {
            let width = DOD_WIDTHS[ones as usize - 1];
            Ok(signed(reader.bits(width)?, width))
        }
    }
}

/// Appends the samples of a chunk to `times` and `values`. On an error, what was read before it
/// stays appended.
pub fn decode(bytes: &[u8], times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Error> {
    let count = count(bytes)?;
    let mut reader = BitReader::new(&bytes[COUNT_BYTES..]);
    let mut window = Window::default();
    let (mut time, mut delta, mut bits) = (0i64, 0i64, 0u64);
    for idx in 0..count {
        match idx {
            0 => {
                time = reader.varint_signed()?;
                bits = reader.bits(64)?;
            }
            1 => {
                delta = reader.varint()? as i64;
                time = time.wrapping_add(delta);
                bits = window.read(&mut reader, bits)?;
            }
            _ => {
                delta = delta.wrapping_add(read_dod(&mut reader)?);
                time = time.wrapping_add(delta);
                bits = window.read(&mut reader, bits)?;
            }
        }
        times.push(time);
        values.push(f64::from_bits(bits));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary;
    use proptest::prelude::*;

    fn check(times: &[i64], values: &[f64]) {
        let mut bytes = Vec::new();
        encode(times, values, &mut bytes).unwrap();
        let (mut out_times, mut out) = (Vec::new(), Vec::new());
        decode(&bytes, &mut out_times, &mut out).unwrap();
        assert_eq!(out_times, times);
        assert!(out.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(out.len(), values.len());
        assert_eq!(count(&bytes), Ok(values.len()));
    }

    #[test]
    fn columns_come_back() {
        check(&[], &[]);
        for seed in 0..300 {
            let count = adversary::length(seed);
            let chance = &mut adversary::Chance::new(seed);
            let jitter = 1 << chance.below(40);
            let times: Vec<i64> =
                (0..count as i64).map(|i| i * 15_000 + chance.below(jitter) as i64).collect();
            check(&times, &adversary::column(seed, count));
        }
    }

    #[test]
    fn too_many_samples_are_refused() {
        let many = vec![0; SAMPLES_MAX + 1];
        assert!(encode(&many, &vec![0.0; SAMPLES_MAX + 1], &mut Vec::new()).is_err());
        assert!(encode(&[1], &[], &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..60)) {
            let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
            let values: Vec<f64> = samples.iter().map(|s| f64::from_bits(s.1)).collect();
            check(&times, &values);
        }

        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut Vec::new(), &mut Vec::new());
        }
    }
}
