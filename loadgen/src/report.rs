//! The report of a run: a table for the terminal, JSON for later, the comparison of two of them.
//!
//! In: runs as JSON. Out: text. Invariant: every figure in the table is a figure of the JSON, or the median over
//! rounds of it. Never: measures.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Context, Error};
use crate::{clock, goals, process};

/// One line of the table: a title, where the figure is in a run, how it is shown.
struct Row {
    title: &'static str,
    pointer: &'static str,
    scale: f64,
    digits: usize,
    /// Ratios between systems make sense for it.
    ratio: bool,
}

const fn row(title: &'static str, pointer: &'static str, scale: f64, digits: usize, ratio: bool) -> Row {
    Row { title, pointer, scale, digits, ratio }
}

const ROWS: &[Row] = &[
    row("samples/s", "/scrape/samples_per_second", 1.0, 0, false),
    row("CPU us/sample", "/scrape/cpu_us_per_sample", 1.0, 3, true),
    row("cores", "/scrape/cores", 1.0, 3, true),
    row("RSS MB", "/scrape/rss_bytes", 1e-6, 0, true),
    row("peak RSS MB", "/scrape/peak_bytes", 1e-6, 0, true),
    row("RSS B/series", "/scrape/rss_bytes_per_series", 1.0, 0, true),
    row("CPU s until steady", "/first_cpu_seconds", 1.0, 2, true),
    row("disk MB", "/scrape/disk_bytes", 1e-6, 1, true),
    row("written B/sample", "/scrape/written_bytes_per_sample", 1.0, 3, true),
    row("scrapes expected", "/scrape/scrapes_expected", 1.0, 0, false),
    row("scrapes missed", "/scrape/scrapes_missed", 1.0, 0, false),
    row("scrapes cut off", "/scrape/scrapes_aborted", 1.0, 0, false),
    row("up: count", "/up/count", 1.0, 0, false),
    row("up: sum", "/up/sum", 1.0, 0, false),
    row("longest turn ms", "/turns/longest_ms", 1.0, 2, true),
    row("longest scrape s", "/up/longest_scrape_seconds", 1.0, 3, true),
    row("raw samples compared", "/oracle/compared", 1.0, 0, false),
    row("raw samples wrong", "/oracle/wrong", 1.0, 0, false),
    row("raw samples missing", "/oracle/missing", 1.0, 0, false),
    row("pages shown, not stored", "/oracle/lost", 1.0, 0, false),
    row("last digit differs", "/oracle/inexact", 1.0, 0, false),
    row("sender us/sample", "/scrape/sender_us_per_sample", 1.0, 4, false),
    row("sender cores", "/scrape/sender_cores", 1.0, 3, false),
    row("restart: first scrape s", "/restart/first_scrape_seconds", 1.0, 2, true),
    row("restart: ready s", "/restart/ready_seconds", 1.0, 2, true),
    row("restart: all series s", "/restart/all_series_seconds", 1.0, 2, true),
    row("restart: CPU s", "/restart/cpu_seconds", 1.0, 2, true),
    row("restart: peak RSS MB", "/restart/peak_bytes", 1e-6, 0, true),
    row("restart: scrapes lost", "/restart/scrapes_lost", 1.0, 0, false),
    row("written samples/s", "/write/samples_per_second", 1.0, 0, true),
    row("write CPU us/sample", "/write/cpu_us_per_sample", 1.0, 3, true),
    row("write cores", "/write/cores", 1.0, 3, true),
    row("ack p50 ms", "/write/ack_ms/p50", 1.0, 2, true),
    row("ack p99 ms", "/write/ack_ms/p99", 1.0, 2, true),
    row("ack p99.9 ms", "/write/ack_ms/p999", 1.0, 2, true),
    row("ack max ms", "/write/ack_ms/max", 1.0, 2, true),
    row("device alone: max ms", "/device_ms/max", 1.0, 2, false),
    row("writes refused", "/write/refused", 1.0, 0, false),
    row("write RSS MB", "/write/rss_bytes", 1e-6, 0, true),
    row("write RSS B/series", "/write/rss_bytes_per_series", 1.0, 0, true),
    row("write disk MB", "/write/disk_bytes", 1e-6, 1, true),
    row("write series found", "/write/series_found", 1.0, 0, false),
    row("write series expected", "/write/series_expected", 1.0, 0, false),
    row("write last values sum", "/write/sum_error", 1.0, 9, false),
    row("ack p99 beside a query ms", "/write/ack_beside_ms/p99", 1.0, 2, true),
    row("that to without", "/write/beside_ratio", 1.0, 2, false),
    row("most samples/s, none missed", "/most/samples_per_second", 1.0, 0, true),
    row("a day: seconds of writing", "/history/seconds", 1.0, 1, true),
    row("a day: times real time", "/history/speed", 1.0, 0, true),
    row("a day: CPU us/sample", "/history/cpu_us_per_sample", 1.0, 3, true),
    row("a day: ack p99.9 ms", "/history/ack_ms/p999", 1.0, 2, true),
    row("a day: ack max ms", "/history/ack_ms/max", 1.0, 2, true),
    row("a day: disk B/sample", "/history/bytes_per_sample", 1.0, 3, true),
    row("a day: with log B/sample", "/history/bytes_per_sample_with_log", 1.0, 3, true),
    row("a day: written MB", "/history/written_bytes", 1e-6, 1, true),
    row("a day: written / kept", "/history/write_amplification", 1.0, 2, true),
    row("a day: peak RSS MB", "/history/peak_bytes", 1e-6, 0, true),
    row("a day: peak RSS B/series", "/history/peak_bytes_per_series", 1.0, 0, true),
    row("ceiling: series taken", "/ceiling/series", 1.0, 0, true),
    row("ceiling: memory B/series", "/ceiling/bytes_per_series", 1.0, 0, true),
    row("ceiling: series found", "/ceiling/series_found", 1.0, 0, false),
    row("questions asked", "/mix/asked", 1.0, 0, false),
    row("questions failed", "/mix/failed", 1.0, 0, false),
    row("questions given up", "/mix/behind", 1.0, 0, false),
    row("answers compared", "/answers/compared", 1.0, 0, false),
    row("answers wrong", "/answers/wrong", 1.0, 0, false),
    row("load CPU s", "/load/cpu_seconds", 1.0, 2, true),
    row("load seconds", "/load/seconds", 1.0, 2, true),
    row("question CPU ms", "/mix/cpu_ms_per_query", 1.0, 2, true),
    row("question p50 ms", "/mix/ms/p50", 1.0, 2, true),
    row("question p99 ms", "/mix/ms/p99", 1.0, 2, true),
    row("question max ms", "/mix/ms/max", 1.0, 2, true),
    row("panels asked", "/dashboard/asked", 1.0, 0, false),
    row("panels failed", "/dashboard/failed", 1.0, 0, false),
    row("panels given up", "/dashboard/behind", 1.0, 0, false),
    row("panel CPU ms", "/dashboard/cpu_ms_per_query", 1.0, 2, true),
    row("panel p99 ms", "/dashboard/ms/p99", 1.0, 2, true),
    row("dashboard p95 ms", "/dashboard/whole_ms/p95", 1.0, 1, true),
    row("label look-up p50 ms", "/labels/ms/p50", 1.0, 2, true),
    row("label look-up p99 ms", "/labels/ms/p99", 1.0, 2, true),
    row("write sender us/sample", "/write/sender_us_per_sample", 1.0, 4, false),
];

