//! One target in every form that it can be asked in, and native histograms beside a real Prometheus.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::house::{Dir, House, Process, Running, Server, eventually};
use crate::peers;
use crate::target::{Page, Target, config};

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64
}

/// Labels of a series but the job's name, as text, and what it has been for some seconds; `None` where that changed.
fn steady_series(server: &Server, job: &str) -> BTreeMap<String, Option<String>> {
    let result = server.query(&format!("{{job=\"{job}\",__name__!~\"up|scrape_.*\"}}[10s]"));
    let mut out = BTreeMap::new();
    for series in result.as_array().expect("a matrix") {
        let mut labels: BTreeMap<String, Value> =
            serde_json::from_value(series["metric"].clone()).expect("labels");
        labels.remove("job");
        let values = series["values"].as_array().expect("values");
        let texts: Vec<&str> = values.iter().filter_map(|v| v[1].as_str()).collect();
        let steady = texts.iter().all(|t| *t == texts[0]).then(|| texts[0].to_owned());
        out.insert(serde_json::to_string(&labels).expect("text"), steady);
    }
    out
}

#[test]
fn node_exporter_is_the_same_in_every_form() {
    let Some(program) = peers::find("prometheus-node-exporter") else { return };
    let dir = Dir::new("node-exporter");
    let mut command = Command::new(program);
    command.args(["--web.listen-address=127.0.0.1:0", "--collector.disable-defaults"]);
    command.args(["cpu", "meminfo", "uname", "filesystem", "os", "stat"].map(|c| format!("--collector.{c}")));
    let mut process = Process::start(&mut command, dir.path().join("log"));
    let port = process.wait_for_port("address=127.0.0.1:");
    let address = format!("127.0.0.1:{port}");
    let forms = [
        ("text", "PrometheusText0.0.4"),
        ("text1", "PrometheusText1.0.0"),
        ("openmetrics", "OpenMetricsText1.0.0"),
        ("protobuf", "PrometheusProto"),
    ];
    let jobs: Vec<(&str, String)> =
        forms.iter().map(|(name, protocol)| (*name, format!("scrape_protocols: [{protocol}]"))).collect();
    let jobs: Vec<(&str, &str, &str)> =
        jobs.iter().map(|(name, more)| (*name, address.as_str(), more.as_str())).collect();
    let house = House::new("forms", &config("500ms", &jobs));
    let Some(running) = house.start() else { return };
    for (name, _) in forms {
        running.wait_for_value(&format!("count_over_time(up{{job=\"{name}\"}}[1m]) > bool 8"), Some("1"));
        assert_eq!(running.value(&format!("min_over_time(up{{job=\"{name}\"}}[1m])")).as_deref(), Some("1"));
    }
    let text = steady_series(&running, "text");
    assert!(text.len() > 100, "{} series", text.len());
    for (name, _) in &forms[1..] {
        let other = steady_series(&running, name);
        let keys = |m: &BTreeMap<String, Option<String>>| m.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&text), keys(&other), "{name}");
        let both = text.iter().filter_map(|(k, v)| Some((k, v.as_ref()?, other[k].as_ref()?)));
        let mut compared = 0;
        for (key, a, b) in both {
            // What changed between the two first scrapes is steady in each, all the same.
            if !key.contains("_seconds") && !key.contains("promhttp") && !key.contains("go_") {
                compared += usize::from(a == b);
            }
        }
        assert!(compared > 20, "{name}: {compared} steady values agree");
        let size = "node_memory_MemTotal_bytes";
        let value = |job: &str| running.value(&format!("{size}{{job=\"{job}\"}}"));
        assert_eq!(value("text"), value(name));
    }
}

/// A small encoder of `io.prometheus.client`.
mod encode {
    fn varint(mut v: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
        out
    }

    pub(super) fn whole(field: u64, v: u64) -> Vec<u8> {
        [varint(field << 3), varint(v)].concat()
    }

    fn zigzag(v: i64) -> u64 {
        ((v << 1) ^ (v >> 63)) as u64
    }

    pub(super) fn signed(field: u64, v: i64) -> Vec<u8> {
        whole(field, zigzag(v))
    }

    pub(super) fn float(field: u64, v: f64) -> Vec<u8> {
        [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
    }

    pub(super) fn sized(field: u64, bytes: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
    }

    pub(super) fn deltas(field: u64, deltas: &[i64]) -> Vec<u8> {
        let packed: Vec<u8> = deltas.iter().flat_map(|d| varint(zigzag(*d))).collect();
        sized(field, &packed)
    }

    pub(super) fn span(field: u64, offset: i64, length: u64) -> Vec<u8> {
        sized(field, &[signed(1, offset), whole(2, length)].concat())
    }

    pub(super) fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
        let metrics: Vec<u8> = metrics.iter().flat_map(|m| sized(4, m)).collect();
        let body = [sized(1, name.as_bytes()), whole(3, kind), metrics].concat();
        [varint(body.len() as u64), body].concat()
    }

