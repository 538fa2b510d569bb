//! The goals: what each figure shall be beside the others and on the reference machine, and whether a report reaches it.
//!
//! In: a report. Out: one line a goal: reached, missed by how much, or not measured. Invariant: a ratio is of two
//! figures of one report, never of one and a remembered other. Never: leaves a goal out because it was missed.

use serde_json::{Value, json};

use crate::report::figure;

/// One goal: where its figure is, and its bounds. Smaller is better, but for rates.
struct Goal {
    title: &'static str,
    workload: &'static str,
    /// A pointer into a run, or `query ID FIELD`.
    figure: &'static str,
    /// Largest part of Prometheus's and of VictoriaMetrics's figure; a rate's is the smallest multiple.
    prometheus: Option<f64>,
    victoriametrics: Option<f64>,
    /// Bound of the figure itself on the reference machine (2 vCPUs), in the figure's unit.
    here: Option<f64>,
    unit: &'static str,
    is_rate: bool,
}

const fn goal(
    title: &'static str,
    workload: &'static str,
    figure: &'static str,
    ratios: (Option<f64>, Option<f64>),
    here: Option<f64>,
    unit: &'static str,
) -> Goal {
    Goal {
        title,
        workload,
        figure,
        prometheus: ratios.0,
        victoriametrics: ratios.1,
        here,
        unit,
        is_rate: false,
    }
}

const fn part(n: f64) -> Option<f64> {
    Some(1.0 / n)
}

/// Goals and workloads that no run of the load generator shows.
pub const ELSEWHERE: &str = "A power cut (O4) is not made here: `cargo test crash_tests` cuts it after every single \
operation on the disk and finds nothing lost that was acknowledged. Ten million series (S1 10 M) and two hours of \
samples (O2 2 h) are runs of their own, see docs/performance.md; `join` puts them into one report. Rules (R1) are not \
measured: the server has none yet.";

const GOALS: [Goal; 26] = [
    goal(
        "scrape, CPU a sample, every 15 s",
        "S1",
        "/scrape/cpu_us_per_sample",
        (part(15.0), part(20.0)),
        Some(0.20),
        "us",
    ),
    goal(
        "scrape, CPU a sample, every second",
        "S1 every second",
        "/scrape/cpu_us_per_sample",
        (part(18.0), part(25.0)),
        Some(0.10),
        "us",
    ),
    Goal {
        is_rate: true,
        ..goal(
            "samples scraped a second, none missed",
            "S1 most",
            "/most/samples_per_second",
            (Some(8.0), Some(10.0)),
            Some(8e6),
            "a second",
        )
    },
    goal(
        "remote write, CPU a sample, known series",
        "W1",
        "/write/cpu_us_per_sample",
        (part(35.0), part(9.0)),
        Some(0.20),
        "us",
    ),
    Goal {
        is_rate: true,
        ..goal(
            "remote write, samples acknowledged",
            "W1",
            "/write/samples_per_second",
            (None, None),
            Some(5e6),
            "a second",
        )
    },
    goal(
        "new series, CPU a series",
        "W2",
        "/write/cpu_us_per_sample",
        (part(5.0), part(12.0)),
        Some(3.0),
        "us",
    ),
    goal(
        "memory a series, few samples each",
        "S1",
        "/scrape/rss_bytes_per_series",
        (part(6.0), part(2.0)),
        Some(250.0),
        "B",
    ),
    goal(
        "memory a series, two hours at 15 s",
        "O2 2 h",
        "/history/peak_bytes_per_series",
        (part(6.0), part(2.0)),
        Some(600.0),
        "B",
    ),
    goal(
        "memory a series, 10 M series",
        "S1 10 M",
        "/scrape/rss_bytes_per_series",
        (part(6.0), part(2.0)),
        Some(644.0),
        "B",
    ),
    goal(
        "disk a sample, node_exporter, 24 h",
        "O2",
        "/history/bytes_per_sample",
        (part(3.0), Some(0.9)),
        Some(0.5),
        "B",
    ),
    goal(
        "i1, rates by mode over all hosts",
        "S1",
        "query i1 cpu_ms",
        (part(100.0), part(200.0)),
        Some(25.0),
        "CPU-ms",
    ),
    goal(
        "i3, count of all series",
        "S1",
        "query i3 cpu_ms",
        (part(130.0), part(250.0)),
        Some(20.0),
        "CPU-ms",
    ),
    goal("r1, i1 over a range", "S1", "query r1 cpu_ms", (part(60.0), part(40.0)), None, "CPU-ms"),
    goal("r3, means by rack over a range", "S1", "query r3 cpu_ms", (part(60.0), part(40.0)), None, "CPU-ms"),
    goal(
        "dashboard refresh, whole, p95",
        "S1",
        "/dashboard/whole_ms/p95",
        (part(5.0), part(2.0)),
        Some(500.0),
        "ms",
    ),
    goal(
        "kill -9 to first scrape",
        "S1",
        "/restart/first_scrape_seconds",
        (part(100.0), Some(1.0)),
        Some(0.3),
        "s",
    ),
    goal("kill -9 to ready", "S1", "/restart/ready_seconds", (part(100.0), Some(1.0)), Some(2.0), "s"),
    goal(
        "kill -9 to first scrape, 10 M series",
        "S1 10 M",
        "/restart/first_scrape_seconds",
        (part(100.0), Some(1.0)),
        Some(0.3),
        "s",
    ),
    goal(
        "kill -9 to ready, 10 M series",
        "S1 10 M",
        "/restart/ready_seconds",
        (part(100.0), Some(1.0)),
        Some(2.0),
        "s",
    ),
    goal("scrapes lost at kill -9", "S1", "/restart/scrapes_lost", (None, None), Some(0.0), ""),
    goal(
        "acknowledgement at a fixed rate, p99.9",
        "W3",
        "/write/ack_ms/p999",
        (None, None),
        Some(10.0),
        "ms",
    ),
    goal(
        "longest append stall at a fixed rate",
        "W3",
        "/write/ack_ms/max",
        (part(50.0), part(50.0)),
        Some(50.0),
        "ms",
    ),
    goal(
        "acknowledgement with a day's compaction, p99.9",
        "O2",
        "/history/ack_ms/p999",
        (None, None),
        Some(10.0),
        "ms",
    ),
    goal(
        "longest append stall with a day's compaction",
        "O2",
        "/history/ack_ms/max",
        (part(50.0), part(50.0)),
        Some(50.0),
        "ms",
    ),
    goal(
        "ingest p99 beside a wide query, to without",
        "Q5",
        "/write/beside_ratio",
        (None, None),
        Some(1.2),
        "x",
    ),
    // Never measured here: see [`ELSEWHERE`].
    goal("acknowledged samples lost at a power cut", "O4", "/power_cut/lost", (None, None), Some(0.0), ""),
];

