//! Samples older than the head takes, on their way to blocks: gathered by series, written by time.
//!
//! Whoever imports gives them here, and asks for what was gathered to be written before anything is acknowledged. What
//! comes of it are blocks beside all others: they say that they are a part of their time, so they hide nothing and move
//! no end of the head's; questions merge them with what lies there already, and compaction does so for good. Of two
//! samples of a series at one time one stays.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hashbrown::HashMap;
use model::{Labels, Timestamp};

use crate::rt;
use crate::shard::block::Block;
use crate::shard::block::chunk::Samples;
use crate::shard::block::plan::ranges;
use crate::shard::block::set::{Range, SetWriter};
use crate::shard::keeper::Keeper;
use crate::shard::upkeep::{RANGE_MAX_MS, RANGE_MS};

/// What all shards gather together before it is written, and one of them: two million samples fill the larger, so that
/// a series of a month's import has some hundred samples in each block at least.
const GATHERED_BYTES: usize = 128 << 20;
const GATHERED_BYTES_OF_ONE: std::ops::RangeInclusive<usize> = (4 << 20)..=(32 << 20);

/// What a series costs beside its labels' text and its samples: the places of its vectors and of the map.
const SERIES_BYTES: usize = 192;

/// A sample: a time and a value.
const SAMPLE_BYTES: usize = 16;

/// A histogram with some ten buckets.
const HISTOGRAM_BYTES: usize = 512;

/// Blocks written at once, where their time allows: fewer and longer ones are read and merged with less work.
const WINDOWS_WANTED: i64 = 8;

/// ... and at most: whoever imports samples of odd times gets longer blocks, not more.
const WINDOWS_MAX: usize = 64;

/// Times beyond are refused: 285 000 years either way leave room to reckon.
const TIME_MAX: Timestamp = 1 << 53;

/// Series encoded in one turn.
const TURN_SERIES: usize = 32;

/// Blocks of one window of time and level that become one of the next level: a sample is written again once a level.
const MERGED_TOGETHER: usize = 16;

/// What was gathered.
#[derive(Default)]
pub(in crate::shard) struct Deposit {
    series: HashMap<Labels, Samples>,
    bytes: usize,
}

impl Deposit {
    fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn push(&mut self, labels: &Labels, give: impl FnOnce(&mut Samples)) {
        let samples = self.series.entry_ref(labels).or_insert_with(|| {
            self.bytes += SERIES_BYTES + labels.iter().map(|l| l.name.len() + l.value.len()).sum::<usize>();
            Samples::default()
        });
        let before = (samples.times.len(), samples.histograms.len());
        give(samples);
        self.bytes += (samples.times.len() - before.0) * SAMPLE_BYTES;
        self.bytes += (samples.histograms.len() - before.1) * HISTOGRAM_BYTES;
    }

    /// Adds what another one has behind what is here.
    fn take_in(&mut self, other: Deposit) {
        for (labels, mut of) in other.series {
            self.push(&labels, |s| {
                s.extend_floats(&of.times, &of.values, &of.starts);
                s.histograms.append(&mut of.histograms);
            });
        }
    }
}

impl From<&Labels> for SortKey {
    fn from(labels: &Labels) -> SortKey {
        SortKey(labels.value_or_empty(model::labels::METRIC_NAME).to_owned(), labels.clone())
    }
}

/// Blocks have their series in order of their metric names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SortKey(String, Labels);

/// What is being written, which goes back to where it was gathered unless it is done: nobody's samples are lost by
/// another one's failure, or by one who does not wait for the end.
struct Writing<'a> {
    home: &'a RefCell<Deposit>,
    taken: Deposit,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            let newer = self.home.replace(std::mem::take(&mut self.taken));
            self.home.borrow_mut().take_in(newer);
        }
    }
}

