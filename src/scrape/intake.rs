//! One target's pages to rows: the page held, which series are in the row, staleness, limits.
//!
//! Known series cost no label work and no allocation: a changed value is an index and a number. Labels are read when
//! a series appears, or when all must be told again (after a refusal, under a new configuration).

use std::sync::Arc;

use exposition::page::{PageCache, PageReader, Stamped};
use exposition::text::MetricKind;
use model::{Labels, STALE_NAN, ShardId, Timestamp};

use crate::config::ScrapeConfig;
use crate::scrape::labels::{report_labels, series_labels};
use crate::scrape::report::{EXTRA_NAMES, NAMES, Report};
use crate::scrape::{Error, Sink, Target};
use crate::shard::appender::{Appender, Slot, Source};
use crate::shard::commons::Bounds;

/// Dead slots of a source before it begins anew: more than its live ones, and so many that it is rare.
const DEAD_SLOTS_MIN: u32 = 8192;

/// What all targets of a shard share while one of them is read. Nothing in it outlives a scrape.
pub struct Scratch {
    reader: PageReader,
    appender: Appender,
    fresh: Vec<(u32, Labels)>,
}

impl Scratch {
    pub fn new(shard_count: u16) -> Self {
        Scratch { reader: PageReader::new(), appender: Appender::new(shard_count), fresh: Vec::new() }
    }
}

/// What a page came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub scraped: u64,
    /// After relabeling.
    pub kept: u64,
    /// Series that were not known before.
    pub added: u64,
    /// Lines whose series was on the page before.
    pub duplicates: u64,
    /// Samples too far in the future, and those too far in the past.
    pub out_of_bounds: u64,
    pub too_far_back: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No series has this slot of the page.
    #[default]
    Free,
    /// Its labels have not been read yet.
    Unmet,
    /// The rules drop it.
    Dropped,
    /// Known to its shard; no sample in the last row.
    Idle,
    InRow,
    /// Its samples bring their own timestamps.
    Stamped,
}

/// A slot of the page and where its series lives: 8 bytes a series.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    index: u32,
    shard: u16,
    state: State,
}

const _: () = assert!(size_of::<Entry>() == 8);

impl Entry {
    fn slot(self) -> Slot {
        Slot { shard: ShardId(self.shard), index: self.index }
    }
}

/// A series of the report and whether it is in the row.
type ReportSlot = (Slot, bool);

pub struct Intake {
    config: Arc<ScrapeConfig>,
    target: Arc<Target>,
    cache: PageCache,
    source: Source,
    generation: u64,
    entries: Vec<Entry>,
    report: Vec<ReportSlot>,
    /// Series that a new configuration names otherwise: they end with the next row.
    ending: Vec<Slot>,
    unmet: u32,
    dropped: u32,
    defined: u32,
    /// The row lacks series that the page has: the next good page tells every value.
    must_tell_all: bool,
    /// A batch was refused: the source begins anew.
    is_lost: bool,
    /// Which times are taken of the page that is read.
    bounds: Bounds,
}

impl Intake {
    pub fn new(config: Arc<ScrapeConfig>, target: Arc<Target>, sink: &dyn Sink) -> Self {
        Intake {
            config,
            target,
            cache: PageCache::new(),
            source: Source::new(sink.new_source(), sink.shard_count()),
            generation: sink.generation(),
            entries: Vec::new(),
            report: Vec::new(),
            ending: Vec::new(),
            unmet: 0,
            dropped: 0,
            defined: 0,
            must_tell_all: false,
            is_lost: false,
            bounds: Bounds::NONE,
        }
    }

    pub fn cache(&self) -> &PageCache {
        &self.cache
    }

    /// Heap bytes: the page and its table, and what each series costs here.
    pub fn bytes(&self) -> usize {
        self.cache.bytes() + self.entries.capacity() * size_of::<Entry>()
    }

    /// To be called before each row. False where `at` is not later than the last row: the clock went back, and
    /// Prometheus would drop every sample as out of order.
    pub fn begin(&mut self, sink: &dyn Sink, at: Timestamp) -> bool {
        let live = self.cache.line_count() as u32;
        let is_littered = self.defined > live.saturating_mul(2).saturating_add(DEAD_SLOTS_MIN);
        if self.is_lost || is_littered || self.generation != sink.generation() {
            self.begin_anew(sink);
        }
        self.bounds = sink.bounds(at);
        at > self.source.last_time()
    }

