//! rate, increase, delta: what a series gained within a window, extrapolated to its edges; irate, idelta: between
//! its last two samples.

use super::{HistogramSample, Window, extended, seconds, start_overlap, start_reset};
use crate::{Answer, Notes};
use model::{CounterResetHint, FloatHistogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateKind {
    Rate,
    Increase,
    Delta,
}

impl RateKind {
    pub(crate) fn is_counter(self) -> bool {
        self != RateKind::Delta
    }
}

/// How the samples of a window lie in it, in seconds: all of an extrapolation that does not depend on values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edges {
    /// From the window's start to the first sample, or as far as that one stands for.
    to_start: f64,
    /// From the last sample to the window's end, or as far as that one stands for.
    to_end: f64,
    sampled: f64,
    /// Whether a counter might have been zero between the window's start and the first sample.
    zero_may_lie_before: bool,
}

impl Edges {
    /// Of a window `(start, end]` with samples from `first` to `last`, `gap_count` apart. `began` is when the
    /// first sample's counter began, if within the window.
    ///
    /// A sample near an edge (within 1.1 average gaps) stands for all up to the edge; otherwise the series is taken
    /// to begin or end half an average gap beyond it.
    #[inline]
    pub(crate) fn new(
        (start, end): (i64, i64),
        (first, last): (i64, i64),
        gap_count: usize,
        began: Option<i64>,
    ) -> Edges {
        let mut to_start = first.wrapping_sub(start) as f64 / 1000.0;
        let mut to_end = end.wrapping_sub(last) as f64 / 1000.0;
        let mut sampled = last.wrapping_sub(first) as f64 / 1000.0;
        let gap = if gap_count > 0 { sampled / gap_count as f64 } else { 0.0 };
        let threshold = gap * 1.1;
        if let Some(began) = began {
            to_start = 0.0;
            sampled = last.wrapping_sub(began) as f64 / 1000.0;
        } else if to_start >= threshold {
            to_start = gap / 2.0;
        }
        if to_end >= threshold {
            to_end = gap / 2.0;
        }
        Edges { to_start, to_end, sampled, zero_may_lie_before: began.is_none() }
    }

    /// What the gain between the samples has to be multiplied with to be the gain of the window (or its rate).
    /// A counter of value `first` at the first sample is not extrapolated below zero.
    #[inline]
    pub(crate) fn factor(&self, first: f64, gain: f64, kind: RateKind, range_seconds: f64) -> f64 {
        let mut to_start = self.to_start;
        if self.zero_may_lie_before && kind.is_counter() && gain > 0.0 && first >= 0.0 {
            let to_zero = self.sampled * (first / gain);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let mut factor = 1.0;
        if self.sampled != 0.0 {
            factor = (self.sampled + to_start + self.to_end) / self.sampled;
        }
        if kind == RateKind::Rate {
            factor /= range_seconds;
        }
        factor
    }
}

pub(super) fn eval<H: HistogramSample>(w: &Window<'_, H>, kind: RateKind) -> Answer {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        return Answer::none(Notes::MIXED_FLOATS_HISTOGRAMS);
    }
    if w.modifier != super::Modifier::Plain {
        return extended::rate(w, kind);
    }
    if w.histograms.is_empty() { float_rate(w, kind) } else { histogram_rate(w, kind) }
}

fn began_inside(w_start: i64, first: (i64, i64), kind: RateKind) -> Option<i64> {
    let (start, time) = first;
    (kind.is_counter() && start != 0 && start > w_start && start < time).then_some(start)
}

