//! Answers on their way out: the envelope, compression.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use libdeflater::{CompressionLvl, Compressor};

use crate::api::error::ApiError;
use crate::api::json::Json;

/// Bodies below this gain nothing from gzip: one packet either way.
const COMPRESS_BYTES_MIN: usize = 1024;

/// `data` written by `f`, in Prometheus's envelope.
pub fn success(f: impl FnOnce(&mut Json)) -> Response {
    success_with(f, &[], &[])
}

pub fn success_with(f: impl FnOnce(&mut Json), warnings: &[String], infos: &[String]) -> Response {
    let mut j = Json::new();
    j.object(|j| {
        j.text_member("status", "success");
        j.key("data");
        f(j);
        for (name, texts) in [("warnings", warnings), ("infos", infos)] {
            if !texts.is_empty() {
                j.key(name);
                j.texts(texts.iter().map(String::as_str));
            }
        }
    });
    json(StatusCode::OK, j.into_bytes())
}

pub fn failure(e: &ApiError) -> Response {
    let mut j = Json::new();
    j.object(|j| {
        j.text_member("status", "error");
        j.text_member("errorType", e.kind.text());
        j.text_member("error", &e.text);
    });
    json(e.kind.status(), j.into_bytes())
}

pub fn of(result: Result<Response, ApiError>) -> Response {
    result.unwrap_or_else(|e| failure(&e))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    with_type(status, "application/json", body)
}

pub fn text(status: StatusCode, body: impl Into<String>) -> Response {
    with_type(status, "text/plain; charset=utf-8", body.into().into_bytes())
}

pub fn with_type(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut r = Response::new(Body::from(body));
    *r.status_mut() = status;
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    r
}

/// Which encoding a client asked for first, of the two that are offered.
fn wants_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|e| e.trim().split(';').next() == Some("gzip"))
}

/// Compresses a whole body where the client accepts it.
pub fn compressed(request: &HeaderMap, headers: &mut HeaderMap, body: Vec<u8>) -> Vec<u8> {
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if body.len() < COMPRESS_BYTES_MIN || !wants_gzip(request) {
        return body;
    }
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
    match compressor.gzip_compress(&body, &mut out) {
        Ok(n) => {
            out.truncate(n);
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            out
        }
        // The bound was computed for this body; the plain one serves as well.
        Err(_) => body,
    }
}
