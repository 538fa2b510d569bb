//! A fragment on its shard: select, decode batch by batch, compute each series, keep or aggregate.

use std::ops::Range;

use compute::range::RateKind;
use hashbrown::HashMap;
use model::labels::METRIC_NAME;
use model::{Labels, MatchOp, SeriesId, Timestamp};
use promql::Function;
use promql::ast::{Aggregator, Span};

use crate::query::Error;
use crate::query::account::Load;
use crate::query::annotations::Annotations;
use crate::query::exec::access::Access;
use crate::query::exec::aggregate::Tally;
use crate::query::exec::coarse;
use crate::query::exec::elementwise;
use crate::query::exec::fold::Groups;
use crate::query::exec::grouping::Folding;
use crate::query::exec::window::{
    Ranger, Samples, Scratch, SingleRate, Smoothing, latest, latest_time, smoothed, time_span,
    without_buckets,
};
use crate::query::frame::{Cell, Row, TYPE_LABEL, histogram_sample_count, is_absent, without_reserved};
use crate::query::plan::physical::{Chain, Fragment, Read};
use crate::query::value::Series;
use crate::shard::Shard;
use crate::shard::deep::Deep;
use crate::shard::head::edges::{EdgeColumns, RowColumns};
use crate::shard::index::SymbolId;
use crate::shard::select::{Batch, BatchSeries};

/// What a shard answers.
#[derive(Debug, Default)]
pub struct Partial {
    pub result: Outcome,
    pub notes: Annotations,
    /// Samples in windows or found by look-ups.
    pub load: Load,
    /// No series of the shard is one that the fragment asks for, and no block reaches behind its beginning.
    pub is_vacant: bool,
}

impl Partial {
    /// What a shard answers that has nothing.
    pub fn vacant(fragment: &Fragment) -> Partial {
        Partial { load: Load::new(fragment.steps.count, fragment.counts_steps), ..Partial::default() }
    }
}

#[derive(Debug)]
pub enum Outcome {
    Rows(Vec<Row>),
    Groups(Groups),
    /// Samples with their own times.
    Raw(Vec<Series>),
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome::Rows(Vec::new())
    }
}

/// Series computed between two breaths. At 50-500 ns each this is 10-30 us, longer where windows are long.
const TURN_SERIES: usize = 64;

/// Series of which a rate is taken between two breaths, where columns hold what it takes: 20-40 ns each.
const TURN_EDGES: usize = 512;

/// The same at all steps of a range: some 50-100 ns each.
const TURN_WHOLE: usize = 256;

/// Rates taken row by row between two breaths, of all series and steps: 3-5 ns each.
const TURN_CELLS: usize = 8 * 1024;

/// Series left over by going row by row, more than were taken, before it is given up.
const ROWS_TRIED: usize = 4096;

/// Samples decoded between two breaths, where series are long.
const TURN_SAMPLES: usize = 8 * 1024;

/// Rows that are given their labels between two breaths: at some 300 ns each.
const TURN_ROWS: usize = 64;

/// The oldest time that a fragment looks at.
pub fn oldest(fragment: &Fragment) -> Timestamp {
    let chain = &fragment.chain;
    time_span(&chain.selector, &chain.read, fragment.steps, fragment.settings.lookback).0
}

