//! When the open rows of a group become a window, and short windows one longer one.
//!
//! A row of a scrape holds what changed, a partial row all it names: 8 bytes a sample, ten times what a window needs.
//! So partial rows are sealed by their bytes, some 16 rows together, and short windows are merged until they have as
//! many rows as a window may: over more rows a chunk's header and end offset are less, and patterns show better.

use codec::Tier;
use model::Timestamp;

use crate::shard::head::group::{Columns, Group, SEAL_ROWS, SEALED_ROWS_MAX};
use crate::shard::head::window::{Sealer, Window};

/// Open partial rows of a group are sealed at a quarter of the words that `seal_at` rows of all slots would have: 128 bytes
/// a slot.
const OPEN_PART: usize = 4;

/// Words that a group of any size may have open: the window of a small group has a header and slack to pay for.
const OPEN_WORDS_MIN: usize = 128;

/// Room for further windows, as many as a group gathers before some become one.
const WINDOWS_MORE: usize = 4;

impl Group {
    /// Turns the open rows into a window when enough have gathered. Returns whether it did.
    pub(in crate::shard) fn seal_if_due(&mut self, sealer: &mut Sealer, columns: &mut Columns) -> bool {
        let is_due = self.open.row_count() >= self.seal_at || self.is_wordy();
        if is_due {
            self.seal(sealer, columns);
        }
        is_due
    }

    /// Whether the open rows are partial and large. Full ones stay: a rate reads the newest of them as they lie.
    fn is_wordy(&self) -> bool {
        let limit = OPEN_WORDS_MIN + self.slot_count() * self.seal_at as usize / OPEN_PART;
        self.open.word_count() >= limit && self.has_open_partial()
    }

    pub(super) fn seal(&mut self, sealer: &mut Sealer, columns: &mut Columns) {
        let slots: Vec<u32> = (0..self.slot_count() as u32).collect();
        let from = self.merged_from();
        let mint = self.sealed.get(from).map_or(Timestamp::MIN, |w| w.first_time);
        let are_full =
            self.open.iter().all(|r| !r.is_partial) && self.sealed[from..].iter().all(Window::is_full);
        let tier = if from < self.sealed.len() {
            self.read(&slots, mint, Timestamp::MAX, columns);
            Tier::Mid
        } else {
            self.read_open(&slots, columns);
            Tier::Fast
        };
        let window = sealer.seal(&columns.times, slots.len(), &columns.values, are_full, tier);
        self.sealed.truncate(from);
        if self.sealed.len() == self.sealed.capacity() {
            self.sealed.reserve_exact(WINDOWS_MORE);
        }
        self.sealed.push(window);
        self.note_sealed();
    }

    /// The first of the windows that become one with the open rows: those behind it are short, and the next open rows
    /// would not fit into one with them.
    fn merged_from(&self) -> usize {
        let open = self.open.row_count() as usize;
        let (mut from, mut rows) = (self.sealed.len(), open);
        while let Some(before) = from.checked_sub(1).map(|i| self.sealed[i].row_count()) {
            if before > SEAL_ROWS as usize || rows + before > SEALED_ROWS_MAX {
                break;
            }
            (from, rows) = (from - 1, rows + before);
        }
        if rows + open > SEALED_ROWS_MAX { from } else { self.sealed.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::head::row::is_absent;
    use model::SeriesId;

    /// A gauge with two digits, a counter, a value that seldom changes, by turns.
    fn value(slot: u32, row: i64) -> f64 {
        let noise = (row as u64 * 2_654_435_761 + u64::from(slot) * 40_503) % 97;
        match slot % 3 {
            0 => noise as f64 / 100.0,
            1 => (row * 1000 + noise as i64) as f64,
            _ => (row / 100) as f64,
        }
    }

    fn grown(slots: u32, rows: i64, is_partial: bool) -> (Group, usize) {
        let (mut g, mut sealer, mut columns) = (Group::default(), Sealer::default(), Columns::default());
        (0..slots).for_each(|s| g.bind(s, SeriesId(s)));
        let mask: Vec<u64> =
            (0..slots.div_ceil(64)).map(|w| u64::MAX >> (64 - (slots - w * 64).min(64))).collect();
        let mut peak = 0;
        for row in 0..rows {
            g.seal_if_due(&mut sealer, &mut columns);
            let values: Vec<u64> = (0..slots).map(|s| value(s, row).to_bits()).collect();
            g.append(row * 15_000, is_partial, mask.iter().copied(), values.into_iter());
            peak = peak.max(g.heap_bytes());
        }
        (g, peak)
    }

    #[test]
    fn merged_windows_read_as_the_rows_that_came() {
        for (slots, is_partial) in [(1, true), (70, true), (300, true), (70, false)] {
            let (g, _) = grown(slots, 700, is_partial);
            let all: Vec<u32> = (0..slots).collect();
            let mut c = Columns::default();
            g.read(&all, Timestamp::MIN, Timestamp::MAX, &mut c);
            assert_eq!(c.times, (0..700).map(|r| r * 15_000).collect::<Vec<_>>());
            for slot in all {
                let have = &c.values[slot as usize * 700..][..700];
                assert!(have.iter().all(|v| !is_absent(*v)));
                assert!(have.iter().zip(0..).all(|(v, r)| *v == value(slot, r)), "slot {slot}");
            }
            assert!(g.sealed.iter().all(|w| w.row_count() <= SEALED_ROWS_MAX && w.is_full() != is_partial));
            assert!(g.sealed.len() <= 700 / SEAL_ROWS as usize + 8, "{} windows", g.sealed.len());
        }
    }

    #[test]
    fn two_hours_of_whole_rows_fit_into_half_a_kilobyte_a_slot() {
        let (_, peak) = grown(1000, 480, true);
        assert!(peak / 1000 < 600, "{} bytes a slot", peak / 1000);
    }
}
