//! When a target is due, and with which timestamp: all in milliseconds of the wall clock.

use model::Timestamp;

/// The widest gap between plan and fact that a timestamp hides: 2 ms, or a hundredth of the interval.
pub const TOLERANCE_MS_MAX: i64 = 2;

/// When a target with this identity is due first, from `now_ns` on: targets spread evenly over their interval, and
/// keep their place over restarts.
pub fn first_due_ns(now_ns: i64, interval_ms: i64, identity: u64, seed: u64) -> i64 {
    let interval = (interval_ms.max(1) as u64).saturating_mul(1_000_000);
    let base = interval - now_ns.rem_euclid(interval as i64) as u64;
    let mut next = base + (identity ^ seed) % interval;
    if next > interval {
        next -= interval;
    }
    now_ns.saturating_add(next as i64)
}

/// Timestamps on the plan where the scrape was nearly on time: equal distances pack better.
#[derive(Clone, Copy, Debug)]
pub struct Aligner {
    planned: Timestamp,
    interval_ms: i64,
    tolerance_ms: i64,
}

impl Aligner {
    /// `tolerance_ms` is [`TOLERANCE_MS_MAX`] by default; negative aligns nothing.
    pub fn new(first: Timestamp, interval_ms: i64, tolerance_ms: i64) -> Self {
        Aligner { planned: first, interval_ms, tolerance_ms: tolerance_ms.min(interval_ms / 100) }
    }

    /// The timestamp of a scrape that begins at `now`.
    pub fn timestamp(&mut self, now: Timestamp) -> Timestamp {
        let late = now - self.planned;
        if late >= self.interval_ms {
            self.planned += late / self.interval_ms * self.interval_ms;
        }
        let late = now - self.planned;
        if self.tolerance_ms >= 0 && late.abs() <= self.tolerance_ms { self.planned } else { now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_scrapes_spread_over_the_interval_and_stay_in_place() {
        let interval = 15_000;
        let now = 1_700_000_000_000_000_000;
        let mut seen = [0; 15];
        for i in 0..3000u64 {
            let identity = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let due = first_due_ns(now, interval, identity, 7);
            assert!(due > now && due <= now + 15_000_000_000);
            let later = first_due_ns(now + 4_000_000_000, interval, identity, 7);
            assert_eq!(
                (later - due).rem_euclid(15_000_000_000),
                0,
                "the place in the interval is the target's"
            );
            seen[((due - now - 1) / 1_000_000_000) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (150..250).contains(n)), "{seen:?}");
    }

    #[test]
    fn small_delays_are_hidden_and_missed_turns_skipped() {
        let mut a = Aligner::new(1000, 10_000, TOLERANCE_MS_MAX);
        assert_eq!(a.timestamp(1001), 1000);
        assert_eq!(a.timestamp(11_002), 11_000);
        assert_eq!(a.timestamp(21_003), 21_003);
        assert_eq!(a.timestamp(31_000), 31_000);
        assert_eq!(a.timestamp(65_000), 65_000);
        assert_eq!(a.timestamp(71_001), 71_000);
        let mut short = Aligner::new(0, 100, TOLERANCE_MS_MAX);
        assert_eq!((short.timestamp(101), short.timestamp(202)), (100, 202));
    }
}