/// Runs a fragment to its end, giving way to other work in between.
pub async fn run<A: Access>(shard: &A, fragment: &Fragment) -> Result<Partial, Error> {
    let resolution = coarse::resolution(shard, fragment);
    let adapted = (resolution > 0).then(|| Box::new(coarse::adapted(fragment, resolution)));
    let fragment = adapted.as_deref().unwrap_or(fragment);
    let chain = &fragment.chain;
    let (mint, maxt) = time_span(&chain.selector, &chain.read, fragment.steps, fragment.settings.lookback);
    let matchers = &chain.selector.matchers;
    let mut search = shard.with(|s| s.search(matchers));
    if let Some(search) = &mut search {
        while !shard.with(|s| search.step(s.index())) {
            shard.breathe().await?;
        }
    }
    // In one turn: what is not in the blocks then is in the head.
    let (mut selection, blocks) = shard.with(|s| {
        let blocks = shard.store().map(|store| (store.overlapping_to(mint, maxt, resolution), store));
        let selection = match search.take() {
            Some(found) => s.select_found(found, mint, maxt),
            None => s.select(matchers, mint, maxt),
        };
        (selection, blocks)
    });
    if let Some((blocks, store)) = blocks.filter(|(blocks, _)| !blocks.is_empty()) {
        // Apart, so that a fragment that reads no block is not as large as one that does: it is moved into its task.
        return Box::pin(async {
            let mut deep = Deep::new(store, blocks, vec![chain.selector.matchers.to_vec()], selection);
            if resolution > 0 {
                deep = deep.with_aggregates(coarse::reading(fragment));
            }
            run_deep(shard, fragment, deep).await
        })
        .await;
    }
    fragment.meter.select(selection.series_count() as u64);
    if selection.series_count() == 0 && resolution == 0 && is_vacant(shard, fragment, mint) {
        return Ok(Partial { is_vacant: true, ..Partial::vacant(fragment) });
    }
    selection.newest_only = newest_is_enough(fragment);
    selection.presence_only = presence_is_enough(fragment);
    selection.wants_whole = Ranger::of(fragment).is_some_and(|r| r.is_rate_of_columns());
    let mut work = shard.with(|s| Work::new(s, fragment));
    let (mut batch, mut edges, mut rows) = (Batch::default(), EdgeColumns::default(), RowColumns::default());
    shard.breathe().await?;
    let mut batch_number = 0;
    loop {
        if work.counts_only
            && let Some((count, any)) = shard.with(|s| s.count_newest(&mut selection))
        {
            shard.with(|s| work.take_count(s, count, any));
            work.end_turn()?;
            shard.breathe().await?;
            continue;
        }
        if let Some(kind) = work.rate
            && shard.with(|s| s.next_edges(&mut selection, &mut edges))
        {
            let rate = work.rate_of(kind, &edges);
            for from in (0..edges.ids.len()).step_by(TURN_EDGES) {
                let to = edges.ids.len().min(from + TURN_EDGES);
                shard.with(|s| work.take_edges(s, &rate, &edges, from..to));
                work.end_turn()?;
                shard.breathe().await?;
            }
            shard.breathe().await?;
            continue;
        }
        if let Some(kind) = work.row_rate
            && shard.with(|s| s.next_rows(&mut selection, kind.is_counter(), &mut rows))
        {
            take_group(shard, &mut work, &rows).await?;
            work.judge_rows(rows.ids.len(), selection.left_count());
            continue;
        }
        if !shard.with(|s| s.next_batch(&mut selection, &mut batch)) {
            break;
        }
        batch_number += 1;
        take_batch(shard, &mut work, &batch, batch_number).await?;
        shard.breathe().await?;
    }
    let mut rows = Vec::with_capacity(work.rows.len());
    let mut unnamed = std::mem::take(&mut work.rows).into_iter();
    while unnamed.len() > 0 {
        let named = shard.with(|s| work.named(s, unnamed.by_ref().take(TURN_ROWS), &mut rows));
        fragment.meter.turn(0, 0, named)?;
        shard.breathe().await?;
    }
    Ok(work.finish(rows))
}

/// Whether nothing fits the fragment, now or in any block from `mint` on.
fn is_vacant<A: Access>(shard: &A, fragment: &Fragment, mint: Timestamp) -> bool {
    let matchers = &fragment.chain.selector.matchers;
    let has_block =
        shard.store().is_some_and(|s| !s.overlapping_to(mint, Timestamp::MAX, i64::MAX).is_empty());
    !has_block && shard.with(|s| s.search(matchers).is_none() && s.index().select(matchers).is_empty())
}

/// Computes the series of a group, of which each row is a column, in turns.
async fn take_group<A: Access>(shard: &A, work: &mut Work<'_>, rows: &RowColumns) -> Result<(), Error> {
    work.group_number += 1;
    let turn = (TURN_CELLS / work.fragment.steps.count).clamp(1, TURN_EDGES);
    for from in (0..rows.ids.len()).step_by(turn) {
        let to = rows.ids.len().min(from + turn);
        shard.with(|s| work.take_rows(s, rows, from..to));
        work.end_turn()?;
        shard.breathe().await?;
    }
    shard.breathe().await
}

