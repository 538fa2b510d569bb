//! Samples that senders push: which slot each series has, and the batches they become.
//!
//! One stream a shard takes what all senders push to it, for a series may come by any of their connections. Its
//! groups follow the senders: series that first came with one time in one request (a scrape, or a piece of one) share
//! a group, so that they share rows ever after. Nothing here waits; the log and the disk are the caller's.

use exposition::remote_histogram;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::float_text::format_g;
use model::histogram::FloatHistogram;
use model::{Labels, SeriesId, Timestamp};

use crate::shard::Shard;
use crate::shard::commons::{Bounds, Standing};
use crate::shard::exemplars::{Exemplar, Verdict};
use crate::shard::head::group::GROUP_SLOTS_MAX;
use crate::shard::head::partial::{Newest, storable};
use crate::shard::head::side::Refusal;
use crate::shard::record::{self, SourceId};

/// A float on its way to its shard. `slot` is the stream's, or [`FRESH`] and the place of its series among the new
/// ones; `ordinal` counts the request's samples, so that refusals can be told in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    pub slot: u32,
    pub ordinal: u32,
    pub time: Timestamp,
    pub value: f64,
}

/// A histogram on its way; its message lies in a buffer beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenHistogram {
    pub slot: u32,
    pub ordinal: u32,
    pub time: Timestamp,
    pub message: std::ops::Range<u32>,
}

/// An exemplar on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenExemplar {
    pub slot: u32,
    pub ordinal: u32,
    pub exemplar: Exemplar,
}

/// Marks a slot that is not known yet. Slots stay below: see [`Stream::slot_of`].
pub const FRESH: u32 = 1 << 31;

/// The slot of a series that has none.
pub const NOWHERE: u32 = u32::MAX;

/// A batch is closed at this size: a few thousand samples are one turn of the shard, about 100 us.
const BATCH_BYTES: usize = 64 << 10;

/// Groups made for one time each; later ones are filled whatever their times, so that slots cannot run out by many
/// small groups (2^19 groups of 4096 slots lie below [`FRESH`]).
const TIDY_GROUPS_MAX: u32 = 1 << 18;

/// What is told of a sample that is not plainly in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judged {
    Refused(Fault),
    /// Taken out of order.
    Late {
        time: Timestamp,
    },
}

/// Why a sample is refused, and what it met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    pub ordinal: u32,
    pub refusal: Refusal,
    pub time: Timestamp,
    pub value: f64,
    pub newest: Option<Newest>,
}

impl std::fmt::Display for Fault {
    /// Prometheus's text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.refusal)?;
        let (Refusal::Duplicate, Some(newest)) = (self.refusal, self.newest) else { return Ok(()) };
        let new = format_g(self.value);
        write!(f, " {}; overrides not allowed: ", self.time)?;
        match newest.value {
            Some(v) => write!(f, "existing {}, new value {new}", format_g(v)),
            None => write!(f, "existing is a histogram, new value {new}"),
        }
    }
}

pub struct Stream {
    source: SourceId,
    /// Slot of each series, by its id.
    slots: Vec<u32>,
    next_slot: u32,
    group_count: u32,
    /// Time of the run that the open group belongs to; `None` where the next series begins a group.
    run: Option<Timestamp>,
}

/// Batches of one request: definitions first, each batch by itself a whole record.
#[derive(Default)]
pub struct Batches {
    pub bytes: Vec<u8>,
    ends: Vec<usize>,
    named: Vec<(u32, f64)>,
    /// From when on its samples may be out of order.
    pub late: Option<Timestamp>,
}

impl Batches {
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(from, to)| &self.bytes[from..*to])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Begins a batch where none is open or the open one is long enough.
    fn open(&mut self, source: SourceId) {
        let from = self.ends.last().copied().unwrap_or(0);
        if self.bytes.len() - from >= BATCH_BYTES {
            self.close();
        }
        if self.bytes.len() == self.ends.last().copied().unwrap_or(0) {
            record::begin(&mut self.bytes, source);
            if let Some(oldest) = self.late {
                record::push_late(&mut self.bytes, oldest);
            }
        }
    }

    fn close(&mut self) {
        if self.bytes.len() > self.ends.last().copied().unwrap_or(0) {
            self.ends.push(self.bytes.len());
        }
    }
}

