//! A group: the series of one source on this shard, appended to row by row.

use std::ops::Range;

use model::{SeriesId, Timestamp, is_stale};

use crate::shard::head::row::{ABSENT, Row, RowLog, is_absent, repeats};
use crate::shard::head::window::{Sealer, Window};

/// Slots of one group at most: a mask of 64 words, and a sealed window's offsets, stay within a few pages.
pub(in crate::shard) const GROUP_SLOTS_MAX: u32 = 4096;

pub(in crate::shard) struct Group {
    /// The series of each slot; `None` where a slot was skipped.
    pub(in crate::shard) series: Vec<Option<SeriesId>>,
    /// The value of each slot before the first open row.
    pub(in crate::shard) base: Vec<f64>,
    /// The value of each slot after the last row.
    last: Vec<f64>,
    last_time: Timestamp,
    /// Time of each slot's newest sample, in its rows or beside them; kept from the first partial row on.
    slot_times: Vec<Timestamp>,
    /// Slots whose last value repeats: what a full row holds beside staleness markers.
    present_count: usize,
    pub(in crate::shard) open: RowLog,
    /// Older rows, in windows of at most [`SEALED_ROWS_MAX`].
    pub(in crate::shard) sealed: Vec<Window>,
    /// Open rows at which the next seal is due.
    pub(in crate::shard) seal_at: u32,
    /// Its source belongs to an earlier life of the process: nobody appends to it any more.
    pub(in crate::shard) is_over: bool,
}

/// Rows of a sealed window: long enough that a chunk's header is little beside its values, short enough that the
/// open rows stay small.
pub(in crate::shard) const SEAL_ROWS: u32 = 64;

impl Default for Group {
    fn default() -> Self {
        Group {
            series: Vec::new(),
            base: Vec::new(),
            last: Vec::new(),
            last_time: Timestamp::MIN,
            slot_times: Vec::new(),
            present_count: 0,
            open: RowLog::default(),
            sealed: Vec::new(),
            seal_at: SEAL_ROWS,
            is_over: false,
        }
    }
}

/// Columns that a group decodes into: one run of values a slot, over shared times.
#[derive(Clone, Debug, Default)]
pub(in crate::shard) struct Columns {
    pub(in crate::shard) times: Vec<Timestamp>,
    /// Slot-major: `values[i * times.len() ..]` for the i-th slot asked for; [`ABSENT`] where it has no sample.
    pub(in crate::shard) values: Vec<f64>,
    /// Values while rows are walked, by slot. Kept for its memory.
    current: Vec<f64>,
    windows: Vec<WindowPart>,
}

/// The rows of a sealed window that a reading wants, and where they go in each column.
#[derive(Clone, Debug)]
struct WindowPart {
    window: usize,
    rows: Range<usize>,
    at: usize,
}

/// Which open rows a reading wants: between two times, into columns of `stride` values from `from` on.
#[derive(Clone, Copy)]
struct Span {
    mint: Timestamp,
    maxt: Timestamp,
    stride: usize,
    from: usize,
}

/// A window never has more rows: groups begin to seal between half and one and a half [`SEAL_ROWS`].
pub(in crate::shard) const SEALED_ROWS_MAX: usize = 2 * SEAL_ROWS as usize;

impl Columns {
    fn note_window(&mut self, i: usize, window: &Window, mint: Timestamp, maxt: Timestamp) {
        let mut times = [0; SEALED_ROWS_MAX];
        let times = &mut times[..window.row_count()];
        window.read_times(times);
        let rows = times.partition_point(|t| *t < mint)..times.partition_point(|t| *t <= maxt);
        let at = self.times.len();
        self.times.extend_from_slice(&times[rows.clone()]);
        self.windows.push(WindowPart { window: i, rows, at });
    }
}

impl Group {
    /// A group whose first seal comes after `first_rows` rows, so that groups do not all seal in one second.
    pub(in crate::shard) fn staggered(first_rows: u32) -> Self {
        Group { seal_at: first_rows.clamp(1, SEALED_ROWS_MAX as u32), ..Group::default() }
    }

