//! The index of a block: symbols, series with their chunks, postings.
//!
//! Versions 1, 2 and 3 are read. 1 names symbols and series by their place in the file; 3 is read like 2.

use model::{Labels, Timestamp};

use crate::Error;
use crate::bytes::Reader;

pub const MAGIC: u32 = 0xBAAA_D700;
pub(crate) const TOC_BYTES: usize = 6 * 8 + 4;
/// Series of version 2 begin at multiples of this.
pub(crate) const SERIES_ALIGNMENT: u64 = 16;

/// Where the sections begin; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    pub symbols: u64,
    pub series: u64,
    pub label_indices: u64,
    pub label_indices_table: u64,
    pub postings: u64,
    pub postings_table: u64,
}

/// Where a chunk lies, and which times it covers (both inclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    pub min_time: Timestamp,
    pub max_time: Timestamp,
    /// Segment (from 0) << 32 | place in it.
    pub reference: u64,
}

/// One series of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    pub labels: Labels,
    pub chunks: Vec<ChunkMeta>,
}

/// A pair of label name and value, and where its postings lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostingsEntry<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub at: u64,
}

pub struct Index {
    file: Vec<u8>,
    version: u8,
    toc: Toc,
    /// Where each symbol begins.
    symbols: Vec<u32>,
}

impl Index {
    /// Takes a whole file; checks all but its series and postings.
    pub fn open(file: Vec<u8>) -> Result<Index, Error> {
        let mut header = Reader::new(&file, 0);
        if header.u32()? != MAGIC {
            return Err(Error::corrupt(0, "not an index (magic number)"));
        }
        let version = header.u8()?;
        if !(1..=3).contains(&version) {
            return Err(Error::Version { what: "unknown index file version", found: version.to_string() });
        }
        let toc = read_toc(&file)?;
        let mut index = Index { file, version, toc, symbols: Vec::new() };
        if toc.symbols != 0 {
            index.symbols = read_symbols(&index.file, toc.symbols)?;
        }
        for entry in index.postings_entries()? {
            entry?;
        }
        Ok(index)
    }

    pub fn version(&self) -> u8 {
        self.version
    }

    pub fn toc(&self) -> Toc {
        self.toc
    }

    pub fn file_bytes(&self) -> usize {
        self.file.len()
    }

    pub fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    /// The text that `reference` names in a series.
    pub fn symbol(&self, reference: u32) -> Result<&str, Error> {
        let at = match self.version {
            1 => u64::from(reference),
            _ => u64::from(
                *self
                    .symbols
                    .get(reference as usize)
                    .ok_or(Error::corrupt(0, "a symbol that is not there"))?,
            ),
        };
        Reader::at(&self.file, at)?.text()
    }

    /// All pairs in order, the pair of nothing and nothing (all series) first.
    pub fn postings_entries(
        &self,
    ) -> Result<impl Iterator<Item = Result<PostingsEntry<'_>, Error>> + '_, Error> {
        let (mut table, mut left) = (Reader::new(&[], 0), 0);
        if self.toc.postings_table != 0 {
            table = Reader::at(&self.file, self.toc.postings_table)?.section("the table of postings")?;
            left = table.u32()?;
        }
        Ok(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let mut entry = || {
                if table.varint()? != 2 {
                    return Err(table.corrupt("a key of postings that is no pair"));
                }
                Ok(PostingsEntry { name: table.text()?, value: table.text()?, at: table.varint()? })
            };
            let result = entry();
            if result.is_err() {
                left = 0;
            }
            Some(result)
        }))
    }

    /// References of series, ascending.
    pub fn read_postings(&self, at: u64) -> Result<impl ExactSizeIterator<Item = u64> + '_, Error> {
        let mut list = Reader::at(&self.file, at)?.section("postings")?;
        let count = list.u32()? as usize;
        if list.rest().len() != count * 4 {
            return Err(list.corrupt("postings of another length than they say"));
        }
        let number = |b: &[u8]| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        Ok(list.rest().chunks_exact(4).map(number))
    }

    /// References of the series that have a pair; none where no series has it.
    pub fn postings(&self, name: &str, value: &str) -> Result<Vec<u64>, Error> {
        for entry in self.postings_entries()? {
            let entry = entry?;
            if (entry.name, entry.value) == (name, value) {
                return Ok(self.read_postings(entry.at)?.collect());
            }
        }
        Ok(Vec::new())
    }

    /// References of all series, in order of their labels.
    pub fn all_series(&self) -> Result<Vec<u64>, Error> {
        self.postings("", "")
    }

    /// Reads the series of a reference, as postings and tombstones have it.
    pub fn read_series(&self, reference: u64, out: &mut Series) -> Result<(), Error> {
        let at = if self.version == 1 { reference } else { reference.saturating_mul(SERIES_ALIGNMENT) };
        let mut reader = Reader::at(&self.file, at)?;
        let length = reader.count(1)?;
        let mut entry = reader.checked(length, "a series")?;
        let label_count = entry.count(2)?;
        let mut pairs = Vec::with_capacity(label_count);
        for _ in 0..label_count {
            let (name, value) = (entry.varint_u32()?, entry.varint_u32()?);
            pairs.push((self.symbol(name)?, self.symbol(value)?));
        }
        out.labels = labels_of(pairs);
        read_chunks(&mut entry, &mut out.chunks)
    }
}

