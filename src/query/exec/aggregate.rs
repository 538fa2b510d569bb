//! Aggregations that keep one small cell a group and step, and merge without regard to order.
//!
//! Sums carry their compensation and variances are kept in twice the width of a float, so that partial results of
//! shards merge to the same answer however the series lie. Histograms, whose sums do depend on the order, are set
//! aside and added up in the order of their labels at the end.

use std::sync::Arc;

use compute::aggregate::{HistogramAvg, HistogramSum, add_row, overflows};
use compute::{Answer, Notes};
use model::histogram::FloatHistogram;
use model::{Labels, kahan};
use promql::ast::{Aggregator, Span};

use crate::query::annotations::{Annotations, Merging};
use crate::query::frame::{ABSENT, Row, is_absent};

/// One group and step of `sum` and `avg`.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sum: f64,
    comp: f64,
    count: u32,
    /// The sum is kept 2^64 times smaller, because it would not fit otherwise.
    is_scaled: bool,
}

/// 2^-64: the mean of fewer than 2^64 floats fits, scaled or not.
const SCALE: f64 = 1.0 / 18_446_744_073_709_551_616.0;

impl Sum {
    /// Adds for a mean: a sum that leaves the range of floats goes on scaled.
    #[inline]
    fn add_mean(&mut self, x: f64) {
        self.count += 1;
        if !self.is_scaled {
            let (sum, comp) = kahan::inc(x, self.sum, self.comp);
            if !sum.is_infinite() || x.is_infinite() || self.sum.is_infinite() {
                (self.sum, self.comp) = (sum, comp);
                return;
            }
            self.scale();
        }
        (self.sum, self.comp) = kahan::inc(x * SCALE, self.sum, self.comp);
    }

    fn scale(&mut self) {
        if !self.is_scaled {
            (self.sum, self.comp, self.is_scaled) = (self.sum * SCALE, self.comp * SCALE, true);
        }
    }

    fn merge(&mut self, mut other: Sum, is_mean: bool) {
        if is_mean {
            let whole = self.sum + other.sum;
            let overflows = whole.is_infinite() && !self.sum.is_infinite() && !other.sum.is_infinite();
            if self.is_scaled || other.is_scaled || overflows {
                self.scale();
                other.scale();
            }
        }
        self.count += other.count;
        let comp = other.comp;
        (self.sum, self.comp) = kahan::inc(other.sum, self.sum, self.comp);
        self.comp += comp;
    }

    fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.comp }
    }

    fn mean(self) -> f64 {
        let n = f64::from(self.count);
        if !self.sum.is_finite() {
            return self.sum;
        }
        // Divided in twice the width: two roundings would show how the sum was put together.
        let mean = Wide::normal(self.sum, self.comp).over(n).hi;
        if self.is_scaled { mean / SCALE } else { mean }
    }
}

/// Sums by group and step, in columns, so that a row's steps are added side by side.
#[derive(Clone, Debug, Default)]
struct Sums {
    sum: Vec<f64>,
    comp: Vec<f64>,
    count: Vec<u32>,
    /// Which are kept scaled; empty while none is.
    scaled: Vec<bool>,
}

/// Rows of fewer steps are added one by one: a kernel's call costs as much.
const KERNEL_STEPS_MIN: usize = 4;

impl Sums {
    fn len(&self) -> usize {
        self.sum.len()
    }

    fn bytes(&self) -> usize {
        self.len() * (8 + 8 + 4) + self.scaled.len()
    }

    fn resize(&mut self, n: usize) {
        self.sum.resize(n, 0.0);
        self.comp.resize(n, 0.0);
        self.count.resize(n, 0);
        if !self.scaled.is_empty() {
            self.scaled.resize(n, false);
        }
    }

    fn get(&self, i: usize) -> Sum {
        let is_scaled = self.scaled.get(i).is_some_and(|s| *s);
        Sum { sum: self.sum[i], comp: self.comp[i], count: self.count[i], is_scaled }
    }

    fn set(&mut self, i: usize, s: Sum) {
        (self.sum[i], self.comp[i], self.count[i]) = (s.sum, s.comp, s.count);
        if s.is_scaled {
            self.scaled.resize(self.sum.len(), false);
            self.scaled[i] = true;
        }
    }

