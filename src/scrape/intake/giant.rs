//! A page too large to be held to rows: read in turns, new series named as they come, values written when all came.
//!
//! What a page says counts when it is whole and good. Until then its values wait here, as slots and numbers; series
//! that it named have no samples, and stay so where it is refused.

use std::ops::Range;
use std::sync::Arc;

use exposition::streamed::blocks::Blocks;
use exposition::streamed::{Progress, StreamedLine};
use exposition::{Exemplar, Held, Streamed};
use model::{Labels, ShardId, Timestamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::ScrapeConfig;
use crate::scrape::histograms::{self, Message};
use crate::scrape::intake::{Counts, Entry, Intake, Row, Scratch, Start, State};
use crate::scrape::labels::{Naming, series_labels};
use crate::scrape::report::Report;
use crate::scrape::{Error, Sink};
use crate::shard::appender::Appender;
use crate::shard::budget::Refusal;
use exposition::page::Stamped;

/// Lines of one turn: a piece of a page has fewer, a family that waited for its end has more. One takes 0.15 us of
/// text and 0.4 us of protobuf.
const LINES_TURN_MAX: u32 = 4096;

/// Samples that one turn writes into the row: a series that begins costs 80 ns.
const ROW_TURN_MAX: usize = 16 << 10;

/// New series of one turn: their labels and the head's work on them take two to three milliseconds.
const FRESH_TURN_MAX: usize = 512;

/// What was read of a page, and its row when all is read.
pub struct Giant {
    changed: Blocks<(u32, f64)>,
    stamped: Vec<Stamped>,
    /// Native histograms and their bytes.
    histograms: Vec<Message>,
    message_bytes: Vec<u8>,
    /// When counters began, where that is news.
    starts: Vec<Start>,
    exemplars: Vec<Kept>,
    /// Lines of this turn.
    lines: u32,
    /// What leaves the row as the page is written into it, and how far that is.
    vanished: Vec<u32>,
    left: Vec<u32>,
    part: Part,
    written: usize,
    /// Entries that are still to end, where the page does not count.
    ending: Range<usize>,
    counts: Counts,
    /// Kept samples without repeated ones: what the limit is about.
    told: u64,
    appender: Appender,
}

/// The parts of a page, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Vanished,
    Starts,
    Left,
    Changed,
    Stamped,
    Histograms,
    Exemplars,
    Nothing,
}

impl Part {
    fn next(self) -> Part {
        match self {
            Part::Vanished => Part::Starts,
            Part::Starts => Part::Left,
            Part::Left => Part::Changed,
            Part::Changed => Part::Stamped,
            Part::Stamped => Part::Histograms,
            Part::Histograms => Part::Exemplars,
            Part::Exemplars | Part::Nothing => Part::Nothing,
        }
    }
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

