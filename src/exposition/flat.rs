//! A page as a list of samples: what protobuf comes to, and lines of which every one must be looked at.
//!
//! A [`FlatPage`] is filled whole before anything of it is believed. The [`FlatCache`] then tells what differs from
//! the last one, as the page cache does for lines: a target sends its series in much the same order each time, so
//! the entry after the last one hit is tried first, and a table only where that fails.

use std::ops::Range;

use hashbrown::HashTable;
use model::labels::METRIC_NAME;
use xxhash_rust::xxh3::xxh3_64;

use crate::key::SampleLabels;
use crate::page::{Appeared, Changes, FoundExemplar, SeriesLine, Stamped, Vanished};
use crate::remote_histogram::Counts;
use crate::text::MetricKind;

/// Between the parts of a key that is no text of a page: no UTF-8 has this byte.
const SEPARATOR: u8 = 0xff;

/// Old samples that are compared with an unexpected key before the table is asked.
const LOOK_AHEAD: usize = 16;

/// What a sample is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FlatValue {
    Float(f64),
    /// Its place in [`FlatPage::histograms`].
    Histogram(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FlatSample {
    /// In [`FlatPage::bytes`].
    pub key: Range<u32>,
    pub kind: MetricKind,
    /// In [`FlatPage::families`]; [`NO_FAMILY`] where no metadata came before it.
    pub family: u32,
    /// Counts the stretches of samples between which something else stood.
    pub section: u32,
    pub value: FlatValue,
    pub timestamp: Option<i64>,
    /// When its counter began; 0 where not known.
    pub start: i64,
}

pub const NO_FAMILY: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq)]
pub struct FlatExemplar {
    /// In [`FlatPage::samples`].
    pub sample: u32,
    /// In [`FlatPage::bytes`].
    pub labels: Range<u32>,
    pub value: f64,
    pub timestamp: Option<i64>,
}

/// What a page says of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub name: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

/// A page, taken apart.
#[derive(Clone, Debug, Default)]
pub struct FlatPage {
    pub bytes: Vec<u8>,
    pub samples: Vec<FlatSample>,
    pub histograms: Vec<Counts>,
    /// In the order of their samples.
    pub exemplars: Vec<FlatExemplar>,
    pub families: Vec<Family>,
}

impl FlatPage {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.families.clear();
    }

    pub fn text(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    pub fn push_bytes(&mut self, bytes: &[u8]) -> Range<u32> {
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        from..self.bytes.len() as u32
    }

    pub fn family(&self, index: u32) -> Option<&Family> {
        self.families.get(index as usize)
    }

    /// Keeps some of the samples, and their exemplars.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        let mut place = Vec::with_capacity(keep.len());
        let mut kept = 0u32;
        for k in keep {
            place.push(k.then_some(kept));
            kept += u32::from(*k);
        }
        let mut at = 0;
        self.samples.retain(|_| {
            at += 1;
            keep[at - 1]
        });
        self.exemplars.retain_mut(|x| match place[x.sample as usize] {
            Some(sample) => {
                x.sample = sample;
                true
            }
            None => false,
        });
    }

    fn heap_bytes(&self) -> usize {
        let texts = self.families.iter().map(|f| f.name.len() + f.help.len() + f.unit.len() + 96);
        self.bytes.capacity()
            + self.samples.capacity() * size_of::<FlatSample>()
            + self.exemplars.capacity() * size_of::<FlatExemplar>()
            + texts.sum::<usize>()
    }

    /// Gives back what the page left unused.
    fn tighten(&mut self) {
        if self.bytes.capacity() > self.bytes.len() + self.bytes.len() / 8 + 1024 {
            self.bytes.shrink_to_fit();
            self.samples.shrink_to_fit();
        }
    }
}

/// Begins a key with a metric's name, which is UTF-8.
pub(crate) fn push_key_name(out: &mut Vec<u8>, name: &[u8], suffix: &str) {
    out.push(SEPARATOR);
    out.extend_from_slice(name);
    out.extend_from_slice(suffix.as_bytes());
}

/// Adds a label to a key; both are UTF-8.
pub(crate) fn push_key_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(SEPARATOR);
    out.extend_from_slice(name);
    out.push(SEPARATOR);
    out.extend_from_slice(value);
}

