//! A series' samples into the cells of a row: the newest sample at each step, or a function of a range before it.

use std::sync::Arc;

use compute::range::{
    Edges, HistogramSample, InvalidFactor, Modifier, RangeFunction, RateKind, Sampled, Window, smooth_instant,
};
use compute::wide::{self, RateTable, WindowTable};
use compute::{Answer, Notes};
use model::histogram::{CounterResetHint, FloatHistogram};
use model::{Timestamp, is_stale};
use promql::Function;
use promql::ast::Span;

use crate::query::Error;
use crate::query::account::Load;
use crate::query::annotations::{Annotations, Merging};
use crate::query::frame::{ABSENT, Row, Steps, histogram_sample_count, is_absent};
use crate::query::plan::logical::Selector;
use crate::query::plan::physical::{Column, Fragment, Read, Settings};
use crate::shard::select::HistogramPoint;

/// Samples of one series, ascending; staleness markers among them.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    pub times: &'a [Timestamp],
    pub values: &'a [f64],
    /// As many as `times`, or none.
    pub starts: &'a [Timestamp],
    pub histograms: &'a [HistogramPoint],
    /// Aggregates are among the values.
    pub is_coarse: bool,
    /// How many samples each value stands for, where that is asked of aggregates; else none.
    pub weights: &'a [f64],
    /// Says which times these are: samples with the same number have the very same times. 0 says nothing.
    pub times_number: u64,
}

impl HistogramSample for HistogramPoint {
    fn time(&self) -> i64 {
        self.time
    }
    fn start(&self) -> i64 {
        self.start
    }
    fn histogram(&self) -> &FloatHistogram {
        &self.histogram
    }
}

/// The times that a selector looks at over all steps: from the first (inclusive) to the last.
pub fn time_span(selector: &Selector, read: &Read, steps: Steps, lookback: i64) -> (Timestamp, Timestamp) {
    let (first, last) = (selector.reference(steps.start), selector.reference(steps.last()));
    let back = match read {
        Read::Latest | Read::LatestTime | Read::LatestStart => lookback,
        Read::Window { range, .. } | Read::Raw { range } => {
            if selector.anchored || selector.smoothed {
                range + lookback
            } else {
                *range
            }
        }
    };
    let ahead = if selector.smoothed { lookback } else { 0 };
    (first.saturating_sub(back).saturating_add(1), last.saturating_add(ahead))
}

/// Buffers for samples without staleness markers.
#[derive(Default)]
pub struct Scratch {
    times: Vec<Timestamp>,
    values: Vec<f64>,
    starts: Vec<Timestamp>,
    histograms: Vec<HistogramPoint>,
    /// The windows of all steps over the times that `table_number` says.
    table: WindowTable,
    table_number: u64,
    /// Samples in the windows of the table: what a series with these times adds to the load.
    table_load: Load,
    /// Where there is one window and a rate is taken of it.
    single_rate: Option<SingleRate>,
    /// Where there are several.
    rates: Option<RateTable>,
}

impl Scratch {
    /// What the times of a new table tell of a rate, where `function` is one.
    fn note_rates(&mut self, function: RangeFunction, times: &[Timestamp], steps: &wide::Steps) {
        (self.single_rate, self.rates) = (None, None);
        if let [window] = self.table.windows.as_slice() {
            let (start, end) = steps.range_at(0);
            let times = &times[window.0 as usize..window.1 as usize];
            self.single_rate = SingleRate::new(function, times, start, end);
        } else if let Some(kind) = rate_kind(function) {
            self.rates = Some(RateTable::new(kind, times, steps, &self.table));
        }
    }

