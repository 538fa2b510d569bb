//! Chunks: their frame in a segment of a block, and the samples in them.

use codec::histogram::{self as columns, Histograms, Layout, ResetHeader};
use codec::prom_histogram::{self, Form};
use codec::{crc32c, varint, xor, xor2};
use model::{CounterResetHint, FloatHistogram, Histogram, Span};

use crate::Error;
use crate::bytes::Reader;
use crate::sample::{Sample, Value};

/// First bytes of a segment: magic number, version, three of padding.
pub const SEGMENT_HEADER: [u8; 8] = [0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0];
/// Where a segment is cut: Prometheus reads no longer ones.
pub const SEGMENT_BYTES_MAX: u64 = 512 << 20;

/// A chunk is at most this long: Prometheus cuts at 1 or 2 KiB, a wide histogram alone may be longer.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
    Xor2 = 4,
    HistogramStart = 5,
    FloatHistogramStart = 6,
}

impl Encoding {
    pub fn of(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramStart,
            6 => Encoding::FloatHistogramStart,
            _ => return None,
        })
    }

    pub fn is_float(self) -> bool {
        matches!(self, Encoding::Xor | Encoding::Xor2)
    }
}

/// A chunk, borrowed, and where its data begins in the file.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    pub encoding: Encoding,
    pub data: &'a [u8],
    pub at: u64,
}

/// Checks the first bytes of a segment.
pub fn check_segment(file: &[u8]) -> Result<(), Error> {
    if file.get(..4) != Some(&SEGMENT_HEADER[..4]) {
        return Err(Error::corrupt(0, "not a segment of chunks (magic number)"));
    }
    if file.get(4) != Some(&SEGMENT_HEADER[4]) {
        let found = file.get(4).map_or(String::new(), u8::to_string);
        return Err(Error::Version { what: "unknown chunk segment version", found });
    }
    Ok(())
}

/// Bytes of the whole frame that begins with `start`; a few more may be given.
pub fn frame_bytes(start: &[u8], at: u64) -> Result<usize, Error> {
    let mut reader = Reader::new(start, at);
    let length = reader.varint()?;
    let length = usize::try_from(length).ok().filter(|l| *l <= CHUNK_BYTES_MAX);
    let length = length.ok_or(Error::corrupt(at, "a chunk of impossible length"))?;
    Ok((reader.position() - at) as usize + 1 + length + 4)
}

/// Reads the frame at `at` of its file: `length | encoding u8 | data | crc32c of the last two`.
pub fn read_frame(bytes: &[u8], at: u64) -> Result<Chunk<'_>, Error> {
    let mut reader = Reader::new(bytes, at);
    let length = reader.count(1)?;
    let mut body = reader.checked(length + 1, "a chunk")?;
    let encoding = Encoding::of(body.u8()?).ok_or(Error::corrupt(at, "a chunk of unknown encoding"))?;
    Ok(Chunk { encoding, data: body.rest(), at: body.position() })
}

/// Appends a chunk's frame.
pub fn push_frame(encoding: Encoding, data: &[u8], out: &mut Vec<u8>) {
    varint::write(data.len() as u64, out);
    let from = out.len();
    out.push(encoding as u8);
    out.extend_from_slice(data);
    let checksum = crc32c::checksum(&out[from..]);
    out.extend_from_slice(&checksum.to_be_bytes());
}

