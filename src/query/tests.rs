//! The engine as a whole: answers that do not depend on the number of shards, and queries that end before they do.

use futures_lite::future::block_on;
use futures_lite::{FutureExt, future};
use model::Labels;

use crate::query::Error;
use crate::query::engine::{Answer, Engine, Options, Request, When};
use crate::query::merge::Local;
use crate::query::value::{SampleValue, Value};

/// 400 counters with resets, a value each 15 s for 20 minutes.
fn data(shard_count: usize) -> Local {
    let mut local = Local::new(shard_count);
    let mut x = 88_172_645_463_325_252_u64;
    let mut chance = move |n: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % n
    };
    for i in 0..400u64 {
        let labels = Labels::from_pairs([
            ("__name__", if i % 2 == 0 { "a_total" } else { "b_total" }),
            ("i", &(i / 2).to_string()),
            ("g", &format!("g{}", i % 5)),
        ]);
        let mut v = chance(1_000_000) as f64 / 7.0;
        for t in 0..80 {
            v = if chance(50) == 0 { chance(100) as f64 / 3.0 } else { v + chance(10_000) as f64 / 11.0 };
            local.owner(&labels).append_float(&labels, t * 15_000, 0, v).unwrap();
        }
    }
    local
}

fn ask(engine: &Engine, local: &Local, text: &str, when: When) -> Result<Answer, Error> {
    block_on(engine.run(Request::new(text, when), local))
}

/// An answer with every bit of it.
fn bits(value: &Value) -> String {
    let float = |v: f64| format!("{:016x}", v.to_bits());
    match value {
        Value::Scalar(t, v) => format!("{t} {}", float(*v)),
        Value::String(t, s) => format!("{t} {s}"),
        Value::Vector(elements) => elements
            .iter()
            .map(|e| match &e.value {
                SampleValue::Float(v) => format!("{} {}\n", e.labels, float(*v)),
                SampleValue::Histogram(h) => format!("{} {h}\n", e.labels),
            })
            .collect(),
        Value::Matrix(series) => series
            .iter()
            .map(|s| {
                let floats: Vec<String> =
                    s.floats.iter().map(|(t, v)| format!("{t}:{}", float(*v))).collect();
                format!("{} {}\n", s.labels, floats.join(" "))
            })
            .collect(),
    }
}

#[test]
fn the_number_of_shards_does_not_change_a_bit() {
    let engine = Engine::new(Options { language: promql::Options::ALL, ..Options::default() });
    let shards: Vec<Local> = [1, 2, 3, 7].into_iter().map(data).collect();
    let instant = When::Instant(1_000_000);
    let range = When::Range { start: 300_000, end: 1_200_000, step: 60_000 };
    for text in [
        "a_total",
        "sum(a_total)",
        "sum by (g) (rate(a_total[1m]))",
        "avg by (g) (a_total / 3)",
        "stddev by (g) (a_total)",
        "stdvar(rate({__name__=~\"a_total|b_total\"}[2m]))",
        "quantile by (g) (0.37, a_total)",
        "topk(3, a_total)",
        "bottomk by (g) (2, floor(a_total / 100000))",
        "limitk(5, a_total)",
        "limit_ratio(0.3, a_total)",
        "count_values(\"v\", floor(a_total / 100000))",
        "min by (g) (a_total) + on (g) max by (g) (b_total)",
        "a_total - on (i) group_left (g) b_total",
        "sum without (i) (a_total) or b_total",
        "max_over_time(sum by (g) (rate(a_total[1m]))[5m:30s])",
        "absent(nothing{g=\"x\"})",
        "count({__name__!=\"\"})",
        "sort_desc(sum by (g) (a_total))",
        "label_replace(a_total, \"g\", \"$1\", \"i\", \"(.).*\")",
    ] {
        for when in [instant, range] {
            let of = |l: &Local| {
                bits(&ask(&engine, l, text, when).unwrap_or_else(|e| panic!("{text}: {e}")).value)
            };
            let one = of(&shards[0]);
            assert!(!one.is_empty(), "{text}");
            for (l, n) in shards[1..].iter().zip([2, 3, 7]) {
                assert_eq!(one, of(l), "{text} on {n} shards");
            }
        }
    }
}

