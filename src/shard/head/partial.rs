//! Partial rows: they name every sample they have, and who sends them does not promise order.
//!
//! Nearly all are newer than anything their slots hold, and go in as they are. For the others each slot is looked
//! at by itself, with Prometheus's rules: newer than the series goes in (into the row of its time while that is
//! open, else beside the rows), the same again is taken silently, what is older goes beside where the batch allows
//! it, the rest is refused and counted.

use model::histogram::FloatHistogram;
use model::{NORMAL_NAN, SeriesId, Timestamp};

use crate::shard::head::group::slots_of;
use crate::shard::head::row::is_absent;
use crate::shard::head::side::{Late, Refusal};
use crate::shard::head::{Head, NOWHERE};
use crate::shard::record::{RowEntry, SourceId};

/// What became of a row's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub sample_count: usize,
    pub out_of_order: usize,
    pub too_old: usize,
    pub duplicate: usize,
    /// Taken out of order.
    pub late: usize,
}

/// The newest sample of a series; no value where it is a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Newest {
    pub time: Timestamp,
    pub value: Option<f64>,
}

impl Newest {
    /// What Prometheus says to a float of the series at `time`. `Ok(false)`: it is there already.
    pub fn judge(self, time: Timestamp, value: f64) -> Result<bool, Refusal> {
        match time.cmp(&self.time) {
            std::cmp::Ordering::Greater => Ok(true),
            std::cmp::Ordering::Less => Err(Refusal::OutOfOrder),
            std::cmp::Ordering::Equal => match self.value {
                Some(v) if v.to_bits() == value.to_bits() => Ok(false),
                _ => Err(Refusal::Duplicate),
            },
        }
    }
}

/// The value that may stand in a row: the bits that mean "no sample" are kept as the ordinary NaN.
pub fn storable(value: f64) -> f64 {
    if is_absent(value) { NORMAL_NAN } else { value }
}

impl Head {
    /// Times of the newest samples of a source's slots `part * 4096 ..`; a slot that is missing here, or has the
    /// smallest time, is to be looked up with [`Head::newest_of`].
    pub fn slot_times(&self, source: SourceId, part: u32) -> &[Timestamp] {
        self.group_ids.get(&(source, part)).map_or(&[], |g| self.groups[*g as usize].slot_times())
    }

    /// The newest sample of a series over all places that hold some.
    pub fn newest_of(&self, id: SeriesId) -> Option<Newest> {
        let first = self.places.get(id.0 as usize).filter(|p| p.group != NOWHERE);
        let places = first.into_iter().chain(self.more_places.get(&id).into_iter().flatten());
        let in_rows = places.filter_map(|p| self.groups[p.group as usize].newest(p.slot));
        let newest = in_rows.max_by_key(|n| n.0).map(|(time, v)| Newest { time, value: Some(v) });
        let Some(side) = self.side.get(&id) else { return newest };
        let Some(beside) = side.last_time() else { return newest };
        let value = side.times.last().filter(|t| **t == beside).and(side.values.last()).copied();
        match newest {
            Some(n) if n.time > beside => newest,
            _ => Some(Newest { time: beside, value }),
        }
    }

    /// The newest histogram of a series.
    pub fn newest_histogram(&self, id: SeriesId) -> Option<&FloatHistogram> {
        self.side.get(&id)?.histograms.last().map(|h| &*h.histogram)
    }

    pub(super) fn note_beside(&mut self, source: SourceId, slot: u32, time: Timestamp) {
        let part = slot / super::GROUP_SLOTS_MAX;
        if let Some(g) = self.group_ids.get(&(source, part)) {
            self.groups[*g as usize].note_beside(slot % super::GROUP_SLOTS_MAX, time);
        }
    }

    /// Appends a partial row whose mask names bound slots only (the caller checked) and lies in `self.mask`.
    pub(super) fn append_partial(
        &mut self,
        group_id: u32,
        row: &RowEntry<'_>,
        late: Option<Timestamp>,
    ) -> Taken {
        let mask = std::mem::take(&mut self.mask);
        if self.is_before_valid(row.time) {
            let taken = self.append_behind(group_id, row, &mask, late);
            self.mask = mask;
            return taken;
        }
        let group = &mut self.groups[group_id as usize];
        // Before a new row, not behind it: the last row stays open for what else has its time.
        if row.time > group.last_time() && group.seal_if_due(&mut self.sealer, &mut self.columns) {
            self.sealed_windows += 1;
        }
        let taken = if group.is_plainly_new(row.time, &mask) {
            group.append(row.time, true, mask.iter().copied(), row.values());
            group.note_times(row.time, &mask);
            Taken { sample_count: row.value_count(), ..Taken::default() }
        } else {
            self.append_slot_by_slot(group_id, row, &mask, late)
        };
        self.mask = mask;
        if taken.sample_count > 0 {
            self.appended_floats += taken.sample_count as u64;
            self.note_time(row.time);
        }
        taken
    }

