//! One target's pages to rows: the page held, which series are in the row, staleness, limits.
//!
//! Known series cost no label work and no allocation: a changed value is an index and a number. Labels are read when
//! a series appears, or when all must be told again (after a refusal, under a new configuration).

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use exposition::flat::FoundHistogram;
use exposition::page::{Changes, PageReader, Stamped};
use exposition::text::MetricKind;
use exposition::{FlatPage, FlatReader, Held, Syntax, gather, nhcb, protobuf};
use model::{Labels, STALE_NAN, ShardId, Timestamp};

use crate::config::ScrapeConfig;
use crate::scrape::content::Form;
use crate::scrape::histograms::Message;
use crate::scrape::labels::{Naming, report_labels, series_labels};
use crate::scrape::reading::{Features, Reading};
use crate::scrape::report::{EXTRA_NAMES, NAMES, Report};
use crate::scrape::{Error, Sink, Target, histograms};
use crate::shard::appender::{Appender, Slot, Source};
use crate::shard::budget::{Refusal, Room};
use crate::shard::commons::Bounds;
use crate::shard::record::SourceId;

pub mod giant;

/// Dead slots of a source before it begins anew: more than half its live ones, and so many that it is rare. What is
/// told again is then at most three times what came and went.
const DEAD_SLOTS_MIN: u32 = 1024;

/// What all targets of a shard share while one of them is read. Nothing in it outlives a scrape.
pub struct Scratch {
    readers: Readers,
    flat: FlatPage,
    appender: Appender,
    fresh: Vec<(u32, Labels)>,
    /// Histograms of the page, and their bytes.
    messages: Vec<Message>,
    message_bytes: Vec<u8>,
}

impl Scratch {
    pub fn new(shard_count: u16) -> Self {
        Scratch {
            readers: Readers { lines: PageReader::new(), flat: FlatReader::default() },
            flat: FlatPage::default(),
            appender: Appender::new(shard_count),
            fresh: Vec::new(),
            messages: Vec::new(),
            message_bytes: Vec::new(),
        }
    }
}

/// Who reads pages of either kind.
struct Readers {
    lines: PageReader,
    flat: FlatReader,
}

impl Readers {
    /// What the page that `held` took last changed.
    fn changes(&self, held: &Held) -> &Changes {
        match held {
            Held::Lines(_) => self.lines.changes(),
            Held::Flat(_) | Held::Streamed(_) => self.flat.changes(),
        }
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
    /// New, its labels have not been read yet.
    Unmet,
    /// Its shard knows it, but not from this source: its labels are to be read again.
    Again,
    /// The rules drop it.
    Dropped,
    /// There was no room for another series.
    Refused,
    /// Known to its shard; no sample in the last row.
    Idle,
    InRow,
    /// Its samples bring their own timestamps.
    Stamped,
    /// Its last sample was a native histogram.
    Histogram,
}

impl State {
    /// Whether the series has a slot on its shard.
    fn is_known(self) -> bool {
        matches!(self, State::Idle | State::InRow | State::Stamped | State::Histogram)
    }
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

/// When the counter of a sample began.
struct Start {
    slot: u32,
    start: i64,
    /// The sample's own.
    timestamp: Option<i64>,
    /// Of a histogram: the message of one without observations.
    zero: Option<Range<usize>>,
}

/// A series of the report and whether it is in the row.
type ReportSlot = (Slot, bool);

pub struct Intake {
    config: Arc<ScrapeConfig>,
    target: Arc<Target>,
    features: Features,
    reading: Reading,
    held: Held,
    source: Source,
    generation: u64,
    entries: Vec<Entry>,
    report: Vec<ReportSlot>,
    /// Series that a new configuration names otherwise: they end with the next row.
    ending: Vec<Slot>,
    /// The same of series whose last sample was a histogram.
    ending_histograms: Vec<Slot>,
    /// Hash of the exemplar that was told last, by slot: senders repeat theirs for as long as they have no other.
    exemplars_told: HashMap<u32, u64>,
    /// When the counters of slots began, as it was told last.
    starts_told: HashMap<u32, i64>,
    unmet: u32,
    dropped: u32,
    defined: u32,
    /// The row lacks series that the page has: the next good page tells every value.
    must_tell_all: bool,
    /// A batch was refused: the source begins anew.
    is_lost: bool,
    /// The source before this one, until its shards know that it is over.
    over: Option<SourceId>,
    /// Which times are taken of the page that is read.
    bounds: Bounds,
    /// Room for new series when the page came, and those of it that found none.
    room: Room,
    refusal: Option<Refusal>,
    /// Series of the page that are refused for want of room.
    refused: u32,
    /// Where the page is not held: the configuration by which its series were named, until the next page says which
    /// of them the present one names otherwise.
    named_by: Option<Arc<ScrapeConfig>>,
}

impl Intake {
    pub fn new(config: Arc<ScrapeConfig>, target: Arc<Target>, features: Features, sink: &dyn Sink) -> Self {
        let reading = Reading::default();
        Intake {
            config,
            target,
            features,
            reading,
            held: reading.held(),
            source: Source::new(sink.new_source(), sink.shard_count()),
            generation: sink.generation(),
            entries: Vec::new(),
            report: Vec::new(),
            ending: Vec::new(),
            ending_histograms: Vec::new(),
            exemplars_told: HashMap::new(),
            starts_told: HashMap::new(),
            unmet: 0,
            dropped: 0,
            defined: 0,
            must_tell_all: false,
            is_lost: false,
            over: None,
            bounds: Bounds::NONE,
            room: Room::ENDLESS,
            refusal: None,
            refused: 0,
            named_by: None,
        }
    }

    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Heap bytes: the page and its table, and what each series costs here.
    pub fn bytes(&self) -> usize {
        self.held.bytes() + self.entries.capacity() * size_of::<Entry>()
    }