#[test]
fn names_dropped_at_once_collide_at_once() {
    let engine = Engine::new(Options::default());
    let mut local = Local::new(2);
    for name in ["x", "y"] {
        let labels = Labels::from_pairs([("__name__", name), ("l", "1")]);
        local.owner(&labels).append_float(&labels, 0, 0, 1.0).unwrap();
    }
    for text in [
        "abs({l=\"1\"})",
        "sum(abs({l=\"1\"}))",
        "rate({l=\"1\"}[1m]) or last_over_time({l=\"1\"}[1m]) * 2",
        "histogram_avg(-{l=\"1\"})",
        "absent(-{l=\"1\"})",
        "absent_over_time(abs({l=\"1\"})[1m:10s])",
        "{l=\"1\"} * 2 > 5",
    ] {
        let error = ask(&engine, &local, text, When::Instant(1000)).unwrap_err();
        assert_eq!(error.to_string(), "vector cannot contain metrics with the same labelset", "{text}");
    }
    let absent = ask(&engine, &local, "absent_over_time(({l=\"1\"})[1m:10s])", When::Instant(1000)).unwrap();
    assert_eq!(bits(&absent.value), "");
}

#[test]
fn a_query_that_may_not_go_on_says_why() {
    let local = data(2);
    let check = |options: Options, text: &str, when: When, expect: &str| {
        let error = ask(&Engine::new(options), &local, text, when).unwrap_err();
        assert_eq!(error.to_string(), expect, "{text}");
    };
    let small = Options { samples_max: 100, ..Options::default() };
    let now = When::Instant(600_000);
    let range = When::Range { start: 0, end: 600_000, step: 1000 };
    let too_many = "query processing would load too many samples into memory in query execution";
    check(small, "a_total", now, too_many);
    check(small, "vector(1)", range, too_many);
    check(small, "a_total{i=\"1\"}[1h:1s]", now, too_many);
    let frugal = Options { bytes_max: 10_000, ..Options::default() };
    let too_large = "query processing would use more than 10000 bytes of memory in query execution";
    check(frugal, "a_total", now, too_large);
    check(frugal, "vector(1)", When::Range { start: 0, end: 2_000_000, step: 1000 }, too_large);
    check(frugal, "sum by (i) (a_total)", range, too_large);
    check(frugal, "quantile(0.5, sum_over_time(a_total[10m]))", range, too_large);
    check(frugal, "a_total[10m]", now, too_large);
    assert!(ask(&Engine::new(frugal), &local, "sum(a_total)", now).is_ok());
    let root = "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    check(Options::default(), "a_total[5m]", range, root);
    let canceled = Request::new("sum(a_total)", now);
    canceled.token.cancel();
    let error = block_on(Engine::new(Options::default()).run(canceled, &local)).unwrap_err();
    assert_eq!(error, Error::Canceled("expression evaluation"));
}

#[test]
fn a_grid_of_very_many_steps_has_the_answers_of_its_parts() {
    let (local, engine) = (data(2), Engine::new(Options::default()));
    let points = |text: &str, start: i64, end: i64| {
        let answer = ask(&engine, &local, text, When::Range { start, end, step: 50 }).unwrap();
        let Value::Matrix(series) = answer.value else { panic!("{text} is no matrix") };
        let of_series = |s: crate::query::value::Series| {
            let labels = s.labels.to_string();
            s.floats.into_iter().map(move |(t, v)| (labels.clone(), t, v.to_bits()))
        };
        series.into_iter().flat_map(of_series).collect::<std::collections::BTreeSet<_>>()
    };
    for text in [
        "rate(a_total{i=~\"1|2\"}[1m]) * time() > 300",
        "sum by (g) (a_total{i=~\"1|2|3\"} offset 10m)",
        "quantile(time() % 2, b_total{i=~\"1|2|3\"})",
        "predict_linear(b_total{i=\"7\"}[1m], time())",
    ] {
        let whole = points(text, 0, 1_200_000);
        let parts: Vec<_> =
            (0..3).map(|i| points(text, i * 400_050, (i * 400_050 + 400_000).min(1_200_000))).collect();
        assert_eq!(whole, parts.into_iter().flatten().collect(), "{text}");
        assert!(whole.len() > 10_000, "{text}");
    }
}

