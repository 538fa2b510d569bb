//! A selection that reaches into blocks: the series of blocks and head under one set of names, their samples merged.
//!
//! A question that begins before the head does gets an index of its own, of the series that it selects; it reads
//! blocks through the shard's cache and the head in short looks, and hands out the same batches as a head does.

use std::cmp::Reverse;
use std::rc::Rc;

use hashbrown::HashMap;
use model::{Matcher, SeriesId, Timestamp};

use crate::rt;
use crate::shard::Shard;
use crate::shard::block::aggregate::Windows;
use crate::shard::block::cache::Key;
use crate::shard::block::chunk::{self, Samples};
use crate::shard::block::layout::PieceRef;
use crate::shard::block::part::{Chunk, Kind, Part, Place};
use crate::shard::block::{Block, Store};
use crate::shard::index::{Full, SymbolId};
use crate::shard::layers::{self, Layer, Reading};
use crate::shard::select::{Batch, BatchSeries, Selection};
use crate::shard::tombstones::Spans;

/// Series of the head that are named in one turn: a microsecond each.
const TURN_SERIES: usize = 128;

/// Samples of one batch, unless one series has more: 300 KB, decoded in a tenth of a millisecond.
const BATCH_SAMPLES_MAX: usize = 16 * 1024;

/// Series of one batch at most: some hundred reads at worst.
const BATCH_SERIES_MAX: usize = 256;

/// Where a series' samples lie.
#[derive(Default)]
struct Found {
    /// Its id in the head.
    head: Option<SeriesId>,
    chunks: Vec<FoundChunk>,
}

struct FoundChunk {
    /// The number of its block among the selected ones.
    block: u32,
    chunk: Chunk,
    /// What was deleted of the series there.
    deleted: Option<Rc<Spans>>,
}

/// What of the blocks is wanted.
#[derive(Clone, Copy)]
enum Wants {
    Samples,
    /// Aggregates in the place of samples, where there are any.
    Layers(Reading),
    /// Aggregates alone, whole.
    Windows,
}

impl Wants {
    fn takes(self, block: &Block, chunk: &Chunk) -> bool {
        match (self, chunk.aggregate) {
            (Wants::Samples | Wants::Layers(_), None) => block.is_raw(),
            (Wants::Layers(reading), Some(column)) => !block.is_raw() && reading.takes(column),
            (Wants::Windows, Some(_)) => !block.is_raw(),
            _ => false,
        }
    }
}

pub struct Deep {
    store: Rc<Store>,
    blocks: Vec<Rc<Block>>,
    matchers: Vec<Vec<Matcher>>,
    wants: Wants,
    selection: Selection,
    /// Names of the series selected, no samples.
    names: Shard,
    found: Vec<Found>,
    head_taken: usize,
    head_series: Vec<SeriesId>,
    /// The next part to be read: a block's number, a part's.
    part: (usize, usize),
    next: usize,
    /// What the next batch is decoded from.
    ready: std::ops::Range<usize>,
    bodies: HashMap<Key, Rc<[u8]>>,
    samples: Samples,
    is_full: bool,
    /// Parts and chunks that are damaged, and missing from what is handed out.
    missing: u64,
}

impl Deep {
    /// Begins with a head's selection and the blocks that were there at the same moment.
    pub fn new(
        store: Rc<Store>,
        blocks: Vec<Rc<Block>>,
        matchers: Vec<Vec<Matcher>>,
        selection: Selection,
    ) -> Deep {
        Deep {
            store,
            blocks,
            matchers,
            wants: Wants::Samples,
            head_series: selection.series().collect(),
            selection,
            names: Shard::default(),
            found: Vec::new(),
            head_taken: 0,
            part: (0, 0),
            next: 0,
            ready: 0..0,
            bodies: HashMap::new(),
            samples: Samples::default(),
            is_full: false,
            missing: 0,
        }
    }

    /// Has aggregates, of those blocks that have any, stand for the samples of their time.
    pub fn with_aggregates(mut self, reading: Reading) -> Deep {
        self.wants = Wants::Layers(reading);
        self
    }

    /// Of blocks of aggregates, has them handed out by [`Self::next_windows`].
    pub fn of_windows(mut self) -> Deep {
        self.wants = Wants::Windows;
        self
    }

    /// Names some of the head's series; false when all are.
    pub fn take_head(&mut self, shard: &Shard) -> bool {
        let to = self.head_series.len().min(self.head_taken + TURN_SERIES);
        for i in self.head_taken..to {
            let id = self.head_series[i];
            let added = self.names.index.find_or_insert(&shard.labels(id)).map(|(local, _)| local);
            if let Some(found) = self.found_of(added) {
                found.head = Some(id);
            }
        }
        self.head_taken = to;
        to < self.head_series.len()
    }

