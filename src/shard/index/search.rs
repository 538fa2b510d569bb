//! Matchers to series in turns, where they meet many: sets as bitmaps, marked list by list.
//!
//! Between two turns series come and go. Those that come are none of the search's: ids are handed out in order, so
//! the first turn says which there are. Those that go are found or not, and have no samples either way.

use std::collections::HashSet;

use model::{MatchOp, Matcher};

use crate::shard::index::matching::Matched;
use crate::shard::index::{Index, SymbolId};

/// What one turn comes to, in ids marked at a nanosecond or two: some 50 us.
const TURN_IDS: usize = 32 * 1024;

/// A value that is looked at costs as much as so many ids: its text is matched, its list looked up.
const VALUE_IDS: usize = 32;

/// A search that comes to less is done at once.
const SHORT_IDS: usize = 2 * TURN_IDS;

#[derive(Debug)]
pub struct Search {
    /// Those that tell something; what takes away comes last.
    matchers: Vec<Matcher>,
    next: usize,
    /// Series there were at the beginning.
    id_count: usize,
    /// What all matchers so far accept.
    bits: Option<Vec<u64>>,
    gather: Option<Gather>,
}

/// Series that have one of the values that a matcher takes, being marked.
#[derive(Debug)]
struct Gather {
    name: SymbolId,
    /// The only values that count; none where each is asked.
    literals: Option<Vec<SymbolId>>,
    /// Values that are still to be looked at. They go from the last to the first: where some vanish meanwhile, others
    /// take their places from behind, and are at worst looked at twice.
    left: usize,
    /// The value that was begun, and the first id of its list that is not marked yet.
    begun: Option<(SymbolId, u32)>,
    marks: Vec<u64>,
}

impl Index {
    /// The search for what all `matchers` accept, where that is more than a turn's work.
    pub fn search(&self, matchers: &[Matcher]) -> Option<Search> {
        let mut telling: Vec<&Matcher> = matchers.iter().filter(|m| !self.accepts_all(m)).collect();
        if self.cost_of(&telling) <= SHORT_IDS {
            return None;
        }
        telling.sort_by_key(|m| m.matches_empty());
        let matchers = telling.into_iter().cloned().collect();
        Some(Search { matchers, next: 0, id_count: self.id_count(), bits: None, gather: None })
    }

    /// What finding the series at once would come to.
    fn cost_of(&self, telling: &[&Matcher]) -> usize {
        if telling.is_empty() && self.removed_count == 0 {
            return 0;
        }
        // What only takes away begins with all there are.
        let all = if telling.iter().all(|m| m.matches_empty()) { self.id_count() } else { 0 };
        let (mut shortest, mut cost) = (None, 0);
        for m in telling {
            let Some(name) = self.symbols.find(&m.name) else { continue };
            if m.op == MatchOp::Equal && !m.value.is_empty() {
                // Equal ones are met in the order of their lengths, and the longer is galloped through.
                let length = self.list_of(name, &m.value).len();
                shortest = Some(shortest.map_or(length, |s: usize| s.min(length)));
                continue;
            }
            cost += match self.literals_of(m) {
                Some(values) => values.iter().map(|v| self.postings.list(name, *v).len()).sum(),
                None => {
                    let values = self.postings.values(name);
                    let lists = values.iter().take(SHORT_IDS / VALUE_IDS);
                    let ids: usize = lists.map(|v| self.postings.list(name, *v).len()).sum();
                    values.len() * VALUE_IDS + ids
                }
            };
        }
        cost + shortest.unwrap_or(0) + all
    }

    /// The values that a matcher names, where it names them all.
    fn literals_of(&self, m: &Matcher) -> Option<Vec<SymbolId>> {
        let known = |v: &str| self.symbols.find(v);
        match m.op {
            MatchOp::Equal | MatchOp::NotEqual if !m.value.is_empty() => {
                Some(known(&m.value).into_iter().collect())
            }
            MatchOp::Regex if !m.matches_empty() => {
                let values: HashSet<SymbolId> =
                    m.regex()?.literals()?.iter().filter_map(|v| known(v)).collect();
                Some(values.into_iter().collect())
            }
            _ => None,
        }
    }
}

