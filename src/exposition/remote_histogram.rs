//! A native histogram as remote write carries it: the same fields in 1.0 and 2.0.

use model::histogram::{
    CounterResetHint, FloatHistogram, Histogram, HistogramError, SCHEMA_CUSTOM, SCHEMA_MAX, Span,
};

use crate::remote_write::{Cursor, Malformed, expect};

/// Buckets and spans of one histogram: what fits a body is bounded by it, but a few bytes of spans must not ask for
/// gigabytes of buckets later.
pub(crate) const BUCKETS_MAX: usize = 1 << 16;

/// Whole counts or floats.
#[derive(Clone, Debug)]
pub enum Counts {
    Integer(Histogram),
    Float(FloatHistogram),
}

/// A histogram at a time.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    pub time: i64,
    pub counts: Counts,
}

/// Why a histogram is not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Well-formed bytes of a histogram that cannot be.
    #[error(transparent)]
    Invalid(#[from] HistogramError),
}

impl HistogramSample {
    /// Checks the histogram; finer schemas than are kept are reduced. Returns it with absolute float counts.
    pub fn accepted(self) -> Result<FloatHistogram, HistogramError> {
        match self.counts {
            Counts::Integer(mut h) => {
                if h.is_stale() {
                    return Ok(h.to_float());
                }
                h.validate()?;
                if h.schema != SCHEMA_CUSTOM && h.schema > SCHEMA_MAX {
                    h.reduce_resolution(SCHEMA_MAX)?;
                }
                Ok(h.to_float())
            }
            Counts::Float(mut h) => {
                if model::is_stale(h.sum) {
                    return Ok(h);
                }
                h.validate()?;
                if h.schema != SCHEMA_CUSTOM && h.schema > SCHEMA_MAX {
                    h.reduce_resolution(SCHEMA_MAX)?;
                }
                Ok(h)
            }
        }
    }
}

/// Appends the message of a histogram: what [`read`] reads.
pub fn write(sample: &HistogramSample, out: &mut Vec<u8>) {
    match &sample.counts {
        Counts::Integer(h) => {
            push_varint(1, h.count, out);
            push_double(3, h.sum, out);
            push_varint(4, fold(h.schema.into()), out);
            push_double(5, h.zero_threshold, out);
            push_varint(6, h.zero_count, out);
            push_spans(8, &h.negative_spans, out);
            push_packed(9, &h.negative_deltas, |d, out| push_number(fold(*d), out), out);
            push_spans(11, &h.positive_spans, out);
            push_packed(12, &h.positive_deltas, |d, out| push_number(fold(*d), out), out);
            push_tail(h.counter_reset_hint, sample.time, &h.custom_values, out);
        }
        Counts::Float(h) => {
            push_double(2, h.count, out);
            push_double(3, h.sum, out);
            push_varint(4, fold(h.schema.into()), out);
            push_double(5, h.zero_threshold, out);
            push_double(7, h.zero_count, out);
            push_spans(8, &h.negative_spans, out);
            push_packed(10, &h.negative_buckets, push_bits, out);
            push_spans(11, &h.positive_spans, out);
            push_packed(13, &h.positive_buckets, push_bits, out);
            push_tail(h.counter_reset_hint, sample.time, &h.custom_values, out);
        }
    }
}

fn push_tail(hint: CounterResetHint, time: i64, custom: &[f64], out: &mut Vec<u8>) {
    push_varint(14, hint as u64, out);
    push_varint(15, time as u64, out);
    push_packed(16, custom, push_bits, out);
}

fn push_number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_varint(field: u64, value: u64, out: &mut Vec<u8>) {
    push_number(field << 3, out);
    push_number(value, out);
}

fn push_double(field: u64, value: f64, out: &mut Vec<u8>) {
    push_number(field << 3 | 1, out);
    push_bits(&value, out);
}

