//! `tsdb dump`, `tsdb dump-openmetrics`: every sample of a directory as text.

use std::io::Write;
use std::path::Path;

use model::float_text::format_g;
use model::quote::push_quoted;
use model::{Labels, Matcher, Timestamp};
use prometheus_tsdb::sample::{Sample, Value};

use crate::exchange::Error;
use crate::exchange::directory::Database;
use crate::exchange::log::Damage;
use crate::exchange::walk::Walk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{labels} value milliseconds`.
    Prometheus,
    /// `name{labels} value seconds`, floats only.
    OpenMetrics,
    /// A JSON object of labels a series, no samples.
    SeriesJson,
}

/// What is asked for.
pub struct Question<'a> {
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// Selectors; a series that any of them takes is shown.
    pub selectors: &'a [String],
    pub form: Form,
}

/// Returns what of the log could not be read.
pub fn dump(dir: &Path, question: &Question<'_>, out: &mut dyn Write) -> Result<Vec<Damage>, Error> {
    let parse = |text: &String| {
        promql::parse_metric_selector(text, promql::Options::default())
            .map_err(|e| Error::Refused(e.to_string()))
    };
    let selectors = question.selectors.iter().map(parse).collect::<Result<Vec<Vec<Matcher>>, Error>>()?;
    let database = Database::open(dir)?;
    let mut walk = Walk::new(&database, question.mint, question.maxt)?;
    let (mut scratch, mut samples, mut line) = (Vec::new(), Vec::new(), String::new());
    while let Some(found) = walk.try_next()? {
        if !selectors.iter().any(|s| found.matches(s)) {
            continue;
        }
        found.read(&database, question.mint, question.maxt, &mut scratch, &mut samples)?;
        if samples.is_empty() {
            continue;
        }
        line.clear();
        match question.form {
            Form::Prometheus => push_samples(&found.labels, &samples, &mut line),
            Form::OpenMetrics => push_open_metrics(&found.labels, &samples, &mut line),
            Form::SeriesJson => push_json(&found.labels, &mut line),
        }
        out.write_all(line.as_bytes())?;
    }
    if question.form == Form::OpenMetrics {
        writeln!(out, "# EOF")?;
    }
    Ok(database.damage)
}

fn push_samples(labels: &Labels, samples: &[Sample], out: &mut String) {
    let labels = labels.to_string();
    for s in samples {
        let value = match &s.value {
            Value::Float(v) => format_g(*v),
            Value::Histogram(h) => h.to_string(),
            Value::FloatHistogram(h) => h.to_string(),
        };
        out.push_str(&format!("{labels} {value} {}\n", s.time));
    }
}

fn push_open_metrics(labels: &Labels, samples: &[Sample], out: &mut String) {
    let name = labels.metric_name().unwrap_or_default();
    let mut key = format!("{name}{{");
    for (i, label) in labels.without_name().iter().enumerate() {
        if i > 0 {
            key.push(',');
        }
        match model::labels::is_legacy_label_name(label.name) {
            true => key.push_str(label.name),
            false => push_quoted(&mut key, label.name),
        }
        key.push('=');
        push_quoted(&mut key, label.value);
    }
    key.push('}');
    for s in samples {
        if let Value::Float(v) = s.value {
            let seconds = s.time as f64 / 1000.0;
            out.push_str(&format!("{key} {} {seconds:.3}\n", format_g(v)));
        }
    }
}

fn push_json(labels: &Labels, out: &mut String) {
    out.push('{');
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        prometheus_tsdb::json::push_quoted(label.name, out);
        out.push(':');
        prometheus_tsdb::json::push_quoted(label.value, out);
    }
    out.push_str("}\n");
}
