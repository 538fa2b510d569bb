//! A request of OTLP as a request of remote write.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use exposition::otlp::{
    self, Attribute, Common, Exemplar, ExponentialPoint, HistogramPoint, Kind, Metric, NumberPoint,
    ResourceMetrics, ScopeMetrics, SummaryPoint, Temporality, read_request,
};
use exposition::remote_write_build::RequestBuilder;
use model::float_text::format_f;
use model::labels::METRIC_NAME;
use model::quote::quoted;
use model::{STALE_NAN, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::push::Error;
use crate::push::otlp::labels::{
    Fault, INSTANCE, LabelNames, LabelSet, NAMESPACE, Pair, ResourceLabels, SERVICE, scope_labels, text_of,
};
use crate::push::otlp::totals::{StreamId, Totals};
use crate::push::otlp::{Delta, Settings, name, native};

/// Samples of one `target_info`: a day of a sender that was away, at half of the usual lookback. What is older is
/// refused anyway.
const TARGET_INFO_SAMPLES_MAX: usize = 1000;

/// What a request may be translated to: four times the largest one that comes.
const TRANSLATED_BYTES_MAX: usize = 128 << 20;

/// Characters that an exemplar's labels have at most, by OpenMetrics.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Faults and warnings that are told; further ones say nothing new.
const TOLD_MAX: usize = 20;

/// What was odd and went on, counted by Prometheus's categories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    pub texts: Vec<String>,
    pub empty_data_points: u64,
    pub label_name_collisions: u64,
    pub zero_counts: u64,
    /// Points of deltas that could not be added to a total.
    pub dropped_deltas: u64,
}

/// A request of remote write 1.0, not packed, and what was odd about its origin.
#[derive(Clone, Debug, Default)]
pub struct Translated {
    pub body: Vec<u8>,
    pub sample_count: u64,
    pub warnings: Warnings,
}

/// Translates a request in its protobuf form: all of it or nothing. Where deltas are summed it counts for `totals`
/// in any case, as it does with Prometheus.
pub fn translate(
    settings: &Settings,
    request: &[u8],
    totals: &Mutex<Totals>,
    now: Timestamp,
) -> Result<Translated, Error> {
    let mut totals = match settings.delta {
        Delta::Summed => Some(totals.lock().unwrap_or_else(PoisonError::into_inner)),
        Delta::Refused | Delta::Kept => None,
    };
    let mut totals = totals.as_deref_mut();
    if let Some(totals) = &mut totals {
        totals.sweep(now);
    }
    let bad = |e: otlp::Error| Error::Bad(e.to_string());
    let mut converter = Converter {
        settings,
        names: LabelNames::new(settings),
        out: RequestBuilder::with_capacity(request.len() * 2),
        base: LabelSet::default(),
        scope: Vec::new(),
        warnings: Warnings::default(),
        faults: Vec::new(),
        totals: totals.map(|totals| Adding { totals, now, origin: Xxh3::new() }),
        spread: Spread::NONE,
    };
    for resource in read_request(request).map_err(bad)? {
        converter.resource(&resource).map_err(bad)?;
    }
    if !converter.faults.is_empty() {
        return Err(Error::Untranslatable(converter.faults.join("; ")));
    }
    let mut warnings = converter.warnings;
    warnings.label_name_collisions = converter.names.collision_count;
    warnings.texts.append(&mut converter.names.collisions);
    let sample_count = converter.out.sample_count;
    Ok(Translated { body: converter.out.into_bytes(), sample_count, warnings })
}

/// Totals under way, and a hash of what the points at hand have in common.
struct Adding<'t> {
    totals: &'t mut Totals,
    now: Timestamp,
    origin: Xxh3,
}

impl Adding<'_> {
    fn stream(&self, attributes: &[Attribute<'_>]) -> StreamId {
        let mut hash = self.origin.clone();
        hash_attributes(&mut hash, attributes);
        hash.digest128()
    }
}

