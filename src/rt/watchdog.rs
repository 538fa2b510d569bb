//! Watches that every shard's pulse beats. A shard that is silent for too long has hung; the process ends and its
//! supervisor starts it anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::rt::counters::ShardCounters;
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
/// Looks per limit: silence is counted in the watchdog's own looks, so that a suspended machine, where both stop,
/// is not mistaken for a hung shard.
const LOOKS: u32 = 10;

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

    pub(crate) fn watch(self, shards: Vec<Watched>) -> Guard {
        let (stop, stopped) = channel::<()>();
        let watching = move || {
            let mut seen: Vec<(u64, u32)> = vec![(0, 0); shards.len()];
            while stopped.recv_timeout(self.limit / LOOKS) == Err(RecvTimeoutError::Timeout) {
                for (shard, seen) in shards.iter().zip(&mut seen) {
                    self.look(shard, seen);
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(watching);
        if let Err(error) = thread {
            tracing::warn!("no watchdog: {error}");
        }
        Guard { _stop: stop }
    }

    fn look(&self, shard: &Watched, (beats, looks): &mut (u64, u32)) {
        let now = shard.counters.beats.load(Relaxed);
        if now != *beats || shard.counters.finished.load(Relaxed) {
            (*beats, *looks) = (now, 0);
            return;
        }
        *looks += 1;
        if *looks == LOOKS {
            let last_class = shard.counters.last_class();
            (self.on_stall)(Stall { shard: shard.shard, silent: self.limit, last_class });
        }
    }
}

pub(crate) struct Watched {
    pub(crate) shard: u32,
    pub(crate) counters: Arc<ShardCounters>,
}

/// Ends the watch when dropped.
pub(crate) struct Guard {
    _stop: Sender<()>,
}
