//! Every twin of a kernel gives the bits of the scalar one.

use super::*;
use crate::ABSENT;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -1e6..1e6f64,
        2 => (-5i32..5).prop_map(f64::from),
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(f64::MAX),
        2 => Just(ABSENT),
    ]
}

/// The shape of [`kahan_add`].
type Kernel<'a> = &'a dyn Fn(&[f64], &mut [f64], &mut [f64], &mut [u32]);

/// The shape of [`extrapolate`].
type Extrapolation<'a> = &'a dyn Fn(&[f64], &mut [f64], &[f64], &[f64], &[f64], f64);

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| if v.is_nan() && !crate::is_absent(*v) { 1 } else { v.to_bits() }).collect()
}

/// Runs the scalar loop, whatever the machine dispatches to, and each twin the machine has.
macro_rules! all_twins {
    ($name:ident, |$kernel:ident| $run:expr) => {{
        let expect = {
            let $kernel = scalar::$name;
            $run
        };
        let dispatched = {
            let $kernel = super::$name;
            $run
        };
        prop_assert_eq!(&dispatched, &expect);
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx2") {
                let got = {
                    // SAFETY: the processor has the feature that the twin is compiled for.
                    let $kernel = |a, b| unsafe { avx2::$name(a, b) };
                    $run
                };
                prop_assert_eq!(&got, &expect);
            }
            if has_avx512() {
                let got = {
                    // SAFETY: the processor has every feature that the twin is compiled for.
                    let $kernel = |a, b| unsafe { avx512::$name(a, b) };
                    $run
                };
                prop_assert_eq!(&got, &expect);
            }
        }
    }};
}

proptest! {
    #[test]
    fn two_column_kernels_agree(rows in proptest::collection::vec((value(), value()), 0..300)) {
        let (row, other): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
        all_twins!(any_overflow, |f| f(&row[..], &other[..]));
        all_twins!(min_into, |f| { let mut best = other.clone(); f(&row[..], &mut best[..]); bits(&best) });
        all_twins!(max_into, |f| { let mut best = other.clone(); f(&row[..], &mut best[..]); bits(&best) });
        all_twins!(count_present, |f| { let mut n = vec![3u32; row.len()]; f(&row[..], &mut n[..]); n });
        all_twins!(drops, |f| { let mut mask = vec![9u64; row.len() / 64 + 1]; f(&row[..], &mut mask[..]); mask });
    }

    #[test]
    fn sums_agree(rows in proptest::collection::vec((value(), value(), value()), 0..300)) {
        let n = rows.len();
        let row: Vec<f64> = rows.iter().map(|r| r.0).collect();
        let start: (Vec<f64>, Vec<f64>) = rows.iter().map(|r| (r.1, r.2)).unzip();
        let run = |f: Kernel<'_>| {
            let (mut sum, mut c) = start.clone();
            let mut count = vec![0; n];
            f(&row, &mut sum, &mut c, &mut count);
            (bits(&sum), bits(&c), count)
        };
        let expect = run(&scalar::kahan_add);
        prop_assert_eq!(&run(&kahan_add), &expect);
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature that the twin is compiled for.
            prop_assert_eq!(&run(&|r, s, c, n| unsafe { avx2::kahan_add(r, s, c, n) }), &expect);
        }
        prop_assert_eq!(all_exact(&row), scalar::all_exact(&row));
        prop_assert_eq!(any_stale(&row), row.iter().any(|v| crate::is_absent(*v)));
    }

    #[test]
    fn extrapolations_agree(rows in proptest::collection::vec((value(), value(), 0..9u8, 0..9u8, 0..9u8), 0..200)) {
        type Drawn = (f64, f64, u8, u8, u8);
        let column = |of: fn(&Drawn) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
        let (first, gain) = (column(|r| r.0), column(|r| r.1));
        let times = [column(|r| r.2.into()), column(|r| r.3.into()), column(|r| r.4.into())];
        let run = |f: Extrapolation<'_>| {
            let mut gain = gain.clone();
            f(&first, &mut gain, &times[0], &times[1], &times[2], 60.0);
            bits(&gain)
        };
        let expect = run(&scalar::extrapolate);
        prop_assert_eq!(&run(&extrapolate), &expect);
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature that the twin is compiled for.
            let got = run(&|f, g, s, a, b, w| unsafe { avx2::extrapolate(f, g, s, a, b, w) });
            prop_assert_eq!(&got, &expect);
        }
    }

    #[test]
    fn drops_are_where_values_fall(values in proptest::collection::vec(value(), 0..200)) {
        let mut mask = vec![0; values.len() / 64 + 1];
        drops(&values, &mut mask);
        for i in 0..values.len().saturating_sub(1) {
            prop_assert_eq!(mask[i / 64] >> (i % 64) & 1 == 1, values[i + 1] < values[i]);
        }
    }
}

#[test]
fn exactness_is_for_whole_numbers_with_small_sums() {
    assert!(all_exact(&[1.0, -2.0, 0.0, 4e15]));
    assert!(!all_exact(&[0.5]));
    assert!(!all_exact(&[f64::NAN]));
    assert!(!all_exact(&[f64::INFINITY]));
    assert!(!all_exact(&[9e15, -9e15]));
}
