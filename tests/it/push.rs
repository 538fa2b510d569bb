//! Bulk imports and the push gateway, to the real program.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::house::{House, Response, Server, seconds, try_request};

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_millis() as i64
}

fn send(server: &Server, method: &str, path: &str, body: &[u8]) -> Response {
    try_request(server.port, &format!("{method} {path} HTTP/1.1"), body).expect("an answer")
}

#[test]
fn what_is_imported_is_found() {
    let house = House::new("import", "scrape_configs: []\n");
    let Some(running) = house.start() else { return };
    let now = now_ms();
    let check = |path: &str, body: &str, expect: (u16, &str)| {
        let answer = send(&running, "POST", path, body.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), expect, "{path}");
    };
    let at = |ago: i64| now - ago;
    let page = format!("# TYPE a counter\na{{x=\"1\"}} 1 {}\na{{x=\"1\"}} 2 {}\nb 3\n", at(3000), at(1000));
    check("/api/v1/import/prometheus?extra_label=job%3Dj", &page, (204, ""));
    let many: String =
        (0..200_000).map(|i| format!("many{{i=\"{}\"}} {i} {}\n", i % 100, at(300_000) + i)).collect();
    check("/api/v1/import/prometheus", &many, (204, ""));
    let lines = format!(
        "{{\"metric\":{{\"__name__\":\"c\"}},\"values\":[1,2.5],\"timestamps\":[{},{}]}}\nno\n",
        at(2000),
        at(1000)
    );
    let answer = send(&running, "POST", "/api/v1/import", lines.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(answer.text().starts_with("line 2: invalid JSON"), "{}", answer.text());
    let points = format!("cpu,host=a user=1.5,sys=2i {}000000\n", at(1000));
    check("/write?db=telegraf", &points, (204, ""));
    check("/api/v2/write?precision=ms&bucket=b", &format!("mem used=7u {}\n", at(500)), (204, ""));
    check("/write", "bad\n", (400, "{\"error\":\"line 1: missing fields\"}"));
    check("/api/v2/write", "bad\n", (400, "{\"code\":\"invalid\",\"message\":\"line 1: missing fields\"}"));
    let value =
        |query: &str, expect: &str| assert_eq!(running.value(query).as_deref(), Some(expect), "{query}");
    value("a{x=\"1\",job=\"j\"}", "2");
    value("count_over_time(a[10s])", "2");
    value("b", "3");
    value("sum(count_over_time(many[10m]))", "200000");
    value("sum_over_time(c[10s])", "3.5");
    value("cpu_user{host=\"a\",db=\"telegraf\"}", "1.5");
    value("cpu_sys", "2");
    value("mem_used", "7");
    assert_eq!(running.get("/api/v1/import").status, 405);
}

