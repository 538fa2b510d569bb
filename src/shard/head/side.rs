//! Samples of one series that fit no row: explicit timestamps, histograms, what arrives out of order.

use std::sync::Arc;

use model::Timestamp;
use model::histogram::CounterResetHint;

use crate::shard::select::HistogramPoint;

#[derive(Clone, Default)]
pub(in crate::shard) struct SideBuffer {
    pub(in crate::shard) times: Vec<Timestamp>,
    pub(in crate::shard) values: Vec<f64>,
    /// Empty until a start timestamp is known, then as long as `times`.
    pub(in crate::shard) starts: Vec<Timestamp>,
    pub(in crate::shard) histograms: Vec<HistogramPoint>,
}

/// Why a sample was not taken.
///
/// The texts are Prometheus's; that of a duplicate is completed by who knows both values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("out of order sample")]
    OutOfOrder,
    #[error("duplicate sample for timestamp")]
    Duplicate,
    #[error("too old sample")]
    TooOld,
    #[error("out of bounds")]
    OutOfBounds,
    #[error("out of bounds: timestamp is too far in the future")]
    TooFar,
}

/// A sample older than the newest of its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::shard) struct Late {
    pub(in crate::shard) time: Timestamp,
    pub(in crate::shard) start: Timestamp,
    pub(in crate::shard) value: f64,
}

impl SideBuffer {
    pub(in crate::shard) fn last_time(&self) -> Option<Timestamp> {
        let float = self.times.last().copied();
        let histogram = self.histograms.last().map(|h| h.time);
        float.max(histogram)
    }

    /// Appends a float newer than everything held; the same sample again is taken silently.
    pub(in crate::shard) fn append_float(
        &mut self,
        time: Timestamp,
        start: Timestamp,
        value: f64,
    ) -> Result<(), Refusal> {
        match self.last_time() {
            Some(last) if time < last => return Err(Refusal::OutOfOrder),
            Some(last) if time == last => {
                let same = self.times.last() == Some(&time)
                    && self.values.last().is_some_and(|v| v.to_bits() == value.to_bits());
                return if same { Ok(()) } else { Err(Refusal::Duplicate) };
            }
            _ => {}
        }
        if start != 0 && self.starts.is_empty() {
            self.starts = vec![0; self.times.len()];
        }
        if start != 0 || !self.starts.is_empty() {
            self.starts.push(start);
        }
        self.times.push(time);
        self.values.push(value);
        Ok(())
    }

    fn holds(&self, time: Timestamp) -> bool {
        self.times.binary_search(&time).is_ok()
            || self.histograms.binary_search_by_key(&time, |h| h.time).is_ok()
    }

    /// Puts late floats in their places; `late` ascends by time. Where there is a sample already it stays. Returns
    /// how many went in.
    pub(in crate::shard) fn merge_late(&mut self, late: &mut Vec<Late>) -> usize {
        late.dedup_by_key(|l| l.time);
        late.retain(|l| !self.holds(l.time));
        let (mut old, added) = (self.times.len(), late.len());
        if self.starts.is_empty() && late.iter().any(|l| l.start != 0) {
            self.starts = vec![0; old];
        }
        let has_starts = !self.starts.is_empty();
        self.times.resize(old + added, 0);
        self.values.resize(old + added, 0.0);
        if has_starts {
            self.starts.resize(old + added, 0);
        }
        // From behind, so that each sample moves once, and those before the oldest late one not at all.
        for (before, l) in late.iter().enumerate().rev() {
            let from = self.times[..old].partition_point(|t| *t < l.time);
            let to = from + before;
            self.times.copy_within(from..old, to + 1);
            self.values.copy_within(from..old, to + 1);
            (self.times[to], self.values[to]) = (l.time, l.value);
            if has_starts {
                self.starts.copy_within(from..old, to + 1);
                self.starts[to] = l.start;
            }
            old = from;
        }
        added
    }

    /// Puts a late histogram in its place. Whether counters were reset between it and its neighbors is no longer
    /// known.
    pub(in crate::shard) fn insert_histogram(&mut self, mut point: HistogramPoint) -> bool {
        if self.holds(point.time) {
            return false;
        }
        let at = self.histograms.partition_point(|h| h.time < point.time);
        forget_hint(&mut point);
        if let Some(next) = self.histograms.get_mut(at) {
            forget_hint(next);
        }
        self.histograms.insert(at, point);
        true
    }

    pub(in crate::shard) fn append_histogram(&mut self, point: HistogramPoint) -> Result<(), Refusal> {
        match self.last_time() {
            Some(last) if point.time < last => return Err(Refusal::OutOfOrder),
            Some(last) if point.time == last => {
                let same = self
                    .histograms
                    .last()
                    .is_some_and(|h| h.time == point.time && h.histogram.equals(&point.histogram));
                return if same { Ok(()) } else { Err(Refusal::Duplicate) };
            }
            _ => {}
        }
        self.histograms.push(point);
        Ok(())
    }
}

impl SideBuffer {
    /// Notes that what came before the first histogram after a time is no longer known.
    pub(super) fn forget_hint_after(&mut self, time: Timestamp) {
        let at = self.histograms.partition_point(|h| h.time <= time);
        self.histograms.get_mut(at).into_iter().for_each(forget_hint);
    }
}

pub(in crate::shard) fn forget_hint(point: &mut HistogramPoint) {
    if !matches!(point.histogram.counter_reset_hint, CounterResetHint::Gauge | CounterResetHint::Unknown) {
        Arc::make_mut(&mut point.histogram).counter_reset_hint = CounterResetHint::Unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(time: Timestamp) -> Late {
        Late { time, start: time / 2, value: time as f64 }
    }

    #[test]
    fn late_samples_go_where_their_times_are() {
        let mut x = 3u64;
        let mut chance = |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        for has_starts in [false, true] {
            let mut side = SideBuffer::default();
            let mut expect: Vec<(Timestamp, Timestamp, f64)> = Vec::new();
            for t in (10..400).step_by(7) {
                let start = if has_starts { t - 1 } else { 0 };
                side.append_float(t, start, 0.5).expect("in order");
                expect.push((t, start, 0.5));
            }
            for _ in 0..40 {
                let mut run: Vec<Late> = (0..chance(6)).map(|_| late(chance(400) as i64)).collect();
                run.sort_by_key(|l| l.time);
                let before = expect.len();
                for l in &run {
                    if let Err(at) = expect.binary_search_by_key(&l.time, |e| e.0) {
                        expect.insert(at, (l.time, l.start, l.value));
                    }
                }
                assert_eq!(side.merge_late(&mut run), expect.len() - before);
                let starts = |i: usize| side.starts.get(i).copied().unwrap_or(0);
                let have: Vec<_> =
                    (0..side.times.len()).map(|i| (side.times[i], starts(i), side.values[i])).collect();
                assert_eq!(have, expect);
            }
        }
    }
}
