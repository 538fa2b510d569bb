//! The `_over_time` aggregations of one window.

use super::{HistogramSample, Window};
use crate::aggregate::{HistogramAvg, HistogramSum};
use crate::quantile::quantile;
use crate::{Answer, Notes, kahan};

pub(super) fn sum<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        return Answer::none(Notes::MIXED_FLOATS_HISTOGRAMS);
    }
    if w.histograms.is_empty() {
        return Answer::float(sum_floats(w.values), Notes::NONE);
    }
    let mut sum = HistogramSum::new(w.h(0));
    for i in 1..w.histograms.len() {
        sum.add(w.h(i));
    }
    refused_quietly(sum.finish())
}

/// Histograms that do not go together are all that is said of a window that has them.
fn refused_quietly(answer: Answer) -> Answer {
    if answer.value.is_some() { answer } else { Answer::none(Notes::MIXED_EXPONENTIAL_CUSTOM) }
}

pub(super) fn avg<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        return Answer::none(Notes::MIXED_FLOATS_HISTOGRAMS);
    }
    if w.histograms.is_empty() {
        return Answer::float(avg_floats(w.values), Notes::NONE);
    }
    let mut avg = HistogramAvg::new(w.h(0));
    for i in 1..w.histograms.len() {
        avg.add(w.h(i));
    }
    refused_quietly(avg.finish())
}

/// Compensated sum; an infinite one as it is.
pub(crate) fn sum_floats(values: &[f64]) -> f64 {
    let mut sum = kahan::KahanSum::default();
    for &v in values {
        sum.add(v);
    }
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// Mean of at least one value: of the sum while that is finite, incremental from there on.
pub(crate) fn avg_floats(values: &[f64]) -> f64 {
    let Some((&first, rest)) = values.split_first() else { return f64::NAN };
    let mut avg = crate::aggregate::Avg::new(first);
    for &v in rest {
        avg.add(v);
    }
    avg.value()
}

/// Greatest value; NaN only if all are. Of equal values (zeros of either sign) the first.
pub(crate) fn max_floats(values: &[f64]) -> f64 {
    best(values, |v, best| v > best)
}

/// Least value, as [`max_floats`].
pub(crate) fn min_floats(values: &[f64]) -> f64 {
    best(values, |v, best| v < best)
}

fn best(values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = values.first().copied().unwrap_or(f64::NAN);
    for &v in values {
        if better(v, best) || best.is_nan() {
            best = v;
        }
    }
    best
}

/// Time of the best value in seconds.
pub(super) fn ts_of(times: &[i64], values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let (mut best, mut time) = (values[0], times[0]);
    for (&t, &v) in times.iter().zip(values) {
        if better(v, best) || best.is_nan() {
            (best, time) = (v, t);
        }
    }
    time as f64 / 1000.0
}

/// Population variance in one pass, with compensated mean and square sum.
pub(super) fn variance(values: &[f64]) -> f64 {
    let mut count = 0.0;
    let (mut mean, mut aux) = (kahan::KahanSum::default(), kahan::KahanSum::default());
    for &v in values {
        count += 1.0;
        let delta = v - mean.total();
        mean.add(delta / count);
        aux.add(delta * (v - mean.total()));
    }
    aux.total() / count
}

/// Median of the distances from the median; NaN if any value is.
pub(super) fn mad(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    quantile(0.5, &mut values)
}

pub(super) fn first<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    match (w.times.first(), w.histograms.first()) {
        (Some(&t), Some(h)) if t >= h.time() => Answer::histogram(h.histogram().clone(), Notes::NONE),
        (None, Some(h)) => Answer::histogram(h.histogram().clone(), Notes::NONE),
        _ => Answer::float(w.values[0], Notes::NONE),
    }
}

pub(super) fn last<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    match (w.times.last(), w.histograms.last()) {
        (Some(&t), Some(h)) if h.time() >= t => Answer::histogram(h.histogram().clone(), Notes::NONE),
        (None, Some(h)) => Answer::histogram(h.histogram().clone(), Notes::NONE),
        _ => Answer::float(w.values[w.values.len() - 1], Notes::NONE),
    }
}

pub(super) fn ts_of_first<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    let float = w.times.first().copied().unwrap_or(i64::MAX);
    let histogram = w.histograms.first().map_or(i64::MAX, H::time);
    Answer::float(float.min(histogram) as f64 / 1000.0, Notes::NONE)
}

/// A time before the epoch counts only if it is of the kind that has samples; the other kind counts as time 0.
pub(super) fn ts_of_last<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    let float = w.times.last().copied().unwrap_or(0);
    let histogram = w.histograms.last().map_or(0, H::time);
    Answer::float(float.max(histogram) as f64 / 1000.0, Notes::NONE)
}
