//! Which series have a label: sorted lists of series ids by (name, value), and the values of each name.

use hashbrown::{HashMap, HashSet};
use model::SeriesId;

use crate::shard::index::symbols::SymbolId;

/// A sorted list; most label values of a fleet are shared by many series, but unique ones (ids, paths) are as
/// common, and they must not cost an allocation each.
enum List {
    One(u32),
    Many(Vec<u32>),
}

/// A power of two.
const PARTS: usize = 256;

pub struct Postings {
    /// By the last bits of the value: where each of millions of series has a value of its own, a single map would
    /// stand still for long whenever it grows.
    lists: [HashMap<(SymbolId, SymbolId), List>; PARTS],
    /// Values of each name in order of appearance.
    values: HashMap<SymbolId, Vec<SymbolId>>,
}

impl Default for Postings {
    fn default() -> Postings {
        Postings { lists: std::array::from_fn(|_| HashMap::new()), values: HashMap::new() }
    }
}

impl Postings {
    fn part(&self, value: SymbolId) -> &HashMap<(SymbolId, SymbolId), List> {
        &self.lists[value.0 as usize % PARTS]
    }

    fn part_mut(&mut self, value: SymbolId) -> &mut HashMap<(SymbolId, SymbolId), List> {
        &mut self.lists[value.0 as usize % PARTS]
    }

    /// Notes that `id`, larger than every id noted before, has the label.
    pub fn insert(&mut self, name: SymbolId, value: SymbolId, id: SeriesId) {
        match self.part_mut(value).entry((name, value)) {
            hashbrown::hash_map::Entry::Vacant(e) => {
                e.insert(List::One(id.0));
                self.values.entry(name).or_default().push(value);
            }
            hashbrown::hash_map::Entry::Occupied(mut e) => match e.get_mut() {
                List::One(first) => {
                    let first = *first;
                    debug_assert!(first < id.0, "series ids are noted in order");
                    e.insert(List::Many(vec![first, id.0]));
                }
                List::Many(ids) => {
                    debug_assert!(ids.last().is_some_and(|l| *l < id.0), "series ids are noted in order");
                    ids.push(id.0);
                }
            },
        }
    }

    /// Keeps of a list what `stays` says; true where nothing is left, and then the list is gone.
    pub fn retain(&mut self, name: SymbolId, value: SymbolId, stays: impl Fn(u32) -> bool) -> bool {
        let hashbrown::hash_map::Entry::Occupied(mut e) = self.part_mut(value).entry((name, value)) else {
            return false;
        };
        let is_empty = match e.get_mut() {
            List::One(id) => !stays(*id),
            List::Many(ids) => {
                ids.retain(|id| stays(*id));
                ids.is_empty()
            }
        };
        if is_empty {
            e.remove();
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
        match self.part(value).get(&(name, value)) {
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
        self.lists.iter().map(HashMap::len).sum()
    }
}
