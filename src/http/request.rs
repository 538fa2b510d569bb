//! A request as bytes.

/// A GET without a body.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Names and values without line breaks: see [`is_header_safe`].
    pub headers: &'a [(&'a str, &'a str)],
}

impl Request<'_> {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for part in ["GET ", self.path, " HTTP/1.1\r\nHost: ", self.host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        for (name, value) in self.headers {
            if !is_header_safe(name) || !is_header_safe(value) {
                continue;
            }
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// Whether `text` may stand in a header: line breaks in it would begin another.
pub fn is_header_safe(text: &str) -> bool {
    !text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// `text` in base64, as `Authorization: Basic` wants it.
pub fn base64(text: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// `text` as a part of a query: Go's `url.QueryEscape`.
pub fn push_query_escaped(out: &mut String, text: &str) {
    push_escaped(out, text, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'), true);
}

/// `path` with what may not stand in one escaped, as Go's `URL.EscapedPath`.
pub fn push_path_escaped(out: &mut String, path: &str) {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*".contains(&b);
    push_escaped(out, path, keep, false);
}

fn push_escaped(out: &mut String, text: &str, keep: impl Fn(u8) -> bool, plus: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in text.bytes() {
        if keep(b) {
            out.push(char::from(b));
        } else if plus && b == b' ' {
            out.push('+');
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_and_hostile_headers_are_left_out() {
        let headers = [("Accept", "text/plain"), ("X", "a\r\nEvil: 1")];
        let bytes = Request { host: "h:1", path: "/m?x=1", headers: &headers }.to_bytes();
        assert_eq!(bytes, b"GET /m?x=1 HTTP/1.1\r\nHost: h:1\r\nAccept: text/plain\r\n\r\n");
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        let check = |push: fn(&mut String, &str), text: &str, want: &str| {
            let mut out = String::new();
            push(&mut out, text);
            assert_eq!(out, want);
        };
        check(push_query_escaped, "a b&c=d/\u{e9}~", "a+b%26c%3Dd%2F%C3%A9~");
        check(push_path_escaped, "/a b/?x", "/a%20b/%3Fx");
        for (text, want) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("user:pass", "dXNlcjpwYXNz")]
        {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }
}
