//! Selections of many series: not a list of them, but which ones, and the groups one after the other.
//!
//! A list of a million series would be made, sorted and walked before the first sample is read. A group knows its
//! series; asking of each whether it is wanted costs a bit's look-up, and what is at hand is a group at a time.

use model::{SeriesId, Timestamp};

use crate::shard::head::group::slots_of;
use crate::shard::head::row::repeats;
use crate::shard::head::{Head, Place};
use crate::shard::index::matching::Matched;
use crate::shard::select::Selection;

/// Below this many series a list is short.
const WIDE_MIN: usize = 4096;

/// A list is also kept where it has less than one of so many of the series there are: groups in which nothing is
/// wanted are looked through in vain.
const WIDE_SHARE: usize = 16;

/// Longer lists than this are not made: they are sorted in one turn, 20 ns a series.
const LIST_MAX: usize = 32 * 1024;

/// Below how many series, of so many that there are, a list is made.
fn list_max(series_count: usize) -> usize {
    (series_count / WIDE_SHARE).clamp(WIDE_MIN, LIST_MAX)
}

/// Slots that are looked through at a time: some 5 us.
const SLOTS_MAX: usize = 4096;

#[derive(Debug)]
pub(in crate::shard) struct Wide {
    /// One bit a series; `None` where all are wanted.
    bits: Option<Vec<u64>>,
    /// How many series there are, whether wanted or not.
    series_count: usize,
    /// How many are wanted.
    pub(in crate::shard) wanted_count: usize,
    /// Which series were scattered when the selection was made: they are listed apart. Judged by what is so later, one
    /// that becomes scattered would be lost, one that ceases to be would come twice.
    scattered: Vec<u64>,
    next_group: usize,
    pub(in crate::shard) is_exhausted: bool,
}

impl Wide {
    #[inline]
    pub(in crate::shard) fn wants(&self, id: SeriesId) -> bool {
        let i = id.0 as usize;
        match &self.bits {
            None => i < self.series_count,
            Some(bits) => bits.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1),
        }
    }

    #[inline]
    fn is_scattered(&self, id: SeriesId) -> bool {
        self.scattered.get(id.0 as usize / 64).is_some_and(|w| w >> (id.0 % 64) & 1 == 1)
    }

    pub(in crate::shard) fn series(&self) -> impl Iterator<Item = SeriesId> + '_ {
        (0..self.series_count as u32).map(SeriesId).filter(|id| self.wants(*id))
    }
}

impl Head {
    /// Sorts what an index found by where its samples lie.
    pub fn selection_of(&self, matched: Matched, mint: Timestamp, maxt: Timestamp) -> Selection {
        let (bits, wanted_count, series_count) = match matched {
            Matched::All(n) if n as usize >= WIDE_MIN => (None, n as usize, n as usize),
            Matched::All(n) => return self.selection((0..n).map(SeriesId), mint, maxt),
            Matched::Bits(bits, n) => {
                let series_count = bits.len() * 64;
                if n < list_max(series_count) {
                    return self.selection(slots_of(&bits).map(|id| SeriesId(id as u32)), mint, maxt);
                }
                (Some(bits), n, series_count)
            }
            Matched::Ids(ids) => {
                let last = ids.last().map_or(0, |l| *l as usize + 1);
                if ids.len() < list_max(last) {
                    return self.selection(ids.into_iter().map(SeriesId), mint, maxt);
                }
                let mut bits = vec![0u64; last.div_ceil(64)];
                ids.iter().for_each(|id| bits[*id as usize / 64] |= 1 << (id % 64));
                (Some(bits), ids.len(), last)
            }
        };
        let scattered = self.scattered.clone();
        let wide = Wide { bits, series_count, wanted_count, scattered, next_group: 0, is_exhausted: false };
        let mut s = self.selection(std::iter::empty(), mint, maxt);
        // What has no group has samples beside the rows, or none at all.
        s.scattered = self.scattered_ids().filter(|id| wide.wants(*id)).collect();
        s.wide = Some(wide);
        s
    }

    fn scattered_ids(&self) -> impl Iterator<Item = SeriesId> + '_ {
        slots_of(&self.scattered).map(|i| SeriesId(i as u32))
    }

    /// Whether a series is to be read in this place, and in no other.
    #[inline]
    fn is_alone_at(&self, wide: &Wide, place: Place, id: SeriesId) -> bool {
        // What got another place since the selection was made is read in its first one.
        let is_first = || self.places.get(id.0 as usize) == Some(&place);
        !wide.is_scattered(id) && (!self.is_scattered(id) || is_first())
    }

    /// Goes on to the next groups of a wide selection, when what was placed is read; false where there is none left.
    pub(in crate::shard) fn place_next(&self, s: &mut Selection) -> bool {
        let Selection { wide: Some(wide), placed, placed_read, left_to, mint, maxt, .. } = s else {
            return false;
        };
        if *placed_read < placed.len() {
            return false;
        }
        wide.is_exhausted = wide.next_group >= self.groups.len();
        if wide.is_exhausted {
            return false;
        }
        placed.clear();
        (*placed_read, *left_to) = (0, 0);
        let mut looked_at = 0;
        while wide.next_group < self.groups.len() && looked_at < SLOTS_MAX && placed.is_empty() {
            let g = wide.next_group;
            wide.next_group += 1;
            let group = &self.groups[g];
            looked_at += 1;
            if !group.overlaps(*mint, *maxt) {
                continue;
            }
            looked_at += group.series.len();
            for (slot, id) in group.series.iter().enumerate() {
                if let Some(id) = id
                    && wide.wants(*id)
                    && self.is_alone_at(wide, Place { group: g as u32, slot: slot as u32 }, *id)
                {
                    placed.push((g as u32, slot as u32, *id));
                }
            }
        }
        true
    }

    /// Counts the wanted series of the next group by its newest row: how many, and one of them. `None` where that row
    /// does not tell; then the group has to be read.
    pub fn count_newest(&self, s: &mut Selection) -> Option<(usize, Option<SeriesId>)> {
        let wide = s.wide.as_mut()?;
        if s.placed_read < s.placed.len() {
            return None;
        }
        let group = self.groups.get(wide.next_group)?;
        if !group.overlaps(s.mint, s.maxt) {
            wide.next_group += 1;
            return Some((0, None));
        }
        let at = wide.next_group as u32;
        let (mut count, mut any) = (0, None);
        let mut tally = |slot: usize, id: Option<SeriesId>| {
            if let Some(id) = id
                && wide.wants(id)
                && self.is_alone_at(wide, Place { group: at, slot: slot as u32 }, id)
            {
                count += 1;
                any = any.or(Some(id));
            }
        };
        if group.newest_sealed(s.mint, s.maxt, &mut s.unwound).is_some() {
            for (w, (word, ids)) in s.unwound.present.iter().zip(group.series.chunks(64)).enumerate() {
                for (bit, id) in ids.iter().enumerate() {
                    if word >> bit & 1 == 1 {
                        tally(w * 64 + bit, *id);
                    }
                }
            }
        } else {
            let (_, values) = group.newest_row(s.mint, s.maxt, group.slot_count(), &mut s.unwound)?;
            for (slot, (id, v)) in group.series.iter().zip(values).enumerate() {
                if repeats(*v) {
                    tally(slot, *id);
                }
            }
        }
        wide.next_group += 1;
        Some((count, any))
    }
}
