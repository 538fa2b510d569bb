//! `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`.

use std::sync::Arc;

use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;

use crate::api::backend::Backend;
use crate::api::respond;

pub fn healthy() -> Response {
    respond::text(StatusCode::OK, "Prometheus Server is Healthy.\n")
}

pub fn ready() -> Response {
    respond::text(StatusCode::OK, "Prometheus Server is Ready.\n")
}

/// What every path that needs the data says before it is there.
pub fn not_ready(backend: &dyn Backend) -> Response {
    let mut r = respond::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    let stopping = if backend.is_stopping() { "true" } else { "false" };
    r.headers_mut().insert("X-Prometheus-Stopping", HeaderValue::from_static(stopping));
    r
}

fn refused(method: &Method, is_enabled: bool) -> Option<Response> {
    if method != Method::POST && method != Method::PUT {
        return Some(respond::text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed"));
    }
    (!is_enabled).then(|| respond::text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled."))
}

pub async fn reload(backend: Arc<dyn Backend>, method: &Method, is_enabled: bool) -> Response {
    if let Some(r) = refused(method, is_enabled) {
        return r;
    }
    match backend.reload().await {
        Ok(()) => respond::text(StatusCode::OK, ""),
        Err(e) => {
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {}\n", e.text))
        }
    }
}

pub fn quit(backend: &dyn Backend, method: &Method, is_enabled: bool) -> Response {
    if let Some(r) = refused(method, is_enabled) {
        return r;
    }
    let is_first = backend.quit();
    let text =
        if is_first { "Requesting termination... Goodbye!" } else { "Termination already in progress." };
    respond::text(StatusCode::OK, text)
}