#[test]
fn a_query_waits_for_its_turn_and_may_be_ended_while_it_waits() {
    let engine = Engine::new(Options { concurrent_max: 0, ..Options::default() });
    let local = Local::new(1);
    let run = engine.run(Request::new("1", When::Instant(0)), &local);
    let end = async {
        future::yield_now().await;
        let listed = engine.list();
        assert!(listed.len() == 1 && listed[0].is_waiting);
        assert!(engine.cancel(listed[0].id) && !engine.cancel(99));
        future::pending().await
    };
    let result = block_on(run.or(end));
    assert_eq!(result.unwrap_err(), Error::Canceled("query queue"));
    assert!(engine.list().is_empty());
}

#[test]
fn notes_stand_where_and_when_prometheus_has_them() {
    let mut local = Local::new(2);
    let gauge = Labels::from_pairs([("__name__", "gauge")]);
    for t in 0..4 {
        local.owner(&gauge).append_float(&gauge, t * 15_000, 0, t as f64).unwrap();
    }
    let engine = Engine::new(Options { language: promql::Options::ALL, ..Options::default() });
    let notes = |text: &str| {
        let answer = ask(&engine, &local, text, When::Instant(45_000)).unwrap();
        let texts = answer.notes.texts(text, 10);
        texts.warnings.into_iter().chain(texts.infos).collect::<Vec<_>>()
    };
    let counter = |place: &str| {
        let name = "name does not end in _total/_sum/_count/_bucket: \"gauge\"";
        vec![format!("PromQL info: metric might not be a counter, {name} ({place})")]
    };
    let quantile = |place: &str| {
        vec![format!("PromQL warning: quantile value should be between 0 and 1, got 2 ({place})")]
    };
    for (text, wanted) in [
        ("rate(gauge[1m])", counter("1:6")),
        // One sample is no rate, and nothing is judged that has none.
        ("rate(gauge[15s])", vec![]),
        ("rate(gauge[1m:15s])", counter("1:1")),
        // None is chosen, but they are looked at.
        ("limitk(0, rate(gauge[1m]))", counter("1:16")),
        ("quantile(2, gauge) + quantile(2, gauge)", quantile("1:31")),
        ("quantile(2, quantile_over_time(2, gauge[1m]))", quantile("1:10")),
    ] {
        assert_eq!(notes(text), wanted, "{text}");
    }
}

#[test]
fn odd_answers_are_prometheus_s() {
    let engine = Engine::new(Options { language: promql::Options::ALL, ..Options::default() });
    let mut local = Local::new(2);
    for (i, v) in [1e300, -1e300, 5.0].into_iter().enumerate() {
        let labels = Labels::from_pairs([("__name__", "x"), ("i", &i.to_string())]);
        local.owner(&labels).append_float(&labels, 0, 0, v).unwrap();
    }
    for (text, expect) in [
        ("stdvar(x)", "{} 7ff0000000000000\n"),
        ("stddev(x{i=\"2\"})", "{} 0000000000000000\n"),
        ("absent(y{a!=\"1\",a=\"1\",b=~\"1.*\",b=\"1\",c=\"\"})", "{b=\"1\"} 3ff0000000000000\n"),
    ] {
        let answer = ask(&engine, &local, text, When::Instant(1000)).unwrap();
        assert_eq!(bits(&answer.value), expect, "{text}");
    }
    let error = ask(&engine, &local, "double_exponential_smoothing(x[5m], -Inf, 0.5)", When::Instant(1000));
    let expect = "invalid smoothing factor. Expected: 0 < sf < 1, got: -Inf";
    assert_eq!(error.unwrap_err().to_string(), expect);
}

