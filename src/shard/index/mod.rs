//! Inverted index of one shard: labels to series and back.
//!
//! In: label sets of new series. Out: series ids for matchers, labels and symbols for series ids.
//! Owns: the symbols, the postings and the label table of its shard. Runs on: its shard's core.
//! Invariant: ids are dense and handed out in order, so every postings list is sorted by construction.
//! Never: knows samples, files or time.

pub mod matching;
pub mod postings;
pub mod removal;
pub mod search;
mod split;
pub mod symbols;

use hashbrown::HashMap;
use model::{Labels, SeriesHash, SeriesId};

pub use symbols::{SymbolId, Symbols};

use crate::shard::far::make_room;
use postings::Postings;
use split::SplitTable;

/// The label names of many series at once: a fleet has a few thousand shapes and millions of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ShapeId(u32);

/// Where a series' labels lie: `shape` names them, `values[start..]` are their values in that order.
#[derive(Clone, Copy)]
struct Entry {
    shape: ShapeId,
    start: u32,
}

/// One label of many series, and where it was found last.
#[derive(Clone, Copy, Debug)]
pub struct LabelColumn {
    name: SymbolId,
    shape: Option<ShapeId>,
    at: Option<usize>,
}

impl LabelColumn {
    pub fn new(name: SymbolId) -> LabelColumn {
        LabelColumn { name, shape: None, at: None }
    }
}

/// A label that a series does not have: no value lies there, since places are counted by 32 bits.
const NO_PLACE: u32 = u32::MAX;

/// Labels of a series that has many; fleets have 8 to 12.
const LABELS_MANY: usize = 16;

#[derive(Default)]
pub struct Index {
    symbols: Symbols,
    postings: Postings,
    shapes: Vec<Box<[SymbolId]>>,
    shape_ids: HashMap<Box<[SymbolId]>, ShapeId>,
    entries: Vec<Entry>,
    values: Vec<SymbolId>,
    hashes: Vec<SeriesHash>,
    by_hash: SplitTable,
    /// A bit for each series that was taken out.
    removed: Vec<u64>,
    removed_count: usize,
}

/// The index has no room for another series or another text: its tables are addressed by u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard's index is full ({series_count} series, {text_bytes} bytes of label text)")]
pub struct Full {
    pub series_count: usize,
    pub text_bytes: usize,
}

impl Index {
    pub fn series_count(&self) -> usize {
        self.entries.len() - self.removed_count
    }

    /// Ids given out so far: every id is below this.
    pub fn id_count(&self) -> usize {
        self.entries.len()
    }

    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    pub fn pair_count(&self) -> usize {
        self.postings.pair_count()
    }

    pub fn series_hash(&self, id: SeriesId) -> SeriesHash {
        self.hashes[id.0 as usize]
    }

    pub fn find(&self, labels: &Labels) -> Option<SeriesId> {
        self.find_hashed(labels.series_hash(), labels)
    }

    fn find_hashed(&self, hash: SeriesHash, labels: &Labels) -> Option<SeriesId> {
        let same = |i: &u32| self.hashes[*i as usize] == hash && self.has_labels(SeriesId(*i), labels);
        self.by_hash.find(hash.0, same).map(SeriesId)
    }

    fn has_labels(&self, id: SeriesId, labels: &Labels) -> bool {
        let mut mine = self.label_symbols(id);
        for l in labels {
            match mine.next() {
                Some((n, v)) if self.symbols.text(n) == l.name && self.symbols.text(v) == l.value => {}
                _ => return false,
            }
        }
        mine.next().is_none()
    }

    /// The id of the series with these labels, and whether it was made now.
    pub fn find_or_insert(&mut self, labels: &Labels) -> Result<(SeriesId, bool), Full> {
        let hash = labels.series_hash();
        if let Some(id) = self.find_hashed(hash, labels) {
            return Ok((id, false));
        }
        self.insert(hash, labels).map(|id| (id, true)).ok_or(self.full())
    }

    fn full(&self) -> Full {
        Full { series_count: self.entries.len(), text_bytes: self.symbols.text_bytes() }
    }

    /// The symbol of a text, made where it is new.
    pub fn intern(&mut self, text: &str) -> Result<SymbolId, Full> {
        self.symbols.try_intern(text).ok_or(self.full())
    }

    /// The id of the series with these labels (symbols of this index, in order of the names' text) and their hash.
    pub fn find_or_insert_symbols(
        &mut self,
        hash: SeriesHash,
        names: &[SymbolId],
        values: &[SymbolId],
    ) -> Result<SeriesId, Full> {
        let same = |i: &u32| {
            let (_, n, v) = self.shape_of(SeriesId(*i));
            self.hashes[*i as usize] == hash && n == names && v == values
        };
        match self.by_hash.find(hash.0, same) {
            Some(i) => Ok(SeriesId(i)),
            None => self.insert_symbols(hash, names, values).ok_or(self.full()),
        }
    }

    /// Makes room for so many more series at once, where their number is about known.
    pub fn reserve(&mut self, series: usize) {
        let hashes = &self.hashes;
        self.by_hash.reserve(series, |i| hashes[*i as usize].0);
    }

