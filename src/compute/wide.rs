//! A range function over all steps of a series: one table of windows, one column of results.
//!
//! Results are those of [`RangeFunction::eval`] window by window, to the bit. Where windows overlap much, samples
//! are not read again for every window they are in: counters are scanned for resets once, extremes slide, and
//! sums of whole numbers come from prefix sums (they are exact, so order does not matter). Sums of other floats
//! have one order, the window's, and no shortcut.

mod rates;
#[cfg(test)]
mod tests;

pub use rates::RateTable;

use crate::range::{Modifier, RangeFunction};
use crate::range::{NoHistograms, RateKind, Window, avg_floats, max_floats, min_floats, sum_floats};
use crate::{ABSENT, Notes, Value, arch};
use std::ops::Range;

/// The steps of a query and the range each looks back on. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub first: i64,
    /// Positive; of no account for one step.
    pub interval: i64,
    pub count: usize,
    pub range: i64,
    pub offset: i64,
}

impl Steps {
    /// The time of a step.
    pub fn at(&self, step: usize) -> i64 {
        self.first.wrapping_add(self.interval.wrapping_mul(step as i64))
    }

    /// The range (exclusive start, inclusive end) that a step looks at.
    pub fn range_at(&self, step: usize) -> (i64, i64) {
        let end = self.at(step).wrapping_sub(self.offset);
        (end.wrapping_sub(self.range), end)
    }
}

/// Which samples lie in each step's range: indices into the times it was made of. Series with the same times share
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowTable {
    pub windows: Vec<(u32, u32)>,
}

impl WindowTable {
    /// The table of ascending `times`, of which there are fewer than 2^32.
    pub fn new(times: &[i64], steps: &Steps) -> WindowTable {
        let mut table = WindowTable::default();
        table.rebuild(times, steps);
        table
    }

    /// [`Self::new`] in place.
    pub fn rebuild(&mut self, times: &[i64], steps: &Steps) {
        self.windows.clear();
        let (mut low, mut high) = (0usize, 0usize);
        for step in 0..steps.count {
            let (start, end) = steps.range_at(step);
            if step == 0 {
                low = times.partition_point(|&t| t <= start);
                high = times.partition_point(|&t| t <= end);
            }
            while low < times.len() && times[low] <= start {
                low += 1;
            }
            high = high.max(low);
            while high < times.len() && times[high] <= end {
                high += 1;
            }
            self.windows.push((low as u32, high as u32));
        }
    }

    fn range(&self, step: usize) -> Range<usize> {
        let (from, to) = self.windows[step];
        from as usize..to as usize
    }

    /// Whether samples lie in several windows each, so that reading them once pays.
    fn overlaps(&self, samples: usize) -> bool {
        let covered: usize = self.windows.iter().map(|&(from, to)| (to - from) as usize).sum();
        covered > 3 * samples
    }
}

/// The float samples of one series: no staleness markers among them (see [`without_stale`]), no histograms beside
/// them.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    pub times: &'a [i64],
    pub values: &'a [f64],
    /// Start times, as many as `times`; empty to compute without them.
    pub starts: &'a [i64],
}

/// Computes `function` at every step of `table` (made from `series.times` and `steps`) into `out`; steps without a
/// value become [`ABSENT`]. Plain selectors only.
pub fn eval(
    function: RangeFunction,
    series: Series<'_>,
    steps: &Steps,
    table: &WindowTable,
    out: &mut Vec<f64>,
) -> Notes {
    use RangeFunction::*;
    out.clear();
    out.reserve(table.windows.len());
    let values = series.values;
    let each = |out: &mut Vec<f64>, f: &dyn Fn(&[f64]) -> f64| {
        out.extend((0..table.windows.len()).map(|step| {
            let window = &values[table.range(step)];
            if window.is_empty() { ABSENT } else { f(window) }
        }));
        Notes::NONE
    };
    let overlaps = table.overlaps(values.len());
    match function {
        Rate if series.starts.is_empty() => rates(RateKind::Rate, series, steps, table, out),
        Increase if series.starts.is_empty() => rates(RateKind::Increase, series, steps, table, out),
        Delta if series.starts.is_empty() => rates(RateKind::Delta, series, steps, table, out),
        CountOverTime => each(out, &|w| w.len() as f64),
        PresentOverTime => each(out, &|_| 1.0),
        LastOverTime => each(out, &|w| w[w.len() - 1]),
        FirstOverTime => each(out, &|w| w[0]),
        SumOverTime if overlaps && arch::all_exact(values) => prefix_sums(values, table, out, false),
        AvgOverTime if overlaps && arch::all_exact(values) => prefix_sums(values, table, out, true),
        MinOverTime if overlaps => slide(values, table, out, |a, b| a < b),
        MaxOverTime if overlaps => slide(values, table, out, |a, b| a > b),
        SumOverTime => each(out, &sum_floats),
        AvgOverTime => each(out, &avg_floats),
        MinOverTime => each(out, &min_floats),
        MaxOverTime => each(out, &max_floats),
        _ => eval_naive(function, series, steps, table, out),
    }
}