    fn begin_anew(&mut self, sink: &dyn Sink) {
        self.source = Source::new(sink.new_source(), sink.shard_count());
        self.generation = sink.generation();
        self.unmet = 0;
        for entry in self.entries.iter_mut().filter(|e| e.state != State::Free) {
            entry.state = State::Unmet;
            self.unmet += 1;
        }
        self.report.clear();
        self.ending.clear();
        (self.dropped, self.defined) = (0, 0);
        self.must_tell_all = true;
        self.is_lost = false;
    }

    /// Takes a page into the row that is being written; an error leaves no sample of it there. The old page's
    /// buffer is left in `page`.
    pub fn accept(
        &mut self,
        scratch: &mut Scratch,
        page: &mut Vec<u8>,
        at: Timestamp,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        if let Err(e) = scratch.reader.read(&mut self.cache, page) {
            counts.scraped = u64::from(scratch.reader.changes().samples);
            counts.kept = counts.scraped.saturating_sub(u64::from(self.dropped));
            return Err(Error::Page(e.to_string()));
        }
        scratch.appender.set_late(self.bounds.late());
        self.end_old(&mut scratch.appender);
        self.note_keys(scratch, at);
        let changes = scratch.reader.changes();
        counts.scraped = u64::from(changes.samples);
        counts.duplicates = u64::from(changes.repeated);
        let met = if self.unmet > 0 { self.meet(scratch) } else { Ok(()) };
        counts.kept = counts.scraped.saturating_sub(u64::from(self.dropped));
        counts.added = scratch.fresh.len() as u64;
        met?;
        let limit = self.config.limits.samples;
        if limit > 0 && counts.kept - counts.duplicates > limit {
            return Err(Error::SampleLimit);
        }
        self.check_too_old(&scratch.reader)?;
        self.define_fresh(scratch);
        self.tell(scratch, counts);
        Ok(())
    }

    /// A sample that is older than what is taken out of order fails its whole page, as in Prometheus. Here only by
    /// the house's bounds: what is too old for its series alone its shard counts.
    fn check_too_old(&self, reader: &PageReader) -> Result<(), Error> {
        let Some(late) = self.bounds.late().filter(|_| self.config.honor_timestamps) else { return Ok(()) };
        let oldest = late.min(self.bounds.oldest());
        let is_too_old =
            |s: &Stamped| s.timestamp < oldest && self.entries[s.slot as usize].state != State::Dropped;
        match reader.changes().stamped.iter().any(is_too_old) {
            true => Err(Error::TooOld),
            false => Ok(()),
        }
    }

    fn end_old(&mut self, appender: &mut Appender) {
        for slot in self.ending.drain(..) {
            appender.end(&mut self.source, slot);
        }
    }

    /// Follows the page's keys: who vanished ends, who appeared is to be met.
    fn note_keys(&mut self, scratch: &mut Scratch, at: Timestamp) {
        scratch.fresh.clear();
        self.entries.resize(self.cache.slot_count() as usize, Entry::default());
        let changes = scratch.reader.changes();
        for v in &changes.vanished {
            let entry = std::mem::take(&mut self.entries[v.slot as usize]);
            match entry.state {
                State::InRow => scratch.appender.end(&mut self.source, entry.slot()),
                State::Stamped => self.end_stamped(&mut scratch.appender, entry, at),
                State::Unmet => self.unmet -= 1,
                State::Dropped => self.dropped -= 1,
                State::Idle | State::Free => {}
            }
        }
        for a in &changes.appeared {
            self.entries[a.slot as usize].state = State::Unmet;
            self.unmet += 1;
        }
    }

    fn end_stamped(&self, appender: &mut Appender, entry: Entry, at: Timestamp) {
        if self.config.track_timestamps_staleness {
            appender.append_at(entry.slot(), at, 0, STALE_NAN);
        }
    }

    /// Reads the labels of series whose labels were not read yet.
    fn meet(&mut self, scratch: &mut Scratch) -> Result<(), Error> {
        let appeared = &scratch.reader.changes().appeared;
        let all_appeared = appeared.len() == self.unmet as usize;
        let mut meeting = Meeting {
            config: &self.config,
            target: &self.target.labels,
            entries: &mut self.entries,
            dropped: &mut self.dropped,
            unmet: &mut self.unmet,
            fresh: &mut scratch.fresh,
        };
        if all_appeared {
            appeared.iter().try_for_each(|a| meeting.meet(a.slot, self.cache.key(a), a.kind))
        } else {
            self.cache.series().try_for_each(|line| meeting.meet(line.slot, line.key, line.kind))
        }
    }