    /// The samples that are not staleness markers.
    fn live<'a>(&'a mut self, s: Samples<'a>) -> Samples<'a> {
        let mut live = s;
        if s.values.iter().any(|v| is_stale(*v)) {
            self.times.clear();
            self.values.clear();
            self.starts.clear();
            for (i, v) in s.values.iter().enumerate().filter(|(_, v)| !is_stale(**v)) {
                self.times.push(s.times[i]);
                self.values.push(*v);
                self.starts.extend(s.starts.get(i));
            }
            live.times_number = 0;
            (live.times, live.values, live.starts) = (&self.times, &self.values, &self.starts);
        }
        if s.histograms.iter().any(|h| h.histogram.is_stale()) {
            self.histograms.clear();
            self.histograms.extend(s.histograms.iter().filter(|h| !h.histogram.is_stale()).cloned());
            live.histograms = &self.histograms;
        }
        live
    }
}

/// Histograms reduced to count and sum. What only the buckets can tell, whether there was a reset, is found out now.
pub fn without_buckets(histograms: &[HistogramPoint]) -> Vec<HistogramPoint> {
    let mut previous: Option<&FloatHistogram> = None;
    let mut out = Vec::with_capacity(histograms.len());
    for point in histograms {
        let h = &point.histogram;
        let counter_reset_hint =
            match (h.counter_reset_hint, previous) {
                (CounterResetHint::Unknown, Some(p)) if !p.is_stale() && !h.is_stale() => {
                    if h.detect_reset(p) { CounterResetHint::Reset } else { CounterResetHint::NotReset }
                }
                (hint, _) => hint,
            };
        previous = Some(h);
        let stats = FloatHistogram {
            counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            count: h.count,
            sum: h.sum,
            ..FloatHistogram::default()
        };
        out.push(HistogramPoint { time: point.time, start: point.start, histogram: Arc::new(stats) });
    }
    out
}

/// The newest sample at or before a moment: a float by its index, or a histogram.
enum Newest<'a> {
    Float(usize),
    Histogram(&'a HistogramPoint),
}

fn newest<'a>(s: &Samples<'a>, at: Timestamp, lookback: i64) -> Option<Newest<'a>> {
    let f = s.times.partition_point(|t| *t <= at).checked_sub(1);
    let h = s.histograms.partition_point(|h| h.time <= at).checked_sub(1);
    let is_float = match (f, h) {
        (Some(f), Some(h)) => s.times[f] > s.histograms[h].time,
        (Some(_), None) => true,
        _ => false,
    };
    let (time, stale, found) = if is_float {
        let f = f?;
        (s.times[f], is_stale(s.values[f]), Newest::Float(f))
    } else {
        let h = &s.histograms[h?];
        (h.time, h.histogram.is_stale(), Newest::Histogram(h))
    };
    (time > at.saturating_sub(lookback) && !stale).then_some(found)
}

/// Fills `row` with the newest sample at each step.
pub fn latest(s: Samples<'_>, selector: &Selector, steps: Steps, lookback: i64, row: &mut Row) {
    for (step, t) in steps.times().enumerate() {
        match newest(&s, selector.reference(t), lookback) {
            None => {}
            Some(Newest::Float(i)) => row.set_float(step, s.values[i], steps.count),
            Some(Newest::Histogram(h)) => row.push_histogram(step, h.histogram.clone()),
        }
    }
}

/// Fills `row` with the time of the newest sample, or with when its counter began.
pub fn latest_time(
    s: Samples<'_>,
    selector: &Selector,
    steps: Steps,
    lookback: i64,
    of_start: bool,
    row: &mut Row,
) {
    for (step, t) in steps.times().enumerate() {
        let found = newest(&s, selector.reference(t), lookback);
        let time = match found {
            None => continue,
            Some(Newest::Float(i)) if of_start => s.starts.get(i).copied().unwrap_or(0),
            Some(Newest::Float(i)) => s.times[i],
            Some(Newest::Histogram(h)) if of_start => h.start,
            Some(Newest::Histogram(h)) => h.time,
        };
        row.set_float(step, time as f64 / 1000.0, steps.count);
    }
}

