//! The next page of a target, read by its common runs with the last one.
//!
//! Three lines of four are byte-identical from scrape to scrape, so the unit of work is the common run, not the
//! line: find the next differing byte, step the line table to it, and if it lies in a value, parse that value.
//! What is not "same keys, other values" goes line by line through [`crate::text`], until both pages agree again.
//!
//! A line of the table is relative to the one before it, so lines that did not change are not even written when
//! the page's length shifts. Positions are in a page that ends in a newline, real or imagined: the boundary behind
//! the last line can be one past the bytes.

use std::ops::Range;

use crate::Error;
use crate::flat::{FoundHistogram, NO_FAMILY};
use crate::keys::{KeyTable, key_hash};
use crate::lines::{Lines, Syntax};
use crate::number;
use crate::scan::{self, Mismatch};
use crate::text::{Event, Exemplar, MetricKind, Sample, is_blank};

/// Offsets are `u32`, and a line is at least four bytes: with 1 GiB there are at most 2^28 lines, and slots (live,
/// resting and free ones, each at most as many as a page has had lines) stay below 2^30, which leaves two bits.
pub const PAGE_BYTES_MAX: usize = 1 << 30;

/// Old lines that are compared with an unexpected key before a table of all keys is asked: a few deleted lines are
/// the usual reason, and need no table.
const LOOK_AHEAD: usize = 16;

/// Pages without a look-up after which the table of keys is given back.
const TABLE_IDLE_PAGES: u8 = 4;

/// The line has an explicit timestamp: its value is a sample of its own, not part of the row.
const STAMPED: u32 = 1 << 31;
/// The line's key was on the page before: Prometheus drops such a sample and counts it.
const REPEATED: u32 = 1 << 30;
const SLOT: u32 = REPEATED - 1;

/// One sample line: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// From the end of the line before to this line's key: comments and empty lines.
    skip: u32,
    /// From the key to the value's text.
    key: u32,
    /// From the value's text to behind the newline.
    tail: u32,
    /// And the two flags.
    slot: u32,
}

impl Line {
    fn len(self) -> usize {
        self.skip as usize + self.key as usize + self.tail as usize
    }

    fn slot(self) -> u32 {
        self.slot & SLOT
    }

    fn is_plain(self) -> bool {
        self.slot & (STAMPED | REPEATED) == 0
    }

    fn is_stamped(self) -> bool {
        self.slot & STAMPED != 0
    }
}

/// What a target's last page was. Holds no keys: they are in the page.
#[derive(Debug, Default)]
pub struct PageCache {
    syntax: Syntax,
    page: Vec<u8>,
    lines: Vec<Line>,
    /// Slots that were reported vanished at least one whole page ago.
    free: Vec<u32>,
    /// Slots that the last page reported vanished.
    resting: Vec<u32>,
    slot_count: u32,
    repeated: u32,
    table: Option<Box<Lookup>>,
    table_idle: u8,
}

/// The table of keys and where each slot's line is.
#[derive(Debug, Default)]
struct Lookup {
    keys: KeyTable,
    /// Line of each slot, or (with the high bit) its place in `Changes::appeared`, while a page is being read.
    line_of: Vec<u32>,
}

const APPEARED: u32 = 1 << 31;
const NO_LINE: u32 = u32::MAX;

/// A series that the last page did not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appeared {
    pub slot: u32,
    /// Of its key in [`PageCache::page`]; see [`crate::key::decode`].
    pub key: Range<u32>,
    pub kind: MetricKind,
    /// Among the page's families, where it has a list of them.
    pub family: u32,
}

/// A line of the page that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLine<'a> {
    pub slot: u32,
    /// See [`crate::key::decode`].
    pub key: &'a [u8],
    pub kind: MetricKind,
    pub is_stamped: bool,
    /// Among the page's families, where it has a list of them.
    pub family: u32,
}

/// A sample with a timestamp of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamped {
    pub slot: u32,
    pub value: f64,
    pub timestamp: i64,
}

/// An exemplar of a line that differs from the last page's.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundExemplar {
    pub slot: u32,
    /// Of its labels in [`PageCache::page`]; see [`crate::key::exemplar_labels`].
    pub labels: Range<u32>,
    pub value: f64,
    pub timestamp: Option<i64>,
    /// The timestamp of its sample's line.
    pub sample_timestamp: Option<i64>,
}