    fn insert(&mut self, hash: SeriesHash, labels: &Labels) -> Option<SeriesId> {
        let mut names = Vec::with_capacity(16);
        let mut values = Vec::with_capacity(16);
        for (i, l) in labels.iter().enumerate() {
            let (name, value) = self.newest_label(i);
            names.push(self.symbols.intern_like(l.name, name)?);
            values.push(self.symbols.intern_like(l.value, value)?);
        }
        self.insert_symbols(hash, &names, &values)
    }

    /// A label of the series made last, by its place; empty where it has fewer. Series come in families, so most of
    /// the next one's labels are the same.
    fn newest_label(&self, at: usize) -> (SymbolId, SymbolId) {
        let label = self.entries.last().and_then(|e| {
            let name = self.shapes[e.shape.0 as usize].get(at)?;
            Some((*name, *self.values.get(e.start as usize + at)?))
        });
        label.unwrap_or((SymbolId::EMPTY, SymbolId::EMPTY))
    }

    fn insert_symbols(
        &mut self,
        hash: SeriesHash,
        names: &[SymbolId],
        values: &[SymbolId],
    ) -> Option<SeriesId> {
        let id = SeriesId(u32::try_from(self.entries.len()).ok()?);
        let start = u32::try_from(self.values.len() + values.len()).ok()? - values.len() as u32;
        if !self.postings.has_room(values.len()) {
            return None;
        }
        for (n, v) in names.iter().zip(values) {
            self.postings.insert(*n, *v, id);
        }
        make_room(&mut self.values, values.len(), LABELS_MANY);
        self.values.extend_from_slice(values);
        let shape = self.shape(names);
        make_room(&mut self.entries, 1, 1);
        make_room(&mut self.hashes, 1, 1);
        self.entries.push(Entry { shape, start });
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.by_hash.insert_unique(hash.0, id.0, |i| hashes[*i as usize].0);
        Some(id)
    }

    fn shape(&mut self, names: &[SymbolId]) -> ShapeId {
        if let Some(id) = self.shape_ids.get(names) {
            return *id;
        }
        // Fewer shapes than series, and series fit u32.
        let id = ShapeId(self.shapes.len() as u32);
        self.shapes.push(names.into());
        self.shape_ids.insert(names.into(), id);
        id
    }

    /// The number of a series' shape, and its labels as names and values.
    pub fn shape_of(&self, id: SeriesId) -> (u32, &[SymbolId], &[SymbolId]) {
        let e = self.entries[id.0 as usize];
        let names = &self.shapes[e.shape.0 as usize];
        (e.shape.0, names, &self.values[e.start as usize..e.start as usize + names.len()])
    }

    /// Labels of a series as symbols, in order of their names' text.
    pub fn label_symbols(&self, id: SeriesId) -> impl Iterator<Item = (SymbolId, SymbolId)> + Clone + '_ {
        let e = self.entries[id.0 as usize];
        let names = &self.shapes[e.shape.0 as usize];
        let values = &self.values[e.start as usize..e.start as usize + names.len()];
        names.iter().copied().zip(values.iter().copied())
    }

    /// The same as [`Index::label_value`], series after series: most have the labels of the one before.
    #[inline]
    pub fn column_value(&self, id: SeriesId, column: &mut LabelColumn) -> SymbolId {
        self.column_place(id, column).map_or(SymbolId::EMPTY, |i| self.values[i])
    }

    /// The same of many series.
    pub fn column_values(&self, ids: &[SeriesId], column: &mut LabelColumn, out: &mut Vec<SymbolId>) {
        // Places first: each value is far from the others in memory, and so they are waited for together.
        let place = |id| self.column_place(id, column).map_or(NO_PLACE, |i| i as u32);
        out.clear();
        out.extend(ids.iter().copied().map(place).map(SymbolId));
        for v in out {
            *v = self.values.get(v.0 as usize).copied().unwrap_or(SymbolId::EMPTY);
        }
    }

    #[inline]
    fn column_place(&self, id: SeriesId, column: &mut LabelColumn) -> Option<usize> {
        let e = self.entries[id.0 as usize];
        if column.shape != Some(e.shape) {
            column.shape = Some(e.shape);
            let names = &self.shapes[e.shape.0 as usize];
            column.at = names.iter().position(|n| *n == column.name);
        }
        column.at.map(|i| e.start as usize + i)
    }

    /// The value of one label, `SymbolId::EMPTY` where the series does not have it.
    pub fn label_value(&self, id: SeriesId, name: SymbolId) -> SymbolId {
        let e = self.entries[id.0 as usize];
        let names = &self.shapes[e.shape.0 as usize];
        match names.iter().position(|n| *n == name) {
            Some(i) => self.values[e.start as usize + i],
            None => SymbolId::EMPTY,
        }
    }

    pub fn labels(&self, id: SeriesId) -> Labels {
        Labels::from_sorted(self.label_symbols(id).map(|(n, v)| (self.symbols.text(n), self.symbols.text(v))))
    }

    pub fn postings(&self) -> &Postings {
        &self.postings
    }
}
