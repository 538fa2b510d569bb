//! Prometheus's HTTP API as a client sees it: forms, envelopes, error words, reload, Grafana's health check.

use serde_json::{Value, json};

use crate::house::{House, Running, eventually, form};
use crate::target::{Target, config};

const PAGE: &str = "\
# HELP water_liters_total Water that flowed <through> & away.
# TYPE water_liters_total counter
water_liters_total{pipe=\"cold\"} 7
water_liters_total{pipe=\"hot\"} 3.5
# TYPE answers_seconds histogram
answers_seconds_bucket{le=\"0.1\"} 1
answers_seconds_bucket{le=\"+Inf\"} 4
answers_seconds_sum 2
answers_seconds_count 4
# TYPE odd gauge
odd{text=\"<a&b>\"} NaN
";

/// A house that has scraped the page once at least.
fn house(name: &str, args: &[&str]) -> Option<(Target, House, Running)> {
    let target = Target::with(PAGE);
    let mut house = House::new(name, &config("200ms", &[("water", &target.address(), "")]));
    house.args.extend(args.iter().map(|a| (*a).to_owned()));
    let running = house.start()?;
    // Shards take their rows one after the other: seven series of the page and five about the scrape.
    running.wait_for_value("count({job=\"water\"})", Some("12"));
    Some((target, house, running))
}

/// What `query_range` says to these parameters.
fn range<'a>(query: &'a str, start: &'a str, end: &'a str, step: &'a str) -> [(&'a str, &'a str); 4] {
    [("query", query), ("start", start), ("end", end), ("step", step)]
}

#[test]
fn every_endpoint_answers_get_and_those_with_forms_post() {
    let Some((_target, _house, running)) = house("endpoints", &[]) else { return };
    let water = ("match[]", "water_liters_total");
    let forms: &[(&str, &[(&str, &str)])] = &[
        ("query", &[("query", "vector(1)"), ("time", "4")]),
        ("query_range", &range("vector(1)", "0", "10", "5")),
        ("format_query", &[("query", "sum(up)by(job)"), ("unused", "")]),
        ("parse_query", &[("query", "sum(up)by(job)"), ("unused", "")]),
        ("series", &[water]),
        ("labels", &[water]),
    ];
    for (endpoint, params) in forms {
        let path = format!("/api/v1/{endpoint}");
        let got = running.get(&format!("{path}?{}", form(params)));
        let posted = running.post(&path, params);
        assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")), "{endpoint}");
        assert_eq!(got.json()["status"], "success", "{endpoint}");
        assert_eq!(got.text(), posted.text(), "{endpoint}");
        // Half in the form, half in the address.
        let mixed = running.post(&format!("{path}?{}", form(&params[1..])), &params[..1]);
        assert_eq!(got.text(), mixed.text(), "{endpoint}");
        assert_eq!(running.call("DELETE", &path).status, 405, "{endpoint}");
    }
    for endpoint in [
        "label/pipe/values",
        "targets",
        "metadata",
        "queries",
        "scrape_pools",
        "status/buildinfo",
        "status/config",
        "status/flags",
        "status/runtimeinfo",
        "status/tsdb",
    ] {
        let path = format!("/api/v1/{endpoint}");
        let got = running.get(&path);
        assert_eq!((got.status, &got.json()["status"]), (200, &json!("success")), "{endpoint}");
        assert_eq!(running.post(&path, &[]).status, 405, "{endpoint}");
        assert_eq!(running.call("OPTIONS", &path).status, 204, "{endpoint}");
    }
    assert_eq!(running.get("/api/v1/no_such_thing").status, 404);
    assert_eq!(running.get("/-/healthy").text(), "Prometheus Server is Healthy.\n");
    assert_eq!(running.get("/-/ready").text(), "Prometheus Server is Ready.\n");
    let federated = running.get("/federate?match[]=water_liters_total");
    assert!(federated.text().contains("job=\"water\",pipe=\"hot\"} 3.5 "), "{}", federated.text());
}

#[test]
fn data_has_the_form_that_prometheus_gives_it() {
    let Some((target, house, running)) = house("data", &[]) else { return };
    let instance = target.address();
    let water = |pipe: &str| json!({"__name__": "water_liters_total", "instance": instance, "job": "water", "pipe": pipe});
    let matching = [("match[]", "water_liters_total"), ("match[]", "nothing")];
    assert_eq!(running.data("series", &matching), json!([water("cold"), water("hot")]));
    assert_eq!(running.data("labels", &matching), json!(["__name__", "instance", "job", "pipe"]));
    assert_eq!(running.data("label/pipe/values", &[]), json!(["cold", "hot"]));
    assert_eq!(running.data("label/U__pipe/values", &[]), json!(["cold", "hot"]));
    assert_eq!(running.data("label/pipe/values", &[("match[]", "{pipe=~\"c.*\"}")]), json!(["cold"]));
    assert_eq!(running.data("scrape_pools", &[]), json!({"scrapePools": ["water"]}));
    assert_eq!(
        running.data("metadata", &[("metric", "water_liters_total")]),
        json!({"water_liters_total": [
            {"type": "counter", "unit": "", "help": "Water that flowed <through> & away."}
        ]})
    );
    let raw = running.get("/api/v1/query?query=odd").text();
    assert!(
        raw.contains(r#""text":"\u003ca\u0026b\u003e"},"value":["#) && raw.contains(",\"NaN\"]"),
        "{raw}"
    );
    let scalar = running.data("query", &[("query", "1/3"), ("time", "1.5")]);
    assert_eq!(scalar, json!({"resultType": "scalar", "result": [1.5, "0.3333333333333333"]}));
    let string = running.data("query", &[("query", "\"x\""), ("time", "1970-01-01T00:00:02Z")]);
    assert_eq!(string, json!({"resultType": "string", "result": [2, "x"]}));
    let matrix = running.data("query_range", &range("vector(time())", "1", "3", "1s"));
    let values = json!([[1, "1"], [2, "2"], [3, "3"]]);
    assert_eq!(matrix, json!({"resultType": "matrix", "result": [{"metric": {}, "values": values}]}));
    let cut = running.get("/api/v1/query?query=water_liters_total&limit=1").json();
    assert_eq!(cut["data"]["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(cut["warnings"], json!(["results truncated due to limit"]));
    let flags = running.data("status/flags", &[]);
    assert_eq!(flags["storage.tsdb.path"], json!(house.data.display().to_string()));
    let yaml = running.data("status/config", &[]);
    assert!(yaml["yaml"].as_str().is_some_and(|y| y.contains("job_name: water")), "{yaml}");
    assert_eq!(running.data("status/runtimeinfo", &[])["reloadConfigSuccess"], json!(true));
}

#[test]
fn a_target_is_shown_as_prometheus_shows_it() {
    let Some((target, _house, running)) = house("target", &[]) else { return };
    let address = target.address();
    let shown = running.target_of("water");
    assert_eq!(shown["labels"], json!({"instance": address, "job": "water"}));
    assert_eq!(shown["discoveredLabels"]["__address__"], json!(address));
    assert_eq!(shown["scrapeUrl"], json!(format!("http://{address}/metrics")));
    let global = shown["globalUrl"].as_str().expect("globalUrl");
    assert!(
        global.ends_with(&format!(":{}/metrics", target.port)) && !global.contains("127.0.0.1"),
        "{global}"
    );
    assert_eq!(global.matches(':').count(), 2, "{global}");
    assert_eq!((&shown["health"], &shown["lastError"]), (&json!("up"), &json!("")));
    assert_eq!((&shown["scrapeInterval"], &shown["scrapeTimeout"]), (&json!("200ms"), &json!("200ms")));
    assert!(shown["lastScrapeDuration"].as_f64().is_some_and(|s| s > 0.0), "{shown}");
    let counts = running.data("targets", &[]);
    assert_eq!(
        (&counts["droppedTargets"], &counts["droppedTargetCounts"]),
        (&json!([]), &json!({"water": 0}))
    );
    let only_dropped = running.data("targets", &[("state", "dropped")]);
    assert_eq!(only_dropped["activeTargets"], json!([]));
    assert_eq!(running.data("targets", &[("state", "active")])["droppedTargetCounts"], Value::Null);
}

#[test]
fn wrong_questions_get_prometheus_s_words() {
    let Some((_target, _house, running)) = house("words", &[]) else { return };
    let bad = |endpoint: &str, params: &[(&str, &str)], text: &str| {
        let answer = running.get(&format!("/api/v1/{endpoint}?{}", form(params)));
        let expect = json!({"status": "error", "errorType": "bad_data", "error": text});
        assert_eq!((answer.status, answer.json()), (400, expect), "{endpoint} {params:?}");
    };
    let query = |text: &str, why: &str| {
        bad("query", &[("query", text)], &format!("invalid parameter \"query\": {why}"))
    };
    query("sum(", "1:5: parse error: unclosed left parenthesis");
    query("", "unknown position: parse error: no expression found in input");
    query("up{", "1:4: parse error: unexpected end of input inside braces");
    query(
        "rate(up)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    );
    query("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    bad(
        "query",
        &[("query", "up"), ("time", "soon")],
        "invalid parameter \"time\": invalid time value for 'time': cannot parse \"soon\" to a valid timestamp",
    );
    bad(
        "query_range",
        &range("up", "x", "10", "1"),
        "invalid parameter \"start\": cannot parse \"x\" to a valid timestamp",
    );
    bad(
        "query_range",
        &range("up", "10", "1", "1"),
        "invalid parameter \"end\": end timestamp must not be before start time",
    );
    bad(
        "query_range",
        &range("up", "1", "10", "0"),
        "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
    );
    bad(
        "query_range",
        &range("up", "1", "10", "fast"),
        "invalid parameter \"step\": cannot parse \"fast\" to a valid duration",
    );
    bad(
        "query_range",
        &range("up", "0", "11001", "1"),
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    );
    bad(
        "query",
        &[("query", "up"), ("limit", "-1")],
        "invalid parameter \"limit\": limit must be non-negative",
    );
    bad("series", &[], "no match[] parameter provided");
    bad(
        "series",
        &[("match[]", "{a=~\".*\"}")],
        "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
    );
    bad("metadata", &[("limit", "few")], "limit must be a number");
    bad("status/tsdb", &[("limit", "0")], "limit must be a positive number");
    // Which two series are named first is not defined.
    let many = running
        .get(&format!("/api/v1/query?{}", form(&[("query", "up + on() group_left() {job=\"water\"}")])));
    let text = many.json();
    assert_eq!((many.status, &text["errorType"]), (422, &json!("execution")), "{text}");
    let why = text["error"].as_str().unwrap_or_default();
    assert!(
        why.starts_with(
            "found duplicate series for the match group {} on the right hand-side of the operation: [{"
        ),
        "{why}"
    );
    assert!(
        why.ends_with("];many-to-many matching not allowed: matching labels must be unique on one side"),
        "{why}"
    );
}

#[test]
fn grafana_finds_it_healthy() {
    let Some((_target, _house, running)) = house("grafana", &[]) else { return };
    let health = running.post("/api/v1/query", &[("query", "1+1"), ("time", "4")]);
    assert_eq!(health.text(), r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#);
    let build = running.data("status/buildinfo", &[]);
    assert_eq!(build["version"], "3.14.0");
    // Any features would make Grafana take it for another system.
    assert_eq!(build["features"], Value::Null);
    let zipped = running.get_with("/metrics", "Accept-Encoding: gzip");
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_eq!(zipped.body[..2], [0x1f, 0x8b]);
    let cross = running.get_with("/api/v1/labels", "Origin: http://grafana:3000");
    assert_eq!(cross.header("access-control-allow-origin"), Some("*"));
}

#[test]
fn own_metrics_parse_and_have_the_names_that_dashboards_use() {
    let Some((target, house, running)) = house("metrics", &["--web.enable-lifecycle"]) else { return };
    let own = format!("127.0.0.1:{}", running.port);
    house.configure(&config("200ms", &[("water", &target.address(), ""), ("own", &own, "")]));
    assert_eq!(running.call("POST", "/-/reload").status, 200);
    running.wait_for_value("up{job=\"own\"}", Some("1"));
    let names = || {
        let names = running.data("label/__name__/values", &[("match[]", "{job=\"own\"}")]);
        serde_json::from_value::<Vec<String>>(names).expect("names")
    };
    for wanted in [
        "prometheus_build_info",
        "prometheus_config_last_reload_successful",
        "prometheus_http_requests_total",
        "prometheus_http_request_duration_seconds_bucket",
        "prometheus_ready",
        "prometheus_target_scrapes_exceeded_sample_limit_total",
        "prometheus_tsdb_head_samples_appended_total",
        "prometheus_tsdb_head_series",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "systole_shard_busy_seconds_total",
        "systole_shard_commit_seconds_total",
        "systole_shard_commit_seconds_max",
        "systole_shard_mailbox_depth",
        "systole_shard_refused_batches_total",
    ] {
        eventually(&format!("{wanted} among {:?}", names()), || {
            names().iter().any(|n| n == wanted).then_some(())
        });
    }
    // Shown figures are live: this query itself is counted.
    running.query("up");
    eventually("requests are counted", || {
        let counted =
            running.value("prometheus_http_requests_total{handler=\"/api/v1/query\",code=\"200\"}")?;
        (counted.parse::<f64>().ok()? >= 2.0).then_some(())
    });
}

#[test]
fn reload_is_refused_where_the_lifecycle_is_off() {
    let Some((_target, _house, running)) = house("refused", &[]) else { return };
    let refused = running.call("POST", "/-/reload");
    assert_eq!((refused.status, refused.text().as_str()), (403, "Lifecycle API is not enabled."));
    let got = running.get("/-/reload");
    assert_eq!((got.status, got.text().as_str()), (405, "Only POST or PUT requests allowed"));
    assert_eq!(running.call("PUT", "/-/quit").status, 403);
}

#[test]
fn a_broken_file_does_not_replace_the_configuration() {
    let Some((target, house, running)) = house("reload", &["--web.enable-lifecycle"]) else { return };
    let second = Target::with("second 2\n");
    let both = config("200ms", &[("water", &target.address(), ""), ("second", &second.address(), "")]);
    house.configure(&both);
    assert_eq!(running.get("/-/reload").status, 405);
    let reloaded = running.call("POST", "/-/reload");
    assert_eq!((reloaded.status, reloaded.text().as_str()), (200, ""));
    running.wait_for_value("second", Some("2"));
    house.configure(&both.replace("job_name: second", "job_nam: second"));
    let broken = running.call("PUT", "/-/reload");
    let text = broken.text();
    assert_eq!(broken.status, 500, "{text}");
    assert!(text.starts_with("failed to reload config: "), "{text}");
    assert!(text.contains("prometheus.yml:7:5") && text.contains("job_nam"), "{text}");
    assert_eq!(running.data("status/runtimeinfo", &[])["reloadConfigSuccess"], json!(false));
    assert_eq!(running.data("scrape_pools", &[]), json!({"scrapePools": ["second", "water"]}));
    let served = second.served();
    eventually("the old configuration goes on", || (second.served() > served + 2).then_some(()));
    // A signal reloads, too.
    house.configure(&config("200ms", &[("third", &second.address(), "")]));
    running.process.signal("HUP");
    eventually("the signal is heard", || {
        (running.data("scrape_pools", &[]) == json!({"scrapePools": ["third"]})).then_some(())
    });
    assert_eq!(running.data("status/runtimeinfo", &[])["reloadConfigSuccess"], json!(true));
    assert_eq!(running.call("POST", "/-/quit").text(), "Requesting termination... Goodbye!");
    let mut running = running;
    assert_eq!(running.process.wait_for_end().code(), Some(0));
}

#[test]
fn queries_are_formatted_and_parsed_as_prometheus_does() {
    let Some((_target, _house, running)) = house("language", &[]) else { return };
    let data = |endpoint: &str, query: &str| running.data(endpoint, &[("query", query)]);
    assert_eq!(data("format_query", "sum(rate(x{a='b'}[5m]))by(c)"), "sum by (c) (rate(x{a=\"b\"}[5m]))");
    assert_eq!(
        data("parse_query", "-(1)"),
        json!({"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr", "expr": {"type": "numberLiteral", "val": "1"}}})
    );
    for endpoint in ["format_query", "parse_query"] {
        let answer = running.get(&format!("/api/v1/{endpoint}?{}", form(&[("query", "sum(")])));
        let why = "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis";
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(why)), "{endpoint}");
    }
    let ranged =
        running.get(&format!("/api/v1/query_range?{}", form(&range("up[5m]", "0", "1", "1")))).json();
    let why = "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    assert_eq!((&ranged["errorType"], &ranged["error"]), (&json!("bad_data"), &json!(why)));
}

#[test]
fn stats_say_what_was_measured() {
    let Some((_target, _house, running)) = house("stats", &[]) else { return };
    let stats = |value: &str| {
        running.data("query", &[("query", "water_liters_total"), ("stats", value)])["stats"].take()
    };
    assert_eq!(stats(""), Value::Null);
    let keys = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(" "));
    let all = stats("all");
    assert_eq!(
        keys(&all["timings"]).as_deref(),
        Some("evalTotalTime resultSortTime queryPreparationTime innerEvalTime execQueueTime execTotalTime")
    );
    assert_eq!(keys(&all["samples"]).as_deref(), Some("totalQueryableSamples samplesRead peakSamples"));
    for value in ["true", "all"] {
        let stats = stats(value);
        assert_eq!(stats["samples"]["totalQueryableSamples"], 2, "{stats}");
        let seconds = |name: &str| stats["timings"][name].as_f64().expect("seconds");
        assert!(seconds("evalTotalTime") > 0.0, "{stats}");
        assert!(
            seconds("execTotalTime") >= seconds("evalTotalTime") + seconds("execQueueTime") - 1e-9,
            "{stats}"
        );
    }
}

/// An expression that runs until it is ended.
const ENDLESS: &str = "sum(sum_over_time(rate(up[1d])[1000d:1s]))";

#[test]
fn a_query_under_way_is_listed_and_may_be_ended() {
    let args = ["--query.max-concurrency=1", "--query.max-samples=2000000000"];
    let Some((_target, _house, running)) = house("queries", &args) else { return };
    // A rate of a single sample is nothing, and soon said.
    eventually("a second sample", || {
        running.value("sum(count_over_time(up[1d]))")?.parse::<u32>().ok().filter(|n| *n > 2)
    });
    let port = running.port;
    let ask = move || {
        std::thread::spawn(move || {
            crate::house::Server { port }.get(&format!("/api/v1/query?{}", form(&[("query", ENDLESS)])))
        })
    };
    let (first, second) = (ask(), ask());
    let listed = eventually("both are listed", || {
        let listed = running.data("queries", &[]);
        (listed.as_array().map(Vec::len) == Some(2)).then_some(listed)
    });
    assert_eq!(
        (&listed[0]["state"], &listed[1]["state"]),
        (&json!("running"), &json!("waiting")),
        "{listed}"
    );
    assert_eq!(listed[0]["query"], ENDLESS);
    assert!(listed[0]["elapsedSeconds"].as_f64().is_some_and(|s| s > 0.0), "{listed}");
    for i in [1, 0] {
        let path = format!("/api/v1/queries/{}", listed[i]["id"]);
        assert_eq!(running.call("DELETE", &path).status, 204, "{listed}");
        eventually("it is ended", || (running.call("DELETE", &path).status == 404).then_some(()));
    }
    // Which of the two came first is not defined.
    let mut errors = Vec::new();
    for thread in [first, second] {
        let answer = thread.join().expect("an answer");
        let body = answer.json();
        errors.push(body["error"].as_str().unwrap_or_default().to_owned());
        assert!(answer.status == 499 && body["errorType"] == "canceled", "{body}");
    }
    errors.sort();
    assert_eq!(errors, ["query was canceled in expression evaluation", "query was canceled in query queue"]);
    assert_eq!(running.call("DELETE", "/api/v1/queries/first").status, 404);
    assert_eq!(running.call("POST", "/api/v1/queries/1").status, 405);
}

#[test]
fn queries_are_logged_to_the_file_that_the_configuration_names() {
    let house =
        House::new("query-log", "global: {query_log_file: queries.log}\n").with("--web.enable-lifecycle");
    let Some(running) = house.start() else { return };
    let log = house.dir.path().join("queries.log");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).expect("a line of JSON")).collect()
    };
    running.query("vector(1)");
    running.post("/api/v1/query_range", &range("vector(2)", "1", "20.123", "1.5"));
    running.get("/api/v1/query?query=sum(");
    let bad = form(&[("query", "label_replace(vector(1), \"a\", \"b\", \"c\", \"(\")")]);
    running.get(&format!("/api/v1/query?{bad}"));
    let all = eventually("three lines", || Some(lines()).filter(|l| l.len() == 3));
    let params = json!({"query": "vector(2)", "start": "1970-01-01T00:00:01.000Z", "end": "1970-01-01T00:00:20.123Z", "step": 1});
    assert_eq!(all[1]["params"], params);
    let origin = json!({"clientIP": "127.0.0.1", "method": "POST", "path": "/api/v1/query_range"});
    assert_eq!(all[1]["httpRequest"], origin);
    assert!(
        all[0]["stats"]["timings"]["evalTotalTime"].is_number() && all[0]["error"].is_null(),
        "{}",
        all[0]
    );
    assert_eq!(all[2]["error"], "invalid regular expression in label_replace(): (");
    // Rotated: after a reload there is a new file.
    std::fs::rename(&log, log.with_extension("old")).expect("the log is there");
    assert_eq!(running.post("/-/reload", &[]).status, 200);
    running.query("vector(3)");
    eventually("a line in the new file", || (lines().len() == 1).then_some(()));
}
