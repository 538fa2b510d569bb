//! What the shards of one house know together: a few numbers, read and raised without a lock.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

use model::Timestamp;

use crate::shard::births::Births;
use crate::shard::budget::Budget;
use crate::shard::head::partial::Newest;
use crate::shard::head::side::Refusal;

/// Samples this far behind the house's newest are refused, as Prometheus does: half its head's range.
const BEHIND_MS_MAX: i64 = 3_600_000;

/// Samples further in the future than this are refused, as Prometheus refuses them.
pub const FUTURE_MS_MAX: i64 = 10 * 60_000;

#[derive(Debug)]
pub struct Commons {
    /// Rises when a shard refuses a batch, and when it takes samples again: rows say only what changed, so sources
    /// of an older generation cannot go on.
    generation: AtomicU64,
    /// The newest sample of all shards; `Timestamp::MIN` before the first.
    newest: AtomicI64,
    /// How many series there may be.
    pub budget: Budget,
    /// Which metrics have had new ones.
    pub births: Births,
    /// How far behind the newest sample others are taken out of order; 0 for not at all.
    window_ms: AtomicI64,
    /// Bytes of batches that wait for room in the tails of all shards.
    waiting_bytes: AtomicI64,
}

impl Default for Commons {
    fn default() -> Self {
        Commons {
            generation: AtomicU64::new(0),
            newest: AtomicI64::new(Timestamp::MIN),
            budget: Budget::default(),
            births: Births::default(),
            window_ms: AtomicI64::new(0),
            waiting_bytes: AtomicI64::new(0),
        }
    }
}

impl Commons {
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    pub fn begin_generation(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Raises the newest time, if it is above what is known.
    pub fn note_newest(&self, time: Timestamp) {
        // Most batches of a scrape's many are not the first with their time: a look keeps the line shared.
        if time > self.newest.load(Relaxed) {
            self.newest.fetch_max(time, Relaxed);
        }
    }

    /// Notes that so many more bytes wait for room in a tail, or fewer.
    pub fn note_waiting(&self, bytes: i64) {
        self.waiting_bytes.fetch_add(bytes, Relaxed);
    }

    /// Whether some shard's log is behind its batches.
    pub fn has_backlog(&self) -> bool {
        self.waiting_bytes.load(Relaxed) > 0
    }

    pub fn set_window(&self, window_ms: u64) {
        self.window_ms.store(i64::try_from(window_ms).unwrap_or(i64::MAX), Relaxed);
    }

    pub fn window_ms(&self) -> i64 {
        self.window_ms.load(Relaxed)
    }

    /// What is taken of a request or a page that begins at `now`.
    pub fn bounds(&self, now: Timestamp) -> Bounds {
        Bounds::new(self.newest.load(Relaxed), self.window_ms.load(Relaxed), now)
    }
}

/// Which times are taken: the same for all samples of one request or page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The newest sample of the house, `Timestamp::MIN` where it has none.
    pub newest: Timestamp,
    pub window_ms: i64,
    /// Samples behind it lie too far in the future.
    pub latest: Timestamp,
}

/// How a sample that is taken stands to those of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Newer than all of them, or the newest again.
    InOrder,
    /// Out of order, within the window.
    Late,
}

impl Bounds {
    /// Refuses nothing but what is out of order.
    pub const NONE: Bounds = Bounds { newest: Timestamp::MIN, window_ms: 0, latest: Timestamp::MAX };

    pub fn new(newest: Timestamp, window_ms: i64, now: Timestamp) -> Bounds {
        Bounds { newest, window_ms, latest: now.saturating_add(FUTURE_MS_MAX) }
    }

    /// The bounds of a request whose first sample has this time: in an empty house it is the newest there is.
    pub fn from_first(self, first: Timestamp) -> Bounds {
        Bounds { newest: if self.newest == Timestamp::MIN { first } else { self.newest }, ..self }
    }

    /// When the request or page began.
    pub fn now(&self) -> Timestamp {
        self.latest.saturating_sub(FUTURE_MS_MAX)
    }

    /// The oldest time that is taken in order.
    pub fn oldest(&self) -> Timestamp {
        self.newest.saturating_sub(BEHIND_MS_MAX)
    }

    /// The oldest time that is taken out of order; `None` where nothing is.
    pub fn late(&self) -> Option<Timestamp> {
        (self.window_ms > 0).then(|| self.newest.saturating_sub(self.window_ms))
    }

