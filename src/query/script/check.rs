//! Answers against what a script says they are.

use hashbrown::HashMap;
use model::histogram::{CounterResetHint, FloatHistogram};
use model::{Labels, Timestamp, is_stale};

use crate::query::annotations::Texts;
use crate::query::script::load::{Unfolded, unfolded};
use crate::query::script::parse::{Eval, Expectation, Expected, Text, Time};
use crate::query::value::{Element, SampleValue, Series, Value};

/// Relative difference up to which floats are the same.
const EPSILON: f64 = 1e-6;

/// Equal but for rounding.
fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

pub(super) fn failure(eval: &Eval, error: &str) -> Result<(), String> {
    let mut expected = eval.expectations.iter().filter_map(|e| match e {
        Expectation::Fail(text) => Some(text),
        _ => None,
    });
    match expected.next() {
        None => Err(format!("failed: {error}")),
        Some(text) if text.matches(error) => Ok(()),
        Some(text) => Err(format!("failed with {error:?}, not {text:?}")),
    }
}

pub(super) fn annotations(eval: &Eval, texts: &Texts) -> Result<(), String> {
    let of = |pick: fn(&Expectation) -> Option<&Text>| -> Vec<&Text> {
        eval.expectations.iter().filter_map(pick).collect()
    };
    let warn = of(|e| if let Expectation::Warn(t) = e { Some(t) } else { None });
    let info = of(|e| if let Expectation::Info(t) = e { Some(t) } else { None });
    let no_warn = eval.expectations.iter().any(|e| matches!(e, Expectation::NoWarn));
    let no_info = eval.expectations.iter().any(|e| matches!(e, Expectation::NoInfo));
    one_kind("warnings", &warn, no_warn, &texts.warnings)?;
    one_kind("infos", &info, no_info, &texts.infos)
}

fn one_kind(what: &str, expected: &[&Text], none: bool, texts: &[String]) -> Result<(), String> {
    if none && !texts.is_empty() {
        return Err(format!("unexpected {what}: {texts:?}"));
    }
    for e in expected {
        if !texts.iter().any(|t| e.matches(t)) {
            return Err(format!("no {what} match {e:?}; there are {texts:?}"));
        }
    }
    if expected.is_empty() {
        return Ok(());
    }
    match texts.iter().find(|t| !expected.iter().any(|e| e.matches(t))) {
        Some(t) => Err(format!("unexpected among the {what}: {t:?}")),
        None => Ok(()),
    }
}

pub(super) fn value(eval: &Eval, value: &Value) -> Result<(), String> {
    let string = eval.expectations.iter().find_map(|e| match e {
        Expectation::String(s) => Some(s),
        _ => None,
    });
    match (value, string) {
        (Value::String(_, s), Some(expected)) if **s == **expected => Ok(()),
        (value, Some(expected)) => Err(format!("expected the string {expected:?}, got {value:?}")),
        (Value::String(_, s), None) => Err(format!("got the string {s:?}")),
        (Value::Matrix(series), None) => matrix(eval, series),
        (Value::Vector(elements), None) => vector(eval, elements),
        (Value::Scalar(_, v), None) => scalar(eval, *v),
    }
}

fn scalar(eval: &Eval, v: f64) -> Result<(), String> {
    match eval.results.as_slice() {
        [Expected::Scalar(e)] if almost_equal(*e, v) => Ok(()),
        [Expected::Scalar(e)] => Err(format!("expected {e}, got {v}")),
        _ => Err(format!("got the scalar {v}")),
    }
}

/// The middle step of a range must say what the instant question said.
pub(super) fn middle(eval: &Eval, instant: &Value, ranged: &Value, at: Timestamp) -> Result<(), String> {
    let Value::Matrix(series) = ranged else { return Err(format!("got {ranged:?}")) };
    sorted(series)?;
    let elements = series.iter().filter_map(|s| {
        let float = s.floats.iter().find(|p| p.0 == at).map(|p| SampleValue::Float(p.1));
        let value = float.or_else(|| {
            s.histograms.iter().find(|p| p.0 == at).map(|p| SampleValue::Histogram(p.1.clone()))
        })?;
        Some(Element { labels: s.labels.clone(), time: at, value })
    });
    let elements: Vec<Element> = elements.collect();
    match (instant, elements.as_slice()) {
        (Value::Scalar(..), [Element { value: SampleValue::Float(v), .. }]) => scalar(eval, *v),
        (Value::Scalar(..), _) => Err("a scalar became something else".into()),
        _ => vector(eval, &elements),
    }
}

fn expected_series(eval: &Eval) -> Result<Vec<(&Labels, Vec<Unfolded>)>, String> {
    let mut out = Vec::new();
    for e in &eval.results {
        match e {
            Expected::Scalar(v) => return Err(format!("expected the scalar {v}")),
            Expected::Series(labels, values) => out.push((labels, unfolded(values)?)),
        }
    }
    Ok(out)
}

