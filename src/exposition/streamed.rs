//! A page too large to be held, read piece by piece: of each series its key's hash, its slot and its last value stay.
//!
//! What is kept grows with the series and not with the text. The line expected is the one that came behind the last
//! one before: where as many bytes have the hash of its key they are that key, and only the value is read. Nothing
//! that a page says counts before [`Streamed::settle`]; keys that a refused page brought stay known, so that the next
//! one finds them.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use crate::Error;
use crate::flat::Family;
use crate::held::note;
use crate::lines::{Lines, Syntax};
use crate::number;
use crate::page::{PageCache, SeriesLine};
use crate::text::{Event, MetricKind, Sample};

pub mod blocks;
pub mod lots;

use blocks::Blocks;
use lots::{Beside, Lots};

/// Bytes that wait for the end of what they begin. A line rarely has a kilobyte; quoted text may hold newlines, so
/// what looks broken at the end of a piece is believed to be broken when so much more has come.
pub const CARRY_BYTES_MAX: usize = 4 << 20;

/// Slots of keys that only refused pages had, beyond as many as there are lines: then all is forgotten.
const STRANGERS_MAX: usize = 64 << 10;

const NO_SLOT: u32 = u32::MAX;

/// 128 bits stand for a key: among a billion keys two have the same with a probability of 10^-21.
type KeyHash = [u64; 2];

/// What is known of a target whose pages are read piece by piece.
#[derive(Debug, Default)]
pub struct Streamed {
    syntax: Syntax,
    slots: Blocks<Slot>,
    first: u32,
    table: Table,
    free: Vec<u32>,
    used: Bits,
    line_count: usize,
    families: Vec<Family>,
    page: Page,
    /// Where samples come by way of a flat page.
    lots: Option<Box<Lots>>,
}

/// What is known of a series.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of its key, and the key's length.
    hash: KeyHash,
    /// The bits of its last value.
    value: u64,
    length: u32,
    /// The slot whose line came behind.
    next: u32,
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    const EMPTY: Slot = Slot { hash: [0; 2], value: 0, length: 0, next: NO_SLOT };
}

/// The page that is being read.
#[derive(Debug, Default)]
struct Page {
    seen: Bits,
    /// Those with a line that takes part in the row.
    plain: Bits,
    last: u32,
    kind: MetricKind,
    samples: u32,
    families: Vec<Family>,
    is_over: bool,
}

/// One sample line.
#[derive(Clone, Copy, Debug)]
pub struct StreamedLine<'a> {
    pub slot: u32,
    /// The slot was not in use before.
    pub is_new: bool,
    /// No other line of the page had this key yet.
    pub is_first: bool,
    /// Prometheus drops such a sample and counts it.
    pub is_repeated: bool,
    /// The value is the one that the last page had.
    pub is_same: bool,
    pub sample: Sample<'a>,
    pub beside: Beside<'a>,
}

/// How far a piece was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done with.
    pub used: usize,
    /// What is left needs more bytes; else the reader was told to pause.
    pub is_hungry: bool,
}

/// Slots by their keys' hashes, in parts: a table that grows is filled anew, and one of a million slots would hold
/// the shard for 40 ms. Parts are filled at random, so that they grow one by one, a third of a millisecond each.
#[derive(Debug, Default)]
struct Table {
    parts: Vec<HashTable<u32>>,
    len: usize,
}

/// Parts of 4 000 slots for a page of a million lines.
const PARTS: usize = 256;

impl Table {
    fn part(hash: KeyHash) -> usize {
        hash[1] as usize % PARTS
    }

    fn find(&self, hash: KeyHash, slots: &Blocks<Slot>) -> Option<u32> {
        let part = self.parts.get(Self::part(hash))?;
        part.find(hash[0], |slot| slots[*slot as usize].hash == hash).copied()
    }

    fn insert(&mut self, slot: u32, slots: &Blocks<Slot>) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let hash = slots[slot as usize].hash;
        self.parts[Self::part(hash)].insert_unique(hash[0], slot, |s| slots[*s as usize].hash[0]);
        self.len += 1;
    }

    fn remove(&mut self, slot: u32, slots: &Blocks<Slot>) {
        let hash = slots[slot as usize].hash;
        let Some(part) = self.parts.get_mut(Self::part(hash)) else { return };
        if let Ok(entry) = part.find_entry(hash[0], |s| *s == slot) {
            entry.remove();
            self.len -= 1;
        }
    }

    fn bytes(&self) -> usize {
        self.parts.capacity() * size_of::<HashTable<u32>>()
            + self.parts.iter().map(HashTable::allocation_size).sum::<usize>()
    }
}