/// Slots given to series of one request, until the log has taken their definitions.
#[derive(Default)]
pub struct Fresh {
    /// By place among the request's new series.
    pub slots: Vec<u32>,
    /// Those among them that are new to the shard's stream.
    made: Vec<u32>,
    by_labels: HashMap<Labels, u32>,
}

impl Stream {
    /// A stream under a source id that was never used before.
    pub fn new(source: SourceId) -> Self {
        Stream { source, slots: Vec::new(), next_slot: 0, group_count: 0, run: None }
    }

    pub fn source(&self) -> SourceId {
        self.source
    }

    fn known_slot(&self, id: SeriesId) -> Option<u32> {
        self.slots.get(id.0 as usize).copied().filter(|s| *s != NOWHERE)
    }

    /// Finds or makes the slots of a request's new series, `(labels, time of the first sample)` each, none for those
    /// of which nothing is taken; what is made is defined in `batches`. `None`: no slot is left, take nothing.
    pub fn resolve<'a>(
        &mut self,
        shard: &Shard,
        series: impl Iterator<Item = Option<&'a (Labels, Timestamp)>>,
        batches: &mut Batches,
    ) -> Option<Fresh> {
        let mut fresh = Fresh::default();
        batches.clear();
        self.run = None;
        for one in series {
            let Some((labels, time)) = one else {
                fresh.slots.push(NOWHERE);
                continue;
            };
            let known = shard.index().find(labels).and_then(|id| self.known_slot(id));
            let slot = match known {
                Some(slot) => slot,
                None => self.define(labels, *time, &mut fresh, batches)?,
            };
            fresh.slots.push(slot);
        }
        batches.close();
        Some(fresh)
    }

    fn define(
        &mut self,
        labels: &Labels,
        time: Timestamp,
        fresh: &mut Fresh,
        batches: &mut Batches,
    ) -> Option<u32> {
        let entry = match fresh.by_labels.entry(labels.clone()) {
            Entry::Occupied(slot) => return Some(*slot.get()),
            Entry::Vacant(entry) => entry,
        };
        let slot = *entry.insert(self.slot_of(time)?);
        fresh.made.push(slot);
        batches.open(self.source);
        record::push_define(&mut batches.bytes, slot, labels);
        Some(slot)
    }

    /// The next free slot for a series that came with `time`.
    fn slot_of(&mut self, time: Timestamp) -> Option<u32> {
        let is_full = self.next_slot.is_multiple_of(GROUP_SLOTS_MAX);
        let begins_run = self.run != Some(time) && self.group_count < TIDY_GROUPS_MAX;
        if is_full || begins_run {
            self.next_slot = self.next_slot.next_multiple_of(GROUP_SLOTS_MAX);
            self.group_count += 1;
        }
        self.run = Some(time);
        if self.next_slot >= FRESH - GROUP_SLOTS_MAX {
            return None;
        }
        self.next_slot += 1;
        Some(self.next_slot - 1)
    }

    /// The definitions are in memory and in the log: the slots may be used by all.
    pub fn confirm(&mut self, shard: &Shard, fresh: &Fresh) {
        for slot in &fresh.made {
            let Ok(id) = shard.head().series_at(self.source, *slot) else { continue };
            let i = id.0 as usize;
            if self.slots.len() <= i {
                self.slots.resize(i + 1, NOWHERE);
            }
            self.slots[i] = *slot;
        }
    }

    /// Tells which samples Prometheus would refuse, against what the shard holds now: not against each other.
    /// Samples of series without a slot are judged by what their labels' series holds.
    pub fn judge(
        &self,
        shard: &Shard,
        samples: &[Given],
        fresh: &[(Labels, Timestamp)],
        bounds: Bounds,
        mut tell: impl FnMut(Judged),
    ) {
        let head = shard.head();
        let (mut part, mut times): (u32, &[Timestamp]) = (u32::MAX, &[]);
        for g in samples {
            let is_known = g.slot & FRESH == 0;
            if is_known && g.slot / GROUP_SLOTS_MAX != part {
                part = g.slot / GROUP_SLOTS_MAX;
                times = head.slot_times(self.source, part);
            }
            let last = times.get((g.slot % GROUP_SLOTS_MAX) as usize).filter(|_| is_known);
            let is_newer = last.is_some_and(|t| (Timestamp::MIN + 1..g.time).contains(t));
            if is_newer && (bounds.oldest()..=bounds.latest).contains(&g.time) {
                continue;
            }
            let newest = self.series_of(shard, g.slot, fresh).and_then(|id| head.newest_of(id));
            match bounds.judge(newest, g.time, Some(g.value)) {
                Ok(Standing::InOrder) => {}
                Ok(Standing::Late) => tell(Judged::Late { time: g.time }),
                Err(refusal) => tell(Judged::Refused(Fault {
                    ordinal: g.ordinal,
                    refusal,
                    time: g.time,
                    value: g.value,
                    newest,
                })),
            }
        }
    }

    /// The same of histograms, whose bytes `messages` holds.
    pub fn judge_histograms(
        &self,
        shard: &Shard,
        histograms: &[GivenHistogram],
        messages: &[u8],
        fresh: &[(Labels, Timestamp)],
        bounds: Bounds,
        mut tell: impl FnMut(Judged),
    ) {
        for h in histograms {
            let id = self.series_of(shard, h.slot, fresh);
            let newest = id.and_then(|id| shard.head().newest_of(id));
            let is_newest_again = newest.is_some_and(|n| n.time == h.time && n.value.is_none());
            let message = &messages[h.message.start as usize..h.message.end as usize];
            let judged = match id {
                Some(id) if is_newest_again && !is_like(message, shard.head().newest_histogram(id)) => {
                    bounds.judge_other(h.time)
                }
                _ => bounds.judge(newest, h.time, None),
            };
            match judged {
                Ok(Standing::InOrder) => {}
                Ok(Standing::Late) => tell(Judged::Late { time: h.time }),
                Err(refusal) => {
                    let (ordinal, time, newest) = (h.ordinal, h.time, None);
                    tell(Judged::Refused(Fault { ordinal, refusal, time, value: 0.0, newest }));
                }
            }
        }
    }

    /// What would become of an exemplar, against what the shard holds now.
    pub fn judge_exemplar(
        &self,
        shard: &Shard,
        given: &GivenExemplar,
        fresh: &[(Labels, Timestamp)],
    ) -> Verdict {
        shard.exemplars().judge(self.series_of(shard, given.slot, fresh), &given.exemplar)
    }

    fn series_of(&self, shard: &Shard, slot: u32, fresh: &[(Labels, Timestamp)]) -> Option<SeriesId> {
        if slot & FRESH == 0 {
            return shard.head().series_at(self.source, slot).ok();
        }
        shard.index().find(&fresh.get((slot & !FRESH) as usize)?.0)
    }

    /// The labels of a slot's series, or of a new one.
    pub fn labels(&self, shard: &Shard, slot: u32, fresh: &[(Labels, Timestamp)]) -> Labels {
        if slot & FRESH != 0 {
            let labels = fresh.get((slot & !FRESH) as usize).map(|f| f.0.clone());
            return labels.unwrap_or_default();
        }
        shard.head().series_at(self.source, slot).map_or_else(|_| Labels::empty(), |id| shard.labels(id))
    }

    /// Drops samples that come behind a newer one of their series and are older than what may be late: in the order
    /// given each would be refused when its turn came, but rows are written in the order of their times. Returns
    /// how many it dropped.
    pub fn drop_overtaken(samples: &mut Vec<Given>, late: Option<Timestamp>) -> usize {
        let before = samples.len();
        let mut newest: HashMap<u32, Timestamp> = HashMap::with_capacity(before);
        samples.retain(|g| {
            let newest = newest.entry(g.slot).or_insert(g.time);
            let is_taken = g.time >= *newest || late.is_some_and(|oldest| g.time >= oldest);
            *newest = g.time.max(*newest);
            is_taken
        });
        before - samples.len()
    }

    /// Writes samples whose slots are all known as partial rows, one for each group and time. Sorts them where a
    /// sender has not.
    pub fn encode(&self, samples: &mut [Given], batches: &mut Batches) {
        batches.clear();
        let key = |g: &Given| (g.slot / GROUP_SLOTS_MAX, g.time, g.slot);
        if !samples.is_sorted_by_key(key) {
            // Stable: of two samples for one place the first one given is looked at first.
            samples.sort_by_key(key);
        }
        let mut rest = &samples[..];
        while let Some(first) = rest.first() {
            let (part, time) = (first.slot / GROUP_SLOTS_MAX, first.time);
            let base = part * GROUP_SLOTS_MAX;
            let mut named = std::mem::take(&mut batches.named);
            named.clear();
            let mut last = NOWHERE;
            for g in rest {
                // A slot that comes twice gets a row of its own, where the head looks at it.
                if g.time != time || g.slot / GROUP_SLOTS_MAX != part || g.slot == last {
                    break;
                }
                last = g.slot;
                named.push((g.slot - base, storable(g.value)));
            }
            rest = &rest[named.len()..];
            batches.open(self.source);
            record::push_row(&mut batches.bytes, base, time, true, &named);
            batches.named = named;
        }
        batches.close();
    }

    /// Writes histograms whose slots are all known; `messages` holds their bytes.
    pub fn encode_histograms(&self, histograms: &[GivenHistogram], messages: &[u8], batches: &mut Batches) {
        batches.clear();
        for h in histograms {
            batches.open(self.source);
            let message = &messages[h.message.start as usize..h.message.end as usize];
            record::push_histogram(&mut batches.bytes, h.slot, h.time, 0, message);
        }
        batches.close();
    }

    /// Writes exemplars; those of series that were not taken have no slot and are left out.
    pub fn encode_exemplars(&self, exemplars: &[GivenExemplar], batches: &mut Batches) {
        batches.clear();
        for GivenExemplar { slot, exemplar, .. } in exemplars.iter().filter(|e| e.slot != NOWHERE) {
            batches.open(self.source);
            let Exemplar { labels, time, value } = exemplar;
            record::push_exemplar(&mut batches.bytes, *slot, *time, *value, labels);
        }
        batches.close();
    }
}