fn vector(eval: &Eval, elements: &[Element]) -> Result<(), String> {
    let expected = expected_series(eval)?;
    let mut places: HashMap<&Labels, usize> = HashMap::new();
    for (i, (labels, _)) in expected.iter().enumerate() {
        places.insert(*labels, i);
    }
    let mut seen = vec![false; expected.len()];
    for (i, e) in elements.iter().enumerate() {
        let Some(at) = places.get(&e.labels).copied() else {
            return Err(format!("unexpected {} {:?}", e.labels, e.value));
        };
        if std::mem::replace(&mut seen[at], true) {
            return Err(format!("{} twice", e.labels));
        }
        if eval.ordered() && i != at {
            return Err(format!("{} is at place {i}, not {at}", e.labels));
        }
        let Some(value) = expected[at].1.first() else {
            return Err(format!("nothing expected for {}", e.labels));
        };
        same(value, &e.value).map_err(|what| format!("{}: {what}", e.labels))?;
    }
    match seen.iter().position(|s| !s) {
        Some(at) => Err(format!("{} is missing", expected[at].0)),
        None => Ok(()),
    }
}

fn same(expected: &Unfolded, value: &SampleValue) -> Result<(), String> {
    match (expected, value) {
        (Unfolded::Float(e), SampleValue::Float(v)) if almost_equal(*e, *v) => Ok(()),
        (Unfolded::Histogram(e, hint), SampleValue::Histogram(h)) => same_histogram(e, *hint, h),
        (Unfolded::Float(e), SampleValue::Float(v)) => Err(format!("expected {e}, got {v}")),
        (e, SampleValue::Float(v)) => Err(format!("expected {e:?}, got {v}")),
        (e, SampleValue::Histogram(h)) => Err(format!("expected {e:?}, got {}", h.test_expression())),
    }
}

fn same_histogram(
    expected: &FloatHistogram,
    hint_is_written: bool,
    h: &FloatHistogram,
) -> Result<(), String> {
    let (mut a, mut b) = (expected.clone(), h.clone());
    a.compact(0);
    b.compact(0);
    let hint = a.counter_reset_hint;
    let hint_fits = !hint_is_written || hint == CounterResetHint::Unknown || hint == b.counter_reset_hint;
    let all = |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| almost_equal(*x, *y));
    let fits = hint_fits
        && a.schema == b.schema
        && almost_equal(a.count, b.count)
        && almost_equal(a.sum, b.sum)
        && a.custom_values == b.custom_values
        && a.zero_threshold == b.zero_threshold
        && almost_equal(a.zero_count, b.zero_count)
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && all(&a.positive_buckets, &b.positive_buckets)
        && all(&a.negative_buckets, &b.negative_buckets);
    if fits {
        return Ok(());
    }
    let (a_hint, b_hint) = (a.counter_reset_hint, b.counter_reset_hint);
    Err(format!("expected {} {a_hint:?}, got {} {b_hint:?}", a.test_expression(), b.test_expression()))
}

fn sorted(series: &[Series]) -> Result<(), String> {
    match series.windows(2).find(|w| w[0].labels >= w[1].labels) {
        Some(w) => Err(format!("{} before {}", w[0].labels, w[1].labels)),
        None => Ok(()),
    }
}

fn matrix(eval: &Eval, series: &[Series]) -> Result<(), String> {
    sorted(series)?;
    let as_said = eval.expectations.iter().find_map(|e| match e {
        Expectation::Matrix { start, end, step } => Some((*start, *end, *step)),
        _ => None,
    });
    let (start, end, step) = match (as_said, eval.time) {
        (Some(said), _) => said,
        (None, Time::Range { start, end, step }) => (start, end, step),
        (None, Time::Instant(_)) => return Err("got a range vector".into()),
    };
    let expected = expected_series(eval)?;
    if expected.len() != series.len() {
        let have: Vec<String> = series.iter().map(|s| s.labels.to_string()).collect();
        return Err(format!("expected {} series, got {}: {have:?}", expected.len(), series.len()));
    }
    for s in series {
        let Some((_, values)) = expected.iter().find(|e| *e.0 == s.labels) else {
            return Err(format!("unexpected {}", s.labels));
        };
        one_series(s, values, start, end, step).map_err(|what| format!("{}: {what}", s.labels))?;
    }
    Ok(())
}

fn one_series(s: &Series, values: &[Unfolded], start: i64, end: i64, step: i64) -> Result<(), String> {
    let mut count = 0;
    for (i, value) in values.iter().enumerate() {
        let at = start + step * i as i64;
        if at > end {
            return Err(format!("{} values do not fit the range", values.len()));
        }
        let float = s.floats.iter().find(|p| p.0 == at).map(|p| SampleValue::Float(p.1));
        let have = float
            .or_else(|| s.histograms.iter().find(|p| p.0 == at).map(|p| SampleValue::Histogram(p.1.clone())));
        match (value, have) {
            (Unfolded::Omitted, None) => {}
            (Unfolded::Omitted, Some(v)) => return Err(format!("unexpected {v:?} at {at} ms")),
            (e, None) => return Err(format!("expected {e:?} at {at} ms, got nothing")),
            (e, Some(v)) => {
                same(e, &v).map_err(|what| format!("at {at} ms: {what}"))?;
                count += 1;
            }
        }
    }
    let have = s.floats.len() + s.histograms.len();
    if have == count { Ok(()) } else { Err(format!("{} samples more than expected", have - count)) }
}