/// A range function over all steps.
pub struct Ranger<'a> {
    pub selector: &'a Selector,
    pub steps: Steps,
    pub settings: Settings,
    pub function: Function,
    pub range: i64,
    pub params: &'a [Column],
    /// Where notes point to.
    pub span: Span,
}

impl<'a> Ranger<'a> {
    /// The range function that a fragment begins with.
    pub fn of(fragment: &'a Fragment) -> Option<Ranger<'a>> {
        let Fragment { steps, settings, chain, .. } = fragment;
        let Read::Window { function, range, params, span, .. } = &chain.read else { return None };
        Some(Ranger {
            selector: &chain.selector,
            steps: *steps,
            settings: *settings,
            function: *function,
            range: *range,
            params,
            span: *span,
        })
    }
}

impl Ranger<'_> {
    fn modifier(&self) -> Modifier {
        match (self.selector.anchored, self.selector.smoothed) {
            (true, _) => Modifier::Anchored,
            (_, true) => Modifier::Smoothed,
            _ => Modifier::Plain,
        }
    }

    /// The function, where it can be computed over all steps at once: plain floats, nothing that changes with the step.
    fn wide_function(&self, s: &Samples<'_>) -> Option<RangeFunction> {
        let is_plain = self.modifier() == Modifier::Plain && self.selector.at.is_none();
        let floats_only =
            s.histograms.is_empty() && (s.starts.is_empty() || !self.settings.use_start_timestamps);
        if !is_plain || !floats_only || !self.params.is_empty() {
            return None;
        }
        range_function(self.function, &[], 0).ok().flatten()
    }

    fn wide_steps(&self) -> wide::Steps {
        wide::Steps {
            first: self.steps.start,
            interval: self.steps.interval,
            count: self.steps.count,
            range: self.range,
            offset: self.selector.offset,
        }
    }

    /// Makes what the times of a series tell, unless the last one had the same.
    fn prepare(
        &self,
        function: RangeFunction,
        times: &[Timestamp],
        number: u64,
        scratch: &mut Scratch,
        counts_steps: bool,
    ) {
        if number != 0 && number == scratch.table_number {
            return;
        }
        let steps = self.wide_steps();
        scratch.table.rebuild(times, &steps);
        scratch.table_number = number;
        scratch.note_rates(function, times, &steps);
        scratch.table_load = Load::new(self.steps.count, counts_steps);
        let mut read_to = 0;
        for (step, (from, to)) in scratch.table.windows.iter().enumerate() {
            let read = to.saturating_sub(read_to.max(*from));
            scratch.table_load.add(step, u64::from(to - from), u64::from(read));
            read_to = *to;
        }
    }

    /// Whether this is a rate at several steps, of which whole columns are worth having.
    pub fn is_rate_of_columns(&self) -> bool {
        let is_plain = self.modifier() == Modifier::Plain && self.selector.at.is_none();
        let function = range_function(self.function, &[], 0).ok().flatten();
        is_plain && self.params.is_empty() && self.steps.count > 1 && function.and_then(rate_kind).is_some()
    }