/// Whether a message holds the very histogram.
fn is_like(message: &[u8], known: Option<&FloatHistogram>) -> bool {
    let given = remote_histogram::read(message).ok().and_then(|h| h.accepted().ok());
    given.zip(known).is_some_and(|(given, known)| given.equals(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::commons::FUTURE_MS_MAX;

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
    }

    fn given(slot: u32, time: Timestamp, value: f64) -> Given {
        Given { slot, ordinal: 0, time, value }
    }

    fn push(stream: &mut Stream, shard: &mut Shard, series: &[(usize, Timestamp)]) -> Vec<u32> {
        let all: Vec<(Labels, Timestamp)> = series.iter().map(|(i, t)| (labels(*i), *t)).collect();
        let mut batches = Batches::default();
        let fresh = stream.resolve(shard, all.iter().map(Some), &mut batches).unwrap();
        batches.iter().for_each(|b| {
            shard.apply(b).unwrap();
        });
        stream.confirm(shard, &fresh);
        let mut samples: Vec<Given> =
            fresh.slots.iter().zip(series).map(|(s, (i, t))| given(*s, *t, *i as f64)).collect();
        stream.encode(&mut samples, &mut batches);
        batches.iter().for_each(|b| {
            shard.apply(b).unwrap();
        });
        fresh.slots
    }

    #[test]
    fn series_of_one_time_share_a_group_and_keep_their_slots() {
        let (mut stream, mut shard) = (Stream::new(SourceId(3)), Shard::default());
        let first: Vec<(usize, Timestamp)> =
            (0..100).map(|i| (i, 1000)).chain((100..150).map(|i| (i, 1007))).collect();
        let slots = push(&mut stream, &mut shard, &first);
        assert_eq!(slots[99], 99);
        assert_eq!(slots[100], GROUP_SLOTS_MAX);
        assert_eq!(
            push(&mut stream, &mut shard, &[(7, 2000), (149, 2000), (150, 2000)])[..2],
            [7, slots[149]]
        );
        assert_eq!(shard.index().series_count(), 151);
        assert_eq!(shard.head().group_count(), 3);
        assert_eq!(push(&mut stream, &mut shard, &[(500, 1), (500, 2)]).len(), 2);
        assert_eq!(shard.index().series_count(), 152);
    }

    #[test]
    fn samples_are_judged_against_what_is_there() {
        let (mut stream, mut shard) = (Stream::new(SourceId(3)), Shard::default());
        let slots = push(&mut stream, &mut shard, &[(0, 5_000_000), (1, 5_000_000)]);
        let check = |g: Given, expect: Option<Refusal>| {
            let mut refused = None;
            let fresh = [(labels(1), 0), (labels(9), 0)];
            let bounds = Bounds::new(5_000_000, 0, 9_000_000 - FUTURE_MS_MAX);
            stream.judge(&shard, &[g], &fresh, bounds, |judged| match judged {
                Judged::Refused(fault) => refused = Some(fault.refusal),
                Judged::Late { .. } => panic!("nothing is taken late"),
            });
            assert_eq!(refused, expect, "{g:?}");
        };
        check(given(slots[0], 5_000_001, 0.0), None);
        check(given(slots[0], 5_000_000, 0.0), None);
        check(given(slots[0], 5_000_000, 1.0), Some(Refusal::Duplicate));
        check(given(slots[0], 4_999_999, 0.0), Some(Refusal::OutOfOrder));
        check(given(slots[0], 1_000_000, 0.0), Some(Refusal::OutOfBounds));
        check(given(slots[0], 9_000_001, 0.0), Some(Refusal::TooFar));
        check(given(FRESH, 4_999_999, 0.0), Some(Refusal::OutOfOrder));
        check(given(FRESH | 1, 4_999_999, 0.0), None);
        assert_eq!(stream.labels(&shard, slots[1], &[]), labels(1));
    }

    #[test]
    fn overtaken_samples_are_dropped_unless_they_may_be_late() {
        let check = |late: Option<Timestamp>, expect: &[(u32, Timestamp)]| {
            let mut samples: Vec<Given> = [(1, 10), (2, 5), (1, 7), (1, 3), (2, 5), (1, 10), (2, 9)]
                .iter()
                .map(|(slot, time)| given(*slot, *time, 0.0))
                .collect();
            let dropped = Stream::drop_overtaken(&mut samples, late);
            let left: Vec<(u32, Timestamp)> = samples.iter().map(|g| (g.slot, g.time)).collect();
            assert_eq!((left.as_slice(), dropped), (expect, 7 - expect.len()));
        };
        check(None, &[(1, 10), (2, 5), (2, 5), (1, 10), (2, 9)]);
        check(Some(7), &[(1, 10), (2, 5), (1, 7), (2, 5), (1, 10), (2, 9)]);
    }

    #[test]
    fn long_requests_become_several_batches_and_odd_orders_are_sorted() {
        let (mut stream, mut shard) = (Stream::new(SourceId(3)), Shard::default());
        let all: Vec<(usize, Timestamp)> = (0..20_000).map(|i| (i, 1000 + (i % 3) as i64)).collect();
        let slots = push(&mut stream, &mut shard, &all);
        assert_eq!(shard.head().appended_floats, 20_000);
        let mut samples: Vec<Given> = slots.iter().rev().map(|s| given(*s, 2000, 1.0)).collect();
        samples.push(given(slots[0], 2000, 2.0));
        let mut batches = Batches::default();
        stream.encode(&mut samples, &mut batches);
        assert!(batches.iter().count() > 2);
        let duplicates: usize = batches.iter().map(|b| shard.apply(b).unwrap().duplicate).sum();
        assert_eq!((shard.head().appended_floats, duplicates), (40_000, 1));
    }
}
