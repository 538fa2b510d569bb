//! What others push, beside remote write: from the socket to one request for the shards, and back in their words.

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::SemaphorePermit;

use crate::api::router::Front;
use crate::api::write::{Connection, answered, refused};
use crate::api::{lifecycle, respond};
use crate::push::unpack::{Packing, UNPACKED_BYTES_MAX, unpack};
use crate::push::{self, otlp};
use crate::remote::negotiate::BODY_BYTES_MAX;
use crate::remote::{Answer, Terms};

mod gateway;
pub(in crate::api) mod grpc;
mod import;

use import::Import;

pub const OTLP_PATH: &str = "/api/v1/otlp/v1/metrics";
/// Where exporters send by default.
const OTLP_DEFAULT_PATH: &str = "/v1/metrics";

/// A parsed JSON text is this many times as large as the text: 24 bytes for each value and 4 for each mark of it.
const JSON_FACTOR: usize = 16;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Answers requests for the paths that samples are pushed to; gives the body back where it is none of them.
pub(in crate::api) async fn answer(
    front: &Front,
    parts: &Parts,
    body: Body,
) -> Result<(&'static str, Response), Body> {
    let path = parts.uri.path();
    if let Some(group) = path.strip_prefix(gateway::PREFIX) {
        return Ok((gateway::HANDLER, gateway::answer(front, parts, group, body).await));
    }
    let is_post = parts.method == Method::POST;
    match path {
        OTLP_PATH if is_post => Ok((OTLP_PATH, export(front, parts, body, false).await)),
        OTLP_DEFAULT_PATH if is_post => Ok((OTLP_DEFAULT_PATH, export(front, parts, body, true).await)),
        OTLP_DEFAULT_PATH => Ok((OTLP_DEFAULT_PATH, not_allowed())),
        _ => match Import::of(path) {
            Some(import) if is_post => Ok((import.path(), import.answer(front, parts, body).await)),
            Some(import) => Ok((import.path(), not_allowed())),
            None => Err(body),
        },
    }
}

