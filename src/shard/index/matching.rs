//! Matchers to series ids: intersections of what must be there, less what must not.

use std::borrow::Cow;

use model::{MatchOp, Matcher};

use crate::shard::index::{Index, SymbolId};

/// What matchers select.
#[derive(Debug)]
pub enum Matched {
    /// All series there are, so many.
    All(u32),
    /// Sorted ids.
    Ids(Vec<u32>),
    /// A bit for each, and how many there are.
    Bits(Vec<u64>, usize),
}

impl Matched {
    pub fn is_empty(&self) -> bool {
        match self {
            Matched::All(count) => *count == 0,
            Matched::Ids(ids) => ids.is_empty(),
            Matched::Bits(_, count) => *count == 0,
        }
    }
}

/// Values whose series are counted to see that every series has the label: 100 us.
const VALUES_COUNTED: usize = 4096;

impl Index {
    /// The series that all `matchers` accept.
    pub fn select(&self, matchers: &[Matcher]) -> Matched {
        let telling: Vec<&Matcher> = matchers.iter().filter(|m| !self.accepts_all(m)).collect();
        if telling.is_empty() && self.series_count() == self.id_count() {
            return Matched::All(self.series_count() as u32);
        }
        Matched::Ids(self.matching_all(&telling))
    }

    /// Whether a matcher that takes any value at all meets a label that every series has.
    pub(super) fn accepts_all(&self, m: &Matcher) -> bool {
        let takes_any = match m.op {
            MatchOp::NotEqual => m.value.is_empty(),
            MatchOp::Regex => m.value == ".+",
            _ => false,
        };
        takes_any
            && self.symbols.find(&m.name).is_some_and(|name| {
                let values = self.postings.values(name);
                // Which lists there are is found by looking at each: of so many values it is not worth it.
                values.len() <= VALUES_COUNTED
                    && values.iter().map(|v| self.postings.list(name, *v).len()).sum::<usize>()
                        == self.series_count()
            })
    }

    /// Sorted ids of the series that all `matchers` accept.
    ///
    /// A matcher that accepts the empty string also accepts series without the label, so it can only take away;
    /// one that does not can be answered from postings alone.
    pub fn matching(&self, matchers: &[Matcher]) -> Vec<u32> {
        self.matching_all(&matchers.iter().collect::<Vec<_>>())
    }

    fn matching_all(&self, matchers: &[&Matcher]) -> Vec<u32> {
        let (negative, positive): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.matches_empty());
        let mut lists: Vec<Cow<'_, [u32]>> = Vec::with_capacity(positive.len());
        for m in &positive {
            let list = self.having(m);
            if list.is_empty() {
                return Vec::new();
            }
            lists.push(list);
        }
        lists.sort_by_key(|list| list.len());
        let common = lists.into_iter().reduce(|all, list| Cow::Owned(intersected(&all, &list)));
        let mut result = common.map_or_else(|| self.ids().collect(), Cow::into_owned);
        for m in negative {
            if result.is_empty() {
                break;
            }
            let refused = self.having_refused(m);
            if !refused.is_empty() {
                result = subtracted(&result, &refused);
            }
        }
        result
    }

    /// Series that have the label with a value that the matcher accepts (the matcher refuses the empty string).
    fn having(&self, m: &Matcher) -> Cow<'_, [u32]> {
        let Some(name) = self.symbols.find(&m.name) else { return Cow::Borrowed(&[]) };
        if m.op == MatchOp::Equal {
            return Cow::Borrowed(self.list_of(name, &m.value));
        }
        if let (MatchOp::Regex, Some(literals)) = (m.op, m.regex().and_then(|r| r.literals())) {
            return Cow::Owned(united(literals.iter().map(|v| self.list_of(name, v)).collect()));
        }
        Cow::Owned(self.united_where(name, |v| m.matches(v)))
    }

    /// Series that have the label with a value that the matcher refuses (it accepts the empty string).
    fn having_refused(&self, m: &Matcher) -> Vec<u32> {
        let Some(name) = self.symbols.find(&m.name) else { return Vec::new() };
        if m.op == MatchOp::NotEqual {
            return self.list_of(name, &m.value).to_vec();
        }
        self.united_where(name, |v| !m.matches(v))
    }

    pub(super) fn list_of(&self, name: SymbolId, value: &str) -> &[u32] {
        self.symbols.find(value).map_or(&[], |v| self.postings.list(name, v))
    }

    fn united_where(&self, name: SymbolId, accepts: impl Fn(&str) -> bool) -> Vec<u32> {
        let values = self.postings.values(name).iter();
        united(
            values
                .filter(|v| accepts(self.symbols.text(**v)))
                .map(|v| self.postings.list(name, *v))
                .collect(),
        )
    }
}

/// Ids in both lists; gallops through the longer one.
fn intersected(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, mut long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(short.len());
    for id in short {
        long = &long[skip_below(long, *id)..];
        if long.first() == Some(id) {
            out.push(*id);
        }
    }
    out
}

