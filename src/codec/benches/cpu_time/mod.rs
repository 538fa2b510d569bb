//! Time that this thread was on a core: what counts on a machine that others use too.

use std::time::{Duration, Instant};

/// Nanoseconds on a core so far, where the kernel tells (within a tick, so measure long).
fn on_core() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Runs `work` that many times.
pub(crate) fn measure<R>(iterations: u64, mut work: impl FnMut() -> R) -> Duration {
    let (wall, core) = (Instant::now(), on_core());
    for _ in 0..iterations {
        std::hint::black_box(work());
    }
    match (core, on_core()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => wall.elapsed(),
    }
}