fn not_allowed() -> Response {
    respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

pub(in crate::api) fn header_of(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default()
}

/// Writes a request; the shards' answer, whatever became of it.
async fn written(front: &Front, terms: Terms, body: Vec<u8>, connection: u64) -> Answer {
    match front.backend.write_plain(terms, body, connection).await {
        Ok(answer) => answer,
        Err(e) => {
            Answer { status: 503, text: e.text, written: None, retry_after: Some(1), ..Answer::default() }
        }
    }
}

fn connection_of(parts: &Parts) -> u64 {
    parts.extensions.get::<ConnectInfo<Connection>>().map_or(0, |c| c.0.number)
}

fn status_of(e: &push::Error) -> StatusCode {
    match e {
        push::Error::Bad(_) => StatusCode::BAD_REQUEST,
        push::Error::Untranslatable(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A body with the room it takes, packed as it came.
struct Taken<'f> {
    body: axum::body::Bytes,
    _room: SemaphorePermit<'f>,
}

/// Reads a body of at most `bytes_max`, which may grow by a factor when it is read.
async fn take<'f>(
    front: &'f Front,
    parts: &Parts,
    body: Body,
    factor: usize,
    bytes_max: usize,
) -> Result<Taken<'f>, Response> {
    let too_large = || {
        let text = format!("request body exceeds the {bytes_max} bytes limit");
        refused(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    let length = header_of(&parts.headers, header::CONTENT_LENGTH).parse().unwrap_or(bytes_max);
    if length > bytes_max {
        return Err(too_large());
    }
    let is_packed = parts.headers.contains_key(header::CONTENT_ENCODING);
    let held = if is_packed { length.saturating_mul(8).min(UNPACKED_BYTES_MAX) } else { length };
    let wanted = held.saturating_mul(factor).div_ceil(1024).clamp(1, crate::api::write::BODIES_KIB_MAX);
    let Ok(room) = front.bodies.try_acquire_many(wanted as u32) else {
        let text = "too many requests at one time".to_owned();
        return Err(answered(Answer {
            status: 503,
            text,
            written: None,
            retry_after: Some(1),
            ..Answer::default()
        }));
    };
    let Ok(body) = to_bytes(body, bytes_max).await else { return Err(too_large()) };
    Ok(Taken { body, _room: room })
}

/// A request of OTLP. With `tells`, what was odd is told in the answer's body, as OTLP has it; Prometheus's answers
/// have none.
async fn export(front: &Front, parts: &Parts, body: Body, tells: bool) -> Response {
    if !front.backend.is_ready() {
        return lifecycle::not_ready(front.backend.as_ref());
    }
    if !front.settings.otlp {
        let text = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver";
        return refused(StatusCode::NOT_FOUND, text);
    }
    let content_type = header_of(&parts.headers, header::CONTENT_TYPE);
    let is_json = match content_type.split(';').next().unwrap_or("").trim() {
        PROTOBUF => false,
        JSON => true,
        _ => {
            let text = format!("unsupported content type: {content_type}, supported: [{JSON}, {PROTOBUF}]");
            return refused(StatusCode::BAD_REQUEST, &text);
        }
    };
    let encoding = header_of(&parts.headers, header::CONTENT_ENCODING);
    let Some(packing) = Packing::of(&encoding).filter(|p| *p != Packing::Snappy) else {
        let text = format!("unsupported compression: {encoding}. Only \"gzip\" or no compression supported");
        return refused(StatusCode::BAD_REQUEST, &text);
    };
    let factor = if is_json { JSON_FACTOR } else { 2 };
    let taken = match take(front, parts, body, factor, BODY_BYTES_MAX).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    match export_body(front, taken.body, packing, is_json, connection_of(parts)).await {
        Ok(_) if !tells => respond::with_type(StatusCode::OK, "text/plain", Vec::new()),
        Ok(warnings) if is_json => respond::with_type(StatusCode::OK, JSON, json_response(&warnings)),
        Ok(warnings) => respond::with_type(StatusCode::OK, PROTOBUF, response_message(&warnings)),
        Err(answer) => answered(answer),
    }
}

/// Translates and writes a body of OTLP; returns what was odd.
pub(in crate::api) async fn export_body(
    front: &Front,
    body: axum::body::Bytes,
    packing: Packing,
    is_json: bool,
    connection: u64,
) -> Result<otlp::Warnings, Answer> {
    let failed = |status: u16, text: String| Answer {
        status,
        text,
        written: None,
        retry_after: None,
        ..Answer::default()
    };
    let (settings, totals) = (front.backend.otlp_settings(), front.backend.otlp_totals());
    let now = front.backend.now_ms();
    // A large request takes longer to translate than others should wait for their turn.
    let translated = tokio::task::spawn_blocking(move || {
        let plain = unpack(packing, &body)?;
        if !is_json {
            return otlp::translate(&settings, &plain, &totals, now);
        }
        let message = exposition::otlp::json::to_protobuf(&mut plain.into_owned())
            .map_err(|e| push::Error::Bad(e.to_string()))?;
        otlp::translate(&settings, &message, &totals, now)
    });
    let translated = match translated.await {
        Ok(Ok(translated)) => translated,
        Ok(Err(e)) => return Err(failed(status_of(&e).as_u16(), e.to_string())),
        Err(e) => return Err(failed(500, e.to_string())),
    };
    front.backend.note_otlp(&translated.warnings);
    for warning in &translated.warnings.texts {
        tracing::warn!(warning, "Warnings translating OTLP metrics to Prometheus write request");
    }
    if translated.body.is_empty() {
        return Ok(translated.warnings);
    }
    let answer = written(front, Terms::Whole, translated.body, connection).await;
    if answer.late_exemplars > 0 {
        front.backend.note_late_exemplars(answer.late_exemplars);
        tracing::warn!(num_dropped = answer.late_exemplars, "Error on ingesting out-of-order exemplars");
    }
    if answer.status == 204 { Ok(translated.warnings) } else { Err(answer) }
}

/// An `ExportMetricsServiceResponse`: nothing was rejected, and perhaps a word about it.
pub(in crate::api) fn response_message(warnings: &otlp::Warnings) -> Vec<u8> {
    let text = warnings.texts.join("\n");
    if text.is_empty() {
        return Vec::new();
    }
    let mut partial = vec![0x12];
    push_sized(&mut partial, text.as_bytes());
    let mut message = vec![0x0a];
    push_sized(&mut message, &partial);
    message
}

fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

fn json_response(warnings: &otlp::Warnings) -> Vec<u8> {
    let mut json = crate::api::json::Json::new();
    json.object(|j| {
        let text = warnings.texts.join("\n");
        if !text.is_empty() {
            j.key("partialSuccess");
            j.object(|j| j.text_member("errorMessage", &text));
        }
    });
    json.into_bytes()
}
