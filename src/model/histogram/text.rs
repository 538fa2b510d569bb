//! Histograms as text: Prometheus's notation of buckets, and the test language's notation.

use super::{Bucket, CounterResetHint, FloatHistogram, Histogram, Span};
use crate::float_text::format_g;
use std::fmt;

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (format_g(self.lower), format_g(self.upper));
        write!(f, "{open}{lower},{upper}{close}:{}", format_g(self.count))
    }
}

/// `{count:3, sum:5, [-2,-1):1, [-0.5,0.5]:1, (1,2]:1}`: populated buckets in ascending order.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        for b in self.negative_rev().filter(|b| b.count != 0.0) {
            write!(f, ", {b}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for b in self.positive().filter(|b| b.count != 0.0) {
            write!(f, ", {b}")?;
        }
        f.write_str("}")
    }
}

/// As [`FloatHistogram`], but counts are whole and so never written with an exponent.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", self.count, format_g(self.sum))?;
        let whole = |b: &Bucket| {
            let text = b.to_string();
            let bounds = text.rsplit_once(':').map_or(text.as_str(), |(bounds, _)| bounds);
            format!("{bounds}:{}", b.count as i128)
        };
        let h = self.to_float();
        for b in h.negative_rev().filter(|b| b.count != 0.0) {
            write!(f, ", {}", whole(&b))?;
        }
        if self.zero_count != 0 {
            write!(f, ", {}", whole(&h.zero_bucket()))?;
        }
        for b in h.positive().filter(|b| b.count != 0.0) {
            write!(f, ", {}", whole(&b))?;
        }
        f.write_str("}")
    }
}

impl FloatHistogram {
    /// The notation of test scripts: `{{schema:1 count:3 sum:5 buckets:[1 2]}}`.
    pub fn test_expression(&self) -> String {
        let mut m = self.clone();
        m.compact(usize::MAX);
        let mut parts = Vec::new();
        if m.schema != 0 {
            parts.push(format!("schema:{}", m.schema));
        }
        let numbers = [
            ("count", m.count),
            ("sum", m.sum),
            ("z_bucket", m.zero_count),
            ("z_bucket_w", m.zero_threshold),
        ];
        for (name, value) in numbers {
            if value != 0.0 {
                parts.push(format!("{name}:{}", format_g(value)));
            }
        }
        if m.uses_custom_buckets() {
            parts.push(format!("custom_values:{}", list(&m.custom_values)));
        }
        match m.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::Reset => parts.push("counter_reset_hint:reset".into()),
            CounterResetHint::NotReset => parts.push("counter_reset_hint:not_reset".into()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".into()),
        }
        push_side(&mut parts, "", &m.positive_spans, &m.positive_buckets);
        push_side(&mut parts, "n_", &m.negative_spans, &m.negative_buckets);
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

fn push_side(parts: &mut Vec<String>, prefix: &str, spans: &[Span], counts: &[f64]) {
    if let Some(span) = spans.first()
        && span.offset != 0
    {
        parts.push(format!("{prefix}offset:{}", span.offset));
    }
    if !counts.is_empty() {
        parts.push(format!("{prefix}buckets:{}", list(counts)));
    }
}

fn list(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().copied().map(format_g).collect();
    format!("[{}]", texts.join(" "))
}
