//! All loops of a shard.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::rt::gate::Gate;
use crate::rt::{Pulse, TaskClass, spawn, yield_if_needed};
use crate::scrape::client::Buffers;
use crate::scrape::intake::{Counts, Scratch};
use crate::scrape::schedule::TOLERANCE_MS_MAX;
use crate::scrape::scrape_loop::Loop;
use crate::scrape::status::{Counters, FamilyMetadata, TargetStatus};
use crate::scrape::{Error, Features, Job, Sink, Target};

/// Slots of the pulse that a turn waits for logs that are behind, at most: a commit takes one or two. After that the
/// batches wait in the keepers, which have a bound of their own.
const BACKLOG_RESTS_MAX: usize = 64;

/// A target of a job: what tells loops apart.
pub(super) type Key = (String, u64);

#[derive(Clone, Debug)]
pub struct Settings {
    /// This shard, of those that share the targets.
    pub shard: u16,
    /// As targets see it: `Prometheus/3.14.0`.
    pub user_agent: String,
    /// Spreads the scrapes of several servers: made of the host's name and the external labels.
    pub seed: u64,
    /// Negative where timestamps shall not be aligned.
    pub timestamp_tolerance_ms: i64,
    pub features: Features,
}

impl Settings {
    pub fn new(shard: u16, user_agent: &str) -> Self {
        let (user_agent, seed) = (user_agent.to_owned(), 0);
        let (timestamp_tolerance_ms, features) = (TOLERANCE_MS_MAX, Features::default());
        Settings { shard, user_agent, seed, timestamp_tolerance_ms, features }
    }
}

/// What the loops of a shard share.
pub struct Shared {
    pub(super) pulse: Pulse,
    pub(super) gate: Gate,
    pub(super) sink: Rc<dyn Sink>,
    pub(super) settings: Settings,
    pub(super) scratch: RefCell<Scratch>,
    pub(super) buffers: Buffers,
    pub(super) counters: RefCell<Counters>,
    loops: RefCell<HashMap<Key, Rc<Loop>>>,
}

/// The scraping of one shard. Loops leave with the gate: then nothing is marked stale, as the process goes on
/// where it stopped.
pub struct Scraper {
    shared: Rc<Shared>,
}

impl Scraper {
    pub fn new(pulse: Pulse, gate: Gate, sink: Rc<dyn Sink>, settings: Settings) -> Self {
        let scratch = RefCell::new(Scratch::new(sink.shard_count()));
        let (buffers, counters, loops) = (Buffers::default(), RefCell::default(), RefCell::default());
        Scraper { shared: Rc::new(Shared { pulse, gate, sink, settings, scratch, buffers, counters, loops }) }
    }

    /// Scrapes the targets of `jobs` that are this shard's, and no others. Loops of jobs that did not change are
    /// not disturbed; those whose target is gone end at their next turn.
    pub fn apply(&self, jobs: &[Arc<Job>]) {
        let shared = &self.shared;
        let mut wanted = HashSet::new();
        for job in jobs {
            for target in job.targets.iter().filter(|t| self.is_ours(t)) {
                let key = (job.config.job_name.clone(), target.identity);
                wanted.insert(key.clone());
                let known = shared.loops.borrow().get(&key).cloned();
                match known {
                    Some(known) => known.update(&job.config, target, &job.limit_error),
                    None => self.begin(job, target, key),
                }
            }
        }
        for (key, gone) in shared.loops.borrow().iter() {
            if !wanted.contains(key) {
                gone.end();
            }
        }
    }

    fn is_ours(&self, target: &Target) -> bool {
        target.shard(self.shared.sink.shard_count()) == self.shared.settings.shard
    }

    fn begin(&self, job: &Job, target: &Arc<Target>, key: Key) {
        let shared = &self.shared;
        let (config, limit_error) = (job.config.clone(), job.limit_error.clone());
        let fresh = Rc::new(Loop::new(shared, key.clone(), config, target.clone(), limit_error));
        shared.loops.borrow_mut().insert(key, fresh.clone());
        spawn(TaskClass::Ingest, fresh.run(shared.clone())).detach();
    }

    /// Every target that is scraped here, sorted by job and URL.
    pub fn status(&self) -> Vec<TargetStatus> {
        let mut out: Vec<TargetStatus> = self
            .live()
            .into_iter()
            .map(|(job, l)| TargetStatus { job, target: l.target(), last: l.last() })
            .collect();
        out.sort_by(|a, b| (&a.job, &a.target.url).cmp(&(&b.job, &b.target.url)));
        out
    }

    /// The metadata of every target that is scraped here.
    pub fn metadata(&self) -> Vec<(Arc<Target>, Vec<FamilyMetadata>)> {
        self.live().into_iter().map(|(_, l)| (l.target(), l.metadata())).collect()
    }

    pub fn counters(&self) -> Counters {
        self.shared.counters.borrow().clone()
    }

    pub fn target_count(&self) -> usize {
        self.shared.loops.borrow().len()
    }

    /// Heap bytes held for pages and slots.
    pub fn bytes(&self) -> usize {
        self.shared.loops.borrow().values().map(|l| l.bytes()).sum()
    }

    fn live(&self) -> Vec<(String, Rc<Loop>)> {
        let loops = self.shared.loops.borrow();
        loops.iter().filter(|(_, l)| !l.is_ending()).map(|(k, l)| (k.0.clone(), l.clone())).collect()
    }
}

impl Shared {
    pub(super) fn forget(&self, key: &Key) {
        self.loops.borrow_mut().remove(key);
    }

    /// Lets others have the shard; longer where the logs are behind what was handed on.
    pub(super) async fn rest(&self) {
        yield_if_needed().await;
        for _ in 0..BACKLOG_RESTS_MAX {
            if !self.sink.has_backlog() {
                return;
            }
            self.pulse.sleep(self.pulse.spacing()).await;
        }
    }

    pub(super) fn count(&self, counts: &Counts, error: Option<&Error>) {
        let mut c = self.counters.borrow_mut();
        c.scrapes += 1;
        c.samples += counts.scraped;
        c.duplicates += counts.duplicates;
        c.out_of_bounds += counts.out_of_bounds;
        c.too_far_back += counts.too_far_back;
        c.failures += u64::from(error.is_some());
        match error {
            Some(Error::BodyLimit) => c.body_limit += 1,
            Some(Error::SampleLimit) => c.sample_limit += 1,
            Some(Error::TooOld) => c.too_old += 1,
            Some(Error::LabelLimit(_)) => c.label_limits += 1,
            Some(Error::BucketLimit) => c.bucket_limit += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "scraper_tests.rs"]
mod tests;