/// A series that this page does not have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vanished {
    pub slot: u32,
    /// Its last line had an explicit timestamp: by default such series get no staleness marker.
    pub stamped: bool,
}

/// What one page changed. Slots of `appeared` are in `changed` or `stamped` too.
#[derive(Debug, Default)]
pub struct Changes {
    /// Series in the row whose value's text changed, in the order of the page.
    pub changed: Vec<(u32, f64)>,
    pub stamped: Vec<Stamped>,
    pub appeared: Vec<Appeared>,
    pub vanished: Vec<Vanished>,
    /// Series that left the row because their line has an explicit timestamp now.
    pub left_row: Vec<u32>,
    /// In the order of the page.
    pub exemplars: Vec<FoundExemplar>,
    /// All of the page: they take no part in a row. Only flat pages have these.
    pub histograms: Vec<FoundHistogram>,
    /// Slot, start of its counter, and the sample's own timestamp. Only flat pages have these.
    pub starts: Vec<(u32, i64, Option<i64>)>,
    /// Sample lines, repeated ones included.
    pub samples: u32,
    /// Lines whose series was on the page before: dropped.
    pub repeated: u32,
    /// Some comment differs, or stands elsewhere: [`PageCache::metadata`] may say something new.
    pub metadata_changed: bool,
}

impl Changes {
    pub(crate) fn clear(&mut self) {
        self.changed.clear();
        self.histograms.clear();
        self.starts.clear();
        self.stamped.clear();
        self.appeared.clear();
        self.vanished.clear();
        self.left_row.clear();
        self.exemplars.clear();
        self.metadata_changed = false;
    }
}

/// The scratch with which pages are read: one for all targets of a core.
#[derive(Debug)]
pub struct PageReader {
    mismatch: Mismatch,
    walk: Walk,
}

/// The state of one reading, kept for its buffers.
#[derive(Debug, Default)]
struct Walk {
    changes: Changes,
    /// The new table, once the old one does not fit any more.
    next: Vec<Line>,
    is_rebuilding: bool,
    /// Old lines that were overwritten in place, for a page that turns out to be malformed.
    undo: Vec<(u32, Line)>,
    /// Offsets of the old lines' keys, made when a key is looked up.
    starts: Vec<u32>,
    /// Slots of the new page; those of its plain lines.
    present: Vec<u64>,
    plain: Vec<u64>,
    /// The kind that holds at a line of the new table, as far as it was needed.
    kind_at: (usize, MetricKind),
    free_taken: usize,
    slot_count: u32,
    used_table: bool,
    /// Lines before the one that is read on the slow path.
    samples_so_far: u32,
}

/// Both pages and where in them the walk stands: always between two lines.
struct Place<'a> {
    old: &'a [u8],
    new: &'a [u8],
    at_old: usize,
    at_new: usize,
    /// The old line behind `at_old`.
    line: usize,
    /// Up to here the new page has the same text.
    same_to: usize,
}

impl Default for PageReader {
    fn default() -> Self {
        Self::new()
    }
}

impl PageReader {
    pub fn new() -> Self {
        Self::with_mismatch(scan::mismatch())
    }

    /// With a chosen kernel: for tests and benches.
    pub fn with_mismatch(mismatch: Mismatch) -> Self {
        PageReader { mismatch, walk: Walk::default() }
    }

    /// Reads `page` as the successor of the page that `cache` holds, and leaves the old page's buffer in `page`.
    ///
    /// On an error the cache is as it was, `page` is untouched, and [`PageReader::changes`] tells only how many
    /// samples came before it.
    pub fn read(&mut self, cache: &mut PageCache, page: &mut Vec<u8>) -> Result<&Changes, Error> {
        if page.len() > PAGE_BYTES_MAX {
            return Err(Error::PageTooLarge { bytes: page.len() });
        }
        self.walk.begin(cache);
        let end = match self.walk.run(cache, page, self.mismatch) {
            Ok(end) => end,
            Err(e) => {
                let before = self.walk.samples_so_far;
                self.walk.undo(cache);
                self.walk.changes.samples = before;
                return Err(e);
            }
        };
        page.truncate(end);
        self.walk.commit(cache, page);
        Ok(&self.walk.changes)
    }

