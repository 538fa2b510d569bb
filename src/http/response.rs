//! An answer from bytes: its head, then its body in one of three forms.

use crate::http::Error;

/// A head larger than this is refused: Go's client allows 1 MiB, a target's is a few hundred bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of one answer; more are refused. Each costs 32 bytes of stack while the head is read.
const HEADERS_MAX: usize = 96;

/// How the body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilClosed,
}

/// What comes before the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// `404 Not Found`, as it stands in the first line.
    pub status_text: String,
    pub body: Body,
    pub is_gzip: bool,
    /// Whether the connection can carry another exchange once the body is read.
    pub is_reusable: bool,
    pub content_type: String,
    pub location: Option<String>,
}

impl Head {
    /// The head at the start of `bytes` and its length; `None` while it is not all there.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Error> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|e| malformed(&e.to_string(), bytes))?;
        let httparse::Status::Complete(length) = parsed else {
            if bytes.len() >= HEAD_BYTES_MAX {
                return Err(malformed("header too long", b""));
            }
            return Ok(None);
        };
        let status = response.code.unwrap_or(0);
        let reason = response.reason.filter(|r| !r.is_empty()).unwrap_or_else(|| reason_of(status));
        let mut head = Head {
            status,
            status_text: format!("{status:03} {reason}").trim_end().to_owned(),
            body: Body::UntilClosed,
            is_gzip: false,
            is_reusable: response.version == Some(1),
            content_type: String::new(),
            location: None,
        };
        for header in response.headers.iter() {
            head.take(header)?;
        }
        if status == 204 || status == 304 || (100..200).contains(&status) {
            head.body = Body::Length(0);
        }
        head.is_reusable &= head.body != Body::UntilClosed;
        Ok(Some((head, length)))
    }

    fn take(&mut self, header: &httparse::Header<'_>) -> Result<(), Error> {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") && self.body != Body::Chunked {
            let length =
                value.parse().map_err(|_| malformed(&format!("bad Content-Length {value:?}"), b""))?;
            if let Body::Length(before) = self.body
                && before != length
            {
                return Err(malformed("two Content-Length headers differ", b""));
            }
            self.body = Body::Length(length);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(malformed(&format!("unsupported transfer encoding: {value:?}"), b""));
            }
            self.body = Body::Chunked;
        } else if is("content-encoding") {
            self.is_gzip = value.eq_ignore_ascii_case("gzip");
        } else if is("connection") {
            let says = |word| value.split(',').any(|v| v.trim().eq_ignore_ascii_case(word));
            self.is_reusable = !says("close") && (self.is_reusable || says("keep-alive"));
        } else if is("content-type") && self.content_type.is_empty() {
            self.content_type = value.to_owned();
        } else if is("location") {
            self.location = Some(value.to_owned());
        }
        Ok(())
    }
}

/// What Go prints for a status that came without words.
fn reason_of(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

fn malformed(what: &str, bytes: &[u8]) -> Error {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = &line[..line.len().min(60)];
    let mut text = format!("malformed HTTP response: {what}");
    if !line.is_empty() {
        text.push(' ');
        model::quote::push_quoted_bytes(&mut text, line.strip_suffix(b"\r").unwrap_or(line));
    }
    Error::Malformed(text)
}

/// What the reader wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// So many bytes and not one more.
    Exactly(usize),
    /// Some bytes; how many is not known.
    Some,
    Nothing,
}

/// Takes a body as it comes, into a buffer of the caller's that never grows past `limit`.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    limit: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Length {
        left: usize,
    },
    UntilClosed,
    /// A chunk's size line, gathered.
    ChunkSize {
        line: Vec<u8>,
    },
    ChunkData {
        left: usize,
    },
    /// The line break behind a chunk.
    ChunkEnd {
        left: usize,
    },
    /// Trailer lines: so many bytes since the last line break.
    Trailer {
        line_bytes: usize,
        total: usize,
    },
    Done,
}

/// A chunk's size with its extensions; more is an attack.
const CHUNK_LINE_MAX: usize = 4096;
const TRAILER_MAX: usize = 16 * 1024;

