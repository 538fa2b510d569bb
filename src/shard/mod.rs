//! One shard: it owns its series whole.
//!
//! In: batches of definitions, rows and samples. Out: selections of series and their samples; what its log must keep.
//! Owns: the index, the head and the log of the series whose hash routes here. Runs on: its core, alone.
//! Invariant: a series lives on exactly one shard, given by its `SeriesHash`; nothing here is locked or shared.
//! Never: knows targets, questions, URLs, or a clock.

pub mod appender;
pub mod births;
pub mod block;
pub mod budget;
pub mod checkpoint;
pub mod commons;
pub mod compact;
pub mod cut;
pub mod deep;
pub mod deep_meta;
pub mod delete;
pub mod deposit;
pub mod downsample;
pub mod exemplars;
mod far;
pub mod head;
pub mod history;
pub mod index;
pub mod keeper;
pub mod layers;
pub mod meta;
pub mod pieces;
pub mod probe;
pub mod read_ahead;
pub mod record;
pub mod reshard;
pub mod scrub;
pub mod select;
pub mod snapshot;
pub mod stream;
pub mod table;
pub mod tombstones;
pub mod turn;
pub mod upkeep;
pub mod wal;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod delete_tests;
#[cfg(test)]
mod downsample_tests;

use std::sync::Arc;

use exposition::remote_histogram;
use model::histogram::FloatHistogram;
use model::labels::METRIC_NAME;
use model::{Labels, Matcher, SeriesId, Timestamp};

use commons::Standing;
use exemplars::{Exemplar, Exemplars};
use head::Head;
use head::edges::{EdgeColumns, RowColumns};
use head::side::{Late, Refusal};
use index::search::Search;
use index::{Index, LabelColumn, SymbolId};
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
    /// Out of order, and older than what is taken so.
    pub too_old: usize,
    pub duplicate: usize,
    /// Samples that went in out of order; they are among `sample_count`.
    pub late: usize,
    /// How many of those refused or late are histograms.
    pub of_histograms: OfHistograms,
}

/// The part of a batch's odd samples that is histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfHistograms {
    pub out_of_order: usize,
    pub too_old: usize,
    pub late: usize,
}

impl Applied {
    /// Notes a sample that was taken; returns 1.
    fn note_standing(&mut self, standing: Standing, is_histogram: bool) -> usize {
        if standing == Standing::Late {
            self.late += 1;
            self.of_histograms.late += usize::from(is_histogram);
        }
        1
    }

    fn note_refusal(&mut self, refusal: Refusal, is_histogram: bool) {
        match refusal {
            Refusal::Duplicate => self.duplicate += 1,
            Refusal::TooOld => {
                self.too_old += 1;
                self.of_histograms.too_old += usize::from(is_histogram);
            }
            Refusal::OutOfOrder | Refusal::OutOfBounds | Refusal::TooFar => {
                self.out_of_order += 1;
                self.of_histograms.out_of_order += usize::from(is_histogram);
            }
        }
    }
}

#[derive(Default)]
pub struct Shard {
    index: Index,
    head: Head,
    exemplars: Exemplars,
}

