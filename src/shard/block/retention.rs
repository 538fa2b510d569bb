//! Which blocks have to go: those too far behind the newest, and those beyond the bytes allowed.

use std::rc::Rc;

use crate::shard::block::Block;
use crate::shard::block::layout::BlockId;

/// What one shard may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Blocks whose end lies so far behind the newest one's go. `None` keeps all.
    pub time_ms: Option<i64>,
    /// Bytes of blocks and log.
    pub bytes: Option<u64>,
}

/// A block that has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub id: BlockId,
    pub by_size: bool,
}

impl Retention {
    /// The blocks that have to go, of all that there are. The head and its log (`log_bytes`) stay.
    pub fn due(&self, blocks: &[Rc<Block>], log_bytes: u64) -> Vec<Due> {
        let figures = |b: &Rc<Block>| (b.id, b.header.maxt, b.counted_bytes());
        self.due_of(blocks.iter().map(figures).collect(), log_bytes)
    }

    fn due_of(&self, mut blocks: Vec<(BlockId, i64, u64)>, log_bytes: u64) -> Vec<Due> {
        blocks.sort_by_key(|b| std::cmp::Reverse((b.1, b.0)));
        let Some(newest) = blocks.first().map(|b| b.1) else { return Vec::new() };
        let mut out = Vec::new();
        let mut used = log_bytes;
        let mut is_over = false;
        for (id, maxt, bytes) in blocks {
            used = used.saturating_add(bytes);
            is_over |= self.bytes.is_some_and(|most| used > most);
            let is_old = self.time_ms.is_some_and(|keep| newest.saturating_sub(maxt) >= keep);
            if is_old || is_over {
                out.push(Due { id, by_size: !is_old });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(retention: Retention, blocks: &[(u64, i64, u64)], expect: &[(u64, bool)]) {
        let blocks = blocks.iter().map(|b| (BlockId(b.0), b.1, b.2)).collect();
        let due = retention.due_of(blocks, 5);
        let have: Vec<(u64, bool)> = due.iter().map(|d| (d.id.0, d.by_size)).collect();
        assert_eq!(have, expect, "{retention:?}");
    }

    #[test]
    fn old_blocks_go_and_then_what_is_too_much() {
        let blocks = [(1, 100, 10), (2, 200, 10), (3, 300, 10), (4, 400, 10)];
        let of = |time_ms, bytes| Retention { time_ms, bytes };
        check(of(None, None), &blocks, &[]);
        check(of(Some(300), None), &blocks, &[(1, false)]);
        check(of(Some(200), None), &blocks, &[(2, false), (1, false)]);
        check(of(None, Some(25)), &blocks, &[(2, true), (1, true)]);
        check(of(None, Some(1)), &blocks, &[(4, true), (3, true), (2, true), (1, true)]);
        check(of(Some(300), Some(35)), &blocks, &[(1, false)]);
        check(of(Some(1), Some(1)), &[], &[]);
    }
}
