//! Requests in, series out: as text, a line a sample.

use std::sync::Mutex;

use exposition::otlp::json::to_protobuf;
use proptest::prelude::*;

use super::*;
use crate::push::Error;
use crate::push::shown::lines;

fn settings() -> Settings {
    Settings {
        naming: Naming {
            escapes: true,
            suffixes: true,
            sanitizes_underscore: true,
            preserves_underscores: true,
        },
        promoted: Promoted::Only(HashSet::new()),
        keeps_identifying: false,
        converts_to_nhcb: false,
        promotes_scope: false,
        delta: Delta::Refused,
        type_and_unit_labels: false,
        lookback_ms: 300_000,
    }
}

fn translated(settings: &Settings, json: &str) -> Result<Translated, Error> {
    translated_with(settings, json, &Mutex::default())
}

fn translated_with(settings: &Settings, json: &str, totals: &Mutex<Totals>) -> Result<Translated, Error> {
    translate(settings, &to_protobuf(&mut json.as_bytes().to_vec()).unwrap(), totals, 0)
}

const RESOURCE: &str = r#"{"attributes":[
  {"key":"service.name","value":{"stringValue":"svc"}},
  {"key":"service.namespace","value":{"stringValue":"ns"}},
  {"key":"service.instance.id","value":{"stringValue":"i"}},
  {"key":"host.name","value":{"stringValue":"h1"}}]}"#;

/// A request of one metric.
fn request(resource: &str, metric: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{resource},"scopeMetrics":[{{"schemaUrl":"u","scope":
        {{"name":"lib","version":"2","attributes":[{{"key":"a.b","value":{{"intValue":1}}}}]}},"metrics":[{metric}]}}]}}]}}"#
    )
}

fn check(settings: &Settings, resource: &str, metric: &str, expect: &[&str]) {
    let got = translated(settings, &request(resource, metric)).map(|t| lines(&t.body));
    assert_eq!(got, Ok(expect.iter().map(|s| (*s).to_owned()).collect()), "{metric}");
}

const GAUGE: &str = r#"{"name":"mem.use","unit":"By","gauge":{"dataPoints":[
  {"timeUnixNano":"3000000","asInt":"5","attributes":[{"key":"x.y","value":{"boolValue":true}}]},
  {"timeUnixNano":"4000000","asDouble":1.5,"flags":1}]}}"#;

#[test]
fn a_gauge_has_its_resource_and_target_info() {
    check(
        &settings(),
        RESOURCE,
        GAUGE,
        &[
            r#"{__name__="mem_use_bytes", instance="i", job="ns/svc", x_y="true"} 5 @3"#,
            r#"{__name__="mem_use_bytes", instance="i", job="ns/svc"} stale @4"#,
            r#"{__name__="target_info", host_name="h1", instance="i", job="ns/svc"} 1 @3"#,
            r#"{__name__="target_info", host_name="h1", instance="i", job="ns/svc"} 1 @4"#,
        ],
    );
}

#[test]
fn settings_add_labels() {
    let mut s = settings();
    s.promotes_scope = true;
    s.promoted = Promoted::Only(HashSet::from(["host.name".to_owned()]));
    s.keeps_identifying = true;
    s.type_and_unit_labels = true;
    let one = r#"{"name":"g","unit":"s","gauge":{"dataPoints":[{"timeUnixNano":"3000000","asInt":"5"}]}}"#;
    let gauge = r#"{__name__="g_seconds", __type__="gauge", __unit__="seconds", host_name="h1", instance="i", job="ns/svc", otel_scope_a_b="1", otel_scope_name="lib", otel_scope_schema_url="u", otel_scope_version="2"} 5 @3"#;
    let info = r#"{__name__="target_info", host_name="h1", instance="i", job="ns/svc", service_instance_id="i", service_name="svc", service_namespace="ns"} 1 @3"#;
    check(&s, RESOURCE, one, &[gauge, info]);
    let mut all = settings();
    all.promoted = Promoted::AllBut(HashSet::from(["host.name".to_owned(), "service.name".to_owned()]));
    all.naming.escapes = false;
    all.naming.suffixes = false;
    check(
        &all,
        RESOURCE,
        GAUGE.split("},").next().map(|_| one).unwrap_or(one),
        &[
            r#"{__name__="g", instance="i", job="ns/svc", "service.instance.id"="i", "service.namespace"="ns"} 5 @3"#,
            r#"{__name__="target_info", "host.name"="h1", instance="i", job="ns/svc"} 1 @3"#,
        ],
    );
}

#[test]
fn target_info_is_said_as_long_as_points_reach() {
    let long = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"0","asInt":1},{"timeUnixNano":"400000000000","asInt":1}]}}"#;
    let got = lines(&translated(&settings(), &request(RESOURCE, long)).unwrap().body);
    let times: Vec<&str> =
        got.iter().filter(|l| l.contains("target_info")).filter_map(|l| l.split('@').nth(1)).collect();
    assert_eq!(times, ["0", "150000", "300000", "400000"]);
    let unnamed = r#"{"attributes":[{"key":"host.name","value":{"stringValue":"h1"}}]}"#;
    let none = r#"{"attributes":[]}"#;
    for resource in [unnamed, none] {
        let one = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"3000000","asInt":"5"}]}}"#;
        check(&settings(), resource, one, &[r#"{__name__="g"} 5 @3"#]);
    }
}