    fn part_len(&self) -> usize {
        match self.part {
            Part::Vanished => self.vanished.len(),
            Part::Starts => self.starts.len(),
            Part::Left => self.left.len(),
            Part::Changed => self.changed.len(),
            Part::Stamped => self.stamped.len(),
            Part::Histograms => self.histograms.len(),
            Part::Exemplars => self.exemplars.len(),
            Part::Nothing => 0,
        }
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
        let streamed = match (&self.held, self.reading.making(self.features)) {
            (Held::Lines(cache), None) => Some(Streamed::from_page(cache)),
            (Held::Flat(cache), Some(making)) => Some(Streamed::from_flat(cache, making)),
            _ => None,
        };
        if let Some(streamed) = streamed {
            self.held = Held::Streamed(Box::new(streamed));
        }
        if let Held::Streamed(cache) = &mut self.held {
            cache.begin();
        }
        Giant {
            changed: Blocks::default(),
            stamped: Vec::new(),
            histograms: Vec::new(),
            message_bytes: Vec::new(),
            starts: Vec::new(),
            exemplars: Vec::new(),
            lines: 0,
            vanished: Vec::new(),
            left: Vec::new(),
            part: Part::Nothing,
            written: 0,
            ending: 0..0,
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
        giant.lines = 0;
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
        giant.lines += 1;
        let goes_on = giant.lines < LINES_TURN_MAX;
        let mut state = self.entries[line.slot as usize].state;
        // One that comes again waits for its name already.
        if line.is_first && matches!(state, State::Unmet | State::Again) {
            state = self.meet_line(scratch, &line)?;
        }
        if state == State::Dropped {
            return Ok(goes_on);
        }
        giant.counts.kept += 1;
        if line.is_repeated {
            giant.counts.duplicates += 1;
            return Ok(goes_on);
        }
        giant.told += 1;
        let (slot, value) = (line.slot, line.sample.value);
        let own_time = line.sample.timestamp.filter(|_| self.config.honor_timestamps);
        let oldest = self.bounds.late().map(|late| late.min(self.bounds.oldest()));
        if own_time.zip(oldest).is_some_and(|(time, oldest)| time < oldest) {
            return Err(Error::TooOld);
        }
        match own_time {
            _ if line.beside.histogram.is_some() => self.keep_histogram(giant, &line)?,
            Some(timestamp) => giant.stamped.push(Stamped { slot, timestamp, value }),
            None if line.is_same && state == State::InRow => {}
            None => giant.changed.push((slot, value)),
        }
        if self.features.created_zero && line.beside.start != 0 {
            self.keep_start(giant, &line);
        }
        if self.features.exemplars {
            self.keep_exemplars(giant, &line);
        }
        Ok(goes_on && scratch.fresh.len() < FRESH_TURN_MAX)
    }

    #[cold]
    fn keep_histogram(&self, giant: &mut Giant, line: &StreamedLine<'_>) -> Result<(), Error> {
        let Some(counts) = line.beside.histogram else { return Ok(()) };
        let bytes = histograms::write(&self.config, counts, &mut giant.message_bytes)?;
        let (slot, timestamp, zero) = (line.slot, line.sample.timestamp, None);
        giant.histograms.push(Message { slot, timestamp, bytes, zero });
        Ok(())
    }

    /// Starts that were told before are left out.
    fn keep_start(&self, giant: &mut Giant, line: &StreamedLine<'_>) {
        let (slot, start, timestamp) = (line.slot, line.beside.start, line.sample.timestamp);
        if self.starts_told.get(&slot) == Some(&start) {
            return;
        }
        let zero = line.beside.histogram.map(|c| histograms::write_zero(c, &mut giant.message_bytes));
        giant.starts.push(Start { slot, start, timestamp, zero });
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
        let naming = self.naming(line);
        let labels = series_labels(&self.config, &self.target.labels, naming)?;
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
        let naming = self.naming(line);
        let named = |c: &Arc<ScrapeConfig>| series_labels(c, &self.target.labels, naming);
        if is_named && named(&old) != named(&self.config) {
            self.unname(line.slot);
        }
    }

    fn naming<'a>(&self, line: &StreamedLine<'a>) -> Naming<'a> {
        let types = self.features.type_and_unit;
        Naming { key: line.sample.key, kind: line.sample.kind, unit: line.beside.unit, types }
    }

    /// A series is to be met again, under another name.
    fn unname(&mut self, slot: u32) {
        let entry = std::mem::take(&mut self.entries[slot as usize]);
        match entry.state {
            State::InRow => self.ending.push(entry.slot()),
            State::Histogram => self.ending_histograms.push(entry.slot()),
            State::Dropped => self.dropped -= 1,
            _ => {}
        }
        self.enter(slot);
    }

    #[inline]
    fn keep_exemplars(&mut self, giant: &mut Giant, line: &StreamedLine<'_>) {
        // Of one alone it is known whether it was told before.
        if let Some(x) = line.sample.exemplar {
            self.keep_exemplar(giant, line, x, true);
        }
        let beside = line.beside.exemplars();
        let is_alone = beside.len() == 1;
        beside.for_each(|x| self.keep_exemplar(giant, line, x, is_alone));
    }

    #[cold]
    fn keep_exemplar(&self, giant: &mut Giant, line: &StreamedLine<'_>, x: Exemplar<'_>, is_alone: bool) {
        let hash = xxh3_64_with_seed(x.labels, x.value.to_bits() ^ x.timestamp.unwrap_or(-1) as u64);
        if is_alone && self.exemplars_told.get(&line.slot) == Some(&hash) {
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

    /// All of the page came, and is to be written into the row by [`Intake::write_turn`]; an error leaves no sample of
    /// it there.
    pub fn begin_row(&mut self, giant: &mut Giant, at: Timestamp) -> Result<(), Error> {
        let limit = self.config.limits.samples;
        if limit > 0 && giant.told > limit {
            return Err(Error::SampleLimit);
        }
        let Held::Streamed(cache) = &self.held else {
            return Err(Error::Page("the page is not one that is read as it comes".to_owned()));
        };
        giant.appender.set_late(self.bounds.late());
        giant.vanished = cache.vanished().collect();
        giant.left = cache.stamped_only().collect();
        giant.exemplars.sort_by_key(|x| x.time);
        (giant.part, giant.written) = (Part::Vanished, 0);
        self.end_old(&mut giant.appender, at);
        Ok(())
    }

    /// Writes as much of the page into the row as a turn may; false when it is all there.
    pub fn write_turn(&mut self, giant: &mut Giant, at: Timestamp) -> bool {
        let mut left = ROW_TURN_MAX;
        while giant.part != Part::Nothing {
            let all = giant.part_len();
            let range = giant.written..(giant.written + left).min(all);
            left -= range.len();
            giant.written = range.end;
            self.write_part(giant, range, at);
            if giant.written < all {
                return true;
            }
            (giant.part, giant.written) = (giant.part.next(), 0);
        }
        if let Held::Streamed(cache) = &mut self.held {
            cache.settle();
        }
        self.must_tell_all = false;
        self.named_by = None;
        giant.changed = Blocks::default();
        false
    }

    fn write_part(&mut self, giant: &mut Giant, range: Range<usize>, at: Timestamp) {
        let Held::Streamed(cache) = &mut self.held else { return };
        let Giant { appender, message_bytes, counts, .. } = giant;
        let mut row = Row {
            entries: &mut self.entries,
            source: &mut self.source,
            appender,
            honors_timestamps: self.config.honor_timestamps,
            bounds: self.bounds,
            counts,
        };
        match giant.part {
            Part::Vanished => {
                giant.vanished[range.clone()].iter().for_each(|slot| cache.forget(*slot));
                giant.vanished[range].iter().for_each(|slot| self.vanish(appender, *slot, at));
            }
            Part::Starts => self.write_starts(appender, &giant.starts[range], message_bytes, at),
            Part::Left => giant.left[range].iter().for_each(|slot| row.leave(*slot)),
            Part::Changed => {
                for (slot, value) in range.map(|i| giant.changed[i]) {
                    row.put(slot, value);
                    cache.keep(slot, value);
                }
            }
            Part::Stamped => {
                giant.stamped[range].iter().for_each(|s| row.put_stamped(s.slot, s.timestamp, s.value));
            }
            Part::Histograms => {
                self.put_histograms(appender, &giant.histograms[range], message_bytes, at, counts);
            }
            Part::Exemplars => self.write_exemplars(appender, &giant.exemplars[range], at),
            Part::Nothing => {}
        }
    }

    fn write_exemplars(&mut self, appender: &mut Appender, exemplars: &[Kept], at: Timestamp) {
        for x in exemplars {
            let entry = self.entries[x.slot as usize];
            if x.time.is_none() && entry.state == State::Histogram {
                continue;
            }
            if !entry.state.is_known() || self.exemplars_told.insert(x.slot, x.hash) == Some(x.hash) {
                continue;
            }
            let sample_time = x.sample_time.filter(|_| self.config.honor_timestamps).unwrap_or(at);
            let time = x.time.unwrap_or(sample_time);
            appender.append_exemplar(&self.source, entry.slot(), time, x.value, &x.labels);
        }
    }

    /// The page did not come, or was refused: every series of the target ends with the row, by
    /// [`Intake::end_turn`].
    pub fn refuse_page(&mut self, giant: &mut Giant, at: Timestamp) {
        giant.ending = self.begin_end(&mut giant.appender, at);
    }

    /// Ends as many series as a turn may; false when all have ended.
    pub fn end_turn(&mut self, giant: &mut Giant, at: Timestamp) -> bool {
        let to = giant.ending.end.min(giant.ending.start + ROW_TURN_MAX);
        self.end_some(&mut giant.appender, giant.ending.start..to, at);
        giant.ending.start = to;
        if !giant.ending.is_empty() {
            return true;
        }
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
            let emptied = cache.emptied();
            self.held = Held::Streamed(Box::new(emptied));
            self.entries.clear();
            self.exemplars_told.clear();
            self.starts_told.clear();
            (self.unmet, self.dropped, self.refused) = (0, 0, 0);
            // The source begins anew.
            self.is_lost = true;
        }
        false
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