/// Computes the series of a batch, in turns.
async fn take_batch<A: Access>(
    shard: &A,
    work: &mut Work<'_>,
    batch: &Batch,
    batch_number: u64,
) -> Result<(), Error> {
    let turn = (TURN_SAMPLES / batch.whole_times().len().max(1)).clamp(1, TURN_WHOLE);
    for some in batch.whole.chunks(turn) {
        shard.with(|s| work.take_whole(s, batch, batch_number, some))?;
        work.end_turn()?;
        shard.breathe().await?;
    }
    let mut series = batch.series.as_slice();
    while !series.is_empty() {
        let turn = turn_length(series);
        let (now, rest) = series.split_at(turn);
        series = rest;
        shard.with(|s| work.take(s, batch, batch_number, now))?;
        work.end_turn()?;
        shard.breathe().await?;
    }
    Ok(())
}

/// Which rate of whole groups the fragment aggregates, as it is or mapped float by float.
fn rate_of_groups(fragment: &Fragment) -> Option<RateKind> {
    let chain = &fragment.chain;
    let is_plain = !chain.selector.anchored
        && !chain.selector.smoothed
        && chain.maps.iter().all(elementwise::takes_columns);
    let is_fit = is_plain && Tally::takes(fragment.fold.as_ref()?.op);
    match &chain.read {
        Read::Window { function: Function::Rate, .. } if is_fit => Some(RateKind::Rate),
        Read::Window { function: Function::Increase, .. } if is_fit => Some(RateKind::Increase),
        Read::Window { function: Function::Delta, .. } if is_fit => Some(RateKind::Delta),
        _ => None,
    }
}

/// Runs a fragment that reaches into blocks.
async fn run_deep<A: Access>(shard: &A, fragment: &Fragment, mut deep: Deep) -> Result<Partial, Error> {
    while shard.with(|s| deep.take_head(s)) {
        shard.breathe().await?;
    }
    while deep.take_part().await {
        shard.breathe().await?;
    }
    if deep.is_full() {
        return Err(Error::Execution("the query selects more series than it can name".to_owned()));
    }
    fragment.meter.select(deep.series_count() as u64);
    let mut work = Work::new(deep.names(), fragment);
    let (mut batch, mut batch_number) = (Batch::default(), 0);
    while deep.fetch().await {
        shard.with(|s| deep.decode(s, &mut batch));
        shard.breathe().await?;
        batch_number += 1;
        let mut series = batch.series.as_slice();
        while !series.is_empty() {
            let turn = turn_length(series);
            let (now, rest) = series.split_at(turn);
            series = rest;
            work.take(deep.names(), &batch, batch_number, now)?;
            work.end_turn()?;
            shard.breathe().await?;
        }
    }
    work.notes.damaged_storage(deep.missing());
    let mut rows = Vec::with_capacity(work.rows.len());
    let mut unnamed = std::mem::take(&mut work.rows).into_iter();
    while unnamed.len() > 0 {
        let named = work.named(deep.names(), unnamed.by_ref().take(TURN_ROWS), &mut rows);
        fragment.meter.turn(0, 0, named)?;
        shard.breathe().await?;
    }
    Ok(work.finish(rows))
}

/// Whether a single look at each series' newest sample answers the fragment.
fn newest_is_enough(fragment: &Fragment) -> bool {
    let chain = &fragment.chain;
    let is_latest = matches!(chain.read, Read::Latest | Read::LatestTime | Read::LatestStart);
    is_latest && fragment.steps.is_single() && !chain.selector.smoothed
}

/// Whether a fragment counts series by their newest samples, whatever those are.
fn presence_is_enough(fragment: &Fragment) -> bool {
    let op = fragment.fold.as_ref().map(|f| f.op);
    matches!(op, Some(Aggregator::Count | Aggregator::Group))
        && newest_is_enough(fragment)
        && matches!(fragment.chain.read, Read::Latest)
        && fragment.chain.maps.is_empty()
}

