//! Requests in both forms, and hostile bytes.

use proptest::prelude::*;

use super::*;

const JSON: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[
  {"key":"service.name","value":{"stringValue":"s"}},
  {"key":"n","value":{"intValue":"7"}},
  {"key":"list","value":{"arrayValue":{"values":[{"boolValue":true},{"doubleValue":0.5}]}}}]},
 "scopeMetrics":[{"scope":{"name":"lib","version":"1","attributes":[]},"schemaUrl":"u","metrics":[
  {"name":"g","unit":"By","gauge":{"dataPoints":[{"timeUnixNano":"1000000000","asInt":"-3","flags":1}]}},
  {"name":"c","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
    {"timeUnixNano":2000000,"asDouble":1.5,"exemplars":[{"traceId":"0aff","spanId":"01","asInt":3}]}]}},
  {"name":"h","unknown":[1,{"a":2}],"histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[
    {"count":"3","sum":4,"bucketCounts":["1","2"],"explicitBounds":[0.5],"timeUnixNano":"5"}]}},
  {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
    {"count":3,"scale":-2,"zeroCount":1,"positive":{"offset":-1,"bucketCounts":["1","1"]},"timeUnixNano":"5"}]}},
  {"name":"q","summary":{"dataPoints":[{"count":2,"sum":"NaN","quantileValues":[{"quantile":0.9,"value":3}]}]}},
  {"name":"none","description":null}
 ]}]}]}"#;

fn protobuf() -> Vec<u8> {
    json::to_protobuf(&mut JSON.as_bytes().to_vec()).unwrap()
}

#[test]
fn a_request_in_json_is_read_as_its_protobuf() {
    let body = protobuf();
    let resources = read_request(&body).unwrap();
    assert_eq!(resources.len(), 1);
    let of = |i: usize| (resources[0].attributes[i].key, resources[0].attributes[i].value);
    assert_eq!(of(0), ("service.name", AnyValue::Text("s")));
    assert_eq!(of(1), ("n", AnyValue::Int(7)));
    let mut text = String::new();
    of(2).1.push_to(&mut text).unwrap();
    assert_eq!(text, "[true,0.5]");
    let scope = ScopeMetrics::read(resources[0].scopes[0]).unwrap();
    assert_eq!((scope.name, scope.version, scope.schema_url), ("lib", "1", "u"));
    let metrics: Vec<Metric<'_>> = scope.metrics.iter().map(|m| Metric::read(m).unwrap()).collect();
    let kinds: Vec<(&str, Kind, Temporality)> =
        metrics.iter().map(|m| (m.name, m.kind, m.temporality)).collect();
    assert_eq!(
        kinds,
        [
            ("g", Kind::Gauge, Temporality::Unspecified),
            ("c", Kind::Sum, Temporality::Cumulative),
            ("h", Kind::Histogram, Temporality::Delta),
            ("e", Kind::ExponentialHistogram, Temporality::Cumulative),
            ("q", Kind::Summary, Temporality::Unspecified),
            ("none", Kind::Unknown, Temporality::Unspecified),
        ]
    );
    let mut number = NumberPoint::default();
    number.read(metrics[0].points[0]).unwrap();
    assert_eq!((number.value, number.common.time_ms(), number.common.has_no_value()), (-3.0, 1000, true));
    number.read(metrics[1].points[0]).unwrap();
    assert_eq!((number.value, number.common.has_no_value(), metrics[1].is_monotonic), (1.5, false, true));
    let exemplar = Exemplar::read(number.common.exemplars[0]).unwrap();
    assert_eq!((exemplar.trace_id, exemplar.span_id, exemplar.value), (&[10, 255][..], &[1][..], 3.0));
    let mut histogram = HistogramPoint::default();
    histogram.read(metrics[2].points[0]).unwrap();
    assert_eq!((histogram.count, histogram.sum), (3, Some(4.0)));
    assert_eq!((histogram.bucket_counts.as_slice(), histogram.bounds.as_slice()), (&[1, 2][..], &[0.5][..]));
    let mut exponential = ExponentialPoint::default();
    exponential.read(metrics[3].points[0]).unwrap();
    assert_eq!((exponential.scale, exponential.positive.offset, exponential.sum), (-2, -1, None));
    assert_eq!(exponential.positive.counts, [1, 1]);
    let mut summary = SummaryPoint::default();
    summary.read(metrics[4].points[0]).unwrap();
    assert!(summary.sum.is_nan());
    assert_eq!(summary.quantiles, [(0.9, 3.0)]);
}

#[test]
fn json_that_is_no_request_is_refused_with_the_field() {
    let check = |text: &str, expect: &str| {
        let error = json::to_protobuf(&mut text.as_bytes().to_vec()).unwrap_err();
        assert!(error.to_string().starts_with(expect), "{text}: {error}");
    };
    check("", "invalid JSON");
    check("[]", "field : an object expected");
    check(r#"{"resourceMetrics":3}"#, "field resourceMetrics: an object expected");
    check(r#"{"resourceMetrics":[{"schemaUrl":3}]}"#, "field schemaUrl: a text expected");
    let deep = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"value":{}{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(100),
        "]}}".repeat(100)
    );
    check(&deep, "values are nested too deeply");
    assert_eq!(json::to_protobuf(&mut b"{}".to_vec()), Ok(Vec::new()));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    // A metric whose name is 0xff.
    assert_eq!(Metric::read(b"\x0a\x01\xff").unwrap_err(), Error::NotText("Name"));
}

/// Reads all there is to read.
fn read_all(body: &[u8]) -> Result<(), Error> {
    let (mut n, mut h) = (NumberPoint::default(), HistogramPoint::default());
    let (mut e, mut s) = (ExponentialPoint::default(), SummaryPoint::default());
    let mut text = String::new();
    for resource in read_request(body)? {
        resource.attributes.iter().try_for_each(|a| a.value.push_to(&mut text))?;
        for scope in resource.scopes {
            for metric in ScopeMetrics::read(scope)?.metrics {
                let metric = Metric::read(metric)?;
                for point in metric.points {
                    Metric::point_time(point)?;
                    n.read(point)?;
                    h.read(point)?;
                    e.read(point)?;
                    s.read(point)?;
                    n.common.exemplars.iter().try_for_each(|e| Exemplar::read(e).map(drop))?;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_all(&bytes);
        let _ = json::to_protobuf(&mut bytes.clone());
    }

    #[test]
    fn no_change_of_a_request_makes_a_reader_panic(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut body = protobuf();
        let i = at.index(body.len());
        body[i] = byte;
        let _ = read_all(&body);
        body.truncate(cut.index(body.len()));
        let _ = read_all(&body);
        let mut text = JSON.as_bytes().to_vec();
        let i = at.index(text.len());
        text[i] = byte;
        let _ = json::to_protobuf(&mut text);
    }
}