/// A set of slots.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|w| w & (1 << (slot % 64)) != 0)
    }

    /// Whether it was not there.
    fn add(&mut self, slot: u32) -> bool {
        let word = slot as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (slot % 64);
        let was_there = self.0[word] & bit != 0;
        self.0[word] |= bit;
        !was_there
    }

    /// Those that are not in `other`.
    fn without<'a>(&'a self, other: &'a Bits) -> impl Iterator<Item = u32> + 'a {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut left = word & !other.0.get(i).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(i as u32 * 64 + bit)
            })
        })
    }
}

impl Streamed {
    pub fn of(syntax: Syntax) -> Self {
        Streamed { syntax, first: NO_SLOT, ..Self::default() }
    }

    /// Goes on from a page that was held: each series keeps its slot.
    pub fn from_page(cache: &PageCache) -> Self {
        let mut out = Self::of(cache.syntax());
        out.take_over(cache.slot_count(), cache.series(), cache.row());
        out.line_count = cache.line_count();
        out.families = crate::held::families(cache.metadata());
        out
    }

    fn take_over<'a>(
        &mut self,
        slot_count: u32,
        series: impl Iterator<Item = SeriesLine<'a>>,
        row: impl Iterator<Item = (u32, f64)>,
    ) {
        (0..slot_count).for_each(|_| self.slots.push(Slot::EMPTY));
        let mut last = NO_SLOT;
        for line in series.filter(|l| l.slot < slot_count) {
            // A series with several timestamps has several lines.
            if self.used.add(line.slot) {
                let known = &mut self.slots[line.slot as usize];
                (known.hash, known.length) = (hash_of(line.key), line.key.len() as u32);
                self.table.insert(line.slot, &self.slots);
            }
            self.expect(last, line.slot);
            last = line.slot;
        }
        row.for_each(|(slot, value)| self.slots[slot as usize].value = value.to_bits());
        self.free = (0..slot_count).filter(|slot| !self.used.has(*slot)).collect();
    }

    /// The same without any series.
    pub fn emptied(&self) -> Self {
        match &self.lots {
            Some(lots) => Self::made(lots.making()),
            None => Self::of(self.syntax),
        }
    }

    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Sample lines of the last page.
    pub fn line_count(&self) -> usize {
        self.line_count
    }

    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        let bits = self.used.0.capacity() + self.page.seen.0.capacity() + self.page.plain.0.capacity();
        self.slots.bytes()
            + bits * size_of::<u64>()
            + self.free.capacity() * size_of::<u32>()
            + self.table.bytes()
    }

    /// A page begins: what was read of another one before it was never said.
    pub fn begin(&mut self) {
        let Page { mut seen, mut plain, .. } = std::mem::take(&mut self.page);
        seen.0.clear();
        plain.0.clear();
        self.page = Page { seen, plain, last: NO_SLOT, ..Page::default() };
        if let Some(lots) = &mut self.lots {
            lots.begin();
        }
    }

    /// Sample lines of the page so far.
    pub fn samples(&self) -> u32 {
        self.page.samples
    }

    /// Reads what is whole of `bytes`, which continue the page where the last call stopped; all of it where they are
    /// its last. `tell` says whether to go on. With `honors_timestamps` lines with a timestamp may repeat their key.
    pub fn read<E: From<Error>>(
        &mut self,
        bytes: &[u8],
        is_last: bool,
        honors_timestamps: bool,
        mut tell: impl FnMut(StreamedLine<'_>) -> Result<bool, E>,
    ) -> Result<Progress, E> {
        if let Some(mut lots) = self.lots.take() {
            let read = self.read_lots(&mut lots, bytes, is_last, honors_timestamps, tell);
            self.lots = Some(lots);
            return read;
        }
        if self.page.is_over {
            return Ok(Progress { used: bytes.len(), is_hungry: true });
        }
        let text = whole_lines(bytes, is_last);
        let mut used = 0;
        loop {
            if let Some((slot, sample)) = self.expected(text, used) {
                used = sample.end + 1;
                self.page.last = slot;
                if !tell(self.line(slot, false, sample, Beside::default(), honors_timestamps))? {
                    return Ok(Progress { used, is_hungry: false });
                }
                continue;
            }
            match step(self.syntax, self.page.kind, bytes, used, is_last)? {
                Step::Event(Event::Sample(sample), next) => {
                    used = next;
                    let (slot, is_new) = self.slot_of(sample.key);
                    if !tell(self.line(slot, is_new, sample, Beside::default(), honors_timestamps))? {
                        return Ok(Progress { used, is_hungry: false });
                    }
                }
                Step::Event(event, next) => {
                    used = next;
                    self.note(&event);
                }
                Step::Skip(next) => used = next,
                Step::NeedsMore => return Ok(Progress { used, is_hungry: true }),
                Step::Over => {
                    self.page.is_over = true;
                    return Ok(Progress { used: bytes.len(), is_hungry: true });
                }
            }
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        if let Event::Type { kind, .. } = event {
            self.page.kind = *kind;
        }
        note(&mut self.page.families, event);
    }

    /// The slot whose line is likely to come next.
    #[inline]
    fn guess(&self) -> u32 {
        self.slots.get(self.page.last as usize).map_or(self.first, |s| s.next)
    }

    /// The sample at `at`, where it is the expected one's next plain value: its key was read before.
    #[inline]
    fn expected<'a>(&self, text: &'a [u8], at: usize) -> Option<(u32, Sample<'a>)> {
        let slot = self.guess();
        if !self.used.has(slot) {
            return None;
        }
        let known = &self.slots[slot as usize];
        let key = text.get(at..at + known.length as usize)?;
        let value_at = at + key.len() + 1;
        if text.get(value_at - 1) != Some(&b' ') || known.hash != hash_of(key) {
            return None;
        }
        let (value, end) = number::leading(text, value_at)?;
        if text.get(end) != Some(&b'\n') {
            return None;
        }
        let (kind, timestamp, exemplar) = (self.page.kind, None, None);
        Some((slot, Sample { key, value, timestamp, kind, start: at, value_at, end, exemplar }))
    }

    #[inline]
    fn line<'a>(
        &mut self,
        slot: u32,
        is_new: bool,
        sample: Sample<'a>,
        beside: Beside<'a>,
        honors_timestamps: bool,
    ) -> StreamedLine<'a> {
        self.page.samples += 1;
        let is_plain = sample.timestamp.is_none() || !honors_timestamps;
        let is_first = self.page.seen.add(slot);
        let is_repeated = is_plain && !is_first;
        let is_float = beside.histogram.is_none();
        if is_plain && !is_repeated && is_float {
            self.page.plain.add(slot);
        }
        let is_same = is_float && !is_new && self.slots[slot as usize].value == sample.value.to_bits();
        StreamedLine { slot, is_new, is_first, is_repeated, is_same, sample, beside }
    }

    #[inline]
    fn slot_of(&mut self, key: &[u8]) -> (u32, bool) {
        let hash = hash_of(key);
        let (last, guess) = (self.page.last, self.guess());
        if self.used.has(guess) && self.slots[guess as usize].hash == hash {
            self.page.last = guess;
            return (guess, false);
        }
        let found = self.table.find(hash, &self.slots);
        let slot = found.unwrap_or_else(|| self.take_slot(key, hash));
        self.expect(last, slot);
        self.page.last = slot;
        (slot, found.is_none())
    }

    /// Behind `last` comes `slot`; before all others where there is no last.
    fn expect(&mut self, last: u32, slot: u32) {
        match self.slots.get_mut(last as usize) {
            Some(last) => last.next = slot,
            None => self.first = slot,
        }
    }

    #[cold]
    fn take_slot(&mut self, key: &[u8], hash: KeyHash) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(Slot::EMPTY);
        }
        let known = &mut self.slots[slot as usize];
        (known.hash, known.length) = (hash, key.len() as u32);
        self.used.add(slot);
        self.table.insert(slot, &self.slots);
        slot
    }

    /// Slots whose key the page read does not have.
    pub fn vanished(&self) -> impl Iterator<Item = u32> + '_ {
        self.used.without(&self.page.seen)
    }

    /// Slots all of whose lines in the page read bring their own timestamps.
    pub fn stamped_only(&self) -> impl Iterator<Item = u32> + '_ {
        self.page.seen.without(&self.page.plain)
    }

    /// The page read counts, and a slot of [`Streamed::vanished`] is free again.
    pub fn forget(&mut self, slot: u32) {
        self.table.remove(slot, &self.slots);
        self.free.push(slot);
    }

    /// The page read counts, and this is the slot's value.
    #[inline]
    pub fn keep(&mut self, slot: u32, value: f64) {
        self.slots[slot as usize].value = value.to_bits();
    }

    /// The page read counts: all that vanished is forgotten, all that changed is kept, and its keys are those there are.
    pub fn settle(&mut self) {
        std::mem::swap(&mut self.used, &mut self.page.seen);
        self.line_count = self.page.samples as usize;
        self.families = match &mut self.lots {
            Some(lots) => lots.take_families(),
            None => std::mem::take(&mut self.page.families),
        };
    }

    #[cfg(test)]
    fn commit(&mut self, changed: &[(u32, f64)]) {
        changed.iter().for_each(|(slot, value)| self.keep(*slot, *value));
        let gone: Vec<u32> = self.vanished().collect();
        gone.into_iter().for_each(|slot| self.forget(slot));
        self.settle();
    }

    /// The page read does not count. True where refused pages left so many keys that all is to be forgotten.
    pub fn refuse(&mut self) -> bool {
        self.page.families = Vec::new();
        if let Some(lots) = &mut self.lots {
            lots.begin();
        }
        let lines = self.line_count.max(self.page.samples as usize);
        self.table.len > 2 * lines + STRANGERS_MAX
    }
}

