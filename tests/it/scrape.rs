//! Scraping as a target and its owner see it: what is kept, what goes stale, what is refused and in which words.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::{House, PATIENCE, Process, Running, Server, eventually};
use crate::peers;
use crate::target::{Page, Target, config};

const INTERVAL: &str = "200ms";

/// A house that scrapes one target as job `j`, with more lines for the job.
fn house(name: &str, target: &Target, more: &str) -> Option<(House, Running)> {
    let house =
        House::new(name, &config(INTERVAL, &[("j", &target.address(), more)])).with("--web.enable-lifecycle");
    let running = house.start()?;
    Some((house, running))
}

/// Waits until the target has answered two more scrapes: what it serves now was read.
fn settle(target: &Target) {
    let before = target.served();
    eventually("two more scrapes", || (target.served() >= before + 2).then_some(()));
}

/// `lastError` of the job, once it has one.
fn last_error(server: &Server) -> String {
    eventually("an error", || {
        let shown = server.target_of("j");
        let error = shown["lastError"].as_str().unwrap_or_default().to_owned();
        (!error.is_empty()).then_some(error)
    })
}

/// Values of one series in the last ten minutes, as text.
fn history(server: &Server, selector: &str) -> Vec<String> {
    let result = server.query(&format!("{selector}[10m]"));
    let values = result[0]["values"].as_array().cloned().unwrap_or_default();
    values.iter().map(|v| v[1].as_str().expect("a value").to_owned()).collect()
}

#[test]
fn values_are_kept_and_a_series_that_vanishes_ends() {
    let target = Target::with("a 1\nb{x=\"1\"} 2.5e3\nc NaN\nd -Inf\n");
    let Some((_house, running)) = house("values", &target, "") else { return };
    for (query, value) in [("a", "1"), ("b", "2500"), ("c", "NaN"), ("d", "-Inf"), ("up", "1")] {
        running.wait_for_value(query, Some(value));
    }
    running.wait_for_value("scrape_samples_scraped", Some("4"));
    running.wait_for_value("scrape_samples_post_metric_relabeling", Some("4"));
    running.wait_for_value("scrape_series_added", Some("0"));
    target.serve_text("a 2\n# b is gone\n");
    running.wait_for_value("a", Some("2"));
    running.wait_for_value("b", None);
    assert_eq!(running.value("up").as_deref(), Some("1"));
    // It was there before.
    assert!(history(&running, "b").iter().all(|v| v == "2500"));
    target.serve_text("a 3\nb{x=\"1\"} 7\n");
    running.wait_for_value("b", Some("7"));
    assert!(history(&running, "a").windows(2).all(|w| w[0] <= w[1]));
}

#[test]
fn a_failing_target_is_down_and_its_series_end() {
    let target = Target::with("a 1\n");
    let Some((_house, running)) = house("failing", &target, "") else { return };
    running.wait_for_value("a", Some("1"));
    target.serve(Page::status("404 Not Found"));
    running.wait_for_value("up", Some("0"));
    running.wait_for_value("a", None);
    assert_eq!(last_error(&running), "server returned HTTP status 404 Not Found");
    assert_eq!(running.target_of("j")["health"], "down");
    target.serve_text("a 2\n");
    running.wait_for_value("a", Some("2"));
    running.wait_for_value("up", Some("1"));
    assert_eq!(running.target_of("j")["lastError"], "");
    target.serve(Page { delay: Duration::from_secs(1), ..Page::of("a 3\n") });
    running.wait_for_value("up", Some("0"));
    let url = format!("http://{}/metrics", target.address());
    assert_eq!(last_error(&running), format!("Get \"{url}\": context deadline exceeded"));
}

#[test]
fn an_empty_page_is_a_success_without_series() {
    let target = Target::with("a 1\n");
    let Some((_house, running)) = house("empty", &target, "") else { return };
    running.wait_for_value("a", Some("1"));
    target.serve_text("");
    running.wait_for_value("a", None);
    running.wait_for_value("up", Some("1"));
}

/// One page that is not well formed: the words, and nothing of it is kept.
fn check_malformed(name: &str, pages: &[(&str, &str)]) {
    let target = Target::with("before 1\n");
    let Some((_house, running)) = house(name, &target, "") else { return };
    for (page, expect) in pages {
        target.serve_text("before 1\n");
        running.wait_for_value("before", Some("1"));
        running.wait_for_value("up", Some("1"));
        target.serve_text(page);
        running.wait_for_value("up", Some("0"));
        settle(&target);
        assert_eq!(last_error(&running), *expect, "{page:?}");
        assert_eq!(running.value("fresh"), None, "{page:?}");
        running.wait_for_value("before", None);
    }
    assert!(history(&running, "fresh").is_empty());
}

