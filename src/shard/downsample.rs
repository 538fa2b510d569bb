//! Aggregates of old samples: blocks of their own, made where samples are old enough, then made longer like others.
//!
//! The source of the finest resolution is samples, that of a coarser one the next finer. Nothing is made twice, and
//! nothing of a time to which samples may still be added.

use std::collections::BTreeSet;
use std::rc::Rc;

use model::labels::METRIC_NAME;
use model::{Matcher, SeriesId, Timestamp};

use crate::rt;
use crate::shard::Shard;
use crate::shard::block::Block;
use crate::shard::block::aggregate::Aggregator;
use crate::shard::block::class::{ClassMark, Downsampling};
use crate::shard::block::layout::{AggregatesMark, Header};
use crate::shard::block::plan::{Span, plan, ranges};
use crate::shard::block::set::Published;
use crate::shard::block::writer::BlockWriter;
use crate::shard::compact::metric_names;
use crate::shard::deep::Deep;
use crate::shard::keeper::Keeper;
use crate::shard::select::Batch;
use crate::shard::upkeep::{RANGE_MAX_MS, RANGE_MS};

/// The shortest range of a block of aggregates: as long as samples are compacted to first.
pub const SLOT_MS: i64 = 3 * RANGE_MS;

/// A series' windows of one block are one chunk each.
const _: () = assert!(
    2 * RANGE_MAX_MS / crate::config::RESOLUTIONS_MS[0] < codec::chunk::SAMPLES_MAX as i64,
    "the longest blocks have windows enough for a chunk"
);

/// Series written between two flushes.
const TURN_SERIES: usize = 32;

/// A block of aggregates that is to be written, and what of.
struct Plan {
    sources: Vec<Rc<Block>>,
    /// The range of it.
    mint: Timestamp,
    maxt: Timestamp,
    level: u32,
    class: Option<ClassMark>,
    mark: AggregatesMark,
    /// The sources go when it is there.
    replaces: bool,
}

impl Keeper {
    /// Writes the next block of aggregates that is due, or makes one of several; false where there is nothing to do, or
    /// it could not be done.
    pub async fn downsample_once(&self) -> bool {
        let _turn = self.turn.take().await;
        let Some(plan) = self.next_due().or_else(|| self.next_longer()) else { return false };
        match self.write_aggregates(&plan).await {
            Ok(is_done) => is_done,
            Err(e) => {
                tracing::error!(error = %e, "aggregates cannot be written: they stay as they are");
                self.probe.add(&self.probe.failed_downsamplings, 1);
                false
            }
        }
    }

    /// Writes a block of aggregates again, without what was deleted. Who calls has the turn.
    pub(in crate::shard) async fn rewrite_aggregates(&self, block: &Rc<Block>) -> Result<bool, rt::Error> {
        let Some(mark) = block.header.aggregates else { return Ok(false) };
        let Header { mint, maxt, level, class, .. } = block.header.clone();
        let sources = vec![block.clone()];
        self.write_aggregates(&Plan { sources, mint, maxt, level, class, mark, replaces: true }).await
    }

    /// Lets aggregates go of times (inclusive) to which samples came late, where those that they were made of are still
    /// there: they are made again.
    pub(in crate::shard) async fn forget_aggregates(
        &self,
        times: &[(Timestamp, Timestamp)],
    ) -> Result<(), rt::Error> {
        // What is being made goes, too.
        let _turn = self.turn.take().await;
        let all = self.store.all();
        let is_there = |b: &Block| {
            let is_source = |s: &Rc<Block>| s.is_raw() && s.header.selector() == b.header.selector();
            // A first part may be younger than the slot that it lies in.
            let begins = all.iter().filter(|s| is_source(s)).map(|s| s.header.mint).min();
            begins.is_some_and(|begins| begins < b.header.mint.saturating_add(SLOT_MS))
        };
        let is_late =
            |b: &Block| times.iter().any(|(from, to)| b.header.mint <= *to && b.header.maxt > *from);
        let gone = all.iter().filter(|b| !b.is_raw() && is_late(b) && is_there(b));
        let ids: Vec<_> = gone.map(|b| b.id).collect();
        if ids.is_empty() { Ok(()) } else { self.store.remove(&ids).await }
    }