    pub(super) fn label(name: &str, value: &str) -> Vec<u8> {
        sized(1, &[sized(1, name.as_bytes()), sized(2, value.as_bytes())].concat())
    }
}

use encode::{deltas, family, float, label, signed, sized, span, whole};

/// The page at a step: counters that grow and are reset once, a gauge histogram, floats, another layout half way.
fn histogram_page(step: u64, time_ms: i64) -> Vec<u8> {
    let at = whole(6, time_ms as u64);
    // The process behind it began anew at step 12.
    let n = if step < 12 { step + 1 } else { step - 11 };
    let schema = if step < 20 { 2 } else { 1 };
    let counter = [
        whole(1, 7 * n),
        float(2, 12.5 * n as f64),
        signed(5, schema),
        float(6, 0.001),
        whole(7, n),
        span(12, -1, 2),
        span(12, 1, 1),
        deltas(13, &[n as i64, n as i64, -(n as i64)]),
        span(9, 0, 1),
        deltas(10, &[2 * n as i64]),
    ]
    .concat();
    let classic: Vec<u8> = [(0.5, n), (1.0, 3 * n), (5.0, 6 * n)]
        .iter()
        .flat_map(|(bound, count)| sized(3, &[whole(1, *count), float(2, *bound)].concat()))
        .collect();
    let gauge_count = 3 + step % 4;
    let gauge = [
        whole(1, gauge_count),
        float(2, -1.5),
        signed(5, 0),
        span(12, 0, 1),
        deltas(13, &[gauge_count as i64]),
    ]
    .concat();
    let float_count = 0.5 * n as f64;
    let floats =
        [float(4, float_count), float(2, 2.0), signed(5, 3), span(12, 2, 1), float(14, float_count)].concat();
    let metric =
        |name: &str, histogram: &[u8]| [label("kind", name), sized(7, histogram), at.clone()].concat();
    let only_classic = [whole(1, 7 * n), float(2, 9.0), classic.clone()].concat();
    [
        family("native", 4, &[metric("whole", &counter), metric("float", &floats)]),
        family("both", 4, &[metric("both", &[&counter[..], &classic].concat())]),
        family("classic", 4, &[metric("classic", &only_classic)]),
        family("gauge", 5, &[metric("gauge", &gauge)]),
    ]
    .concat()
}

const STEPS: u64 = 30;
const STEP_MS: i64 = 15_000;

/// Serves each asker the pages one after the other; the last one again and again.
fn histogram_target(first_ms: i64) -> Target {
    let asked: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    Target::scripted(move |a| {
        let mut asked = asked.lock().expect("the counts");
        let step = asked.entry(a.path.clone()).or_default();
        let page = histogram_page(*step, first_ms + *step as i64 * STEP_MS);
        *step = (*step + 1).min(STEPS - 1);
        Page {
            content_type: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            body: page,
            ..Page::of("")
        }
    })
}

fn histogram_config(target: &Target, whose: &str) -> String {
    let job = |name: &str, more: &str| {
        format!(
            "- job_name: {name}\n  metrics_path: /{whose}/{name}\n  scrape_protocols: [PrometheusProto]\n{more}  \
             static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]\n",
            target.address()
        )
    };
    format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\nscrape_configs:\n{}{}{}{}",
        job("plain", ""),
        job("always", "  always_scrape_classic_histograms: true\n"),
        job("nhcb", "  convert_classic_histograms_to_nhcb: true\n"),
        job("limited", "  native_histogram_bucket_limit: 3\n"),
    )
}

fn sorted(mut result: Value) -> Value {
    if let Some(list) = result.as_array_mut() {
        list.sort_by_key(|e| e["metric"].to_string());
        for entry in list {
            // The order of labels is not a part of the answer.
            let labels: BTreeMap<String, Value> =
                serde_json::from_value(entry["metric"].take()).expect("labels");
            entry["metric"] = json!(labels);
        }
    }
    result
}

const QUESTIONS: &[&str] = &[
    "native",
    "both",
    "gauge",
    "classic",
    "native[10m]",
    "both[10m]",
    "classic[10m]",
    "gauge[10m]",
    "{__name__=~\".*_bucket|.*_sum|.*_count\"}[10m]",
    "rate(native[2m])",
    "increase(both[5m])",
    "delta(gauge[1m])",
    "resets(native[10m])",
    "changes(both[10m])",
    "histogram_quantile(0.9, rate(native[2m]))",
    "histogram_quantile(0.5, both)",
    "histogram_count(classic)",
    "histogram_sum(rate(native[4m]))",
    "histogram_fraction(0, 1, native)",
    "sum(rate(both{job=\"plain\"}[2m]))",
    "avg by (job) (native)",
    "rate(classic[3m])",
];

