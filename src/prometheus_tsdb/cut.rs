//! Samples to chunks, cut where Prometheus's head cuts them.
//!
//! Floats: about 120 samples, spread evenly over what is left of the block range. Histograms: whenever the layout
//! changes or a counter was reset, so that a chunk needs no second encoding.

use codec::histogram::{self as columns, FloatHistograms, IntHistograms, Layout, ResetHeader};
use codec::prom_histogram::{self, Form};
use codec::{xor, xor2};
use model::{CounterResetHint, FloatHistogram, Span, Timestamp};

use crate::Error;
use crate::chunk::Encoding;
use crate::sample::{Sample, Value};

/// Samples that a chunk is meant to hold.
const SAMPLES_WANTED: usize = 120;

/// A chunk that is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutChunk {
    pub min_time: Timestamp,
    pub max_time: Timestamp,
    pub sample_count: u32,
    pub encoding: Encoding,
    pub data: Vec<u8>,
}

/// Cuts the samples of one series, which come in order of time.
#[derive(Clone, Debug)]
pub struct Cutter {
    range_ms: i64,
    open: Vec<Sample>,
    /// At or behind this time a new chunk begins.
    next_at: Timestamp,
}

impl Cutter {
    /// No chunk reaches over a multiple of `range_ms`.
    pub fn new(range_ms: i64) -> Cutter {
        Cutter { range_ms: range_ms.max(1), open: Vec::new(), next_at: Timestamp::MIN }
    }

    /// The samples that are in no chunk yet.
    pub fn open(&self) -> &[Sample] {
        &self.open
    }

    /// Takes a sample; gives the chunk that ends ahead of it, if one does.
    pub fn push(&mut self, sample: Sample) -> Result<Option<CutChunk>, Error> {
        let count = self.open.len();
        if count == SAMPLES_WANTED / 4
            && let (Some(first), Some(last)) = (self.open.first(), self.open.last())
        {
            self.next_at = even_end(first.time, last.time, self.next_at);
        }
        let ends = count > 0
            && (sample.time >= self.next_at || count >= 2 * SAMPLES_WANTED || self.must_end_before(&sample));
        let done = if ends { self.finish()? } else { None };
        if self.open.is_empty() {
            let behind = sample.time.div_euclid(self.range_ms).saturating_add(1);
            self.next_at = behind.saturating_mul(self.range_ms);
        }
        self.open.push(sample);
        Ok(done)
    }

    /// The last chunk.
    pub fn finish(&mut self) -> Result<Option<CutChunk>, Error> {
        let samples = std::mem::take(&mut self.open);
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(None) };
        let mut data = Vec::new();
        let encoding = encode(&samples, &mut data)
            .map_err(|e| Error::Unwritable(format!("samples from {} on {e}", first.time)))?;
        Ok(Some(CutChunk {
            min_time: first.time,
            max_time: last.time,
            sample_count: samples.len() as u32,
            encoding,
            data,
        }))
    }

    fn must_end_before(&self, sample: &Sample) -> bool {
        let Some(last) = self.open.last() else { return false };
        if sample.time <= last.time {
            return true;
        }
        match (&last.value, &sample.value) {
            (Value::Float(_), Value::Float(_)) => false,
            (Value::Histogram(before), Value::Histogram(now)) => {
                self.open.len() >= SAMPLES_WANTED
                    || histogram_ends(last.is_stale(), sample.is_stale(), || {
                        let (before, now) = (before.to_float(), now.to_float());
                        differs(&before, &now)
                    })
            }
            (Value::FloatHistogram(before), Value::FloatHistogram(now)) => {
                self.open.len() >= SAMPLES_WANTED
                    || histogram_ends(last.is_stale(), sample.is_stale(), || differs(before, now))
            }
            _ => true,
        }
    }
}

/// Behind a stale histogram there are only stale ones.
fn histogram_ends(was_stale: bool, is_stale: bool, differs: impl FnOnce() -> bool) -> bool {
    match (was_stale, is_stale) {
        (_, true) => false,
        (true, false) => true,
        (false, false) => differs(),
    }
}

/// Whether `now` cannot follow `before` in one chunk.
fn differs(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    is_gauge(before) != is_gauge(now)
        || layout_of(before) != layout_of(now)
        || (!is_gauge(now) && now.detect_reset(before))
}

fn layout_of(h: &FloatHistogram) -> Layout {
    Layout {
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        positive: spans(&h.positive_spans),
        negative: spans(&h.negative_spans),
        custom_bounds: h.custom_values.clone(),
    }
}