    /// What the last successful [`PageReader::read`] returned.
    pub fn changes(&self) -> &Changes {
        &self.walk.changes
    }
}

impl PageCache {
    pub fn new() -> Self {
        Self::default()
    }

    /// For pages of this form, and no others.
    pub fn of(syntax: Syntax) -> Self {
        PageCache { syntax, ..Self::default() }
    }

    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// The page that was read last.
    pub fn page(&self) -> &[u8] {
        &self.page
    }

    /// One more than the highest slot ever given.
    pub fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// A stretch of the page.
    pub fn text(&self, range: &Range<u32>) -> &[u8] {
        &self.page[range.start as usize..range.end as usize]
    }

    /// Sample lines of the page.
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The raw text of an appeared series.
    pub fn key(&self, appeared: &Appeared) -> &[u8] {
        &self.page[appeared.key.start as usize..appeared.key.end as usize]
    }

    /// Every series in the row with its value, parsed from the page: after a gap that made all of them stale.
    pub fn row(&self) -> impl Iterator<Item = (u32, f64)> {
        let mut at = 0;
        self.lines.iter().filter_map(move |l| {
            let value_at = at + l.skip as usize + l.key as usize;
            at += l.len();
            l.is_plain().then(|| (l.slot(), value_of(self.syntax, &self.page, value_at).0))
        })
    }

    /// Every line but repeated ones, with what is needed to read its labels.
    pub fn series(&self) -> impl Iterator<Item = SeriesLine<'_>> {
        let mut at = 0;
        let mut kind = MetricKind::Unknown;
        self.lines.iter().filter_map(move |l| {
            let start = at + l.skip as usize;
            if l.skip > 0 {
                kind = last_kind(self.syntax, &self.page, at..start).unwrap_or(kind);
            }
            at += l.len();
            let key = key_of(&self.page, start, l.key);
            let (slot, is_stamped) = (l.slot(), l.is_stamped());
            let line = SeriesLine { slot, key, kind, is_stamped, family: NO_FAMILY };
            (l.slot & REPEATED == 0).then_some(line)
        })
    }

    /// Every sample with an explicit timestamp.
    pub fn stamped(&self) -> impl Iterator<Item = Stamped> {
        let mut at = 0;
        self.lines.iter().filter_map(move |l| {
            let value_at = at + l.skip as usize + l.key as usize;
            at += l.len();
            let (value, timestamp) = value_of(self.syntax, &self.page, value_at);
            l.is_stamped().then_some(Stamped { slot: l.slot(), value, timestamp: timestamp.unwrap_or(0) })
        })
    }

    /// The page's HELP and TYPE lines: only the text between samples is read.
    pub fn metadata(&self) -> impl Iterator<Item = Event<'_>> {
        let mut at = 0;
        let gaps = self.lines.iter().filter_map(move |l| {
            let gap = at..at + l.skip as usize;
            at += l.len();
            (l.skip > 0).then_some(gap)
        });
        let tail = self.lines.iter().map(|l| l.len()).sum::<usize>().min(self.page.len())..self.page.len();
        gaps.chain([tail])
            .flat_map(move |gap| comments(self.syntax, &self.page, gap))
            .filter(|e| !matches!(e, Event::Comment(_)))
    }

    /// Heap bytes: page, line table, tables of slots.
    pub fn bytes(&self) -> usize {
        let words = self.free.capacity() + self.resting.capacity();
        let lookup =
            self.table.as_ref().map_or(0, |t| t.keys.bytes() + t.line_of.capacity() * size_of::<u32>());
        self.page.capacity() + self.lines.capacity() * size_of::<Line>() + words * size_of::<u32>() + lookup
    }
}

/// The comments of a stretch of a page that was accepted.
fn comments(syntax: Syntax, page: &[u8], gap: Range<usize>) -> impl Iterator<Item = Event<'_>> {
    let mut parser = Lines::resume(syntax, page, gap.start, MetricKind::Unknown);
    std::iter::from_fn(move || {
        if parser.position() >= gap.end {
            return None;
        }
        // Blank lines before a sample belong to the gap: the event behind them does not.
        match parser.next_event() {
            Ok(Some(e)) if !matches!(e, Event::Sample(_)) => Some(e),
            _ => None,
        }
    })
}

