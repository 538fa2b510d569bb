//! The exemplars of a shard's series: the newest ones, whatever series they belong to.
//!
//! A ring of fixed length, as Prometheus keeps it: who sends many pushes out the oldest of all. Checkpoints hold the
//! ring, the log what came after. What a replay brings a second time is judged as a repetition or as out of order, so
//! it need not be told apart.

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

/// What becomes of an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    /// Passed over in silence: it is there, or none are kept.
    Passed,
    OutOfOrder,
    TooLong,
}

pub struct Exemplars {
    max: usize,
    /// How far behind its series' newest one an exemplar may come, in milliseconds.
    window_ms: i64,
    ring: VecDeque<(SeriesId, Exemplar)>,
    /// Number of the ring's first exemplar: they are counted as they come.
    first: u64,
    /// Numbers of each series' exemplars, ascending in their times.
    by_series: HashMap<SeriesId, VecDeque<u64>>,
    pub counts: Counts,
}

impl Default for Exemplars {
    fn default() -> Self {
        let (ring, by_series) = (VecDeque::new(), HashMap::new());
        Exemplars {
            max: EXEMPLARS_DEFAULT,
            window_ms: 0,
            ring,
            first: 0,
            by_series,
            counts: Counts::default(),
        }
    }
}

impl Exemplars {
    /// Keeps `max` from here on; the oldest go first.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.ring.len() > max {
            self.drop_oldest();
        }
    }

    pub fn set_window(&mut self, window_ms: i64) {
        self.window_ms = window_ms.max(0);
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
        self.by_series.len()
    }

    /// Those series, in any order.
    pub fn series(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.by_series.keys().copied()
    }

    /// Time of the oldest that is held.
    pub fn oldest_time(&self) -> Option<Timestamp> {
        self.ring.front().map(|(_, x)| x.time)
    }

    /// Numbers of the exemplars that are held.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.ring.len() as u64
    }

    /// An exemplar by its number, while it is held.
    pub fn at(&self, number: u64) -> Option<&(SeriesId, Exemplar)> {
        self.ring.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn time_of(&self, number: u64) -> Timestamp {
        self.at(number).map_or(Timestamp::MIN, |(_, x)| x.time)
    }

    /// What would become of an exemplar of a series, or of a new one's.
    pub fn judge(&self, id: Option<SeriesId>, exemplar: &Exemplar) -> Verdict {
        if self.max == 0 {
            return Verdict::Passed;
        }
        let chars: usize =
            exemplar.labels.iter().map(|l| l.name.chars().count() + l.value.chars().count()).sum();
        if chars > LABEL_CHARS_MAX {
            return Verdict::TooLong;
        }
        let numbers = id.and_then(|id| self.by_series.get(&id));
        let Some((_, newest)) = numbers.and_then(|n| self.at(*n.back()?)) else { return Verdict::Taken };
        if same(newest, exemplar) {
            return Verdict::Passed;
        }
        let is_older =
            exemplar.time < newest.time && exemplar.time <= newest.time.saturating_sub(self.window_ms);
        // Several of one time ascend, so that their repetitions are seen without a search.
        let is_lesser = exemplar.time == newest.time
            && (exemplar.value < newest.value
                || exemplar.value == newest.value && exemplar.labels.xxh64() < newest.labels.xxh64());
        if is_older || is_lesser { Verdict::OutOfOrder } else { Verdict::Taken }
    }

    /// Takes an exemplar that is newer than its series' last one, or not too old; the same again is passed over.
    pub fn append(&mut self, id: SeriesId, exemplar: Exemplar) {
        match self.judge(Some(id), &exemplar) {
            Verdict::Passed => return,
            Verdict::TooLong => return self.counts.too_long += 1,
            Verdict::OutOfOrder => return self.counts.out_of_order += 1,
            Verdict::Taken => {}
        }
        let after = |e: &Self| {
            let numbers = e.by_series.get(&id)?;
            Some(numbers.partition_point(|n| e.time_of(*n) <= exemplar.time))
        };
        if let Some(at) = after(self)
            && at > 0
            && let Some(numbers) = self.by_series.get(&id)
            && at < numbers.len()
            && self.time_of(numbers[at - 1]) == exemplar.time
        {
            // One that is late, of a time that is there: a repetition, most likely.
            return;
        }
        if self.ring.len() == self.max {
            self.drop_oldest();
        }
        let at = after(self).unwrap_or(0);
        let number = self.numbers().end;
        self.by_series.entry(id).or_default().insert(at, number);
        self.ring.push_back((id, exemplar));
        self.counts.appended += 1;
    }

    fn drop_oldest(&mut self) {
        let Some((id, dropped)) = self.ring.front() else { return };
        if let Some(numbers) = self.by_series.get_mut(id) {
            let from = {
                let (ring, first) = (&self.ring, self.first);
                numbers.partition_point(|n| {
                    ring.get((n - first) as usize).is_some_and(|(_, x)| x.time < dropped.time)
                })
            };
            if let Some(at) = numbers.iter().skip(from).position(|n| *n == self.first) {
                numbers.remove(from + at);
            }
            if numbers.is_empty() {
                self.by_series.remove(id);
            }
        }
        self.ring.pop_front();
        self.first += 1;
    }

    /// Exemplars of some series between two times, inclusive, those of each in the order of their times.
    pub fn select(&self, ids: &[SeriesId], start: Timestamp, end: Timestamp) -> Vec<(SeriesId, Exemplar)> {
        let numbers = ids.iter().filter_map(|id| self.by_series.get(id)).flatten();
        let found = numbers.filter_map(|n| self.at(*n));
        found.filter(|(_, x)| (start..=end).contains(&x.time)).cloned().collect()
    }
}

