//! A page too large to be held to rows: read in turns, new series named as they come, values written when all came.
//!
//! What a page says counts when it is whole and good. Until then its values wait here, as slots and numbers; series
//! that it named have no samples, and stay so where it is refused.

use std::sync::Arc;

use exposition::streamed::{Progress, StreamedLine};
use exposition::{Held, Streamed};
use model::{Labels, ShardId, Timestamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::ScrapeConfig;
use crate::scrape::intake::{Counts, Entry, Intake, Row, Scratch, State};
use crate::scrape::labels::{Naming, series_labels};
use crate::scrape::report::Report;
use crate::scrape::{Error, Sink};
use crate::shard::appender::Appender;
use crate::shard::budget::Refusal;
use exposition::page::Stamped;

/// New series of one turn: their labels and the head's work on them take two to three milliseconds.
const FRESH_TURN_MAX: usize = 512;

/// What was read of a page, and its row when all is read.
pub struct Giant {
    changed: Vec<(u32, f64)>,
    stamped: Vec<Stamped>,
    exemplars: Vec<Kept>,
    counts: Counts,
    /// Kept samples without repeated ones: what the limit is about.
    told: u64,
    appender: Appender,
}

/// An exemplar, until its page counts.
struct Kept {
    slot: u32,
    time: Option<Timestamp>,
    sample_time: Option<Timestamp>,
    value: f64,
    labels: Labels,
    hash: u64,
}

impl Giant {
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The batches of its row, to be delivered one after the other.
    pub fn batches(&self) -> impl Iterator<Item = (ShardId, &[u8])> {
        self.appender.batches()
    }
}

impl Intake {
    /// Whether the target's pages are read as they come.
    pub fn is_streamed(&self) -> bool {
        matches!(self.held, Held::Streamed(_))
    }

    /// A row that is written in turns, of a page or without one.
    pub fn begin_giant(&mut self, sink: &dyn Sink) -> Giant {
        if let Held::Lines(cache) = &self.held {
            self.held = Held::Streamed(Box::new(Streamed::from_page(cache)));
        }
        if let Held::Streamed(cache) = &mut self.held {
            cache.begin();
        }
        Giant {
            changed: Vec::new(),
            stamped: Vec::new(),
            exemplars: Vec::new(),
            counts: Counts::default(),
            told: 0,
            appender: Appender::new(sink.shard_count()),
        }
    }

    /// Reads as much of `bytes` as a turn may; the rest is to be given again, with what comes behind it.
    pub fn read_turn(
        &mut self,
        giant: &mut Giant,
        scratch: &mut Scratch,
        sink: &dyn Sink,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<Progress, Error> {
        let Held::Streamed(mut cache) = std::mem::take(&mut self.held) else {
            return Err(Error::Page("the page is not one that is read as it comes".to_owned()));
        };
        scratch.fresh.clear();
        let mut failure = None;
        let honors = self.config.honor_timestamps;
        let read = cache.read(bytes, is_last, honors, |line| {
            let goes_on = self.take_line(giant, scratch, line).inspect_err(|e| failure = Some(e.clone()));
            goes_on.map_err(|_| exposition::Error::Malformed(String::new()))
        });
        giant.counts.scraped = u64::from(cache.samples());
        self.held = Held::Streamed(cache);
        self.define_turn(giant, scratch, sink);
        read.map_err(|e| failure.unwrap_or_else(|| Error::Page(e.to_string())))
    }

    /// One line; says whether the turn goes on.
    #[inline]
    fn take_line(
        &mut self,
        giant: &mut Giant,
        scratch: &mut Scratch,
        line: StreamedLine<'_>,
    ) -> Result<bool, Error> {
        if line.is_new {
            self.enter(line.slot);
        }
        if line.is_first && self.named_by.is_some() {
            self.rename_line(&line);
        }
        let mut state = self.entries[line.slot as usize].state;
        if matches!(state, State::Unmet | State::Again) {
            state = self.meet_line(scratch, &line)?;
        }
        if state == State::Dropped {
            return Ok(true);
        }
        giant.counts.kept += 1;
        if line.is_repeated {
            giant.counts.duplicates += 1;
            return Ok(true);
        }
        giant.told += 1;
        let (slot, value) = (line.slot, line.sample.value);
        match line.sample.timestamp.filter(|_| self.config.honor_timestamps) {
            Some(timestamp) => {
                if self.bounds.late().is_some_and(|late| timestamp < late.min(self.bounds.oldest())) {
                    return Err(Error::TooOld);
                }
                giant.stamped.push(Stamped { slot, timestamp, value });
            }
            None if line.is_same && state == State::InRow => {}
            None => giant.changed.push((slot, value)),
        }
        if self.features.exemplars && line.sample.exemplar.is_some() {
            self.keep_exemplar(giant, &line);
        }
        Ok(scratch.fresh.len() < FRESH_TURN_MAX)
    }

    fn enter(&mut self, slot: u32) {
        if self.entries.len() <= slot as usize {
            self.entries.resize(slot as usize + 1, Entry::default());
        }
        self.entries[slot as usize] = Entry { state: State::Unmet, ..Entry::default() };
        self.unmet += 1;
    }

    #[cold]
    fn meet_line(&mut self, scratch: &mut Scratch, line: &StreamedLine<'_>) -> Result<State, Error> {
        let labels = series_labels(&self.config, &self.target.labels, naming(line))?;
        let entry = &mut self.entries[line.slot as usize];
        match labels {
            Some(labels) => scratch.fresh.push((line.slot, labels)),
            None => {
                entry.state = State::Dropped;
                self.dropped += 1;
                self.unmet -= 1;
            }
        }
        Ok(entry.state)
    }

    /// A series that another configuration named: where this one names it otherwise, it ends with the row.
    #[cold]
    fn rename_line(&mut self, line: &StreamedLine<'_>) {
        let Some(old) = self.named_by.clone() else { return };
        let entry = self.entries[line.slot as usize];
        let is_named = entry.state == State::Dropped || entry.state.is_known();
        let named = |c: &Arc<ScrapeConfig>| series_labels(c, &self.target.labels, naming(line));
        if is_named && named(&old) != named(&self.config) {
            self.unname(line.slot);
        }
    }

    /// A series is to be met again, under another name.
    fn unname(&mut self, slot: u32) {
        let entry = std::mem::take(&mut self.entries[slot as usize]);
        match entry.state {
            State::InRow => self.ending.push(entry.slot()),
            State::Dropped => self.dropped -= 1,
            _ => {}
        }
        self.enter(slot);
    }

    /// Exemplars that were told before are left out.
    #[cold]
    fn keep_exemplar(&mut self, giant: &mut Giant, line: &StreamedLine<'_>) {
        let Some(x) = line.sample.exemplar else { return };
        let hash = xxh3_64_with_seed(x.labels, x.value.to_bits() ^ x.timestamp.unwrap_or(-1) as u64);
        if self.exemplars_told.get(&line.slot) == Some(&hash) {
            return;
        }
        let Ok(labels) = exposition::key::exemplar_labels(x.labels) else { return };
        let labels = Labels::from_pairs(labels);
        let (slot, time, value, sample_time) = (line.slot, x.timestamp, x.value, line.sample.timestamp);
        giant.exemplars.push(Kept { slot, time, sample_time, value, labels, hash });
    }

    /// Names the turn's new series to their shards. A page that is over its limit names no more.
    fn define_turn(&mut self, giant: &mut Giant, scratch: &mut Scratch, sink: &dyn Sink) {
        let limit = self.config.limits.samples;
        if scratch.fresh.is_empty() || (limit > 0 && giant.told > limit) {
            scratch.fresh.clear();
            return;
        }
        giant.counts.added += scratch.fresh.len() as u64;
        self.room = sink.room();
        let before = self.refusal.take();
        self.refuse_fresh(scratch);
        self.refusal = joined(before, self.refusal.take());
        self.define_fresh(scratch);
        let (generation, mut all_taken) = (self.generation, true);
        scratch
            .appender
            .flush(&self.source, |shard, batch| all_taken &= sink.deliver(generation, shard, batch));
        self.is_lost |= !all_taken;
    }

    /// All of the page came, and is written into the row; an error leaves no sample of it there.
    pub fn end_page(&mut self, giant: &mut Giant, at: Timestamp) -> Result<(), Error> {
        let limit = self.config.limits.samples;
        if limit > 0 && giant.told > limit {
            return Err(Error::SampleLimit);
        }
        let Held::Streamed(mut cache) = std::mem::take(&mut self.held) else {
            return Err(Error::Page("the page is not one that is read as it comes".to_owned()));
        };
        giant.appender.set_late(self.bounds.late());
        self.end_old(&mut giant.appender, at);
        cache.vanished().for_each(|slot| self.vanish(&mut giant.appender, slot, at));
        let mut row = Row {
            entries: &mut self.entries,
            source: &mut self.source,
            appender: &mut giant.appender,
            honors_timestamps: self.config.honor_timestamps,
            bounds: self.bounds,
            counts: &mut giant.counts,
        };
        cache.stamped_only().for_each(|slot| row.leave(slot));
        giant.changed.iter().for_each(|(slot, value)| row.put(*slot, *value));
        giant.stamped.iter().for_each(|s| row.put_stamped(s.slot, s.timestamp, s.value));
        cache.commit(&giant.changed);
        self.held = Held::Streamed(cache);
        self.must_tell_all = false;
        self.named_by = None;
        self.write_exemplars(giant, at);
        giant.changed = Vec::new();
        Ok(())
    }

    fn write_exemplars(&mut self, giant: &mut Giant, at: Timestamp) {
        giant.exemplars.sort_by_key(|x| x.time);
        for x in giant.exemplars.drain(..) {
            let entry = self.entries[x.slot as usize];
            if !entry.state.is_known() || self.exemplars_told.insert(x.slot, x.hash) == Some(x.hash) {
                continue;
            }
            let sample_time = x.sample_time.filter(|_| self.config.honor_timestamps).unwrap_or(at);
            let time = x.time.unwrap_or(sample_time);
            giant.appender.append_exemplar(&self.source, entry.slot(), time, x.value, &x.labels);
        }
    }

    /// The page did not come, or was refused: every series of the target ends with the row.
    pub fn refuse_page(&mut self, giant: &mut Giant, at: Timestamp) {
        self.end_all(&mut giant.appender, at);
        if self.named_by.take().is_some() {
            // None of them has a sample in the row any more: whatever they are called now, they begin again.
            (0..self.entries.len() as u32).for_each(|slot| {
                let state = self.entries[slot as usize].state;
                if state == State::Dropped || state.is_known() {
                    self.unname(slot);
                }
            });
        }
        if let Held::Streamed(cache) = &mut self.held
            && cache.refuse()
        {
            let syntax = cache.syntax();
            self.held = Held::Streamed(Box::new(Streamed::of(syntax)));
            self.entries.clear();
            self.exemplars_told.clear();
            (self.unmet, self.dropped, self.refused) = (0, 0, 0);
            // The source begins anew.
            self.is_lost = true;
        }
    }

    /// Writes the report; the row's batches are then to be delivered.
    pub fn seal_giant(&mut self, giant: &mut Giant, sink: &dyn Sink, at: Timestamp, report: &Report) {
        self.write_report(&mut giant.appender, report);
        if let Some(refusal) = &self.refusal {
            sink.note_refusal(refusal.clone(), at);
        }
        if let Some(over) = self.over.take() {
            giant.appender.retire(&self.source, over);
        }
        self.is_lost |= !giant.appender.seal(&mut self.source, at);
    }

    /// Hands on a batch of the row.
    pub fn deliver(&mut self, sink: &dyn Sink, shard: ShardId, batch: &[u8]) {
        self.is_lost |= !sink.deliver(self.generation, shard, batch);
    }
}

fn naming<'a>(line: &StreamedLine<'a>) -> Naming<'a> {
    Naming { key: line.sample.key, kind: line.sample.kind, unit: "", types: false }
}

/// One of two refusals speaks for both.
fn joined(a: Option<Refusal>, b: Option<Refusal>) -> Option<Refusal> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let count = a.count + b.count;
            Some(if a.count >= b.count { Refusal { count, ..a } } else { Refusal { count, ..b } })
        }
        (a, b) => a.or(b),
    }
}