/// Labels of pairs that a file has in order, as it should.
pub(crate) fn labels_of(pairs: Vec<(&str, &str)>) -> Labels {
    let is_tidy = pairs.is_sorted_by(|a, b| a.0 < b.0) && pairs.iter().all(|(_, value)| !value.is_empty());
    if is_tidy { Labels::from_sorted(pairs) } else { Labels::from_pairs(pairs) }
}

fn read_toc(file: &[u8]) -> Result<Toc, Error> {
    let at =
        file.len().checked_sub(TOC_BYTES).ok_or(Error::corrupt(0, "shorter than a table of contents"))?;
    let mut toc = Reader::at(file, at as u64)?.checked(TOC_BYTES - 4, "the table of contents")?;
    let mut next = || {
        let at = toc.position();
        let offset = toc.u64()?;
        // Symbols are remembered by 32 bits; the rest lies behind them.
        if offset > file.len() as u64 {
            Err(Error::corrupt(at, "a section behind the end"))
        } else {
            Ok(offset)
        }
    };
    Ok(Toc {
        symbols: next()?,
        series: next()?,
        label_indices: next()?,
        label_indices_table: next()?,
        postings: next()?,
        postings_table: next()?,
    })
}

fn read_symbols(file: &[u8], at: u64) -> Result<Vec<u32>, Error> {
    let mut section = Reader::at(file, at)?.section("the symbols")?;
    let count = section.u32()? as usize;
    if count > section.rest().len() {
        return Err(section.corrupt("more symbols than bytes"));
    }
    let mut symbols = Vec::with_capacity(count);
    for _ in 0..count {
        let at = u32::try_from(section.position()).map_err(|_| section.corrupt("symbols over 4 GiB"))?;
        section.text()?;
        symbols.push(at);
    }
    Ok(symbols)
}

fn read_chunks(entry: &mut Reader<'_>, out: &mut Vec<ChunkMeta>) -> Result<(), Error> {
    out.clear();
    let count = entry.count(3)?;
    let overflow = entry.corrupt("times of chunks over 64 bits");
    let mut last = ChunkMeta { min_time: 0, max_time: 0, reference: 0 };
    for i in 0..count {
        let first = if i == 0 { entry.varint_signed()? } else { entry.varint()? as i64 };
        let min_time = last.max_time.checked_add(first).ok_or(overflow.clone())?;
        let length = i64::try_from(entry.varint()?).map_err(|_| overflow.clone())?;
        let max_time = min_time.checked_add(length).ok_or(overflow.clone())?;
        let reference = match i {
            0 => entry.varint()?,
            _ => last.reference.wrapping_add_signed(entry.varint_signed()?),
        };
        last = ChunkMeta { min_time, max_time, reference };
        out.push(last);
    }
    Ok(())
}
