//! Prometheus's XOR2 chunk: one prefix for time and value together, and start times.
//!
//! Bits, highest first: count u16; start-time header u8; t0 varint; v0 64 bits; `[t0 - start0]`;
//! t1 - t0 uvarint; value; `[start]`; then for each sample a joint prefix, and `[start]`.

use crate::bitstream::{BitReader, BitWriter};
use crate::error::Error;
use crate::value::SPECIALS;
use crate::xor::{self, Window};

/// The stale marker's bits: it has a code of its own and is never a base for differences.
pub(crate) const STALE: u64 = SPECIALS[0];
/// The first sample's start time is known.
const FIRST_KNOWN: u8 = 0x80;
/// Greatest index that the header can tell: from there on every sample carries its start time.
const INDEX_MAX: usize = 0x7f;

/// Start times as XOR2 and the histogram chunks write them: nothing while they are as at first, then
/// for each sample how far it lies before the sample ahead.
#[derive(Debug, Default)]
pub(crate) struct StartWriter {
    header: u8,
    start: i64,
    distance: i64,
    before: i64,
}

impl StartWriter {
    /// Writes the start of sample `idx` at `time`; 0 is "not known".
    pub(crate) fn write(&mut self, writer: &mut BitWriter<'_>, idx: usize, time: i64, start: i64) {
        let distance = self.before.wrapping_sub(start);
        if idx == 0 {
            if start != 0 {
                writer.varint_signed(time.wrapping_sub(start));
                self.header = FIRST_KNOWN;
            }
        } else if usize::from(self.header) & INDEX_MAX != 0 {
            writer.varbit_signed(distance.wrapping_sub(self.distance));
            self.distance = distance;
        } else if start != self.start || idx == INDEX_MAX {
            // Never above the greatest index: there it is forced.
            self.header |= idx as u8;
            writer.varbit_signed(distance);
            self.distance = distance;
        }
        self.start = start;
        self.before = time;
    }

    /// The header that belongs ahead of the samples.
    pub(crate) fn header(&self) -> u8 {
        self.header
    }
}

/// Inverse of [`StartWriter`].
#[derive(Debug)]
pub(crate) struct StartReader {
    header: u8,
    start: i64,
    distance: i64,
    before: i64,
}

impl StartReader {
    pub(crate) fn new(header: u8) -> Self {
        Self { header, start: 0, distance: 0, before: 0 }
    }

    /// The start of sample `idx` at `time`.
    pub(crate) fn read(&mut self, reader: &mut BitReader<'_>, idx: usize, time: i64) -> Result<i64, Error> {
        let first = usize::from(self.header) & INDEX_MAX;
        if idx == 0 {
            if self.header & FIRST_KNOWN != 0 {
                self.start = time.wrapping_sub(reader.varint_signed()?);
            }
        } else if first != 0 && idx >= first {
            self.distance = self.distance.wrapping_add(reader.varbit_signed()?);
            self.start = self.before.wrapping_sub(self.distance);
        }
        self.before = time;
        Ok(self.start)
    }
}

/// Appends the chunk of `values` at `times`. `starts` is empty or has a start time for each sample,
/// 0 where it is not known.
pub fn encode(times: &[i64], values: &[f64], starts: &[i64], out: &mut Vec<u8>) -> Result<(), Error> {
    if !starts.is_empty() && starts.len() != times.len() {
        return Err(Error::Count { stored: times.len(), given: starts.len() });
    }
    xor::write_count(times.len(), values.len(), out)?;
    let header_at = out.len();
    out.push(0);
    let mut writer = BitWriter::new(out);
    let mut window = Window::default();
    let mut start_writer = StartWriter::default();
    let (mut time, mut delta, mut base) = (0i64, 0i64, 0u64);
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
                write_value(&mut writer, &mut window, value, base);
            }
            _ => write_joint(&mut writer, &mut window, new_delta.wrapping_sub(delta), value, base),
        }
        start_writer.write(&mut writer, idx, at, starts.get(idx).copied().unwrap_or(0));
        if value != STALE {
            base = value;
        }
        time = at;
        delta = if idx == 0 { 0 } else { new_delta };
    }
    out[header_at] = start_writer.header();
    Ok(())
}

