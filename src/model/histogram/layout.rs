//! Spans: building them, comparing them, compacting them, reducing their resolution.

use super::bounds::target_index;
use super::iter::Indexed;
use super::{FloatHistogram, HistogramError, SCHEMA_CUSTOM, Span};
use crate::kahan;

/// Longest gap that compacting fills with empty buckets, whatever the caller allows: 64 Ki buckets are 512 KiB,
/// more than any sender's histogram has in all, while a gap as such can be as wide as an `i32`.
const GAP_MAX: usize = 1 << 16;

/// Spans under construction, bucket by bucket.
#[derive(Default)]
pub(super) struct SpanBuilder {
    pub(super) spans: Vec<Span>,
    end_idx: i64,
}

impl SpanBuilder {
    /// Takes the next bucket; indices ascend.
    #[inline]
    pub(super) fn push(&mut self, idx: i64) {
        match self.spans.last_mut() {
            Some(last) if idx == self.end_idx => last.length += 1,
            _ => self.spans.push(Span { offset: (idx - self.end_idx) as i32, length: 1 }),
        }
        self.end_idx = idx + 1;
    }
}

/// Whether two span lists say the same, however they cut it with spans of length zero.
pub(super) fn spans_match(a: &[Span], b: &[Span]) -> bool {
    if a == b {
        return true;
    }
    let solid = |spans: &[Span]| {
        let mut carried = 0i64;
        let mut solid = Vec::with_capacity(spans.len());
        for span in spans {
            carried += i64::from(span.offset);
            if span.length > 0 {
                solid.push((carried, span.length));
                carried = 0;
            }
        }
        solid
    };
    solid(a) == solid(b)
}

/// Drops empty buckets at the edges of spans, joins spans at most `max_empty` apart, splits where more buckets
/// than that are empty in a row. A bucket with a compensation is not empty.
pub(super) fn compact_side<T: Copy + PartialEq + Default>(
    spans: &mut Vec<Span>,
    counts: &mut Vec<T>,
    mut comp: Option<&mut Vec<f64>>,
    max_empty: usize,
) {
    let zero = T::default();
    let max_empty = max_empty.min(GAP_MAX) as i64;
    let tidy = spans.iter().all(|s| i64::from(s.offset) > max_empty && s.length > 0);
    if tidy && counts.iter().all(|&c| c != zero) {
        return;
    }
    let mut built = SpanBuilder::default();
    let mut kept = Vec::with_capacity(counts.len());
    let mut kept_comp = Vec::new();
    for (pos, (idx, count)) in Indexed::new(spans, counts).enumerate() {
        let c = comp.as_ref().and_then(|c| c.get(pos)).copied().unwrap_or(0.0);
        if count == zero && c == 0.0 {
            continue;
        }
        let gap = idx - built.end_idx;
        if !built.spans.is_empty() && gap > 0 && gap <= max_empty {
            for filler in built.end_idx..idx {
                built.push(filler);
                kept.push(zero);
                kept_comp.push(0.0);
            }
        }
        built.push(idx);
        kept.push(count);
        kept_comp.push(c);
    }
    *spans = built.spans;
    *counts = kept;
    if let Some(comp) = comp.as_mut() {
        **comp = kept_comp;
    }
}

/// Counts of one side in a coarser schema, and their compensations if there are any to keep.
pub(super) fn reduce_side(
    spans: &[Span],
    counts: &[f64],
    comp: Option<&[f64]>,
    from: i32,
    to: i32,
) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
    let mut built = SpanBuilder::default();
    let mut sums: Vec<f64> = Vec::with_capacity(counts.len());
    let mut comps: Vec<f64> = Vec::new();
    let mut last = None;
    for (pos, (idx, count)) in Indexed::new(spans, counts).enumerate() {
        let target = target_index(idx, from, to);
        if last == Some(target) {
            let end = sums.len() - 1;
            match comp {
                None => sums[end] += count,
                Some(c) => {
                    (sums[end], comps[end]) = kahan::inc(count, sums[end], comps[end]);
                    (sums[end], comps[end]) = kahan::inc(at(c, pos), sums[end], comps[end]);
                }
            }
            continue;
        }
        last = Some(target);
        built.push(target);
        sums.push(count);
        if let Some(c) = comp {
            comps.push(at(c, pos));
        }
    }
    (built.spans, sums, comps)
}

pub(super) fn at(values: &[f64], pos: usize) -> f64 {
    values.get(pos).copied().unwrap_or(0.0)
}

impl FloatHistogram {
    /// Drops empty buckets and joins spans that are at most `max_empty` buckets apart.
    pub fn compact(&mut self, max_empty: usize) {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, None, max_empty);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, None, max_empty);
    }

    /// This histogram in the given, coarser or equal, exponential schema; a coarser one forgets the reset hint.
    pub fn to_schema(&self, schema: i32) -> Result<FloatHistogram, HistogramError> {
        let mut copy = self.clone();
        if schema != self.schema {
            copy.reduce_resolution(schema)?;
            copy.counter_reset_hint = Default::default();
        }
        Ok(copy)
    }

    /// Reduces to a coarser exponential schema.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() || schema == SCHEMA_CUSTOM || schema >= self.schema {
            return Err(HistogramError::CannotReduce { from: self.schema, to: schema });
        }
        let (spans, counts, _) =
            reduce_side(&self.positive_spans, &self.positive_buckets, None, self.schema, schema);
        (self.positive_spans, self.positive_buckets) = (spans, counts);
        let (spans, counts, _) =
            reduce_side(&self.negative_spans, &self.negative_buckets, None, self.schema, schema);
        (self.negative_spans, self.negative_buckets) = (spans, counts);
        self.schema = schema;
        Ok(())
    }

    /// Equal as PromQL's `==` means it: same buckets with the same bits, reset hints aside. Empty buckets count,
    /// so both sides should be compacted.
    pub fn equals(&self, other: &FloatHistogram) -> bool {
        let bits = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
        };
        self.schema == other.schema
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
            && self.zero_threshold == other.zero_threshold
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && spans_match(&self.negative_spans, &other.negative_spans)
            && bits(&self.negative_buckets, &other.negative_buckets)
            && spans_match(&self.positive_spans, &other.positive_spans)
            && bits(&self.positive_buckets, &other.positive_buckets)
    }

    /// Whether any number in it is infinite.
    pub fn has_overflow(&self) -> bool {
        [self.zero_count, self.count, self.sum].iter().any(|v| v.is_infinite())
            || self.positive_buckets.iter().any(|v| v.is_infinite())
            || self.negative_buckets.iter().any(|v| v.is_infinite())
            || self.custom_values.iter().any(|v| v.is_infinite())
    }
}
