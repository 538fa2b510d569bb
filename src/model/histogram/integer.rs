//! Histograms with whole counts, as senders ship them.

use super::layout::{compact_side, spans_match};
use super::{FloatHistogram, Histogram, HistogramError, SCHEMA_CUSTOM};

impl Histogram {
    /// Whether the bounds are listed one by one.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == SCHEMA_CUSTOM
    }

    /// Whether this sample says "this series ended here".
    pub fn is_stale(&self) -> bool {
        crate::sample::is_stale(self.sum)
    }

    /// The same histogram with absolute float counts.
    pub fn to_float(&self) -> FloatHistogram {
        let custom = self.uses_custom_buckets();
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: if custom { 0.0 } else { self.zero_threshold },
            zero_count: if custom { 0.0 } else { self.zero_count as f64 },
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            positive_buckets: floats(&self.positive_deltas),
            negative_spans: if custom { Vec::new() } else { self.negative_spans.clone() },
            negative_buckets: if custom { Vec::new() } else { floats(&self.negative_deltas) },
            custom_values: if custom { self.custom_values.clone() } else { Vec::new() },
        }
    }

    /// Drops empty buckets and joins spans that are at most `max_empty` buckets apart.
    pub fn compact(&mut self, max_empty: usize) {
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_deltas),
            (&mut self.negative_spans, &mut self.negative_deltas),
        ] {
            let mut counts = absolute(deltas);
            compact_side(spans, &mut counts, None, max_empty);
            *deltas = to_deltas(&counts);
        }
    }

    /// Reduces to a coarser exponential schema.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() || schema == SCHEMA_CUSTOM || schema >= self.schema {
            return Err(HistogramError::CannotReduce { from: self.schema, to: schema });
        }
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_deltas),
            (&mut self.negative_spans, &mut self.negative_deltas),
        ] {
            let mut built = super::layout::SpanBuilder::default();
            let mut counts: Vec<i64> = Vec::with_capacity(deltas.len());
            let mut last = None;
            for (idx, count) in super::iter::Indexed::new(spans, &absolute(deltas)) {
                let target = super::bounds::target_index(idx, self.schema, schema);
                if last == Some(target)
                    && let Some(sum) = counts.last_mut()
                {
                    *sum = sum.wrapping_add(count);
                    continue;
                }
                last = Some(target);
                built.push(target);
                counts.push(count);
            }
            *spans = built.spans;
            *deltas = to_deltas(&counts);
        }
        self.schema = schema;
        Ok(())
    }

    /// Whether both are the same sample bit by bit, reset hints aside.
    pub fn equals(&self, other: &Histogram) -> bool {
        self.schema == other.schema
            && self.count == other.count
            && self.sum.to_bits() == other.sum.to_bits()
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
            && self.zero_threshold == other.zero_threshold
            && self.zero_count == other.zero_count
            && spans_match(&self.negative_spans, &other.negative_spans)
            && self.negative_deltas == other.negative_deltas
            && spans_match(&self.positive_spans, &other.positive_spans)
            && self.positive_deltas == other.positive_deltas
    }
}

fn floats(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0.0;
    deltas
        .iter()
        .map(|&d| {
            count += d as f64;
            count
        })
        .collect()
}

fn absolute(deltas: &[i64]) -> Vec<i64> {
    let mut count = 0i64;
    deltas
        .iter()
        .map(|&d| {
            count = count.wrapping_add(d);
            count
        })
        .collect()
}

fn to_deltas(counts: &[i64]) -> Vec<i64> {
    let mut previous = 0i64;
    counts.iter().map(|&c| c.wrapping_sub(std::mem::replace(&mut previous, c))).collect()
}
