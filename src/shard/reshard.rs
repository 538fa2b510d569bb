//! Another number of shards than last time: every series is dealt anew by its hash, and each new shard begins with
//! a checkpoint. Blocks are not written again: each new shard links every block of the old ones and reads of it what is
//! its own.
//!
//! The new shards are made beside the old ones and take their place by renames; a start that finds the work half done
//! finishes or undoes it. Runs before the shards start, on a plain thread, with the memory that they will have.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_lite::future::block_on;
use hashbrown::HashMap;
use model::{SeriesId, Timestamp};

use crate::rt::Error;
use crate::rt::disk::{Disk, Mode, PlainDisk, Tail};
use crate::shard::Shard;
use crate::shard::block::Store;
use crate::shard::block::layout::{BlockId, Header};
use crate::shard::block::reader::id_of_name;
use crate::shard::block::tombstones::{BlockTombstones, tombstones_name};
use crate::shard::block::writer::block_name;
use crate::shard::checkpoint;
use crate::shard::head::group::Group;
use crate::shard::keeper::{Place, Recovered, recover, shard_dir_name};
use crate::shard::pieces::BLOCK_BYTES;
use crate::shard::record::SourceId;
use crate::shard::wal::pending::Owner;
use crate::shard::wal::reader::Start;

/// Finishes or undoes what an interrupted resharding left. Call before the directory's shards are looked at.
pub fn settle(data_dir: &Path) -> Result<(), Error> {
    let disk = PlainDisk;
    let (shards, new, old) =
        (data_dir.join("shards"), data_dir.join("shards.new"), data_dir.join("shards.old"));
    block_on(async {
        if old.exists() && !shards.exists() {
            disk.rename(&new, &shards).await?;
            disk.sync_dir(data_dir).await?;
        }
        for leftover in [&new, &old] {
            if leftover.exists() {
                disk.remove(leftover).await?;
            }
        }
        Ok(())
    })
}

/// Makes the shards of `new_count` from those of `old_count`. Sources of the old shards are numbered from `life` on.
pub fn reshard(
    data_dir: &Path,
    directory_id: u64,
    old_count: u16,
    new_count: u16,
    life: u64,
) -> Result<(), Error> {
    let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
    let new_dir = data_dir.join("shards.new");
    block_on(async {
        let mut dealer = Dealer::new(new_count, life);
        let mut tails = Vec::new();
        for shard in 0..old_count {
            let place = Place::new(data_dir, Owner { directory_id, shard, shard_count: old_count });
            dealer.deal(&load(&disk, &place).await?);
            dealer.note_blocks(&disk, &place).await?;
            tails.push(place.tail_path());
        }
        dealer.write(&disk, &new_dir, directory_id).await?;
        publish(&disk, data_dir, &new_dir).await?;
        for tail in tails.iter().filter(|t| t.exists()) {
            disk.remove(tail).await?;
        }
        Ok(())
    })
}

/// What was read of blocks, kept while a tool runs: some parts of some blocks.
const READ_CACHE_BYTES: usize = 64 << 20;

/// A shard as its files and its tail hold it, and its blocks. Writes nothing: for tools, while no server runs.
pub fn read(place: &Place) -> Result<(Shard, Option<Rc<Store>>), Error> {
    let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
    block_on(async {
        let shard = load(&disk, place).await?;
        let store = match place.blocks_dir().exists() {
            true => {
                Some(Store::open(disk.clone(), &place.blocks_dir(), place.owner, READ_CACHE_BYTES).await?)
            }
            false => None,
        };
        Ok((shard, store.map(Rc::new)))
    })
}

/// One old shard as its files and its tail hold it.
async fn load(disk: &Rc<dyn Disk>, place: &Place) -> Result<Shard, Error> {
    if !place.wal_dir().exists() {
        return Ok(Shard::default());
    }
    let tail_path = place.tail_path();
    let tail = match std::fs::metadata(&tail_path) {
        Ok(meta) => Tail::open(&tail_path, meta.len() as usize)?.to_vec(),
        Err(_) => Vec::new(),
    };
    let mut recovered = Recovered::default();
    let store = match place.blocks_dir().exists() {
        true => Some(Store::open(disk.clone(), &place.blocks_dir(), place.owner, 0).await?),
        false => None,
    };
    let blocks_end = store.and_then(|s| s.own_end());
    let recovery = recover(disk, place, &tail, blocks_end, 0, &mut recovered).await?;
    for damage in &recovered.damage {
        tracing::error!(%damage, "the shard is damaged: what is not whole was left out");
    }
    Ok(recovery.shard)
}

