//! Delimited protobuf: families of `io.prometheus.client` one behind the other, into a flat page.
//!
//! Order and names of the samples are those of Prometheus's parser: of a histogram first the native one, then count,
//! sum and buckets. Fields of a family may come in any order, so each family is walked twice.

use model::histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
use model::quote::quoted;

use crate::Error;
use crate::flat::{Family, FlatExemplar, FlatPage, FlatSample, FlatValue, push_key_label, push_key_name};
use crate::key::openmetrics_float;
use crate::remote_histogram::{
    BUCKETS_MAX, Counts, double, read_deltas, read_doubles, read_span, varint, zigzag,
};
use crate::remote_write::{Cursor, Malformed, expect};
use crate::text::MetricKind;

pub mod pieces;

/// What of histograms is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Native histograms, where there are any; else they are read as classic ones.
    pub native: bool,
    /// Classic ones beside them, too.
    pub always_classic: bool,
}

/// Bytes of a length before a family.
const LENGTH_BYTES_MAX: usize = 5;

const BYTES: u8 = 2;

/// Reads a body into `page`, which is cleared first. An error leaves what came before it there.
pub fn read(body: &[u8], wishes: Wishes, page: &mut FlatPage) -> Result<(), Error> {
    page.clear();
    let mut rest = body;
    let mut reader = Reader { wishes, page, key: Vec::new() };
    while !rest.is_empty() {
        let (family, after) = next_family(rest)?;
        reader.family(family)?;
        rest = after;
    }
    Ok(())
}

fn next_family(rest: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let (begin, total) = match prefix(rest) {
        Prefix::Of { begin, total } => (begin, total),
        Prefix::Short => return Err(said("protobufparse: invalid varint encountered: 0".to_owned())),
        Prefix::Long(e) => return Err(e),
    };
    match rest.get(begin..total) {
        Some(family) => Ok((family, &rest[total..])),
        None => {
            let have = rest.len();
            Err(said(format!(
                "protobufparse: insufficient length of buffer, expected at least {total} bytes, got {have} bytes"
            )))
        }
    }
}

/// The length before a family.
enum Prefix {
    /// Where the family begins, and where it ends.
    Of {
        begin: usize,
        total: usize,
    },
    Short,
    Long(Error),
}

fn prefix(rest: &[u8]) -> Prefix {
    let mut length = 0u64;
    for (i, byte) in rest.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Prefix::Of { begin: i + 1, total: i + 1 + length as usize };
        }
    }
    match rest.len() < LENGTH_BYTES_MAX {
        true => Prefix::Short,
        false => {
            let seen = LENGTH_BYTES_MAX + 1;
            Prefix::Long(said(format!("protobufparse: invalid varint encountered: {seen}")))
        }
    }
}

fn said(text: String) -> Error {
    Error::Malformed(text)
}

fn malformed(e: Malformed) -> Error {
    Error::Malformed(e.to_string())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Type {
    fn of(number: u64) -> Option<Type> {
        let all =
            [Type::Counter, Type::Gauge, Type::Summary, Type::Untyped, Type::Histogram, Type::GaugeHistogram];
        all.get(usize::try_from(number).ok()?).copied()
    }

    fn kind(self) -> MetricKind {
        match self {
            Type::Counter => MetricKind::Counter,
            Type::Gauge => MetricKind::Gauge,
            Type::Summary => MetricKind::Summary,
            Type::Untyped => MetricKind::Unknown,
            Type::Histogram => MetricKind::Histogram,
            Type::GaugeHistogram => MetricKind::GaugeHistogram,
        }
    }
}

struct Reader<'p> {
    wishes: Wishes,
    page: &'p mut FlatPage,
    /// The labels of the metric being read, as a key has them behind the name.
    key: Vec<u8>,
}

/// The head of a family: all of it but its metrics.
#[derive(Default)]
struct Head<'a> {
    name: &'a [u8],
    help: &'a [u8],
    unit: &'a [u8],
    kind: u64,
    metric_count: usize,
}

fn head(family: &[u8]) -> Result<Head<'_>, Malformed> {
    let mut head = Head::default();
    let mut cursor = Cursor::new(family);
    while let Some((field, wire)) = cursor.field("MetricFamily")? {
        match field {
            1 => head.name = bytes(&mut cursor, wire, "Name")?,
            2 => head.help = bytes(&mut cursor, wire, "Help")?,
            3 => head.kind = varint(&mut cursor, wire, "Type")?,
            4 => {
                bytes(&mut cursor, wire, "Metric")?;
                head.metric_count += 1;
            }
            5 => head.unit = bytes(&mut cursor, wire, "Unit")?,
            _ => cursor.skip(wire)?,
        }
    }
    Ok(head)
}