/// The texts were seen in Prometheus 3.5.3's answers to the same pages.
#[test]
fn a_malformed_page_is_refused_whole_in_prometheus_s_words() {
    check_malformed(
        "malformed",
        &[
            ("fresh 1\nbad{ 2\n", "expected label name, got \"2\" (\"INVALID\") while parsing: \"bad{ 2\""),
            (
                "fresh 1\nbad one\n",
                "strconv.ParseFloat: parsing \"one\": invalid syntax while parsing: \"bad one\"",
            ),
            (
                "fresh 1\nbad\n",
                "expected value after metric, got \"\\n\" (\"INVALID\") while parsing: \"bad\\n\"",
            ),
            ("fresh 1\n{a=\"b\"} 1\n", "metric name not set while parsing: \"{a=\\\"b\\\"} 1\""),
            (
                "fresh 1\nbad 1 2x\n",
                "expected next entry after timestamp, got \"x\" (\"INVALID\") while parsing: \"bad 1 2x\"",
            ),
            ("fresh 1\n# TYPE bad strange\n", "invalid metric type \"strange\""),
            (
                "fresh 1\nbad{a=\"1\n",
                "expected label value, got \"\\\"1\\n\\n\" (\"INVALID\") while parsing: \"bad{a=\\\"1\\n\\n\"",
            ),
            ("fresh 1\nbad 0x1p3\n", "unsupported character in float while parsing: \"bad 0x1p3\""),
        ],
    );
}

#[test]
fn a_page_may_come_compressed_and_limits_count_what_it_unpacks_to() {
    let target = Target::scripted(|_| Page::gzipped("a 1\n"));
    let Some((_house, running)) = house("gzip", &target, "body_size_limit: 100B") else { return };
    running.wait_for_value("a", Some("1"));
    let asked = target.last_asked().headers.join("\n").to_lowercase();
    for wanted in [
        "accept-encoding: gzip",
        "user-agent: prometheus/3.14.0",
        "x-prometheus-scrape-timeout-seconds: 0.2",
        "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,",
    ] {
        assert!(asked.contains(wanted), "{wanted} is not in\n{asked}");
    }
    let large = format!("a 1\n# {}\n", "x".repeat(100));
    target.serve_by(move |_| Page::gzipped(&large));
    running.wait_for_value("up", Some("0"));
    assert_eq!(last_error(&running), "body size limit exceeded");
}

#[test]
fn limits_refuse_a_page_in_prometheus_s_words() {
    let check = |name: &str, more: &str, page: &str, expect: &str| {
        let target = Target::with(page);
        let Some((_house, running)) = house(name, &target, more) else { return };
        assert_eq!(last_error(&running), expect);
        running.wait_for_value("up", Some("0"));
        assert_eq!(running.query("{__name__=~\"a|b\"}"), json!([]));
    };
    check("samples", "sample_limit: 1", "a 1\nb 2\n", "sample limit exceeded");
    check(
        "labels",
        "label_limit: 4",
        "a{x=\"1\",y=\"2\"} 1\nb 2\n",
        "label_limit exceeded (metric: a, number of labels: 5, limit: 4)",
    );
    check(
        "names",
        "label_name_length_limit: 8",
        "a{longer_name=\"1\"} 1\nb 2\n",
        "label_name_length_limit exceeded (metric: a, label name: longer_name, length: 11, limit: 8)",
    );
}

#[test]
fn too_many_targets_are_not_asked() {
    let target = Target::with("a 1\n");
    let text =
        config(INTERVAL, &[("j", &format!("{}\",\"127.0.0.1:1", target.address()), "target_limit: 1")]);
    let house = House::new("targets", &text);
    let Some(running) = house.start() else { return };
    assert_eq!(last_error(&running), "target_limit exceeded (number of targets: 2, limit: 1)");
    running.wait_for_value("count(up == 0)", Some("2"));
    assert_eq!(target.served(), 0);
}