    /// To be called before each row. False where `at` is not later than the last row: the clock went back, and
    /// Prometheus would drop every sample as out of order.
    pub fn begin(&mut self, sink: &dyn Sink, at: Timestamp, form: Option<Form>) -> bool {
        self.follow_form(sink, form);
        let live = self.held.line_count() as u32;
        let is_littered = self.defined > live.saturating_add(live / 2).saturating_add(DEAD_SLOTS_MIN);
        if self.is_lost || is_littered || self.generation != sink.generation() {
            self.begin_anew(sink);
        }
        self.bounds = sink.bounds(at);
        self.room = sink.room();
        self.refusal = None;
        if self.refused > 0 && u64::from(self.refused) <= self.room.plenty() {
            self.admit_refused();
        }
        at > self.source.last_time()
    }

    /// The target answers in another form: its keys are other bytes, so all of its series are met again.
    fn follow_form(&mut self, sink: &dyn Sink, form: Option<Form>) {
        let Some(form) = form else { return };
        let reading = Reading::of(form, self.target.histograms, self.features);
        if reading != self.reading {
            self.reading = reading;
            self.held = reading.held();
            self.entries.clear();
            self.refused = 0;
            self.begin_anew(sink);
        }
    }

    /// New series of the last page that found no room.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// There is room again: those who found none are met with the next page.
    fn admit_refused(&mut self) {
        for entry in self.entries.iter_mut().filter(|e| e.state == State::Refused) {
            entry.state = State::Unmet;
            self.unmet += 1;
        }
        self.refused = 0;
        self.must_tell_all = true;
    }