    /// Blocks that may be read for others: not the damaged, nor those of another dealing before the head is past them.
    fn fit_for_aggregates(&self) -> Vec<Rc<Block>> {
        let end = self.shard().head.blocks_end().unwrap_or(Timestamp::MIN);
        let is_fit = |b: &Rc<Block>| !self.store.is_damaged(b) && (b.is_own() || b.header.maxt <= end);
        self.store.all().into_iter().filter(is_fit).collect()
    }

    /// The next aggregates to be made of what has none yet.
    fn next_due(&self) -> Option<Plan> {
        let (retention, fit) = (self.retention.borrow(), self.fit_for_aggregates());
        let newest = fit.iter().filter(|b| b.is_raw()).map(|b| b.header.maxt).max()?;
        let mut classes: Vec<Option<ClassMark>> = Vec::new();
        for block in &fit {
            if !classes.iter().any(|c| c.as_ref().map(|c| &*c.selector) == block.header.selector()) {
                classes.push(block.header.class.clone());
            }
        }
        for class in classes {
            let selector = class.as_ref().map(|c| &*c.selector);
            let of_class: Vec<&Rc<Block>> = fit.iter().filter(|b| b.header.selector() == selector).collect();
            let of = |resolution: i64| -> Vec<Rc<Block>> {
                let all = of_class.iter().filter(|b| b.header.resolution_ms() == resolution);
                all.map(|b| Rc::clone(b)).collect()
            };
            let damaged: Vec<Span> = self.damaged_spans(selector);
            // Samples may come late for as long as the window says, and a cut later.
            let mut after = self.commons().window_ms().saturating_add(RANGE_MS);
            let mut finer = 0;
            for d in retention.downsampling_of(class.as_ref()) {
                after = after.max(d.after_ms);
                let due = newest.saturating_sub(after);
                let made = of(d.resolution_ms);
                if let Some(plan) = due_of(d, of(finer), &made, &damaged, due, class.as_ref()) {
                    return Some(plan);
                }
                finer = d.resolution_ms;
            }
        }
        None
    }

    /// Ranges of which nothing is made, for something of them cannot be read.
    fn damaged_spans(&self, selector: Option<&str>) -> Vec<Span> {
        let all = self.store.all();
        let damaged = all.iter().filter(|b| b.header.selector() == selector && self.store.is_damaged(b));
        damaged.map(|b| Span { id: b.id, mint: b.header.mint, maxt: b.header.maxt }).collect()
    }

    /// Blocks of aggregates that are to become one.
    fn next_longer(&self) -> Option<Plan> {
        let (retention, mut fit) = (self.retention.borrow(), self.fit_for_aggregates());
        fit.retain(|b| !b.is_raw());
        let key = |b: &Block| (b.header.selector().map(str::to_owned), b.header.resolution_ms());
        let keys: BTreeSet<_> = fit.iter().map(|b| key(b)).collect();
        for wanted in keys {
            let alike: Vec<&Rc<Block>> = fit.iter().filter(|b| key(b) == wanted).collect();
            let header = &alike.first()?.header;
            let (class, mark) = (header.class.clone(), header.aggregates?);
            let keep_ms = retention.time_of_aggregates(class.as_ref(), mark);
            let spans: Vec<Span> =
                alike.iter().map(|b| Span { id: b.id, mint: b.header.mint, maxt: b.header.maxt }).collect();
            let ids = plan(&spans, &ranges_of(keep_ms));
            let sources: Vec<Rc<Block>> =
                alike.iter().filter(|b| ids.contains(&b.id)).map(|b| Rc::clone(b)).collect();
            if sources.is_empty() {
                continue;
            }
            return Some(Plan {
                mint: sources.iter().map(|b| b.header.mint).min()?,
                maxt: sources.iter().map(|b| b.header.maxt).max()?,
                level: sources.iter().map(|b| b.header.level).max()? + 1,
                sources,
                class,
                mark: AggregatesMark { keep_ms, ..mark },
                replaces: true,
            });
        }
        None
    }