/// Whether it counts them all in one group.
fn counts_only(fragment: &Fragment) -> bool {
    let is_one = fragment.fold.as_ref().is_some_and(|f| !f.without && f.grouping.is_empty());
    is_one && presence_is_enough(fragment)
}

/// How many of the next series to compute before breathing.
fn turn_length(series: &[BatchSeries]) -> usize {
    let mut samples = 0;
    for (i, s) in series.iter().enumerate().take(TURN_SERIES) {
        samples += s.values.len() + 16 * s.histograms.len();
        if samples > TURN_SAMPLES {
            return i + 1;
        }
    }
    series.len().min(TURN_SERIES)
}

/// A fragment being worked on.
struct Work<'f> {
    fragment: &'f Fragment,
    scratch: Scratch,
    /// Kept for its memory.
    row: Option<Row>,
    rows: Vec<(SeriesId, Row)>,
    raw: Vec<Series>,
    folding: Option<Folding<'f>>,
    name_symbol: Option<SymbolId>,
    type_symbol: Option<SymbolId>,
    /// Names (with types) that were looked at whether they are counters'.
    judged: HashMap<(SymbolId, SymbolId), ()>,
    judged_last: (SymbolId, SymbolId),
    /// All that there is to judge was judged.
    is_judged: bool,
    /// The selector names one metric, and types are not asked for.
    has_one_name: bool,
    drops_name: bool,
    /// Only how many series there are is asked for.
    counts_only: bool,
    /// What rate is taken of whole groups at one moment, where that is so.
    rate: Option<RateKind>,
    /// The same at several moments.
    row_rate: Option<RateKind>,
    /// Groups taken row by row; their series, and those of them that had to be read one by one.
    group_number: u64,
    taken_by_rows: usize,
    left_by_rows: usize,
    /// The group of each series of a turn, and its rates at a step. Kept for their memory.
    members: Vec<u32>,
    column: Vec<f64>,
    sample_count: usize,
    notes: Annotations,
    load: Load,
    series_read: u64,
    /// Memory of the rows and samples that are kept.
    kept_bytes: usize,
    /// What the meter was told already: samples, series, bytes.
    told: (u64, u64, usize),
}

impl<'f> Work<'f> {
    fn new(shard: &Shard, fragment: &'f Fragment) -> Work<'f> {
        Work {
            fragment,
            scratch: Scratch::default(),
            row: None,
            rows: Vec::new(),
            raw: Vec::new(),
            folding: fragment.fold.as_ref().map(|f| Folding::new(shard, f, fragment.steps.count)),
            name_symbol: shard.symbol(METRIC_NAME),
            type_symbol: shard.symbol(TYPE_LABEL),
            judged: HashMap::new(),
            judged_last: (SymbolId::EMPTY, SymbolId::EMPTY),
            is_judged: false,
            has_one_name: !fragment.settings.type_and_unit_labels
                && fragment
                    .chain
                    .selector
                    .matchers
                    .iter()
                    .any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal),
            drops_name: drops_name(&fragment.chain),
            counts_only: counts_only(fragment),
            rate: rate_of_groups(fragment).filter(|_| fragment.steps.is_single()),
            row_rate: rate_of_groups(fragment)
                .filter(|_| Ranger::of(fragment).is_some_and(|r| r.is_rate_of_columns())),
            group_number: 0,
            taken_by_rows: 0,
            left_by_rows: 0,
            members: Vec::new(),
            column: Vec::new(),
            sample_count: 0,
            notes: Annotations::default(),
            load: Load::new(fragment.steps.count, fragment.counts_steps),
            series_read: 0,
            kept_bytes: 0,
            told: (0, 0, 0),
        }
    }

    /// Tells the meter what the turn came to.
    fn end_turn(&mut self) -> Result<(), Error> {
        let bytes = self.kept_bytes + self.folding.as_ref().map_or(0, |f| f.groups.bytes());
        let (samples, series, told) = self.told;
        self.told = (self.load.seen, self.series_read, told.max(bytes));
        let meter = &self.fragment.meter;
        meter.turn(self.series_read - series, self.load.seen - samples, bytes.saturating_sub(told))
    }