#[test]
fn sums_and_histograms_become_their_series() {
    let none = r#"{"attributes":[]}"#;
    let counter = r#"{"name":"c","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
        {"timeUnixNano":"3000000","asInt":"5","exemplars":[{"asDouble":1,"traceId":"01"}]}]}}"#;
    check(&settings(), none, counter, &[r#"{__name__="c_total"} 5 @3 +1"#]);
    let histogram = r#"{"name":"h","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
        {"timeUnixNano":"3000000","count":6,"sum":7.5,"bucketCounts":[1,2,3],"explicitBounds":[0.5,1],
         "exemplars":[{"asDouble":0.7},{"asDouble":9}]}]}}"#;
    check(
        &settings(),
        none,
        histogram,
        &[
            r#"{__name__="h_seconds_sum"} 7.5 @3"#,
            r#"{__name__="h_seconds_count"} 6 @3"#,
            r#"{__name__="h_seconds_bucket", le="0.5"} 1 @3"#,
            r#"{__name__="h_seconds_bucket", le="1"} 3 @3 +1"#,
            r#"{__name__="h_seconds_bucket", le="+Inf"} 6 @3 +1"#,
        ],
    );
    let mut custom = settings();
    custom.converts_to_nhcb = true;
    check(
        &custom,
        none,
        histogram,
        &[r#"{__name__="h_seconds"} Unknown {count:6, sum:7.5, [-Inf,0.5]:1, (0.5,1]:2, (1,+Inf]:3} @3 +2"#],
    );
    let exponential = r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
        {"timeUnixNano":"3000000","count":4,"sum":7.5,"zeroCount":1,"scale":0,"positive":{"offset":0,"bucketCounts":[1,2]}}]}}"#;
    check(
        &settings(),
        none,
        exponential,
        &[r#"{__name__="e"} Unknown {count:4, sum:7.5, [-1e-128,1e-128]:1, (1,2]:1, (2,4]:2} @3"#],
    );
    let summary = r#"{"name":"q","summary":{"dataPoints":[
        {"timeUnixNano":"3000000","count":4,"sum":7.5,"quantileValues":[{"quantile":0.5,"value":2}]}]}}"#;
    check(
        &settings(),
        none,
        summary,
        &[
            r#"{__name__="q_sum"} 7.5 @3"#,
            r#"{__name__="q_count"} 4 @3"#,
            r#"{__name__="q", quantile="0.5"} 2 @3"#,
        ],
    );
}

#[test]
fn attributes_that_fall_on_one_label_are_joined() {
    let metric = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"3000000","asInt":"5","attributes":[
        {"key":"a_b","value":{"stringValue":"2"}},{"key":"a.b","value":{"stringValue":"1"}}]}]}}"#;
    let t = translated(&settings(), &request(r#"{}"#, metric)).unwrap();
    assert_eq!(lines(&t.body), [r#"{__name__="g", a_b="1;2"} 5 @3"#]);
    assert_eq!(t.warnings.label_name_collisions, 1);
}

#[test]
fn what_cannot_be_translated_refuses_the_whole_request() {
    let check = |metric: &str, expect: &str| {
        let got = translated(&settings(), &request(RESOURCE, metric)).map(|t| lines(&t.body));
        assert_eq!(got, Err(Error::Untranslatable(expect.to_owned())));
    };
    let delta = r#"{"name":"c","sum":{"aggregationTemporality":1,"dataPoints":[{"asInt":"5"}]}}"#;
    check(delta, "invalid temporality and type combination for metric \"c\"");
    let coarse =
        r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"scale":-5}]}}"#;
    check(coarse, "cannot convert exponential to native histogram. Scale must be >= -4, was -5");
    let empty = r#"{"name":"e","gauge":{"dataPoints":[]}}"#;
    let t = translated(&settings(), &request(RESOURCE, empty)).unwrap();
    assert_eq!(t.warnings.texts, ["empty data points. e is dropped"]);
    let mut kept = settings();
    kept.delta = Delta::Kept;
    kept.type_and_unit_labels = true;
    let got = lines(&translated(&kept, &request("{}", delta)).unwrap().body);
    assert_eq!(got, [r#"{__name__="c"} 5 @0"#]);
}

#[test]
fn few_bytes_that_stand_for_too_many_are_refused() {
    let long = "x".repeat(2 << 20);
    let resource = format!(r#"{{"attributes":[{{"key":"host.name","value":{{"stringValue":"{long}"}}}}]}}"#);
    let point = r#"{"timeUnixNano":"3000000","asInt":"5"}"#;
    let points = vec![point; 100].join(",");
    let metric = format!(r#"{{"name":"g","gauge":{{"dataPoints":[{points}]}}}}"#);
    let mut s = settings();
    s.promoted = Promoted::Only(HashSet::from(["host.name".to_owned()]));
    assert!(matches!(translated(&s, &request(&resource, &metric)), Err(Error::Bad(_))));
}

proptest! {
    #[test]
    fn no_change_of_a_request_makes_the_translation_panic(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), nhcb in any::<bool>(),
    ) {
        let metrics = format!("{GAUGE},{}", r#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"3000000","count":6,"sum":7.5,"bucketCounts":[1,2,3],"explicitBounds":[0.5,1]}]}},
            {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"3000000","count":4,"zeroCount":1,"scale":9,"positive":{"offset":0,"bucketCounts":[1,2]}}]}}"#);
        let mut body = to_protobuf(&mut request(RESOURCE, &metrics).into_bytes()).unwrap();
        let i = at.index(body.len());
        body[i] = byte;
        let mut s = settings();
        s.converts_to_nhcb = nhcb;
        let _ = translate(&s, &body, &Mutex::default(), 0);
    }
}