/// The kind of the last TYPE line of a stretch.
fn last_kind(syntax: Syntax, page: &[u8], gap: Range<usize>) -> Option<MetricKind> {
    let kinds = comments(syntax, page, gap)
        .filter_map(|e| if let Event::Type { kind, .. } = e { Some(kind) } else { None });
    kinds.last()
}

/// Value and timestamp of a line that was accepted.
fn value_of(syntax: Syntax, page: &[u8], value_at: usize) -> (f64, Option<i64>) {
    if let Some((value, end)) = number::leading(page, value_at)
        && matches!(page.get(end), None | Some(b'\n'))
    {
        return (value, None);
    }
    let end = |at: usize| {
        page[at..].iter().position(|c| matches!(c, b' ' | b'\t' | b'\n')).map_or(page.len(), |n| at + n)
    };
    let value_end = end(value_at);
    let value = number::parse_value(&page[value_at..value_end]).unwrap_or(model::NORMAL_NAN);
    let stamp_at = value_end + page[value_end..].iter().take_while(|c| is_blank(**c)).count();
    let stamp = &page[stamp_at..end(stamp_at)];
    let timestamp = match syntax {
        _ if stamp.is_empty() || stamp.starts_with(b"#") => None,
        Syntax::Text => number::parse_timestamp(stamp).ok(),
        Syntax::OpenMetrics => number::parse_value(stamp).ok().map(|s| (s * 1000.0) as i64),
    };
    (value, timestamp)
}

/// The key of a line: what stands before the value without the blanks between them.
fn key_of(page: &[u8], start: usize, len: u32) -> &[u8] {
    let raw = &page[start..start + len as usize];
    let blanks = raw.iter().rev().take_while(|c| is_blank(**c)).count();
    &raw[..raw.len() - blanks]
}

fn clamped(page: &[u8], at: usize) -> &[u8] {
    &page[at.min(page.len())..]
}

/// A value where a value was: its number and the offset of the newline behind it. `None` where the line needs a
/// closer look: a timestamp, an unusual number, or something that is no value at all.
#[inline]
fn value_in_place(page: &[u8], value_at: usize) -> Option<(f64, usize)> {
    // Right behind a name another letter would belong to the name.
    if !matches!(page.get(value_at.wrapping_sub(1)), Some(b' ' | b'}' | b'\t')) {
        return None;
    }
    let (value, end) = number::leading(page, value_at)?;
    matches!(page.get(end), None | Some(b'\n')).then_some((value, end))
}

impl Walk {
    fn begin(&mut self, cache: &PageCache) {
        self.changes.clear();
        self.next.clear();
        self.is_rebuilding = false;
        self.undo.clear();
        self.starts.clear();
        self.kind_at = (0, MetricKind::Unknown);
        self.free_taken = 0;
        self.slot_count = cache.slot_count;
        self.used_table = false;
    }

    /// Walks both pages; returns where the new one ends.
    fn run(&mut self, cache: &mut PageCache, new: &[u8], mismatch: Mismatch) -> Result<usize, Error> {
        let old = std::mem::take(&mut cache.page);
        let mut place = Place { old: &old, new, at_old: 0, at_new: 0, line: 0, same_to: 0 };
        let result = self.run_between(cache, &mut place, mismatch);
        cache.page = old;
        result
    }

    fn run_between(
        &mut self,
        cache: &mut PageCache,
        place: &mut Place<'_>,
        mismatch: Mismatch,
    ) -> Result<usize, Error> {
        loop {
            let (old, new) = (clamped(place.old, place.at_old), clamped(place.new, place.at_new));
            let run = mismatch(old, new);
            place.same_to = place.at_old + run;
            self.keep_lines(&cache.lines, place);
            if run == old.len() && run == new.len() {
                // The rest is the same; a last line without its newline is not behind us yet.
                let (at_old, at_new) = (place.at_old, place.at_new);
                place.same_to = place.old.len() + 1;
                self.keep_lines(&cache.lines, place);
                debug_assert!(place.at_old - at_old == place.at_new - at_new);
                if new.is_empty() {
                    // There is no old page whose end it shares.
                    self.refuse_without_end(cache.syntax, place)?;
                }
                break;
            }
            if place.at_new >= place.new.len() {
                self.refuse_without_end(cache.syntax, place)?;
                break;
            }
            if self.change_value(cache, place) {
                continue;
            }
            if let Some(end) = self.read_line(cache, place)? {
                self.drop_rest(cache, place);
                return Ok(end);
            }
        }
        self.drop_rest(cache, place);
        Ok(place.new.len())
    }