fn float_rate<H: HistogramSample>(w: &Window<'_, H>, kind: RateKind) -> Answer {
    let last = w.values.len() - 1;
    let mut notes = Notes::NONE;
    let mut gain = w.values[last] - w.values[0];
    if kind.is_counter() {
        for i in 1..w.values.len() {
            let (previous, current) = (w.float_span(i - 1), w.float_span(i));
            notes |= Notes::when(start_overlap(previous, current.0), Notes::START_TIME_OVERLAP);
            if w.values[i] < w.values[i - 1] || start_reset(previous, current) {
                gain += w.values[i - 1];
            }
        }
    }
    let began = began_inside(w.start, w.float_span(0), kind);
    if began.is_some() {
        gain += w.values[0];
    } else if last == 0 {
        return Answer::none(notes);
    }
    let edges = Edges::new((w.start, w.end), (w.times[0], w.times[last]), last, began);
    let factor = edges.factor(w.values[0], gain, kind, seconds(w.end.wrapping_sub(w.start)));
    Answer::float(gain * factor, notes)
}

fn histogram_rate<H: HistogramSample>(w: &Window<'_, H>, kind: RateKind) -> Answer {
    let last = w.histograms.len() - 1;
    let mut notes = Notes::NONE;
    let mut gain = None;
    if last > 0 {
        gain = histogram_gain(w, kind.is_counter(), &mut notes);
        if gain.is_none() {
            return Answer::none(notes);
        }
    }
    let began = began_inside(w.start, w.histogram_span(0), kind);
    let mut gain = match (began, gain) {
        (Some(_), None) => w.h(0).clone(),
        (Some(_), Some(mut gain)) => {
            if !add(&mut gain, w.h(0), &mut notes) {
                return Answer::none(notes);
            }
            gain
        }
        (None, Some(gain)) => gain,
        (None, None) => return Answer::none(notes),
    };
    let ends = (w.histograms[0].time(), w.histograms[last].time());
    let edges = Edges::new((w.start, w.end), ends, last, began);
    let range = seconds(w.end.wrapping_sub(w.start));
    gain.mul(edges.factor(w.h(0).count, gain.count, kind, range));
    Answer::histogram(gain, notes)
}

/// What the observations between the first and the last of at least two histograms came to, in the coarsest
/// schema among them.
fn histogram_gain<H: HistogramSample>(
    w: &Window<'_, H>,
    is_counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let end = w.histograms.len() - 1;
    let last = w.h(end);
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if is_counter && (is_gauge(w.h(0)) || is_gauge(last)) {
        *notes |= Notes::NOT_A_COUNTER;
    }
    // A first sample that a reset follows does not matter, not even its buckets' layout.
    let nulled;
    let mut first = w.h(0);
    if is_counter && resets_at(w, 1, first) {
        let second = w.h(1);
        nulled = FloatHistogram {
            schema: second.schema,
            custom_values: second.custom_values.clone(),
            ..FloatHistogram::default()
        };
        first = &nulled;
    }
    if last.uses_custom_buckets() != first.uses_custom_buckets() {
        *notes |= Notes::MIXED_EXPONENTIAL_CUSTOM;
        return None;
    }
    let mut schema = last.schema.min(first.schema);
    if is_counter {
        for i in 1..end {
            let h = w.h(i);
            *notes |= Notes::when(is_gauge(h), Notes::NOT_A_COUNTER);
            schema = schema.min(h.schema);
            if h.uses_custom_buckets() != first.uses_custom_buckets() {
                // The reference forgets here what it had to say before.
                *notes = Notes::MIXED_EXPONENTIAL_CUSTOM;
                return None;
            }
        }
    }
    let mut gain = last.to_schema(schema).ok()?;
    if !sub(&mut gain, first, notes) {
        return None;
    }
    if is_counter {
        let mut previous = first;
        for i in 1..=end {
            let (before, now) = (w.histogram_span(i - 1), w.histogram_span(i));
            *notes |= Notes::when(start_overlap(before, now.0), Notes::START_TIME_OVERLAP);
            if resets_at(w, i, previous) && !add(&mut gain, previous, notes) {
                return None;
            }
            previous = w.h(i);
        }
    } else if !is_gauge(w.h(0)) || !is_gauge(last) {
        *notes |= Notes::NOT_A_GAUGE;
    }
    gain.counter_reset_hint = CounterResetHint::Gauge;
    gain.compact(0);
    Some(gain)
}

