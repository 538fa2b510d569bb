//! OTLP over gRPC: one call, framed by hand over HTTP/2.
//!
//! A message is five bytes (packed or not, and its length) before the bytes; the status stands in the trailers, or in
//! the headers where there is no message.

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, Full};

use super::{connection_of, export_body, header_of, response_message, take};
use crate::api::router::Front;
use crate::push::otlp::Warnings;
use crate::push::unpack::Packing;
use crate::remote::Answer;

pub(in crate::api) const EXPORT_PATH: &str =
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Bytes before a message.
const PREFIX_BYTES: usize = 5;

/// What gRPC's servers take by default. Calls do not tell how long they are, so that much room is held for each.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// gRPC's codes, those that are said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// Answers a call. Exporters come again after `Unavailable` and, of the others here, after none.
pub(in crate::api) async fn answer(front: &Front, parts: &Parts, body: Body) -> Response {
    if parts.method != Method::POST
        || !header_of(&parts.headers, header::CONTENT_TYPE).starts_with("application/grpc")
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    if parts.uri.path() != EXPORT_PATH {
        return failed(Code::Unimplemented, &format!("unknown method {}", parts.uri.path()));
    }
    if !front.backend.is_ready() {
        return failed(Code::Unavailable, "Service Unavailable");
    }
    let taken = match take(front, parts, body, 2, MESSAGE_BYTES_MAX).await {
        Ok(taken) if taken.body.is_empty() => return failed(Code::InvalidArgument, "no message"),
        Ok(taken) => taken,
        Err(response) if response.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return failed(Code::ResourceExhausted, "the message is too large");
        }
        Err(_) => return failed(Code::Unavailable, "too many requests at one time"),
    };
    let (packing, message) = match unframed(&taken.body, &header_of(&parts.headers, ENCODING)) {
        Ok(framed) => framed,
        Err((code, text)) => return failed(code, text),
    };
    match export_body(front, message, packing, false, connection_of(parts)).await {
        Ok(warnings) => succeeded(&warnings),
        Err(answer) => failed(code_of(&answer), &answer.text),
    }
}

/// The one message of a call.
fn unframed(body: &Bytes, encoding: &str) -> Result<(Packing, Bytes), (Code, &'static str)> {
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err((Code::InvalidArgument, "the message is cut off"));
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if rest.len() != length {
        return Err((Code::InvalidArgument, "one whole message is expected"));
    }
    let packing = match (prefix[0], encoding) {
        (0, _) => Packing::None,
        (1, "gzip") => Packing::Gzip,
        (1, "zstd") => Packing::Zstd,
        (1, "snappy") => return Err((Code::Unimplemented, "grpc-encoding snappy is not read here")),
        (1, _) => return Err((Code::Unimplemented, "unknown grpc-encoding")),
        _ => return Err((Code::InvalidArgument, "a message is packed or it is not")),
    };
    Ok((packing, body.slice(PREFIX_BYTES..)))
}

fn code_of(answer: &Answer) -> Code {
    match answer.status {
        400 => Code::InvalidArgument,
        429 | 503 => Code::Unavailable,
        _ => Code::Internal,
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    Bytes::from(out)
}

fn with_headers(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(ACCEPTED, HeaderValue::from_static("identity, gzip, zstd"));
    response
}

fn succeeded(warnings: &Warnings) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(0));
    let message = Full::new(framed(&response_message(warnings)));
    with_headers(Body::new(message.with_trailers(async move { Some(Ok(trailers)) })))
}

fn failed(code: Code, text: &str) -> Response {
    let mut response = with_headers(Body::empty());
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(code as u16));
    if let Ok(text) = HeaderValue::from_str(&escaped(text)) {
        headers.insert(MESSAGE, text);
    }
    response
}

/// As gRPC wants texts in headers: printable ASCII but for the percent sign.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b' '..=b'~' if b != b'%' => out.push(b as char),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_whole() {
        let check = |body: &[u8], encoding: &str, expect: Result<(Packing, &[u8]), Code>| {
            let got = unframed(&Bytes::copy_from_slice(body), encoding);
            let got = got.as_ref().map(|(p, b)| (*p, &b[..])).map_err(|e| e.0);
            assert_eq!(got, expect, "{body:?}");
        };
        check(&framed(b"abc"), "", Ok((Packing::None, b"abc")));
        check(&framed(b""), "gzip", Ok((Packing::None, b"")));
        check(b"\x01\0\0\0\x01x", "gzip", Ok((Packing::Gzip, b"x")));
        check(b"\x01\0\0\0\x01x", "br", Err(Code::Unimplemented));
        check(b"\x02\0\0\0\x01x", "", Err(Code::InvalidArgument));
        check(b"\0\0\0\0", "", Err(Code::InvalidArgument));
        check(b"\0\xff\xff\xff\xffx", "", Err(Code::InvalidArgument));
        check(b"\0\0\0\0\x01xy", "", Err(Code::InvalidArgument));
        assert_eq!(escaped("a\nb%ü"), "a%0Ab%25%C3%BC");
    }
}
