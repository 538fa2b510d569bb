//! Quantiles, fractions and moments of native histograms against expected values.

use super::*;
use model::Span;
use model::histogram::SCHEMA_CUSTOM;

fn exponential(zero: f64, negative: &[f64], positive: &[f64]) -> FloatHistogram {
    FloatHistogram {
        zero_threshold: 0.001,
        zero_count: zero,
        count: zero + negative.iter().sum::<f64>() + positive.iter().sum::<f64>(),
        sum: 100.0,
        positive_spans: vec![Span { offset: 1, length: positive.len() as u32 }],
        positive_buckets: positive.to_vec(),
        negative_spans: vec![Span { offset: 1, length: negative.len() as u32 }],
        negative_buckets: negative.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: SCHEMA_CUSTOM,
        count: counts.iter().sum(),
        sum: 100.0,
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts.to_vec(),
        custom_values: bounds.to_vec(),
        ..FloatHistogram::default()
    }
}

#[track_caller]
fn check_quantile(h: &FloatHistogram, q: f64, expect: f64) {
    let got = quantile(q, h).0;
    let same = got == expect || (got.is_nan() && expect.is_nan()) || (got - expect).abs() < 1e-9;
    assert!(same, "quantile {q} of {h} is {got}, not {expect}");
}

#[test]
fn quantiles_interpolate_exponentially() {
    // (1,2] holds 2, (2,4] 2, (4,8] 0, (8,16] 4.
    let h = exponential(0.0, &[], &[2.0, 2.0, 0.0, 4.0]);
    check_quantile(&h, 0.125, 2f64.sqrt());
    check_quantile(&h, 0.25, 2.0);
    check_quantile(&h, 0.5, 8.0);
    check_quantile(&h, 0.75, 128f64.sqrt());
    check_quantile(&h, 1.0, 16.0);
    check_quantile(&h, 0.0, 1.0);
    check_quantile(&h, -0.1, f64::NEG_INFINITY);
    check_quantile(&h, 1.1, f64::INFINITY);
    check_quantile(&h, f64::NAN, f64::NAN);
    check_quantile(&exponential(0.0, &[], &[]), 0.5, f64::NAN);
}

#[test]
fn the_zero_bucket_is_linear_and_one_sided() {
    check_quantile(&exponential(4.0, &[], &[4.0]), 0.25, 0.0005);
    check_quantile(&exponential(4.0, &[4.0], &[]), 0.75, -0.0005);
    check_quantile(&exponential(4.0, &[2.0], &[2.0]), 0.5, 0.0);
    check_quantile(&exponential(0.0, &[2.0, 2.0], &[]), 0.25, -8f64.sqrt());
}

#[test]
fn custom_buckets_are_linear() {
    let h = custom(&[5.0, 10.0], &[2.0, 2.0, 4.0]);
    check_quantile(&h, 0.125, 2.5);
    check_quantile(&h, 0.375, 7.5);
    check_quantile(&h, 0.9, 10.0);
    check_quantile(&custom(&[-5.0, 5.0], &[2.0, 2.0]), 0.25, -5.0);
}

#[test]
fn nan_observations_are_noted() {
    let mut h = exponential(0.0, &[], &[2.0, 2.0]);
    h.sum = f64::NAN;
    h.count = 8.0;
    let (v, notes) = quantile(0.9, &h);
    assert!(v.is_nan() && notes == Notes::QUANTILE_NAN_RESULT);
    assert_eq!(quantile(0.1, &h).1, Notes::QUANTILE_NAN_SKEW);
    assert_eq!(fraction(0.0, 100.0, &h), (0.5, Notes::FRACTION_NANS));
}

#[track_caller]
fn check_fraction(h: &FloatHistogram, lower: f64, upper: f64, expect: f64) {
    let got = fraction(lower, upper, h).0;
    let same = got == expect || (got.is_nan() && expect.is_nan()) || (got - expect).abs() < 1e-9;
    assert!(same, "fraction from {lower} to {upper} of {h} is {got}, not {expect}");
}

#[test]
fn fractions_are_the_inverse_of_quantiles() {
    let inf = f64::INFINITY;
    let h = exponential(2.0, &[2.0, 4.0], &[2.0, 4.0]);
    check_fraction(&h, -inf, inf, 1.0);
    check_fraction(&h, 1.0, 2.0, 2.0 / 14.0);
    check_fraction(&h, 0.0, inf, 0.5);
    check_fraction(&h, 2f64.sqrt(), inf, 5.0 / 14.0);
    check_fraction(&h, -8f64.sqrt(), 0.0, 5.0 / 14.0);
    check_fraction(&h, 3.0, 3.0, 0.0);
    check_fraction(&h, 5.0, 1.0, 0.0);
    check_fraction(&h, f64::NAN, 1.0, f64::NAN);
    check_fraction(&custom(&[5.0, 10.0], &[2.0, 2.0, 4.0]), 2.5, 7.5, 0.25);
    check_fraction(&custom(&[5.0, 10.0], &[2.0, 2.0, 4.0]), 20.0, inf, 0.5);
}

#[test]
fn moments_are_estimated_from_middles() {
    let mut h = custom(&[5.0, 10.0, 15.0], &[0.0, 2.0, 2.0]);
    h.sum = 40.0;
    assert_eq!(avg(&h), 10.0);
    assert_eq!(stdvar(&h), 6.25);
    assert_eq!(stddev(&h), 2.5);
    let mut h = exponential(0.0, &[], &[0.0, 4.0]);
    h.sum = 4.0 * 8f64.sqrt();
    assert!(stdvar(&h) < 1e-12);
}
