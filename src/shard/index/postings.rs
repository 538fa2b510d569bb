//! Which series have a label: sorted lists of series ids by (name, value), and the values of each name.

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use model::SeriesId;

use crate::shard::far::make_room;
use crate::shard::index::symbols::SymbolId;

/// A sorted list; most label values of a fleet are shared by many series, but unique ones (ids, paths) are as
/// common, and they must not cost an allocation each.
enum List {
    One(u32),
    Many(Vec<u32>),
}

impl List {
    #[inline]
    fn push(&mut self, id: u32) {
        match self {
            List::Many(ids) => {
                debug_assert!(ids.last().is_some_and(|l| *l < id), "series ids are noted in order");
                ids.push(id);
            }
            List::One(first) => {
                debug_assert!(*first < id, "series ids are noted in order");
                *self = List::Many(vec![*first, id]);
            }
        }
    }
}

/// A power of two.
const PARTS: usize = 256;

/// Labels that are known by their place: a page of a thousand series has some hundreds of them, and the next target's
/// page has the same again. A power of two; 12 bytes each.
const RECENT: usize = 1024;

/// Where a label's list lies in `lists`.
type ListId = u32;

/// Longest `lists`: the number behind it stands for nothing.
const LISTS_MAX: usize = u32::MAX as usize;

/// The labels noted last.
struct Recent(Box<[(SymbolId, SymbolId, ListId)]>);

impl Recent {
    fn place(name: SymbolId, value: SymbolId) -> usize {
        (value.0 ^ name.0.wrapping_mul(0x9e37_79b1) >> 20) as usize % RECENT
    }

    #[inline]
    fn find(&self, name: SymbolId, value: SymbolId) -> Option<ListId> {
        let (n, v, list) = self.0[Recent::place(name, value)];
        (n == name && v == value && list != ListId::MAX).then_some(list)
    }

    fn note(&mut self, name: SymbolId, value: SymbolId, list: ListId) {
        self.0[Recent::place(name, value)] = (name, value, list);
    }

    fn forget(&mut self, name: SymbolId, value: SymbolId) {
        self.0[Recent::place(name, value)].2 = ListId::MAX;
    }
}

pub struct Postings {
    /// By the last bits of the value: where each of millions of series has a value of its own, a single map would
    /// stand still for long whenever it grows.
    ids: [HashMap<(SymbolId, SymbolId), ListId>; PARTS],
    lists: Vec<List>,
    /// Lists of labels that no series has any more: the next new ones'.
    free: Vec<ListId>,
    recent: Recent,
    /// Values of each name in order of appearance.
    values: HashMap<SymbolId, Vec<SymbolId>>,
}

impl Default for Postings {
    fn default() -> Postings {
        let nothing = (SymbolId::EMPTY, SymbolId::EMPTY, ListId::MAX);
        Postings {
            ids: std::array::from_fn(|_| HashMap::new()),
            lists: Vec::new(),
            free: Vec::new(),
            recent: Recent(vec![nothing; RECENT].into_boxed_slice()),
            values: HashMap::new(),
        }
    }
}

impl Postings {
    fn id_of(&self, name: SymbolId, value: SymbolId) -> Option<ListId> {
        self.ids[value.0 as usize % PARTS].get(&(name, value)).copied()
    }

    /// Notes that `id`, larger than every id noted before, has the label.
    #[inline]
    pub fn insert(&mut self, name: SymbolId, value: SymbolId, id: SeriesId) {
        match self.recent.find(name, value) {
            Some(list) => self.lists[list as usize].push(id.0),
            None => self.insert_other(name, value, id),
        }
    }