impl Keeper {
    /// From when on an import is worth while: what is older than the retention time of its class would go at once.
    pub fn kept_from(&self, labels: &Labels, now: Timestamp) -> Timestamp {
        let retention = self.retention.borrow();
        let class = retention.classes.class_of(labels.iter().map(|l| (l.name, l.value)));
        let mark = retention.classes.marks().nth(class);
        retention.time_of(mark).map_or(-TIME_MAX, |keep| now.saturating_sub(keep).max(-TIME_MAX))
    }

    /// Gathers old samples of a series, in any order; returns how many are outside of `from..` and were left out.
    /// They are durable, and questions see them, after [`Keeper::settle_deposit`].
    pub fn deposit(
        &self,
        labels: &Labels,
        floats: impl Iterator<Item = (Timestamp, f64)>,
        from: Timestamp,
    ) -> u64 {
        let (mut taken, mut refused) = (0, 0);
        self.deposit.borrow_mut().push(labels, |samples| {
            for (time, value) in floats {
                if (from..TIME_MAX).contains(&time) {
                    samples.times.push(time);
                    samples.values.push(value);
                    taken += 1;
                } else {
                    refused += 1;
                }
            }
            if !samples.starts.is_empty() {
                samples.starts.resize(samples.times.len(), 0);
            }
        });
        self.probe.add(&self.probe.deposited, taken);
        self.probe.add(&self.probe.deposits_refused, refused);
        refused
    }

    /// The same of samples of all kinds, whatever their retention.
    pub fn deposit_samples(&self, labels: &Labels, mut samples: Samples) {
        let count = samples.times.len() + samples.histograms.len();
        samples.settle();
        samples.cut_to(-TIME_MAX, TIME_MAX - 1);
        self.probe.add(&self.probe.deposited, count as u64);
        self.deposit.borrow_mut().push(labels, |s| {
            s.extend_floats(&samples.times, &samples.values, &samples.starts);
            s.histograms.append(&mut samples.histograms);
        });
    }

    /// Whether so much has gathered that it must be written before more is given.
    pub fn is_deposit_full(&self) -> bool {
        let share = GATHERED_BYTES / usize::from(self.place.owner.shard_count.max(1));
        let most = share.clamp(*GATHERED_BYTES_OF_ONE.start(), *GATHERED_BYTES_OF_ONE.end());
        self.deposit.borrow().bytes >= most
    }

    /// Writes what has gathered to blocks. When it returns, what was given before is durable and seen by questions.
    pub async fn settle_deposit(&self) -> Result<(), rt::Error> {
        {
            // Who waits here finds what the one before could not write, and tries again.
            let _turn = self.deposit_turn.take().await;
            let taken = self.deposit.take();
            let mut writing = Writing { home: &self.deposit, taken };
            if writing.taken.is_empty() {
                return Ok(());
            }
            self.write_deposit(&mut writing.taken).await?;
            writing.taken = Deposit::default();
        }
        self.merge_deposits().await
    }

    async fn write_deposit(&self, taken: &mut Deposit) -> Result<(), rt::Error> {
        let mut series: Vec<(SortKey, &mut Samples)> =
            taken.series.iter_mut().map(|(labels, samples)| (labels.into(), samples)).collect();
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for turn in series.chunks_mut(TURN_SERIES) {
            turn.iter_mut().for_each(|(_, samples)| samples.settle());
            rt::yield_if_needed().await;
        }
        let windows = windows_of(series.iter().map(|s| &*s.1), self.block_range_max(), self.deposit_border());
        for (first, last) in &windows {
            self.write_window(&series, *first, *last).await?;
        }
        self.forget_aggregates(&windows).await
    }

