//! Aggregates in the real program: days of samples are aggregated, and asked with and without leave to read that.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::exchange::{ours, said};
use crate::house::{Dir, House, Server, eventually, seconds};

const HOUR_MS: i64 = 3_600_000;
const HOURS: i64 = 96;

const AGGREGATED: &str = "scrape_configs: []
storage:
  tsdb:
    retention: {time: 60d}
    downsample:
      5m: {after: 1h, retention: 180d}
      1h: {after: 1h, retention: 5y}
";

/// A counter with resets and gauges, a sample a minute, whole numbers.
fn open_metrics(start: i64) -> String {
    let mut out = String::from("# TYPE c counter\n");
    let times = || (0..HOURS * 60).map(move |n| (n, (start + n * 60_000 + 30_000) / 1000));
    let value = |n: i64, i: i64| (n % (700 + i) * (i + 2) + n * 7919 % 50) as f64;
    for i in 0..3 {
        for (n, t) in times() {
            writeln!(out, "c_total{{i=\"{i}\"}} {} {t}", n % (700 + i) * (i + 2)).expect("a text");
        }
    }
    out.push_str("# TYPE g gauge\n");
    for i in 0..3 {
        for (n, t) in times() {
            writeln!(out, "g{{i=\"{i}\"}} {} {t}", value(n, i)).expect("a text");
        }
    }
    out.push_str("# EOF\n");
    out
}

fn ranged(server: &Server, query: &str, (start, end): (i64, i64), resolution: &str) -> Vec<Value> {
    let (start, end) = (seconds(start), seconds(end));
    let mut params = vec![("query", query), ("start", &start), ("end", &end), ("step", "3600")];
    if !resolution.is_empty() {
        params.push(("max_source_resolution", resolution));
    }
    let mut data = server.data("query_range", &params);
    let mut series = data["result"].as_array_mut().map(std::mem::take).unwrap_or_default();
    series.sort_by_key(|s| s["metric"].to_string());
    series
}

fn resolutions(server: &Server) -> BTreeSet<i64> {
    let data = server.data("status/tsdb/blocks", &[]);
    let of = |b: &Value| b["thanos"]["downsample"]["resolution"].as_i64().unwrap_or(0);
    data["blocks"].as_array().expect("a list").iter().map(of).collect()
}

/// Answers over whole windows, which are the same whatever they come from.
fn check(server: &Server, span: (i64, i64), when: &str) {
    for query in [
        "count_over_time(g[1h])",
        "sum_over_time(g[1h])",
        "min_over_time(g[1h])",
        "max_over_time(g[2h])",
        "avg_over_time(g[1h])",
        "last_over_time(c_total[1h])",
        "sum by (i) (sum_over_time(c_total[1h])) - sum by (i) (max_over_time(g[1h]))",
        "max_over_time(sum_over_time(g[1h])[2h:1h])",
    ] {
        let raw = ranged(server, query, span, "");
        assert!(raw.len() >= 3, "{when}: {query}: {raw:?}");
        for resolution in ["auto", "5m", "1h", "3600"] {
            assert!(ranged(server, query, span, resolution) == raw, "{when}: {query} of {resolution}");
        }
    }
    // A plain selector is the average of the window before, where that is aggregated.
    let old = (span.0, span.1 - 14 * HOUR_MS);
    let average = ranged(server, "avg_over_time(g[1h]) + 0", old, "");
    assert!(ranged(server, "g + 0", old, "1h") == average, "{when}");
    let five = ranged(server, "avg_over_time(g[5m]) + 0", old, "");
    assert!(ranged(server, "g + 0", old, "auto") == five, "{when}: an hour's step allows windows of 5m");
    let raw = ranged(server, "g + 0", old, "");
    assert!(raw != average && raw != five && ranged(server, "g + 0", old, "0s") == raw, "{when}");
    // Rates extrapolate from the first and last point: near, not equal.
    let (raw, coarse) =
        (ranged(server, "rate(c_total[6h])", span, ""), ranged(server, "rate(c_total[6h])", span, "5m"));
    assert_eq!(raw.len(), coarse.len());
    for (raw, coarse) in raw.iter().zip(&coarse) {
        for (raw, coarse) in
            raw["values"].as_array().unwrap().iter().zip(coarse["values"].as_array().unwrap())
        {
            let of = |v: &Value| v[1].as_str().and_then(|v| v.parse::<f64>().ok()).expect("a number");
            let off = (of(coarse) / of(raw) - 1.0).abs();
            assert!(off < 0.05, "{when}: {coarse} for {raw}");
        }
    }
}