    fn begin_anew(&mut self, sink: &dyn Sink) {
        let over = std::mem::replace(&mut self.source, Source::new(sink.new_source(), sink.shard_count()));
        self.over.get_or_insert(over.id());
        self.generation = sink.generation();
        self.unmet = 0;
        let is_told = |e: &&mut Entry| !matches!(e.state, State::Free | State::Refused);
        for entry in self.entries.iter_mut().filter(is_told) {
            if entry.state != State::Unmet {
                entry.state = State::Again;
            }
            self.unmet += 1;
        }
        self.report.clear();
        self.ending.clear();
        self.ending_histograms.clear();
        self.exemplars_told.clear();
        self.starts_told.clear();
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
        if let Err(e) = self.read(scratch, page, counts) {
            counts.kept = counts.scraped.saturating_sub(u64::from(self.dropped));
            return Err(Error::Page(e.to_string()));
        }
        scratch.appender.set_late(self.bounds.late());
        self.end_old(&mut scratch.appender, at);
        self.note_keys(scratch, at);
        let changes = scratch.readers.changes(&self.held);
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
        self.check_too_old(scratch.readers.changes(&self.held))?;
        self.write_messages(scratch)?;
        self.refuse_fresh(scratch);
        self.define_fresh(scratch);
        self.tell_starts(scratch, at);
        self.tell(scratch, counts);
        self.tell_histograms(scratch, at, counts);
        self.tell_exemplars(scratch, at);
        Ok(())
    }

    /// A sample that is older than what is taken out of order fails its whole page, as in Prometheus. Here only by
    /// the house's bounds: what is too old for its series alone its shard counts.
    fn check_too_old(&self, changes: &Changes) -> Result<(), Error> {
        let Some(late) = self.bounds.late().filter(|_| self.config.honor_timestamps) else { return Ok(()) };
        let oldest = late.min(self.bounds.oldest());
        let is_kept = |slot: u32| self.entries[slot as usize].state != State::Dropped;
        let float = |s: &Stamped| s.timestamp < oldest && is_kept(s.slot);
        let histogram = |h: &FoundHistogram| h.timestamp.is_some_and(|t| t < oldest) && is_kept(h.slot);
        match changes.stamped.iter().any(float) || changes.histograms.iter().any(histogram) {
            true => Err(Error::TooOld),
            false => Ok(()),
        }
    }

    /// Reads the page into what is held; an error leaves that as it was.
    fn read(
        &mut self,
        scratch: &mut Scratch,
        page: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), exposition::Error> {
        if page.is_empty() && self.reading.syntax() == Some(Syntax::OpenMetrics) {
            // An empty body is a page without series in every form.
            page.extend_from_slice(b"# EOF\n");
        }
        let cache = match &mut self.held {
            Held::Lines(cache) => {
                let read = scratch.readers.lines.read(cache, page).map(|_| ());
                return read
                    .inspect_err(|_| counts.scraped = u64::from(scratch.readers.lines.changes().samples));
            }
            Held::Flat(cache) => cache,
            Held::Streamed(_) => {
                return Err(exposition::Error::Malformed("the page is to be read as it comes".to_owned()));
            }
        };
        let flat = &mut scratch.flat;
        let read = match self.reading {
            Reading::Protobuf(wishes) => protobuf::read(page, wishes.protobuf(), flat),
            Reading::EveryLine { syntax, .. } | Reading::Lines(syntax) => gather::read(syntax, page, flat),
        };
        if let Err(e) = read {
            counts.scraped = flat.samples.len() as u64;
            return Err(e);
        }
        if self.features.created_zero && self.reading.syntax() == Some(Syntax::OpenMetrics) {
            gather::take_created(flat);
        }
        if let Some(wishes) = self.reading.wishes()
            && wishes.convert_classic
        {
            nhcb::convert(flat, wishes.always_classic);
        }
        scratch.readers.flat.read(cache, flat);
        Ok(())
    }

    fn end_old(&mut self, appender: &mut Appender, at: Timestamp) {
        for slot in self.ending.drain(..) {
            appender.end(&mut self.source, slot);
        }
        for slot in self.ending_histograms.drain(..) {
            appender.append_histogram_at(&self.source, slot, at, 0, histograms::stale_message());
        }
    }