    fn all(&self) -> impl Iterator<Item = Sum> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    #[inline]
    fn add(&mut self, i: usize, x: f64) {
        (self.sum[i], self.comp[i]) = kahan::inc(x, self.sum[i], self.comp[i]);
        self.count[i] += 1;
    }

    /// Adds many to one.
    #[inline]
    fn add_run(&mut self, i: usize, values: &[f64], is_mean: bool) {
        let mut sum = self.get(i);
        for v in values.iter().filter(|v| !is_absent(**v)) {
            if is_mean {
                sum.add_mean(*v);
            } else {
                (sum.sum, sum.comp) = kahan::inc(*v, sum.sum, sum.comp);
                sum.count += 1;
            }
        }
        self.set(i, sum);
    }

    fn add_row(&mut self, from: usize, row: &[f64], is_mean: bool) {
        let to = from + row.len();
        let is_plain = !is_mean || self.scaled.is_empty() && !overflows(row, &self.sum[from..to]);
        if is_plain && row.len() >= KERNEL_STEPS_MIN {
            let (sum, comp) = (&mut self.sum[from..to], &mut self.comp[from..to]);
            add_row(row, sum, comp, &mut self.count[from..to]);
            return;
        }
        for (i, v) in (from..to).zip(row).filter(|(_, v)| !is_absent(**v)) {
            if is_plain {
                self.add(i, *v);
            } else {
                let mut sum = self.get(i);
                sum.add_mean(*v);
                self.set(i, sum);
            }
        }
    }
}

/// A number in twice the width: the value is `hi + lo`.
#[derive(Clone, Copy, Debug, Default)]
struct Wide {
    hi: f64,
    lo: f64,
}

impl Wide {
    fn add(self, o: Wide) -> Wide {
        let s = self.hi + o.hi;
        let b = s - self.hi;
        let e = (self.hi - (s - b)) + (o.hi - b) + self.lo + o.lo;
        Wide::normal(s, e)
    }

    fn normal(s: f64, e: f64) -> Wide {
        let hi = s + e;
        Wide { hi, lo: e - (hi - s) }
    }

    fn neg(self) -> Wide {
        Wide { hi: -self.hi, lo: -self.lo }
    }

    fn mul(self, o: Wide) -> Wide {
        let p = self.hi * o.hi;
        let e = self.hi.mul_add(o.hi, -p) + self.hi * o.lo + self.lo * o.hi;
        Wide::normal(p, e)
    }

    fn scaled(self, f: f64) -> Wide {
        self.mul(Wide { hi: f, lo: 0.0 })
    }

    fn over(self, n: f64) -> Wide {
        let q = self.hi / n;
        let r = (-q).mul_add(n, self.hi) + self.lo;
        Wide::normal(q, r / n)
    }
}

/// One group and step of `stddev` and `stdvar`.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    count: u32,
    /// A member was no finite number: there is no variance.
    is_odd: bool,
    mean: Wide,
    /// Sum of squared distances from the mean.
    squares: Wide,
}

impl Spread {
    fn of(x: f64) -> Spread {
        Spread { count: 1, is_odd: !x.is_finite(), mean: Wide { hi: x, lo: 0.0 }, squares: Wide::default() }
    }

    fn merge(&mut self, o: Spread) {
        if o.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = o;
            return;
        }
        self.is_odd |= o.is_odd;
        let (a, b) = (f64::from(self.count), f64::from(o.count));
        let n = a + b;
        let delta = o.mean.add(self.mean.neg());
        self.mean = self.mean.add(delta.scaled(b).over(n));
        self.squares = self.squares.add(o.squares).add(delta.mul(delta).scaled(a * b).over(n));
        self.count += o.count;
    }

    fn variance(self) -> f64 {
        let v = self.squares.over(f64::from(self.count));
        match v.hi + v.lo {
            _ if self.is_odd => f64::NAN,
            // In twice the width, what is too large is not a number.
            v if v.is_nan() => f64::INFINITY,
            v => v.max(0.0),
        }
    }
}

/// The cells of all groups: `cells[group * step_count + step]`.
#[derive(Clone, Debug)]
enum Cells {
    Sums(Sums),
    /// min and max.
    Extremes(Vec<f64>),
    Counts(Vec<u64>),
    Spreads(Vec<Spread>),
    /// quantile: all values there are.
    Values(Vec<Vec<f64>>),
}