    /// The rates of series that have the same times and a number at each, and what each of them adds to the load.
    /// `None` where there is none at any step.
    pub fn rates<'s>(
        &self,
        times: &[Timestamp],
        number: u64,
        scratch: &'s mut Scratch,
        counts_steps: bool,
    ) -> (Option<&'s mut RateTable>, &'s Load) {
        if let Some(function) = range_function(self.function, &[], 0).ok().flatten() {
            self.prepare(function, times, number, scratch, counts_steps);
        }
        (scratch.rates.as_mut().filter(|r| !r.is_empty()), &scratch.table_load)
    }

    /// [`Self::fill`] with one table of windows for all series that have the same times.
    fn fill_wide(
        &self,
        function: RangeFunction,
        s: Samples<'_>,
        scratch: &mut Scratch,
        row: &mut Row,
        load: &mut Load,
    ) {
        let without = if s.values.iter().any(|v| is_stale(*v)) {
            wide::without_stale(s.times, s.values, &[])
        } else {
            None
        };
        let (times, values, number) = match &without {
            Some((times, values, _)) => (times.as_slice(), values.as_slice(), 0),
            None => (s.times, s.values, s.times_number),
        };
        self.prepare(function, times, number, scratch, !load.by_step.is_empty());
        if scratch.table_load.seen == 0 {
            return;
        }
        load.merge(&scratch.table_load);
        if let ([window], Some(rate)) = (scratch.table.windows.as_slice(), &scratch.single_rate) {
            row.floats.clear();
            row.floats.push(rate.of(&values[window.0 as usize..window.1 as usize]));
            return;
        }
        let steps = self.wide_steps();
        if let Some(rates) = &mut scratch.rates {
            rates.eval(values, &mut row.floats);
            return;
        }
        let series = wide::Series { times, values, starts: &[] };
        wide::eval(function, series, &steps, &scratch.table, &mut row.floats);
    }

    /// [`Self::fill`] where aggregates are among the samples.
    pub fn fill_coarse(
        &self,
        samples: Samples<'_>,
        scratch: &mut Scratch,
        name: &dyn Fn() -> String,
        row: &mut Row,
        notes: &mut Annotations,
        load: &mut Load,
    ) -> Result<(), Error> {
        let sum = Ranger { function: Function::SumOverTime, ..*self };
        match self.function {
            // The values are counts.
            Function::CountOverTime => sum.fill(samples, scratch, name, row, notes, load),
            Function::AvgOverTime if samples.weights.is_empty() => {
                self.fill(samples, scratch, name, row, notes, load)
            }
            Function::AvgOverTime if !samples.histograms.is_empty() => {
                let means: Vec<f64> =
                    samples.values.iter().zip(samples.weights).map(|(v, n)| v / n).collect();
                let means = Samples { values: &means, weights: &[], ..samples };
                self.fill(means, scratch, name, row, notes, load)
            }
            Function::AvgOverTime => {
                sum.fill(samples, scratch, name, row, notes, load)?;
                let is_stale = |(v, n): (&f64, &f64)| if is_stale(*v) { *v } else { *n };
                let counts: Vec<f64> = samples.values.iter().zip(samples.weights).map(is_stale).collect();
                let counts = Samples { values: &counts, weights: &[], ..samples };
                let (mut counted, mut nothing) = (row.emptied(), Load::new(self.steps.count, false));
                sum.fill(counts, scratch, name, &mut counted, notes, &mut nothing)?;
                let pairs = row.floats.iter_mut().zip(&counted.floats);
                pairs.filter(|(v, _)| !is_absent(**v)).for_each(|(v, n)| *v /= n);
                Ok(())
            }
            _ => self.fill(samples, scratch, name, row, notes, load),
        }
    }

    /// Fills `row` with the function's value at each step, and adds to `load` what samples were looked at.
    pub fn fill(
        &self,
        samples: Samples<'_>,
        scratch: &mut Scratch,
        name: &dyn Fn() -> String,
        row: &mut Row,
        notes: &mut Annotations,
        load: &mut Load,
    ) -> Result<(), Error> {
        if let Some(function) = self.wide_function(&samples) {
            self.fill_wide(function, samples, scratch, row, load);
            return Ok(());
        }
        let mut s = scratch.live(samples);
        if !self.settings.use_start_timestamps {
            s.starts = &[];
        }
        let modifier = self.modifier();
        let back = if modifier == Modifier::Plain { 0 } else { self.settings.lookback };
        let ahead = if modifier == Modifier::Smoothed { self.settings.lookback } else { 0 };
        for (step, at) in self.steps.times().enumerate() {
            let end = self.selector.reference(at);
            let start = end.saturating_sub(self.range);
            let (first, last) = (start.saturating_sub(back), end.saturating_add(ahead));
            let floats = s.times.partition_point(|t| *t <= first)..s.times.partition_point(|t| *t <= last);
            let histograms = s.histograms.partition_point(|h| h.time <= first)
                ..s.histograms.partition_point(|h| h.time <= last);
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            // A range that slides has what it had a step before.
            let read_to = if step == 0 { first } else { first.max(last.saturating_sub(self.steps.interval)) };
            let seen = floats.len() + worth(&s.histograms[histograms.clone()], first);
            let read = s.times[floats.clone()].iter().filter(|t| **t > read_to).count()
                + worth(&s.histograms[histograms.clone()], read_to);
            load.add(step, seen as u64, read as u64);
            let window = Window {
                at,
                start,
                end,
                times: &s.times[floats.clone()],
                values: &s.values[floats.clone()],
                starts: if s.starts.is_empty() { &[] } else { &s.starts[floats] },
                histograms: &s.histograms[histograms],
                histogram_starts: self.settings.use_start_timestamps,
                modifier,
            };
            let Some(function) = range_function(self.function, self.params, step)? else { continue };
            let answer = function.eval(&window);
            if !answer.notes.is_empty() {
                range_notes(answer.notes, self.params, step, name, self.span, notes);
            }
            place(answer, step, self.steps.count, row);
        }
        Ok(())
    }
}

