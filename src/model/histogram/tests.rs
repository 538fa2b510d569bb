//! Histograms against expected texts, and arithmetic against a map of buckets.

use super::CounterResetHint::{Gauge, NotReset, Reset, Unknown};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn spans(list: &[(i32, u32)]) -> Vec<Span> {
    list.iter().map(|&(offset, length)| Span { offset, length }).collect()
}

fn positive(schema: i32, list: &[(i32, u32)], buckets: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema,
        count: buckets.iter().sum(),
        sum: 7.0,
        positive_spans: spans(list),
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
    let mut h = positive(SCHEMA_CUSTOM, &[(0, buckets.len() as u32)], buckets);
    h.custom_values = bounds.to_vec();
    h
}

#[test]
fn texts_are_prometheus() {
    let mut h = positive(0, &[(0, 2), (1, 1)], &[1.0, 0.0, 2.5]);
    h.zero_threshold = 0.5;
    h.zero_count = 1.0;
    h.negative_spans = spans(&[(1, 2)]);
    h.negative_buckets = vec![3.0, 4.0];
    h.count = 1e6;
    let text = "{count:1e+06, sum:7, [-4,-2):4, [-2,-1):3, [-0.5,0.5]:1, (0.5,1]:1, (4,8]:2.5}";
    assert_eq!(h.to_string(), text);
    let text =
        "{{count:1e+06 sum:7 z_bucket:1 z_bucket_w:0.5 buckets:[1 0 0 2.5] n_offset:1 n_buckets:[3 4]}}";
    assert_eq!(h.test_expression(), text);
    let h = custom(&[5.0, 10.0], &[1.0, 2.0, 3.0]);
    assert_eq!(h.to_string(), "{count:6, sum:7, [-Inf,5]:1, (5,10]:2, (10,+Inf]:3}");
    assert_eq!(h.test_expression(), "{{schema:-53 count:6 sum:7 custom_values:[5 10] buckets:[1 2 3]}}");
    let h = Histogram {
        count: 3_000_000,
        positive_spans: spans(&[(0, 2)]),
        positive_deltas: vec![1_000_000, 1_000_000],
        ..Histogram::default()
    };
    assert_eq!(h.to_string(), "{count:3000000, sum:0, (0.5,1]:1000000, (1,2]:2000000}");
}

#[track_caller]
fn check_compact(list: &[(i32, u32)], buckets: &[f64], max: usize, expect: (&[(i32, u32)], &[f64])) {
    let mut h = positive(0, list, buckets);
    h.compact(max);
    assert_eq!((h.positive_spans, &h.positive_buckets[..]), (spans(expect.0), expect.1));
}

#[test]
fn compacting_drops_and_joins() {
    check_compact(&[(0, 3)], &[0.0, 1.0, 0.0], 0, (&[(1, 1)], &[1.0]));
    check_compact(&[(-2, 1), (2, 1)], &[1.0, 2.0], 0, (&[(-2, 1), (2, 1)], &[1.0, 2.0]));
    check_compact(&[(-2, 1), (2, 1)], &[1.0, 2.0], 2, (&[(-2, 4)], &[1.0, 0.0, 0.0, 2.0]));
    check_compact(&[(0, 4)], &[1.0, 0.0, 0.0, 2.0], 1, (&[(0, 1), (2, 1)], &[1.0, 2.0]));
    check_compact(&[(0, 4)], &[1.0, 0.0, 0.0, 2.0], 2, (&[(0, 4)], &[1.0, 0.0, 0.0, 2.0]));
    check_compact(
        &[(0, 1), (0, 1), (3, 0), (1, 1)],
        &[1.0, 2.0, 3.0],
        0,
        (&[(0, 2), (4, 1)], &[1.0, 2.0, 3.0]),
    );
    check_compact(&[(5, 0), (1, 2)], &[0.0, 0.0], 0, (&[], &[]));
    check_compact(&[(1, 1), (1, 1)], &[1.0, 2.0], usize::MAX, (&[(1, 3)], &[1.0, 0.0, 2.0]));
    check_compact(&[(0, 1), (i32::MAX, 1)], &[1.0, 2.0], usize::MAX, (&[(0, 1), (i32::MAX, 1)], &[1.0, 2.0]));
}

