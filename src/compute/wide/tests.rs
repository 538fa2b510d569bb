//! Every fast path gives the bits of the plain one.

use super::*;
use proptest::prelude::*;

/// Values that meet the edges: whole and broken numbers, zeros of either sign, resets, infinities, NaN.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0i32..1000).prop_map(f64::from),
        4 => -1e6..1e6f64,
        1 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1e308),
    ]
}

fn series() -> impl Strategy<Value = (Vec<i64>, Vec<f64>)> {
    let whole = (-50i32..1000).prop_map(f64::from).boxed();
    let any = value().boxed();
    prop_oneof![Just(whole), Just(any)]
        .prop_flat_map(|value| proptest::collection::vec((1i64..40_000, value), 0..200))
        .prop_map(|list| {
            let mut t = 0;
            list.into_iter()
                .map(|(gap, v)| {
                    t += gap;
                    (t, v)
                })
                .unzip()
        })
}

fn steps() -> impl Strategy<Value = Steps> {
    (-100_000i64..1_000_000, 1i64..60_000, 1usize..60, 1i64..600_000, -50_000i64..50_000)
        .prop_map(|(first, interval, count, range, offset)| Steps { first, interval, count, range, offset })
}

const FUNCTIONS: [RangeFunction; 14] = [
    RangeFunction::Rate,
    RangeFunction::Increase,
    RangeFunction::Delta,
    RangeFunction::SumOverTime,
    RangeFunction::AvgOverTime,
    RangeFunction::MinOverTime,
    RangeFunction::MaxOverTime,
    RangeFunction::CountOverTime,
    RangeFunction::LastOverTime,
    RangeFunction::FirstOverTime,
    RangeFunction::PresentOverTime,
    RangeFunction::Changes,
    RangeFunction::Resets,
    RangeFunction::Deriv,
];

proptest! {
    #[test]
    fn windows_hold_what_lies_in_their_range((times, _) in series(), steps in steps()) {
        let table = WindowTable::new(&times, &steps);
        for step in 0..steps.count {
            let (start, end) = steps.range_at(step);
            let inside: Vec<i64> = times.iter().copied().filter(|&t| t > start && t <= end).collect();
            prop_assert_eq!(&times[table.range(step)], &inside[..]);
        }
    }

    #[test]
    fn rates_of_series_with_the_same_regular_times_are_those_of_each_window(
        columns in proptest::collection::vec(proptest::collection::vec(value(), 40), 1..5),
        (gap, range, phase) in (1i64..4, 1i64..9, -20i64..20),
    ) {
        let times: Vec<i64> = (0..40).map(|i| i * 15_000).collect();
        let (interval, range) = (gap * 15_000, range * 15_000);
        let steps = Steps { first: 60_000 + phase * 1000, interval, count: 16, range, offset: 0 };
        let table = WindowTable::new(&times, &steps);
        let kinds = [
            (RateKind::Rate, RangeFunction::Rate),
            (RateKind::Increase, RangeFunction::Increase),
            (RateKind::Delta, RangeFunction::Delta),
        ];
        let (mut fast, mut plain) = (Vec::new(), Vec::new());
        for (kind, f) in kinds {
            let mut rates = RateTable::new(kind, &times, &steps, &table);
            for values in &columns {
                rates.eval(values, &mut fast);
                let series = Series { times: &times, values, starts: &[] };
                eval_naive(f, series, &steps, &table, &mut plain);
                let bits = |column: &[f64]| -> Vec<u64> {
                    column.iter().map(|v| if v.is_nan() && !crate::is_absent(*v) { 1 } else { v.to_bits() }).collect()
                };
                prop_assert_eq!(bits(&fast), bits(&plain), "{:?}", f);
            }
        }
    }

    #[test]
    fn rates_step_by_step_are_those_series_by_series(
        mut columns in proptest::collection::vec(proptest::collection::vec(value(), 20), 1..150),
        grow in proptest::bool::ANY,
        (gap, range, phase) in (1i64..4, 1i64..9, -20i64..20),
    ) {
        if grow {
            columns.iter_mut().for_each(|c| c.sort_by(f64::total_cmp));
        }
        let times: Vec<i64> = (0..20).map(|i| i * 15_000).collect();
        let (interval, range) = (gap * 15_000, range * 15_000);
        let steps = Steps { first: 60_000 + phase * 1000, interval, count: 8, range, offset: 0 };
        let table = WindowTable::new(&times, &steps);
        for kind in [RateKind::Rate, RateKind::Increase, RateKind::Delta] {
            let mut rates = RateTable::new(kind, &times, &steps, &table);
            let falls = |c: &&Vec<f64>| kind.is_counter() && c.windows(2).any(|w| w[1] < w[0]);
            let columns: Vec<&Vec<f64>> = columns.iter().filter(|c| !falls(c)).collect();
            let (mut one, mut all) = (Vec::new(), Vec::new());
            for step in 0..steps.count {
                let Some((first, last)) = rates.ends(step) else { continue };
                let row = |i: usize| columns.iter().map(|c| c[i]).collect::<Vec<_>>();
                rates.column(step, &row(first), &row(last), &mut all);
                for (values, have) in columns.iter().zip(&all) {
                    rates.eval(values, &mut one);
                    let same = one[step].to_bits() == have.to_bits() || one[step].is_nan() && have.is_nan();
                    prop_assert!(same, "{:?} of {:?}: {} or {}", kind, values, one[step], have);
                }
            }
        }
    }

    #[test]
    fn wide_results_are_those_of_each_window((times, values) in series(), steps in steps()) {
        let table = WindowTable::new(&times, &steps);
        let series = Series { times: &times, values: &values, starts: &[] };
        let (mut fast, mut plain) = (Vec::new(), Vec::new());
        for f in FUNCTIONS {
            let notes = eval(f, series, &steps, &table, &mut fast);
            prop_assert_eq!(notes, eval_naive(f, series, &steps, &table, &mut plain));
            let bits = |column: &[f64]| -> Vec<u64> {
                // Arithmetic may choose which NaN it yields; absence is not for it to choose.
                column.iter().map(|v| if v.is_nan() && !crate::is_absent(*v) { 1 } else { v.to_bits() }).collect()
            };
            prop_assert_eq!(bits(&fast), bits(&plain), "{:?}", f);
        }
    }
}

#[test]
fn stale_samples_are_dropped_with_their_times() {
    let (times, values) = ([1, 2, 3], [1.0, ABSENT, f64::NAN]);
    assert!(without_stale(&times[..1], &values[..1], &[]).is_none());
    let Some((times, values, starts)) = without_stale(&times, &values, &[7, 8, 9]) else {
        panic!("one is stale")
    };
    assert_eq!((times, values.len(), starts), (vec![1, 3], 2, vec![7, 9]));
}
