//! `/query`, `/query_range`, `/format_query`, `/parse_query`.

use std::time::Duration;

use axum::response::Response;

use crate::api::backend::{Answer, Backend, Origin, Question, Stats};
use crate::api::error::ApiError;
use crate::api::params::{Params, parse_step};
use crate::api::respond;
use crate::query::plan::physical::MaxResolution;
use crate::query::value::Value;

/// Points of one series that an answer may have.
const STEPS_MAX: i64 = 11_000;

pub async fn instant(backend: &dyn Backend, params: &Params, origin: Origin) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let time = params.time_or("time", backend.now_ms())?;
    ask(backend, params, Times { start: time, end: time, step: 0 }, limit, origin).await
}

pub async fn range(backend: &dyn Backend, params: &Params, origin: Origin) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = (params.time("start")?, params.time("end")?);
    if end < start {
        return Err(ApiError::bad_parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.duration("step")?;
    if step <= 0 {
        return Err(ApiError::bad_parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if (end - start) / step > STEPS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    ask(backend, params, Times { start, end, step }, limit, origin).await
}

struct Times {
    start: i64,
    end: i64,
    step: i64,
}

async fn ask(
    backend: &dyn Backend,
    params: &Params,
    Times { start, end, step }: Times,
    limit: usize,
    origin: Origin,
) -> Result<Response, ApiError> {
    let timeout = match params.first("timeout") {
        "" => None,
        _ => Some(Duration::from_millis(params.duration("timeout")?.max(0) as u64)),
    };
    let lookback_ms = match params.first("lookback_delta") {
        "" => None,
        text => Some(
            parse_step(text)
                .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?,
        ),
    };
    let max_resolution = max_resolution_of(params.first("max_source_resolution"))?;
    let (stats, stats_warning) = stats_of(params.first("stats"));
    let question = Question {
        text: params.first("query").to_owned(),
        start,
        end,
        step,
        timeout,
        lookback_ms,
        max_resolution,
        stats,
        origin,
    };
    let mut answer = backend.query(question).await?;
    answer.warnings.extend(stats_warning);
    if limit > 0 && cut(&mut answer.value, limit) {
        answer.warnings.push("results truncated due to limit".to_owned());
    }
    Ok(answered(&answer))
}

/// The query as Prometheus would write it.
pub fn format(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let tree = tree_of(backend, params)?;
    Ok(respond::success(|j| j.text(&tree.pretty())))
}

/// The query as a tree.
pub fn parse(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let tree = tree_of(backend, params)?;
    Ok(respond::success(|j| j.raw(&tree.to_json())))
}

fn tree_of(backend: &dyn Backend, params: &Params) -> Result<promql::Expr, ApiError> {
    promql::parse(params.first("query"), backend.language()).map_err(|e| ApiError::bad_parameter("query", e))
}

/// How coarse aggregates may be, as Thanos has it; Prometheus does not look.
fn max_resolution_of(text: &str) -> Result<Option<MaxResolution>, ApiError> {
    match text {
        "" => Ok(None),
        "auto" => Ok(Some(MaxResolution::Auto)),
        text => match parse_step(text).map_err(|e| ApiError::bad_parameter("max_source_resolution", e))? {
            ms if ms < 0 => Err(ApiError::bad_parameter(
                "max_source_resolution",
                "negative resolutions are not accepted. Try a positive duration, 0s or auto",
            )),
            ms => Ok(Some(MaxResolution::Fixed(ms))),
        },
    }
}

fn stats_of(text: &str) -> (Stats, Option<String>) {
    match text {
        "" => (Stats::None, None),
        "true" => (Stats::Basic, None),
        "all" => (Stats::All, None),
        other => {
            let value = model::quote::quoted(other);
            let warning = format!(
                "value {value} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
            );
            (Stats::Basic, Some(warning))
        }
    }
}

fn cut(value: &mut Value, limit: usize) -> bool {
    match value {
        Value::Vector(v) if v.len() > limit => v.truncate(limit),
        Value::Matrix(m) if m.len() > limit => m.truncate(limit),
        _ => return false,
    }
    true
}

fn answered(answer: &Answer) -> Response {
    respond::success_with(
        |j| {
            j.object(|j| {
                j.text_member("resultType", answer.value.type_text());
                j.key("result");
                j.value(&answer.value);
                if let Some(stats) = &answer.stats {
                    j.raw_member("stats", stats);
                }
            });
        },
        &answer.warnings,
        &answer.infos,
    )
}
