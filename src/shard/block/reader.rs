//! One open block: where its parts lie, and what of them it is asked for.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use codec::crc32c::checksum;
use model::{Matcher, SeriesHash, Timestamp};

use crate::rt;
use crate::rt::disk::{Disk, File, Mode};
use crate::shard::block::layout::{
    BlockId, DIRECTORY, Directory, Header, PART, PartEntry, PieceRef, Stats, decode_end,
};
use crate::shard::block::part::Part;
use crate::shard::block::tombstones::{BlockTombstones, tombstones_name};
use crate::shard::block::writer::BLOCK_SUFFIX;
use crate::shard::pieces::{
    BLOCK_BYTES, Next, PIECE_HEADER_BYTES, PieceReader, decode_piece_header, piece_bytes,
};
use crate::shard::read_ahead::{Damage, ReadAhead};
use crate::shard::tombstones::PartTombstones;
use crate::shard::wal::pending::Owner;

pub struct Block {
    /// Number of the opening: what the cache knows it by.
    pub number: u64,
    /// What its name says: a file that came from another shard keeps its own beside it.
    pub id: BlockId,
    pub path: PathBuf,
    pub header: Header,
    pub directory: Directory,
    pub size: u64,
    pub(in crate::shard::block) file: Rc<dyn File>,
    /// What was deleted of it; `Err` where that cannot be read.
    pub(in crate::shard::block) tombstones: RefCell<Result<BlockTombstones, ()>>,
    /// Only series of this shard are read of a block that another number of shards has written.
    only: Option<Owner>,
}

/// `00000007.block` is block 7.
pub fn id_of_name(name: &str) -> Option<BlockId> {
    name.strip_suffix(BLOCK_SUFFIX)?.parse().ok().map(BlockId)
}

/// The body of a piece whose bytes (header, body, padding) were read; what is wrong with it otherwise.
pub fn body_of(kind: u32, bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (found, length, crc) = decode_piece_header(bytes).ok_or("no piece begins here")?;
    if found != kind {
        return Err("a piece of another kind lies here");
    }
    let body = bytes.get(PIECE_HEADER_BYTES..).and_then(|b| b.get(..length as usize));
    let body = body.ok_or("the piece ends early")?;
    if checksum(body) == crc { Ok(body) } else { Err("the piece's checksum does not fit") }
}

impl Block {
    /// Opens the block at `path` for `owner`. One that is damaged is read for what is whole; `None` where nothing is.
    pub async fn open(
        disk: &Rc<dyn Disk>,
        path: &Path,
        id: BlockId,
        number: u64,
        owner: Owner,
        damage: &mut Vec<Damage>,
    ) -> Result<Option<Block>, rt::Error> {
        let file = disk.open(path, Mode::Read).await?;
        let size = file.size().await?;
        let note = |offset: u64, what: &str| Damage { path: path.into(), offset, what: what.into() };
        let header = match Header::decode(&file.read_at(0, BLOCK_BYTES).await?) {
            Ok(header) => Some(header),
            Err(what) => {
                damage.push(note(0, what));
                None
            }
        };
        let directory = match read_directory(&file, size).await? {
            Ok(directory) => Some(directory),
            Err((offset, what)) => {
                damage.push(note(offset, &what));
                None
            }
        };
        let (header, directory) = match (header, directory) {
            (Some(header), Some(directory)) => (header, directory),
            (header, directory) => {
                let directory = match directory {
                    Some(directory) => directory,
                    None => rebuilt(disk, path, damage).await?,
                };
                if directory.parts.is_empty() {
                    return Ok(None);
                }
                let stats = directory.stats;
                let range = (stats.first_time, stats.last_time.saturating_add(1));
                let (mint, maxt) = range;
                let (class, aggregates) = (None, None);
                let assumed = Header { owner, id, mint, maxt, level: 1, is_partial: true, class, aggregates };
                (header.unwrap_or(assumed), directory)
            }
        };
        let is_mine = (header.owner.shard, header.owner.shard_count) == (owner.shard, owner.shard_count);
        let only = (!is_mine).then_some(owner);
        let path = path.to_path_buf();
        let tombstones = RefCell::new(Ok(BlockTombstones::default()));
        Ok(Some(Block { number, id, path, header, directory, size, file, tombstones, only }))
    }

    /// Where what was deleted of it lies.
    pub fn tombstones_path(&self) -> PathBuf {
        self.path.with_file_name(tombstones_name(self.id))
    }

    /// Whether a file of tombstones lies beside it.
    pub fn has_tombstones(&self) -> bool {
        self.tombstones.borrow().as_ref().map_or(true, |t| !t.is_empty())
    }

    /// What was deleted of a part.
    pub fn deleted_of(&self, part: usize) -> Option<Rc<PartTombstones>> {
        self.tombstones.borrow().as_ref().ok()?.part(part).cloned()
    }

    /// Series that have anything deleted, and how many spans of time those are in all.
    pub fn deleted_counts(&self) -> (u64, u64) {
        self.tombstones.borrow().as_ref().map_or((0, 0), BlockTombstones::counts)
    }

    /// Whether it has samples, not aggregates of them.
    pub fn is_raw(&self) -> bool {
        self.header.aggregates.is_none()
    }