    /// Writes what lies between two times, inclusive, which samples have.
    async fn write_window(
        &self,
        series: &[(SortKey, &mut Samples)],
        first: Timestamp,
        last: Timestamp,
    ) -> Result<(), rt::Error> {
        let range = Range { mint: first, maxt: last + 1, level: 1, is_partial: true };
        let classes = self.retention.borrow().classes.clone();
        let mut writer = SetWriter::begin(&self.disk, &self.store, range, classes).await?;
        let mut part = Samples::default();
        for turn in series.chunks(TURN_SERIES) {
            for (SortKey(_, labels), samples) in turn {
                fill(&mut part, samples, first, last);
                let pairs = labels.iter().map(|l| (l.name, l.value));
                writer.push(labels.series_hash(), pairs, &part);
            }
            if let Err(e) = writer.flush().await {
                writer.discard().await;
                return Err(e);
            }
            rt::yield_if_needed().await;
        }
        let published = writer.publish().await?;
        self.probe.add(&self.probe.deposit_blocks, published.len() as u64);
        for block in self.store.load_all(&published).await? {
            self.store.add(block);
        }
        // They were never in the head.
        self.commons().births.note_all();
        Ok(())
    }

    /// From here on the head has what blocks will have, whose ends are whole ranges: what is imported beside it keeps to
    /// those ranges, so that it becomes one with blocks that reach as far at least.
    fn deposit_border(&self) -> Timestamp {
        let shard = self.shard();
        let begins = shard.head().min_time().map(|t| t.div_euclid(RANGE_MS) * RANGE_MS);
        shard.head().blocks_end().or(begins).unwrap_or(Timestamp::MAX)
    }

    /// The longest range of a block, as compaction makes them.
    fn block_range_max(&self) -> i64 {
        let keep = self.retention.borrow().time_ms.unwrap_or(i64::MAX);
        (keep / 10).clamp(RANGE_MS, RANGE_MAX_MS)
    }

    /// Makes one of each sixteen blocks that were imported into the same time: many small imports end as few blocks,
    /// and who sends them waits for it.
    async fn merge_deposits(&self) -> Result<(), rt::Error> {
        loop {
            let _turn = self.turn.take().await;
            let Some(blocks) = self.mergeable() else { return Ok(()) };
            self.probe.add(&self.probe.compactions_triggered, 1);
            if !self.compact_imp(&blocks, 1).await? || blocks.iter().any(|b| self.store.is_damaged(b)) {
                return Ok(());
            }
        }
    }

    fn mergeable(&self) -> Option<Vec<Rc<Block>>> {
        let width = *ranges(RANGE_MS, self.block_range_max()).last()?;
        let border = self.deposit_border();
        let mut alike: BTreeMap<(Slot, u32, String), Vec<Rc<Block>>> = BTreeMap::new();
        let is_part =
            |b: &Rc<Block>| b.is_own() && b.is_raw() && b.header.is_partial && !self.store.is_damaged(b);
        for block in self.store.all().into_iter().filter(is_part) {
            let (h, class) = (&block.header, &block.header.class);
            let class = class.as_ref().map_or(String::new(), |c| c.selector.to_string());
            alike.entry((slot_of(h.mint, width, border), h.level, class)).or_default().push(block);
        }
        let mut run = alike.into_values().find(|of| of.len() >= MERGED_TOGETHER)?;
        run.truncate(MERGED_TOGETHER);
        Some(run)
    }
}

/// A window of time: whether it lies behind the border, and its number among those of its length.
type Slot = (bool, i64);

fn slot_of(time: Timestamp, width: i64, border: Timestamp) -> Slot {
    if time < border { (false, time.div_euclid(width)) } else { (true, time.div_euclid(RANGE_MS)) }
}

