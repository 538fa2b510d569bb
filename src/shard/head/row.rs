//! The open rows of a group: one row a scrape, holding only the values that changed.
//!
//! In memory a row is a run of 64-bit words: `time`, `meta` (mask words << 32 | values | PARTIAL flag << 63), the mask
//! (one bit a slot), the values in slot order. Width and values vary, so rows are walked in order.

use model::{Timestamp, is_stale};

/// The value of a slot that holds no sample: a NaN that no encoder of this house writes. A sample that arrives
/// with these very bits is kept as the ordinary NaN.
pub(in crate::shard) const ABSENT: f64 = f64::from_bits(0x7ff4_5d0a_0000_0ab5);

pub(in crate::shard) fn is_absent(v: f64) -> bool {
    v.to_bits() == ABSENT.to_bits()
}

/// The row names every sample it has: slots that it does not name have none (they do not repeat their last value).
const PARTIAL: u64 = 1 << 63;

/// One row, borrowed.
#[derive(Clone, Copy)]
pub(in crate::shard) struct Row<'a> {
    pub(in crate::shard) time: Timestamp,
    pub(in crate::shard) is_partial: bool,
    pub(in crate::shard) mask: &'a [u64],
    pub(in crate::shard) values: &'a [u64],
}

impl Row<'_> {
    /// The value that the row names for `slot`.
    pub(in crate::shard) fn value(&self, slot: u32) -> Option<f64> {
        let (w, bit) = (slot as usize / 64, slot % 64);
        let word = *self.mask.get(w)?;
        if word >> bit & 1 == 0 {
            return None;
        }
        let before: u32 = self.mask[..w].iter().map(|m| m.count_ones()).sum();
        let rank = before + (word & ((1 << bit) - 1)).count_ones();
        Some(f64::from_bits(self.values[rank as usize]))
    }

    /// Calls `f` with each (slot, value) named, ascending.
    #[inline]
    pub(in crate::shard) fn for_each(&self, mut f: impl FnMut(usize, f64)) {
        let mut k = 0;
        for (w, word) in self.mask.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                f(w * 64 + word.trailing_zeros() as usize, f64::from_bits(self.values[k]));
                k += 1;
                word &= word - 1;
            }
        }
    }
}

/// Rows in order of time, in runs: a log that grows copies nothing, and the next run is a quarter of what there is,
/// for slack in a million small logs is memory. Rows are whole within a run.
#[derive(Default)]
pub(in crate::shard) struct RowLog {
    runs: Vec<Vec<u64>>,
    row_count: u32,
    word_count: usize,
    /// Where the last row begins in the last run.
    last_at: usize,
}