/// What stands at a place of a page of lines.
enum Step<'a> {
    /// An event, and where the next one begins.
    Event(Event<'a>, usize),
    /// Nothing up to there.
    Skip(usize),
    /// The rest of the page is needed.
    NeedsMore,
    /// The page ends.
    Over,
}

/// The lines of `bytes` that are all there.
fn whole_lines(bytes: &[u8], is_last: bool) -> &[u8] {
    let whole = if is_last { bytes.len() } else { memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1) };
    &bytes[..whole]
}

/// Looks at what stands at `used` of a page of lines, of which `bytes` came last.
fn step(
    syntax: Syntax,
    kind: MetricKind,
    bytes: &[u8],
    used: usize,
    is_last: bool,
) -> Result<Step<'_>, Error> {
    let text = whole_lines(bytes, is_last);
    let whole = text.len();
    let waits = bytes.len() - used;
    if !is_last && used >= whole {
        return match waits >= CARRY_BYTES_MAX {
            true => Err(too_long()),
            false => Ok(Step::NeedsMore),
        };
    }
    let mut parser = Lines::resume(syntax, text, used, kind);
    match parser.next_event() {
        Ok(Some(event)) => Ok(Step::Event(event, parser.position().min(whole))),
        // Behind a NUL nothing is read.
        Ok(None) if is_last || (syntax == Syntax::Text && parser.held_end() < whole) => Ok(Step::Over),
        Ok(None) if syntax == Syntax::Text => Ok(Step::Skip(whole)),
        // The end is the end where nothing follows.
        Ok(None) if waits >= CARRY_BYTES_MAX => Err(too_long()),
        Ok(None) => Ok(Step::NeedsMore),
        Err(e) if is_last || waits >= CARRY_BYTES_MAX => Err(e),
        Err(_) => Ok(Step::NeedsMore),
    }
}

