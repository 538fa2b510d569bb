//! `/queries`: queries under way, for who wants to know what keeps the machine busy, and to end one.
//!
//! Prometheus has nothing of the kind; the words are those of its other answers.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::backend::{Backend, RunningQuery};
use crate::api::error::{ApiError, ErrorKind};
use crate::api::json::Json;
use crate::api::respond;

pub fn running(backend: &dyn Backend) -> Response {
    let (queries, now) = (backend.running_queries(), backend.now_ms());
    respond::success(|j| {
        j.list(|j| {
            for q in &queries {
                j.item();
                push(j, q, now);
            }
        });
    })
}

fn push(j: &mut Json, q: &RunningQuery, now: i64) {
    j.object(|j| {
        j.key("id");
        j.number(q.id);
        j.text_member("query", &q.text);
        j.text_member("state", if q.is_waiting { "waiting" } else { "running" });
        for (name, time) in [("start", q.start), ("end", q.end), ("step", q.step)] {
            j.key(name);
            j.timestamp(time);
        }
        j.key("asked");
        j.timestamp(now - q.elapsed.as_millis() as i64);
        j.key("elapsedSeconds");
        j.float(q.elapsed.as_secs_f64());
        let p = &q.progress;
        for (name, count) in [
            ("seriesSelected", p.series_selected),
            ("seriesRead", p.series_read),
            ("samplesRead", p.samples_read),
            ("peakSamples", p.samples_peak),
            ("bytes", p.bytes),
            ("peakBytes", p.bytes_peak),
        ] {
            j.key(name);
            j.number(count);
        }
    });
}

pub fn cancel(backend: &dyn Backend, id: &str) -> Result<Response, ApiError> {
    if id.parse().is_ok_and(|id| backend.cancel_query(id)) {
        let mut r = Response::new(Body::empty());
        *r.status_mut() = StatusCode::NO_CONTENT;
        return Ok(r);
    }
    let text = format!("no query {} is under way", model::quote::quoted(id));
    Err(ApiError::new(ErrorKind::NotFound, text))
}
