//! What each shard counts of itself, written by its thread and read by anyone: the source of `systole_shard_*`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::rt::executor::TaskClass;

/// How long a longest turn is remembered: for this time at least, and at most twice as long.
pub(crate) const TURN_WINDOW: Duration = Duration::from_secs(60);

/// The task class shown while no task has run yet.
const NO_CLASS: u8 = u8::MAX;

#[derive(Debug)]
pub(crate) struct ShardCounters {
    pub(crate) beats: AtomicU64,
    /// When the next beat is due, by the system's monotonic clock; the far future until the shard runs.
    pub(crate) due: AtomicU64,
    pub(crate) kicks: AtomicU64,
    pub(crate) late_ns: AtomicU64,
    pub(crate) late_max_ns: AtomicU64,
    pub(crate) busy_ns: AtomicU64,
    pub(crate) class_busy_ns: [AtomicU64; TaskClass::COUNT],
    /// The longest turn of each class in this window and in the one before it.
    turn_max_ns: [AtomicU64; TaskClass::COUNT],
    turn_before_ns: [AtomicU64; TaskClass::COUNT],
    pub(crate) jobs: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) rings: AtomicU64,
    pub(crate) waiting_mail: AtomicU64,
    pub(crate) sleepers: AtomicU64,
    pub(crate) outstanding: AtomicU64,
    pub(crate) thread: AtomicU32,
    pub(crate) finished: AtomicBool,
    class: AtomicU8,
}

impl ShardCounters {
    pub(crate) fn new() -> ShardCounters {
        ShardCounters {
            beats: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            kicks: AtomicU64::new(0),
            late_ns: AtomicU64::new(0),
            late_max_ns: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            class_busy_ns: Default::default(),
            turn_max_ns: Default::default(),
            turn_before_ns: Default::default(),
            jobs: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            rings: AtomicU64::new(0),
            waiting_mail: AtomicU64::new(0),
            sleepers: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            finished: AtomicBool::new(false),
            class: AtomicU8::new(NO_CLASS),
        }
    }

    /// Remembers whose turn it is, for the watchdog's last words.
    pub(crate) fn enter(&self, class: TaskClass) {
        self.class.store(class as u8, Relaxed);
    }

    /// One turn of a task is over.
    pub(crate) fn turned(&self, class: TaskClass, took: Duration) {
        self.turn_max_ns[class as usize].fetch_max(took.as_nanos() as u64, Relaxed);
    }

    /// Another window of turns begins.
    pub(crate) fn turn_window(&self) {
        for (now, before) in self.turn_max_ns.iter().zip(&self.turn_before_ns) {
            before.store(now.swap(0, Relaxed), Relaxed);
        }
    }

    fn turn_max(&self, class: usize) -> u64 {
        self.turn_max_ns[class].load(Relaxed).max(self.turn_before_ns[class].load(Relaxed))
    }

    pub(crate) fn last_class(&self) -> Option<TaskClass> {
        TaskClass::ALL.get(usize::from(self.class.load(Relaxed))).copied()
    }

    pub(crate) fn late(&self, nanos: u64) {
        self.late_ns.fetch_add(nanos, Relaxed);
        self.late_max_ns.fetch_max(nanos, Relaxed);
    }
}

/// One shard's figures at one moment. All but the depths only grow (as long as the process lives).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardReading {
    pub shard: u32,
    /// CPU seconds of the shard's thread, the reactor included; zero where the kernel does not say.
    pub cpu_seconds: f64,
    /// Seconds spent inside tasks, as the executor counts them (sampled a few times a second).
    pub busy_seconds: f64,
    /// The same by task class, in the order of [`TaskClass::ALL`].
    pub class_busy_seconds: [f64; TaskClass::COUNT],
    /// The longest time, by task class, for which one poll of one task held the shard in the last minute or two. Zero
    /// where none outlasted the executor's preempt timer: shorter ones are not timed.
    pub turn_max_seconds: [f64; TaskClass::COUNT],
    /// Pulses so far, their summed lateness, and the worst one.
    pub beats: u64,
    pub late_seconds: f64,
    pub late_max_seconds: f64,
    /// Times the watchdog woke the shard because it slept past its time.
    pub kicks: u64,
    /// Jobs and messages taken from the mailbox.
    pub jobs: u64,
    pub messages: u64,
    /// Jobs and messages meant for this shard that found its mailbox full.
    pub refused: u64,
    /// Times the doorbell woke the shard.
    pub rings: u64,
    /// Mail in the ring now, and how much it holds.
    pub mailbox_depth: u64,
    pub mailbox_capacity: u64,
    /// Mail that this shard holds back because a destination's ring was full.
    pub waiting_mail: u64,
    /// Tasks asleep on the pulse, and answers awaited from elsewhere.
    pub sleepers: u64,
    pub outstanding: u64,
}

impl ShardReading {
    pub(crate) fn of(shard: u32, counters: &ShardCounters, depth: usize, capacity: usize) -> ShardReading {
        let seconds = |nanos: &AtomicU64| nanos.load(Relaxed) as f64 / 1e9;
        ShardReading {
            shard,
            cpu_seconds: thread_cpu_seconds(counters.thread.load(Relaxed)),
            busy_seconds: seconds(&counters.busy_ns),
            class_busy_seconds: std::array::from_fn(|class| seconds(&counters.class_busy_ns[class])),
            turn_max_seconds: std::array::from_fn(|class| counters.turn_max(class) as f64 / 1e9),
            beats: counters.beats.load(Relaxed),
            late_seconds: seconds(&counters.late_ns),
            late_max_seconds: seconds(&counters.late_max_ns),
            kicks: counters.kicks.load(Relaxed),
            jobs: counters.jobs.load(Relaxed),
            messages: counters.messages.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            rings: counters.rings.load(Relaxed),
            mailbox_depth: depth as u64,
            mailbox_capacity: capacity as u64,
            waiting_mail: counters.waiting_mail.load(Relaxed),
            sleepers: counters.sleepers.load(Relaxed),
            outstanding: counters.outstanding.load(Relaxed),
        }
    }
}

/// The kernel's number of this thread; 0 when `/proc` is not there.
pub(crate) fn this_thread() -> u32 {
    let link = std::fs::read_link("/proc/thread-self").ok();
    link.and_then(|path| path.file_name()?.to_str()?.parse().ok()).unwrap_or(0)
}

/// The first word of a thread's `schedstat` is its time on a CPU in nanoseconds.
pub(crate) fn thread_cpu_seconds(thread: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
    stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_is_remembered_for_a_window_and_no_longer_than_two() {
        let counters = ShardCounters::new();
        let check = |want_ms: u64| {
            let reading = ShardReading::of(0, &counters, 0, 0);
            let ms = reading.turn_max_seconds.map(|s| (s * 1e3).round() as u64);
            assert_eq!(ms, [0, want_ms, 0, 0, 0]);
        };
        counters.turned(TaskClass::Ingest, Duration::from_millis(20));
        counters.turned(TaskClass::Ingest, Duration::from_millis(3));
        check(20);
        counters.turn_window();
        counters.turned(TaskClass::Ingest, Duration::from_millis(7));
        check(20);
        counters.turn_window();
        check(7);
        counters.turn_window();
        check(0);
    }
}
