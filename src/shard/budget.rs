//! How many series the house may hold, and what was refused beyond that.
//!
//! While there is plenty of room nobody is asked. When it gets scarce, a metric that brings many new series at a time,
//! or has very many already, is refused more of them, and all others go on; when there is none left, every new series
//! is refused. Series that exist are never touched. What is on its way when the room ends still goes in.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use model::{Labels, Timestamp};

/// The last part of the room, kept for metrics that do not explode: an eighth.
const RESERVE_PARTS: u64 = 8;

/// New series of one metric on one page or in one request that are no explosion: a service that starts has some.
const FEW: u64 = 16;

/// How long a refusal is told of in answers to queries.
const TOLD_MS: i64 = 5 * 60_000;

#[derive(Debug, Default)]
pub struct Budget {
    /// 0 for no limit.
    max: AtomicU64,
    series: AtomicU64,
    refused: AtomicU64,
    last: Mutex<Option<(Refusal, Timestamp)>>,
}

/// New series that were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The metric that brought most of them.
    pub metric: String,
    pub count: u64,
    pub max: u64,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Refusal { metric, count, max } = self;
        write!(f, "series limit of {max} exceeded: {count} new series refused, most of them of {metric}")
    }
}

/// How much room there is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    max: u64,
    left: u64,
}

impl Room {
    pub const ENDLESS: Room = Room { max: u64::MAX, left: u64::MAX };

    /// What anybody may take.
    pub fn plenty(&self) -> u64 {
        self.left.saturating_sub(self.max / RESERVE_PARTS)
    }

    /// Which of some new series are refused, by their places (ascending), and what is to be said of it. `held` tells
    /// how many series of a metric there are.
    pub fn screen<'a>(
        &self,
        fresh: impl Iterator<Item = (usize, &'a Labels)> + Clone,
        held: impl Fn(&str) -> u64,
    ) -> (Vec<usize>, Option<Refusal>) {
        let name = |labels: &'a Labels| labels.metric_name().unwrap_or_default();
        if fresh.clone().count() as u64 <= self.plenty() {
            return (Vec::new(), None);
        }
        let mut brought: HashMap<&str, u64> = HashMap::new();
        fresh.clone().for_each(|(_, labels)| *brought.entry(name(labels)).or_default() += 1);
        let explodes: HashMap<&str, bool> = brought
            .iter()
            .map(|(name, n)| (*name, *n > FEW || held(name) > self.max / RESERVE_PARTS))
            .collect();
        let (mut left, mut plenty) = (self.left, self.plenty());
        let mut refused = Vec::new();
        let mut by_metric: HashMap<&str, u64> = HashMap::new();
        for (place, labels) in fresh {
            let name = name(labels);
            let has_room = if explodes[name] { plenty > 0 } else { left > 0 };
            if has_room {
                (left, plenty) = (left.saturating_sub(1), plenty.saturating_sub(1));
            } else {
                refused.push(place);
                *by_metric.entry(name).or_default() += 1;
            }
        }
        let most = by_metric.iter().max_by_key(|(name, n)| (**n, std::cmp::Reverse(**name)));
        let count = refused.len() as u64;
        let refusal = most.map(|(name, _)| Refusal { metric: (*name).to_owned(), count, max: self.max });
        (refused, refusal)
    }
}

impl Budget {
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
    }

    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Notes that a shard that had `before` series has `now`.
    pub fn note_series(&self, before: usize, now: usize) {
        // Wraps where there are fewer: the sum over all shards is right again.
        self.series.fetch_add((now as u64).wrapping_sub(before as u64), Relaxed);
    }

    pub fn room(&self) -> Room {
        match self.max() {
            0 => Room::ENDLESS,
            max => Room { max, left: max.saturating_sub(self.series.load(Relaxed)) },
        }
    }

    pub fn note_refusal(&self, refusal: Refusal, now: Timestamp) {
        let before = self.refused.fetch_add(refusal.count, Relaxed);
        if before == 0 {
            tracing::warn!(%refusal, "new series are refused: series that exist go on");
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((refusal, now));
    }

    /// Series refused so far; one that comes again counts again.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// What answers to queries say while series are being refused.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        if self.refused() == 0 {
            return None;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (refusal, at) = last.as_ref()?;
        (now.saturating_sub(*at) < TOLD_MS)
            .then(|| format!("{refusal}; results may lack series that were not there before"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(counts: &[(&str, usize)]) -> Vec<Labels> {
        let of = |(name, n): &(&str, usize)| {
            let name = (*name).to_owned();
            (0..*n).map(move |i| Labels::from_pairs([("__name__", name.clone()), ("i", i.to_string())]))
        };
        counts.iter().flat_map(of).collect()
    }

    fn check(left: u64, counts: &[(&str, usize)], expect: &[(&str, u64)]) {
        let room = Room { max: 800, left };
        let all = fresh(counts);
        let (refused, refusal) = room.screen(all.iter().enumerate(), |name| u64::from(name == "huge") * 101);
        let mut by_metric: Vec<(&str, u64)> = Vec::new();
        for place in &refused {
            let name = all[*place].metric_name().expect("a name");
            match by_metric.iter_mut().find(|m| m.0 == name) {
                Some(m) => m.1 += 1,
                None => by_metric.push((name, 1)),
            }
        }
        assert_eq!(by_metric, expect, "{left} left, {counts:?}");
        assert_eq!(refusal.map_or(0, |r| r.count), refused.len() as u64);
    }

    #[test]
    fn who_explodes_is_refused_first() {
        check(800, &[("a", 700)], &[]);
        check(800, &[("a", 701)], &[("a", 1)]);
        check(150, &[("a", 100), ("b", 16)], &[("a", 50)]);
        check(100, &[("a", 17), ("b", 16), ("c", 1)], &[("a", 17)]);
        check(100, &[("huge", 1), ("b", 16)], &[("huge", 1)]);
        check(10, &[("b", 16)], &[("b", 6)]);
        check(0, &[("b", 1)], &[("b", 1)]);
    }

    #[test]
    fn refusals_are_counted_and_told_for_a_while() {
        let budget = Budget::default();
        assert_eq!((budget.room(), budget.warning(0)), (Room::ENDLESS, None));
        budget.set_max(100);
        budget.note_series(0, 60);
        budget.note_series(20, 10);
        assert_eq!(budget.room(), Room { max: 100, left: 50 });
        budget.note_refusal(Refusal { metric: "m".into(), count: 7, max: 100 }, 1000);
        let told = "series limit of 100 exceeded: 7 new series refused, most of them of m; \
                    results may lack series that were not there before";
        assert_eq!(budget.warning(2000).as_deref(), Some(told));
        assert_eq!((budget.warning(1000 + TOLD_MS), budget.refused()), (None, 7));
    }
}
