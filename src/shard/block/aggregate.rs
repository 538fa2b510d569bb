//! Aggregates of a series over windows of time, and how they are made of samples or of finer aggregates.
//!
//! A window is `k * resolution <= t < (k + 1) * resolution`, and its time is its last millisecond, as in Thanos. Of the
//! samples in it are kept their count, sum, least and greatest, and for counters the last one together with what was
//! lost by resets since the window before: with these the increase between any two windows is known, whatever blocks
//! they lie in.

use codec::Error as Malformed;
use model::{Timestamp, is_stale};

use crate::shard::tombstones::Spans;

/// What one column of a series' aggregates has of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Aggregate {
    Count = 1,
    Sum = 2,
    Min = 3,
    Max = 4,
    /// The very first sample at its own time, then the last one of each window.
    Last = 5,
    /// What resets took away since the window before, or since the very first sample. There is none where it is nothing.
    Lost = 6,
}

impl Aggregate {
    /// `Some(None)` for samples themselves; `None` for what is unknown.
    pub fn from_u8(n: u8) -> Option<Option<Aggregate>> {
        use Aggregate::*;
        const ALL: [Option<Aggregate>; 7] =
            [None, Some(Count), Some(Sum), Some(Min), Some(Max), Some(Last), Some(Lost)];
        ALL.get(usize::from(n)).copied()
    }
}

/// The time of the window that `t` lies in: its last millisecond.
pub fn stamp_of(t: Timestamp, resolution: i64) -> Timestamp {
    start_of(t, resolution).saturating_add(resolution - 1)
}

/// Where the window begins that `t` lies in.
pub fn start_of(t: Timestamp, resolution: i64) -> Timestamp {
    t.div_euclid(resolution).saturating_mul(resolution)
}

/// Columns of one series, ascending by time; all are of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    pub times: Vec<Timestamp>,
    pub counts: Vec<f64>,
    pub sums: Vec<f64>,
    pub mins: Vec<f64>,
    pub maxs: Vec<f64>,
    pub lasts: Vec<f64>,
    pub losts: Vec<f64>,
    /// The very first sample.
    pub first_time: Timestamp,
    pub first: f64,
}

impl Windows {
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Makes columns whole that were read one by one: those that were are of one length, and nothing lost is written as
    /// nothing.
    pub fn settle(&mut self) -> Result<(), Malformed> {
        let n = self.times.len();
        self.losts.resize(if self.losts.is_empty() { n } else { self.losts.len() }, 0.0);
        let columns = [&self.counts, &self.sums, &self.mins, &self.maxs, &self.lasts, &self.losts];
        let is_fit = columns.iter().all(|c| c.is_empty() || c.len() == n);
        if !is_fit || !self.times.is_sorted_by(|a, b| a < b) {
            return Err(Malformed::Corrupt("columns of aggregates"));
        }
        Ok(())
    }

    /// Whether every column is there.
    pub fn is_whole(&self) -> bool {
        [&self.counts, &self.sums, &self.mins, &self.maxs, &self.lasts]
            .iter()
            .all(|c| c.len() == self.times.len())
    }

    /// Takes windows out; what was lost in them is carried to the next one that stays.
    pub fn delete(&mut self, deleted: &Spans) {
        let stays: Vec<bool> = self.times.iter().map(|t| !deleted.covers(*t, *t)).collect();
        let mut lost = 0.0;
        for (i, stays) in stays.iter().enumerate() {
            lost += self.losts[i];
            if *stays {
                self.losts[i] = std::mem::take(&mut lost);
            }
        }
        if let (Some(false), Some(at)) = (stays.first(), stays.iter().position(|s| *s)) {
            // What came before is gone: it begins with the first that is left.
            (self.first_time, self.first) = (self.times[at], self.lasts.get(at).copied().unwrap_or(0.0));
            self.losts[at] = 0.0;
        }
        let mut kept = stays.iter();
        self.times.retain(|_| *kept.next().unwrap_or(&true));
        for column in [
            &mut self.counts,
            &mut self.sums,
            &mut self.mins,
            &mut self.maxs,
            &mut self.lasts,
            &mut self.losts,
        ] {
            let mut kept = stays.iter();
            column.retain(|_| *kept.next().unwrap_or(&true));
        }
    }
}

