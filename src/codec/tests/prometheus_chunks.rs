//! Chunks that Prometheus 3.14 made, read and written to the byte.
//!
//! `golden/prometheus_chunks.txt` has a line a case: kind, samples, `=`, the chunk in hex. Floats are
//! bits in hex. `hist` lines have a layout first and four chunks: integer, integer with start times,
//! float, float with start times.

use codec::histogram::{FloatHistograms, Histograms, IntHistograms, Layout, ResetHeader, Span};
use codec::prom_histogram::{self, Form};
use codec::{xor, xor2};

const GOLDEN: &str = include_str!("golden/prometheus_chunks.txt");
const STALE: u64 = 0x7ff0_0000_0000_0002;

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

fn float(text: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(text, 16).unwrap())
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The lines of one kind, split at `=`.
fn lines(kind: &str) -> impl Iterator<Item = (&str, &str)> {
    GOLDEN.lines().filter_map(move |line| line.strip_prefix(kind)?.strip_prefix(' ')?.split_once(" = "))
}

struct Samples {
    times: Vec<i64>,
    values: Vec<f64>,
    starts: Vec<i64>,
}

fn samples(text: &str) -> Samples {
    let mut samples = Samples { times: Vec::new(), values: Vec::new(), starts: Vec::new() };
    for sample in text.split(' ') {
        let fields: Vec<&str> = sample.split(',').collect();
        samples.times.push(fields[0].parse().unwrap());
        samples.values.push(float(fields[1]));
        samples.starts.push(fields[2].parse().unwrap());
    }
    samples
}

#[test]
fn xor_chunks_are_those_of_prometheus() {
    let mut cases = 0;
    for (input, chunk) in lines("xor") {
        let (Samples { times, values, .. }, chunk) = (samples(input), unhex(chunk));
        let mut written = Vec::new();
        xor::encode(&times, &values, &mut written).unwrap();
        assert_eq!(written, chunk);
        let (mut out_times, mut out) = (Vec::new(), Vec::new());
        xor::decode(&chunk, &mut out_times, &mut out).unwrap();
        assert_eq!((out_times, bits(&out)), (times, bits(&values)));
        cases += 1;
    }
    assert_eq!(cases, 12);
}

fn check_xor2(kind: &str, with_starts: bool) {
    let mut cases = 0;
    for (input, chunk) in lines(kind) {
        let (Samples { times, values, mut starts }, chunk) = (samples(input), unhex(chunk));
        if !with_starts {
            starts.fill(0);
        }
        let mut written = Vec::new();
        xor2::encode(&times, &values, &starts, &mut written).unwrap();
        assert_eq!(written, chunk, "{input}");
        let (mut out_times, mut out, mut out_starts) = (Vec::new(), Vec::new(), Vec::new());
        xor2::decode(&chunk, &mut out_times, &mut out, &mut out_starts).unwrap();
        assert_eq!((out_times, bits(&out), out_starts), (times, bits(&values), starts));
        cases += 1;
    }
    assert_eq!(cases, 12);
}

#[test]
fn xor2_chunks_are_those_of_prometheus() {
    check_xor2("xor2", false);
    check_xor2("xor2st", true);
}

fn spans(text: &str) -> Vec<Span> {
    let one = |span: &str| {
        let (offset, length) = span.split_once(':').unwrap();
        Span { offset: offset.parse().unwrap(), length: length.parse().unwrap() }
    };
    text.trim_end_matches('.').split(',').filter(|s| !s.is_empty()).map(one).collect()
}

fn histograms(text: &str) -> IntHistograms {
    let (layout, rows) = text.split_once(' ').unwrap();
    let fields: Vec<&str> = layout.split(';').collect();
    let bounds = fields[4].trim_end_matches('.').split(',').filter(|b| !b.is_empty());
    let mut histograms = IntHistograms {
        layout: Layout {
            schema: fields[0].parse().unwrap(),
            zero_threshold: float(fields[1]),
            positive: spans(fields[2]),
            negative: spans(fields[3]),
            custom_bounds: bounds.map(float).collect(),
        },
        reset: [ResetHeader::Unknown, ResetHeader::NotReset, ResetHeader::Reset, ResetHeader::Gauge]
            [fields[5].parse::<usize>().unwrap()],
        ..Histograms::default()
    };
    let width = histograms.layout.bucket_count().unwrap();
    for row in rows.split(' ') {
        let fields: Vec<&str> = row.split(',').collect();
        histograms.times.push(fields[0].parse().unwrap());
        histograms.starts.push(fields[1].parse().unwrap());
        histograms.counts.push(fields[2].parse().unwrap());
        histograms.zero_counts.push(fields[3].parse().unwrap());
        histograms.sums.push(float(fields[4]));
        let buckets = fields[5].split(':').filter(|b| !b.is_empty());
        histograms.buckets.extend(buckets.map(|b| b.parse::<i64>().unwrap()));
        // A stale histogram has no buckets in the text.
        histograms.buckets.resize(histograms.times.len() * width, 0);
    }
    histograms
}

fn absolute(int: &IntHistograms) -> FloatHistograms {
    let width = int.layout.bucket_count().unwrap();
    let split: usize = int.layout.positive.iter().map(|s| s.length as usize).sum();
    let mut sum = 0;
    let mut add = |(idx, bucket): (usize, &i64)| {
        let within = idx % width.max(1);
        sum = if within == 0 || within == split { *bucket } else { sum + bucket };
        sum as f64
    };
    Histograms {
        buckets: int.buckets.iter().enumerate().map(&mut add).collect(),
        counts: int.counts.iter().map(|c| *c as f64).collect(),
        zero_counts: int.zero_counts.iter().map(|c| *c as f64).collect(),
        layout: int.layout.clone(),
        reset: int.reset,
        times: int.times.clone(),
        starts: int.starts.clone(),
        sums: int.sums.clone(),
    }
}

#[test]
fn histogram_chunks_are_those_of_prometheus() {
    let mut cases = 0;
    for (input, chunks) in lines("hist") {
        let chunks: Vec<Vec<u8>> = chunks.split(' ').map(unhex).collect();
        let mut int = histograms(input);
        let stale = int.sums.iter().any(|s| s.to_bits() == STALE);
        for (form, chunk_idx) in [(Form::Starts, 1), (Form::Plain, 0)] {
            if form == Form::Plain {
                int.starts.clear();
            }
            let mut written = Vec::new();
            prom_histogram::encode_int(&int, form, &mut written).unwrap();
            assert_eq!(written, chunks[chunk_idx], "{form:?} {input}");
            let back = prom_histogram::decode_int(&chunks[chunk_idx], form).unwrap();
            assert_eq!(bits(&back.sums), bits(&int.sums));
            assert_eq!((&back.buckets, &back.counts, &back.starts), (&int.buckets, &int.counts, &int.starts));
            // A NaN is not equal to itself.
            assert!(stale || back == int);
            let float = absolute(&int);
            written.clear();
            prom_histogram::encode_float(&float, form, &mut written).unwrap();
            assert_eq!(written, chunks[chunk_idx + 2], "{form:?} {input}");
            let back = prom_histogram::decode_float(&chunks[chunk_idx + 2], form).unwrap();
            assert_eq!(bits(&back.buckets), bits(&float.buckets));
            assert!(stale || back == float);
        }
        cases += 1;
    }
    assert_eq!(cases, 12);
}
