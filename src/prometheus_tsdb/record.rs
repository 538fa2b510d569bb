//! Records of the log, and of the log of late samples.

use model::{CounterResetHint, FloatHistogram, Histogram, Labels, Span, Timestamp};

use crate::Error;
use crate::bytes::Reader;
use crate::index::labels_of;
use crate::record_v2;
use crate::sample::{Sample, Value};
use crate::tombstones::Interval;

/// Schema of custom bounds: the only one that writes them.
const CUSTOM_SCHEMA: i32 = model::histogram::SCHEMA_CUSTOM;

/// A sample and the number of its series in the log.
#[derive(Clone, Debug)]
pub struct SeriesSample {
    pub series: u64,
    pub sample: Sample,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub series: u64,
    pub time: Timestamp,
    pub value: f64,
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub series: u64,
    /// The word of the exposition formats.
    pub kind: &'static str,
    pub unit: String,
    pub help: String,
}

#[derive(Clone, Debug)]
pub enum Record {
    Series(Vec<(u64, Labels)>),
    Samples(Vec<SeriesSample>),
    Tombstones(Vec<(u64, Interval)>),
    Exemplars(Vec<Exemplar>),
    /// Series, and the chunk of the head's files that holds its samples so far.
    MmapMarkers(Vec<(u64, u64)>),
    Metadata(Vec<Metadata>),
    /// A kind that came later: passed over.
    Unknown(u8),
}

/// Reads a record that begins at `at` of its segment. Offsets of errors count from there, in the unpacked record.
pub fn read(record: &[u8], at: u64) -> Result<Record, Error> {
    let mut reader = Reader::new(record, at);
    let kind = reader.u8()?;
    Ok(match kind {
        1 => Record::Series(read_all(&mut reader, |r| Ok((r.u64()?, read_labels(r)?)))?),
        2 => Record::Samples(read_samples(&mut reader, float)?),
        3 => {
            let entry = |r: &mut Reader<'_>| {
                Ok((r.u64()?, Interval { min: r.varint_signed()?, max: r.varint_signed()? }))
            };
            Record::Tombstones(read_all(&mut reader, entry)?)
        }
        4 => Record::Exemplars(read_exemplars(&mut reader)?),
        5 => Record::MmapMarkers(read_all(&mut reader, |r| Ok((r.u64()?, r.u64()?)))?),
        6 => Record::Metadata(read_all(&mut reader, read_metadata)?),
        7 | 9 => Record::Samples(read_samples(&mut reader, histogram)?),
        8 | 10 => Record::Samples(read_samples(&mut reader, float_histogram)?),
        11 => Record::Samples(record_v2::read_samples(&mut reader, float)?),
        12 => Record::Samples(record_v2::read_samples(&mut reader, histogram)?),
        13 => Record::Samples(record_v2::read_samples(&mut reader, float_histogram)?),
        kind => Record::Unknown(kind),
    })
}