#[test]
fn sums_take_the_coarser_schema_and_the_wider_zero_bucket() {
    let mut a = positive(1, &[(1, 4)], &[1.0, 2.0, 3.0, 4.0]);
    let b = positive(0, &[(1, 2)], &[10.0, 20.0]);
    assert_eq!(a.add(&b), Ok(Merged::default()));
    assert_eq!(a.to_string(), "{count:40, sum:14, (1,2]:13, (2,4]:27}");
    let mut a = positive(0, &[(0, 3)], &[1.0, 2.0, 3.0]);
    let mut b = positive(0, &[(2, 1)], &[5.0]);
    b.zero_threshold = 0.75;
    b.zero_count = 7.0;
    // 0.75 lies in the populated (0.5,1]; the zero bucket grows to 1.
    assert!(a.add(&b).is_ok());
    assert_eq!(a.to_string(), "{count:11, sum:14, [-1,1]:8, (1,2]:2, (2,4]:8}");
}

#[test]
fn subtraction_leaves_negative_counts() {
    let mut a = positive(0, &[(0, 1)], &[1.0]);
    let b = positive(0, &[(1, 1)], &[2.0]);
    assert!(a.sub(&b).is_ok());
    assert_eq!(a.to_string(), "{count:-1, sum:0, (0.5,1]:1, (1,2]:-2}");
}

#[test]
fn custom_bounds_are_reconciled_to_those_in_common() {
    let mut a = custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]);
    let b = custom(&[2.0, 4.0], &[10.0, 20.0, 30.0]);
    let merged = a.add(&b).expect("both custom");
    assert!(merged.bounds_reconciled);
    assert_eq!(a.to_string(), "{count:70, sum:14, [-Inf,2]:13, (2,+Inf]:57}");
    assert_eq!(a.add(&positive(0, &[], &[])), Err(HistogramError::IncompatibleSchemas));
}

#[test]
fn hints_merge_as_their_table_says() {
    let table = [
        (Unknown, Unknown, Unknown, false),
        (Reset, Gauge, Gauge, false),
        (Gauge, NotReset, Gauge, false),
        (Unknown, Reset, Unknown, false),
        (NotReset, Unknown, Unknown, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, NotReset, NotReset, false),
    ];
    for (a, b, expect, collides) in table {
        let mut h = FloatHistogram { counter_reset_hint: a, ..FloatHistogram::default() };
        let other = FloatHistogram { counter_reset_hint: b, ..FloatHistogram::default() };
        let merged = h.add(&other).expect("same kind");
        assert_eq!((h.counter_reset_hint, merged.counter_reset_collision), (expect, collides));
    }
}

#[test]
fn scaling_by_a_negative_makes_a_gauge_and_by_zero_no_buckets() {
    let mut h = positive(0, &[(0, 1)], &[2.0]);
    h.mul(-2.0);
    assert_eq!((h.to_string().as_str(), h.counter_reset_hint), ("{count:-4, sum:-14, (0.5,1]:-4}", Gauge));
    h.div(0.0);
    assert_eq!(h.to_string(), "{count:-Inf, sum:-Inf, [-0,0]:NaN}");
}

#[track_caller]
fn check_reset(now: &FloatHistogram, before: &FloatHistogram, expect: bool) {
    assert_eq!(now.detect_reset(before), expect, "{before} to {now}");
}

#[test]
fn resets_are_detected() {
    let h = positive(0, &[(0, 2)], &[1.0, 2.0]);
    check_reset(&h, &h, false);
    check_reset(&FloatHistogram { counter_reset_hint: Reset, ..h.clone() }, &h, true);
    let shrunk = positive(0, &[(0, 2)], &[4.0, 1.0]);
    check_reset(&shrunk, &h, true);
    check_reset(&FloatHistogram { counter_reset_hint: NotReset, ..shrunk }, &h, false);
    let vanished = positive(0, &[(1, 1)], &[9.0]);
    check_reset(&vanished, &h, true);
    check_reset(&vanished, &positive(0, &[(0, 2)], &[0.0, 2.0]), false);
    check_reset(&positive(1, &[(0, 4)], &[9.0; 4]), &h, true);
    check_reset(&h, &positive(1, &[(1, 2)], &[1.0, 1.0]), false);
    let wider = |threshold, zero| FloatHistogram {
        zero_threshold: threshold,
        zero_count: zero,
        count: 9.0,
        ..positive(0, &[(1, 1)], &[2.0])
    };
    check_reset(&wider(1.0, 1.0), &h, false);
    check_reset(&wider(1.0, 0.0), &h, true);
    check_reset(&wider(0.75, 5.0), &h, true);
    check_reset(&h, &wider(1.0, 1.0), true);
    let c = custom(&[1.0, 2.0], &[1.0, 2.0, 3.0]);
    check_reset(&c, &h, true);
    check_reset(&custom(&[2.0], &[3.0, 3.0]), &c, false);
    check_reset(&custom(&[2.0], &[2.0, 4.0]), &c, true);
}