fn write_joint(writer: &mut BitWriter<'_>, window: &mut Window, dod: i64, value: u64, base: u64) {
    match dod {
        0 if value == STALE => return writer.bits(0b11111, 5),
        0 if value == base => return writer.bit(false),
        0 => {
            writer.bits(0b10, 2);
            return window.write_difference(writer, value ^ base);
        }
        -4096..=4095 => writer.bits(0b110 << 13 | dod as u64 & 0x1fff, 16),
        -524_288..=524_287 => writer.bits(0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
        _ => {
            writer.bits(0b11110, 5);
            writer.bits(dod as u64, 64);
        }
    }
    write_value(writer, window, value, base);
}

/// 0 the same; 10 in the window; 110 in a new one; 111 stale.
fn write_value(writer: &mut BitWriter<'_>, window: &mut Window, value: u64, base: u64) {
    if value == STALE {
        return writer.bits(0b111, 3);
    }
    if value == base {
        return writer.bit(false);
    }
    writer.bit(true);
    window.write_difference_spaced(writer, value ^ base);
}

/// Appends the samples of a chunk to `times`, `values` and `starts` (0 where not known). On an
/// error, what was read before it stays appended.
pub fn decode(
    bytes: &[u8],
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
    starts: &mut Vec<i64>,
) -> Result<(), Error> {
    let count = xor::count(bytes)?;
    let header = *bytes.get(xor::COUNT_BYTES).ok_or(Error::Truncated("start-time header"))?;
    let mut reader = BitReader::new(&bytes[xor::COUNT_BYTES + 1..]);
    let mut window = Window::default();
    let mut start_reader = StartReader::new(header);
    let (mut time, mut delta, mut base) = (0i64, 0i64, 0u64);
    for idx in 0..count {
        let value = match idx {
            0 => {
                time = reader.varint_signed()?;
                reader.bits(64)?
            }
            1 => {
                delta = reader.varint()? as i64;
                read_value(&mut reader, &mut window, base)?
            }
            _ => {
                let (dod, value) = read_joint(&mut reader, &mut window, base)?;
                delta = delta.wrapping_add(dod);
                value
            }
        };
        time = time.wrapping_add(delta);
        if value != STALE {
            base = value;
        }
        starts.push(start_reader.read(&mut reader, idx, time)?);
        times.push(time);
        values.push(f64::from_bits(value));
    }
    Ok(())
}

fn read_joint(reader: &mut BitReader<'_>, window: &mut Window, base: u64) -> Result<(i64, u64), Error> {
    let width = match reader.ones(5)? {
        0 => return Ok((0, base)),
        1 => return Ok((0, base ^ window.read_difference(reader)?)),
        2 => 13,
        3 => 20,
        4 => 64,
        _ => return Ok((0, STALE)),
    };
    let unused = 64 - width;
    let dod = (reader.bits(width)? << unused) as i64 >> unused;
    Ok((dod, read_value(reader, window, base)?))
}

fn read_value(reader: &mut BitReader<'_>, window: &mut Window, base: u64) -> Result<u64, Error> {
    if !reader.bit()? {
        return Ok(base);
    }
    match window.read_difference_spaced(reader)? {
        Some(difference) => Ok(base ^ difference),
        None => Ok(STALE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::{self, Chance};
    use proptest::prelude::*;

    fn check(times: &[i64], values: &[f64], starts: &[i64]) {
        let mut bytes = Vec::new();
        encode(times, values, starts, &mut bytes).unwrap();
        let (mut out_times, mut out, mut out_starts) = (Vec::new(), Vec::new(), Vec::new());
        decode(&bytes, &mut out_times, &mut out, &mut out_starts).unwrap();
        assert_eq!(out_times, times);
        assert!(out.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()), "{values:?} {out:?}");
        if starts.is_empty() {
            assert!(out_starts.iter().all(|s| *s == 0));
        } else {
            assert_eq!(out_starts, starts);
        }
    }

    #[test]
    fn columns_come_back() {
        check(&[], &[], &[]);
        for seed in 0..300 {
            let count = adversary::length(seed);
            let chance = &mut Chance::new(seed);
            let jitter = 1 << chance.below(24);
            let times: Vec<i64> =
                (0..count as i64).map(|i| i * 15_000 + chance.below(jitter) as i64).collect();
            let values = adversary::column(seed, count);
            check(&times, &values, &[]);
            let change = chance.below(200) as usize;
            let starts: Vec<i64> =
                (0..count).map(|i| if i < change { 7 } else { (i / 9) as i64 * 40 }).collect();
            check(&times, &values, &starts);
        }
    }

    #[test]
    fn stale_markers_are_no_base() {
        let stale = f64::from_bits(STALE);
        check(&[0, 1, 2, 3, 9, 10, 11], &[stale, 1.5, stale, 1.5, stale, stale, 2.5], &[]);
    }

    proptest! {
        #[test]
        fn any_samples_come_back(
            samples in proptest::collection::vec((any::<i64>(), any::<u64>(), any::<i64>()), 0..60),
        ) {
            let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
            let values: Vec<f64> = samples.iter().map(|s| f64::from_bits(s.1)).collect();
            let starts: Vec<i64> = samples.iter().map(|s| s.2).collect();
            check(&times, &values, &starts);
        }

        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut Vec::new(), &mut Vec::new(), &mut Vec::new());
        }
    }
}
