//! What a rate needs of a group's series, column by column: their values at the first and at the last row of a window,
//! and what was lost between; where windows are many, their values at each row. Rows are walked once for all series,
//! and no series has samples of its own.

use std::ops::Range;

use model::{SeriesId, Timestamp, is_stale};

use crate::shard::head::Head;
use crate::shard::head::group::Group;
use crate::shard::head::newest::{Unwound, copy_wanted};
use crate::shard::head::row::{Row, is_absent, repeats};
use crate::shard::select::Selection;

/// A group of which fewer than one slot in so many is asked for is not walked: looking each up costs less.
const FEW: usize = 32;

/// Series that have a sample in each row of a window.
#[derive(Debug, Default)]
pub struct EdgeColumns {
    pub first_time: Timestamp,
    pub last_time: Timestamp,
    /// Rows in the window: samples of each series.
    pub row_count: usize,
    pub ids: Vec<SeriesId>,
    pub first: Vec<f64>,
    pub last: Vec<f64>,
    /// The value before the only drop there is, 0 where there is none.
    pub lost: Vec<f64>,
    begin: Vec<f64>,
    drop: Vec<f64>,
    walk: Walk,
}

/// Series that have a sample in each row between two times, none of which is below the one before it where that is
/// asked.
#[derive(Debug, Default)]
pub struct RowColumns {
    pub times: Vec<Timestamp>,
    pub ids: Vec<SeriesId>,
    /// Row by row, one value a series.
    values: Vec<f64>,
    walk: Walk,
}

impl RowColumns {
    /// The values of all series at a row.
    #[inline]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.ids.len()..][..self.ids.len()]
    }

    fn clear(&mut self) {
        self.times.clear();
        self.ids.clear();
        self.values.clear();
    }

    /// Keeps some of the columns, by their places.
    fn keep(&mut self, kept: &[u32]) {
        let (mut to, stride) = (0, self.values.len() / self.times.len().max(1));
        for row in 0..self.times.len() {
            for column in kept {
                self.values[to] = self.values[row * stride + *column as usize];
                to += 1;
            }
        }
        self.values.truncate(to);
    }
}

/// A group's values while its rows are walked.
#[derive(Debug, Default)]
struct Walk {
    current: Vec<f64>,
    wanted: Vec<u64>,
    /// Slots that are to be read one by one.
    odd: Vec<u64>,
    unwound: Unwound,
}

