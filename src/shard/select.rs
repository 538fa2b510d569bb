//! What a question takes from a shard: series by matchers, then their samples as columns, batch by batch.
//!
//! A selection owns what it needs (ids, not references), so a question may yield between batches while the shard
//! goes on appending.

use std::ops::Range;
use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::{SeriesId, Timestamp};

use crate::shard::head::group::Columns;
use crate::shard::head::newest::Unwound;
use crate::shard::head::wide::Wide;

/// A native histogram at a time.
#[derive(Clone, Debug)]
pub struct HistogramPoint {
    pub time: Timestamp,
    /// When the counter began; 0 where not known.
    pub start: Timestamp,
    pub histogram: Arc<FloatHistogram>,
}

/// One series of a batch: ranges into the batch's columns.
#[derive(Clone, Debug)]
pub struct BatchSeries {
    pub id: SeriesId,
    /// Times of its float samples, ascending, in [`Batch::times`]. Series scraped together share one range: a
    /// reader that keeps a window table may key it by this range within one batch.
    pub times: Range<u32>,
    /// Values of its float samples in [`Batch::values`], as many as `times`. Staleness markers are among them.
    pub values: Range<u32>,
    /// Start timestamps of its float samples in [`Batch::starts`]; empty where none is known.
    pub starts: Range<u32>,
    /// Its histograms, ascending by time, in [`Batch::histograms`]. A histogram whose sum is the staleness marker
    /// ends the series, like a stale float.
    pub histograms: Range<u32>,
    /// Whether aggregates are among its floats: what they are depends on what was asked for.
    pub is_coarse: bool,
}

/// Samples of several series, decoded into columns. Reused from batch to batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub series: Vec<BatchSeries>,
    pub times: Vec<Timestamp>,
    pub values: Vec<f64>,
    pub starts: Vec<Timestamp>,
    /// How many samples each of `values` stands for, where that is asked of aggregates; else none.
    pub weights: Vec<f64>,
    pub histograms: Vec<HistogramPoint>,
    /// Where a selection asks for it, series with a number at each of the same times, who are not among `series`:
    /// what [`Batch::whole_values`] takes says where those are.
    pub whole: Vec<(SeriesId, u32)>,
    pub(in crate::shard) columns: Columns,
}

impl Batch {
    /// The times of all that is whole.
    pub fn whole_times(&self) -> &[Timestamp] {
        &self.columns.times
    }

    #[inline]
    pub fn whole_values(&self, column: u32) -> &[f64] {
        let n = self.columns.times.len();
        &self.columns.values[column as usize * n..][..n]
    }

    pub fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.weights.clear();
        self.histograms.clear();
        self.whole.clear();
    }

    pub fn times_of(&self, s: &BatchSeries) -> &[Timestamp] {
        &self.times[s.times.start as usize..s.times.end as usize]
    }

    pub fn values_of(&self, s: &BatchSeries) -> &[f64] {
        &self.values[s.values.start as usize..s.values.end as usize]
    }

    /// Empty where that is not asked.
    pub fn weights_of(&self, s: &BatchSeries) -> &[f64] {
        self.weights.get(s.values.start as usize..s.values.end as usize).unwrap_or(&[])
    }

    pub fn starts_of(&self, s: &BatchSeries) -> &[Timestamp] {
        &self.starts[s.starts.start as usize..s.starts.end as usize]
    }

    pub fn histograms_of(&self, s: &BatchSeries) -> &[HistogramPoint] {
        &self.histograms[s.histograms.start as usize..s.histograms.end as usize]
    }
}

/// Series chosen by matchers, and how far their reading has come. Both times are inclusive.
#[derive(Debug)]
pub struct Selection {
    /// Where the question begins; what lies between this and `mint` is in blocks.
    pub wanted_from: Timestamp,
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// Where series are many: those of one group after the other are placed while it is read.
    pub(in crate::shard) wide: Option<Wide>,
    /// What the head has now stays in memory for as long as this lives.
    pub(in crate::shard) pin: Arc<()>,
    /// Series that lie in exactly one group: (group, slot, id), in that order.
    pub(in crate::shard) placed: Vec<(u32, u32, SeriesId)>,
    /// Series that need a merge: in several groups, or with a side buffer.
    pub(in crate::shard) scattered: Vec<SeriesId>,
    /// Of each series only the newest sample is wanted. Where it can be had without decoding, batches hold no other.
    pub newest_only: bool,
    /// Of that sample only whether there is one is wanted: its value may be any number.
    pub presence_only: bool,
    /// Series with a number at each time of their group are wanted as [`Batch::whole`].
    pub wants_whole: bool,
    pub(in crate::shard) placed_read: usize,
    /// Up to here what is placed was looked at group-wise; what of it is not read is read by batches.
    pub(in crate::shard) left_to: usize,
    pub(in crate::shard) scattered_read: usize,
    pub(in crate::shard) unwound: Unwound,
}

impl Selection {
    /// Series selected, whether or not they have samples in the time range.
    pub fn series_count(&self) -> usize {
        match &self.wide {
            Some(wide) => wide.wanted_count,
            None => self.placed.len() + self.scattered.len(),
        }
    }

    /// The selected series, in no particular order.
    pub fn series(&self) -> impl Iterator<Item = SeriesId> + '_ {
        let listed = self.placed.iter().map(|(_, _, id)| *id).chain(self.scattered.iter().copied());
        let listed = listed.filter(|_| self.wide.is_none());
        self.wide.iter().flat_map(Wide::series).chain(listed)
    }

    /// Series of the group at hand that are still to be read.
    pub fn left_count(&self) -> usize {
        self.left_to.saturating_sub(self.placed_read)
    }

    /// Of a group's `run` of what is placed only those in `left` are still to be read, by batches.
    pub(in crate::shard) fn leave(&mut self, run: Range<usize>, left: &[(u32, u32, SeriesId)]) {
        self.placed_read = run.end - left.len();
        self.left_to = run.end;
        self.placed[self.placed_read..run.end].copy_from_slice(left);
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        let is_placed = self.wide.as_ref().is_none_or(|w| w.is_exhausted);
        is_placed && self.placed_read == self.placed.len() && self.scattered_read == self.scattered.len()
    }
}