    fn found_of(&mut self, local: Result<SeriesId, Full>) -> Option<&mut Found> {
        let Ok(local) = local else {
            // Four thousand million series, or as many bytes of label text, in one question.
            self.is_full = true;
            return None;
        };
        let i = local.0 as usize;
        if self.found.len() <= i {
            self.found.resize_with(i + 1, Found::default);
        }
        self.found.get_mut(i)
    }

    /// Finds series in the next part of a block; false when all were looked through.
    pub async fn take_part(&mut self) -> bool {
        let Some(block) = self.blocks.get(self.part.0).cloned() else { return false };
        let part = self.part.1;
        if part >= block.directory.parts.len() {
            self.part = (self.part.0 + 1, 0);
            return true;
        }
        self.part.1 += 1;
        let is_wanted = |m: &Vec<Matcher>| block.may_match(part, m);
        if !self.matchers.is_empty() && !self.matchers.iter().any(is_wanted) {
            return true;
        }
        match self.store.part(&block, part).await {
            Some(read) => self.take_series(&block, part, &read),
            None => self.missing += 1,
        }
        true
    }

    fn take_series(&mut self, block: &Block, number: usize, part: &Part) {
        let mut ids: Vec<u32> = match self.matchers.as_slice() {
            [] => (0..part.series_count()).collect(),
            [one] => part.matching(one),
            many => many.iter().flat_map(|m| part.matching(m)).collect(),
        };
        if self.matchers.len() > 1 {
            ids.sort_unstable();
            ids.dedup();
        }
        let (deleted, of_block) = (block.deleted_of(number), self.part.0 as u32);
        let (mint, maxt) = (self.selection.wanted_from, self.selection.maxt);
        let wants = self.wants;
        let mut symbols: Vec<Option<SymbolId>> = vec![None; part.symbol_count()];
        for series in ids {
            let deleted = deleted.as_ref().and_then(|d| d.of(series));
            let is_left = |c: &Chunk| {
                let (from, to) = (c.first_time.max(mint), c.last_time.min(maxt));
                wants.takes(block, c)
                    && c.overlaps(mint, maxt)
                    && !deleted.is_some_and(|d| d.covers(from, to))
            };
            if !part.chunks(series).iter().any(is_left) || !block.has(part.series_hash(series)) {
                continue;
            }
            let (names, values) = part.label_symbols(series);
            let mut here = |id: &u32| -> Result<SymbolId, Full> {
                let known = &mut symbols[*id as usize];
                if let Some(s) = known {
                    return Ok(*s);
                }
                let s = self.names.index.intern(part.symbol(*id))?;
                *known = Some(s);
                Ok(s)
            };
            let names: Result<Vec<SymbolId>, Full> = names.iter().map(&mut here).collect();
            let values: Result<Vec<SymbolId>, Full> = values.iter().map(&mut here).collect();
            let local = names
                .and_then(|n| values.map(|v| (n, v)))
                .and_then(|(n, v)| self.names.index.find_or_insert_symbols(part.series_hash(series), &n, &v));
            if let Some(found) = self.found_of(local) {
                let left = part.chunks(series).iter().filter(|c| is_left(c));
                let deleted = deleted.cloned();
                let chunk = |c: &Chunk| FoundChunk { block: of_block, chunk: *c, deleted: deleted.clone() };
                found.chunks.extend(left.map(chunk));
            }
        }
    }

    /// The selected series' names: labels by the ids of the batches.
    pub fn names(&self) -> &Shard {
        &self.names
    }

    /// Series selected so far.
    pub fn series_count(&self) -> usize {
        self.found.len()
    }

    /// How much of what was read so far is damaged: parts of an index, chunks.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Whether there were more series than one question can name.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Series that have samples in blocks; `has_in_head` judges those of the head.
    pub fn series(&self, has_in_head: impl Fn(SeriesId) -> bool) -> impl Iterator<Item = SeriesId> {
        let has = move |f: &Found| !f.chunks.is_empty() || f.head.is_some_and(&has_in_head);
        let all = self.found.iter().enumerate();
        all.filter(move |(_, f)| has(f)).map(|(i, _)| SeriesId(i as u32))
    }

