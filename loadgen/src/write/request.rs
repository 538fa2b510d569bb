//! The requests of the write workloads: series with eight labels, one sample each, ready to be patched and sent, as
//! remote write 1.0 and 2.0 and as OTLP have them.
//!
//! A `prometheus.WriteRequest` has series in field 1; a series has labels (name 1, value 2) in field 1 and samples
//! (value 1 as a double, timestamp 2 as a varint) in field 2. An `io.prometheus.write.v2.Request` has symbols in
//! field 4 and series in field 5, whose labels are numbers of symbols. An OTLP request has a resource a host, a metric
//! a name, and a data point (time 3, value 4, attributes 7) a series; it goes out as it is, without compression.

use std::collections::HashMap;
use std::ops::Range;

use super::block::{Block, compress, push_varint};
use crate::shape::format::push_bytes;
use crate::shape::mix;

/// How series are put on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    V1,
    V2,
    Otlp,
}

impl Protocol {
    pub fn parse(name: &str) -> Result<Protocol, String> {
        match name {
            "1.0" => Ok(Protocol::V1),
            "2.0" => Ok(Protocol::V2),
            "otlp" => Ok(Protocol::Otlp),
            _ => Err(format!("{name:?} is none of 1.0, 2.0, otlp")),
        }
    }

    pub fn headers(self) -> &'static str {
        match self {
            Protocol::V1 => {
                "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                 X-Prometheus-Remote-Write-Version: 0.1.0\r\nUser-Agent: systole-loadgen\r\n"
            }
            Protocol::V2 => {
                "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n\
                 Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 2.0.0\r\n\
                 User-Agent: systole-loadgen\r\n"
            }
            Protocol::Otlp => "Content-Type: application/x-protobuf\r\nUser-Agent: systole-loadgen\r\n",
        }
    }
}

/// Milliseconds from 1971 to 2109 take six bytes as a varint, so a patched time keeps its length.
const TIME_BYTES: usize = 6;
/// Value, tag, time: what changes of a sample.
const SAMPLE_HOLE: usize = 8 + 1 + TIME_BYTES;
/// Time, tag, value, each number of eight bytes: what changes of a data point.
const POINT_HOLE: usize = 8 + 1 + 8;
/// Digits of the label that makes each request of W2 new.
const GENERATION_DIGITS: usize = 10;
/// Series that share an instance.
const HOST_SERIES: u64 = 200;
const NAMES: u64 = 40;

/// What is patched into a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hole {
    Generation,
    /// Of the series of this number in the request.
    Sample(u32),
}

/// Bytes of a message, and what of them will change.
#[derive(Default, Clone)]
struct Message {
    bytes: Vec<u8>,
    holes: Vec<(Range<usize>, Hole)>,
}

impl Message {
    fn push_text(&mut self, field: u8, text: &str) {
        push_bytes(&mut self.bytes, field, text.as_bytes());
    }

    fn push_message(&mut self, field: u8, inner: &Message) {
        self.bytes.push(field << 3 | 2);
        push_varint(&mut self.bytes, inner.bytes.len() as u64);
        let at = self.bytes.len();
        self.holes.extend(inner.holes.iter().map(|(r, hole)| (r.start + at..r.end + at, *hole)));
        self.bytes.extend_from_slice(&inner.bytes);
    }

    /// Text that is patched with the generation.
    fn push_generation(&mut self, field: u8, fresh: bool) {
        self.push_text(field, &format!("{:0GENERATION_DIGITS$}", 0));
        if fresh {
            let end = self.bytes.len();
            self.holes.push((end - GENERATION_DIGITS..end, Hole::Generation));
        }
    }

    fn push_sample(&mut self, field: u8, k: u32) {
        self.bytes.extend_from_slice(&[field << 3 | 2, (1 + SAMPLE_HOLE) as u8, 1 << 3 | 1]);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.push(2 << 3);
        push_varint(&mut self.bytes, 1 << 40);
        self.holes.push((start..self.bytes.len(), Hole::Sample(k)));
    }
}

/// The requests of one batch of series.
pub struct Request {
    block: Block,
    /// What is patched at each of the block's places.
    holes: Vec<Hole>,
    protocol: Protocol,
    seed: u64,
    first: u64,
    series: u64,
    last_time_ms: i64,
}

