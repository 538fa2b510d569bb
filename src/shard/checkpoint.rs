//! Checkpoints: an image of a shard's head, so that the log before it can go and a start need not replay it.
#![doc = include_str!("../../docs/format/checkpoint.md")]

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use codec::crc32c::checksum;
use codec::varint::{self, Reader};
use model::{SeriesId, Timestamp};

use crate::rt;
use crate::rt::disk::{Disk, Entry, Mode, UNPUBLISHED, unpublished};
use crate::shard::Shard;
use crate::shard::head::image;
use crate::shard::head::side::SideBuffer;
use crate::shard::pieces::{BLOCK_BYTES, Next, PieceReader, PieceWriter};
use crate::shard::read_ahead::{Damage, ReadAhead};
use crate::shard::table::{TableReader, TableWriter};
use crate::shard::tombstones::Spans;
use crate::shard::wal::log::Leftovers;
use crate::shard::wal::pending::Owner;
use crate::shard::wal::reader::{Start, segment_numbers};
use crate::shard::wal::segment::{SPARE, segment_name};

const MAGIC: &[u8; 8] = b"SYSTCKP1";
/// 2: a patch of a chunk is one byte (docs/format/chunk.md). 3: windows have their presence.
const VERSION: u32 = 3;
/// A window of version 2 is one that does not know its presence.
const OLDEST_VERSION: u32 = 2;
const HEADER_BYTES: usize = 56;
const NAME: &str = "checkpoint.";

const TABLE: u32 = 1;
const GROUPS: u32 = 2;
const SIDES: u32 = 3;
const END: u32 = 4;
const SPARES: u32 = 5;
const DELETED: u32 = 6;
const EXEMPLARS: u32 = 7;

/// Copied under one borrow of the shard, about: 50 us at the speed of memory. One group may be larger: 4 096 slots
/// with three hours of windows are some MB, which is a millisecond.
const SLICE_BYTES: usize = 256 << 10;

/// New series a slice may have to name: their labels are ten hash look-ups each.
const SLICE_SERIES: u32 = 4096;

/// `checkpoint.00000007`: the log is read from segment 7 on after it.
pub fn checkpoint_name(first_segment: u64) -> String {
    format!("{NAME}{}", segment_name(first_segment))
}

/// What a file's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    owner: Owner,
    start: Start,
    /// Rows before this time lie in blocks; `Timestamp::MIN` where there is none.
    blocks_end: Timestamp,
}

impl Header {
    fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        b[..8].copy_from_slice(MAGIC);
        b[8..12].copy_from_slice(&VERSION.to_le_bytes());
        b[12..14].copy_from_slice(&self.owner.shard.to_le_bytes());
        b[14..16].copy_from_slice(&self.owner.shard_count.to_le_bytes());
        b[16..24].copy_from_slice(&self.owner.directory_id.to_le_bytes());
        b[24..32].copy_from_slice(&self.start.first_segment.to_le_bytes());
        b[32..40].copy_from_slice(&self.start.next_sequence.to_le_bytes());
        b[40..48].copy_from_slice(&self.blocks_end.to_le_bytes());
        let crc = checksum(&b[..HEADER_BYTES - 8]);
        b[48..52].copy_from_slice(&crc.to_le_bytes());
        b
    }

    fn decode(b: &[u8]) -> Result<Self, &'static str> {
        let b = b.get(..HEADER_BYTES).ok_or("the checkpoint is shorter than its header")?;
        let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &b[..8] != MAGIC {
            return Err("this is not a checkpoint");
        }
        if checksum(&b[..HEADER_BYTES - 8]) != u32_at(48) {
            return Err("the checkpoint header's checksum does not fit");
        }
        if !(OLDEST_VERSION..=VERSION).contains(&u32_at(8)) {
            return Err("the checkpoint has a version that this program does not know");
        }
        let owner = Owner {
            shard: u16::from_le_bytes([b[12], b[13]]),
            shard_count: u16::from_le_bytes([b[14], b[15]]),
            directory_id: u64_at(16),
        };
        let start = Start { first_segment: u64_at(24).max(1), next_sequence: u64_at(32) };
        Ok(Header { owner, start, blocks_end: u64_at(40) as i64 })
    }
}

