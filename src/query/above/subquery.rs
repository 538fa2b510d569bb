//! Subqueries: an expression evaluated on a grid of its own, and range functions over what that gives.

use std::sync::Arc;

use model::histogram::CounterResetHint;
use promql::Function;
use promql::ast::Span;

use crate::query::Error;
use crate::query::above::Evaluator;
use crate::query::account::Load;
use crate::query::exec::scan::judge_counter;
use crate::query::exec::window::{Ranger, Samples, Scratch};
use crate::query::frame::{Row, Steps, TYPE_LABEL, is_absent};
use crate::query::plan::logical::{Kind, Node, Selector, Subquery};
use crate::query::value::Series;
use crate::shard::select::HistogramPoint;

/// Steps a subquery may have: with a row each of 8 bytes a step, one series would fill 800 MB at this many.
const STEPS_MAX: usize = 100_000_000;

/// The grid of a subquery: multiples of its step since the epoch, from the first after the oldest range's start.
pub(super) fn inner_steps(s: &Subquery, outer: Steps) -> Steps {
    let first = s.reference(outer.start).saturating_sub(s.range);
    let mut start = first / s.step * s.step;
    if start <= first {
        start += s.step;
    }
    Steps::between(start, s.reference(outer.last()), s.step)
}

/// Rows on a grid as series with their own times.
pub fn as_series(rows: Vec<Row>, steps: Steps) -> Vec<Series> {
    let series = rows.into_iter().map(|row| Series {
        floats: row
            .floats
            .iter()
            .enumerate()
            .filter(|(_, v)| !is_absent(**v))
            .map(|(i, v)| (steps.at(i), *v))
            .collect(),
        histograms: row.histograms.iter().map(|(i, h)| (steps.at(*i as usize), h.clone())).collect(),
        labels: row.labels,
    });
    series.collect()
}

impl Evaluator<'_> {
    /// Evaluates what a subquery is of, and says how many samples were seen for that: they are not the outer
    /// expression's, which sees the results instead. They were read for it all the same.
    pub(super) async fn subquery_rows(
        &mut self,
        s: &Subquery,
        steps: Steps,
    ) -> Result<(Vec<Row>, u64), Error> {
        let inner = inner_steps(s, steps);
        if inner.count == 0 {
            return Ok((Vec::new(), 0));
        }
        if inner.count > STEPS_MAX {
            return Err(Error::TooManySamples);
        }
        let was_instant = std::mem::replace(&mut self.is_instant, inner.is_single());
        let outer = std::mem::replace(&mut self.load, Load::new(inner.count, self.counts_steps));
        let rows = self.rows(&s.inner, inner).await;
        self.is_instant = was_instant;
        let load = std::mem::replace(&mut self.load, outer);
        self.load.read += load.read;
        for (i, (_, read)) in load.by_step.iter().enumerate() {
            let step = (inner.at(i) - steps.start).max(0) as usize / steps.interval as usize;
            if let Some(at) = self.load.by_step.get_mut(step.min(steps.count.max(1) - 1)) {
                at.1 += read;
            }
        }
        Ok((rows?, load.seen))
    }

    /// A range function whose range is a subquery.
    pub(super) async fn over_subquery(
        &mut self,
        function: Function,
        args: &[Node],
        at: usize,
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = self.windows_of(function, args, at, steps).await?;
        if matches!(function, Function::LastOverTime | Function::FirstOverTime) {
            return Ok(rows);
        }
        rows.iter_mut().for_each(|row| self.drop_name(row));
        self.settled(rows)
    }

    /// The same, with the names that the subquery's series have.
    pub(super) async fn windows_of(
        &mut self,
        function: Function,
        args: &[Node],
        at: usize,
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        let Kind::Subquery(subquery) = &args[at].kind else {
            return Err(Error::Execution("expected a range vector".into()));
        };
        let (rows, _) = self.subquery_rows(subquery, steps).await?;
        let inner = inner_steps(subquery, steps);
        let others: Vec<&Node> = args.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, a)| a).collect();
        let params = self.columns(&others, steps).await?;
        let selector = Selector {
            name: String::new(),
            matchers: Arc::from([]),
            offset: subquery.offset,
            at: subquery.at,
            anchored: false,
            smoothed: false,
            stats_only: false,
        };
        let ranger = Ranger {
            selector: &selector,
            steps,
            settings: self.settings,
            function,
            range: subquery.range,
            params: &params,
            span: place(&args[0]),
        };
        let mut out = Vec::with_capacity(rows.len());
        let mut scratch = Scratch::default();
        for (i, row) in rows.iter().enumerate() {
            if i % 64 == 0 {
                self.account.check()?;
            }
            let mut result = row.emptied();
            self.fill(&ranger, row, inner, &mut scratch, &mut result)?;
            if !result.is_empty() {
                out.push(result);
            }
        }
        Ok(out)
    }

    fn fill(
        &mut self,
        ranger: &Ranger<'_>,
        row: &Row,
        inner: Steps,
        scratch: &mut Scratch,
        result: &mut Row,
    ) -> Result<(), Error> {
        let present = row.floats.iter().enumerate().filter(|(_, v)| !is_absent(**v));
        let (times, values): (Vec<i64>, Vec<f64>) = present.map(|(i, v)| (inner.at(i), *v)).unzip();
        let histograms: Vec<HistogramPoint> = row.histograms.iter().map(|p| point(p, inner)).collect();
        let samples = Samples {
            times: &times,
            values: &values,
            starts: &[],
            histograms: &histograms,
            is_coarse: false,
            weights: &[],
            times_number: 0,
        };
        let name = || row.labels.metric_name().unwrap_or_default().to_owned();
        ranger.fill(samples, scratch, &name, result, &mut self.notes, &mut self.load)?;
        let is_rate = matches!(ranger.function, Function::Rate | Function::Increase);
        if is_rate && result.floats.iter().any(|v| !is_absent(*v)) {
            let kind = row.labels.value_or_empty(TYPE_LABEL);
            let kind = self.settings.type_and_unit_labels.then_some(kind);
            judge_counter(&name(), kind, ranger.span, &mut self.notes);
        }
        Ok(())
    }
}

/// Where notes about a function's first argument point: a subquery's samples have no place in the text any more
/// when the function sees them, so it is the very beginning.
fn place(arg: &Node) -> Span {
    match &arg.kind {
        Kind::Subquery(_) => Span::default(),
        Kind::Once(inner) => place(inner),
        _ => arg.span,
    }
}

/// A histogram of a grid. Between its steps there may have been resets, or the same reset may be seen twice: what it
/// says of them is not known to hold.
fn point((step, histogram): &(u32, Arc<model::histogram::FloatHistogram>), steps: Steps) -> HistogramPoint {
    let mut histogram = histogram.clone();
    if matches!(histogram.counter_reset_hint, CounterResetHint::Reset | CounterResetHint::NotReset) {
        Arc::make_mut(&mut histogram).counter_reset_hint = CounterResetHint::Unknown;
    }
    HistogramPoint { time: steps.at(*step as usize), start: 0, histogram }
}
