//! One target's life: wait for its turn, fetch, read, hand the row on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use exposition::held::Family;
use exposition::streamed::Progress;
use futures_lite::future::or;
use model::Timestamp;

use crate::config::ScrapeConfig;
use crate::rt::gate::Signal;
use crate::rt::{Moment, yield_if_needed};
use crate::scrape::client::{Client, Fetched, Page};
use crate::scrape::incoming::{Incoming, PIECE_BYTES};
use crate::scrape::intake::giant::Giant;
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
    /// A page is read in turns: what a reload says waits for its end.
    is_reading: Cell<bool>,
    waiting: RefCell<Option<Arc<ScrapeConfig>>>,
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

/// A page that is read in turns: for whom, and until when it may come.
struct Turns<'a> {
    shared: &'a Shared,
    at: Timestamp,
    deadline: Moment,
    target: &'a Target,
    started: Moment,
}

/// What is told of a scrape as samples.
fn report_of(outcome: &Outcome, config: &ScrapeConfig, target: &Target, duration_seconds: f64) -> Report {
    Report {
        is_up: outcome.result.is_ok(),
        duration_seconds,
        scraped: outcome.counts.scraped,
        kept: outcome.counts.kept,
        added: outcome.counts.added,
        timeout_seconds: target.timeout_ms as f64 / 1000.0,
        sample_limit: config.limits.samples as f64,
        body_bytes: outcome.body_bytes,
    }
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
            is_reading: Cell::new(false),
            waiting: RefCell::default(),
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
        match self.is_reading.get() {
            true => drop(self.waiting.replace(Some(config.clone()))),
            false => self.intake.borrow_mut().reconfigure(config.clone()),
        }
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
        let deadline = started + Duration::from_millis(target.timeout_ms.unsigned_abs());
        let fetched = match limit_error {
            Some(text) => Err(Error::TargetLimit(text)),
            None => {
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
        let partial = partial.filter(|_| fetched.is_err());
        let form = fetched.as_ref().ok().or(partial.as_ref()).and_then(|f| f.form);
        if !self.intake.borrow_mut().begin(&*shared.sink, at, form) {
            return self.note_clock_went_back(shared, started_ns);
        }
        let is_coming = matches!(&fetched, Ok(Fetched { page: Page::Coming(_), .. }));
        let outcome = if is_coming || self.intake.borrow().is_streamed() {
            let how = Turns { shared, at, deadline, target: &target, started };
            self.is_reading.set(true);
            let outcome = self.scrape_in_turns(how, client, fetched, partial).await;
            self.is_reading.set(false);
            if let Some(config) = self.waiting.take() {
                self.intake.borrow_mut().reconfigure(config);
            }
            outcome
        } else {
            let outcome = self.read(shared, fetched, partial, at);
            let duration_seconds = clock.now().since(started).as_secs_f64();
            let report = report_of(&outcome, &config, &target, duration_seconds);
            self.intake.borrow_mut().commit(&mut shared.scratch.borrow_mut(), &*shared.sink, at, &report);
            (outcome, duration_seconds)
        };
        if let Err(e) = &outcome.0.result {
            let (file, now_ns) = (config.failure_log_file.as_ref(), clock.wall_ns());
            failure_log::note(file, &config.job_name, &target, e, now_ns).await;
        }
        self.note(shared, &config, &target, started_ns, outcome);
    }

    /// Takes a page in turns, between which others have the shard, then hands its row on in the same way.
    async fn scrape_in_turns(
        &self,
        how: Turns<'_>,
        client: &mut Client,
        fetched: Result<Fetched, Error>,
        partial: Option<Fetched>,
    ) -> (Outcome, f64) {
        let Turns { shared, target, .. } = how;
        let mut giant = self.intake.borrow_mut().begin_giant(&*shared.sink);
        let mut body_bytes = 0.0;
        let is_kept = match partial {
            Some(Fetched { page: Page::Whole(page), .. }) => {
                self.read_in_turns(&how, &mut giant, page).await.is_ok()
            }
            _ => false,
        };
        let result = match fetched {
            Err(e) => Err(e),
            Ok(Fetched { page: Page::Whole(page), .. }) => {
                body_bytes = page.len() as f64;
                self.read_in_turns(&how, &mut giant, page).await
            }
            Ok(Fetched { page: Page::Coming(mut incoming), .. }) => {
                let read = self.read_as_it_comes(&how, client, &mut giant, &mut incoming).await;
                body_bytes = incoming.total() as f64;
                client.keep(target, *incoming);
                read
            }
        };
        let outcome = Outcome { result, counts: Counts::default(), body_bytes };
        let outcome = self.settle(&how, &mut giant, outcome, is_kept).await;
        for (shard, batch) in giant.batches() {
            self.intake.borrow_mut().deliver(&*shared.sink, shard, batch);
            shared.rest().await;
        }
        outcome
    }

    /// Makes the row of a page that was read in turns, or of one that is not to be had, in turns, too.
    async fn settle(
        &self,
        how: &Turns<'_>,
        giant: &mut Giant,
        read: Outcome,
        is_kept: bool,
    ) -> (Outcome, f64) {
        let Turns { shared, at, target, started, .. } = *how;
        let Outcome { mut result, mut body_bytes, .. } = read;
        if result == Err(Error::BodyLimit) {
            body_bytes = -1.0;
        }
        if result.is_ok() || is_kept {
            let begun = self.intake.borrow_mut().begin_row(giant, at);
            while begun.is_ok() && self.intake.borrow_mut().write_turn(giant, at) {
                yield_if_needed().await;
            }
            result = begun.and(result);
        }
        if result.is_err() && !is_kept {
            self.intake.borrow_mut().refuse_page(giant, at);
            while self.intake.borrow_mut().end_turn(giant, at) {
                yield_if_needed().await;
            }
        }
        let duration_seconds = shared.pulse.clock().now().since(started).as_secs_f64();
        let outcome = Outcome { result, counts: giant.counts(), body_bytes };
        let report = report_of(&outcome, &self.config.borrow(), target, duration_seconds);
        self.intake.borrow_mut().seal_giant(giant, &*shared.sink, at, &report);
        (outcome, duration_seconds)
    }

    /// A page that is all there.
    async fn read_in_turns(&self, how: &Turns<'_>, giant: &mut Giant, page: Vec<u8>) -> Result<(), Error> {
        let mut at = 0;
        loop {
            let progress = self.read_turn(how.shared, giant, &page[at..], true)?;
            at += progress.used;
            if progress.is_hungry {
                return Ok(());
            }
            how.shared.rest().await;
        }
    }

    /// A page while it comes. One that turns out to be malformed is read to its end nevertheless: it may be too
    /// large, too.
    async fn read_as_it_comes(
        &self,
        how: &Turns<'_>,
        client: &mut Client,
        giant: &mut Giant,
        incoming: &mut Incoming,
    ) -> Result<(), Error> {
        let clock = how.shared.pulse.clock().clone();
        let mut result = Ok(());
        let mut deadline = how.deadline;
        let mut piece = Vec::with_capacity(2 * PIECE_BYTES);
        loop {
            let filled = how.shared.pulse.within(deadline, incoming.fill(&mut piece)).await;
            let has_more = filled.unwrap_or_else(|_| Err(client.timed_out(how.target)))?;
            let began = clock.now();
            if result.is_ok() {
                result = self.read_piece(how, giant, &mut piece, !has_more).await;
            }
            if result.is_err() {
                piece.clear();
            }
            if !has_more {
                return result;
            }
            // The target has its time for answering: what its page costs here is not counted.
            deadline = deadline + clock.now().since(began);
        }
    }

    /// Reads what is whole of a piece, and leaves the rest there.
    async fn read_piece(
        &self,
        how: &Turns<'_>,
        giant: &mut Giant,
        piece: &mut Vec<u8>,
        is_last: bool,
    ) -> Result<(), Error> {
        let mut at = 0;
        loop {
            let progress = self.read_turn(how.shared, giant, &piece[at..], is_last)?;
            at += progress.used;
            how.shared.rest().await;
            if progress.is_hungry {
                piece.drain(..at);
                return Ok(());
            }
        }
    }

    fn read_turn(
        &self,
        shared: &Shared,
        giant: &mut Giant,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<Progress, Error> {
        let scratch = &mut *shared.scratch.borrow_mut();
        self.intake.borrow_mut().read_turn(giant, scratch, &*shared.sink, bytes, is_last)
    }

    /// Takes the page into the row, or what is kept of it.
    fn read(
        &self,
        shared: &Shared,
        fetched: Result<Fetched, Error>,
        partial: Option<Fetched>,
        at: Timestamp,
    ) -> Outcome {
        let mut intake = self.intake.borrow_mut();
        let scratch = &mut *shared.scratch.borrow_mut();
        let mut counts = Counts::default();
        let mut body_bytes = 0.0;
        let mut accept = |Fetched { page, .. }: Fetched| {
            let Page::Whole(mut page) = page else { return Ok(()) };
            let read = intake.accept(scratch, &mut page, at, &mut counts);
            shared.buffers.give(page);
            read
        };
        let is_kept = partial.is_some_and(|p| accept(p).is_ok());
        let result = fetched.and_then(|fetched| {
            if let Page::Whole(page) = &fetched.page {
                body_bytes = page.len() as f64;
            }
            accept(fetched)
        });
        if result.is_err() && !is_kept {
            intake.mark_stale(scratch, at);
        }
        if result == Err(Error::BodyLimit) {
            body_bytes = -1.0;
        }
        Outcome { result, counts, body_bytes }
    }

    /// Notes what a scrape came to, for the counters and the API.
    fn note(
        &self,
        shared: &Shared,
        config: &ScrapeConfig,
        target: &Target,
        started_ns: i64,
        (outcome, duration_seconds): (Outcome, f64),
    ) {
        let Outcome { result, counts, .. } = outcome;
        shared.count(&counts, result.as_ref().err());
        if counts.duplicates > 0 {
            tracing::warn!(
                scrape_pool = config.job_name,
                target = target.url,
                num_dropped = counts.duplicates,
                "Error on ingesting samples with different value but same timestamp"
            );
        }
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