    pub fn overlaps(&self, mint: Timestamp, maxt: Timestamp) -> bool {
        let s = &self.directory.stats;
        s.first_time <= maxt && s.last_time >= mint
    }

    /// Whether any series has a label of this name.
    pub fn may_have_label(&self, name: &str) -> bool {
        self.directory.label_names.binary_search_by(|n| n.as_str().cmp(name)).is_ok()
    }

    /// Whether this shard wrote it.
    pub fn is_own(&self) -> bool {
        self.only.is_none()
    }

    /// Whether a series of the file is this shard's.
    pub fn has(&self, hash: SeriesHash) -> bool {
        self.only.is_none_or(|o| hash.shard(o.shard_count).0 == o.shard)
    }

    /// Bytes that count as this shard's: a file that several shards share counts for each with its share.
    pub fn counted_bytes(&self) -> u64 {
        self.only.map_or(self.size, |o| self.size / u64::from(o.shard_count.max(1)))
    }

    /// Whether a part may have series that all `matchers` accept.
    pub fn may_match(&self, part: usize, matchers: &[Matcher]) -> bool {
        let entry = &self.directory.parts[part];
        let names = matchers.iter().filter(|m| m.name == model::labels::METRIC_NAME);
        names.into_iter().all(|m| may_accept(m, entry))
    }

    pub fn damage(&self, piece: PieceRef, what: &str) -> Damage {
        Damage { path: self.path.clone(), offset: piece.offset(), what: what.to_owned() }
    }
}

/// Whether a matcher of the metric name may accept one between the first and the last of a part.
fn may_accept(m: &Matcher, entry: &PartEntry) -> bool {
    let is_inside = |name: &str| entry.first_name.as_str() <= name && name <= entry.last_name.as_str();
    if entry.first_name == entry.last_name {
        return m.matches(&entry.first_name);
    }
    match (m.op, m.regex().and_then(|r| r.literals())) {
        (model::MatchOp::Equal, _) => is_inside(&m.value),
        (model::MatchOp::Regex, Some(literals)) => literals.iter().any(|l| is_inside(l)),
        _ => true,
    }
}

type Misfit = (u64, String);

async fn read_directory(file: &Rc<dyn File>, size: u64) -> Result<Result<Directory, Misfit>, rt::Error> {
    let end_at = size.saturating_sub(BLOCK_BYTES as u64);
    let page = match decode_end(&file.read_at(end_at, BLOCK_BYTES).await?) {
        Ok(page) => page,
        Err(what) => return Ok(Err((end_at, what.to_owned()))),
    };
    let at = u64::from(page) * BLOCK_BYTES as u64;
    let length = end_at.saturating_sub(at);
    let bytes = file.read_at(at, usize::try_from(length).unwrap_or(0)).await?;
    let misfit = |what: &str| (at, what.to_owned());
    Ok(match body_of(DIRECTORY, &bytes) {
        Ok(body) => Directory::decode(body).map_err(|e| misfit(&e.to_string())),
        Err(what) => Err(misfit(what)),
    })
}

/// The directory of a file whose own does not fit: all whole parts, found by walking the file.
async fn rebuilt(disk: &Rc<dyn Disk>, path: &Path, damage: &mut Vec<Damage>) -> Result<Directory, rt::Error> {
    let mut pieces = PieceReader::new(ReadAhead::open(disk, path).await?, BLOCK_BYTES as u64);
    let mut directory = Directory {
        stats: Stats { first_time: Timestamp::MAX, last_time: Timestamp::MIN, ..Stats::default() },
        ..Directory::default()
    };
    loop {
        match pieces.next().await? {
            Next::End => break,
            Next::Damaged(d) => damage.push(d),
            Next::Piece { kind: PART, at, body } => {
                let pages = (piece_bytes(body.len() as u64) / BLOCK_BYTES as u64) as u32;
                let piece = PieceRef { page: (at / BLOCK_BYTES as u64) as u32, pages };
                if let Ok(part) = Part::decode(body) {
                    list(&mut directory, &part, piece);
                }
            }
            Next::Piece { .. } => {}
        }
        rt::yield_if_needed().await;
    }
    directory.label_names.sort_unstable();
    directory.label_names.dedup();
    Ok(directory)
}

fn list(directory: &mut Directory, part: &Part, piece: PieceRef) {
    let mut entry = PartEntry { piece, series_count: part.series_count(), ..PartEntry::default() };
    for series in 0..part.series_count() {
        let mut metric = "";
        for (name, value) in part.labels(series) {
            if name == model::labels::METRIC_NAME {
                metric = value;
            }
            if !directory.label_names.iter().any(|n| n == name) {
                directory.label_names.push(name.to_owned());
            }
        }
        if series == 0 || metric < entry.first_name.as_str() {
            entry.first_name = metric.to_owned();
        }
        if metric > entry.last_name.as_str() {
            entry.last_name = metric.to_owned();
        }
        let stats = &mut directory.stats;
        stats.series_count += 1;
        for c in part.chunks(series) {
            stats.chunk_count += 1;
            *(if c.kind.is_float() { &mut stats.float_count } else { &mut stats.histogram_count }) +=
                u64::from(c.count);
            stats.first_time = stats.first_time.min(c.first_time);
            stats.last_time = stats.last_time.max(c.last_time);
        }
    }
    directory.parts.push(entry);
}
