//! Native histograms of one layout, column by column, and our chunk of them.
//!
//! The layout (schema, zero threshold, spans, custom bounds) is written once; then every field is a
//! column over time: times, counts, zero counts, sums, and one column a bucket. Buckets of integer
//! histograms are written as absolute counts, which only grow, though they are handed over as
//! differences between neighbors. Layout of the bytes: `docs/format/chunk.md`.

use crate::Tier;
use crate::column;
use crate::column_encode;
use crate::error::Error;
use crate::time_column;
use crate::value;
use crate::value_encode;
use crate::varint::{self, Reader};

/// A run of buckets: how many are skipped ahead of it, and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// What all histograms of a chunk share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub schema: i32,
    pub zero_threshold: f64,
    pub positive: Vec<Span>,
    pub negative: Vec<Span>,
    /// Upper bounds of custom buckets; empty for exponential schemas.
    pub custom_bounds: Vec<f64>,
}

/// Buckets of a layout, spans and custom bounds: more than any exporter makes, little enough for the
/// rows of a chunk to be allocated on a stranger's word.
pub const BUCKETS_MAX: usize = 1 << 16;

impl Layout {
    /// Buckets on both sides; an error where they are more than [`BUCKETS_MAX`].
    pub fn bucket_count(&self) -> Result<usize, Error> {
        let spans = self.positive.iter().chain(&self.negative);
        let count: u64 = spans.map(|span| u64::from(span.length)).sum();
        usize::try_from(count)
            .ok()
            .filter(|c| *c <= BUCKETS_MAX)
            .ok_or(Error::Unencodable("too many buckets"))
    }
}

/// What is known of counter resets ahead of the first histogram of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHeader {
    #[default]
    Unknown = 0,
    NotReset = 1,
    Reset = 2,
    /// Gauges do not reset.
    Gauge = 3,
}

impl ResetHeader {
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Unknown,
            1 => Self::NotReset,
            2 => Self::Reset,
            _ => Self::Gauge,
        }
    }
}

/// Histograms of one layout. `C` is the type of counts, `B` that of buckets.
///
/// All columns have one length but `starts`, which may be empty, and `buckets`, which has a row of
/// [`Layout::bucket_count`] a histogram, the positive ones first. A stale histogram has the stale
/// marker as its sum; its other fields are zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histograms<C, B> {
    pub layout: Layout,
    pub reset: ResetHeader,
    pub times: Vec<i64>,
    /// Start times, 0 where not known; empty where none is.
    pub starts: Vec<i64>,
    pub counts: Vec<C>,
    pub zero_counts: Vec<C>,
    pub sums: Vec<f64>,
    pub buckets: Vec<B>,
}

/// Counts are whole; a bucket is its difference from the bucket before it.
pub type IntHistograms = Histograms<u64, i64>;
/// Counts and buckets are absolute.
pub type FloatHistograms = Histograms<f64, f64>;

impl<C, B> Histograms<C, B> {
    /// Checks that the columns fit each other; returns the number of buckets.
    pub(crate) fn check(&self) -> Result<usize, Error> {
        let count = self.times.len();
        let width = self.layout.bucket_count()?;
        for given in [self.counts.len(), self.zero_counts.len(), self.sums.len()] {
            if given != count {
                return Err(Error::Count { stored: count, given });
            }
        }
        if !self.starts.is_empty() && self.starts.len() != count {
            return Err(Error::Count { stored: count, given: self.starts.len() });
        }
        if self.buckets.len() != count * width {
            return Err(Error::Count { stored: count * width, given: self.buckets.len() });
        }
        if count * (width + 1) > CELLS_MAX {
            return Err(Error::Unencodable("more buckets than a chunk holds"));
        }
        Ok(width)
    }
}

/// Rows times columns of one chunk: 128 MiB of words, 480 rows of the widest layout.
const CELLS_MAX: usize = 1 << 24;

const FLOAT: u8 = 1 << 0;
const STARTS: u8 = 1 << 1;
const RESET_SHIFT: u32 = 2;
const KNOWN: u8 = 0b1111;

/// Histograms of either kind, as a chunk holds them.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyHistograms {
    Int(IntHistograms),
    Float(FloatHistograms),
}

