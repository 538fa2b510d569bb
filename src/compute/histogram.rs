//! What is asked of a native histogram: quantiles, fractions, mean and variance.

use crate::Notes;
use crate::classic::Rank;
use crate::kahan::KahanSum;
use model::FloatHistogram;
use model::histogram::Bucket;
use model::math::{exp2, log2};

/// Quantile `q`: linear within custom buckets and the zero bucket, exponential within the others.
pub fn quantile(q: f64, h: &FloatHistogram) -> (f64, Notes) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, Notes::NONE);
    }
    if q > 1.0 {
        return (f64::INFINITY, Notes::NONE);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, Notes::NONE);
    }
    // NaN observations are in the count but in no bucket, as if above all: then ranks are right from below only.
    if h.sum.is_nan() || q < 0.5 {
        quantile_walk(h, q * h.count, h.buckets(), true)
    } else {
        quantile_walk(h, (1.0 - q) * h.count, h.buckets_rev(), false)
    }
}

fn quantile_walk(
    h: &FloatHistogram,
    rank: f64,
    mut buckets: impl Iterator<Item = Bucket>,
    forward: bool,
) -> (f64, Notes) {
    let mut b = Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
        index: 0,
    };
    let mut count = 0.0;
    for next in buckets.by_ref() {
        b = next;
        count += b.count;
        if b.count != 0.0 && count >= rank {
            break;
        }
    }
    if h.uses_custom_buckets() {
        if b.lower == f64::NEG_INFINITY {
            if b.upper <= 0.0 {
                return (b.upper, Notes::NONE);
            }
            b.lower = 0.0;
        } else if b.upper == f64::INFINITY {
            return (b.lower, Notes::NONE);
        }
    } else if b.lower < 0.0 && b.upper > 0.0 {
        narrow_zero_bucket(h, &mut b);
    }
    // Rounding may have made more of the buckets than there are observations.
    if count > h.count {
        count = h.count;
    }
    if count < rank {
        if h.sum.is_nan() {
            return (f64::NAN, Notes::QUANTILE_NAN_RESULT);
        }
        return (b.upper, Notes::NONE);
    }
    let rank = if forward { rank - (count - b.count) } else { count - rank };
    let mut notes = Notes::NONE;
    if h.sum.is_nan() {
        // The rest of the count is NaN; if there is no rest, the sum is NaN by infinities of both signs. What the
        // quantile is computed from is the last bucket walked over, as in the reference.
        for next in buckets {
            b = next;
            count += b.count;
        }
        notes = Notes::when(count < h.count, Notes::QUANTILE_NAN_SKEW);
    }
    (interpolate(h, &b, rank / b.count), notes)
}

/// The zero bucket reaches only to the side that has buckets, if just one has.
fn narrow_zero_bucket(h: &FloatHistogram, b: &mut Bucket) {
    match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
        (true, false) => b.lower = 0.0,
        (false, true) => b.upper = 0.0,
        _ => {}
    }
}

/// The value a fraction into a bucket.
fn interpolate(h: &FloatHistogram, b: &Bucket, fraction: f64) -> f64 {
    if h.uses_custom_buckets() || (b.lower <= 0.0 && b.upper >= 0.0) {
        return b.lower + (b.upper - b.lower) * fraction;
    }
    let lower = log2(b.lower.abs());
    let upper = log2(b.upper.abs());
    if b.lower > 0.0 {
        exp2(lower + (upper - lower) * fraction)
    } else {
        -exp2(upper + (lower - upper) * (1.0 - fraction))
    }
}

/// Fraction of observations between two bounds, interpolated as quantiles are. Observations that are NaN lie
/// between no bounds.
pub fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, Notes) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, Notes::NONE);
    }
    if lower >= upper {
        return (0.0, Notes::NONE);
    }
    let (mut below, mut above) = (Rank::of(lower), Rank::of(upper));
    let (mut count, mut rank) = (0.0, 0.0);
    let mut buckets = h.buckets();
    for mut b in buckets.by_ref() {
        count += b.count;
        let zero = b.lower <= 0.0 && b.upper >= 0.0;
        if zero {
            narrow_zero_bucket(h, &mut b);
        }
        let linear = h.uses_custom_buckets() || zero;
        let within = |v: f64| {
            if linear && b.lower == f64::NEG_INFINITY {
                // Nothing is known of where in an infinite bucket its observations are.
                b.count
            } else {
                rank + b.count * b.fraction_below(v, linear)
            }
        };
        below.pass(b.lower, b.upper, rank, within);
        above.pass(b.lower, b.upper, rank, within);
        if below.rank.is_some() && above.rank.is_some() {
            break;
        }
        rank += b.count;
    }
    let mut notes = Notes::NONE;
    if h.sum.is_nan() {
        for b in buckets {
            count += b.count;
        }
        notes = Notes::when(count < h.count, Notes::FRACTION_NANS);
    } else {
        count = h.count;
    }
    ((above.up_to(count) - below.up_to(count)) / h.count, notes)
}

/// Mean of the observations.
pub fn avg(h: &FloatHistogram) -> f64 {
    h.sum / h.count
}

/// Estimated variance of the observations: each stands at its bucket's middle, geometric for exponential buckets,
/// arithmetic for custom ones, zero for the zero bucket.
pub fn stdvar(h: &FloatHistogram) -> f64 {
    let mean = avg(h);
    let mut variance = KahanSum::default();
    for b in h.buckets().filter(|b| b.count != 0.0) {
        let middle = if h.uses_custom_buckets() {
            (b.upper + b.lower) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let geometric = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -geometric } else { geometric }
        };
        let delta = middle - mean;
        variance.add(b.count * delta * delta);
    }
    variance.total() / h.count
}

/// Square root of [`stdvar`].
pub fn stddev(h: &FloatHistogram) -> f64 {
    stdvar(h).sqrt()
}

#[cfg(test)]
mod tests;
