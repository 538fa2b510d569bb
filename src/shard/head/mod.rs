//! The head of one shard: the newest samples, in memory.
//!
//! In: entries of batches (definitions, rows, single samples). Out: columns of samples for selections.
//! Owns: the groups of all sources on this shard, the side buffers of its series. Runs on: its shard's core.
//! Invariant: rows of a group ascend in time; a slot is bound to its series before a row names it.
//! Never: writes files, knows labels or who is asking.

mod deleted;
pub mod edges;
mod gc;
pub mod group;
mod hint;
pub(in crate::shard) mod image;
pub(in crate::shard) mod newest;
pub mod partial;
mod presence;
pub mod row;
mod seal;
pub mod side;
pub(in crate::shard) mod wide;
mod window;

use std::sync::Arc;

use hashbrown::HashMap;
use model::histogram::FloatHistogram;
use model::{SeriesId, Timestamp, is_stale};

use crate::shard::commons::Standing;
use crate::shard::far::make_room;
use crate::shard::record::{RowEntry, SourceId};
use crate::shard::select::{Batch, BatchSeries, HistogramPoint, Selection};
use crate::shard::tombstones::Spans;
use group::{Columns, GROUP_SLOTS_MAX, Group, SEAL_ROWS};
use newest::Unwound;
use partial::Taken;
use row::{ABSENT, is_absent, repeats};
use side::{Late, Refusal, SideBuffer};
use window::Sealer;

/// A place that holds samples of a series: a slot of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    group: u32,
    slot: u32,
}

const NOWHERE: u32 = u32::MAX;

#[derive(Default)]
pub struct Head {
    pub(in crate::shard) groups: Vec<Group>,
    /// By source and part: slots `part * 4096 ..` of a source.
    group_ids: HashMap<(SourceId, u32), u32>,
    /// The source and part of each group.
    pub(in crate::shard) keys: Vec<(SourceId, u32)>,
    /// First place of each series.
    places: Vec<Place>,
    /// Further places of the few series that several sources (or several slots of one) have fed.
    more_places: HashMap<SeriesId, Vec<Place>>,
    pub(in crate::shard) side: HashMap<SeriesId, SideBuffer>,
    /// What was deleted of the rows of a series.
    deleted: HashMap<SeriesId, Spans>,
    /// A bit for each series that is in `more_places`, `side` or `deleted`: looking them up cost 40 ns a series of a wide
    /// query, this costs nothing.
    scattered: Vec<u64>,
    mask: Vec<u64>,
    /// Floats out of order of the batch that is being applied: they go to their side buffers together, so that many
    /// of one series cost one move of what is there.
    late: Vec<(SeriesId, Late)>,
    sealer: Sealer,
    columns: Columns,
    pub sealed_windows: u64,
    mint: Option<Timestamp>,
    maxt: Option<Timestamp>,
    pub(in crate::shard) life: gc::Life,
    pub appended_floats: u64,
    pub appended_histograms: u64,
}

/// A record that the head cannot follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("slot {slot} of source {source_id:#x} is not defined")]
    Undefined { source_id: u64, slot: u32 },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// How many samples a batch holds at most: one turn of decoding stays near 100 us.
const BATCH_SAMPLES_MAX: usize = 32 * 1024;

/// Late samples whose room is kept from batch to batch.
const LATE_KEPT_MAX: usize = 4096;

/// What becomes of a sample that was refused as out of order.
fn standing_of(
    result: Result<(), Refusal>,
    time: Timestamp,
    late: Option<Timestamp>,
) -> Result<Standing, Refusal> {
    match (result, late) {
        (Ok(()), _) => Ok(Standing::InOrder),
        (Err(Refusal::OutOfOrder), Some(oldest)) if time >= oldest => Ok(Standing::Late),
        (Err(Refusal::OutOfOrder), Some(_)) => Err(Refusal::TooOld),
        (Err(refusal), _) => Err(refusal),
    }
}

impl Head {
    pub fn min_time(&self) -> Option<Timestamp> {
        self.mint
    }

    pub fn max_time(&self) -> Option<Timestamp> {
        self.maxt
    }

    /// Whether any sample may lie between two times (inclusive).
    pub fn overlaps(&self, start: Timestamp, end: Timestamp) -> bool {
        self.mint.is_some_and(|m| m <= end) && self.maxt.is_some_and(|m| m >= start)
    }

