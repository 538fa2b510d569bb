//! Groups of series, and the aggregations that run over them, on a shard or above.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, float_text};
use promql::ast::Aggregator;

use crate::query::annotations::Annotations;
use crate::query::exec::aggregate::Tally;
use crate::query::frame::{ABSENT, Cell, Row};
use crate::query::plan::physical::Fold;

/// What a series of a group is called: the labels that `by` keeps or `without` leaves.
pub fn group_labels(fold: &Fold, labels: &Labels) -> Labels {
    let named = |name: &str| fold.grouping.binary_search_by(|g| g.as_str().cmp(name)).is_ok();
    if fold.op == Aggregator::CountValues {
        // The value takes the place of a label of the same name.
        let is_value = |name: &str| name == &*fold.label;
        return if fold.without {
            labels.retain(|l| !named(l.name) && !is_value(l.name) && l.name != model::labels::METRIC_NAME)
        } else {
            labels.retain(|l| named(l.name) && !is_value(l.name))
        };
    }
    if fold.without {
        labels.retain(|l| !named(l.name) && l.name != model::labels::METRIC_NAME)
    } else {
        labels.retain(|l| named(l.name))
    }
}

/// The partial result of an aggregation: its groups, and what is known of each.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Rows without cells: labels, and whether any member's name is to be dropped.
    pub groups: Vec<Row>,
    kind: Kind,
    step_count: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    Tally(Tally),
    Picks(Picks),
    Counts(HashMap<(u32, String), Vec<f64>>),
}

impl Groups {
    pub fn new(fold: &Fold, step_count: usize) -> Groups {
        let kind = match Tally::new(fold.op, step_count) {
            Some(tally) => Kind::Tally(tally),
            None if fold.op == Aggregator::CountValues => Kind::Counts(HashMap::new()),
            None => Kind::Picks(Picks::new(fold, step_count)),
        };
        Groups { groups: Vec::new(), kind, step_count }
    }

    /// Adds a group; its index is what [`Groups::add`] takes.
    pub fn open(&mut self, labels: Labels) -> u32 {
        self.groups.push(Row::new(labels));
        self.groups.len() as u32 - 1
    }

    /// Adds a row to a group. `labels` are those of the series.
    pub fn add(&mut self, group: u32, row: &Row, labels: impl Fn() -> Labels) {
        self.groups[group as usize].drop_name |= row.drop_name;
        match &mut self.kind {
            Kind::Tally(t) => t.add(group, row, labels),
            Kind::Picks(p) => p.add(group, row, labels),
            Kind::Counts(c) => count_values(c, group, row, self.step_count),
        }
    }

    /// Counts more members of a group at the first step.
    #[inline]
    pub fn count(&mut self, group: u32, count: u64) {
        if let Kind::Tally(t) = &mut self.kind {
            t.count(group, count);
        }
    }

    /// Adds a float at the first step, where the aggregation gives one number a group.
    #[inline]
    pub fn add_float(&mut self, group: u32, v: f64, drop_name: bool) {
        self.groups[group as usize].drop_name |= drop_name;
        if let Kind::Tally(t) = &mut self.kind {
            t.add_float(group, v);
        }
    }

    /// Adds floats at one step, each to its group, where the aggregation gives one number a group.
    pub fn add_column(&mut self, step: usize, groups: &[u32], values: &[f64]) {
        if let Kind::Tally(t) = &mut self.kind {
            t.add_column(step, groups, values);
        }
    }

    /// Notes whether the name of a group's new members is to be dropped.
    #[inline]
    pub fn note_name(&mut self, group: u32, drop_name: bool) {
        self.groups[group as usize].drop_name |= drop_name;
    }

    /// Memory that is held, nearly: labels are counted as if they were short.
    pub fn bytes(&self) -> usize {
        let cells = match &self.kind {
            Kind::Tally(t) => t.bytes(),
            Kind::Picks(p) => {
                p.rows.len() * (2 * size_of::<Row>() + 8 * self.step_count) + p.pick_count * size_of::<Pick>()
            }
            Kind::Counts(c) => c.len() * (64 + 8 * self.step_count),
        };
        self.groups.len() * (size_of::<Row>() + 64) + cells
    }

    /// Takes over the groups of another shard.
    pub fn merge(&mut self, other: Groups) {
        let mut known: HashMap<Labels, u32> =
            self.groups.iter().enumerate().map(|(i, g)| (g.labels.clone(), i as u32)).collect();
        let mut group_of = Vec::with_capacity(other.groups.len());
        for g in other.groups {
            let next = self.groups.len() as u32;
            let at = *known.entry(g.labels.clone()).or_insert(next);
            match self.groups.get_mut(at as usize) {
                Some(mine) => mine.drop_name |= g.drop_name,
                None => self.groups.push(g),
            }
            group_of.push(at);
        }
        match (&mut self.kind, other.kind) {
            (Kind::Tally(a), Kind::Tally(b)) => a.merge(b, &group_of),
            (Kind::Picks(a), Kind::Picks(b)) => a.merge(b, &group_of),
            (Kind::Counts(a), Kind::Counts(b)) => {
                for ((group, text), column) in b {
                    let mine =
                        a.entry((group_of[group as usize], text)).or_insert_with(|| vec![0.0; column.len()]);
                    mine.iter_mut().zip(column).for_each(|(a, b)| *a += b);
                }
            }
            // Partial results of one aggregation are of one kind.
            _ => {}
        }
    }

