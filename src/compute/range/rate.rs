//! rate, increase, delta: what a series gained within a window, extrapolated to its edges; irate, idelta: between
//! its last two samples.

use super::{HistogramSample, Window, extended, seconds, start_overlap, start_reset};
use crate::{Answer, Notes};
use model::{CounterResetHint, FloatHistogram};

/// Which of the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateKind {
    Rate,
    Increase,
    Delta,
}

impl RateKind {
    pub fn is_counter(self) -> bool {
        self != RateKind::Delta
    }
}

/// Where the samples of a window lie in it, and what is needed to extrapolate from them.
#[derive(Clone, Copy, Debug)]
pub struct Sampled {
    pub start: i64,
    pub end: i64,
    pub first_time: i64,
    pub last_time: i64,
    /// Samples but one.
    pub gap_count: usize,
    /// When the counter of the first sample began, if within the window.
    pub began: Option<i64>,
    /// Value of a counter at the first sample (observations, for histograms).
    pub first: f64,
    /// What the series gained (observations, for histograms).
    pub gain: f64,
}

/// What the gain between the samples has to be multiplied with to be the gain of the window (or its rate).
///
/// A sample near an edge (within 1.1 average gaps) stands for all up to the edge; otherwise the series is taken to
/// begin or end half an average gap beyond it. A counter is never extrapolated below zero.
#[inline]
pub fn extrapolation(s: &Sampled, kind: RateKind) -> f64 {
    Edges::new(s, kind).factor(s.first, s.gain)
}

/// What of an extrapolation depends on times alone: series that were scraped together share it.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    pub(crate) sampled: f64,
    pub(crate) to_start: f64,
    pub(crate) to_end: f64,
    /// Length of the window, where a rate is asked for.
    pub(crate) window: Option<f64>,
    /// The counter's zero limits how far back the series may have begun.
    ends_at_zero: bool,
}

impl Edges {
    /// `first` and `gain` of the samples are not looked at.
    #[inline]
    pub fn new(s: &Sampled, kind: RateKind) -> Edges {
        let mut to_start = s.first_time.wrapping_sub(s.start) as f64 / 1000.0;
        let mut to_end = s.end.wrapping_sub(s.last_time) as f64 / 1000.0;
        let mut sampled = s.last_time.wrapping_sub(s.first_time) as f64 / 1000.0;
        let gap = if s.gap_count > 0 { sampled / s.gap_count as f64 } else { 0.0 };
        let threshold = gap * 1.1;
        if let Some(began) = s.began {
            to_start = 0.0;
            sampled = s.last_time.wrapping_sub(began) as f64 / 1000.0;
        } else if to_start >= threshold {
            to_start = gap / 2.0;
        }
        if to_end >= threshold {
            to_end = gap / 2.0;
        }
        let window = (kind == RateKind::Rate).then(|| seconds(s.end.wrapping_sub(s.start)));
        Edges { sampled, to_start, to_end, window, ends_at_zero: kind.is_counter() && s.began.is_none() }
    }

    /// The factor for a series whose first sample is `first` and that gained `gain`.
    #[inline]
    pub fn factor(&self, first: f64, gain: f64) -> f64 {
        let mut to_start = self.to_start;
        if self.ends_at_zero && gain > 0.0 && first >= 0.0 {
            let to_zero = self.sampled * (first / gain);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let mut factor = 1.0;
        if self.sampled != 0.0 {
            factor = (self.sampled + to_start + self.to_end) / self.sampled;
        }
        if let Some(window) = self.window {
            factor /= window;
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
    let sampled = Sampled {
        start: w.start,
        end: w.end,
        first_time: w.times[0],
        last_time: w.times[last],
        gap_count: last,
        began,
        first: w.values[0],
        gain,
    };
    Answer::float(gain * extrapolation(&sampled, kind), notes)
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
    let sampled = Sampled {
        start: w.start,
        end: w.end,
        first_time: w.histograms[0].time(),
        last_time: w.histograms[last].time(),
        gap_count: last,
        began,
        first: w.h(0).count,
        gain: gain.count,
    };
    gain.mul(extrapolation(&sampled, kind));
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