impl Search {
    /// Goes on for a turn; true when the search is done.
    pub fn step(&mut self, index: &Index) -> bool {
        let mut left = TURN_IDS;
        while let Some(m) = self.matchers.get(self.next) {
            let takes_away = m.matches_empty();
            let Some(name) = index.symbols.find(&m.name) else {
                self.take(vec![0; self.id_count.div_ceil(64)], takes_away, index);
                continue;
            };
            let id_count = self.id_count;
            let gather = self.gather.get_or_insert_with(|| Gather::begin(index, m, name, id_count));
            if !gather.go_on(index, m, id_count as u32, &mut left) {
                return false;
            }
            let marks = self.gather.take().map(|g| g.marks).unwrap_or_default();
            self.take(marks, takes_away, index);
        }
        true
    }

    /// Takes what a matcher accepts, or refuses.
    fn take(&mut self, marks: Vec<u64>, takes_away: bool, index: &Index) {
        self.next += 1;
        match &mut self.bits {
            Some(bits) if takes_away => bits.iter_mut().zip(marks).for_each(|(b, m)| *b &= !m),
            Some(bits) => bits.iter_mut().zip(marks).for_each(|(b, m)| *b &= m),
            None if takes_away => {
                let mut all = all_of(index, self.id_count);
                all.iter_mut().zip(marks).for_each(|(b, m)| *b &= !m);
                self.bits = Some(all);
            }
            None => self.bits = Some(marks),
        }
    }

    /// What was found.
    pub fn finish(self, index: &Index) -> Matched {
        let bits = self.bits.unwrap_or_else(|| all_of(index, self.id_count));
        let count = bits.iter().map(|w| w.count_ones() as usize).sum();
        Matched::Bits(bits, count)
    }
}

/// A bit for each series below `id_count` that was not taken out.
fn all_of(index: &Index, id_count: usize) -> Vec<u64> {
    let mut bits = vec![u64::MAX; id_count.div_ceil(64)];
    if let Some(last) = bits.last_mut().filter(|_| !id_count.is_multiple_of(64)) {
        *last = (1 << (id_count % 64)) - 1;
    }
    bits.iter_mut().zip(&index.removed).for_each(|(b, gone)| *b &= !gone);
    bits
}

impl Gather {
    fn begin(index: &Index, m: &Matcher, name: SymbolId, id_count: usize) -> Gather {
        let literals = index.literals_of(m);
        let left = literals.as_ref().map_or_else(|| index.postings.values(name).len(), Vec::len);
        Gather { name, literals, left, begun: None, marks: vec![0; id_count.div_ceil(64)] }
    }

