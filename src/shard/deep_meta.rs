//! Questions about series rather than samples, over blocks and head: which there are, which labels.

use std::collections::BTreeSet;
use std::rc::Rc;

use model::{Labels, Matcher, Timestamp};

use crate::rt;
use crate::shard::block::Block;
use crate::shard::block::part::Part;
use crate::shard::keeper::Keeper;
use crate::shard::tombstones::Spans;

impl Keeper {
    /// Labels of the series that any of `selectors` takes (all where there is none) and that have samples between
    /// two times; `limit` at most (0 for all), the first in order.
    pub async fn series_labels(
        &self,
        selectors: &[Vec<Matcher>],
        start: Timestamp,
        end: Timestamp,
        limit: usize,
    ) -> Vec<Labels> {
        let blocks = self.store.overlapping_by_name(start, end);
        let of_head = self.shard().series_labels(selectors, start, end, limit);
        if blocks.is_empty() {
            return of_head;
        }
        let mut all: BTreeSet<Labels> = of_head.into_iter().collect();
        for block in &blocks {
            self.each_part(block, selectors, |number, part| {
                let deleted = block.deleted_of(number);
                for series in series_of(block, part, selectors, start, end) {
                    let deleted = deleted.as_ref().and_then(|d| d.of(series));
                    if deleted.is_some_and(|d| is_gone(part, series, start, end, d)) {
                        continue;
                    }
                    all.insert(Labels::from_sorted(part.labels(series)));
                }
                while limit > 0 && all.len() > limit {
                    all.pop_last();
                }
            })
            .await;
        }
        all.into_iter().collect()
    }

    /// Names of labels of such series.
    pub async fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        start: Timestamp,
        end: Timestamp,
    ) -> Vec<String> {
        let blocks = self.store.overlapping_by_name(start, end);
        let of_head = self.shard().label_names(selectors, start, end);
        if blocks.is_empty() {
            return of_head;
        }
        let mut all: BTreeSet<String> = of_head.into_iter().collect();
        for block in &blocks {
            if selectors.is_empty() && block.is_own() {
                all.extend(block.directory.label_names.iter().cloned());
                continue;
            }
            self.each_part(block, selectors, |_, part| {
                let mut seen = vec![false; part.symbol_count()];
                for series in series_of(block, part, selectors, start, end) {
                    for name in part.label_symbols(series).0 {
                        if !std::mem::replace(&mut seen[*name as usize], true) {
                            all.insert(part.symbol(*name).to_owned());
                        }
                    }
                }
            })
            .await;
        }
        all.into_iter().collect()
    }

    /// Values of one label of such series.
    pub async fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        start: Timestamp,
        end: Timestamp,
    ) -> Vec<String> {
        let blocks = self.store.overlapping_by_name(start, end);
        let of_head = self.shard().label_values(name, selectors, start, end);
        if blocks.is_empty() {
            return of_head;
        }
        let mut all: BTreeSet<String> = of_head.into_iter().collect();
        for block in blocks.iter().filter(|b| b.may_have_label(name)) {
            self.each_part(block, selectors, |_, part| {
                let mut seen = vec![false; part.symbol_count()];
                for series in series_of(block, part, selectors, start, end) {
                    let (names, values) = part.label_symbols(series);
                    let value = names.iter().zip(values).find(|(n, _)| part.symbol(**n) == name);
                    if let Some((_, v)) = value
                        && !std::mem::replace(&mut seen[*v as usize], true)
                    {
                        all.insert(part.symbol(*v).to_owned());
                    }
                }
            })
            .await;
        }
        all.into_iter().collect()
    }

    /// Calls `look` with the number and each part of a block that may have series of the selectors.
    async fn each_part(
        &self,
        block: &Rc<Block>,
        selectors: &[Vec<Matcher>],
        mut look: impl FnMut(usize, &Part),
    ) {
        for number in 0..block.directory.parts.len() {
            if !selectors.is_empty() && !selectors.iter().any(|m| block.may_match(number, m)) {
                continue;
            }
            if let Some(part) = self.store.part(block, number).await {
                look(number, &part);
            }
            rt::yield_if_needed().await;
        }
    }
}

/// Series of a part that selectors take, this shard's own, with samples between two times.
fn series_of(
    block: &Block,
    part: &Part,
    selectors: &[Vec<Matcher>],
    start: Timestamp,
    end: Timestamp,
) -> Vec<u32> {
    let mut ids: Vec<u32> = match selectors {
        [] => (0..part.series_count()).collect(),
        [one] => part.matching(one),
        many => many.iter().flat_map(|m| part.matching(m)).collect(),
    };
    if selectors.len() > 1 {
        ids.sort_unstable();
        ids.dedup();
    }
    ids.retain(|id| {
        block.has(part.series_hash(*id)) && part.chunks(*id).iter().any(|c| c.overlaps(start, end))
    });
    ids
}

/// Whether all chunks of a series that lie in a time are deleted whole: it is not listed then, as in Prometheus. Its labels
/// are, until the block is written again.
fn is_gone(part: &Part, series: u32, start: Timestamp, end: Timestamp, deleted: &Spans) -> bool {
    let mut there = part.chunks(series).iter().filter(|c| c.overlaps(start, end));
    there.all(|c| deleted.covers(c.first_time, c.last_time))
}