/// What a family is, where its head is as it must be.
fn checked(head: &Head<'_>) -> Result<(Family, Type), Error> {
    let lossy = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let name = match std::str::from_utf8(head.name) {
        Ok(name) if !name.is_empty() => name,
        _ => return Err(said(format!("invalid metric name: {}", lossy(head.name)))),
    };
    let Ok(help) = std::str::from_utf8(head.help) else {
        return Err(said(format!("invalid help for metric {}: {}", quoted(name), lossy(head.help))));
    };
    let Some(kind) = Type::of(head.kind) else {
        let kind = head.kind as i32;
        return Err(said(format!("unknown metric type for metric {}: {kind}", quoted(name))));
    };
    let (name, help, unit) = (name.to_owned(), help.to_owned(), lossy(head.unit));
    Ok((Family { name, kind: kind.kind(), help, unit }, kind))
}

fn bytes<'a>(cursor: &mut Cursor<'a>, wire: u8, field: &'static str) -> Result<&'a [u8], Malformed> {
    expect(wire, BYTES, field)?;
    cursor.sized()
}

/// A metric's own part, by its family's type.
#[derive(Default)]
struct Metric<'a> {
    gauge: &'a [u8],
    counter: &'a [u8],
    summary: &'a [u8],
    untyped: &'a [u8],
    histogram: &'a [u8],
    timestamp: i64,
}

/// What all samples of one metric share.
#[derive(Clone, Copy)]
struct Of<'a> {
    name: &'a [u8],
    kind: MetricKind,
    family: u32,
    timestamp: i64,
    start: i64,
}

#[derive(Default)]
struct Summary {
    count: u64,
    sum: f64,
    quantiles: Vec<(f64, f64)>,
    start: i64,
}

#[derive(Default)]
struct ClassicBucket<'a> {
    count: u64,
    count_float: f64,
    bound: f64,
    exemplar: Option<&'a [u8]>,
}

#[derive(Default)]
struct HistogramFields<'a> {
    count: u64,
    count_float: f64,
    sum: f64,
    buckets: Vec<ClassicBucket<'a>>,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    negative_spans: Vec<Span>,
    negative_deltas: Vec<i64>,
    negative_counts: Vec<f64>,
    positive_spans: Vec<Span>,
    positive_deltas: Vec<i64>,
    positive_counts: Vec<f64>,
    start: i64,
    exemplars: Vec<&'a [u8]>,
}