#[track_caller]
fn check_trim(h: &FloatHistogram, limit: f64, upper: &str, lower: &str) {
    let (mut below, mut above) = (h.clone(), h.clone());
    below.trim_upper(limit);
    above.trim_lower(limit);
    assert_eq!((below.to_string().as_str(), above.to_string().as_str()), (upper, lower), "at {limit}");
}

#[test]
fn trimming_keeps_one_side_and_estimates_the_sum() {
    let h = positive(0, &[(1, 3)], &[4.0, 4.0, 4.0]);
    check_trim(&h, 8.0, "{count:12, sum:7, (1,2]:4, (2,4]:4, (4,8]:4}", "{count:0, sum:0}");
    check_trim(&h, 1.0, "{count:0, sum:0}", "{count:12, sum:7, (1,2]:4, (2,4]:4, (4,8]:4}");
    let h = custom(&[10.0, 20.0], &[4.0, 4.0, 4.0]);
    check_trim(
        &h,
        15.0,
        "{count:6, sum:45, [-Inf,10]:4, (10,20]:2}",
        "{count:6, sum:115, (10,20]:2, (20,+Inf]:4}",
    );
    check_trim(
        &h,
        5.0,
        "{count:2, sum:5, [-Inf,10]:2}",
        "{count:10, sum:155, [-Inf,10]:2, (10,20]:4, (20,+Inf]:4}",
    );
}

#[track_caller]
fn check_refused(h: &FloatHistogram, expect: &str) {
    assert_eq!(h.validate().expect_err("refused").to_string(), expect);
}

#[test]
fn inconsistent_histograms_are_refused_in_prometheus_words() {
    assert_eq!(positive(0, &[(0, 1)], &[1.0]).validate(), Ok(()));
    check_refused(
        &positive(0, &[(0, 2)], &[1.0]),
        "positive side: spans need 2 buckets, have 1 buckets: \
         histogram spans specify different number of buckets than provided",
    );
    check_refused(
        &positive(0, &[(0, 1), (-1, 1)], &[1.0, 1.0]),
        "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
    );
    check_refused(
        &positive(0, &[(0, 1)], &[-1.0]),
        "observation count is  -1: histogram's observation count is negative",
    );
    check_refused(
        &custom(&[1.0, 1.0], &[1.0]),
        "custom buckets: previous bound is 1.000000 and current is 1.000000: \
         histogram custom bounds must be in strictly increasing order",
    );
    check_refused(
        &custom(&[1.0], &[1.0, 1.0, 1.0]),
        "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: \
         histogram custom bounds are too few",
    );
    check_refused(
        &positive(9, &[], &[]),
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, \
         or -53 for custom buckets, got schema 9",
    );
    let h = Histogram {
        count: 3,
        positive_spans: spans(&[(0, 1)]),
        positive_deltas: vec![2],
        ..Histogram::default()
    };
    assert_eq!(
        h.validate().expect_err("refused").to_string(),
        "2 observations found in buckets, but the Count field is 3: histogram's observation count should equal \
         the number of observations found in the buckets (in absence of NaN)"
    );
    assert_eq!(Histogram { sum: f64::NAN, ..h }.validate(), Ok(()));
}