fn read_all<T>(
    reader: &mut Reader<'_>,
    entry: impl Fn(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    while !reader.is_done() {
        all.push(entry(reader)?);
    }
    Ok(all)
}

fn read_labels(reader: &mut Reader<'_>) -> Result<Labels, Error> {
    let count = reader.count(2)?;
    let pairs = (0..count).map(|_| Ok((reader.text()?, reader.text()?)));
    Ok(labels_of(pairs.collect::<Result<_, Error>>()?))
}

/// `base series u64 | base time i64 | (series - base, time - base, value)*`; nothing at all where there is none.
fn read_samples(
    reader: &mut Reader<'_>,
    value: impl Fn(&mut Reader<'_>) -> Result<Value, Error>,
) -> Result<Vec<SeriesSample>, Error> {
    if reader.is_done() {
        return Ok(Vec::new());
    }
    let (base, base_time) = (reader.u64()?, reader.i64()?);
    read_all(reader, |r| {
        let series = base.wrapping_add_signed(r.varint_signed()?);
        let time = base_time.wrapping_add(r.varint_signed()?);
        Ok(SeriesSample { series, sample: Sample { time, start: 0, value: value(r)? } })
    })
}

fn read_exemplars(reader: &mut Reader<'_>) -> Result<Vec<Exemplar>, Error> {
    if reader.is_done() {
        return Ok(Vec::new());
    }
    let (base, base_time) = (reader.u64()?, reader.i64()?);
    read_all(reader, |r| {
        let series = base.wrapping_add_signed(r.varint_signed()?);
        let time = base_time.wrapping_add(r.varint_signed()?);
        Ok(Exemplar { series, time, value: r.f64()?, labels: read_labels(r)? })
    })
}

fn read_metadata(reader: &mut Reader<'_>) -> Result<Metadata, Error> {
    const KINDS: [&str; 8] =
        ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];
    let series = reader.varint()?;
    let kind = KINDS.get(usize::from(reader.u8()?)).copied().unwrap_or(KINDS[0]);
    let mut metadata = Metadata { series, kind, unit: String::new(), help: String::new() };
    for _ in 0..reader.count(2)? {
        match (reader.text()?, reader.text()?) {
            ("UNIT", text) => metadata.unit = text.to_owned(),
            ("HELP", text) => metadata.help = text.to_owned(),
            _ => {}
        }
    }
    Ok(metadata)
}

fn float(reader: &mut Reader<'_>) -> Result<Value, Error> {
    Ok(Value::Float(reader.f64()?))
}

fn read_hint(reader: &mut Reader<'_>) -> Result<CounterResetHint, Error> {
    Ok(match reader.u8()? {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    })
}

fn read_schema(reader: &mut Reader<'_>) -> Result<i32, Error> {
    let at = reader.position();
    i32::try_from(reader.varint_signed()?).map_err(|_| Error::corrupt(at, "a schema over 32 bits"))
}

/// Spans name buckets by the billion in a few bytes: what they name must be there, too.
fn read_spans(reader: &mut Reader<'_>) -> Result<Vec<Span>, Error> {
    let count = reader.count(2)?;
    let span = |r: &mut Reader<'_>| {
        let at = r.position();
        let offset =
            i32::try_from(r.varint_signed()?).map_err(|_| Error::corrupt(at, "an offset over 32 bits"))?;
        Ok(Span { offset, length: r.varint_u32()? })
    };
    (0..count).map(|_| span(reader)).collect()
}

fn check_buckets(reader: &Reader<'_>, spans: &[Span], buckets: usize) -> Result<(), Error> {
    let named: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if named == buckets as u64 { Ok(()) } else { Err(reader.corrupt("spans and buckets differ")) }
}

fn read_custom(reader: &mut Reader<'_>, schema: i32) -> Result<Vec<f64>, Error> {
    let count = if schema == CUSTOM_SCHEMA { reader.count(8)? } else { 0 };
    (0..count).map(|_| reader.f64()).collect()
}

fn histogram(reader: &mut Reader<'_>) -> Result<Value, Error> {
    let counter_reset_hint = read_hint(reader)?;
    let schema = read_schema(reader)?;
    let zero_threshold = reader.f64()?;
    let (zero_count, count, sum) = (reader.varint()?, reader.varint()?, reader.f64()?);
    let (positive_spans, negative_spans) = (read_spans(reader)?, read_spans(reader)?);
    let deltas = |r: &mut Reader<'_>, spans: &[Span]| {
        let count = r.count(1)?;
        check_buckets(r, spans, count)?;
        (0..count).map(|_| r.varint_signed()).collect::<Result<Vec<i64>, Error>>()
    };
    let positive_deltas = deltas(reader, &positive_spans)?;
    let negative_deltas = deltas(reader, &negative_spans)?;
    let custom_values = read_custom(reader, schema)?;
    Ok(Value::Histogram(Box::new(Histogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        positive_deltas,
        negative_spans,
        negative_deltas,
        custom_values,
    })))
}