    /// Whether a series has samples between two times, as far as its groups and its side buffer tell without
    /// reading rows.
    pub fn has_samples(&self, id: SeriesId, start: Timestamp, end: Timestamp) -> bool {
        let first = self.places.get(id.0 as usize).filter(|p| p.group != NOWHERE);
        let shown_from = self.clamped(start);
        let in_group =
            |p: &Place| shown_from <= end && self.groups[p.group as usize].overlaps(shown_from, end);
        let in_side = || {
            self.side.get(&id).is_some_and(|s| {
                s.times.iter().chain(s.histograms.iter().map(|h| &h.time)).any(|t| (start..=end).contains(t))
            })
        };
        first.is_some_and(in_group)
            || self.more_places.get(&id).is_some_and(|m| m.iter().any(in_group))
            || in_side()
    }

    pub fn group_count(&self) -> usize {
        self.groups.len() - self.life.hole_count()
    }

    pub fn heap_bytes(&self) -> usize {
        self.groups.iter().map(Group::heap_bytes).sum::<usize>() + self.places.len() * 8
    }

    /// Bytes of sealed windows, and the samples in them.
    #[cfg(test)]
    pub fn sealed_bytes(&self) -> usize {
        self.groups.iter().flat_map(|g| &g.sealed).map(window::Window::heap_bytes).sum()
    }

    #[cfg(test)]
    pub fn sealed_samples(&self) -> usize {
        let mut values = [0.0; group::SEALED_ROWS_MAX];
        let windows = self.groups.iter().flat_map(|g| &g.sealed);
        let slots = windows.flat_map(|w| (0..u32::from(w.slot_count)).map(move |slot| (w, slot)));
        slots
            .map(|(w, slot)| {
                let values = &mut values[..w.row_count()];
                w.read_slot(slot, values);
                values.iter().filter(|v| !is_absent(**v)).count()
            })
            .sum()
    }

    fn note_time(&mut self, t: Timestamp) {
        self.mint = Some(self.mint.map_or(t, |m| m.min(t)));
        self.maxt = Some(self.maxt.map_or(t, |m| m.max(t)));
    }

    /// Binds a slot of a source to a series.
    pub fn define(&mut self, source: SourceId, slot: u32, id: SeriesId) {
        let group = self.group_of(source, slot);
        let slot = slot % GROUP_SLOTS_MAX;
        self.groups[group as usize].bind(slot, id);
        self.place(id, Place { group, slot });
    }

    /// The side buffer of a series that has a place in `group`, and whether that is its newest place.
    pub(in crate::shard) fn side_in(&self, group: u32, id: SeriesId) -> Option<(&SideBuffer, bool)> {
        if !self.is_scattered(id) {
            return None;
        }
        let side = self.side.get(&id)?;
        let time = |p: &Place| self.groups[p.group as usize].last_time();
        let first = self.places.get(id.0 as usize).filter(|p| p.group != NOWHERE);
        let places = first.into_iter().chain(self.more_places.get(&id).into_iter().flatten());
        let newest = places.max_by_key(|p| (time(p), p.group));
        Some((side, newest.is_some_and(|p| p.group == group)))
    }

    /// Series with a side buffer and without a group.
    pub(in crate::shard) fn sides_alone(&self) -> Vec<SeriesId> {
        let is_alone = |id: &&SeriesId| self.places.get(id.0 as usize).is_none_or(|p| p.group == NOWHERE);
        self.side.keys().filter(is_alone).copied().collect()
    }

    /// Notes that a place holds samples of a series.
    fn place(&mut self, id: SeriesId, place: Place) {
        let i = id.0 as usize;
        if self.places.len() <= i {
            let more = i + 1 - self.places.len();
            make_room(&mut self.places, more, 1);
            self.places.resize(i + 1, Place { group: NOWHERE, slot: 0 });
        }
        if self.places[i].group == NOWHERE {
            self.places[i] = place;
        } else if self.places[i] != place {
            self.mark_scattered(id);
            let more = self.more_places.entry(id).or_default();
            if !more.contains(&place) {
                more.push(place);
            }
        }
    }

    fn mark_scattered(&mut self, id: SeriesId) {
        let word = id.0 as usize / 64;
        if self.scattered.len() <= word {
            self.scattered.resize(word + 1, 0);
        }
        self.scattered[word] |= 1 << (id.0 % 64);
    }

