//! Which group of an aggregation a series belongs to, found by the symbols of its labels.

use hashbrown::HashMap;
use model::labels::METRIC_NAME;
use model::{Labels, SeriesId};
use promql::ast::Aggregator;

use crate::query::exec::fold::{Groups, group_labels};
use crate::query::frame::Row;
use crate::query::plan::physical::Fold;
use crate::shard::Shard;
use crate::shard::index::{LabelColumn, SymbolId};

/// Grouping by symbols.
pub struct Folding<'f> {
    fold: &'f Fold,
    pub groups: Groups,
    keys: Keys,
    /// Kept for its memory.
    values: Vec<SymbolId>,
}

/// Values of a label that were met last, each at the place that its symbol gives: most labels by which people group
/// have a few values, and this is four times as fast as the table.
const MEMO_LEN: usize = 64;

type Memo = [Option<(SymbolId, u32)>; MEMO_LEN];

/// How a series finds its group.
enum Keys {
    /// All series are one group.
    One(Option<u32>),
    /// `by` one label: its symbol says it all.
    Label(LabelColumn, HashMap<SymbolId, u32>, Box<Memo>),
    /// `by` several labels.
    Labels(Vec<SymbolId>, HashMap<Box<[SymbolId]>, u32>, Vec<SymbolId>),
    /// `without`: every label but those.
    Others(Vec<SymbolId>, HashMap<Box<[SymbolId]>, u32>, Vec<SymbolId>),
}

impl<'f> Folding<'f> {
    pub fn new(shard: &Shard, fold: &'f Fold, step_count: usize) -> Folding<'f> {
        // A label that no series of this shard has cannot tell them apart.
        let symbols = |names: &mut dyn Iterator<Item = &String>| -> Vec<SymbolId> {
            names.filter_map(|n| shard.symbol(n)).collect()
        };
        let is_value = |n: &&String| fold.op == Aggregator::CountValues && ***n == *fold.label;
        let keys = if fold.without {
            let mut left_out = symbols(&mut fold.grouping.iter());
            left_out.extend(shard.symbol(METRIC_NAME));
            if fold.op == Aggregator::CountValues {
                left_out.extend(shard.symbol(&fold.label));
            }
            Keys::Others(left_out, HashMap::new(), Vec::new())
        } else {
            let kept = symbols(&mut fold.grouping.iter().filter(|n| !is_value(n)));
            match kept.as_slice() {
                [] => Keys::One(None),
                [one] => Keys::Label(LabelColumn::new(*one), HashMap::new(), Box::new([None; MEMO_LEN])),
                _ => Keys::Labels(kept, HashMap::new(), Vec::new()),
            }
        };
        Folding { fold, groups: Groups::new(fold, step_count), keys, values: Vec::new() }
    }

    /// Counts series into the one group there is.
    pub fn count(&mut self, shard: &Shard, id: SeriesId, count: u64) {
        let (fold, groups) = (self.fold, &mut self.groups);
        if let Keys::One(known) = &mut self.keys {
            let group = *known.get_or_insert_with(|| groups.open(group_labels(fold, &shard.labels(id))));
            groups.count(group, count);
        }
    }

    pub fn take(&mut self, shard: &Shard, id: SeriesId, row: &Row, labels: impl Fn() -> Labels) {
        let group = self.group_of(shard, id, &labels);
        self.groups.add(group, row, labels);
    }

    /// The groups of many series.
    pub fn groups_of(
        &mut self,
        shard: &Shard,
        ids: &[SeriesId],
        labels: impl Fn(SeriesId) -> Labels,
        out: &mut Vec<u32>,
    ) {
        out.clear();
        let (fold, groups) = (self.fold, &mut self.groups);
        let Keys::Label(column, known, memo) = &mut self.keys else {
            out.extend(ids.iter().map(|id| self.group_of(shard, *id, || labels(*id))));
            return;
        };
        shard.index().column_values(ids, column, &mut self.values);
        out.extend(ids.iter().zip(&self.values).map(|(id, value)| {
            known_group(known, memo, *value, || groups.open(group_labels(fold, &labels(*id))))
        }));
    }

    /// The group of a series.
    #[inline]
    pub fn group_of(&mut self, shard: &Shard, id: SeriesId, labels: impl Fn() -> Labels) -> u32 {
        let (fold, groups) = (self.fold, &mut self.groups);
        let open = || groups.open(group_labels(fold, &labels()));
        match &mut self.keys {
            Keys::One(known) => *known.get_or_insert_with(open),
            Keys::Label(column, known, memo) => {
                known_group(known, memo, shard.column_value(id, column), open)
            }
            Keys::Labels(names, known, key) => {
                key.clear();
                key.extend(names.iter().map(|n| shard.label_value(id, *n)));
                find(known, key, open)
            }
            Keys::Others(names, known, key) => {
                key.clear();
                let kept = shard.index().label_symbols(id).filter(|(n, _)| !names.contains(n));
                key.extend(kept.flat_map(|(n, v)| [n, v]));
                find(known, key, open)
            }
        }
    }
}

/// The group of a label's value.
#[inline]
fn known_group(
    known: &mut HashMap<SymbolId, u32>,
    memo: &mut Memo,
    value: SymbolId,
    open: impl FnOnce() -> u32,
) -> u32 {
    let last = &mut memo[value.0 as usize % MEMO_LEN];
    match last {
        Some((symbol, group)) if *symbol == value => *group,
        _ => {
            let group = *known.entry(value).or_insert_with(open);
            *last = Some((value, group));
            group
        }
    }
}

fn find(known: &mut HashMap<Box<[SymbolId]>, u32>, key: &[SymbolId], open: impl FnOnce() -> u32) -> u32 {
    if let Some(g) = known.get(key) {
        return *g;
    }
    let g = open();
    known.insert(key.into(), g);
    g
}
