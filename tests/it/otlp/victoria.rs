//! The same request to a real VictoriaMetrics, which has OTLP and Prometheus's names for it where told so.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::{ENABLED, PATH, now_ms, ns, send, text};
use crate::house::{Dir, House, Process, Server, eventually};
use crate::peers;

fn peer(dir: &Dir) -> Option<(Process, Server)> {
    let program = peers::find("victoria-metrics")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?.port();
    let mut command = Command::new(program);
    command
        .arg(format!("-storageDataPath={}", dir.path().join("peer").display()))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .args([
            "-opentelemetry.usePrometheusNaming",
            "-opentelemetry.promoteAllResourceAttributes=false",
            "-opentelemetry.promoteResourceAttributes=host.name,service.name",
            "-opentelemetry.promoteScopeMetadata=false",
        ]);
    let process = Process::start(&mut command, dir.path().join("peer.log"));
    let server = Server { port };
    eventually("the peer is ready", || {
        crate::house::try_request(port, "GET /health HTTP/1.1", b"").filter(|r| r.status == 200)
    });
    Some((process, server))
}

/// One of each kind that both know.
fn request(time: i64) -> Value {
    let t = ns(time);
    let attributes = json!([text("http.method", "GET"), {"key": "n", "value": {"intValue": "7"}}]);
    let metrics = json!([
        {"name": "mem.use", "unit": "By", "gauge": {"dataPoints": [
            {"timeUnixNano": t, "asInt": 6, "attributes": attributes},
            {"timeUnixNano": t, "asDouble": -0.25}]}},
        {"name": "load", "unit": "1", "gauge": {"dataPoints": [{"timeUnixNano": t, "asDouble": 0.5}]}},
        {"name": "http.requests", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [{"timeUnixNano": t, "asInt": 100, "attributes": attributes}]}},
        {"name": "queue.size", "sum": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "asInt": 3}]}},
        {"name": "http.duration", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "count": 6, "sum": 7.5, "bucketCounts": [1, 2, 3],
             "explicitBounds": [0.005, 1], "attributes": attributes}]}},
        {"name": "rpc", "unit": "ms", "summary": {"dataPoints": [
            {"timeUnixNano": t, "count": 6, "sum": 7.5, "quantileValues": [
                {"quantile": 0.5, "value": 1.5}, {"quantile": 0.99, "value": 4}]}]}},
        {"name": "exp", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "count": 12, "sum": 9.5, "zeroCount": 2, "scale": 3,
             "positive": {"offset": -2, "bucketCounts": [1, 0, 0, 0, 9]}}]}}
    ]);
    let resource = json!({"attributes": [text("service.name", "svc"), text("service.namespace", "ns"),
        text("service.instance.id", "i-1"), text("host.name", "h")]});
    json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]})
}

/// Value of each series that `query` has, by its labels but those `without`.
fn everything(server: &Server, query: &str, at: i64, without: &[&str]) -> BTreeMap<String, String> {
    let result = server.query_at(query, at);
    let text = |series: &Value| {
        let mut labels: BTreeMap<String, String> =
            serde_json::from_value(series["metric"].clone()).expect("labels");
        labels.retain(|name, _| !without.contains(&name.as_str()));
        (format!("{labels:?}"), series["value"][1].as_str().expect("a value").to_owned())
    };
    result.as_array().expect("a vector").iter().map(text).collect()
}

#[test]
fn a_real_victoria_metrics_sent_the_same_has_the_same_series() {
    let config = "otlp: {promote_resource_attributes: [host.name, service.name]}\n";
    let house = House::new("otlp-victoria", config).with(ENABLED);
    let Some(running) = house.start() else { return };
    let Some((_process, peer)) = peer(&house.dir) else { return };
    let time = now_ms() - 60_000;
    let body =
        exposition::otlp::json::to_protobuf(&mut request(time).to_string().into_bytes()).expect("OTLP");
    const PROTOBUF: &str = "\r\nContent-Type: application/x-protobuf";
    assert_eq!(send(&running, PATH, PROTOBUF, &body).status, 200);
    assert_eq!(send(&peer, "/opentelemetry/v1/metrics", PROTOBUF, &body).status, 200);
    let at = time + 1000;
    eventually("what was sent can be asked of the peer", || {
        Some(()).filter(|()| everything(&peer, "exp_count", at, &[]).len() == 1)
    });
    // It makes no `job` and `instance` of a service's attributes, and no `target_info`, as Prometheus does. And it has
    // no native histograms: an exponential one becomes buckets of ranges.
    let ours = |query| everything(&running, query, at, &["job", "instance"]);
    let theirs = |query| everything(&peer, query, at, &[]);
    let plain = "{__name__=~\".+\",__name__!~\"target_info|exp.*\"}";
    let want = theirs(plain);
    assert_eq!(want.len(), 14, "{want:?}");
    assert_eq!(ours(plain), want);
    assert_eq!(ours("{__name__=~\".+\",job!=\"ns/svc\"}"), BTreeMap::new());
    assert_eq!(ours("target_info").len(), 1);
    for (of_ours, of_theirs) in [("histogram_count(exp)", "exp_count"), ("histogram_sum(exp)", "exp_sum")] {
        let values = |all: BTreeMap<String, String>| all.into_values().collect::<Vec<_>>();
        assert_eq!(values(ours(of_ours)), values(theirs(of_theirs)), "{of_ours}");
    }
}