    async fn write_aggregates(&self, plan: &Plan) -> Result<bool, rt::Error> {
        let header = Header {
            owner: self.store.owner(),
            id: self.store.next_id(),
            mint: plan.mint,
            maxt: plan.maxt,
            level: plan.level,
            is_partial: true,
            class: plan.class.clone(),
            aggregates: Some(plan.mark),
        };
        let id = header.id;
        let mut writer = BlockWriter::begin(&self.disk, self.store.dir(), header).await?;
        let written = match self.write_series(plan, &mut writer).await {
            Ok(written) => writer.end().await.map(|()| written),
            Err(e) => Err(e),
        };
        let (samples, missing) = match written {
            Ok(written) => written,
            Err(e) => {
                writer.discard().await;
                return Err(e);
            }
        };
        if missing > 0 || plan.sources.iter().any(|b| self.store.is_damaged(b)) {
            // What was found damaged on the way is missing from it: what is there stays.
            writer.discard().await;
            return Ok(true);
        }
        // Also where it is empty: it says that there is nothing.
        let path = writer.put_in_place(true).await?;
        let new = self.store.load_all(&[Published { id, path }]).await?;
        let old: Vec<_> = plan.sources.iter().filter(|_| plan.replaces).map(|b| b.id).collect();
        self.store.replace(&old, new).await?;
        self.probe.add(&self.probe.downsamplings, 1);
        self.probe.add(&self.probe.downsampled_samples, samples);
        Ok(true)
    }

    /// Returns how many samples were aggregated, and how much of the sources is damaged.
    async fn write_series(&self, plan: &Plan, writer: &mut BlockWriter) -> Result<(u64, u64), rt::Error> {
        let is_of_samples = plan.sources.iter().all(|b| b.is_raw());
        let (mut samples, mut missing) = (0, 0);
        for name in metric_names(&self.store, &plan.sources).await {
            let nothing = Shard::default();
            let selection = nothing.head.selection(std::iter::empty(), plan.mint, plan.maxt - 1);
            let matchers = vec![vec![Matcher::equal(METRIC_NAME, name)]];
            let deep = Deep::new(self.store.clone(), plan.sources.clone(), matchers, selection);
            let mut deep = if is_of_samples { deep } else { deep.of_windows() };
            while deep.take_part().await {
                rt::yield_if_needed().await;
            }
            while deep.fetch().await {
                if is_of_samples {
                    samples += write_batch(plan, &mut deep, &nothing, writer).await?;
                } else {
                    write_windows(plan, &mut deep, writer).await?;
                }
            }
            missing += deep.missing();
        }
        Ok((samples, missing))
    }
}

/// Lengths of blocks of aggregates that are kept so long.
fn ranges_of(keep_ms: i64) -> Vec<i64> {
    ranges(SLOT_MS, (keep_ms / 10).clamp(SLOT_MS, RANGE_MAX_MS))
}

/// The first range before `due` that `sources` have and `made` has not.
fn due_of(
    d: &Downsampling,
    sources: Vec<Rc<Block>>,
    made: &[Rc<Block>],
    damaged: &[Span],
    due: Timestamp,
    class: Option<&ClassMark>,
) -> Option<Plan> {
    // What one shard of another dealing made stands for what that one had, not for what others had.
    let covered = |b: &Block| -> Vec<(Timestamp, Timestamp)> {
        let is_of = |m: &&Rc<Block>| m.is_own() || m.header.owner == b.header.owner;
        let made = made.iter().filter(is_of).map(|m| (m.header.mint, m.header.maxt));
        made.chain(damaged.iter().map(|s| on_grid(s.mint, s.maxt))).collect()
    };
    let wanted = sources.iter().map(|b| ((b.header.mint, b.header.maxt.min(due)), covered(b)));
    let (mint, maxt) = wanted.filter_map(|(span, made)| free_range(span, &made, due, d.keep_ms)).min()?;
    let overlaps = |b: &Rc<Block>| b.header.mint < maxt && b.header.maxt > mint;
    Some(Plan {
        sources: sources.into_iter().filter(overlaps).collect(),
        mint,
        maxt,
        level: 1,
        class: class.cloned(),
        mark: AggregatesMark { resolution_ms: d.resolution_ms, keep_ms: d.keep_ms },
        replaces: false,
    })
}

/// A range widened to whole slots.
fn on_grid(mint: Timestamp, maxt: Timestamp) -> (Timestamp, Timestamp) {
    let slot = |t: Timestamp| t.div_euclid(SLOT_MS);
    (
        slot(mint).saturating_mul(SLOT_MS),
        slot(maxt.saturating_sub(1)).saturating_add(1).saturating_mul(SLOT_MS),
    )
}

