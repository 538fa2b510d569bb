//! Classic histograms: cumulative counts by upper bound (`le`).

use std::cmp::Ordering;

/// One `le` bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicBucket {
    pub upper_bound: f64,
    /// Observations at or below the bound.
    pub count: f64,
}

/// Counts that went down from bucket to bucket and were raised for the quantile's sake (an info).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForcedMonotonicity {
    pub min_bound: f64,
    pub max_bound: f64,
    pub max_difference: f64,
}

/// Relative difference of counts that is taken for rounding: one observation in 10^12.
const TOLERANCE: f64 = 1e-12;

/// Quantile `q`, linear within a bucket. Sorts and mends `buckets` in place: asked for several quantiles of one
/// histogram, give the same list again and only the first call has something to report.
pub fn quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<ForcedMonotonicity>) {
    if q.is_nan() || buckets.is_empty() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    sort(buckets);
    if buckets[buckets.len() - 1].upper_bound != f64::INFINITY {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let forced = make_monotonic(buckets);
    if buckets.len() < 2 {
        return (f64::NAN, forced);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 {
        return (f64::NAN, forced);
    }
    let mut rank = q * observations;
    // A count that is not a number counts as below the rank.
    let reaches = |b: &ClassicBucket| b.count >= rank;
    let b = buckets[..last].partition_point(|b| !reaches(b));
    if b == last {
        return (buckets[last - 1].upper_bound, forced);
    }
    if b == 0 && buckets[0].upper_bound <= 0.0 {
        return (buckets[0].upper_bound, forced);
    }
    let (mut start, mut count) = (0.0, buckets[b].count);
    if b > 0 {
        start = buckets[b - 1].upper_bound;
        count -= buckets[b - 1].count;
        rank -= buckets[b - 1].count;
    }
    (start + (buckets[b].upper_bound - start) * (rank / count), forced)
}

/// Fraction of observations between two bounds, linear within a bucket. Sorts `buckets` in place.
pub fn fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    sort(buckets);
    if buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut below = Rank::of(lower);
    let mut above = Rank::of(upper);
    let mut rank = 0.0;
    let mut start = if buckets[0].upper_bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for b in buckets.iter() {
        let end = b.upper_bound;
        let within = |v: f64| {
            if start == f64::NEG_INFINITY {
                // Nothing is known of where in an infinite bucket its observations are.
                b.count
            } else {
                rank + (b.count - rank) * (v - start) / (end - start)
            }
        };
        below.pass(start, end, rank, within);
        above.pass(start, end, rank, within);
        if below.rank.is_some() && above.rank.is_some() {
            break;
        }
        rank = b.count;
        start = end;
    }
    (above.up_to(count) - below.up_to(count)) / count
}

/// How many observations lie below a value, once the walk over buckets has come to it.
pub(crate) struct Rank {
    value: f64,
    pub(crate) rank: Option<f64>,
}

impl Rank {
    pub(crate) fn of(value: f64) -> Rank {
        Rank { value, rank: None }
    }

    /// Passes the bucket from `start` to `end` that begins at `rank`; `within` interpolates inside of it.
    pub(crate) fn pass(&mut self, start: f64, end: f64, rank: f64, within: impl Fn(f64) -> f64) {
        if self.rank.is_some() {
        } else if start >= self.value {
            self.rank = Some(rank);
        } else if start < self.value && end > self.value {
            self.rank = Some(within(self.value));
        }
    }

    /// The rank, at most `count`.
    pub(crate) fn up_to(&self, count: f64) -> f64 {
        match self.rank {
            Some(rank) if rank > count => count,
            Some(rank) => rank,
            None => count,
        }
    }
}

fn sort(buckets: &mut [ClassicBucket]) {
    buckets.sort_unstable_by(|a, b| a.upper_bound.partial_cmp(&b.upper_bound).unwrap_or(Ordering::Equal));
}

/// Merges buckets of the same bound.
fn coalesce(buckets: &mut Vec<ClassicBucket>) {
    buckets.dedup_by(|b, kept| {
        let same = b.upper_bound == kept.upper_bound;
        if same {
            kept.count += b.count;
        }
        same
    });
}

/// Levels differences that are but rounding, whichever way; then raises every count that is below its
/// predecessor's, and reports those.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<ForcedMonotonicity> {
    let mut forced = None;
    let (first, rest) = buckets.split_first_mut()?;
    let mut previous = first.count;
    for b in rest {
        if b.count == previous {
            continue;
        }
        if almost_equal(previous, b.count) {
            b.count = previous;
            continue;
        }
        if b.count < previous {
            let f = forced.get_or_insert(ForcedMonotonicity {
                min_bound: f64::INFINITY,
                max_bound: f64::NEG_INFINITY,
                max_difference: 0.0,
            });
            f.min_bound = f.min_bound.min(b.upper_bound);
            f.max_bound = f.max_bound.max(b.upper_bound);
            f.max_difference = f.max_difference.max(previous - b.count);
            b.count = previous;
            continue;
        }
        previous = b.count;
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return model::is_stale(a) == model::is_stale(b);
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return a == b || difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    a == b || difference / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(list: &[(f64, f64)]) -> Vec<ClassicBucket> {
        list.iter().map(|&(upper_bound, count)| ClassicBucket { upper_bound, count }).collect()
    }

    #[track_caller]
    fn check(q: f64, list: &[(f64, f64)], expect: f64) {
        let got = quantile(q, &mut buckets(list)).0;
        let close = (got - expect).abs() < 1e-12;
        assert!(close || got == expect || (got.is_nan() && expect.is_nan()), "{q}: {got}, not {expect}");
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_are_linear_within_buckets() {
        let list = [(0.1, 1.0), (0.2, 3.0), (0.5, 5.0), (1.0, 7.0), (INF, 10.0)];
        check(0.1, &list, 0.1);
        check(0.2, &list, 0.15);
        check(0.8, &list, 1.0);
        check(-1.0, &list, -INF);
        check(1.01, &list, INF);
        check(f64::NAN, &list, f64::NAN);
        check(0.2, &[(-0.5, 2.0), (0.0, 3.0), (INF, 4.0)], -0.5);
        check(0.6, &[(-0.5, 2.0), (0.0, 4.0), (INF, 4.0)], -0.4);
    }

    #[test]
    fn incomplete_histograms_have_no_quantile() {
        check(0.5, &[(1.0, 1.0), (2.0, 3.0)], f64::NAN);
        check(0.5, &[(INF, 3.0)], f64::NAN);
        check(0.5, &[(1.0, 0.0), (INF, 0.0)], f64::NAN);
        check(0.5, &[], f64::NAN);
    }

    #[test]
    fn equal_bounds_are_merged_whatever_their_order() {
        check(0.5, &[(INF, 4.0), (1.0, 1.0), (2.0, 4.0), (1.0, 1.0)], 1.0);
    }

    #[test]
    fn decreasing_counts_are_raised_and_reported() {
        let mut list = buckets(&[(1.0, 10.0), (2.0, 8.0), (3.0, 12.0), (4.0, 11.5), (INF, 20.0)]);
        let (v, forced) = quantile(0.55, &mut list);
        assert_eq!(v, 2.5);
        let report = ForcedMonotonicity { min_bound: 2.0, max_bound: 4.0, max_difference: 2.0 };
        assert_eq!(forced, Some(report));
        assert_eq!(quantile(0.5, &mut list).1, None);
        let (_, forced) = quantile(0.5, &mut buckets(&[(1.0, 1e13), (2.0, 1e13 - 1.0), (INF, 2e13)]));
        assert_eq!(forced, None);
    }

    #[test]
    fn fractions_are_linear_within_buckets() {
        let list = [(0.1, 1.0), (0.2, 3.0), (INF, 4.0)];
        let f = |lower, upper| fraction(lower, upper, &mut buckets(&list));
        assert_eq!(f(-INF, INF), 1.0);
        assert_eq!(f(0.0, 0.1), 0.25);
        assert!((f(0.15, 0.2) - 0.25).abs() < 1e-12);
        assert_eq!(f(0.3, 0.3), 0.0);
        assert_eq!(f(10.0, INF), 0.25);
        assert!(f(f64::NAN, 1.0).is_nan());
    }
}
