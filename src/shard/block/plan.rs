//! Which blocks are to become one: ranges three times as long each, as Prometheus's.

use model::Timestamp;

use crate::shard::block::layout::BlockId;

/// A block as planning sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub id: BlockId,
    pub mint: Timestamp,
    pub maxt: Timestamp,
}

/// Blocks made one at a time: what is read at once stays bounded, and each result is soon of use.
const TOGETHER_MAX: usize = 16;

/// Lengths of blocks: from `shortest` on three times the one before, up to `longest`.
pub fn ranges(shortest: i64, longest: i64) -> Vec<i64> {
    let next = |r: &i64| r.checked_mul(3).filter(|r| *r <= longest);
    std::iter::successors(Some(shortest), next).collect()
}

/// The blocks to be made one next; none where all is well. `blocks` ascend by `mint`.
pub fn plan(blocks: &[Span], ranges: &[i64]) -> Vec<BlockId> {
    if let Some(run) = overlapping(blocks) {
        return run;
    }
    // The newest is left alone: what comes next may belong to it.
    let Some((newest, older)) = blocks.split_last() else { return Vec::new() };
    for range in ranges.iter().skip(1) {
        let mut rest = older;
        while let Some(first) = rest.first() {
            let slot = first.mint.div_euclid(*range);
            let end = slot.saturating_add(1).saturating_mul(*range);
            let count = rest.iter().take_while(|b| b.mint.div_euclid(*range) == slot).count();
            let (run, later) = rest.split_at(count);
            rest = later;
            let fits = run.iter().all(|b| b.maxt <= end && b.maxt - b.mint < *range);
            let is_filled = first.mint == slot * range && run.last().is_some_and(|b| b.maxt == end);
            if run.len() > 1 && fits && (is_filled || end <= newest.mint) {
                return run.iter().take(TOGETHER_MAX).map(|b| b.id).collect();
            }
        }
    }
    Vec::new()
}

/// The first blocks that share time: what several shards of an earlier number left, or a crash between a new block
/// and the removal of those it was made of.
fn overlapping(blocks: &[Span]) -> Option<Vec<BlockId>> {
    let first = blocks.windows(2).position(|w| w[1].mint < w[0].maxt)?;
    let mut end = blocks[first].maxt;
    let mut run = vec![blocks[first].id];
    for b in &blocks[first + 1..] {
        if b.mint >= end || run.len() == TOGETHER_MAX {
            break;
        }
        end = end.max(b.maxt);
        run.push(b.id);
    }
    Some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blocks: &[(i64, i64)], expect: &[u64]) {
        let span = |(i, b): (usize, &(i64, i64))| Span { id: BlockId(i as u64), mint: b.0, maxt: b.1 };
        let blocks: Vec<Span> = blocks.iter().enumerate().map(span).collect();
        let have: Vec<u64> = plan(&blocks, &ranges(20, 200)).iter().map(|b| b.0).collect();
        assert_eq!(have, expect, "{blocks:?}");
    }

    #[test]
    fn ranges_grow_by_three() {
        assert_eq!(ranges(20, 200), [20, 60, 180]);
        assert_eq!(ranges(20, 5), [20]);
    }

    #[test]
    fn blocks_of_a_filled_or_finished_range_become_one() {
        check(&[], &[]);
        check(&[(0, 20)], &[]);
        check(&[(0, 20), (20, 40), (40, 60)], &[]);
        check(&[(0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]);
        check(&[(0, 20), (20, 40), (60, 80)], &[0, 1]);
        check(&[(20, 40), (40, 60), (60, 80)], &[0, 1]);
        check(&[(20, 40), (60, 80)], &[]);
        check(&[(0, 60), (60, 80), (80, 100), (100, 120), (120, 140)], &[1, 2, 3]);
        check(&[(0, 60), (60, 120), (120, 180), (180, 200)], &[0, 1, 2]);
        check(&[(0, 180), (180, 200)], &[]);
    }

    #[test]
    fn blocks_that_share_time_come_first() {
        check(&[(0, 20), (0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1]);
        check(&[(0, 60), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]);
    }
}
