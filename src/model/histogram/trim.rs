//! Cutting a histogram at a value: what `</` and `>/` keep.

use super::iter::Side;
use super::{Bucket, FloatHistogram};

/// What is left of a histogram that is walked bucket by bucket.
#[derive(Default)]
struct Kept {
    count: f64,
    sum: f64,
    trimmed: bool,
    populated: bool,
}

impl FloatHistogram {
    /// Keeps observations below `limit` (`</`).
    pub fn trim_upper(&mut self, limit: f64) {
        self.trim(limit, true);
    }

    /// Keeps observations above `limit` (`>/`).
    pub fn trim_lower(&mut self, limit: f64) {
        self.trim(limit, false);
    }

    /// Count and sum are estimated anew, from the middles of what is kept, only if anything was cut.
    fn trim(&mut self, limit: f64, upper: bool) {
        let mut kept = Kept::default();
        self.trim_side(Side::Positive, limit, upper, &mut kept);
        let has_positive = std::mem::take(&mut kept.populated);
        self.trim_side(Side::Negative, limit, upper, &mut kept);
        let has_negative = kept.populated;
        if self.zero_count > 0.0 {
            let zero = self.zero_bucket();
            let (count, middle) = trim_zero(&zero, limit, has_negative, has_positive, upper);
            if self.zero_count != count {
                self.zero_count = count;
                kept.trimmed = true;
            }
            kept.sum += middle * count;
            kept.count += count;
        }
        if kept.trimmed {
            self.count = kept.count;
            self.sum = kept.sum;
            self.compact(0);
        }
    }

    fn trim_side(&mut self, side: Side, limit: f64, upper: bool, kept: &mut Kept) {
        let linear = self.uses_custom_buckets();
        let positive = side == Side::Positive;
        let mut cuts = Vec::new();
        for (pos, (idx, count)) in self.indexed(side).enumerate() {
            if count == 0.0 {
                continue;
            }
            kept.populated = true;
            let b = self.bucket(side, idx, count);
            let (inside, touched) =
                if upper { (b.upper <= limit, b.lower < limit) } else { (b.lower >= limit, b.upper > limit) };
            if inside {
                kept.count += count;
                kept.sum += middle(b.lower, b.upper, positive, linear) * count;
            } else if touched {
                let (part, middle) = trim_bucket(&b, limit, upper, positive, linear);
                kept.count += part;
                kept.sum += middle * part;
                if part != count {
                    cuts.push((pos, part));
                }
            } else {
                cuts.push((pos, 0.0));
            }
        }
        kept.trimmed |= !cuts.is_empty();
        let counts = if positive { &mut self.positive_buckets } else { &mut self.negative_buckets };
        for (pos, part) in cuts {
            counts[pos] = part;
        }
    }
}

/// (count, middle) of what is kept of a bucket that the limit falls into.
fn trim_bucket(b: &Bucket, limit: f64, upper: bool, positive: bool, linear: bool) -> (f64, f64) {
    if b.lower == f64::NEG_INFINITY || b.upper == f64::INFINITY {
        return trim_infinite(b, limit, upper);
    }
    let below = if limit <= b.lower {
        0.0
    } else if limit >= b.upper {
        b.count
    } else {
        b.count * b.fraction_below(limit, linear)
    };
    if upper {
        (below, middle(b.lower, limit, positive, linear))
    } else {
        (b.count - below, middle(limit, b.upper, positive, linear))
    }
}

/// Nothing is known of where in an infinite bucket its observations are, so it is kept or dropped whole; except
/// that the lowest custom bucket is taken to begin at zero if it ends above it.
fn trim_infinite(b: &Bucket, limit: f64, upper: bool) -> (f64, f64) {
    let zero_if_infinite = |x: f64| if x.is_infinite() { 0.0 } else { x };
    if b.lower == f64::NEG_INFINITY {
        let end = b.upper;
        return match upper {
            true if limit >= end => (b.count, 0.0),
            true if limit > 0.0 && end > 0.0 && end != f64::INFINITY => (b.count * limit / end, limit / 2.0),
            true if end <= 0.0 => (b.count, limit),
            false if limit <= b.lower => (b.count, 0.0),
            false if limit >= 0.0 && end > limit && end != f64::INFINITY => {
                (b.count * (1.0 - limit / end), (limit + end) / 2.0)
            }
            _ => (0.0, zero_if_infinite(end)),
        };
    }
    if !upper && limit >= b.lower { (b.count, limit) } else { (0.0, zero_if_infinite(b.lower)) }
}

fn trim_zero(b: &Bucket, limit: f64, has_negative: bool, has_positive: bool, upper: bool) -> (f64, f64) {
    let lower_end = if has_positive && !has_negative { 0.0 } else { b.lower };
    let upper_end = if has_negative && !has_positive { 0.0 } else { b.upper };
    let whole = (b.count, (lower_end + upper_end) / 2.0);
    let width = upper_end - lower_end;
    if limit <= lower_end {
        return if upper { (0.0, 0.0) } else { whole };
    }
    if limit >= upper_end {
        return if upper { whole } else { (0.0, 0.0) };
    }
    if upper {
        (b.count * ((limit - lower_end) / width), (lower_end + limit) / 2.0)
    } else {
        (b.count * ((upper_end - limit) / width), (limit + upper_end) / 2.0)
    }
}

/// The value that stands for all observations between two bounds.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    if lower.is_infinite() {
        return match upper {
            upper if upper.is_infinite() => 0.0,
            upper if upper > 0.0 => upper / 2.0,
            upper => upper,
        };
    }
    if upper.is_infinite() {
        return lower;
    }
    if linear {
        return (lower + upper) / 2.0;
    }
    let geometric = (lower * upper).abs().sqrt();
    if positive { geometric } else { -geometric }
}
