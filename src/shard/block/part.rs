//! A part of a block's index: some series in order of their metric names, whole by itself.
//!
//! A part is small (some thousand series), so matchers walk it: each value is tried once, each series costs a look-up
//! for each matcher. No list of series has to be read or kept for that.
//!
//! ```text
//! part   | symbols varint | { length varint, text } | shapes varint | { names varint, { symbol varint } }
//!        | pieces varint | { page varint, pages varint } | series varint | { series } |
//! series | hash u64 | shape varint | { symbol varint } a name | chunks varint | { chunk } |
//! chunk  | kind + 16 * aggregate u8 | first time zigzag | last - first varint | samples varint
//!        | times: piece varint, at varint, length varint (kinds 0-2) | value u64 (kind 1) or
//!          data: piece varint, at varint, length varint (the others) |
//! ```
//!
//! An aggregate (`shard::block::aggregate`) is 0 for samples themselves; its columns are of kinds 0 and 1. Symbols ascend as texts. `piece` is a place in the part's list of pieces, `at` counts in the piece's body.

use codec::Error as Malformed;
use codec::varint::{self, Reader};
use hashbrown::HashMap;
use model::{Matcher, SeriesHash, Timestamp};

use crate::shard::block::aggregate::Aggregate;
use crate::shard::block::layout::{PieceRef, read_text, read_u32};

/// What a run of samples is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A chunk of `codec::chunk` whose times lie elsewhere.
    Floats = 0,
    /// One value at all times: no bytes but those of the index.
    Constant = 1,
    /// Start timestamps (a length, a time column), then a chunk as in `Floats`.
    FloatsWithStarts = 2,
    /// A chunk of `codec::histogram`, with its own times.
    Histograms = 3,
    /// Histograms one by one, as a checkpoint has them.
    PlainHistograms = 4,
}

impl Kind {
    fn from_u8(n: u8) -> Result<Kind, Malformed> {
        const ALL: [Kind; 5] =
            [Kind::Floats, Kind::Constant, Kind::FloatsWithStarts, Kind::Histograms, Kind::PlainHistograms];
        ALL.get(usize::from(n)).copied().ok_or(Malformed::Corrupt("kind of a chunk"))
    }

    pub fn is_float(self) -> bool {
        matches!(self, Kind::Floats | Kind::Constant | Kind::FloatsWithStarts)
    }
}

/// Bytes in the body of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub piece: PieceRef,
    pub at: u32,
    pub length: u32,
}

/// A run of samples of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub kind: Kind,
    /// What of its windows it has; `None` for samples.
    pub aggregate: Option<Aggregate>,
    pub first_time: Timestamp,
    pub last_time: Timestamp,
    pub count: u32,
    /// Where its times lie; nowhere for histograms, which have their own.
    pub times: Place,
    pub data: Place,
    /// The bits of a constant.
    pub bits: u64,
}

impl Chunk {
    pub fn overlaps(&self, mint: Timestamp, maxt: Timestamp) -> bool {
        self.first_time <= maxt && self.last_time >= mint
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: SeriesHash,
    shape: u32,
    values_at: u32,
    chunks_at: u32,
    chunk_count: u32,
}

/// A part in memory.
#[derive(Debug, Default)]
pub struct Part {
    text: String,
    ends: Vec<u32>,
    shapes: Vec<Box<[u32]>>,
    series: Vec<Entry>,
    values: Vec<u32>,
    chunks: Vec<Chunk>,
}

impl Part {
    pub fn decode(body: &[u8]) -> Result<Part, Malformed> {
        let mut r = Reader::new(body);
        let mut part = Part::default();
        for _ in 0..r.varint()? {
            part.text.push_str(read_text(&mut r)?);
            part.ends.push(part.text.len() as u32);
        }
        for _ in 0..r.varint()? {
            let count = r.varint_usize()?;
            let names = (0..count).map(|_| part.read_symbol(&mut r)).collect::<Result<Vec<_>, _>>()?;
            part.shapes.push(names.into_boxed_slice());
        }
        let mut pieces = Vec::new();
        for _ in 0..r.varint()? {
            pieces.push(PieceRef { page: read_u32(&mut r)?, pages: read_u32(&mut r)? });
        }
        for _ in 0..r.varint()? {
            part.read_series(&mut r, &pieces)?;
        }
        Ok(part)
    }