    fn define_fresh(&mut self, scratch: &mut Scratch) {
        for (slot, labels) in scratch.fresh.drain(..) {
            let entry = &mut self.entries[slot as usize];
            // A series with several timestamps on one page was met more than once.
            if entry.state != State::Unmet {
                continue;
            }
            let known = scratch.appender.define(&mut self.source, &labels);
            *entry = Entry { index: known.index, shard: known.shard.0, state: State::Idle };
            self.unmet -= 1;
            self.defined += 1;
        }
    }

    /// Writes the page's values into the row.
    fn tell(&mut self, scratch: &mut Scratch, counts: &mut Counts) {
        let changes = scratch.reader.changes();
        let mut row = Row {
            entries: &mut self.entries,
            source: &mut self.source,
            appender: &mut scratch.appender,
            honors_timestamps: self.config.honor_timestamps,
            bounds: self.bounds,
            counts,
        };
        if row.honors_timestamps {
            changes.left_row.iter().for_each(|slot| row.leave(*slot));
        }
        if self.must_tell_all {
            self.must_tell_all = false;
            self.cache.row().for_each(|(slot, value)| row.put(slot, value));
            self.cache.stamped().for_each(|s| row.put_stamped(s.slot, s.timestamp, s.value));
        } else {
            changes.changed.iter().for_each(|(slot, value)| row.put(*slot, *value));
            changes.stamped.iter().for_each(|s| row.put_stamped(s.slot, s.timestamp, s.value));
        }
    }

    /// Ends every series of the target with the row that is being written: the page did not come, or was refused.
    pub fn mark_stale(&mut self, scratch: &mut Scratch, at: Timestamp) {
        scratch.appender.set_late(self.bounds.late());
        self.end_old(&mut scratch.appender);
        if self.must_tell_all && !self.entries.iter().any(|e| e.state == State::InRow) {
            return;
        }
        self.must_tell_all = true;
        for i in 0..self.entries.len() {
            let entry = self.entries[i];
            match entry.state {
                State::InRow => scratch.appender.end(&mut self.source, entry.slot()),
                State::Stamped => self.end_stamped(&mut scratch.appender, entry, at),
                _ => continue,
            }
            self.entries[i].state = State::Idle;
        }
    }

    /// Writes the report and hands the row on.
    pub fn commit(&mut self, scratch: &mut Scratch, sink: &dyn Sink, at: Timestamp, report: &Report) {
        let names = NAMES.iter().chain(EXTRA_NAMES.iter().filter(|_| self.config.extra_scrape_metrics));
        for (i, (name, value)) in names.zip(report.values()).enumerate() {
            if i == self.report.len() {
                let labels = report_labels(&self.target.labels, name);
                self.report.push((scratch.appender.define(&mut self.source, &labels), false));
            }
            let (slot, is_in_row) = &mut self.report[i];
            if std::mem::replace(is_in_row, true) {
                scratch.appender.set(*slot, value);
            } else {
                scratch.appender.begin(&mut self.source, *slot, value);
            }
        }
        self.hand_on(scratch, sink, at);
    }

    /// The target is gone: ends its series and its report.
    pub fn end(&mut self, scratch: &mut Scratch, sink: &dyn Sink, at: Timestamp) {
        if self.is_lost || self.generation != sink.generation() || at <= self.source.last_time() {
            return;
        }
        self.mark_stale(scratch, at);
        for (slot, is_in_row) in &mut self.report {
            if std::mem::take(is_in_row) {
                scratch.appender.end(&mut self.source, *slot);
            }
        }
        self.hand_on(scratch, sink, at);
    }

    fn hand_on(&mut self, scratch: &mut Scratch, sink: &dyn Sink, at: Timestamp) {
        let generation = self.generation;
        let mut all_taken = true;
        let was_later = scratch.appender.commit(&mut self.source, at, |shard, batch| {
            all_taken &= sink.deliver(generation, shard, batch);
        });
        self.is_lost |= !all_taken || !was_later;
    }

