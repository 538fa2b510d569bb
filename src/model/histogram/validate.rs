//! Which histograms are accepted, and the words for those that are not.

use super::HistogramError::Invalid;
use super::{
    FloatHistogram, Histogram, HistogramError, SCHEMA_CUSTOM, SCHEMA_MAX, SCHEMA_MIN, SCHEMA_RESERVED_MAX,
    SCHEMA_RESERVED_MIN, Span,
};
use crate::float_text::format_g;

/// Whether a schema is accepted, if only to be reduced to [`SCHEMA_MAX`].
pub fn is_known_schema(schema: i32) -> bool {
    schema == SCHEMA_CUSTOM || (SCHEMA_RESERVED_MIN..=SCHEMA_RESERVED_MAX).contains(&schema)
}

/// Whether a schema is kept as it is.
pub fn is_valid_schema(schema: i32) -> bool {
    schema == SCHEMA_CUSTOM || (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema)
}

impl FloatHistogram {
    /// Whether spans, counts and bounds are consistent. The count is not compared with the buckets' sum, for
    /// rounding may have parted them.
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_layout(&Layout {
            schema: self.schema,
            positive: (&self.positive_spans, self.positive_buckets.len()),
            negative: (&self.negative_spans, self.negative_buckets.len()),
            custom: &self.custom_values,
            zero_count: self.zero_count != 0.0,
            zero_threshold: self.zero_threshold,
        })?;
        if self.schema != SCHEMA_CUSTOM {
            check_counts("negative side: ", self.negative_buckets.iter().copied())?;
            if self.zero_count < 0.0 {
                return Err(Invalid(format!(
                    "zero bucket has observation count of {}: {NEGATIVE_BUCKET}",
                    format_g(self.zero_count)
                )));
            }
        }
        if self.count < 0.0 {
            let count = format_g(self.count);
            return Err(Invalid(format!("observation count is  {count}: {NEGATIVE_COUNT}")));
        }
        check_counts("positive side: ", self.positive_buckets.iter().copied())
    }
}

impl Histogram {
    /// Whether spans, counts and bounds are consistent, and the buckets' counts add up to the count (or to less,
    /// where values were observed that are not numbers).
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_layout(&Layout {
            schema: self.schema,
            positive: (&self.positive_spans, self.positive_deltas.len()),
            negative: (&self.negative_spans, self.negative_deltas.len()),
            custom: &self.custom_values,
            zero_count: self.zero_count != 0,
            zero_threshold: self.zero_threshold,
        })?;
        let negative = sum_deltas("negative side: ", &self.negative_deltas)?;
        let positive = sum_deltas("positive side: ", &self.positive_deltas)?;
        let found = negative.wrapping_add(positive).wrapping_add(self.zero_count);
        let text = if self.sum.is_nan() {
            if found <= self.count {
                return Ok(());
            }
            "histogram's observation count should be at least the number of observations found in the buckets"
        } else {
            if found == self.count {
                return Ok(());
            }
            "histogram's observation count should equal the number of observations found in the buckets \
             (in absence of NaN)"
        };
        let count = self.count;
        Err(Invalid(format!("{found} observations found in buckets, but the Count field is {count}: {text}")))
    }
}

const NEGATIVE_BUCKET: &str = "histogram has a bucket whose observation count is negative";
const NEGATIVE_COUNT: &str = "histogram's observation count is negative";
const SPANS_MISMATCH: &str = "histogram spans specify different number of buckets than provided";
const NEGATIVE_OFFSET: &str = "histogram has a span whose offset is negative";