    fn read_symbol(&self, r: &mut Reader<'_>) -> Result<u32, Malformed> {
        let symbol = read_u32(r)?;
        let is_known = (symbol as usize) < self.ends.len();
        is_known.then_some(symbol).ok_or(Malformed::Corrupt("symbol of a label"))
    }

    fn read_series(&mut self, r: &mut Reader<'_>, pieces: &[PieceRef]) -> Result<(), Malformed> {
        let hash = SeriesHash(r.u64_le()?);
        let shape = read_u32(r)?;
        let names = self.shapes.get(shape as usize).ok_or(Malformed::Corrupt("shape of a series"))?.len();
        let values_at = self.values.len() as u32;
        for _ in 0..names {
            let value = self.read_symbol(r)?;
            self.values.push(value);
        }
        let (chunks_at, chunk_count) = (self.chunks.len() as u32, read_u32(r)?);
        for _ in 0..chunk_count {
            self.chunks.push(read_chunk(r, pieces)?);
        }
        self.series.push(Entry { hash, shape, values_at, chunks_at, chunk_count });
        Ok(())
    }

    pub fn heap_bytes(&self) -> usize {
        self.text.capacity()
            + self.ends.capacity() * 4
            + self.shapes.iter().map(|s| s.len() * 4 + 16).sum::<usize>()
            + self.series.capacity() * size_of::<Entry>()
            + self.values.capacity() * 4
            + self.chunks.capacity() * size_of::<Chunk>()
    }

    pub fn series_count(&self) -> u32 {
        self.series.len() as u32
    }

    pub fn symbol_count(&self) -> usize {
        self.ends.len()
    }

    pub fn symbol(&self, id: u32) -> &str {
        let i = id as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text[start..self.ends[i] as usize]
    }

