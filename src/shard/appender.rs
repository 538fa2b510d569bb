//! What scraping and remote write hold: samples of one source in, one batch for each shard out.
//!
//! A [`Source`] remembers which shard owns each of its series and under which slot; an [`Appender`] is the scratch
//! that all sources of one executor share while they write a row. Between two rows nothing of it is kept.

use model::{Labels, STALE_NAN, ShardId, Timestamp};

use crate::shard::head::group::GROUP_SLOTS_MAX;
use crate::shard::record::{self, SourceId};

/// A series of a source: its shard, and its slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub shard: ShardId,
    pub index: u32,
}

/// One sender of samples, and how many series of it each shard knows.
#[derive(Debug)]
pub struct Source {
    id: SourceId,
    shards: Box<[SourceShard]>,
    last_time: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct SourceShard {
    slot_count: u32,
    /// Slots that repeat their value in a row that does not name them.
    present_count: u32,
}

impl Source {
    /// A source new to all shards. `id` must never have been used before, in this life or an earlier one.
    pub fn new(id: SourceId, shard_count: u16) -> Self {
        let shards = vec![SourceShard::default(); usize::from(shard_count)].into_boxed_slice();
        Source { id, shards, last_time: Timestamp::MIN }
    }

    pub fn id(&self) -> SourceId {
        self.id
    }

    pub fn shard_count(&self) -> u16 {
        self.shards.len() as u16
    }

    /// The time of the last row committed.
    pub fn last_time(&self) -> Timestamp {
        self.last_time
    }
}

/// Scratch for the row being written. Holds at most one row of one source.
pub struct Appender {
    shards: Vec<Pending>,
}

/// A batch is cut at this size: it must fit a shard's tail many times over, however large its page was.
const BATCH_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Pending {
    /// Batches, one behind the other: definitions, then rows, then samples with their own time.
    bytes: Vec<u8>,
    /// Where each batch begins.
    begins: Vec<usize>,
    floats: Vec<OwnTime>,
    named: Vec<(u32, f64)>,
    is_unsorted: bool,
    /// From when on samples with their own time may be out of order, and the batch that says so.
    late: Option<Timestamp>,
    late_in: Option<usize>,
}

/// A sample with a time of its own.
struct OwnTime {
    slot: u32,
    time: Timestamp,
    start: Timestamp,
    value: f64,
}

impl Appender {
    pub fn new(shard_count: u16) -> Self {
        Appender { shards: (0..shard_count).map(|_| Pending::default()).collect() }
    }

    /// From when on samples with their own time may be out of order; holds until it is said anew.
    pub fn set_late(&mut self, late: Option<Timestamp>) {
        self.shards.iter_mut().for_each(|p| p.late = late);
    }

    /// Says with the next commit or flush of `source` that another appends no more.
    pub fn retire(&mut self, source: &Source, over: SourceId) {
        for pending in &mut self.shards {
            record::push_retire(pending.entries(source.id), over);
        }
    }

    /// Names a series of `source`; its shard learns the labels with the next commit.
    pub fn define(&mut self, source: &mut Source, labels: &Labels) -> Slot {
        let shard = labels.series_hash().shard(self.shards.len() as u16);
        let at = usize::from(shard.0);
        let index = source.shards[at].slot_count;
        source.shards[at].slot_count += 1;
        let pending = &mut self.shards[at];
        record::push_define(pending.entries(source.id), index, labels);
        Slot { shard, index }
    }

    /// The sample of a series that had none in the row before.
    pub fn begin(&mut self, source: &mut Source, slot: Slot, value: f64) {
        source.shards[usize::from(slot.shard.0)].present_count += 1;
        self.set(slot, value);
    }

    /// Another value of a series that had a sample in the row before. Unchanged values need no call.
    #[inline]
    pub fn set(&mut self, slot: Slot, value: f64) {
        let pending = &mut self.shards[usize::from(slot.shard.0)];
        pending.is_unsorted |= pending.named.last().is_some_and(|(last, _)| *last >= slot.index);
        pending.named.push((slot.index, value));
    }

    /// The series ends with this row: a staleness marker, and nothing in the rows that follow.
    pub fn end(&mut self, source: &mut Source, slot: Slot) {
        source.shards[usize::from(slot.shard.0)].present_count -= 1;
        self.set(slot, STALE_NAN);
    }

