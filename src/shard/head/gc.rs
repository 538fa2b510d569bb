//! What the head gives up once blocks have it: rows and samples before their end, groups and series left with nothing.
//!
//! A cut first says from which time on samples are still taken ([`Head::begin_cut`]); the block is written; then, in
//! one turn, the head's answers begin where the block ends ([`Head::end_cut`]). Memory goes after that, in slices,
//! when the last selection that was made before has been read.

use std::sync::Arc;

use hashbrown::HashSet;
use model::{SeriesId, Timestamp};

use crate::shard::head::group::Group;
use crate::shard::head::side::Refusal;
use crate::shard::head::window::Window;
use crate::shard::head::{Head, NOWHERE, Place};
use crate::shard::record::SourceId;

/// Where the head's time begins, and who still needs what was before.
#[derive(Default)]
pub(in crate::shard) struct Life {
    /// Rows before this lie in blocks; what is left of them in memory is not shown. What lies beside rows is shown: it
    /// may have come late, and what is in a block as well is seen once.
    blocks_end: Option<Timestamp>,
    /// Samples before this are taken out of order only.
    valid_from: Option<Timestamp>,
    /// Series that got samples from before `valid_from` since the cut began: what lies beside their rows may not be in
    /// the block. As many as the shard has series at most.
    behind: HashSet<SeriesId>,
    /// Held by every selection since the last cut.
    pin: Arc<()>,
    /// Places of groups that are gone: free for new ones, and free after the next cut (selections may name them).
    holes: Vec<u32>,
    fresh_holes: Vec<u32>,
}

impl Life {
    pub(in crate::shard) fn pin(&self) -> Arc<()> {
        self.pin.clone()
    }

    pub(in crate::shard) fn hole_count(&self) -> usize {
        self.holes.len() + self.fresh_holes.len()
    }
}

impl Head {
    pub(in crate::shard) fn blocks_end(&self) -> Option<Timestamp> {
        self.life.blocks_end
    }

    /// Where reading from `mint` on begins here.
    pub(super) fn clamped(&self, mint: Timestamp) -> Timestamp {
        self.life.blocks_end.map_or(mint, |end| mint.max(end))
    }

    pub(super) fn is_before_valid(&self, time: Timestamp) -> bool {
        self.life.valid_from.is_some_and(|from| time < from)
    }

    /// Refuses what lies before the cut, unless samples out of order are taken `late` enough for it.
    pub(super) fn check_valid(&self, time: Timestamp, late: Option<Timestamp>) -> Result<(), Refusal> {
        match late {
            _ if !self.is_before_valid(time) => Ok(()),
            None => Err(Refusal::OutOfBounds),
            Some(oldest) if time < oldest => Err(Refusal::TooOld),
            Some(_) => Ok(()),
        }
    }

    /// Notes a sample that lies beside rows, where it is from before the cut.
    pub(super) fn note_behind(&mut self, id: SeriesId, time: Timestamp) {
        if self.is_before_valid(time) {
            self.life.behind.insert(id);
        }
    }

    /// From here on no sample before `end` is taken: what a block will hold is settled.
    pub(in crate::shard) fn begin_cut(&mut self, end: Timestamp) {
        self.life.valid_from = Some(self.life.valid_from.map_or(end, |f| f.max(end)));
        self.life.behind.clear();
    }

    /// From here on blocks answer for what was before `end`. The pin that is returned is held by those who asked
    /// before: memory stays for them.
    pub(in crate::shard) fn end_cut(&mut self, end: Timestamp) -> Arc<()> {
        self.life.valid_from = Some(self.life.valid_from.map_or(end, |f| f.max(end)));
        self.life.blocks_end = Some(self.life.blocks_end.map_or(end, |e| e.max(end)));
        self.mint = self.mint.map(|m| m.max(end));
        std::mem::take(&mut self.life.pin)
    }

    /// Says of every group that nobody appends to it any more: sources do not outlive a process.
    pub(in crate::shard) fn end_life(&mut self) {
        self.groups.iter_mut().for_each(|g| g.is_over = true);
    }

    /// Drops what one group has before the blocks' end.
    pub(in crate::shard) fn trim_group(&mut self, group: usize) {
        let (Some(end), Some(group)) = (self.life.blocks_end, self.groups.get_mut(group)) else { return };
        let gone = group.sealed.partition_point(|w: &Window| w.last_time < end);
        group.sealed.drain(..gone);
        if gone > 0 {
            group.sealed.shrink_to(group.sealed.len() + 2);
        }
    }

