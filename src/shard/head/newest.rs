//! The newest row of a group at a moment, by slot: its last values, where rows came after that moment unwound by those.

use model::Timestamp;

use crate::shard::head::group::{Group, slots_of};
use crate::shard::head::row::Row;

/// Values of a group as they were some rows ago. Kept for its memory.
#[derive(Debug, Default)]
pub(in crate::shard) struct Unwound {
    values: Vec<f64>,
    /// Slots whose value is not found yet.
    missing: Vec<u64>,
}

impl Unwound {
    /// Takes back what the rows `later` have brought: what they name was named before in `rows`, or is in `base`.
    fn unwind(&mut self, group: &Group, rows: &[Row<'_>], later: &[Row<'_>]) {
        self.values.clear();
        self.values.extend_from_slice(group.last_values());
        self.missing.clear();
        self.missing.resize(group.slot_count().div_ceil(64), 0);
        for row in later {
            self.missing.iter_mut().zip(row.mask).for_each(|(m, named)| *m |= named);
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
        unwound.unwind(self, earlier, later);
        Some((time, &unwound.values))
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
    use crate::shard::head::row::repeats;
    use crate::shard::head::window::Sealer;

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
}