#[test]
fn what_was_asked_for_in_vain_is_found_once_it_is_acknowledged() {
    let house = House::new("births", "scrape_configs: []\n");
    let Some(running) = house.start() else { return };
    let take = |page: &str| {
        let answer = send(&running, "POST", "/api/v1/import/prometheus", page.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    };
    let nothing = |query: &str| assert_eq!(running.value(query), None, "{query}");
    for i in 0..100 {
        let one = format!("born{{i=\"{i}\"}}");
        for query in [&one, &format!("rate({one}[5m])"), &format!("{{i=\"{i}\"}}"), &format!("sum({one})")] {
            nothing(query);
            nothing(query);
        }
        take(&format!("{one} {i}\n"));
        for query in [&one, &format!("{{i=\"{i}\"}}"), &format!("sum({one})")] {
            assert_eq!(running.value(query), Some(i.to_string()), "{query}");
        }
    }
    assert_eq!(running.value("count(born)").as_deref(), Some("100"));
    // What goes to blocks and never was in memory, asked for at its time.
    let days = now_ms() - 3 * 86_400_000;
    let then = |query: &str| running.value(&format!("{query} @ {}", days as f64 / 1e3));
    assert_eq!((then("old"), then("old")), (None, None));
    take(&format!("old 7 {}\n", days - 60_000));
    assert_eq!(then("old").as_deref(), Some("7"));
}

/// Thirty days of a sample every five minutes, up to half an hour ago: (time, value) of a series.
fn old_samples(series: usize, now: i64) -> Vec<(i64, f64)> {
    let first = now - 30 * 86_400_000;
    let count = 30 * 288 - 6;
    (0..count).map(|i| (first + i * 300_000, (i * 7 + series as i64 * 1000) as f64 / 8.0)).collect()
}

/// All samples of a series, as the API has them.
fn raw(server: &Server, selector: &str, range: &str) -> Vec<(i64, f64)> {
    let mut out = Vec::new();
    let answer = server.data("query", &[("query", &format!("{selector}[{range}]"))]);
    for value in answer["result"][0]["values"].as_array().into_iter().flatten() {
        let ms = (value[0].as_f64().expect("a time") * 1000.0).round() as i64;
        out.push((ms, value[1].as_str().and_then(|v| v.parse().ok()).expect("a value")));
    }
    out
}

#[test]
fn thirty_days_come_in_behind_a_server_that_scrapes_and_outlive_it() {
    let target = crate::target::Target::with("live 1\nold{series=\"0\"} 5\n");
    let config = format!(
        "scrape_configs: [{{job_name: j, scrape_interval: 1s, static_configs: [{{targets: ['{}']}}]}}]\n",
        target.address()
    );
    let house = House::new("import-old", &config).with("--storage.tsdb.retention.time=60d");
    let Some(mut running) = house.start() else { return };
    crate::house::eventually("it scrapes", || running.value("live"));
    let now = now_ms();
    let mut lines = String::new();
    for series in 0..20 {
        let samples = old_samples(series, now);
        let times: Vec<String> = samples.iter().map(|s| s.0.to_string()).collect();
        let values: Vec<String> = samples.iter().map(|s| s.1.to_string()).collect();
        lines += &format!(
            "{{\"metric\":{{\"__name__\":\"old\",\"series\":\"{series}\"}},\"values\":[{}],\"timestamps\":[{}]}}\n",
            values.join(","),
            times.join(",")
        );
    }
    let answer = send(&running, "POST", "/api/v1/import", lines.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    // A page in order of time, with series that are scraped, between the samples that are there; and what is too old.
    let page: String = (0..1000)
        .map(|i| format!("page{{i=\"{}\"}} {i} {}\n", i % 10, now - 86_400_000 + i * 1000))
        .collect();
    let answer = send(&running, "POST", "/api/v1/import/prometheus", page.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    let ancient = format!("ancient 1 {}\nancient 2 {}\n", now - 61 * 86_400_000, now - 3_600_000);
    let answer = send(&running, "POST", "/api/v1/import/prometheus", ancient.as_bytes());
    let text = "1 samples are older than the retention time and were refused\n";
    assert_eq!((answer.status, answer.text().as_str()), (400, text));
    running.process.kill();
    for _ in 0..2 {
        let again = house.start().expect("it started before");
        for series in 0..20 {
            let selector = format!("old{{series=\"{series}\",job=\"\"}}");
            assert!(raw(&again, &selector, "31d") == old_samples(series, now), "series {series}");
        }
        assert_eq!(again.value("count(count_over_time(page[2d]) == 100)").as_deref(), Some("10"));
        assert_eq!(again.value("sum_over_time(ancient[61d])").as_deref(), Some("2"));
        crate::house::eventually("it scrapes", || again.value("live"));
        running = again;
        running.process.kill();
    }
}

#[test]
fn pushed_groups_stay_until_they_are_deleted() {
    let house = House::new("gateway", "global: {scrape_interval: 1s}\n");
    let Some(running) = house.start() else { return };
    let check = |method: &str, path: &str, body: &str, expect: (u16, &str)| {
        let answer = send(&running, method, path, body.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), expect, "{method} {path}");
    };
    let path = "/metrics/job/backup/instance@base64/aDov";
    check("PUT", path, "# TYPE done gauge\ndone{host=\"h\"} 1\nsize 5\n", (200, ""));
    assert_eq!(running.value("done{job=\"backup\",instance=\"h:/\",host=\"h\"}").as_deref(), Some("1"));
    check("POST", path, "size 6\n", (200, ""));
    assert_eq!(running.value("size").as_deref(), Some("6"));
    let pushed_at = seconds(now_ms() + 900);
    // It is said again at each turn, and only what stays.
    crate::house::eventually("the group is said again", || {
        running.value(&format!("timestamp(done) > {pushed_at}"))
    });
    check("PUT", path, "size 7\n", (200, ""));
    running.wait_for_value("done", None);
    let refused_at = std::time::SystemTime::now();
    check("PUT", path, "size 7 1000\n", (400, "pushed metrics must not have timestamps\n"));
    running.wait_for_value("push_failure_time_seconds > bool 0", Some("1"));
    // It outlives a process that is killed, but for what came in its last second.
    let mut running = running;
    crate::house::eventually("the groups are in their file", || {
        let file = std::fs::metadata(house.data.join("groups")).ok()?;
        (file.modified().ok()? > refused_at).then_some(())
    });
    running.process.kill();
    let running = house.start().expect("it started before");
    let restarted_at = seconds(now_ms());
    crate::house::eventually("the group is said again", || {
        running.value(&format!("timestamp(size) > {restarted_at}"))
    });
    let check = |method: &str, path: &str, body: &str, expect: (u16, &str)| {
        let answer = send(&running, method, path, body.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), expect, "{method} {path}");
    };
    check("DELETE", path, "", (202, ""));
    running.wait_for_value("size", None);
    running.wait_for_value("push_time_seconds", None);
    check("PUT", "/metrics/job/a/b", "", (400, "odd number of components in label string \"job/a/b\"\n"));
    assert_eq!(running.get("/metrics").status, 200);
}