/// Wraps runs into a report: what, when, where.
pub fn wrap(command: &[String], runs: Vec<Value>) -> Value {
    let mut report = json!({
        "tool": concat!("systole-loadgen ", env!("CARGO_PKG_VERSION")),
        "command": command.join(" "),
        "unix_seconds": clock::unix_us() / 1_000_000,
        "machine": process::machine(),
        "runs": runs,
    });
    report["goals"] = json!(goals::verdicts(&report));
    report
}

/// Several reports as one: the first one's machine, the runs of all, and the goals judged anew. Where two have a
/// workload of a system, the later one's runs count.
pub fn join(reports: &[Value]) -> Value {
    let mut joined = reports.first().cloned().unwrap_or_default();
    let is_same = |a: &Value, b: &Value| a["workload"] == b["workload"] && a["system"] == b["system"];
    let (mut kept, mut order): (Vec<Value>, Vec<String>) = Default::default();
    for report in reports {
        kept.retain(|run| !runs(report).any(|later| is_same(run, later)));
        kept.extend(runs(report).cloned());
        order.extend(workloads(report));
    }
    kept.sort_by_key(|run| order.iter().position(|workload| run["workload"] == **workload));
    joined["runs"] = Value::Array(kept);
    let commands: Vec<&str> = reports.iter().filter_map(|r| r["command"].as_str()).collect();
    joined["command"] = json!(commands.join("; "));
    joined["goals"] = json!(goals::verdicts(&joined));
    joined
}