/// How far the copying of a head has come. Nothing is borrowed between two slices: what is appended meanwhile is in
/// the log behind the checkpoint, and what is in both is refused, when it is replayed, as out of order. So that this
/// refuses nothing else, a group is copied in one turn with the side buffers of its series: a sample in rows is judged
/// by those beside them, too.
struct Imager {
    slice_bytes: usize,
    table: TableWriter,
    group: usize,
    /// Side buffers of series without a group, once all groups are copied.
    alone: Option<Vec<SeriesId>>,
    /// Series of whose rows something was deleted, once all else is copied.
    deleted: Option<Vec<SeriesId>>,
    groups_body: Vec<u8>,
    sides_body: Vec<u8>,
    spares_body: Vec<u8>,
    deleted_body: Vec<u8>,
    /// Numbers of exemplars left to copy: those that were there at the beginning.
    exemplars: Option<std::ops::Range<u64>>,
    exemplars_body: Vec<u8>,
    table_body: Vec<u8>,
}

impl Imager {
    fn new(slice_bytes: usize) -> Self {
        Imager {
            slice_bytes,
            table: TableWriter::default(),
            group: 0,
            alone: None,
            deleted: None,
            groups_body: Vec::new(),
            sides_body: Vec::new(),
            spares_body: Vec::new(),
            deleted_body: Vec::new(),
            exemplars: None,
            exemplars_body: Vec::new(),
            table_body: Vec::new(),
        }
    }

    /// Copies the next slice; false when everything was copied.
    fn next_slice(&mut self, shard: &Shard) -> bool {
        self.groups_body.clear();
        self.sides_body.clear();
        self.spares_body.clear();
        self.deleted_body.clear();
        self.exemplars_body.clear();
        let series_before = self.table.series_count();
        while !self.is_slice_full(series_before) && self.copy_exemplar(shard) {}
        while !self.is_slice_full(series_before) && self.copy_group(shard) {}
        // In the same turn where the last groups are places without one: a slice of nothing is the end.
        if self.group >= shard.head.groups.len() {
            let mut alone = self.alone.take().unwrap_or_else(|| shard.head.sides_alone());
            while !self.is_slice_full(series_before)
                && let Some(id) = alone.pop()
            {
                let side = shard.head.side.get(&id);
                self.copy_side(shard, id, side.map(|s| (s, true)));
            }
            if alone.is_empty() {
                self.copy_deleted(shard, series_before);
            }
            self.alone = Some(alone);
        }
        self.table.take(&mut self.table_body);
        self.pieces().next().is_some()
    }

    fn is_slice_full(&self, series_before: u32) -> bool {
        let bodies = [
            &self.groups_body,
            &self.sides_body,
            &self.spares_body,
            &self.deleted_body,
            &self.exemplars_body,
        ];
        bodies.iter().map(|b| b.len()).sum::<usize>() >= self.slice_bytes
            || self.table.series_count() - series_before >= SLICE_SERIES
    }

    fn copy_group(&mut self, shard: &Shard) -> bool {
        let Some(group) = shard.head.groups.get(self.group) else { return false };
        let id = self.group as u32;
        self.group += 1;
        if group.series.is_empty() {
            // A group that is gone.
            return true;
        }
        let number = |series| self.table.number(&shard.index, series);
        image::encode_group(shard.head.keys[id as usize], group, number, &mut self.groups_body);
        for series in group.series.iter().flatten() {
            self.copy_side(shard, *series, shard.head.side_in(id, *series));
        }
        true
    }

    /// The next exemplar. They come first, for the ring should be copied before newer ones push many of it out; those
    /// that go meanwhile, newer ones push out when the log is replayed, too. Those of series that the head gave up
    /// end with this life.
    fn copy_exemplar(&mut self, shard: &Shard) -> bool {
        let left = self.exemplars.get_or_insert_with(|| shard.exemplars.numbers());
        left.start = left.start.max(shard.exemplars.numbers().start);
        let Some(number) = left.next() else { return false };
        if let Some((id, exemplar)) = shard.exemplars.at(number)
            && shard.index.holds(*id)
        {
            let number = self.table.number(&shard.index, *id);
            image::encode_exemplar(number, exemplar, &mut self.exemplars_body);
        }
        true
    }