async fn publish(disk: &Rc<dyn Disk>, data_dir: &Path, new_dir: &Path) -> Result<(), Error> {
    let (shards, old) = (data_dir.join("shards"), data_dir.join("shards.old"));
    disk.sync_dir(new_dir).await?;
    disk.rename(&shards, &old).await?;
    disk.rename(new_dir, &shards).await?;
    disk.sync_dir(data_dir).await?;
    disk.remove(&old).await
}

/// A file of the old shards'.
struct OldBlock {
    path: PathBuf,
    /// What each of those that share it has deleted of its own series.
    tombstones: BlockTombstones,
    /// Tombstones that do not fit: they go along, to be told of again.
    damaged: Option<PathBuf>,
}

/// Deals groups and side buffers of old shards among new ones.
struct Dealer {
    shards: Vec<Shard>,
    life: u64,
    source_count: u64,
    /// Files of blocks, each once: shards of an earlier dealing may share one.
    blocks: Vec<OldBlock>,
    known: HashMap<(u16, u16, u64), usize>,
    /// Where the blocks of the old shards end, as far as all of them have some.
    blocks_end: Option<Timestamp>,
}

impl Dealer {
    fn new(new_count: u16, life: u64) -> Self {
        let mut shards: Vec<Shard> = (0..new_count).map(|_| Shard::default()).collect();
        shards.iter_mut().for_each(|s| s.exemplars.set_window(i64::MAX));
        let (blocks, known) = (Vec::new(), HashMap::new());
        Dealer { shards, life, source_count: 0, blocks, known, blocks_end: Some(Timestamp::MAX) }
    }

    /// Notes the blocks of an old shard.
    async fn note_blocks(&mut self, disk: &Rc<dyn Disk>, place: &Place) -> Result<(), Error> {
        let dir = place.blocks_dir();
        if !dir.exists() {
            return Ok(());
        }
        let entries = disk.list(&dir).await?;
        for entry in &entries {
            let Some(id) = id_of_name(&entry.name) else { continue };
            let path = dir.join(&entry.name);
            let file = disk.open(&path, Mode::Read).await?;
            let header = Header::decode(&file.read_at(0, BLOCK_BYTES).await?);
            // A file whose header is damaged may still have whole parts.
            let next = self.blocks.len();
            let at = header.map_or(next, |h| {
                *self.known.entry((h.owner.shard, h.owner.shard_count, h.id.0)).or_insert(next)
            });
            if at == next {
                self.blocks.push(OldBlock { path, tombstones: BlockTombstones::default(), damaged: None });
            }
            let name = tombstones_name(id);
            if entries.iter().any(|e| e.name == name) {
                self.blocks[at].note_tombstones(disk, dir.join(name)).await?;
            }
        }
        Ok(())
    }

    fn deal(&mut self, old: &Shard) {
        let end = old.head.blocks_end();
        self.blocks_end = self.blocks_end.zip(end).map(|(a, b)| a.min(b));
        for group in &old.head().groups {
            self.deal_group(old, group);
        }
        for (id, side) in &old.head().side {
            let (shard, id) = self.series(old, *id);
            if let Some(id) = id {
                self.shards[shard].head.restore_side(id, side.clone());
            }
        }
        for id in old.head.deleted_series() {
            if let ((shard, Some(new)), Some(spans)) = (self.series(old, id), old.head.deleted_of(id)) {
                self.shards[shard].head.restore_deleted(new, spans.clone());
            }
        }
        for (id, exemplar) in old.exemplars.numbers().filter_map(|n| old.exemplars.at(n)) {
            if old.index.holds(*id)
                && let (shard, Some(id)) = self.series(old, *id)
            {
                self.shards[shard].exemplars.append(id, exemplar.clone());
            }
        }
    }

    /// The new shard of a series, and its id there; none where the index has no room.
    fn series(&mut self, old: &Shard, id: SeriesId) -> (usize, Option<SeriesId>) {
        let hash = old.index().series_hash(id);
        let shard = usize::from(hash.shard(self.shards.len() as u16).0);
        let found = self.shards[shard].index.find_or_insert(&old.labels(id));
        if let Err(e) = &found {
            tracing::error!(err = %e, "a series has no room");
        }
        (shard, found.ok().map(|(id, _)| id))
    }

    fn deal_group(&mut self, old: &Shard, group: &Group) {
        let mut slots: Vec<Vec<(u32, SeriesId)>> = vec![Vec::new(); self.shards.len()];
        for (slot, series) in group.series.iter().enumerate() {
            if let Some((shard, Some(id))) = series.map(|id| self.series(old, id)) {
                slots[shard].push((slot as u32, id));
            }
        }
        self.source_count += 1;
        let source = SourceId(self.life + self.source_count);
        for (shard, slots) in self.shards.iter_mut().zip(&slots) {
            if !slots.is_empty() {
                shard.head.restore_group((source, 0), group.of_slots(slots));
            }
        }
    }

