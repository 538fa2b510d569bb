//! `/api/v1/write`: remote write, from the socket to the shards and back.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::serve::IncomingStream;

use crate::api::doorway::Doorway;
use crate::api::router::Front;
use crate::api::{lifecycle, respond};
use crate::remote::negotiate::{BODY_BYTES_MAX, negotiate};
use crate::remote::{Answer, answer::Written};

pub const PATH: &str = "/api/v1/write";

/// Bodies held at one time, in KiB: eight of the largest, or a hundred thousand of the usual ones. Further senders
/// are put off.
pub const BODIES_KIB_MAX: usize = 256 << 10;

/// A connection: its number, for requests of one connection are read by one shard, which knows its series; and who
/// is at its other end.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub number: u64,
    pub peer: IpAddr,
}

impl Connected<IncomingStream<'_, Doorway>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Doorway>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Connection { number: COUNT.fetch_add(1, Relaxed), peer: stream.remote_addr().ip() }
    }
}

pub(in crate::api) async fn write(front: &Front, parts: &Parts, body: Body) -> Response {
    if !front.backend.is_ready() {
        return lifecycle::not_ready(front.backend.as_ref());
    }
    if !front.settings.remote_write {
        let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return refused(StatusCode::NOT_FOUND, text);
    }
    let value = |name| parts.headers.get(name).map(|v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()));
    let content_type = value(header::CONTENT_TYPE);
    let encoding = value(header::CONTENT_ENCODING);
    let accepted = &front.settings.accepted_messages;
    let protocol = match negotiate(content_type.as_deref(), encoding.as_deref(), accepted) {
        Ok(protocol) => protocol,
        Err(text) => return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text),
    };
    let too_large = || {
        let text = format!("request body exceeds the {BODY_BYTES_MAX} bytes limit");
        refused(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    let length =
        value(header::CONTENT_LENGTH).and_then(|l| l.parse::<usize>().ok()).unwrap_or(BODY_BYTES_MAX);
    if length > BODY_BYTES_MAX {
        return too_large();
    }
    let Ok(_room) = front.bodies.try_acquire_many(length.div_ceil(1024) as u32) else {
        let text = "too many remote write requests at one time".to_owned();
        return answered(Answer {
            status: 503,
            text,
            written: None,
            retry_after: Some(1),
            ..Answer::default()
        });
    };
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else { return too_large() };
    let connection = parts.extensions.get::<ConnectInfo<Connection>>().map_or(0, |c| c.0.number);
    match front.backend.write(protocol, body, connection).await {
        Ok(answer) => answered(answer),
        Err(e) => answered(Answer {
            status: 503,
            text: e.text,
            written: None,
            retry_after: Some(1),
            ..Answer::default()
        }),
    }
}

/// As Go's `http.Error`.
pub(in crate::api) fn refused(status: StatusCode, text: &str) -> Response {
    let mut response = respond::text(status, format!("{text}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(in crate::api) fn answered(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if answer.text.is_empty() {
        let mut r = Response::new(Body::empty());
        *r.status_mut() = status;
        r
    } else {
        refused(status, &answer.text)
    };
    let headers = response.headers_mut();
    if let Some(written) = answer.written {
        push_written(headers, written);
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn push_written(headers: &mut HeaderMap, written: Written) {
    for (name, count) in written.headers() {
        headers.insert(name, HeaderValue::from(count));
    }
}
