//! The newest row of a group at a moment, by slot: its last values, where rows came after that moment unwound by those;
//! in a sealed window only which slots have a sample.

use model::Timestamp;

use crate::shard::head::group::{Group, slots_of};
use crate::shard::head::row::Row;

/// Values of a group as they were some rows ago. Kept for its memory.
#[derive(Debug, Default)]
pub(in crate::shard) struct Unwound {
    pub(in crate::shard) values: Vec<f64>,
    /// Slots whose value is not found yet.
    missing: Vec<u64>,
    /// Slots that have a sample.
    pub(in crate::shard) present: Vec<u64>,
}

impl Unwound {
    /// Takes back what the rows `later` have brought: what they name was named before in `rows`, or is in `base`. With
    /// `wanted`, the values of other slots may be any.
    pub(in crate::shard) fn unwind(
        &mut self,
        group: &Group,
        rows: &[Row<'_>],
        later: &[Row<'_>],
        wanted: Option<&[u64]>,
    ) {
        copy_wanted(&mut self.values, group.last_values(), wanted);
        self.missing.clear();
        self.missing.resize(group.slot_count().div_ceil(64), 0);
        for row in later {
            self.missing.iter_mut().zip(row.mask).for_each(|(m, named)| *m |= named);
        }
        if let Some(wanted) = wanted {
            self.missing.iter_mut().zip(wanted).for_each(|(m, wanted)| *m &= wanted);
        }
        for row in rows.iter().rev() {
            if !self.take_missing(row) {
                return;
            }
        }
        for slot in slots_of(&self.missing) {
            self.values[slot] = group.base[slot];
        }
    }

    /// Takes what is missing from a row; false where nothing is any more.
    fn take_missing(&mut self, row: &Row<'_>) -> bool {
        let (mut rank, mut left) = (0, 0);
        for (w, (missing, named)) in self.missing.iter_mut().zip(row.mask).enumerate() {
            let mut found = *missing & named;
            while found != 0 {
                let bit = found.trailing_zeros();
                let before = named & ((1 << bit) - 1);
                let at = rank + before.count_ones() as usize;
                self.values[w * 64 + bit as usize] = f64::from_bits(row.values[at]);
                found &= found - 1;
            }
            rank += named.count_ones() as usize;
            *missing &= !named;
            left |= *missing;
        }
        left | self.missing.iter().skip(row.mask.len()).fold(0, |all, m| all | m) != 0
    }
}

/// Copies values of slots, of those that are wanted at least.
pub(in crate::shard) fn copy_wanted(to: &mut Vec<f64>, from: &[f64], wanted: Option<&[u64]>) {
    let Some(wanted) = wanted else {
        to.clear();
        to.extend_from_slice(from);
        return;
    };
    to.resize(from.len(), 0.0);
    for (word, (to, from)) in wanted.iter().zip(to.chunks_mut(64).zip(from.chunks(64))) {
        if *word != 0 {
            to.copy_from_slice(from);
        }
    }
}

impl Group {
    /// The newest row between two times, if it is a full one: its time, and by slot what it has (a slot whose value
    /// does not repeat has none). `None` says nothing: rows must be read.
    ///
    /// Of `slots_wanted`: to unwind all slots for a few of them costs more than to read those.
    pub(in crate::shard) fn newest_row<'a>(
        &'a self,
        mint: Timestamp,
        maxt: Timestamp,
        slots_wanted: usize,
        unwound: &'a mut Unwound,
    ) -> Option<(Timestamp, &'a [f64])> {
        if self.last_values().len() < self.slot_count() {
            return None;
        }
        let (time, is_full) = match self.open.last_row() {
            Some(row) => (row.time, !row.is_partial),
            None => self.sealed_row()?,
        };
        if time <= maxt {
            return (is_full && time >= mint).then_some((time, self.last_values()));
        }
        if slots_wanted * 4 < self.slot_count() {
            return None;
        }
        let rows: Vec<Row<'_>> = self.open.iter().collect();
        let (earlier, later) = rows.split_at(rows.partition_point(|r| r.time <= maxt));
        let (time, is_full) = match earlier.last() {
            Some(row) => (row.time, !row.is_partial),
            None => self.sealed_row()?,
        };
        if !is_full || !(mint..=maxt).contains(&time) {
            return None;
        }
        unwound.unwind(self, earlier, later, None);
        Some((time, &unwound.values))
    }

    /// The time of the newest row between two times, where that is sealed and full: a bit for each slot that has a
    /// sample in it goes to `unwound.present`. `None` says nothing: other rows may tell.
    pub(in crate::shard) fn newest_sealed(
        &self,
        mint: Timestamp,
        maxt: Timestamp,
        unwound: &mut Unwound,
    ) -> Option<Timestamp> {
        if self.open.iter().next().is_some_and(|row| row.time <= maxt) {
            return None;
        }
        let window = &self.sealed[self.sealed.partition_point(|w| w.first_time <= maxt).checked_sub(1)?];
        let row = window.newest_row_at(maxt)?;
        (row.1 >= mint && window.present_at(row.0, &mut unwound.present)).then_some(row.1)
    }

    /// The row before the open ones: when it was, and whether it is known to be full.
    fn sealed_row(&self) -> Option<(Timestamp, bool)> {
        Some((self.sealed.last()?.last_time, self.slot_times().is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use model::STALE_NAN;

    use super::*;
    use crate::shard::head::group::Columns;
    use crate::shard::head::image;
    use crate::shard::head::row::{is_absent, repeats};
    use crate::shard::head::window::Sealer;
    use crate::shard::record::SourceId;
    use codec::varint::Reader;

    #[test]
    fn the_newest_row_at_any_moment_is_what_reading_finds_there() {
        let mut x = 11u64;
        let mut chance = move |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let mut told = 0;
        for first_rows in [3, 50] {
            let slots = 150u32;
            let mut g = Group::staggered(first_rows);
            (0..slots).for_each(|s| g.bind(s, model::SeriesId(s)));
            let (mut sealer, mut columns) = (Sealer::default(), Columns::default());
            for t in 1..=40i64 {
                let (mut mask, mut values) = (vec![0u64; slots.div_ceil(64) as usize], Vec::new());
                for s in 0..slots {
                    if chance(3) != 0 {
                        continue;
                    }
                    mask[s as usize / 64] |= 1 << (s % 64);
                    let v = if chance(6) == 0 { STALE_NAN } else { chance(100) as f64 };
                    values.push(v.to_bits());
                }
                let is_partial = first_rows > 3 && chance(5) == 0;
                g.append(t * 10, is_partial, mask.into_iter(), values.into_iter());
                g.seal_if_due(&mut sealer, &mut columns);
                for (mint, maxt) in
                    [(0, t * 10), (0, t * 10 - 5), (0, t * 10 - 35), (t * 10 - 12, t * 10 - 11)]
                {
                    told += usize::from(check(&g, slots, mint, maxt));
                }
            }
        }
        assert!(told > 150, "most rows tell: {told}");
    }

    fn check(g: &Group, slots: u32, mint: Timestamp, maxt: Timestamp) -> bool {
        let mut unwound = Unwound::default();
        let Some((time, values)) = g.newest_row(mint, maxt, g.slot_count(), &mut unwound) else {
            return false;
        };
        assert!((mint..=maxt).contains(&time), "{time} in {mint}..={maxt}");
        let mut columns = Columns::default();
        g.read(&(0..slots).collect::<Vec<_>>(), mint, maxt, &mut columns);
        assert_eq!(columns.times.last(), Some(&time));
        for (slot, v) in values.iter().enumerate() {
            let read = columns.values[(slot + 1) * columns.times.len() - 1];
            assert_eq!(repeats(*v), repeats(read), "slot {slot} at {time}");
            assert!(!repeats(*v) || v.to_bits() == read.to_bits(), "slot {slot} at {time}");
        }
        true
    }

    #[test]
    fn what_is_present_at_any_moment_is_what_reading_finds_there() {
        let mut x = 23u64;
        let mut chance = move |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let mut told = 0;
        for life in 0..60u64 {
            let slots = 1 + chance(200) as u32;
            let mut g = Group::staggered(2 + chance(30) as u32);
            (0..slots).for_each(|s| g.bind(s, model::SeriesId(s)));
            let (mut sealer, mut columns) = (Sealer::default(), Columns::default());
            let (rows, one_in) = (1 + chance(90) as i64, 2 + chance(300));
            for t in 1..=rows {
                let is_last = t == rows && life % 2 == 0;
                let mut named = Vec::new();
                for s in 0..slots {
                    let lives = repeats(g.last_values()[s as usize]);
                    match chance(one_in) {
                        _ if is_last && lives => named.push((s, STALE_NAN)),
                        _ if is_last => {}
                        0 if lives => named.push((s, STALE_NAN)),
                        0 | 1 => named.push((s, t as f64)),
                        _ => {}
                    }
                }
                let mut mask = vec![0u64; slots.div_ceil(64) as usize];
                named.iter().for_each(|(s, _)| mask[*s as usize / 64] |= 1 << (s % 64));
                let is_partial = life % 5 == 4 && chance(9) == 0;
                g.append(t * 10, is_partial, mask.into_iter(), named.iter().map(|n| n.1.to_bits()));
                if g.open.row_count() >= 5 && chance(20) == 0 {
                    g.seal_at = 1;
                }
                g.seal_if_due(&mut sealer, &mut columns);
            }
            if life % 2 == 0 {
                g.retire(&mut sealer, &mut columns);
            }
            let mut image = Vec::new();
            let key = (SourceId(1), 0);
            image::encode_group(key, &g, |id| id.0, &mut image);
            let number = |id| Some(model::SeriesId(id));
            let (_, restored) = image::decode_group(&mut Reader::new(&image), number).unwrap();
            for ask in 0..60 {
                let g = if ask % 3 == 0 { &restored } else { &g };
                let maxt = chance(rows as u64 * 10 + 30) as i64;
                told += usize::from(check_present(g, slots, maxt - chance(100) as i64, maxt));
            }
        }
        assert!(told > 1000, "most moments are told: {told}");
    }

    fn check_present(g: &Group, slots: u32, mint: Timestamp, maxt: Timestamp) -> bool {
        let mut unwound = Unwound::default();
        let Some(time) = g.newest_sealed(mint, maxt, &mut unwound) else { return false };
        let mut columns = Columns::default();
        g.read(&(0..slots).collect::<Vec<_>>(), mint, maxt, &mut columns);
        assert_eq!(columns.times.last(), Some(&time));
        for slot in 0..slots as usize {
            let n = columns.times.len();
            let newest = columns.values[slot * n..(slot + 1) * n].iter().rfind(|v| !is_absent(**v));
            let is_present = unwound.present[slot / 64] >> (slot % 64) & 1 == 1;
            assert_eq!(is_present, newest.is_some_and(|v| repeats(*v)), "slot {slot} at {time}");
        }
        true
    }
}