    /// Counts series of one group of which nothing else is asked.
    fn take_count(&mut self, shard: &Shard, count: usize, any: Option<SeriesId>) {
        if let (Some(folding), Some(id)) = (&mut self.folding, any) {
            folding.count(shard, id, count as u64);
            self.series_read += count as u64;
            self.load.add(0, count as u64, count as u64);
        }
    }

    fn rate_of(&self, kind: RateKind, edges: &EdgeColumns) -> SingleRate {
        let Fragment { steps, chain, .. } = self.fragment;
        let end = chain.selector.reference(steps.start);
        let start = match chain.read {
            Read::Window { range, .. } => end.saturating_sub(range),
            _ => end,
        };
        SingleRate::between(kind, (edges.first_time, edges.last_time), edges.row_count, start, end)
    }

    /// Adds the rates of some series of a group.
    fn take_edges(&mut self, shard: &Shard, rate: &SingleRate, edges: &EdgeColumns, some: Range<usize>) {
        let Some(mut folding) = self.folding.take() else { return };
        let seen = (some.len() * edges.row_count) as u64;
        self.series_read += some.len() as u64;
        self.load.add(0, seen, seen);
        let drop_now = self.drops_name && !self.fragment.settings.delayed_name_removal;
        let drop_later = self.drops_name && self.fragment.settings.delayed_name_removal;
        for i in some {
            let mut v = rate.of_edges(edges.first[i], edges.last[i], edges.lost[i]);
            if is_absent(v) {
                continue;
            }
            let id = edges.ids[i];
            self.judge_rate(shard, id);
            for map in &self.fragment.chain.maps {
                elementwise::apply_at(map, 0, std::slice::from_mut(&mut v));
            }
            let group = folding.group_of(shard, id, row_labels(shard, id, drop_now));
            folding.groups.add_float(group, v, drop_later);
        }
        self.folding = Some(folding);
    }

    /// Gives up going row by row where that leaves most series to be read one by one.
    fn judge_rows(&mut self, taken: usize, left: usize) {
        self.taken_by_rows += taken;
        self.left_by_rows += left;
        if self.left_by_rows > self.taken_by_rows + ROWS_TRIED {
            self.row_rate = None;
        }
    }

    /// Adds the rates of some series of a group, step by step.
    fn take_rows(&mut self, shard: &Shard, rows: &RowColumns, some: Range<usize>) {
        let Some(ranger) = Ranger::of(self.fragment) else { return };
        let Some(mut folding) = self.folding.take() else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut members = std::mem::take(&mut self.members);
        let counts_steps = !self.load.by_step.is_empty();
        // No batch has a number like that.
        let (rates, load) =
            ranger.rates(&rows.times, self.group_number | 1 << 63, &mut scratch, counts_steps);
        self.series_read += some.len() as u64;
        some.clone().for_each(|_| self.load.merge(load));
        if let Some(rates) = rates {
            let drop_now = self.drops_name && !self.fragment.settings.delayed_name_removal;
            let drop_later = self.drops_name && self.fragment.settings.delayed_name_removal;
            let ids = &rows.ids[some.clone()];
            ids.iter().for_each(|id| self.judge_rate(shard, *id));
            folding.groups_of(shard, ids, |id| row_labels(shard, id, drop_now)(), &mut members);
            members.iter().for_each(|group| folding.groups.note_name(*group, drop_later));
            for step in 0..self.fragment.steps.count {
                let Some((first, last)) = rates.ends(step) else { continue };
                let (first, last) = (&rows.row(first)[some.clone()], &rows.row(last)[some.clone()]);
                rates.column(step, first, last, &mut self.column);
                for map in &self.fragment.chain.maps {
                    elementwise::apply_at(map, step, &mut self.column);
                }
                folding.groups.add_column(step, &members, &self.column);
            }
        }
        (self.scratch, self.members, self.folding) = (scratch, members, Some(folding));
    }