impl Reader<'_> {
    fn family(&mut self, family: &[u8]) -> Result<(), Error> {
        let head = head(family).map_err(malformed)?;
        if head.metric_count == 0 {
            return Ok(());
        }
        let (known, kind) = checked(&head)?;
        self.page.families.push(known);
        let index = self.page.families.len() as u32 - 1;
        let mut cursor = Cursor::new(family);
        while let Some((field, wire)) = cursor.field("MetricFamily").map_err(malformed)? {
            if field == 4 {
                let metric = bytes(&mut cursor, wire, "Metric").map_err(malformed)?;
                self.metric(head.name, kind, index, metric)?;
            } else {
                cursor.skip(wire).map_err(malformed)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, name: &[u8], kind: Type, family: u32, message: &[u8]) -> Result<(), Error> {
        self.key.clear();
        let mut metric = Metric::default();
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("Metric").map_err(malformed)? {
            let part = match field {
                1 => {
                    let pair = bytes(&mut cursor, wire, "Label").map_err(malformed)?;
                    push_label(pair, &mut self.key)?;
                    continue;
                }
                2 => &mut metric.gauge,
                3 => &mut metric.counter,
                4 => &mut metric.summary,
                5 => &mut metric.untyped,
                7 => &mut metric.histogram,
                6 => {
                    metric.timestamp = varint(&mut cursor, wire, "TimestampMs").map_err(malformed)? as i64;
                    continue;
                }
                _ => {
                    cursor.skip(wire).map_err(malformed)?;
                    continue;
                }
            };
            *part = bytes(&mut cursor, wire, "Metric").map_err(malformed)?;
        }
        let of = Of { name, kind: kind.kind(), family, timestamp: metric.timestamp, start: 0 };
        match kind {
            Type::Counter => self.counter(of, metric.counter),
            Type::Gauge => self.number(of, metric.gauge),
            Type::Untyped => self.number(of, metric.untyped),
            Type::Summary => self.summary(of, metric.summary),
            Type::Histogram | Type::GaugeHistogram => self.histogram(of, metric.histogram),
        }
    }

    fn push(&mut self, of: Of<'_>, suffix: &str, magic: Option<(&str, f64)>, value: FlatValue) -> u32 {
        let from = self.page.bytes.len() as u32;
        let out = &mut self.page.bytes;
        push_key_name(out, of.name, suffix);
        out.extend_from_slice(&self.key);
        if let Some((name, bound)) = magic {
            push_key_label(out, name.as_bytes(), openmetrics_float(bound).as_bytes());
        }
        let key = from..self.page.bytes.len() as u32;
        let value = match value {
            FlatValue::Float(v) if v.is_nan() => FlatValue::Float(model::NORMAL_NAN),
            other => other,
        };
        self.page.samples.push(FlatSample {
            key,
            kind: of.kind,
            family: of.family,
            section: of.family,
            value,
            timestamp: (of.timestamp != 0).then_some(of.timestamp),
            start: of.start,
        });
        self.page.samples.len() as u32 - 1
    }

    fn push_float(&mut self, of: Of<'_>, suffix: &str, magic: Option<(&str, f64)>, value: f64) -> u32 {
        self.push(of, suffix, magic, FlatValue::Float(value))
    }

    fn number(&mut self, of: Of<'_>, message: &[u8]) -> Result<(), Error> {
        let value = first_double(message).map_err(malformed)?;
        self.push_float(of, "", None, value);
        Ok(())
    }

    fn counter(&mut self, mut of: Of<'_>, message: &[u8]) -> Result<(), Error> {
        let (mut value, mut exemplar) = (0.0, None);
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("Counter").map_err(malformed)? {
            match field {
                1 => value = double(&mut cursor, wire, "Value").map_err(malformed)?,
                2 => exemplar = Some(bytes(&mut cursor, wire, "Exemplar").map_err(malformed)?),
                3 => of.start = timestamp(&mut cursor, wire, "CreatedTimestamp").map_err(malformed)?,
                _ => cursor.skip(wire).map_err(malformed)?,
            }
        }
        let sample = self.push_float(of, "", None, value);
        exemplar.map_or(Ok(()), |x| self.exemplar(sample, x, false))
    }

    fn summary(&mut self, mut of: Of<'_>, message: &[u8]) -> Result<(), Error> {
        let s = read_summary(message).map_err(malformed)?;
        of.start = s.start;
        self.push_float(of, "_count", None, s.count as f64);
        self.push_float(of, "_sum", None, s.sum);
        for (quantile, value) in s.quantiles {
            self.push_float(of, "", Some(("quantile", quantile)), value);
        }
        Ok(())
    }

    fn histogram(&mut self, mut of: Of<'_>, message: &[u8]) -> Result<(), Error> {
        let h = read_histogram(message).map_err(malformed)?;
        of.start = h.start;
        let is_native = self.wishes.native && h.is_native();
        if is_native {
            self.native(of, &h)?;
        }
        if !is_native || (self.wishes.always_classic && !h.buckets.is_empty()) {
            self.classic(of, &h)?;
        }
        Ok(())
    }

    fn classic(&mut self, of: Of<'_>, h: &HistogramFields<'_>) -> Result<(), Error> {
        let either = |float: f64, whole: u64| if float == 0.0 { whole as f64 } else { float };
        let count = either(h.count_float, h.count);
        self.push_float(of, "_count", None, count);
        self.push_float(of, "_sum", None, h.sum);
        for b in &h.buckets {
            let value = either(b.count_float, b.count);
            let sample = self.push_float(of, "_bucket", Some(("le", b.bound)), value);
            if let Some(x) = b.exemplar {
                self.exemplar(sample, x, false)?;
            }
            if b.bound == f64::INFINITY {
                return Ok(());
            }
        }
        self.push_float(of, "_bucket", Some(("le", f64::INFINITY)), count);
        Ok(())
    }

    fn native(&mut self, of: Of<'_>, h: &HistogramFields<'_>) -> Result<(), Error> {
        h.check_spans()
            .map_err(|e| said(format!("histogram {}: {e}", quoted(&String::from_utf8_lossy(of.name)))))?;
        let is_gauge = of.kind == MetricKind::GaugeHistogram;
        self.page.histograms.push(h.to_counts(is_gauge));
        let index = self.page.histograms.len() as u32 - 1;
        let sample = self.push(of, "", None, FlatValue::Histogram(index));
        if !h.exemplars.is_empty() {
            return h.exemplars.iter().try_for_each(|x| self.exemplar(sample, x, true));
        }
        h.buckets.iter().filter_map(|b| b.exemplar).try_for_each(|x| self.exemplar(sample, x, true))
    }

    /// An exemplar of a native histogram counts only with a time of its own.
    fn exemplar(&mut self, sample: u32, message: &[u8], needs_time: bool) -> Result<(), Error> {
        let (mut value, mut time) = (0.0, None);
        let mut labels = Vec::new();
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("Exemplar").map_err(malformed)? {
            match field {
                1 => push_label(bytes(&mut cursor, wire, "Label").map_err(malformed)?, &mut labels)?,
                2 => value = double(&mut cursor, wire, "Value").map_err(malformed)?,
                3 => time = Some(timestamp(&mut cursor, wire, "Timestamp").map_err(malformed)?),
                _ => cursor.skip(wire).map_err(malformed)?,
            }
        }
        if needs_time && time.is_none() {
            return Ok(());
        }
        let labels = self.page.push_bytes(&labels);
        self.page.exemplars.push(FlatExemplar { sample, labels, value, timestamp: time });
        Ok(())
    }
}

fn push_label(pair: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut cursor = Cursor::new(pair);
    while let Some((field, wire)) = cursor.field("LabelPair").map_err(malformed)? {
        match field {
            1 => name = bytes(&mut cursor, wire, "Name").map_err(malformed)?,
            2 => value = bytes(&mut cursor, wire, "Value").map_err(malformed)?,
            _ => cursor.skip(wire).map_err(malformed)?,
        }
    }
    let lossy = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    if name.is_empty() || std::str::from_utf8(name).is_err() {
        return Err(said(format!("invalid label name: {}", lossy(name))));
    }
    if std::str::from_utf8(value).is_err() {
        return Err(said(format!("invalid label value: {}", lossy(value))));
    }
    push_key_label(out, name, value);
    Ok(())
}

/// Milliseconds of a `google.protobuf.Timestamp`.
fn timestamp(cursor: &mut Cursor<'_>, wire: u8, field: &'static str) -> Result<i64, Malformed> {
    let mut inner = Cursor::new(bytes(cursor, wire, field)?);
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some((field, wire)) = inner.field("Timestamp")? {
        match field {
            1 => seconds = varint(&mut inner, wire, "Seconds")? as i64,
            2 => nanos = i64::from(varint(&mut inner, wire, "Nanos")? as i32),
            _ => inner.skip(wire)?,
        }
    }
    Ok(seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000))
}

