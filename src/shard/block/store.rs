//! The blocks that a shard has, and the reading of their pieces.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

use hashbrown::{HashMap, HashSet};
use model::Timestamp;

use crate::rt;
use crate::rt::disk::{self, Disk, Io, UNPUBLISHED};
use crate::shard::block::cache::{Cache, Kept, Key};
use crate::shard::block::layout::{BlockId, DATA, PART, PieceRef};
use crate::shard::block::part::Part;
use crate::shard::block::reader::{Block, body_of, id_of_name};
use crate::shard::block::set::Published;
use crate::shard::block::tombstones::{BlockTombstones, id_of_tombstones};
use crate::shard::read_ahead::Damage;
use crate::shard::wal::pending::Owner;

/// Reads under way at once for one question: enough to keep a flash disk busy, few enough to leave it to others.
const DEPTH: usize = 16;

/// Pieces nearer than this are read with what lies between: eight pages cost less than another request.
const GAP_PAGES: u32 = 8;

/// One request at most: 1 MiB.
const REQUEST_PAGES: u32 = 256;

/// The decoders of `codec` may read this far behind a chunk.
const SLACK_BYTES: usize = 64;

/// Damages that are told in detail; all are counted.
const DAMAGE_MAX: usize = 100;

/// Why nothing could be deleted of a block.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Refuse: what is there must not be written over.
    #[error("{} is damaged: mend it, or move it away", .0.display())]
    Damaged(PathBuf),
    /// Report: the disk fails.
    #[error(transparent)]
    Disk(#[from] rt::Error),
}

pub struct Store {
    disk: Rc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    pub cache: Cache,
    /// Ascending by the beginning of their range, then by their ids.
    blocks: RefCell<Vec<Rc<Block>>>,
    damage: RefCell<Vec<Damage>>,
    /// Pieces that were found damaged, by block and page: said once, and not read again.
    aside: RefCell<HashSet<Key>>,
    pub damage_count: Cell<u64>,
    next_id: Cell<u64>,
    opened: Cell<u64>,
}

impl Store {
    /// Opens all blocks in `dir`, which exists. What cannot be read is told and left where it is.
    pub async fn open(
        disk: Rc<dyn Disk>,
        dir: &Path,
        owner: Owner,
        cache_bytes: usize,
    ) -> Result<Store, rt::Error> {
        let store = Store {
            disk,
            dir: dir.to_path_buf(),
            owner,
            cache: Cache::new(cache_bytes),
            blocks: RefCell::default(),
            damage: RefCell::default(),
            aside: RefCell::default(),
            damage_count: Cell::new(0),
            next_id: Cell::new(1),
            opened: Cell::new(0),
        };
        let entries = store.disk.list(dir).await?;
        let blocks: HashSet<BlockId> = entries.iter().filter_map(|e| id_of_name(&e.name)).collect();
        let tombstones: HashSet<BlockId> = entries.iter().filter_map(|e| id_of_tombstones(&e.name)).collect();
        for entry in entries {
            // Before a number is given out again: tombstones of another block would be a new one's.
            let is_orphan = id_of_tombstones(&entry.name).is_some_and(|id| !blocks.contains(&id));
            if entry.name.ends_with(UNPUBLISHED) || is_orphan {
                store.disk.remove(&dir.join(&entry.name)).await?;
                continue;
            }
            let Some(id) = id_of_name(&entry.name) else { continue };
            store.next_id.set(store.next_id.get().max(id.0 + 1));
            match store.load(&dir.join(&entry.name), id).await {
                Ok(Some(block)) => {
                    if tombstones.contains(&id) {
                        store.load_tombstones(&block).await;
                    }
                    store.add(block);
                }
                Ok(None) => {}
                Err(e) => {
                    store.note_damage(Damage { path: dir.join(&entry.name), offset: 0, what: e.to_string() })
                }
            }
        }
        Ok(store)
    }

    /// Opens one block, which is not among the shard's before it is added.
    pub async fn load(&self, path: &Path, id: BlockId) -> Result<Option<Rc<Block>>, rt::Error> {
        self.opened.set(self.opened.get() + 1);
        let mut damage = Vec::new();
        let block = Block::open(&self.disk, path, id, self.opened.get(), self.owner, &mut damage).await;
        damage.into_iter().for_each(|d| self.note_damage(d));
        Ok(block?.map(Rc::new))
    }

    /// Opens blocks that were just put in place.
    pub async fn load_all(&self, published: &[Published]) -> Result<Vec<Rc<Block>>, rt::Error> {
        let mut out = Vec::with_capacity(published.len());
        for p in published {
            out.extend(self.load(&p.path, p.id).await?);
        }
        Ok(out)
    }

    async fn load_tombstones(&self, block: &Block) {
        let path = block.tombstones_path();
        let bytes = self.disk.read(&path).await.map_err(|e| e.to_string());
        let read = bytes.and_then(|b| BlockTombstones::decode(&b));
        *block.tombstones.borrow_mut() = read.map_err(|what| {
            let what = format!("{what}: what was deleted of this block is shown again");
            self.note_damage(Damage { path, offset: 0, what });
        });
    }

