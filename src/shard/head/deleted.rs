//! Deletes in the head. What lies beside rows is taken out; rows stay as they are, since others share them, and what
//! was deleted of them is left out of answers until the next cut takes them away. What comes after a delete is shown,
//! whatever its time: in rows it is newer than what was deleted, and what is late lies beside them.

use model::{SeriesId, Timestamp};

use crate::shard::head::side::SideBuffer;
use crate::shard::head::{Head, NOWHERE};
use crate::shard::tombstones::Spans;

impl Head {
    /// A time that no sample of a series is behind, and that no row will have that it gets later. (What comes later
    /// without being newer lies beside rows.)
    pub(in crate::shard) fn reach_of(&self, id: SeriesId) -> Option<Timestamp> {
        let first = self.places.get(id.0 as usize).filter(|p| p.group != NOWHERE);
        let places = first.into_iter().chain(self.more_places.get(&id).into_iter().flatten());
        let in_rows = places.filter_map(|p| self.groups[p.group as usize].reach_of(p.slot)).max();
        in_rows.max(self.side.get(&id).and_then(SideBuffer::last_time))
    }

    /// Deletes what a series has between two times (inclusive), the later of which is not beyond its reach.
    pub(in crate::shard) fn delete(&mut self, id: SeriesId, mint: Timestamp, maxt: Timestamp) {
        if mint > maxt {
            return;
        }
        if let Some(side) = self.side.get_mut(&id) {
            side.delete(mint, maxt);
        }
        if self.places.get(id.0 as usize).is_some_and(|p| p.group != NOWHERE) {
            self.mark_scattered(id);
            self.deleted.entry(id).or_default().add(mint, maxt);
        }
    }

    /// What was deleted of a series' rows.
    pub(in crate::shard) fn deleted_of(&self, id: SeriesId) -> Option<&Spans> {
        self.deleted.get(&id)
    }

    /// Series of whose rows something was deleted.
    pub(in crate::shard) fn deleted_series(&self) -> Vec<SeriesId> {
        self.deleted.keys().copied().collect()
    }

    /// Notes what was deleted of a series' rows before a restart.
    pub(in crate::shard) fn restore_deleted(&mut self, id: SeriesId, spans: Spans) {
        if self.places.get(id.0 as usize).is_some_and(|p| p.group != NOWHERE) {
            self.mark_scattered(id);
            let known = self.deleted.entry(id).or_default();
            spans.iter().for_each(|(mint, maxt)| known.add(mint, maxt));
        }
    }

    /// Forgets what was deleted of rows that the head does not show any more.
    pub(in crate::shard) fn trim_deleted(&mut self) {
        let Some(end) = self.blocks_end() else { return };
        let mut deleted = std::mem::take(&mut self.deleted);
        let mut done = Vec::new();
        deleted.retain(|id, spans| {
            spans.cut_before(end);
            if spans.is_empty() {
                done.push(*id);
            }
            !spans.is_empty()
        });
        self.deleted = deleted;
        done.into_iter().for_each(|id| self.unmark_scattered(id));
    }

    /// Forgets what was deleted of series that are gone.
    pub(in crate::shard) fn forget_deleted(&mut self, gone: &[SeriesId]) {
        if !self.deleted.is_empty() {
            gone.iter().for_each(|id| drop(self.deleted.remove(id)));
        }
    }
}

impl SideBuffer {
    fn delete(&mut self, mint: Timestamp, maxt: Timestamp) {
        let from = self.times.partition_point(|t| *t < mint);
        let to = self.times.partition_point(|t| *t <= maxt);
        self.times.drain(from..to);
        self.values.drain(from..to);
        if !self.starts.is_empty() {
            self.starts.drain(from..to);
        }
        let before = self.histograms.len();
        self.histograms.retain(|h| !(mint..=maxt).contains(&h.time));
        if self.histograms.len() < before {
            self.forget_hint_after(maxt);
        }
    }
}
