//! Questions about series rather than samples: which there are, which labels, how many of what.

use hashbrown::{HashMap, HashSet};
use model::{Labels, Matcher, SeriesId, Timestamp};

use crate::shard::index::SymbolId;
use crate::shard::{Shard, index::Index};

/// How many of something, by text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub text: String,
    pub count: u64,
}

/// The largest label sets of a shard, for `/api/v1/status/tsdb`. Lists hold all entries, unsorted: the largest of
/// the whole are not among the largest of each part.
#[derive(Clone, Debug, Default)]
pub struct Cardinality {
    pub series_count: u64,
    pub min_time: Option<Timestamp>,
    pub max_time: Option<Timestamp>,
    pub group_count: u64,
    pub series_by_metric: Vec<Counted>,
    /// Distinct values of each name, as text: the same value may live on several shards.
    pub bytes_by_label: Vec<Counted>,
    pub series_by_pair: Vec<Counted>,
}

impl Shard {
    /// Series that any of `selectors` takes (all where there is none) and that have samples between two times.
    pub fn series_in(&self, selectors: &[Vec<Matcher>], start: Timestamp, end: Timestamp) -> Vec<SeriesId> {
        let mut ids: Vec<u32> = match selectors {
            [] => self.index().ids().collect(),
            [one] => self.index().matching(one),
            many => {
                let mut all: Vec<u32> = many.iter().flat_map(|m| self.index().matching(m)).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        };
        ids.retain(|id| self.head().has_samples(SeriesId(*id), start, end));
        ids.into_iter().map(SeriesId).collect()
    }

    /// Labels of such series, `limit` at most (0 for all).
    pub fn series_labels(
        &self,
        selectors: &[Vec<Matcher>],
        start: Timestamp,
        end: Timestamp,
        limit: usize,
    ) -> Vec<Labels> {
        let ids = self.series_in(selectors, start, end);
        let shown = if limit == 0 { ids.len() } else { limit.min(ids.len()) };
        // The first in order of labels must be among them, so all are made before any is cut.
        let mut labels: Vec<Labels> = ids.into_iter().map(|id| self.labels(id)).collect();
        if shown < labels.len() {
            labels.select_nth_unstable(shown);
            labels.truncate(shown);
        }
        labels
    }

    /// Names of labels of such series.
    pub fn label_names(&self, selectors: &[Vec<Matcher>], start: Timestamp, end: Timestamp) -> Vec<String> {
        if !self.head().overlaps(start, end) {
            return Vec::new();
        }
        if selectors.is_empty() {
            let names = self.index().postings().names();
            return names.map(|n| self.symbol_text(n).to_owned()).collect();
        }
        let mut names: HashSet<SymbolId> = HashSet::new();
        for id in self.series_in(selectors, start, end) {
            names.extend(self.index().label_symbols(id).map(|(n, _)| n));
        }
        names.into_iter().map(|n| self.symbol_text(n).to_owned()).collect()
    }

    /// Values of one label of such series.
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        start: Timestamp,
        end: Timestamp,
    ) -> Vec<String> {
        let Some(name) = self.symbol(name) else { return Vec::new() };
        if !self.head().overlaps(start, end) {
            return Vec::new();
        }
        let text = |v: &SymbolId| self.symbol_text(*v).to_owned();
        if selectors.is_empty() {
            return self.index().postings().values(name).iter().map(text).collect();
        }
        let ids = self.series_in(selectors, start, end);
        let values: HashSet<SymbolId> = ids.into_iter().map(|id| self.label_value(id, name)).collect();
        values.iter().filter(|v| **v != SymbolId::EMPTY).map(text).collect()
    }

    pub fn cardinality(&self) -> Cardinality {
        let index = self.index();
        let mut by_metric: HashMap<SymbolId, u64> = HashMap::new();
        let mut out = Cardinality {
            series_count: index.series_count() as u64,
            min_time: self.head().min_time(),
            max_time: self.head().max_time(),
            group_count: self.head().group_count() as u64,
            ..Cardinality::default()
        };
        let metric_name = index.symbols().find(model::labels::METRIC_NAME);
        for name in index.postings().names() {
            let mut bytes = 0;
            for value in index.postings().values(name) {
                let count = index.postings().list(name, *value).len() as u64;
                bytes += index.symbols().text(*value).len() as u64;
                if Some(name) == metric_name {
                    by_metric.insert(*value, count);
                }
                out.series_by_pair.push(Counted { text: pair_text(index, name, *value), count });
            }
            out.bytes_by_label.push(Counted { text: index.symbols().text(name).to_owned(), count: bytes });
        }
        let metric =
            |(v, count): (SymbolId, u64)| Counted { text: index.symbols().text(v).to_owned(), count };
        out.series_by_metric = by_metric.into_iter().map(metric).collect();
        out
    }
}

fn pair_text(index: &Index, name: SymbolId, value: SymbolId) -> String {
    format!("{}={}", index.symbols().text(name), index.symbols().text(value))
}