#[test]
fn classic_histograms_become_custom_ones() {
    let mut classic = ClassicHistogram::default();
    for (le, count) in [(f64::INFINITY, 4.0), (1.0, 1.0), (2.0, 1.0), (2.0, 9.0)] {
        assert_eq!(classic.set_bucket(le, count), Ok(()));
    }
    assert_eq!(classic.set_sum(10.0), Ok(()));
    let Ok(Converted::Integer(h)) = classic.convert() else { panic!("whole counts") };
    assert_eq!(h.validate(), Ok(()));
    assert_eq!(h.to_string(), "{count:4, sum:10, [-Inf,1]:1, (2,+Inf]:3}");
    assert_eq!(h.positive_deltas, [1, -1, 3]);
    assert_eq!(classic.set_count(5.0), Ok(()));
    let error = classic.convert().expect_err("counts differ").to_string();
    assert_eq!(error, "count mismatch: count=5 != le=+Inf count=4");
    let error = classic.set_bucket(1.5, 3.0).expect_err("not cumulative").to_string();
    assert_eq!(error, "count is not cumulative: 3 > 1");
    assert!(classic.convert().is_err(), "an error stays");
}

#[test]
fn classic_histograms_with_broken_counts_become_float_ones() {
    let mut classic = ClassicHistogram::default();
    assert_eq!(classic.set_bucket(1.0, 0.5), Ok(()));
    assert_eq!(classic.set_count(2.0), Ok(()));
    let Ok(Converted::Float(h)) = classic.convert() else { panic!("broken counts") };
    assert_eq!(h.to_string(), "{count:2, sum:0, [-Inf,1]:0.5, (1,+Inf]:1.5}");
    assert_eq!(classic_part("x_bucket"), Some(ClassicPart::Bucket("x")));
    assert_eq!(classic_part("x_total"), None);
}

#[test]
fn integer_histograms_reduce_like_float_ones() {
    let mut h = Histogram {
        schema: 1,
        count: 10,
        positive_spans: spans(&[(1, 4)]),
        positive_deltas: vec![1, 1, 1, 1],
        ..Histogram::default()
    };
    let mut float = h.to_float();
    assert_eq!((h.reduce_resolution(0), float.reduce_resolution(0)), (Ok(()), Ok(())));
    assert_eq!(h.positive_deltas, [3, 4]);
    assert!(h.to_float().equals(&float));
    assert!(h.reduce_resolution(1).is_err());
}

/// A side as a map, and any spans that lay it out.
fn side() -> impl Strategy<Value = (Vec<Span>, Vec<f64>)> {
    proptest::collection::vec((0i32..4, 0u32..4, proptest::collection::vec(0u8..4, 4)), 0..5).prop_map(
        |list| {
            let mut counts = Vec::new();
            let spans = list
                .iter()
                .enumerate()
                .map(|(i, (offset, length, values))| {
                    counts.extend(values.iter().take(*length as usize).map(|&v| f64::from(v)));
                    Span { offset: if i == 0 { offset - 2 } else { *offset }, length: *length }
                })
                .collect();
            (spans, counts)
        },
    )
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let threshold = prop_oneof![Just(0.0), Just(0.001), Just(0.25), Just(1.0), Just(4.0)];
    (side(), side(), -1i32..3, threshold, 0u8..5).prop_map(
        |(positive, negative, schema, zero_threshold, zero)| {
            let mut h = FloatHistogram {
                schema,
                zero_threshold,
                zero_count: f64::from(zero),
                positive_spans: positive.0,
                positive_buckets: positive.1,
                negative_spans: negative.0,
                negative_buckets: negative.1,
                ..FloatHistogram::default()
            };
            // What lies within the zero bucket is counted there.
            let swallowed = |b: &Bucket| b.lower.abs().max(b.upper.abs()) <= zero_threshold;
            let positive = h.positive().filter(swallowed).count();
            let negative = h.negative().filter(swallowed).count();
            h.positive_buckets[..positive].fill(0.0);
            h.negative_buckets[..negative].fill(0.0);
            h.count = h.zero_count + h.positive_buckets.iter().chain(&h.negative_buckets).sum::<f64>();
            h
        },
    )
}

/// Populated buckets of one side by their outer bound's bits, in a schema, outside of a zero bucket.
fn map(h: &FloatHistogram, schema: i32, threshold: f64, side: iter::Side) -> BTreeMap<i64, f64> {
    let mut map = BTreeMap::new();
    for (idx, count) in h.indexed(side) {
        let idx = bounds::target_index(idx, h.schema, schema);
        if bounds::exponential_bound(idx, schema) > threshold {
            *map.entry(idx).or_insert(0.0) += count;
        }
    }
    map.retain(|_, count| *count != 0.0);
    map
}

