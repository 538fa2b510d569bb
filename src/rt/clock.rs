//! Time: a monotonic moment for waiting, the wall's for stamping; behind a trait, so that a test can turn it.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point of monotonic time: nanoseconds since the clock's own beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub const FAR: Moment = Moment(u64::MAX);

    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Zero when `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

pub trait Clock: Send + Sync {
    /// Monotonic: for deadlines and durations.
    fn now(&self) -> Moment;

    /// Wall clock, nanoseconds since the Unix epoch. It may jump.
    fn wall_ns(&self) -> i64;

    /// Wall clock, milliseconds since the Unix epoch: what a sample is stamped with.
    fn now_ms(&self) -> i64 {
        self.wall_ns().div_euclid(1_000_000)
    }

    /// The moment at which the wall will show `wall_ms`, if it does not jump; now when that is past.
    fn moment_of(&self, wall_ms: i64) -> Moment {
        let ahead = wall_ms.saturating_mul(1_000_000).saturating_sub(self.wall_ns()).max(0);
        self.now() + Duration::from_nanos(ahead.unsigned_abs())
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = START.get_or_init(Instant::now);
        Moment(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    wall: AtomicI64,
}

impl ManualClock {
    pub fn starting_at(wall_ms: i64) -> Arc<ManualClock> {
        Arc::new(ManualClock { now: AtomicU64::new(0), wall: AtomicI64::new(wall_ms * 1_000_000) })
    }

    /// Moves both clocks.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.now.fetch_add(nanos, Ordering::Relaxed);
        self.wall.fetch_add(i64::try_from(nanos).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Jumps the wall alone, as an administrator or a leap does.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.wall.store(wall_ms * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::Relaxed))
    }

    fn wall_ns(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.now_ms() > 1_700_000_000_000);
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::starting_at(1_000);
        clock.advance(Duration::from_millis(250));
        assert_eq!((clock.now(), clock.now_ms()), (Moment::from_nanos(250_000_000), 1_250));
        clock.set_wall_ms(500);
        assert_eq!((clock.now(), clock.now_ms()), (Moment::from_nanos(250_000_000), 500));
    }

    #[test]
    fn the_moment_of_a_wall_time_is_never_before_now() {
        let clock = ManualClock::starting_at(1_000);
        assert_eq!(clock.moment_of(1_200), Moment::from_nanos(200_000_000));
        assert_eq!(clock.moment_of(400), clock.now());
    }

    #[test]
    fn wall_times_before_the_epoch_round_down() {
        assert_eq!(ManualClock::starting_at(-1).now_ms(), -1);
    }
}
