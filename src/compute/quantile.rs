//! Quantiles of plain values.

use crate::Notes;
use std::cmp::Ordering;

/// The remark that a quantile outside of 0 and 1 deserves.
pub fn check(q: f64) -> Notes {
    Notes::when(!(0.0..=1.0).contains(&q), Notes::INVALID_QUANTILE)
}

/// Ascending, what is not a number first.
pub fn ascending(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Quantile `q` by linear interpolation; sorts `values`. None of values, or a quantile that is not a number, has
/// NaN; one below 0 has -Inf, above 1 +Inf.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(ascending);
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_quantile(q: f64, values: &[f64], expect: f64) {
        let got = quantile(q, &mut values.to_vec());
        assert!(got == expect || (got.is_nan() && expect.is_nan()), "{q} of {values:?}: {got}, not {expect}");
    }

    #[test]
    fn quantiles_interpolate_between_ranks() {
        check_quantile(0.5, &[3.0, 1.0, 2.0], 2.0);
        check_quantile(0.8, &[0.0, 1.0], 0.8);
        check_quantile(0.75, &[2.0, 4.0, 0.0, 6.0], 4.5);
        check_quantile(1.0, &[1.0, 7.0], 7.0);
        check_quantile(-1.0, &[1.0], f64::NEG_INFINITY);
        check_quantile(1.1, &[1.0], f64::INFINITY);
        check_quantile(f64::NAN, &[1.0], f64::NAN);
        check_quantile(0.5, &[], f64::NAN);
        check_quantile(0.0, &[1.0, f64::NAN], f64::NAN);
        check_quantile(1.0, &[f64::NAN, 5.0], 5.0);
    }

    #[test]
    fn only_quantiles_within_bounds_pass_silently() {
        assert!(check(0.0).is_empty() && check(1.0).is_empty());
        assert!(!check(-0.1).is_empty() && !check(1.1).is_empty() && !check(f64::NAN).is_empty());
    }
}
