//! Prometheus's histogram and float-histogram chunks, without and with start times.
//!
//! Bits, highest first: count and flags, the layout, then one histogram after the other. Integer
//! fields are second differences, floats differ by exclusive or, each in a window of its own.

use crate::bitstream::{BitReader, BitWriter};
use crate::error::Error;
use crate::histogram::{BUCKETS_MAX, FloatHistograms, Histograms, IntHistograms, Layout, ResetHeader, Span};
use crate::xor::{self, Window};
use crate::xor2::{STALE, StartReader, StartWriter};

/// Whether the chunk is of the encodings 2 and 3, or 5 and 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// With start times; the count has 14 bits.
    Starts,
}

/// Schema of custom bounds: the only one that writes them.
const CUSTOM_SCHEMA: i32 = -53;
/// Greatest thousandfold of a custom bound that is written as an integer.
const BOUND_MAX: f64 = 33_554_430.0;
/// Count and flags.
const HEADER_BYTES: usize = 3;
const STARTS_COUNT_MAX: usize = (1 << 14) - 1;

/// Appends the chunk of integer histograms.
pub fn encode_int(histograms: &IntHistograms, form: Form, out: &mut Vec<u8>) -> Result<(), Error> {
    let width = histograms.check()?;
    encode(histograms, form, out, |writer, state: &mut IntState, row, stale| {
        let buckets = &histograms.buckets[row * width..][..width];
        state.write(
            writer,
            histograms.counts[row],
            histograms.zero_counts[row],
            histograms.sums[row],
            buckets,
            stale,
        );
    })
}

/// Appends the chunk of float histograms.
pub fn encode_float(histograms: &FloatHistograms, form: Form, out: &mut Vec<u8>) -> Result<(), Error> {
    let width = histograms.check()?;
    encode(histograms, form, out, |writer, state: &mut FloatState, row, stale| {
        let fields = [histograms.counts[row], histograms.zero_counts[row], histograms.sums[row]];
        state.write(writer, fields, &histograms.buckets[row * width..][..width], stale);
    })
}

/// Header, layout and times; `write` adds what else a row has.
fn encode<C, B, S: Default>(
    histograms: &Histograms<C, B>,
    form: Form,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut BitWriter<'_>, &mut S, usize, bool),
) -> Result<(), Error> {
    let start = out.len();
    write_header(histograms, form, out)?;
    let mut writer = BitWriter::new(out);
    let mut times = TimeWriter::default();
    let mut starts = StartWriter::default();
    let mut state = S::default();
    let mut stale_before = false;
    for (row, &time) in histograms.times.iter().enumerate() {
        let stale = histograms.sums[row].to_bits() == STALE;
        if row == 0 {
            let empty = Layout::default();
            write_layout(&mut writer, if stale { &empty } else { &histograms.layout });
        }
        if stale_before && !stale {
            return Err(Error::Unencodable("histogram behind a stale one"));
        }
        times.write(&mut writer, row, time);
        write(&mut writer, &mut state, row, stale);
        if form == Form::Starts {
            starts.write(&mut writer, row, time, histograms.starts.get(row).copied().unwrap_or(0));
        }
        stale_before = stale;
    }
    if form == Form::Starts {
        out[start + 2] = starts.header();
    }
    Ok(())
}

fn write_header<C, B>(histograms: &Histograms<C, B>, form: Form, out: &mut Vec<u8>) -> Result<(), Error> {
    let count = histograms.times.len();
    let reset = histograms.reset as u8;
    match form {
        Form::Plain => {
            xor::write_count(count, count, out)?;
            out.push(reset << 6);
        }
        Form::Starts if count <= STARTS_COUNT_MAX => {
            out.extend_from_slice(&(u16::from(reset) << 14 | count as u16).to_be_bytes());
            out.push(0);
        }
        Form::Starts => return Err(Error::Unencodable("more than 16383 histograms")),
    }
    Ok(())
}

