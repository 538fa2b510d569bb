//! Samples of one series as the chunks of a block, and back.

use codec::chunk::{ChunkReader, ChunkWriter, SAMPLES_MAX, Times};
use codec::histogram::{
    self, AnyHistograms, FloatHistograms, HistogramEncoder, Layout, ResetHeader, Span as LayoutSpan,
};
use codec::varint::{self, Reader};
use codec::{Error as Malformed, Tier, time_column};
use model::Timestamp;
use model::histogram::{CounterResetHint, FloatHistogram, Span};
use std::sync::Arc;

use crate::shard::block::aggregate::{Aggregate, Windows};
use crate::shard::block::part::{Chunk, Kind};
use crate::shard::head::image::{decode_histogram, encode_histogram};
use crate::shard::head::side::forget_hint;
use crate::shard::select::HistogramPoint;
use crate::shard::tombstones::Spans;

/// Samples of one series, ascending by time. Floats and histograms are apart.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    pub times: Vec<Timestamp>,
    pub values: Vec<f64>,
    /// As many as `times`, or none.
    pub starts: Vec<Timestamp>,
    pub histograms: Vec<HistogramPoint>,
}

impl Samples {
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    /// Adds floats; `starts` are as many or none.
    pub fn extend_floats(&mut self, times: &[Timestamp], values: &[f64], starts: &[Timestamp]) {
        if !starts.is_empty() || !self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
            self.starts.extend_from_slice(starts);
            self.starts.resize(self.times.len() + times.len(), 0);
        }
        self.times.extend_from_slice(times);
        self.values.extend_from_slice(values);
    }

    /// Brings samples that came from several places in order; of two at one time the first one added stays.
    pub fn settle(&mut self) {
        if !self.times.is_sorted_by(|a, b| a < b) {
            let mut order: Vec<u32> = (0..self.times.len() as u32).collect();
            order.sort_by_key(|i| self.times[*i as usize]);
            order.dedup_by_key(|i| self.times[*i as usize]);
            let at = |i: &u32| *i as usize;
            self.values = order.iter().map(|i| self.values[at(i)]).collect();
            if !self.starts.is_empty() {
                self.starts = order.iter().map(|i| self.starts[at(i)]).collect();
            }
            self.times = order.iter().map(|i| self.times[at(i)]).collect();
        }
        if !self.histograms.is_sorted_by(|a, b| a.time < b.time) {
            self.histograms.sort_by_key(|h| h.time);
            self.histograms.dedup_by_key(|h| h.time);
        }
    }

    /// Takes out what was deleted of the samples behind the first so many floats and histograms.
    pub fn delete_behind(&mut self, (floats, histograms): (usize, usize), deleted: &Spans) {
        let mut to = floats;
        for i in floats..self.times.len() {
            if !deleted.contains(self.times[i]) {
                (self.times[to], self.values[to]) = (self.times[i], self.values[i]);
                if let Some(start) = self.starts.get(i).copied() {
                    self.starts[to] = start;
                }
                to += 1;
            }
        }
        self.times.truncate(to);
        self.values.truncate(to);
        self.starts.truncate(to);
        let mut is_gap = false;
        let mut left = self.histograms.split_off(histograms);
        left.retain_mut(|h| {
            let is_deleted = deleted.contains(h.time);
            if !is_deleted && is_gap {
                // Whether there was a reset is known of the one before, which is gone.
                forget_hint(h);
            }
            is_gap = is_deleted;
            !is_deleted
        });
        self.histograms.append(&mut left);
    }

    /// Keeps what lies between two times (inclusive). Samples are in order.
    pub fn cut_to(&mut self, mint: Timestamp, maxt: Timestamp) {
        let from = self.times.partition_point(|t| *t < mint);
        let to = self.times.partition_point(|t| *t <= maxt).max(from);
        if from > 0 || to < self.times.len() {
            self.times.truncate(to);
            self.times.drain(..from);
            self.values.truncate(to);
            self.values.drain(..from);
            if !self.starts.is_empty() {
                self.starts.truncate(to);
                self.starts.drain(..from);
            }
        }
        self.histograms.retain(|h| (mint..=maxt).contains(&h.time));
    }
}

