//! OTLP to the real program, beside a real Prometheus that is sent the same; and from OpenTelemetry's own exporters.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::house::{Dir, House, Process, Response, Server, eventually, try_request};
use crate::peers;

mod exporters;
mod victoria;

const ENABLED: &str = "--web.enable-otlp-receiver";
const PATH: &str = "/api/v1/otlp/v1/metrics";

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_millis() as i64
}

fn send(server: &Server, path: &str, headers: &str, body: &[u8]) -> Response {
    let head = format!("POST {path} HTTP/1.1{headers}");
    try_request(server.port, &head, body).expect("an answer")
}

fn send_json(server: &Server, request: &Value) -> Response {
    send(server, PATH, "\r\nContent-Type: application/json", request.to_string().as_bytes())
}

fn ns(ms: i64) -> String {
    format!("{ms}000000")
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// One of each kind of metric, at a time.
fn request(time: i64, turn: i64) -> Value {
    let t = ns(time);
    let attributes = json!([text("http.method", "GET"), {"key": "n", "value": {"intValue": "7"}},
        {"key": "list", "value": {"arrayValue": {"values": [{"doubleValue": 0.5}, {"stringValue": "<x>"}]}}}]);
    let metrics = json!([
        {"name": "mem.use", "unit": "By", "gauge": {"dataPoints": [
            {"timeUnixNano": t, "asInt": 5 + turn, "attributes": attributes},
            {"timeUnixNano": t, "asDouble": -0.25}]}},
        {"name": "load", "unit": "1", "gauge": {"dataPoints": [{"timeUnixNano": t, "asDouble": 0.5}]}},
        {"name": "http.requests", "unit": "{request}/s", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [{"timeUnixNano": t, "asInt": 100 * turn, "attributes": attributes}]}},
        {"name": "queue.size", "sum": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "asInt": 3, "flags": if turn == 2 { 1 } else { 0 }}]}},
        {"name": "http.duration", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "count": 6 + turn, "sum": 7.5, "bucketCounts": [1, 2, 3 + turn],
             "explicitBounds": [0.005, 1], "attributes": attributes}]}},
        {"name": "exp", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "count": 12 + turn, "sum": 9, "zeroCount": 2, "scale": 3,
             "positive": {"offset": -2, "bucketCounts": [1, 0, 0, 0, 5 + turn]},
             "negative": {"offset": 1, "bucketCounts": [4]}}]}},
        {"name": "fine", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": t, "count": 10, "sum": 9, "scale": 10,
             "positive": {"offset": 5, "bucketCounts": [1, 2, 3, 4]}}]}},
        {"name": "rpc", "unit": "ms", "summary": {"dataPoints": [
            {"timeUnixNano": t, "count": 6, "sum": 7.5, "quantileValues": [
                {"quantile": 0.5, "value": 1.5}, {"quantile": 0.99, "value": 4}]}]}}
    ]);
    let scope = json!({"name": "lib", "version": "2", "attributes": [text("a.b", "c")]});
    let resource = json!({"attributes": [text("service.name", "svc"), text("service.namespace", "ns"),
        text("service.instance.id", "i-1"), text("host.name", "h"), text("os", "linux")]});
    json!({"resourceMetrics": [
        {"resource": resource, "scopeMetrics": [{"scope": scope, "schemaUrl": "u", "metrics": metrics}]},
        {"resource": {"attributes": [text("host.name", "other")]}, "scopeMetrics": [{"metrics": [
            {"name": "lone", "gauge": {"dataPoints": [{"timeUnixNano": t, "asInt": 1}]}}]}]}
    ]})
}

/// All samples of all series, in the order of their labels.
fn everything(server: &Server) -> Vec<String> {
    let result = server.query("{__name__!=\"\"}[20m]");
    let mut all: Vec<String> = result.as_array().expect("a matrix").iter().map(Value::to_string).collect();
    // Labels come in an order of their own.
    for one in &mut all {
        let value: Value = serde_json::from_str(one).expect("what was printed");
        let labels: std::collections::BTreeMap<String, Value> =
            serde_json::from_value(value["metric"].clone()).expect("labels");
        *one = format!("{labels:?} {} {}", value["values"], value["histograms"]);
    }
    all.sort();
    all
}