fn spans(spans: &[Span]) -> Vec<columns::Span> {
    spans.iter().map(|s| columns::Span { offset: s.offset, length: s.length }).collect()
}

/// Where a chunk that is a quarter full should end so that the chunks up to `max` have about one size.
fn even_end(start: Timestamp, now: Timestamp, max: Timestamp) -> Timestamp {
    let left = max.saturating_sub(start) as f64;
    let count = left / (now.saturating_sub(start).saturating_add(1) as f64 * 4.0);
    if count <= 1.0 { max } else { (start as f64 + left / count.floor()) as i64 }
}

/// Encodes samples of one kind and, where they are histograms, of one layout.
fn encode(samples: &[Sample], out: &mut Vec<u8>) -> Result<Encoding, codec::Error> {
    let times: Vec<i64> = samples.iter().map(|s| s.time).collect();
    let has_starts = samples.iter().any(|s| s.start != 0);
    let starts: Vec<i64> = if has_starts { samples.iter().map(|s| s.start).collect() } else { Vec::new() };
    let form = if has_starts { Form::Starts } else { Form::Plain };
    match &samples[0].value {
        Value::Float(_) => {
            let value = |s: &Sample| if let Value::Float(v) = s.value { v } else { f64::NAN };
            let values: Vec<f64> = samples.iter().map(value).collect();
            if has_starts {
                xor2::encode(&times, &values, &starts, out)?;
                return Ok(Encoding::Xor2);
            }
            xor::encode(&times, &values, out)?;
            Ok(Encoding::Xor)
        }
        Value::Histogram(first) => {
            let mut h = IntHistograms { times, starts, ..IntHistograms::default() };
            h.layout = layout_of(&first.to_float_layout());
            h.reset = header_of(first.counter_reset_hint);
            push_ints(samples, &mut h)?;
            prom_histogram::encode_int(&h, form, out)?;
            Ok(if has_starts { Encoding::HistogramStart } else { Encoding::Histogram })
        }
        Value::FloatHistogram(first) => {
            let mut h = FloatHistograms { times, starts, ..FloatHistograms::default() };
            h.layout = layout_of(first);
            h.reset = header_of(first.counter_reset_hint);
            push_floats(samples, &mut h)?;
            prom_histogram::encode_float(&h, form, out)?;
            Ok(if has_starts { Encoding::FloatHistogramStart } else { Encoding::FloatHistogram })
        }
    }
}

/// What is not said to be a reset is left to be found out by the reader.
fn header_of(hint: CounterResetHint) -> ResetHeader {
    match hint {
        CounterResetHint::Reset => ResetHeader::Reset,
        CounterResetHint::Gauge => ResetHeader::Gauge,
        CounterResetHint::NotReset | CounterResetHint::Unknown => ResetHeader::Unknown,
    }
}

/// The spans of the layout, without its buckets.
trait LayoutOnly {
    fn to_float_layout(&self) -> FloatHistogram;
}

impl LayoutOnly for model::Histogram {
    fn to_float_layout(&self) -> FloatHistogram {
        FloatHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            custom_values: self.custom_values.clone(),
            ..FloatHistogram::default()
        }
    }
}

fn push_ints(samples: &[Sample], out: &mut IntHistograms) -> Result<(), codec::Error> {
    let width = out.layout.bucket_count()?;
    for sample in samples {
        let Value::Histogram(h) = &sample.value else { continue };
        let is_stale = h.is_stale();
        out.counts.push(if is_stale { 0 } else { h.count });
        out.zero_counts.push(if is_stale { 0 } else { h.zero_count });
        out.sums.push(h.sum);
        let from = out.buckets.len();
        if !is_stale {
            out.buckets.extend(h.positive_deltas.iter().chain(&h.negative_deltas));
        }
        check_width(out.buckets.len() - from, width, is_stale)?;
        out.buckets.resize(from + width, 0);
    }
    Ok(())
}

fn push_floats(samples: &[Sample], out: &mut FloatHistograms) -> Result<(), codec::Error> {
    let width = out.layout.bucket_count()?;
    for sample in samples {
        let Value::FloatHistogram(h) = &sample.value else { continue };
        let is_stale = h.is_stale();
        out.counts.push(if is_stale { 0.0 } else { h.count });
        out.zero_counts.push(if is_stale { 0.0 } else { h.zero_count });
        out.sums.push(h.sum);
        let from = out.buckets.len();
        if !is_stale {
            out.buckets.extend(h.positive_buckets.iter().chain(&h.negative_buckets));
        }
        check_width(out.buckets.len() - from, width, is_stale)?;
        out.buckets.resize(from + width, 0.0);
    }
    Ok(())
}