impl Walk {
    /// Begins with the values before the row `from`.
    fn begin(&mut self, group: &Group, run: &[(u32, u32, SeriesId)], rows: &[Row<'_>], from: usize) {
        for bits in [&mut self.wanted, &mut self.odd] {
            bits.clear();
            bits.resize(group.slot_count().div_ceil(64), 0);
        }
        run.iter().for_each(|(_, slot, _)| self.wanted[*slot as usize / 64] |= 1 << (slot % 64));
        if from == 0 {
            copy_wanted(&mut self.current, &group.base, Some(&self.wanted));
        } else {
            // Rows before the window may be many: what lies in it is taken back from the newest values.
            self.unwound.unwind(group, &rows[..from], &rows[from..], Some(&self.wanted));
            std::mem::swap(&mut self.current, &mut self.unwound.values);
        }
    }

    fn is_odd(&self, slot: usize) -> bool {
        self.odd[slot / 64] >> (slot % 64) & 1 == 1
    }

    /// Takes the wanted values that a row names.
    fn advance(&mut self, row: &Row<'_>) {
        let Walk { current, wanted, .. } = self;
        each_wanted(row, wanted, |slot, v| current[slot] = v);
    }

    /// The same within the window: notes slots that have not a sample in each row, and those whose value falls where
    /// `falls(slot, old)` says that this is odd.
    #[inline]
    fn advance_inside(&mut self, row: &Row<'_>, mut falls: impl FnMut(usize, f64) -> bool) {
        let Walk { current, wanted, odd, .. } = self;
        each_wanted(row, wanted, |slot, new| {
            let old = std::mem::replace(&mut current[slot], new);
            let mut is_odd = is_stale(new) || !repeats(old);
            if new < old {
                is_odd |= falls(slot, old);
            }
            odd[slot / 64] |= u64::from(is_odd) << (slot % 64);
        });
    }
}

/// Calls `f(slot, value)` for each slot of `wanted` that a row names.
#[inline]
fn each_wanted(row: &Row<'_>, wanted: &[u64], mut f: impl FnMut(usize, f64)) {
    let mut rank = 0;
    for (w, (named, wanted)) in row.mask.iter().zip(wanted).enumerate() {
        let (mut left, mut at) = (named & wanted, rank);
        rank += named.count_ones() as usize;
        if left == *named {
            while left != 0 {
                f(w * 64 + left.trailing_zeros() as usize, f64::from_bits(row.values[at]));
                at += 1;
                left &= left - 1;
            }
            continue;
        }
        while left != 0 {
            let bit = left.trailing_zeros();
            let before = named & ((1 << bit) - 1);
            f(w * 64 + bit as usize, f64::from_bits(row.values[at + before.count_ones() as usize]));
            left &= left - 1;
        }
    }
}

/// The open rows, and which of them lie between two times (inclusive); `None` where they do not tell all that does,
/// because some rows of that time are sealed or name only what they have.
fn rows_between(group: &Group, mint: Timestamp, maxt: Timestamp) -> Option<(Vec<Row<'_>>, Range<usize>)> {
    if group.sealed.last().is_some_and(|w| w.last_time >= mint) {
        return None;
    }
    let rows: Vec<Row<'_>> = group.open.iter().collect();
    let inside = rows.partition_point(|r| r.time < mint)..rows.partition_point(|r| r.time <= maxt);
    let are_full = rows.get(inside.clone())?.iter().all(|r| !r.is_partial);
    are_full.then_some((rows, inside))
}

impl Group {
    /// Fills `out` from the open rows between two times; false where they do not tell.
    fn read_edges(
        &self,
        run: &[(u32, u32, SeriesId)],
        mint: Timestamp,
        maxt: Timestamp,
        out: &mut EdgeColumns,
    ) -> bool {
        let Some((rows, inside)) = rows_between(self, mint, maxt) else { return false };
        [&mut out.first, &mut out.last, &mut out.lost].into_iter().for_each(Vec::clear);
        let Some(([first], behind)) = rows[inside.clone()].split_at_checked(1) else { return true };
        out.walk.begin(self, run, &rows, inside.start);
        // What ended before has no sample here, and says so by a value that does not repeat.
        out.walk.advance(first);
        copy_wanted(&mut out.begin, &out.walk.current, Some(&out.walk.wanted));
        out.drop.clear();
        out.drop.resize(self.slot_count(), 0.0);
        for row in behind {
            let drop = &mut out.drop;
            // Of one drop the value before it is what was lost.
            out.walk.advance_inside(row, |slot, old| std::mem::replace(&mut drop[slot], old) != 0.0);
        }
        (out.first_time, out.last_time) = (first.time, behind.last().unwrap_or(first).time);
        out.row_count = inside.len();
        true
    }

    /// Fills `out` from the open rows between two times, with a column for each of `run`; false where they do not tell.
    fn read_rows(
        &self,
        run: &[(u32, u32, SeriesId)],
        mint: Timestamp,
        maxt: Timestamp,
        drops_are_odd: bool,
        out: &mut RowColumns,
    ) -> bool {
        let Some((rows, inside)) = rows_between(self, mint, maxt) else { return false };
        if inside.is_empty() {
            return true;
        }
        out.walk.begin(self, run, &rows, inside.start);
        for (i, row) in rows[inside].iter().enumerate() {
            if i == 0 {
                out.walk.advance(row);
            } else {
                out.walk.advance_inside(row, |_, _| drops_are_odd);
            }
            out.times.push(row.time);
            let current = &out.walk.current;
            out.values.extend(run.iter().map(|(_, slot, _)| current[*slot as usize]));
        }
        true
    }
}

impl Head {
    /// Where the series of the next group lie among what is placed; nowhere where none is. `None` where what comes next
    /// is to be read by batches: it was looked at already.
    fn next_run(&self, s: &mut Selection) -> Option<Range<usize>> {
        if s.placed_read == s.placed.len() && !self.place_next(s) || s.placed_read < s.left_to {
            return None;
        }
        let rest = &s.placed[s.placed_read..];
        let count = rest.iter().take_while(|p| p.0 == rest[0].0).count();
        Some(s.placed_read..s.placed_read + count)
    }

