//! What a shard does for its blocks while it runs: cuts the head, gives memory back, lets old blocks go.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use model::{SeriesId, Timestamp};

use crate::rt::gate::Gate;
use crate::rt::{self, Pulse};
use crate::shard::block::Block;
use crate::shard::block::class::ClassMark;
use crate::shard::block::layout::BlockId;
use crate::shard::block::plan::{Span, plan, ranges};
use crate::shard::block::set::Range;
use crate::shard::compact::compact;
use crate::shard::cut::cut;
use crate::shard::index::removal::REMOVED_AT_ONCE;
use crate::shard::keeper::{Keeper, LogState};

/// What a block cut from the head covers: ranges of two hours, as Prometheus's.
pub const RANGE_MS: i64 = 2 * 3600 * 1000;

/// The longest range of one block, as Prometheus's.
pub const RANGE_MAX_MS: i64 = 31 * 24 * 3600 * 1000;

/// The head is cut when it spans more than this: half a range is slack for what comes late.
const SPAN_MS: i64 = RANGE_MS / 2 * 3;

/// How often is looked whether those who read what is to be given up have ended. Queries have a time limit.
const WAIT_STEP: Duration = Duration::from_millis(200);

/// A long block is written again when more than one of so many of its series have anything deleted.
const DELETED_PARTS: u64 = 20;

/// Groups trimmed in one turn.
const TURN_GROUPS: usize = 256;

/// Side buffers trimmed in one turn.
const TURN_SIDES: usize = 512;

impl Keeper {
    /// Cuts, and lets old blocks go, looking `every` so often, until the gate closes. A task of the background's.
    pub async fn run_upkeep(self: Rc<Self>, pulse: Pulse, gate: Gate, every: Duration) {
        while !gate.is_closing() {
            or(pulse.sleep(every), gate.closing()).await;
            or(self.upkeep_once(&pulse), gate.closing()).await;
        }
    }

    async fn upkeep_once(&self, pulse: &Pulse) {
        while let Some(end) = self.cut_due() {
            if let Err(e) = self.cut_now(pulse, end).await {
                tracing::error!(error = %e, "a block cannot be written: the head keeps what it has");
                break;
            }
            self.ask_checkpoint();
        }
        if let Err(e) = self.settle_deposit().await {
            tracing::error!(error = %e, "what was imported cannot be written to blocks: it is tried again");
        }
        self.retain_blocks().await;
        while self.cut_due().is_none() && self.compact_once().await {}
        while self.cut_due().is_none() && self.downsample_once().await {}
    }

    /// Makes the next blocks one that are to become one; false where there are none, or it could not be done.
    pub async fn compact_once(&self) -> bool {
        let _turn = self.turn.take().await;
        let blocks = self.compactable();
        if blocks.is_empty() {
            return false;
        }
        self.probe.add(&self.probe.compactions_triggered, 1);
        match self.compact_imp(&blocks, 1).await {
            Ok(is_done) => is_done,
            Err(e) => {
                tracing::error!(error = %e, "blocks cannot be compacted: they stay as they are");
                self.probe.add(&self.probe.failed_compactions, 1);
                false
            }
        }
    }

    /// The blocks that are to become one next. Those that are damaged are left as they are, for whoever can mend them,
    /// and those of another dealing wait until the head has given up what lies beside them.
    fn compactable(&self) -> Vec<Rc<Block>> {
        let end = self.shard().head.blocks_end().unwrap_or(Timestamp::MIN);
        let is_fit =
            |b: &Rc<Block>| b.is_raw() && !self.store.is_damaged(b) && (b.is_own() || b.header.maxt <= end);
        let fit: Vec<Rc<Block>> = self.store.all().into_iter().filter(is_fit).collect();
        let retention = self.retention.borrow();
        by_class(fit)
            .into_iter()
            .map(|blocks| {
                let class = blocks.first().and_then(|b| b.header.class.as_ref());
                let keep = retention.time_of(class).unwrap_or(i64::MAX);
                compactable_of(blocks, &ranges(RANGE_MS, (keep / 10).clamp(RANGE_MS, RANGE_MAX_MS)))
            })
            .find(|blocks| !blocks.is_empty())
            .unwrap_or_default()
    }