impl BodyReader {
    /// Fails at once where the head already promises more than `limit`.
    pub fn new(body: Body, limit: usize) -> Result<Self, Error> {
        let state = match body {
            Body::Length(0) => State::Done,
            Body::Length(n) => match usize::try_from(n) {
                Ok(left) if left <= limit => State::Length { left },
                _ => return Err(Error::TooLarge),
            },
            Body::Chunked => State::ChunkSize { line: Vec::new() },
            Body::UntilClosed => State::UntilClosed,
        };
        Ok(BodyReader { state, limit })
    }

    pub fn due(&self) -> Due {
        match &self.state {
            State::Length { left } => Due::Exactly(*left),
            State::Done => Due::Nothing,
            _ => Due::Some,
        }
    }

    /// Notes that `count` bytes were read straight into the body: only after [`Due::Exactly`].
    pub fn note_read(&mut self, count: usize) {
        if let State::Length { left } = &mut self.state {
            *left -= count.min(*left);
            if *left == 0 {
                self.state = State::Done;
            }
        }
    }

    /// The peer closed the connection.
    pub fn close(&mut self) -> Result<(), Error> {
        match self.state {
            State::UntilClosed | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Error::Truncated),
        }
    }

    /// Takes what belongs to the body from `bytes`; what is left behind it belongs to nobody.
    pub fn take(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<(), Error> {
        while !bytes.is_empty() && self.state != State::Done {
            let used = self.step(bytes, body)?;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn step(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Error> {
        match &mut self.state {
            State::Length { left } => {
                let n = bytes.len().min(*left);
                body.extend_from_slice(&bytes[..n]);
                self.note_read(n);
                Ok(n)
            }
            State::UntilClosed => self.append(bytes, bytes.len(), body),
            State::ChunkSize { line } => {
                let end = memchr::memchr(b'\n', bytes);
                let n = end.map_or(bytes.len(), |e| e + 1);
                line.extend_from_slice(&bytes[..n]);
                if line.len() > CHUNK_LINE_MAX {
                    return Err(malformed("header line too long", b""));
                }
                if end.is_some() {
                    let size = chunk_size(line)?;
                    self.state = match size {
                        0 => State::Trailer { line_bytes: 0, total: 0 },
                        left => State::ChunkData { left },
                    };
                }
                Ok(n)
            }
            State::ChunkData { left } => {
                let n = bytes.len().min(*left);
                *left -= n;
                if *left == 0 {
                    self.state = State::ChunkEnd { left: 2 };
                }
                self.append(bytes, n, body)
            }
            State::ChunkEnd { left } => {
                let want = if *left == 2 { b'\r' } else { b'\n' };
                if bytes[0] != want {
                    return Err(malformed("malformed chunked encoding", b""));
                }
                *left -= 1;
                if *left == 0 {
                    self.state = State::ChunkSize { line: Vec::new() };
                }
                Ok(1)
            }
            State::Trailer { line_bytes, total } => {
                *total += 1;
                if *total > TRAILER_MAX {
                    return Err(malformed("trailer too long", b""));
                }
                match bytes[0] {
                    b'\r' => {}
                    b'\n' if *line_bytes == 0 => self.state = State::Done,
                    b'\n' => *line_bytes = 0,
                    _ => *line_bytes += 1,
                }
                Ok(1)
            }
            State::Done => Ok(bytes.len()),
        }
    }

    fn append(&self, bytes: &[u8], n: usize, body: &mut Vec<u8>) -> Result<usize, Error> {
        if body.len() + n > self.limit {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&bytes[..n]);
        Ok(n)
    }
}

/// The size at the start of a chunk's first line: hexadecimal, before any extension.
fn chunk_size(line: &[u8]) -> Result<usize, Error> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let after = line.get(digits).copied().unwrap_or(0);
    let text = std::str::from_utf8(&line[..digits]).unwrap_or("");
    if digits > 0 && matches!(after, b'\r' | b'\n' | b';' | b' ' | b'\t') {
        return usize::from_str_radix(text, 16).map_err(|_| malformed("http chunk length too large", b""));
    }
    Err(malformed("invalid byte in chunk length", b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Head and body of `answer` fed in pieces of `piece` bytes, then closed.
    fn read(answer: &[u8], piece: usize, limit: usize) -> Result<(Head, Vec<u8>), Error> {
        let (mut head, mut at) = (None, 0);
        while head.is_none() {
            at = (at + piece).min(answer.len());
            head = Head::parse(&answer[..at])?;
            if head.is_none() && at == answer.len() {
                return Err(Error::Truncated);
            }
        }
        let Some((head, length)) = head else { return Err(Error::Truncated) };
        let mut reader = BodyReader::new(head.body, limit)?;
        let mut body = vec![];
        reader.take(&answer[length..at], &mut body)?;
        for piece in answer[at..].chunks(piece) {
            reader.take(piece, &mut body)?;
        }
        if reader.due() != Due::Nothing {
            reader.close()?;
        }
        Ok((head, body))
    }

    fn check(answer: &str, want: Result<&str, &str>) {
        for piece in [1, 2, 3, 7, 1000] {
            let got = read(answer.as_bytes(), piece, 20);
            let got = got.map(|(_, b)| String::from_utf8_lossy(&b).into_owned()).map_err(|e| e.to_string());
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{answer:?} by {piece}");
        }
    }

    #[test]
    fn bodies_end_by_length_by_chunks_or_by_closing() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok("hello"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!!", Ok("hello"));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok(""));
        check("HTTP/1.0 200 OK\r\n\r\nto the end", Ok("to the end"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{chunked}5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"), Ok("hello world"));
        check(&format!("{chunked}0\r\nTrailer: x\r\n\r\n"), Ok(""));
    }

    #[test]
    fn what_is_cut_or_broken_or_too_long_is_refused() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Err("unexpected EOF"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", Err("body size limit exceeded"));
        check("HTTP/1.1 200 OK\r\n\r\n123456789012345678901", Err("body size limit exceeded"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{chunked}5\r\nhel"), Err("unexpected EOF"));
        check(&format!("{chunked}zz\r\n"), Err("malformed HTTP response: invalid byte in chunk length"));
        check(&format!("{chunked}1\r\nab\r\n"), Err("malformed HTTP response: malformed chunked encoding"));
        check(
            &format!("{chunked}ffffffffffffffffff\r\n"),
            Err("malformed HTTP response: http chunk length too large"),
        );
        assert!(Head::parse(b"SSH-2.0-OpenSSH_9\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").is_err());
        assert!(Head::parse(&vec![b'H'; HEAD_BYTES_MAX]).is_err());
    }

    #[test]
    fn heads_say_what_matters() {
        let head = |t: &str| Head::parse(t.as_bytes()).unwrap().unwrap().0;
        let h = head(
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!((h.status, h.status_text.as_str(), h.is_reusable), (404, "404 Not Found", false));
        assert_eq!(h.content_type, "text/plain; version=0.0.4");
        let h =
            head("HTTP/1.1 302 Found\r\nlocation: /x\r\nContent-Encoding: GZIP\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(
            (h.location.as_deref(), h.is_gzip, h.is_reusable, h.body),
            (Some("/x"), true, true, Body::Length(3))
        );
        assert!(!head("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").is_reusable);
        assert!(head("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n").is_reusable);
        assert_eq!(head("HTTP/1.1 503\r\n\r\n").status_text, "503 Service Unavailable");
    }

    #[test]
    fn the_reader_asks_for_no_more_than_is_due() {
        let mut reader = BodyReader::new(Body::Length(10), 100).unwrap();
        let mut body = vec![];
        reader.take(b"abc", &mut body).unwrap();
        assert_eq!(reader.due(), Due::Exactly(7));
        reader.note_read(7);
        assert_eq!(reader.due(), Due::Nothing);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..40) {
            let _ = read(&bytes, piece, 64);
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            answer.extend_from_slice(&bytes);
            let _ = read(&answer, piece, 64);
        }
    }
}
