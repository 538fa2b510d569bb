//! Deletes: from the head by records of the log, from blocks by tombstones beside them; and the blocks written again
//! without what was deleted.

use std::path::PathBuf;
use std::rc::Rc;

use model::{Matcher, SeriesId, Timestamp};

use crate::rt;
use crate::shard::Shard;
use crate::shard::block::store::AddError;
use crate::shard::block::tombstones::BlockTombstones;
use crate::shard::block::{Block, Store};
use crate::shard::keeper::{Keeper, Refused};
use crate::shard::record::{self, SourceId};

/// A batch of deletes ends at this size: a tail has room for many.
const BATCH_BYTES: usize = 64 << 10;

/// Series looked at in one turn: a tenth of a microsecond each where nothing is deleted of them.
const TURN_SERIES: usize = 1024;

/// The source under which deletes are written; it has no rows.
const DELETES: SourceId = SourceId(0);

/// Why a delete, or the cleaning after it, is not done, or not all of it. It can be asked for again.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Retry later: the log takes nothing at the moment.
    #[error(transparent)]
    Log(#[from] Refused),
    /// Report: the disk fails.
    #[error(transparent)]
    Disk(#[from] rt::Error),
    /// Report: somebody has to look at the file first.
    #[error("{} is damaged: mend it, or move it away", .0.display())]
    Damaged(PathBuf),
}

impl From<AddError> for Failed {
    fn from(e: AddError) -> Failed {
        match e {
            AddError::Damaged(path) => Failed::Damaged(path),
            AddError::Disk(e) => Failed::Disk(e),
        }
    }
}

impl Keeper {
    /// Deletes what all series that `matchers` accept have now between two times (inclusive). When it returns the
    /// delete is durable, and no answer that begins from here on has the samples.
    pub async fn delete(&self, matchers: &[Matcher], mint: Timestamp, maxt: Timestamp) -> Result<(), Failed> {
        let _turn = self.turn.take().await;
        let blocks = self.store.overlapping_to(mint, maxt, i64::MAX);
        if !blocks.is_empty() {
            self.outlive_what_was_given_up().await?;
        }
        for block in blocks {
            // Of aggregates, all windows go that have anything of it.
            let span = block.header.widened(mint, maxt);
            let more = tombstones_of(&self.store, &block, matchers, span).await?;
            if !more.is_empty() {
                self.store.add_tombstones(&block, &more).await?;
            }
        }
        self.delete_from_head(matchers, mint, maxt).await
    }

    /// Has no start find what only blocks have now, whichever of the two checkpoints it reads: the log behind them may
    /// have it, and of series that the head does not know any more, so no record could delete it.
    async fn outlive_what_was_given_up(&self) -> Result<(), Failed> {
        // Twice at most: only who has the turn gives anything up.
        while self.gave_up.get() || self.gave_up_before.get() {
            // Without anything in the log between them, the next checkpoint would be put in the newest one's place.
            let mut nothing = Vec::new();
            record::begin(&mut nothing, DELETES);
            self.append(self.generation(), &nothing)?;
            self.durable().await?;
            self.checkpoint_now().await?;
        }
        Ok(())
    }

    async fn delete_from_head(
        &self,
        matchers: &[Matcher],
        mint: Timestamp,
        maxt: Timestamp,
    ) -> Result<(), Failed> {
        let ids = self.shard().index().matching(matchers);
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let (batch, named) = batch_of(&self.shard(), rest, mint, maxt);
            if !self.is_idle(batch.len()) {
                self.durable().await?;
                continue;
            }
            if !batch.is_empty() {
                self.append(self.generation(), &batch)?;
            }
            rest = &rest[named..];
            rt::yield_if_needed().await;
        }
        Ok(self.durable().await?)
    }

    /// Writes all blocks again of which something was deleted. A block of another number of shards whose time the head
    /// still has a part in waits for the next cut.
    pub async fn clean_tombstones(&self) -> Result<(), Failed> {
        let _turn = self.turn.take().await;
        let end = self.shard().head.blocks_end().unwrap_or(Timestamp::MIN);
        for block in self.store.all() {
            if block.deleted_counts().0 == 0 || !(block.is_own() || block.header.maxt <= end) {
                continue;
            }
            if !self.store.is_damaged(&block) {
                match block.is_raw() {
                    true => self.compact_imp(std::slice::from_ref(&block), 0).await?,
                    false => self.rewrite_aggregates(&block).await?,
                };
            }
            if self.store.is_damaged(&block) {
                return Err(Failed::Damaged(block.path.clone()));
            }
        }
        Ok(())
    }
}

/// What is to be deleted of a block: of each series that has samples in the time.
async fn tombstones_of(
    store: &Rc<Store>,
    block: &Rc<Block>,
    matchers: &[Matcher],
    (mint, maxt): (Timestamp, Timestamp),
) -> Result<BlockTombstones, Failed> {
    let mut out = BlockTombstones::default();
    for number in (0..block.directory.parts.len()).filter(|n| block.may_match(*n, matchers)) {
        let part = store.part(block, number).await.ok_or_else(|| Failed::Damaged(block.path.clone()))?;
        let mut series = part.matching(matchers);
        series.retain(|s| {
            block.has(part.series_hash(*s)) && part.chunks(*s).iter().any(|c| c.overlaps(mint, maxt))
        });
        out.add(number, &series, mint, maxt);
        rt::yield_if_needed().await;
    }
    Ok(out)
}

/// Records that delete from the head what the first of some series have, empty where they have nothing; and how many
/// series that were. Series may have gone since `ids` were found, but a number is never given to another one.
fn batch_of(shard: &Shard, ids: &[u32], mint: Timestamp, maxt: Timestamp) -> (Vec<u8>, usize) {
    let mut batch = Vec::new();
    for (i, id) in ids.iter().map(|id| SeriesId(*id)).enumerate() {
        if batch.len() >= BATCH_BYTES || i == TURN_SERIES {
            return (batch, i);
        }
        // What comes after is not meant, so it ends with what is there.
        let Some(reach) = shard.head().reach_of(id).filter(|reach| *reach >= mint) else { continue };
        if batch.is_empty() {
            record::begin(&mut batch, DELETES);
        }
        record::push_delete(&mut batch, &shard.labels(id), mint, maxt.min(reach));
    }
    (batch, ids.len())
}