#[test]
fn labels_are_rewritten_and_conflicts_settled_as_configured() {
    let page = "a{job=\"own\",keep=\"1\"} 1\nb_dropped 2\nc{instance=\"\"} 3\n";
    let rules = "\
params: {module: [\"m\"]}
relabel_configs:
  - {target_label: rack, replacement: r1}
  - {source_labels: [__param_module], target_label: module}
metric_relabel_configs:
  - {source_labels: [__name__], regex: \".*_dropped\", action: drop}
  - {source_labels: [keep], target_label: kept}
  - {regex: keep, action: labeldrop}";
    let target = Target::with(page);
    let Some((house, running)) = house("relabel", &target, rules) else { return };
    let metric = |server: &Server, query: &str| server.query(query)[0]["metric"].clone();
    running.wait_for_value("a", Some("1"));
    let instance = target.address();
    let common = json!({"instance": instance, "module": "m", "rack": "r1"});
    let with = |more: Value| {
        let mut all = common.as_object().expect("an object").clone();
        for (name, value) in more.as_object().expect("an object") {
            match value {
                Value::Null => drop(all.remove(name)),
                value => drop(all.insert(name.clone(), value.clone())),
            }
        }
        Value::Object(all)
    };
    let a = with(json!({"__name__": "a", "job": "j", "exported_job": "own", "kept": "1"}));
    assert_eq!(metric(&running, "a"), a);
    assert_eq!(target.last_asked().path, "/metrics?module=m");
    running.wait_for_value("scrape_samples_post_metric_relabeling", Some("2"));
    assert_eq!(running.value("b_dropped"), None);
    house.configure(&config(INTERVAL, &[("j", &target.address(), &format!("honor_labels: true\n{rules}"))]));
    assert_eq!(running.call("POST", "/-/reload").status, 200);
    running.wait_for_value("a{job=\"own\"}", Some("1"));
    running.wait_for_value("a{job=\"j\"}", None);
    assert_eq!(metric(&running, "a"), with(json!({"__name__": "a", "job": "own", "kept": "1"})));
    running.wait_for_value("c{instance=\"\"}", Some("3"));
    assert_eq!(metric(&running, "c"), with(json!({"__name__": "c", "job": "j", "instance": null})));
}

#[test]
fn exposed_timestamps_are_honored_unless_told_otherwise() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    let then = now.as_millis() as i64 - 60_000;
    let target = Target::with(&format!("a 1 {then}\n"));
    let Some((house, running)) = house("timestamps", &target, "") else { return };
    running.wait_for_value("timestamp(a) * 1000", Some(&then.to_string()));
    // The same sample again and again is no error, and there is one.
    settle(&target);
    running.wait_for_value("up", Some("1"));
    assert_eq!(history(&running, "a"), ["1"]);
    house.configure(&config(INTERVAL, &[("j", &target.address(), "honor_timestamps: false")]));
    assert_eq!(running.call("POST", "/-/reload").status, 200);
    running.wait_for_value("time() - timestamp(a) < bool 30", Some("1"));
}

#[test]
fn a_target_that_is_removed_ends_and_one_that_stays_goes_on() {
    let (stays, goes) = (Target::with("stays 1\n"), Target::with("goes 1\n"));
    let text = config(INTERVAL, &[("s", &stays.address(), ""), ("g", &goes.address(), "")]);
    let house = House::new("removed", &text).with("--web.enable-lifecycle");
    let Some(running) = house.start() else { return };
    running.wait_for_value("stays", Some("1"));
    running.wait_for_value("goes", Some("1"));
    house.configure(&config(INTERVAL, &[("s", &stays.address(), "")]));
    assert_eq!(running.call("POST", "/-/reload").status, 200);
    running.wait_for_value("goes", None);
    running.wait_for_value("up{job=\"g\"}", None);
    let asked = goes.served();
    settle(&stays);
    assert_eq!(goes.served(), asked, "a removed target is not asked");
    assert_eq!(running.value("stays").as_deref(), Some("1"));
    // Its loop was not begun anew: the connection is the first one, and its series were added once.
    assert_eq!(stays.connections(), 1);
    running.wait_for_value("sum(sum_over_time(scrape_series_added{job=\"s\"}[10m]))", Some("1"));
}

#[test]
fn a_real_node_exporter_is_scraped() {
    let Some(program) = peers::find("prometheus-node-exporter") else { return };
    let dir = crate::house::Dir::new("node");
    let mut command = std::process::Command::new(program);
    command.args(["--web.listen-address=127.0.0.1:0"]);
    let mut exporter = Process::start(&mut command, dir.path().join("log"));
    let port = exporter.wait_for_port("address=127.0.0.1:");
    let house = House::new("exporter", &config("1s", &[("node", &format!("127.0.0.1:{port}"), "")]));
    let Some(running) = house.start() else { return };
    running.wait_for_value("up", Some("1"));
    running.wait_for_value("count(node_uname_info)", Some("1"));
    running.wait_for_value("count(node_memory_MemTotal_bytes)", Some("1"));
    // All that the page has, and nothing else.
    let deadline = Instant::now() + PATIENCE;
    let counts = loop {
        let kept = running.value("count({job=\"node\"})").unwrap_or_default();
        let scraped = running.value("scrape_samples_scraped + 5").unwrap_or_default();
        if (kept == scraped && !kept.is_empty()) || Instant::now() > deadline {
            break (kept, scraped);
        }
    };
    assert_eq!(counts.0, counts.1);
    let metadata = running.data("metadata", &[("metric", "node_load1")]);
    assert_eq!(metadata["node_load1"][0]["type"], "gauge");
}
