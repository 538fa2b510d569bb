//! Looks after the shards from a thread of its own: kicks one that sleeps past its time, reports one that is silent.
//!
//! The executor can park with runnable tasks and no timer armed: a preempt timer that has run out between its poll
//! and its run makes it believe that nothing is left to do. The heartbeat rescues it if its own timer is not the one
//! that has just fired; else nothing inside would ever wake it. So each shard says when it will beat next, and one
//! that lets this moment pass is woken from here, again and again until it beats: a wake-up may be lost, all of them
//! may not. A shard that stays silent nonetheless has hung; the process ends and its supervisor starts it anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::rt::clock::{Clock, Moment, SystemClock};
use crate::rt::counters::{ShardCounters, thread_cpu_seconds};
use crate::rt::doorbell::Port;
use crate::rt::executor::TaskClass;

/// A shard found silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    pub shard: u32,
    pub silent: Duration,
    /// The class of the task that ran last.
    pub last_class: Option<TaskClass>,
}

#[derive(Clone)]
pub struct Watchdog {
    /// How long a shard may be silent. Its heart beats every 100 ms at the slowest.
    pub limit: Duration,
    /// What to do then, on the watchdog's thread.
    pub on_stall: Arc<dyn Fn(Stall) + Send + Sync>,
}

/// The exit code of a process ended by its watchdog: `EX_SOFTWARE`.
pub const STALL_EXIT_CODE: i32 = 70;
const LIMIT: Duration = Duration::from_secs(5);
/// The same for one whose thread works: a page with a million new series takes some seconds, on a machine that is
/// busy with other things as many times longer.
const WORKING_LIMIT: Duration = Duration::from_secs(60);
/// The part of a CPU that is work.
const WORKING_SHARE: f64 = 0.05;
/// How far past its time a shard may sleep before it is kicked: above what a busy machine delays a beat by often, and
/// small beside what anybody waits for.
const KICK_AFTER: Duration = Duration::from_millis(20);
/// How soon it is kicked again: a kick can meet the same bad moment as the wake-up before it.
const KICK_AGAIN: Duration = Duration::from_millis(5);
/// The longest step between looks, so that the limit is met in time.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Kicks in a row. Each holds a reference to a task until the shard turns, and the executor counts these in 16 bits.
const KICKS_MAX: u32 = 10_000;

impl Watchdog {
    /// Logs and ends the process after 5 s.
    pub fn exiting() -> Watchdog {
        let on_stall = |stall: Stall| {
            let class = stall.last_class.map_or("no", TaskClass::name);
            let text = format!(
                "shard {} has been silent for {:?}, last in a task of class {class}; ending the process",
                stall.shard, stall.silent
            );
            tracing::error!("{text}");
            eprintln!("systole: {text}");
            std::process::exit(STALL_EXIT_CODE);
        };
        Watchdog { limit: LIMIT, on_stall: Arc::new(on_stall) }
    }
}

/// One shard, as seen from here.
pub(crate) struct Watched {
    shard: u32,
    counters: Arc<ShardCounters>,
    port: Arc<Port>,
    beats: u64,
    /// Summed steps without a beat. Steps, not clock time: on a suspended machine both stop, and none has hung.
    silent: Duration,
    kicks: u32,
    /// CPU seconds of its thread when it was last asked whether it works, and at how much silence that was.
    worked: Option<(f64, Duration)>,
    reported: bool,
}

impl Watched {
    pub(crate) fn new(shard: u32, counters: Arc<ShardCounters>, port: Arc<Port>) -> Watched {
        let (beats, silent, kicks, reported) = (0, Duration::ZERO, 0, false);
        Watched { shard, counters, port, beats, silent, kicks, worked: None, reported }
    }

    /// Looks after `step`; says how long the next may take.
    fn look(&mut self, step: Duration, now: Moment) -> Duration {
        let beats = self.counters.beats.load(Relaxed);
        if beats != self.beats || self.counters.finished.load(Relaxed) {
            (self.beats, self.silent, self.kicks, self.reported) = (beats, Duration::ZERO, 0, false);
            self.worked = None;
        } else {
            self.silent += step;
        }
        let late = Moment::from_nanos(self.counters.due.load(Relaxed)) + KICK_AFTER;
        if now < late {
            return late.since(now);
        }
        if self.kicks < KICKS_MAX {
            self.kicks += 1;
            self.counters.kicks.fetch_add(1, Relaxed);
            self.port.kick();
        }
        KICK_AGAIN
    }

