//! Bulk imports: read piece by piece, so that a file of any size comes in.

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_lite::StreamExt;

use super::{connection_of, header_of, take, written};
use crate::api::json::Json;
use crate::api::lifecycle;
use crate::api::params::Params;
use crate::api::respond;
use crate::api::router::Front;
use crate::api::write::answered;
use crate::push::import::{self, Imported, Precision};
use crate::push::unpack::{Packing, unpack};
use crate::remote::negotiate::BODY_BYTES_MAX;
use crate::remote::{Answer, Terms};

/// A body is written in pieces of whole lines of this size: some 50 000 samples each.
const PIECE_BYTES: usize = 4 << 20;

/// The longest line: VictoriaMetrics' own bound for a line of JSON is 10 MB.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Faults that are told to the sender.
const TOLD_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Import {
    Text,
    JsonLines,
    Influx,
    InfluxV2,
}

/// How one request is read.
struct Reading {
    import: Import,
    extra: Vec<(String, String)>,
    precision: Precision,
    /// Of samples that have none.
    time: i64,
}

/// What became of a body so far.
#[derive(Default)]
struct Outcome {
    faults: Vec<String>,
    fault_count: u64,
    /// The shards could not take a piece: the sender must come again.
    failure: Option<Answer>,
    /// Something is not durable before the shards have written it to blocks.
    is_deposited: bool,
}

impl Import {
    pub(super) fn of(path: &str) -> Option<Import> {
        Some(match path {
            "/api/v1/import/prometheus" => Import::Text,
            "/api/v1/import" => Import::JsonLines,
            "/write" | "/influx/write" => Import::Influx,
            "/api/v2/write" | "/influx/api/v2/write" => Import::InfluxV2,
            _ => return None,
        })
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Import::Text => "/api/v1/import/prometheus",
            Import::JsonLines => "/api/v1/import",
            Import::Influx => "/write",
            Import::InfluxV2 => "/api/v2/write",
        }
    }

    pub(super) async fn answer(self, front: &Front, parts: &Parts, body: Body) -> Response {
        if !front.backend.is_ready() {
            return lifecycle::not_ready(front.backend.as_ref());
        }
        let reading = match self.reading(front, parts) {
            Ok(reading) => reading,
            Err(text) => return self.refused(&text),
        };
        let encoding = header_of(&parts.headers, header::CONTENT_ENCODING);
        let Some(packing) = Packing::of(&encoding) else {
            return self.refused(&format!("unsupported Content-Encoding: {encoding}"));
        };
        let connection = connection_of(parts);
        let mut outcome = Outcome::default();
        if packing == Packing::None {
            if let Err(response) = stream(front, &reading, body, connection, &mut outcome).await {
                return response;
            }
        } else {
            let taken = match take(front, parts, body, 2, BODY_BYTES_MAX).await {
                Ok(taken) => taken,
                Err(response) => return response,
            };
            match unpack(packing, &taken.body) {
                Ok(plain) => outcome.write(front, &reading, plain.into_owned(), connection).await,
                Err(e) => return self.refused(&e.to_string()),
            }
        }
        if outcome.is_deposited
            && outcome.failure.is_none()
            && let Err(e) = front.backend.settle_imports().await
        {
            outcome.failure =
                Some(Answer { status: 503, text: e.text, retry_after: Some(1), ..Answer::default() });
        }
        match outcome.failure {
            Some(answer) => answered(answer),
            None if outcome.fault_count == 0 => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            None => self.refused(&outcome.faults.join("\n")),
        }
    }

    fn reading(self, front: &Front, parts: &Parts) -> Result<Reading, String> {
        let params = Params::parse(parts.uri.query().unwrap_or(""), b"");
        let mut extra = Vec::new();
        for label in params.all("extra_label") {
            let (name, value) =
                label.split_once('=').ok_or_else(|| format!("missing '=' in extra_label {label:?}"))?;
            extra.push((name.to_owned(), value.to_owned()));
        }
        // Agents name their database: a label, as VictoriaMetrics has it.
        let db = params.first("db");
        if self == Import::Influx && !db.is_empty() && !extra.iter().any(|(n, _)| n == "db") {
            extra.push(("db".to_owned(), db.to_owned()));
        }
        let precision = params.first("precision");
        let precision =
            Precision::of(precision).ok_or_else(|| format!("unsupported precision {precision:?}"))?;
        let time = match params.first("timestamp") {
            "" => front.backend.now_ms(),
            text => text.parse().map_err(|_| format!("cannot parse timestamp {text:?}"))?,
        };
        Ok(Reading { import: self, extra, precision, time })
    }

    /// What was refused, in the words of the protocol; what is not named was written.
    fn refused(self, text: &str) -> Response {
        let object = |pairs: &[(&str, &str)]| {
            let mut json = Json::new();
            json.object(|j| pairs.iter().for_each(|(n, v)| j.text_member(n, v)));
            respond::with_type(StatusCode::BAD_REQUEST, "application/json", json.into_bytes())
        };
        match self {
            Import::Text | Import::JsonLines => crate::api::write::refused(StatusCode::BAD_REQUEST, text),
            Import::Influx => object(&[("error", text)]),
            Import::InfluxV2 => object(&[("code", "invalid"), ("message", text)]),
        }
    }
}