/// Field 1 of a gauge or an untyped metric.
fn first_double(message: &[u8]) -> Result<f64, Malformed> {
    let mut value = 0.0;
    let mut cursor = Cursor::new(message);
    while let Some((field, wire)) = cursor.field("Gauge")? {
        match field {
            1 => value = double(&mut cursor, wire, "Value")?,
            _ => cursor.skip(wire)?,
        }
    }
    Ok(value)
}

fn read_summary(message: &[u8]) -> Result<Summary, Malformed> {
    let mut s = Summary::default();
    let mut cursor = Cursor::new(message);
    while let Some((field, wire)) = cursor.field("Summary")? {
        match field {
            1 => s.count = varint(&mut cursor, wire, "SampleCount")?,
            2 => s.sum = double(&mut cursor, wire, "SampleSum")?,
            3 => {
                let mut inner = Cursor::new(bytes(&mut cursor, wire, "Quantile")?);
                let (mut quantile, mut value) = (0.0, 0.0);
                while let Some((field, wire)) = inner.field("Quantile")? {
                    match field {
                        1 => quantile = double(&mut inner, wire, "Quantile")?,
                        2 => value = double(&mut inner, wire, "Value")?,
                        _ => inner.skip(wire)?,
                    }
                }
                s.quantiles.push((quantile, value));
            }
            4 => s.start = timestamp(&mut cursor, wire, "CreatedTimestamp")?,
            _ => cursor.skip(wire)?,
        }
    }
    Ok(s)
}