    /// OpenMetrics ends with `# EOF`, which is read like a line: who comes to the page's end has not met it.
    fn refuse_without_end(&mut self, syntax: Syntax, place: &Place<'_>) -> Result<(), Error> {
        if syntax != Syntax::OpenMetrics {
            return Ok(());
        }
        self.samples_so_far = if self.is_rebuilding { self.next.len() } else { place.line } as u32;
        Lines::resume(syntax, place.new, place.new.len(), MetricKind::Unknown).next_event().map(drop)
    }

    /// Steps over the lines that end before the pages part.
    #[inline]
    fn keep_lines(&mut self, lines: &[Line], place: &mut Place<'_>) {
        let from = place.line;
        let mut at = place.at_old;
        while let Some(line) = lines.get(place.line)
            && at + line.len() <= place.same_to
        {
            at += line.len();
            place.line += 1;
        }
        place.at_new += at - place.at_old;
        place.at_old = at;
        if self.is_rebuilding {
            self.next.extend_from_slice(&lines[from..place.line]);
        }
    }

    /// The common case: the pages part inside a value.
    #[inline]
    fn change_value(&mut self, cache: &mut PageCache, place: &mut Place<'_>) -> bool {
        let Some(line) = cache.lines.get(place.line).copied() else { return false };
        let key = line.skip as usize + line.key as usize;
        if place.same_to < place.at_old + key || line.is_stamped() {
            return false;
        }
        let value_at = place.at_new + key;
        let Some((value, end)) = value_in_place(place.new, value_at) else { return false };
        if end == place.new.len() && cache.syntax == Syntax::OpenMetrics {
            return false;
        }
        if line.slot & REPEATED == 0 {
            self.changes.changed.push((line.slot, value));
        }
        let tail = (end + 1 - value_at) as u32;
        self.put_line(cache, place, line, Line { tail, ..line });
        place.at_new = end + 1;
        true
    }

    /// Writes what became of the old line at `place` and steps over it in the old page.
    #[inline]
    fn put_line(&mut self, cache: &mut PageCache, place: &mut Place<'_>, old: Line, new: Line) {
        if self.is_rebuilding {
            self.next.push(new);
        } else if old != new {
            self.undo.push((place.line as u32, old));
            cache.lines[place.line] = new;
        }
        place.at_old += old.len();
        place.line += 1;
    }

    /// Reads from `place` to behind the next sample of the new page, whatever it is. `Some` at the page's end.
    #[cold]
    #[inline(never)]
    fn read_line(&mut self, cache: &mut PageCache, place: &mut Place<'_>) -> Result<Option<usize>, Error> {
        let boundary = place.at_new;
        self.samples_so_far = if self.is_rebuilding { self.next.len() } else { place.line } as u32;
        let same_to = boundary + (place.same_to - place.at_old);
        let mut parser = Lines::resume(cache.syntax, place.new, boundary, MetricKind::Unknown);
        let mut kind = None;
        loop {
            let event = parser.next_event()?;
            match event {
                None => {
                    // What lies behind a NUL is not held: it would not be compared as lines.
                    self.changes.metadata_changed |= place.at_old < place.old.len();
                    place.at_new = place.new.len();
                    return Ok(Some(parser.held_end().min(place.new.len())));
                }
                Some(Event::Sample(sample)) => {
                    self.place_sample(cache, place, sample, kind);
                    place.at_new = parser.position();
                    return Ok(None);
                }
                Some(Event::Type { kind: k, .. }) => kind = Some(k),
                Some(Event::Help { .. } | Event::Unit { .. } | Event::Comment(_)) => {}
            }
            self.changes.metadata_changed |= parser.position() > same_to;
        }
    }