    fn find_symbol(&self, text: &str) -> Option<u32> {
        let ids: std::ops::Range<u32> = 0..self.ends.len() as u32;
        let (mut low, mut high) = (ids.start, ids.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.symbol(middle).cmp(text) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    pub fn series_hash(&self, series: u32) -> SeriesHash {
        self.series[series as usize].hash
    }

    pub fn chunks(&self, series: u32) -> &[Chunk] {
        let e = &self.series[series as usize];
        &self.chunks[e.chunks_at as usize..(e.chunks_at + e.chunk_count) as usize]
    }

    /// Names and values of a series' labels as symbols, in order of the names' text.
    pub fn label_symbols(&self, series: u32) -> (&[u32], &[u32]) {
        let e = &self.series[series as usize];
        let names = &self.shapes[e.shape as usize];
        (names, &self.values[e.values_at as usize..e.values_at as usize + names.len()])
    }

    pub fn labels(&self, series: u32) -> impl Iterator<Item = (&str, &str)> {
        let (names, values) = self.label_symbols(series);
        names.iter().zip(values).map(|(n, v)| (self.symbol(*n), self.symbol(*v)))
    }

    /// Calls `look` with the metric name of each run of series; the empty one where they have none.
    pub fn metric_names(&self, mut look: impl FnMut(&str)) {
        let metric = self.find_symbol(model::labels::METRIC_NAME);
        let mut last = None;
        for series in 0..self.series_count() {
            let (names, values) = self.label_symbols(series);
            let at = names.iter().position(|n| Some(*n) == metric);
            let name = at.map(|i| values[i]);
            if last != Some(name) {
                look(name.map_or("", |v| self.symbol(v)));
                last = Some(name);
            }
        }
    }

    /// Series that all `matchers` accept, ascending.
    pub fn matching(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut tests: Vec<Test<'_>> = matchers.iter().map(|m| Test::new(self, m)).collect();
        let accepts = |series: &u32| {
            let e = self.series[*series as usize];
            tests.iter_mut().all(|t| t.accepts(self, e))
        };
        (0..self.series_count()).filter(accepts).collect()
    }
}

fn read_place(r: &mut Reader<'_>, pieces: &[PieceRef]) -> Result<Place, Malformed> {
    let piece = *pieces.get(r.varint_usize()?).ok_or(Malformed::Corrupt("piece of a chunk"))?;
    Ok(Place { piece, at: read_u32(r)?, length: read_u32(r)? })
}

fn read_chunk(r: &mut Reader<'_>, pieces: &[PieceRef]) -> Result<Chunk, Malformed> {
    let kinds = r.u8()?;
    let kind = Kind::from_u8(kinds & 15)?;
    let aggregate = Aggregate::from_u8(kinds >> 4).ok_or(Malformed::Corrupt("aggregate of a chunk"))?;
    let first_time = r.varint_signed()?;
    let last_time = first_time.wrapping_add(r.varint()? as i64);
    let count = read_u32(r)?;
    if count == 0 || count as usize > codec::chunk::SAMPLES_MAX || last_time < first_time {
        return Err(Malformed::Corrupt("size of a chunk"));
    }
    let times = if kind.is_float() { read_place(r, pieces)? } else { Place::default() };
    let (data, bits) = match kind {
        Kind::Constant => (Place::default(), r.u64_le()?),
        _ => (read_place(r, pieces)?, 0),
    };
    Ok(Chunk { kind, aggregate, first_time, last_time, count, times, data, bits })
}

/// A matcher and what it has said of this part's values.
struct Test<'m> {
    matcher: &'m Matcher,
    /// By shape: where the label's value stands, none where the shape lacks it.
    column: Vec<Option<u32>>,
    of_missing: bool,
    /// By symbol: 0 not asked yet, 1 no, 2 yes.
    known: Vec<u8>,
}

impl<'m> Test<'m> {
    fn new(part: &Part, matcher: &'m Matcher) -> Test<'m> {
        let name = part.find_symbol(&matcher.name);
        let column_of = |shape: &[u32]| Some(shape.iter().position(|n| Some(*n) == name)? as u32);
        Test {
            matcher,
            column: part.shapes.iter().map(|s| column_of(s)).collect(),
            of_missing: matcher.matches(""),
            known: vec![0; part.ends.len()],
        }
    }

    fn accepts(&mut self, part: &Part, e: Entry) -> bool {
        let Some(column) = self.column[e.shape as usize] else { return self.of_missing };
        let value = part.values[(e.values_at + column) as usize];
        let known = &mut self.known[value as usize];
        if *known == 0 {
            *known = 1 + u8::from(self.matcher.matches(part.symbol(value)));
        }
        *known == 2
    }
}

/// Gathers the series of a part.
#[derive(Default)]
pub struct PartWriter {
    symbols: HashMap<String, u32>,
    shapes: HashMap<Vec<u32>, u32>,
    shape_list: Vec<Box<[u32]>>,
    series: Vec<Entry>,
    values: Vec<u32>,
    chunks: Vec<Chunk>,
    pub first_name: String,
    pub last_name: String,
}

impl PartWriter {
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Adds a series; `labels` are in order of their names.
    pub fn push<'a>(
        &mut self,
        hash: SeriesHash,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        chunks: &[Chunk],
    ) {
        let (mut names, values_at) = (Vec::with_capacity(16), self.values.len() as u32);
        let mut metric = "";
        for (name, value) in labels {
            if name == model::labels::METRIC_NAME {
                metric = value;
            }
            names.push(self.symbol(name));
            let value = self.symbol(value);
            self.values.push(value);
        }
        if self.series.is_empty() || metric < self.first_name.as_str() {
            self.first_name = metric.to_owned();
        }
        if metric > self.last_name.as_str() {
            self.last_name = metric.to_owned();
        }
        let next = self.shape_list.len() as u32;
        let shape = *self.shapes.entry_ref(names.as_slice()).or_insert(next);
        if shape == next {
            self.shape_list.push(names.into_boxed_slice());
        }
        let (chunks_at, chunk_count) = (self.chunks.len() as u32, chunks.len() as u32);
        self.chunks.extend_from_slice(chunks);
        self.series.push(Entry { hash, shape, values_at, chunks_at, chunk_count });
    }