impl Request {
    /// Series `first..first + series`; `fresh` ones get new labels with each generation.
    pub fn new(protocol: Protocol, seed: u64, first: u64, series: u64, fresh: bool) -> Self {
        let message = match protocol {
            Protocol::V1 => message_v1(first, series, fresh),
            Protocol::V2 => message_v2(first, series, fresh),
            Protocol::Otlp => message_otlp(first, series, fresh),
        };
        let (ranges, holes): (Vec<_>, Vec<_>) = message.holes.into_iter().unzip();
        let block = match protocol {
            Protocol::Otlp => Block { holes: ranges.iter().map(|r| r.start).collect(), bytes: message.bytes },
            _ => compress(&message.bytes, &ranges),
        };
        Request { block, holes, protocol, seed, first, series, last_time_ms: 0 }
    }

    pub fn series(&self) -> u64 {
        self.series
    }

    /// The bytes of the next request: every series has the value of its pass, at one time not before `now_ms` and
    /// after the one before.
    pub fn patch(&mut self, pass: u64, now_ms: i64) -> &[u8] {
        self.last_time_ms = now_ms.max(self.last_time_ms + 1);
        self.patch_at(pass, self.last_time_ms)
    }

    /// The same at any time: what comes late.
    pub fn patch_at(&mut self, pass: u64, time_ms: i64) -> &[u8] {
        let mut time = Vec::with_capacity(TIME_BYTES);
        push_varint(&mut time, time_ms.max(1 << 40) as u64);
        debug_assert_eq!(time.len(), TIME_BYTES);
        let nanos = (time_ms.max(0) as u64 * 1_000_000).to_le_bytes();
        let digits = format!("{pass:0GENERATION_DIGITS$}");
        for (place, hole) in self.block.holes.iter().zip(&self.holes) {
            let at = &mut self.block.bytes[*place..];
            match *hole {
                Hole::Generation => at[..GENERATION_DIGITS].copy_from_slice(digits.as_bytes()),
                Hole::Sample(k) => {
                    let value = (base(self.seed, self.first + u64::from(k)) + pass as f64).to_le_bytes();
                    if self.protocol == Protocol::Otlp {
                        at[..8].copy_from_slice(&nanos);
                        at[9..17].copy_from_slice(&value);
                    } else {
                        at[..8].copy_from_slice(&value);
                        at[9..9 + TIME_BYTES].copy_from_slice(&time);
                    }
                }
            }
        }
        &self.block.bytes
    }

    /// The sum of the values of all series at `pass`: whole numbers, so any order of adding gives it exactly.
    pub fn sum(&self, pass: u64) -> f64 {
        (self.first..self.first + self.series).map(|i| base(self.seed, i) + pass as f64).sum()
    }
}

fn base(seed: u64, series: u64) -> f64 {
    (mix(seed, series, 41) % 1_000_000) as f64
}

fn name(i: u64) -> String {
    format!("rw_metric_{:02}_total", i % NAMES)
}

fn instance(i: u64) -> String {
    let host = i / HOST_SERIES;
    format!("10.{}.{}.{}:9100", host >> 16 & 255, host >> 8 & 255, host & 255)
}

fn handler(i: u64) -> String {
    format!("/api/v1/resource/{}", i / NAMES % (HOST_SERIES / NAMES))
}