/// The parts of a key made here; `None` where it is the text of a page.
pub(crate) fn parts(key: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    key.strip_prefix(&[SEPARATOR]).map(|rest| rest.split(|b| *b == SEPARATOR))
}

/// The labels of such a key, or the pairs of an exemplar.
pub(crate) fn labels_of<'a>(
    mut parts: impl Iterator<Item = &'a [u8]>,
    is_series: bool,
) -> Option<SampleLabels<'a>> {
    let text = |b: &'a [u8]| std::str::from_utf8(b).ok();
    let mut out = SampleLabels::with_capacity(8);
    if is_series {
        out.push((METRIC_NAME.into(), text(parts.next()?)?.into()));
    }
    while let Some(name) = parts.next() {
        out.push((text(name)?.into(), text(parts.next()?)?.into()));
    }
    Some(out)
}

/// A native histogram of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundHistogram {
    pub slot: u32,
    /// Its place in the page's histograms.
    pub index: u32,
    pub timestamp: Option<i64>,
    pub start: i64,
}

/// What the last page said of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Told {
    #[default]
    Nothing,
    /// The bits of a value in the row.
    Plain(u64),
    Histogram,
    Stamped,
}

/// A target's last page and the slots of its samples.
#[derive(Debug, Default)]
pub struct FlatCache {
    page: FlatPage,
    /// Of each sample of the page.
    slots: Vec<u32>,
    /// Of each slot.
    told: Vec<Told>,
    free: Vec<u32>,
    resting: Vec<u32>,
    repeated: Vec<bool>,
}

/// Which key has which slot, made where the order of a page is not its predecessor's.
#[derive(Default)]
struct Lookup {
    table: HashTable<(u64, At)>,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Old(u32),
    New(u32),
}

/// The scratch with which flat pages are followed: one for all targets of a core.
#[derive(Debug, Default)]
pub struct FlatReader {
    changes: Changes,
    slots: Vec<u32>,
    next_told: Vec<Told>,
    repeated: Vec<bool>,
}

impl FlatReader {
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Takes `page` as the successor of the one that `cache` holds, and leaves the old one's buffers in it.
    pub fn read(&mut self, cache: &mut FlatCache, page: &mut FlatPage) -> &Changes {
        self.changes.clear();
        self.changes.metadata_changed = cache.page.families != page.families;
        self.find_slots(cache, page);
        self.tell(cache, page);
        self.find_vanished(cache);
        std::mem::swap(&mut cache.page, page);
        cache.page.tighten();
        cache.slots.clone_from(&self.slots);
        cache.repeated.clone_from(&self.repeated);
        std::mem::swap(&mut cache.told, &mut self.next_told);
        &self.changes
    }

    fn find_slots(&mut self, cache: &mut FlatCache, page: &FlatPage) {
        self.slots.clear();
        let mut free = std::mem::take(&mut cache.free);
        let (mut expected, mut lookup) = (0, None);
        for (i, sample) in page.samples.iter().enumerate() {
            let key = page.text(&sample.key);
            let ahead = expected..(expected + LOOK_AHEAD).min(cache.page.samples.len());
            let found = ahead.into_iter().find(|j| cache.key_at(*j) == key);
            let slot = match found {
                Some(j) => {
                    expected = j + 1;
                    cache.slots[j]
                }
                None => {
                    let lookup = lookup.get_or_insert_with(|| Lookup::of(cache));
                    match lookup.find_or_add(cache, page, key, i as u32) {
                        Some(At::Old(j)) => {
                            expected = j as usize + 1;
                            cache.slots[j as usize]
                        }
                        Some(At::New(j)) => self.slots[j as usize],
                        None => self.appear(cache, &mut free, sample),
                    }
                }
            };
            self.slots.push(slot);
        }
        cache.free = free;
    }

    fn appear(&mut self, cache: &mut FlatCache, free: &mut Vec<u32>, sample: &FlatSample) -> u32 {
        let slot = free.pop().unwrap_or_else(|| {
            cache.told.push(Told::Nothing);
            cache.told.len() as u32 - 1
        });
        let (key, kind, family) = (sample.key.clone(), sample.kind, sample.family);
        self.changes.appeared.push(Appeared { slot, key, kind, family });
        slot
    }