/// A figure of a system, the median over rounds.
fn find(report: &Value, workload: &str, system: &str, at: &str) -> Option<f64> {
    let Some(query) = at.strip_prefix("query ") else { return figure(report, workload, system, at) };
    let (id, field) = query.split_once(' ')?;
    let runs = report["runs"].as_array()?.iter();
    let of = runs.filter(|r| r["workload"] == workload && r["system"] == system);
    let queries = of.filter_map(|r| r["queries"].as_array()?.iter().find(|q| q["id"] == id));
    let mut all: Vec<f64> = queries.filter_map(|q| q[field].as_f64()).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// How far a figure is from its bound: reached, or the factor that lacks.
fn judge(value: f64, bound: f64, is_rate: bool) -> String {
    let over = if is_rate { bound / value.max(1e-12) } else { value / bound.max(1e-12) };
    match over {
        _ if (is_rate && value >= bound) || (!is_rate && value <= bound) => "reached".into(),
        _ if bound == 0.0 => format!("missed: {value}, not 0"),
        over => format!("missed by {over:.2}x"),
    }
}

/// Every goal with its verdicts.
pub fn verdicts(report: &Value) -> Vec<Value> {
    GOALS
        .iter()
        .map(|g| {
            let of = |system: &str| find(report, g.workload, system, g.figure);
            let ours = of("ours");
            let beside = |system: &str, part: Option<f64>| match (ours, of(system), part) {
                (_, _, None) => String::new(),
                // A peer's figure of nothing bounds nothing.
                (Some(ours), Some(theirs), Some(part)) if theirs > 0.0 => {
                    judge(ours, theirs * part, g.is_rate)
                }
                _ => "not measured".into(),
            };
            let here = match (ours, g.here) {
                (_, None) => String::new(),
                (Some(ours), Some(bound)) => judge(ours, bound, g.is_rate),
                _ if g.workload == "O4" => "by crash tests".into(),
                _ => "not measured".into(),
            };
            json!({
                "goal": g.title, "workload": g.workload, "ours": ours, "unit": g.unit, "bound": g.here,
                "prometheus": beside("prometheus", g.prometheus),
                "victoriametrics": beside("victoriametrics", g.victoriametrics),
                "here": here,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_reached_or_missed_by_a_factor() {
        let check = |value, bound, is_rate, expect: &str| {
            assert_eq!(judge(value, bound, is_rate), expect, "{value} {bound}");
        };
        check(0.2, 0.2, false, "reached");
        check(0.3, 0.2, false, "missed by 1.50x");
        check(5e6, 5e6, true, "reached");
        check(2.5e6, 5e6, true, "missed by 2.00x");
        check(0.0, 0.0, false, "reached");
        check(3.0, 0.0, false, "missed: 3, not 0");
    }

    #[test]
    fn every_goal_has_a_line_and_ratios_are_of_one_report() {
        let run = |system, cpu, i1| {
            json!({"workload": "S1", "system": system, "scrape": {"cpu_us_per_sample": cpu},
                   "queries": [{"id": "i1", "cpu_ms": i1}]})
        };
        let report = json!({"runs": [run("ours", 0.3, 10.0), run("prometheus", 3.0, 2000.0)]});
        let all = verdicts(&report);
        assert_eq!(all.len(), GOALS.len());
        let first = &all[0];
        assert_eq!(first["prometheus"], "missed by 1.50x");
        assert_eq!(
            (&first["victoriametrics"], &first["here"]),
            (&json!("not measured"), &json!("missed by 1.50x"))
        );
        let i1 = all.iter().find(|v| v["goal"].as_str().is_some_and(|g| g.starts_with("i1")));
        assert_eq!(
            i1.map(|v| (v["prometheus"].clone(), v["here"].clone())),
            Some((json!("reached"), json!("reached")))
        );
    }
}