    /// How far a sample lies behind the newest one, in milliseconds.
    pub fn delta(&self, time: Timestamp) -> i64 {
        self.newest.saturating_sub(time)
    }

    /// What Prometheus says to a sample of a series that has another one at its time.
    pub fn judge_other(&self, time: Timestamp) -> Result<Standing, Refusal> {
        let newest = Newest { time, value: Some(0.0) };
        self.judge(Some(newest), time, None)
    }

    /// What Prometheus says to a sample of a series whose newest one is `newest`. `value` is `None` for a histogram,
    /// which is the series' newest where that is one and has its time.
    pub fn judge(
        &self,
        newest: Option<Newest>,
        time: Timestamp,
        value: Option<f64>,
    ) -> Result<Standing, Refusal> {
        if time > self.latest {
            return Err(Refusal::TooFar);
        }
        if time >= self.oldest() {
            match newest.map(|n| (time.cmp(&n.time), n.value)) {
                None | Some((std::cmp::Ordering::Greater, _)) => return Ok(Standing::InOrder),
                Some((std::cmp::Ordering::Less, _)) => {}
                Some((_, known)) => {
                    let is_same = match (known, value) {
                        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
                        (None, None) => true,
                        _ => false,
                    };
                    return if is_same { Ok(Standing::InOrder) } else { Err(Refusal::Duplicate) };
                }
            }
        }
        match self.late() {
            Some(late) if time >= late => Ok(Standing::Late),
            Some(_) => Err(Refusal::TooOld),
            None if time < self.oldest() => Err(Refusal::OutOfBounds),
            None => Err(Refusal::OutOfOrder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn check(window_ms: i64, newest: Option<(Timestamp, f64)>, time: i64, expect: Result<Standing, Refusal>) {
        let bounds = Bounds::new(10 * HOUR, window_ms, 10 * HOUR);
        let newest = newest.map(|(time, v)| Newest { time, value: Some(v) });
        let have = bounds.judge(newest, time, Some(1.0));
        assert_eq!(have, expect, "window {window_ms}, newest {newest:?}, time {time}");
    }

    #[test]
    fn times_are_judged_as_prometheus_judges_them() {
        use Standing::{InOrder, Late};
        let last = Some((10 * HOUR - 1000, 1.0));
        let other = Some((10 * HOUR - 1000, 2.0));
        check(0, None, 9 * HOUR, Ok(InOrder));
        check(0, None, 9 * HOUR - 1, Err(Refusal::OutOfBounds));
        check(0, last, 10 * HOUR, Ok(InOrder));
        check(0, last, 10 * HOUR - 1000, Ok(InOrder));
        check(0, other, 10 * HOUR - 1000, Err(Refusal::Duplicate));
        check(0, last, 10 * HOUR - 1001, Err(Refusal::OutOfOrder));
        check(0, last, 9 * HOUR - 1, Err(Refusal::OutOfBounds));
        check(0, last, 10 * HOUR + FUTURE_MS_MAX + 1, Err(Refusal::TooFar));
        let half = HOUR / 2;
        check(half, last, 10 * HOUR - 1001, Ok(Late));
        check(half, last, 10 * HOUR - half, Ok(Late));
        check(half, last, 10 * HOUR - half - 1, Err(Refusal::TooOld));
        check(half, None, 9 * HOUR, Ok(InOrder));
        check(half, None, 9 * HOUR - 1, Err(Refusal::TooOld));
        check(half, other, 10 * HOUR - 1000, Err(Refusal::Duplicate));
        check(3 * HOUR, None, 8 * HOUR, Ok(Late));
        check(3 * HOUR, Some((8 * HOUR, 2.0)), 8 * HOUR, Ok(Late));
    }

    #[test]
    fn an_empty_house_counts_from_the_first_sample() {
        let bounds = Commons::default().bounds(10 * HOUR);
        assert_eq!(bounds.judge(None, 5, Some(1.0)), Ok(Standing::InOrder));
        let bounds = bounds.from_first(9 * HOUR);
        assert_eq!(bounds.judge(None, 8 * HOUR, Some(1.0)), Ok(Standing::InOrder));
        assert_eq!(bounds.judge(None, 8 * HOUR - 1, Some(1.0)), Err(Refusal::OutOfBounds));
    }
}