/// In whatever order they come.
fn hash_attributes(hash: &mut Xxh3, attributes: &[Attribute<'_>]) {
    let mut texts: Vec<String> = attributes.iter().map(|a| format!("{:?}={:?}", a.key, a.value)).collect();
    texts.sort_unstable();
    texts.iter().for_each(|t| hash_text(hash, t));
    hash.update(&u64::MAX.to_le_bytes());
}

fn hash_text(hash: &mut Xxh3, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

struct Converter<'s, 'a> {
    settings: &'s Settings,
    names: LabelNames<'s, 'a>,
    out: RequestBuilder,
    /// Labels of the point at hand.
    base: LabelSet<'a>,
    scope: Vec<Pair<'a>>,
    warnings: Warnings,
    faults: Vec<String>,
    totals: Option<Adding<'s>>,
    /// Of the resource at hand.
    spread: Spread,
}

/// A metric under way, with what all its points share.
struct Named<'m, 'a> {
    metric: &'m Metric<'a>,
    resource: &'m ResourceLabels<'a>,
    name: String,
    is_delta: bool,
    /// Its points are added up.
    is_summed: bool,
}

/// The earliest and the latest time of a resource's points, in ns.
#[derive(Clone, Copy)]
struct Spread {
    first: u64,
    last: u64,
}

impl Spread {
    const NONE: Spread = Spread { first: u64::MAX, last: 0 };

    fn note(&mut self, time: u64) {
        *self = Spread { first: self.first.min(time), last: self.last.max(time) };
    }
}

/// What a metric's points tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    Totals,
    Deltas,
    /// What is added up here.
    Summed,
}

impl<'a> Converter<'_, 'a> {
    fn fault(&mut self, text: String) {
        if self.faults.len() < TOLD_MAX {
            self.faults.push(text);
        }
    }

    fn warn(&mut self, text: String) {
        if self.warnings.texts.len() < TOLD_MAX {
            self.warnings.texts.push(text);
        }
    }

    /// A fault of names is told with the others; bytes that are no message end the reading.
    fn settle(&mut self, result: Result<(), Fault>) -> Result<(), otlp::Error> {
        match result {
            Ok(()) => Ok(()),
            Err(Fault::Bytes(e)) => Err(e),
            Err(Fault::Name(text)) => {
                self.fault(text);
                Ok(())
            }
        }
    }

    fn resource(&mut self, resource: &ResourceMetrics<'a>) -> Result<(), otlp::Error> {
        let labels = match ResourceLabels::read(&resource.attributes, &mut self.names) {
            Ok(labels) => labels,
            Err(fault) => return self.settle(Err(fault)),
        };
        self.spread = Spread::NONE;
        for message in &resource.scopes {
            let scope = ScopeMetrics::read(message)?;
            self.scope = match scope_labels(&scope, &mut self.names) {
                Ok(labels) => labels,
                Err(fault) => {
                    self.settle(Err(fault))?;
                    continue;
                }
            };
            for message in &scope.metrics {
                let metric = Metric::read(message)?;
                if self.telling(&metric) != Ok(Telling::Summed) {
                    for point in &metric.points {
                        self.spread.note(Metric::point_time(point)?);
                    }
                }
                self.begin_streams(resource, &scope, &metric);
                self.metric(&metric, &labels)?;
            }
        }
        self.scope.clear();
        if self.spread.first != u64::MAX {
            let result = self.target_info(&resource.attributes, &labels, self.spread);
            self.settle(result)?;
        }
        Ok(())
    }

    fn metric(&mut self, metric: &Metric<'a>, resource: &ResourceLabels<'a>) -> Result<(), otlp::Error> {
        let telling = match self.telling(metric) {
            Ok(telling) => telling,
            Err(text) => {
                self.fault(text);
                return Ok(());
            }
        };
        let name =
            match self.settings.naming.metric(metric.name, metric.unit, metric.kind, metric.is_monotonic) {
                Ok(name) => name,
                Err(text) => {
                    self.fault(text);
                    return Ok(());
                }
            };
        let is_summed = telling == Telling::Summed;
        if metric.points.is_empty() && is_summed {
            return Ok(());
        }
        if metric.points.is_empty() {
            self.warnings.empty_data_points += 1;
            self.warn(format!("empty data points. {} is dropped", metric.name));
            return Ok(());
        }
        let named = Named { metric, resource, name, is_delta: telling == Telling::Deltas, is_summed };
        let result = match metric.kind {
            Kind::Gauge | Kind::Sum => self.numbers(&named),
            Kind::Histogram if self.settings.converts_to_nhcb => self.custom_histograms(&named),
            Kind::Histogram => self.histograms(&named),
            Kind::ExponentialHistogram => self.exponential_histograms(&named),
            Kind::Summary | Kind::Unknown => self.summaries(&named),
        };
        self.settle(result)
    }

    /// What the metric's points tell; an error where it cannot be taken.
    fn telling(&self, metric: &Metric<'_>) -> Result<Telling, String> {
        match (metric.kind, metric.temporality, self.settings.delta) {
            (Kind::Unknown, ..) => Err(format!(
                "could not get aggregation temporality for {} as it has unsupported metric type Empty",
                metric.name
            )),
            (Kind::Gauge | Kind::Summary, ..) | (_, Temporality::Cumulative, _) => Ok(Telling::Totals),
            (_, Temporality::Delta, Delta::Kept) => Ok(Telling::Deltas),
            (_, Temporality::Delta, Delta::Summed) => Ok(Telling::Summed),
            _ => Err(format!("invalid temporality and type combination for metric {}", quoted(metric.name))),
        }
    }

    /// Notes whose points come next, where they are to be added up.
    fn begin_streams(
        &mut self,
        resource: &ResourceMetrics<'_>,
        scope: &ScopeMetrics<'_>,
        metric: &Metric<'_>,
    ) {
        let Some(adding) = self.totals.as_mut().filter(|_| metric.temporality == Temporality::Delta) else {
            return;
        };
        let mut hash = Xxh3::new();
        hash_attributes(&mut hash, &resource.attributes);
        hash_attributes(&mut hash, &scope.attributes);
        [scope.name, scope.version, metric.name, metric.unit].iter().for_each(|t| hash_text(&mut hash, t));
        hash.update(&[metric.kind as u8, u8::from(metric.is_monotonic)]);
        adding.origin = hash;
    }

    /// Where a point's total is kept, if its metric is added up.
    fn total_of(
        &mut self,
        named: &Named<'_, 'a>,
        point: &Common<'_>,
    ) -> Option<(&mut Totals, StreamId, Timestamp)> {
        let adding = self.totals.as_mut().filter(|_| named.is_summed)?;
        let id = adding.stream(&point.attributes);
        Some((adding.totals, id, adding.now))
    }

    /// Notes a point that is a total now.
    fn note_total(&mut self, point: &mut Common<'_>) {
        point.note_value();
        self.spread.note(point.time);
    }

    /// Makes the labels of a point, all but its name.
    fn label(&mut self, named: &Named<'_, 'a>, attributes: &[Attribute<'a>]) -> Result<(), Fault> {
        self.base.clear();
        self.names.add(attributes, &[], &mut self.base)?;
        named.resource.add_promoted(&mut self.base);
        for (name, value) in &self.scope {
            self.base.set(name.clone(), value.clone());
        }
        named.resource.add_fixed(&mut self.base);
        if self.settings.type_and_unit_labels {
            if let Some(kind) = type_label(named) {
                self.base.set("__type__".into(), kind.into());
            }
            let unit = name::unit_label(named.metric.unit);
            if !unit.is_empty() {
                self.base.set("__unit__".into(), unit.into());
            }
        }
        self.base.sort();
        Ok(())
    }

    /// Begins a series of the point at hand, with one more label where there is one.
    fn begin(&mut self, name: &str, extra: Option<(&str, &str)>) -> Result<(), Fault> {
        if self.out.bytes().len() > TRANSLATED_BYTES_MAX {
            return Err(Fault::Bytes(otlp::Error::TooLarge(TRANSLATED_BYTES_MAX)));
        }
        let is_other = |n: &str| n != METRIC_NAME && extra.is_none_or(|(e, _)| e != n);
        let base = self.base.iter().filter(|(n, _)| is_other(n));
        self.out.begin(std::iter::once((METRIC_NAME, name)).chain(base).chain(extra));
        Ok(())
    }

    fn float(&mut self, name: &str, extra: Option<(&str, &str)>, time: i64, value: f64) -> Result<(), Fault> {
        self.begin(name, extra)?;
        self.out.sample(time, value);
        self.out.end();
        Ok(())
    }

    fn numbers(&mut self, named: &Named<'_, 'a>) -> Result<(), Fault> {
        let mut point = NumberPoint::default();
        for message in &named.metric.points {
            point.read(message)?;
            if let Some((totals, id, now)) = self.total_of(named, &point.common) {
                if !totals.number(id, &mut point, now) {
                    self.warnings.dropped_deltas += 1;
                    continue;
                }
                self.note_total(&mut point.common);
            }
            let c = &point.common;
            self.label(named, &c.attributes)?;
            self.begin(&named.name, None)?;
            self.out.sample(c.time_ms(), if c.has_no_value() { STALE_NAN } else { point.value });
            if named.metric.kind == Kind::Sum {
                c.exemplars.iter().try_for_each(|m| push_exemplar(&mut self.out, &Exemplar::read(m)?))?;
            }
            self.out.end();
        }
        Ok(())
    }

    fn histograms(&mut self, named: &Named<'_, 'a>) -> Result<(), Fault> {
        let names = ["_sum", "_count", "_bucket"].map(|suffix| format!("{}{suffix}", named.name));
        let mut point = HistogramPoint::default();
        for message in &named.metric.points {
            point.read(message)?;
            if let Some((totals, id, now)) = self.total_of(named, &point.common) {
                if !totals.explicit(id, &mut point, now) {
                    self.warnings.dropped_deltas += 1;
                    continue;
                }
                self.note_total(&mut point.common);
            }
            let c = &point.common;
            self.label(named, &c.attributes)?;
            let (time, is_stale) = (c.time_ms(), c.has_no_value());
            let value = |v: f64| if is_stale { STALE_NAN } else { v };
            if let Some(sum) = point.sum {
                self.float(&names[0], None, time, value(sum))?;
            }
            self.float(&names[1], None, time, value(point.count as f64))?;
            let mut exemplars = Vec::new();
            for message in &c.exemplars {
                exemplars.push(Exemplar::read(message)?);
            }
            let mut below = 0u64;
            for (bound, count) in point.bounds.iter().zip(&point.bucket_counts) {
                below = below.wrapping_add(*count);
                self.bucket(&names[2], *bound, time, value(below as f64), &mut exemplars)?;
            }
            self.bucket(&names[2], f64::INFINITY, time, value(point.count as f64), &mut exemplars)?;
        }
        Ok(())
    }

    /// One bucket, with those of the exemplars left that fall into it.
    fn bucket(
        &mut self,
        name: &str,
        bound: f64,
        time: i64,
        value: f64,
        exemplars: &mut Vec<Exemplar<'a>>,
    ) -> Result<(), Fault> {
        self.begin(name, Some(("le", &format_f(bound))))?;
        self.out.sample(time, value);
        let mut result = Ok(());
        exemplars.retain(|e| {
            let is_within = e.value <= bound;
            if is_within && result.is_ok() {
                result = push_exemplar(&mut self.out, e);
            }
            !is_within
        });
        self.out.end();
        Ok(result?)
    }

    fn custom_histograms(&mut self, named: &Named<'_, 'a>) -> Result<(), Fault> {
        let mut point = HistogramPoint::default();
        for message in &named.metric.points {
            point.read(message)?;
            if let Some((totals, id, now)) = self.total_of(named, &point.common) {
                if !totals.explicit(id, &mut point, now) {
                    self.warnings.dropped_deltas += 1;
                    continue;
                }
                self.note_total(&mut point.common);
            }
            let histogram = native::of_explicit(&point, named.is_delta);
            self.check_zero_count("histogram", point.count, point.common.has_no_value(), histogram.sum);
            self.label(named, &point.common.attributes)?;
            self.native(&named.name, point.common.time_ms(), &histogram, &point.common.exemplars)?;
        }
        Ok(())
    }

    fn exponential_histograms(&mut self, named: &Named<'_, 'a>) -> Result<(), Fault> {
        let mut point = ExponentialPoint::default();
        for message in &named.metric.points {
            point.read(message)?;
            if let Some((totals, id, now)) = self.total_of(named, &point.common) {
                if !totals.exponential(id, &mut point, now) {
                    self.warnings.dropped_deltas += 1;
                    continue;
                }
                self.note_total(&mut point.common);
            }
            let histogram = native::of_exponential(&point, named.is_delta).map_err(Fault::Name)?;
            let is_stale = point.common.has_no_value();
            self.check_zero_count("exponential histogram", point.count, is_stale, histogram.sum);
            self.label(named, &point.common.attributes)?;
            self.native(&named.name, point.common.time_ms(), &histogram, &point.common.exemplars)?;
        }
        Ok(())
    }

    fn check_zero_count(&mut self, what: &str, count: u64, is_stale: bool, sum: f64) {
        if count == 0 && sum != 0.0 && !is_stale {
            self.warnings.zero_counts += 1;
            self.warn(format!("{what} data point has zero count, but non-zero sum: {sum:.6}"));
        }
    }

    fn native(
        &mut self,
        name: &str,
        time: i64,
        histogram: &model::Histogram,
        exemplars: &[&'a [u8]],
    ) -> Result<(), Fault> {
        if !histogram.is_stale() {
            histogram.validate().map_err(|e| Fault::Name(e.to_string()))?;
        }
        self.begin(name, None)?;
        self.out.histogram(time, histogram);
        exemplars.iter().try_for_each(|m| push_exemplar(&mut self.out, &Exemplar::read(m)?))?;
        self.out.end();
        Ok(())
    }

    fn summaries(&mut self, named: &Named<'_, 'a>) -> Result<(), Fault> {
        let names = ["_sum", "_count"].map(|suffix| format!("{}{suffix}", named.name));
        let mut point = SummaryPoint::default();
        for message in &named.metric.points {
            point.read(message)?;
            let c = &point.common;
            self.label(named, &c.attributes)?;
            let (time, is_stale) = (c.time_ms(), c.has_no_value());
            let value = |v: f64| if is_stale { STALE_NAN } else { v };
            self.float(&names[0], None, time, value(point.sum))?;
            self.float(&names[1], None, time, value(point.count as f64))?;
            for (quantile, v) in &point.quantiles {
                self.float(&named.name, Some(("quantile", &format_f(*quantile))), time, value(*v))?;
            }
        }
        Ok(())
    }

    /// What else is known of the resource, said as long as its points reach.
    fn target_info(
        &mut self,
        attributes: &[Attribute<'a>],
        resource: &ResourceLabels<'a>,
        spread: Spread,
    ) -> Result<(), Fault> {
        const IDENTIFYING: [&str; 3] = [NAMESPACE, SERVICE, INSTANCE];
        let identifying = IDENTIFYING.iter().filter(|k| attributes.iter().any(|a| a.key == **k)).count();
        if attributes.len() == identifying {
            return Ok(());
        }
        let ignored: &[&str] = if self.settings.keeps_identifying { &[] } else { &IDENTIFYING };
        self.base.clear();
        self.names.add(attributes, ignored, &mut self.base)?;
        resource.add_fixed(&mut self.base);
        let has_identity = self.base.iter().any(|(n, _)| n == "job" || n == "instance");
        if !resource.is_identified() && !has_identity {
            return Ok(());
        }
        self.base.sort();
        let step = (self.settings.lookback_ms.max(2) as u64 / 2).saturating_mul(1_000_000);
        let ms = |ns: u64| ns as i64 / 1_000_000;
        self.begin("target_info", None)?;
        let (mut time, mut last) = (spread.first, None);
        for _ in 0..TARGET_INFO_SAMPLES_MAX {
            if time >= spread.last {
                break;
            }
            self.out.sample(ms(time), 1.0);
            last = Some(ms(time));
            time = time.saturating_add(step);
        }
        if last.is_none_or(|t| t < ms(spread.last)) {
            self.out.sample(ms(spread.last), 1.0);
        }
        self.out.end();
        Ok(())
    }
}

/// `None` where the kind is not known, or not what it seems.
fn type_label(named: &Named<'_, '_>) -> Option<&'static str> {
    match named.metric.kind {
        _ if named.is_delta => None,
        Kind::Gauge => Some("gauge"),
        Kind::Sum if named.metric.is_monotonic => Some("counter"),
        Kind::Sum => Some("gauge"),
        Kind::Histogram | Kind::ExponentialHistogram => Some("histogram"),
        Kind::Summary => Some("summary"),
        Kind::Unknown => None,
    }
}

fn push_exemplar(out: &mut RequestBuilder, e: &Exemplar<'_>) -> Result<(), otlp::Error> {
    let hex = |id: &[u8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for (name, id) in [("trace_id", e.trace_id), ("span_id", e.span_id)] {
        if id.iter().any(|b| *b != 0) {
            labels.push((name, hex(id).into()));
        }
    }
    let own = labels.len();
    for a in &e.attributes {
        labels.push((a.key, text_of(a)?));
    }
    let chars: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    if chars > EXEMPLAR_CHARS_MAX {
        labels.truncate(own);
    }
    out.exemplar(labels.iter().map(|(n, v)| (*n, &**v)), e.time as i64 / 1_000_000, e.value);
    Ok(())
}