    /// A row from before the end of the newest block: only what may be out of order is taken, and lies beside rows.
    fn append_behind(
        &mut self,
        group_id: u32,
        row: &RowEntry<'_>,
        mask: &[u64],
        late: Option<Timestamp>,
    ) -> Taken {
        let mut taken = Taken::default();
        match late {
            None => taken.out_of_order = row.value_count(),
            Some(oldest) if row.time < oldest => taken.too_old = row.value_count(),
            Some(_) => {
                for (slot, bits) in slots_of(mask).zip(row.values()) {
                    let series = self.groups[group_id as usize].series.get(slot).copied().flatten();
                    let Some(id) = series else { continue };
                    self.late.push((id, Late { time: row.time, start: 0, value: f64::from_bits(bits) }));
                    taken.late += 1;
                }
                taken.sample_count = taken.late;
                self.appended_floats += taken.sample_count as u64;
                self.note_time(row.time);
            }
        }
        taken
    }

    fn append_slot_by_slot(
        &mut self,
        group_id: u32,
        row: &RowEntry<'_>,
        mask: &[u64],
        late: Option<Timestamp>,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut named: Vec<(u32, u64)> = Vec::with_capacity(row.value_count());
        let group = &self.groups[group_id as usize];
        let (is_new, is_open) =
            (row.time > group.last_time(), row.time == group.last_time() && group.has_open_partial());
        for (slot, bits) in slots_of(mask).zip(row.values()) {
            let Some(id) = self.groups[group_id as usize].series.get(slot).copied().flatten() else {
                continue;
            };
            let value = f64::from_bits(bits);
            match self.newest_of(id).map_or(Ok(true), |n| n.judge(row.time, value)) {
                Ok(true) if is_new || is_open => named.push((slot as u32, bits)),
                Ok(true) => {
                    self.mark_scattered(id);
                    let side = self.side.entry(id).or_default();
                    taken.out_of_order += usize::from(side.append_float(row.time, 0, value).is_err());
                    taken.sample_count += 1;
                    self.groups[group_id as usize].note_beside(slot as u32, row.time);
                }
                Ok(false) => {}
                Err(Refusal::Duplicate) => taken.duplicate += 1,
                Err(Refusal::OutOfOrder) if late.is_some_and(|oldest| row.time >= oldest) => {
                    self.late.push((id, Late { time: row.time, start: 0, value }));
                    taken.late += 1;
                }
                Err(Refusal::OutOfOrder) if late.is_some() => taken.too_old += 1,
                Err(_) => taken.out_of_order += 1,
            }
        }
        taken.sample_count += named.len() + taken.late;
        self.write_named(group_id, row.time, is_new, &named);
        taken
    }

    fn write_named(&mut self, group_id: u32, time: Timestamp, is_new: bool, named: &[(u32, u64)]) {
        let Some(last) = named.last() else { return };
        let mut mask = vec![0u64; last.0 as usize / 64 + 1];
        named.iter().for_each(|(slot, _)| mask[*slot as usize / 64] |= 1 << (slot % 64));
        let group = &mut self.groups[group_id as usize];
        if is_new {
            group.append(time, true, mask.iter().copied(), named.iter().map(|n| n.1));
        } else {
            group.merge_last(named);
        }
        group.note_times(time, &mask);
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, Matcher};

    use super::*;
    use crate::shard::record;
    use crate::shard::select::Batch;
    use crate::shard::{Applied, Shard};

    const SOURCE: SourceId = SourceId(5);

    fn defined(series: u32) -> Shard {
        let mut shard = Shard::default();
        let mut batch = Vec::new();
        record::begin(&mut batch, SOURCE);
        for slot in 0..series {
            let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", slot.to_string())]);
            record::push_define(&mut batch, slot, &labels);
        }
        shard.apply(&batch).unwrap();
        shard
    }

    fn row(shard: &mut Shard, time: Timestamp, named: &[(u32, f64)]) -> Applied {
        let mut batch = Vec::new();
        record::begin(&mut batch, SOURCE);
        record::push_row(&mut batch, 0, time, true, named);
        shard.apply(&batch).unwrap()
    }

