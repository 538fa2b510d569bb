//! A page too large to be held, read piece by piece: of each series its key's hash, its slot and its last value stay.
//!
//! What is kept grows with the series and not with the text. The line expected is the one that came behind the last
//! one before: where as many bytes have the hash of its key they are that key, and only the value is read. Nothing that a page says counts
//! before [`Streamed::commit`]; keys that a refused page brought stay known, so that the next one finds them.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use crate::Error;
use crate::flat::Family;
use crate::held::note;
use crate::lines::{Lines, Syntax};
use crate::number;
use crate::page::PageCache;
use crate::text::{Event, MetricKind, Sample};

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
    /// By slot: the key and its length, the value's bits, and the slot whose line came behind.
    hashes: Vec<KeyHash>,
    lengths: Vec<u32>,
    values: Vec<u64>,
    next: Vec<u32>,
    first: u32,
    table: HashTable<u32>,
    free: Vec<u32>,
    used: Bits,
    line_count: usize,
    families: Vec<Family>,
    page: Page,
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
}

/// How far a piece was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done with.
    pub used: usize,
    /// What is left needs more bytes; else the reader was told to pause.
    pub is_hungry: bool,
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
        let slots = cache.slot_count() as usize;
        out.hashes.resize(slots, [0; 2]);
        out.lengths.resize(slots, 0);
        out.values.resize(slots, 0);
        out.next.resize(slots, NO_SLOT);
        let mut last = NO_SLOT;
        for line in cache.series().filter(|l| l.slot < cache.slot_count()) {
            // A series with several timestamps has several lines.
            if out.used.add(line.slot) {
                out.hashes[line.slot as usize] = hash_of(line.key);
                out.lengths[line.slot as usize] = line.key.len() as u32;
                out.enter(line.slot);
            }
            out.expect(last, line.slot);
            last = line.slot;
        }
        cache.row().for_each(|(slot, value)| out.values[slot as usize] = value.to_bits());
        out.free = (0..cache.slot_count()).filter(|slot| !out.used.has(*slot)).collect();
        out.line_count = cache.line_count();
        out.families = crate::held::families(cache.metadata());
        out
    }

    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    pub fn slot_count(&self) -> u32 {
        self.hashes.len() as u32
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
        self.hashes.capacity() * size_of::<KeyHash>()
            + (self.values.capacity() + bits) * size_of::<u64>()
            + (self.lengths.capacity() + self.next.capacity() + self.free.capacity()) * size_of::<u32>()
            + self.table.allocation_size()
    }

    /// A page begins: what was read of another one before it was never said.
    pub fn begin(&mut self) {
        let Page { mut seen, mut plain, .. } = std::mem::take(&mut self.page);
        seen.0.clear();
        plain.0.clear();
        self.page = Page { seen, plain, last: NO_SLOT, ..Page::default() };
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
        if self.page.is_over {
            return Ok(Progress { used: bytes.len(), is_hungry: true });
        }
        let whole = if is_last { bytes.len() } else { memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1) };
        let text = &bytes[..whole];
        let mut used = 0;
        while is_last || used < whole {
            if let Some((slot, sample)) = self.expected(text, used) {
                used = sample.end + 1;
                self.page.last = slot;
                if !tell(self.line(slot, false, sample, honors_timestamps))? {
                    return Ok(Progress { used, is_hungry: false });
                }
                continue;
            }
            let mut parser = Lines::resume(self.syntax, text, used, self.page.kind);
            match parser.next_event() {
                Ok(Some(event)) => {
                    used = parser.position().min(whole);
                    if let Event::Sample(sample) = event {
                        let (slot, is_new) = self.slot_of(sample.key);
                        if !tell(self.line(slot, is_new, sample, honors_timestamps))? {
                            return Ok(Progress { used, is_hungry: false });
                        }
                    } else {
                        self.note(&event);
                    }
                }
                Ok(None) if is_last || (self.syntax == Syntax::Text && parser.held_end() < whole) => {
                    // Behind a NUL nothing is read.
                    self.page.is_over = true;
                    return Ok(Progress { used: bytes.len(), is_hungry: true });
                }
                Ok(None) if self.syntax == Syntax::Text => used = whole,
                // The end is the end where nothing follows.
                Ok(None) => break,
                Err(e) if is_last || bytes.len() - used >= CARRY_BYTES_MAX => return Err(e.into()),
                Err(_) => break,
            }
        }
        if !is_last && bytes.len() - used >= CARRY_BYTES_MAX {
            let text = format!("a line has more than {CARRY_BYTES_MAX} bytes");
            return Err(Error::Malformed(text).into());
        }
        Ok(Progress { used, is_hungry: true })
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
        self.next.get(self.page.last as usize).copied().unwrap_or(self.first)
    }

    /// The sample at `at`, where it is the expected one's next plain value: its key was read before.
    #[inline]
    fn expected<'a>(&self, text: &'a [u8], at: usize) -> Option<(u32, Sample<'a>)> {
        let slot = self.guess();
        if !self.used.has(slot) {
            return None;
        }
        let key = text.get(at..at + self.lengths[slot as usize] as usize)?;
        let value_at = at + key.len() + 1;
        if text.get(value_at - 1) != Some(&b' ') || self.hashes[slot as usize] != hash_of(key) {
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
        honors_timestamps: bool,
    ) -> StreamedLine<'a> {
        self.page.samples += 1;
        let is_plain = sample.timestamp.is_none() || !honors_timestamps;
        let is_first = self.page.seen.add(slot);
        let is_repeated = is_plain && !is_first;
        if is_plain && !is_repeated {
            self.page.plain.add(slot);
        }
        let is_same = !is_new && self.values[slot as usize] == sample.value.to_bits();
        StreamedLine { slot, is_new, is_first, is_repeated, is_same, sample }
    }

    #[inline]
    fn slot_of(&mut self, key: &[u8]) -> (u32, bool) {
        let hash = hash_of(key);
        let (last, guess) = (self.page.last, self.guess());
        if self.used.has(guess) && self.hashes[guess as usize] == hash {
            self.page.last = guess;
            return (guess, false);
        }
        let found = self.table.find(hash[0], |slot| self.hashes[*slot as usize] == hash).copied();
        let slot = found.unwrap_or_else(|| self.take_slot(key, hash));
        self.expect(last, slot);
        self.page.last = slot;
        (slot, found.is_none())
    }

    /// Behind `last` comes `slot`; before all others where there is no last.
    fn expect(&mut self, last: u32, slot: u32) {
        match self.next.get_mut(last as usize) {
            Some(next) => *next = slot,
            None => self.first = slot,
        }
    }

    #[cold]
    fn take_slot(&mut self, key: &[u8], hash: KeyHash) -> u32 {
        let slot = self.free.pop().unwrap_or(self.hashes.len() as u32);
        if slot as usize == self.hashes.len() {
            self.hashes.push(hash);
            self.lengths.push(0);
            self.values.push(0);
            self.next.push(NO_SLOT);
        }
        self.hashes[slot as usize] = hash;
        self.lengths[slot as usize] = key.len() as u32;
        self.used.add(slot);
        self.enter(slot);
        slot
    }

    fn enter(&mut self, slot: u32) {
        let hashes = &self.hashes;
        self.table.insert_unique(hashes[slot as usize][0], slot, |s| hashes[*s as usize][0]);
    }

    /// Slots whose key the page read does not have.
    pub fn vanished(&self) -> impl Iterator<Item = u32> + '_ {
        self.used.without(&self.page.seen)
    }

    /// Slots all of whose lines in the page read bring their own timestamps.
    pub fn stamped_only(&self) -> impl Iterator<Item = u32> + '_ {
        self.page.seen.without(&self.page.plain)
    }

    /// The page read counts: these values, and no keys but its own.
    pub fn commit(&mut self, changed: &[(u32, f64)]) {
        for (slot, value) in changed {
            self.values[*slot as usize] = value.to_bits();
        }
        let gone: Vec<u32> = self.vanished().collect();
        for slot in &gone {
            if let Ok(entry) = self.table.find_entry(self.hashes[*slot as usize][0], |s| s == slot) {
                entry.remove();
            }
        }
        self.free.extend(gone);
        std::mem::swap(&mut self.used, &mut self.page.seen);
        self.line_count = self.page.samples as usize;
        self.families = std::mem::take(&mut self.page.families);
    }

    /// The page read does not count. True where refused pages left so many keys that all is to be forgotten.
    pub fn refuse(&mut self) -> bool {
        self.page.families = Vec::new();
        let lines = self.line_count.max(self.page.samples as usize);
        self.table.len() > 2 * lines + STRANGERS_MAX
    }
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
