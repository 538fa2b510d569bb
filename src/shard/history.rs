//! Samples of any age, group by group: what an import brings.
//!
//! Series that hold nothing newer get partial rows, each sample looked at as if it were pushed. Where a series holds
//! newer samples that look would refuse all, so its rows are full ones, which are taken as they stand: they name each
//! slot whose value changed, and with the value of no sample each slot that has none.

use std::collections::VecDeque;

use model::{Labels, Timestamp, is_stale};

use crate::shard::head::group::GROUP_SLOTS_MAX;
use crate::shard::head::partial::storable;
use crate::shard::head::row::{ABSENT, repeats};
use crate::shard::record::{self, SourceId};

/// Series of one group at most.
pub const GROUP_SERIES_MAX: usize = GROUP_SLOTS_MAX as usize;

/// A batch is handed over at this size: it fits a shard's tail many times.
const BATCH_BYTES: usize = 256 << 10;

/// What the series of a group hold already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing as new as what comes.
    Older,
    /// Something newer.
    Newer,
}

/// Writes the batches of one source.
pub struct History {
    source: SourceId,
    next_part: u32,
    base: u32,
    held: Held,
    last_time: Timestamp,
    /// The value of each slot after the last row.
    last: Vec<f64>,
    batch: Vec<u8>,
    /// Batches that have their size.
    full: VecDeque<Vec<u8>>,
    changed: Vec<(u32, f64)>,
}

impl History {
    /// `source` must never have been used before.
    pub fn new(source: SourceId) -> History {
        History {
            source,
            next_part: 0,
            base: 0,
            held: Held::Older,
            last_time: Timestamp::MIN,
            last: Vec::new(),
            batch: Vec::new(),
            full: VecDeque::new(),
            changed: Vec::new(),
        }
    }

    /// Begins a group of at most [`GROUP_SERIES_MAX`] series; slots count from 0 in the order of the labels.
    pub fn begin<'a>(&mut self, series: impl Iterator<Item = &'a Labels>, held: Held) {
        self.base = self.next_part * GROUP_SLOTS_MAX;
        self.next_part += 1;
        (self.held, self.last_time) = (held, Timestamp::MIN);
        self.last.clear();
        for labels in series.take(GROUP_SERIES_MAX) {
            let slot = self.base + self.last.len() as u32;
            record::push_define(self.entries(), slot, labels);
            self.last.push(ABSENT);
        }
    }

    /// Floats of one time, ascending by slot; times ascend from row to row.
    pub fn row(&mut self, time: Timestamp, named: &[(u32, f64)]) {
        self.last_time = time;
        self.changed.clear();
        match self.held {
            Held::Older => self.changed.extend(named.iter().map(|(slot, v)| (*slot, storable(*v)))),
            Held::Newer => self.note_changes(named),
        }
        let (changed, base) = (std::mem::take(&mut self.changed), self.base);
        let is_partial = self.held == Held::Older;
        record::push_row(self.entries(), base, time, is_partial, &changed);
        self.changed = changed;
    }

    fn note_changes(&mut self, named: &[(u32, f64)]) {
        let mut named = named.iter().peekable();
        for (slot, last) in self.last.iter_mut().enumerate() {
            let here = named.next_if(|n| n.0 == slot as u32).map_or(ABSENT, |n| storable(n.1));
            // A slot that is stale or without a sample stays silent unless it is named.
            let is_implied = if repeats(here) || is_stale(here) {
                repeats(*last) && last.to_bits() == here.to_bits()
            } else {
                !repeats(*last)
            };
            if !is_implied {
                self.changed.push((slot as u32, here));
            }
            *last = here;
        }
    }

    /// A float with a start time, which rows do not have.
    pub fn float(&mut self, slot: u32, time: Timestamp, start: Timestamp, value: f64) {
        let slot = self.base + slot;
        record::push_float(self.entries(), slot, time, start, value);
    }

    /// A histogram as remote write carries it.
    pub fn histogram(&mut self, slot: u32, time: Timestamp, start: Timestamp, message: &[u8]) {
        let slot = self.base + slot;
        record::push_histogram(self.entries(), slot, time, start, message);
    }

    /// Ends the group.
    pub fn end(&mut self) {
        if self.held == Held::Newer && self.last_time > Timestamp::MIN {
            // The last full row says of a silent slot that its series ended, which here it does not mean: a row of
            // nothing behind it has readers look at the rows.
            let (base, time) = (self.base, self.last_time.saturating_add(1));
            record::push_row(self.entries(), base, time, true, &[]);
        }
    }

    fn entries(&mut self) -> &mut Vec<u8> {
        if self.batch.len() >= BATCH_BYTES {
            self.full.push_back(std::mem::take(&mut self.batch));
        }
        if self.batch.is_empty() {
            record::begin(&mut self.batch, self.source);
        }
        &mut self.batch
    }

    /// The next batch that has its size, at last also the one that has not; it counts as handed over. To be emptied
    /// after each row: what is not taken waits in memory.
    pub fn try_take(&mut self, is_last: bool) -> Option<Vec<u8>> {
        let rest = || (is_last && !self.batch.is_empty()).then(|| std::mem::take(&mut self.batch));
        self.full.pop_front().or_else(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;
    use crate::shard::select::Batch;
    use model::{Matcher, STALE_NAN};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
    }

    fn samples(shard: &Shard, newest_only: bool) -> BTreeMap<(String, Timestamp), u64> {
        let mut selection = shard.select(&[Matcher::equal("__name__", "m")], i64::MIN, i64::MAX);
        selection.newest_only = newest_only;
        let (mut batch, mut out) = (Batch::default(), BTreeMap::new());
        while shard.next_batch(&mut selection, &mut batch) {
            for s in &batch.series {
                let name = shard.labels(s.id).value_or_empty("i").to_owned();
                let pairs = batch.times_of(s).iter().zip(batch.values_of(s));
                out.extend(pairs.map(|(t, v)| ((name.clone(), *t), v.to_bits())));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_handed_over_is_there_whatever_was_there_before(
            rows in proptest::collection::vec((1i64..50, proptest::collection::btree_map(0u32..6, 0u8..5, 0..6)), 1..200),
            has_newer in any::<bool>(),
        ) {
            let mut shard = Shard::default();
            let mut expect = BTreeMap::new();
            if has_newer {
                for i in 0..6 {
                    shard.append_float(&labels(i), 1_000_000, 0, 7.0).unwrap();
                    expect.insert((i.to_string(), 1_000_000), 7f64.to_bits());
                }
            }
            let held = if has_newer { Held::Newer } else { Held::Older };
            let mut history = History::new(SourceId(9));
            let series: Vec<Labels> = (0..6).map(labels).collect();
            history.begin(series.iter(), held);
            let mut time = 0;
            for (step, row) in rows {
                time += step;
                let value = |v: u8| if v == 4 { STALE_NAN } else { f64::from(v) };
                let named: Vec<(u32, f64)> = row.into_iter().map(|(slot, v)| (slot, value(v))).collect();
                history.row(time, &named);
                expect.extend(named.iter().map(|(slot, v)| ((slot.to_string(), time), v.to_bits())));
            }
            history.end();
            while let Some(batch) = history.try_take(true) {
                shard.apply(&batch).unwrap();
            }
            prop_assert_eq!(samples(&shard, false), expect.clone());
            let newest = samples(&shard, true);
            for slot in 0..6u32 {
                let last = expect.iter().rfind(|(k, _)| k.0 == slot.to_string());
                if let Some((key, bits)) = last {
                    prop_assert_eq!(newest.get(key), Some(bits));
                }
            }
        }
    }
}