impl Chunk<'_> {
    /// Samples in it, without decoding.
    pub fn sample_count(&self) -> Result<usize, Error> {
        let count = xor::count(self.data).map_err(|e| Error::codec(self.at, &e))?;
        Ok(match self.encoding {
            Encoding::HistogramStart | Encoding::FloatHistogramStart => count & 0x3fff,
            _ => count,
        })
    }

    /// Buckets of all its histograms together.
    pub fn bucket_count(&self) -> Result<usize, Error> {
        fn buckets<C, B>(h: &Histograms<C, B>) -> usize {
            let width = h.layout.bucket_count().unwrap_or(0);
            h.sums.iter().filter(|s| !model::is_stale(**s)).count() * width
        }
        Ok(match self.histograms()? {
            None => 0,
            Some(Either::Int(h)) => buckets(&h),
            Some(Either::Float(h)) => buckets(&h),
        })
    }

    fn histograms(&self) -> Result<Option<Either>, Error> {
        let form = match self.encoding {
            Encoding::Xor | Encoding::Xor2 => return Ok(None),
            Encoding::Histogram | Encoding::FloatHistogram => Form::Plain,
            Encoding::HistogramStart | Encoding::FloatHistogramStart => Form::Starts,
        };
        let decoded = match self.encoding {
            Encoding::Histogram | Encoding::HistogramStart => {
                prom_histogram::decode_int(self.data, form).map(Either::Int)
            }
            _ => prom_histogram::decode_float(self.data, form).map(Either::Float),
        };
        decoded.map(Some).map_err(|e| Error::codec(self.at, &e))
    }

    /// Appends its samples.
    pub fn decode(&self, out: &mut Vec<Sample>) -> Result<(), Error> {
        match self.histograms()? {
            None => self.decode_floats(out),
            Some(Either::Int(h)) => {
                push_samples(&h, out, |row| Value::Histogram(Box::new(int_histogram(&h, row))));
                Ok(())
            }
            Some(Either::Float(h)) => {
                push_samples(&h, out, |row| Value::FloatHistogram(Box::new(float_histogram(&h, row))));
                Ok(())
            }
        }
    }

    fn decode_floats(&self, out: &mut Vec<Sample>) -> Result<(), Error> {
        let (mut times, mut values, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let decoded = match self.encoding {
            Encoding::Xor => xor::decode(self.data, &mut times, &mut values),
            _ => xor2::decode(self.data, &mut times, &mut values, &mut starts),
        };
        decoded.map_err(|e| Error::codec(self.at, &e))?;
        out.extend(times.iter().zip(&values).enumerate().map(|(i, (time, value))| Sample {
            time: *time,
            start: starts.get(i).copied().unwrap_or(0),
            value: Value::Float(*value),
        }));
        Ok(())
    }
}

enum Either {
    Int(columns::IntHistograms),
    Float(columns::FloatHistograms),
}

fn push_samples<C, B>(h: &Histograms<C, B>, out: &mut Vec<Sample>, value: impl Fn(usize) -> Value) {
    out.extend(h.times.iter().enumerate().map(|(row, time)| Sample {
        time: *time,
        start: h.starts.get(row).copied().unwrap_or(0),
        value: value(row),
    }));
}

/// The first histogram has what the chunk says, the others follow without a reset.
fn hint(reset: ResetHeader, row: usize) -> CounterResetHint {
    match (reset, row) {
        (ResetHeader::Gauge, _) => CounterResetHint::Gauge,
        (_, 1..) => CounterResetHint::NotReset,
        (ResetHeader::Reset, _) => CounterResetHint::Reset,
        (ResetHeader::NotReset, _) => CounterResetHint::NotReset,
        (ResetHeader::Unknown, _) => CounterResetHint::Unknown,
    }
}

fn spans(spans: &[columns::Span]) -> Vec<Span> {
    spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
}

/// Buckets of one row, on the positive and on the negative side.
fn sides<'a, B>(layout: &Layout, buckets: &'a [B], row: usize) -> (&'a [B], &'a [B]) {
    let width = layout.bucket_count().unwrap_or(0);
    let positive: usize = layout.positive.iter().map(|s| s.length as usize).sum();
    let row = buckets.get(row * width..(row + 1) * width).unwrap_or(&[]);
    row.split_at(positive.min(row.len()))
}

fn int_histogram(h: &columns::IntHistograms, row: usize) -> Histogram {
    let layout = &h.layout;
    if model::is_stale(h.sums[row]) {
        return Histogram { sum: h.sums[row], ..Histogram::default() };
    }
    let (positive, negative) = sides(layout, &h.buckets, row);
    Histogram {
        counter_reset_hint: hint(h.reset, row),
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        zero_count: h.zero_counts[row],
        count: h.counts[row],
        sum: h.sums[row],
        positive_spans: spans(&layout.positive),
        positive_deltas: positive.to_vec(),
        negative_spans: spans(&layout.negative),
        negative_deltas: negative.to_vec(),
        custom_values: layout.custom_bounds.clone(),
    }
}

fn float_histogram(h: &columns::FloatHistograms, row: usize) -> FloatHistogram {
    let layout = &h.layout;
    if model::is_stale(h.sums[row]) {
        return FloatHistogram { sum: h.sums[row], ..FloatHistogram::default() };
    }
    let (positive, negative) = sides(layout, &h.buckets, row);
    FloatHistogram {
        counter_reset_hint: hint(h.reset, row),
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        zero_count: h.zero_counts[row],
        count: h.counts[row],
        sum: h.sums[row],
        positive_spans: spans(&layout.positive),
        positive_buckets: positive.to_vec(),
        negative_spans: spans(&layout.negative),
        negative_buckets: negative.to_vec(),
        custom_values: layout.custom_bounds.clone(),
    }
}