fn check_width(have: usize, width: usize, is_stale: bool) -> Result<(), codec::Error> {
    if have == width || is_stale {
        Ok(())
    } else {
        Err(codec::Error::Unencodable("spans and buckets differ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunk;
    use model::{Histogram, STALE_NAN};
    use proptest::prelude::*;

    fn cut(samples: &[Sample]) -> Vec<CutChunk> {
        let mut cutter = Cutter::new(7_200_000);
        let mut chunks: Vec<CutChunk> =
            samples.iter().filter_map(|s| cutter.push(s.clone()).unwrap()).collect();
        chunks.extend(cutter.finish().unwrap());
        chunks
    }

    fn decoded(chunks: &[CutChunk]) -> Vec<Sample> {
        let mut out = Vec::new();
        for c in chunks {
            let chunk = Chunk { encoding: c.encoding, data: &c.data, at: 0 };
            assert_eq!(chunk.sample_count(), Ok(c.sample_count as usize));
            chunk.decode(&mut out).unwrap();
        }
        out
    }

    fn same(a: &Sample, b: &Sample) -> bool {
        let values = match (&a.value, &b.value) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            _ if a.is_stale() => b.is_stale(),
            (Value::Histogram(a), Value::Histogram(b)) => a.equals(b),
            (Value::FloatHistogram(a), Value::FloatHistogram(b)) => a.equals(b),
            _ => false,
        };
        values && a.time == b.time && a.start == b.start
    }

    #[test]
    fn floats_are_cut_as_the_head_cuts_them() {
        let samples: Vec<Sample> = (0..480).map(|i| Sample::float(i * 15_000, i as f64)).collect();
        let counts: Vec<u32> = cut(&samples).iter().map(|c| c.sample_count).collect();
        assert_eq!(counts, [120, 120, 120, 120]);
        let sparse: Vec<Sample> = (0..40).map(|i| Sample::float(i * 600_000, 1.0)).collect();
        assert_eq!(cut(&sparse).iter().map(|c| c.sample_count).collect::<Vec<_>>(), [12, 12, 12, 4]);
    }

    fn histogram(seed: u64, count: u64) -> Histogram {
        Histogram {
            schema: (seed % 3) as i32,
            count: count * 4,
            sum: count as f64 * 1.5,
            zero_threshold: 1e-128,
            zero_count: count,
            positive_spans: vec![Span { offset: seed as i32 % 2, length: 2 }],
            positive_deltas: vec![count as i64, 0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_deltas: vec![count as i64],
            ..Histogram::default()
        }
    }

    #[test]
    fn resets_layouts_kinds_and_stale_markers_part_chunks() {
        let whole = |time: i64, h: Histogram| Sample { time, start: 0, value: Value::Histogram(Box::new(h)) };
        let stale = Histogram { sum: STALE_NAN, ..Histogram::default() };
        let samples = [
            whole(1, histogram(0, 1)),
            whole(2, histogram(0, 5)),
            whole(3, histogram(0, 2)),
            whole(4, histogram(1, 3)),
            whole(5, stale.clone()),
            whole(6, stale),
            whole(7, histogram(1, 3)),
            Sample::float(8, 1.0),
            Sample { time: 9, start: 4, value: Value::FloatHistogram(Box::new(histogram(1, 9).to_float())) },
        ];
        let chunks = cut(&samples);
        let times: Vec<i64> = chunks.iter().map(|c| c.min_time).collect();
        assert_eq!(times, [1, 3, 4, 7, 8, 9]);
        assert!(decoded(&chunks).iter().zip(&samples).all(|(a, b)| same(a, b)));
    }

    proptest! {
        #[test]
        fn any_series_comes_back(raw in proptest::collection::vec((1i64..20_000_000, 0u8..8, any::<u64>(), 0i64..3), 1..400)) {
            let mut time = -5_000_000;
            let samples: Vec<Sample> = raw.iter().map(|(step, kind, bits, start)| {
                time += step;
                let value = match kind {
                    0 => Value::Histogram(Box::new(histogram(bits % 4, bits % 100))),
                    1 => Value::FloatHistogram(Box::new(histogram(bits % 4, bits % 100).to_float())),
                    _ => Value::Float(f64::from_bits(*bits)),
                };
                Sample { time, start: *start, value }
            }).collect();
            let back = decoded(&cut(&samples));
            prop_assert_eq!(back.len(), samples.len());
            prop_assert!(back.iter().zip(&samples).all(|(a, b)| same(a, b)));
        }
    }
}
