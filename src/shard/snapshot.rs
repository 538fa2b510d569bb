//! A shard's part of a snapshot: its blocks by links, its head by a checkpoint, in a directory that a start can open.

use std::path::Path;

use crate::rt;
use crate::shard::checkpoint;
use crate::shard::keeper::{Keeper, shard_dir_name};
use crate::shard::wal::reader::Start;

/// There is no log behind the head's image.
const NO_LOG: Start = Start { first_segment: 1, next_sequence: 1 };

impl Keeper {
    /// Writes what this shard holds now into its place in another data directory, durably. What was appended before the
    /// call is in it, of what comes meanwhile some may be.
    pub async fn snapshot(&self, data_dir: &Path, with_head: bool) -> Result<(), rt::Error> {
        // A cut in between would leave a gap between the blocks and the head, or have samples in both.
        let _turn = self.turn.take().await;
        let owner = self.place.owner;
        let dir = data_dir.join("shards").join(shard_dir_name(owner.shard, owner.shard_count));
        let (wal_dir, blocks_dir) = (dir.join("wal"), dir.join("blocks"));
        self.disk.create_dir(&wal_dir).await?;
        self.disk.create_dir(&blocks_dir).await?;
        for block in self.store.all() {
            let tombstones = block.has_tombstones().then(|| block.tombstones_path());
            for path in [block.path.clone()].iter().chain(&tombstones) {
                if let Some(name) = path.file_name() {
                    self.disk.link(path, &blocks_dir.join(name)).await?;
                }
            }
            rt::yield_if_needed().await;
        }
        if with_head {
            checkpoint::write(&self.disk, &wal_dir, owner, NO_LOG, &self.shard).await?;
        }
        for dir in [&blocks_dir, &wal_dir, &dir] {
            self.disk.sync_dir(dir).await?;
        }
        Ok(())
    }
}