    /// Deletes more of a block, durably.
    pub async fn add_tombstones(&self, block: &Block, more: &BlockTombstones) -> Result<(), AddError> {
        let path = block.tombstones_path();
        let Ok(mut all) = block.tombstones.borrow().clone() else { return Err(AddError::Damaged(path)) };
        all.merge(more);
        self.disk.publish(&path, all.encode()).await?;
        *block.tombstones.borrow_mut() = Ok(all);
        Ok(())
    }

    pub fn add(&self, block: Rc<Block>) {
        let mut blocks = self.blocks.borrow_mut();
        blocks.push(block);
        blocks.sort_by_key(|b| (b.header.mint, b.id));
    }

    /// Takes blocks out of the shard's sight, then their files away. Who still reads them may go on.
    pub async fn remove(&self, ids: &[BlockId]) -> Result<(), rt::Error> {
        let gone: Vec<Rc<Block>> = self.blocks.borrow_mut().extract_if(.., |b| ids.contains(&b.id)).collect();
        for block in &gone {
            self.disk.remove(&block.path).await?;
            self.cache.forget(block.number);
        }
        self.disk.sync_dir(&self.dir).await?;
        // Not before their blocks are gone for good: what was deleted must not come back with them.
        for block in gone.iter().filter(|b| b.has_tombstones()) {
            self.disk.remove(&block.tombstones_path()).await?;
        }
        Ok(())
    }

    /// Puts blocks in the place of those that they were made of, for all who ask from here on; then removes their files.
    pub async fn replace(&self, old: &[BlockId], new: Vec<Rc<Block>>) -> Result<(), rt::Error> {
        new.into_iter().for_each(|b| self.add(b));
        self.remove(old).await
    }

    /// Whether anything of a block was found damaged.
    pub fn is_damaged(&self, block: &Block) -> bool {
        block.tombstones.borrow().is_err()
            || self.aside.borrow().iter().any(|(number, _)| *number == block.number)
            || self.damage.borrow().iter().any(|d| d.path == block.path)
    }