    /// The answer, groups in the order of their labels.
    pub fn finish(self, fold: &Fold, notes: &mut Annotations) -> Vec<Row> {
        match self.kind {
            Kind::Tally(t) => {
                let mut rows = t.finish(self.groups, fold.param.as_deref(), fold.inner_span, notes);
                rows.sort_by(|a, b| a.labels.cmp(&b.labels));
                rows
            }
            Kind::Picks(p) => p.finish(self.groups, fold, notes),
            Kind::Counts(c) => counted(c, &self.groups, fold),
        }
    }
}

fn count_values(counts: &mut HashMap<(u32, String), Vec<f64>>, group: u32, row: &Row, step_count: usize) {
    for step in 0..step_count {
        let text = match row.cell(step) {
            None => continue,
            Some(Cell::Float(v)) => float_text::format_f(v),
            Some(Cell::Histogram(h)) => h.to_string(),
        };
        counts.entry((group, text)).or_insert_with(|| vec![0.0; step_count])[step] += 1.0;
    }
}

fn counted(counts: HashMap<(u32, String), Vec<f64>>, groups: &[Row], fold: &Fold) -> Vec<Row> {
    let hides_value = fold.without && fold.grouping.iter().any(|g| **g == *fold.label);
    let mut rows: Vec<Row> = Vec::with_capacity(counts.len());
    for ((group, text), column) in counts {
        let group = &groups[group as usize];
        let labels = if hides_value { group.labels.clone() } else { group.labels.with(&fold.label, &text) };
        let floats = column.into_iter().map(|n| if n == 0.0 { ABSENT } else { n }).collect();
        rows.push(Row { drop_name: group.drop_name, ..Row::of_floats(labels, floats) });
    }
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    rows.dedup_by(|b, a| {
        let same = a.labels == b.labels;
        if same {
            for (a, b) in a.floats.iter_mut().zip(&b.floats) {
                *a = match (crate::query::frame::is_absent(*a), crate::query::frame::is_absent(*b)) {
                    (true, _) => *b,
                    (_, true) => *a,
                    _ => *a + *b,
                };
            }
        }
        same
    });
    rows
}

/// How an aggregation chooses among the elements of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Largest,
    Smallest,
    /// The first ones in the order of labels.
    Any,
    /// By a hash of the labels.
    Ratio,
}

/// An element that is in the answer unless enough better ones come.
#[derive(Clone, Debug)]
struct Pick {
    choice: Choice,
    value: f64,
    labels: Labels,
    row: u32,
}

impl Pick {
    /// Less: to be preferred. Numbers go before NaN; equal ones in the order of their labels, so that the choice
    /// does not depend on where the series lie.
    fn preference(&self, value: f64, labels: impl FnOnce() -> Labels) -> Ordering {
        let by_value = match self.choice {
            Choice::Largest => by_rank(-self.value, -value),
            Choice::Smallest => by_rank(self.value, value),
            Choice::Any | Choice::Ratio => Ordering::Equal,
        };
        by_value.then_with(|| self.labels.cmp(&labels()))
    }
}