/// Asks both until they say the same, at several times.
fn check_questions(ours: &Running, theirs: &Server, first_ms: i64) {
    for step in [5, 12, 16, 25, 29] {
        let at = first_ms + step * STEP_MS + 1;
        for question in QUESTIONS {
            let theirs = sorted(theirs.query_at(question, at));
            let ours = sorted(ours.query_at(question, at));
            assert_eq!(ours, theirs, "{question} at step {step}");
        }
    }
}

#[test]
fn native_histograms_are_kept_as_prometheus_keeps_them() {
    let Some(program) = peers::find("prometheus") else { return };
    let first_ms = now_ms() - (STEPS as i64 + 2) * STEP_MS;
    let target = histogram_target(first_ms);
    let native =
        |text: String| text.replace("  metrics_path", "  scrape_native_histograms: true\n  metrics_path");
    let house = House::new("histograms", &native(histogram_config(&target, "ours")));
    let Some(ours) = house.start() else { return };
    let dir = Dir::new("histograms-prometheus");
    let file = dir.write("prometheus.yml", &histogram_config(&target, "theirs"));
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .args(["--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=1s"])
        .arg("--enable-feature=native-histograms");
    let mut process = Process::start(&mut command, dir.path().join("log"));
    let theirs =
        Server { port: process.wait_for_port("msg=\"Listening on\" component=web address=127.0.0.1:") };
    eventually("prometheus is ready", || theirs.is_ready().then_some(()));
    for server in [&*ours, &theirs] {
        eventually("all pages are read", || {
            let at = first_ms + (STEPS as i64 - 1) * STEP_MS;
            let result = server.query_at("count(both == both) + count(native)", at);
            let newest = server.query_at("timestamp(both)", at);
            let newest = newest.as_array().cloned().unwrap_or_default();
            let is_last = |v: &Value| {
                v["value"][1].as_str().and_then(|t| t.parse::<f64>().ok()) == Some(at as f64 / 1000.0)
            };
            (result != json!([]) && newest.len() == 4 && newest.iter().all(is_last)).then_some(())
        });
    }
    for job in ["plain", "always", "nhcb", "limited"] {
        assert_eq!(ours.target_of(job)["lastError"], theirs.target_of(job)["lastError"], "{job}");
    }
    check_questions(&ours, &theirs, first_ms);
}

/// 40 000 gauges in one family and as many in small ones: more than is gathered before it is read.
fn large_page() -> Vec<u8> {
    let pad = "x".repeat(60);
    let gauge = |i: u64| [label("id", &format!("{pad}{i}")), sized(2, &float(1, i as f64))].concat();
    let large = family("large", 1, &(0..40_000).map(gauge).collect::<Vec<_>>());
    let small = (0..400).flat_map(|f| {
        let metrics: Vec<Vec<u8>> = (0..100).map(|i| gauge(100 * f + i)).collect();
        family("small", 1, &metrics)
    });
    large.into_iter().chain(small).chain(family("native", 4, &[sized(7, &native_part())])).collect()
}

fn native_part() -> Vec<u8> {
    [whole(1, 3), float(2, 4.5), signed(5, 2), span(12, 0, 1), deltas(13, &[3])].concat()
}

#[test]
fn a_large_page_of_families_is_read_as_it_comes() {
    let page = large_page();
    assert!(page.len() > 4 << 20, "{}", page.len());
    let half = page[..page.len() - 1].to_vec();
    let target = Target::scripted(move |a| {
        let of = match a.path.as_str() {
            "/packed" => Page::gzipped(&page),
            "/half" => Page { body: half.clone(), ..Page::of("") },
            _ => Page { body: page.clone(), ..Page::of("") },
        };
        Page { content_type: "application/vnd.google.protobuf; encoding=delimited", ..of }
    });
    let job = |name: &str| {
        format!(
            "- job_name: {name}\n  metrics_path: /{name}\n  scrape_protocols: [PrometheusProto]\n  \
             scrape_native_histograms: true\n  static_configs: [{{targets: ['{}']}}]\n",
            target.address()
        )
    };
    let text = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n{}{}{}",
        job("plain"),
        job("packed"),
        job("half")
    );
    let house = House::new("large-page", &text);
    let Some(running) = house.start() else { return };
    for job in ["plain", "packed"] {
        let of = |name: &str| format!("{name}{{job=\"{job}\"}}");
        running.wait_for_value(&format!("count({})", of("large")), Some("40000"));
        running.wait_for_value(&format!("sum({})", of("small")), Some("799980000"));
        running.wait_for_value(&format!("histogram_sum({})", of("native")), Some("4.5"));
        running.wait_for_value(&of("scrape_samples_scraped"), Some("80001"));
    }
    let error = eventually("the half page is refused", || {
        let error = running.target_of("half")["lastError"].as_str().unwrap_or_default().to_owned();
        (!error.is_empty()).then_some(error)
    });
    assert!(error.starts_with("protobufparse: insufficient length of buffer"), "{error}");
    assert_eq!(running.query("count({job=\"half\",__name__=~\"large|small\"})"), json!([]));
}

