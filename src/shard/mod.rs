//! One shard: it owns its series whole.
//!
//! In: batches of definitions, rows and samples. Out: selections of series and their samples; what its log must keep.
//! Owns: the index, the head and the log of the series whose hash routes here. Runs on: its core, alone.
//! Invariant: a series lives on exactly one shard, given by its `SeriesHash`; nothing here is locked or shared.
//! Never: knows targets, questions, URLs, or a clock.

pub mod appender;
pub mod head;
pub mod index;
pub mod keeper;
pub mod meta;
pub mod probe;
pub mod record;
pub mod reshard;
pub mod select;
pub mod stream;
pub mod wal;

#[cfg(test)]
mod crash_tests;

use std::sync::Arc;

use exposition::remote_histogram;
use model::histogram::FloatHistogram;
use model::{Labels, Matcher, SeriesId, Timestamp};

use head::{Head, side::Refusal};
use index::{Index, SymbolId};
use record::{Entry, SourceId};
use select::{Batch, HistogramPoint, Selection};

/// Why a batch, or a part of one, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Refuse and set aside: the bytes are not a batch.
    #[error(transparent)]
    Malformed(#[from] record::Malformed),
    /// Refuse: memory structures are full.
    #[error(transparent)]
    Full(#[from] index::Full),
    /// Report: the sample itself is at fault, or its source must begin anew.
    #[error(transparent)]
    Head(#[from] head::Error),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub sample_count: usize,
    pub series_created: usize,
    pub out_of_order: usize,
    pub duplicate: usize,
}

#[derive(Default)]
pub struct Shard {
    index: Index,
    head: Head,
}

impl Shard {
    /// Applies a batch to memory. Samples that are out of order or duplicates are counted, the rest is kept.
    ///
    /// Errors end the batch where they stand; the source that sent it must begin anew.
    pub fn apply(&mut self, batch: &[u8]) -> Result<Applied, Error> {
        let (source, mut entries) = record::open(batch)?;
        let mut applied = Applied::default();
        while let Some(entry) = entries.try_next()? {
            self.apply_entry(source, entry, &mut applied)?;
        }
        Ok(applied)
    }

    fn apply_entry(
        &mut self,
        source: SourceId,
        entry: Entry<'_>,
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let result = match entry {
            Entry::Define { slot, labels } => {
                let (id, is_new) = self.index.find_or_insert(&labels)?;
                applied.series_created += usize::from(is_new);
                self.head.define(source, slot, id);
                Ok(0)
            }
            Entry::Row(row) => self.head.append_row(source, &row).map(|taken| {
                applied.out_of_order += taken.out_of_order;
                applied.duplicate += taken.duplicate;
                taken.sample_count
            }),
            Entry::Float { slot, time, start, value } => {
                self.head.append_float(source, slot, time, start, value).map(|()| 1)
            }
            Entry::Histogram { slot, time, start, bytes } => {
                let sample = remote_histogram::read(bytes).ok().and_then(|h| h.accepted().ok());
                let histogram = sample.ok_or(record::Malformed { at: 0, what: "histogram" })?;
                let point = HistogramPoint { time, start, histogram: Arc::new(histogram) };
                self.head.append_histogram(source, slot, point).map(|()| 1)
            }
        };
        match result {
            Ok(n) => applied.sample_count += n,
            Err(head::Error::Refused(Refusal::OutOfOrder | Refusal::OutOfBounds | Refusal::TooFar)) => {
                applied.out_of_order += 1;
            }
            Err(head::Error::Refused(Refusal::Duplicate)) => applied.duplicate += 1,
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Appends one float of the series with `labels`, memory only: scripts and tests load their data so.
    pub fn append_float(
        &mut self,
        labels: &Labels,
        time: Timestamp,
        start: Timestamp,
        value: f64,
    ) -> Result<(), Error> {
        let slot = self.own_slot(labels)?;
        Ok(self.head.append_float(OWN_SOURCE, slot, time, start, value)?)
    }

    /// Appends one native histogram of the series with `labels`, memory only.
    pub fn append_histogram(
        &mut self,
        labels: &Labels,
        time: Timestamp,
        start: Timestamp,
        histogram: FloatHistogram,
    ) -> Result<(), Error> {
        let slot = self.own_slot(labels)?;
        let point = HistogramPoint { time, start, histogram: Arc::new(histogram) };
        Ok(self.head.append_histogram(OWN_SOURCE, slot, point)?)
    }

    fn own_slot(&mut self, labels: &Labels) -> Result<u32, Error> {
        let (id, _) = self.index.find_or_insert(labels)?;
        self.head.define(OWN_SOURCE, id.0, id);
        Ok(id.0)
    }

    /// The series that all `matchers` accept, to be read between two times (inclusive).
    pub fn select(&self, matchers: &[Matcher], mint: Timestamp, maxt: Timestamp) -> Selection {
        let ids = self.index.matching(matchers);
        self.head.selection(ids.into_iter().map(SeriesId), mint, maxt)
    }

    /// Decodes the next series of a selection into `batch`; false when everything was read.
    pub fn next_batch(&self, selection: &mut Selection, batch: &mut Batch) -> bool {
        self.head.next_batch(selection, batch)
    }

    /// Labels of a series, as text.
    pub fn labels(&self, id: SeriesId) -> Labels {
        self.index.labels(id)
    }

    /// The symbol of a text, where a label of this shard has it.
    pub fn symbol(&self, text: &str) -> Option<SymbolId> {
        self.index.symbols().find(text)
    }

    pub fn symbol_text(&self, id: SymbolId) -> &str {
        self.index.symbols().text(id)
    }

    /// The value of one label as a symbol: `EMPTY` where the series does not have it.
    pub fn label_value(&self, id: SeriesId, name: SymbolId) -> SymbolId {
        self.index.label_value(id, name)
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn head(&self) -> &Head {
        &self.head
    }
}

/// The source under which single series append by their labels; its slots are series ids.
const OWN_SOURCE: SourceId = SourceId(0);
