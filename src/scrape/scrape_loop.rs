//! One target's life: wait for its turn, fetch, read, hand the row on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use exposition::held::Family;
use futures_lite::future::or;
use model::Timestamp;

use crate::config::ScrapeConfig;
use crate::rt::Moment;
use crate::rt::gate::Signal;
use crate::scrape::client::{Client, Fetched};
use crate::scrape::intake::{Counts, Intake};
use crate::scrape::report::Report;
use crate::scrape::schedule::{Aligner, first_due_ns};
use crate::scrape::scraper::{Key, Shared};
use crate::scrape::status::{FamilyMetadata, Health, LastScrape};
use crate::scrape::{Error, Target, failure_log};

pub struct Loop {
    key: Key,
    config: RefCell<Arc<ScrapeConfig>>,
    target: RefCell<Arc<Target>>,
    limit_error: RefCell<Option<String>>,
    intake: RefCell<Intake>,
    last: RefCell<LastScrape>,
    /// Its target is gone: at the next turn it ends, unless the target comes back before.
    is_ending: Cell<bool>,
    /// Counts changes of what it does; a waiting loop hears of them by `changed`.
    version: Cell<u32>,
    changed: Signal,
}

/// When a target is due next, and what its timestamps should be.
struct Plan {
    version: u32,
    due: Moment,
    interval: Duration,
    aligner: Aligner,
}

/// What one scrape came to, before it is reported.
struct Outcome {
    result: Result<(), Error>,
    counts: Counts,
    body_bytes: f64,
}

impl Loop {
    pub(super) fn new(
        shared: &Shared,
        key: Key,
        config: Arc<ScrapeConfig>,
        target: Arc<Target>,
        limit_error: Option<String>,
    ) -> Self {
        let intake = Intake::new(config.clone(), target.clone(), shared.settings.features, &*shared.sink);
        Loop {
            key,
            config: RefCell::new(config),
            target: RefCell::new(target),
            limit_error: RefCell::new(limit_error),
            intake: RefCell::new(intake),
            last: RefCell::default(),
            is_ending: Cell::new(false),
            version: Cell::new(0),
            changed: Signal::new(),
        }
    }

    /// Takes up what a reload or a discovery says; what did not change goes on undisturbed.
    pub(super) fn update(
        &self,
        config: &Arc<ScrapeConfig>,
        target: &Arc<Target>,
        limit_error: &Option<String>,
    ) {
        self.is_ending.set(false);
        let timing = |t: &Target| (t.interval_ms, t.timeout_ms);
        let is_same_timing = timing(target) == timing(&self.target.borrow());
        self.target.replace(target.clone());
        let is_limited = limit_error.is_some() != self.limit_error.borrow().is_some();
        self.limit_error.replace(limit_error.clone());
        let is_same = Arc::ptr_eq(config, &self.config.borrow()) || **config == **self.config.borrow();
        if is_same && is_same_timing && !is_limited {
            return;
        }
        self.config.replace(config.clone());
        self.intake.borrow_mut().reconfigure(config.clone());
        self.version.set(self.version.get().wrapping_add(1));
        self.changed.notify();
    }

