//! A connection that is kept, for very many questions one after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::house::{PATIENCE, form};

pub(crate) struct Line {
    port: u16,
    stream: BufReader<TcpStream>,
}

impl Line {
    pub(crate) fn open(port: u16) -> Line {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        stream.set_nodelay(true).expect("a socket's option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket's option");
        Line { port, stream: BufReader::new(stream) }
    }

    /// Asks; the answer is fetched by [`Line::answer`], so that two servers may work at the same time.
    pub(crate) fn ask(&mut self, endpoint: &str, params: &[(&str, &str)]) {
        let body = form(params);
        let request = format!(
            "POST /api/v1/{endpoint} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("a listener that listens");
    }

    pub(crate) fn answer(&mut self) -> Value {
        let (mut length, mut is_chunked) = (0, false);
        // The status says nothing that the body does not say.
        while let Some(header) = Some(self.read_line()).filter(|l| !l.is_empty()) {
            let header = header.to_ascii_lowercase();
            if let Some(n) = header.strip_prefix("content-length: ") {
                length = n.parse().expect("a length");
            }
            is_chunked |= header == "transfer-encoding: chunked";
        }
        let body = if is_chunked { self.read_chunks() } else { self.read_bytes(length) };
        serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body)))
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        assert!(!line.is_empty(), "port {} hung up", self.port);
        line.trim_end().to_owned()
    }

    fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("an answer to its end");
        bytes
    }

    fn read_chunks(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let count = usize::from_str_radix(&self.read_line(), 16).expect("a chunk's size");
            all.extend(self.read_bytes(count));
            self.read_line();
            if count == 0 {
                return all;
            }
        }
    }
}