    /// A group as it was when its parts were written to a file.
    pub(in crate::shard) fn restored(
        series: Vec<Option<SeriesId>>,
        base: Vec<f64>,
        open: RowLog,
        sealed: Vec<Window>,
        last_time: Timestamp,
        slot_times: Vec<Timestamp>,
        seal_at: u32,
    ) -> Self {
        let mut last = base.clone();
        open.iter().for_each(|row| row.for_each(|slot, v| last[slot] = v));
        let present_count = last.iter().filter(|v| repeats(**v)).count();
        let newest = open.last_row().map(|r| r.time).max(sealed.last().map(|w| w.last_time));
        let last_time = newest.map_or(last_time, |n| n.max(last_time));
        let seal_at = seal_at.clamp(1, SEALED_ROWS_MAX as u32);
        let mut group = Group {
            series,
            base,
            last,
            last_time,
            slot_times,
            present_count,
            open,
            sealed,
            seal_at,
            is_over: false,
        };
        if group.open.row_count() == 0
            && group.slot_times.is_empty()
            && group.base.iter().all(|v| is_absent(*v))
        {
            group.give_back();
        }
        group
    }

    /// Seals what is open and gives back what only the next row would need. Returns whether there was something to
    /// seal.
    pub(in crate::shard) fn retire(&mut self, sealer: &mut Sealer, columns: &mut Columns) -> bool {
        let has_rows = self.open.row_count() > 0;
        if has_rows {
            self.seal(sealer, columns);
        }
        self.give_back();
        has_rows
    }

    fn give_back(&mut self) {
        (self.base, self.last, self.slot_times) = (Vec::new(), Vec::new(), Vec::new());
        (self.open, self.present_count) = (RowLog::default(), 0);
        self.series.shrink_to_fit();
        self.sealed.shrink_to_fit();
    }

    /// A row comes after all: no slot has a value that it could repeat.
    fn regrow(&mut self) {
        if self.last.len() < self.series.len() {
            self.base.resize(self.series.len(), ABSENT);
            self.last.resize(self.series.len(), ABSENT);
        }
    }