    /// Makes one block of `blocks`, `higher` levels above theirs; several, where their series are of several classes by
    /// now. Who calls has the turn.
    pub(in crate::shard) async fn compact_imp(
        &self,
        blocks: &[Rc<Block>],
        higher: u32,
    ) -> Result<bool, rt::Error> {
        let maxt = blocks.iter().map(|b| b.header.maxt).max().unwrap_or(0);
        let range = Range {
            mint: blocks.iter().map(|b| b.header.mint).min().unwrap_or(0),
            maxt,
            level: blocks.iter().map(|b| b.header.level).max().unwrap_or(0) + higher,
            is_partial: blocks.iter().all(|b| b.header.is_partial || b.header.maxt < maxt),
        };
        let classes = self.retention.borrow().classes.clone();
        let published = compact(&self.disk, &self.store, range, classes, blocks).await?;
        let new = self.store.load_all(&published).await?;
        if blocks.iter().any(|b| self.store.is_damaged(b)) {
            // What was found damaged on the way is missing from the new one: the old ones stay.
            for block in &published {
                self.disk.remove(&block.path).await?;
            }
            return Ok(true);
        }
        let old: Vec<_> = blocks.iter().map(|b| b.id).collect();
        self.store.replace(&old, new).await?;
        self.probe.add(&self.probe.compactions, 1);
        Ok(true)
    }

    /// Where a block would end that is due to be cut.
    pub fn cut_due(&self) -> Option<Timestamp> {
        if *self.state.borrow() != LogState::Writing {
            return None;
        }
        let shard = self.shard();
        let (mint, maxt) = (shard.head.min_time()?, shard.head.max_time()?);
        // What came late is not why a head is cut; it goes along.
        let mint = shard.head.blocks_end().map_or(mint, |end| mint.max(end));
        let is_due = maxt.saturating_sub(mint) > SPAN_MS;
        is_due.then(|| mint.div_euclid(RANGE_MS).saturating_add(1).saturating_mul(RANGE_MS))
    }

    /// Moves what the head has before `end` to blocks, one for each class, then gives the memory back.
    pub async fn cut_now(&self, pulse: &Pulse, end: Timestamp) -> Result<(), rt::Error> {
        let turn = self.turn.take().await;
        let mint = self.shard().head.min_time().unwrap_or(end);
        let mint = mint.div_euclid(RANGE_MS) * RANGE_MS;
        let range = Range { mint, maxt: end, level: 1, is_partial: false };
        let classes = self.retention.borrow().classes.clone();
        self.shard.borrow_mut().head.begin_cut(end);
        self.probe.add(&self.probe.cuts_triggered, 1);
        let result = cut(&self.disk, &self.store, range, classes, &self.shard).await;
        let blocks = match result {
            Ok(published) => self.store.load_all(&published).await,
            Err(e) => Err(e),
        };
        let blocks = blocks.inspect_err(|_| self.probe.add(&self.probe.failed_cuts, 1))?;
        // One turn: no question sees the samples twice, or not at all.
        let pin = {
            self.probe.add(&self.probe.cuts, u64::from(!blocks.is_empty()));
            blocks.into_iter().for_each(|b| self.store.add(b));
            self.shard.borrow_mut().head.end_cut(end)
        };
        drop(turn);
        self.give_back(pulse, pin).await;
        Ok(())
    }

    /// Gives back the memory of what blocks have, when those who asked before have read it.
    async fn give_back(&self, pulse: &Pulse, pin: Arc<()>) {
        while Arc::strong_count(&pin) > 1 {
            pulse.sleep(WAIT_STEP).await;
        }
        self.shard.borrow_mut().head.free_holes();
        self.trim_groups().await;
        self.trim_sides().await;
        self.shard.borrow_mut().head.trim_deleted();
        self.shard.borrow_mut().head.settle_mint();
        self.probe.add(&self.probe.truncations, 1);
    }

