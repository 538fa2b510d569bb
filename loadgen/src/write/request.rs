//! The requests of the write workloads: series with eight labels, one sample each, ready to be patched and sent.
//!
//! A `prometheus.WriteRequest` has series in field 1; a series has labels (name 1, value 2) in field 1 and samples
//! (value 1 as a double, timestamp 2 as a varint) in field 2.

use std::ops::Range;

use super::block::{Block, compress, push_varint};
use crate::shape::mix;

/// Milliseconds from 1971 to 2109 take six bytes as a varint, so a patched time keeps its length.
const TIME_BYTES: usize = 6;
/// Value, tag, time: what changes of a sample.
const SAMPLE_HOLE: usize = 8 + 1 + TIME_BYTES;
/// Digits of the label that makes each request of W2 new.
const GENERATION_DIGITS: usize = 10;

/// The requests of one batch of series.
pub struct Request {
    block: Block,
    first: u64,
    series: u64,
    fresh: bool,
    last_time_ms: i64,
}

impl Request {
    /// Series `first..first + series`; `fresh` ones get new labels with each generation.
    pub fn new(seed: u64, first: u64, series: u64, fresh: bool) -> Self {
        let mut bytes = Vec::new();
        let mut holes = Vec::new();
        let mut one = Vec::new();
        for i in first..first + series {
            one.clear();
            let relative = push_series(&mut one, i, fresh, base(seed, i));
            bytes.push(0x0a);
            push_varint(&mut bytes, one.len() as u64);
            holes.extend(relative.into_iter().map(|r| r.start + bytes.len()..r.end + bytes.len()));
            bytes.extend_from_slice(&one);
        }
        Request { block: compress(&bytes, &holes), first, series, fresh, last_time_ms: 0 }
    }

    pub fn series(&self) -> u64 {
        self.series
    }

    /// The bytes of the next request: every series has the value of its pass, at one time not before `now_ms` and
    /// after the one before.
    pub fn patch(&mut self, seed: u64, pass: u64, now_ms: i64) -> &[u8] {
        self.last_time_ms = now_ms.max(self.last_time_ms + 1);
        let mut time = Vec::with_capacity(TIME_BYTES);
        push_varint(&mut time, self.last_time_ms as u64);
        debug_assert_eq!(time.len(), TIME_BYTES);
        let digits = format!("{pass:0GENERATION_DIGITS$}");
        let per_series = if self.fresh { 2 } else { 1 };
        for (k, holes) in self.block.holes.chunks_exact(per_series).enumerate() {
            let sample = holes[per_series - 1];
            let value = base(seed, self.first + k as u64) + pass as f64;
            self.block.bytes[sample..sample + 8].copy_from_slice(&value.to_le_bytes());
            self.block.bytes[sample + 9..sample + 9 + TIME_BYTES].copy_from_slice(&time);
            if self.fresh {
                self.block.bytes[holes[0]..holes[0] + GENERATION_DIGITS].copy_from_slice(digits.as_bytes());
            }
        }
        &self.block.bytes
    }

    /// The sum of the values of all series at `pass`: whole numbers, so any order of adding gives it exactly.
    pub fn sum(&self, seed: u64, pass: u64) -> f64 {
        (self.first..self.first + self.series).map(|i| base(seed, i) + pass as f64).sum()
    }
}

fn base(seed: u64, series: u64) -> f64 {
    (mix(seed, series, 41) % 1_000_000) as f64
}

/// Appends one series; returns what of it will change.
fn push_series(out: &mut Vec<u8>, i: u64, fresh: bool, value: f64) -> Vec<Range<usize>> {
    let host = i / 200;
    let mut holes = Vec::with_capacity(2);
    push_label(out, "__name__", &format!("rw_metric_{:02}_total", i % 40));
    push_label(out, "cluster", "prod-eu-central-1-az2");
    push_label(out, "environment", "production");
    let pod = push_label(out, "generation", &format!("{:0GENERATION_DIGITS$}", 0));
    if fresh {
        holes.push(pod);
    }
    push_label(out, "handler", &format!("/api/v1/resource/{}", i / 40 % 5));
    push_label(out, "instance", &format!("10.{}.{}.{}:9100", host >> 16 & 255, host >> 8 & 255, host & 255));
    push_label(out, "job", "load");
    push_label(out, "tier", "compute-large-r2");
    out.extend_from_slice(&[0x12, (2 + SAMPLE_HOLE - 1) as u8, 0x09]);
    let start = out.len();
    out.extend_from_slice(&value.to_le_bytes());
    out.push(0x10);
    push_varint(out, 1 << 40);
    holes.push(start..out.len());
    holes
}

/// Appends a label; returns where its value lies.
fn push_label(out: &mut Vec<u8>, name: &str, value: &str) -> Range<usize> {
    out.extend_from_slice(&[0x0a, (4 + name.len() + value.len()) as u8, 0x0a, name.len() as u8]);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&[0x12, value.len() as u8]);
    out.extend_from_slice(value.as_bytes());
    out.len() - value.len()..out.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Decoder::new().decompress_vec(bytes).unwrap_or_default()
    }

    /// The request as the wire defines it, built from nothing.
    fn naive(seed: u64, first: u64, series: u64, fresh: bool, pass: u64, time: i64) -> Vec<u8> {
        let mut out = Vec::new();
        for i in first..first + series {
            let mut one = Vec::new();
            let holes = push_series(&mut one, i, fresh, base(seed, i) + pass as f64);
            if fresh {
                one[holes[0].clone()].copy_from_slice(format!("{pass:010}").as_bytes());
            }
            let sample = holes[holes.len() - 1].clone();
            let mut text = Vec::new();
            push_varint(&mut text, time as u64);
            one[sample.start + 9..sample.end].copy_from_slice(&text);
            out.push(0x0a);
            push_varint(&mut out, one.len() as u64);
            out.extend_from_slice(&one);
        }
        out
    }

    #[test]
    fn patched_requests_are_what_a_sender_would_have_built() {
        for fresh in [false, true] {
            let mut request = Request::new(3, 5000, 700, fresh);
            for (pass, time) in [(0, 1_790_000_000_000), (1, 1_790_000_000_007), (77, 1_790_000_100_000)] {
                let got = unpack(request.patch(3, pass, time));
                assert!(got == naive(3, 5000, 700, fresh, pass, time), "pass {pass}, fresh {fresh}");
            }
        }
    }

    #[test]
    fn times_of_a_series_always_rise() {
        let mut request = Request::new(3, 0, 10, false);
        request.patch(3, 0, 1_790_000_000_000);
        let got = unpack(request.patch(3, 1, 1_790_000_000_000));
        assert!(got == naive(3, 0, 10, false, 1, 1_790_000_000_001));
    }

    #[test]
    fn two_thousand_series_take_few_bytes_on_the_wire() {
        let mut request = Request::new(3, 0, 2000, false);
        let bytes = request.patch(3, 0, 1_790_000_000_000);
        let (wire, plain) = (bytes.len() as f64 / 2000.0, unpack(bytes).len() as f64 / 2000.0);
        assert!(wire < 45.0 && plain > 180.0, "{wire} of {plain} bytes a sample");
        println!("{wire} of {plain} bytes a sample");
    }
}
