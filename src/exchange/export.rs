//! `tsdb export`: our directory as blocks of Prometheus, while no server runs.
//!
//! Memory holds the shards as a server would, and the encoded chunks of one block.

use std::io::Write;

use model::{Labels, Matcher, Timestamp};
use prometheus_tsdb::block::BlockBuilder;
use prometheus_tsdb::cut::{CutChunk, Cutter};
use prometheus_tsdb::sample::{Sample, Value, merge};

use crate::exchange::Error;
use crate::exchange::list::table;
use crate::exchange::write::BlockWriter;
use crate::shard::Shard;
use crate::shard::keeper::Place;
use crate::shard::reshard;
use crate::shard::select::{Batch, BatchSeries};

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
    let shards = places.iter().map(reshard::read).collect::<Result<Vec<Shard>, _>>()?;
    let first = shards.iter().filter_map(|s| s.head().min_time()).min();
    let last = shards.iter().filter_map(|s| s.head().max_time()).max();
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
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
    shards: &[Shard],
    selectors: &[Vec<Matcher>],
    from: Timestamp,
    last: Timestamp,
) -> Option<Timestamp> {
    let has_any = |until: Timestamp| shards.iter().any(|s| !s.series_in(selectors, from, until).is_empty());
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
    shards: &[Shard],
    selectors: &[Vec<Matcher>],
    mint: Timestamp,
    maxt: Timestamp,
    range_ms: i64,
) -> Result<BlockBuilder, Error> {
    let mut builder = BlockBuilder::default();
    let (mut batch, mut samples) = (Batch::default(), Vec::new());
    for shard in shards {
        let ids = shard.series_in(selectors, mint, maxt);
        let mut selection = shard.head().selection(ids.into_iter(), mint, maxt);
        while shard.next_batch(&mut selection, &mut batch) {
            for series in &batch.series {
                samples_of(&batch, series, &mut samples);
                let labels: Labels = shard.labels(series.id);
                builder.add(labels, cut(&mut samples, range_ms)?);
            }
        }
    }
    Ok(builder)
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