impl RowLog {
    pub(in crate::shard) fn last_row(&self) -> Option<Row<'_>> {
        Rows { words: self.runs.last()?.get(self.last_at..)?, runs: &[] }.next()
    }

    pub(in crate::shard) fn row_count(&self) -> u32 {
        self.row_count
    }

    pub(in crate::shard) fn heap_bytes(&self) -> usize {
        let words: usize = self.runs.iter().map(Vec::capacity).sum();
        words * 8 + self.runs.capacity() * size_of::<Vec<u64>>()
    }

    pub(in crate::shard) fn word_count(&self) -> usize {
        self.word_count
    }

    /// The rows as they lie in memory.
    pub(in crate::shard) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flatten().copied()
    }

    /// Takes rows that were written to a file; `None` where they are not rows of `slot_count` slots in order of time.
    pub(in crate::shard) fn from_words(words: Vec<u64>, slot_count: usize) -> Option<RowLog> {
        let (mut row_count, mut last_at, mut at, mut last_time) = (0, 0, 0, None);
        while at < words.len() {
            let (time, meta) = (words[at] as i64, *words.get(at + 1)?);
            let (mask_len, value_count) = ((meta & !PARTIAL) as usize >> 32, meta as u32 as usize);
            let mask = words.get(at + 2..)?.get(..mask_len)?;
            let named: u32 = mask.iter().map(|w| w.count_ones()).sum();
            let width = mask
                .iter()
                .rposition(|w| *w != 0)
                .map_or(0, |w| w * 64 + 64 - mask[w].leading_zeros() as usize);
            if named as usize != value_count || width > slot_count || last_time.is_some_and(|l| l >= time) {
                return None;
            }
            (last_at, last_time) = (at, Some(time));
            at = (at + 2 + mask_len).checked_add(value_count).filter(|end| *end <= words.len())?;
            row_count += 1;
        }
        Some(RowLog { word_count: words.len(), runs: vec![words], row_count, last_at })
    }

    /// Appends a row; `values` are in slot order, one for each bit of `mask`.
    pub(in crate::shard) fn push(
        &mut self,
        time: Timestamp,
        is_partial: bool,
        mask: impl ExactSizeIterator<Item = u64>,
        values: impl ExactSizeIterator<Item = u64>,
    ) {
        let flag = if is_partial { PARTIAL } else { 0 };
        let need = 2 + mask.len() + values.len();
        let run = self.run_for(need);
        let last_at = run.len();
        run.push(time as u64);
        run.push(flag | (mask.len() as u64) << 32 | values.len() as u64);
        run.extend(mask);
        run.extend(values);
        self.last_at = last_at;
        self.row_count += 1;
        self.word_count += need;
    }

    /// The last run, or the next where that has no room for `need` words.
    fn run_for(&mut self, need: usize) -> &mut Vec<u64> {
        let has_room = |run: &Vec<u64>| run.capacity() - run.len() >= need;
        let next = if self.runs.last().is_some_and(has_room) { self.runs.len() - 1 } else { self.runs.len() };
        if next == self.runs.len() {
            self.runs.push(Vec::with_capacity(need.max(self.word_count / 4)));
        }
        &mut self.runs[next]
    }

    /// Adds values to the last row; `named` are (slot, bits), ascending, and none of them is in the row yet.
    pub(in crate::shard) fn merge_last(&mut self, named: &[(u32, u64)]) {
        let Some(row) = self.last_row() else { return };
        let mut merged: Vec<(u32, u64)> = Vec::with_capacity(row.values.len() + named.len());
        row.for_each(|slot, v| merged.push((slot as u32, v.to_bits())));
        merged.extend_from_slice(named);
        merged.sort_unstable_by_key(|n| n.0);
        let (time, is_partial) = (row.time, row.is_partial);
        let mut mask = vec![0u64; merged.last().map_or(0, |(s, _)| *s as usize / 64 + 1)];
        for (slot, _) in &merged {
            mask[*slot as usize / 64] |= 1 << (slot % 64);
        }
        if let Some(run) = self.runs.last_mut() {
            self.word_count -= run.len() - self.last_at;
            run.truncate(self.last_at);
        }
        self.row_count -= 1;
        self.push(time, is_partial, mask.into_iter(), merged.iter().map(|n| n.1));
    }

    pub(in crate::shard) fn iter(&self) -> Rows<'_> {
        Rows { words: &[], runs: &self.runs }
    }
}

pub(in crate::shard) struct Rows<'a> {
    words: &'a [u64],
    /// What comes behind them.
    runs: &'a [Vec<u64>],
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        while self.words.is_empty() {
            let (first, rest) = self.runs.split_first()?;
            (self.words, self.runs) = (first, rest);
        }
        let [time, meta, ..] = *self.words else { return None };
        let mask_len = (meta & !PARTIAL) as usize >> 32;
        let value_count = meta as u32 as usize;
        let (mask, rest) = self.words[2..].split_at(mask_len);
        let (values, rest) = rest.split_at(value_count);
        self.words = rest;
        Some(Row { time: time as i64, is_partial: meta & PARTIAL != 0, mask, values })
    }
}

/// Whether a slot whose last value is `v` repeats it in a row that does not name it.
#[inline]
pub(in crate::shard) fn repeats(v: f64) -> bool {
    !is_stale(v) && !is_absent(v)
}
