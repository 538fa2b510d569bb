//! Aggregations against expected values; columns and merged partials against one pass.

use super::*;
use crate::{ABSENT, is_absent};
use proptest::prelude::*;

#[track_caller]
fn check(aggregation: Aggregation, values: &[f64], expect: f64) {
    let mut group = Group::new(aggregation);
    values.iter().for_each(|&v| group.add_float(v));
    let got = group.finish(0.5).value.and_then(|v| v.float()).unwrap_or(ABSENT);
    let same =
        got == expect || (got.is_nan() && expect.is_nan()) || (got - expect).abs() <= 1e-12 * expect.abs();
    assert!(same && !is_absent(got), "{aggregation:?} of {values:?} is {got}, not {expect}");
}

#[test]
fn groups_aggregate_floats() {
    use Aggregation::*;
    let nan = f64::NAN;
    check(Sum, &[1.0, 1e100, 1.0, -1e100], 2.0);
    check(Sum, &[f64::INFINITY, f64::NEG_INFINITY], nan);
    check(Avg, &[f64::MAX, f64::MAX, f64::MAX], f64::MAX);
    check(Min, &[nan, 3.0, -1.0], -1.0);
    check(Max, &[nan, nan], nan);
    check(Count, &[nan, 1.0], 2.0);
    check(Group, &[5.0], 1.0);
    check(Stdvar, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 4.0);
    check(Stddev, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 2.0);
    check(Stdvar, &[f64::INFINITY], nan);
    check(Stdvar, &[1.0, f64::INFINITY], nan);
    check(Quantile, &[3.0, 1.0, 2.0], 2.0);
}

fn histogram(count: f64) -> FloatHistogram {
    FloatHistogram {
        count,
        sum: count,
        positive_spans: vec![model::Span { offset: 0, length: 2 }],
        positive_buckets: vec![count, 0.0],
        ..FloatHistogram::default()
    }
}

#[test]
fn groups_of_both_kinds_have_no_sum() {
    let mut sum = Group::new(Aggregation::Sum);
    sum.add_histogram(&histogram(1.0));
    sum.add_float(1.0);
    sum.add_histogram(&histogram(1.0));
    let answer = sum.finish(0.0);
    assert!(answer.value.is_none() && answer.notes == Notes::MIXED_FLOATS_HISTOGRAMS);
}

#[test]
fn sums_of_histograms_are_compact() {
    let mut sum = Group::new(Aggregation::Sum);
    sum.add_histogram(&histogram(1.0));
    sum.add_histogram(&histogram(2.0));
    let Some(Value::Histogram(h)) = sum.finish(0.0).value else { panic!("a histogram") };
    assert_eq!(h.to_string(), "{count:3, sum:3, (0.5,1]:3}");
    assert_eq!(h.positive_buckets.len(), 1);
}

#[test]
fn histograms_are_ignored_where_they_have_no_order() {
    for aggregation in [Aggregation::Min, Aggregation::Stddev, Aggregation::Quantile] {
        let mut group = Group::new(aggregation);
        group.add_histogram(&histogram(1.0));
        group.add_float(4.0);
        group.add_histogram(&histogram(1.0));
        let answer = group.finish(0.5);
        assert!(answer.value.is_some());
        assert_eq!(answer.notes, Notes::HISTOGRAM_IGNORED_IN_AGGREGATION);
    }
}

#[test]
fn mixed_buckets_spoil_a_group_with_a_note() {
    let custom = FloatHistogram { schema: -53, ..histogram(1.0) };
    let mut sum = Group::new(Aggregation::Sum);
    sum.add_histogram(&histogram(1.0));
    sum.add_histogram(&custom);
    let answer = sum.finish(0.0);
    assert!(answer.value.is_none() && answer.notes == Notes::MIXED_EXPONENTIAL_CUSTOM);
}