    /// Computes the next series of a batch. Batches are numbered from 1; within one, series whose times begin at the
    /// same place have the same times.
    fn take(
        &mut self,
        shard: &Shard,
        batch: &Batch,
        batch_number: u64,
        series: &[BatchSeries],
    ) -> Result<(), Error> {
        for s in series {
            if self.counts_only && self.counted(shard, batch, s) {
                continue;
            }
            let samples = Samples {
                times: batch.times_of(s),
                values: batch.values_of(s),
                starts: batch.starts_of(s),
                histograms: batch.histograms_of(s),
                is_coarse: s.is_coarse,
                weights: batch.weights_of(s),
                times_number: if s.times.is_empty() {
                    0
                } else {
                    batch_number << 32 | u64::from(s.times.start)
                },
            };
            self.series_read += 1;
            let stats;
            let samples = if self.fragment.chain.selector.stats_only && !samples.histograms.is_empty() {
                stats = without_buckets(samples.histograms);
                Samples { histograms: &stats, ..samples }
            } else {
                samples
            };
            if let Read::Raw { range } = self.fragment.chain.read {
                self.raw(shard, s.id, samples, range)?;
            } else {
                self.one(shard, s.id, samples)?;
            }
        }
        if self.sample_count > self.fragment.samples_max {
            return Err(Error::TooManySamples);
        }
        Ok(())
    }

    /// Computes the next series of a batch that are whole: rates at all steps.
    fn take_whole(
        &mut self,
        shard: &Shard,
        batch: &Batch,
        batch_number: u64,
        some: &[(SeriesId, u32)],
    ) -> Result<(), Error> {
        let Some(ranger) = Ranger::of(self.fragment) else { return Ok(()) };
        let mut scratch = std::mem::take(&mut self.scratch);
        let counts_steps = !self.load.by_step.is_empty();
        // Series whose times are shared within a batch begin at its first time.
        let (rates, load) = ranger.rates(batch.whole_times(), batch_number << 32, &mut scratch, counts_steps);
        self.series_read += some.len() as u64;
        some.iter().for_each(|_| self.load.merge(load));
        if let Some(rates) = rates {
            for (id, column) in some {
                let mut row = self.take_row();
                rates.eval(batch.whole_values(*column), &mut row.floats);
                self.judge_rate(shard, *id);
                self.keep(shard, *id, row);
            }
        }
        self.scratch = scratch;
        if self.sample_count > self.fragment.samples_max {
            return Err(Error::TooManySamples);
        }
        Ok(())
    }

    /// Counts a series of which a batch holds one sample, without looking at it further; false where it holds more.
    fn counted(&mut self, shard: &Shard, batch: &Batch, s: &BatchSeries) -> bool {
        let (Some(folding), [time], [value]) = (&mut self.folding, batch.times_of(s), batch.values_of(s))
        else {
            return false;
        };
        let at = self.fragment.chain.selector.reference(self.fragment.steps.start);
        let is_recent = *time <= at && *time > at.saturating_sub(self.fragment.settings.lookback);
        if !s.histograms.is_empty() || !is_recent || model::is_stale(*value) {
            return false;
        }
        folding.count(shard, s.id, 1);
        self.series_read += 1;
        self.load.add(0, 1, 1);
        true
    }

    /// Computes one series.
    fn one(&mut self, shard: &Shard, id: SeriesId, samples: Samples<'_>) -> Result<(), Error> {
        let mut row = self.take_row();
        self.read(shard, id, samples, &mut row)?;
        if row.floats.iter().all(|v| is_absent(*v)) {
            row.floats.clear();
        }
        if row.floats.is_empty() && row.histograms.is_empty() {
            self.row = Some(row);
            return Ok(());
        }
        self.keep(shard, id, row);
        Ok(())
    }

    /// An empty row.
    fn take_row(&mut self) -> Row {
        let mut row = self.row.take().unwrap_or_else(|| Row::new(Labels::empty()));
        row.floats.clear();
        row.histograms.clear();
        row.drop_name = self.drops_name && self.fragment.settings.delayed_name_removal;
        row
    }

    /// Maps a row that was read, and adds it to its group or to the answer.
    fn keep(&mut self, shard: &Shard, id: SeriesId, mut row: Row) {
        for map in &self.fragment.chain.maps {
            elementwise::apply(map, &mut row, &mut self.notes);
        }
        if row.floats.len() < self.fragment.steps.count && !row.floats.is_empty() {
            row.floats.resize(self.fragment.steps.count, compute::ABSENT);
        }
        if let Some(folding) = &mut self.folding {
            folding.take(shard, id, &row, row_labels(shard, id, self.drops_name && !row.drop_name));
            self.row = Some(row);
        } else if !row.is_empty() {
            self.sample_count += row.sample_count();
            self.kept_bytes += row.bytes();
            self.rows.push((id, row));
        } else {
            self.row = Some(row);
        }
    }