    fn check(shard: &Shard, series: u32, expect: &[(Timestamp, f64)]) {
        let matchers = [Matcher::equal("i", series.to_string())];
        let (mut selection, mut batch) = (shard.select(&matchers, i64::MIN, i64::MAX), Batch::default());
        let mut have = Vec::new();
        while shard.next_batch(&mut selection, &mut batch) {
            for s in &batch.series {
                let times = batch.times_of(s).iter().copied();
                have.extend(times.zip(batch.values_of(s).iter().copied()));
            }
        }
        assert_eq!(have, expect, "series {series}");
    }

    #[test]
    fn pieces_of_one_time_become_one_row() {
        let mut shard = defined(200);
        row(&mut shard, 10, &[(3, 3.0), (70, 70.0)]);
        row(&mut shard, 10, &[(0, 0.5), (4, 4.0), (199, 199.0)]);
        row(&mut shard, 20, &[(3, 3.5)]);
        check(&shard, 3, &[(10, 3.0), (20, 3.5)]);
        check(&shard, 0, &[(10, 0.5)]);
        check(&shard, 199, &[(10, 199.0)]);
        assert_eq!(shard.head().group_count(), 1);
    }

    #[test]
    fn each_series_has_its_own_order() {
        let mut shard = defined(3);
        row(&mut shard, 100, &[(0, 1.0)]);
        let late = row(&mut shard, 50, &[(0, 9.0), (1, 2.0)]);
        assert_eq!((late.sample_count, late.out_of_order, late.duplicate), (1, 1, 0));
        let later = row(&mut shard, 60, &[(1, 3.0), (2, 4.0)]);
        assert_eq!((later.sample_count, later.out_of_order), (2, 0));
        let again = row(&mut shard, 60, &[(1, 3.0), (2, 5.0)]);
        assert_eq!((again.sample_count, again.out_of_order, again.duplicate), (0, 0, 1));
        row(&mut shard, 110, &[(0, 1.5), (1, 3.5), (2, 4.5)]);
        assert_eq!(row(&mut shard, 105, &[(1, 0.0)]).out_of_order, 1);
        check(&shard, 0, &[(100, 1.0), (110, 1.5)]);
        check(&shard, 1, &[(50, 2.0), (60, 3.0), (110, 3.5)]);
        check(&shard, 2, &[(60, 4.0), (110, 4.5)]);
    }

    #[test]
    fn late_samples_go_in_where_the_batch_allows_it() {
        let mut shard = defined(2);
        row(&mut shard, 100, &[(0, 1.0), (1, 1.0)]);
        let mut batch = Vec::new();
        record::begin(&mut batch, SOURCE);
        record::push_late(&mut batch, 50);
        for (time, value) in [(60, 6.0), (50, 5.0), (49, 4.0), (60, 7.0), (100, 2.0)] {
            record::push_row(&mut batch, 0, time, true, &[(0, value)]);
        }
        let a = shard.apply(&batch).unwrap();
        assert_eq!((a.sample_count, a.late, a.too_old, a.duplicate), (2, 2, 1, 1));
        check(&shard, 0, &[(50, 5.0), (60, 6.0), (100, 1.0)]);
        assert_eq!(row(&mut shard, 60, &[(1, 9.0)]).out_of_order, 1);
        check(&shard, 1, &[(100, 1.0)]);
    }

    #[test]
    fn a_sealed_row_sends_late_pieces_beside() {
        let mut shard = defined(2);
        for t in 1..=300 {
            row(&mut shard, t * 10, &[(0, t as f64)]);
        }
        row(&mut shard, 3000, &[(1, 1.0)]);
        row(&mut shard, 2990, &[(1, 1.0)]);
        check(&shard, 1, &[(3000, 1.0)]);
        let all: Vec<(Timestamp, f64)> = (1..=300).map(|t| (t * 10, t as f64)).collect();
        check(&shard, 0, &all);
    }

    #[test]
    fn any_order_of_rows_keeps_what_prometheus_would_keep() {
        let mut x = 9u64;
        let mut chance = |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let mut shard = defined(5);
        let mut model: Vec<Vec<(Timestamp, f64)>> = vec![Vec::new(); 5];
        for turn in 0..3000u64 {
            let time = (turn / 3 * 10) as i64 - chance(4) as i64 * 10;
            let mask = chance(32);
            let named: Vec<(u32, f64)> =
                (0..5).filter(|s| mask >> s & 1 == 1).map(|s| (s, chance(3) as f64)).collect();
            if named.is_empty() {
                continue;
            }
            row(&mut shard, time, &named);
            for (slot, v) in named {
                let kept = &mut model[slot as usize];
                if kept.last().is_none_or(|l| l.0 < time) {
                    kept.push((time, v));
                }
            }
        }
        model.iter().enumerate().for_each(|(i, want)| check(&shard, i as u32, want));
    }
}