    /// Marks series until `left` is used up; true when all are marked.
    fn go_on(&mut self, index: &Index, m: &Matcher, end: u32, left: &mut usize) -> bool {
        let takes_away = m.matches_empty();
        let values = self.literals.as_deref().unwrap_or_else(|| index.postings.values(self.name));
        self.left = self.left.min(values.len());
        while let Some(value) = self.left.checked_sub(1).map(|last| values[last]) {
            if *left == 0 {
                return false;
            }
            *left = left.saturating_sub(VALUE_IDS);
            let is_named = self.literals.is_some();
            if !is_named && m.matches(index.symbols.text(value)) == takes_away {
                self.left -= 1;
                continue;
            }
            let from = self.begun.filter(|b| b.0 == value).map_or(0, |b| b.1);
            let list = index.postings.list(self.name, value);
            let list = &list[list.partition_point(|id| *id < from)..];
            let list = &list[..list.partition_point(|id| *id < end)];
            let now = &list[..list.len().min((*left).max(1))];
            now.iter().for_each(|id| self.marks[*id as usize / 64] |= 1 << (id % 64));
            *left = left.saturating_sub(now.len());
            if now.len() < list.len() {
                self.begun = now.last().map(|last| (value, last + 1));
                return false;
            }
            (self.left, self.begun) = (self.left - 1, None);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, SeriesId};

    use super::*;

    const SERIES: u32 = 20_000;

    fn index() -> Index {
        let mut index = Index::default();
        (0..SERIES).for_each(|i| add(&mut index, i));
        index
    }

    fn add(index: &mut Index, i: u32) {
        let mut labels = vec![("__name__", format!("m{}", i % 3)), ("path", format!("/p/{i}"))];
        if !i.is_multiple_of(5) {
            labels.push(("dc", format!("d{}", i % 7)));
        }
        index.find_or_insert(&Labels::from_pairs(labels)).expect("there is room");
    }

    fn found(search: Search, index: &Index) -> Vec<u32> {
        let Matched::Bits(bits, count) = search.finish(index) else { return Vec::new() };
        let ids: Vec<u32> =
            (0..bits.len() as u32 * 64).filter(|id| bits[*id as usize / 64] >> (id % 64) & 1 == 1).collect();
        assert_eq!(ids.len(), count);
        ids
    }

    const CASES: [&[(&str, MatchOp, &str)]; 8] = [
        &[("path", MatchOp::Regex, "/p/.*7.*")],
        &[("path", MatchOp::NotRegex, "/p/.*7.*"), ("__name__", MatchOp::Equal, "m1")],
        &[("path", MatchOp::Regex, ".+"), ("dc", MatchOp::NotEqual, "d3")],
        &[("dc", MatchOp::Regex, "d1|d2|nope"), ("path", MatchOp::Regex, "/p/.?5.+")],
        &[("dc", MatchOp::Equal, ""), ("path", MatchOp::Regex, ".*9")],
        &[("dc", MatchOp::Regex, "d1|"), ("path", MatchOp::Regex, ".*9")],
        &[("dc", MatchOp::NotRegex, ".+"), ("nope", MatchOp::NotEqual, "x"), ("path", MatchOp::NotEqual, "")],
        &[("nope", MatchOp::Regex, ".+"), ("path", MatchOp::Regex, ".*")],
    ];

    fn matchers_of(case: &[(&str, MatchOp, &str)]) -> Vec<Matcher> {
        case.iter().map(|(name, op, value)| Matcher::new(*op, *name, *value).unwrap()).collect()
    }

    #[test]
    fn a_long_search_takes_turns_and_finds_what_a_short_one_finds() {
        let index = index();
        let mut long = 0;
        for case in CASES {
            let matchers = matchers_of(case);
            let Some(mut search) = index.search(&matchers) else { continue };
            long += 1;
            let mut turns = 1;
            while !search.step(&index) {
                turns += 1;
            }
            // Each path has a value of its own.
            assert!(turns >= SERIES as usize * VALUE_IDS / TURN_IDS, "{case:?} in {turns} turns");
            assert_eq!(found(search, &index), index.matching(&matchers), "{case:?}");
        }
        assert!(long >= 7, "{long} of the searches are long");
        let short = matchers_of(&[("path", MatchOp::Equal, "/p/77"), ("__name__", MatchOp::Equal, "m2")]);
        assert!(index.search(&short).is_none());
    }

    #[test]
    fn series_that_come_are_not_found_and_those_that_go_disturb_nothing() {
        for case in CASES {
            let mut index = index();
            let matchers = matchers_of(case);
            let expect = index.matching(&matchers);
            let Some(mut search) = index.search(&matchers) else { continue };
            let (mut turns, mut gone) = (0, HashSet::new());
            while !search.step(&index) {
                turns += 1;
                (0..5).for_each(|i| add(&mut index, SERIES + turns * 5 + i));
                if turns % 5 == 0 {
                    let some: Vec<SeriesId> =
                        (0..SERIES).skip(turns as usize).step_by(977).map(SeriesId).collect();
                    gone.extend(some.iter().map(|id| id.0));
                    index.remove(&some);
                }
            }
            let held = |ids: Vec<u32>| ids.into_iter().filter(|id| !gone.contains(id)).collect::<Vec<_>>();
            assert_eq!(held(found(search, &index)), held(expect), "{case:?}");
        }
    }
}
