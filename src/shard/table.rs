//! Series as checkpoints and blocks name them: a table of label texts, shapes and series that grows as a file is
//! written, each text once.
//!
//! ```text
//! table  | symbols varint | { length varint, text } | shapes varint | { names varint, { symbol varint } }
//!        | series varint | { hash u64, shape varint, { symbol varint } a name } |
//! ```
//!
//! Symbols, shapes and series are numbered over all tables of a file, from 0 in order of appearance.

use codec::Error as Malformed;
use codec::varint::{self, Reader};
use hashbrown::HashMap;
use model::{SeriesHash, SeriesId};

use crate::shard::index::{Full, Index, SymbolId};

const NONE: u32 = u32::MAX;

/// Numbers series and what their labels are made of.
#[derive(Default)]
pub struct TableWriter {
    symbol_numbers: Vec<u32>,
    symbol_count: u32,
    shape_numbers: HashMap<u32, u32>,
    series_numbers: Vec<u32>,
    series_count: u32,
    /// What is new since the last table.
    symbols: Section,
    shapes: Section,
    series: Section,
}

#[derive(Default)]
struct Section {
    count: u64,
    bytes: Vec<u8>,
}

impl Section {
    fn take(&mut self, out: &mut Vec<u8>) {
        varint::write(self.count, out);
        out.extend_from_slice(&self.bytes);
        self.count = 0;
        self.bytes.clear();
    }
}

impl TableWriter {
    /// The number of a series in the file. A new one's labels become part of the next table.
    pub fn number(&mut self, index: &Index, id: SeriesId) -> u32 {
        let i = id.0 as usize;
        if self.series_numbers.len() <= i {
            self.series_numbers.resize(index.id_count().max(i + 1), NONE);
        }
        if self.series_numbers[i] == NONE {
            self.series_numbers[i] = self.series_count;
            self.series_count += 1;
            self.push_series(index, id);
        }
        self.series_numbers[i]
    }

    pub fn series_count(&self) -> u32 {
        self.series_count
    }

    fn push_series(&mut self, index: &Index, id: SeriesId) {
        let (shape, names, values) = index.shape_of(id);
        let shape = self.shape(index, shape, names);
        self.series.count += 1;
        self.series.bytes.extend_from_slice(&index.series_hash(id).0.to_le_bytes());
        varint::write(u64::from(shape), &mut self.series.bytes);
        for value in values {
            let number = self.symbol(index, *value);
            varint::write(u64::from(number), &mut self.series.bytes);
        }
    }

    fn shape(&mut self, index: &Index, shape: u32, names: &[SymbolId]) -> u32 {
        if let Some(number) = self.shape_numbers.get(&shape) {
            return *number;
        }
        let number = self.shape_numbers.len() as u32;
        self.shape_numbers.insert(shape, number);
        self.shapes.count += 1;
        varint::write(names.len() as u64, &mut self.shapes.bytes);
        for name in names {
            let symbol = self.symbol(index, *name);
            varint::write(u64::from(symbol), &mut self.shapes.bytes);
        }
        number
    }

    fn symbol(&mut self, index: &Index, id: SymbolId) -> u32 {
        let i = id.0 as usize;
        if self.symbol_numbers.len() <= i {
            self.symbol_numbers.resize(index.symbols().len().max(i + 1), NONE);
        }
        if self.symbol_numbers[i] == NONE {
            self.symbol_numbers[i] = self.symbol_count;
            self.symbol_count += 1;
            let text = index.symbols().text(id).as_bytes();
            self.symbols.count += 1;
            varint::write(text.len() as u64, &mut self.symbols.bytes);
            self.symbols.bytes.extend_from_slice(text);
        }
        self.symbol_numbers[i]
    }

    /// Writes what is new into `out` (emptied first); false where nothing is.
    pub fn take(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        if self.series.count == 0 {
            return false;
        }
        self.symbols.take(out);
        self.shapes.take(out);
        self.series.take(out);
        true
    }
}

/// Series of a file by their numbers there, as they are known to an index here.
#[derive(Default)]
pub struct TableReader {
    symbols: Vec<SymbolId>,
    shapes: Vec<Vec<SymbolId>>,
    series: Vec<SeriesId>,
}

/// A table that cannot be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Full(#[from] Full),
}

impl TableReader {
    /// Takes a table in: its series are in `index` afterwards.
    pub fn read(&mut self, body: &[u8], index: &mut Index) -> Result<(), Error> {
        let mut r = Reader::new(body);
        for _ in 0..r.varint()? {
            let length = r.varint_usize()?;
            let text = std::str::from_utf8(r.take(length)?).map_err(|_| Malformed::Corrupt("label text"))?;
            self.symbols.push(index.intern(text)?);
        }
        for _ in 0..r.varint()? {
            let names = (0..r.varint()?).map(|_| self.symbol(&mut r)).collect::<Result<Vec<_>, _>>()?;
            self.shapes.push(names);
        }
        let mut values = Vec::new();
        for _ in 0..r.varint()? {
            let hash = SeriesHash(r.u64_le()?);
            let shape = r.varint_usize()?;
            let names = self.shapes.get(shape).ok_or(Malformed::Corrupt("shape of a series"))?;
            values.clear();
            for _ in names {
                values.push(self.symbol(&mut r)?);
            }
            let id = index.find_or_insert_symbols(hash, names, &values)?;
            self.series.push(id);
        }
        Ok(())
    }

    fn symbol(&self, r: &mut Reader<'_>) -> Result<SymbolId, Malformed> {
        self.symbols.get(r.varint_usize()?).copied().ok_or(Malformed::Corrupt("symbol of a label"))
    }

    pub fn series(&self, number: u32) -> Option<SeriesId> {
        self.series.get(number as usize).copied()
    }

    pub fn series_count(&self) -> usize {
        self.series.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    fn labels(i: usize) -> Labels {
        let i = i.to_string();
        match i.len() {
            1 => Labels::from_pairs([("__name__", "a"), ("i", &i)]),
            _ => Labels::from_pairs([("__name__", "b"), ("i", &i), ("job", "x")]),
        }
    }

    #[test]
    fn series_come_back_with_their_labels_and_hashes() {
        let mut index = Index::default();
        let ids: Vec<SeriesId> =
            (0..50).map(|i| index.find_or_insert(&labels(i)).expect("there is room").0).collect();
        let (mut w, mut bytes, mut tables) = (TableWriter::default(), Vec::new(), Vec::new());
        for chunk in [&ids[30..], &ids[..3], &ids[..20]] {
            for id in chunk {
                w.number(&index, *id);
            }
            assert!(w.take(&mut bytes));
            tables.push(bytes.clone());
        }
        assert!(!w.take(&mut bytes), "nothing is new");
        let (mut other, mut r) = (Index::default(), TableReader::default());
        other.find_or_insert(&labels(7)).expect("there is room");
        for table in &tables {
            r.read(table, &mut other).expect("a whole table");
        }
        assert_eq!(other.series_count(), 40);
        for i in (0..20).chain(30..50) {
            let id = r.series(w.number(&index, ids[i])).expect("a series of the table");
            assert_eq!(other.labels(id), labels(i));
            assert_eq!(other.find(&labels(i)), Some(id));
        }
        assert_eq!(other.find(&labels(25)), None);
        for table in &tables {
            for cut in 0..table.len() {
                assert!(TableReader::default().read(&table[..cut], &mut Index::default()).is_err());
            }
        }
    }
}
