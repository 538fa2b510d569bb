//! A small blocking HTTP/1.1 client with one kept connection: asks systems questions, sends them writes.
//!
//! In: a path and a body. Out: status and body. Owns: one connection. Runs on: the thread that calls.
//! Invariant: an answer is whole, by its length or its chunks, or it is an error. Never: follows redirects.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;

/// Answers longer than this are refused: the widest query of the set answers in a few MB.
const ANSWER_BYTES_MAX: usize = 512 << 20;
const CONNECT: Duration = Duration::from_secs(5);

pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr, timeout: Duration) -> Self {
        Client { address, timeout, stream: None, buffer: Vec::new() }
    }

    pub fn fetch(&mut self, path: &str) -> io::Result<Response> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.send(head.as_bytes(), &[])
    }

    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> io::Result<Response> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.send(head.as_bytes(), body)
    }

    /// Sends on the kept connection, once more on a new one where the other side had closed it meanwhile.
    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<Response> {
        let kept = self.stream.is_some();
        match self.exchange(head, body) {
            Err(e) if kept && closed(&e) => self.exchange(head, body),
            done => done,
        }
    }

    fn exchange(&mut self, head: &[u8], body: &[u8]) -> io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(s) => s,
            None => {
                let s = TcpStream::connect_timeout(&self.address, CONNECT)?;
                s.set_nodelay(true)?;
                s.set_read_timeout(Some(self.timeout))?;
                s.set_write_timeout(Some(self.timeout))?;
                s
            }
        };
        write_both(&mut stream, head, body)?;
        self.buffer.clear();
        let (response, keep) = read_response(&mut stream, &mut self.buffer)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(response)
    }

    /// `data` of a query API answer, or what went wrong.
    pub fn data(&mut self, path: &str) -> Result<Value, Error> {
        let fail = |what: String| Error::Answer { url: path.to_string(), what };
        let response = self.fetch(path).map_err(|e| fail(e.to_string()))?;
        let mut answer: Value = serde_json::from_slice(&response.body)
            .map_err(|e| fail(format!("status {}, {e}: {}", response.status, excerpt(&response.body))))?;
        if answer["status"] != "success" {
            return Err(fail(format!("status {}: {}", response.status, excerpt(&response.body))));
        }
        Ok(answer["data"].take())
    }

    /// An instant query at `time` (unix seconds).
    pub fn query(&mut self, query: &str, time: f64) -> Result<Value, Error> {
        self.data(&query_path(query, time))
    }
}

pub fn query_path(query: &str, time: f64) -> String {
    format!("/api/v1/query?query={}&time={time:.3}", escape(query))
}

pub fn query_range_path(query: &str, start: f64, end: f64, step: f64) -> String {
    format!("/api/v1/query_range?query={}&start={start:.3}&end={end:.3}&step={step}", escape(query))
}

/// Percent-encodes for a query string.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

pub fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_string()
}

fn closed(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn write_both(stream: &mut TcpStream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let n = stream.write_vectored(&[io::IoSlice::new(head), io::IoSlice::new(body)])?;
    if n < head.len() {
        stream.write_all(&head[n..])?;
    }
    stream.write_all(&body[n.saturating_sub(head.len())..])
}

/// Reads more into `buffer`; an end of stream here is an error.
fn read_more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    let at = buffer.len();
    if at > ANSWER_BYTES_MAX {
        return Err(io::Error::other("answer too long"));
    }
    buffer.resize(at + (64 << 10), 0);
    let n = stream.read(&mut buffer[at..]);
    buffer.truncate(at + *n.as_ref().unwrap_or(&0));
    match n {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(e) => Err(e),
    }
}

/// One response, and whether the connection may be used again.
fn read_response(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<(Response, bool)> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let header = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let keep = header("connection:") != Some("close");
    if header("transfer-encoding:") == Some("chunked") {
        let body = read_chunks(stream, buffer, end)?;
        return Ok((Response { status, body }, keep));
    }
    let length = match header("content-length:").map(str::parse::<usize>) {
        Some(Ok(n)) if n <= ANSWER_BYTES_MAX => n,
        None if status == 204 || status == 304 => 0,
        _ => return Err(io::Error::other("answer without a usable length")),
    };
    while buffer.len() < end + length {
        read_more(stream, buffer)?;
    }
    Ok((Response { status, body: buffer[end..end + length].to_vec() }, keep))
}

fn read_chunks(stream: &mut impl Read, buffer: &mut Vec<u8>, mut at: usize) -> io::Result<Vec<u8>> {
    let bad = || io::Error::other("bad chunk");
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(n) = buffer[at..].windows(2).position(|w| w == b"\r\n") {
                break at + n;
            }
            read_more(stream, buffer)?;
        };
        let text = std::str::from_utf8(&buffer[at..line_end]).map_err(|_| bad())?;
        let size =
            usize::from_str_radix(text.split(';').next().unwrap_or("").trim(), 16).map_err(|_| bad())?;
        if size > ANSWER_BYTES_MAX {
            return Err(bad());
        }
        let start = line_end + 2;
        while buffer.len() < start + size + 2 {
            read_more(stream, buffer)?;
        }
        body.extend_from_slice(&buffer[start..start + size]);
        at = start + size + 2;
        if size == 0 {
            return Ok(body);
        }
        if body.len() > ANSWER_BYTES_MAX {
            return Err(bad());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: Option<(u16, &str, bool)>) {
        let got = read_response(&mut input.as_bytes(), &mut Vec::new()).ok();
        let got = got.map(|(r, keep)| (r.status, String::from_utf8_lossy(&r.body).to_string(), keep));
        assert_eq!(got, expect.map(|(s, b, k)| (s, b.to_string(), k)), "{input:?}");
    }

    #[test]
    fn answers_are_read_by_length_and_by_chunks() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Some((200, "hi", true)));
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: close\r\n\r\nhi",
            Some((200, "hi", false)),
        );
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, "", true)));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
            Some((200, "abcde", true)),
        );
    }

    #[test]
    fn broken_answers_are_errors() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", None);
        check("HTTP/1.1 200 OK\r\n\r\nhi", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", None);
        check("", None);
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("a{b=\"c\"} + 1"), "a%7Bb%3D%22c%22%7D%20%2B%201");
    }
}