    /// Reads what the next batch needs; false when every series was handed out.
    pub async fn fetch(&mut self) -> bool {
        let from = self.next;
        let (mut to, mut samples) = (from, 0usize);
        let mut wanted: Vec<(Rc<Block>, PieceRef)> = Vec::new();
        while to < self.found.len() && to - from < BATCH_SERIES_MAX {
            self.choose(to);
            let found = &self.found[to];
            samples += found.chunks.iter().map(|c| c.chunk.count as usize).sum::<usize>();
            // What the head adds is not known before it is read; three hours of it, say.
            samples += if found.head.is_some() { 720 } else { 0 };
            if samples > BATCH_SAMPLES_MAX && to > from {
                break;
            }
            for FoundChunk { block, chunk, .. } in &found.chunks {
                let block = &self.blocks[*block as usize];
                if chunk.kind.is_float() {
                    wanted.push((block.clone(), chunk.times.piece));
                }
                if chunk.kind != Kind::Constant {
                    wanted.push((block.clone(), chunk.data.piece));
                }
            }
            to += 1;
        }
        (self.next, self.ready) = (to, from..to);
        self.bodies = self.store.bodies(wanted).await;
        rt::yield_if_needed().await;
        to > from
    }

    /// Leaves out of a series what coarser aggregates stand for, and brings the coarsest to the front.
    fn choose(&mut self, i: usize) {
        let (blocks, chunks) = (&self.blocks, &mut self.found[i].chunks);
        if chunks.iter().all(|c| c.chunk.aggregate.is_none()) {
            return;
        }
        // A block that lies in another one of the same resolution comes behind it.
        chunks.sort_by_key(|c| {
            let header = &blocks[c.block as usize].header;
            let resolution = header.resolution_ms();
            let (mint, maxt) = if resolution > 0 { (header.mint, header.maxt) } else { (0, 0) };
            (Reverse(resolution), mint, Reverse(maxt), c.block)
        });
        let mut covers: Vec<(u32, (Timestamp, Timestamp))> = Vec::new();
        chunks.retain(|FoundChunk { block, chunk, .. }| {
            let header = &blocks[*block as usize].header;
            let (from, to) = match chunk.aggregate {
                Some(_) => (header.mint, header.maxt),
                None => (chunk.first_time, chunk.last_time.saturating_add(1)),
            };
            let is_inside = |(b, c): &(u32, (Timestamp, Timestamp))| b != block && c.0 <= from && to <= c.1;
            // Histograms have no aggregates.
            if chunk.kind.is_float() && covers.iter().any(is_inside) {
                return false;
            }
            if chunk.aggregate.is_some() && covers.last().is_none_or(|c| c.0 != *block) {
                covers.push((*block, (from, to)));
            }
            true
        });
    }

    /// Decodes what was fetched into `batch`, with what the head has of the same series.
    pub fn decode(&mut self, shard: &Shard, batch: &mut Batch) {
        batch.clear();
        let ids = self.ready.clone().filter_map(|i| self.found[i].head);
        let mut part = shard.head.resumed(&self.selection, ids);
        let (mut of_head, mut read) = (HashMap::new(), Vec::new());
        let mut head_batch = Batch::default();
        while shard.head.next_batch(&mut part, &mut head_batch) {
            for s in &head_batch.series {
                of_head.insert(s.id, (read.len(), s.clone()));
            }
            read.push(std::mem::take(&mut head_batch));
        }
        let mut last_times = 0..0;
        for i in self.ready.clone() {
            let mut samples = std::mem::take(&mut self.samples);
            samples.clear();
            self.missing += self.decode_chunks(i, &mut samples);
            samples.settle();
            samples.cut_to(self.selection.wanted_from, self.selection.maxt);
            if let Some((at, s)) = self.found[i].head.and_then(|id| of_head.get(&id)) {
                let b = &read[*at];
                samples.extend_floats(b.times_of(s), b.values_of(s), b.starts_of(s));
                samples.histograms.extend_from_slice(b.histograms_of(s));
                samples.settle();
            }
            let (mut weights, mut is_coarse) = (Vec::new(), false);
            if let Wants::Layers(reading) = self.wants {
                let layers = self.layers_of(i, reading);
                is_coarse = !layers.is_empty();
                if is_coarse {
                    weights = layers::merge(reading, layers, &mut samples);
                    let from = samples.times.partition_point(|t| *t < self.selection.wanted_from);
                    weights.drain(..from.min(weights.len()));
                    samples.cut_to(self.selection.wanted_from, self.selection.maxt);
                }
            }
            if !samples.is_empty() {
                let coarse = is_coarse.then_some(weights.as_slice());
                push(SeriesId(i as u32), &samples, coarse, &mut last_times, batch);
            }
            self.samples = samples;
        }
    }

    /// The aggregates that stand for a series' samples, the coarsest first.
    fn layers_of(&mut self, i: usize, reading: Reading) -> Vec<Layer> {
        let (mut layers, mut missing) = (Vec::new(), 0);
        for chunks in self.found[i].chunks.chunk_by(|a, b| a.block == b.block) {
            let header = &self.blocks[chunks[0].block as usize].header;
            if header.aggregates.is_none() {
                break;
            }
            match self.windows_of(chunks) {
                Some(w) => layers.push(Layer::new(reading, w, (header.mint, header.maxt))),
                None => missing += 1,
            }
        }
        self.missing += missing;
        layers
    }