/// A histogram on its way into a sum or mean.
#[derive(Clone, Debug)]
struct Pending {
    group: u32,
    step: u32,
    labels: Labels,
    histogram: Arc<FloatHistogram>,
}

/// An aggregation in progress.
#[derive(Clone, Debug)]
pub struct Tally {
    op: Aggregator,
    step_count: usize,
    cells: Cells,
    pending: Vec<Pending>,
    /// Values that were taken, where all are kept.
    value_count: usize,
    /// A histogram was met where only floats count.
    ignored_histogram: bool,
}

impl Tally {
    /// Whether an aggregation gives one number a group.
    pub fn takes(op: Aggregator) -> bool {
        Tally::new(op, 0).is_some()
    }

    /// `None` for aggregations that do not give one number a group.
    pub fn new(op: Aggregator, step_count: usize) -> Option<Tally> {
        use Aggregator::*;
        let cells = match op {
            Sum | Avg => Cells::Sums(Sums::default()),
            Min | Max => Cells::Extremes(Vec::new()),
            Count | Group => Cells::Counts(Vec::new()),
            Stddev | Stdvar => Cells::Spreads(Vec::new()),
            Quantile => Cells::Values(Vec::new()),
            BottomK | CountValues | LimitK | LimitRatio | TopK => return None,
        };
        Some(Tally { op, step_count, cells, pending: Vec::new(), value_count: 0, ignored_histogram: false })
    }

    /// Makes room for groups up to `group`.
    fn reach(&mut self, group: usize) {
        let need = (group + 1) * self.step_count;
        match &mut self.cells {
            Cells::Sums(c) if c.len() < need => c.resize(need),
            Cells::Extremes(c) if c.len() < need => c.resize(need, ABSENT),
            Cells::Counts(c) if c.len() < need => c.resize(need, 0),
            Cells::Spreads(c) if c.len() < need => c.resize(need, Spread::default()),
            Cells::Values(c) if c.len() < need => c.resize(need, Vec::new()),
            _ => {}
        }
    }

    /// Adds a row to its group. `labels` is asked only where a histogram has to be kept for later.
    pub fn add(&mut self, group: u32, row: &Row, labels: impl Fn() -> Labels) {
        self.reach(group as usize);
        let from = group as usize * self.step_count;
        if !row.floats.is_empty() {
            self.add_floats(from, &row.floats);
        }
        if row.histograms.is_empty() {
            return;
        }
        match &mut self.cells {
            Cells::Counts(c) => row.histograms.iter().for_each(|(s, _)| c[from + *s as usize] += 1),
            Cells::Sums(_) => {
                let labels = labels();
                self.pending.extend(row.histograms.iter().map(|(step, h)| Pending {
                    group,
                    step: *step,
                    labels: labels.clone(),
                    histogram: h.clone(),
                }));
            }
            _ => self.ignored_histogram = true,
        }
    }

    /// More members of a group at the first step, for aggregations that only count.
    #[inline]
    pub fn count(&mut self, group: u32, count: u64) {
        self.reach(group as usize);
        if let Cells::Counts(c) = &mut self.cells {
            c[group as usize * self.step_count] += count;
        }
    }

    /// Adds a float at the first step.
    #[inline]
    pub fn add_float(&mut self, group: u32, v: f64) {
        let at = group as usize * self.step_count;
        match &mut self.cells {
            Cells::Sums(c) if self.op == Aggregator::Sum && at < c.len() && !is_absent(v) => c.add(at, v),
            _ => {
                self.reach(group as usize);
                self.add_floats(at, &[v]);
            }
        }
    }

    /// Adds the floats there are at one step, each to its group.
    pub fn add_column(&mut self, step: usize, groups: &[u32], values: &[f64]) {
        let Some(most) = groups.iter().max() else { return };
        self.reach(*most as usize);
        let n = self.step_count;
        let is_mean = self.op == Aggregator::Avg;
        let mut rest = values;
        for run in groups.chunk_by(|a, b| a == b) {
            let at = run[0] as usize * n + step;
            let (mine, behind) = rest.split_at(run.len().min(rest.len()));
            rest = behind;
            match &mut self.cells {
                Cells::Sums(c) => c.add_run(at, mine, is_mean),
                _ => mine.iter().for_each(|v| self.add_floats(at, &[*v])),
            }
        }
    }

