//! The file to which a job's failed fetches are written: one JSON object a line, as Prometheus writes it.
//!
//! It is opened for each line: failures are few, and a file that was moved away is begun anew.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use model::civil::format_rfc3339;

use crate::rt::offload::{Blocking, offload};
use crate::scrape::{Error, Target};

/// Writes a failure of the fetch itself; what the page says is no failure of that kind. Where the file cannot be
/// written that is logged: the scrape has failed anyway.
pub async fn note(path: Option<&PathBuf>, job: &str, target: &Target, error: &Error, now_ns: i64) {
    let (Some(path), Error::Fetch(_) | Error::BodyLimit) = (path, error) else { return };
    let line = line(job, &target.url, &error.to_string(), now_ns);
    let path = path.clone();
    let shown = path.display().to_string();
    let written = offload(Blocking::Files, move || {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut f| f.write_all(line.as_bytes()))
    });
    let failed = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(e)) => e.to_string(),
        Err(e) => e.to_string(),
    };
    tracing::warn!(path = shown, err = failed, "the scrape failure log cannot be written");
}

fn line(job: &str, url: &str, error: &str, now_ns: i64) -> String {
    let (seconds, nanos) = (now_ns.div_euclid(1_000_000_000), now_ns.rem_euclid(1_000_000_000) as u32);
    let mut out = format!("{{\"time\":\"{}\",\"level\":\"ERROR\",\"msg\":", format_rfc3339(seconds, nanos));
    push_json(&mut out, error);
    out.push_str(",\"job_name\":");
    push_json(&mut out, job);
    out.push_str(",\"target\":");
    push_json(&mut out, url);
    out.push_str("}\n");
    out
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_of_json() {
        assert_eq!(
            line("j", "http://h/m", "Get \"http://h/m\": EOF\n", 1_700_000_000_000_000_000),
            "{\"time\":\"2023-11-14T22:13:20Z\",\"level\":\"ERROR\",\"msg\":\"Get \\\"http://h/m\\\": EOF\\n\",\
             \"job_name\":\"j\",\"target\":\"http://h/m\"}\n"
        );
    }
}