    /// Drops what a series has beside rows before the blocks' end, unless something came behind it meanwhile: that goes
    /// with the next cut.
    pub(in crate::shard) fn trim_side(&mut self, id: SeriesId) {
        let Some(end) = self.life.blocks_end.filter(|_| !self.life.behind.contains(&id)) else { return };
        let Some(side) = self.side.get_mut(&id) else { return };
        let gone = side.times.partition_point(|t| *t < end);
        if gone > 0 {
            side.times.drain(..gone);
            side.values.drain(..gone);
            side.starts.drain(..gone.min(side.starts.len()));
            for column in [&mut side.times, &mut side.starts] {
                column.shrink_to_fit();
            }
            side.values.shrink_to_fit();
        }
        side.histograms.retain(|h| h.time >= end);
        if side.times.is_empty() && side.histograms.is_empty() {
            self.side.remove(&id);
            self.unmark_scattered(id);
        }
    }

    /// Drops a group that holds nothing and is not appended to: its source's life is over, or it was scraped and has
    /// not been for as long as the head reaches back. (A sender of partial rows keeps its slots: it names them
    /// whenever it likes.) Series that have no place any more are added to `left`.
    pub(in crate::shard) fn drop_group_if_done(&mut self, id: usize, left: &mut Vec<SeriesId>) {
        let Some(end) = self.life.blocks_end else { return };
        let Some(group) = self.groups.get(id) else { return };
        let is_idle = group.sealed.is_empty() && group.last_time() < end;
        let may_go = group.is_over || group.slot_times().is_empty();
        // A group without any row yet was made a moment ago.
        let was_used = group.last_time() > Timestamp::MIN;
        if !(is_idle && may_go && was_used) {
            return;
        }
        let gone = std::mem::take(&mut self.groups[id]);
        self.group_ids.remove(&self.keys[id]);
        for (slot, series) in gone.series.iter().enumerate() {
            let Some(series) = series else { continue };
            self.remove_place(*series, Place { group: id as u32, slot: slot as u32 });
            if self.is_nowhere(*series) {
                left.push(*series);
            }
        }
        self.life.fresh_holes.push(id as u32);
    }

    /// Whether nothing here names a series.
    pub(in crate::shard) fn is_nowhere(&self, id: SeriesId) -> bool {
        let has_place = self.places.get(id.0 as usize).is_some_and(|p| p.group != NOWHERE);
        !has_place && !self.side.contains_key(&id) && !self.more_places.contains_key(&id)
    }

    fn remove_place(&mut self, id: SeriesId, place: Place) {
        let mut more = self.more_places.remove(&id).unwrap_or_default();
        more.retain(|p| *p != place);
        if let Some(first) = self.places.get_mut(id.0 as usize)
            && *first == place
        {
            *first = if more.is_empty() { Place { group: NOWHERE, slot: 0 } } else { more.remove(0) };
        }
        if !more.is_empty() {
            self.more_places.insert(id, more);
        }
        self.unmark_scattered(id);
    }

    pub(super) fn unmark_scattered(&mut self, id: SeriesId) {
        if !self.more_places.contains_key(&id)
            && !self.side.contains_key(&id)
            && self.deleted_of(id).is_none()
            && let Some(word) = self.scattered.get_mut(id.0 as usize / 64)
        {
            *word &= !(1 << (id.0 % 64));
        }
    }

    /// A new group, in the place of one that is gone where there is one.
    pub(super) fn take_hole(&mut self, key: (SourceId, u32), group: Group) -> u32 {
        let id = match self.life.holes.pop() {
            Some(hole) => {
                self.groups[hole as usize] = group;
                self.keys[hole as usize] = key;
                hole
            }
            None => {
                self.groups.push(group);
                self.keys.push(key);
                self.groups.len() as u32 - 1
            }
        };
        self.group_ids.insert(key, id);
        id
    }

    /// Nobody reads by a selection made before the last cut any more: places of groups that went before are free.
    pub(in crate::shard) fn free_holes(&mut self) {
        let fresh = std::mem::take(&mut self.life.fresh_holes);
        self.life.holes.extend(fresh);
    }

    /// The earliest time that the head still has samples of.
    pub(in crate::shard) fn settle_mint(&mut self) {
        let Some(end) = self.life.blocks_end else { return };
        let in_groups = self.groups.iter().filter(|g| g.last_time() >= end).filter_map(Group::first_time);
        let in_sides = self.side.values().filter_map(|s| {
            let histogram = s.histograms.first().map(|h| h.time);
            s.times.first().copied().into_iter().chain(histogram).min()
        });
        self.mint = in_groups.map(|t| t.max(end)).chain(in_sides).min();
        if self.mint.is_none() {
            self.maxt = None;
        }
    }
}
