//! A sender's connection on a shard: requests read where they are taken, without a turn of the control plane.
//!
//! Only the plain request is taken here, the one that senders repeat. Whatever else comes leaves as it came, bytes
//! and all, for the front, which knows every case and its words.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use model::Timestamp;

use crate::http::{Received, ReceivedHead, Response};
use crate::remote::negotiate::{BODY_BYTES_MAX, negotiate};
use crate::remote::{Answer, Protocol, Receiver};
use crate::rt::Clock;
use crate::rt::gate::Gate;
use crate::rt::net::Stream;

/// How the only request that is taken here begins.
pub const FIRST_LINE: &[u8] = b"POST /api/v1/write HTTP/1.1\r\n";

const TARGET: &str = "/api/v1/write";

/// What an idle connection holds: a request of 2 000 samples is half of it.
const HELD_BYTES: usize = 64 << 10;

/// What is kept of a larger buffer from request to request: 512 connections (what the front allows) hold 128 MiB.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What a shard's connections share.
#[derive(Clone)]
pub struct Door {
    pub accepted: Arc<[Protocol]>,
    pub clock: Arc<dyn Clock>,
    /// Told of each answer: its status, and how long it took.
    pub note: Arc<dyn Fn(u16, Duration) + Send + Sync>,
}

/// Why a connection is not read any more.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// The peer has gone, or the shard stops.
    Closed,
    /// What it says next is not for this place.
    Foreign,
}

/// What the bytes at hand come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Partial,
    Foreign,
    Write { protocol: Protocol, head_bytes: usize, body_bytes: usize, is_last: bool },
}

fn hear(bytes: &[u8], accepted: &[Protocol]) -> Heard {
    let seen = bytes.len().min(FIRST_LINE.len());
    if bytes[..seen] != FIRST_LINE[..seen] {
        return Heard::Foreign;
    }
    match Received::of(bytes) {
        Received::Partial => Heard::Partial,
        Received::Odd => Heard::Foreign,
        Received::Head(head) => of_head(&head, accepted).unwrap_or(Heard::Foreign),
    }
}

fn of_head(head: &ReceivedHead<'_>, accepted: &[Protocol]) -> Option<Heard> {
    let (kind, encoding) = ("content-type", "content-encoding");
    if head.target != TARGET
        || head.body_bytes > BODY_BYTES_MAX
        || head.repeats(kind)
        || head.repeats(encoding)
    {
        return None;
    }
    let protocol = negotiate(head.header(kind), head.header(encoding), accepted).ok()?;
    let ReceivedHead { head_bytes, body_bytes, .. } = *head;
    Some(Heard::Write { protocol, head_bytes, body_bytes, is_last: head.is_last() })
}

/// A connection with what was read of it.
pub struct Connection {
    pub stream: Stream,
    bytes: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub fn new(stream: Stream) -> Connection {
        Connection { stream, bytes: vec![0; HELD_BYTES], filled: 0 }
    }

    /// The socket, and the bytes that were read and not taken.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        let mut bytes = self.bytes;
        bytes.truncate(self.filled);
        (self.stream, bytes)
    }

    /// Takes requests until the peer goes, the gate closes, or something else comes.
    pub async fn serve(&mut self, receiver: &Receiver, door: &Door, gate: &Gate) -> Left {
        loop {
            let (protocol, head_bytes, body_bytes, is_last) =
                match hear(&self.bytes[..self.filled], &door.accepted) {
                    Heard::Foreign => return Left::Foreign,
                    Heard::Partial => match self.read(self.bytes.len(), gate).await {
                        true => continue,
                        false => return Left::Closed,
                    },
                    Heard::Write { protocol, head_bytes, body_bytes, is_last } => {
                        (protocol, head_bytes, body_bytes, is_last)
                    }
                };
            let started = door.clock.now();
            let end = head_bytes + body_bytes;
            let Some(_room) = receiver.hold_body(end) else {
                // Nothing of the body is read, so nothing that follows could be.
                let busy =
                    crate::remote::Error::Busy("too many remote write requests at one time".to_owned());
                let answer = Answer::failed(protocol, &busy);
                let _ = self.answer(&answer, true, door.clock.now_ms()).await;
                (door.note)(answer.status, door.clock.now().since(started));
                return Left::Closed;
            };
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            while self.filled < end {
                if !self.read(end, gate).await {
                    return Left::Closed;
                }
            }
            let now = door.clock.now_ms();
            let answer = receiver.take(protocol, &self.bytes[head_bytes..end], now).await;
            let is_told = self.answer(&answer, is_last, now).await;
            (door.note)(answer.status, door.clock.now().since(started));
            if !is_told || is_last {
                return Left::Closed;
            }
            self.forget(end);
        }
    }

    /// Reads what is there, up to `end` bytes in all; false when there will be no more.
    async fn read(&mut self, end: usize, gate: &Gate) -> bool {
        let into = &mut self.bytes[self.filled..end];
        let read = async { self.stream.read(into).await.unwrap_or(0) };
        let closing = async {
            gate.closing().await;
            0
        };
        let count = or(read, closing).await;
        self.filled += count;
        count > 0
    }

    async fn answer(&mut self, answer: &Answer, is_last: bool, now: Timestamp) -> bool {
        let bytes = response_of(answer, is_last).to_bytes(now);
        self.stream.write_all(&bytes).await.is_ok()
    }

    /// The first `end` bytes are dealt with.
    fn forget(&mut self, end: usize) {
        self.bytes.copy_within(end..self.filled, 0);
        self.filled -= end;
        if self.bytes.len() > KEPT_BYTES_MAX {
            self.bytes.truncate(HELD_BYTES.max(self.filled));
            self.bytes.shrink_to_fit();
        }
    }
}