    /// The value of each slot before the first open row.
    pub(in crate::shard) fn bases(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.series.len()).map(|slot| self.base.get(slot).copied().unwrap_or(ABSENT))
    }

    /// The group of some of its slots, ascending, which are named anew.
    pub(in crate::shard) fn of_slots(&self, slots: &[(u32, SeriesId)]) -> Group {
        let old: Vec<u32> = slots.iter().map(|s| s.0).collect();
        let mut open = RowLog::default();
        let (mut mask, mut values) = (Vec::new(), Vec::new());
        for row in self.open.iter() {
            mask.clear();
            mask.resize(slots.len().div_ceil(64), 0u64);
            values.clear();
            for (new, slot) in old.iter().enumerate() {
                if let Some(v) = row.value(*slot) {
                    mask[new / 64] |= 1 << (new % 64);
                    values.push(v.to_bits());
                }
            }
            open.push(row.time, row.is_partial, mask.iter().copied(), values.iter().copied());
        }
        Group::restored(
            slots.iter().map(|s| Some(s.1)).collect(),
            old.iter().map(|s| self.base.get(*s as usize).copied().unwrap_or(ABSENT)).collect(),
            open,
            self.sealed.iter().map(|w| w.of_slots(&old)).collect(),
            self.last_time,
            old.iter().filter_map(|s| self.slot_times.get(*s as usize)).copied().collect(),
            self.seal_at,
        )
    }

    pub(in crate::shard) fn first_time(&self) -> Option<Timestamp> {
        match self.sealed.first() {
            Some(w) => Some(w.first_time),
            None => self.open.iter().next().map(|r| r.time),
        }
    }

    /// Whether any row lies between two times (inclusive).
    pub(in crate::shard) fn overlaps(&self, start: Timestamp, end: Timestamp) -> bool {
        self.first_time().is_some_and(|f| f <= end) && self.last_time >= start
    }

    pub(in crate::shard) fn last_time(&self) -> Timestamp {
        self.last_time
    }

    pub(in crate::shard) fn heap_bytes(&self) -> usize {
        self.open.heap_bytes()
            + self.sealed.iter().map(Window::heap_bytes).sum::<usize>()
            + (self.base.capacity() + self.last.capacity()) * 8
            + (self.series.capacity() + self.slot_times.capacity()) * 8
    }

    /// Binds `slot` to a series. Slots are bound before they are named in a row.
    pub(in crate::shard) fn bind(&mut self, slot: u32, series: SeriesId) {
        let need = slot as usize + 1;
        if self.series.len() < need {
            self.series.resize(need, None);
            self.regrow();
        }
        self.series[slot as usize] = Some(series);
    }

    pub(in crate::shard) fn slot_count(&self) -> usize {
        self.series.len()
    }

    /// Appends a row newer than the last one. `mask` names bound slots only (the caller checked).
    pub(in crate::shard) fn append(
        &mut self,
        time: Timestamp,
        is_partial: bool,
        mask: impl ExactSizeIterator<Item = u64> + Clone,
        values: impl ExactSizeIterator<Item = u64>,
    ) {
        debug_assert!(time > self.last_time, "rows are in order");
        self.regrow();
        self.open.push(time, is_partial, mask, values);
        self.last_time = time;
        let Group { open, last, present_count, .. } = self;
        if let Some(row) = open.last_row() {
            row.for_each(|slot, v| {
                *present_count += usize::from(repeats(v));
                *present_count -= usize::from(repeats(last[slot]));
                last[slot] = v;
            });
        }
    }

    /// The value of each slot after the last row; none where a group that is over has given them back.
    pub(in crate::shard) fn last_values(&self) -> &[f64] {
        &self.last
    }

    /// Whether a partial row is newer than all that is known of its slots, so that no single slot needs a look.
    /// A slot without any sample says no: its series may have some elsewhere.
    pub(in crate::shard) fn is_plainly_new(&mut self, time: Timestamp, mask: &[u64]) -> bool {
        self.slot_times.resize(self.series.len(), Timestamp::MIN);
        let times = &self.slot_times;
        time > self.last_time
            && slots_of(mask).all(|s| times.get(s).is_some_and(|t| (Timestamp::MIN + 1..time).contains(t)))
    }

    /// Notes that each slot of `mask` has a sample at `time`.
    pub(in crate::shard) fn note_times(&mut self, time: Timestamp, mask: &[u64]) {
        slots_of(mask).for_each(|s| self.slot_times[s] = time);
    }

    /// Notes a sample of one slot that lies beside the rows.
    pub(in crate::shard) fn note_beside(&mut self, slot: u32, time: Timestamp) {
        if let Some(t) = self.slot_times.get_mut(slot as usize) {
            *t = time;
        }
    }

    /// Times of the newest samples by slot; empty where no partial row was taken.
    pub(in crate::shard) fn slot_times(&self) -> &[Timestamp] {
        &self.slot_times
    }

    /// The newest sample of a slot as far as the group knows. Of full rows only the last value is known, and of a
    /// slot that ended in them nothing.
    pub(in crate::shard) fn newest(&self, slot: u32) -> Option<(Timestamp, f64)> {
        let value = *self.last.get(slot as usize)?;
        match self.slot_times.get(slot as usize) {
            Some(t) => (*t > Timestamp::MIN).then_some((*t, value)),
            None => repeats(value).then_some((self.last_time, value)),
        }
    }

    /// A time that no row with a sample of a slot is behind, and that no row will have that the slot gets later.
    pub(in crate::shard) fn reach_of(&self, slot: u32) -> Option<Timestamp> {
        // The last row takes further slots: this one is in it, or may yet come.
        let may_come = self.has_open_partial() && self.slot_times.get(slot as usize) != Some(&self.last_time);
        (self.last_time > Timestamp::MIN).then(|| self.last_time - i64::from(may_come))
    }

    /// Whether the last row is open and takes further slots.
    pub(in crate::shard) fn has_open_partial(&self) -> bool {
        self.open.last_row().is_some_and(|r| r.is_partial)
    }

    /// Adds (slot, bits) to the last row, which is open and partial; none of the slots is in it yet.
    pub(in crate::shard) fn merge_last(&mut self, named: &[(u32, u64)]) {
        self.open.merge_last(named);
        for (slot, bits) in named {
            let last = &mut self.last[*slot as usize];
            self.present_count += usize::from(repeats(f64::from_bits(*bits)));
            self.present_count -= usize::from(repeats(*last));
            *last = f64::from_bits(*bits);
        }
    }

    /// Samples that a full row holds, staleness markers not counted.
    pub(in crate::shard) fn present_count(&self) -> usize {
        self.present_count
    }

    /// Decodes the samples of `slots` (ascending) with `mint <= time <= maxt`.
    pub(in crate::shard) fn read(&self, slots: &[u32], mint: Timestamp, maxt: Timestamp, out: &mut Columns) {
        out.times.clear();
        out.values.clear();
        if self.last_time < mint || maxt < mint {
            return;
        }
        out.windows.clear();
        for (i, w) in self.sealed.iter().enumerate() {
            if w.last_time >= mint && w.first_time <= maxt {
                out.note_window(i, w, mint, maxt);
            }
        }
        let open_from = out.times.len();
        out.times.extend(self.open.iter().map(|r| r.time).filter(|t| (mint..=maxt).contains(t)));
        let total = out.times.len();
        out.values.resize(slots.len() * total, ABSENT);
        self.read_sealed(slots, out);
        if open_from == total {
            return;
        }
        let span = Span { mint, maxt, stride: total, from: open_from };
        // Expanding a whole row costs about a slot's look-up by rank for every third slot.
        if slots.len() * 3 > self.slot_count() {
            self.read_wide(slots, span, out);
        } else {
            self.read_narrow(slots, span, &mut out.values);
        }
    }

    fn read_sealed(&self, slots: &[u32], out: &mut Columns) {
        let stride = out.times.len();
        let mut column = [0.0; SEALED_ROWS_MAX];
        for part in &out.windows {
            let window = &self.sealed[part.window];
            let column = &mut column[..window.row_count()];
            for (i, slot) in slots.iter().enumerate() {
                window.read_slot(*slot, column);
                let to = i * stride + part.at;
                out.values[to..to + part.rows.len()].copy_from_slice(&column[part.rows.clone()]);
            }
        }
    }

    /// Decodes the open rows of `slots`.
    pub(super) fn read_open(&self, slots: &[u32], columns: &mut Columns) {
        columns.times.clear();
        columns.values.clear();
        columns.times.extend(self.open.iter().map(|r| r.time));
        let stride = columns.times.len();
        columns.values.resize(slots.len() * stride, ABSENT);
        let span = Span { mint: Timestamp::MIN, maxt: Timestamp::MAX, stride, from: 0 };
        self.read_wide(slots, span, columns);
    }

    /// The open rows lie in a window now: the next ones repeat what they ended with.
    pub(super) fn note_sealed(&mut self) {
        self.base.copy_from_slice(&self.last);
        // Its memory goes to whichever group grows now: groups seal at different rows.
        self.open = RowLog::default();
        self.seal_at = SEAL_ROWS;
    }

    /// Walks the rows once, keeping all slots' current values.
    fn read_wide(&self, slots: &[u32], span: Span, out: &mut Columns) {
        let Span { mint, maxt, stride, from } = span;
        let Columns { values, current, .. } = out;
        current.clear();
        current.extend_from_slice(&self.base);
        let mut r = from;
        for row in self.open.iter() {
            if row.time > maxt {
                break;
            }
            if row.time >= mint {
                if row.is_partial {
                    place_named(&row, slots, stride, r, values);
                    row.for_each(|slot, v| current[slot] = v);
                } else {
                    end_stale(current);
                    row.for_each(|slot, v| current[slot] = v);
                    for (i, slot) in slots.iter().enumerate() {
                        values[i * stride + r] = current[*slot as usize];
                    }
                }
                r += 1;
            } else {
                row.for_each(|slot, v| current[slot] = v);
            }
        }
    }

    /// Looks each slot up in each row.
    fn read_narrow(&self, slots: &[u32], span: Span, values: &mut [f64]) {
        let Span { mint, maxt, stride, from } = span;
        for (i, slot) in slots.iter().enumerate() {
            let column = &mut values[i * stride..(i + 1) * stride];
            let (mut current, mut r) = (self.base[*slot as usize], from);
            for row in self.open.iter() {
                if row.time > maxt {
                    break;
                }
                let named = row.value(*slot);
                let here = match named {
                    Some(v) => v,
                    None if !row.is_partial && repeats(current) => current,
                    None => ABSENT,
                };
                current = named.unwrap_or(current);
                if row.time >= mint {
                    column[r] = here;
                    r += 1;
                }
            }
        }
    }

    /// Rows held, open and sealed.
    pub(in crate::shard) fn row_count(&self) -> usize {
        self.open.row_count() as usize + self.sealed.iter().map(Window::row_count).sum::<usize>()
    }
}

