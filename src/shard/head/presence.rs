//! Which slots of a sealed window have a sample at each of its rows: what counting needs, and no values.
//!
//! ```text
//! presence | { row u16 | runs u16 | { first slot u16 | slots u16 } } |
//! ```
//!
//! Rows ascend. The first entry is of row 0 and names the slots that have a sample there; those behind it name the
//! slots that have one from that row on or have none from there on. A slot whose sample is the staleness marker has
//! none. Most windows have one run: 8 bytes. No bytes at all say nothing: values must be read.

use crate::shard::head::row::repeats;

/// Gathers the presence of a window slot by slot. Kept for its memory.
#[derive(Debug, Default)]
pub(in crate::shard) struct Presence {
    /// (row, slot): where a slot gets or loses its samples.
    changes: Vec<(u16, u16)>,
    slot_count: usize,
}

/// Changes of a slot in the mean beyond which a window's presence is not kept: it would cost more than a few bits a
/// sample, and what flickers so much is read.
const CHANGES_MAX: usize = 3;

impl Presence {
    pub(in crate::shard) fn begin(&mut self, slot_count: usize) {
        self.changes.clear();
        self.slot_count = slot_count;
    }

    /// Takes the values of a slot, one a row.
    pub(in crate::shard) fn take(&mut self, slot: usize, column: &[f64]) {
        // Nearly every column has a number at each row, and this look is a vector's.
        if !column.iter().fold(false, |any, v| any | v.is_nan()) {
            self.note(0, slot);
            return;
        }
        let mut had = false;
        for (row, v) in column.iter().enumerate() {
            if repeats(*v) != had {
                had = !had;
                self.note(row, slot);
            }
        }
    }

    fn note(&mut self, row: usize, slot: usize) {
        // One past the most says that there are too many.
        if self.changes.len() <= self.slot_count * CHANGES_MAX {
            self.changes.push((row as u16, slot as u16));
        }
    }

    /// Appends what was gathered, if it is worth keeping.
    pub(in crate::shard) fn encode(&mut self, out: &mut Vec<u8>) {
        if self.changes.len() > self.slot_count * CHANGES_MAX {
            return;
        }
        self.changes.sort_unstable();
        if self.changes.first().is_none_or(|c| c.0 > 0) {
            out.extend_from_slice(&[0; 4]);
        }
        for same_row in self.changes.chunk_by(|a, b| a.0 == b.0) {
            let runs = || same_row.chunk_by(|a, b| a.1 + 1 == b.1);
            let mut put = |v: u16| out.extend_from_slice(&v.to_le_bytes());
            put(same_row[0].0);
            put(runs().count() as u16);
            for run in runs() {
                put(run[0].1);
                put(run.len() as u16);
            }
        }
    }
}

/// What changes at a row: the row, and runs of slots (first, count).
fn entries(bytes: &[u8]) -> impl Iterator<Item = (u16, impl Iterator<Item = (u16, u16)> + '_)> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let ([row, runs], behind) = (pair(rest)?, rest.get(4..)?);
        let bytes = behind.get(..usize::from(runs) * 4)?;
        rest = &behind[bytes.len()..];
        Some((row, bytes.chunks_exact(4).filter_map(pair).map(|[first, count]| (first, count))))
    })
}

fn pair(bytes: &[u8]) -> Option<[u16; 2]> {
    let [a, b, c, d, ..] = *bytes else { return None };
    Some([u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])])
}

/// Fills `out` with a bit for each slot that has a sample at a row; false where that is not known.
pub(in crate::shard) fn at_row(bytes: &[u8], row: usize, slot_count: usize, out: &mut Vec<u64>) -> bool {
    out.clear();
    out.resize(slot_count.div_ceil(64), 0);
    for (_, runs) in entries(bytes).take_while(|(at, _)| usize::from(*at) <= row) {
        runs.for_each(|(first, count)| flip(out, usize::from(first), usize::from(count)));
    }
    !bytes.is_empty()
}

fn flip(bits: &mut [u64], first: usize, count: usize) {
    let (mut at, end) = (first, first + count);
    while at < end {
        let upto = end.min((at / 64 + 1) * 64);
        bits[at / 64] ^= (u64::MAX >> (64 - (upto - at))) << (at % 64);
        at = upto;
    }
}

/// Whether bytes that were read from a file are the presence of a window of this size.
pub(in crate::shard) fn is_sound(bytes: &[u8], row_count: usize, slot_count: usize) -> bool {
    let (mut length, mut next_row) = (0, 0);
    for (row, runs) in entries(bytes) {
        let is_next = if length == 0 { row == 0 } else { row >= next_row };
        let mut run_count = 0;
        for (first, count) in runs {
            run_count += 1;
            if count == 0 || usize::from(first) + usize::from(count) > slot_count {
                return false;
            }
        }
        if !is_next || usize::from(row) >= row_count {
            return false;
        }
        (length, next_row) = (length + 4 + run_count * 4, row + 1);
    }
    length == bytes.len()
}