#[derive(Default)]
struct TimeWriter {
    time: i64,
    delta: i64,
}

impl TimeWriter {
    fn write(&mut self, writer: &mut BitWriter<'_>, row: usize, time: i64) {
        let delta = if row == 0 { 0 } else { time.wrapping_sub(self.time) };
        writer.varbit_signed(if row == 0 { time } else { delta.wrapping_sub(self.delta) });
        (self.time, self.delta) = (time, delta);
    }
}

/// An integer and how it changed last.
#[derive(Clone, Copy, Debug, Default)]
struct Trend {
    value: i64,
    delta: i64,
}

impl Trend {
    fn write(&mut self, writer: &mut BitWriter<'_>, value: i64) {
        let delta = value.wrapping_sub(self.value);
        writer.varbit_signed(delta.wrapping_sub(self.delta));
        *self = Trend { value, delta };
    }

    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<i64, Error> {
        self.delta = self.delta.wrapping_add(reader.varbit_signed()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(self.value)
    }
}

/// A float and the window in which it changed last.
#[derive(Clone, Copy, Debug, Default)]
struct Drift {
    bits: u64,
    window: Window,
}

impl Drift {
    fn write(&mut self, writer: &mut BitWriter<'_>, value: f64) {
        self.window.write(writer, value.to_bits(), self.bits);
        self.bits = value.to_bits();
    }

    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<f64, Error> {
        self.bits = self.window.read(reader, self.bits)?;
        Ok(f64::from_bits(self.bits))
    }
}

#[derive(Default)]
struct IntState {
    begun: bool,
    count: Trend,
    zero_count: Trend,
    sum: Drift,
    buckets: Vec<Trend>,
}

impl IntState {
    fn write(
        &mut self,
        writer: &mut BitWriter<'_>,
        count: u64,
        zero_count: u64,
        sum: f64,
        buckets: &[i64],
        stale: bool,
    ) {
        let (count, zero_count, buckets) = if stale { (0, 0, &[][..]) } else { (count, zero_count, buckets) };
        if !self.begun {
            self.begun = true;
            writer.varbit_unsigned(count);
            writer.varbit_unsigned(zero_count);
            writer.bits(sum.to_bits(), 64);
            self.sum.bits = sum.to_bits();
            self.count.value = count as i64;
            self.zero_count.value = zero_count as i64;
            for &value in buckets {
                writer.varbit_signed(value);
                self.buckets.push(Trend { value, delta: 0 });
            }
            return;
        }
        if stale {
            // What a reader makes of the counts does not matter: nothing but stale ones follow.
            writer.bits(0, 2);
        } else {
            self.count.write(writer, count as i64);
            self.zero_count.write(writer, zero_count as i64);
        }
        self.sum.write(writer, sum);
        for (trend, &value) in self.buckets.iter_mut().zip(buckets) {
            trend.write(writer, value);
        }
    }
}

#[derive(Default)]
struct FloatState {
    begun: bool,
    /// Count, zero count, sum.
    fields: [Drift; 3],
    buckets: Vec<Drift>,
}

impl FloatState {
    fn write(&mut self, writer: &mut BitWriter<'_>, fields: [f64; 3], buckets: &[f64], stale: bool) {
        let (fields, buckets) = if stale { ([0.0, 0.0, fields[2]], &[][..]) } else { (fields, buckets) };
        if !self.begun {
            self.begun = true;
            self.buckets.resize(buckets.len(), Drift::default());
            let drifts = self.fields.iter_mut().chain(&mut self.buckets);
            for (drift, value) in drifts.zip(fields.iter().chain(buckets)) {
                writer.bits(value.to_bits(), 64);
                drift.bits = value.to_bits();
            }
            return;
        }
        let drifts = self.fields.iter_mut().chain(&mut self.buckets);
        for (drift, value) in drifts.zip(fields.iter().chain(buckets)) {
            drift.write(writer, *value);
        }
    }
}

/// Reads a chunk of integer histograms. Allocates the columns.
pub fn decode_int(bytes: &[u8], form: Form) -> Result<IntHistograms, Error> {
    let mut histograms = IntHistograms::default();
    let (mut count, mut zero_count, mut sum) = (Trend::default(), Trend::default(), Drift::default());
    let mut trends: Vec<Trend> = Vec::new();
    decode(bytes, form, &mut histograms, |reader, histograms, row, width| {
        if row == 0 {
            count.value = reader.varbit_unsigned()? as i64;
            zero_count.value = reader.varbit_unsigned()? as i64;
            sum.bits = reader.bits(64)?;
        } else {
            count.read(reader)?;
            zero_count.read(reader)?;
            sum.read(reader)?;
        }
        histograms.sums.push(f64::from_bits(sum.bits));
        if sum.bits == STALE {
            histograms.counts.push(0);
            histograms.zero_counts.push(0);
            histograms.buckets.resize(histograms.buckets.len() + width, 0);
            return Ok(());
        }
        histograms.counts.push(count.value as u64);
        histograms.zero_counts.push(zero_count.value as u64);
        for bucket in 0..width {
            if row == 0 {
                trends.push(Trend { value: reader.varbit_signed()?, delta: 0 });
            } else if let Some(trend) = trends.get_mut(bucket) {
                trend.read(reader)?;
            }
            histograms.buckets.push(trends.get(bucket).map_or(0, |t| t.value));
        }
        Ok(())
    })?;
    Ok(histograms)
}

/// Reads a chunk of float histograms. Allocates the columns.
pub fn decode_float(bytes: &[u8], form: Form) -> Result<FloatHistograms, Error> {
    let mut histograms = FloatHistograms::default();
    let mut fields = [Drift::default(); 3];
    let mut drifts: Vec<Drift> = Vec::new();
    decode(bytes, form, &mut histograms, |reader, histograms, row, width| {
        for field in &mut fields {
            if row == 0 {
                field.bits = reader.bits(64)?;
            } else {
                field.read(reader)?;
            }
        }
        let [count, zero_count, sum] = fields.map(|f| f64::from_bits(f.bits));
        histograms.sums.push(sum);
        if sum.to_bits() == STALE {
            histograms.counts.push(0.0);
            histograms.zero_counts.push(0.0);
            histograms.buckets.resize(histograms.buckets.len() + width, 0.0);
            return Ok(());
        }
        histograms.counts.push(count);
        histograms.zero_counts.push(zero_count);
        for bucket in 0..width {
            if row == 0 {
                drifts.push(Drift { bits: reader.bits(64)?, window: Window::default() });
            } else if let Some(drift) = drifts.get_mut(bucket) {
                drift.read(reader)?;
            }
            histograms.buckets.push(drifts.get(bucket).map_or(0.0, |d| f64::from_bits(d.bits)));
        }
        Ok(())
    })?;
    Ok(histograms)
}

/// Header, layout, times and starts; `read` takes what else a row has.
fn decode<C, B>(
    bytes: &[u8],
    form: Form,
    histograms: &mut Histograms<C, B>,
    mut read: impl FnMut(&mut BitReader<'_>, &mut Histograms<C, B>, usize, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let head = bytes.first_chunk::<HEADER_BYTES>().ok_or(Error::Truncated("histogram header"))?;
    let word = u16::from_be_bytes([head[0], head[1]]);
    let (count, reset) = match form {
        Form::Plain => (usize::from(word), head[2] >> 6),
        Form::Starts => (usize::from(word) & STARTS_COUNT_MAX, (word >> 14) as u8),
    };
    histograms.reset = ResetHeader::from_bits(reset);
    if count == 0 {
        return Ok(());
    }
    let mut reader = BitReader::new(&bytes[HEADER_BYTES..]);
    histograms.layout = read_layout(&mut reader)?;
    let width = histograms.layout.bucket_count().map_err(|_| Error::Corrupt("too many buckets"))?;
    let mut time = Trend::default();
    let mut starts = StartReader::new(head[2]);
    for row in 0..count {
        // A bucket takes a bit at least, a stale row none: rows are bounded by their own bits.
        if row == 0 {
            time.value = reader.varbit_signed()?;
        } else {
            time.read(&mut reader)?;
        }
        if histograms.buckets.len() + width > BUCKETS_READ_MAX {
            return Err(Error::Corrupt("more buckets than a chunk holds"));
        }
        histograms.times.push(time.value);
        read(&mut reader, histograms, row, width)?;
        if form == Form::Starts {
            histograms.starts.push(starts.read(&mut reader, row, time.value)?);
        }
    }
    Ok(())
}

/// Buckets of all rows of a chunk: 128 MiB. Prometheus cuts chunks at 1 KiB; but a stale row needs
/// four bits, whatever the width of the layout.
const BUCKETS_READ_MAX: usize = 1 << 24;

fn write_layout(writer: &mut BitWriter<'_>, layout: &Layout) {
    write_zero_threshold(writer, layout.zero_threshold);
    writer.varbit_signed(i64::from(layout.schema));
    for spans in [&layout.positive, &layout.negative] {
        writer.varbit_unsigned(spans.len() as u64);
        for span in spans {
            writer.varbit_unsigned(u64::from(span.length));
            writer.varbit_signed(i64::from(span.offset));
        }
    }
    if layout.schema != CUSTOM_SCHEMA {
        return;
    }
    writer.varbit_unsigned(layout.custom_bounds.len() as u64);
    for &bound in &layout.custom_bounds {
        let thousandfold = bound * 1000.0;
        // An integer where that leads back to the bound.
        let short = (0.0..=BOUND_MAX).contains(&thousandfold) && thousandfold.round() / 1000.0 == bound;
        if short {
            writer.varbit_unsigned(thousandfold.round() as u64 + 1);
        } else {
            writer.bit(false);
            writer.bits(bound.to_bits(), 64);
        }
    }
}

fn read_layout(reader: &mut BitReader<'_>) -> Result<Layout, Error> {
    let narrow = || Error::Corrupt("number over 32 bits");
    let zero_threshold = read_zero_threshold(reader)?;
    let schema = i32::try_from(reader.varbit_signed()?).map_err(|_| narrow())?;
    let mut sides = [Vec::new(), Vec::new()];
    for spans in &mut sides {
        for _ in 0..read_length(reader)? {
            let length = u32::try_from(reader.varbit_unsigned()?).map_err(|_| narrow())?;
            let offset = i32::try_from(reader.varbit_signed()?).map_err(|_| narrow())?;
            spans.push(Span { offset, length });
        }
    }
    let [positive, negative] = sides;
    let mut custom_bounds = Vec::new();
    if schema == CUSTOM_SCHEMA {
        for _ in 0..read_length(reader)? {
            custom_bounds.push(match reader.varbit_unsigned()? {
                0 => f64::from_bits(reader.bits(64)?),
                next => (next - 1) as f64 / 1000.0,
            });
        }
    }
    Ok(Layout { schema, zero_threshold, positive, negative, custom_bounds })
}

fn read_length(reader: &mut BitReader<'_>) -> Result<usize, Error> {
    let length = reader.varbit_unsigned()?;
    usize::try_from(length)
        .ok()
        .filter(|l| *l <= BUCKETS_MAX)
        .ok_or(Error::Corrupt("too many spans or bounds"))
}

/// The power of two that byte `1 ..= 254` stands for: 2^(byte - 244).
fn threshold_of(byte: u8) -> f64 {
    f64::from_bits((u64::from(byte) + 1023 - 244) << 52)
}

fn write_zero_threshold(writer: &mut BitWriter<'_>, threshold: f64) {
    if threshold == 0.0 {
        return writer.bits(0, 8);
    }
    match (1..=254).find(|byte| threshold_of(*byte) == threshold) {
        Some(byte) => writer.bits(u64::from(byte), 8),
        None => {
            writer.bits(255, 8);
            writer.bits(threshold.to_bits(), 64);
        }
    }
}

fn read_zero_threshold(reader: &mut BitReader<'_>) -> Result<f64, Error> {
    Ok(match reader.bits(8)? as u8 {
        0 => 0.0,
        255 => f64::from_bits(reader.bits(64)?),
        byte => threshold_of(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Chance;
    use crate::histogram::tests::{floats, growing};
    use proptest::prelude::*;

    fn check(int: &IntHistograms) {
        let (mut plain, mut with_starts) = (int.clone(), int.clone());
        plain.starts.clear();
        with_starts.starts.resize(int.times.len(), 0);
        for (form, int) in [(Form::Plain, plain), (Form::Starts, with_starts)] {
            let mut bytes = Vec::new();
            encode_int(&int, form, &mut bytes).unwrap();
            assert_eq!(decode_int(&bytes, form), Ok(int.clone()), "{form:?}");
            let float = floats(&int);
            bytes.clear();
            encode_float(&float, form, &mut bytes).unwrap();
            assert_eq!(decode_float(&bytes, form), Ok(float), "{form:?}");
        }
    }

    #[test]
    fn histograms_come_back() {
        for seed in 0..100 {
            let mut histograms = growing(seed, 1 + seed as usize % 140);
            histograms.reset = ResetHeader::from_bits(seed as u8);
            if seed % 2 == 0 {
                let late = |i: usize| if i < seed as usize { 0 } else { histograms.times[i] - 40 };
                histograms.starts = (0..histograms.times.len()).map(late).collect();
            }
            check(&histograms);
        }
    }

    #[test]
    fn stale_histograms_have_no_buckets() {
        let mut histograms = growing(6, 5);
        let width = histograms.layout.bucket_count().unwrap();
        for row in [3, 4] {
            histograms.sums[row] = f64::from_bits(STALE);
            (histograms.counts[row], histograms.zero_counts[row]) = (0, 0);
            histograms.buckets[row * width..][..width].fill(0);
        }
        let mut bytes = Vec::new();
        encode_int(&histograms, Form::Plain, &mut bytes).unwrap();
        let back = decode_int(&bytes, Form::Plain).unwrap();
        assert_eq!(back.sums[4].to_bits(), STALE);
        assert_eq!((back.buckets, back.counts), (histograms.buckets.clone(), histograms.counts.clone()));
        histograms.sums[4] = 1.0;
        assert!(encode_int(&histograms, Form::Plain, &mut Vec::new()).is_err());
    }

    #[test]
    fn thresholds_are_bytes_where_they_are_powers_of_two() {
        assert_eq!(threshold_of(116), 2f64.powi(-128));
        assert_eq!((threshold_of(1), threshold_of(254)), (2f64.powi(-243), 1024.0));
        for threshold in [0.0, 1e-9, 2f64.powi(-243), 2f64.powi(-244), 1024.0, 2048.0] {
            let mut bytes = Vec::new();
            write_zero_threshold(&mut BitWriter::new(&mut bytes), threshold);
            assert_eq!(read_zero_threshold(&mut BitReader::new(&bytes)), Ok(threshold));
        }
    }

    #[test]
    fn damaged_chunks_are_refused_or_decoded() {
        for seed in 0..600 {
            let chance = &mut Chance::new(seed);
            let mut bytes = Vec::new();
            encode_int(&growing(seed, 9), Form::Plain, &mut bytes).unwrap();
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << chance.below(8);
            let _ = decode_int(&bytes, Form::Plain);
            let _ = decode_float(&bytes, Form::Starts);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for form in [Form::Plain, Form::Starts] {
                let _ = decode_int(&bytes, form);
                let _ = decode_float(&bytes, form);
            }
        }
    }
}