/// What histograms after `after` count for.
fn worth(histograms: &[HistogramPoint], after: Timestamp) -> usize {
    let later = histograms.iter().filter(|h| h.time > after);
    later.map(|h| histogram_sample_count(&h.histogram)).sum()
}

/// `rate` and its kin over one window of plain floats: what [`RangeFunction::eval`] gives, with what depends on the
/// times alone computed once for all series that share them.
#[derive(Clone, Copy)]
pub struct SingleRate {
    is_counter: bool,
    /// `None` where fewer than two samples lie in the window.
    edges: Option<Edges>,
}

impl SingleRate {
    fn new(
        function: RangeFunction,
        times: &[Timestamp],
        start: Timestamp,
        end: Timestamp,
    ) -> Option<SingleRate> {
        let kind = rate_kind(function)?;
        let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
        Some(SingleRate::between(kind, (first, last), times.len(), start, end))
    }

    /// Of `count` samples, the first and the last of which were taken at `times`.
    pub fn between(
        kind: RateKind,
        times: (Timestamp, Timestamp),
        count: usize,
        start: Timestamp,
        end: Timestamp,
    ) -> SingleRate {
        let edges = (count > 1).then(|| {
            let sampled = Sampled {
                start,
                end,
                first_time: times.0,
                last_time: times.1,
                gap_count: count - 1,
                began: None,
                first: 0.0,
                gain: 0.0,
            };
            Edges::new(&sampled, kind)
        });
        SingleRate { is_counter: kind.is_counter(), edges }
    }

    /// The rate of a series of which this is known: its value before the only drop, or 0, as well.
    #[inline]
    pub fn of_edges(&self, first: f64, last: f64, lost: f64) -> f64 {
        let Some(edges) = &self.edges else { return ABSENT };
        let mut gain = last - first;
        if self.is_counter && lost != 0.0 {
            gain += lost;
        }
        gain * edges.factor(first, gain)
    }

    #[inline]
    fn of(&self, values: &[f64]) -> f64 {
        let (Some(edges), Some(first), Some(last)) = (&self.edges, values.first(), values.last()) else {
            return ABSENT;
        };
        let mut gain = last - first;
        if self.is_counter {
            for pair in values.windows(2) {
                if pair[1] < pair[0] {
                    gain += pair[0];
                }
            }
        }
        gain * edges.factor(*first, gain)
    }
}

fn rate_kind(function: RangeFunction) -> Option<RateKind> {
    Some(match function {
        RangeFunction::Rate => RateKind::Rate,
        RangeFunction::Increase => RateKind::Increase,
        RangeFunction::Delta => RateKind::Delta,
        _ => return None,
    })
}