/// Where encoded bytes go: the caller finds their place.
pub trait Sink {
    /// Keeps a time column that other chunks may share.
    fn times(&mut self, times: &[Timestamp]) -> crate::shard::block::part::Place;
    fn data(&mut self, bytes: &[u8]) -> crate::shard::block::part::Place;
}

/// Turns samples into chunks; keeps its scratch memory.
#[derive(Default)]
pub struct Encoder {
    floats: ChunkWriter,
    histograms: HistogramEncoder,
    bytes: Vec<u8>,
}

impl Encoder {
    /// Writes `samples` (in order) to `sink`; their chunks are appended to `out`.
    pub fn encode(&mut self, samples: &Samples, sink: &mut impl Sink, out: &mut Vec<Chunk>) {
        let mut from = 0;
        while from < samples.times.len() {
            let to = samples.times.len().min(from + SAMPLES_MAX);
            let starts = samples.starts.get(from..to).unwrap_or(&[]);
            self.encode_floats(&samples.times[from..to], &samples.values[from..to], starts, sink, out);
            from = to;
        }
        let mut rest = samples.histograms.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(run_length(rest));
            self.encode_histograms(now, sink, out);
            rest = later;
        }
    }

    /// Writes aggregates (at least one window, fewer than a chunk may have samples) to `sink`, column by column; their
    /// chunks are appended to `out`.
    pub fn encode_windows(&mut self, w: &Windows, sink: &mut impl Sink, out: &mut Vec<Chunk>) {
        use Aggregate::*;
        let columns = [(Count, &w.counts), (Sum, &w.sums), (Min, &w.mins), (Max, &w.maxs), (Lost, &w.losts)];
        for (aggregate, values) in columns {
            if aggregate == Lost && values.iter().all(|v| *v == 0.0) {
                continue;
            }
            self.encode_floats(&w.times, values, &[], sink, out);
            mark(out, aggregate);
        }
        let times: Vec<Timestamp> = std::iter::once(w.first_time).chain(w.times.iter().copied()).collect();
        let values: Vec<f64> = std::iter::once(w.first).chain(w.lasts.iter().copied()).collect();
        self.encode_floats(&times, &values, &[], sink, out);
        mark(out, Last);
    }

    fn encode_floats(
        &mut self,
        times: &[Timestamp],
        values: &[f64],
        starts: &[Timestamp],
        sink: &mut impl Sink,
        out: &mut Vec<Chunk>,
    ) {
        let has_starts = starts.iter().any(|s| *s != 0);
        let first = values[0].to_bits();
        let kind = match has_starts {
            true => Kind::FloatsWithStarts,
            false if values.iter().all(|v| v.to_bits() == first) => Kind::Constant,
            false => Kind::Floats,
        };
        let mut chunk = Chunk {
            kind,
            aggregate: None,
            first_time: times[0],
            last_time: times[times.len() - 1],
            count: times.len() as u32,
            times: sink.times(times),
            data: Default::default(),
            bits: if kind == Kind::Constant { first } else { 0 },
        };
        if kind != Kind::Constant {
            self.bytes.clear();
            if has_starts {
                let mut column = Vec::new();
                time_column::encode(starts, &mut column);
                varint::write(column.len() as u64, &mut self.bytes);
                self.bytes.extend_from_slice(&column);
            }
            let result = self.floats.encode(Times::Shared(times), values, Tier::Full, &mut self.bytes);
            // Lengths are equal and within a chunk's bound: nothing is left that could be refused.
            debug_assert!(result.is_ok(), "floats encode");
            chunk.data = sink.data(&self.bytes);
        }
        out.push(chunk);
    }

    fn encode_histograms(&mut self, points: &[HistogramPoint], sink: &mut impl Sink, out: &mut Vec<Chunk>) {
        self.bytes.clear();
        let mut kind = Kind::Histograms;
        if self.histograms.encode_float(&columns(points), Tier::Full, &mut self.bytes).is_err() {
            kind = Kind::PlainHistograms;
            self.bytes.clear();
            for p in points {
                self.bytes.extend_from_slice(&p.time.to_le_bytes());
                self.bytes.extend_from_slice(&p.start.to_le_bytes());
                encode_histogram(&p.histogram, &mut self.bytes);
            }
        }
        out.push(Chunk {
            kind,
            aggregate: None,
            first_time: points[0].time,
            last_time: points[points.len() - 1].time,
            count: points.len() as u32,
            times: Default::default(),
            data: sink.data(&self.bytes),
            bits: 0,
        });
    }
}