    /// Goes on under another configuration: series keep their place where both name them alike.
    pub fn reconfigure(&mut self, config: Arc<ScrapeConfig>) {
        let old = std::mem::replace(&mut self.config, config);
        if old.honor_timestamps != self.config.honor_timestamps {
            self.restamp();
        }
        if !names_differently(&old, &self.config) {
            return;
        }
        for line in self.cache.series() {
            let Some(entry) = self.entries.get_mut(line.slot as usize) else { continue };
            if matches!(entry.state, State::Free | State::Unmet) {
                continue;
            }
            let named = |c: &ScrapeConfig| series_labels(c, &self.target.labels, line.key, line.kind);
            if named(&old) == named(&self.config) {
                continue;
            }
            match entry.state {
                State::InRow => self.ending.push(entry.slot()),
                State::Dropped => self.dropped -= 1,
                _ => {}
            }
            *entry = Entry { state: State::Unmet, ..Entry::default() };
            self.unmet += 1;
            self.must_tell_all = true;
        }
        if old.extra_scrape_metrics != self.config.extra_scrape_metrics {
            let keep = NAMES.len().min(self.report.len());
            self.ending.extend(self.report.drain(keep..).filter(|(_, is_in_row)| *is_in_row).map(|(s, _)| s));
        }
    }

    /// Samples with timestamps of their own move to the row or out of it: all is told again.
    fn restamp(&mut self) {
        self.must_tell_all = true;
        if !self.config.honor_timestamps {
            return;
        }
        for sample in self.cache.stamped() {
            let Some(entry) = self.entries.get_mut(sample.slot as usize) else { continue };
            if entry.state == State::InRow {
                self.ending.push(entry.slot());
                entry.state = State::Idle;
            }
        }
    }
}

/// Whether two configurations may give one sample different labels, or count it differently.
fn names_differently(a: &ScrapeConfig, b: &ScrapeConfig) -> bool {
    let limits = |c: &ScrapeConfig| (c.limits.labels, c.limits.label_name_bytes, c.limits.label_value_bytes);
    a.metric_relabel != b.metric_relabel
        || a.honor_labels != b.honor_labels
        || a.name_scheme != b.name_scheme
        || a.extra_scrape_metrics != b.extra_scrape_metrics
        || limits(a) != limits(b)
}

/// The reading of labels, with the parts of an [`Intake`] that it changes.
struct Meeting<'a> {
    config: &'a ScrapeConfig,
    target: &'a Labels,
    entries: &'a mut [Entry],
    dropped: &'a mut u32,
    unmet: &'a mut u32,
    fresh: &'a mut Vec<(u32, Labels)>,
}

impl Meeting<'_> {
    fn meet(&mut self, slot: u32, key: &[u8], kind: MetricKind) -> Result<(), Error> {
        let entry = &mut self.entries[slot as usize];
        if entry.state != State::Unmet {
            return Ok(());
        }
        match series_labels(self.config, self.target, key, kind)? {
            Some(labels) => self.fresh.push((slot, labels)),
            None => {
                entry.state = State::Dropped;
                *self.dropped += 1;
                *self.unmet -= 1;
            }
        }
        Ok(())
    }
}

/// The row being written, with the parts of an [`Intake`] that it changes.
struct Row<'a> {
    entries: &'a mut [Entry],
    source: &'a mut Source,
    appender: &'a mut Appender,
    honors_timestamps: bool,
    bounds: Bounds,
    counts: &'a mut Counts,
}

impl Row<'_> {
    #[inline]
    fn put(&mut self, slot: u32, value: f64) {
        let entry = &mut self.entries[slot as usize];
        match entry.state {
            State::InRow => self.appender.set(entry.slot(), value),
            State::Idle | State::Stamped => {
                entry.state = State::InRow;
                self.appender.begin(self.source, entry.slot(), value);
            }
            State::Dropped | State::Unmet | State::Free => {}
        }
    }

    fn put_stamped(&mut self, slot: u32, timestamp: Timestamp, value: f64) {
        if !self.honors_timestamps {
            return self.put(slot, value);
        }
        let entry = &mut self.entries[slot as usize];
        if !matches!(entry.state, State::Idle | State::Stamped | State::InRow) {
            return;
        }
        let is_too_far_back = self.bounds.window_ms == 0 && timestamp < self.bounds.oldest();
        if timestamp > self.bounds.latest || is_too_far_back {
            self.counts.out_of_bounds += 1;
            self.counts.too_far_back += u64::from(is_too_far_back);
            return;
        }
        if entry.state == State::Idle {
            entry.state = State::Stamped;
        }
        self.appender.append_at(entry.slot(), timestamp, 0, value);
    }

    fn leave(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        if entry.state == State::InRow {
            entry.state = State::Stamped;
            self.appender.end(self.source, entry.slot());
        }
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
