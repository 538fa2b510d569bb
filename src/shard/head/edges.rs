//! What a rate needs of a group's series, column by column: their values at the first and at the last row of a window,
//! and what was lost between. Rows are walked once for all of them, and no series has samples of its own.

use model::{SeriesId, Timestamp, is_stale};

use crate::shard::head::Head;
use crate::shard::head::group::Group;
use crate::shard::head::row::{is_absent, repeats};
use crate::shard::select::Selection;

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
    current: Vec<f64>,
    begin: Vec<f64>,
    drop: Vec<f64>,
    wanted: Vec<u64>,
    odd: Vec<u64>,
}

impl EdgeColumns {
    fn reset(&mut self, group: &Group, run: &[(u32, u32, SeriesId)]) {
        let n = group.slot_count();
        self.row_count = 0;
        self.ids.clear();
        self.first.clear();
        self.last.clear();
        self.lost.clear();
        self.current.clear();
        self.current.extend_from_slice(&group.base);
        self.drop.clear();
        self.drop.resize(n, 0.0);
        for bits in [&mut self.wanted, &mut self.odd] {
            bits.clear();
            bits.resize(n.div_ceil(64), 0);
        }
        run.iter().for_each(|(_, slot, _)| self.wanted[*slot as usize / 64] |= 1 << (slot % 64));
    }

    /// Takes the values that a row names.
    fn advance(&mut self, mask: &[u64], values: &[u64]) {
        let mut at = 0;
        for (w, (word, wanted)) in mask.iter().zip(&self.wanted).enumerate() {
            if *wanted == 0 {
                at += word.count_ones() as usize;
                continue;
            }
            let mut word = *word;
            while word != 0 {
                self.current[w * 64 + word.trailing_zeros() as usize] = f64::from_bits(values[at]);
                at += 1;
                word &= word - 1;
            }
        }
    }

    /// The same within the window: notes drops, and slots that have not a sample in each row or that drop twice.
    fn advance_inside(&mut self, mask: &[u64], values: &[u64]) {
        let mut at = 0;
        for (w, (word, wanted)) in mask.iter().zip(&self.wanted).enumerate() {
            if *wanted == 0 {
                at += word.count_ones() as usize;
                continue;
            }
            let (mut word, mut odd) = (*word, 0u64);
            while word != 0 {
                let bit = word.trailing_zeros();
                let slot = w * 64 + bit as usize;
                let (old, new) = (self.current[slot], f64::from_bits(values[at]));
                at += 1;
                word &= word - 1;
                if new < old {
                    odd |= u64::from(self.drop[slot] != 0.0) << bit;
                    self.drop[slot] = old;
                }
                odd |= u64::from(is_stale(new) || !repeats(old)) << bit;
                self.current[slot] = new;
            }
            self.odd[w] |= odd;
        }
    }
}

impl Group {
    /// Fills `out` from the open rows between two times (inclusive); false where they do not tell, because some rows
    /// of the window are sealed or name only what they have.
    fn read_edges(
        &self,
        run: &[(u32, u32, SeriesId)],
        mint: Timestamp,
        maxt: Timestamp,
        out: &mut EdgeColumns,
    ) -> bool {
        if self.sealed.last().is_some_and(|w| w.last_time >= mint) {
            return false;
        }
        out.reset(self, run);
        for row in self.open.iter() {
            if row.time > maxt {
                break;
            }
            if row.time < mint {
                out.advance(row.mask, row.values);
                continue;
            }
            if row.is_partial {
                return false;
            }
            if out.row_count == 0 {
                out.first_time = row.time;
                // What ended before has no sample here, and says so by a value that does not repeat.
                out.advance(row.mask, row.values);
                out.begin.clear();
                out.begin.extend_from_slice(&out.current);
            } else {
                out.advance_inside(row.mask, row.values);
            }
            out.last_time = row.time;
            out.row_count += 1;
        }
        true
    }
}

impl Head {
    /// Fills `out` with the next group of a selection, as far as rows tell; what they do not tell is left to be read.
    /// False where the next batch has to be read instead.
    pub fn next_edges(&self, s: &mut Selection, out: &mut EdgeColumns) -> bool {
        out.row_count = 0;
        out.ids.clear();
        // What is placed already was left over by an earlier look.
        if !self.place_next(s) {
            return false;
        }
        let Some(group_id) = s.placed.first().map(|p| p.0) else { return true };
        let group = &self.groups[group_id as usize];
        // With few slots of a group, looking each up costs less than walking its rows.
        if s.placed.len() * 4 < group.slot_count() || !group.read_edges(&s.placed, s.mint, s.maxt, out) {
            out.row_count = 0;
            return false;
        }
        let mut left = Vec::new();
        for place in &s.placed {
            let slot = place.1 as usize;
            if out.odd[slot / 64] >> (slot % 64) & 1 == 1 {
                left.push(*place);
            } else if out.row_count > 0 && repeats(out.begin[slot]) {
                debug_assert!(!is_absent(out.current[slot]), "a slot with a first value has a last one");
                out.ids.push(place.2);
                out.first.push(out.begin[slot]);
                out.last.push(out.current[slot]);
                out.lost.push(out.drop[slot]);
            }
        }
        s.placed = left;
        true
    }
}
