//! Anchored and smoothed selectors: rates between the very edges of a range, by the sample at or before an edge or
//! by interpolation.

use super::rate::{RateKind, add, sub};
use super::{HistogramSample, Modifier, Window, seconds};
use crate::{Answer, Notes};
use model::{CounterResetHint, FloatHistogram};

/// Indices of the first and last sample that matter, by their times, or `None` if no sample lies in the range.
fn bounds(
    count: usize,
    time: impl Fn(usize) -> i64,
    (start, end): (i64, i64),
    smoothed: bool,
) -> Option<(usize, usize)> {
    let mut last = count.checked_sub(1)?;
    let first = search(last, |i| time(i) > start).saturating_sub(1);
    if smoothed {
        last = search(last, |i| time(i) >= end);
    }
    let nothing = time(last) <= start || (smoothed && time(first) > end);
    (!nothing).then_some((first, last))
}

/// First index below `count` from which on `found` holds, or `count`.
fn search(count: usize, found: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if found(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

pub(super) fn rate<H: HistogramSample>(w: &Window<'_, H>, kind: RateKind) -> Answer {
    if w.histograms.is_empty() { float_rate(w, kind) } else { histogram_rate(w, kind) }
}

/// Value at `t` on the line between two samples. A counter that was reset between them began at zero.
fn interpolate((t1, v1): (i64, f64), (t2, v2): (i64, f64), t: i64, is_counter: bool) -> f64 {
    let v1 = if is_counter && v2 < v1 { 0.0 } else { v1 };
    v1 + (v2 - v1) * t.wrapping_sub(t1) as f64 / t2.wrapping_sub(t1) as f64
}

/// Values at the left and the right edge.
fn edges(
    (times, values): (&[i64], &[f64]),
    (first, last): (usize, usize),
    (start, end): (i64, i64),
    smoothed: bool,
    is_counter: bool,
) -> (f64, f64) {
    let at = |i: usize| (times[i], values[i]);
    let left = if smoothed && times[first] < start && first + 1 < times.len() {
        interpolate(at(first), at(first + 1), start, is_counter)
    } else {
        values[first]
    };
    let right = if smoothed && last > 0 && times[last] > end {
        interpolate(at(last - 1), at(last), end, is_counter)
    } else {
        values[last]
    };
    (left, right)
}

fn float_rate<H: HistogramSample>(w: &Window<'_, H>, kind: RateKind) -> Answer {
    let smoothed = w.modifier == Modifier::Smoothed;
    let range = (w.start, w.end);
    let Some((first, last)) = bounds(w.times.len(), |i| w.times[i], range, smoothed) else {
        return Answer::default();
    };
    let (left, right) = edges((w.times, w.values), (first, last), range, smoothed, kind.is_counter());
    let mut gain = right - left;
    if kind.is_counter() {
        // Resets at the edges are dealt with by the interpolation.
        let first = first + usize::from(w.times[first] <= w.start);
        let end = last + usize::from(w.times[last] < w.end);
        let mut lost = 0.0;
        let mut previous = left;
        for &v in w.values.get(first..end).unwrap_or(&[]).iter().chain([&right]) {
            if v < previous {
                lost += previous;
            }
            previous = v;
        }
        gain += lost;
    }
    if kind == RateKind::Rate {
        gain /= seconds(w.end.wrapping_sub(w.start));
    }
    Answer::float(gain, Notes::NONE)
}

/// A histogram on the line between two samples, or `None` if they do not go together.
fn interpolate_histograms(
    (t1, h1): (i64, &FloatHistogram),
    (t2, h2): (i64, &FloatHistogram),
    t: i64,
    is_counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    if t == t1 {
        return Some(h1.clone());
    }
    let mut result = h2.clone();
    if t == t2 {
        return Some(result);
    }
    let fraction = t.wrapping_sub(t1) as f64 / t2.wrapping_sub(t1) as f64;
    if is_counter && h2.detect_reset(h1) {
        result.mul(fraction);
        return Some(result);
    }
    if !sub(&mut result, h1, notes) {
        return None;
    }
    result.mul(fraction);
    add(&mut result, h1, notes).then_some(result)
}

fn histogram_rate<H: HistogramSample>(w: &Window<'_, H>, kind: RateKind) -> Answer {
    let smoothed = w.modifier == Modifier::Smoothed;
    let mut notes = Notes::NONE;
    let time = |i: usize| w.histograms[i].time();
    let Some((first, last)) = bounds(w.histograms.len(), time, (w.start, w.end), smoothed) else {
        return Answer::default();
    };
    for i in first..=last {
        if w.h(i).uses_custom_buckets() != w.h(first).uses_custom_buckets() {
            return Answer::none(notes | Notes::MIXED_EXPONENTIAL_CUSTOM);
        }
        let gauge = w.h(i).counter_reset_hint == CounterResetHint::Gauge;
        notes |= Notes::when(kind.is_counter() && gauge, Notes::NOT_A_COUNTER);
    }
    let Some(gain) = histogram_gain(w, kind, (first, last), &mut notes) else {
        return Answer::none(notes);
    };
    Answer::histogram(gain, notes)
}

fn histogram_gain<H: HistogramSample>(
    w: &Window<'_, H>,
    kind: RateKind,
    (first, last): (usize, usize),
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let smoothed = w.modifier == Modifier::Smoothed;
    let at = |i: usize| (w.histograms[i].time(), w.h(i));
    let counter = kind.is_counter();
    let left = if smoothed && at(first).0 < w.start && first + 1 < w.histograms.len() {
        interpolate_histograms(at(first), at(first + 1), w.start, counter, notes)?
    } else {
        w.h(first).clone()
    };
    let right = if smoothed && last > 0 && at(last).0 > w.end {
        interpolate_histograms(at(last - 1), at(last), w.end, counter, notes)?
    } else {
        w.h(last).clone()
    };
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    *notes |= Notes::when(!counter && (!is_gauge(&left) || !is_gauge(&right)), Notes::NOT_A_GAUGE);
    let mut gain = right.clone();
    if !sub(&mut gain, &left, notes) {
        return None;
    }
    if counter && let Some(lost) = lost_by_resets(w, (first, last), (&left, &right), notes)? {
        add(&mut gain, &lost, notes).then_some(())?;
    }
    if kind == RateKind::Rate {
        gain.div(seconds(w.end.wrapping_sub(w.start)));
    }
    gain.counter_reset_hint = CounterResetHint::Gauge;
    gain.compact(0);
    Some(gain)
}

/// What counters lost by resets between the edges, if anything; `None` if histograms do not go together.
fn lost_by_resets<'a, H: HistogramSample>(
    w: &'a Window<'_, H>,
    (first, last): (usize, usize),
    (left, right): (&'a FloatHistogram, &FloatHistogram),
    notes: &mut Notes,
) -> Option<Option<FloatHistogram>> {
    let smoothed = w.modifier == Modifier::Smoothed;
    let mut from = first + 1;
    let mut previous = left;
    if smoothed
        && w.histograms[first].time() < w.start
        && first + 1 < w.histograms.len()
        && w.h(first + 1).detect_reset(w.h(first))
    {
        // The left edge's interpolation spans this reset already.
        previous = w.h(first + 1);
        from += 1;
    }
    // The last sample is the right edge, or the edge inherits its hint: never compare the two.
    if from > last {
        return Some(None);
    }
    let mut lost: Option<FloatHistogram> = None;
    for h in (from..last).map(|i| w.h(i)).chain([right]) {
        if h.detect_reset(previous) {
            match &mut lost {
                None => lost = Some(previous.clone()),
                Some(lost) => add(lost, previous, notes).then_some(())?,
            }
        }
        previous = h;
    }
    Some(lost)
}

/// What an anchored or smoothed range selector gives when it is the answer itself: the samples within the range,
/// with one at either edge.
pub fn extend_floats(times: &[i64], values: &[f64], start: i64, end: i64, smoothed: bool) -> Vec<(i64, f64)> {
    let Some(mut last) = times.len().checked_sub(1) else { return Vec::new() };
    let first = search(last, |i| times[i] > start).saturating_sub(1);
    if smoothed {
        last = search(last, |i| times[i] >= end);
    }
    if times[last] <= start {
        return Vec::new();
    }
    let (left, right) = edges((times, values), (first, last), (start, end), smoothed, false);
    let from = first + usize::from(times[first] <= start);
    let to = last + usize::from(times[last] < end);
    let mut out = vec![(start, left)];
    if from < to {
        out.extend(times[from..to].iter().copied().zip(values[from..to].iter().copied()));
    }
    out.push((end, right));
    out
}

/// What a smoothed instant selector gives at `t` (after offset): the sample at it, the line between its neighbors,
/// or the last one before it. The window holds one lookback before and one behind.
pub fn smooth_instant<H: HistogramSample>(w: &Window<'_, H>, t: i64) -> Answer {
    if w.histograms.is_empty() {
        let i = w.times.partition_point(|&time| time < t);
        return match (i.checked_sub(1), w.times.get(i)) {
            (_, Some(&time)) if time == t => Answer::float(w.values[i], Notes::NONE),
            (Some(p), Some(&time)) => {
                let v = interpolate((w.times[p], w.values[p]), (time, w.values[i]), t, false);
                Answer::float(v, Notes::NONE)
            }
            (Some(p), None) => Answer::float(w.values[p], Notes::NONE),
            (None, _) => Answer::default(),
        };
    }
    if !w.values.is_empty() {
        return Answer::none(Notes::MIXED_FLOATS_HISTOGRAMS);
    }
    let i = w.histograms.partition_point(|h| h.time() < t);
    let mut notes = Notes::NONE;
    let value = match (i.checked_sub(1), w.histograms.get(i)) {
        (_, Some(h)) if h.time() == t => Some(h.histogram().clone()),
        (Some(p), Some(next)) => {
            let (before, after) = (w.h(p), next.histogram());
            let gauge = [before, after].iter().all(|h| h.counter_reset_hint == CounterResetHint::Gauge);
            let (t1, t2) = (w.histograms[p].time(), next.time());
            if before.uses_custom_buckets() != after.uses_custom_buckets() {
                return Answer::none(Notes::MIXED_EXPONENTIAL_CUSTOM);
            }
            interpolate_histograms((t1, before), (t2, after), t, !gauge, &mut notes)
        }
        (Some(p), None) => {
            // The hint told of the samples before, not of this repetition.
            Some(FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..w.h(p).clone() })
        }
        (None, _) => None,
    };
    Answer { value: value.map(|h| crate::Value::Histogram(Box::new(h))), notes }
}