fn float_histogram(reader: &mut Reader<'_>) -> Result<Value, Error> {
    let counter_reset_hint = read_hint(reader)?;
    let schema = read_schema(reader)?;
    let zero_threshold = reader.f64()?;
    let (zero_count, count, sum) = (reader.f64()?, reader.f64()?, reader.f64()?);
    let (positive_spans, negative_spans) = (read_spans(reader)?, read_spans(reader)?);
    let counts = |r: &mut Reader<'_>, spans: &[Span]| {
        let count = r.count(8)?;
        check_buckets(r, spans, count)?;
        (0..count).map(|_| r.f64()).collect::<Result<Vec<f64>, Error>>()
    };
    let positive_buckets = counts(reader, &positive_spans)?;
    let negative_buckets = counts(reader, &negative_spans)?;
    let custom_values = read_custom(reader, schema)?;
    Ok(Value::FloatHistogram(Box::new(FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        custom_values,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::varint;
    use proptest::prelude::*;

    fn check(bytes: &[u8], expect: &str) {
        let text = match read(bytes, 0) {
            Ok(Record::Series(all)) => format!("{all:?}"),
            Ok(Record::Tombstones(all)) => format!("{all:?}"),
            Ok(Record::Metadata(all)) => format!("{} {} {}", all[0].series, all[0].kind, all[0].help),
            Ok(Record::Samples(all)) => {
                let one = |s: &SeriesSample| match &s.sample.value {
                    Value::Float(v) => format!("{}:{v}@{}-{}", s.series, s.sample.time, s.sample.start),
                    Value::Histogram(h) => format!("{}:{h}@{}", s.series, s.sample.time),
                    Value::FloatHistogram(h) => format!("{}:{h}@{}", s.series, s.sample.time),
                };
                all.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Ok(Record::Exemplars(all)) => format!("{} {}", all[0].series, all[0].labels),
            Ok(Record::MmapMarkers(all)) => format!("{all:?}"),
            Ok(Record::Unknown(kind)) => format!("unknown {kind}"),
            Err(e) => e.to_string(),
        };
        assert_eq!(text, expect);
    }

    fn number(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    #[test]
    fn records_of_all_kinds_are_read() {
        check(&[&[1][..], &number(7), b"\x02\x01a\x01b\x01c\x01d"].concat(), "[(7, {a=\"b\", c=\"d\"})]");
        let mut floats = [&[2][..], &number(10), &number(1000)].concat();
        for (series, time, value) in [(0i64, 0i64, 1.5f64), (-3, 250, 2.5)] {
            varint::write_signed(series, &mut floats);
            varint::write_signed(time, &mut floats);
            floats.extend_from_slice(&number(value.to_bits()));
        }
        check(&floats, "10:1.5@1000-0 7:2.5@1250-0");
        check(&[2], "");
        check(&[&[3][..], &number(7), &[2, 4]].concat(), "[(7, Interval { min: 1, max: 2 })]");
        check(&[&[5][..], &number(7), &number(9)].concat(), "[(7, 9)]");
        check(b"\x06\x07\x01\x02\x04UNIT\x01s\x04HELP\x02hi", "7 counter hi");
        let exemplar = [&[4][..], &number(7), &number(1), &[0, 0], &number(0), b"\x01\x01t\x01x"].concat();
        check(&exemplar, "7 {t=\"x\"}");
        check(&[99, 1, 2], "unknown 99");
        check(&[1, 0], "at byte 1: it ends early");
    }

    #[test]
    fn histograms_have_their_buckets() {
        let head = |kind: u8| [&[kind][..], &number(7), &number(100), &[0, 0, 0, 2], &number(0)].concat();
        let whole =
            [head(7), vec![0, 3], number(2f64.to_bits()).to_vec(), vec![1, 0, 2, 0, 2, 2, 2, 0]].concat();
        check(&whole, "7:{count:3, sum:2, (0.7071067811865475,1]:1, (1,1.414213562373095]:2}@100");
        let short = [head(7), vec![0, 3], number(0).to_vec(), vec![1, 0, 9, 0, 1, 2, 0]].concat();
        check(&short, "at byte 44: spans and buckets differ");
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(kind in 0u8..15, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&[kind][..], &bytes].concat(), 0);
        }
    }
}