    fn insert_other(&mut self, name: SymbolId, value: SymbolId, id: SeriesId) {
        let list = match self.ids[value.0 as usize % PARTS].entry((name, value)) {
            Entry::Vacant(e) => {
                let list = self.free.pop().unwrap_or_else(|| {
                    make_room(&mut self.lists, 1, 1);
                    self.lists.push(List::One(id.0));
                    // Labels are made of symbols, and of all series' labels no more fit: see `LISTS_MAX`.
                    (self.lists.len() - 1) as ListId
                });
                self.lists[list as usize] = List::One(id.0);
                e.insert(list);
                self.values.entry(name).or_default().push(value);
                list
            }
            Entry::Occupied(e) => {
                let list = *e.get();
                self.lists[list as usize].push(id.0);
                list
            }
        };
        self.recent.note(name, value, list);
    }

    /// Whether so many more labels fit.
    pub fn has_room(&self, more: usize) -> bool {
        self.lists.len() + more <= LISTS_MAX
    }

    /// Keeps of a list what `stays` says; true where nothing is left, and then the list is gone.
    pub fn retain(&mut self, name: SymbolId, value: SymbolId, stays: impl Fn(u32) -> bool) -> bool {
        let Entry::Occupied(e) = self.ids[value.0 as usize % PARTS].entry((name, value)) else {
            return false;
        };
        let list = *e.get();
        let is_empty = match &mut self.lists[list as usize] {
            List::One(id) => !stays(*id),
            List::Many(ids) => {
                ids.retain(|id| stays(*id));
                ids.is_empty()
            }
        };
        if is_empty {
            e.remove();
            self.recent.forget(name, value);
            self.lists[list as usize] = List::One(0);
            self.free.push(list);
        }
        is_empty
    }

    /// Takes values of a name out that no series has any more.
    pub fn remove_values(&mut self, name: SymbolId, gone: &HashSet<SymbolId>) {
        if let Some(values) = self.values.get_mut(&name) {
            values.retain(|v| !gone.contains(v));
            if values.is_empty() {
                self.values.remove(&name);
            }
        }
    }

    /// Sorted ids of the series with `name="value"`.
    pub fn list(&self, name: SymbolId, value: SymbolId) -> &[u32] {
        match self.id_of(name, value).map(|list| &self.lists[list as usize]) {
            None => &[],
            Some(List::One(id)) => std::slice::from_ref(id),
            Some(List::Many(ids)) => ids,
        }
    }

    /// Values that series have for `name`, in no particular order.
    pub fn values(&self, name: SymbolId) -> &[SymbolId] {
        self.values.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Names that series have, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = SymbolId> + '_ {
        self.values.keys().copied()
    }

    /// Distinct (name, value) pairs.
    pub fn pair_count(&self) -> usize {
        self.lists.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::rng::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn lists_are_those_of_a_plain_map_while_labels_come_and_go() {
        for seed in 0..20 {
            let (mut rng, mut postings) = (Rng::seeded(seed), Postings::default());
            let mut plain: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
            for id in 0..3000 {
                // Values of many rounds share a place among the recent ones.
                let (name, value) =
                    (rng.below(3) as u32, (rng.below(20) + rng.below(3) * RECENT as u64) as u32);
                postings.insert(SymbolId(name), SymbolId(value), SeriesId(id));
                plain.entry((name, value)).or_default().push(id);
                if rng.chance(0.1) {
                    let gone = rng.below(7) as u32;
                    let is_empty = postings.retain(SymbolId(name), SymbolId(value), |id| id % 7 != gone);
                    let left = plain.get_mut(&(name, value)).expect("it was noted");
                    left.retain(|id| id % 7 != gone);
                    assert_eq!(is_empty, left.is_empty());
                    if is_empty {
                        plain.remove(&(name, value));
                        postings.remove_values(SymbolId(name), &HashSet::from_iter([SymbolId(value)]));
                    }
                }
            }
            assert_eq!(postings.pair_count(), plain.len());
            for ((name, value), ids) in &plain {
                assert_eq!(postings.list(SymbolId(*name), SymbolId(*value)), ids, "seed {seed}");
                assert!(postings.values(SymbolId(*name)).contains(&SymbolId(*value)));
            }
        }
    }
}
