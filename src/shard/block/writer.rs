//! Writes a block file from its beginning to its end, then puts it in place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use codec::time_column;
use hashbrown::HashMap;
use model::{SeriesHash, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use crate::rt;
use crate::rt::disk::{Disk, Mode, unpublished};
use crate::shard::block::aggregate::Windows;
use crate::shard::block::chunk::{Encoder, Samples, Sink};
use crate::shard::block::layout::{
    BlockId, DATA, DIRECTORY, Directory, Header, PART, PartEntry, PieceRef, Stats, encode_end,
};
use crate::shard::block::part::{Chunk, PartWriter, Place};
use crate::shard::pieces::{BLOCK_BYTES, PieceWriter, piece_bytes};

/// A piece of chunks is ended at this size: small beside a read's latency, large beside its padding (3 % at most).
const DATA_BYTES: usize = 60 << 10;

/// Series of one part: what a query must read of an index at least, about 60 KB.
const PART_SERIES: usize = 1024;

/// Time columns that are remembered to be shared: those of 65 536 groups, 2 MB. Where more are met (series that share
/// with none) all are forgotten, and the next ones are written again.
const SHARED_TIMES_MAX: usize = 1 << 16;

/// `00000001.block`.
pub fn block_name(id: BlockId) -> String {
    format!("{:08}{BLOCK_SUFFIX}", id.0)
}

pub const BLOCK_SUFFIX: &str = ".block";

pub struct BlockWriter {
    disk: Rc<dyn Disk>,
    path: PathBuf,
    header: Header,
    /// The file's own does not say what `header` does.
    is_header_old: bool,
    out: PieceWriter,
    encoder: Encoder,
    data: Data,
    part: PartWriter,
    directory: Directory,
    label_names: BTreeSet<String>,
    chunks: Vec<Chunk>,
    body: Vec<u8>,
}

/// The piece of chunks being filled.
#[derive(Default)]
struct Data {
    /// The page on which it will lie: nothing else is written before it.
    page: u32,
    body: Vec<u8>,
    /// By the hash of the times: where their column lies.
    shared: HashMap<u128, Place>,
    /// The bytes of such a hash; scratch.
    hashed: Vec<u8>,
    /// Pages of the pieces written so far, by their first one.
    pages: HashMap<u32, u32>,
}

impl Sink for Data {
    fn times(&mut self, times: &[Timestamp]) -> Place {
        self.hashed.clear();
        self.hashed.extend(times.iter().flat_map(|t| t.to_le_bytes()));
        let key = xxh3_128(&self.hashed);
        if let Some(place) = self.shared.get(&key) {
            return *place;
        }
        let at = self.body.len() as u32;
        time_column::encode(times, &mut self.body);
        let place = self.place(at);
        if self.shared.len() >= SHARED_TIMES_MAX {
            self.shared.clear();
        }
        self.shared.insert(key, place);
        place
    }

    fn data(&mut self, bytes: &[u8]) -> Place {
        let at = self.body.len() as u32;
        self.body.extend_from_slice(bytes);
        self.place(at)
    }
}

impl Data {
    fn place(&self, at: u32) -> Place {
        let piece = PieceRef { page: self.page, pages: 0 };
        Place { piece, at, length: self.body.len() as u32 - at }
    }
}

impl BlockWriter {
    /// Begins the file of `header.id` in `dir`.
    pub async fn begin(disk: &Rc<dyn Disk>, dir: &Path, header: Header) -> Result<Self, rt::Error> {
        let path = dir.join(block_name(header.id));
        let mut out = PieceWriter::new(disk.open(&unpublished(&path), Mode::Create).await?);
        out.push_block(&header.encode());
        let stats = Stats { first_time: Timestamp::MAX, last_time: Timestamp::MIN, ..Stats::default() };
        Ok(BlockWriter {
            disk: disk.clone(),
            path,
            header,
            is_header_old: false,
            data: Data { page: page_of(&out), ..Data::default() },
            out,
            encoder: Encoder::default(),
            part: PartWriter::default(),
            directory: Directory { stats, ..Directory::default() },
            label_names: BTreeSet::new(),
            chunks: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Adds a series with its samples (in order; none, and the series is left out). Series come in order of their
    /// metric names, else reading one metric means reading many parts.
    pub fn push<'a>(
        &mut self,
        hash: SeriesHash,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: &Samples,
    ) {
        if samples.is_empty() {
            return;
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.clear();
        self.encoder.encode(samples, &mut self.data, &mut chunks);
        self.directory.stats.float_count += samples.times.len() as u64;
        self.directory.stats.histogram_count += samples.histograms.len() as u64;
        self.push_chunks(hash, labels, chunks);
    }

    /// The same with aggregates of a series, which count as a sample for each window.
    pub fn push_windows<'a>(
        &mut self,
        hash: SeriesHash,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        windows: &Windows,
    ) {
        if windows.is_empty() {
            return;
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.clear();
        self.encoder.encode_windows(windows, &mut self.data, &mut chunks);
        self.directory.stats.float_count += windows.times.len() as u64;
        self.push_chunks(hash, labels, chunks);
    }

    fn push_chunks<'a>(
        &mut self,
        hash: SeriesHash,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        chunks: Vec<Chunk>,
    ) {
        let stats = &mut self.directory.stats;
        stats.series_count += 1;
        stats.chunk_count += chunks.len() as u64;
        for c in &chunks {
            stats.first_time = stats.first_time.min(c.first_time);
            stats.last_time = stats.last_time.max(c.last_time);
        }
        self.part.push(hash, labels, &chunks);
        self.chunks = chunks;
        if self.data.body.len() >= DATA_BYTES {
            self.end_data();
        }
        if self.part.series_count() >= PART_SERIES {
            self.end_part();
        }
    }

    pub fn series_count(&self) -> u64 {
        self.directory.stats.series_count
    }

    fn end_data(&mut self) {
        if !self.data.body.is_empty() {
            let page = self.data.page;
            self.data.pages.insert(page, pages_of(&self.data.body));
            self.out.push(DATA, &self.data.body);
            self.data.body.clear();
        }
        self.data.page = page_of(&self.out);
    }

    fn end_part(&mut self) {
        if self.part.series_count() == 0 {
            return;
        }
        self.end_data();
        let pages = &self.data.pages;
        self.part.resolve(|page| pages.get(&page).copied().unwrap_or(0));
        for name in self.part.label_names() {
            if !self.label_names.contains(name) {
                self.label_names.insert(name.to_owned());
            }
        }
        let series_count = self.part.series_count() as u32;
        let first_name = std::mem::take(&mut self.part.first_name);
        let last_name = std::mem::take(&mut self.part.last_name);
        self.body.clear();
        self.part.take(&mut self.body);
        let piece = PieceRef { page: page_of(&self.out), pages: pages_of(&self.body) };
        self.directory.parts.push(PartEntry { piece, series_count, first_name, last_name });
        self.out.push(PART, &self.body);
        self.data.page = page_of(&self.out);
    }

    /// Writes what has gathered.
    pub async fn flush(&mut self) -> Result<(), rt::Error> {
        self.out.flush().await
    }

    /// Whether the block says that others were to come with it.
    pub fn set_partial(&mut self, is_partial: bool) {
        if self.header.is_partial != is_partial {
            self.header.is_partial = is_partial;
            self.is_header_old = true;
        }
    }

    /// Ends the file and makes it durable. Nothing is pushed any more.
    pub async fn end(&mut self) -> Result<(), rt::Error> {
        self.end_part();
        self.end_data();
        self.directory.label_names = std::mem::take(&mut self.label_names).into_iter().collect();
        self.body.clear();
        self.directory.encode(&mut self.body);
        let page = page_of(&self.out);
        self.out.push(DIRECTORY, &self.body);
        self.out.push_block(&encode_end(page));
        if std::mem::take(&mut self.is_header_old) {
            self.out.write_first(&self.header.encode()).await?;
        }
        self.out.finish().await?;
        Ok(())
    }

    /// Puts the file, which was ended, in place: it is a block from here on. For good, where `is_synced`.
    pub async fn put_in_place(self, is_synced: bool) -> Result<PathBuf, rt::Error> {
        let beside = unpublished(&self.path);
        self.disk.rename(&beside, &self.path).await?;
        if let Some(dir) = self.path.parent().filter(|_| is_synced) {
            self.disk.sync_dir(dir).await?;
        }
        Ok(self.path)
    }

    /// Gives the file up.
    pub async fn discard(self) {
        // What cannot be removed now is removed by the next start.
        let _ = self.disk.remove(&unpublished(&self.path)).await;
    }

    pub fn header(&self) -> &Header {
        &self.header
    }
}

fn page_of(out: &PieceWriter) -> u32 {
    (out.position() / BLOCK_BYTES as u64) as u32
}

fn pages_of(body: &[u8]) -> u32 {
    (piece_bytes(body.len() as u64) / BLOCK_BYTES as u64) as u32
}