/// The slots of a mask, ascending.
pub(in crate::shard) fn slots_of(mask: &[u64]) -> impl Iterator<Item = usize> + '_ {
    mask.iter().enumerate().flat_map(|(w, word)| {
        let mut word = *word;
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
            word &= word - 1;
            Some(w * 64 + bit)
        })
    })
}

/// After the row that says so, a stale slot has no sample.
fn end_stale(current: &mut [f64]) {
    for v in current {
        if is_stale(*v) {
            *v = ABSENT;
        }
    }
}

fn place_named(row: &Row<'_>, slots: &[u32], stride: usize, r: usize, values: &mut [f64]) {
    for (i, slot) in slots.iter().enumerate() {
        if let Some(v) = row.value(*slot) {
            values[i * stride + r] = v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::head::newest::Unwound;
    use crate::shard::head::row::is_absent;
    use model::STALE_NAN;

    fn row(g: &mut Group, time: Timestamp, is_partial: bool, named: &[(u32, f64)]) {
        let words = g.slot_count().div_ceil(64);
        let mut mask = vec![0u64; words];
        for (s, _) in named {
            mask[*s as usize / 64] |= 1 << (s % 64);
        }
        let values: Vec<u64> = named.iter().map(|(_, v)| v.to_bits()).collect();
        g.append(time, is_partial, mask.into_iter(), values.into_iter());
    }

    fn check(g: &Group, slots: &[u32], mint: Timestamp, maxt: Timestamp, expect: &[&[(Timestamp, f64)]]) {
        let mut c = Columns::default();
        g.read(slots, mint, maxt, &mut c);
        let n = c.times.len();
        for (i, want) in expect.iter().enumerate() {
            let have: Vec<(Timestamp, u64)> = (0..n)
                .map(|r| (c.times[r], c.values[i * n + r]))
                .filter(|(_, v)| !is_absent(*v))
                .map(|(t, v)| (t, v.to_bits()))
                .collect();
            let want: Vec<(Timestamp, u64)> = want.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            assert_eq!(have, want, "slot {}", slots[i]);
        }
    }

    #[test]
    fn a_slot_repeats_its_value_until_it_is_stale() {
        let mut g = Group::default();
        for s in 0..3 {
            g.bind(s, SeriesId(s));
        }
        row(&mut g, 10, false, &[(0, 1.0), (1, 5.0)]);
        row(&mut g, 20, false, &[(1, 6.0), (2, 9.0)]);
        row(&mut g, 30, false, &[(0, STALE_NAN)]);
        row(&mut g, 40, false, &[]);
        row(&mut g, 50, true, &[(0, 3.0)]);
        let all: [&[(Timestamp, f64)]; 3] = [
            &[(10, 1.0), (20, 1.0), (30, STALE_NAN), (50, 3.0)],
            &[(10, 5.0), (20, 6.0), (30, 6.0), (40, 6.0)],
            &[(20, 9.0), (30, 9.0), (40, 9.0)],
        ];
        check(&g, &[0, 1, 2], 0, 100, &all);
        for s in 0..3 {
            check(&g, &[s], 0, 100, &all[s as usize..=s as usize]);
        }
        check(&g, &[0, 1, 2], 20, 30, &[&all[0][1..3], &all[1][1..3], &all[2][..2]]);
        check(&g, &[0], 40, 40, &[&[]]);
    }

    #[test]
    fn sealed_rows_read_as_open_ones() {
        let (mut open, mut sealed) = (Group::default(), Group::staggered(3));
        let (mut sealer, mut columns) = (Sealer::default(), Columns::default());
        let mut sealed_count = 0;
        for t in 0..200i64 {
            let named: Vec<(u32, f64)> = (0..(1 + t as u32 / 3))
                .filter(|s| (t * 7 + i64::from(*s) * 13) % 5 < 2)
                .map(|s| (s, if (t + i64::from(s)) % 17 == 0 { STALE_NAN } else { t as f64 / 8.0 }))
                .collect();
            for g in [&mut open, &mut sealed] {
                g.bind(1 + t as u32 / 3, SeriesId(t as u32));
                row(g, t * 15, t % 11 == 0, &named);
            }
            sealed_count += usize::from(sealed.seal_if_due(&mut sealer, &mut columns));
            sealed.seal_at = 20 + t as u32 % 9;
        }
        assert!(sealed_count > 4);
        let slots: Vec<u32> = (0..60).collect();
        for (mint, maxt) in [(0, 9999), (100, 1000), (999, 2222), (2900, 2990)] {
            for slots in [&slots[..], &slots[10..12]] {
                let (mut a, mut b) = (Columns::default(), Columns::default());
                open.read(slots, mint, maxt, &mut a);
                sealed.read(slots, mint, maxt, &mut b);
                assert_eq!(a.times, b.times);
                let bits = |c: &Columns| c.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&a), bits(&b), "{slots:?} from {mint} to {maxt}");
            }
        }
    }

    #[test]
    fn the_newest_full_row_says_what_reading_says() {
        let mut g = Group::default();
        for s in 0..3 {
            g.bind(s, SeriesId(s));
        }
        row(&mut g, 10, false, &[(0, 1.0), (1, 5.0)]);
        row(&mut g, 20, true, &[(2, 9.0)]);
        let mut unwound = Unwound::default();
        assert!(
            g.newest_row(0, 100, g.slot_count(), &mut unwound).is_none(),
            "a partial row does not say what the others have"
        );
        row(&mut g, 30, false, &[(0, STALE_NAN)]);
        assert!(
            g.newest_row(31, 100, g.slot_count(), &mut unwound).is_none()
                && g.newest_row(0, 29, g.slot_count(), &mut unwound).is_none()
        );
        let (time, values) = g.newest_row(0, 30, g.slot_count(), &mut unwound).unwrap();
        assert_eq!(time, 30);
        let have: Vec<bool> = values.iter().map(|v| repeats(*v)).collect();
        assert_eq!(have, [false, true, true]);
        assert_eq!(values[1..], [5.0, 9.0]);
        check(&g, &[0, 1, 2], 30, 30, &[&[(30, STALE_NAN)], &[(30, 5.0)], &[(30, 9.0)]]);
    }

    #[test]
    fn narrow_and_wide_reading_agree() {
        let mut g = Group::default();
        let mut x = 7u64;
        let mut chance = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        for t in 1..60 {
            let slots = 1 + t as u32 * 3;
            g.bind(slots - 1, SeriesId(slots));
            let mut named = Vec::new();
            for s in 0..slots {
                match chance() % 10 {
                    0..3 => named.push((s, chance() as f64)),
                    3 => named.push((s, STALE_NAN)),
                    _ => {}
                }
            }
            row(&mut g, t * 10, chance() % 4 == 0, &named);
        }
        let slots: Vec<u32> = (0..g.slot_count() as u32).collect();
        for (mint, maxt) in [(0, 1000), (105, 333), (590, 590), (600, 700)] {
            let (mut wide, mut narrow) = (Columns::default(), Columns::default());
            g.read(&slots, mint, maxt, &mut wide);
            for s in &slots {
                g.read(&[*s], mint, maxt, &mut narrow);
                let n = wide.times.len();
                let column = &wide.values[*s as usize * n..(*s as usize + 1) * n];
                assert_eq!(narrow.times, wide.times);
                let bits = |c: &[f64]| c.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&narrow.values), bits(column), "slot {s}");
            }
        }
    }
}
