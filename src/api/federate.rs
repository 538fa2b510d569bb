//! `/federate`: newest samples of selected series, in the text format.

use axum::http::StatusCode;
use axum::response::Response;

use model::float_text::push_g;
use model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use model::quote::quoted;

use crate::api::backend::{Backend, FederatedSample, Scope};
use crate::api::params::Params;
use crate::api::respond;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=values";

pub async fn federate(backend: &dyn Backend, params: &Params, lookback_ms: i64) -> Response {
    let mut selectors = Vec::new();
    for text in params.all("match[]") {
        match promql::parse_metric_selector(text, promql::Options::default()) {
            Ok(m) => selectors.push(m),
            Err(e) => return respond::text(StatusCode::BAD_REQUEST, format!("{e}\n")),
        }
    }
    let now = backend.now_ms();
    let scope = Scope { selectors, start: now - lookback_ms, end: now, limit: 0 };
    let mut samples = match backend.federate(scope).await {
        Ok(s) => s,
        Err(e) => return respond::text(e.kind.status(), format!("{}\n", e.text)),
    };
    samples.sort_by(|a, b| {
        let name = |s: &FederatedSample| s.labels.metric_name().unwrap_or("").to_owned();
        name(a).cmp(&name(b)).then_with(|| a.labels.cmp(&b.labels))
    });
    let external = backend.external_labels();
    respond::with_type(StatusCode::OK, CONTENT_TYPE, page(&samples, &external))
}

fn page(samples: &[FederatedSample], external: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut family = None;
    for s in samples {
        let Some(name) = s.labels.metric_name() else { continue };
        if family != Some(name) {
            family = Some(name);
            out.extend_from_slice(format!("# TYPE {} untyped\n", name_text(name)).as_bytes());
        }
        push_sample(&mut out, s, name, external);
    }
    out
}

fn name_text(name: &str) -> String {
    if is_legacy_metric_name(name) { name.to_owned() } else { quoted(name) }
}

fn push_sample(out: &mut Vec<u8>, s: &FederatedSample, name: &str, external: &[(String, String)]) {
    let mut pairs: Vec<(&str, &str)> = s.labels.iter().map(|l| (l.name, l.value)).collect();
    let absent: Vec<_> = external
        .iter()
        .filter(|(n, _)| s.labels.value(n).is_none())
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    pairs.extend(absent);
    pairs.retain(|(n, _)| *n != METRIC_NAME);
    // An empty instance keeps the scraping side from setting its own.
    if !pairs.iter().any(|(n, _)| *n == "instance") {
        pairs.push(("instance", ""));
    }
    pairs.sort_unstable();
    let is_legacy = is_legacy_metric_name(name);
    if is_legacy {
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'{');
    if !is_legacy {
        out.extend_from_slice(quoted(name).as_bytes());
        out.push(b',');
    }
    for (i, (n, v)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let n = if is_legacy_label_name(n) { (*n).to_owned() } else { quoted(n) };
        out.extend_from_slice(n.as_bytes());
        out.extend_from_slice(b"=\"");
        push_escaped(out, v);
        out.push(b'"');
    }
    out.extend_from_slice(b"} ");
    push_g(out, s.value);
    out.push(b' ');
    out.extend_from_slice(s.time.to_string().as_bytes());
    out.push(b'\n');
}

fn push_escaped(out: &mut Vec<u8>, value: &str) {
    for b in value.bytes() {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            b => out.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    #[test]
    fn pages_have_types_times_and_an_instance() {
        let sample = |pairs: &[(&str, &str)], value| FederatedSample {
            labels: Labels::from_pairs(pairs.iter().copied()),
            time: 1000,
            value,
        };
        let samples = [
            sample(&[("__name__", "a"), ("x", "q\"\n")], 1.0),
            sample(&[("__name__", "a"), ("instance", "i")], 2e6),
        ];
        let page = page(&samples, &[("dc".to_owned(), "one".to_owned())]);
        assert_eq!(
            String::from_utf8(page).unwrap(),
            "# TYPE a untyped\na{dc=\"one\",instance=\"\",x=\"q\\\"\\n\"} 1 1000\na{dc=\"one\",instance=\"i\"} 2e+06 1000\n"
        );
    }
}