/// The labels of a series in order; the generation's value is `None`.
fn labels(i: u64) -> [(&'static str, Option<String>); 8] {
    [
        ("__name__", Some(name(i))),
        ("cluster", Some("prod-eu-central-1-az2".into())),
        ("environment", Some("production".into())),
        ("generation", None),
        ("handler", Some(handler(i))),
        ("instance", Some(instance(i))),
        ("job", Some("load".into())),
        ("tier", Some("compute-large-r2".into())),
    ]
}

fn message_v1(first: u64, series: u64, fresh: bool) -> Message {
    let mut out = Message::default();
    for i in first..first + series {
        let mut one = Message::default();
        for (name, value) in labels(i) {
            let mut label = Message::default();
            label.push_text(1, name);
            match value {
                Some(value) => label.push_text(2, &value),
                None => label.push_generation(2, fresh),
            }
            one.push_message(1, &label);
        }
        one.push_sample(2, (i - first) as u32);
        out.push_message(1, &one);
    }
    out
}

fn message_v2(first: u64, series: u64, fresh: bool) -> Message {
    let mut symbols: Vec<Option<String>> = vec![Some(String::new())];
    let mut numbers: HashMap<Option<String>, u64> = HashMap::new();
    let mut all = Message::default();
    for i in first..first + series {
        let mut refs = Message::default();
        for (name, value) in labels(i) {
            for symbol in [Some(name.to_string()), value] {
                let number = *numbers.entry(symbol.clone()).or_insert_with(|| {
                    symbols.push(symbol);
                    symbols.len() as u64 - 1
                });
                push_varint(&mut refs.bytes, number);
            }
        }
        let mut one = Message::default();
        one.push_message(1, &refs);
        one.push_sample(2, (i - first) as u32);
        // Metadata: the type is counter.
        one.bytes.extend_from_slice(&[5 << 3 | 2, 2, 1 << 3, 1]);
        all.push_message(5, &one);
    }
    let mut out = Message::default();
    for symbol in symbols {
        match symbol {
            Some(text) => out.push_text(4, &text),
            None => out.push_generation(4, fresh),
        }
    }
    let at = out.bytes.len();
    out.holes.extend(all.holes.into_iter().map(|(r, hole)| (r.start + at..r.end + at, hole)));
    out.bytes.extend_from_slice(&all.bytes);
    out
}

/// A `KeyValue` whose value is text.
fn attribute(name: &str, value: Option<&str>, fresh: bool) -> Message {
    let mut text = Message::default();
    match value {
        Some(value) => text.push_text(1, value),
        None => text.push_generation(1, fresh),
    }
    let mut out = Message::default();
    out.push_text(1, name);
    out.push_message(2, &text);
    out
}

fn message_otlp(first: u64, series: u64, fresh: bool) -> Message {
    let mut out = Message::default();
    let mut host_first = first;
    while host_first < first + series {
        let host_end = ((host_first / HOST_SERIES + 1) * HOST_SERIES).min(first + series);
        let mut resource = Message::default();
        resource.push_message(1, &attribute("service.name", Some("load"), false));
        resource.push_message(1, &attribute("service.instance.id", Some(&instance(host_first)), false));
        let mut scope = Message::default();
        for n in 0..NAMES {
            let of_name: Vec<u64> = (host_first..host_end).filter(|i| i % NAMES == n).collect();
            if let Some(&i) = of_name.first() {
                scope.push_message(2, &metric(i, &of_name, first, fresh));
            }
        }
        let mut one = Message::default();
        one.push_message(1, &resource);
        one.push_message(2, &scope);
        out.push_message(1, &one);
        host_first = host_end;
    }
    out
}

/// A monotonic cumulative sum with a data point a series.
fn metric(named: u64, series: &[u64], first: u64, fresh: bool) -> Message {
    let mut sum = Message::default();
    for &i in series {
        let mut point = Message::default();
        point.bytes.push(3 << 3 | 1);
        point.holes.push((1..1 + POINT_HOLE, Hole::Sample((i - first) as u32)));
        point.bytes.extend_from_slice(&[0; 8]);
        point.bytes.push(4 << 3 | 1);
        point.bytes.extend_from_slice(&[0; 8]);
        for (name, value) in labels(i).into_iter().filter(|l| !["__name__", "instance", "job"].contains(&l.0))
        {
            point.push_message(7, &attribute(name, value.as_deref(), fresh));
        }
        sum.push_message(1, &point);
    }
    sum.bytes.extend_from_slice(&[2 << 3, 2, 3 << 3, 1]);
    let mut out = Message::default();
    out.push_text(1, &name(named));
    out.push_message(7, &sum);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [(u64, i64); 3] = [(0, 1_790_000_000_000), (1, 1_790_000_000_007), (77, 1_790_000_100_000)];

    fn unpack(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Decoder::new().decompress_vec(bytes).unwrap_or_default()
    }

    /// A 1.0 request as the wire defines it, built from nothing.
    fn naive(seed: u64, first: u64, series: u64, pass: u64, fresh: bool, time: i64) -> Vec<u8> {
        let mut out = Vec::new();
        for i in first..first + series {
            let mut one = Vec::new();
            for (name, value) in labels(i) {
                let generation = if fresh { pass } else { 0 };
                let value = value.unwrap_or(format!("{generation:010}"));
                let mut label = Vec::new();
                push_bytes(&mut label, 1, name.as_bytes());
                push_bytes(&mut label, 2, value.as_bytes());
                push_bytes(&mut one, 1, &label);
            }
            let mut sample = vec![9];
            sample.extend_from_slice(&(base(seed, i) + pass as f64).to_le_bytes());
            sample.push(16);
            push_varint(&mut sample, time as u64);
            push_bytes(&mut one, 2, &sample);
            push_bytes(&mut out, 1, &one);
        }
        out
    }

    #[test]
    fn patched_requests_are_what_a_sender_would_have_built() {
        for fresh in [false, true] {
            let mut request = Request::new(Protocol::V1, 3, 5000, 700, fresh);
            for (pass, time) in TIMES {
                let got = unpack(request.patch(pass, time));
                assert!(got == naive(3, 5000, 700, pass, fresh, time), "pass {pass}, fresh {fresh}");
            }
        }
    }

    /// Fields of a message: number and content, the number itself for a varint.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut v = 0;
            for shift in (0..64).step_by(7) {
                let (b, rest) = (bytes[0], &bytes[1..]);
                *bytes = rest;
                v |= u64::from(b & 0x7f) << shift;
                if b < 0x80 {
                    break;
                }
            }
            v
        }
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let length = match tag & 7 {
                0 => {
                    let v = varint(&mut bytes);
                    out.push((tag >> 3, v.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                _ => varint(&mut bytes) as usize,
            };
            out.push((tag >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        out
    }

    fn of(fields: &[(u64, Vec<u8>)], number: u64) -> Vec<&[u8]> {
        fields.iter().filter(|f| f.0 == number).map(|f| f.1.as_slice()).collect()
    }

    #[test]
    fn a_request_of_the_second_version_holds_the_same_series() {
        for fresh in [false, true] {
            let mut request = Request::new(Protocol::V2, 3, 5000, 450, fresh);
            for (pass, time) in TIMES {
                let got = fields(&unpack(request.patch(pass, time)));
                let symbols = of(&got, 4);
                assert_eq!(symbols[0], b"");
                let mut again = Vec::new();
                for series in of(&got, 5) {
                    let series = fields(series);
                    let mut one = Vec::new();
                    let refs: Vec<u64> = {
                        let mut all = Vec::new();
                        let mut v = 0u64;
                        let mut shift = 0;
                        for b in of(&series, 1)[0] {
                            v |= u64::from(b & 0x7f) << shift;
                            shift += 7;
                            if *b < 0x80 {
                                all.push(v);
                                (v, shift) = (0, 0);
                            }
                        }
                        all
                    };
                    for pair in refs.chunks(2) {
                        let mut label = Vec::new();
                        push_bytes(&mut label, 1, symbols[pair[0] as usize]);
                        push_bytes(&mut label, 2, symbols[pair[1] as usize]);
                        push_bytes(&mut one, 1, &label);
                    }
                    push_bytes(&mut one, 2, of(&series, 2)[0]);
                    push_bytes(&mut again, 1, &one);
                }
                assert!(again == naive(3, 5000, 450, pass, fresh, time), "pass {pass}, fresh {fresh}");
            }
        }
    }

    #[test]
    fn an_otlp_request_holds_each_series_once_with_its_value() {
        let mut request = Request::new(Protocol::Otlp, 3, 5100, 450, true);
        let got = fields(request.patch(7, 1_790_000_000_000));
        let mut values = Vec::new();
        for resource in of(&got, 1) {
            for scope in of(&fields(resource), 2) {
                for metric in of(&fields(scope), 2) {
                    let metric = fields(metric);
                    assert!(of(&metric, 1)[0].starts_with(b"rw_metric_"));
                    let sum = fields(of(&metric, 7)[0]);
                    assert_eq!((of(&sum, 2)[0][0], of(&sum, 3)[0][0]), (2, 1));
                    for point in of(&sum, 1) {
                        let point = fields(point);
                        assert_eq!(of(&point, 3)[0], (1_790_000_000_000_000_000u64).to_le_bytes());
                        assert_eq!(of(&point, 7).len(), 5);
                        let generation = of(&point, 7).iter().any(|a| a.ends_with(b"0000000007"));
                        assert!(generation);
                        values.push(f64::from_le_bytes(of(&point, 4)[0].try_into().unwrap_or_default()));
                    }
                }
            }
        }
        assert_eq!(values.len(), 450);
        assert_eq!(values.iter().sum::<f64>(), request.sum(7));
    }

    #[test]
    fn times_of_a_series_always_rise() {
        let mut request = Request::new(Protocol::V1, 3, 0, 10, false);
        request.patch(0, 1_790_000_000_000);
        let got = unpack(request.patch(1, 1_790_000_000_000));
        assert!(got == naive(3, 0, 10, 1, false, 1_790_000_000_001));
    }

    #[test]
    fn two_thousand_series_take_few_bytes_on_the_wire() {
        for (protocol, wire_max) in [(Protocol::V1, 45.0), (Protocol::V2, 45.0)] {
            let mut request = Request::new(protocol, 3, 0, 2000, false);
            let wire = request.patch(0, 1_790_000_000_000).len() as f64 / 2000.0;
            assert!(wire < wire_max, "{wire} bytes a sample");
        }
    }
}