fn response_of(answer: &Answer, is_last: bool) -> Response {
    let mut response = Response::new(answer.status);
    if !answer.text.is_empty() {
        // As Go's `http.Error`.
        response.header("Content-Type", "text/plain; charset=utf-8");
        response.header("X-Content-Type-Options", "nosniff");
        response.body = format!("{}\n", answer.text);
    }
    if let Some(written) = answer.written {
        for (name, count) in written.headers() {
            response.header(name, count);
        }
    }
    if let Some(seconds) = answer.retry_after {
        response.header("Retry-After", seconds);
    }
    if is_last {
        response.header("Connection", "close");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::answer::Written;

    const HEAD: &str =
        "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Encoding: snappy\r\n\r\n";

    #[test]
    fn only_the_plain_request_is_taken_here() {
        let check = |text: &str, expect: Option<Protocol>| match hear(text.as_bytes(), &Protocol::ALL) {
            Heard::Write { protocol, body_bytes, .. } => {
                assert_eq!((Some(protocol), body_bytes), (expect, 5), "{text:?}");
            }
            other => assert_eq!((other, expect), (Heard::Foreign, None), "{text:?}"),
        };
        let with = |line: &str| HEAD.replace("Host: x", line);
        check(HEAD, Some(Protocol::V1));
        check(&with("Content-Type: application/x-protobuf"), Some(Protocol::V1));
        let two = "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request";
        check(&with(two), Some(Protocol::V2));
        check(&with("Content-Type: text/plain"), None);
        check(&with("Content-Encoding: snappy"), None);
        check(&HEAD.replace("snappy", "gzip"), None);
        check(&HEAD.replace("write", "query"), None);
        check(&HEAD.replace("POST", "GET"), None);
        check(&HEAD.replace("Length: 5", &format!("Length: {}", BODY_BYTES_MAX + 1)), None);
        assert_eq!(hear(two.as_bytes(), &[]), Heard::Foreign);
        assert_eq!(hear(HEAD.as_bytes(), &[Protocol::V2]), Heard::Foreign);
        for end in 0..HEAD.len() - 1 {
            assert_eq!(hear(&HEAD.as_bytes()[..end], &Protocol::ALL), Heard::Partial, "{end}");
        }
    }

    #[test]
    fn answers_are_what_the_front_would_say() {
        let check = |answer: Answer, is_last: bool, expect: &str| {
            let bytes = response_of(&answer, is_last).to_bytes(784_111_777_000);
            assert_eq!(String::from_utf8(bytes).unwrap(), expect);
        };
        let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let written = Written { samples: 3, histograms: 2, exemplars: 1 };
        check(
            Answer { status: 204, ..Answer::default() },
            false,
            &format!("HTTP/1.1 204 No Content\r\n{date}"),
        );
        let counts = "x-prometheus-remote-write-samples-written: 3\r\n\
                      x-prometheus-remote-write-histograms-written: 2\r\n\
                      x-prometheus-remote-write-exemplars-written: 1\r\n";
        check(
            Answer { status: 204, written: Some(written), ..Answer::default() },
            true,
            &format!("HTTP/1.1 204 No Content\r\n{counts}connection: close\r\n{date}"),
        );
        check(
            Answer {
                status: 503,
                text: "full".to_owned(),
                written: None,
                retry_after: Some(1),
                ..Answer::default()
            },
            false,
            &format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
                 x-content-type-options: nosniff\r\nretry-after: 1\r\ncontent-length: 5\r\n{date}full\n"
            ),
        );
    }
}