    /// A sample with a time of its own; it takes no part in the row.
    pub fn append_at(&mut self, slot: Slot, time: Timestamp, start: Timestamp, value: f64) {
        let pending = &mut self.shards[usize::from(slot.shard.0)];
        pending.floats.push(OwnTime { slot: slot.index, time, start, value });
    }

    /// A native histogram, as remote write carries it and `exposition::remote_histogram` accepted it.
    pub fn append_histogram_at(
        &mut self,
        source: &Source,
        slot: Slot,
        time: Timestamp,
        start: Timestamp,
        message: &[u8],
    ) {
        let pending = &mut self.shards[usize::from(slot.shard.0)];
        record::push_histogram(pending.own_time_entries(source.id), slot.index, time, start, message);
    }

    pub fn append_exemplar(
        &mut self,
        source: &Source,
        slot: Slot,
        time: Timestamp,
        value: f64,
        labels: &Labels,
    ) {
        let pending = &mut self.shards[usize::from(slot.shard.0)];
        record::push_exemplar(pending.entries(source.id), slot.index, time, value, labels);
    }

    /// Forgets the row being written.
    pub fn clear(&mut self) {
        self.shards.iter_mut().for_each(Pending::clear);
    }

    /// Sends what goes beside rows (definitions, samples with their own time) without a row.
    pub fn flush(&mut self, source: &Source, mut deliver: impl FnMut(ShardId, &[u8])) {
        for (i, pending) in self.shards.iter_mut().enumerate() {
            pending.push_floats(source.id);
            pending.batches().for_each(|batch| deliver(ShardId(i as u16), batch));
            pending.clear();
        }
    }

    /// Ends the row as [`Appender::commit`] does, but leaves its batches here: see [`Appender::batches`].
    pub fn seal(&mut self, source: &mut Source, time: Timestamp) -> bool {
        if time <= source.last_time {
            self.clear();
            return false;
        }
        source.last_time = time;
        for (i, pending) in self.shards.iter_mut().enumerate() {
            pending.finish(source.id, source.shards[i], time);
        }
        true
    }

    /// The batches of a sealed row, to be delivered in this order; then the appender is to be cleared.
    pub fn batches(&self) -> impl Iterator<Item = (ShardId, &[u8])> {
        self.shards
            .iter()
            .enumerate()
            .flat_map(|(i, pending)| pending.batches().map(move |batch| (ShardId(i as u16), batch)))
    }

    /// Ends the row: gives each shard that has a part in it its batch, through `deliver`.
    ///
    /// `time` must be later than the last row's; where it is not the row is dropped and `false` returned: the
    /// caller keeps its values and sends them with a later row.
    pub fn commit(
        &mut self,
        source: &mut Source,
        time: Timestamp,
        mut deliver: impl FnMut(ShardId, &[u8]),
    ) -> bool {
        let is_later = self.seal(source, time);
        self.batches().for_each(|(shard, batch)| deliver(shard, batch));
        self.clear();
        is_later
    }
}

impl Pending {
    /// The batch being written, a new one where the last has its size.
    fn entries(&mut self, source: SourceId) -> &mut Vec<u8> {
        let is_full = self.begins.last().is_none_or(|b| self.bytes.len() - b >= BATCH_BYTES);
        if is_full {
            self.begins.push(self.bytes.len());
            record::begin(&mut self.bytes, source);
        }
        &mut self.bytes
    }

    /// The batch being written, for samples with their own time.
    fn own_time_entries(&mut self, source: SourceId) -> &mut Vec<u8> {
        self.entries(source);
        let batch = self.begins.last().copied();
        if let Some(oldest) = self.late
            && self.late_in != batch
        {
            self.late_in = batch;
            record::push_late(&mut self.bytes, oldest);
        }
        &mut self.bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.begins.clear();
        self.late_in = None;
        self.floats.clear();
        self.named.clear();
        self.is_unsorted = false;
    }

    fn batches(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.begins.iter().skip(1).copied().chain([self.bytes.len()]);
        self.begins.iter().zip(ends).map(|(begin, end)| &self.bytes[*begin..end])
    }