/// The first range on the grid that begins in `span`, ends before `due` and has nothing of `made`: as long as may be.
fn free_range(
    span: (Timestamp, Timestamp),
    made: &[(Timestamp, Timestamp)],
    due: Timestamp,
    keep_ms: i64,
) -> Option<(Timestamp, Timestamp)> {
    let (mut at, end) = (span.0.div_euclid(SLOT_MS).saturating_mul(SLOT_MS), span.1);
    // Ends of what is made are on the grid, too.
    while let Some((_, to)) = made.iter().find(|(from, to)| *from <= at && at < *to) {
        at = (*to).max(at + 1);
    }
    if at >= end {
        return None;
    }
    let of = |range: &i64| {
        let from = at.div_euclid(*range) * range;
        (from, from.saturating_add(*range))
    };
    let is_free =
        |(from, to): &(Timestamp, Timestamp)| *to <= due && !made.iter().any(|(a, b)| a < to && from < b);
    ranges_of(keep_ms).iter().rev().map(of).find(is_free)
}

/// Aggregates the samples of some series. Returns how many those are.
async fn write_batch(
    plan: &Plan,
    deep: &mut Deep,
    nothing: &Shard,
    writer: &mut BlockWriter,
) -> Result<u64, rt::Error> {
    let (mut batch, mut samples) = (Batch::default(), 0);
    deep.decode(nothing, &mut batch);
    for turn in batch.series.chunks(TURN_SERIES) {
        for s in turn {
            let mut a = Aggregator::new(plan.mark.resolution_ms);
            let (times, values) = (batch.times_of(s), batch.values_of(s));
            times.iter().zip(values).for_each(|(t, v)| a.push(*t, *v));
            samples += times.len() as u64;
            push(writer, deep.names(), s.id, &a);
        }
        writer.flush().await?;
        rt::yield_if_needed().await;
    }
    Ok(samples)
}

/// Makes aggregates of those of some series.
async fn write_windows(plan: &Plan, deep: &mut Deep, writer: &mut BlockWriter) -> Result<(), rt::Error> {
    let mut count = 0;
    while let Some((id, blocks)) = deep.next_windows() {
        let (mut a, mut from) = (Aggregator::new(plan.mark.resolution_ms), plan.mint);
        for w in blocks {
            // A block that lies in another one has nothing more.
            a.push_windows(&w, from, plan.maxt);
            from = w.times.last().map_or(from, |t| from.max(t.saturating_add(1)));
        }
        push(writer, deep.names(), id, &a);
        count += 1;
        if count % TURN_SERIES == 0 {
            writer.flush().await?;
            rt::yield_if_needed().await;
        }
    }
    writer.flush().await
}

fn push(writer: &mut BlockWriter, names: &Shard, id: SeriesId, aggregated: &Aggregator) {
    let symbols = names.index.label_symbols(id);
    let labels = symbols.map(|(n, v)| (names.symbol_text(n), names.symbol_text(v)));
    writer.push_windows(names.index.series_hash(id), labels, &aggregated.out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_taken_from_the_oldest_on_as_long_as_may_be() {
        const S: i64 = SLOT_MS;
        let check = |span: (i64, i64), made: &[(i64, i64)], due: i64, expect: Option<(i64, i64)>| {
            let scaled = |s: &(i64, i64)| (s.0 * S, s.1 * S);
            let made: Vec<_> = made.iter().map(scaled).collect();
            // Blocks of nine slots at most.
            let keep = 9 * S * 10;
            let have = free_range(scaled(&span), &made, due * S, keep);
            assert_eq!(have, expect.as_ref().map(scaled), "{span:?} {made:?} {due}");
        };
        check((0, 2), &[], 2, Some((0, 1)));
        check((0, 2), &[(0, 1)], 2, Some((1, 2)));
        check((0, 2), &[(0, 2)], 2, None);
        check((0, 2), &[], 0, None);
        check((1, 20), &[], 20, Some((0, 9)));
        check((4, 20), &[(0, 3)], 20, Some((3, 6)));
        check((0, 20), &[(0, 9), (9, 18)], 20, Some((18, 19)));
        check((0, 20), &[(0, 9), (9, 18)], 18, None);
        check((-2, 3), &[], 10, Some((-9, 0)));
    }
}