    fn tell(&mut self, cache: &FlatCache, page: &FlatPage) {
        self.next_told.clear();
        self.next_told.resize(cache.told.len(), Told::Nothing);
        self.repeated.clear();
        for (sample, slot) in page.samples.iter().zip(&self.slots) {
            let told = &mut self.next_told[*slot as usize];
            let is_repeated = *told != Told::Nothing && sample.timestamp.is_none();
            self.repeated.push(is_repeated);
            if is_repeated {
                continue;
            }
            match (sample.value, sample.timestamp) {
                (FlatValue::Histogram(index), timestamp) => {
                    *told = if timestamp.is_some() { Told::Stamped } else { Told::Histogram };
                    let found = FoundHistogram { slot: *slot, index, timestamp, start: sample.start };
                    self.changes.histograms.push(found);
                }
                (FlatValue::Float(value), Some(timestamp)) => {
                    *told = Told::Stamped;
                    self.changes.stamped.push(Stamped { slot: *slot, value, timestamp });
                }
                (FlatValue::Float(value), None) => {
                    *told = Told::Plain(value.to_bits());
                    if cache.told[*slot as usize] != *told {
                        self.changes.changed.push((*slot, value));
                    }
                }
            }
            if sample.start != 0 {
                self.changes.starts.push((*slot, sample.start, sample.timestamp));
            }
        }
        self.changes.samples = page.samples.len() as u32;
        self.changes.repeated = self.repeated.iter().filter(|r| **r).count() as u32;
        for x in &page.exemplars {
            if self.repeated[x.sample as usize] {
                continue;
            }
            self.changes.exemplars.push(FoundExemplar {
                slot: self.slots[x.sample as usize],
                labels: x.labels.clone(),
                value: x.value,
                timestamp: x.timestamp,
                sample_timestamp: page.samples[x.sample as usize].timestamp,
            });
        }
    }

    fn find_vanished(&mut self, cache: &mut FlatCache) {
        cache.free.append(&mut cache.resting);
        for (slot, (old, new)) in cache.told.iter().zip(&self.next_told).enumerate() {
            let slot = slot as u32;
            match (old, new) {
                (Told::Nothing, _) => {}
                (_, Told::Nothing) => {
                    cache.resting.push(slot);
                    self.changes.vanished.push(Vanished { slot, stamped: *old == Told::Stamped });
                }
                (Told::Plain(_), Told::Histogram | Told::Stamped) => self.changes.left_row.push(slot),
                _ => {}
            }
        }
    }
}

impl Lookup {
    fn of(cache: &FlatCache) -> Self {
        let mut table = HashTable::with_capacity(cache.page.samples.len());
        for j in (0..cache.page.samples.len()).rev() {
            let hash = xxh3_64(cache.key_at(j));
            table.insert_unique(hash, (hash, At::Old(j as u32)), |e| e.0);
        }
        Lookup { table }
    }

    /// Where the key is known from; else it is known from now on as that of sample `i`.
    fn find_or_add(&mut self, cache: &FlatCache, page: &FlatPage, key: &[u8], i: u32) -> Option<At> {
        let hash = xxh3_64(key);
        let has_key = |at: At| match at {
            At::Old(j) => cache.key_at(j as usize) == key,
            At::New(j) => page.text(&page.samples[j as usize].key) == key,
        };
        let found = self.table.find(hash, |e| e.0 == hash && has_key(e.1)).map(|e| e.1);
        if found.is_none() {
            self.table.insert_unique(hash, (hash, At::New(i)), |e| e.0);
        }
        found
    }
}

impl FlatCache {
    fn key_at(&self, at: usize) -> &[u8] {
        self.page.text(&self.page.samples[at].key)
    }

    pub fn page(&self) -> &FlatPage {
        &self.page
    }

    /// One more than the highest slot ever given.
    pub fn slot_count(&self) -> u32 {
        self.told.len() as u32
    }

    /// Histograms are told with every page: once that is done they need not be held.
    pub fn forget_histograms(&mut self) {
        self.page.histograms = Vec::new();
    }

    fn firsts(&self) -> impl Iterator<Item = (&FlatSample, u32)> {
        let all = self.page.samples.iter().zip(&self.slots).zip(&self.repeated);
        all.filter(|(_, repeated)| !**repeated).map(|((sample, slot), _)| (sample, *slot))
    }