/// The lesser of two as `min_over_time` sees it: NaN only where there is nothing else.
fn min(a: f64, b: f64) -> f64 {
    if b < a || a.is_nan() { b } else { a }
}

fn max(a: f64, b: f64) -> f64 {
    if b > a || a.is_nan() { b } else { a }
}

/// Gathers what comes in order of time into windows.
pub struct Aggregator {
    resolution: i64,
    last: Option<f64>,
    pub out: Windows,
}

impl Aggregator {
    /// `resolution` is more than 0.
    pub fn new(resolution: i64) -> Aggregator {
        Aggregator { resolution: resolution.max(1), last: None, out: Windows::default() }
    }

    /// Adds a sample. Staleness markers are none.
    pub fn push(&mut self, time: Timestamp, value: f64) {
        if is_stale(value) {
            return;
        }
        let lost = self.lost_before(time, value);
        self.window(time, [1.0, value, value, value, value, lost]);
    }

    /// Adds windows of the same or a finer resolution, those at `from <= t < to`.
    pub fn push_windows(&mut self, w: &Windows, from: Timestamp, to: Timestamp) {
        let (a, b) = (w.times.partition_point(|t| *t < from), w.times.partition_point(|t| *t < to));
        if a >= b {
            return;
        }
        // In the middle of a column it goes on from where the window before ended.
        let (first_time, first) = match a.checked_sub(1) {
            None => (w.first_time, w.first),
            Some(before) => (w.times[before].saturating_add(1), w.lasts[before]),
        };
        let mut lost = self.lost_before(first_time, first);
        for i in a..b {
            let lost = std::mem::take(&mut lost) + w.losts[i];
            self.window(w.times[i], [w.counts[i], w.sums[i], w.mins[i], w.maxs[i], w.lasts[i], lost]);
        }
    }

    /// What is lost between the last sample so far and the next one.
    fn lost_before(&mut self, time: Timestamp, value: f64) -> f64 {
        if self.out.is_empty() {
            (self.out.first_time, self.out.first) = (time, value);
        }
        self.last.filter(|last| value < *last).unwrap_or(0.0)
    }

    fn window(&mut self, time: Timestamp, [count, sum, least, greatest, last, lost]: [f64; 6]) {
        let stamp = stamp_of(time, self.resolution);
        self.last = Some(last);
        let out = &mut self.out;
        if out.times.last() != Some(&stamp) {
            out.times.push(stamp);
            out.counts.push(count);
            out.sums.push(sum);
            out.mins.push(least);
            out.maxs.push(greatest);
            out.lasts.push(last);
            out.losts.push(lost);
            return;
        }
        let i = out.times.len() - 1;
        out.counts[i] += count;
        out.sums[i] += sum;
        out.mins[i] = min(out.mins[i], least);
        out.maxs[i] = max(out.maxs[i], greatest);
        out.lasts[i] = last;
        out.losts[i] += lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RES: i64 = 20;

    /// Whole numbers, so that no order of adding them matters; falls are resets.
    pub(super) fn samples() -> impl Strategy<Value = Vec<(Timestamp, f64)>> {
        proptest::collection::vec((1i64..30, 0u16..60), 1..200).prop_map(|steps| {
            let (mut t, mut v) = (-100, 0.0);
            let mut out = Vec::new();
            for (gap, step) in steps {
                t += gap;
                v = match step {
                    0..4 => f64::from(step),
                    4 => model::STALE_NAN,
                    step if is_stale(v) => f64::from(step),
                    step => v + f64::from(step),
                };
                out.push((t, v));
            }
            out
        })
    }

    fn aggregated(samples: &[(Timestamp, f64)], resolution: i64) -> Windows {
        let mut a = Aggregator::new(resolution);
        samples.iter().for_each(|(t, v)| a.push(*t, *v));
        a.out
    }

    fn live(samples: &[(Timestamp, f64)]) -> Vec<(Timestamp, f64)> {
        samples.iter().copied().filter(|(_, v)| !is_stale(*v)).collect()
    }

    /// How much a counter grew from one sample to the last.
    fn increase_naive(samples: &[(Timestamp, f64)]) -> f64 {
        samples.windows(2).map(|w| if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 }).sum()
    }

