//! `/query_exemplars`.

use std::collections::BTreeMap;

use axum::response::Response;
use model::{Labels, Matcher};

use crate::api::backend::{Backend, Exemplar, Scope};
use crate::api::error::ApiError;
use crate::api::params::{Params, TIME_MAX, TIME_MIN};
use crate::api::respond;

pub async fn query(backend: &dyn Backend, params: &Params) -> Result<Response, ApiError> {
    let (start, end) = (params.time_or("start", TIME_MIN)?, params.time_or("end", TIME_MAX)?);
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let tree = promql::parse(params.first("query"), backend.language())
        .map_err(|e| ApiError::bad_data(e.to_string()))?;
    let selectors: Vec<Vec<Matcher>> = tree.selectors().iter().map(|s| s.matchers.to_vec()).collect();
    if selectors.is_empty() {
        return Ok(respond::success(|j| j.raw("null")));
    }
    let found = backend.exemplars(Scope { selectors, start, end, limit: 0 }).await?;
    let mut by_series: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    for (series, exemplar) in found {
        by_series.entry(series).or_default().push(exemplar);
    }
    Ok(respond::success(|j| {
        j.list(|j| {
            for (series, exemplars) in &by_series {
                j.item();
                j.object(|j| {
                    j.key("seriesLabels");
                    j.labels(series);
                    j.key("exemplars");
                    j.list(|j| {
                        for x in exemplars {
                            j.item();
                            j.object(|j| {
                                j.key("labels");
                                j.labels(&x.labels);
                                j.key("value");
                                j.float_text(x.value);
                                j.key("timestamp");
                                j.timestamp(x.time);
                            });
                        }
                    });
                });
            }
        });
    }))
}
