//! changes and resets: how often a sample differs from, or falls below, the one before.

use super::{HistogramSample, Modifier, Window, start_reset};
use crate::{Answer, Notes};
use model::FloatHistogram;

#[derive(Clone, Copy)]
enum Sample<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

pub(super) fn changes<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    count(w, |before, now, _| match (before, now) {
        (Sample::Float(a), Sample::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Sample::Histogram(a), Sample::Histogram(b)) => !b.equals(a),
        _ => true,
    })
}

pub(super) fn resets<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    count(w, |before, now, by_start| match (before, now) {
        (Sample::Float(a), Sample::Float(b)) => b < a || by_start,
        (Sample::Histogram(a), Sample::Histogram(b)) => by_start || b.detect_reset(a),
        _ => true,
    })
}

/// Counts neighbors, floats and histograms merged by time, for which `differs(before, now, reset by start time)`.
fn count<H: HistogramSample>(
    w: &Window<'_, H>,
    differs: impl Fn(Sample<'_>, Sample<'_>, bool) -> bool,
) -> Answer {
    let Some((mut f, mut h)) = first_samples(w) else { return Answer::default() };
    let mut previous: Option<(Sample<'_>, (i64, i64))> = None;
    let mut found = 0u64;
    while f < w.times.len() || h < w.histograms.len() {
        let float = h >= w.histograms.len() || (f < w.times.len() && w.times[f] < w.histograms[h].time());
        let now = if float {
            f += 1;
            (Sample::Float(w.values[f - 1]), w.float_span(f - 1))
        } else {
            // Of two samples at one time the histogram goes first.
            h += 1;
            (Sample::Histogram(w.h(h - 1)), w.histogram_span(h - 1))
        };
        if let Some((sample, span)) = previous
            && differs(sample, now.0, start_reset(span, now.1))
        {
            found += 1;
        }
        previous = Some(now);
    }
    Answer::float(found as f64, Notes::NONE)
}

/// Where to begin: anchored selectors at the newest sample at or before the range's start, of either kind, if any
/// sample lies behind it.
fn first_samples<H: HistogramSample>(w: &Window<'_, H>) -> Option<(usize, usize)> {
    if w.modifier != Modifier::Anchored {
        return Some((0, 0));
    }
    let floats = w.times.partition_point(|&t| t <= w.start);
    let histograms = w.histograms.partition_point(|h| h.time() <= w.start);
    if floats >= w.times.len() && histograms >= w.histograms.len() {
        return None;
    }
    Some(match (floats.checked_sub(1), histograms.checked_sub(1)) {
        (None, None) => (0, 0),
        (Some(f), None) => (f, histograms),
        (Some(f), Some(h)) if w.times[f] >= w.histograms[h].time() => (f, histograms),
        (_, Some(h)) => (floats, h),
    })
}