    fn is_scattered(&self, id: SeriesId) -> bool {
        self.scattered.get(id.0 as usize / 64).is_some_and(|w| w >> (id.0 % 64) & 1 == 1)
    }

    fn group_of(&mut self, source: SourceId, slot: u32) -> u32 {
        let next = self.groups.len() as u32;
        let id = *self.group_ids.entry((source, slot / GROUP_SLOTS_MAX)).or_insert(next);
        if id == next {
            // A multiplicative hash spreads the first seals over one window's length.
            let spread = next.wrapping_mul(0x9e37_79b1) >> 16;
            let group = Group::staggered(SEAL_ROWS / 2 + spread % SEAL_ROWS);
            return self.take_hole((source, slot / GROUP_SLOTS_MAX), group);
        }
        id
    }

    /// Takes a group that was read from a file. A source has each of its parts once: the first one stays.
    pub(in crate::shard) fn restore_group(&mut self, key: (SourceId, u32), group: Group) {
        let id = self.groups.len() as u32;
        if *self.group_ids.entry(key).or_insert(id) != id {
            return;
        }
        for (slot, series) in group.series.iter().enumerate() {
            if let Some(series) = series {
                self.place(*series, Place { group: id, slot: slot as u32 });
            }
        }
        if let Some(first) = group.first_time() {
            self.note_time(first);
            self.note_time(group.last_time());
        }
        self.groups.push(group);
        self.keys.push(key);
    }

    pub(in crate::shard) fn restore_side(&mut self, id: SeriesId, side: SideBuffer) {
        let times = side.times.iter().copied().chain(side.histograms.iter().map(|h| h.time));
        if let Some((first, last)) = times.fold(None, |span: Option<(i64, i64)>, t| {
            Some(span.map_or((t, t), |(a, b)| (a.min(t), b.max(t))))
        }) {
            self.note_time(first);
            self.note_time(last);
        }
        self.mark_scattered(id);
        self.side.insert(id, side);
    }

    /// The source appends no more: its rows are sealed, and what was there for the next one is given back.
    pub(in crate::shard) fn retire(&mut self, source: SourceId) {
        // The parts of a source are numbered without gaps.
        for part in 0.. {
            let Some(id) = self.group_ids.get(&(source, part)) else { return };
            let group = &mut self.groups[*id as usize];
            self.sealed_windows += u64::from(group.retire(&mut self.sealer, &mut self.columns));
        }
    }

    pub(in crate::shard) fn series_at(&self, source: SourceId, slot: u32) -> Result<SeriesId, Error> {
        let group = self.group_ids.get(&(source, slot / GROUP_SLOTS_MAX));
        let series = group.and_then(|g| {
            self.groups[*g as usize].series.get((slot % GROUP_SLOTS_MAX) as usize).copied().flatten()
        });
        series.ok_or(Error::Undefined { source_id: source.0, slot })
    }

    /// Appends a row. Says how many samples it held. Samples of a partial row that are older than the newest of
    /// their series are taken from `late` on, none where it is `None`.
    pub fn append_row(
        &mut self,
        source: SourceId,
        row: &RowEntry<'_>,
        late: Option<Timestamp>,
    ) -> Result<Taken, Error> {
        let undefined = |slot| Error::Undefined { source_id: source.0, slot };
        let id = *self.group_ids.get(&(source, row.base / GROUP_SLOTS_MAX)).ok_or(undefined(row.base))?;
        let group = &mut self.groups[id as usize];
        if !row.is_partial && row.time <= group.last_time() {
            return Err(Refusal::OutOfOrder.into());
        }
        let mask = row.mask(&mut self.mask);
        let width =
            mask.iter().rposition(|w| *w != 0).map_or(0, |w| w * 64 + 64 - mask[w].leading_zeros() as usize);
        if width > group.slot_count() {
            return Err(undefined(row.base + width as u32 - 1));
        }
        if row.is_partial {
            return Ok(self.append_partial(id, row, late));
        }
        group.append(row.time, false, mask.iter().copied(), row.values());
        let sample_count = group.present_count();
        self.appended_floats += sample_count as u64;
        if group.seal_if_due(&mut self.sealer, &mut self.columns) {
            self.sealed_windows += 1;
        }
        self.note_time(row.time);
        if self.is_before_valid(row.time) {
            // Its values are known from here on, its samples lie behind what blocks have: they are not shown.
            return Ok(Taken { out_of_order: sample_count, ..Taken::default() });
        }
        Ok(Taken { sample_count, ..Taken::default() })
    }