/// Times of the first and the last sample in each of the windows that samples lie in, ascending.
fn windows_of<'a>(
    series: impl Iterator<Item = &'a Samples> + Clone,
    range_max: i64,
    border: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let of = |s: &'a Samples| s.times.iter().copied().chain(s.histograms.iter().map(|h| h.time));
    let first = series.clone().flat_map(of).min().unwrap_or(0);
    let last = series.clone().flat_map(of).max().unwrap_or(0).min(border);
    let lengths = ranges(RANGE_MS, range_max);
    let fits = |width: &&i64| last.saturating_sub(first) / **width < WINDOWS_WANTED;
    let mut width = lengths.iter().find(fits).or(lengths.last()).copied().unwrap_or(RANGE_MS);
    loop {
        let mut found: BTreeMap<Slot, (Timestamp, Timestamp)> = BTreeMap::new();
        let mut run: Option<(Slot, (Timestamp, Timestamp))> = None;
        for time in series.clone().flat_map(of) {
            let slot = slot_of(time, width, border);
            match &mut run {
                Some((s, span)) if *s == slot => *span = (span.0.min(time), span.1.max(time)),
                _ => {
                    note(&mut found, run.replace((slot, (time, time))));
                    if found.len() > WINDOWS_MAX {
                        break;
                    }
                }
            }
        }
        note(&mut found, run);
        // Behind the border lie a few ranges at most: the head spans no more.
        if found.len() <= WINDOWS_MAX || width == i64::MAX {
            return found.into_values().collect();
        }
        width = width.saturating_mul(3);
    }
}

fn note(found: &mut BTreeMap<Slot, (Timestamp, Timestamp)>, run: Option<(Slot, (Timestamp, Timestamp))>) {
    if let Some((slot, span)) = run {
        let have = found.entry(slot).or_insert(span);
        *have = (have.0.min(span.0), have.1.max(span.1));
    }
}

/// What of a series' samples, which are in order, lies between two times, inclusive.
fn fill(part: &mut Samples, samples: &Samples, first: Timestamp, last: Timestamp) {
    part.clear();
    let from = samples.times.partition_point(|t| *t < first);
    let to = samples.times.partition_point(|t| *t <= last);
    let starts = samples.starts.get(from..to).unwrap_or(&[]);
    part.extend_floats(&samples.times[from..to], &samples.values[from..to], starts);
    let inside = samples.histograms.iter().filter(|h| (first..=last).contains(&h.time));
    part.histograms.extend(inside.cloned());
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const LONG: i64 = 31 * 24 * HOUR;

    fn check(hours: &[i64], range_max: i64, border: i64, expect: &[(i64, i64)]) {
        let times: Vec<i64> = hours.iter().map(|h| h * HOUR).collect();
        let samples = Samples { values: vec![0.0; times.len()], times, ..Samples::default() };
        let have = windows_of([&samples].into_iter(), range_max, border.saturating_mul(HOUR));
        let have: Vec<(i64, i64)> = have.into_iter().map(|(a, b)| (a / HOUR, b / HOUR)).collect();
        assert_eq!(have, expect, "{hours:?}");
    }

    #[test]
    fn windows_are_as_long_as_the_time_they_share() {
        check(&[0, 1], LONG, i64::MAX, &[(0, 1)]);
        check(&[0, 1, 2, 9], LONG, i64::MAX, &[(0, 1), (2, 2), (9, 9)]);
        check(&[0, 5, 47], LONG, i64::MAX, &[(0, 5), (47, 47)]);
        check(&[0, 5, 47], RANGE_MS, i64::MAX, &[(0, 0), (5, 5), (47, 47)]);
        check(&[-1, 1], RANGE_MS, i64::MAX, &[(-1, -1), (1, 1)]);
        check(&[], RANGE_MS, i64::MAX, &[]);
    }

    #[test]
    fn windows_end_where_the_head_begins_and_are_short_behind_it() {
        check(&[0, 47, 48, 49, 50, 51], LONG, 48, &[(0, 0), (47, 47), (48, 49), (50, 51)]);
        check(&[0, 45, 46, 47, 48, 49], LONG, 46, &[(0, 0), (45, 45), (46, 47), (48, 49)]);
    }

    #[test]
    fn there_are_never_too_many_windows() {
        let times: Vec<i64> = (0..1000).map(|i| i * 100 * 24 * HOUR).collect();
        let samples = Samples { values: vec![0.0; times.len()], times, ..Samples::default() };
        let windows = windows_of([&samples].into_iter(), RANGE_MS, i64::MAX);
        assert!((2..=WINDOWS_MAX).contains(&windows.len()), "{}", windows.len());
        assert!(windows.is_sorted_by(|a, b| a.1 < b.0));
    }
}