    /// Drops rows that blocks have, groups that are left with nothing, and their series.
    pub(in crate::shard) async fn trim_groups(&self) {
        let (mut from, mut left) = (0, Vec::new());
        while from < self.shard().head.groups.len() {
            self.gave_up.set(true);
            {
                let mut shard = self.shard.borrow_mut();
                let to = shard.head.groups.len().min(from + TURN_GROUPS);
                for group in from..to {
                    shard.head.trim_group(group);
                    shard.head.drop_group_if_done(group, &mut left);
                }
                from = to;
            }
            rt::yield_if_needed().await;
        }
        self.drop_series(left).await;
    }

    /// Drops what lies beside rows and is in blocks.
    async fn trim_sides(&self) {
        let sides: Vec<SeriesId> = self.shard().head.side.keys().copied().collect();
        for turn in sides.chunks(TURN_SIDES) {
            self.gave_up.set(true);
            {
                let mut shard = self.shard.borrow_mut();
                turn.iter().for_each(|id| shard.head.trim_side(*id));
            }
            rt::yield_if_needed().await;
        }
        self.drop_series(sides).await;
    }

    /// Takes those of `ids` out of the index that the head does not name any more.
    async fn drop_series(&self, ids: Vec<SeriesId>) {
        for turn in ids.chunks(REMOVED_AT_ONCE) {
            self.gave_up.set(true);
            {
                let mut shard = self.shard.borrow_mut();
                let mut gone: Vec<SeriesId> =
                    turn.iter().copied().filter(|id| shard.head.is_nowhere(*id)).collect();
                gone.sort_unstable();
                gone.dedup();
                let before = shard.index.series_count();
                shard.head.forget_deleted(&gone);
                shard.index.remove(&gone);
                let removed = before - shard.index.series_count();
                self.probe.add(&self.probe.series_removed, removed as u64);
            }
            rt::yield_if_needed().await;
        }
    }

    async fn retain_blocks(&self) {
        let _turn = self.turn.take().await;
        let due = self.retention.borrow().due(&self.store.all(), self.log_bytes.get());
        let ids: Vec<_> = due.iter().map(|d| d.id).collect();
        if ids.is_empty() {
            return;
        }
        for d in &due {
            let counter = if d.by_size { &self.probe.size_retentions } else { &self.probe.time_retentions };
            self.probe.add(counter, 1);
        }
        if let Err(e) = self.store.remove(&ids).await {
            tracing::error!(error = %e, "old blocks cannot be removed");
        }
    }
}

/// Blocks of one class together, in their order.
fn by_class(blocks: Vec<Rc<Block>>) -> Vec<Vec<Rc<Block>>> {
    let selector = |b: &Rc<Block>| b.header.class.as_ref().map(|ClassMark { selector, .. }| selector.clone());
    let mut out: Vec<Vec<Rc<Block>>> = Vec::new();
    for block in blocks {
        match out.iter_mut().find(|of| of.first().map(selector) == Some(selector(&block))) {
            Some(of) => of.push(block),
            None => out.push(vec![block]),
        }
    }
    out
}

/// Those of one class's blocks that are to become one next.
fn compactable_of(blocks: Vec<Rc<Block>>, ranges: &[i64]) -> Vec<Rc<Block>> {
    let span = |b: &Rc<Block>| Span { id: b.id, mint: b.header.mint, maxt: b.header.maxt };
    let spans: Vec<Span> = blocks.iter().map(span).collect();
    let mut ids = plan(&spans, ranges);
    if ids.is_empty() {
        ids.extend(much_deleted(&blocks, ranges));
    }
    blocks.into_iter().filter(|b| ids.contains(&b.id)).collect()
}

/// The newest block of which so much was deleted that it is worth writing it again: a twentieth of its series where it
/// covers a long range, as Prometheus does; all of them where it does not.
fn much_deleted(blocks: &[Rc<Block>], ranges: &[i64]) -> Option<BlockId> {
    let long = ranges.get(ranges.len() / 2).copied().unwrap_or(i64::MAX);
    let is_due = |b: &&Rc<Block>| {
        let (deleted, all) = (b.deleted_counts().0, b.directory.stats.series_count);
        let is_long = b.header.maxt.saturating_sub(b.header.mint) >= long;
        deleted > 0 && (deleted >= all || (is_long && deleted * DELETED_PARTS > all + 1))
    };
    blocks.iter().rev().find(is_due).map(|b| b.id)
}