    /// Checks the page's histograms against the job's limits, before anything of the page is told.
    fn write_messages(&self, scratch: &mut Scratch) -> Result<(), Error> {
        scratch.messages.clear();
        scratch.message_bytes.clear();
        let Held::Flat(cache) = &self.held else { return Ok(()) };
        for found in &scratch.readers.flat.changes().histograms {
            if self.entries[found.slot as usize].state == State::Dropped {
                continue;
            }
            let counts = &cache.page().histograms[found.index as usize];
            let bytes = histograms::write(&self.config, counts, &mut scratch.message_bytes)?;
            let zero = (self.features.created_zero && found.start != 0)
                .then(|| histograms::write_zero(counts, &mut scratch.message_bytes));
            let (slot, timestamp) = (found.slot, found.timestamp);
            scratch.messages.push(Message { slot, timestamp, bytes, zero });
        }
        Ok(())
    }

    /// Writes a zero where a counter began, if that is later than what is known of its series.
    fn tell_starts(&mut self, scratch: &mut Scratch, at: Timestamp) {
        if !self.features.created_zero {
            return;
        }
        let Scratch { readers, appender, messages, message_bytes, .. } = scratch;
        let Held::Flat(_) = &self.held else { return };
        let zeros: HashMap<u32, &Option<Range<usize>>> = messages.iter().map(|m| (m.slot, &m.zero)).collect();
        let starts = readers.flat.changes().starts.iter().map(|(slot, start, timestamp)| {
            let zero = zeros.get(slot).and_then(|zero| (*zero).clone());
            Start { slot: *slot, start: *start, timestamp: *timestamp, zero }
        });
        let starts: Vec<Start> = starts.collect();
        self.write_starts(appender, &starts, message_bytes, at);
    }

    fn write_starts(&mut self, appender: &mut Appender, starts: &[Start], messages: &[u8], at: Timestamp) {
        for Start { slot, start, timestamp, zero } in starts {
            let entry = self.entries[*slot as usize];
            let is_kept = entry.state.is_known();
            let time = timestamp.filter(|_| self.config.honor_timestamps).unwrap_or(at);
            if !is_kept || *start >= time || self.starts_told.insert(*slot, *start) == Some(*start) {
                continue;
            }
            if entry.state != State::Idle && *start <= self.source.last_time() {
                continue;
            }
            match zero {
                Some(zero) => {
                    let message = &messages[zero.clone()];
                    appender.append_histogram_at(&self.source, entry.slot(), *start, 0, message);
                }
                None => appender.append_at(entry.slot(), *start, 0, 0.0),
            }
        }
    }

    /// Histograms take no part in the row: each scrape brings all of them.
    fn tell_histograms(&mut self, scratch: &mut Scratch, at: Timestamp, counts: &mut Counts) {
        let Held::Flat(cache) = &mut self.held else { return };
        cache.forget_histograms();
        let Scratch { appender, messages, message_bytes, .. } = scratch;
        self.put_histograms(appender, messages, message_bytes, at, counts);
    }

    fn put_histograms(
        &mut self,
        appender: &mut Appender,
        messages: &[Message],
        bytes: &[u8],
        at: Timestamp,
        counts: &mut Counts,
    ) {
        for m in messages {
            let entry = &mut self.entries[m.slot as usize];
            if !entry.state.is_known() {
                continue;
            }
            let own = m.timestamp.filter(|_| self.config.honor_timestamps);
            let time = own.unwrap_or(at);
            let is_too_far_back = self.bounds.window_ms == 0 && own.is_some_and(|t| t < self.bounds.oldest());
            if time > self.bounds.latest || is_too_far_back {
                counts.out_of_bounds += 1;
                counts.too_far_back += u64::from(is_too_far_back);
                continue;
            }
            if entry.state == State::InRow {
                appender.end(&mut self.source, entry.slot());
            }
            entry.state = if own.is_some() { State::Stamped } else { State::Histogram };
            appender.append_histogram_at(&self.source, entry.slot(), time, 0, &bytes[m.bytes.clone()]);
        }
    }