/// What was measured where, a line each: the machine, then each system's version and flags.
fn header(report: &Value) -> String {
    let machine = &report["machine"];
    let text = |v: &Value| v.as_str().unwrap_or("").to_string();
    let mut out = format!(
        "{}, {} CPUs, {:.0} GiB, kernel {}, {}\n",
        text(&machine["cpu"]),
        machine["cpus"],
        machine["memory_bytes"].as_f64().unwrap_or(0.0) / (1u64 << 30) as f64,
        text(&machine["kernel"]),
        text(&report["tool"])
    );
    for name in tables_systems(report) {
        let Some(run) = runs(report).find(|r| r["system"] == name.as_str()) else { continue };
        let flags: Vec<&str> =
            run["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let _ = writeln!(out, "{name}: {}: {}", text(&run["version"]), flags.join(" "));
    }
    for run in runs(report).filter(|r| r["ceiling"].is_object()) {
        let (outcome, what) = (text(&run["ceiling"]["outcome"]), text(&run["ceiling"]["what"]));
        let _ = writeln!(out, "O3 {}: {outcome}: {what}", text(&run["system"]));
    }
    out
}

/// Systems of one workload, in order of appearance.
fn columns(report: &Value, workload: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for run in runs(report).filter(|r| r["workload"] == workload) {
        let name = run["system"].as_str().unwrap_or("").to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn runs(report: &Value) -> impl Iterator<Item = &Value> {
    report["runs"].as_array().into_iter().flatten()
}

pub fn workloads(report: &Value) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for run in runs(report) {
        let name = run["workload"].as_str().unwrap_or("").to_string();
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// All systems of a report, in order of appearance.
pub fn tables_systems(report: &Value) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in runs(report).filter_map(|r| r["system"].as_str()).filter(|n| *n != "none") {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_string());
        }
    }
    names
}

/// The goals as lines: what, ours, beside Prometheus, beside VictoriaMetrics, on this machine.
pub fn goal_lines(report: &Value) -> Vec<[String; 5]> {
    let line = |g: &Value| {
        let text = |field: &str| g[field].as_str().unwrap_or("").to_string();
        let ours = g["ours"].as_f64().map_or("-".into(), |v| format!("{v:.3} {}", text("unit")));
        [text("goal"), ours, text("prometheus"), text("victoriametrics"), text("here")]
    };
    report["goals"].as_array().into_iter().flatten().map(line).collect()
}

/// Whether goals are judged: of the whole set only, as the sizes of a smaller one are not those that goals speak of.
pub fn judges_goals(report: &Value) -> bool {
    runs(report).any(|r| r["workload"] == "W2")
}

/// The median over rounds of a figure.
pub fn figure(report: &Value, workload: &str, system: &str, pointer: &str) -> Option<f64> {
    let of = runs(report).filter(|r| r["workload"] == workload && r["system"] == system);
    let mut all: Vec<f64> = of.filter_map(|r| r.pointer(pointer)?.as_f64()).collect();
    all.sort_by(f64::total_cmp);
    // Of an even number the upper one: the report must not flatter.
    all.get(all.len() / 2).copied()
}

fn cell(value: f64, scale: f64, digits: usize) -> String {
    format!("{:.digits$}", value * scale)
}

/// One table: titles down, systems across, then each system's ratio to the first one.
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<String>)>,
}

pub fn tables(report: &Value) -> Vec<Table> {
    let mut tables = Vec::new();
    for workload in workloads(report) {
        let names = columns(report, &workload);
        let mut columns = names.clone();
        columns.extend(names.iter().skip(1).map(|n| format!("{n} / {}", names[0])));
        let mut rows = Vec::new();
        for r in ROWS {
            let values: Vec<Option<f64>> =
                names.iter().map(|n| figure(report, &workload, n, r.pointer)).collect();
            if values.iter().any(Option::is_some) {
                rows.push((r.title.to_string(), cells(&values, r.scale, r.digits, r.ratio)));
            }
        }
        tables.push(Table { title: workload.clone(), columns: columns.clone(), rows });
        tables.extend(query_table(report, &workload, &names, columns));
    }
    tables
}