/// Says of the last chunk what it has.
fn mark(out: &mut [Chunk], aggregate: Aggregate) {
    if let Some(chunk) = out.last_mut() {
        chunk.aggregate = Some(aggregate);
    }
}

/// Histograms of one chunk at most: some hours of them, a few MB where they are wide.
const HISTOGRAMS_MAX: usize = 1024;

/// How many of the first histograms have one layout and one hint.
fn run_length(points: &[HistogramPoint]) -> usize {
    let first = &points[0].histogram;
    let is_alike = |p: &&HistogramPoint| is_alike(first, &p.histogram);
    points.iter().take(HISTOGRAMS_MAX).take_while(is_alike).count().max(1)
}

fn is_alike(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    a.counter_reset_hint == b.counter_reset_hint
        && a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && bits(&a.custom_values) == bits(&b.custom_values)
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
}

fn columns(points: &[HistogramPoint]) -> FloatHistograms {
    let first = &points[0].histogram;
    let spans = |s: &[Span]| s.iter().map(|s| LayoutSpan { offset: s.offset, length: s.length }).collect();
    let of = |f: fn(&FloatHistogram) -> f64| points.iter().map(|p| f(&p.histogram)).collect();
    let has_starts = points.iter().any(|p| p.start != 0);
    FloatHistograms {
        layout: Layout {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            positive: spans(&first.positive_spans),
            negative: spans(&first.negative_spans),
            custom_bounds: first.custom_values.clone(),
        },
        reset: match first.counter_reset_hint {
            CounterResetHint::Unknown => ResetHeader::Unknown,
            CounterResetHint::Reset => ResetHeader::Reset,
            CounterResetHint::NotReset => ResetHeader::NotReset,
            CounterResetHint::Gauge => ResetHeader::Gauge,
        },
        times: points.iter().map(|p| p.time).collect(),
        starts: if has_starts { points.iter().map(|p| p.start).collect() } else { Vec::new() },
        counts: of(|h| h.count),
        zero_counts: of(|h| h.zero_count),
        sums: of(|h| h.sum),
        buckets: points
            .iter()
            .flat_map(|p| p.histogram.positive_buckets.iter().chain(&p.histogram.negative_buckets).copied())
            .collect(),
    }
}

fn points_of(h: &FloatHistograms, out: &mut Vec<HistogramPoint>) {
    let spans =
        |s: &[LayoutSpan]| s.iter().map(|s| Span { offset: s.offset, length: s.length }).collect::<Vec<_>>();
    let length = |s: &[LayoutSpan]| s.iter().map(|s| s.length as usize).sum::<usize>();
    let (positive, negative) = (length(&h.layout.positive), length(&h.layout.negative));
    let width = positive + negative;
    for i in 0..h.times.len() {
        let row = &h.buckets[i * width..(i + 1) * width];
        let histogram = FloatHistogram {
            counter_reset_hint: match h.reset {
                ResetHeader::Unknown => CounterResetHint::Unknown,
                ResetHeader::Reset => CounterResetHint::Reset,
                ResetHeader::NotReset => CounterResetHint::NotReset,
                ResetHeader::Gauge => CounterResetHint::Gauge,
            },
            schema: h.layout.schema,
            zero_threshold: h.layout.zero_threshold,
            zero_count: h.zero_counts[i],
            count: h.counts[i],
            sum: h.sums[i],
            positive_spans: spans(&h.layout.positive),
            negative_spans: spans(&h.layout.negative),
            positive_buckets: row[..positive].to_vec(),
            negative_buckets: row[positive..].to_vec(),
            custom_values: h.layout.custom_bounds.clone(),
        };
        let start = h.starts.get(i).copied().unwrap_or(0);
        out.push(HistogramPoint { time: h.times[i], start, histogram: Arc::new(histogram) });
    }
}