/// Writes histogram chunks; keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub struct HistogramEncoder {
    integers: column_encode::Encoder,
    values: value_encode::Encoder,
    absolute: Vec<i64>,
    column: Vec<i64>,
    floats: Vec<f64>,
}

impl HistogramEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the chunk of integer histograms.
    pub fn encode_int(
        &mut self,
        histograms: &IntHistograms,
        tier: Tier,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let width = histograms.check()?;
        self.write_head(histograms, 0, tier, out);
        for counts in [&histograms.counts, &histograms.zero_counts] {
            self.column.clear();
            self.column.extend(counts.iter().map(|c| *c as i64));
            self.integers.encode(&self.column, tier, out);
        }
        self.values.encode(&histograms.sums, tier, out);
        if width == 0 {
            return Ok(());
        }
        let split = side_length(&histograms.layout.positive);
        self.absolute.clear();
        self.absolute.extend_from_slice(&histograms.buckets);
        for row in self.absolute.chunks_mut(width) {
            let (positive, negative) = row.split_at_mut(split);
            sum_up(positive);
            sum_up(negative);
        }
        for bucket in 0..width {
            self.column.clear();
            self.column.extend(self.absolute.iter().skip(bucket).step_by(width));
            self.integers.encode(&self.column, tier, out);
        }
        Ok(())
    }

    /// Appends the chunk of float histograms.
    pub fn encode_float(
        &mut self,
        histograms: &FloatHistograms,
        tier: Tier,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let width = histograms.check()?;
        self.write_head(histograms, FLOAT, tier, out);
        for values in [&histograms.counts, &histograms.zero_counts, &histograms.sums] {
            self.values.encode(values, tier, out);
        }
        for bucket in 0..width {
            self.floats.clear();
            self.floats.extend(histograms.buckets.iter().skip(bucket).step_by(width));
            self.values.encode(&self.floats, tier, out);
        }
        Ok(())
    }

    fn write_head<C, B>(&mut self, histograms: &Histograms<C, B>, kind: u8, tier: Tier, out: &mut Vec<u8>) {
        let starts = if histograms.starts.is_empty() { 0 } else { STARTS };
        out.push(kind | starts | (histograms.reset as u8) << RESET_SHIFT);
        varint::write(histograms.times.len() as u64, out);
        write_layout(&histograms.layout, out);
        time_column::encode_with(&mut self.integers, &histograms.times, out);
        if starts != 0 {
            // How far a start lies before its sample: constant or a ramp, not a second time column.
            self.column.clear();
            let pairs = histograms.times.iter().zip(&histograms.starts);
            self.column.extend(pairs.map(|(time, start)| time.wrapping_sub(*start)));
            self.integers.encode(&self.column, tier, out);
        }
    }
}

/// Reads a chunk. Allocates the columns.
pub fn decode(bytes: &[u8]) -> Result<AnyHistograms, Error> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u8()?;
    if flags & !KNOWN != 0 {
        return Err(Error::Corrupt("histogram flags"));
    }
    let count = reader.varint_usize()?;
    let layout = read_layout(&mut reader)?;
    let width = layout.bucket_count().map_err(|_| Error::Corrupt("too many buckets"))?;
    if count.checked_mul(width + 1).is_none_or(|cells| cells > CELLS_MAX) {
        return Err(Error::Corrupt("more buckets than a chunk holds"));
    }
    let times = read_integers(&mut reader, count)?;
    let mut starts = Vec::new();
    if flags & STARTS != 0 {
        starts = read_integers(&mut reader, count)?;
        for (start, time) in starts.iter_mut().zip(&times) {
            *start = time.wrapping_sub(*start);
        }
    }
    let reset = ResetHeader::from_bits(flags >> RESET_SHIFT);
    if flags & FLOAT != 0 {
        return decode_float(&mut reader, layout, reset, times, starts).map(AnyHistograms::Float);
    }
    decode_int(&mut reader, layout, reset, times, starts).map(AnyHistograms::Int)
}