fn resets_at<H: HistogramSample>(w: &Window<'_, H>, i: usize, previous: &FloatHistogram) -> bool {
    start_reset(w.histogram_span(i - 1), w.histogram_span(i)) || w.h(i).detect_reset(previous)
}

/// Adds, saying what happened; false if the histograms do not go together. Conflicting reset hints are no news
/// here, for resets are treated one by one.
pub(super) fn add(to: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) -> bool {
    note(to.add(other), notes, Notes::BOUNDS_RECONCILED_ADD)
}

/// As [`add`].
pub(super) fn sub(from: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) -> bool {
    note(from.sub(other), notes, Notes::BOUNDS_RECONCILED_SUB)
}

fn note(
    result: Result<model::histogram::Merged, model::histogram::HistogramError>,
    notes: &mut Notes,
    reconciled: Notes,
) -> bool {
    match result {
        Ok(merged) => {
            *notes |= Notes::when(merged.bounds_reconciled, reconciled);
            true
        }
        Err(_) => {
            *notes |= Notes::MIXED_EXPONENTIAL_CUSTOM;
            false
        }
    }
}

/// One of the last two samples of a window, float or histogram by `i`.
#[derive(Clone, Copy)]
struct Tail {
    time: i64,
    start: i64,
    float: bool,
    i: usize,
}

/// The last two samples in order, floats and histograms together.
fn last_two<H: HistogramSample>(w: &Window<'_, H>) -> Option<[Tail; 2]> {
    let floats = (w.times.len().saturating_sub(2)..w.times.len()).map(|i| {
        let (start, time) = w.float_span(i);
        Tail { time, start, float: true, i }
    });
    let histograms = (w.histograms.len().saturating_sub(2)..w.histograms.len()).map(|i| {
        let (start, time) = w.histogram_span(i);
        Tail { time, start, float: false, i }
    });
    let mut tails: Vec<Tail> = floats.collect();
    for t in histograms {
        match tails.len() {
            0 => tails.push(t),
            1 if t.time < tails[0].time => tails.insert(0, t),
            1 => tails.push(t),
            _ if t.time < tails[0].time => {}
            _ if t.time > tails[1].time => {
                tails[0] = tails[1];
                tails[1] = t;
            }
            _ => tails[0] = t,
        }
    }
    tails.try_into().ok()
}

pub(super) fn instant<H: HistogramSample>(w: &Window<'_, H>, is_rate: bool) -> Answer {
    let Some([before, now]) = last_two(w) else { return Answer::default() };
    let interval = now.time.wrapping_sub(before.time);
    if interval == 0 {
        return Answer::default();
    }
    let reset = start_reset((before.start, before.time), (now.start, now.time));
    if before.float != now.float {
        return Answer::none(Notes::MIXED_FLOATS_HISTOGRAMS);
    }
    if now.float {
        let (last, previous) = (w.values[now.i], w.values[before.i]);
        let mut v = last;
        if !is_rate || !(last < previous || reset) {
            v = last - previous;
        }
        return Answer::float(if is_rate { v / (interval as f64 / 1000.0) } else { v }, Notes::NONE);
    }
    let (last, previous) = (w.h(now.i), w.h(before.i));
    let mut notes = Notes::NONE;
    let gauges = [last, previous].map(|h| h.counter_reset_hint == CounterResetHint::Gauge);
    if is_rate {
        notes |= Notes::when(gauges[0] || gauges[1], Notes::NOT_A_COUNTER);
    } else {
        notes |= Notes::when(!gauges[0] || !gauges[1], Notes::NOT_A_GAUGE);
    }
    let mut gain = last.clone();
    let keep_whole = is_rate && (reset || last.detect_reset(previous));
    if !keep_whole && !sub(&mut gain, previous, &mut notes) {
        return Answer::none(notes);
    }
    gain.counter_reset_hint = CounterResetHint::Gauge;
    gain.compact(0);
    if is_rate {
        gain.div(interval as f64 / 1000.0);
    }
    Answer::histogram(gain, notes)
}