    fn place_sample(
        &mut self,
        cache: &mut PageCache,
        place: &mut Place<'_>,
        s: Sample<'_>,
        kind: Option<MetricKind>,
    ) {
        let stamp = if s.timestamp.is_some() { STAMPED } else { 0 };
        let mut fresh = Line {
            skip: (s.start - place.at_new) as u32,
            key: (s.value_at - s.start) as u32,
            tail: (s.end + 1 - s.value_at) as u32,
            slot: stamp,
        };
        if let Some(old) = cache.lines.get(place.line).copied()
            && key_of(place.old, place.at_old + old.skip as usize, old.key) == s.key
        {
            // The line that was expected: its comments, blanks or timestamp differ, or its value is a rare one.
            if (old.slot ^ stamp) & STAMPED != 0 {
                self.rebuild(cache, place.line);
            }
            fresh.slot |= old.slot & !STAMPED;
            self.changes.metadata_changed |= old.skip != fresh.skip;
            self.put_line(cache, place, old, fresh);
        } else {
            self.changes.metadata_changed = true;
            self.rebuild(cache, place.line);
            fresh.slot |= self.find_or_add(cache, place, &s, kind);
            self.next.push(fresh);
        }
        if let Some(kind) = kind
            && self.is_rebuilding
        {
            self.kind_at = (self.next.len(), kind);
        }
        if let Some(exemplar) = s.exemplar
            && fresh.slot & REPEATED == 0
        {
            self.note_exemplar(place, fresh.slot(), exemplar, s.timestamp);
        }
        match s.timestamp {
            Some(timestamp) => {
                self.changes.stamped.push(Stamped { slot: fresh.slot(), value: s.value, timestamp });
            }
            None if fresh.slot & REPEATED == 0 => self.changes.changed.push((fresh.slot(), s.value)),
            None => {}
        }
    }

    #[cold]
    fn note_exemplar(
        &mut self,
        place: &Place<'_>,
        slot: u32,
        x: Exemplar<'_>,
        sample_timestamp: Option<i64>,
    ) {
        let from = (x.labels.as_ptr() as usize - place.new.as_ptr() as usize) as u32;
        let labels = from..from + x.labels.len() as u32;
        let (value, timestamp) = (x.value, x.timestamp);
        self.changes.exemplars.push(FoundExemplar { slot, labels, value, timestamp, sample_timestamp });
    }

    /// From here on the new table is written beside the old one, which is what it was before this page.
    fn rebuild(&mut self, cache: &mut PageCache, line: usize) {
        if !self.is_rebuilding {
            self.is_rebuilding = true;
            self.next.extend_from_slice(&cache.lines[..line]);
            self.restore(cache);
        }
    }

    fn restore(&mut self, cache: &mut PageCache) {
        for (i, line) in self.undo.drain(..).rev() {
            cache.lines[i as usize] = line;
        }
    }

    /// The slot of a key that is not the expected one; the walk goes on in the old page behind its old line.
    fn find_or_add(
        &mut self,
        cache: &mut PageCache,
        place: &mut Place<'_>,
        s: &Sample<'_>,
        kind: Option<MetricKind>,
    ) -> u32 {
        let mut at = place.at_old;
        for (i, line) in cache.lines.iter().enumerate().skip(place.line).take(LOOK_AHEAD) {
            if key_of(place.old, at + line.skip as usize, line.key) == s.key {
                place.line = i + 1;
                place.at_old = at + line.len();
                return line.slot();
            }
            at += line.len();
        }
        self.used_table = true;
        let mut lookup = cache.table.take().unwrap_or_else(|| Box::new(Lookup::of(cache, place.old)));
        let slot = self.look_up(cache, &mut lookup, place, s, kind);
        cache.table = Some(lookup);
        slot
    }