#[track_caller]
fn check_top(direction: Direction, k: usize, values: &[f64], expect: &[usize]) {
    let mut top = TopK::new(direction, k);
    for (i, &v) in values.iter().enumerate() {
        top.offer(v, i);
    }
    let got: Vec<usize> = top.into_sorted().into_iter().map(|(_, i)| i).collect();
    assert_eq!(got, expect, "{direction:?} {k} of {values:?}");
}

#[test]
fn the_best_are_kept_in_order_and_nan_last() {
    use Direction::*;
    let nan = f64::NAN;
    check_top(Top, 2, &[1.0, 5.0, 3.0], &[1, 2]);
    check_top(Bottom, 2, &[1.0, 5.0, 3.0], &[0, 2]);
    check_top(Top, 3, &[nan, 1.0, 2.0, nan], &[2, 1, 0]);
    check_top(Bottom, 1, &[nan, 7.0], &[1]);
    check_top(Top, 0, &[1.0], &[]);
    check_top(Top, 9, &[1.0], &[0]);
    check_top(Top, 1, &[1.0, 1.0, 1.0], &[0]);
    check_top(Top, 2, &[1.0, 1.0, 2.0], &[2, 1]);
}

#[test]
fn ratios_and_their_complements_share_all_offsets() {
    for offset in [0.0, 0.3, 0.6, 0.999] {
        assert!(ratio_keeps(0.4, offset) != ratio_keeps(-0.6, offset));
        assert!(ratio_keeps(1.0, offset) && ratio_keeps(-1.0, offset));
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -1e6..1e6f64,
        1 => Just(1e308),
        1 => Just(f64::NAN),
        1 => Just(-0.0),
        3 => Just(ABSENT),
    ]
}

proptest! {
    #[test]
    fn columns_are_groups_by_step(rows in proptest::collection::vec(proptest::collection::vec(value(), 5), 0..20)) {
        let (mut sum, mut avg, mut count) = (SumColumn::new(5), AvgColumn::new(5), CountColumn::new(5));
        let (mut min, mut max) = (MinColumn::new(5), MaxColumn::new(5));
        for row in &rows {
            sum.add(row);
            avg.add(row);
            count.add(row);
            min.add(row);
            max.add(row);
        }
        use Aggregation::*;
        let columns = [(Sum, sum.finish()), (Avg, avg.finish()), (Count, count.finish()), (Min, min.finish()), (Max, max.finish())];
        for (aggregation, column) in columns {
            for step in 0..5 {
                let mut group = super::Group::new(aggregation);
                rows.iter().map(|r| r[step]).filter(|v| !is_absent(*v)).for_each(|v| group.add_float(v));
                let expect = group.finish(0.0).value.and_then(|v| v.float()).unwrap_or(ABSENT);
                let (a, b) = (column[step], expect);
                let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan() && is_absent(a) == is_absent(b));
                prop_assert!(same, "{:?}: {} for {}", aggregation, a, b);
            }
        }
    }

    #[test]
    fn merged_parts_are_close_to_the_whole(a in proptest::collection::vec(-1e9..1e9f64, 1..40), b in proptest::collection::vec(-1e9..1e9f64, 1..40)) {
        use Aggregation::*;
        for aggregation in [Sum, Avg, Min, Max, Count, Group, Stddev, Stdvar, Quantile] {
            let of = |values: &[f64]| {
                let mut group = super::Group::new(aggregation);
                values.iter().for_each(|&v| group.add_float(v));
                group
            };
            let mut merged = of(&a);
            merged.merge(of(&b));
            let merged = merged.finish(0.3).value.and_then(|v| v.float());
            let whole = of(&[a.clone(), b.clone()].concat()).finish(0.3).value.and_then(|v| v.float());
            let (Some(merged), Some(whole)) = (merged, whole) else { panic!("values on both sides") };
            prop_assert!((merged - whole).abs() <= 1e-9 * whole.abs().max(1.0), "{:?}: {} for {}", aggregation, merged, whole);
        }
    }
}