    /// Fills `out` with the next group of a selection, as far as rows tell; what they do not tell is left to be read.
    /// False where the next batch has to be read instead.
    pub fn next_edges(&self, s: &mut Selection, out: &mut EdgeColumns) -> bool {
        out.row_count = 0;
        out.ids.clear();
        let Some(run) = self.next_run(s) else { return false };
        let Some(group) = self.walked(s, &run) else { return run.is_empty() };
        if !group.read_edges(&s.placed[run.clone()], s.mint, s.maxt, out) {
            out.row_count = 0;
            return false;
        }
        let mut left = Vec::new();
        for place in &s.placed[run.clone()] {
            let slot = place.1 as usize;
            if out.row_count > 0 && out.walk.is_odd(slot) {
                left.push(*place);
            } else if out.row_count > 0 && repeats(out.begin[slot]) {
                debug_assert!(!is_absent(out.walk.current[slot]), "a slot with a first value has a last one");
                out.ids.push(place.2);
                out.first.push(out.begin[slot]);
                out.last.push(out.walk.current[slot]);
                out.lost.push(out.drop[slot]);
            }
        }
        s.leave(run, &left);
        true
    }

    /// The group of a run, where walking its rows costs less than looking up what is asked for; in any case what is
    /// not taken of the run is read by batches.
    fn walked(&self, s: &mut Selection, run: &Range<usize>) -> Option<&Group> {
        s.left_to = run.end;
        let group = &self.groups[s.placed.get(run.start)?.0 as usize];
        (run.len() * FEW >= group.slot_count()).then_some(group)
    }

    /// Fills `out` with the next group of a selection row by row, as far as rows tell; what they do not tell is left to
    /// be read. With `drops_are_odd`, what falls from one row to the next is left, too. False where the next batch has
    /// to be read instead.
    pub fn next_rows(&self, s: &mut Selection, drops_are_odd: bool, out: &mut RowColumns) -> bool {
        out.clear();
        let Some(run) = self.next_run(s) else { return false };
        let Some(group) = self.walked(s, &run) else { return run.is_empty() };
        if !group.read_rows(&s.placed[run.clone()], s.mint, s.maxt, drops_are_odd, out) {
            return false;
        }
        if out.times.is_empty() {
            s.leave(run, &[]);
            return true;
        }
        let (mut left, mut kept) = (Vec::new(), Vec::with_capacity(run.len()));
        for (column, place) in s.placed[run.clone()].iter().enumerate() {
            if out.walk.is_odd(place.1 as usize) {
                left.push(*place);
            } else if repeats(out.values[column]) {
                out.ids.push(place.2);
                kept.push(column as u32);
            }
        }
        if kept.len() < run.len() {
            out.keep(&kept);
        }
        s.leave(run, &left);
        true
    }
}

#[cfg(test)]
mod tests {
    use model::STALE_NAN;

    use super::*;
    use crate::shard::head::group::Columns;
    use crate::shard::head::window::Sealer;

    fn chances(mut x: u64) -> impl FnMut(u64) -> u64 {
        move |n| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        }
    }

    /// A group whose slots mostly count upwards, a row each 10 ms.
    fn grown(chance: &mut impl FnMut(u64) -> u64, rows: i64) -> Group {
        let slots = 1 + chance(150) as u32;
        let mut g = Group::staggered(1 + chance(40) as u32);
        (0..slots).for_each(|s| g.bind(s, SeriesId(s)));
        let (mut sealer, mut columns) = (Sealer::default(), Columns::default());
        let (falls, ends, partial) = (2 + chance(200), 2 + chance(400), 2 + chance(40));
        for t in 1..=rows {
            let (mut mask, mut values) = (vec![0u64; slots.div_ceil(64) as usize], Vec::new());
            for s in 0..slots {
                if chance(3) == 0 {
                    continue;
                }
                mask[s as usize / 64] |= 1 << (s % 64);
                let v =
                    if chance(falls) == 0 { chance(3) as f64 } else { (t * 10) as f64 + chance(9) as f64 };
                values.push(if chance(ends) == 0 { STALE_NAN } else { v }.to_bits());
            }
            g.append(t * 10, chance(partial) == 0, mask.into_iter(), values.into_iter());
            g.seal_if_due(&mut sealer, &mut columns);
        }
        g
    }

    fn head_of(group: Group) -> Head {
        let mut head = Head::default();
        head.restore_group((crate::shard::record::SourceId(1), 0), group);
        head
    }

