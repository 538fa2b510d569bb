//! From the head to a block: everything before a time, series by series in order of their metric names, in slices.

use std::cell::RefCell;
use std::rc::Rc;

use model::labels::METRIC_NAME;
use model::{SeriesId, Timestamp};

use crate::rt;
use crate::rt::disk::Disk;
use crate::shard::Shard;
use crate::shard::block::Store;
use crate::shard::block::chunk::Samples;
use crate::shard::block::class::Classes;
use crate::shard::block::set::{Published, Range, SetWriter};
use crate::shard::index::SymbolId;
use crate::shard::select::Batch;

/// Series read and encoded in one turn: 480 samples of each at about 20 ns are 0.3 ms.
const TURN_SERIES: usize = 32;

/// Series looked at in one turn for their names.
const TURN_NAMES: usize = 4096;

/// Writes what the head has before `range.maxt` into blocks, one for each class that has any.
pub async fn cut(
    disk: &Rc<dyn Disk>,
    store: &Store,
    range: Range,
    classes: Classes,
    shard: &RefCell<Shard>,
) -> Result<Vec<Published>, rt::Error> {
    let mut writer = SetWriter::begin(disk, store, range, classes).await?;
    let written = write_all(&mut writer, shard).await;
    match written {
        Ok(()) => writer.publish().await,
        Err(e) => {
            writer.discard().await;
            Err(e)
        }
    }
}

async fn write_all(writer: &mut SetWriter, shard: &RefCell<Shard>) -> Result<(), rt::Error> {
    let nameless = nameless(shard).await;
    write_series(writer, shard, &nameless).await?;
    let names = metric_names(shard);
    for name in names {
        let ids: Vec<u32> = {
            let shard = shard.borrow();
            let metric = shard.symbol(METRIC_NAME).unwrap_or(SymbolId::EMPTY);
            shard.index.postings().list(metric, name).to_vec()
        };
        write_series(writer, shard, &ids).await?;
    }
    Ok(())
}

/// Metric names in order of their texts.
fn metric_names(shard: &RefCell<Shard>) -> Vec<SymbolId> {
    let shard = shard.borrow();
    let Some(metric) = shard.symbol(METRIC_NAME) else { return Vec::new() };
    let mut names = shard.index.postings().values(metric).to_vec();
    names.sort_unstable_by(|a, b| shard.symbol_text(*a).cmp(shard.symbol_text(*b)));
    names
}

/// Series without a metric name.
async fn nameless(shard: &RefCell<Shard>) -> Vec<u32> {
    let (mut out, mut from) = (Vec::new(), 0);
    loop {
        {
            let shard = shard.borrow();
            let metric = shard.symbol(METRIC_NAME);
            let to = shard.index.id_count().min(from + TURN_NAMES);
            let is_nameless =
                |id: &u32| metric.is_none_or(|m| shard.label_value(SeriesId(*id), m) == SymbolId::EMPTY);
            out.extend((from as u32..to as u32).filter(is_nameless));
            if to == shard.index.id_count() {
                return out;
            }
            from = to;
        }
        rt::yield_if_needed().await;
    }
}

async fn write_series(writer: &mut SetWriter, shard: &RefCell<Shard>, ids: &[u32]) -> Result<(), rt::Error> {
    let (mut batch, mut samples) = (Batch::default(), Samples::default());
    let last = writer.maxt() - 1;
    for turn in ids.chunks(TURN_SERIES) {
        {
            let shard = shard.borrow();
            let series = turn.iter().map(|id| SeriesId(*id));
            let mut selection = shard.head.selection(series, Timestamp::MIN, last);
            while shard.next_batch(&mut selection, &mut batch) {
                for s in &batch.series {
                    samples.clear();
                    samples.extend_floats(batch.times_of(s), batch.values_of(s), batch.starts_of(s));
                    samples.histograms.extend_from_slice(batch.histograms_of(s));
                    let symbols = shard.index.label_symbols(s.id);
                    let labels = symbols.map(|(n, v)| (shard.symbol_text(n), shard.symbol_text(v)));
                    writer.push(shard.index.series_hash(s.id), labels, &samples);
                }
            }
        }
        writer.flush().await?;
        rt::yield_if_needed().await;
    }
    Ok(())
}