proptest! {
    #[test]
    fn sums_are_sums_of_buckets(a in any_histogram(), b in any_histogram()) {
        let mut sum = a.clone();
        prop_assert!(sum.add(&b).is_ok());
        prop_assert_eq!(sum.validate(), Ok(()));
        prop_assert!(sum.zero_threshold >= a.zero_threshold.max(b.zero_threshold));
        let mut total = sum.zero_count;
        for side in [iter::Side::Positive, iter::Side::Negative] {
            let mut expect = map(&a, sum.schema, sum.zero_threshold, side);
            for (idx, count) in map(&b, sum.schema, sum.zero_threshold, side) {
                *expect.entry(idx).or_insert(0.0) += count;
            }
            let got = map(&sum, sum.schema, sum.zero_threshold, side);
            total += got.values().sum::<f64>();
            prop_assert_eq!(got, expect);
        }
        prop_assert_eq!(total, a.count + b.count);
    }

    #[test]
    fn compensated_sums_agree_with_plain_ones(list in proptest::collection::vec(any_histogram(), 1..6)) {
        let (mut plain, mut kahan, mut comp) = (list[0].clone(), list[0].clone(), None);
        for h in &list[1..] {
            prop_assert!(plain.add(h).is_ok() && kahan.kahan_add(h, &mut comp).is_ok());
            let comp = comp.as_ref().expect("made by the first addition");
            prop_assert_eq!(comp.positive_buckets.len(), kahan.positive_buckets.len());
            prop_assert_eq!(comp.negative_buckets.len(), kahan.negative_buckets.len());
        }
        if let Some(comp) = &comp {
            prop_assert!(kahan.add(comp).is_ok());
        }
        plain.compact(0);
        kahan.compact(0);
        prop_assert!(plain.equals(&kahan), "{} and {}", plain, kahan);
    }

    #[test]
    fn adding_only_counts_up(a in any_histogram(), b in any_histogram()) {
        let mut sum = a.clone();
        prop_assert!(sum.add(&b).is_ok());
        prop_assert!(!sum.detect_reset(&a), "{} to {}", a, sum);
    }

    #[test]
    fn walks_down_are_walks_up_reversed(h in any_histogram()) {
        let up: Vec<Bucket> = h.buckets().collect();
        let mut down: Vec<Bucket> = h.buckets_rev().collect();
        down.reverse();
        prop_assert_eq!(up, down);
    }

    #[test]
    fn compacting_changes_no_bucket(h in any_histogram(), max in 0usize..4) {
        let mut compact = h.clone();
        compact.compact(max);
        prop_assert_eq!(compact.validate(), Ok(()));
        prop_assert_eq!(compact.to_string(), h.to_string());
        let again = { let mut again = compact.clone(); again.compact(max); again };
        prop_assert!(again.equals(&compact));
    }

    #[test]
    fn trimmed_parts_add_up(h in any_histogram(), limit in -6.0..6.0f64) {
        let (mut below, mut above) = (h.clone(), h.clone());
        below.trim_upper(limit);
        above.trim_lower(limit);
        prop_assert!((below.count + above.count - h.count).abs() < 1e-9);
    }

    #[test]
    fn nothing_panics_on_inconsistent_histograms(
        a in any_histogram(), b in any_histogram(), offset in any::<i32>(), length in any::<u32>(), schema in -60i32..60, threshold in any::<f64>(),
    ) {
        let mut a = a;
        a.positive_spans.push(Span { offset, length });
        a.negative_spans.insert(0, Span { offset, length: length % 5 });
        a.schema = schema;
        a.zero_threshold = threshold;
        let _ = (a.validate(), a.to_string(), a.test_expression(), a.detect_reset(&b), b.detect_reset(&a));
        let _ = (a.buckets().count(), a.buckets_rev().count());
        let (mut c, mut d, mut comp) = (a.clone(), b.clone(), None);
        let _ = (c.add(&b), d.sub(&a), d.kahan_add(&a, &mut comp), c.to_schema(-2));
        let _ = (c.kahan_add(&b, &mut None), c.equals(&d));
        c.trim_upper(threshold);
        d.trim_lower(0.5);
        c.compact(3);
    }
}
