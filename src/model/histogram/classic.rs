//! Classic histograms (`_bucket`, `_count`, `_sum`) turned into native ones with custom buckets.

use super::{FloatHistogram, Histogram, HistogramError, SCHEMA_CUSTOM, Span};
use crate::float_text::format_g;

/// One sample of a classic histogram while its parts arrive, in any order.
///
/// The first part that does not fit makes every later step fail with the same error.
#[derive(Clone, Debug, Default)]
pub struct ClassicHistogram {
    /// (upper bound, cumulative count), ascending.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    error: Option<HistogramError>,
}

/// What a classic histogram becomes: whole counts if all of them are whole.
#[derive(Clone, Debug)]
pub enum Converted {
    Integer(Histogram),
    Float(FloatHistogram),
}

impl Converted {
    /// The histogram with float counts, valid or not.
    pub fn into_float(self) -> FloatHistogram {
        match self {
            Converted::Integer(h) => h.to_float(),
            Converted::Float(h) => h,
        }
    }
}

impl ClassicHistogram {
    /// Takes a `_bucket` sample; a second one of the same bound is ignored.
    pub fn set_bucket(&mut self, bound: f64, count: f64) -> Result<(), HistogramError> {
        self.settle()?;
        if bound.is_nan() {
            return self.fail("bucket boundary must not be NaN".into());
        }
        if count < 0.0 {
            let (le, count) = (format_g(bound), format_g(count));
            return self.fail(format!("bucket count must be non-negative: le={le}, count={count}"));
        }
        let i = self.buckets.partition_point(|b| b.0 < bound);
        if self.buckets.get(i).is_some_and(|b| b.0 == bound) {
            return Ok(());
        }
        let not_cumulative = |sign: char, other: f64| {
            format!("count is not cumulative: {} {sign} {}", format_g(count), format_g(other))
        };
        if i > 0 && count < self.buckets[i - 1].1 {
            let text = not_cumulative('<', self.buckets[i - 1].1);
            return self.fail(text);
        }
        if i < self.buckets.len() && count > self.buckets[i].1 {
            let text = not_cumulative('>', self.buckets[i].1);
            return self.fail(text);
        }
        self.buckets.insert(i, (bound, count));
        Ok(())
    }

    /// Takes the `_count` sample.
    pub fn set_count(&mut self, count: f64) -> Result<(), HistogramError> {
        self.settle()?;
        if count < 0.0 {
            return self.fail(format!("count must be non-negative: count={}", format_g(count)));
        }
        self.count = Some(count);
        Ok(())
    }

    /// Takes the `_sum` sample.
    pub fn set_sum(&mut self, sum: f64) -> Result<(), HistogramError> {
        self.settle()?;
        self.sum = sum;
        Ok(())
    }

    /// The native histogram. Without a count, the highest bucket's is taken; without an infinite bucket, one is
    /// added that holds the count.
    pub fn convert(&self) -> Result<Converted, HistogramError> {
        self.settle()?;
        let highest = self.buckets.last();
        let count = self.count.or(highest.map(|b| b.1)).unwrap_or(0.0);
        let mut buckets = self.buckets.clone();
        if highest.is_none_or(|b| b.0 != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        // A float that a 64-bit integer holds; the comparison is false for what is not a number.
        let whole = |v: f64| v == (v.round() as i64) as f64;
        let integer = whole(count) && buckets.iter().all(|b| whole(b.1));
        let total = buckets[buckets.len() - 1].1;
        if count != total {
            let text = if integer { count.to_string() } else { format_g(count) };
            return Err(HistogramError::Invalid(format!(
                "count mismatch: count={text} != le=+Inf count={}",
                format_g(total)
            )));
        }
        let bounds: Vec<f64> = buckets.iter().map(|b| b.0).filter(|&b| b != f64::INFINITY).collect();
        let spans = vec![Span { offset: 0, length: buckets.len() as u32 }];
        Ok(if integer {
            Converted::Integer(self.to_integer(&buckets, spans, bounds, count))
        } else {
            Converted::Float(self.to_float(&buckets, spans, bounds, count))
        })
    }

    fn to_integer(
        &self,
        buckets: &[(f64, f64)],
        spans: Vec<Span>,
        bounds: Vec<f64>,
        count: f64,
    ) -> Histogram {
        let (mut previous, mut previous_delta) = (0i64, 0i64);
        let deltas = buckets.iter().map(|b| {
            let own = (b.1 as i64).wrapping_sub(std::mem::replace(&mut previous, b.1 as i64));
            own.wrapping_sub(std::mem::replace(&mut previous_delta, own))
        });
        let mut h = Histogram {
            schema: SCHEMA_CUSTOM,
            count: count as u64,
            sum: self.sum,
            positive_spans: spans,
            positive_deltas: deltas.collect(),
            custom_values: bounds,
            ..Histogram::default()
        };
        h.compact(2);
        h
    }

    fn to_float(
        &self,
        buckets: &[(f64, f64)],
        spans: Vec<Span>,
        bounds: Vec<f64>,
        count: f64,
    ) -> FloatHistogram {
        let mut previous = 0.0;
        let counts = buckets.iter().map(|b| b.1 - std::mem::replace(&mut previous, b.1));
        let mut h = FloatHistogram {
            schema: SCHEMA_CUSTOM,
            count,
            sum: self.sum,
            positive_spans: spans,
            positive_buckets: counts.collect(),
            custom_values: bounds,
            ..FloatHistogram::default()
        };
        h.compact(0);
        h
    }

    fn settle(&self) -> Result<(), HistogramError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, text: String) -> Result<(), HistogramError> {
        let error = HistogramError::Invalid(text);
        self.error = Some(error.clone());
        Err(error)
    }
}

/// Which series of a classic histogram a metric name names, and the histogram's own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassicPart<'a> {
    Bucket(&'a str),
    Sum(&'a str),
    Count(&'a str),
}

/// The part that `name` names, if it has one of the three suffixes.
pub fn classic_part(name: &str) -> Option<ClassicPart<'_>> {
    let strip = |suffix| name.strip_suffix(suffix);
    strip("_bucket")
        .map(ClassicPart::Bucket)
        .or_else(|| strip("_sum").map(ClassicPart::Sum))
        .or_else(|| strip("_count").map(ClassicPart::Count))
}