    fn symbol(&mut self, text: &str) -> u32 {
        let next = self.symbols.len() as u32;
        *self.symbols.entry_ref(text).or_insert(next)
    }

    /// Names of labels, in no particular order.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        let mut is_name = vec![false; self.symbols.len()];
        self.shape_list.iter().flat_map(|s| s.iter()).for_each(|n| is_name[*n as usize] = true);
        self.symbols.iter().filter(move |(_, i)| is_name[**i as usize]).map(|(t, _)| t.as_str())
    }

    /// Writes the part into `out` and begins another.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        let mut texts: Vec<(&str, u32)> = self.symbols.iter().map(|(t, i)| (t.as_str(), *i)).collect();
        texts.sort_unstable();
        let mut place = vec![0u32; texts.len()];
        varint::write(texts.len() as u64, out);
        for (at, (text, id)) in texts.iter().enumerate() {
            place[*id as usize] = at as u32;
            varint::write(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        let symbol = |id: &u32, out: &mut Vec<u8>| varint::write(u64::from(place[*id as usize]), out);
        varint::write(self.shape_list.len() as u64, out);
        for shape in &self.shape_list {
            varint::write(shape.len() as u64, out);
            shape.iter().for_each(|n| symbol(n, out));
        }
        let pieces = self.write_pieces(out);
        varint::write(self.series.len() as u64, out);
        for e in &self.series {
            out.extend_from_slice(&e.hash.0.to_le_bytes());
            varint::write(u64::from(e.shape), out);
            let width = self.shape_list[e.shape as usize].len();
            let values = &self.values[e.values_at as usize..e.values_at as usize + width];
            values.iter().for_each(|v| symbol(v, out));
            varint::write(u64::from(e.chunk_count), out);
            let chunks = &self.chunks[e.chunks_at as usize..(e.chunks_at + e.chunk_count) as usize];
            chunks.iter().for_each(|c| write_chunk(c, &pieces, out));
        }
        *self = PartWriter::default();
    }

    fn write_pieces(&self, out: &mut Vec<u8>) -> HashMap<PieceRef, u32> {
        let mut all: Vec<PieceRef> = Vec::new();
        for c in &self.chunks {
            if c.kind.is_float() {
                all.push(c.times.piece);
            }
            if c.kind != Kind::Constant {
                all.push(c.data.piece);
            }
        }
        all.sort_unstable();
        all.dedup();
        varint::write(all.len() as u64, out);
        for p in &all {
            varint::write(u64::from(p.page), out);
            varint::write(u64::from(p.pages), out);
        }
        all.into_iter().enumerate().map(|(i, p)| (p, i as u32)).collect()
    }

    /// Says how long the pieces are that chunks named by their first page alone.
    pub fn resolve(&mut self, pages_of: impl Fn(u32) -> u32) {
        for c in &mut self.chunks {
            for place in [&mut c.times, &mut c.data] {
                if place.piece.page != 0 {
                    place.piece.pages = pages_of(place.piece.page);
                }
            }
        }
    }
}

fn write_chunk(c: &Chunk, pieces: &HashMap<PieceRef, u32>, out: &mut Vec<u8>) {
    let put = |p: &Place, out: &mut Vec<u8>| {
        let piece = pieces.get(&p.piece).copied().unwrap_or_default();
        for n in [piece, p.at, p.length] {
            varint::write(u64::from(n), out);
        }
    };
    out.push(c.kind as u8 | c.aggregate.map_or(0, |a| a as u8) << 4);
    varint::write_signed(c.first_time, out);
    varint::write(c.last_time.wrapping_sub(c.first_time) as u64, out);
    varint::write(u64::from(c.count), out);
    if c.kind.is_float() {
        put(&c.times, out);
    }
    match c.kind {
        Kind::Constant => out.extend_from_slice(&c.bits.to_le_bytes()),
        _ => put(&c.data, out),
    }
}
