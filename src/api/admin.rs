//! `/api/v1/admin/tsdb/...`: what changes the storage itself. Only where a flag allows it.

use axum::http::StatusCode;
use axum::response::Response;
use model::quote::quoted;

use crate::api::backend::{Backend, SnapshotWish};
use crate::api::error::{ApiError, ErrorKind};
use crate::api::params::{Params, TIME_MAX, TIME_MIN};
use crate::api::respond;
use crate::api::router::empty;

/// What a path behind `admin/tsdb/` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    DeleteSeries,
    CleanTombstones,
    Snapshot,
}

impl Wish {
    pub fn of_path(path: &str) -> Option<Wish> {
        Some(match path {
            "admin/tsdb/delete_series" => Wish::DeleteSeries,
            "admin/tsdb/clean_tombstones" => Wish::CleanTombstones,
            "admin/tsdb/snapshot" => Wish::Snapshot,
            _ => return None,
        })
    }

    /// The handler's name.
    pub fn handler(self) -> &'static str {
        match self {
            Wish::DeleteSeries => "/api/v1/admin/tsdb/delete_series",
            Wish::CleanTombstones => "/api/v1/admin/tsdb/clean_tombstones",
            Wish::Snapshot => "/api/v1/admin/tsdb/snapshot",
        }
    }
}

pub async fn carry_out(
    backend: &dyn Backend,
    wish: Wish,
    params: &Params,
    is_enabled: bool,
) -> Result<Response, ApiError> {
    if !is_enabled {
        return Err(ApiError::new(ErrorKind::Unavailable, "admin APIs disabled"));
    }
    match wish {
        Wish::DeleteSeries => delete_series(backend, params).await,
        Wish::CleanTombstones => {
            backend.clean_tombstones().await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Wish::Snapshot => snapshot(backend, params).await,
    }
}

async fn snapshot(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let skips_head = params.flag("skip_head").ok_or_else(|| {
        let why = format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(params.first("skip_head")));
        ApiError::bad_parameter("skip_head", format!("unable to parse boolean: {why}"))
    })?;
    let for_prometheus = match params.first("format") {
        "" => false,
        "prometheus" => true,
        other => {
            let why = format!("unknown format {}, must be prometheus or left out", quoted(other));
            return Err(ApiError::bad_parameter("format", why));
        }
    };
    let name = backend.snapshot(SnapshotWish { with_head: !skips_head, for_prometheus }).await?;
    Ok(respond::success(|j| j.object(|j| j.text_member("name", &name))))
}

async fn delete_series(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (start, end) = (params.time_or("start", TIME_MIN)?, params.time_or("end", TIME_MAX)?);
    // Unlike a question, a delete may be of series that have no label in common.
    let parse = |text| {
        promql::parse_metric_selector(text, promql::Options::default())
            .map_err(|e| ApiError::bad_parameter("match[]", e.to_string()))
    };
    let selectors = params.all("match[]").map(parse).collect::<Result<Vec<_>, _>>()?;
    // `{}` is taken, and deletes nothing: so it does in Prometheus.
    for matchers in selectors.into_iter().filter(|m| !m.is_empty()) {
        backend.delete_series(matchers, start, end).await?;
    }
    Ok(empty(StatusCode::NO_CONTENT))
}