fn cells(values: &[Option<f64>], scale: f64, digits: usize, ratio: bool) -> Vec<String> {
    let mut cells: Vec<String> =
        values.iter().map(|v| v.map_or("-".into(), |v| cell(v, scale, digits))).collect();
    cells.extend(values.iter().skip(1).map(|v| match (v, values[0]) {
        (Some(v), Some(base)) if ratio && base > 0.0 => format!("{:.2}x", v / base),
        _ => String::new(),
    }));
    cells
}

fn query_table(report: &Value, workload: &str, names: &[String], columns: Vec<String>) -> Option<Table> {
    let of = |name: &str| runs(report).find(|r| r["workload"] == workload && r["system"] == name);
    let ids: Vec<&str> =
        of(names.first()?)?["queries"].as_array()?.iter().filter_map(|q| q["id"].as_str()).collect();
    let mut rows = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        for (title, field, digits) in [("wall ms", "wall_ms_p50", 2), ("CPU ms", "cpu_ms", 2)] {
            let at = format!("/queries/{i}/{field}");
            let values: Vec<Option<f64>> = names.iter().map(|n| figure(report, workload, n, &at)).collect();
            rows.push((format!("{id} {title}"), cells(&values, 1.0, digits, true)));
        }
        let verdict = |n: &String| match of(n).map(|r| &r["queries"][i]) {
            Some(q) if q["equal"] == true => {
                format!("true, {:.0e}", q["largest_relative_error"].as_f64().unwrap_or(0.0))
            }
            Some(q) if q["error"].is_string() => "FAILED".into(),
            Some(q) => format!("WRONG ({})", q["largest_relative_error"]),
            None => "-".into(),
        };
        rows.push((format!("{id} answer"), names.iter().map(verdict).collect()));
    }
    Some(Table { title: format!("{workload}, queries Q1"), columns, rows })
}

/// The report as the terminal shows it.
pub fn text(report: &Value) -> String {
    let mut out = header(report);
    for table in tables(report) {
        let _ = writeln!(out, "\n{}", table.title);
        let _ = write!(out, "{:<26}", "");
        for c in &table.columns {
            let _ = write!(out, " {c:>18}");
        }
        out.push('\n');
        for (title, cells) in &table.rows {
            let _ = write!(out, "{title:<26}");
            for c in cells {
                let _ = write!(out, " {c:>18}");
            }
            out.push('\n');
        }
    }
    if judges_goals(report) {
        let titles =
            ["goal", "ours", "beside Prometheus", "beside VictoriaMetrics", "here"].map(String::from);
        out.push('\n');
        for [goal, ours, prometheus, victoria, here] in std::iter::once(titles).chain(goal_lines(report)) {
            let _ = writeln!(out, "{goal:<44} {ours:>18} {prometheus:>18} {victoria:>22} {here:>18}");
        }
        let _ = writeln!(out, "{}", goals::ELSEWHERE);
    }
    for complaint in complaints(report) {
        let _ = writeln!(out, "NOT EQUAL: {complaint}");
    }
    out
}

/// What must not be: wrong or missing samples, wrong answers. Empty is what a release wants.
pub fn complaints(report: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for run in runs(report) {
        let who =
            format!("{} {}", run["workload"].as_str().unwrap_or(""), run["system"].as_str().unwrap_or(""));
        for (field, what) in [("wrong", "raw samples with another value"), ("missing", "raw samples missing")]
        {
            let n = run["oracle"][field].as_u64().unwrap_or(0);
            if n > 0 {
                let example = run["oracle"]["examples"][0].as_str().unwrap_or("");
                all.push(format!("{who}: {n} {what}, for instance {example}"));
            }
        }
        for q in run["queries"].as_array().into_iter().flatten().filter(|q| q["equal"] != true) {
            let why = q["error"].as_str().unwrap_or("not the truth");
            all.push(format!("{who}: {}: {why}", q["id"].as_str().unwrap_or("")));
        }
        for (what, at) in [("dashboard", "/dashboard/wrong"), ("labels", "/labels/wrong")] {
            let wrong = run.pointer(at).and_then(Value::as_array).into_iter().flatten();
            all.extend(wrong.filter_map(Value::as_str).map(|w| format!("{who}: {what}: {w}")));
        }
        for c in run["complaints"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            all.push(format!("{who}: {c}"));
        }
    }
    all
}