    /// Appends one float of a series outside its rows; out of order only from `late` on.
    pub(in crate::shard) fn append_float(
        &mut self,
        source: SourceId,
        slot: u32,
        sample: Late,
        late: Option<Timestamp>,
    ) -> Result<Standing, Error> {
        let id = self.series_at(source, slot)?;
        let Late { time, start, value } = sample;
        self.check_valid(time, late)?;
        self.mark_scattered(id);
        let result = self.side.entry(id).or_default().append_float(time, start, value);
        let standing = standing_of(result, time, late)?;
        if standing == Standing::Late {
            self.late.push((id, sample));
        }
        self.note_behind(id, time);
        self.appended_floats += 1;
        self.note_time(time);
        Ok(standing)
    }

    /// Appends one histogram of a series; out of order only from `late` on.
    pub(in crate::shard) fn append_histogram(
        &mut self,
        source: SourceId,
        slot: u32,
        mut point: HistogramPoint,
        late: Option<Timestamp>,
    ) -> Result<Standing, Error> {
        let id = self.series_at(source, slot)?;
        let time = point.time;
        self.check_valid(time, late)?;
        let hint = hint::stored_hint(self.histogram_before(id, time), &point.histogram);
        if hint != point.histogram.counter_reset_hint {
            Arc::make_mut(&mut point.histogram).counter_reset_hint = hint;
        }
        self.mark_scattered(id);
        let side = self.side.entry(id).or_default();
        let result = match side.last_time() {
            Some(last) if time < last => Err(Refusal::OutOfOrder),
            _ => side.append_histogram(point.clone()),
        };
        let standing = standing_of(result, time, late)?;
        if standing == Standing::Late {
            if !side.insert_histogram(point) {
                return Ok(Standing::InOrder);
            }
        } else {
            self.note_beside(source, slot, time);
        }
        self.appended_histograms += 1;
        self.note_behind(id, time);
        self.note_time(time);
        Ok(standing)
    }

    /// Moves late floats to their side buffers; to be called before anything is read. Returns how many of them were
    /// there already.
    pub(in crate::shard) fn settle_late(&mut self) -> usize {
        if self.late.is_empty() {
            return 0;
        }
        let mut late = std::mem::take(&mut self.late);
        // Stable: of two samples for one time the first one stays.
        late.sort_by_key(|(id, l)| (*id, l.time));
        let (mut run, mut went_in) = (Vec::new(), 0);
        for same in late.chunk_by(|a, b| a.0 == b.0) {
            run.clear();
            run.extend(same.iter().map(|(_, l)| *l));
            self.mark_scattered(same[0].0);
            self.note_behind(same[0].0, same[0].1.time);
            went_in += self.side.entry(same[0].0).or_default().merge_late(&mut run);
        }
        let same_again = late.len() - went_in;
        self.appended_floats -= same_again as u64;
        late.clear();
        // The usual batch has few; a backfill's room is not kept.
        if late.capacity() <= LATE_KEPT_MAX {
            self.late = late;
        }
        same_again
    }

    /// The newest histogram of a series, unless a float came after it, or it is later than `time`.
    fn histogram_before(&self, id: SeriesId, time: Timestamp) -> Option<&FloatHistogram> {
        let last = self.side.get(&id)?.histograms.last().filter(|h| h.time < time)?;
        let is_newest =
            self.newest_of(id).is_none_or(|n| n.time <= last.time || n.value.is_some_and(is_stale));
        is_newest.then_some(&*last.histogram)
    }

    /// Sorts selected series by where their samples lie.
    pub fn selection(
        &self,
        ids: impl Iterator<Item = SeriesId>,
        mint: Timestamp,
        maxt: Timestamp,
    ) -> Selection {
        self.selection_within(ids, (mint, self.clamped(mint)), maxt, self.life.pin())
    }

    /// Series of an earlier selection, to be read as that one would.
    pub(in crate::shard) fn resumed(
        &self,
        earlier: &Selection,
        ids: impl Iterator<Item = SeriesId>,
    ) -> Selection {
        self.selection_within(ids, (earlier.wanted_from, earlier.mint), earlier.maxt, earlier.pin.clone())
    }

