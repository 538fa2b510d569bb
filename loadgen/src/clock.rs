//! The one place where the load generator reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub fn now() -> Instant {
    Instant::now()
}

/// Unix time in microseconds.
pub fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

pub fn sleep_until(when: Instant) {
    let left = when.saturating_duration_since(now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

pub fn sleep(d: Duration) {
    std::thread::sleep(d);
}