fn place(answer: Answer, step: usize, step_count: usize, row: &mut Row) {
    match answer.value {
        None => {}
        Some(compute::Value::Float(v)) => row.set_float(step, v, step_count),
        Some(compute::Value::Histogram(h)) => row.push_histogram(step, Arc::from(h)),
    }
}

/// Fills `row` with the values of a smoothed instant selector.
pub fn smoothed(
    samples: Samples<'_>,
    at: &Smoothing<'_>,
    scratch: &mut Scratch,
    name: &dyn Fn() -> String,
    row: &mut Row,
    notes: &mut Annotations,
) {
    let s = scratch.live(samples);
    for (step, t) in at.steps.times().enumerate() {
        let end = at.selector.reference(t);
        let (first, last) = (end.saturating_sub(at.lookback), end.saturating_add(at.lookback));
        let floats = s.times.partition_point(|t| *t <= first)..s.times.partition_point(|t| *t <= last);
        let histograms = s.histograms.partition_point(|h| h.time <= first)
            ..s.histograms.partition_point(|h| h.time <= last);
        let window = Window {
            at: t,
            start: first,
            end: last,
            times: &s.times[floats.clone()],
            values: &s.values[floats],
            starts: &[],
            histograms: &s.histograms[histograms],
            histogram_starts: false,
            modifier: Modifier::Smoothed,
        };
        let answer = smooth_instant(&window, end);
        range_notes(answer.notes, &[], step, name, at.span, notes);
        place(answer, step, at.steps.count, row);
    }
}

/// A smoothed instant selector.
pub struct Smoothing<'a> {
    pub selector: &'a Selector,
    pub steps: Steps,
    pub lookback: i64,
    /// Where notes point to.
    pub span: Span,
}

/// Errors: a parameter is out of bounds.
fn range_function(
    function: Function,
    params: &[Column],
    step: usize,
) -> Result<Option<RangeFunction>, Error> {
    let param = |i: usize| params.get(i).and_then(|c| c.get(step)).copied().unwrap_or(f64::NAN);
    Ok(Some(match function {
        Function::AvgOverTime => RangeFunction::AvgOverTime,
        Function::Changes => RangeFunction::Changes,
        Function::CountOverTime => RangeFunction::CountOverTime,
        Function::Delta => RangeFunction::Delta,
        Function::Deriv => RangeFunction::Deriv,
        Function::DoubleExponentialSmoothing => {
            RangeFunction::smoothing(param(0), param(1)).map_err(invalid_factor)?
        }
        Function::FirstOverTime => RangeFunction::FirstOverTime,
        Function::Idelta => RangeFunction::Idelta,
        Function::Increase => RangeFunction::Increase,
        Function::Irate => RangeFunction::Irate,
        Function::LastOverTime => RangeFunction::LastOverTime,
        Function::MadOverTime => RangeFunction::MadOverTime,
        Function::MaxOverTime => RangeFunction::MaxOverTime,
        Function::MinOverTime => RangeFunction::MinOverTime,
        Function::PredictLinear => RangeFunction::PredictLinear(param(0)),
        Function::PresentOverTime | Function::AbsentOverTime => RangeFunction::PresentOverTime,
        Function::QuantileOverTime => RangeFunction::QuantileOverTime(param(0)),
        Function::Rate => RangeFunction::Rate,
        Function::Resets => RangeFunction::Resets,
        Function::StddevOverTime => RangeFunction::StddevOverTime,
        Function::StdvarOverTime => RangeFunction::StdvarOverTime,
        Function::SumOverTime => RangeFunction::SumOverTime,
        Function::TsOfFirstOverTime => RangeFunction::TsOfFirstOverTime,
        Function::TsOfLastOverTime => RangeFunction::TsOfLastOverTime,
        Function::TsOfMaxOverTime => RangeFunction::TsOfMaxOverTime,
        Function::TsOfMinOverTime => RangeFunction::TsOfMinOverTime,
        _ => return Ok(None),
    }))
}

