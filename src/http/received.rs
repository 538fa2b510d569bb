//! A request as it comes: whether it is whole, plain, and what its head says.
//!
//! For a shard that takes one kind of request only. What is not that kind, or unusual in any way, is for the server
//! that knows all of HTTP; it gets the bytes as they are.

/// Heads are a few hundred bytes; a longer one is not plain.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// What the first bytes of a connection, or those behind its last request, come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// More is to come.
    Partial,
    /// Not a plain request.
    Odd,
    Head(ReceivedHead<'a>),
}

/// The head of a plain HTTP/1.1 request whose body has a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedHead<'a> {
    pub method: &'a str,
    pub target: &'a str,
    /// Each line with its end.
    headers: &'a str,
    /// Bytes of the head with the empty line.
    pub head_bytes: usize,
    pub body_bytes: usize,
}

impl<'a> Received<'a> {
    pub fn of(bytes: &'a [u8]) -> Received<'a> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() < HEAD_BYTES_MAX { Received::Partial } else { Received::Odd };
        };
        head_of(&bytes[..end + 2]).map_or(Received::Odd, Received::Head)
    }
}

/// Reads the lines of a head; `None` where it is not plain.
fn head_of(bytes: &[u8]) -> Option<ReceivedHead<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (line, headers) = text.split_once("\r\n")?;
    let (method, rest) = line.split_once(' ')?;
    let target = rest.strip_suffix(" HTTP/1.1")?;
    let is_plain = |line: &str| {
        let name = line.split(':').next().unwrap_or("");
        line.len() > name.len()
            && !name.is_empty()
            && name.bytes().all(is_token)
            && !line.contains(['\r', '\n'])
    };
    if target.contains(' ') || !headers.split_terminator("\r\n").all(is_plain) {
        return None;
    }
    let mut head = ReceivedHead { method, target, headers, head_bytes: bytes.len() + 2, body_bytes: 0 };
    if ["transfer-encoding", "expect", "upgrade"].iter().any(|name| head.values(name).next().is_some()) {
        return None;
    }
    let length = head.header("content-length")?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    head.body_bytes = length.parse().ok()?;
    Some(head)
}

/// What a header's name is made of.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

impl<'a> ReceivedHead<'a> {
    fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let lines = self.headers.split_terminator("\r\n").filter_map(|line| line.split_once(':'));
        lines
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_matches([' ', '\t']))
    }

    /// The value of a header that comes once.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether a header comes more than once.
    pub fn repeats(&self, name: &str) -> bool {
        self.values(name).nth(1).is_some()
    }

    /// Whether the peer wants the connection to end with the answer.
    pub fn is_last(&self) -> bool {
        let mut wishes = self.values("connection").flat_map(|v| v.split(','));
        wishes.any(|w| w.trim().eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /api/v1/write HTTP/1.1\r\nHost: h:1\r\nContent-Length: 12\r\nX-A:  b \r\n\r\n";

    fn check(text: &str, expect: Option<(&str, usize)>) {
        match Received::of(text.as_bytes()) {
            Received::Head(head) => assert_eq!(Some((head.target, head.body_bytes)), expect, "{text:?}"),
            Received::Odd => assert_eq!(None, expect, "{text:?}"),
            Received::Partial => panic!("{text:?} is whole"),
        }
    }

    #[test]
    fn plain_heads_are_read() {
        check(HEAD, Some(("/api/v1/write", 12)));
        check("POST / HTTP/1.1\r\ncontent-length:0\r\n\r\nbody", Some(("/", 0)));
        let Received::Head(head) = Received::of(HEAD.as_bytes()) else { panic!("a head") };
        assert_eq!((head.method, head.header("x-a"), head.head_bytes), ("POST", Some("b"), HEAD.len()));
        assert!(!head.is_last() && !head.repeats("host") && head.header("y").is_none());
        let last = HEAD.replace("X-A:  b ", "Connection: keep-alive, Close");
        assert!(matches!(Received::of(last.as_bytes()), Received::Head(head) if head.is_last()));
    }

    #[test]
    fn a_head_in_pieces_is_awaited() {
        for end in 0..HEAD.len() - 1 {
            assert_eq!(Received::of(&HEAD.as_bytes()[..end]), Received::Partial, "{end}");
        }
        assert_eq!(Received::of(&[b'a'; HEAD_BYTES_MAX]), Received::Odd);
    }

    #[test]
    fn what_is_not_plain_is_odd() {
        let with = |line: &str| HEAD.replace("X-A:  b ", line);
        for line in [
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Content-Length: 12",
            " folded: x",
            "no colon",
            "a b: c",
            ": x",
            "a: b\nc: d",
            "X-\u{e9}: x",
        ] {
            check(&with(line), None);
        }
        check(&HEAD.replace("Content-Length: 12", "Content-Length: +1"), None);
        check(&HEAD.replace("Content-Length: 12", "Content-Length: 99999999999999999999999"), None);
        check(&HEAD.replace("Content-Length: 12\r\n", ""), None);
        check(&HEAD.replace("HTTP/1.1", "HTTP/1.0"), None);
        check("POST /a b HTTP/1.1\r\nContent-Length: 1\r\n\r\n", None);
        check("PRI * HTTP/2.0\r\n\r\n", None);
        check("\r\n\r\n", None);
        assert_eq!(Received::of(b"\xff\xfe\r\n\r\n"), Received::Odd);
    }
}