    /// Memory that is held, nearly.
    pub fn bytes(&self) -> usize {
        let cells = match &self.cells {
            Cells::Sums(c) => c.bytes(),
            Cells::Extremes(c) => c.len() * 8,
            Cells::Counts(c) => c.len() * 8,
            Cells::Spreads(c) => c.len() * size_of::<Spread>(),
            Cells::Values(c) => c.len() * 24 + self.value_count * 8,
        };
        cells + self.pending.len() * (size_of::<Pending>() + 256)
    }

    fn add_floats(&mut self, from: usize, floats: &[f64]) {
        let is_mean = self.op == Aggregator::Avg;
        let range = from..from + floats.len();
        let present = |v: &f64| !is_absent(*v);
        match &mut self.cells {
            Cells::Sums(c) => c.add_row(from, floats, is_mean),
            Cells::Extremes(c) => {
                let is_max = self.op == Aggregator::Max;
                for (c, v) in c[range].iter_mut().zip(floats).filter(|(_, v)| present(v)) {
                    extreme(c, *v, is_max);
                }
            }
            Cells::Counts(c) => {
                c[range].iter_mut().zip(floats).for_each(|(c, v)| *c += u64::from(present(v)));
            }
            Cells::Spreads(c) => {
                for (c, v) in c[range].iter_mut().zip(floats).filter(|(_, v)| present(v)) {
                    c.merge(Spread::of(*v));
                }
            }
            Cells::Values(c) => {
                self.value_count += floats.len();
                c[range].iter_mut().zip(floats).filter(|(_, v)| present(v)).for_each(|(c, v)| c.push(*v));
            }
        }
    }

    /// Adds another tally; `group_of[g]` is where its group `g` belongs here.
    pub fn merge(&mut self, other: Tally, group_of: &[u32]) {
        let n = self.step_count;
        if let Some(most) = group_of.iter().max() {
            self.reach(*most as usize);
        }
        let is_mean = self.op == Aggregator::Avg;
        let is_max = self.op == Aggregator::Max;
        let at = |i: usize| group_of[i / n] as usize * n + i % n;
        match (&mut self.cells, other.cells) {
            (Cells::Sums(a), Cells::Sums(b)) => {
                for (i, s) in b.all().enumerate().filter(|(_, s)| s.count > 0) {
                    let mut mine = a.get(at(i));
                    if mine.count == 0 {
                        mine = s
                    } else {
                        mine.merge(s, is_mean)
                    }
                    a.set(at(i), mine);
                }
            }
            (Cells::Extremes(a), Cells::Extremes(b)) => {
                for (i, v) in b.into_iter().enumerate().filter(|(_, v)| !is_absent(*v)) {
                    extreme(&mut a[at(i)], v, is_max);
                }
            }
            (Cells::Counts(a), Cells::Counts(b)) => {
                b.into_iter().enumerate().for_each(|(i, c)| a[at(i)] += c);
            }
            (Cells::Spreads(a), Cells::Spreads(b)) => {
                b.into_iter().enumerate().for_each(|(i, s)| a[at(i)].merge(s));
            }
            (Cells::Values(a), Cells::Values(b)) => {
                b.into_iter().enumerate().for_each(|(i, v)| a[at(i)].extend(v));
            }
            // Partial results of one aggregation have one kind of cells.
            _ => {}
        }
        let moved = other.pending.into_iter().map(|p| Pending { group: group_of[p.group as usize], ..p });
        self.pending.extend(moved);
        self.ignored_histogram |= other.ignored_histogram;
    }

    /// The result of each of `groups`, in their order; rows without any value are left out.
    pub fn finish(
        mut self,
        groups: Vec<Row>,
        param: Option<&[f64]>,
        span: Span,
        notes: &mut Annotations,
    ) -> Vec<Row> {
        if self.ignored_histogram {
            notes.histogram_ignored_in_aggregation(self.op.text(), span);
        }
        if let Some(last) = groups.len().checked_sub(1) {
            self.reach(last);
        }
        let n = self.step_count;
        let mut pending = std::mem::take(&mut self.pending);
        pending
            .sort_by(|a, b| (a.group, a.step).cmp(&(b.group, b.step)).then_with(|| a.labels.cmp(&b.labels)));
        let mut rows = Vec::with_capacity(groups.len());
        let mut pending = pending.as_slice();
        for (g, mut row) in groups.into_iter().enumerate() {
            let of_group = pending.partition_point(|p| p.group as usize <= g);
            let (mine, rest) = pending.split_at(of_group);
            pending = rest;
            row.floats = self.floats(g * n..(g + 1) * n, param);
            if !mine.is_empty() {
                self.add_histograms(g * n, mine, &mut row, span, notes);
            }
            if !row.is_empty() {
                rows.push(row);
            }
        }
        rows
    }