/// The presence of some of the slots, ascending.
pub(in crate::shard) fn of_slots(bytes: &[u8], slot_count: usize, slots: &[u32], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let mut presence = Presence::default();
    presence.begin(slots.len());
    let mut changed = Vec::new();
    for (row, runs) in entries(bytes) {
        changed.clear();
        changed.resize(slot_count.div_ceil(64), 0u64);
        runs.for_each(|(first, count)| flip(&mut changed, usize::from(first), usize::from(count)));
        for (new, old) in slots.iter().enumerate() {
            let old = *old as usize;
            if changed.get(old / 64).is_some_and(|w| w >> (old % 64) & 1 == 1) {
                presence.note(usize::from(row), new);
            }
        }
    }
    presence.encode(out);
}

#[cfg(test)]
mod tests {
    use model::{NORMAL_NAN, STALE_NAN};

    use super::*;
    use crate::shard::head::row::ABSENT;

    fn bits_of(bytes: &[u8], row: usize, slot_count: usize) -> Vec<bool> {
        let mut bits = Vec::new();
        assert!(at_row(bytes, row, slot_count, &mut bits));
        (0..slot_count).map(|s| bits[s / 64] >> (s % 64) & 1 == 1).collect()
    }

    /// Gathers columns; gives the bytes after comparing each row with what the columns say.
    fn check(columns: &[Vec<f64>]) -> Vec<u8> {
        let (mut presence, mut bytes) = (Presence::default(), Vec::new());
        presence.begin(columns.len());
        columns.iter().enumerate().for_each(|(slot, c)| presence.take(slot, c));
        presence.encode(&mut bytes);
        let row_count = columns.first().map_or(0, Vec::len);
        assert!(is_sound(&bytes, row_count, columns.len()));
        if bytes.is_empty() {
            return bytes;
        }
        let some: Vec<u32> = (0..columns.len() as u32 + 9).filter(|s| s % 3 != 1).collect();
        let mut of_some = Vec::new();
        of_slots(&bytes, columns.len(), &some, &mut of_some);
        for row in 0..row_count {
            let expect: Vec<bool> = columns.iter().map(|c| repeats(c[row])).collect();
            assert_eq!(bits_of(&bytes, row, columns.len()), expect, "row {row}");
            let expect = some.iter().map(|s| expect.get(*s as usize).copied().unwrap_or(false));
            assert_eq!(bits_of(&of_some, row, some.len()), expect.collect::<Vec<_>>(), "row {row} of some");
        }
        bytes
    }

    #[test]
    fn series_that_live_or_end_together_are_one_run() {
        let living = vec![vec![1.0, 2.0, NORMAL_NAN]; 200];
        assert_eq!(check(&living), [0, 0, 1, 0, 0, 0, 200, 0]);
        let ended = vec![vec![1.0, 2.0, STALE_NAN]; 200];
        assert_eq!(check(&ended).len(), 16);
        assert_eq!(check(&vec![vec![ABSENT, ABSENT]; 3]), [0; 4]);
    }

    #[test]
    fn series_that_come_and_go_are_told_at_each_row() {
        let mut x = 5u64;
        let mut chance = move |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let mut kept = 0;
        for round in 0..200u64 {
            let (slots, rows) = (1 + chance(300), 1 + chance(70));
            let one_in = 1 + chance(200);
            let columns: Vec<Vec<f64>> = (0..slots)
                .map(|_| {
                    let mut lives = chance(4) != 0;
                    (0..rows)
                        .map(|_| {
                            lives ^= chance(one_in) == 0;
                            match (lives, round % 2) {
                                (true, _) => chance(9) as f64,
                                (false, 0) => STALE_NAN,
                                _ => ABSENT,
                            }
                        })
                        .collect()
                })
                .collect();
            kept += usize::from(!check(&columns).is_empty());
        }
        assert!((100..200).contains(&kept), "most is kept, what flickers is not: {kept}");
    }

    #[test]
    fn bytes_that_are_no_presence_are_found_out() {
        let sound = check(&[vec![1.0, STALE_NAN], vec![ABSENT, 2.0]]);
        assert!(is_sound(&[], 2, 2) && is_sound(&sound, 2, 2));
        for (rows, slots) in [(1, 2), (2, 1)] {
            assert!(!is_sound(&sound, rows, slots), "{rows} rows of {slots} slots");
        }
        assert!((1..sound.len()).all(|n| n % 8 == 0 || !is_sound(&sound[..n], 2, 2)));
        assert!(!is_sound(&[1, 0, 0, 0], 2, 2) && !is_sound(&[0; 8], 2, 2));
        assert!(!is_sound(&[0, 0, 1, 0, 0, 0, 0, 0], 2, 2), "an empty run");
    }
}