fn decode_int(
    reader: &mut Reader<'_>,
    layout: Layout,
    reset: ResetHeader,
    times: Vec<i64>,
    starts: Vec<i64>,
) -> Result<IntHistograms, Error> {
    let (count, width) = (times.len(), layout.bucket_count()?);
    let unsigned = |column: Vec<i64>| column.into_iter().map(|c| c as u64).collect();
    let counts = unsigned(read_integers(reader, count)?);
    let zero_counts = unsigned(read_integers(reader, count)?);
    let sums = read_values(reader, count)?;
    let mut buckets = vec![0i64; count * width];
    let mut column = vec![0i64; count];
    for bucket in 0..width {
        let read = column::decode_with(crate::Isa::best(), reader.rest(), &mut column)?;
        reader.take(read)?;
        for (row, value) in buckets.chunks_mut(width).zip(&column) {
            row[bucket] = *value;
        }
    }
    if width > 0 {
        let split = side_length(&layout.positive);
        for row in buckets.chunks_mut(width) {
            let (positive, negative) = row.split_at_mut(split);
            differ(positive);
            differ(negative);
        }
    }
    Ok(Histograms { layout, reset, times, starts, counts, zero_counts, sums, buckets })
}

fn decode_float(
    reader: &mut Reader<'_>,
    layout: Layout,
    reset: ResetHeader,
    times: Vec<i64>,
    starts: Vec<i64>,
) -> Result<FloatHistograms, Error> {
    let (count, width) = (times.len(), layout.bucket_count()?);
    let counts = read_values(reader, count)?;
    let zero_counts = read_values(reader, count)?;
    let sums = read_values(reader, count)?;
    let mut buckets = vec![0.0; count * width];
    let mut column = vec![0.0; count];
    for bucket in 0..width {
        let read = value::decode_with(crate::Isa::best(), reader.rest(), &mut column)?;
        reader.take(read)?;
        for (row, value) in buckets.chunks_mut(width).zip(&column) {
            row[bucket] = *value;
        }
    }
    Ok(Histograms { layout, reset, times, starts, counts, zero_counts, sums, buckets })
}