    fn floats(&mut self, range: std::ops::Range<usize>, param: Option<&[f64]>) -> Vec<f64> {
        let op = self.op;
        match &mut self.cells {
            Cells::Sums(c) => {
                let value = |s: Sum| if op == Aggregator::Avg { s.mean() } else { s.total() };
                range.map(|i| c.get(i)).map(|s| if s.count == 0 { ABSENT } else { value(s) }).collect()
            }
            Cells::Extremes(c) => c[range].to_vec(),
            Cells::Counts(c) => {
                let value = |n: &u64| if op == Aggregator::Group { 1.0 } else { *n as f64 };
                c[range].iter().map(|n| if *n == 0 { ABSENT } else { value(n) }).collect()
            }
            Cells::Spreads(c) => {
                let value = |s: &Spread| {
                    let v = s.variance();
                    if op == Aggregator::Stddev { v.sqrt() } else { v }
                };
                c[range].iter().map(|s| if s.count == 0 { ABSENT } else { value(s) }).collect()
            }
            Cells::Values(c) => {
                let q = |step: usize| param.and_then(|p| p.get(step)).copied().unwrap_or(f64::NAN);
                let values = c[range].iter_mut().enumerate();
                values
                    .map(|(s, v)| if v.is_empty() { ABSENT } else { compute::quantile::quantile(q(s), v) })
                    .collect()
            }
        }
    }

    /// Adds up the histograms of one group, step by step.
    fn add_histograms(
        &self,
        from: usize,
        mut pending: &[Pending],
        row: &mut Row,
        span: Span,
        notes: &mut Annotations,
    ) {
        let Cells::Sums(cells) = &self.cells else { return };
        while let Some(first) = pending.first() {
            let (mine, rest) = pending.split_at(pending.partition_point(|p| p.step == first.step));
            pending = rest;
            let step = first.step as usize;
            if cells.count[from + step] > 0 {
                notes.mixed_floats_histograms_aggregation(span);
                row.floats[step] = ABSENT;
                continue;
            }
            let answer = folded(self.op, mine);
            for note in answer.notes.iter() {
                aggregation_note(note, mine, span, notes);
            }
            if let Some(compute::Value::Histogram(h)) = answer.value {
                row.push_histogram(step, Arc::from(h));
            }
        }
    }
}

fn folded(op: Aggregator, pending: &[Pending]) -> Answer {
    let (first, rest) = (&pending[0].histogram, &pending[1..]);
    if op == Aggregator::Avg {
        let mut avg = HistogramAvg::new(first);
        rest.iter().for_each(|p| avg.add(&p.histogram));
        return avg.finish();
    }
    let mut sum = HistogramSum::new(first);
    rest.iter().for_each(|p| sum.add(&p.histogram));
    sum.finish()
}

fn aggregation_note(note: Notes, pending: &[Pending], span: Span, notes: &mut Annotations) {
    if note == Notes::BOUNDS_RECONCILED_AGGREGATION {
        notes.bounds_reconciled(Merging::Aggregation, span);
    } else if note == Notes::RESET_COLLISION_AGGREGATION {
        notes.counter_reset_collision(Merging::Aggregation, span);
    } else if note == Notes::MIXED_EXPONENTIAL_CUSTOM {
        let custom = pending[0].histogram.uses_custom_buckets();
        let other = pending.iter().find(|p| p.histogram.uses_custom_buckets() != custom);
        let name = other.and_then(|p| p.labels.metric_name().map(str::to_owned)).unwrap_or_default();
        notes.mixed_exponential_custom(&name, span);
    }
}

/// NaN gives way to any number.
#[inline]
fn extreme(best: &mut f64, v: f64, is_max: bool) {
    let better = if is_max { v > *best } else { v < *best };
    if better || best.is_nan() {
        *best = v;
    }
}