    fn tell_exemplars(&mut self, scratch: &mut Scratch, at: Timestamp) {
        if !self.features.exemplars {
            return;
        }
        let Scratch { readers, appender, .. } = scratch;
        let changes = readers.changes(&self.held);
        let mut found: Vec<_> = changes.exemplars.iter().collect();
        found.sort_by_key(|x| x.timestamp);
        for x in found {
            let entry = self.entries[x.slot as usize];
            if !entry.state.is_known() {
                continue;
            }
            if x.timestamp.is_none() && entry.state == State::Histogram {
                continue;
            }
            let raw = self.held.text(&x.labels);
            let hash = xxh3_64_with_seed(raw, x.value.to_bits() ^ x.timestamp.unwrap_or(-1) as u64);
            if self.exemplars_told.insert(x.slot, hash) == Some(hash) {
                continue;
            }
            let Ok(labels) = exposition::key::exemplar_labels(raw) else { continue };
            let labels = Labels::from_pairs(labels);
            let sample_time = x.sample_timestamp.filter(|_| self.config.honor_timestamps).unwrap_or(at);
            let time = x.timestamp.unwrap_or(sample_time);
            appender.append_exemplar(&self.source, entry.slot(), time, x.value, &labels);
        }
    }

    /// Follows the page's keys: who vanished ends, who appeared is to be met.
    fn note_keys(&mut self, scratch: &mut Scratch, at: Timestamp) {
        scratch.fresh.clear();
        self.entries.resize(self.held.slot_count() as usize, Entry::default());
        let Scratch { readers, appender, .. } = scratch;
        let changes = readers.changes(&self.held);
        changes.vanished.iter().for_each(|v| self.vanish(appender, v.slot, at));
        for a in &changes.appeared {
            self.entries[a.slot as usize].state = State::Unmet;
            self.unmet += 1;
        }
    }

    /// The page has a series no more.
    fn vanish(&mut self, appender: &mut Appender, slot: u32, at: Timestamp) {
        self.exemplars_told.remove(&slot);
        self.starts_told.remove(&slot);
        let entry = std::mem::take(&mut self.entries[slot as usize]);
        match entry.state {
            State::InRow => appender.end(&mut self.source, entry.slot()),
            State::Stamped => self.end_stamped(appender, entry, at),
            State::Histogram => {
                let message = histograms::stale_message();
                appender.append_histogram_at(&self.source, entry.slot(), at, 0, message);
            }
            State::Unmet | State::Again => self.unmet -= 1,
            State::Dropped => self.dropped -= 1,
            State::Refused => self.refused -= 1,
            State::Idle | State::Free => {}
        }
    }

    fn end_stamped(&self, appender: &mut Appender, entry: Entry, at: Timestamp) {
        if self.config.track_timestamps_staleness {
            appender.append_at(entry.slot(), at, 0, STALE_NAN);
        }
    }

    /// Reads the labels of series whose labels were not read yet.
    fn meet(&mut self, scratch: &mut Scratch) -> Result<(), Error> {
        let Scratch { readers, fresh, .. } = scratch;
        let appeared = &readers.changes(&self.held).appeared;
        let all_appeared = appeared.len() == self.unmet as usize;
        let mut meeting = Meeting {
            config: &self.config,
            target: &self.target.labels,
            entries: &mut self.entries,
            dropped: &mut self.dropped,
            unmet: &mut self.unmet,
            fresh,
            types: self.features.type_and_unit,
        };
        let held = &self.held;
        if all_appeared {
            appeared.iter().try_for_each(|a| meeting.meet(a.slot, held.key(a), a.kind, held.unit(a.family)))
        } else {
            held.try_for_each_series(|line| {
                meeting.meet(line.slot, line.key, line.kind, held.unit(line.family))
            })
        }
    }

    /// Refuses new series for which there is no room; those the target has already go on.
    fn refuse_fresh(&mut self, scratch: &mut Scratch) {
        let is_new = |slot: u32| self.entries[slot as usize].state == State::Unmet;
        let fresh = scratch.fresh.iter().enumerate().filter(|(_, (slot, _))| is_new(*slot));
        let fresh = fresh.map(|(i, (_, labels))| (i, labels));
        let (refused, refusal) = self.room.screen(fresh, |_| 0);
        self.refusal = refusal;
        for place in refused {
            let entry = &mut self.entries[scratch.fresh[place].0 as usize];
            if entry.state == State::Unmet {
                entry.state = State::Refused;
                self.unmet -= 1;
                self.refused += 1;
            }
        }
    }

