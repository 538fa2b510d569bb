//! Walks over buckets: one side by index, all buckets by value, up and down, or merged to a coarser schema.

use super::bounds::{bound, exponential_bound, target_index};
use super::{Bucket, FloatHistogram, SCHEMA_CUSTOM, Span};
use crate::math::log2;

/// Which side of zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Positive,
    Negative,
}

/// (index, count) of each bucket of one side, away from zero. Ends with the shorter of spans and counts, so an
/// inconsistent histogram is walked as far as it makes sense.
#[derive(Clone)]
pub(super) struct Indexed<'a, T> {
    spans: std::slice::Iter<'a, Span>,
    counts: std::slice::Iter<'a, T>,
    left_in_span: u32,
    next_idx: i64,
}

impl<'a, T: Copy> Indexed<'a, T> {
    pub(super) fn new(spans: &'a [Span], counts: &'a [T]) -> Self {
        Indexed { spans: spans.iter(), counts: counts.iter(), left_in_span: 0, next_idx: 0 }
    }
}

impl<T: Copy> Iterator for Indexed<'_, T> {
    type Item = (i64, T);

    #[inline]
    fn next(&mut self) -> Option<(i64, T)> {
        while self.left_in_span == 0 {
            let span = self.spans.next()?;
            self.next_idx += i64::from(span.offset);
            self.left_in_span = span.length;
        }
        let count = *self.counts.next()?;
        let idx = self.next_idx;
        self.next_idx += 1;
        self.left_in_span -= 1;
        Some((idx, count))
    }
}

/// (index, count) of each bucket of one side, toward zero.
#[derive(Clone)]
pub(super) struct IndexedRev<'a> {
    spans: &'a [Span],
    counts: std::slice::Iter<'a, f64>,
    left_in_span: u32,
    /// Index behind the bucket to come.
    end_idx: i64,
}

impl<'a> IndexedRev<'a> {
    fn new(spans: &'a [Span], counts: &'a [f64]) -> Self {
        let end_idx = spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
        let left_in_span = spans.last().map_or(0, |s| s.length);
        IndexedRev { spans, counts: counts.iter(), left_in_span, end_idx }
    }
}

impl Iterator for IndexedRev<'_> {
    type Item = (i64, f64);

    fn next(&mut self) -> Option<(i64, f64)> {
        while self.left_in_span == 0 {
            let (gone, rest) = self.spans.split_last()?;
            self.end_idx -= i64::from(gone.offset);
            self.spans = rest;
            self.left_in_span = rest.last()?.length;
        }
        let count = *self.counts.next_back()?;
        self.end_idx -= 1;
        self.left_in_span -= 1;
        Some((self.end_idx, count))
    }
}

/// Buckets of one side merged to a coarser schema, without those that end at or below `start` at the walk's
/// beginning (exponential schemas only).
pub(super) struct Reduced<'a> {
    inner: std::iter::Peekable<Indexed<'a, f64>>,
    from: i32,
    to: i32,
    start: f64,
    started: bool,
}

impl<'a> Reduced<'a> {
    pub(super) fn new(h: &'a FloatHistogram, side: Side, start: f64, to: i32) -> Self {
        let inner = h.indexed(side).peekable();
        let started = start == 0.0 || to == SCHEMA_CUSTOM;
        Reduced { inner, from: h.schema, to, start, started }
    }
}

impl Iterator for Reduced<'_> {
    type Item = (i64, f64);

    fn next(&mut self) -> Option<(i64, f64)> {
        loop {
            let (idx, mut count) = self.inner.next()?;
            if self.from == self.to {
                if self.admits(idx) {
                    return Some((idx, count));
                }
                continue;
            }
            let target = target_index(idx, self.from, self.to);
            // A merged count begins at zero, so that -0 becomes 0 as it does in a sum.
            count += 0.0;
            while let Some(&(idx, more)) = self.inner.peek()
                && target_index(idx, self.from, self.to) == target
            {
                count += more;
                self.inner.next();
            }
            if self.admits(target) {
                return Some((target, count));
            }
        }
    }
}

impl Reduced<'_> {
    fn admits(&mut self, idx: i64) -> bool {
        self.started = self.started || exponential_bound(idx, self.to) > self.start;
        self.started
    }
}

impl FloatHistogram {
    pub(super) fn indexed(&self, side: Side) -> Indexed<'_, f64> {
        match side {
            Side::Positive => Indexed::new(&self.positive_spans, &self.positive_buckets),
            Side::Negative => Indexed::new(&self.negative_spans, &self.negative_buckets),
        }
    }

    pub(super) fn bucket(&self, side: Side, idx: i64, count: f64) -> Bucket {
        let outer = bound(idx, self.schema, &self.custom_values);
        let inner = bound(idx - 1, self.schema, &self.custom_values);
        let (lower, upper) = match side {
            Side::Positive => (inner, outer),
            Side::Negative => (-outer, -inner),
        };
        let (lower_inclusive, upper_inclusive) =
            if self.uses_custom_buckets() { (idx == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index: idx as i32 }
    }

    /// Positive buckets, away from zero.
    pub fn positive(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.indexed(Side::Positive).map(|(idx, count)| self.bucket(Side::Positive, idx, count))
    }

    /// Negative buckets, away from zero (downward).
    pub fn negative(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.indexed(Side::Negative).map(|(idx, count)| self.bucket(Side::Negative, idx, count))
    }

    /// Positive buckets, toward zero.
    pub fn positive_rev(&self) -> impl Iterator<Item = Bucket> + '_ {
        IndexedRev::new(&self.positive_spans, &self.positive_buckets)
            .map(|(idx, count)| self.bucket(Side::Positive, idx, count))
    }

    /// Negative buckets, toward zero (upward).
    pub fn negative_rev(&self) -> impl Iterator<Item = Bucket> + '_ {
        IndexedRev::new(&self.negative_spans, &self.negative_buckets)
            .map(|(idx, count)| self.bucket(Side::Negative, idx, count))
    }

    /// The bucket around zero.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets from the lowest to the highest, the zero bucket only if populated. Neighbors that reach into
    /// the zero bucket are cut at its threshold.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        self.negative_rev()
            .map(|b| self.outside_zero(b))
            .chain(zero)
            .chain(self.positive().map(|b| self.outside_zero(b)))
    }

    /// [`Self::buckets`] from the highest to the lowest.
    pub fn buckets_rev(&self) -> impl Iterator<Item = Bucket> + '_ {
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        self.positive_rev()
            .map(|b| self.outside_zero(b))
            .chain(zero)
            .chain(self.negative().map(|b| self.outside_zero(b)))
    }

    fn outside_zero(&self, mut b: Bucket) -> Bucket {
        if b.upper < 0.0 && b.upper > -self.zero_threshold {
            b.upper = -self.zero_threshold;
        } else if b.lower > 0.0 && b.lower < self.zero_threshold {
            b.lower = self.zero_threshold;
        }
        b
    }
}

impl Bucket {
    /// Share of the bucket's width at or below `v`, which lies inside its finite bounds: linear, or on a
    /// logarithmic scale (mirrored below zero).
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let lower = log2(self.lower.abs());
        let upper = log2(self.upper.abs());
        let at = log2(v.abs());
        if v > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - ((at - upper) / (lower - upper)) }
    }
}