    /// A series with several places is copied with each: the copy of the newest place holds, another only where,
    /// since places can change while the head is copied, none was the newest in its turn.
    fn copy_side(&mut self, shard: &Shard, series: SeriesId, side: Option<(&SideBuffer, bool)>) {
        if let Some((side, is_newest)) = side {
            let number = self.table.number(&shard.index, series);
            let body = if is_newest { &mut self.sides_body } else { &mut self.spares_body };
            image::encode_side(number, side, body);
        }
    }

    fn copy_deleted(&mut self, shard: &Shard, series_before: u32) {
        let mut series = self.deleted.take().unwrap_or_else(|| shard.head.deleted_series());
        while !self.is_slice_full(series_before)
            && let Some(id) = series.pop()
        {
            if let Some(spans) = shard.head.deleted_of(id) {
                let number = self.table.number(&shard.index, id);
                varint::write(u64::from(number), &mut self.deleted_body);
                spans.encode(&mut self.deleted_body);
            }
        }
        self.deleted = Some(series);
    }

    /// The slice's pieces: kinds and bodies, those that hold something.
    fn pieces(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let all: [(u32, &[u8]); 6] = [
            (TABLE, &self.table_body),
            (GROUPS, &self.groups_body),
            (SIDES, &self.sides_body),
            (SPARES, &self.spares_body),
            (DELETED, &self.deleted_body),
            (EXEMPLARS, &self.exemplars_body),
        ];
        all.into_iter().filter(|(_, body)| !body.is_empty())
    }
}

/// Writes a checkpoint of `shard` into `dir` and puts it in place. Returns its size.
pub async fn write(
    disk: &Rc<dyn Disk>,
    dir: &Path,
    owner: Owner,
    start: Start,
    shard: &RefCell<Shard>,
) -> Result<u64, rt::Error> {
    let path = dir.join(checkpoint_name(start.first_segment));
    let beside = unpublished(&path);
    let mut out = PieceWriter::new(disk.open(&beside, Mode::Create).await?);
    let blocks_end = shard.borrow().head.blocks_end().unwrap_or(Timestamp::MIN);
    out.push_block(&Header { owner, start, blocks_end }.encode());
    let mut imager = Imager::new(SLICE_BYTES);
    let mut piece_count = 0u64;
    while imager.next_slice(&shard.borrow()) {
        for (kind, body) in imager.pieces() {
            out.push(kind, body);
            piece_count += 1;
        }
        out.flush().await?;
        rt::yield_if_needed().await;
    }
    out.push(END, &piece_count.to_le_bytes());
    let size = out.finish().await?;
    disk.rename(&beside, &path).await?;
    disk.sync_dir(dir).await?;
    Ok(size)
}

