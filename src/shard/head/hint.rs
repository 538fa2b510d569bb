//! What a stored histogram says of a counter reset since the sample before it.

use model::histogram::{CounterResetHint, FloatHistogram};

/// What is kept of the reset between two histograms that follow each other. As Prometheus has it: after a reset a new
/// chunk begins, and of the first sample of a chunk nothing is said, since the chunk before may be gone.
pub(in crate::shard) fn stored_hint(
    previous: Option<&FloatHistogram>,
    h: &FloatHistogram,
) -> CounterResetHint {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    if h.counter_reset_hint == Reset {
        return Unknown;
    }
    if h.counter_reset_hint == Gauge {
        return Gauge;
    }
    let Some(p) = previous.filter(|p| p.counter_reset_hint != Gauge) else { return Unknown };
    if h.is_stale() {
        return NotReset;
    }
    if p.is_stale() || h.count < p.count {
        return Unknown;
    }
    let same_layout =
        h.schema == p.schema && h.zero_threshold == p.zero_threshold && h.custom_values == p.custom_values;
    if !same_layout {
        return Unknown;
    }
    let blank = |x: &FloatHistogram| FloatHistogram { counter_reset_hint: Unknown, ..x.clone() };
    if blank(h).detect_reset(&blank(p)) { Unknown } else { NotReset }
}
