//! The exemplars of a shard's series: the newest ones, whatever series they belong to.
//!
//! A ring of fixed length, as Prometheus keeps it: who sends many pushes out the oldest of all. They come back from
//! the log after a restart as far as the log still has them; checkpoints do not hold them.

use std::collections::VecDeque;

use hashbrown::HashMap;
use model::{Labels, SeriesId, Timestamp};

/// Exemplars that are kept where nothing is said, as in Prometheus.
pub const EXEMPLARS_DEFAULT: usize = 100_000;

/// Characters that the names and values of an exemplar's labels have together at most.
const LABEL_CHARS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub time: Timestamp,
    pub value: f64,
}

/// What became of exemplars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub appended: u64,
    pub out_of_order: u64,
    pub too_long: u64,
}

pub struct Exemplars {
    max: usize,
    ring: VecDeque<(SeriesId, Exemplar)>,
    newest: HashMap<SeriesId, Exemplar>,
    pub counts: Counts,
}

impl Default for Exemplars {
    fn default() -> Self {
        let (ring, newest) = (VecDeque::new(), HashMap::new());
        Exemplars { max: EXEMPLARS_DEFAULT, ring, newest, counts: Counts::default() }
    }
}

impl Exemplars {
    /// Keeps `max` from here on; the oldest go first.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.ring.len() > max {
            self.drop_oldest();
        }
        if max == 0 {
            self.newest = HashMap::new();
        }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Series that have any.
    pub fn series_count(&self) -> usize {
        self.newest.len()
    }

    /// Time of the oldest that is held.
    pub fn oldest_time(&self) -> Option<Timestamp> {
        self.ring.front().map(|(_, x)| x.time)
    }

    /// Takes an exemplar that is newer than its series' last one; the same again is passed over.
    pub fn append(&mut self, id: SeriesId, exemplar: Exemplar) {
        if self.max == 0 {
            return;
        }
        let chars: usize =
            exemplar.labels.iter().map(|l| l.name.chars().count() + l.value.chars().count()).sum();
        if chars > LABEL_CHARS_MAX {
            self.counts.too_long += 1;
            return;
        }
        if let Some(newest) = self.newest.get(&id) {
            if same(newest, &exemplar) {
                return;
            }
            if exemplar.time < newest.time {
                self.counts.out_of_order += 1;
                return;
            }
        }
        if self.ring.len() == self.max {
            self.drop_oldest();
        }
        self.newest.insert(id, exemplar.clone());
        self.ring.push_back((id, exemplar));
        self.counts.appended += 1;
    }

    fn drop_oldest(&mut self) {
        let Some((id, dropped)) = self.ring.pop_front() else { return };
        if self.newest.get(&id).is_some_and(|n| same(n, &dropped)) {
            self.newest.remove(&id);
        }
    }

    /// Exemplars of some series (ascending ids) between two times, inclusive, in the order they came.
    pub fn select(&self, ids: &[u32], start: Timestamp, end: Timestamp) -> Vec<(SeriesId, Exemplar)> {
        let wanted = |(id, x): &&(SeriesId, Exemplar)| {
            (start..=end).contains(&x.time) && ids.binary_search(&id.0).is_ok()
        };
        self.ring.iter().filter(wanted).cloned().collect()
    }
}

fn same(a: &Exemplar, b: &Exemplar) -> bool {
    a.time == b.time && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(trace: &str, time: Timestamp) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("t", trace)]), time, value: 1.0 }
    }

    #[test]
    fn the_newest_are_kept_in_order_and_once() {
        let mut all = Exemplars::default();
        all.set_max(3);
        for (id, trace, time) in
            [(1, "a", 10), (1, "a", 10), (2, "b", 5), (1, "c", 9), (1, "d", 10), (2, "e", 20)]
        {
            all.append(SeriesId(id), exemplar(trace, time));
        }
        assert_eq!(all.counts, Counts { appended: 4, out_of_order: 1, too_long: 0 });
        let told = |ids: &[u32], start, end| {
            let found = all.select(ids, start, end);
            found.iter().map(|(_, x)| x.labels.value_or_empty("t").to_owned()).collect::<String>()
        };
        assert_eq!(told(&[1, 2], 0, 100), "bde");
        assert_eq!(told(&[1], 0, 100), "d");
        assert_eq!(told(&[2], 6, 100), "e");
        let long = "x".repeat(128);
        all.append(SeriesId(1), exemplar(&long, 30));
        assert_eq!((all.counts.too_long, all.series_count(), all.oldest_time()), (1, 2, Some(5)));
        all.set_max(0);
        all.append(SeriesId(1), exemplar("f", 40));
        assert!(all.is_empty() && all.series_count() == 0);
    }
}