    fn read(
        &mut self,
        shard: &Shard,
        id: SeriesId,
        samples: Samples<'_>,
        row: &mut Row,
    ) -> Result<(), Error> {
        let Fragment { steps, settings, chain, .. } = self.fragment;
        let name_symbol = self.name_symbol;
        let name = move || name_text(shard, id, name_symbol);
        match &chain.read {
            Read::Latest if chain.selector.smoothed => {
                let (selector, lookback, span) = (&chain.selector, settings.lookback, chain.span);
                let smoothing = Smoothing { selector, steps: *steps, lookback, span };
                smoothed(samples, &smoothing, &mut self.scratch, &name, row, &mut self.notes);
            }
            Read::Latest => latest(samples, &chain.selector, *steps, settings.lookback, row),
            Read::LatestTime | Read::LatestStart => {
                let of_start = matches!(chain.read, Read::LatestStart);
                if !of_start || settings.use_start_timestamps {
                    latest_time(samples, &chain.selector, *steps, settings.lookback, of_start, row);
                }
            }
            Read::Window { function, .. } => {
                let Some(ranger) = Ranger::of(self.fragment) else { return Ok(()) };
                let (scratch, notes) = (&mut self.scratch, &mut self.notes);
                if samples.is_coarse {
                    ranger.fill_coarse(samples, scratch, &name, row, notes, &mut self.load)?;
                } else {
                    ranger.fill(samples, scratch, &name, row, notes, &mut self.load)?;
                }
                let is_rate = matches!(function, Function::Rate | Function::Increase);
                if is_rate && row.floats.iter().any(|v| !is_absent(*v)) {
                    self.judge_rate(shard, id);
                }
                return Ok(());
            }
            Read::Raw { .. } => {}
        }
        self.note_found(row);
        Ok(())
    }

    /// Notes the samples that a look-up at each step has found.
    fn note_found(&mut self, row: &Row) {
        if self.load.by_step.is_empty() {
            let count = row.sample_count() as u64;
            self.load.add(0, count, count);
            return;
        }
        for step in 0..self.fragment.steps.count {
            let count = match row.cell(step) {
                None => continue,
                Some(Cell::Float(_)) => 1,
                Some(Cell::Histogram(h)) => histogram_sample_count(&h) as u64,
            };
            self.load.add(step, count, count);
        }
    }

    /// Judges the name of a series of which a rate was taken.
    #[inline]
    fn judge_rate(&mut self, shard: &Shard, id: SeriesId) {
        if let Read::Window { function: Function::Rate | Function::Increase, span, .. } =
            &self.fragment.chain.read
            && !self.is_judged
        {
            self.judge_counter(shard, id, *span);
            self.is_judged = self.has_one_name;
        }
    }

    /// Says so, once a name, where a rate is taken of something that is not called like a counter.
    fn judge_counter(&mut self, shard: &Shard, id: SeriesId, span: Span) {
        let value = |name: Option<SymbolId>| name.map_or(SymbolId::EMPTY, |n| shard.label_value(id, n));
        let name = value(self.name_symbol);
        let kind = if self.fragment.settings.type_and_unit_labels {
            value(self.type_symbol)
        } else {
            SymbolId::EMPTY
        };
        // Series come in runs of one name.
        if self.judged_last == (name, kind) {
            return;
        }
        self.judged_last = (name, kind);
        if self.judged.insert((name, kind), ()).is_some() {
            return;
        }
        judge_counter(
            shard.symbol_text(name),
            self.fragment.settings.type_and_unit_labels.then(|| shard.symbol_text(kind)),
            span,
            &mut self.notes,
        );
    }