fn read_integers(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Error> {
    let mut column = vec![0; count];
    let read = column::decode_with(crate::Isa::best(), reader.rest(), &mut column)?;
    reader.take(read)?;
    Ok(column)
}

fn read_values(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Error> {
    let mut column = vec![0.0; count];
    let read = value::decode_with(crate::Isa::best(), reader.rest(), &mut column)?;
    reader.take(read)?;
    Ok(column)
}

fn write_layout(layout: &Layout, out: &mut Vec<u8>) {
    varint::write_signed(i64::from(layout.schema), out);
    out.extend_from_slice(&layout.zero_threshold.to_bits().to_le_bytes());
    for spans in [&layout.positive, &layout.negative] {
        varint::write(spans.len() as u64, out);
        for span in spans {
            varint::write_signed(i64::from(span.offset), out);
            varint::write(u64::from(span.length), out);
        }
    }
    varint::write(layout.custom_bounds.len() as u64, out);
    value::encode(&layout.custom_bounds, Tier::Mid, out);
}

fn read_layout(reader: &mut Reader<'_>) -> Result<Layout, Error> {
    let narrow = || Error::Corrupt("number over 32 bits");
    let schema = i32::try_from(reader.varint_signed()?).map_err(|_| narrow())?;
    let zero_threshold = f64::from_bits(reader.u64_le()?);
    let mut sides = [Vec::new(), Vec::new()];
    for spans in &mut sides {
        for _ in 0..read_length(reader)? {
            let offset = i32::try_from(reader.varint_signed()?).map_err(|_| narrow())?;
            let length = u32::try_from(reader.varint()?).map_err(|_| narrow())?;
            spans.push(Span { offset, length });
        }
    }
    let [positive, negative] = sides;
    let bounds = read_length(reader)?;
    let custom_bounds = read_values(reader, bounds)?;
    Ok(Layout { schema, zero_threshold, positive, negative, custom_bounds })
}

fn read_length(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let length = reader.varint_usize()?;
    if length > BUCKETS_MAX { Err(Error::Corrupt("too many spans or bounds")) } else { Ok(length) }
}

fn side_length(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

/// Differences to absolute counts.
fn sum_up(buckets: &mut [i64]) {
    let mut sum = 0i64;
    for bucket in buckets {
        sum = sum.wrapping_add(*bucket);
        *bucket = sum;
    }
}

/// Absolute counts to differences.
fn differ(buckets: &mut [i64]) {
    let mut before = 0i64;
    for bucket in buckets {
        (*bucket, before) = (bucket.wrapping_sub(before), *bucket);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::adversary::{self, Chance};
    use proptest::prelude::*;

    /// Growing integer histograms; the seed picks the layout.
    pub(crate) fn growing(seed: u64, count: usize) -> IntHistograms {
        let chance = &mut Chance::new(seed);
        let mut spans = || -> Vec<Span> {
            let lengths = chance.below(4);
            (0..lengths)
                .map(|_| Span { offset: chance.below(20) as i32 - 4, length: chance.below(9) as u32 })
                .collect()
        };
        let mut layout = Layout { positive: spans(), negative: spans(), ..Layout::default() };
        layout.schema = chance.below(13) as i32 - 4;
        layout.zero_threshold = [0.0, 2f64.powi(-128), 1e-9][chance.below(3) as usize];
        if chance.one_in(3) {
            layout.schema = -53;
            layout.custom_bounds = vec![0.005, 0.1, 2.5, 1.0 / 3.0, 1e300, 33_554.43, 33_554.431];
        }
        let width = layout.bucket_count().unwrap();
        let mut histograms = IntHistograms { layout, ..Histograms::default() };
        let mut counts = vec![0i64; width];
        for row in 0..count {
            for bucket in &mut counts {
                let most = 1 << chance.below(12);
                *bucket += chance.below(most) as i64;
            }
            let mut differences = counts.clone();
            let split = side_length(&histograms.layout.positive);
            let (positive, negative) = differences.split_at_mut(split);
            differ(positive);
            differ(negative);
            histograms.times.push(row as i64 * 15_000 + chance.below(9) as i64);
            histograms.counts.push(counts.iter().sum::<i64>() as u64 + row as u64);
            histograms.zero_counts.push(row as u64);
            histograms.sums.push(counts.iter().sum::<i64>() as f64 * 0.125);
            histograms.buckets.extend(differences);
        }
        histograms
    }

    /// The same histograms with absolute float buckets.
    pub(crate) fn floats(int: &IntHistograms) -> FloatHistograms {
        let mut buckets = int.buckets.clone();
        let width = int.layout.bucket_count().unwrap();
        if width > 0 {
            for row in buckets.chunks_mut(width) {
                let (positive, negative) = row.split_at_mut(side_length(&int.layout.positive));
                sum_up(positive);
                sum_up(negative);
            }
        }
        Histograms {
            layout: int.layout.clone(),
            reset: int.reset,
            times: int.times.clone(),
            starts: int.starts.clone(),
            counts: int.counts.iter().map(|c| *c as f64).collect(),
            zero_counts: int.zero_counts.iter().map(|c| *c as f64 * 0.5).collect(),
            sums: int.sums.clone(),
            buckets: buckets.into_iter().map(|b| b as f64).collect(),
        }
    }

    fn check(int: IntHistograms) {
        for tier in [Tier::Fast, Tier::Full] {
            let mut encoder = HistogramEncoder::new();
            let mut bytes = Vec::new();
            encoder.encode_int(&int, tier, &mut bytes).unwrap();
            assert_eq!(decode(&bytes), Ok(AnyHistograms::Int(int.clone())));
            let float = floats(&int);
            bytes.clear();
            encoder.encode_float(&float, tier, &mut bytes).unwrap();
            assert_eq!(decode(&bytes), Ok(AnyHistograms::Float(float)));
        }
    }

    #[test]
    fn histograms_come_back() {
        check(IntHistograms::default());
        for seed in 0..60 {
            let mut histograms = growing(seed, adversary::length(seed) % 130);
            histograms.reset = ResetHeader::from_bits(seed as u8);
            if seed % 3 == 0 {
                histograms.starts = histograms.times.iter().map(|t| t - 7).collect();
            }
            check(histograms);
        }
    }

    #[test]
    fn columns_of_unequal_length_are_refused() {
        let mut histograms = growing(1, 5);
        histograms.sums.pop();
        assert!(HistogramEncoder::new().encode_int(&histograms, Tier::Fast, &mut Vec::new()).is_err());
    }

    #[test]
    fn damaged_chunks_are_refused_or_decoded() {
        for seed in 0..500 {
            let chance = &mut Chance::new(seed);
            let mut bytes = Vec::new();
            HistogramEncoder::new().encode_int(&growing(seed, 9), Tier::Mid, &mut bytes).unwrap();
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << chance.below(8);
            let _ = decode(&bytes);
            bytes.truncate(at);
            assert!(decode(&bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }
    }
}