    fn selection_within(
        &self,
        ids: impl Iterator<Item = SeriesId>,
        (wanted_from, mint): (Timestamp, Timestamp),
        maxt: Timestamp,
        pin: Arc<()>,
    ) -> Selection {
        let mut s = Selection {
            wanted_from,
            mint,
            maxt,
            wide: None,
            pin,
            placed: Vec::with_capacity(ids.size_hint().0),
            scattered: Vec::new(),
            newest_only: false,
            presence_only: false,
            wants_whole: false,
            placed_read: 0,
            left_to: 0,
            scattered_read: 0,
            unwound: Unwound::default(),
        };
        for id in ids {
            let place = self.places.get(id.0 as usize).copied().unwrap_or(Place { group: NOWHERE, slot: 0 });
            let is_alone = !self.is_scattered(id);
            if is_alone && place.group != NOWHERE {
                s.placed.push((place.group, place.slot, id));
            } else {
                s.scattered.push(id);
            }
        }
        s.placed.sort_unstable();
        s
    }

    /// Decodes the next series of a selection into `batch`; false when everything was read.
    pub fn next_batch(&self, s: &mut Selection, batch: &mut Batch) -> bool {
        batch.clear();
        if self.place_next(s) && s.placed.is_empty() {
            return true;
        }
        let mut columns = std::mem::take(&mut batch.columns);
        if s.placed_read < s.placed.len() {
            self.read_placed(s, &mut columns, batch);
            batch.columns = columns;
            return true;
        }
        while s.scattered_read < s.scattered.len() {
            let id = s.scattered[s.scattered_read];
            s.scattered_read += 1;
            self.read_scattered(id, s, &mut columns, batch);
            if batch.values.len() > BATCH_SAMPLES_MAX || batch.series.len() > 1024 {
                break;
            }
        }
        !batch.series.is_empty() || !s.is_done()
    }

    fn read_placed(&self, s: &mut Selection, columns: &mut Columns, batch: &mut Batch) {
        let group_id = s.placed[s.placed_read].0;
        let group = &self.groups[group_id as usize];
        if s.newest_only {
            let run = s.placed[s.placed_read..].iter().take_while(|p| p.0 == group_id);
            let run = &s.placed[s.placed_read..s.placed_read + run.count()];
            if s.presence_only
                && let Some(time) = group.newest_sealed(s.mint, s.maxt, &mut s.unwound)
            {
                push_present(time, &s.unwound.present, run, batch);
                s.placed_read += run.len();
                return;
            }
            if let Some((time, values)) = group.newest_row(s.mint, s.maxt, run.len(), &mut s.unwound) {
                push_newest(time, values, run, batch);
                s.placed_read += run.len();
                return;
            }
        }
        let rows = group.row_count().max(1);
        let most = (BATCH_SAMPLES_MAX / rows).max(16);
        let run: Vec<(u32, SeriesId)> = s.placed[s.placed_read..]
            .iter()
            .take_while(|p| p.0 == group_id)
            .take(most)
            .map(|p| (p.1, p.2))
            .collect();
        s.placed_read += run.len();
        let slots: Vec<u32> = run.iter().map(|r| r.0).collect();
        group.read(&slots, s.mint, s.maxt, columns);
        let ids = run.iter().map(|r| r.1);
        push_columns(columns, ids, batch, s.wants_whole);
    }

    /// Merges everything held of one series, in time order; where several sources have a sample for one time,
    /// the first written wins.
    fn read_scattered(&self, id: SeriesId, s: &Selection, columns: &mut Columns, batch: &mut Batch) {
        let mut samples: Vec<(Timestamp, f64, Timestamp)> = Vec::new();
        let deleted = self.deleted_of(id);
        let first = self.places.get(id.0 as usize).filter(|p| p.group != NOWHERE);
        for p in first.into_iter().chain(self.more_places.get(&id).into_iter().flatten()) {
            self.groups[p.group as usize].read(&[p.slot], s.mint, s.maxt, columns);
            let is_deleted = |t: Timestamp| deleted.is_some_and(|spans| spans.contains(t));
            let present = columns.times.iter().zip(&columns.values).filter(|(_, v)| !is_absent(**v));
            samples.extend(present.filter(|(t, _)| !is_deleted(**t)).map(|(t, v)| (*t, *v, 0)));
        }
        let (times, values, histograms) = (&mut batch.times, &mut batch.values, &mut batch.histograms);
        let histograms_from = histograms.len() as u32;
        let mut has_starts = false;
        if let Some(side) = self.side.get(&id) {
            // Beside rows lies what came late, too, behind the end of blocks.
            let from = side.times.partition_point(|t| *t < s.wanted_from);
            let to = side.times.partition_point(|t| *t <= s.maxt);
            has_starts = !side.starts.is_empty();
            samples.extend(
                (from..to).map(|i| (side.times[i], side.values[i], side.starts.get(i).copied().unwrap_or(0))),
            );
            let inside = side.histograms.iter().filter(|h| (s.wanted_from..=s.maxt).contains(&h.time));
            histograms.extend(inside.cloned());
        }
        samples.sort_by_key(|x| x.0);
        samples.dedup_by_key(|x| x.0);
        let (t0, v0, s0) = (times.len() as u32, values.len() as u32, batch.starts.len() as u32);
        times.extend(samples.iter().map(|x| x.0));
        values.extend(samples.iter().map(|x| x.1));
        if has_starts {
            batch.starts.extend(samples.iter().map(|x| x.2));
        }
        let series = BatchSeries {
            id,
            times: t0..times.len() as u32,
            values: v0..values.len() as u32,
            starts: s0..batch.starts.len() as u32,
            histograms: histograms_from..histograms.len() as u32,
            is_coarse: false,
        };
        if !series.times.is_empty() || !series.histograms.is_empty() {
            batch.series.push(series);
        }
    }
}