/// Appends a chunk's samples to `out`. `times` and `data` are the bytes from its places on.
pub fn decode(chunk: &Chunk, times: &[u8], data: &[u8], out: &mut Samples) -> Result<(), Malformed> {
    match chunk.kind {
        Kind::Histograms => match histogram::decode(data)? {
            AnyHistograms::Float(h) => points_of(&h, &mut out.histograms),
            AnyHistograms::Int(_) => return Err(Malformed::Corrupt("kind of histograms")),
        },
        Kind::PlainHistograms => decode_plain(chunk, data, &mut out.histograms)?,
        _ => decode_floats(chunk, times, data, out)?,
    }
    Ok(())
}

/// Reads one column of aggregates into its place.
pub fn decode_column(chunk: &Chunk, times: &[u8], data: &[u8], out: &mut Windows) -> Result<(), Malformed> {
    let mut column = Samples::default();
    if chunk.kind.is_float() {
        decode_floats(chunk, times, data, &mut column)?;
    }
    let Some(aggregate) = chunk.aggregate else { return Err(Malformed::Corrupt("aggregate of a chunk")) };
    if aggregate == Aggregate::Last {
        let [first, ..] = column.values.as_slice() else { return Err(Malformed::Corrupt("size of a chunk")) };
        (out.first_time, out.first) = (column.times[0], *first);
        out.lasts = column.values.split_off(1);
        out.times = column.times.split_off(1);
        return Ok(());
    }
    out.times = column.times;
    *(match aggregate {
        Aggregate::Count => &mut out.counts,
        Aggregate::Sum => &mut out.sums,
        Aggregate::Min => &mut out.mins,
        Aggregate::Max => &mut out.maxs,
        _ => &mut out.losts,
    }) = column.values;
    Ok(())
}

fn decode_plain(chunk: &Chunk, data: &[u8], out: &mut Vec<HistogramPoint>) -> Result<(), Malformed> {
    let mut r = Reader::new(data);
    for _ in 0..chunk.count {
        let (time, start) = (r.u64_le()? as i64, r.u64_le()? as i64);
        out.push(HistogramPoint { time, start, histogram: Arc::new(decode_histogram(&mut r)?) });
    }
    Ok(())
}

fn decode_floats(chunk: &Chunk, times: &[u8], data: &[u8], out: &mut Samples) -> Result<(), Malformed> {
    let (from, n) = (out.times.len(), chunk.count as usize);
    out.times.resize(from + n, 0);
    out.values.resize(from + n, f64::from_bits(chunk.bits));
    let result = decode_columns(chunk, times, data, from, out);
    if result.is_err() {
        out.times.truncate(from);
        out.values.truncate(from);
        out.starts.truncate(from);
    }
    result
}

fn decode_columns(
    chunk: &Chunk,
    times: &[u8],
    data: &[u8],
    from: usize,
    out: &mut Samples,
) -> Result<(), Malformed> {
    let n = chunk.count as usize;
    time_column::decode(times, n, &mut out.times[from..])?;
    let mut values = data;
    let mut starts = Vec::new();
    if chunk.kind == Kind::FloatsWithStarts {
        let mut r = Reader::new(data);
        let length = r.varint_usize()?;
        starts.resize(n, 0);
        time_column::decode(r.take(length)?, n, &mut starts)?;
        values = r.rest();
    }
    if !starts.is_empty() || !out.starts.is_empty() {
        out.starts.resize(from, 0);
        out.starts.extend_from_slice(&starts);
        out.starts.resize(from + n, 0);
    }
    if chunk.kind == Kind::Constant {
        return Ok(());
    }
    let reader = ChunkReader::parse(values)?;
    if reader.count != n {
        return Err(Malformed::Count { stored: reader.count, given: n });
    }
    reader.decode_values(&mut out.values[from..])
}