fn too_long() -> Error {
    Error::Malformed(format!("a line has more than {CARRY_BYTES_MAX} bytes"))
}

fn hash_of(key: &[u8]) -> KeyHash {
    let hash = xxh3_128(key);
    [hash as u64, (hash >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a page in pieces as long as `sizes` say, then the rest; tells what was found.
    fn read(cache: &mut Streamed, page: &[u8], sizes: &[usize]) -> Result<Vec<String>, Error> {
        let mut out = Vec::new();
        let mut sizes = sizes.iter().copied();
        let (mut buffer, mut at) = (Vec::new(), 0);
        let mut changed = Vec::new();
        cache.begin();
        loop {
            let n = sizes.next().unwrap_or(page.len()).min(page.len() - at);
            buffer.extend_from_slice(&page[at..at + n]);
            at += n;
            let is_last = at == page.len() && (n == 0 || sizes.len() == 0);
            let progress = cache.read(&buffer, is_last, true, |l| {
                let (s, r) = (l.sample, if l.is_repeated { " again" } else { "" });
                out.push(format!(
                    "{}={} {:?} {:?}{r}",
                    String::from_utf8_lossy(s.key),
                    s.value,
                    s.timestamp,
                    s.kind
                ));
                changed.push((l.slot, s.value));
                Ok::<bool, Error>(out.len() % 3 != 0)
            });
            let progress = progress.inspect_err(|_| assert!(!cache.refuse()))?;
            buffer.drain(..progress.used);
            if is_last && progress.is_hungry {
                cache.commit(&changed);
                return Ok(out);
            }
        }
    }

    fn whole(syntax: Syntax, page: &[u8]) -> Result<Vec<String>, Error> {
        let mut held = PageCache::of(syntax);
        crate::PageReader::new().read(&mut held, &mut page.to_vec())?;
        let mut seen = std::collections::HashSet::new();
        let mut out = Vec::new();
        let mut parser = Lines::new(syntax, page);
        while let Some(event) = parser.next_event()? {
            let Event::Sample(s) = event else { continue };
            let r = if !seen.insert(s.key) && s.timestamp.is_none() { " again" } else { "" };
            out.push(format!(
                "{}={} {:?} {:?}{r}",
                String::from_utf8_lossy(s.key),
                s.value,
                s.timestamp,
                s.kind
            ));
        }
        Ok(out)
    }

    #[test]
    fn series_keep_their_slots_when_they_move() {
        let mut cache = Streamed::of(Syntax::Text);
        let mut slots = |page: &str| {
            let mut out = Vec::new();
            cache.begin();
            let tell = |l: StreamedLine<'_>| {
                out.push((l.slot, l.is_new, l.is_same));
                Ok::<bool, Error>(true)
            };
            cache.read(page.as_bytes(), true, true, tell).unwrap();
            let gone: Vec<u32> = cache.vanished().collect();
            cache.commit(&[]);
            (out, gone)
        };
        assert_eq!(slots("a 1\nb 2\n"), (vec![(0, true, false), (1, true, false)], vec![]));
        assert_eq!(slots("b 2\na 0"), (vec![(1, false, false), (0, false, true)], vec![]));
        assert_eq!(slots("c 1\nb 2\n"), (vec![(2, true, false), (1, false, false)], vec![0]));
        assert_eq!(slots("d 1\nb 2\n"), (vec![(0, true, false), (1, false, false)], vec![2]));
    }

    #[test]
    fn a_held_page_is_gone_on_from() {
        let mut held = PageCache::new();
        let mut page = b"# TYPE a counter\na 1\nb 2 5\nb 2 6\nc 3\n".to_vec();
        crate::PageReader::new().read(&mut held, &mut page).unwrap();
        let mut cache = Streamed::from_page(&held);
        let mut out = Vec::new();
        cache.begin();
        let tell = |l: StreamedLine<'_>| {
            out.push((l.slot, l.is_new, l.is_same));
            Ok::<bool, Error>(true)
        };
        assert_eq!((cache.slot_count(), cache.families().len()), (3, 1));
        cache.read(b"a 1\nc 4\n", true, true, tell).unwrap();
        assert_eq!(out, [(0, false, true), (2, false, false)]);
        assert_eq!(cache.vanished().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn pages_without_an_end_are_refused() {
        let check = |page: &str, want: &str| {
            for size in 1..page.len().max(2) {
                let sizes = vec![size; page.len() / size + 1];
                let got = read(&mut Streamed::of(Syntax::OpenMetrics), page.as_bytes(), &sizes);
                let got = got.map_or_else(|e| e.to_string(), |lines| lines.join(", "));
                assert_eq!(got, want, "{page:?} by {size}");
            }
        };
        check("a 1\nb 2\n", "data does not end with # EOF");
        check("a 1\n# EOF\nb 2\n", "unexpected data after # EOF");
        check("a 1\n# EOF\n", "a=1 None Unknown");
        check("# TYPE a gauge\n{\"a\n\"} 1\n# EOF", "{\"a\n\"}=1 None Gauge");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// However a page is cut, it says what it says whole, and is refused with the same words.
        #[test]
        fn pieces_say_what_the_whole_says(
            page in "((a|b|c_total)(\\{(x=\"[a\n\\\\]?\"|,|\"u\"){0,2}\\})?( 1| NaN| 2.5| #| 7 8){0,2}[\n\u{0}]?|# (HELP|TYPE|x) a (gauge|counter)\n|\n){0,9}",
            sizes in proptest::collection::vec(1usize..12, 0..30),
        ) {
            let ended = format!("{page}# EOF\n");
            for (syntax, page) in [(Syntax::Text, page.as_bytes()), (Syntax::OpenMetrics, ended.as_bytes())] {
                let mut cache = Streamed::of(syntax);
                prop_assert_eq!(read(&mut cache, page, &sizes), whole(syntax, page));
                // Now its keys are expected.
                prop_assert_eq!(read(&mut cache, page, &[]), whole(syntax, page));
                prop_assert_eq!(read(&mut cache, page, &sizes), whole(syntax, page));
            }
        }
    }
}
