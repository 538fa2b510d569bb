//! Dense buckets as spans and deltas of a native histogram.

use exposition::otlp::{ExponentialPoint, HistogramPoint};
use model::histogram::{SCHEMA_CUSTOM, SCHEMA_MAX, SCHEMA_MIN};
use model::{CounterResetHint, Histogram, STALE_NAN, Span};

/// The width of the zero bucket: points may say one, Prometheus does not listen.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Gaps up to this many buckets are filled with empty ones.
const GAP_MAX: i32 = 2;

/// An exponential histogram; finer scales than are kept are merged down.
pub(super) fn of_exponential(p: &ExponentialPoint<'_>, is_delta: bool) -> Result<Histogram, String> {
    if p.scale < SCHEMA_MIN {
        let scale = p.scale;
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {SCHEMA_MIN}, was {scale}"
        ));
    }
    let down = p.scale.saturating_sub(SCHEMA_MAX).clamp(0, 31);
    let (positive_spans, positive_deltas) = sparse(&p.positive.counts, p.positive.offset, down, true);
    let (negative_spans, negative_deltas) = sparse(&p.negative.counts, p.negative.offset, down, true);
    Ok(Histogram {
        counter_reset_hint: hint(is_delta),
        schema: p.scale.min(SCHEMA_MAX),
        zero_threshold: ZERO_THRESHOLD,
        zero_count: p.zero_count,
        count: if p.common.has_no_value() { STALE_NAN.to_bits() } else { p.count },
        sum: if p.common.has_no_value() { STALE_NAN } else { p.sum.unwrap_or(0.0) },
        positive_spans,
        positive_deltas,
        negative_spans,
        negative_deltas,
        custom_values: Vec::new(),
    })
}

/// A histogram with listed bounds.
pub(super) fn of_explicit(p: &HistogramPoint<'_>, is_delta: bool) -> Histogram {
    let empty = p.bucket_counts.iter().take_while(|c| **c == 0).count();
    let (positive_spans, positive_deltas) = sparse(&p.bucket_counts[empty..], empty as i32, 0, false);
    Histogram {
        counter_reset_hint: hint(is_delta),
        schema: SCHEMA_CUSTOM,
        count: if p.common.has_no_value() { STALE_NAN.to_bits() } else { p.count },
        sum: if p.common.has_no_value() { STALE_NAN } else { p.sum.unwrap_or(0.0) },
        positive_spans,
        positive_deltas,
        custom_values: p.bounds.clone(),
        ..Histogram::default()
    }
}

/// Whether a counter was reset cannot be known here; sums since the last point are no counter.
fn hint(is_delta: bool) -> CounterResetHint {
    if is_delta { CounterResetHint::Gauge } else { CounterResetHint::Unknown }
}

#[derive(Default)]
struct Sparse {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    last: i64,
}

impl Sparse {
    fn push(&mut self, count: i64) {
        if let Some(span) = self.spans.last_mut() {
            span.length += 1;
        }
        self.deltas.push(count.wrapping_sub(self.last));
        self.last = count;
    }

    /// Comes to a bucket that lies `gap` behind the last one.
    fn leap(&mut self, gap: i32) {
        if gap > GAP_MAX {
            self.spans.push(Span { offset: gap, length: 0 });
        } else {
            (0..gap).for_each(|_| self.push(0));
        }
    }
}

/// Counts of buckets from `offset` on, `2^down` of them merged to one. Exponential bucket 0 is the first one above 1
/// with the sender and the first one up to 1 here, hence `is_shifted`. Indices wrap as the sender's integers do.
fn sparse(counts: &[u64], offset: i32, down: i32, is_shifted: bool) -> (Vec<Span>, Vec<i64>) {
    if counts.is_empty() {
        return Default::default();
    }
    let index = |i: usize| (offset.wrapping_add(i as i32) >> down).wrapping_add(1);
    let first = if is_shifted { index(0) } else { offset };
    let mut out = Sparse { spans: vec![Span { offset: first, length: 0 }], ..Sparse::default() };
    let (mut bucket, mut count) = (index(0), 0i64);
    for (i, c) in counts.iter().enumerate() {
        let next = index(i);
        if next == bucket {
            count = count.wrapping_add(*c as i64);
            continue;
        }
        if count == 0 {
            count = *c as i64;
            continue;
        }
        out.leap(next.wrapping_sub(bucket).wrapping_sub(1));
        out.push(count);
        (count, bucket) = (*c as i64, next);
    }
    out.leap(index(counts.len() - 1).wrapping_sub(bucket));
    out.push(count);
    (out.spans, out.deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_buckets_become_spans() {
        let check = |counts: &[u64], offset, down, spans: &[(i32, u32)], deltas: &[i64]| {
            let got = sparse(counts, offset, down, true);
            let got_spans: Vec<(i32, u32)> = got.0.iter().map(|s| (s.offset, s.length)).collect();
            assert_eq!((got_spans.as_slice(), got.1.as_slice()), (spans, deltas), "{counts:?}");
        };
        check(&[], 3, 0, &[], &[]);
        check(&[1, 2, 4], 3, 0, &[(4, 3)], &[1, 1, 2]);
        check(&[1, 0, 0, 4], -1, 0, &[(0, 4)], &[1, -1, 0, 4]);
        check(&[1, 0, 0, 0, 4], 0, 0, &[(1, 1), (3, 1)], &[1, 3]);
        check(&[1, 2, 3, 4], 0, 1, &[(1, 2)], &[3, 4]);
        check(&[1, 1, 1], i32::MAX, 31, &[(1, 2)], &[1, 1]);
    }
}
