//! `/series`, `/labels`, `/label/<name>/values`, `/metadata`.

use std::collections::BTreeMap;

use axum::response::Response;
use model::Matcher;
use model::quote::quoted;

use crate::api::backend::{Backend, MetadataEntry, Scope};
use crate::api::error::ApiError;
use crate::api::params::{Params, TIME_MAX, TIME_MIN};
use crate::api::respond;

const TRUNCATED: &str = "results truncated due to limit";

fn scope_of(params: &Params) -> Result<(Scope, usize), ApiError> {
    let limit = params.limit()?;
    let (start, end) = (params.time_or("start", TIME_MIN)?, params.time_or("end", TIME_MAX)?);
    let selectors = params.all("match[]").map(parse_selector).collect::<Result<Vec<_>, _>>()?;
    // One more than is shown, so that a cut is noticed.
    let wanted = if limit == 0 { 0 } else { limit + 1 };
    Ok((Scope { selectors, start, end, limit: wanted }, limit))
}

/// The matchers of a `match[]`, of which one must refuse the empty string.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ApiError> {
    let matchers = promql::parse_metric_selector(text, promql::Options::default())
        .map_err(|e| ApiError::bad_parameter("match[]", e.to_string()))?;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(ApiError::bad_parameter(
            "match[]",
            "match[] must contain at least one non-empty matcher",
        ));
    }
    Ok(matchers)
}

fn cut<T>(items: &mut Vec<T>, limit: usize) -> Vec<String> {
    if limit == 0 || items.len() <= limit {
        return Vec::new();
    }
    items.truncate(limit);
    vec![TRUNCATED.to_owned()]
}

pub async fn series(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (scope, limit) = scope_of(params)?;
    let mut series = backend.series(scope).await?;
    series.sort_unstable();
    series.dedup();
    let warnings = cut(&mut series, limit);
    let body = |j: &mut crate::api::json::Json| {
        j.list(|j| {
            for labels in &series {
                j.item();
                j.labels(labels);
            }
        });
    };
    Ok(respond::success_with(body, &warnings, &[]))
}

pub async fn names(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let (scope, limit) = scope_of(params)?;
    let names = backend.label_names(scope).await?;
    Ok(texts(names, limit))
}

pub async fn values(backend: &dyn Backend, name: &str, params: &Params) -> Result<Response, ApiError> {
    let name = unescaped_name(name);
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {}", quoted(&name))));
    }
    let (scope, limit) = scope_of(params)?;
    let values = backend.label_values(name, scope).await?;
    Ok(texts(values, limit))
}

fn texts(mut items: Vec<String>, limit: usize) -> Response {
    items.sort_unstable();
    items.dedup();
    let warnings = cut(&mut items, limit);
    respond::success_with(|j| j.texts(items.iter().map(String::as_str)), &warnings, &[])
}

/// `U__` names as Grafana sends them: `_HEX_` stands for a character, `__` for an underscore.
fn unescaped_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        if c != '_' {
            out.push(c);
            continue;
        }
        let after = &rest[i + 1..];
        if after.starts_with('_') {
            out.push('_');
            chars.next();
            continue;
        }
        let decoded = after.split_once('_').and_then(|(hex, _)| {
            let c = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() <= 6)?;
            Some((char::from_u32(c)?, hex.len()))
        });
        // What is not escaped well is no escaped name.
        let Some((decoded, len)) = decoded else { return name.to_owned() };
        out.push(decoded);
        for _ in 0..=len {
            chars.next();
        }
    }
    out
}

pub async fn metadata(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let number = |name: &str| match params.first(name) {
        "" => Ok(-1),
        text => text.parse::<i64>().map_err(|_| ApiError::bad_data(format!("{name} must be a number"))),
    };
    let (limit, per_metric) = (number("limit")?, number("limit_per_metric")?);
    let metric = params.first("metric");
    let mut families: BTreeMap<String, Vec<MetadataEntry>> = BTreeMap::new();
    for entry in backend.metadata().await? {
        if !metric.is_empty() && entry.metric != metric {
            continue;
        }
        let known = families.entry(entry.metric.clone()).or_default();
        let is_new =
            |k: &MetadataEntry| (&k.kind, &k.help, &k.unit) != (&entry.kind, &entry.help, &entry.unit);
        if known.iter().all(is_new) && (per_metric <= 0 || known.len() < per_metric as usize) {
            known.push(entry);
        }
    }
    let shown = if limit < 0 { usize::MAX } else { limit as usize };
    Ok(respond::success(|j| {
        j.object(|j| {
            for (name, entries) in families.iter().take(shown) {
                j.key(name);
                j.list(|j| {
                    for e in entries {
                        j.item();
                        j.object(|j| {
                            j.text_member("type", &e.kind);
                            j.text_member("unit", &e.unit);
                            j.text_member("help", &e.help);
                        });
                    }
                });
            }
        });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_as_grafana_writes_them() {
        for (text, want) in [
            ("job", "job"),
            ("U__my_2e_name", "my.name"),
            ("U__a__b", "a_b"),
            ("U___30c6___b", "テ_b"),
            ("U__bad_zz_", "U__bad_zz_"),
        ] {
            assert_eq!(unescaped_name(text), want);
        }
    }
}