    /// Writes the row, if the shard has a part in it, and what goes behind.
    fn finish(&mut self, source: SourceId, shard: SourceShard, time: Timestamp) {
        if self.is_unsorted {
            // Stable, so that of two values for one slot the first one written stays.
            self.named.sort_by_key(|n| n.0);
            self.named.dedup_by_key(|n| n.0);
        }
        if shard.present_count > 0 || !self.named.is_empty() {
            self.push_rows(source, shard.slot_count, time);
        }
        self.push_floats(source);
    }

    fn push_floats(&mut self, source: SourceId) {
        let floats = std::mem::take(&mut self.floats);
        for f in &floats {
            record::push_float(self.own_time_entries(source), f.slot, f.time, f.start, f.value);
        }
        self.floats = floats;
    }

    /// One row for each group of the source on this shard, named values or not: the row carries the time.
    fn push_rows(&mut self, source: SourceId, slot_count: u32, time: Timestamp) {
        let mut named = std::mem::take(&mut self.named);
        let mut rest = named.as_mut_slice();
        for base in (0..slot_count).step_by(GROUP_SLOTS_MAX as usize) {
            let here = rest.partition_point(|n| n.0 < base + GROUP_SLOTS_MAX);
            let (part, after) = rest.split_at_mut(here);
            for n in part.iter_mut() {
                n.0 -= base;
            }
            record::push_row(self.entries(source), base, time, false, part);
            rest = after;
        }
        self.named = named;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;
    use crate::shard::select::Batch;
    use model::{Matcher, Sample, is_stale};

    fn series(shards: &[Shard], name: &str) -> Vec<Sample> {
        let mut out = Vec::new();
        for s in shards {
            let mut selection = s.select(&[Matcher::equal("__name__", name)], 0, i64::MAX);
            let mut batch = Batch::default();
            while s.next_batch(&mut selection, &mut batch) {
                for b in &batch.series {
                    let pairs = batch.times_of(b).iter().zip(batch.values_of(b));
                    out.extend(pairs.map(|(t, v)| Sample { timestamp: *t, value: *v }));
                }
            }
        }
        out
    }

    fn check(shards: &[Shard], name: &str, expect: &[(Timestamp, Option<f64>)]) {
        let have: Vec<_> = series(shards, name)
            .iter()
            .map(|s| (s.timestamp, (!is_stale(s.value)).then_some(s.value)))
            .collect();
        assert_eq!(have, expect, "{name}");
    }

    #[test]
    fn a_source_over_several_shards_keeps_every_sample() {
        let mut shards: Vec<Shard> = (0..3).map(|_| Shard::default()).collect();
        let mut appender = Appender::new(3);
        let mut source = Source::new(SourceId(9), 3);
        let mut slots = Vec::new();
        for i in 0..20_000 {
            let labels = Labels::from_pairs([("__name__", format!("m{i}"))]);
            let slot = appender.define(&mut source, &labels);
            appender.begin(&mut source, slot, f64::from(i));
            slots.push(slot);
        }
        let commit = |shards: &mut Vec<Shard>, a: &mut Appender, s: &mut Source, t| {
            a.commit(s, t, |to, batch| {
                shards[usize::from(to.0)].apply(batch).unwrap();
            })
        };
        assert!(commit(&mut shards, &mut appender, &mut source, 100));
        for i in (0..20_000).rev().step_by(7) {
            appender.set(slots[i], 0.5);
        }
        appender.end(&mut source, slots[5]);
        assert!(commit(&mut shards, &mut appender, &mut source, 200));
        assert!(!commit(&mut shards, &mut appender, &mut source, 200));
        appender.append_at(slots[6], 250, 0, 7.0);
        assert!(commit(&mut shards, &mut appender, &mut source, 300));
        check(&shards, "m0", &[(100, Some(0.0)), (200, Some(0.5)), (300, Some(0.5))]);
        check(&shards, "m19999", &[(100, Some(19999.0)), (200, Some(0.5)), (300, Some(0.5))]);
        check(&shards, "m5", &[(100, Some(5.0)), (200, None)]);
        check(&shards, "m6", &[(100, Some(6.0)), (200, Some(6.0)), (250, Some(7.0)), (300, Some(6.0))]);
        let total: usize = shards.iter().map(|s| s.index().series_count()).sum();
        assert_eq!(total, 20_000);
        assert!(shards.iter().all(|s| s.index().series_count() > 5_000), "the hash spreads series");
    }
}