    /// The aggregates of the next series that was fetched, block by block; `None` when all were handed out.
    pub fn next_windows(&mut self) -> Option<(SeriesId, Vec<Windows>)> {
        let i = self.ready.next()?;
        self.found[i].chunks.sort_by_key(|c| {
            let header = &self.blocks[c.block as usize].header;
            (header.mint, Reverse(header.maxt), c.block)
        });
        let (mut all, mut missing) = (Vec::new(), 0);
        for chunks in self.found[i].chunks.chunk_by(|a, b| a.block == b.block) {
            match self.windows_of(chunks).filter(Windows::is_whole) {
                Some(w) => all.push(w),
                None => missing += 1,
            }
        }
        self.missing += missing;
        Some((SeriesId(i as u32), all))
    }

    /// The columns of a series that a block has, without what was deleted; `None` where one is damaged.
    fn windows_of(&self, chunks: &[FoundChunk]) -> Option<Windows> {
        let mut w = Windows::default();
        for FoundChunk { block, chunk, .. } in chunks {
            let block = &self.blocks[*block as usize];
            let (times, data) = self.bytes_of(block, chunk)?;
            if let Err(e) = chunk::decode_column(chunk, times, data, &mut w) {
                let piece = if chunk.kind == Kind::Constant { chunk.times } else { chunk.data }.piece;
                self.store.set_aside(block, piece, &e.to_string());
                return None;
            }
        }
        let FoundChunk { block, chunk, deleted } = chunks.first()?;
        if let Err(e) = w.settle() {
            self.store.set_aside(&self.blocks[*block as usize], chunk.times.piece, &e.to_string());
            return None;
        }
        if let Some(deleted) = deleted {
            w.delete(deleted);
        }
        Some(w)
    }

    /// Decodes samples. Returns how many of the chunks are damaged.
    fn decode_chunks(&self, i: usize, out: &mut Samples) -> u64 {
        let mut missing = 0;
        let samples = self.found[i].chunks.iter().filter(|c| c.chunk.aggregate.is_none());
        for FoundChunk { block, chunk, deleted } in samples {
            let block = &self.blocks[*block as usize];
            let before = (out.times.len(), out.histograms.len());
            // What is missing was damaged, and told when it was read.
            let Some((times, data)) = self.bytes_of(block, chunk) else {
                missing += 1;
                continue;
            };
            if let Err(e) = chunk::decode(chunk, times, data, out) {
                missing += 1;
                let piece = if chunk.kind == Kind::Constant { chunk.times } else { chunk.data }.piece;
                self.store.set_aside(block, piece, &e.to_string());
            }
            if let Some(deleted) = deleted {
                out.delete_behind(before, deleted);
            }
        }
        missing
    }

    fn bytes_of(&self, block: &Block, chunk: &Chunk) -> Option<(&[u8], &[u8])> {
        let of = |place: &Place| {
            self.bodies.get(&(block.number, place.piece.page)).and_then(|b| b.get(place.at as usize..))
        };
        let times = if chunk.kind.is_float() { of(&chunk.times)? } else { &[] };
        let data = if chunk.kind == Kind::Constant { &[] } else { of(&chunk.data)? };
        Some((times, data))
    }
}

/// Adds a series to a batch. Series with the same times as the one before share their range.
///
/// `coarse` is there where aggregates are among them, and says how many samples each value stands for, where that is asked.
fn push(
    id: SeriesId,
    samples: &Samples,
    coarse: Option<&[f64]>,
    last_times: &mut std::ops::Range<u32>,
    batch: &mut Batch,
) {
    let same = &batch.times[last_times.start as usize..last_times.end as usize] == samples.times.as_slice();
    if !same || samples.times.is_empty() {
        let from = batch.times.len() as u32;
        batch.times.extend_from_slice(&samples.times);
        *last_times = from..batch.times.len() as u32;
    }
    let (v0, s0) = (batch.values.len() as u32, batch.starts.len() as u32);
    let h0 = batch.histograms.len() as u32;
    batch.values.extend_from_slice(&samples.values);
    if let Some(weights) = coarse.filter(|w| !w.is_empty()) {
        batch.weights.resize(v0 as usize, 1.0);
        batch.weights.extend(weights.iter().take(samples.values.len()));
    }
    batch.starts.extend_from_slice(&samples.starts);
    batch.histograms.extend_from_slice(&samples.histograms);
    batch.series.push(BatchSeries {
        id,
        times: last_times.clone(),
        values: v0..batch.values.len() as u32,
        starts: s0..batch.starts.len() as u32,
        histograms: h0..batch.histograms.len() as u32,
        is_coarse: coarse.is_some(),
    });
}