fn push_bits(value: &f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn push_packed<T>(field: u64, values: &[T], push: impl Fn(&T, &mut Vec<u8>), out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let mut body = Vec::with_capacity(values.len() * 8);
    values.iter().for_each(|v| push(v, &mut body));
    push_number(field << 3 | 2, out);
    push_number(body.len() as u64, out);
    out.extend_from_slice(&body);
}

fn push_spans(field: u64, spans: &[Span], out: &mut Vec<u8>) {
    for span in spans {
        let mut body = Vec::with_capacity(16);
        push_varint(1, fold(span.offset.into()), &mut body);
        push_varint(2, span.length.into(), &mut body);
        push_number(field << 3 | 2, out);
        push_number(body.len() as u64, out);
        out.extend_from_slice(&body);
    }
}

/// Inverse of [`zigzag`].
fn fold(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

#[derive(Default)]
struct Fields {
    is_float: bool,
    count_int: u64,
    count_float: f64,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_int: u64,
    zero_float: f64,
    negative_spans: Vec<Span>,
    negative_deltas: Vec<i64>,
    negative_counts: Vec<f64>,
    positive_spans: Vec<Span>,
    positive_deltas: Vec<i64>,
    positive_counts: Vec<f64>,
    hint: u64,
    time: i64,
    custom: Vec<f64>,
}

/// Reads one histogram message.
pub fn read(message: &[u8]) -> Result<HistogramSample, Error> {
    let mut f = Fields::default();
    let mut cursor = Cursor::new(message);
    while let Some((field, wire)) = cursor.field("Histogram")? {
        f.read_field(&mut cursor, field, wire)?;
    }
    let buckets = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    if buckets(&f.negative_spans).max(buckets(&f.positive_spans)) > BUCKETS_MAX {
        return Err(HistogramError::Invalid("too many buckets".to_owned()).into());
    }
    let time = f.time;
    Ok(HistogramSample { time, counts: f.into_counts() })
}

impl Fields {
    fn read_field(&mut self, cursor: &mut Cursor<'_>, field: u32, wire: u8) -> Result<(), Malformed> {
        match field {
            1 => self.count_int = varint(cursor, wire, "CountInt")?,
            2 => {
                self.is_float = true;
                self.count_float = double(cursor, wire, "CountFloat")?;
            }
            3 => self.sum = double(cursor, wire, "Sum")?,
            4 => self.schema = zigzag(varint(cursor, wire, "Schema")?) as i32,
            5 => self.zero_threshold = double(cursor, wire, "ZeroThreshold")?,
            6 => self.zero_int = varint(cursor, wire, "ZeroCountInt")?,
            7 => self.zero_float = double(cursor, wire, "ZeroCountFloat")?,
            8 => read_span(cursor, wire, "NegativeSpans", &mut self.negative_spans)?,
            9 => read_deltas(cursor, wire, "NegativeDeltas", &mut self.negative_deltas)?,
            10 => read_doubles(cursor, wire, "NegativeCounts", &mut self.negative_counts)?,
            11 => read_span(cursor, wire, "PositiveSpans", &mut self.positive_spans)?,
            12 => read_deltas(cursor, wire, "PositiveDeltas", &mut self.positive_deltas)?,
            13 => read_doubles(cursor, wire, "PositiveCounts", &mut self.positive_counts)?,
            14 => self.hint = varint(cursor, wire, "ResetHint")?,
            15 => self.time = varint(cursor, wire, "Timestamp")? as i64,
            16 => read_doubles(cursor, wire, "CustomValues", &mut self.custom)?,
            _ => cursor.skip(wire)?,
        }
        Ok(())
    }

    fn into_counts(self) -> Counts {
        let counter_reset_hint = match self.hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        };
        if self.is_float {
            return Counts::Float(FloatHistogram {
                counter_reset_hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_float,
                count: self.count_float,
                sum: self.sum,
                positive_spans: self.positive_spans,
                positive_buckets: self.positive_counts,
                negative_spans: self.negative_spans,
                negative_buckets: self.negative_counts,
                custom_values: self.custom,
            });
        }
        Counts::Integer(Histogram {
            counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_int,
            count: self.count_int,
            sum: self.sum,
            positive_spans: self.positive_spans,
            positive_deltas: self.positive_deltas,
            negative_spans: self.negative_spans,
            negative_deltas: self.negative_deltas,
            custom_values: self.custom,
        })
    }
}

pub(crate) fn varint(cursor: &mut Cursor<'_>, wire: u8, field: &'static str) -> Result<u64, Malformed> {
    expect(wire, 0, field)?;
    cursor.varint()
}

pub(crate) fn double(cursor: &mut Cursor<'_>, wire: u8, field: &'static str) -> Result<f64, Malformed> {
    expect(wire, 1, field)?;
    cursor.double()
}

pub(crate) fn zigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

pub(crate) fn read_span(
    cursor: &mut Cursor<'_>,
    wire: u8,
    field: &'static str,
    out: &mut Vec<Span>,
) -> Result<(), Malformed> {
    expect(wire, 2, field)?;
    let mut inner = Cursor::new(cursor.sized()?);
    let mut span = Span::default();
    while let Some((field, wire)) = inner.field("BucketSpan")? {
        match field {
            1 => span.offset = zigzag(varint(&mut inner, wire, "Offset")?) as i32,
            2 => span.length = varint(&mut inner, wire, "Length")? as u32,
            _ => inner.skip(wire)?,
        }
    }
    out.push(span);
    Ok(())
}

pub(crate) fn read_deltas(
    cursor: &mut Cursor<'_>,
    wire: u8,
    field: &'static str,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    if wire == 0 {
        out.push(zigzag(cursor.varint()?));
        return Ok(());
    }
    expect(wire, 2, field)?;
    let mut packed = Cursor::new(cursor.sized()?);
    while !packed.is_done() {
        out.push(zigzag(packed.varint()?));
    }
    Ok(())
}