    /// Keeps the samples of a range vector that is the answer itself.
    fn raw(&mut self, shard: &Shard, id: SeriesId, samples: Samples<'_>, range: i64) -> Result<(), Error> {
        let chain = &self.fragment.chain;
        let end = chain.selector.reference(self.fragment.steps.start);
        let (anchored, smoothed) = (chain.selector.anchored, chain.selector.smoothed);
        let live = |s: &Samples<'_>| -> (Vec<i64>, Vec<f64>) {
            let pairs = s.times.iter().zip(s.values).filter(|(_, v)| !model::is_stale(**v));
            pairs.map(|(t, v)| (*t, *v)).unzip()
        };
        let (times, values) = live(&samples);
        let mut histograms: Vec<_> = samples
            .histograms
            .iter()
            .filter(|h| !h.histogram.is_stale())
            .map(|h| (h.time, h.histogram.clone()))
            .collect();
        let floats = if anchored || smoothed {
            if !histograms.is_empty() {
                let what = if anchored { "anchored" } else { "smoothed" };
                return Err(Error::Execution(format!("{what} modifier is not supported with histograms")));
            }
            compute::range::extend_floats(&times, &values, end - range, end, smoothed)
        } else {
            histograms.retain(|(t, _)| *t > end - range && *t <= end);
            times.into_iter().zip(values).filter(|(t, _)| *t > end - range && *t <= end).collect()
        };
        if floats.is_empty() && histograms.is_empty() {
            return Ok(());
        }
        let worth = |h: &(i64, std::sync::Arc<_>)| crate::query::frame::histogram_sample_count(&h.1);
        let count = floats.len() + histograms.iter().map(worth).sum::<usize>();
        self.sample_count += count;
        self.load.add(0, count as u64, count as u64);
        let series = Series { labels: shard.labels(id), floats, histograms };
        self.kept_bytes += series.bytes();
        self.raw.push(series);
        Ok(())
    }

    /// Gives rows their labels; says how many bytes those have.
    fn named(&self, shard: &Shard, rows: impl Iterator<Item = (SeriesId, Row)>, out: &mut Vec<Row>) -> usize {
        let drop_now = self.drops_name && !self.fragment.settings.delayed_name_removal;
        let mut bytes = 0;
        out.extend(rows.map(|(id, row)| {
            let labels = row_labels(shard, id, drop_now)();
            bytes += labels.bytes().len();
            Row { labels, ..row }
        }));
        bytes
    }

    fn finish(self, rows: Vec<Row>) -> Partial {
        let result = if let Some(folding) = self.folding {
            Outcome::Groups(folding.groups)
        } else if matches!(self.fragment.chain.read, Read::Raw { .. }) {
            Outcome::Raw(self.raw)
        } else {
            Outcome::Rows(rows)
        };
        Partial { result, notes: self.notes, load: self.load, is_vacant: false }
    }
}

/// The labels of a series as the chain leaves them, made when asked for.
fn row_labels(shard: &Shard, id: SeriesId, drop_now: bool) -> impl Fn() -> Labels + '_ {
    move || {
        let labels = shard.labels(id);
        if drop_now { without_reserved(&labels) } else { labels }
    }
}

fn name_text(shard: &Shard, id: SeriesId, name_symbol: Option<SymbolId>) -> String {
    name_symbol.map_or(String::new(), |n| shard.symbol_text(shard.label_value(id, n)).to_owned())
}

/// Notes a name (or, where types are known, a type) that is not a counter's.
pub fn judge_counter(name: &str, kind: Option<&str>, span: Span, notes: &mut Annotations) {
    const SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];
    match kind {
        _ if name.is_empty() => {}
        Some(kind) if kind != "counter" && kind != "histogram" => notes.type_not_counter(kind, name, span),
        Some(_) => {}
        None if !SUFFIXES.iter().any(|s| name.ends_with(s)) => notes.possibly_not_counter(name, span),
        None => {}
    }
}

fn drops_name(chain: &Chain) -> bool {
    let read = match &chain.read {
        Read::Latest | Read::Raw { .. } => false,
        Read::LatestTime | Read::LatestStart => true,
        Read::Window { function, .. } => {
            !matches!(function, Function::LastOverTime | Function::FirstOverTime)
        }
    };
    read || chain.maps.iter().any(|m| m.drops_name())
}
