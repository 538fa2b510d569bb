//! Requests of remote write 1.0, made: what other ways of pushing samples are rewritten as.

use model::Histogram;
use model::histogram::{CounterResetHint, Span};

/// A series' length is written before it is known: in four bytes, which hold 2^28.
const LENGTH_BYTES: usize = 4;

/// A request under construction, series by series: `begin`, samples, `end`.
#[derive(Debug, Default)]
pub struct RequestBuilder {
    bytes: Vec<u8>,
    series_from: usize,
    scratch: Vec<u8>,
    pub sample_count: u64,
}

impl RequestBuilder {
    pub fn with_capacity(bytes: usize) -> Self {
        RequestBuilder { bytes: Vec::with_capacity(bytes), ..RequestBuilder::default() }
    }

    /// The request, not packed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins a series. The same labels in the same order make the same bytes, by which receivers know them again.
    pub fn begin<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.bytes.push(0x0a);
        self.series_from = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        for (name, value) in labels {
            push_label(&mut self.bytes, name, value);
        }
    }

    pub fn sample(&mut self, time: i64, value: f64) {
        self.bytes.push(0x12);
        self.bytes.push(10 + varint_length(time as u64));
        push_double(&mut self.bytes, 1, value);
        push_varint_field(&mut self.bytes, 2, time as u64);
        self.sample_count += 1;
    }

    pub fn exemplar<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        time: i64,
        value: f64,
    ) {
        self.scratch.clear();
        for (name, value) in labels {
            push_label(&mut self.scratch, name, value);
        }
        push_double(&mut self.scratch, 2, value);
        push_varint_field(&mut self.scratch, 3, time as u64);
        push_sized(&mut self.bytes, 3, &self.scratch);
    }

    pub fn histogram(&mut self, time: i64, h: &Histogram) {
        let out = &mut self.scratch;
        out.clear();
        push_varint_field(out, 1, h.count);
        push_double(out, 3, h.sum);
        push_varint_field(out, 4, zigzag(i64::from(h.schema)));
        push_double(out, 5, h.zero_threshold);
        push_varint_field(out, 6, h.zero_count);
        push_side(out, 8, &h.negative_spans, &h.negative_deltas);
        push_side(out, 11, &h.positive_spans, &h.positive_deltas);
        let hint = match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        };
        push_varint_field(out, 14, hint);
        push_varint_field(out, 15, time as u64);
        h.custom_values.iter().for_each(|v| push_double(out, 16, *v));
        push_sized(&mut self.bytes, 4, &self.scratch);
        self.sample_count += 1;
    }

    pub fn end(&mut self) {
        let length = self.bytes.len() - self.series_from - LENGTH_BYTES;
        for i in 0..LENGTH_BYTES {
            let more = if i + 1 == LENGTH_BYTES { 0 } else { 0x80 };
            self.bytes[self.series_from + i] = (length >> (7 * i)) as u8 & 0x7f | more;
        }
    }

    /// A series of one float.
    pub fn float<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>, time: i64, value: f64) {
        self.begin(labels);
        self.sample(time, value);
        self.end();
    }
}

fn push_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let length = 2
        + usize::from(varint_length(name.len() as u64))
        + name.len()
        + usize::from(varint_length(value.len() as u64))
        + value.len();
    out.push(0x0a);
    push_varint(out, length as u64);
    push_sized(out, 1, name.as_bytes());
    push_sized(out, 2, value.as_bytes());
}

/// Spans, then deltas, under the numbers `field` and the next one.
fn push_side(out: &mut Vec<u8>, field: u8, spans: &[Span], deltas: &[i64]) {
    for span in spans {
        let (offset, length) = (zigzag(i64::from(span.offset)), u64::from(span.length));
        out.push(field << 3 | 2);
        out.push(2 + varint_length(offset) + varint_length(length));
        push_varint_field(out, 1, offset);
        push_varint_field(out, 2, length);
    }
    if !deltas.is_empty() {
        out.push((field + 1) << 3 | 2);
        let length: u64 = deltas.iter().map(|d| u64::from(varint_length(zigzag(*d)))).sum();
        push_varint(out, length);
        deltas.iter().for_each(|d| push_varint(out, zigzag(*d)));
    }
}

fn zigzag(v: i64) -> u64 {
    (v << 1 ^ v >> 63) as u64
}

fn varint_length(v: u64) -> u8 {
    (64 - (v | 1).leading_zeros()).div_ceil(7) as u8
}

fn push_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn push_varint_field(out: &mut Vec<u8>, field: u8, v: u64) {
    out.push(field << 3);
    push_varint(out, v);
}

fn push_double(out: &mut Vec<u8>, field: u8, v: f64) {
    push_varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
}

fn push_sized(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_histogram::{self, Counts};
    use crate::remote_write::{Pairs, RequestV1, Sample, SeriesReader, read_pairs};

    #[test]
    fn what_is_built_is_read_back() {
        let mut b = RequestBuilder::default();
        let long = "v".repeat(300);
        b.begin([("__name__", "m"), ("a", long.as_str())]);
        b.sample(-5, 1.5);
        b.sample(1 << 45, -0.0);
        b.exemplar([("trace_id", "x")], 7, 2.0);
        b.end();
        b.begin([("__name__", "h")]);
        let h = Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: -53,
            count: u64::MAX,
            sum: 4.5,
            positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 200, length: 1 }],
            positive_deltas: vec![1, -1, i64::MIN],
            custom_values: vec![0.5, 1.0],
            ..Histogram::default()
        };
        b.histogram(9, &h);
        b.end();
        assert_eq!(b.sample_count, 3);
        let bytes = b.into_bytes();
        let (mut request, mut reader, mut pairs) =
            (RequestV1::new(&bytes), SeriesReader::default(), Pairs::new());
        let message = request.try_next().unwrap().unwrap();
        reader.read_v1(message).unwrap();
        let sample = |time, value| Sample { time, start: 0, value };
        assert_eq!(reader.samples, [sample(-5, 1.5), sample(1 << 45, -0.0)]);
        assert_eq!(reader.exemplars.len(), 1);
        read_pairs(reader.labels_v1(message), &mut pairs).unwrap();
        assert_eq!(pairs, [(&b"__name__"[..], &b"m"[..]), (b"a", long.as_bytes())]);
        let message = request.try_next().unwrap().unwrap();
        reader.read_v1(message).unwrap();
        let part = reader.histograms[0].clone();
        let read = remote_histogram::read(&message[part.start as usize..part.end as usize]).unwrap();
        assert_eq!(read.time, 9);
        assert!(matches!(read.counts, Counts::Integer(got) if got == h));
        assert!(request.try_next().unwrap().is_none());
    }
}
