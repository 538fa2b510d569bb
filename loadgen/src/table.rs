//! The README's figures, taken from a report: no figure is copied by hand.
//!
//! In: a report, a text with two marks. Out: the text with a table between the marks. Invariant: what is outside of
//! the marks stays. Never: writes a figure that the report does not have.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::error::{Context, Error};
use crate::report::{figure, tables_systems};

pub const BEGIN: &str = "<!-- figures: begin -->";
pub const END: &str = "<!-- figures: end -->";

/// Title, workload, pointer, scale, digits.
const ROWS: [(&str, &str, &str, f64, usize); 14] = [
    ("scraping, CPU a sample, us", "S1", "/scrape/cpu_us_per_sample", 1.0, 3),
    ("scrapes missed", "S1", "/scrape/scrapes_missed", 1.0, 0),
    ("resident memory a scraped series, B", "S1", "/scrape/rss_bytes_per_series", 1.0, 0),
    ("`kill -9` to first scrape, s", "S1", "/restart/first_scrape_seconds", 1.0, 2),
    ("`kill -9` to ready, s", "S1", "/restart/ready_seconds", 1.0, 2),
    ("remote write, CPU a sample, us", "W1", "/write/cpu_us_per_sample", 1.0, 3),
    ("remote write, samples acknowledged a second", "W1", "/write/samples_per_second", 1.0, 0),
    ("remote write, acknowledgement p99, ms", "W1", "/write/ack_ms/p99", 1.0, 1),
    ("new series, CPU each, us", "W2", "/write/cpu_us_per_sample", 1.0, 1),
    ("at a fixed rate, longest acknowledgement, ms", "W3", "/write/ack_ms/max", 1.0, 1),
    ("rates by mode over all hosts (i1), CPU-ms", "S1", "/queries/0/cpu_ms", 1.0, 1),
    ("count of all series (i3), CPU-ms", "S1", "/queries/2/cpu_ms", 1.0, 1),
    ("dashboard refresh, p95, ms", "S1", "/dashboard/whole_ms/p95", 1.0, 1),
    ("TSBS devops questions, p99, ms", "Q2", "/mix/ms/p99", 1.0, 1),
];

/// The table in Markdown: systems across.
pub fn markdown(report: &Value) -> String {
    let systems = tables_systems(report);
    let mut out = String::new();
    let machine = &report["machine"];
    let _ = writeln!(
        out,
        "{}, {} CPUs, with the load generator on the same ones. `-`: not measured or failed there.\n",
        machine["cpu"].as_str().unwrap_or("a machine"),
        machine["cpus"]
    );
    let _ = writeln!(out, "| | {} |", systems.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(systems.len()));
    for (title, workload, pointer, scale, digits) in ROWS {
        let cell = |system: &String| {
            figure(report, workload, system, pointer)
                .map_or("-".into(), |v| format!("{:.digits$}", v * scale))
        };
        let cells: Vec<String> = systems.iter().map(cell).collect();
        if cells.iter().any(|c| c != "-") {
            let _ = writeln!(out, "| {title} | {} |", cells.join(" | "));
        }
    }
    out
}

/// The text with the table between its marks; `None` where it has no marks.
pub fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// Writes the report's table into a file.
pub fn update(path: &Path, report: &Value) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).context(|| path.display().to_string())?;
    let new = replaced(&text, &markdown(report)).ok_or_else(|| Error::File {
        path: path.to_path_buf(),
        what: format!("has no lines {BEGIN} and {END} to write between"),
    })?;
    std::fs::write(path, new).context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(replaced(&text, "new\n"), Some(format!("a\n{BEGIN}\nnew\n{END}\nb\n")));
        assert_eq!(replaced("a\n", "new\n"), None);
        assert_eq!(replaced(&format!("{END}{BEGIN}"), "new\n"), None);
    }

    #[test]
    fn a_row_has_the_reports_figures() {
        let run = |s, v| json!({"workload": "S1", "system": s, "scrape": {"cpu_us_per_sample": v}});
        let table =
            markdown(&json!({"runs": [run("ours", 0.25), run("prometheus", 2.5)], "machine": {"cpus": 2}}));
        assert!(table.contains("| | ours | prometheus |\n|---|---|---|\n"), "{table}");
        assert!(table.contains("| scraping, CPU a sample, us | 0.250 | 2.500 |\n"), "{table}");
        assert!(!table.contains("W1") && !table.contains("remote write"), "{table}");
    }
}