    fn check_naive(w: &Windows, samples: &[(Timestamp, f64)], resolution: i64) {
        let live = live(samples);
        let mut stamps: Vec<i64> = live.iter().map(|(t, _)| stamp_of(*t, resolution)).collect();
        stamps.dedup();
        assert_eq!(w.times, stamps);
        for (i, stamp) in stamps.iter().enumerate() {
            let of = |(t, _): &&(i64, f64)| *t > stamp - resolution && t <= stamp;
            let values: Vec<f64> = live.iter().filter(of).map(|s| s.1).collect();
            assert_eq!(w.counts[i], values.len() as f64);
            assert_eq!(w.sums[i], values.iter().sum::<f64>());
            assert_eq!(w.mins[i], values.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(w.maxs[i], values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            assert_eq!(w.lasts[i], *values.last().unwrap());
            let to = live.iter().rposition(|(t, _)| t <= stamp).unwrap();
            let grown = w.lasts[i] - w.first + w.losts[..=i].iter().sum::<f64>();
            assert_eq!(grown, increase_naive(&live[..=to]), "window {stamp}");
        }
        assert!(live.is_empty() || (w.first_time, w.first) == live[0]);
    }

    proptest! {
        #[test]
        fn windows_have_what_a_walk_over_the_samples_finds(samples in samples()) {
            check_naive(&aggregated(&samples, RES), &samples, RES);
        }

        #[test]
        fn windows_of_windows_are_those_of_the_samples(samples in samples(), cuts in proptest::collection::vec(-5i64..60, 0..4)) {
            let mut cuts: Vec<i64> = cuts.into_iter().map(|c| c * RES * 3).collect();
            cuts.sort_unstable();
            cuts.dedup();
            // In several blocks each, some read in two pieces.
            let (mut a, mut from) = (Aggregator::new(RES * 3), i64::MIN);
            for to in cuts.into_iter().chain([i64::MAX]) {
                let part: Vec<_> = samples.iter().copied().filter(|(t, _)| *t >= from && *t < to).collect();
                let (fine, middle) = (aggregated(&part, RES), RES * 12);
                a.push_windows(&fine, i64::MIN, middle);
                a.push_windows(&fine, middle, i64::MAX);
                from = to;
            }
            check_naive(&a.out, &samples, RES * 3);
        }

        #[test]
        fn a_deleted_window_leaves_the_growth_around_it(samples in samples(), at in 0usize..20) {
            let mut w = aggregated(&samples, RES);
            prop_assume!(at < w.times.len());
            let before = w.clone();
            let mut deleted = Spans::default();
            deleted.add(w.times[at] - RES + 1, w.times[at]);
            w.delete(&deleted);
            prop_assert_eq!(w.times.len(), before.times.len() - 1);
            prop_assert!(w.counts.len() == w.times.len() && w.losts.len() == w.times.len());
            if at > 0 && at + 1 < before.times.len() {
                let grown = |w: &Windows| w.lasts.last().unwrap() - w.first + w.losts.iter().sum::<f64>();
                prop_assert_eq!(grown(&w), grown(&before));
            }
        }
    }

    #[test]
    fn what_is_no_number_is_the_least_only_where_there_is_nothing_else() {
        let w = aggregated(&[(0, f64::NAN), (1, 3.0), (2, f64::NAN), (20, f64::NAN)], RES);
        assert_eq!((w.mins[0], w.maxs[0]), (3.0, 3.0));
        assert!(w.mins[1].is_nan() && w.maxs[1].is_nan() && w.sums[0].is_nan());
    }

    #[test]
    fn windows_lie_on_the_grid_before_and_after_the_epoch() {
        let check = |t, expect| assert_eq!((start_of(t, RES), stamp_of(t, RES)), expect, "{t}");
        check(0, (0, 19));
        check(19, (0, 19));
        check(20, (20, 39));
        check(-1, (-20, -1));
        assert_eq!(start_of(i64::MIN, RES), i64::MIN);
    }
}
