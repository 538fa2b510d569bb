//! Range functions against values that Prometheus's scripts expect.

use super::*;
use crate::Value;
use model::CounterResetHint::{self, Gauge, NotReset, Reset, Unknown};
use model::Span;

type Point = (i64, i64, FloatHistogram);

/// A window over floats, `(start, end]` in seconds.
fn window<'a>(times: &'a [i64], values: &'a [f64], start: i64, end: i64) -> Window<'a, NoHistograms> {
    Window {
        at: end,
        start,
        end,
        times,
        values,
        starts: &[],
        histograms: &[],
        histogram_starts: false,
        modifier: Modifier::Plain,
    }
}

const MINUTE: i64 = 60_000;

/// Samples every minute from minute 0 on.
fn minutely(values: &[f64]) -> Vec<i64> {
    (0..values.len() as i64).map(|i| i * MINUTE).collect()
}

#[track_caller]
fn check(f: RangeFunction, values: &[f64], (start, end): (i64, i64), expect: Option<f64>) {
    let times = minutely(values);
    let got = f.eval(&window(&times, values, start, end)).value.and_then(|v| v.float());
    let same = match (got, expect) {
        (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * b.abs(),
        (a, b) => a.is_none() && b.is_none(),
    };
    assert!(same, "{f:?} of {values:?} is {got:?}, not {expect:?}");
}

#[test]
fn rates_are_extrapolated_to_the_edges() {
    use RangeFunction::*;
    // Eleven samples of +10 a minute: the first lies on the open edge's far side.
    let up: Vec<f64> = (0..=10).map(|i| f64::from(i) * 10.0).collect();
    check(Rate, &up[..], (-MINUTE, 10 * MINUTE), Some(100.0 / 660.0));
    check(Increase, &[0.0, 50.0, 100.0], (-30_000, 150_000), Some(125.0));
    check(Delta, &[100.0, 50.0, 0.0], (-30_000, 150_000), Some(-150.0));
    check(Increase, &[5.0], (-1, MINUTE), None);
    check(Increase, &[10.0, 20.0, 5.0, 15.0], (-30_000, 210_000), Some(25.0 * 240.0 / 180.0));
}

#[test]
fn counters_are_not_extrapolated_below_zero() {
    // From 1 to 11 in a minute: zero was 6 s before the first sample.
    check(RangeFunction::Increase, &[1.0, 11.0], (-30_000, 60_000), Some(10.0 * 66.0 / 60.0));
    check(RangeFunction::Delta, &[1.0, 11.0], (-30_000, 60_000), Some(10.0 * 90.0 / 60.0));
}

#[test]
fn start_times_reset_counters_and_stand_for_zero() {
    let (times, values) = ([10_000, 20_000], [5.0, 7.0]);
    let mut w = window(&times, &values, 0, 20_000);
    let starts = [4_000, 12_000];
    w.starts = &starts;
    // Zero at 4 s, five, reset, seven more: 12 in 16 s.
    let gained = RangeFunction::Increase.eval(&w).value.and_then(|v| v.float());
    assert_eq!(gained, Some(12.0));
    w.times = &times[..1];
    w.values = &values[..1];
    let gained = RangeFunction::Increase.eval(&w).value.and_then(|v| v.float());
    assert_eq!(gained, Some(5.0));
    let overlapping = [4_000, 9_000];
    w = Window { times: &times, values: &values, starts: &overlapping, ..w };
    assert!(RangeFunction::Rate.eval(&w).notes.contains(Notes::START_TIME_OVERLAP));
}

#[test]
fn start_time_resets_follow_the_table_of_cases() {
    assert!(!start_reset((1, 10), (0, 20)), "unknown start");
    assert!(!start_reset((1, 10), (20, 20)), "a start that is no start");
    assert!(!start_reset((1, 10), (5, 20)), "began before the previous sample");
    assert!(start_reset((1, 10), (15, 20)), "began after it");
    assert!(start_reset((1, 10), (10, 20)), "a delta");
    assert!(!start_reset((0, 10), (10, 20)), "previous start unknown");
    assert!(!start_reset((10, 10), (10, 20)), "previous start unknown, in OpenTelemetry's way");
    assert!(!start_reset((11, 10), (10, 20)), "previous start invalid");
}

#[test]
fn instant_rates_use_the_last_two_samples() {
    use RangeFunction::*;
    check(Irate, &[0.0, 10.0, 40.0], (-1, 120_000), Some(0.5));
    check(Irate, &[0.0, 50.0, 30.0], (-1, 120_000), Some(0.5));
    check(Idelta, &[0.0, 50.0, 30.0], (-1, 120_000), Some(-20.0));
    check(Idelta, &[1.0], (-1, 120_000), None);
}

#[test]
fn aggregations_over_time() {
    use RangeFunction::*;
    let all = (-1, i64::from(i32::MAX));
    let nan = f64::NAN;
    check(SumOverTime, &[1.0, 1e100, 1.0, -1e100], all, Some(2.0));
    check(SumOverTime, &[f64::INFINITY, 1.0], all, Some(f64::INFINITY));
    check(AvgOverTime, &[f64::MAX, f64::MAX], all, Some(f64::MAX));
    check(AvgOverTime, &[-1e308, 1e308], all, Some(0.0));
    check(AvgOverTime, &[1.0, 1e100, 1.0, -1e100], all, Some(0.5));
    check(MinOverTime, &[nan, 2.0, 1.0], all, Some(1.0));
    check(MaxOverTime, &[nan, nan], all, Some(nan));
    check(CountOverTime, &[1.0, nan], all, Some(2.0));
    check(PresentOverTime, &[nan], all, Some(1.0));
    check(QuantileOverTime(0.5), &[1.0, 3.0, 2.0], all, Some(2.0));
    check(StdvarOverTime, &[0.0, 8.0, 8.0, 2.0, 3.0], all, Some(10.56));
    check(StddevOverTime, &[1.5990505637277868; 4], all, Some(0.0));
    check(MadOverTime, &[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0], all, Some(1.0));
    check(MadOverTime, &[1.0, nan], all, Some(nan));
    check(TsOfMaxOverTime, &[1.0, 5.0, 5.0, 2.0], all, Some(120.0));
    check(TsOfMinOverTime, &[1.0, 5.0, 1.0, 2.0], all, Some(120.0));
    check(TsOfFirstOverTime, &[7.0, 7.0], all, Some(0.0));
    check(TsOfLastOverTime, &[7.0, 7.0], all, Some(60.0));
    check(LastOverTime, &[1.0, 2.0], all, Some(2.0));
    check(FirstOverTime, &[1.0, 2.0], all, Some(1.0));
}

#[test]
fn changes_and_resets_are_counted() {
    use RangeFunction::*;
    let all = (-1, i64::from(i32::MAX));
    check(Changes, &[1.0, 2.0, 2.0, f64::NAN, f64::NAN, 1.0], all, Some(3.0));
    check(Resets, &[3.0, 2.0, 2.0, f64::NAN, 1.0, 0.0], all, Some(2.0));
    check(Resets, &[3.0], all, Some(0.0));
    check(Resets, &[], all, None);
}

#[test]
fn regressions_and_smoothing() {
    use RangeFunction::*;
    let line: Vec<f64> = (0..=10).map(|i| f64::from(i) * 10.0).collect();
    check(Deriv, &line, (-1, 600_000), Some(10.0 / 60.0));
    check(Deriv, &[f64::INFINITY, f64::INFINITY], (-1, 60_000), Some(f64::NAN));
    check(Deriv, &[4.0, 4.0, 4.0], (-1, 120_000), Some(0.0));
    check(Deriv, &[4.0], (-1, 120_000), None);
    check(PredictLinear(3600.0), &line, (-1, 600_000), Some(700.0));
    let f = DoubleExponentialSmoothing { smoothing: 0.01, trend: 0.1 };
    check(f, &[5.0], (-1, 60_000), None);
    assert_eq!(RangeFunction::smoothing(1.0, 0.5), Err(InvalidFactor::Smoothing(1.0)));
    assert_eq!(RangeFunction::smoothing(0.5, 0.0), Err(InvalidFactor::Trend(0.0)));
    check(
        DoubleExponentialSmoothing { smoothing: 0.5, trend: 0.5 },
        &[0.0, 10.0, 20.0],
        (-1, 120_000),
        Some(20.0),
    );
}

fn extended(f: RangeFunction, modifier: Modifier, w: Window<'_, NoHistograms>) -> Option<f64> {
    f.eval(&Window { modifier, ..w }).value.and_then(|v| v.float())
}

#[test]
fn anchored_rates_begin_at_the_sample_before_the_range() {
    let (times, values) = ([0, 15_000, 30_000, 45_000], [1.0, 2.0, 4.0, 1.0]);
    let w = window(&times, &values, 10_000, 50_000);
    // 1 to 4, then reset and up to 1.
    assert_eq!(extended(RangeFunction::Increase, Modifier::Anchored, w), Some(4.0));
    assert_eq!(extended(RangeFunction::Delta, Modifier::Anchored, w), Some(0.0));
    assert_eq!(extended(RangeFunction::Resets, Modifier::Anchored, w), Some(1.0));
    assert_eq!(extended(RangeFunction::Changes, Modifier::Anchored, w), Some(3.0));
    let late = window(&times, &values, 45_000, 60_000);
    assert_eq!(extended(RangeFunction::Increase, Modifier::Anchored, late), None);
}

#[test]
fn smoothed_rates_interpolate_at_both_edges() {
    let (times, values) = ([0, 10_000, 20_000, 30_000], [0.0, 10.0, 20.0, 5.0]);
    let w = window(&times, &values, 5_000, 15_000);
    assert_eq!(extended(RangeFunction::Increase, Modifier::Smoothed, w), Some(10.0));
    // The reset between 20 s and 30 s makes the right edge 2.5, counted from zero.
    let w = window(&times, &values, 5_000, 25_000);
    assert_eq!(extended(RangeFunction::Increase, Modifier::Smoothed, w), Some(17.5));
    assert_eq!(extended(RangeFunction::Delta, Modifier::Smoothed, w), Some(7.5));
}

#[test]
fn extended_ranges_have_a_sample_at_either_edge() {
    let (times, values) = ([0, 10_000, 20_000], [1.0, 2.0, 3.0]);
    let anchored = extend_floats(&times, &values, 5_000, 25_000, false);
    assert_eq!(anchored, [(5_000, 1.0), (10_000, 2.0), (20_000, 3.0), (25_000, 3.0)]);
    let smoothed = extend_floats(&times, &values, 5_000, 15_000, true);
    assert_eq!(smoothed, [(5_000, 1.5), (10_000, 2.0), (15_000, 2.5)]);
    assert_eq!(extend_floats(&times, &values, 20_000, 30_000, false), []);
    assert_eq!(extend_floats(&[], &[], 0, 1, true), []);
}

#[test]
fn smoothed_instants_lie_between_their_neighbors() {
    let (times, values) = ([0, 10_000], [1.0, 3.0]);
    let at = |t| smooth_instant(&window(&times, &values, 0, 0), t).value.and_then(|v| v.float());
    assert_eq!(
        (at(-1), at(0), at(5_000), at(10_000), at(12_000)),
        (None, Some(1.0), Some(2.0), Some(3.0), Some(3.0))
    );
}

fn histogram(hint: CounterResetHint, buckets: &[f64]) -> FloatHistogram {
    FloatHistogram {
        counter_reset_hint: hint,
        count: buckets.iter().sum(),
        sum: buckets.iter().sum::<f64>() * 2.0,
        positive_spans: vec![Span { offset: 0, length: buckets.len() as u32 }],
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: model::histogram::SCHEMA_CUSTOM,
        custom_values: bounds.to_vec(),
        ..histogram(Unknown, buckets)
    }
}

impl HistogramSample for Point {
    fn time(&self) -> i64 {
        self.0
    }
    fn start(&self) -> i64 {
        self.1
    }
    fn histogram(&self) -> &FloatHistogram {
        &self.2
    }
}

fn every_minute(list: Vec<FloatHistogram>) -> Vec<Point> {
    list.into_iter().enumerate().map(|(i, h)| (i as i64 * MINUTE, 0, h)).collect()
}

fn eval(f: RangeFunction, points: &[Point], start: i64, end: i64) -> Answer {
    f.eval(&Window {
        at: end,
        start,
        end,
        times: &[],
        values: &[],
        starts: &[],
        histograms: points,
        histogram_starts: false,
        modifier: Modifier::Plain,
    })
}

#[track_caller]
fn check_histogram(answer: &Answer, expect: &str, notes: Notes) {
    let text = answer.value.as_ref().and_then(Value::histogram).map(FloatHistogram::test_expression);
    assert_eq!((text.unwrap_or_default().as_str(), answer.notes), (expect, notes));
}

#[test]
fn histogram_rates_count_resets_and_become_gauges() {
    let points = every_minute(vec![
        histogram(Unknown, &[1.0, 2.0]),
        histogram(Unknown, &[2.0, 4.0]),
        histogram(Reset, &[1.0, 1.0]),
    ]);
    // Gain: (1 1) - (1 2) + (2 4) = (2 3), over two minutes of three.
    let increase = eval(RangeFunction::Increase, &points, -30_000, 150_000);
    let text = "{{count:7.5 sum:15 counter_reset_hint:gauge buckets:[3 4.5]}}";
    check_histogram(&increase, text, Notes::NONE);
    let delta = eval(RangeFunction::Delta, &points, -30_000, 150_000);
    assert!(delta.notes.contains(Notes::NOT_A_GAUGE));
    let irate = eval(RangeFunction::Irate, &points, -30_000, 150_000);
    assert_eq!(irate.value.as_ref().and_then(Value::histogram).map(|h| h.count), Some(2.0 / 60.0));
}

#[test]
fn histogram_rates_refuse_mixed_buckets_and_warn_of_gauges() {
    let mixed = every_minute(vec![histogram(NotReset, &[1.0]), custom(&[5.0], &[2.0])]);
    let answer = eval(RangeFunction::Delta, &mixed, -1, MINUTE);
    check_histogram(&answer, "", Notes::MIXED_EXPONENTIAL_CUSTOM);
    let gauges = every_minute(vec![histogram(Gauge, &[1.0]), histogram(Gauge, &[3.0])]);
    assert!(eval(RangeFunction::Rate, &gauges, -1, MINUTE).notes.contains(Notes::NOT_A_COUNTER));
    assert!(eval(RangeFunction::Delta, &gauges, -1, MINUTE).notes.is_empty());
}

#[test]
fn custom_bounds_are_reconciled_with_a_note() {
    let points = every_minute(vec![custom(&[5.0, 10.0], &[1.0, 2.0, 1.0]), custom(&[5.0], &[2.0, 6.0])]);
    let answer = eval(RangeFunction::SumOverTime, &points, -1, MINUTE);
    let text = "{{schema:-53 count:12 sum:24 custom_values:[5] buckets:[3 9]}}";
    check_histogram(&answer, text, Notes::BOUNDS_RECONCILED_AGGREGATION);
    let rate = eval(RangeFunction::Increase, &points, -1, MINUTE);
    assert!(rate.notes.contains(Notes::BOUNDS_RECONCILED_SUB));
}

#[test]
fn conflicting_hints_in_a_sum_are_noted() {
    let points = every_minute(vec![histogram(Reset, &[1.0]), histogram(NotReset, &[3.0])]);
    let answer = eval(RangeFunction::AvgOverTime, &points, -1, MINUTE);
    check_histogram(&answer, "{{count:2 sum:4 buckets:[2]}}", Notes::RESET_COLLISION_AGGREGATION);
}

#[test]
fn histogram_averages_survive_overflow() {
    let mut huge = histogram(Unknown, &[1.0]);
    huge.sum = f64::MAX;
    let points = every_minute(vec![huge.clone(), huge.clone(), huge]);
    let answer = eval(RangeFunction::AvgOverTime, &points, -1, 3 * MINUTE);
    let sum = answer.value.as_ref().and_then(Value::histogram).map(|h| h.sum);
    assert!(sum.is_some_and(|s| (s - f64::MAX).abs() / f64::MAX < 1e-12), "{sum:?}");
}

#[test]
fn mixed_samples_are_refused_or_noted() {
    let points = every_minute(vec![histogram(Unknown, &[1.0])]);
    let (times, values) = ([30_000], [2.0]);
    let w = Window {
        at: MINUTE,
        start: -1,
        end: MINUTE,
        times: &times,
        values: &values,
        starts: &[],
        histograms: &points[..],
        histogram_starts: false,
        modifier: Modifier::Plain,
    };
    use RangeFunction::*;
    for f in [Rate, SumOverTime, AvgOverTime, Irate] {
        let answer = f.eval(&w);
        assert!(answer.value.is_none() && answer.notes == Notes::MIXED_FLOATS_HISTOGRAMS, "{f:?}");
    }
    for f in [MinOverTime, StddevOverTime, QuantileOverTime(0.5), MadOverTime] {
        let answer = f.eval(&w);
        assert!(answer.value.is_some() && answer.notes == Notes::HISTOGRAMS_IGNORED_IN_RANGE, "{f:?}");
    }
    let notes = Deriv.eval(&w).notes;
    assert_eq!(notes, Notes::HISTOGRAMS_IGNORED_IN_RANGE);
    assert_eq!(Changes.eval(&w).value.and_then(|v| v.float()), Some(1.0));
    assert_eq!(CountOverTime.eval(&w).value.and_then(|v| v.float()), Some(2.0));
    assert!(FirstOverTime.eval(&w).value.is_some_and(|v| v.histogram().is_some()));
    assert_eq!(LastOverTime.eval(&w).value.and_then(|v| v.float()), Some(2.0));
}