fn peer(dir: &Dir, config: &str) -> Option<(Process, Server)> {
    let program = peers::find("prometheus")?;
    let help = Command::new(&program).arg("--help").output().expect("its help");
    if !String::from_utf8_lossy(&help.stdout).contains("web.enable-otlp-receiver") {
        println!("skipped: this prometheus is built without OTLP");
        return None;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?.port();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.write("peer.yml", config).display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("peer").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args([ENABLED, "--enable-feature=native-histograms"]);
    let process = Process::start(&mut command, dir.path().join("peer.log"));
    let server = Server { port };
    eventually("the peer is ready", || server.is_ready().then_some(()));
    Some((process, server))
}

fn check_beside_peer(config: &str) {
    let house = House::new("otlp-peer", config).with(ENABLED);
    let Some(running) = house.start() else { return };
    let Some((_process, peer)) = peer(&house.dir, config) else { return };
    let now = now_ms();
    for (turn, time) in [(1, now - 400_000), (2, now - 20_000), (3, now - 10_000)] {
        let request = request(time, turn);
        let expect = send_json(&peer, &request);
        assert_eq!(expect.status, 200, "{config}: {}", expect.text());
        let got = send_json(&running, &request);
        assert_eq!((got.status, got.text()), (200, expect.text()), "{config}");
    }
    let (want, got) = (everything(&peer), everything(&running));
    assert!(want.len() > 10, "{want:?}");
    assert_eq!(got, want, "{config}");
}

#[test]
fn a_real_prometheus_sent_the_same_has_the_same_series() {
    check_beside_peer("scrape_configs: []\n");
}

#[test]
fn settings_mean_what_they_mean_to_a_real_prometheus() {
    check_beside_peer(
        "otlp: {translation_strategy: NoUTF8EscapingWithSuffixes, keep_identifying_resource_attributes: true, \
         promote_resource_attributes: [host.name, service.name], convert_histograms_to_nhcb: true}\n",
    );
    check_beside_peer(
        "otlp: {translation_strategy: NoTranslation, promote_all_resource_attributes: true, \
         ignore_resource_attributes: [os]}\n",
    );
}

/// A message of protobuf: a field's bytes.
fn sized(field: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128, "one byte of length");
    [&[field << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A gauge `g` of one value, in protobuf.
fn gauge(time: i64, value: f64) -> Vec<u8> {
    let mut point = vec![0x19];
    point.extend_from_slice(&(time as u64 * 1_000_000).to_le_bytes());
    point.push(0x21);
    point.extend_from_slice(&value.to_le_bytes());
    let metric = [sized(1, b"g"), sized(5, &sized(1, &point))].concat();
    sized(1, &sized(2, &sized(2, &metric)))
}

#[test]
fn the_receiver_answers_in_prometheus_words() {
    let off = House::new("otlp-off", "scrape_configs: []\n");
    let Some(running) = off.start() else { return };
    let answer = send_json(&running, &json!({}));
    let disabled = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver\n";
    assert_eq!((answer.status, answer.text().as_str()), (404, disabled));
    drop(running);
    let on = House::new("otlp-on", "scrape_configs: []\n").with(ENABLED);
    let Some(running) = on.start() else { return };
    let check = |headers: &str, body: &[u8], expect: (u16, &str)| {
        let answer = send(&running, PATH, headers, body);
        assert_eq!((answer.status, answer.text().as_str()), expect);
    };
    let now = now_ms();
    const PROTOBUF: &str = "\r\nContent-Type: application/x-protobuf";
    let supported = "supported: [application/json, application/x-protobuf]";
    check(
        "\r\nContent-Type: text/plain",
        b"",
        (400, &format!("unsupported content type: text/plain, {supported}\n")),
    );
    let lz4 = "unsupported compression: lz4. Only \"gzip\" or no compression supported\n";
    check(&format!("{PROTOBUF}\r\nContent-Encoding: lz4"), b"", (400, lz4));
    check(PROTOBUF, &gauge(now - 1000, 1.0), (200, ""));
    let zstd = zstd::encode_all(&gauge(now, 2.0)[..], 1).expect("zstd");
    check(&format!("{PROTOBUF}\r\nContent-Encoding: zstd"), &zstd, (200, ""));
    check(PROTOBUF, &gauge(now - 500, 2.0), (400, "out of order sample\n"));
    check(PROTOBUF, b"\x0a\x05", (400, "unexpected EOF\n"));
    check(&format!("{PROTOBUF}\r\nContent-Encoding: gzip"), b"no", (400, "gzip: invalid header\n"));
    let far = "out of bounds: timestamp is too far in the future\n";
    check(PROTOBUF, &gauge(now + 3_600_000, 2.0), (400, far));
    assert_eq!(running.get(PATH).status, 405);
    assert_eq!(running.get("/v1/metrics").status, 405);
    assert_eq!(running.value("g").as_deref(), Some("2"));
    let empty = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "e", "gauge": {}}]}]}]});
    let answer =
        send(&running, "/v1/metrics", "\r\nContent-Type: application/json", empty.to_string().as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["partialSuccess"]["errorMessage"], "empty data points. e is dropped");
    let page = running.get("/metrics").text();
    let counted = "prometheus_api_otlp_translation_warnings_total{category=\"empty_data_points\"} 1\n";
    assert!(page.contains(counted), "{page}");
}
