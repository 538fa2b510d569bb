//! What expressions evaluate to on the way: rows of cells, one cell a step.
//!
//! Floats lie in a dense column with a marker where there is none; histograms, which are few and large, in a sparse
//! one. The same rows are made on the shards and above them.

use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::{Labels, Timestamp};

pub use compute::{ABSENT, is_absent};

/// The moments at which an expression is evaluated: `start`, `start + interval` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start: Timestamp,
    /// At least 1.
    pub interval: i64,
    pub count: usize,
}

impl Steps {
    pub fn once(at: Timestamp) -> Steps {
        Steps { start: at, interval: 1, count: 1 }
    }

    /// All steps in `start..=end`; none where `end` lies before `start`.
    pub fn between(start: Timestamp, end: Timestamp, interval: i64) -> Steps {
        let interval = interval.max(1);
        let count = if end < start { 0 } else { (end - start) / interval + 1 };
        Steps { start, interval, count: count as usize }
    }

    #[inline]
    pub fn at(self, i: usize) -> Timestamp {
        self.start + self.interval * i as i64
    }

    pub fn last(self) -> Timestamp {
        self.at(self.count.max(1) - 1)
    }

    pub fn times(self) -> impl ExactSizeIterator<Item = Timestamp> {
        (0..self.count).map(move |i| self.at(i))
    }

    /// One moment only: an instant query, or what is evaluated once for all steps.
    pub fn is_single(self) -> bool {
        self.count <= 1
    }
}

/// The value of a row at a step.
#[derive(Clone, Debug)]
pub enum Cell {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A series on the grid of the steps.
#[derive(Clone, Debug)]
pub struct Row {
    pub labels: Labels,
    /// The name (with `__type__` and `__unit__`) is dropped from the answer.
    pub drop_name: bool,
    /// One for each step, or empty where the row has no float.
    pub floats: Vec<f64>,
    /// Ascending by step; a step has a float or a histogram, not both.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

impl Row {
    pub fn new(labels: Labels) -> Row {
        Row { labels, drop_name: false, floats: Vec::new(), histograms: Vec::new() }
    }

    pub fn of_floats(labels: Labels, floats: Vec<f64>) -> Row {
        Row { labels, drop_name: false, floats, histograms: Vec::new() }
    }

    /// The same series without its cells.
    pub fn emptied(&self) -> Row {
        Row {
            labels: self.labels.clone(),
            drop_name: self.drop_name,
            floats: Vec::new(),
            histograms: Vec::new(),
        }
    }

    #[inline]
    pub fn float(&self, step: usize) -> Option<f64> {
        self.floats.get(step).copied().filter(|v| !is_absent(*v))
    }

    pub fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let at = self.histograms.binary_search_by_key(&(step as u32), |h| h.0).ok()?;
        Some(&self.histograms[at].1)
    }

    pub fn cell(&self, step: usize) -> Option<Cell> {
        match self.float(step) {
            Some(v) => Some(Cell::Float(v)),
            None => self.histogram(step).cloned().map(Cell::Histogram),
        }
    }

    pub fn has(&self, step: usize) -> bool {
        self.float(step).is_some() || self.histogram(step).is_some()
    }

    /// Sets the float of `step`; steps are `step_count` in all.
    #[inline]
    pub fn set_float(&mut self, step: usize, v: f64, step_count: usize) {
        if self.floats.is_empty() {
            self.floats.resize(step_count, ABSENT);
        }
        self.floats[step] = v;
    }

    /// Appends a histogram; steps ascend.
    pub fn push_histogram(&mut self, step: usize, h: Arc<FloatHistogram>) {
        debug_assert!(self.histograms.last().is_none_or(|l| (l.0 as usize) < step), "steps ascend");
        self.histograms.push((step as u32, h));
    }

    pub fn push(&mut self, step: usize, cell: Cell, step_count: usize) {
        match cell {
            Cell::Float(v) => self.set_float(step, v, step_count),
            Cell::Histogram(h) => self.push_histogram(step, h),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.floats.iter().all(|v| is_absent(*v))
    }

    pub fn float_count(&self) -> usize {
        self.floats.iter().filter(|v| !is_absent(**v)).count()
    }

    /// Samples as Prometheus's limit counts them: a histogram counts for as many floats as it is large.
    pub fn sample_count(&self) -> usize {
        self.float_count() + self.histograms.iter().map(|(_, h)| histogram_sample_count(h)).sum::<usize>()
    }

    /// Memory that the row takes, nearly.
    pub fn bytes(&self) -> usize {
        let histograms: usize = self.histograms.iter().map(|(_, h)| 16 + h.size_bytes()).sum();
        size_of::<Row>() + self.labels.bytes().len() + 8 * self.floats.len() + histograms
    }

    /// The row without its cells outside `step`.
    pub fn only(&self, step: usize) -> Row {
        let mut row = self.emptied();
        if let Some(cell) = self.cell(step) {
            row.push(0, cell, 1);
        }
        row
    }

    /// Takes the cells of a row of the same series; false where both have one for a step.
    pub fn absorb(&mut self, other: Row) -> bool {
        for (step, v) in other.floats.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
            if self.has(step) {
                return false;
            }
            self.set_float(step, *v, other.floats.len());
        }
        for (step, h) in other.histograms {
            if self.has(step as usize) {
                return false;
            }
            let at = self.histograms.partition_point(|x| x.0 < step);
            self.histograms.insert(at, (step, h));
        }
        true
    }
}

/// How many floats a histogram is worth.
pub fn histogram_sample_count(h: &FloatHistogram) -> usize {
    (h.size_bytes() + 8) / 16
}

/// What a node of an expression gave.
#[derive(Clone, Debug)]
pub enum Frame {
    /// One value for each step.
    Scalar(Vec<f64>),
    Text(Arc<str>),
    Rows(Vec<Row>),
    /// A range vector as the root of a query: samples with their own times.
    Matrix(Vec<crate::query::value::Series>),
}

/// Labels that say what a metric is, not which one of its series.
pub const TYPE_LABEL: &str = "__type__";
pub const UNIT_LABEL: &str = "__unit__";

/// The labels without name, type and unit.
pub fn without_reserved(labels: &Labels) -> Labels {
    labels.retain(|l| l.name != model::labels::METRIC_NAME && l.name != TYPE_LABEL && l.name != UNIT_LABEL)
}