    /// Whether its thread has had a part of the CPU lately: then it is late with something large, and not hung.
    fn works(&mut self, watchdog: &Watchdog) -> bool {
        let between = watchdog.limit / 2;
        let since = self.worked.map_or(Duration::ZERO, |(_, at)| at) + between;
        if self.silent < since {
            return true;
        }
        let cpu = thread_cpu_seconds(self.counters.thread.load(Relaxed));
        let before = self.worked.replace((cpu, self.silent)).map_or(0.0, |(cpu, _)| cpu);
        cpu - before >= between.as_secs_f64() * WORKING_SHARE
    }

    fn report(&mut self, watchdog: &Watchdog) {
        let is_hung = !self.works(watchdog) || self.silent >= WORKING_LIMIT;
        if self.silent >= watchdog.limit && is_hung && !self.reported {
            self.reported = true;
            let (shard, silent, last_class) = (self.shard, self.silent, self.counters.last_class());
            (watchdog.on_stall)(Stall { shard, silent, last_class });
        }
    }
}

/// Watches until the guard is dropped. Without a watchdog shards are kicked and never reported.
pub(crate) fn watch(mut shards: Vec<Watched>, watchdog: Option<Watchdog>) -> Guard {
    let (stop, stopped) = channel::<()>();
    let watching = move || {
        let mut step = KICK_AFTER;
        while stopped.recv_timeout(step) == Err(RecvTimeoutError::Timeout) {
            let now = SystemClock.now();
            let looks = shards.iter_mut().map(|shard| shard.look(step, now));
            step = looks.min().unwrap_or(LOOK_EVERY).clamp(Duration::from_millis(1), LOOK_EVERY);
            if let Some(watchdog) = &watchdog {
                shards.iter_mut().for_each(|shard| shard.report(watchdog));
            }
        }
    };
    let thread = std::thread::Builder::new().name("watchdog".into()).spawn(watching);
    if let Err(error) = thread {
        tracing::error!("no watchdog: {error}");
    }
    Guard { _stop: stop }
}

/// Ends the watch when dropped.
pub(crate) struct Guard {
    _stop: Sender<()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let (port, _receiver) = Port::new().expect("a socket pair");
        Watched::new(0, Arc::new(ShardCounters::new()), Arc::new(port))
    }

    fn at_ms(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_shard_is_kicked_only_past_its_time() {
        let mut shard = watched();
        shard.counters.due.store(at_ms(100).nanos(), Relaxed);
        assert_eq!(shard.look(KICK_AFTER, at_ms(90)), Duration::from_millis(30));
        assert_eq!(shard.kicks, 0);
        assert_eq!(shard.look(KICK_AFTER, at_ms(120)), KICK_AGAIN);
        assert_eq!(shard.look(KICK_AFTER, at_ms(140)), KICK_AGAIN);
        assert_eq!((shard.kicks, shard.silent), (2, 3 * KICK_AFTER));
        shard.counters.beats.store(1, Relaxed);
        shard.counters.due.store(at_ms(260).nanos(), Relaxed);
        shard.look(KICK_AFTER, at_ms(160));
        assert_eq!((shard.kicks, shard.silent), (0, Duration::ZERO));
    }

    #[test]
    fn a_shard_that_works_is_given_time() {
        let mut shard = watched();
        shard.counters.thread.store(crate::rt::counters::this_thread(), Relaxed);
        let dog = Watchdog { limit: Duration::from_millis(40), on_stall: Arc::new(|_| panic!("it works")) };
        let until = std::time::Instant::now() + Duration::from_millis(200);
        let mut step = std::time::Instant::now();
        while std::time::Instant::now() < until {
            if step.elapsed() >= Duration::from_millis(10) {
                shard.look(step.elapsed(), at_ms(0));
                shard.report(&dog);
                step = std::time::Instant::now();
            }
        }
        assert!(shard.silent >= 3 * dog.limit);
    }

    #[test]
    fn silence_is_reported_once() {
        let mut shard = watched();
        let told = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let tell = told.clone();
        let on_stall = move |_stall| {
            tell.fetch_add(1, Relaxed);
        };
        let dog = Watchdog { limit: Duration::from_secs(1), on_stall: Arc::new(on_stall) };
        for _ in 0..10 {
            shard.look(LOOK_EVERY, at_ms(0));
            shard.report(&dog);
        }
        assert_eq!(told.load(Relaxed), 1);
    }
}
