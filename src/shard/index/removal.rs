//! Taking series out of the index: from the postings and the table of hashes, at once for many.
//!
//! Their numbers are not used again in this process, and their label texts stay until the next start, which reads only
//! what the head still names.

use hashbrown::{HashMap, HashSet};
use model::SeriesId;

use crate::shard::index::{Index, SymbolId};

/// Series taken out in one turn: the lists of labels that all series share are walked once for each turn, a
/// millisecond for a million series.
pub const REMOVED_AT_ONCE: usize = 8192;

impl Index {
    /// Takes series out: no matcher finds them, and the same labels get a new id.
    pub fn remove(&mut self, ids: &[SeriesId]) {
        let mut pairs: HashSet<(SymbolId, SymbolId)> = HashSet::new();
        let mut gone: HashSet<u32> = HashSet::with_capacity(ids.len());
        for id in ids {
            let hash = self.hashes[id.0 as usize];
            let Some(entry) = self.by_hash.find_entry(hash.0, |i| *i == id.0) else { continue };
            entry.remove();
            gone.insert(id.0);
            pairs.extend(self.label_symbols(*id));
        }
        self.note_removed(&gone);
        let mut empty: HashMap<SymbolId, HashSet<SymbolId>> = HashMap::new();
        for (name, value) in pairs {
            if self.postings.retain(name, value, |id| !gone.contains(&id)) {
                empty.entry(name).or_default().insert(value);
            }
        }
        for (name, values) in empty {
            self.postings.remove_values(name, &values);
        }
    }

    fn note_removed(&mut self, gone: &HashSet<u32>) {
        self.removed.resize(self.entries.len().div_ceil(64), 0);
        for id in gone {
            self.removed[*id as usize / 64] |= 1 << (id % 64);
        }
        self.removed_count += gone.len();
    }

    fn is_removed(&self, id: u32) -> bool {
        self.removed.get(id as usize / 64).is_some_and(|w| w >> (id % 64) & 1 == 1)
    }

    /// Whether a series was not taken out.
    pub fn holds(&self, id: SeriesId) -> bool {
        !self.is_removed(id.0)
    }

    /// Ids of all series, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.id_count() as u32).filter(|id| !self.is_removed(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Labels, Matcher};

    #[test]
    fn removed_series_are_found_no_more_and_may_come_again() {
        let mut index = Index::default();
        let labels = |i: u32| {
            let (all, third) = ("x".to_owned(), (i % 3).to_string());
            Labels::from_pairs([("__name__", all), ("i", i.to_string()), ("third", third)])
        };
        for i in 0..300 {
            index.find_or_insert(&labels(i)).expect("there is room");
        }
        let thirds: Vec<SeriesId> = (0..300).step_by(3).map(SeriesId).collect();
        index.remove(&thirds);
        index.remove(&thirds[..5]);
        assert_eq!((index.series_count(), index.id_count()), (200, 300));
        assert_eq!(index.matching(&[]).len(), 200);
        assert_eq!(index.matching(&[Matcher::equal("__name__", "x")]).len(), 200);
        assert_eq!(index.matching(&[Matcher::equal("third", "0")]), [0u32; 0]);
        assert_eq!(index.find(&labels(0)), None);
        assert_eq!(index.find(&labels(1)), Some(SeriesId(1)));
        let third = index.symbols().find("third").expect("a label");
        assert_eq!(index.postings().values(third).len(), 2);
        assert_eq!(index.pair_count(), 1 + 200 + 2);
        assert_eq!(index.find_or_insert(&labels(0)), Ok((SeriesId(300), true)));
        assert_eq!(index.matching(&[Matcher::equal("third", "0")]), [300]);
    }
}