    fn define_fresh(&mut self, scratch: &mut Scratch) {
        for (slot, labels) in scratch.fresh.drain(..) {
            let entry = &mut self.entries[slot as usize];
            // A series with several timestamps on one page was met more than once.
            if !matches!(entry.state, State::Unmet | State::Again) {
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
        let Scratch { readers, appender, .. } = scratch;
        let changes = readers.changes(&self.held);
        let mut row = Row {
            entries: &mut self.entries,
            source: &mut self.source,
            appender,
            honors_timestamps: self.config.honor_timestamps,
            bounds: self.bounds,
            counts,
        };
        if row.honors_timestamps {
            changes.left_row.iter().for_each(|slot| row.leave(*slot));
        }
        if self.must_tell_all {
            self.must_tell_all = false;
            self.held.for_each_in_row(|(slot, value)| row.put(slot, value));
            self.held.for_each_stamped(|s| row.put_stamped(s.slot, s.timestamp, s.value));
        } else {
            changes.changed.iter().for_each(|(slot, value)| row.put(*slot, *value));
            changes.stamped.iter().for_each(|s| row.put_stamped(s.slot, s.timestamp, s.value));
        }
    }

    /// Ends every series of the target with the row that is being written: the page did not come, or was refused.
    pub fn mark_stale(&mut self, scratch: &mut Scratch, at: Timestamp) {
        self.end_all(&mut scratch.appender, at);
    }

    fn end_all(&mut self, appender: &mut Appender, at: Timestamp) {
        let entries = self.begin_end(appender, at);
        self.end_some(appender, entries, at);
    }

    /// Says which entries are to end with the row.
    fn begin_end(&mut self, appender: &mut Appender, at: Timestamp) -> Range<usize> {
        appender.set_late(self.bounds.late());
        self.end_old(appender, at);
        let is_live = |e: &Entry| matches!(e.state, State::InRow | State::Histogram);
        if self.must_tell_all && !self.entries.iter().any(is_live) {
            return 0..0;
        }
        self.must_tell_all = true;
        0..self.entries.len()
    }

    fn end_some(&mut self, appender: &mut Appender, entries: Range<usize>, at: Timestamp) {
        for i in entries {
            let entry = self.entries[i];
            match entry.state {
                State::InRow => appender.end(&mut self.source, entry.slot()),
                State::Stamped => self.end_stamped(appender, entry, at),
                State::Histogram => {
                    let (slot, message) = (entry.slot(), histograms::stale_message());
                    appender.append_histogram_at(&self.source, slot, at, 0, message);
                }
                _ => continue,
            }
            self.entries[i].state = State::Idle;
        }
    }

    /// Writes the report and hands the row on.
    pub fn commit(&mut self, scratch: &mut Scratch, sink: &dyn Sink, at: Timestamp, report: &Report) {
        self.write_report(&mut scratch.appender, report);
        self.hand_on(scratch, sink, at);
    }

    fn write_report(&mut self, appender: &mut Appender, report: &Report) {
        let has_extra = self.config.extra_scrape_metrics || self.features.extra_metrics;
        let names = NAMES.iter().chain(EXTRA_NAMES.iter().filter(|_| has_extra));
        for (i, (name, value)) in names.zip(report.values()).enumerate() {
            if i == self.report.len() {
                let labels = report_labels(&self.target.labels, name);
                self.report.push((appender.define(&mut self.source, &labels), false));
            }
            let (slot, is_in_row) = &mut self.report[i];
            if std::mem::replace(is_in_row, true) {
                appender.set(*slot, value);
            } else {
                appender.begin(&mut self.source, *slot, value);
            }
        }
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
        scratch.appender.retire(&self.source, self.source.id());
        let generation = self.generation;
        // Where it is not taken, memory is given back later.
        scratch.appender.flush(&self.source, |shard, batch| {
            let _is_taken = sink.deliver(generation, shard, batch);
        });
    }

    fn hand_on(&mut self, scratch: &mut Scratch, sink: &dyn Sink, at: Timestamp) {
        if let Some(refusal) = &self.refusal {
            sink.note_refusal(refusal.clone(), at);
        }
        let generation = self.generation;
        if let Some(over) = self.over.take() {
            scratch.appender.retire(&self.source, over);
        }
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
        self.rename(&old);
        if old.extra_scrape_metrics != self.config.extra_scrape_metrics {
            let keep = NAMES.len().min(self.report.len());
            self.ending.extend(self.report.drain(keep..).filter(|(_, is_in_row)| *is_in_row).map(|(s, _)| s));
        }
    }

    /// Series that the old configuration named otherwise are to be met again.
    fn rename(&mut self, old: &Arc<ScrapeConfig>) {
        if let Held::Streamed(_) = &self.held {
            self.named_by.get_or_insert_with(|| old.clone());
            return;
        }
        let Intake { held, entries, config, target, features, ending, ending_histograms, .. } = self;
        let (mut met_anew, mut dropped) = (0, 0);
        let types = features.type_and_unit;
        // Nothing here fails: the walk is one that could be ended by an error.
        let _ = held.try_for_each_series(|line| {
            let Some(entry) = entries.get_mut(line.slot as usize) else { return Ok::<(), ()>(()) };
            if matches!(entry.state, State::Free | State::Unmet | State::Again | State::Refused) {
                return Ok(());
            }
            let naming = Naming { key: line.key, kind: line.kind, unit: held.unit(line.family), types };
            let named = |c: &ScrapeConfig| series_labels(c, &target.labels, naming);
            if named(old) == named(config) {
                return Ok(());
            }
            match entry.state {
                State::InRow => ending.push(entry.slot()),
                State::Histogram => ending_histograms.push(entry.slot()),
                State::Dropped => dropped += 1,
                _ => {}
            }
            *entry = Entry { state: State::Unmet, ..Entry::default() };
            met_anew += 1;
            Ok(())
        });
        self.dropped -= dropped;
        self.unmet += met_anew;
        self.must_tell_all |= met_anew > 0;
    }

    /// Samples with timestamps of their own move to the row or out of it: all is told again.
    fn restamp(&mut self) {
        self.must_tell_all = true;
        if !self.config.honor_timestamps {
            return;
        }
        let Intake { held, entries, ending, .. } = self;
        held.for_each_stamped(|sample| {
            if let Some(entry) = entries.get_mut(sample.slot as usize)
                && entry.state == State::InRow
            {
                ending.push(entry.slot());
                entry.state = State::Idle;
            }
        });
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
    /// Type and unit are labels, too.
    types: bool,
}

impl Meeting<'_> {
    fn meet(&mut self, slot: u32, key: &[u8], kind: MetricKind, unit: &str) -> Result<(), Error> {
        let entry = &mut self.entries[slot as usize];
        if !matches!(entry.state, State::Unmet | State::Again) {
            return Ok(());
        }
        let naming = Naming { key, kind, unit, types: self.types };
        match series_labels(self.config, self.target, naming)? {
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
            State::Idle | State::Stamped | State::Histogram => {
                entry.state = State::InRow;
                self.appender.begin(self.source, entry.slot(), value);
            }
            State::Dropped | State::Refused | State::Unmet | State::Again | State::Free => {}
        }
    }

    fn put_stamped(&mut self, slot: u32, timestamp: Timestamp, value: f64) {
        if !self.honors_timestamps {
            return self.put(slot, value);
        }
        let entry = &mut self.entries[slot as usize];
        if !matches!(entry.state, State::Idle | State::Stamped | State::InRow | State::Histogram) {
            return;
        }
        let is_too_far_back = self.bounds.window_ms == 0 && timestamp < self.bounds.oldest();
        if timestamp > self.bounds.latest || is_too_far_back {
            self.counts.out_of_bounds += 1;
            self.counts.too_far_back += u64::from(is_too_far_back);
            return;
        }
        if matches!(entry.state, State::Idle | State::Histogram) {
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

#[cfg(test)]
#[path = "footprint_tests.rs"]
mod footprint_tests;
