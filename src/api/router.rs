//! The routes: which path is answered by whom, and what all answers share.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::Semaphore;

use crate::api::backend::{Backend, Origin};
use crate::api::error::ApiError;
use crate::api::params::{Params, unescaped};
use crate::api::write::Connection;
use crate::api::{
    admin, exemplars, federate, labels, lifecycle, push, queries, query, respond, status, targets, write,
};
use crate::remote::Protocol;
use crate::rt::Clock;

/// Form bodies: what Go's `ParseForm` takes.
const FORM_BYTES_MAX: usize = 10 << 20;

/// What the front is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub lifecycle_enabled: bool,
    pub admin_enabled: bool,
    /// Requests answered at one time; further ones wait.
    pub requests_max: usize,
    /// Host that the outside knows, for targets on loopback.
    pub external_host: String,
    pub lookback_ms: i64,
    /// Whether remote write is received, and which of its messages.
    pub remote_write: bool,
    pub accepted_messages: Vec<Protocol>,
    /// Whether OTLP is received.
    pub otlp: bool,
}

pub(in crate::api) struct Front {
    pub(in crate::api) backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    pub(in crate::api) settings: Settings,
    pub(in crate::api) bodies: Semaphore,
    turns: Semaphore,
}

pub fn router(backend: Arc<dyn Backend>, clock: Arc<dyn Clock>, settings: Settings) -> Router {
    let turns = Semaphore::new(settings.requests_max);
    let bodies = Semaphore::new(write::BODIES_KIB_MAX);
    let front = Arc::new(Front { backend, clock, settings, bodies, turns });
    Router::new().fallback(answer).layer(DefaultBodyLimit::max(FORM_BYTES_MAX)).with_state(front)
}

/// Only the calls of gRPC, for a port of their own.
pub fn grpc_router(backend: Arc<dyn Backend>, clock: Arc<dyn Clock>, settings: Settings) -> Router {
    let turns = Semaphore::new(settings.requests_max);
    let bodies = Semaphore::new(write::BODIES_KIB_MAX);
    let front = Arc::new(Front { backend, clock, settings, bodies, turns });
    Router::new().fallback(answer_call).with_state(front)
}

async fn answer_call(State(front): State<Arc<Front>>, request: Request) -> Response {
    let started = front.clock.now();
    // The semaphore is never closed.
    let _turn = front.turns.acquire().await;
    let (parts, body) = request.into_parts();
    let response = push::grpc::answer(&front, &parts, body).await;
    let took = front.clock.now().since(started);
    front.backend.note_request(push::grpc::EXPORT_PATH, response.status().as_u16(), took, 0);
    response
}

/// A request, taken apart.
struct Asked {
    method: Method,
    path: String,
    params: Params,
    headers: HeaderMap,
    client: Option<IpAddr>,
}