    fn look_up(
        &mut self,
        cache: &mut PageCache,
        lookup: &mut Lookup,
        place: &mut Place<'_>,
        s: &Sample<'_>,
        kind: Option<MetricKind>,
    ) -> u32 {
        self.find_starts(&cache.lines);
        let hash = key_hash(s.key);
        let found = lookup.keys.find(hash, |slot| {
            let at = lookup.line_of[slot as usize];
            if at & APPEARED == 0 {
                let start = self.starts[at as usize] as usize;
                key_of(place.old, start, cache.lines[at as usize].key) == s.key
            } else {
                let key = &self.changes.appeared[(at ^ APPEARED) as usize].key;
                &place.new[key.start as usize..key.end as usize] == s.key
            }
        });
        if let Some(slot) = found {
            let at = lookup.line_of[slot as usize];
            if at & APPEARED == 0 {
                let line = cache.lines[at as usize];
                place.line = at as usize + 1;
                place.at_old = self.starts[at as usize] as usize + line.key as usize + line.tail as usize;
            }
            return slot;
        }
        let slot = self.take_slot(cache);
        lookup.keys.insert(hash, slot);
        if lookup.line_of.len() <= slot as usize {
            lookup.line_of.resize(slot as usize + 1, NO_LINE);
        }
        lookup.line_of[slot as usize] = APPEARED | self.changes.appeared.len() as u32;
        let kind = kind.unwrap_or_else(|| self.kind_here(cache.syntax, place.new, place.at_new));
        let key = s.start as u32..(s.start + s.key.len()) as u32;
        self.changes.appeared.push(Appeared { slot, key, kind, family: NO_FAMILY });
        slot
    }

    fn take_slot(&mut self, cache: &PageCache) -> u32 {
        let left = cache.free.len() - self.free_taken;
        if left > 0 {
            self.free_taken += 1;
            return cache.free[left - 1];
        }
        self.slot_count += 1;
        self.slot_count - 1
    }

    fn find_starts(&mut self, lines: &[Line]) {
        if self.starts.len() == lines.len() {
            return;
        }
        let mut at = 0usize;
        self.starts.extend(lines.iter().map(|l| {
            let start = at + l.skip as usize;
            at += l.len();
            start as u32
        }));
    }

    /// The kind of the last TYPE line before `at`, the end of the new table's last line: sought backwards in the
    /// gaps between samples, up to where it was known last.
    fn kind_here(&mut self, syntax: Syntax, page: &[u8], at: usize) -> MetricKind {
        let (known, mut kind) = self.kind_at;
        let mut end = at;
        for line in self.next[known..].iter().rev() {
            let start = end - line.len();
            if line.skip > 0
                && let Some(found) = last_kind(syntax, page, start..start + line.skip as usize)
            {
                kind = found;
                break;
            }
            end = start;
        }
        self.kind_at = (self.next.len(), kind);
        kind
    }

    /// The new page ended before the old one's lines did.
    fn drop_rest(&mut self, cache: &mut PageCache, place: &Place<'_>) {
        if place.line < cache.lines.len() {
            self.rebuild(cache, place.line);
        }
        self.changes.metadata_changed |= place.at_old < place.old.len();
    }

    /// Nothing of this page was.
    fn undo(&mut self, cache: &mut PageCache) {
        self.restore(cache);
        if !self.changes.appeared.is_empty() {
            // Its new keys are in the table: the next look-up builds another.
            cache.table = None;
        }
        self.changes.clear();
    }

    fn commit(&mut self, cache: &mut PageCache, page: &mut Vec<u8>) {
        cache.slot_count = self.slot_count;
        cache.free.truncate(cache.free.len() - self.free_taken);
        cache.free.append(&mut cache.resting);
        if self.is_rebuilding {
            self.settle(cache, page);
        }
        swap_pages(&mut cache.page, page);
        cache.table_idle = if self.used_table { 0 } else { cache.table_idle.saturating_add(1) };
        if cache.table_idle >= TABLE_IDLE_PAGES {
            cache.table = None;
        }
        self.changes.samples = cache.lines.len() as u32;
        self.changes.repeated = cache.repeated;
    }

    /// Compares the new table with the old one: who vanished, who came twice; then it is the table.
    fn settle(&mut self, cache: &mut PageCache, page: &[u8]) {
        let had_repeated = cache.repeated > 0;
        cache.repeated = self.mark_present();
        self.find_vanished(cache);
        if cache.repeated > 0 || had_repeated {
            self.tell_all(cache.syntax, page);
        }
        let mut table = cache.table.take();
        if let Some(lookup) = table.as_mut() {
            self.forget_vanished(cache, lookup);
        }
        cache.resting.extend(self.changes.vanished.iter().map(|v| v.slot));
        copy_exact(&mut cache.lines, &self.next);
        if let Some(lookup) = table.as_mut() {
            lookup.place_lines(&cache.lines, self.slot_count);
        }
        cache.table = table;
    }