fn same(a: &Exemplar, b: &Exemplar) -> bool {
    a.time == b.time && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(trace: &str, time: Timestamp, value: f64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("t", trace)]), time, value }
    }

    fn told(all: &Exemplars, ids: &[u32], start: Timestamp, end: Timestamp) -> String {
        let ids: Vec<SeriesId> = ids.iter().map(|id| SeriesId(*id)).collect();
        let found = all.select(&ids, start, end);
        found.iter().map(|(_, x)| x.labels.value_or_empty("t").to_owned()).collect()
    }

    #[test]
    fn the_newest_are_kept_in_order_and_once() {
        let mut all = Exemplars::default();
        all.set_max(3);
        for (id, trace, time) in
            [(1, "a", 10), (1, "a", 10), (2, "b", 5), (1, "c", 9), (1, "d", 11), (2, "e", 20)]
        {
            all.append(SeriesId(id), exemplar(trace, time, 1.0));
        }
        assert_eq!(all.counts, Counts { appended: 4, out_of_order: 1, too_long: 0 });
        assert_eq!(told(&all, &[1, 2], 0, 100), "dbe");
        assert_eq!(told(&all, &[1], 0, 100), "d");
        assert_eq!(told(&all, &[2], 6, 100), "e");
        let long = "x".repeat(128);
        all.append(SeriesId(1), exemplar(&long, 30, 1.0));
        assert_eq!((all.counts.too_long, all.series_count(), all.oldest_time()), (1, 2, Some(5)));
        all.set_max(0);
        all.append(SeriesId(1), exemplar("f", 40, 1.0));
        assert!(all.is_empty() && all.series_count() == 0);
    }

    #[test]
    fn of_one_time_only_greater_values_are_taken() {
        let mut all = Exemplars::default();
        for (trace, value) in [("a", 1.0), ("b", 2.0), ("c", 0.5), ("b", 2.0), ("d", 3.0)] {
            all.append(SeriesId(1), exemplar(trace, 10, value));
        }
        assert_eq!((told(&all, &[1], 0, 100).as_str(), all.counts.out_of_order), ("abd", 1));
    }

    #[test]
    fn late_ones_within_the_window_find_their_place() {
        let mut all = Exemplars::default();
        all.set_max(5);
        all.set_window(10);
        for (trace, time) in [("e", 20), ("b", 12), ("x", 10), ("c", 15), ("y", 15), ("f", 21), ("d", 17)] {
            all.append(SeriesId(1), exemplar(trace, time, 1.0));
        }
        assert_eq!((told(&all, &[1], 0, 100).as_str(), all.counts.out_of_order), ("bcdef", 1));
        for i in 0..5 {
            all.append(SeriesId(2), exemplar("g", 100 + i, 1.0));
        }
        assert_eq!((told(&all, &[1, 2], 0, 200).as_str(), all.series_count()), ("ggggg", 1));
    }

    #[test]
    fn what_comes_again_changes_nothing() {
        let mut all = Exemplars::default();
        let sent = [("a", 10, 1.0), ("b", 10, 2.0), ("c", 11, 0.0), ("d", 13, 5.0)];
        sent.iter().for_each(|(t, time, v)| all.append(SeriesId(1), exemplar(t, *time, *v)));
        for from in 0..sent.len() {
            sent[from..].iter().for_each(|(t, time, v)| all.append(SeriesId(1), exemplar(t, *time, *v)));
            assert_eq!(told(&all, &[1], 0, 100), "abcd");
        }
    }
}
