//! One block on the disk: what it says of itself, its index, chunks read where they lie.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use model::Timestamp;
use prometheus_tsdb::chunk::{self, Chunk};
use prometheus_tsdb::index::{ChunkMeta, Index};
use prometheus_tsdb::meta::Meta;
use prometheus_tsdb::sample::Sample;
use prometheus_tsdb::tombstones::Tombstones;

use crate::exchange::Error;

/// A block's name, meta file and size.
pub struct BlockFiles {
    pub dir: PathBuf,
    pub meta: Meta,
    /// Of all its files.
    pub bytes: u64,
}

impl BlockFiles {
    pub fn find(dir: &Path) -> Result<BlockFiles, Error> {
        let path = dir.join("meta.json");
        let file = fs::read(&path).map_err(Error::file("open", &path))?;
        let meta = Meta::read(&file).map_err(Error::damaged(&path))?;
        let mut bytes = file.len() as u64;
        for name in ["index", "tombstones"] {
            bytes += fs::metadata(dir.join(name)).map_or(0, |m| m.len());
        }
        for segment in segment_paths(dir)? {
            bytes += fs::metadata(&segment).map_err(Error::file("stat", &segment))?.len();
        }
        Ok(BlockFiles { dir: dir.to_path_buf(), meta, bytes })
    }
}

/// Files whose names are numbers, in their order.
pub(in crate::exchange) fn numbered_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::file("open", dir))?;
    let mut all: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_file()))
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())))
        .collect();
    all.sort();
    Ok(all)
}

fn segment_paths(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok(numbered_files(&dir.join("chunks"))?.into_iter().map(|(_, path)| path).collect())
}

/// A block opened. Its index lies in memory, its chunks do not.
pub struct Block {
    pub files: BlockFiles,
    pub index: Index,
    tombstones: Tombstones,
    segments: Vec<(PathBuf, File)>,
}

/// Read at once: most chunks of Prometheus are shorter.
const GUESS_BYTES: usize = 1 << 11;

impl Block {
    pub fn open(dir: &Path) -> Result<Block, Error> {
        let files = BlockFiles::find(dir)?;
        let path = dir.join("index");
        let index = fs::read(&path).map_err(Error::file("open", &path))?;
        let index = Index::open(index).map_err(Error::damaged(&path))?;
        let path = dir.join("tombstones");
        let tombstones = match fs::read(&path) {
            Ok(file) => Tombstones::read(&file).map_err(Error::damaged(&path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Tombstones::default(),
            Err(e) => return Err(Error::file("open", &path)(e)),
        };
        let mut segments = Vec::new();
        for path in segment_paths(dir)? {
            let file = File::open(&path).map_err(Error::file("open", &path))?;
            let mut head = [0; 8];
            let count = read_at(&file, &mut head, 0).map_err(Error::file("read", &path))?;
            chunk::check_segment(&head[..count]).map_err(Error::damaged(&path))?;
            segments.push((path, file));
        }
        Ok(Block { files, index, tombstones, segments })
    }

    pub fn meta(&self) -> &Meta {
        &self.files.meta
    }

    /// Whether the block may hold samples between two times (inclusive).
    pub fn overlaps(&self, mint: Timestamp, maxt: Timestamp) -> bool {
        self.meta().min_time <= maxt && mint < self.meta().max_time
    }

    pub fn index_error(&self) -> impl FnOnce(prometheus_tsdb::Error) -> Error + use<> {
        Error::damaged(&self.files.dir.join("index"))
    }

    /// Reads a chunk and hands it to `f`.
    pub fn with_chunk<R>(
        &self,
        reference: u64,
        scratch: &mut Vec<u8>,
        f: impl FnOnce(Chunk<'_>) -> Result<R, prometheus_tsdb::Error>,
    ) -> Result<R, Error> {
        let (segment, at) = ((reference >> 32) as usize, reference & 0xffff_ffff);
        let Some((path, file)) = self.segments.get(segment) else {
            let what = "the index names a segment of chunks that is not there";
            return Err(self.index_error()(prometheus_tsdb::Error::Corrupt { at: reference, what }));
        };
        let mut read = |length: usize| {
            scratch.resize(length, 0);
            let count = read_at(file, scratch, at).map_err(Error::file("read", path))?;
            scratch.truncate(count);
            chunk::frame_bytes(scratch, at).map_err(Error::damaged(path))
        };
        let frame = read(GUESS_BYTES)?;
        if frame > GUESS_BYTES {
            read(frame)?;
        }
        chunk::read_frame(scratch, at).and_then(f).map_err(Error::damaged(path))
    }

    /// Appends the samples of a chunk that were not deleted.
    pub fn read_chunk(
        &self,
        series: u64,
        meta: &ChunkMeta,
        scratch: &mut Vec<u8>,
        out: &mut Vec<Sample>,
    ) -> Result<(), Error> {
        let from = out.len();
        self.with_chunk(meta.reference, scratch, |chunk| chunk.decode(out))?;
        let deleted = self.tombstones.of(series);
        if !deleted.is_empty() {
            let kept: Vec<Sample> =
                out.drain(from..).filter(|s| !deleted.iter().any(|d| d.contains(s.time))).collect();
            out.extend(kept);
        }
        Ok(())
    }
}

fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