    /// The samples of a series in a window.
    fn samples(head: &Head, id: SeriesId, mint: Timestamp, maxt: Timestamp) -> Vec<(Timestamp, f64)> {
        let mut columns = Columns::default();
        head.groups[0].read(&[id.0], mint, maxt, &mut columns);
        let pairs = columns.times.iter().copied().zip(columns.values.iter().copied());
        pairs.filter(|(_, v)| !is_absent(*v)).collect()
    }

    /// All series of a group, or one in so many, at no even distance.
    fn some_of(group: &Group, one_in: u32) -> impl Iterator<Item = SeriesId> {
        (0..group.slot_count() as u32).filter(move |s| s * s % 41 % one_in == 0).map(SeriesId)
    }

    #[test]
    fn columns_hold_what_reading_series_by_series_finds() {
        let mut chance = chances(77);
        let (mut taken, mut left, mut refused) = (0, 0, 0);
        for _ in 0..700 {
            let (rows, one_in) = (1 + chance(60) as i64, 1 + chance(6) as u32);
            let head = head_of(grown(&mut chance, rows));
            let ids = || some_of(&head.groups[0], one_in);
            let maxt = chance(rows as u64 * 10 + 20) as i64;
            let mint = maxt - chance(200) as i64;
            let drops_are_odd = chance(2) == 0;
            let (mut out, mut s) = (RowColumns::default(), head.selection(ids(), mint, maxt));
            let is_told = head.groups[0].read_rows(&s.placed, mint, maxt, drops_are_odd, &mut out);
            if !is_told {
                refused += 1;
                continue;
            }
            let stride = s.placed.len();
            for (column, (_, slot, id)) in s.placed.drain(..).enumerate() {
                let want = samples(&head, id, mint, maxt);
                if out.times.is_empty() {
                    assert!(want.is_empty());
                } else if out.walk.is_odd(slot as usize) {
                    left += 1;
                } else if repeats(out.values[column]) {
                    let rows = out.times.iter().enumerate();
                    let have: Vec<_> = rows.map(|(r, t)| (*t, out.values[r * stride + column])).collect();
                    assert_eq!(have, want, "{id:?} from {mint} to {maxt}");
                    let falls = want.windows(2).any(|w| w[1].1 < w[0].1);
                    assert!(!(falls && drops_are_odd), "{want:?}");
                    taken += 1;
                } else {
                    assert!(want.iter().all(|(_, v)| is_stale(*v)), "{want:?}");
                }
            }
        }
        assert!(taken > 2000 && left > 500 && refused > 20, "{taken} taken, {left} left, {refused} refused");
    }

    #[test]
    fn edges_are_those_of_reading_series_by_series() {
        let mut chance = chances(78);
        let (mut taken, mut left) = (0, 0);
        for _ in 0..700 {
            let (rows, one_in) = (1 + chance(60) as i64, 1 + chance(6) as u32);
            let head = head_of(grown(&mut chance, rows));
            let ids = || some_of(&head.groups[0], one_in);
            let maxt = chance(rows as u64 * 10 + 20) as i64;
            let mint = maxt - chance(200) as i64;
            let (mut out, s) = (EdgeColumns::default(), head.selection(ids(), mint, maxt));
            if !head.groups[0].read_edges(&s.placed, mint, maxt, &mut out) || out.row_count == 0 {
                continue;
            }
            for (_, slot, id) in &s.placed {
                let (slot, want) = (*slot as usize, samples(&head, *id, mint, maxt));
                if out.walk.is_odd(slot) {
                    left += 1;
                } else if repeats(out.begin[slot]) {
                    assert_eq!(want.len(), out.row_count);
                    assert_eq!((want[0].0, want[want.len() - 1].0), (out.first_time, out.last_time));
                    assert_eq!(want[0].1.to_bits(), out.begin[slot].to_bits());
                    assert_eq!(want[want.len() - 1].1.to_bits(), out.walk.current[slot].to_bits());
                    let drops: Vec<f64> =
                        want.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).collect();
                    assert!(drops.len() <= 1 || drops[..drops.len() - 1].iter().all(|d| *d == 0.0));
                    assert_eq!(drops.last().copied().unwrap_or(0.0), out.drop[slot]);
                    taken += 1;
                } else {
                    assert!(want.iter().all(|(_, v)| is_stale(*v)), "{want:?}");
                }
            }
        }
        assert!(taken > 2000 && left > 500, "{taken} taken, {left} left");
    }
}