    pub fn owner(&self) -> Owner {
        self.owner
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn next_id(&self) -> BlockId {
        BlockId(self.next_id.replace(self.next_id.get() + 1))
    }

    pub fn all(&self) -> Vec<Rc<Block>> {
        self.blocks.borrow().clone()
    }

    /// Blocks with samples between two times (inclusive).
    pub fn overlapping(&self, mint: Timestamp, maxt: Timestamp) -> Vec<Rc<Block>> {
        self.overlapping_to(mint, maxt, 0)
    }

    /// The same, with blocks of aggregates that are not coarser than `resolution_ms`.
    pub fn overlapping_to(&self, mint: Timestamp, maxt: Timestamp, resolution_ms: i64) -> Vec<Rc<Block>> {
        let is_wanted = |b: &&Rc<Block>| b.header.resolution_ms() <= resolution_ms && b.overlaps(mint, maxt);
        self.blocks.borrow().iter().filter(is_wanted).cloned().collect()
    }

    /// Blocks that have to be looked at for which series there were between two times: of aggregates those which reach
    /// back before the samples of their class do.
    pub fn overlapping_by_name(&self, mint: Timestamp, maxt: Timestamp) -> Vec<Rc<Block>> {
        let blocks = self.blocks.borrow();
        let begins = |of: &Block| {
            let is_alike = |b: &&Rc<Block>| b.is_raw() && b.header.selector() == of.header.selector();
            blocks.iter().find(is_alike).map_or(Timestamp::MAX, |b| b.header.mint)
        };
        let is_wanted = |b: &&Rc<Block>| b.overlaps(mint, maxt) && (b.is_raw() || b.header.mint < begins(b));
        blocks.iter().filter(is_wanted).cloned().collect()
    }

    /// The coarsest resolution of a block that is not coarser than `resolution_ms`.
    pub fn coarsest_to(&self, resolution_ms: i64) -> i64 {
        let blocks = self.blocks.borrow();
        let all = blocks.iter().map(|b| b.header.resolution_ms());
        all.filter(|r| *r <= resolution_ms).max().unwrap_or(0)
    }

    /// Where the range of the newest block ends that this shard wrote itself, with all that were to come with it: they
    /// have all that came before.
    pub fn own_end(&self) -> Option<Timestamp> {
        self.blocks
            .borrow()
            .iter()
            .filter(|b| b.is_own() && b.is_raw() && !b.header.is_partial)
            .map(|b| b.header.maxt)
            .max()
    }

    pub fn damage(&self) -> Vec<Damage> {
        self.damage.borrow().clone()
    }

    pub fn note_damage(&self, damage: Damage) {
        tracing::error!(%damage, "a block is damaged: what is not whole is set aside");
        self.damage_count.set(self.damage_count.get() + 1);
        let mut told = self.damage.borrow_mut();
        if told.len() < DAMAGE_MAX {
            told.push(damage);
        }
    }

    /// Notes that a piece does not serve: said once, and it is not read again.
    pub fn set_aside(&self, block: &Block, piece: PieceRef, what: &str) {
        if self.aside.borrow_mut().insert((block.number, piece.page)) {
            self.note_damage(block.damage(piece, what));
        }
    }

    fn is_aside(&self, key: Key) -> bool {
        self.aside.borrow().contains(&key)
    }

    /// A part of a block's index; none where it is damaged.
    pub async fn part(&self, block: &Rc<Block>, number: usize) -> Option<Rc<Part>> {
        let piece = block.directory.parts.get(number)?.piece;
        let key = (block.number, piece.page);
        if let Some(Kept::Part(part)) = self.cache.find(key) {
            return Some(part);
        }
        if self.is_aside(key) {
            return None;
        }
        let bytes = match block.file.read_at(piece.offset(), piece.bytes() as usize).await {
            Ok(bytes) => bytes,
            Err(e) => {
                self.set_aside(block, piece, &e.to_string());
                return None;
            }
        };
        let decoded = body_of(PART, &bytes).map_err(str::to_owned);
        match decoded.and_then(|body| Part::decode(body).map_err(|e| e.to_string())) {
            Ok(part) => {
                let part = Rc::new(part);
                self.cache.keep(key, Kept::Part(part.clone()));
                Some(part)
            }
            Err(what) => {
                self.set_aside(block, piece, &what);
                None
            }
        }
    }

    /// Bodies of pieces of chunks, with slack behind each; those that are damaged are missing.
    pub async fn bodies(&self, mut wanted: Vec<(Rc<Block>, PieceRef)>) -> HashMap<Key, Rc<[u8]>> {
        wanted.sort_unstable_by_key(|(b, p)| (b.number, p.page));
        wanted.dedup_by_key(|(b, p)| (b.number, p.page));
        let mut found = HashMap::with_capacity(wanted.len());
        wanted.retain(|(b, p)| match self.cache.find((b.number, p.page)) {
            Some(Kept::Body(body)) => {
                found.insert((b.number, p.page), body);
                false
            }
            _ => !self.is_aside((b.number, p.page)),
        });
        let requests = requests_of(&wanted);
        let mut read = read_all(&wanted, &requests).await;
        for (request, result) in requests.iter().zip(read.drain(..)) {
            for (block, piece) in &wanted[request.from..request.to] {
                let body = match &result {
                    Ok(bytes) => {
                        let skip = (piece.offset() - request.offset) as usize;
                        body_of(DATA, bytes.get(skip..).unwrap_or(&[])).map_err(str::to_owned)
                    }
                    Err(e) => Err(e.to_string()),
                };
                match body {
                    Ok(body) => {
                        let mut slack = Vec::with_capacity(body.len() + SLACK_BYTES);
                        slack.extend_from_slice(body);
                        slack.resize(body.len() + SLACK_BYTES, 0);
                        let body: Rc<[u8]> = slack.into();
                        self.cache.keep((block.number, piece.page), Kept::Body(body.clone()));
                        found.insert((block.number, piece.page), body);
                    }
                    Err(what) => self.set_aside(block, *piece, &what),
                }
            }
        }
        found
    }
}

/// One read for the pieces `from..to` of a sorted list.
struct Request {
    from: usize,
    to: usize,
    offset: u64,
    bytes: u64,
}

fn requests_of(wanted: &[(Rc<Block>, PieceRef)]) -> Vec<Request> {
    let mut out: Vec<Request> = Vec::new();
    for (i, (block, piece)) in wanted.iter().enumerate() {
        if let Some(r) = out.last_mut()
            && wanted[r.from].0.number == block.number
        {
            let end = r.offset + r.bytes;
            let gap = piece.offset().saturating_sub(end);
            let whole = piece.offset() + piece.bytes() - r.offset;
            let page = disk_page();
            if piece.offset() >= end
                && gap <= u64::from(GAP_PAGES) * page
                && whole <= u64::from(REQUEST_PAGES) * page
            {
                r.to = i + 1;
                r.bytes = whole;
                continue;
            }
        }
        out.push(Request { from: i, to: i + 1, offset: piece.offset(), bytes: piece.bytes() });
    }
    out
}

const fn disk_page() -> u64 {
    crate::shard::pieces::BLOCK_BYTES as u64
}

/// Reads all requests, some at a time.
async fn read_all(
    wanted: &[(Rc<Block>, PieceRef)],
    requests: &[Request],
) -> Vec<Result<disk::Block, rt::Error>> {
    let mut results: Vec<Option<Result<disk::Block, rt::Error>>> = requests.iter().map(|_| None).collect();
    let mut running: Vec<(usize, Io<'_, disk::Block>)> = Vec::new();
    let mut next = 0;
    poll_fn(|cx| {
        loop {
            while running.len() < DEPTH && next < requests.len() {
                let r = &requests[next];
                running.push((next, wanted[r.from].0.file.read_at(r.offset, r.bytes as usize)));
                next += 1;
            }
            let before = running.len();
            running.retain_mut(|(i, read)| match read.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    results[*i] = Some(result);
                    false
                }
                Poll::Pending => true,
            });
            if running.is_empty() && next == requests.len() {
                return Poll::Ready(());
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    // Every request has its result by now.
    results.into_iter().flatten().collect()
}