pub(crate) fn read_doubles(
    cursor: &mut Cursor<'_>,
    wire: u8,
    field: &'static str,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    if wire == 1 {
        out.push(cursor.double()?);
        return Ok(());
    }
    expect(wire, 2, field)?;
    let mut packed = Cursor::new(cursor.sized()?);
    while !packed.is_done() {
        out.push(packed.double()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(bytes: &[u8]) -> Histogram {
        match read(bytes).map(|s| s.counts) {
            Ok(Counts::Integer(h)) => h,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_histogram_is_read_and_checked() {
        let mut b = vec![0x08, 3, 0x19];
        b.extend_from_slice(&5.0f64.to_le_bytes());
        b.extend_from_slice(&[0x20, 4]); // schema 2
        b.extend_from_slice(&[0x5a, 4, 0x08, 2, 0x10, 2]); // offset 1, length 2
        b.extend_from_slice(&[0x62, 2, 2, 2]); // deltas 1, 1
        b.extend_from_slice(&[0x78, 100]);
        let h = integer(&b);
        assert_eq!((h.count, h.sum, h.schema, h.positive_deltas.as_slice()), (3, 5.0, 2, &[1i64, 1][..]));
        assert_eq!(h.positive_spans, [Span { offset: 1, length: 2 }]);
        let sample = read(&b).unwrap();
        assert_eq!(sample.time, 100);
        assert_eq!(sample.accepted().unwrap().positive_buckets, [1.0, 2.0]);
        b[1] = 2;
        assert!(read(&b).unwrap().accepted().is_err(), "the buckets hold more than the count");
    }

    #[test]
    fn a_histogram_that_was_written_is_read_again() {
        let whole = Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: -3,
            count: 9,
            sum: -1.5,
            zero_count: 2,
            zero_threshold: 1e-9,
            positive_spans: vec![Span { offset: -4, length: 2 }, Span { offset: 3, length: 1 }],
            positive_deltas: vec![300, -299, 1],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_deltas: vec![1],
            custom_values: vec![0.5],
        };
        let float = whole.to_float();
        for counts in [Counts::Integer(whole.clone()), Counts::Float(float.clone())] {
            let mut bytes = Vec::new();
            write(&HistogramSample { time: -77, counts }, &mut bytes);
            let back = read(&bytes).unwrap();
            assert_eq!(back.time, -77);
            match back.counts {
                Counts::Integer(h) => assert_eq!(h, whole),
                Counts::Float(h) => assert!(h.equals(&float)),
            }
        }
    }

    #[test]
    fn hostile_spans_and_every_truncation_are_errors_or_values() {
        let many = [0x5a, 6, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(read(&many), Err(Error::Invalid(_))));
        for n in 0..many.len() {
            let _ = read(&many[..n]);
        }
    }
}
