//! `/metrics/job/..`: the push gateway's paths.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;

use super::{connection_of, header_of, status_of, take, written};
use crate::api::params::unescaped;
use crate::api::router::Front;
use crate::api::write::{answered, refused};
use crate::api::{lifecycle, respond};
use crate::push::gateway::{GroupKey, Page, Push};
use crate::push::unpack::{Packing, unpack};
use crate::push::{self, Error};
use crate::remote::negotiate::BODY_BYTES_MAX;
use crate::remote::{Answer, Terms};

/// What stands before a group's labels.
pub(super) const PREFIX: &str = "/metrics/job";
pub(super) const HANDLER: &str = "/metrics/job/*labels";

/// Delimited families; whatever else a push says it is, is read as text.
const PROTOBUF: &str = "application/vnd.google.protobuf";

/// Answers for the group whose path behind [`PREFIX`] is `rest`.
pub(super) async fn answer(front: &Front, parts: &Parts, rest: &str, body: Body) -> Response {
    if !front.backend.is_ready() {
        return lifecycle::not_ready(front.backend.as_ref());
    }
    // A plus in a path is a plus.
    let unescape = |t: &str| unescaped(t.replace('+', "%2B").as_bytes());
    let group = match GroupKey::parse(&format!("job{rest}"), unescape) {
        Ok(group) => group,
        Err(e) => return refused(status_of(&e), &e.to_string()),
    };
    let push = match parts.method {
        Method::PUT => Push::Group,
        Method::POST => Push::Families,
        Method::DELETE => {
            let request = front.backend.with_gateway(&mut |gateway, now| Ok(gateway.delete(&group, now)));
            return match say(front, parts, request).await {
                Ok(()) => empty(StatusCode::ACCEPTED),
                Err(response) => response,
            };
        }
        _ => return respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
    };
    let is_protobuf = header_of(&parts.headers, header::CONTENT_TYPE).starts_with(PROTOBUF);
    let Some(packing) = Packing::of(&header_of(&parts.headers, header::CONTENT_ENCODING)) else {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported Content-Encoding");
    };
    let taken = match take(front, parts, body, 2, BODY_BYTES_MAX).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    let page = match unpack(packing, &taken.body) {
        Ok(page) => page,
        Err(e) => return refused(status_of(&e), &e.to_string()),
    };
    let page = if is_protobuf { Page::Protobuf(&page) } else { Page::Text(&page) };
    let request = front.backend.with_gateway(&mut |gateway, now| gateway.push(&group, push, page, now));
    match say(front, parts, request).await {
        Ok(()) => empty(StatusCode::OK),
        Err(response) => response,
    }
}

/// Writes what the gateway has to say.
async fn say(front: &Front, parts: &Parts, request: Result<Vec<u8>, Error>) -> Result<(), Response> {
    let request = request.map_err(|e: push::Error| refused(status_of(&e), &e.to_string()))?;
    if request.is_empty() {
        return Ok(());
    }
    match written(front, Terms::Part, request, connection_of(parts)).await {
        Answer { status: 204, .. } => Ok(()),
        other => Err(answered(other)),
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