fn read_histogram(message: &[u8]) -> Result<HistogramFields<'_>, Malformed> {
    let mut h = HistogramFields::default();
    let mut c = Cursor::new(message);
    while let Some((field, wire)) = c.field("Histogram")? {
        match field {
            1 => h.count = varint(&mut c, wire, "SampleCount")?,
            2 => h.sum = double(&mut c, wire, "SampleSum")?,
            3 => h.buckets.push(read_bucket(bytes(&mut c, wire, "Bucket")?)?),
            4 => h.count_float = double(&mut c, wire, "SampleCountFloat")?,
            5 => h.schema = zigzag(varint(&mut c, wire, "Schema")?) as i32,
            6 => h.zero_threshold = double(&mut c, wire, "ZeroThreshold")?,
            7 => h.zero_count = varint(&mut c, wire, "ZeroCount")?,
            8 => h.zero_count_float = double(&mut c, wire, "ZeroCountFloat")?,
            9 => read_span(&mut c, wire, "NegativeSpan", &mut h.negative_spans)?,
            10 => read_deltas(&mut c, wire, "NegativeDelta", &mut h.negative_deltas)?,
            11 => read_doubles(&mut c, wire, "NegativeCount", &mut h.negative_counts)?,
            12 => read_span(&mut c, wire, "PositiveSpan", &mut h.positive_spans)?,
            13 => read_deltas(&mut c, wire, "PositiveDelta", &mut h.positive_deltas)?,
            14 => read_doubles(&mut c, wire, "PositiveCount", &mut h.positive_counts)?,
            15 => h.start = timestamp(&mut c, wire, "CreatedTimestamp")?,
            16 => h.exemplars.push(bytes(&mut c, wire, "Exemplars")?),
            _ => c.skip(wire)?,
        }
    }
    Ok(h)
}

fn read_bucket(message: &[u8]) -> Result<ClassicBucket<'_>, Malformed> {
    let mut b = ClassicBucket::default();
    let mut cursor = Cursor::new(message);
    while let Some((field, wire)) = cursor.field("Bucket")? {
        match field {
            1 => b.count = varint(&mut cursor, wire, "CumulativeCount")?,
            2 => b.bound = double(&mut cursor, wire, "UpperBound")?,
            3 => b.exemplar = Some(bytes(&mut cursor, wire, "Exemplar")?),
            4 => b.count_float = double(&mut cursor, wire, "CumulativeCountFloat")?,
            _ => cursor.skip(wire)?,
        }
    }
    Ok(b)
}

impl HistogramFields<'_> {
    fn is_native(&self) -> bool {
        !self.positive_spans.is_empty()
            || !self.negative_spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
            || self.zero_count_float > 0.0
    }

    fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0
    }

    /// Spans must announce the buckets that are there: what follows walks them together.
    fn check_spans(&self) -> Result<(), String> {
        let lengths = match self.is_float() {
            true => (self.positive_counts.len(), self.negative_counts.len()),
            false => (self.positive_deltas.len(), self.negative_deltas.len()),
        };
        let sides =
            [("positive", &self.positive_spans, lengths.0), ("negative", &self.negative_spans, lengths.1)];
        for (side, spans, have) in sides {
            let need: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
            if need != have as u64 || have > BUCKETS_MAX {
                return Err(format!(
                    "{side} side: spans need {need} buckets, have {have} buckets: \
                     histogram spans specify different number of buckets than provided"
                ));
            }
        }
        Ok(())
    }

    fn to_counts(&self, is_gauge: bool) -> Counts {
        let counter_reset_hint = if is_gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        if self.is_float() {
            let mut h = FloatHistogram {
                counter_reset_hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_float,
                count: self.count_float,
                sum: self.sum,
                positive_spans: self.positive_spans.clone(),
                positive_buckets: self.positive_counts.clone(),
                negative_spans: self.negative_spans.clone(),
                negative_buckets: self.negative_counts.clone(),
                custom_values: Vec::new(),
            };
            h.compact(0);
            return Counts::Float(h);
        }
        let mut h = Histogram {
            counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            positive_deltas: self.positive_deltas.clone(),
            negative_spans: self.negative_spans.clone(),
            negative_deltas: self.negative_deltas.clone(),
            custom_values: Vec::new(),
        };
        h.compact(0);
        Counts::Integer(h)
    }
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
pub(crate) mod tests;