/// [`eval`] window by window.
pub fn eval_naive(
    function: RangeFunction,
    series: Series<'_>,
    steps: &Steps,
    table: &WindowTable,
    out: &mut Vec<f64>,
) -> Notes {
    out.clear();
    let mut notes = Notes::NONE;
    for step in 0..table.windows.len() {
        let (start, end) = steps.range_at(step);
        let range = table.range(step);
        let answer = function.eval(&Window::<NoHistograms> {
            at: steps.at(step),
            start,
            end,
            times: &series.times[range.clone()],
            values: &series.values[range.clone()],
            starts: series.starts.get(range).unwrap_or(&[]),
            histograms: &[],
            histogram_starts: false,
            modifier: Modifier::Plain,
        });
        notes |= answer.notes;
        out.push(answer.value.as_ref().and_then(Value::float).unwrap_or(ABSENT));
    }
    notes
}

fn rates(
    kind: RateKind,
    series: Series<'_>,
    steps: &Steps,
    table: &WindowTable,
    out: &mut Vec<f64>,
) -> Notes {
    RateTable::new(kind, series.times, steps, table).eval(series.values, out);
    Notes::NONE
}

/// Sums (or means) of values all of whose sums are exact.
fn prefix_sums(values: &[f64], table: &WindowTable, out: &mut Vec<f64>, mean: bool) -> Notes {
    let mut sums = Vec::with_capacity(values.len() + 1);
    let mut sum = 0.0;
    sums.push(sum);
    sums.extend(values.iter().map(|v| {
        sum += v;
        sum
    }));
    out.extend((0..table.windows.len()).map(|step| {
        let range = table.range(step);
        let sum = sums[range.end] - sums[range.start];
        match range.len() {
            0 => ABSENT,
            n if mean => sum / n as f64,
            _ => sum,
        }
    }));
    Notes::NONE
}

/// Extremes by a queue of the indices that are not yet beaten. Of equal values the first stays in front, as in a
/// scan; NaN never enters, so an empty queue means a window of NaNs only.
fn slide(
    values: &[f64],
    table: &WindowTable,
    out: &mut Vec<f64>,
    better: impl Fn(f64, f64) -> bool,
) -> Notes {
    let mut queue: Vec<u32> = Vec::new();
    let (mut head, mut next) = (0usize, 0usize);
    for step in 0..table.windows.len() {
        let range = table.range(step);
        for i in next.max(range.start)..range.end {
            let v = values[i];
            if v.is_nan() {
                continue;
            }
            while queue.len() > head && better(v, values[queue[queue.len() - 1] as usize]) {
                queue.pop();
            }
            queue.push(i as u32);
        }
        next = next.max(range.end);
        while head < queue.len() && (queue[head] as usize) < range.start {
            head += 1;
        }
        out.push(match queue.get(head) {
            _ if range.is_empty() => ABSENT,
            Some(&i) => values[i as usize],
            // Of NaNs the last is what a scan ends with.
            None => values[range.end - 1],
        });
    }
    Notes::NONE
}

/// Samples without staleness markers, if there are any to drop; `starts` may be empty.
pub fn without_stale(
    times: &[i64],
    values: &[f64],
    starts: &[i64],
) -> Option<(Vec<i64>, Vec<f64>, Vec<i64>)> {
    if !arch::any_stale(values) {
        return None;
    }
    let kept = || (0..values.len()).filter(|&i| !crate::is_absent(values[i]));
    Some((
        kept().map(|i| times[i]).collect(),
        kept().map(|i| values[i]).collect(),
        kept().filter_map(|i| starts.get(i).copied()).collect(),
    ))
}