struct Layout<'a> {
    schema: i32,
    positive: (&'a [Span], usize),
    negative: (&'a [Span], usize),
    custom: &'a [f64],
    zero_count: bool,
    zero_threshold: f64,
}

fn check_layout(layout: &Layout<'_>) -> Result<(), HistogramError> {
    let refuse = |text: &str| Err(Invalid(text.to_owned()));
    if layout.schema == SCHEMA_CUSTOM {
        check_custom(layout.custom, layout.positive.0, layout.positive.1)?;
        return match layout {
            l if l.zero_count => refuse("custom buckets: must have zero count of 0"),
            l if l.zero_threshold != 0.0 => refuse("custom buckets: must have zero threshold of 0"),
            l if !l.negative.0.is_empty() => refuse("custom buckets: must not have negative spans"),
            l if l.negative.1 > 0 => refuse("custom buckets: must not have negative buckets"),
            _ => Ok(()),
        };
    }
    if !is_valid_schema(layout.schema) {
        return Err(Invalid(format!(
            "histogram has an invalid schema, which must be between {SCHEMA_MIN} and {SCHEMA_MAX} for \
             exponential buckets, or {SCHEMA_CUSTOM} for custom buckets, got schema {}",
            layout.schema
        )));
    }
    check_spans("positive side: ", layout.positive.0, layout.positive.1)?;
    check_spans("negative side: ", layout.negative.0, layout.negative.1)?;
    if !layout.custom.is_empty() {
        return refuse("histogram with exponential schema must not have custom bounds");
    }
    Ok(())
}

fn check_spans(prefix: &str, spans: &[Span], count: usize) -> Result<(), HistogramError> {
    let mut needed = 0u64;
    for (n, span) in spans.iter().enumerate() {
        if n > 0 && span.offset < 0 {
            return Err(negative_offset(prefix, n, span));
        }
        needed += u64::from(span.length);
    }
    if needed != count as u64 {
        return Err(Invalid(format!(
            "{prefix}spans need {needed} buckets, have {count} buckets: {SPANS_MISMATCH}"
        )));
    }
    Ok(())
}

fn negative_offset(prefix: &str, n: usize, span: &Span) -> HistogramError {
    Invalid(format!("{prefix}span number {} with offset {}: {NEGATIVE_OFFSET}", n + 1, span.offset))
}

fn check_custom(bounds: &[f64], spans: &[Span], count: usize) -> Result<(), HistogramError> {
    let prefix = "custom buckets: ";
    let refuse = |text: String| Err(Invalid(format!("{prefix}{text}")));
    let mut previous = f64::NEG_INFINITY;
    for (i, &bound) in bounds.iter().enumerate() {
        if bound.is_nan() {
            return refuse("histogram custom bounds must not be NaN".into());
        }
        if i > 0 && bound <= previous {
            let (previous, bound) = (six_places(previous), six_places(bound));
            return refuse(format!(
                "previous bound is {previous} and current is {bound}: \
                 histogram custom bounds must be in strictly increasing order"
            ));
        }
        previous = bound;
    }
    if previous == f64::INFINITY {
        return refuse(
            "last +Inf bound must not be explicitly defined: histogram custom bounds must be finite".into(),
        );
    }
    let mut needed = 0u64;
    let mut covered = 0u64;
    for (n, span) in spans.iter().enumerate() {
        let Ok(offset) = u64::try_from(span.offset) else { return Err(negative_offset(prefix, n, span)) };
        needed += u64::from(span.length);
        covered += u64::from(span.length) + offset;
    }
    if needed != count as u64 {
        return refuse(format!("spans need {needed} buckets, have {count} buckets: {SPANS_MISMATCH}"));
    }
    let known = bounds.len();
    if ((known + 1) as u64) < covered {
        return refuse(format!(
            "only {known} custom bounds defined which is insufficient to cover total span length of {covered}: \
             histogram custom bounds are too few"
        ));
    }
    Ok(())
}

/// `%f` of a bound.
fn six_places(v: f64) -> String {
    if v.is_infinite() { if v > 0.0 { "+Inf".into() } else { "-Inf".into() } } else { format!("{v:.6}") }
}

fn check_counts(prefix: &str, counts: impl Iterator<Item = f64>) -> Result<(), HistogramError> {
    for (i, count) in counts.enumerate() {
        if count < 0.0 {
            return Err(negative_bucket(prefix, i, &format_g(count)));
        }
    }
    Ok(())
}

fn sum_deltas(prefix: &str, deltas: &[i64]) -> Result<u64, HistogramError> {
    let (mut count, mut sum) = (0i64, 0u64);
    for (i, &delta) in deltas.iter().enumerate() {
        count = count.wrapping_add(delta);
        if count < 0 {
            return Err(negative_bucket(prefix, i, &count.to_string()));
        }
        sum = sum.wrapping_add(count as u64);
    }
    Ok(sum)
}

fn negative_bucket(prefix: &str, i: usize, count: &str) -> HistogramError {
    Invalid(format!("{prefix}bucket number {} has observation count of {count}: {NEGATIVE_BUCKET}", i + 1))
}