#[test]
fn exemplars_and_metadata_of_an_openmetrics_page_are_shown() {
    let text = "# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# HELP a_seconds How long.\n\
        a_seconds_bucket{le=\"1\"} 5 # {trace_id=\"x\"} 0.5 1520879607.789\na_seconds_bucket{le=\"+Inf\"} 6\n\
        a_seconds_sum 7\na_seconds_count 6\n# EOF\n";
    let page = Page { content_type: "application/openmetrics-text; version=1.0.0", ..Page::of(text) };
    let target = Target::scripted(move |_| page.clone());
    let address = target.address();
    let house = House::new("exemplars", &config("200ms", &[("j", &address, "")]))
        .with("--enable-feature=exemplar-storage");
    let Some(mut running) = house.start() else { return };
    for round in 0..2 {
        running.wait_for_value("a_seconds_bucket{le=\"1.0\"}", Some("5"));
        let params = [("query", "rate(a_seconds_bucket[5m])"), ("start", "0"), ("end", "2000000000")];
        let shown = running.data("query_exemplars", &params);
        assert_eq!(
            shown,
            json!([{
                "seriesLabels": {"__name__": "a_seconds_bucket", "instance": address, "job": "j", "le": "1.0"},
                "exemplars": [{"labels": {"trace_id": "x"}, "value": "0.5", "timestamp": 1520879607.789}]
            }]),
            "round {round}"
        );
        if round == 0 {
            running.stop();
            running = house.start().expect("it started before");
        }
    }
    assert_eq!(running.data("query_exemplars", &[("query", "b"), ("start", "0"), ("end", "1")]), json!([]));
    // What it stored it has from its log; what a page says must be scraped again.
    eventually("a page is read", || (running.target_of("j")["health"] == "up").then_some(()));
    let metadata =
        running.data("targets/metadata", &[("metric", "a_seconds"), ("match_target", "{job=\"j\"}")]);
    let family = json!({"type": "histogram", "help": "How long.", "unit": "seconds"});
    let mut expect = family.clone();
    expect["target"] = json!({"instance": address, "job": "j"});
    assert_eq!(metadata, json!([expect]));
    let refused = running.get("/api/v1/targets/metadata?metric=none").json();
    assert_eq!(refused["errorType"], "not_found");
    assert_eq!(running.data("metadata", &[("metric", "a_seconds")]), json!({"a_seconds": [family]}));
}

#[test]
fn a_failed_fetch_is_written_to_the_jobs_file() {
    let target = Target::with("a 1\n");
    target.serve(Page::status("404 Not Found"));
    let dir = Dir::new("failures");
    let file = dir.path().join("failures.log");
    let more = format!("scrape_failure_log_file: {}", file.display());
    let house = House::new("failure-log", &config("200ms", &[("j", &target.address(), &more)]));
    let Some(_running) = house.start() else { return };
    let line = eventually("a line in the file", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().next().map(str::to_owned)
    });
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["msg"], "server returned HTTP status 404 Not Found");
    assert_eq!((&line["level"], &line["job_name"]), (&json!("ERROR"), &json!("j")));
    assert_eq!(line["target"], format!("http://{}/metrics", target.address()));
}

#[test]
fn type_and_unit_are_labels_where_that_is_switched_on() {
    let text = "# TYPE a_bytes gauge\n# UNIT a_bytes bytes\na_bytes{__type__=\"mine\"} 1\nb 2\n# EOF\n";
    let page = Page { content_type: "application/openmetrics-text; version=1.0.0", ..Page::of(text) };
    let target = Target::scripted(move |_| page.clone());
    let house = House::new("types", &config("200ms", &[("j", &target.address(), "")]))
        .with("--enable-feature=type-and-unit-labels,extra-scrape-metrics");
    let Some(running) = house.start() else { return };
    running.wait_for_value("a_bytes{__type__=\"gauge\",__unit__=\"bytes\"}", Some("1"));
    running.wait_for_value("scrape_sample_limit", Some("0"));
}
