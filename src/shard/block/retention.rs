//! Which blocks have to go: those too far behind the newest, and those beyond the bytes allowed.

use std::rc::Rc;

use crate::shard::block::Block;
use crate::shard::block::class::{ClassMark, Classes, Downsampling};
use crate::shard::block::layout::{AggregatesMark, BlockId};

/// What one shard may keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Blocks of no class whose end lies so far behind the newest one's go. `None` keeps all.
    pub time_ms: Option<i64>,
    /// Bytes of blocks of all classes and log.
    pub bytes: Option<u64>,
    pub classes: Classes,
    /// What is made of samples of no class.
    pub downsampling: Vec<Downsampling>,
}

/// What is looked at of a block.
struct Figures<'b> {
    id: BlockId,
    maxt: i64,
    bytes: u64,
    class: Option<&'b ClassMark>,
    aggregates: Option<AggregatesMark>,
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
        let figures = blocks.iter().map(|b| Figures {
            id: b.id,
            maxt: b.header.maxt,
            bytes: b.counted_bytes(),
            class: b.header.class.as_ref(),
            aggregates: b.header.aggregates,
        });
        self.due_of(figures.collect(), log_bytes)
    }

    /// How long blocks of a class are kept, or those of none.
    pub fn time_of(&self, class: Option<&ClassMark>) -> Option<i64> {
        class.map_or(self.time_ms, |mark| Some(self.classes.time_of(mark)))
    }

    /// What is made of a class's samples, or of those of none.
    pub fn downsampling_of(&self, class: Option<&ClassMark>) -> &[Downsampling] {
        class.map_or(&self.downsampling, |mark| self.classes.downsampling_of(mark))
    }

    /// How long such aggregates are kept: as the configuration has it now, else as it had when they were written.
    pub fn time_of_aggregates(&self, class: Option<&ClassMark>, mark: AggregatesMark) -> i64 {
        let now = self.downsampling_of(class).iter().find(|d| d.resolution_ms == mark.resolution_ms);
        now.map_or(mark.keep_ms, |d| d.keep_ms)
    }

    fn due_of(&self, mut blocks: Vec<Figures<'_>>, log_bytes: u64) -> Vec<Due> {
        blocks.sort_by_key(|b| std::cmp::Reverse((b.maxt, b.id)));
        let Some(newest) = blocks.first().map(|b| b.maxt) else { return Vec::new() };
        let mut out = Vec::new();
        let mut used = log_bytes;
        let mut is_over = false;
        for Figures { id, maxt, bytes, class, aggregates } in blocks {
            let time = match aggregates {
                None => self.time_of(class),
                Some(mark) => Some(self.time_of_aggregates(class, mark)),
            };
            if time.is_some_and(|keep| newest.saturating_sub(maxt) >= keep) {
                out.push(Due { id, by_size: false });
                continue;
            }
            used = used.saturating_add(bytes);
            is_over |= self.bytes.is_some_and(|most| used > most);
            if is_over {
                out.push(Due { id, by_size: true });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(retention: Retention, blocks: &[(u64, i64, u64)], expect: &[(u64, bool)]) {
        check_classes(retention, &blocks.iter().map(|b| (b.0, b.1, b.2, "")).collect::<Vec<_>>(), expect);
    }

    fn check_classes(retention: Retention, blocks: &[(u64, i64, u64, &str)], expect: &[(u64, bool)]) {
        let mark = |s: &str| ClassMark { selector: s.into(), time_ms: 150 };
        let marks: Vec<Option<ClassMark>> =
            blocks.iter().map(|b| (!b.3.is_empty()).then(|| mark(b.3))).collect();
        let figures = blocks.iter().zip(&marks).map(|((id, maxt, bytes, _), class)| Figures {
            id: BlockId(*id),
            maxt: *maxt,
            bytes: *bytes,
            class: class.as_ref(),
            aggregates: None,
        });
        let due = retention.due_of(figures.collect(), 5);
        let have: Vec<(u64, bool)> = due.iter().map(|d| (d.id.0, d.by_size)).collect();
        assert_eq!(have, expect, "{retention:?}");
    }

    #[test]
    fn old_blocks_go_and_then_what_is_too_much() {
        let blocks = [(1, 100, 10), (2, 200, 10), (3, 300, 10), (4, 400, 10)];
        let of = |time_ms, bytes| Retention { time_ms, bytes, ..Retention::default() };
        check(of(None, None), &blocks, &[]);
        check(of(Some(300), None), &blocks, &[(1, false)]);
        check(of(Some(200), None), &blocks, &[(2, false), (1, false)]);
        check(of(None, Some(25)), &blocks, &[(2, true), (1, true)]);
        check(of(None, Some(1)), &blocks, &[(4, true), (3, true), (2, true), (1, true)]);
        check(of(Some(300), Some(35)), &blocks, &[(1, false)]);
        check(of(Some(1), Some(1)), &[], &[]);
    }
    #[test]
    fn a_class_has_its_own_time_and_its_part_in_what_is_too_much() {
        let blocks =
            [(1, 100, 10, ""), (2, 100, 10, "a"), (3, 300, 10, "b"), (4, 300, 10, ""), (5, 400, 10, "")];
        let class = |selector: &str, time_ms| {
            let mark = ClassMark { selector: selector.into(), time_ms };
            crate::shard::block::class::Class { mark, matchers: Vec::new(), downsampling: Vec::new() }
        };
        let of = |classes: &[(&str, i64)], bytes| {
            let classes = Classes::new(classes.iter().map(|c| class(c.0, c.1)).collect());
            Retention { time_ms: Some(1000), bytes, classes, ..Retention::default() }
        };
        check_classes(of(&[("a", 1000), ("b", 100)], None), &blocks, &[(3, false)]);
        check_classes(of(&[("a", 300), ("b", 1000)], None), &blocks, &[(2, false)]);
        // A class that is gone from the configuration keeps the time that its blocks have.
        check_classes(of(&[("b", 1000)], None), &blocks, &[(2, false)]);
        // What goes by its time makes room.
        check_classes(of(&[("a", 1000), ("b", 100)], Some(36)), &blocks, &[(3, false), (1, true)]);
    }
}
