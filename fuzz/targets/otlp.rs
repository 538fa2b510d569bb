//! Metrics of OpenTelemetry, protobuf and JSON: no bytes make a reader panic, and what the JSON form is rewritten as
//! is protobuf that can be read.

#![no_main]

use exposition::otlp::{
    AnyValue, Attribute, Exemplar, ExponentialPoint, HistogramPoint, Kind, Metric, NumberPoint, ScopeMetrics,
    SummaryPoint, json, read_request,
};
use libfuzzer_sys::fuzz_target;

fn texts(attributes: &[Attribute<'_>]) {
    for Attribute { value, .. } in attributes {
        let _ = AnyValue::push_to(value, &mut String::new());
    }
}

fn point(kind: Kind, message: &[u8]) {
    let _ = Metric::point_time(message);
    let (mut number, mut histogram) = (NumberPoint::default(), HistogramPoint::default());
    let (mut exponential, mut summary) = (ExponentialPoint::default(), SummaryPoint::default());
    let (is_read, common) = match kind {
        Kind::Histogram => (histogram.read(message).is_ok(), &histogram.common),
        Kind::ExponentialHistogram => (exponential.read(message).is_ok(), &exponential.common),
        Kind::Summary => (summary.read(message).is_ok(), &summary.common),
        _ => (number.read(message).is_ok(), &number.common),
    };
    if is_read {
        texts(&common.attributes);
        let _ = common.time_ms();
        for message in &common.exemplars {
            let _ = Exemplar::read(message).map(|e| texts(&e.attributes));
        }
    }
}

fn request(body: &[u8]) {
    let Ok(resources) = read_request(body) else { return };
    for resource in &resources {
        texts(&resource.attributes);
        for scope in resource.scopes.iter().filter_map(|s| ScopeMetrics::read(s).ok()) {
            texts(&scope.attributes);
            for metric in scope.metrics.iter().filter_map(|m| Metric::read(m).ok()) {
                metric.points.iter().for_each(|p| point(metric.kind, p));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    request(bytes);
    match json::to_protobuf(&mut bytes.to_vec()) {
        Ok(body) => request(&body),
        Err(e) => drop(e.to_string()),
    }
});