#[test]
fn of_several_culprits_the_first_in_time_is_named() {
    let engine = Engine::new(Options::default());
    let mut local = Local::new(3);
    for (i, (g, t)) in [("a", 60_000), ("a", 60_000), ("b", 0), ("b", 0)].into_iter().enumerate() {
        let labels = Labels::from_pairs([("__name__", "x"), ("g", g), ("i", &i.to_string())]);
        local.owner(&labels).append_float(&labels, t, 0, 1.0).unwrap();
    }
    let range = When::Range { start: 0, end: 120_000, step: 60_000 };
    let error = ask(&engine, &local, "x / on (g) x", range).unwrap_err().to_string();
    assert!(
        error.starts_with("found duplicate series for the match group {g=\"b\"} on the right"),
        "{error}"
    );
}

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    let engine = Engine::new(Options::default());
    let local = data(3);
    let range = When::Range { start: 600_000, end: 630_000, step: 15_000 };
    let check = |text: &str, seen: &[u64], read: &[u64]| {
        let request = Request { counts_steps: true, ..Request::new(text, range) };
        let load = block_on(engine.run(request, &local)).unwrap().statistics.load;
        let (s, r): (Vec<u64>, Vec<u64>) = load.by_step.iter().copied().unzip();
        assert_eq!((s.as_slice(), r.as_slice()), (seen, read), "{text}");
        assert_eq!((load.seen, load.read), (seen.iter().sum(), read.iter().sum()), "{text}");
    };
    check("a_total{i=\"1\"}", &[1, 1, 1], &[1, 1, 1]);
    check("sum(rate(a_total{i=~\"1|2\"}[1m]))", &[8, 8, 8], &[8, 2, 2]);
    check("quantile_over_time(0.5, a_total{i=\"1\"}[1m])", &[4, 4, 4], &[4, 1, 1]);
    check("a_total{i=\"1\"} @ 60", &[1, 1, 1], &[1, 0, 0]);
    check("max_over_time(a_total{i=\"1\"}[1m:30s])", &[2, 2, 2], &[4, 0, 2]);
    check("time()", &[0, 0, 0], &[0, 0, 0]);
}

#[test]
fn info_metrics_that_cannot_be_told_apart_are_an_error_even_where_no_series_is_of_their_job() {
    let mut local = Local::new(2);
    for (name, job, zone) in
        [("m", "", "a"), ("build_info", "x", "a"), ("build_info", "x", "b"), ("n", "", "")]
    {
        let instance = if zone.is_empty() { "" } else { "i" };
        let pairs = [("__name__", name), ("job", job), ("zone", zone), ("instance", instance)];
        let labels = Labels::from_pairs(pairs);
        local.owner(&labels).append_float(&labels, 0, 0, 1.0).unwrap();
    }
    let options = Options { language: promql::Options::ALL, ..Options::default() };
    let engine = Engine::new(options);
    let check = |text: &str, error: Option<&str>| {
        let found = ask(&engine, &local, text, When::Instant(0)).err().map(|e| e.to_string());
        assert_eq!(found.as_deref().map(|e| e.split(':').next().unwrap_or(e)), error, "{text}");
    };
    check(r#"info(m, {__name__="build_info"})"#, Some("found duplicate series for info metric"));
    check(r#"info(m, {__name__="build_info", zone="a"})"#, None);
    check(r#"info(m @ 1 - 1, {__name__="nothing_info"})"#, None);
    check(r#"info(n, {__name__="build_info"})"#, None);
}

#[test]
fn a_changed_sign_and_changed_labels_unite_series_that_take_turns() {
    let mut local = Local::new(2);
    for (name, time) in [("a", 0), ("b", 600_000)] {
        let labels = Labels::from_pairs([("__name__", name), ("i", "1"), ("j", name)]);
        local.owner(&labels).append_float(&labels, time, 0, 1.0).unwrap();
    }
    let engine = Engine::new(Options::default());
    let when = When::Range { start: 0, end: 600_000, step: 600_000 };
    for text in [
        r#"label_replace(-{i="1"}, "j", "", "", "")"#,
        r#"-label_replace({i="1"}, "j", "", "", "")"#,
        r#"label_join(-{i="1"}, "j", "", "k")"#,
    ] {
        match ask(&engine, &local, text, when) {
            Ok(Answer { value: Value::Matrix(m), .. }) => {
                assert_eq!((m.len(), m[0].floats.len()), (1, 2), "{text}")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}