fn invalid_factor(f: InvalidFactor) -> Error {
    let (name, symbol, v) = match f {
        InvalidFactor::Smoothing(v) => ("smoothing", "sf", v),
        InvalidFactor::Trend(v) => ("trend", "tf", v),
    };
    let v = if v.is_finite() { format!("{v:.6}") } else { model::float_text::format_g(v) };
    Error::Execution(format!("invalid {name} factor. Expected: 0 < {symbol} < 1, got: {v}"))
}

/// Puts remarks of a computation over one series into words.
pub fn range_notes(
    remarks: Notes,
    params: &[Column],
    step: usize,
    name: &dyn Fn() -> String,
    span: Span,
    notes: &mut Annotations,
) {
    for remark in remarks.iter() {
        match remark {
            Notes::MIXED_FLOATS_HISTOGRAMS => notes.mixed_floats_histograms(&name(), span),
            Notes::NOT_A_COUNTER => notes.not_counter_histogram(&name(), span),
            Notes::NOT_A_GAUGE => notes.not_gauge_histogram(&name(), span),
            Notes::MIXED_EXPONENTIAL_CUSTOM => notes.mixed_exponential_custom(&name(), span),
            Notes::HISTOGRAMS_IGNORED_IN_RANGE => notes.histogram_ignored_in_range(&name(), span),
            Notes::START_TIME_OVERLAP => notes.start_time_overlap(&name(), span),
            Notes::BOUNDS_RECONCILED_ADD => notes.bounds_reconciled(Merging::Addition, span),
            Notes::BOUNDS_RECONCILED_SUB => notes.bounds_reconciled(Merging::Subtraction, span),
            Notes::BOUNDS_RECONCILED_AGGREGATION => notes.bounds_reconciled(Merging::Aggregation, span),
            Notes::RESET_COLLISION_ADD => notes.counter_reset_collision(Merging::Addition, span),
            Notes::RESET_COLLISION_SUB => notes.counter_reset_collision(Merging::Subtraction, span),
            Notes::RESET_COLLISION_AGGREGATION => notes.counter_reset_collision(Merging::Aggregation, span),
            Notes::INVALID_QUANTILE => {
                let q = params.first().and_then(|c| c.get(step)).copied().unwrap_or(f64::NAN);
                notes.invalid_quantile(q, span);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compute::range::NoHistograms;

    #[test]
    fn a_single_rate_is_the_rate_of_its_window_to_the_bit() {
        let mut x = 7u64;
        let mut chance = move |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        for _ in 0..2000 {
            let (mut t, mut v) = (chance(20_000) as i64, chance(1000) as f64 / 8.0);
            let (mut times, mut values) = (Vec::new(), Vec::new());
            for _ in 0..chance(6) {
                times.push(t);
                values.push(v);
                t += 1 + chance(30_000) as i64;
                v = if chance(5) == 0 { chance(10) as f64 } else { v + chance(100) as f64 / 3.0 };
            }
            let (start, end) = (-1, t + chance(10_000) as i64);
            let window = Window::<NoHistograms> {
                at: end,
                start,
                end,
                times: &times,
                values: &values,
                starts: &[],
                histograms: &[],
                histogram_starts: false,
                modifier: Modifier::Plain,
            };
            for f in [RangeFunction::Rate, RangeFunction::Increase, RangeFunction::Delta] {
                let want = f.eval(&window).value.and_then(|v| v.float()).unwrap_or(ABSENT);
                let have = SingleRate::new(f, &times, start, end).expect("a rate").of(&values);
                assert_eq!(have.to_bits(), want.to_bits(), "{f:?} of {values:?} at {times:?}");
            }
        }
    }
}