pub fn read(path: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(path).context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| Error::File { path: path.to_path_buf(), what: e.to_string() })
}

pub fn write(path: &Path, report: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(report).unwrap_or_default();
    std::fs::write(path, text + "\n").context(|| path.display().to_string())
}

/// Two reports side by side: old, new, and the change, for every figure both have.
pub fn compare(old: &Value, new: &Value) -> String {
    let mut out = String::new();
    for workload in workloads(new) {
        for system in columns(new, &workload) {
            let mut lines = Vec::new();
            for r in ROWS.iter().filter(|r| r.ratio) {
                let get = |report| figure(report, &workload, &system, r.pointer);
                lines.extend(change(r.title, get(old), get(new), r.scale, r.digits));
            }
            let of = |report: &Value| query_figures(report, &workload, &system);
            let before = of(old);
            for (title, value) in of(new) {
                let was = before.iter().find(|(t, _)| *t == title).map(|(_, v)| *v);
                lines.extend(change(&title, was, Some(value), 1.0, 1));
            }
            if !lines.is_empty() {
                let _ = writeln!(out, "\n{workload} {system}\n{}", lines.join("\n"));
            }
        }
    }
    out
}

fn query_figures(report: &Value, workload: &str, system: &str) -> Vec<(String, f64)> {
    let run = runs(report).find(|r| r["workload"] == workload && r["system"] == system);
    let queries = run.and_then(|r| r["queries"].as_array()).into_iter().flatten();
    let figures =
        queries.filter_map(|q| Some((format!("{} CPU ms", q["id"].as_str()?), q["cpu_ms"].as_f64()?)));
    figures.collect()
}

fn change(title: &str, old: Option<f64>, new: Option<f64>, scale: f64, digits: usize) -> Option<String> {
    let (old, new) = (old?, new?);
    let percent = if old == 0.0 { String::new() } else { format!("{:+.1} %", (new / old - 1.0) * 100.0) };
    Some(format!(
        "{title:<26} {:>14} {:>14} {percent:>10}",
        cell(old, scale, digits),
        cell(new, scale, digits)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cpu: &[f64]) -> Value {
        let run = |c: &f64| {
            json!({"workload": "S1", "system": "prometheus", "scrape": {"cpu_us_per_sample": c},
            "queries": [{"id": "i1", "cpu_ms": 10.0 * c, "wall_ms_p50": 1.0, "equal": true, "largest_relative_error": 0.0}]})
        };
        json!({"runs": cpu.iter().map(run).collect::<Vec<_>>()})
    }

    #[test]
    fn figures_are_medians_over_rounds() {
        assert_eq!(
            figure(&report(&[3.0, 1.0, 2.0]), "S1", "prometheus", "/scrape/cpu_us_per_sample"),
            Some(2.0)
        );
        assert_eq!(figure(&report(&[3.0, 1.0]), "S1", "prometheus", "/scrape/cpu_us_per_sample"), Some(3.0));
        assert_eq!(figure(&report(&[3.0]), "S1", "ours", "/scrape/cpu_us_per_sample"), None);
    }

    #[test]
    fn what_two_reports_have_counts_as_in_the_later_one() {
        let (mut set, mut ten) = (report(&[1.0, 2.0]), report(&[9.0]));
        ten["runs"][0]["workload"] = json!("S1 10 M");
        set["runs"][1]["system"] = json!("ours");
        let joined = join(&[set, ten, report(&[5.0])]);
        let seen: Vec<Option<f64>> =
            runs(&joined).map(|r| r["scrape"]["cpu_us_per_sample"].as_f64()).collect();
        assert_eq!(seen, [Some(2.0), Some(5.0), Some(9.0)]);
    }

    #[test]
    fn comparison_shows_the_change() {
        let text = compare(&report(&[2.0]), &report(&[3.0]));
        assert!(text.contains("CPU us/sample") && text.contains("+50.0 %"), "{text}");
        assert!(text.contains("i1 CPU ms"), "{text}");
    }

    #[test]
    fn wrong_answers_are_complained_about() {
        let mut r = report(&[1.0]);
        assert!(complaints(&r).is_empty());
        r["runs"][0]["queries"][0]["equal"] = json!(false);
        r["runs"][0]["oracle"] = json!({"wrong": 2, "missing": 0, "examples": ["x"]});
        assert_eq!(complaints(&r).len(), 2);
    }
}
