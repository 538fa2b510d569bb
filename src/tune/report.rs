//! Findings as text for a terminal: what is off, why it matters, the line that fixes it.

use std::fmt::Write;

use crate::tune::change::Outcome;
use crate::tune::{Finding, Fix, Level, Setting};

/// All findings and a last line that counts them.
pub fn findings(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding { level, name, found, wanted, why, .. } = finding;
        let _ = writeln!(text, "{:<6} {name}: {found}, wanted {wanted}", level.word());
        let _ = writeln!(text, "       why: {why}");
        let _ = writeln!(text, "       fix: {}", line(&finding.fix));
    }
    text.push_str(&count(findings));
    text
}

/// Whether a linter would complain: what could be better on a box of its own is no complaint.
pub fn complains(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.level < Level::Could)
}

fn count(findings: &[Finding]) -> String {
    let of = |level| findings.iter().filter(|f| f.level == level).count();
    let (must, should, could) = (of(Level::Must), of(Level::Should), of(Level::Could));
    match (must + should, could) {
        (0, 0) => "all is well\n".to_owned(),
        (0, could) => format!("all is well; {could} could be better on a machine of its own\n"),
        (off, could) => {
            format!("{off} off: {must} must, {should} should be changed; {could} could be better\n")
        }
    }
}

/// A fix as a line for a shell. Of many writes the first shows what is meant.
pub fn line(fix: &Fix) -> String {
    match fix {
        Fix::Line(line) => line.clone(),
        Fix::Write(settings) => match settings.as_slice() {
            [] => String::new(),
            [one] => write_line(one),
            [first, rest @ ..] => {
                format!("{}; and {} more: `systole tune apply` makes them", write_line(first), rest.len())
            }
        },
    }
}

fn write_line(setting: &Setting) -> String {
    let Setting { path, value } = setting;
    match path.strip_prefix("/proc/sys/") {
        Some(name) if value.contains(' ') => format!("sysctl -w {}='{value}'", name.replace('/', ".")),
        Some(name) => format!("sysctl -w {}={value}", name.replace('/', ".")),
        None => format!("echo {value} > {path}"),
    }
}

/// What came of writes, one a line.
pub fn outcomes(outcomes: &[Outcome]) -> String {
    outcomes.iter().fold(String::new(), |mut text, outcome| {
        let Outcome { path, before, after, error } = outcome;
        let _ = match error {
            None => writeln!(text, "wrote  {path}: {before} -> {after}"),
            Some(error) => writeln!(text, "failed {path}: {before} -> {after}: {error}"),
        };
        text
    })
}
