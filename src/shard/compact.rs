//! Several blocks become one: their series by metric names, the samples of each merged, in slices.

use std::collections::BTreeSet;
use std::rc::Rc;

use model::labels::METRIC_NAME;
use model::{Matcher, SeriesId, Timestamp};

use crate::rt;
use crate::rt::disk::Disk;
use crate::shard::Shard;
use crate::shard::block::chunk::Samples;
use crate::shard::block::class::Classes;
use crate::shard::block::set::{Published, Range, SetWriter};
use crate::shard::block::{Block, Store};
use crate::shard::deep::Deep;
use crate::shard::select::Batch;

/// Series written between two flushes.
const TURN_SERIES: usize = 32;

/// Writes all that `blocks` have of this shard's series into one for each class that has any.
///
/// What is damaged in them is missing from it: the caller keeps the old ones then.
pub async fn compact(
    disk: &Rc<dyn Disk>,
    store: &Rc<Store>,
    range: Range,
    classes: Classes,
    blocks: &[Rc<Block>],
) -> Result<Vec<Published>, rt::Error> {
    let mut writer = SetWriter::begin(disk, store, range, classes).await?;
    match write_all(&mut writer, store, blocks).await {
        Ok(()) => writer.publish().await,
        Err(e) => {
            writer.discard().await;
            Err(e)
        }
    }
}

async fn write_all(writer: &mut SetWriter, store: &Rc<Store>, blocks: &[Rc<Block>]) -> Result<(), rt::Error> {
    for name in metric_names(store, blocks).await {
        let matcher = Matcher::equal(METRIC_NAME, name);
        write_metric(writer, store, blocks, matcher).await?;
    }
    Ok(())
}

/// Metric names of all series, ascending; the empty one for those without.
pub(in crate::shard) async fn metric_names(store: &Rc<Store>, blocks: &[Rc<Block>]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for block in blocks {
        for number in 0..block.directory.parts.len() {
            if let Some(part) = store.part(block, number).await {
                part.metric_names(|name| {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                });
            }
            rt::yield_if_needed().await;
        }
    }
    names
}

async fn write_metric(
    writer: &mut SetWriter,
    store: &Rc<Store>,
    blocks: &[Rc<Block>],
    matcher: Matcher,
) -> Result<(), rt::Error> {
    let nothing = Shard::default();
    let selection = nothing.head.selection(std::iter::empty(), Timestamp::MIN, Timestamp::MAX);
    let mut deep = Deep::new(store.clone(), blocks.to_vec(), vec![vec![matcher]], selection);
    while deep.take_part().await {
        rt::yield_if_needed().await;
    }
    let (mut batch, mut samples) = (Batch::default(), Samples::default());
    while deep.fetch().await {
        deep.decode(&nothing, &mut batch);
        for turn in batch.series.chunks(TURN_SERIES) {
            for s in turn {
                samples.clear();
                samples.extend_floats(batch.times_of(s), batch.values_of(s), batch.starts_of(s));
                samples.histograms.extend_from_slice(batch.histograms_of(s));
                push(writer, deep.names(), s.id, &samples);
            }
            writer.flush().await?;
            rt::yield_if_needed().await;
        }
    }
    Ok(())
}

fn push(writer: &mut SetWriter, names: &Shard, id: SeriesId, samples: &Samples) {
    let symbols = names.index.label_symbols(id);
    let labels = symbols.map(|(n, v)| (names.symbol_text(n), names.symbol_text(v)));
    writer.push(names.index.series_hash(id), labels, samples);
}