#[test]
fn deltas_are_added_up_by_stream() {
    let (settings, totals) = (Settings { delta: Delta::Summed, ..settings() }, Mutex::default());
    let check = |time: u64, metric: &str, expect: &[&str]| {
        let metric = metric
            .replace("TIME", &format!(r#""startTimeUnixNano":"1000000","timeUnixNano":"{time}000000""#));
        let resource = r#"{"attributes":[]}"#;
        let got = translated_with(&settings, &request(resource, &metric), &totals).map(|t| lines(&t.body));
        assert_eq!(got, Ok(expect.iter().map(|s| (*s).to_owned()).collect()), "{metric}");
    };
    let sum = |points: &str| {
        format!(
            r#"{{"name":"s","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{points}]}}}}"#
        )
    };
    let a = r#"{TIME,"asInt":"5","attributes":[{"key":"a","value":{"stringValue":"1"}}]}"#;
    let b = r#"{TIME,"asDouble":0.5}"#;
    check(
        2,
        &sum(&format!("{a},{b}")),
        &[r#"{__name__="s_total", a="1"} 5 @2"#, r#"{__name__="s_total"} 0.5 @2"#],
    );
    check(
        3,
        &sum(&format!("{a},{b}")),
        &[r#"{__name__="s_total", a="1"} 10 @3"#, r#"{__name__="s_total"} 1 @3"#],
    );
    check(3, &sum(a), &[]);
    let again = sum(a).replace("TIME", r#""startTimeUnixNano":"1000000","timeUnixNano":"3000000""#);
    let told = translated_with(&settings, &request(r#"{"attributes":[]}"#, &again), &totals).unwrap();
    assert_eq!(told.warnings.dropped_deltas, 1, "what is dropped is counted");
    check(4, &sum(a), &[r#"{__name__="s_total", a="1"} 15 @4"#]);
    let histogram = |bound: &str| {
        format!(
            r#"{{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[
            {{TIME,"count":"3","sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[{bound}]}}]}}}}"#
        )
    };
    let expect = |n: u64, bound: &str, time: u64| {
        [
            format!(r#"{{__name__="h_sum"}} {} @{time}"#, n as f64 * 1.5),
            format!(r#"{{__name__="h_count"}} {} @{time}"#, n * 3),
            format!(r#"{{__name__="h_bucket", le="{bound}"}} {n} @{time}"#),
            format!(r#"{{__name__="h_bucket", le="+Inf"}} {} @{time}"#, n * 3),
        ]
    };
    for (time, bound, n) in [(2, "1", 1), (3, "1", 2), (4, "2", 1), (5, "2", 2)] {
        let expect = expect(n, bound, time);
        check(time, &histogram(bound), &expect.each_ref().map(String::as_str));
    }
    let exponential = r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[
        {TIME,"count":"3","sum":4,"scale":0,"zeroCount":"1","positive":{"offset":0,"bucketCounts":["2"]}}]}}"#;
    check(2, exponential, &[r#"{__name__="e"} Unknown {count:3, sum:4, [-1e-128,1e-128]:1, (1,2]:2} @2"#]);
    check(3, exponential, &[r#"{__name__="e"} Unknown {count:6, sum:8, [-1e-128,1e-128]:2, (1,2]:4} @3"#]);
}

#[test]
fn a_histogram_that_cannot_be_is_a_fault() {
    let metric = r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
        {"timeUnixNano":"2000000","count":"1","sum":4,"scale":0,"positive":{"offset":0,"bucketCounts":["2"]}}]}}"#;
    let got = translated(&settings(), &request(r#"{"attributes":[]}"#, metric)).map(|t| lines(&t.body));
    let text = "2 observations found in buckets, but the Count field is 1: \
                histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)";
    assert_eq!(got, Err(Error::Untranslatable(text.to_owned())));
}
