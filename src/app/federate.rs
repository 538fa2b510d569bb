//! What `/federate` asks of a shard: the newest sample of each series, wherever it lies.

use std::collections::BTreeMap;

use model::{Labels, is_stale};

use crate::api::backend::{FederatedSample, Scope};
use crate::rt;
use crate::shard::Shard;
use crate::shard::deep::Deep;
use crate::shard::keeper::Keeper;
use crate::shard::select::Batch;

type Newest = BTreeMap<Labels, FederatedSample>;

/// Newest float samples of the series in a scope, those that are not stale.
pub async fn newest(keeper: &Keeper, scope: &Scope) -> Vec<FederatedSample> {
    let mut out = Newest::new();
    for matchers in &scope.selectors {
        let (mint, maxt) = (scope.start + 1, scope.end);
        // In one turn: what is not in the blocks then is in the head.
        let (blocks, mut selection) =
            (keeper.store().overlapping(mint, maxt), keeper.shard().select(matchers, mint, maxt));
        if !blocks.is_empty() {
            let deep = Deep::new(keeper.store().clone(), blocks, vec![matchers.clone()], selection);
            of_blocks(keeper, deep, &mut out).await;
            continue;
        }
        let mut batch = Batch::default();
        loop {
            {
                let shard = keeper.shard();
                if !shard.next_batch(&mut selection, &mut batch) {
                    break;
                }
                note(&shard, &batch, &mut out);
            }
            rt::yield_if_needed().await;
        }
    }
    out.into_values().collect()
}

async fn of_blocks(keeper: &Keeper, mut deep: Deep, out: &mut Newest) {
    while deep.take_head(&keeper.shard()) {
        rt::yield_if_needed().await;
    }
    while deep.take_part().await {
        rt::yield_if_needed().await;
    }
    let mut batch = Batch::default();
    while deep.fetch().await {
        deep.decode(&keeper.shard(), &mut batch);
        note(deep.names(), &batch, out);
        rt::yield_if_needed().await;
    }
}

/// Notes the last sample of each series of a batch; `names` knows them by their ids.
fn note(names: &Shard, batch: &Batch, out: &mut Newest) {
    for s in &batch.series {
        let last = batch.times_of(s).iter().zip(batch.values_of(s)).next_back();
        if let Some((time, value)) = last.filter(|(_, v)| !is_stale(**v)) {
            let labels = names.labels(s.id);
            let sample = FederatedSample { labels: labels.clone(), time: *time, value: *value };
            out.insert(labels, sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::sync::Arc;

    use futures_lite::future::block_on;
    use model::Matcher;

    use super::*;
    use crate::rt::clock::ManualClock;
    use crate::rt::disk::{CrashDisk, Disk, Tail};
    use crate::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
    use crate::shard::keeper::Place;
    use crate::shard::record::{self, SourceId};
    use crate::shard::wal::pending::{Owner, Pending};

    #[test]
    fn the_newest_sample_is_found_right_after_a_cut_too() {
        let owner = Owner { directory_id: 1, shard: 0, shard_count: 1 };
        let place = Place { dir: PathBuf::from("/d/shards/0000-of-0001"), tail_dir: "/t".into(), owner };
        let disk: Rc<dyn Disk> = Rc::new(CrashDisk::new());
        let tail = Tail::in_memory(Rc::new(RefCell::new(vec![0; Pending::tail_bytes(64 << 10)])));
        let keeper = block_on(Keeper::open_with(disk, &place, tail, Arc::default())).expect("a keeper");
        let mut batch = Vec::new();
        record::begin(&mut batch, SourceId(1));
        for (slot, name) in [(0, "cut"), (1, "head")] {
            record::push_define(&mut batch, slot, &Labels::from_pairs([("__name__", name)]));
        }
        record::push_row(&mut batch, 0, 100, true, &[(0, 1.0), (1, 2.0)]);
        record::push_row(&mut batch, 0, 200, true, &[(1, 3.0)]);
        keeper.append(keeper.generation(), &batch).expect("room");
        let scope = Scope {
            selectors: vec![
                vec![Matcher::equal("__name__", "cut")],
                vec![Matcher::equal("__name__", "head")],
            ],
            start: 50,
            end: 250,
            limit: 0,
        };
        let found = || -> Vec<(i64, f64)> {
            block_on(newest(&keeper, &scope)).iter().map(|s| (s.time, s.value)).collect()
        };
        assert_eq!(found(), [(100, 1.0), (200, 3.0)]);
        let pulse = Pulse::new(ManualClock::starting_at(0) as Arc<_>, Grid::new(GRID_DEFAULT));
        block_on(keeper.cut_now(&pulse, 150)).expect("a block");
        assert_eq!(found(), [(100, 1.0), (200, 3.0)]);
    }
}