impl Outcome {
    fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < TOLD_MAX {
            self.faults.push(text);
        }
    }

    /// Reads and writes whole lines.
    async fn write(&mut self, front: &Front, reading: &Reading, mut lines: Vec<u8>, connection: u64) {
        let (import, precision, time) = (reading.import, reading.precision, reading.time);
        let extra = reading.extra.clone();
        let read = tokio::task::spawn_blocking(move || match import {
            Import::Text => import::text(&lines, time, &extra),
            Import::JsonLines => import::json_lines(&mut lines, &extra),
            Import::Influx | Import::InfluxV2 => import::influx(&lines, precision, time, &extra),
        });
        let imported: Imported = match read.await {
            Ok(imported) => imported,
            Err(e) => {
                self.failure = Some(Answer {
                    status: 500,
                    text: e.to_string(),
                    written: None,
                    retry_after: None,
                    ..Answer::default()
                });
                return;
            }
        };
        self.fault_count += imported.fault_count - imported.faults.len() as u64;
        imported.faults.iter().for_each(|f| self.fault(f.clone()));
        let body = imported.into_body();
        if body.is_empty() {
            return;
        }
        let answer = written(front, Terms::Import, body, connection).await;
        self.is_deposited |= answer.deposited > 0;
        match answer.status {
            204 => {}
            400 => answer.text.lines().for_each(|l| self.fault(l.to_owned())),
            _ => self.failure = Some(Answer { written: None, ..answer }),
        }
    }
}

/// Takes a body piece by piece; ends early where the shards take no more.
async fn stream(
    front: &Front,
    reading: &Reading,
    body: Body,
    connection: u64,
    outcome: &mut Outcome,
) -> Result<(), Response> {
    let busy = || {
        let text = "too many requests at one time".to_owned();
        answered(Answer { status: 503, text, written: None, retry_after: Some(1), ..Answer::default() })
    };
    // Two pieces and what is made of them.
    let room = front.bodies.try_acquire_many((4 * PIECE_BYTES / 1024) as u32);
    let _room = room.map_err(|_| busy())?;
    let mut chunks = body.into_data_stream();
    let mut piece: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk.map_err(|e| reading.import.refused(&e.to_string()))?;
        piece.extend_from_slice(&chunk);
        if piece.len() < PIECE_BYTES {
            continue;
        }
        let Some(end) = memchr::memrchr(b'\n', &piece) else {
            if piece.len() > LINE_BYTES_MAX {
                return Err(reading.import.refused(&format!("a line is longer than {LINE_BYTES_MAX} bytes")));
            }
            continue;
        };
        let rest = piece.split_off(end + 1);
        let lines = std::mem::replace(&mut piece, rest);
        outcome.write(front, reading, lines, connection).await;
        if outcome.failure.is_some() {
            return Ok(());
        }
    }
    outcome.write(front, reading, piece, connection).await;
    Ok(())
}
