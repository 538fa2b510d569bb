//! `tsdb export`: our directory as blocks of Prometheus, while no server runs.
//!
//! Memory holds the shards as a server would, and the encoded chunks of one block.

use std::io::Write;
use std::rc::Rc;

use futures_lite::future::block_on;
use model::{Labels, Matcher, Timestamp};
use prometheus_tsdb::block::BlockBuilder;
use prometheus_tsdb::cut::{CutChunk, Cutter};
use prometheus_tsdb::sample::{Sample, Value, merge};

use crate::exchange::Error;
use crate::exchange::list::table;
use crate::exchange::write::BlockWriter;
use crate::shard::Shard;
use crate::shard::block::Store;
use crate::shard::deep::Deep;
use crate::shard::keeper::Place;
use crate::shard::reshard;
use crate::shard::select::{Batch, BatchSeries, Selection};

/// What is asked for.
pub struct Question<'a> {
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// Selectors; a series that any of them takes is written. None: all series.
    pub selectors: &'a [String],
    /// Length of a block, as [`crate::exchange::create::block_length`] gives it.
    pub block_ms: i64,
    pub is_for_people: bool,
}

/// One shard as it lies on the disk: what the head would have, and the blocks.
struct Held {
    shard: Shard,
    store: Option<Rc<Store>>,
}

impl Held {
    fn read(place: &Place) -> Result<Held, Error> {
        let (shard, store) = reshard::read(place)?;
        Ok(Held { shard, store })
    }

    /// The first and the last time of any sample; inclusive.
    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let head = self.shard.head().min_time().zip(self.shard.head().max_time());
        let blocks = self.store.iter().flat_map(|s| s.all());
        let spans = blocks.map(|b| (b.header.mint, b.header.maxt)).chain(head);
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether there may be samples of the selected series in a time.
    fn may_have(&self, selectors: &[Vec<Matcher>], mint: Timestamp, maxt: Timestamp) -> bool {
        self.store.as_ref().is_some_and(|s| !s.overlapping(mint, maxt).is_empty())
            || !self.shard.series_in(selectors, mint, maxt).is_empty()
    }
}

pub fn export(
    places: &[Place],
    writer: &mut BlockWriter<'_>,
    question: &Question<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let parse = |text: &String| {
        promql::parse_metric_selector(text, promql::Options::default())
            .map_err(|e| Error::Refused(e.to_string()))
    };
    let selectors = question.selectors.iter().map(parse).collect::<Result<Vec<Vec<Matcher>>, Error>>()?;
    let shards = places.iter().map(Held::read).collect::<Result<Vec<Held>, _>>()?;
    let spans = shards.iter().filter_map(Held::span);
    let Some((first, last)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(()) };
    let (first, last) = (first.max(question.mint), last.min(question.maxt));
    std::fs::create_dir_all(writer.dir).map_err(Error::file("mkdir", writer.dir))?;
    let mut has_header = true;
    let mut from = first.div_euclid(question.block_ms) * question.block_ms;
    while from <= last {
        let end = from.saturating_add(question.block_ms - 1);
        let builder = build(&shards, &selectors, from.max(first), end.min(last), question.block_ms)?;
        if !builder.is_empty() {
            let block = writer.write(builder)?;
            out.write_all(table(&[block], has_header, question.is_for_people).as_bytes())?;
            has_header = false;
        }
        // Gaps of years are stepped over: the next block begins where there are samples again.
        let Some(next) = next_time(&shards, &selectors, end.saturating_add(1), last) else { break };
        from = next.div_euclid(question.block_ms) * question.block_ms;
    }
    Ok(())
}

/// A time from `from` on, ahead of which there are no samples.
fn next_time(
    shards: &[Held],
    selectors: &[Vec<Matcher>],
    from: Timestamp,
    last: Timestamp,
) -> Option<Timestamp> {
    let has_any = |until: Timestamp| shards.iter().any(|s| s.may_have(selectors, from, until));
    if from > last || !has_any(last) {
        return None;
    }
    let (mut low, mut high) = (from, last);
    while low < high {
        let middle = low + (high - low) / 2;
        if has_any(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

fn build(
    shards: &[Held],
    selectors: &[Vec<Matcher>],
    mint: Timestamp,
    maxt: Timestamp,
    range_ms: i64,
) -> Result<BlockBuilder, Error> {
    let mut builder = BlockBuilder::default();
    for held in shards {
        let shard = &held.shard;
        let ids = shard.series_in(selectors, mint, maxt);
        let selection = shard.head().selection(ids.into_iter(), mint, maxt);
        let blocks = held.store.as_ref().map(|s| (s.clone(), s.overlapping(mint, maxt)));
        match blocks.filter(|(_, blocks)| !blocks.is_empty()) {
            None => add_head(&mut builder, shard, selection, range_ms)?,
            Some((store, blocks)) => {
                let deep = Deep::new(store, blocks, selectors.to_vec(), selection);
                block_on(add_deep(&mut builder, shard, deep, range_ms))?;
            }
        }
    }
    Ok(builder)
}

fn add_head(
    builder: &mut BlockBuilder,
    shard: &Shard,
    mut selection: Selection,
    range_ms: i64,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    while shard.next_batch(&mut selection, &mut batch) {
        add(builder, shard, &batch, range_ms)?;
    }
    Ok(())
}

async fn add_deep(
    builder: &mut BlockBuilder,
    shard: &Shard,
    mut deep: Deep,
    range_ms: i64,
) -> Result<(), Error> {
    while deep.take_head(shard) {}
    while deep.take_part().await {}
    if deep.is_full() {
        return Err(Error::Refused("more series than one block can name".to_owned()));
    }
    let mut batch = Batch::default();
    while deep.fetch().await {
        deep.decode(shard, &mut batch);
        add(builder, deep.names(), &batch, range_ms)?;
    }
    Ok(())
}

/// Adds the series of a batch, which `names` knows by their ids.
fn add(builder: &mut BlockBuilder, names: &Shard, batch: &Batch, range_ms: i64) -> Result<(), Error> {
    let mut samples = Vec::new();
    for series in &batch.series {
        samples_of(batch, series, &mut samples);
        let labels: Labels = names.labels(series.id);
        builder.add(labels, cut(&mut samples, range_ms)?);
    }
    Ok(())
}

fn samples_of(batch: &Batch, series: &BatchSeries, out: &mut Vec<Sample>) {
    out.clear();
    let starts = batch.starts_of(series);
    let pairs = batch.times_of(series).iter().zip(batch.values_of(series)).enumerate();
    out.extend(pairs.map(|(i, (time, value))| Sample {
        time: *time,
        start: starts.get(i).copied().unwrap_or(0),
        value: Value::Float(*value),
    }));
    out.extend(batch.histograms_of(series).iter().map(|h| Sample {
        time: h.time,
        start: h.start,
        value: Value::FloatHistogram(Box::new(h.histogram.as_ref().clone())),
    }));
    merge(out);
}

fn cut(samples: &mut Vec<Sample>, range_ms: i64) -> Result<Vec<CutChunk>, Error> {
    let mut cutter = Cutter::new(range_ms);
    let mut chunks = Vec::new();
    for sample in samples.drain(..) {
        chunks.extend(cutter.push(sample)?);
    }
    chunks.extend(cutter.finish()?);
    Ok(chunks)
}