    /// Takes vanished keys out of the table, while the old page still has their text.
    fn forget_vanished(&mut self, cache: &PageCache, lookup: &mut Lookup) {
        if self.changes.vanished.is_empty() {
            return;
        }
        self.find_starts(&cache.lines);
        for v in &self.changes.vanished {
            let at = lookup.line_of[v.slot as usize] as usize;
            let key = key_of(&cache.page, self.starts[at] as usize, cache.lines[at].key);
            lookup.keys.remove(key_hash(key), v.slot);
        }
    }

    /// Sets the flag of repeated lines; returns how many there are.
    fn mark_present(&mut self) -> u32 {
        let words = (self.slot_count as usize).div_ceil(64);
        for bits in [&mut self.present, &mut self.plain] {
            bits.clear();
            bits.resize(words, 0);
        }
        let mut repeated = 0;
        for line in &mut self.next {
            let (word, bit) = (line.slot() as usize / 64, 1u64 << (line.slot() % 64));
            line.slot &= !REPEATED;
            if !line.is_stamped() {
                if self.present[word] & bit != 0 {
                    line.slot |= REPEATED;
                    repeated += 1;
                } else {
                    self.plain[word] |= bit;
                }
            }
            self.present[word] |= bit;
        }
        repeated
    }

    fn find_vanished(&mut self, cache: &PageCache) {
        let plain = cache.lines.iter().filter(|l| l.is_plain()).map(|l| (l.slot(), false));
        let stamped = cache.lines.iter().filter(|l| l.is_stamped()).map(|l| (l.slot(), true));
        for (slot, stamped) in plain.chain(stamped) {
            let (word, bit) = (slot as usize / 64, 1u64 << (slot % 64));
            if self.present[word] & bit == 0 {
                self.present[word] |= bit;
                self.plain[word] |= bit;
                self.changes.vanished.push(Vanished { slot, stamped });
            } else if !stamped && self.plain[word] & bit == 0 {
                self.changes.left_row.push(slot);
            }
        }
    }

    /// Which of several lines of one series counts may have changed without any text changing: tell every value.
    fn tell_all(&mut self, syntax: Syntax, page: &[u8]) {
        self.changes.changed.clear();
        let mut at = 0;
        for line in &self.next {
            let value_at = at + line.skip as usize + line.key as usize;
            at += line.len();
            if line.is_plain() {
                self.changes.changed.push((line.slot(), value_of(syntax, page, value_at).0));
            }
        }
    }
}

impl Lookup {
    fn of(cache: &PageCache, page: &[u8]) -> Self {
        let mut lookup = Lookup { keys: KeyTable::with_capacity(cache.lines.len()), line_of: Vec::new() };
        lookup.place_lines(&cache.lines, cache.slot_count);
        let mut at = 0;
        for (i, line) in cache.lines.iter().enumerate() {
            let start = at + line.skip as usize;
            at += line.len();
            if lookup.line_of[line.slot() as usize] == i as u32 {
                lookup.keys.insert(key_hash(key_of(page, start, line.key)), line.slot());
            }
        }
        lookup
    }

    /// The first line of each slot.
    fn place_lines(&mut self, lines: &[Line], slot_count: u32) {
        self.line_of.clear();
        self.line_of.resize(slot_count as usize, NO_LINE);
        for (i, line) in lines.iter().enumerate().rev() {
            self.line_of[line.slot() as usize] = i as u32;
        }
    }
}

/// Holds `new` and hands the old buffer back, unless that would keep a buffer much larger than the page.
fn swap_pages(held: &mut Vec<u8>, new: &mut Vec<u8>) {
    let slack = new.len() / 8 + 1024;
    if new.capacity() <= new.len() + slack {
        std::mem::swap(held, new);
    } else {
        copy_exact(held, new);
    }
}

/// `from` in `to`, which keeps its buffer if that fits well.
fn copy_exact<T: Copy>(to: &mut Vec<T>, from: &[T]) {
    let slack = from.len() / 8 + 64;
    if to.capacity() < from.len() || to.capacity() > from.len() + slack {
        *to = Vec::with_capacity(from.len());
    }
    to.clear();
    to.extend_from_slice(from);
}