    /// Every series in the row with its value.
    pub fn row(&self) -> impl Iterator<Item = (u32, f64)> {
        self.firsts().filter_map(|(s, slot)| match (s.value, s.timestamp) {
            (FlatValue::Float(v), None) => Some((slot, v)),
            _ => None,
        })
    }

    /// Every sample but repeated ones, with what is needed to read its labels.
    pub fn series(&self) -> impl Iterator<Item = SeriesLine<'_>> {
        self.firsts().map(|(s, slot)| SeriesLine {
            slot,
            key: self.page.text(&s.key),
            kind: s.kind,
            is_stamped: s.timestamp.is_some(),
            family: s.family,
        })
    }

    /// Every float with an explicit timestamp.
    pub fn stamped(&self) -> impl Iterator<Item = Stamped> {
        self.firsts().filter_map(|(s, slot)| match (s.value, s.timestamp) {
            (FlatValue::Float(value), Some(timestamp)) => Some(Stamped { slot, value, timestamp }),
            _ => None,
        })
    }

    pub fn bytes(&self) -> usize {
        let slots = self.slots.capacity() + self.free.capacity() + self.resting.capacity();
        self.page.heap_bytes()
            + slots * size_of::<u32>()
            + self.told.capacity() * size_of::<Told>()
            + self.repeated.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(samples: &[(&str, FlatValue, Option<i64>)]) -> FlatPage {
        let mut p = FlatPage::default();
        for (key, value, timestamp) in samples {
            let key = p.push_bytes(key.as_bytes());
            let (kind, family, section) = (MetricKind::Unknown, NO_FAMILY, 0);
            let sample =
                FlatSample { key, kind, family, section, value: *value, timestamp: *timestamp, start: 0 };
            p.samples.push(sample);
        }
        p
    }

    fn told(changes: &Changes) -> String {
        let mut out = Vec::new();
        out.extend(changes.appeared.iter().map(|a| format!("+{}", a.slot)));
        out.extend(changes.changed.iter().map(|(s, v)| format!("{s}={v}")));
        out.extend(changes.histograms.iter().map(|h| format!("{}=h{}", h.slot, h.index)));
        out.extend(changes.stamped.iter().map(|s| format!("{}={}@{}", s.slot, s.value, s.timestamp)));
        out.extend(changes.vanished.iter().map(|v| format!("-{}", v.slot)));
        out.extend(changes.left_row.iter().map(|s| format!("<{s}")));
        if changes.repeated > 0 {
            out.push(format!("{} repeated", changes.repeated));
        }
        out.join(" ")
    }

    #[test]
    fn samples_keep_their_slots_and_changes_are_told() {
        use FlatValue::{Float as F, Histogram as H};
        let (mut cache, mut reader) = (FlatCache::default(), FlatReader::default());
        let mut check = |samples: &[(&str, FlatValue, Option<i64>)], want: &str| {
            assert_eq!(told(reader.read(&mut cache, &mut page(samples))), want);
            let row: Vec<(u32, f64)> = cache.row().collect();
            let plain = samples.iter().filter(|s| matches!(s.1, F(_)) && s.2.is_none()).count();
            assert!(row.len() <= plain);
        };
        check(&[("a", F(1.0), None), ("b", F(2.0), None), ("c", H(0), None)], "+0 +1 +2 0=1 1=2 2=h0");
        check(&[("a", F(1.0), None), ("b", F(3.0), None), ("c", H(0), None)], "1=3 2=h0");
        check(&[("c", H(0), None), ("b", F(3.0), None)], "2=h0 -0");
        check(&[("b", F(3.0), None), ("d", F(1.0), None), ("c", F(1.0), None)], "+3 3=1 2=1");
        check(
            &[("b", F(3.0), Some(7)), ("e", F(1.0), None), ("c", H(0), None)],
            "+0 0=1 2=h0 1=3@7 -3 <1 <2",
        );
        check(
            &[("e", F(1.0), None), ("e", F(2.0), None), ("x", F(1.0), None), ("x", F(1.0), None)],
            "+4 4=1 -1 -2 2 repeated",
        );
        check(&[], "-0 -4");
    }
}