fn by_rank(a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

impl Ord for Pick {
    fn cmp(&self, other: &Self) -> Ordering {
        self.preference(other.value, || other.labels.clone())
    }
}

impl PartialOrd for Pick {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pick {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pick {}

/// topk, bottomk, limitk, limit_ratio in progress. Heaps have the least preferred element on top.
#[derive(Clone, Debug)]
struct Picks {
    choice: Choice,
    /// How many elements at each step; for a ratio the ratio.
    param: Arc<[f64]>,
    step_count: usize,
    heaps: Vec<BinaryHeap<Pick>>,
    /// Elements in all heaps.
    pick_count: usize,
    rows: Vec<Row>,
    ignored_histogram: bool,
}

impl Picks {
    fn new(fold: &Fold, step_count: usize) -> Picks {
        let choice = match fold.op {
            Aggregator::TopK => Choice::Largest,
            Aggregator::BottomK => Choice::Smallest,
            Aggregator::LimitRatio => Choice::Ratio,
            _ => Choice::Any,
        };
        let param = fold.param.clone().unwrap_or_else(|| Arc::from([]));
        Picks {
            choice,
            param,
            step_count,
            heaps: Vec::new(),
            pick_count: 0,
            rows: Vec::new(),
            ignored_histogram: false,
        }
    }

    /// At most how many elements of a group at a step.
    fn count_max(&self, step: usize) -> usize {
        match self.choice {
            Choice::Ratio => usize::MAX,
            _ => self.param.get(step).map_or(0, |k| *k as usize),
        }
    }

    fn add(&mut self, group: u32, row: &Row, labels: impl Fn() -> Labels) {
        let mut made: Option<Labels> = None;
        let mut labels = || made.get_or_insert_with(&labels).clone();
        let floats_only = matches!(self.choice, Choice::Largest | Choice::Smallest);
        let mut kept: Option<u32> = None;
        for step in 0..self.step_count {
            let value = match (row.float(step), row.histogram(step)) {
                (Some(v), _) => v,
                (None, Some(_)) if floats_only => {
                    self.ignored_histogram = true;
                    continue;
                }
                (None, Some(_)) => 0.0,
                (None, None) => continue,
            };
            if self.wants(group, step, value, &mut labels) {
                let at = *kept.get_or_insert_with(|| {
                    self.rows.push(Row { labels: labels(), ..row.clone() });
                    self.rows.len() as u32 - 1
                });
                self.push(group, step, Pick { choice: self.choice, value, labels: labels(), row: at });
            }
        }
    }

    fn heap_index(&self, group: u32, step: usize) -> usize {
        group as usize * self.step_count + step
    }

    fn wants(&self, group: u32, step: usize, value: f64, labels: &mut impl FnMut() -> Labels) -> bool {
        if self.choice == Choice::Ratio {
            return ratio_keeps(self.param[step], &labels());
        }
        let most = self.count_max(step);
        let heap = self.heaps.get(self.heap_index(group, step));
        match heap {
            _ if most == 0 => false,
            Some(heap) if heap.len() >= most => {
                heap.peek().is_some_and(|worst| worst.preference(value, labels) == Ordering::Greater)
            }
            _ => true,
        }
    }

    fn push(&mut self, group: u32, step: usize, pick: Pick) {
        let at = self.heap_index(group, step);
        if self.heaps.len() <= at {
            self.heaps.resize((group as usize + 1) * self.step_count, BinaryHeap::new());
        }
        let most = self.count_max(step);
        self.heaps[at].push(pick);
        self.pick_count += 1;
        if self.heaps[at].len() > most {
            self.heaps[at].pop();
            self.pick_count -= 1;
        }
    }

    fn merge(&mut self, other: Picks, group_of: &[u32]) {
        let moved = self.rows.len() as u32;
        self.rows.extend(other.rows);
        self.ignored_histogram |= other.ignored_histogram;
        for (i, heap) in other.heaps.into_iter().enumerate() {
            let group = group_of[i / self.step_count];
            for pick in heap {
                self.push(group, i % self.step_count, Pick { row: pick.row + moved, ..pick });
            }
        }
    }

    /// The chosen elements: in an instant query in order of preference, group by group.
    fn finish(self, groups: Vec<Row>, fold: &Fold, notes: &mut Annotations) -> Vec<Row> {
        if self.ignored_histogram {
            notes.histogram_ignored_in_aggregation(fold.op.text(), fold.span);
        }
        let n = self.step_count;
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by(|a, b| groups[*a].labels.cmp(&groups[*b].labels));
        let mut results: Vec<Row> = self.rows.iter().map(Row::emptied).collect();
        let mut sequence: Vec<u32> = Vec::new();
        let mut heaps = self.heaps;
        heaps.resize(groups.len() * n, BinaryHeap::new());
        for g in order {
            for step in 0..n {
                for pick in std::mem::take(&mut heaps[g * n + step]).into_sorted_vec() {
                    let result = &mut results[pick.row as usize];
                    if result.floats.is_empty() && result.histograms.is_empty() {
                        sequence.push(pick.row);
                    }
                    if let Some(cell) = self.rows[pick.row as usize].cell(step) {
                        result.push(step, cell, n);
                    }
                }
            }
        }
        let mut results: Vec<Option<Row>> = results.into_iter().map(Some).collect();
        sequence.into_iter().filter_map(|i| results[i as usize].take()).collect()
    }
}

/// Whether a series is in the sample that `limit_ratio` takes: its hash, as a share of all hashes, lies below the
/// ratio; a negative ratio takes exactly the others of its complement.
fn ratio_keeps(ratio: f64, labels: &Labels) -> bool {
    let offset = labels.xxh64() as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// Aggregates rows that are already above the shards.
pub fn fold_rows(rows: &[Row], fold: &Fold, step_count: usize, notes: &mut Annotations) -> Vec<Row> {
    let mut groups = Groups::new(fold, step_count);
    let mut known: HashMap<Labels, u32> = HashMap::new();
    for row in rows {
        let key = group_labels(fold, &row.labels);
        let group = match known.get(&key) {
            Some(g) => *g,
            None => {
                let g = groups.open(key.clone());
                known.insert(key, g);
                g
            }
        };
        groups.add(group, row, || row.labels.clone());
    }
    groups.finish(fold, notes)
}
