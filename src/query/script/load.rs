//! Series descriptions into samples on shards.

use std::collections::BTreeMap;

use model::histogram::{ClassicHistogram, ClassicPart, CounterResetHint, FloatHistogram, Span, classic_part};
use model::labels::METRIC_NAME;
use model::{Labels, Timestamp};
use promql::series::{HistogramRun, HistogramText, ResetHint, SeriesValue};

use crate::query::merge::Local;
use crate::query::script::parse::{Load, LoadSeries};

/// A value at a step.
#[derive(Clone, Debug)]
pub(super) enum Unfolded {
    Omitted,
    Float(f64),
    /// With whether a counter reset hint was written.
    Histogram(Box<FloatHistogram>, bool),
}

/// One value for each step.
pub(super) fn unfolded(values: &[SeriesValue]) -> Result<Vec<Unfolded>, String> {
    let mut out = Vec::with_capacity(values.len());
    for v in values {
        match v {
            SeriesValue::Omitted => out.push(Unfolded::Omitted),
            SeriesValue::Float(v) => out.push(Unfolded::Float(*v)),
            SeriesValue::Histogram(h) => {
                out.push(Unfolded::Histogram(Box::new(histogram(h)), h.reset_hint.is_some()));
            }
            SeriesValue::HistogramRun(run) => unfold_run(run, &mut out)?,
        }
    }
    Ok(out)
}

fn unfold_run(run: &HistogramRun, out: &mut Vec<Unfolded>) -> Result<(), String> {
    let mut current = histogram(&run.base);
    let step = histogram(&run.step);
    let is_written = run.step.reset_hint.is_some();
    out.push(Unfolded::Histogram(Box::new(current.clone()), run.base.reset_hint.is_some()));
    for _ in 0..run.times {
        if current.schema > step.schema {
            let (from, to) = (step.schema, current.schema);
            return Err(format!("error combining histograms: cannot merge from schema {from} to {to}"));
        }
        let merged = if run.subtract { current.sub(&step) } else { current.add(&step) };
        merged.map_err(|e| e.to_string())?;
        out.push(Unfolded::Histogram(Box::new(current.clone()), is_written));
    }
    Ok(())
}

pub(super) fn histogram(h: &HistogramText) -> FloatHistogram {
    let spans = |offset: i32, n: usize| {
        if n == 0 { Vec::new() } else { vec![Span { offset, length: n as u32 }] }
    };
    FloatHistogram {
        counter_reset_hint: match h.reset_hint {
            None | Some(ResetHint::Unknown) => CounterResetHint::Unknown,
            Some(ResetHint::Reset) => CounterResetHint::Reset,
            Some(ResetHint::NotReset) => CounterResetHint::NotReset,
            Some(ResetHint::Gauge) => CounterResetHint::Gauge,
        },
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count,
        count: h.count,
        sum: h.sum,
        positive_spans: spans(h.offset, h.buckets.len()),
        positive_buckets: h.buckets.clone(),
        negative_spans: spans(h.negative_offset, h.negative_buckets.len()),
        negative_buckets: h.negative_buckets.clone(),
        custom_values: h.custom_values.clone(),
    }
}

pub(super) fn load(data: &mut Local, load: &Load) -> Result<(), String> {
    for (i, series) in load.series.iter().enumerate() {
        // A line replaces earlier ones of the same series.
        if load.series[i + 1..].iter().all(|later| later.labels != series.labels) {
            load_series(data, load, series)?;
        }
    }
    if load.with_nhcb { load_custom_buckets(data, load) } else { Ok(()) }
}

fn load_series(data: &mut Local, load: &Load, series: &LoadSeries) -> Result<(), String> {
    let values = unfolded(&series.values)?;
    if !series.starts.is_empty() && series.starts.len() != values.len() {
        let (starts, samples) = (series.starts.len(), values.len());
        return Err(format!("{}: {starts} start times for {samples} samples", series.labels));
    }
    let shard = data.owner(&series.labels);
    for (i, value) in values.into_iter().enumerate() {
        let time = load.step * i as i64;
        let start = series.starts.get(i).copied().flatten().map_or(0, |offset| time + offset);
        let appended = match value {
            Unfolded::Omitted => continue,
            Unfolded::Float(v) => shard.append_float(&series.labels, time, start, v),
            Unfolded::Histogram(h, _) => shard.append_histogram(&series.labels, time, start, *h),
        };
        appended.map_err(|e| format!("{} at {time} ms: {e}", series.labels))?;
    }
    Ok(())
}

/// Puts a sample where it belongs in its histogram.
type SetPart = Box<dyn Fn(&mut ClassicHistogram, f64)>;

/// Turns classic histograms into native ones with custom bounds, named without suffix.
fn load_custom_buckets(data: &mut Local, load: &Load) -> Result<(), String> {
    let mut found: BTreeMap<Labels, BTreeMap<Timestamp, ClassicHistogram>> = BTreeMap::new();
    for series in &load.series {
        let name = series.labels.value_or_empty(METRIC_NAME);
        let Some(part) = classic_part(name) else { continue };
        let (base, set): (&str, SetPart) = match part {
            ClassicPart::Bucket(base) => {
                let Ok(bound) = series.labels.value_or_empty("le").parse::<f64>() else { continue };
                (base, Box::new(move |h, v| drop(h.set_bucket(bound, v))))
            }
            ClassicPart::Count(base) => (base, Box::new(|h, v| drop(h.set_count(v)))),
            ClassicPart::Sum(base) => (base, Box::new(|h, v| drop(h.set_sum(v)))),
        };
        let labels = series.labels.with("le", "").with(METRIC_NAME, base);
        let by_time = found.entry(labels).or_default();
        for (i, value) in unfolded(&series.values)?.into_iter().enumerate() {
            if let Unfolded::Float(v) = value {
                set(by_time.entry(load.step * i as i64).or_default(), v);
            }
        }
    }
    for (labels, by_time) in found {
        let shard = data.owner(&labels);
        for (time, classic) in by_time {
            let h = classic.convert().map_err(|e| e.to_string())?.into_float();
            shard.append_histogram(&labels, time, 0, h).map_err(|e| format!("{labels} at {time} ms: {e}"))?;
        }
    }
    Ok(())
}