    async fn write(self, disk: &Rc<dyn Disk>, new_dir: &Path, directory_id: u64) -> Result<(), Error> {
        let shard_count = self.shards.len() as u16;
        let blocks_end = self.blocks_end.filter(|end| *end < Timestamp::MAX);
        for (i, mut shard) in self.shards.into_iter().enumerate() {
            if let Some(end) = blocks_end {
                shard.head.end_cut(end);
            }
            let owner = Owner { directory_id, shard: i as u16, shard_count };
            let dir = new_dir.join(shard_dir_name(owner.shard, shard_count));
            disk.create_dir(&dir.join("wal")).await?;
            let start = Start { first_segment: 1, next_sequence: 1 };
            checkpoint::write(disk, &dir.join("wal"), owner, start, &RefCell::new(shard)).await?;
            let blocks_dir = dir.join("blocks");
            disk.create_dir(&blocks_dir).await?;
            for (id, block) in (1..).zip(&self.blocks) {
                block.link(disk, &blocks_dir, BlockId(id)).await?;
            }
            disk.sync_dir(&blocks_dir).await?;
            disk.sync_dir(&dir).await?;
        }
        Ok(())
    }
}

impl OldBlock {
    async fn note_tombstones(&mut self, disk: &Rc<dyn Disk>, path: PathBuf) -> Result<(), Error> {
        match BlockTombstones::decode(&disk.read(&path).await?) {
            Ok(more) => self.tombstones.merge(&more),
            Err(_) => self.damaged = Some(path),
        }
        Ok(())
    }

    /// Makes it the block `id` of a new shard.
    async fn link(&self, disk: &Rc<dyn Disk>, dir: &Path, id: BlockId) -> Result<(), Error> {
        disk.link(&self.path, &dir.join(block_name(id))).await?;
        let tombstones = dir.join(tombstones_name(id));
        match &self.damaged {
            Some(path) => disk.link(path, &tombstones).await,
            None if self.tombstones.is_empty() => Ok(()),
            None => disk.publish(&tombstones, self.tombstones.encode()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::appender::{Appender, Source};
    use crate::shard::select::Batch;
    use model::{Labels, Matcher};
    use std::collections::BTreeMap;

    fn samples(shards: &[Shard]) -> BTreeMap<String, Vec<(Timestamp, u64)>> {
        let mut out = BTreeMap::new();
        for shard in shards {
            let mut selection = shard.select(&[Matcher::equal("__name__", "m")], 0, i64::MAX);
            let mut batch = Batch::default();
            while shard.next_batch(&mut selection, &mut batch) {
                for s in &batch.series {
                    let pairs = batch.times_of(s).iter().zip(batch.values_of(s));
                    let pairs: Vec<_> = pairs.map(|(t, v)| (*t, v.to_bits())).collect();
                    assert_eq!(out.insert(shard.labels(s.id).to_string(), pairs), None, "one shard a series");
                }
            }
        }
        out
    }

    #[test]
    fn dealt_series_keep_their_samples() {
        let mut shards: Vec<Shard> = (0..2).map(|_| Shard::default()).collect();
        let mut appender = Appender::new(2);
        let mut source = Source::new(SourceId(7), 2);
        let mut slots = Vec::new();
        for t in 1..150 {
            let labels = Labels::from_pairs([("__name__", "m"), ("i", &t.to_string())]);
            slots.push(appender.define(&mut source, &labels));
            appender.begin(&mut source, slots[slots.len() - 1], 1.0);
            for slot in slots.iter().skip(t as usize % 5).step_by(7) {
                appender.set(*slot, t as f64);
            }
            appender.append_at(slots[t as usize / 2], t * 10 + 1, 0, 3.0);
            appender.commit(&mut source, t * 10, |to, batch| {
                shards[usize::from(to.0)].apply(batch).expect("a good batch");
            });
        }
        let before = samples(&shards);
        assert_eq!(before.len(), 149);
        for counts in [[3, 1], [5, 2]] {
            let mut dealt = Vec::new();
            for count in counts {
                let mut dealer = Dealer::new(count, 1000);
                let from = if dealt.is_empty() { &shards } else { &dealt };
                from.iter().for_each(|old| dealer.deal(old));
                dealt = dealer.shards;
                assert_eq!(samples(&dealt), before, "{count} shards");
            }
        }
    }
}