/// Ids of `a` that are not in `b`.
fn subtracted(a: &[u32], mut b: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len());
    for id in a {
        b = &b[skip_below(b, *id)..];
        if b.first() != Some(id) {
            out.push(*id);
        }
    }
    out
}

/// How many ids at the front of `list` are below `id`: doubling steps, then a binary search.
fn skip_below(list: &[u32], id: u32) -> usize {
    let mut step = 1;
    while step < list.len() && list[step] < id {
        step *= 2;
    }
    let from = step / 2;
    let to = list.len().min(step + 1);
    if list.is_empty() { 0 } else { from + list[from..to].partition_point(|x| *x < id) }
}

/// Union of lists that share no id (each series has one value of a name): concatenate and sort what is short,
/// mark in a bitmap what is long.
fn united(lists: Vec<&[u32]>) -> Vec<u32> {
    match lists.as_slice() {
        [] => return Vec::new(),
        [one] => return one.to_vec(),
        _ => {}
    }
    let total: usize = lists.iter().map(|l| l.len()).sum();
    let last = lists.iter().filter_map(|l| l.last()).max().map_or(0, |l| *l as usize);
    // A bitmap walk costs a word per 64 ids of the range; a sort costs about log2(total) compares an id.
    if last / 64 > total * 8 {
        let mut out = Vec::with_capacity(total);
        for l in lists {
            out.extend_from_slice(l);
        }
        out.sort_unstable();
        out.dedup();
        return out;
    }
    let mut bits = vec![0u64; last / 64 + 1];
    for l in lists {
        for id in l {
            bits[*id as usize / 64] |= 1 << (id % 64);
        }
    }
    let mut out = Vec::with_capacity(total);
    for (w, mut word) in bits.into_iter().enumerate() {
        while word != 0 {
            out.push(w as u32 * 64 + word.trailing_zeros());
            word &= word - 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    fn check(index: &Index, matchers: &[(&str, MatchOp, &str)], expect: &[u32]) {
        let matchers: Vec<Matcher> =
            matchers.iter().map(|(n, op, v)| Matcher::new(*op, *n, *v).unwrap()).collect();
        assert_eq!(index.matching(&matchers), expect, "{matchers:?}");
        let selected = match index.select(&matchers) {
            Matched::All(n) => (0..n).collect(),
            Matched::Ids(ids) => ids,
            Matched::Bits(..) => Vec::new(),
        };
        assert_eq!(selected, expect, "{matchers:?}");
        let naive: Vec<u32> = (0..index.series_count() as u32)
            .filter(|i| {
                let l = index.labels(model::SeriesId(*i));
                matchers.iter().all(|m| m.matches(l.value_or_empty(&m.name)))
            })
            .collect();
        assert_eq!(naive, expect, "the naive walk, {matchers:?}");
    }

    #[test]
    fn matchers_select_what_a_walk_over_all_series_selects() {
        use MatchOp::*;
        let mut index = Index::default();
        for (i, l) in [
            vec![("__name__", "up"), ("job", "a")],
            vec![("__name__", "up"), ("job", "b"), ("dc", "x")],
            vec![("__name__", "down"), ("job", "a"), ("dc", "y")],
            vec![("__name__", "down")],
        ]
        .into_iter()
        .enumerate()
        {
            let labels = Labels::from_pairs(l);
            assert_eq!(index.find_or_insert(&labels), Ok((model::SeriesId(i as u32), true)));
            assert_eq!(index.find_or_insert(&labels), Ok((model::SeriesId(i as u32), false)));
        }
        check(&index, &[], &[0, 1, 2, 3]);
        check(&index, &[("job", Equal, "a")], &[0, 2]);
        check(&index, &[("job", Equal, "")], &[3]);
        check(&index, &[("job", NotEqual, "")], &[0, 1, 2]);
        check(&index, &[("__name__", NotEqual, "")], &[0, 1, 2, 3]);
        check(&index, &[("__name__", Regex, ".+"), ("job", Equal, "a")], &[0, 2]);
        check(&index, &[("job", NotEqual, "a")], &[1, 3]);
        check(&index, &[("job", Regex, "a|b"), ("dc", Regex, ".+")], &[1, 2]);
        check(&index, &[("job", Regex, "a|"), ("__name__", Equal, "down")], &[2, 3]);
        check(&index, &[("job", NotRegex, "a.*"), ("__name__", NotEqual, "")], &[1, 3]);
        check(&index, &[("dc", NotRegex, ".+")], &[0, 3]);
        check(&index, &[("nope", Equal, "")], &[0, 1, 2, 3]);
        check(&index, &[("nope", Equal, "x")], &[]);
        check(&index, &[("nope", NotRegex, "x")], &[0, 1, 2, 3]);
    }
}
