//! The report as one HTML file that needs nothing beside it: tables, and plots as inline SVG.
//!
//! In: a report as JSON. Out: HTML. Invariant: text from outside is escaped. Never: fetches a script, a font, a style.

use std::fmt::Write as _;

use serde_json::Value;

use crate::goals::ELSEWHERE;
use crate::report::{complaints, figure, goal_lines, judges_goals, tables, workloads};

/// One color a system, in order of appearance; told apart by most eyes and in gray.
const COLORS: [&str; 6] = ["#2468b4", "#d9772b", "#3a9a6b", "#a64ca6", "#7a7a7a", "#b3a125"];
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
/// Room for the axes' numbers.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 28.0;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2430;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}table{border-collapse:collapse;margin:.8rem 0}\
td,th{padding:.18rem .8rem;text-align:right;border-bottom:1px solid #d8dde4;font-variant-numeric:tabular-nums}\
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.4rem 1rem .4rem 0}\
svg{max-width:100%}svg text{font:11px system-ui,sans-serif;fill:#45505e}.bad{color:#b3261e;font-weight:600}\
.good{color:#1f7a45}code{background:#f1f3f6;padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{color:#dfe4ea;background:#15191e}td,th{border-color:#353d47}\
svg text{fill:#aab4c0}code{background:#232a32}.bad{color:#ff8a80}.good{color:#7fd6a2}}";

pub fn render(report: &Value) -> String {
    let mut out = String::new();
    let machine = &report["machine"];
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>systole-loadgen</title><style>{STYLE}</style><h1>Load report</h1>\
         <p>{}, {} CPUs, {:.0} GiB, kernel {}; {}<br><code>{}</code></p>",
        escape(machine["cpu"].as_str().unwrap_or("")),
        machine["cpus"],
        machine["memory_bytes"].as_f64().unwrap_or(0.0) / (1u64 << 30) as f64,
        escape(machine["kernel"].as_str().unwrap_or("")),
        escape(report["tool"].as_str().unwrap_or("")),
        escape(report["command"].as_str().unwrap_or("")),
    );
    verdict(&mut out, report);
    goals(&mut out, report);
    for table in tables(report) {
        let _ = write!(out, "<h2>{}</h2><table><tr><th>", escape(&table.title));
        for c in &table.columns {
            let _ = write!(out, "<th>{}", escape(c));
        }
        for (title, cells) in &table.rows {
            let _ = write!(out, "<tr><td>{}", escape(title));
            for c in cells {
                let class = if c.starts_with("WRONG") || c == "FAILED" { " class=bad" } else { "" };
                let _ = write!(out, "<td{class}>{}", escape(c));
            }
        }
        out.push_str("</table>");
    }
    for workload in workloads(report) {
        plots(&mut out, report, &workload);
    }
    versions(&mut out, report);
    out.push_str("</html>\n");
    out
}

fn verdict(out: &mut String, report: &Value) {
    let complaints = complaints(report);
    if complaints.is_empty() {
        out.push_str("<p class=good>Every answer and every sample read back equals what was shown.</p>");
    }
    for c in complaints {
        let _ = write!(out, "<p class=bad>{}</p>", escape(&c));
    }
}

fn goals(out: &mut String, report: &Value) {
    if !judges_goals(report) {
        return;
    }
    out.push_str(
        "<h2>Goals</h2><table><tr><th>goal<th>ours<th>beside Prometheus<th>beside VictoriaMetrics<th>here",
    );
    for line in goal_lines(report) {
        out.push_str("<tr>");
        for cell in line {
            let class = match cell.as_str() {
                "reached" => " class=good",
                c if c.starts_with("missed") => " class=bad",
                _ => "",
            };
            let _ = write!(out, "<td{class}>{}", escape(&cell));
        }
    }
    let _ = write!(out, "</table><p>{}", escape(ELSEWHERE));
}

fn versions(out: &mut String, report: &Value) {
    out.push_str("<h2>Versions and flags</h2><table>");
    let mut seen: Vec<&str> = Vec::new();
    for run in report["runs"].as_array().into_iter().flatten() {
        let name = run["system"].as_str().unwrap_or("");
        if !seen.contains(&name) {
            seen.push(name);
            let version = run["version"].as_str().unwrap_or("");
            let _ = write!(
                out,
                "<tr><td>{}<td>{}<td>{}",
                escape(name),
                escape(version),
                escape(&run["flags"].to_string())
            );
        }
    }
    out.push_str("</table>");
}

/// A named curve.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

fn plots(out: &mut String, report: &Value, workload: &str) {
    let _ = write!(out, "<h2>{}: plots</h2>", escape(workload));
    let runs: Vec<&Value> = report["runs"].as_array().into_iter().flatten().collect();
    let firsts: Vec<&&Value> = runs.iter().filter(|r| r["workload"] == workload && r["round"] == 1).collect();
    let curves = |points: &dyn Fn(&Value) -> Vec<(f64, f64)>| -> Vec<Curve> {
        let curve =
            |r: &&&Value| Curve { name: r["system"].as_str().unwrap_or("").into(), points: points(r) };
        firsts.iter().map(curve).collect()
    };
    let names: Vec<String> = firsts.iter().map(|r| r["system"].as_str().unwrap_or("").to_string()).collect();
    let bars = |pointer: &str| -> Vec<(String, f64)> {
        names.iter().filter_map(|n| Some((n.clone(), figure(report, workload, n, pointer)?))).collect()
    };
    for pointer in ["/scrape/cpu_us_per_sample", "/write/cpu_us_per_sample"] {
        draw_bars(out, "CPU per sample, us", &bars(pointer));
    }
    for pointer in ["/scrape/rss_bytes_per_series", "/write/rss_bytes_per_series"] {
        draw_bars(out, "resident bytes per series", &bars(pointer));
    }
    draw_lines(out, "memory, MB", "seconds", &curves(&memory));
    draw_lines(out, "cores in use", "seconds", &curves(&cores));
    draw_lines(out, "latency, ms", "of 10\u{207f} requests one is slower", &curves(&latency));
}

fn timeline(run: &Value) -> Vec<(f64, f64, f64)> {
    let points = run["timeline"].as_array().into_iter().flatten();
    points.filter_map(|p| Some((p[0].as_f64()?, p[1].as_f64()?, p[2].as_f64()?))).collect()
}

fn memory(run: &Value) -> Vec<(f64, f64)> {
    timeline(run).iter().map(|p| (p.0, p.2 / 1e6)).collect()
}

fn cores(run: &Value) -> Vec<(f64, f64)> {
    timeline(run).windows(2).map(|w| (w[1].0, (w[1].1 - w[0].1) / (w[1].0 - w[0].0).max(1e-3))).collect()
}

/// Quantiles spread by how rare they are: 0.9 at 1, 0.99 at 2, 0.999 at 3.
fn latency(run: &Value) -> Vec<(f64, f64)> {
    let curve = if run["write"].is_object() { &run["write"]["ack_ms"] } else { &run["mix"]["ms"] };
    let points = curve["curve"].as_array().into_iter().flatten();
    let point = |p: &Value| Some((-(1.0 - p[0].as_f64()?).max(1e-5).log10(), p[1].as_f64()?));
    points.filter_map(point).collect()
}

fn draw_bars(out: &mut String, title: &str, bars: &[(String, f64)]) {
    let most = bars.iter().map(|b| b.1).fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    let height = TOP + 30.0 * bars.len() as f64;
    open(out, title, height);
    for (i, (name, value)) in bars.iter().enumerate() {
        let y = TOP + 30.0 * i as f64;
        let width = (WIDTH - 230.0) * value / most;
        let _ = write!(
            out,
            "<text x=0 y={:.0}>{}</text><rect x=110 y={y:.0} width={width:.1} height=20 fill='{}'/>\
             <text x={:.0} y={:.0}>{}</text>",
            y + 14.0,
            escape(name),
            COLORS[i % COLORS.len()],
            116.0 + width,
            y + 14.0,
            number(*value)
        );
    }
    out.push_str("</svg></figure>");
}

fn draw_lines(out: &mut String, title: &str, x_title: &str, curves: &[Curve]) {
    let all = || curves.iter().flat_map(|c| c.points.iter());
    let (x_most, y_most) = all().fold((0.0f64, 0.0f64), |(x, y), p| (x.max(p.0), y.max(p.1)));
    if x_most <= 0.0 || y_most <= 0.0 {
        return;
    }
    open(out, title, HEIGHT);
    let x = |v: f64| LEFT + (WIDTH - LEFT - 12.0) * v / x_most;
    let y = |v: f64| HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * v / y_most;
    for i in 0..=4 {
        let part = f64::from(i) / 4.0;
        let (yy, xx) = (y(y_most * part), x(x_most * part));
        let _ = write!(
            out,
            "<line x1={LEFT} x2={WIDTH} y1={yy:.1} y2={yy:.1} stroke='#8884'/>\
             <text x={:.0} y={:.1} text-anchor=end>{}</text><text x={xx:.1} y={:.0} text-anchor=middle>{}</text>",
            LEFT - 6.0,
            yy + 4.0,
            number(y_most * part),
            HEIGHT - BOTTOM + 14.0,
            number(x_most * part)
        );
    }
    for (i, curve) in curves.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let points: Vec<String> =
            curve.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ = write!(
            out,
            "<polyline points='{}' fill=none stroke='{color}' stroke-width=1.8 />\
             <text x={} y=12 style='fill:{color}'>{}</text>",
            points.join(" "),
            200 + 120 * i,
            escape(&curve.name)
        );
    }
    let _ = write!(
        out,
        "<text x={WIDTH} y={:.0} text-anchor=end>{}</text></svg></figure>",
        HEIGHT - 4.0,
        escape(x_title)
    );
}

fn open(out: &mut String, title: &str, height: f64) {
    let _ = write!(
        out,
        "<figure><svg xmlns='http://www.w3.org/2000/svg' width={WIDTH} height={height} viewBox='0 0 {WIDTH} {height}' \
         role=img aria-label='{0}'><text x=0 y=12 font-weight=600>{0}</text>",
        escape(title)
    );
}

fn number(v: f64) -> String {
    match v.abs() {
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn page_is_self_contained_and_escapes_what_it_shows() {
        let run = json!({
            "workload": "S1", "system": "<b>ours", "round": 1, "version": "1", "flags": [],
            "scrape": {"cpu_us_per_sample": 0.2, "rss_bytes_per_series": 300.0},
            "timeline": [[0.0, 0.0, 1e6], [1.0, 0.5, 2e6], [2.0, 0.9, 2.5e6]],
            "write": {"ack_ms": {"curve": [[0.5, 1.0], [0.99, 7.0], [1.0, 20.0]]}},
        });
        let page = render(&json!({"runs": [run], "command": "a <script>", "machine": {"cpus": 2}}));
        assert!(!page.contains("<script") && !page.contains("<b>ours"), "{page}");
        assert!(page.contains("&lt;b&gt;ours"));
        assert_eq!(page.matches("<polyline").count(), 3);
        assert_eq!(page.matches("<rect").count(), 2);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(!page.contains("NaN") && !page.contains("src="));
    }

    #[test]
    fn an_empty_report_is_still_a_page() {
        assert!(render(&json!({"runs": []})).ends_with("</html>\n"));
    }
}