/// Numbers of the checkpoints in `dir`, ascending.
pub async fn checkpoint_numbers(disk: &Rc<dyn Disk>, dir: &Path) -> Result<Vec<u64>, rt::Error> {
    let entries = disk.list(dir).await?;
    let number = |name: &str| name.strip_prefix(NAME)?.parse().ok();
    let mut numbers: Vec<u64> =
        entries.iter().filter(|e| !e.is_dir).filter_map(|e| number(&e.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what `newest` and `previous` make superfluous: other checkpoints, and segments that neither needs.
/// Damaged segments are kept beside the log under another name; the longest of the others becomes the spare, where
/// there is none and `leftovers` allow it.
pub async fn tidy(
    disk: &Rc<dyn Disk>,
    dir: &Path,
    newest: u64,
    previous: Option<u64>,
    damaged: &[std::path::PathBuf],
    leftovers: &Leftovers,
) -> Result<(), rt::Error> {
    for number in checkpoint_numbers(disk, dir).await? {
        if number != newest && Some(number) != previous {
            disk.remove(&dir.join(checkpoint_name(number))).await?;
        }
    }
    // Without a checkpoint before, the log from its beginning is what stands in for a damaged one.
    let Some(previous) = previous else { return disk.sync_dir(dir).await };
    let entries = disk.list(dir).await?;
    let mut spare = None;
    if leftovers.are_settled() && !entries.iter().any(|e| e.name == SPARE) {
        let whole = |e: &&Entry| !damaged.contains(&dir.join(&e.name)) && is_segment_before(e, previous);
        spare = entries.iter().filter(whole).max_by_key(|e| e.size).map(|e| &e.name);
    }
    for entry in entries.iter().filter(|e| is_segment_before(e, previous)) {
        let path = dir.join(&entry.name);
        if damaged.contains(&path) {
            let mut aside = path.clone().into_os_string();
            aside.push(".damaged");
            disk.rename(&path, Path::new(&aside)).await?;
        } else if Some(&entry.name) == spare {
            disk.rename(&path, &dir.join(SPARE)).await?;
        } else {
            disk.remove(&path).await?;
        }
    }
    disk.sync_dir(dir).await?;
    if spare.is_some() {
        leftovers.note_spare();
    }
    Ok(())
}

fn is_segment_before(entry: &Entry, first: u64) -> bool {
    !entry.is_dir && entry.name.parse().is_ok_and(|number: u64| number < first)
}

/// Removes checkpoints that were never put in place.
pub async fn remove_unpublished(disk: &Rc<dyn Disk>, dir: &Path) -> Result<(), rt::Error> {
    for entry in disk.list(dir).await? {
        if entry.name.starts_with(NAME) && entry.name.ends_with(UNPUBLISHED) {
            disk.remove(&dir.join(&entry.name)).await?;
        }
    }
    Ok(())
}

/// What a series takes in a checkpoint at least: its hash in the table, its slot and base in a group.
const SERIES_BYTES_MIN: u64 = 20;

/// What a start begins with.
pub struct Restored {
    pub shard: Shard,
    pub start: Start,
    /// The checkpoint that was read, if one was, and its size.
    pub number: Option<u64>,
    pub bytes: u64,
}

impl Restored {
    fn nothing() -> Self {
        Restored { shard: Shard::default(), start: Start::BEGINNING, number: None, bytes: 0 }
    }
}

/// Reads the newest whole checkpoint in `dir`. Where it is damaged, the one before; where there is none, the log
/// alone, if it is there from its beginning; else the whole pieces of the newest. Damage is told in `damage`.
pub async fn restore(
    disk: &Rc<dyn Disk>,
    dir: &Path,
    owner: Owner,
    damage: &mut Vec<Damage>,
) -> Result<Restored, rt::Error> {
    let numbers = checkpoint_numbers(disk, dir).await?;
    for number in numbers.iter().rev() {
        let mut found = Vec::new();
        let read = read(disk, dir, owner, *number, Pieces::All, &mut found).await;
        damage.append(&mut found);
        if let Some(restored) = read {
            return Ok(restored);
        }
    }
    let Some(newest) = numbers.last() else { return Ok(Restored::nothing()) };
    let is_log_whole = segment_numbers(disk, dir).await?.first() == Some(&1);
    if is_log_whole && !numbers.contains(&1) {
        return Ok(Restored::nothing());
    }
    let restored = read(disk, dir, owner, *newest, Pieces::Whole, &mut Vec::new()).await;
    Ok(restored.unwrap_or_else(Restored::nothing))
}

/// Which pieces of a checkpoint a reading wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pieces {
    /// All or nothing.
    All,
    /// Those that are whole.
    Whole,
}

/// Reads one checkpoint; `None` where it cannot serve, and `damage` says why.
async fn read(
    disk: &Rc<dyn Disk>,
    dir: &Path,
    owner: Owner,
    number: u64,
    wanted: Pieces,
    damage: &mut Vec<Damage>,
) -> Option<Restored> {
    let path = dir.join(checkpoint_name(number));
    let result = try_read(disk, &path, owner, wanted, damage).await;
    match result {
        Ok(restored) => restored.map(|r| Restored { number: Some(number), ..r }),
        Err(e) => {
            damage.push(Damage { path, offset: 0, what: e.to_string() });
            None
        }
    }
}

async fn try_read(
    disk: &Rc<dyn Disk>,
    path: &Path,
    owner: Owner,
    wanted: Pieces,
    damage: &mut Vec<Damage>,
) -> Result<Option<Restored>, rt::Error> {
    let mut ahead = ReadAhead::open(disk, path).await?;
    let bytes = ahead.size;
    let header = match Header::decode(ahead.bytes(0, BLOCK_BYTES).await?) {
        Ok(h) if h.owner == owner => h,
        Ok(_) => {
            damage.push(ahead.damage(0, "the checkpoint belongs to another shard"));
            return Ok(None);
        }
        Err(what) => {
            damage.push(ahead.damage(0, what));
            return Ok(None);
        }
    };
    let mut pieces = PieceReader::new(ahead, BLOCK_BYTES as u64);
    let (mut shard, mut table) = (Shard::default(), TableReader::default());
    let (mut piece_count, mut is_ended, mut is_reserved) = (0u64, false, false);
    loop {
        let what = match pieces.next().await? {
            Next::End => break,
            Next::Damaged(d) => Err(d),
            Next::Piece { kind: END, body, .. } => {
                is_ended = body == piece_count.to_le_bytes();
                Ok(())
            }
            Next::Piece { kind, at, body } => {
                piece_count += 1;
                if kind == TABLE && !is_reserved && table.series_count() > 0 {
                    is_reserved = true;
                    shard.index.reserve(series_ahead(table.series_count(), at, bytes));
                }
                let fits = take(&mut shard, &mut table, kind, body);
                fits.map_err(|what| Damage { path: path.to_path_buf(), offset: at, what })
            }
        };
        if let Err(d) = what {
            damage.push(d);
            if wanted == Pieces::All {
                return Ok(None);
            }
        }
        rt::yield_if_needed().await;
    }
    if !is_ended && wanted == Pieces::All {
        damage.push(pieces.ahead.damage(bytes, "the checkpoint ends early"));
        return Ok(None);
    }
    if header.blocks_end > Timestamp::MIN {
        shard.head.end_cut(header.blocks_end);
        shard.head.settle_mint();
    }
    Ok(Some(Restored { shard, start: header.start, number: None, bytes }))
}

/// Series that the rest of a file is likely to have, by those of its first `at` bytes.
fn series_ahead(series: usize, at: u64, bytes: u64) -> usize {
    let likely = series as u128 * u128::from(bytes.saturating_sub(at)) / u128::from(at.max(1));
    likely.min(u128::from(bytes / SERIES_BYTES_MIN)) as usize
}

/// Takes one whole piece in.
fn take(shard: &mut Shard, table: &mut TableReader, kind: u32, body: &[u8]) -> Result<(), String> {
    let mut r = Reader::new(body);
    match kind {
        TABLE => table.read(body, &mut shard.index).map_err(|e| e.to_string())?,
        GROUPS => {
            while !r.rest().is_empty() {
                let group = image::decode_group(&mut r, |n| table.series(n)).map_err(|e| e.to_string())?;
                shard.head.restore_group(group.0, group.1);
            }
        }
        SIDES | SPARES => {
            while !r.rest().is_empty() {
                let (number, side) = image::decode_side(&mut r).map_err(|e| e.to_string())?;
                if let Some(id) = table.series(number)
                    && (kind == SIDES || !shard.head.side.contains_key(&id))
                {
                    shard.head.restore_side(id, side);
                }
            }
        }
        DELETED => {
            while !r.rest().is_empty() {
                let number = r.varint().map_err(|e| e.to_string())?;
                let spans = Spans::decode(&mut r).map_err(|e| e.to_string())?;
                if let Some(id) = u32::try_from(number).ok().and_then(|n| table.series(n)) {
                    shard.head.restore_deleted(id, spans);
                }
            }
        }
        EXEMPLARS => {
            // They lie in the order they came, late ones, too.
            shard.exemplars.set_window(i64::MAX);
            while !r.rest().is_empty() {
                let (number, exemplar) = image::decode_exemplar(&mut r).map_err(|e| e.to_string())?;
                if let Some(id) = table.series(number) {
                    shard.exemplars.append(id, exemplar);
                }
            }
        }
        _ => return Err(format!("a piece of unknown kind {kind}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::rng::Rng;
    use crate::shard::appender::{Appender, Slot, Source};
    use crate::shard::exemplars::Exemplar;
    use crate::shard::record::{self, SourceId};
    use crate::shard::select::Batch;
    use model::{Labels, Matcher};
    use std::collections::BTreeMap;

    /// Several sources that scrape, come and go, and send samples with their own times.
    struct World {
        rng: Rng,
        appender: Appender,
        sources: Vec<(Source, Vec<(Slot, bool)>)>,
        next_source: u64,
        time: Timestamp,
        pushed: u32,
    }

    const PUSHED: SourceId = SourceId(999);

    impl World {
        fn new(seed: u64) -> World {
            let (rng, appender) = (Rng::seeded(seed), Appender::new(1));
            World { rng, appender, sources: Vec::new(), next_source: 1, time: 0, pushed: 0 }
        }

        /// A piece of a pushed row, in order or late, of a source of its own; its series get samples beside, too.
        fn push(&mut self, mut deliver: impl FnMut(&[u8])) {
            let mut batch = Vec::new();
            record::begin(&mut batch, PUSHED);
            for _ in 0..self.rng.below(3) {
                let labels = Labels::from_pairs([("__name__", "m"), ("p", &self.pushed.to_string())]);
                record::push_define(&mut batch, self.pushed, &labels);
                self.pushed += 1;
            }
            let time = self.time * 10 - self.rng.below(4) as i64 * 10;
            let named: Vec<(u32, f64)> = (0..self.pushed.min(4000))
                .filter(|_| self.rng.chance(0.3))
                .map(|slot| (slot, slot as f64 / 2.0))
                .collect();
            if !named.is_empty() {
                record::push_row(&mut batch, 0, time, true, &named);
            }
            if self.pushed > 0 && self.rng.chance(0.3) {
                let slot = self.rng.below(u64::from(self.pushed)) as u32;
                record::push_float(&mut batch, slot, time + 3, 0, 1.0);
            }
            if self.pushed > 0 && self.rng.chance(0.1) {
                let slot = self.rng.below(u64::from(self.pushed.min(5))) as u32;
                let trace = Labels::from_pairs([("trace", self.rng.below(100).to_string())]);
                let value = self.rng.below(3) as f64;
                record::push_exemplar(&mut batch, slot, time + self.rng.below(9) as i64, value, &trace);
            }
            deliver(&batch);
        }

        /// One batch of one source.
        fn step(&mut self, mut deliver: impl FnMut(&[u8])) {
            self.time += 1;
            if self.rng.chance(0.4) {
                return self.push(deliver);
            }
            if self.sources.len() < 3 || self.rng.chance(0.05) {
                self.sources.push((Source::new(SourceId(self.next_source), 1), Vec::new()));
                self.next_source += 1;
            }
            let n = self.sources.len() as u64;
            let which = self.rng.below(n) as usize;
            let (source, slots) = &mut self.sources[which];
            if slots.is_empty() || self.rng.chance(0.2) {
                let i = self.rng.below(50).to_string();
                let labels = Labels::from_pairs([("__name__", "m"), ("i", &i), ("s", &which.to_string())]);
                slots.push((self.appender.define(source, &labels), false));
            }
            for (slot, is_present) in slots {
                let v = self.rng.below(9) as f64 / 4.0;
                match (*is_present, self.rng.below(8)) {
                    (false, 0..4) => {
                        self.appender.begin(source, *slot, v);
                        *is_present = true;
                    }
                    (true, 0) => {
                        self.appender.end(source, *slot);
                        *is_present = false;
                    }
                    (true, 1..4) => self.appender.set(*slot, v),
                    (_, 7) => self.appender.append_at(*slot, self.time * 10 + 5, 0, v),
                    _ => {}
                }
            }
            self.appender.commit(source, self.time * 10, |_, batch| deliver(batch));
        }
    }

    fn apply(shard: &mut Shard, batch: &[u8]) {
        shard.apply(batch).expect("a good batch");
    }

    fn samples(shard: &Shard) -> BTreeMap<String, Vec<(Timestamp, u64)>> {
        let mut selection = shard.select(&[Matcher::equal("__name__", "m")], 0, i64::MAX);
        let mut batch = Batch::default();
        let mut out = BTreeMap::new();
        while shard.next_batch(&mut selection, &mut batch) {
            for s in &batch.series {
                let pairs = batch.times_of(s).iter().zip(batch.values_of(s));
                let pairs: Vec<_> = pairs.map(|(t, v)| (*t, v.to_bits())).collect();
                out.insert(shard.labels(s.id).to_string(), pairs);
            }
        }
        out
    }

    fn exemplars(shard: &Shard) -> Vec<(String, Exemplar)> {
        let found = shard.select_exemplars(&[vec![Matcher::equal("__name__", "m")]], i64::MIN, i64::MAX);
        let mut found: Vec<_> = found.into_iter().map(|(l, x)| (l.to_string(), x)).collect();
        // Of one time and value any order.
        found.sort_by_key(|(l, x)| (l.clone(), x.time, x.labels.to_string(), x.value.to_bits()));
        found
    }

    #[test]
    fn a_header_of_the_version_before_is_read_and_no_older_one() {
        let owner = Owner { shard: 1, shard_count: 2, directory_id: 3 };
        let start = Start { first_segment: 4, next_sequence: 5 };
        let header = Header { owner, start, blocks_end: 6 };
        for (version, is_known) in [(1u32, false), (2, true), (3, true), (4, false)] {
            let mut bytes = header.encode();
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            let crc = checksum(&bytes[..HEADER_BYTES - 8]);
            bytes[48..52].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Header::decode(&bytes).ok(), is_known.then_some(header), "version {version}");
        }
    }

    #[test]
    fn an_image_taken_while_samples_come_and_the_log_behind_it_are_the_head() {
        for seed in 0..60 {
            let mut world = World::new(seed);
            let mut shard = Shard::default();
            // Now and then more come than are kept, or late ones.
            let (held, window_ms) = (if seed % 2 == 0 { 10_000 } else { 15 }, i64::from(seed % 3 == 1) * 15);
            shard.exemplars.set_max(held);
            shard.exemplars.set_window(window_ms);
            for _ in 0..seed * 20 {
                world.step(|b| apply(&mut shard, b));
            }
            // Every other image is taken group by group, with several batches between two of them.
            let mut imager = Imager::new(if seed % 2 == 0 { 1 } else { SLICE_BYTES });
            let (mut log, mut pieces) = (Vec::new(), Vec::new());
            while imager.next_slice(&shard) {
                pieces.extend(imager.pieces().map(|(kind, body)| (kind, body.to_vec())));
                for _ in 0..world.rng.below(20) {
                    world.step(|b| log.push(b.to_vec()));
                    log.last().into_iter().for_each(|b| apply(&mut shard, b));
                }
            }
            let (mut again, mut table) = (Shard::default(), TableReader::default());
            again.exemplars.set_max(held);
            for (kind, body) in &pieces {
                take(&mut again, &mut table, *kind, body).expect("a whole piece");
            }
            again.exemplars.set_window(window_ms);
            for batch in &log {
                again.apply(batch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            }
            assert_eq!(samples(&again), samples(&shard), "seed {seed}");
            assert_eq!(exemplars(&again), exemplars(&shard), "seed {seed}");
            for _ in 0..300 {
                world.step(|b| {
                    assert_eq!(again.apply(b).ok(), shard.apply(b).ok(), "seed {seed}");
                });
            }
            assert_eq!(samples(&again), samples(&shard), "seed {seed}, later");
        }
    }

    #[test]
    fn hostile_pieces_are_refused_without_a_panic() {
        let mut world = World::new(1);
        let mut shard = Shard::default();
        (0..900).for_each(|_| world.step(|b| apply(&mut shard, b)));
        let mut imager = Imager::new(1);
        let (mut table, mut index_shard) = (TableReader::default(), Shard::default());
        let mut rng = Rng::seeded(5);
        while imager.next_slice(&shard) {
            if !imager.table_body.is_empty() {
                table.read(&imager.table_body, &mut index_shard.index).expect("a whole table");
            }
            let bodies = [
                (GROUPS, &imager.groups_body),
                (SIDES, &imager.sides_body),
                (EXEMPLARS, &imager.exemplars_body),
            ];
            for (kind, body) in bodies.iter().flat_map(|b| std::iter::repeat_n(*b, 200)) {
                let mut bad = body.clone();
                if bad.is_empty() {
                    continue;
                }
                let at = rng.below(bad.len() as u64) as usize;
                bad[at] ^= 1 << rng.below(8);
                if rng.chance(0.1) {
                    bad.truncate(at);
                }
                let mut target = Shard::default();
                // Without a checksum some changes are values like any other; none may panic.
                let _ = take(&mut target, &mut table, kind, &bad);
                for group in &target.head.groups {
                    let mut columns = crate::shard::head::group::Columns::default();
                    let slots: Vec<u32> = (0..group.slot_count() as u32).collect();
                    group.read(&slots, Timestamp::MIN, Timestamp::MAX, &mut columns);
                }
            }
        }
    }
}