    pub(super) fn end(&self) {
        self.is_ending.set(true);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    pub fn target(&self) -> Arc<Target> {
        self.target.borrow().clone()
    }

    pub fn last(&self) -> LastScrape {
        self.last.borrow().clone()
    }

    /// Heap bytes held for the target.
    pub fn bytes(&self) -> usize {
        self.intake.borrow().bytes()
    }

    /// The families of the page that is held, in the order of the page.
    pub fn metadata(&self) -> Vec<FamilyMetadata> {
        families(&self.intake.borrow())
    }

    pub(super) async fn run(self: Rc<Self>, shared: Rc<Shared>) {
        let Some(_pass) = shared.gate.enter() else { return };
        let mut client = Client::default();
        let mut plan = self.plan(&shared);
        while !shared.gate.is_closing() {
            let woken = or(shared.pulse.sleep_until(plan.due), self.changed.wait());
            or(woken, shared.gate.closing()).await;
            if shared.gate.is_closing() {
                return;
            }
            if plan.version != self.version.get() {
                plan = self.plan(&shared);
                continue;
            }
            if shared.pulse.now() < plan.due {
                continue;
            }
            let clock = shared.pulse.clock().clone();
            let at = plan.aligner.timestamp(clock.now_ms());
            if self.is_ending.get() {
                self.intake.borrow_mut().end(&mut shared.scratch.borrow_mut(), &*shared.sink, at);
                shared.forget(&self.key);
                return;
            }
            or(self.scrape(&shared, &mut client, at), shared.gate.closing()).await;
            plan.advance(clock.now(), &shared);
        }
    }

    fn plan(&self, shared: &Shared) -> Plan {
        let clock = shared.pulse.clock();
        let target = self.target.borrow();
        let (now, wall_ns) = (clock.now(), clock.wall_ns());
        let ahead =
            first_due_ns(wall_ns, target.interval_ms, target.identity, shared.settings.seed) - wall_ns;
        let due = on_grid(now + Duration::from_nanos(ahead.unsigned_abs()), shared.pulse.spacing());
        let planned_ns = wall_ns.saturating_add(due.since(now).as_nanos() as i64);
        let aligner =
            Aligner::new(planned_ns / 1_000_000, target.interval_ms, shared.settings.timestamp_tolerance_ms);
        let interval = Duration::from_millis(target.interval_ms.unsigned_abs());
        Plan { version: self.version.get(), due, interval, aligner }
    }

    async fn scrape(&self, shared: &Shared, client: &mut Client, at: Timestamp) {
        let clock = shared.pulse.clock().clone();
        let (started, started_ns) = (clock.now(), clock.wall_ns());
        let (config, target) = (self.config.borrow().clone(), self.target.borrow().clone());
        let limit_error = self.limit_error.borrow().clone();
        let mut partial = None;
        let fetched = match limit_error {
            Some(text) => Err(Error::TargetLimit(text)),
            None => {
                let deadline = started + Duration::from_millis(target.timeout_ms.unsigned_abs());
                let fetch = client.fetch(&shared.buffers, &config, &target, &shared.settings);
                match shared.pulse.within(deadline, fetch).await {
                    Ok(result) => result,
                    Err(_) => {
                        partial = client.take_partial(&shared.buffers, &config);
                        Err(client.timed_out(&target))
                    }
                }
            }
        };
        if let Err(e) = &fetched {
            failure_log::note(
                config.failure_log_file.as_ref(),
                &config.job_name,
                &target,
                e,
                clock.wall_ns(),
            )
            .await;
        }
        let outcome = match self.read(shared, fetched, partial, at) {
            Some(outcome) => outcome,
            None => return self.note_clock_went_back(shared, started_ns),
        };
        let duration_seconds = clock.now().since(started).as_secs_f64();
        self.report(shared, &config, &target, at, started_ns, duration_seconds, outcome);
    }

    /// Takes the page into the row, or what is kept of it; `None` where there can be no row.
    fn read(
        &self,
        shared: &Shared,
        fetched: Result<Fetched, Error>,
        partial: Option<Fetched>,
        at: Timestamp,
    ) -> Option<Outcome> {
        let mut intake = self.intake.borrow_mut();
        let form = fetched.as_ref().ok().or(partial.as_ref()).and_then(|f| f.form);
        if !intake.begin(&*shared.sink, at, form) {
            return None;
        }
        let scratch = &mut *shared.scratch.borrow_mut();
        let mut counts = Counts::default();
        let mut body_bytes = 0.0;
        let mut accept = |Fetched { mut page, .. }: Fetched| {
            let read = intake.accept(scratch, &mut page, at, &mut counts);
            shared.buffers.give(page);
            read
        };
        let is_kept = partial.is_some_and(|p| accept(p).is_ok());
        let result = fetched.and_then(|fetched| {
            body_bytes = fetched.page.len() as f64;
            accept(fetched)
        });
        if result.is_err() && !is_kept {
            intake.mark_stale(scratch, at);
        }
        if result == Err(Error::BodyLimit) {
            body_bytes = -1.0;
        }
        Some(Outcome { result, counts, body_bytes })
    }

    #[allow(clippy::too_many_arguments)] // What a report is made of; each is used once.
    fn report(
        &self,
        shared: &Shared,
        config: &ScrapeConfig,
        target: &Target,
        at: Timestamp,
        started_ns: i64,
        duration_seconds: f64,
        outcome: Outcome,
    ) {
        let Outcome { result, counts, body_bytes } = outcome;
        let report = Report {
            is_up: result.is_ok(),
            duration_seconds,
            scraped: counts.scraped,
            kept: counts.kept,
            added: counts.added,
            timeout_seconds: target.timeout_ms as f64 / 1000.0,
            sample_limit: config.limits.samples as f64,
            body_bytes,
        };
        self.intake.borrow_mut().commit(&mut shared.scratch.borrow_mut(), &*shared.sink, at, &report);
        shared.count(&counts, result.as_ref().err());
        // What found no room does not end the target: its other series go on.
        let refusal = self.intake.borrow().refusal().map(ToString::to_string);
        let last = LastScrape {
            health: if result.is_ok() { Health::Up } else { Health::Down },
            error: result.err().map(|e| e.to_string()).or(refusal).unwrap_or_default(),
            started_ns,
            duration_seconds,
            samples: counts.scraped,
        };
        if !last.error.is_empty() && last.error != self.last.borrow().error {
            tracing::debug!(target = target.url, job = config.job_name, error = last.error, "scrape failed");
        }
        self.last.replace(last);
    }

    fn note_clock_went_back(&self, shared: &Shared, started_ns: i64) {
        shared.counters.borrow_mut().out_of_order += 1;
        self.last.borrow_mut().started_ns = started_ns;
    }
}

impl Plan {
    /// The next turn that is still ahead; those that were missed are skipped.
    fn advance(&mut self, now: Moment, shared: &Shared) {
        self.due = self.due + self.interval;
        if self.due <= now && !self.interval.is_zero() {
            let behind = now.since(self.due).as_nanos() as u64;
            let missed = behind / self.interval.as_nanos() as u64 + 1;
            self.due = self.due + Duration::from_nanos(self.interval.as_nanos() as u64 * missed);
            shared.counters.borrow_mut().missed_turns += missed;
        }
    }
}

/// The slot of the pulse at which a sleeper for `due` wakes: planned so, it wakes on time.
fn on_grid(due: Moment, spacing: Duration) -> Moment {
    let spacing = (spacing.as_nanos() as u64).max(1);
    Moment::from_nanos(due.nanos().div_ceil(spacing).saturating_mul(spacing))
}

fn families(intake: &Intake) -> Vec<FamilyMetadata> {
    let shown = |f: Family| {
        let kind = f.kind.as_str();
        FamilyMetadata { family: f.name, kind, help: f.help, unit: f.unit }
    };
    intake.held().families().into_iter().map(shown).collect()
}