#[test]
fn aggregates_answer_as_their_samples_do_and_when_those_are_gone() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let end = now / HOUR_MS * HOUR_MS - HOUR_MS;
    let start = end - HOURS * HOUR_MS;
    let dir = Dir::new("downsample-in");
    let text = dir.write("in.txt", &open_metrics(start)).display().to_string();
    let blocks = dir.path().join("blocks").display().to_string();
    said(&ours(), &["tsdb", "create-blocks-from", "openmetrics", "-q", &text, &blocks]);
    let house = House::new("downsample", AGGREGATED)
        .with("--web.enable-lifecycle")
        .with("--storage.tsdb.block-reload-interval=1s");
    let into = format!("--storage.tsdb.path={}", house.data.display());
    said(&ours(), &["tsdb", "import", &into, "--shards=2", &blocks]);
    let Some(mut running) = house.start() else { return };
    let all = BTreeSet::from([0, 300_000, HOUR_MS]);
    eventually("aggregates of both resolutions", || (resolutions(&running) == all).then_some(()));
    let made = |server: &Server| {
        let page = server.get("/metrics").text();
        let line = page
            .lines()
            .find_map(|l| l.strip_prefix("systole_downsampled_samples_total "))
            .map(str::to_owned);
        line.and_then(|n| n.parse::<f64>().ok()).expect("a figure")
    };
    let least = (6 * 60 * (HOURS - 24)) as f64;
    eventually("most samples to be aggregated", || (made(&running) >= least).then_some(()));
    let span = (start + 8 * HOUR_MS, end);
    check(&running, span, "aggregated");
    // A question of one moment reads samples unless it says otherwise.
    let at = start + 20 * HOUR_MS;
    let time = seconds(at);
    let instant = |server: &Server, resolution: &str| {
        let params = [("query", "g{i=\"1\"} + 0"), ("time", &*time), ("max_source_resolution", resolution)];
        server.data("query", &params)["result"][0]["value"][1].clone()
    };
    let average = running.query_at("avg_over_time(g{i=\"1\"}[1h])", at)[0]["value"][1].clone();
    assert_eq!(instant(&running, "1h"), average);
    assert!(instant(&running, "auto") == instant(&running, "0s") && instant(&running, "auto") != average);
    let refused =
        running.get("/api/v1/query_range?query=g&start=1&end=2&step=1&max_source_resolution=coarse");
    assert!(refused.status == 400 && refused.text().contains("max_source_resolution"), "{}", refused.text());
    running.process.kill();
    let running = house.start().expect("it ran before");
    check(&running, span, "after a kill");
    // Samples go; what was made of them stays, and is read where the configuration says so.
    let whole = ranged(&running, "sum_over_time(g[1h])", span, "");
    let short = AGGREGATED
        .replace("time: 60d", "time: 1d")
        .replace("downsample:", "downsample:\n      max_source_resolution: auto");
    house.configure(&short);
    assert_eq!(running.call("POST", "/-/reload").status, 200);
    eventually("old samples to go", || {
        let left = ranged(&running, "count_over_time(g[1h])", (span.0, span.0), "0s");
        left.is_empty().then_some(())
    });
    assert!(ranged(&running, "sum_over_time(g[1h])", span, "0s") != whole);
    for resolution in ["", "auto", "1h"] {
        assert!(ranged(&running, "sum_over_time(g[1h])", span, resolution) == whole, "{resolution}");
    }
    let (from, to) = (seconds(span.0), seconds(span.0 + HOUR_MS));
    let names = running.data("label/__name__/values", &[("start", &from), ("end", &to)]);
    assert_eq!(names, serde_json::json!(["c_total", "g"]), "series are found where samples are gone");
    running.stop();
}