impl Shard {
    /// Applies a batch to memory. Samples that are out of order or duplicates are counted, the rest is kept.
    ///
    /// Errors end the batch where they stand; the source that sent it must begin anew.
    pub fn apply(&mut self, batch: &[u8]) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        let result = self.apply_imp(batch, &mut applied);
        let same_again = self.head.settle_late();
        applied.sample_count -= same_again;
        applied.late -= same_again;
        result.map(|()| applied)
    }

    fn apply_imp(&mut self, batch: &[u8], applied: &mut Applied) -> Result<(), Error> {
        let (source, mut entries) = record::open(batch)?;
        let mut late = None;
        while let Some(entry) = entries.try_next()? {
            match entry {
                Entry::Late { oldest } => late = Some(oldest),
                entry => self.apply_entry(source, entry, late, applied)?,
            }
        }
        Ok(())
    }

    fn apply_entry(
        &mut self,
        source: SourceId,
        entry: Entry<'_>,
        late: Option<Timestamp>,
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let is_histogram = matches!(entry, Entry::Histogram { .. });
        let result = match entry {
            Entry::Late { .. } => Ok(0),
            Entry::Retire { source } => {
                self.head.retire(source);
                Ok(0)
            }
            Entry::Delete { mint, maxt, labels } => {
                if let Some(id) = self.index.find(&labels) {
                    self.head.delete(id, mint, maxt);
                }
                Ok(0)
            }
            Entry::Define { slot, labels } => {
                let (id, is_new) = self.index.find_or_insert(&labels)?;
                applied.series_created += usize::from(is_new);
                self.head.define(source, slot, id);
                Ok(0)
            }
            Entry::Row(row) => self.head.append_row(source, &row, late).map(|taken| {
                applied.out_of_order += taken.out_of_order;
                applied.too_old += taken.too_old;
                applied.duplicate += taken.duplicate;
                applied.late += taken.late;
                taken.sample_count
            }),
            Entry::Float { slot, time, start, value } => {
                let taken = self.head.append_float(source, slot, Late { time, start, value }, late);
                taken.map(|standing| applied.note_standing(standing, false))
            }
            Entry::Exemplar { slot, time, value, labels } => {
                let exemplar = Exemplar { labels, time, value };
                self.head.series_at(source, slot).map(|id| {
                    self.exemplars.append(id, exemplar);
                    0
                })
            }
            Entry::Histogram { slot, time, start, bytes } => {
                let sample = remote_histogram::read(bytes).ok().and_then(|h| h.accepted().ok());
                let histogram = sample.ok_or(record::Malformed { at: 0, what: "histogram" })?;
                let point = HistogramPoint { time, start, histogram: Arc::new(histogram) };
                let taken = self.head.append_histogram(source, slot, point, late);
                taken.map(|standing| applied.note_standing(standing, true))
            }
        };
        match result {
            Ok(n) => applied.sample_count += n,
            Err(head::Error::Refused(refusal)) => applied.note_refusal(refusal, is_histogram),
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
        self.head.append_float(OWN_SOURCE, slot, Late { time, start, value }, None)?;
        Ok(())
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
        self.head.append_histogram(OWN_SOURCE, slot, point, None)?;
        Ok(())
    }

    fn own_slot(&mut self, labels: &Labels) -> Result<u32, Error> {
        let (id, _) = self.index.find_or_insert(labels)?;
        self.head.define(OWN_SOURCE, id.0, id);
        Ok(id.0)
    }

    /// The series that all `matchers` accept, to be read between two times (inclusive).
    pub fn select(&self, matchers: &[Matcher], mint: Timestamp, maxt: Timestamp) -> Selection {
        self.head.selection_of(self.index.select(matchers), mint, maxt)
    }

    /// The search for the series that all `matchers` accept, where it is more than a turn's work.
    pub fn search(&self, matchers: &[Matcher]) -> Option<Search> {
        self.index.search(matchers)
    }

    /// What a search has found, to be read between two times (inclusive).
    pub fn select_found(&self, search: Search, mint: Timestamp, maxt: Timestamp) -> Selection {
        self.head.selection_of(search.finish(&self.index), mint, maxt)
    }

    /// Decodes the next series of a selection into `batch`; false when everything was read.
    pub fn next_batch(&self, selection: &mut Selection, batch: &mut Batch) -> bool {
        self.head.next_batch(selection, batch)
    }

    /// Counts the series of a selection's next group by its newest row, and names one of them; `None` where it has to
    /// be read to tell.
    pub fn count_newest(&self, selection: &mut Selection) -> Option<(usize, Option<SeriesId>)> {
        self.head.count_newest(selection)
    }

    /// Reads what a rate needs of a selection's next group; false where the next batch has to be read instead.
    pub fn next_edges(&self, selection: &mut Selection, edges: &mut EdgeColumns) -> bool {
        self.head.next_edges(selection, edges)
    }

    /// Reads a selection's next group row by row; false where the next batch has to be read instead.
    pub fn next_rows(&self, selection: &mut Selection, drops_are_odd: bool, rows: &mut RowColumns) -> bool {
        self.head.next_rows(selection, drops_are_odd, rows)
    }

    /// Labels of a series, as text.
    pub fn labels(&self, id: SeriesId) -> Labels {
        self.index.labels(id)
    }

    /// Series of a metric.
    pub fn metric_series_count(&self, metric: &str) -> u64 {
        let symbols = self.symbol(METRIC_NAME).zip(self.symbol(metric));
        symbols.map_or(0, |(name, value)| self.index.postings().list(name, value).len() as u64)
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

    /// The same of series after series.
    #[inline]
    pub fn column_value(&self, id: SeriesId, column: &mut LabelColumn) -> SymbolId {
        self.index.column_value(id, column)
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// Exemplars of the series that one of the selectors accepts, between two times, inclusive. Series that the head
    /// gave up are looked at, too.
    pub fn select_exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        start: Timestamp,
        end: Timestamp,
    ) -> Vec<(Labels, Exemplar)> {
        let matching = selectors.iter().flat_map(|m| self.index.matching(m));
        let mut ids: Vec<SeriesId> = matching.map(SeriesId).collect();
        let is_wanted = |labels: &Labels| {
            selectors.iter().any(|m| m.iter().all(|m| m.matches(labels.value_or_empty(&m.name))))
        };
        let gone = self.exemplars.series().filter(|id| !self.index.holds(*id));
        ids.extend(gone.filter(|id| is_wanted(&self.labels(*id))));
        // A series that went and came again has two numbers, ascending as its times do.
        ids.sort_unstable();
        ids.dedup();
        let found = self.exemplars.select(&ids, start, end);
        found.into_iter().map(|(id, x)| (self.labels(id), x)).collect()
    }

    pub fn exemplars_mut(&mut self) -> &mut Exemplars {
        &mut self.exemplars
    }

    pub fn head(&self) -> &Head {
        &self.head
    }
}

/// The source under which single series append by their labels; its slots are series ids.
const OWN_SOURCE: SourceId = SourceId(0);