/// The samples of one row, which all have its time.
fn push_newest(time: Timestamp, values: &[f64], run: &[(u32, u32, SeriesId)], batch: &mut Batch) {
    let at = batch.times.len() as u32;
    batch.times.push(time);
    for (_, slot, id) in run {
        let v = values[*slot as usize];
        if repeats(v) {
            let from = batch.values.len() as u32;
            batch.values.push(v);
            let values = from..from + 1;
            batch.series.push(BatchSeries {
                id: *id,
                times: at..at + 1,
                values,
                starts: 0..0,
                histograms: 0..0,
                is_coarse: false,
            });
        }
    }
}

/// That series have some sample in a row.
fn push_present(time: Timestamp, present: &[u64], run: &[(u32, u32, SeriesId)], batch: &mut Batch) {
    let (at, value) = (batch.times.len() as u32, batch.values.len() as u32);
    batch.times.push(time);
    batch.values.push(0.0);
    let has = |slot: u32| present.get(slot as usize / 64).is_some_and(|w| w >> (slot % 64) & 1 == 1);
    for (_, _, id) in run.iter().filter(|p| has(p.1)) {
        let (times, values) = (at..at + 1, value..value + 1);
        batch.series.push(BatchSeries {
            id: *id,
            times,
            values,
            starts: 0..0,
            histograms: 0..0,
            is_coarse: false,
        });
    }
}

/// Moves decoded columns into a batch: shared times where a column is whole, its own where it has gaps. With
/// `keeps_whole`, those that have a number at each time are only named.
fn push_columns(
    columns: &Columns,
    ids: impl Iterator<Item = SeriesId>,
    batch: &mut Batch,
    keeps_whole: bool,
) {
    let n = columns.times.len();
    if n == 0 {
        return;
    }
    let shared = batch.times.len() as u32;
    batch.times.extend_from_slice(&columns.times);
    let shared = shared..batch.times.len() as u32;
    for (i, id) in ids.enumerate() {
        let column = &columns.values[i * n..(i + 1) * n];
        if keeps_whole && !column.iter().fold(false, |any, v| any | v.is_nan()) {
            batch.whole.push((id, i as u32));
            continue;
        }
        let from = batch.values.len() as u32;
        let times = if column.iter().all(|v| v.to_bits() != ABSENT.to_bits()) {
            batch.values.extend_from_slice(column);
            shared.clone()
        } else {
            let own = batch.times.len() as u32;
            for (t, v) in columns.times.iter().zip(column) {
                if !is_absent(*v) {
                    batch.times.push(*t);
                    batch.values.push(*v);
                }
            }
            own..batch.times.len() as u32
        };
        if times.is_empty() {
            continue;
        }
        let values = from..batch.values.len() as u32;
        batch.series.push(BatchSeries {
            id,
            times,
            values,
            starts: 0..0,
            histograms: 0..0,
            is_coarse: false,
        });
    }
}

/// A histogram point of an owned histogram.
pub fn histogram_point(
    time: Timestamp,
    start: Timestamp,
    histogram: model::histogram::FloatHistogram,
) -> HistogramPoint {
    HistogramPoint { time, start, histogram: Arc::new(histogram) }
}