impl Asked {
    fn origin(&self) -> Origin {
        Origin {
            client: self.client.map(|a| a.to_string()).unwrap_or_default(),
            method: self.method.to_string(),
            path: self.path.clone(),
        }
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let started = front.clock.now();
    // The semaphore is never closed.
    let _turn = front.turns.acquire().await;
    let (parts, body) = request.into_parts();
    let pushed = match parts.uri.path() {
        write::PATH if parts.method == Method::POST => {
            Ok((write::PATH, write::write(&front, &parts, body).await))
        }
        _ => push::answer(&front, &parts, body).await,
    };
    let body = match pushed {
        Ok((handler, response)) => {
            let took = front.clock.now().since(started);
            front.backend.note_request(handler, response.status().as_u16(), took, 0);
            return response;
        }
        Err(body) => body,
    };
    let body = match read_form(&parts.method, body).await {
        Ok(b) => b,
        Err(r) => return r,
    };
    let asked = Asked {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        params: Params::parse(parts.uri.query().unwrap_or(""), &body),
        headers: parts.headers,
        client: parts.extensions.get::<ConnectInfo<Connection>>().map(|c| c.0.peer),
    };
    let (handler, mut response) = route(&front, &asked).await;
    let bytes = finish(&asked, &mut response).await;
    let took = front.clock.now().since(started);
    front.backend.note_request(handler, response.status().as_u16(), took, bytes);
    response
}

async fn read_form(method: &Method, body: Body) -> Result<Bytes, Response> {
    if method != Method::POST && method != Method::PUT {
        return Ok(Bytes::new());
    }
    to_bytes(body, FORM_BYTES_MAX)
        .await
        .map_err(|e| respond::failure(&ApiError::bad_data(format!("error parsing form values: {e}"))))
}

/// Compresses the body and sets the headers that all answers have. Returns the body's size.
async fn finish(asked: &Asked, response: &mut Response) -> usize {
    let body = std::mem::replace(response.body_mut(), Body::empty());
    let Ok(body) = to_bytes(body, usize::MAX).await else { return 0 };
    let headers = response.headers_mut();
    let body = respond::compressed(&asked.headers, headers, body.into());
    if asked.path.starts_with("/api/") {
        set_cors(&asked.headers, headers);
    }
    let bytes = body.len();
    if asked.method != Method::HEAD {
        *response.body_mut() = Body::from(body);
    }
    bytes
}

fn set_cors(request: &HeaderMap, headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if request.get(header::ORIGIN).is_none() {
        return;
    }
    for (name, value) in [
        ("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin"),
        ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

pub(in crate::api) fn empty(status: StatusCode) -> Response {
    let mut r = Response::new(Body::empty());
    *r.status_mut() = status;
    r
}

fn not_allowed() -> Response {
    respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

async fn route(front: &Front, asked: &Asked) -> (&'static str, Response) {
    let backend = front.backend.as_ref();
    let path = asked.path.as_str();
    let is_get = asked.method == Method::GET || asked.method == Method::HEAD;
    match path {
        "/-/healthy" if is_get => return ("/-/healthy", lifecycle::healthy()),
        "/-/reload" => {
            let enabled = front.settings.lifecycle_enabled;
            return ("/-/reload", lifecycle::reload(front.backend.clone(), &asked.method, enabled).await);
        }
        "/-/quit" => {
            let enabled = front.settings.lifecycle_enabled;
            return ("/-/quit", lifecycle::quit(backend, &asked.method, enabled));
        }
        "/metrics" if is_get => return ("/metrics", metrics(backend).await),
        "/version" if is_get => return ("/version", status::version()),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("/api/v1/") {
        return api(front, asked, rest).await;
    }
    let is_ready = backend.is_ready();
    match path {
        "/-/ready" if is_get && is_ready => ("/-/ready", lifecycle::ready()),
        "/federate" if is_get && is_ready => {
            ("/federate", federate::federate(backend, &asked.params, front.settings.lookback_ms).await)
        }
        "/-/ready" | "/federate" if is_get => (path_of(path), lifecycle::not_ready(backend)),
        _ => ("/", respond::text(StatusCode::NOT_FOUND, "404 page not found\n")),
    }
}

/// Handler names are few and known: a request's own path must not become a label value.
fn path_of(path: &str) -> &'static str {
    match path {
        "/-/ready" => "/-/ready",
        "/-/reload" => "/-/reload",
        "/federate" => "/federate",
        _ => "/",
    }
}

async fn metrics(backend: &dyn Backend) -> Response {
    match backend.metrics().await {
        Ok(page) => respond::with_type(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8; escaping=values",
            page.into_bytes(),
        ),
        Err(e) => respond::text(e.kind.status(), format!("{}\n", e.text)),
    }
}

async fn api(front: &Front, asked: &Asked, rest: &str) -> (&'static str, Response) {
    let backend = front.backend.as_ref();
    if asked.method == Method::OPTIONS {
        return ("/api/v1", empty(StatusCode::NO_CONTENT));
    }
    if !backend.is_ready() {
        return ("/api/v1", lifecycle::not_ready(backend));
    }
    let params = &asked.params;
    let posts_too = asked.method == Method::GET || asked.method == Method::POST;
    let gets = asked.method == Method::GET;
    if let Some(name) = rest.strip_prefix("label/").and_then(|r| r.strip_suffix("/values")) {
        let handler = "/api/v1/label/:name/values";
        if !gets {
            return (handler, not_allowed());
        }
        let name = unescaped(name.replace('+', "%2B").as_bytes());
        return (handler, respond::of(labels::values(backend, &name, params).await));
    }
    if let Some(id) = rest.strip_prefix("queries/") {
        let handler = "/api/v1/queries/:id";
        return match asked.method == Method::DELETE {
            true => (handler, respond::of(queries::cancel(backend, id))),
            false => (handler, not_allowed()),
        };
    }
    if let Some(wish) = admin::Wish::of_path(rest) {
        let is_enabled = front.settings.admin_enabled;
        return match asked.method == Method::POST || asked.method == Method::PUT {
            true => (wish.handler(), respond::of(admin::carry_out(backend, wish, params, is_enabled).await)),
            false => (wish.handler(), not_allowed()),
        };
    }
    let (handler, allowed): (&'static str, bool) = match rest {
        "write" => (write::PATH, false),
        "otlp/v1/metrics" => (push::OTLP_PATH, false),
        "query" => ("/api/v1/query", posts_too),
        "query_range" => ("/api/v1/query_range", posts_too),
        "format_query" => ("/api/v1/format_query", posts_too),
        "parse_query" => ("/api/v1/parse_query", posts_too),
        "queries" => ("/api/v1/queries", gets),
        "series" => ("/api/v1/series", posts_too),
        "labels" => ("/api/v1/labels", posts_too),
        "metadata" => ("/api/v1/metadata", gets),
        "query_exemplars" => ("/api/v1/query_exemplars", posts_too),
        "targets" => ("/api/v1/targets", gets),
        "targets/metadata" => ("/api/v1/targets/metadata", gets),
        "scrape_pools" => ("/api/v1/scrape_pools", gets),
        "status/buildinfo" => ("/api/v1/status/buildinfo", gets),
        "status/damage" => ("/api/v1/status/damage", gets),
        "status/config" => ("/api/v1/status/config", gets),
        "status/flags" => ("/api/v1/status/flags", gets),
        "status/runtimeinfo" => ("/api/v1/status/runtimeinfo", gets),
        "status/tsdb" => ("/api/v1/status/tsdb", gets),
        "status/tsdb/blocks" => ("/api/v1/status/tsdb/blocks", gets),
        _ => return ("/api/v1", respond::text(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    if !allowed {
        return (handler, not_allowed());
    }
    let response = match rest {
        "query" => respond::of(query::instant(backend, params, asked.origin()).await),
        "query_range" => respond::of(query::range(backend, params, asked.origin()).await),
        "format_query" => respond::of(query::format(backend, params)),
        "parse_query" => respond::of(query::parse(backend, params)),
        "queries" => queries::running(backend),
        "series" => respond::of(labels::series(backend, params).await),
        "labels" => respond::of(labels::names(backend, params).await),
        "status/damage" => respond::of(status::damage(backend).await),
        "metadata" => respond::of(labels::metadata(backend, params).await),
        "targets" => respond::of(targets::targets(backend, params, &front.settings.external_host).await),
        "query_exemplars" => respond::of(exemplars::query(backend, params).await),
        "targets/metadata" => respond::of(targets::metadata(backend, params).await),
        "scrape_pools" => targets::scrape_pools(backend),
        "status/buildinfo" => status::build_info(),
        "status/config" => status::config(backend),
        "status/flags" => status::flags(backend),
        "status/tsdb/blocks" => respond::of(status::tsdb_blocks(backend).await),
        "status/runtimeinfo" => status::runtime_info(backend),
        _ => respond::of(status::tsdb(backend, params).await),
    };
    (handler, response)
}
