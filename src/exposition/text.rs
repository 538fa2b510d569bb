//! Prometheus text 0.0.4 and 1.0.0: a page to flat events, borrowed from it.
//!
//! Most lines are `name{label="value",..} number`: [`plain_sample`] reads those at a glance. Everything else goes
//! through a lexer with Prometheus's states, because error texts quote the very byte at which it stops.
//! A page is read as if a newline followed its last byte.

use model::quote::{push_quoted_bytes, quoted};

use crate::Error;
use crate::number::{self, NumberError};
use crate::token::Token;

/// What a family is, as its `# TYPE` line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricKind {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }

    fn from_text_format(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"counter" => MetricKind::Counter,
            b"gauge" => MetricKind::Gauge,
            b"histogram" => MetricKind::Histogram,
            b"summary" => MetricKind::Summary,
            b"untyped" => MetricKind::Unknown,
            _ => return None,
        })
    }
}

/// One thing a page says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// `text` still has its escapes: see [`unescape_help`].
    Help {
        name: &'a [u8],
        text: &'a [u8],
    },
    Type {
        name: &'a [u8],
        kind: MetricKind,
    },
    /// Only OpenMetrics has these.
    Unit {
        name: &'a [u8],
        unit: &'a [u8],
    },
    Comment(&'a [u8]),
    Sample(Sample<'a>),
}

/// One sample line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series as the page writes it: its identity from page to page.
    pub key: &'a [u8],
    pub value: f64,
    pub timestamp: Option<i64>,
    /// Of the last `# TYPE` line, whatever family it named: it decides how `le` and `quantile` are written.
    pub kind: MetricKind,
    /// Offsets in the page: of the key, of the value's text, of the line's newline.
    pub start: usize,
    pub value_at: usize,
    pub end: usize,
    /// Only OpenMetrics has these.
    pub exemplar: Option<Exemplar<'a>>,
}

/// An observation that stands for others, with labels of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// What stands between the braces: see [`crate::key::exemplar_labels`].
    pub labels: &'a [u8],
    pub value: f64,
    pub timestamp: Option<i64>,
}

/// `help` with `\\` and `\n` read.
pub fn unescape_help(help: &[u8]) -> String {
    let mut out = Vec::with_capacity(help.len());
    let mut rest = help;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (byte, used) = match rest.get(at + 1) {
            Some(b'\\') => (b'\\', 2),
            Some(b'n') => (b'\n', 2),
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = &rest[at + used..];
    }
    out.extend_from_slice(rest);
    String::from_utf8_lossy(&out).into_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Init,
    Comment,
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
}

/// Reads a page event by event; after an error or the end it is done.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    page: &'a [u8],
    at: usize,
    /// Where the last token began.
    token: usize,
    /// Where the event being read began.
    line: usize,
    state: State,
    kind: MetricKind,
}

impl<'a> Parser<'a> {
    pub fn new(page: &'a [u8]) -> Self {
        Self::resume(page, 0, MetricKind::Unknown)
    }

    /// A parser that stands at `at`, which must be where an event begins.
    pub fn resume(page: &'a [u8], at: usize, kind: MetricKind) -> Self {
        Parser { page, at, token: at, line: at, state: State::Init, kind }
    }

    /// Where the next event begins: one past the page where a newline was only imagined.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Where the event last returned began; after the end, what lies beyond here is not part of the page.
    pub fn event_start(&self) -> usize {
        self.line
    }

    /// The next event, `None` at the end: of the bytes, or at a NUL where a line would begin.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>, Error> {
        self.line = self.at;
        if let Some(sample) = plain_sample(self.page, self.at, self.kind) {
            self.at = sample.end + 1;
            return Ok(Some(Event::Sample(sample)));
        }
        self.next_by_tokens()
    }

    fn next_by_tokens(&mut self) -> Result<Option<Event<'a>>, Error> {
        loop {
            self.line = self.at;
            match self.next_token() {
                Token::Eof => return Ok(None),
                Token::Linebreak => {}
                token @ (Token::Help | Token::Type) => return self.metadata(token).map(Some),
                Token::Comment => {
                    let text = &self.page[self.token..self.at];
                    self.expect(Token::Linebreak, "linebreak expected after comment")?;
                    return Ok(Some(Event::Comment(text)));
                }
                Token::BraceOpen => {
                    let named = self.labels(false)?;
                    let key_end = self.at;
                    return self.sample(named, key_end, None).map(Some);
                }
                Token::MetricName => {
                    let mut key_end = self.at;
                    let mut token = self.next_token();
                    if token == Token::BraceOpen {
                        self.labels(true)?;
                        key_end = self.at;
                        token = self.next_token();
                    }
                    return self.sample(true, key_end, Some(token)).map(Some);
                }
                token => return Err(self.unexpected("expected a valid start token", token)),
            }
        }
    }

    fn metadata(&mut self, what: Token) -> Result<Event<'a>, Error> {
        let after = if what == Token::Help { "HELP" } else { "TYPE" };
        let token = self.next_token();
        if token != Token::MetricName {
            return Err(self.unexpected(&format!("expected metric name after {after}"), token));
        }
        let name = unquote(&self.page[self.token..self.at]);
        let token = self.next_token();
        if token != Token::Text {
            return Err(Error::Malformed(format!("expected text in {after}, got {}", token.name())));
        }
        let text = self.page[self.token..self.at].get(1..).unwrap_or_default();
        let event = if what == Token::Type {
            let kind = MetricKind::from_text_format(text)
                .ok_or_else(|| malformed("invalid metric type ", text, ""))?;
            self.kind = kind;
            Event::Type { name, kind }
        } else {
            if std::str::from_utf8(text).is_err() {
                return Err(malformed("help text ", text, " is not a valid utf8 string"));
            }
            Event::Help { name, text }
        };
        self.expect(Token::Linebreak, "linebreak expected after metadata")?;
        Ok(event)
    }

    /// Walks the labels up to the closing brace; says whether the metric has a name, before or inside the braces.
    fn labels(&mut self, mut named: bool) -> Result<bool, Error> {
        let mut token = self.next_token();
        loop {
            let quoted = match token {
                Token::BraceClose => return Ok(named),
                Token::LabelName => false,
                Token::Quoted => true,
                _ => return Err(self.unexpected("expected label name", token)),
            };
            token = self.next_token();
            if quoted && matches!(token, Token::Comma | Token::BraceClose) {
                if named {
                    let seen = self.seen();
                    return Err(malformed("metric name already set while parsing: ", &seen, ""));
                }
                named = true;
                if token == Token::BraceClose {
                    return Ok(true);
                }
                token = self.next_token();
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            token = self.next_token();
            if token != Token::LabelValue {
                return Err(self.unexpected("expected label value", token));
            }
            let value = &self.page[self.token..self.at];
            if std::str::from_utf8(value).is_err() {
                return Err(malformed("invalid UTF-8 label value: ", value, ""));
            }
            // A missing comma is tolerated, a trailing one too.
            token = self.next_token();
            if token == Token::Comma {
                token = self.next_token();
            }
        }
    }

    fn sample(&mut self, named: bool, key_end: usize, token: Option<Token>) -> Result<Event<'a>, Error> {
        let token = token.unwrap_or_else(|| self.next_token());
        if !named {
            return Err(malformed("metric name not set while parsing: ", &self.seen(), ""));
        }
        if token != Token::Value {
            return Err(self.unexpected("expected value after metric", token));
        }
        let value_at = self.token;
        let text = &self.page[value_at..self.at];
        let value = number::parse_value(text).map_err(|e| self.bad_number(e, "ParseFloat"))?;
        let mut timestamp = None;
        match self.next_token() {
            Token::Linebreak => {}
            Token::Timestamp => {
                let digits = &self.page[self.token..self.at];
                timestamp =
                    Some(number::parse_timestamp(digits).map_err(|e| self.bad_number(e, "ParseInt"))?);
                self.expect(Token::Linebreak, "expected next entry after timestamp")?;
            }
            token => return Err(self.unexpected("expected timestamp or new record", token)),
        }
        let start = self.line;
        let key = &self.page[start..key_end];
        Ok(Event::Sample(Sample { key, value, timestamp, kind: self.kind, start, value_at, end: self.token, exemplar: None }))
    }

    fn expect(&mut self, want: Token, otherwise: &str) -> Result<(), Error> {
        let token = self.next_token();
        if token == want { Ok(()) } else { Err(self.unexpected(otherwise, token)) }
    }

    /// `<expected>, got "<text>" ("<TOKEN>") while parsing: "<line so far>"`.
    fn unexpected(&self, expected: &str, got: Token) -> Error {
        let end = (self.at + 1).min(self.page.len() + 1);
        let mut out = format!("{expected}, got ");
        push_quoted_bytes(&mut out, &self.excerpt(self.token, end));
        out.push_str(" (");
        out.push_str(&quoted(got.name()));
        out.push_str(") while parsing: ");
        push_quoted_bytes(&mut out, &self.excerpt(self.line, end));
        Error::Malformed(out)
    }

    fn bad_number(&self, e: NumberError, function: &str) -> Error {
        let text = e.text(function, &self.page[self.token..self.at]);
        malformed(&format!("{text} while parsing: "), &self.seen(), "")
    }

    fn seen(&self) -> Vec<u8> {
        self.excerpt(self.line, self.at)
    }

    /// Bytes of the page with its imagined last newline.
    fn excerpt(&self, from: usize, to: usize) -> Vec<u8> {
        let n = self.page.len();
        let mut out = self.page[from.min(n)..to.min(n)].to_vec();
        if to > n {
            out.push(b'\n');
        }
        out
    }

    fn next_token(&mut self) -> Token {
        loop {
            let token = self.lex();
            if token != Token::Whitespace {
                return token;
            }
        }
    }

    #[inline]
    fn byte(&self) -> u8 {
        match self.page.get(self.at) {
            Some(b) => *b,
            None if self.at == self.page.len() => b'\n',
            None => 0,
        }
    }

    /// Steps on; NUL bytes inside label values, help texts and comments are passed over.
    #[inline]
    fn step(&mut self) -> u8 {
        self.at += 1;
        if matches!(self.state, State::LabelValue | State::MetaText | State::Comment) {
            while self.page.get(self.at) == Some(&0) {
                self.at += 1;
            }
        }
        self.byte()
    }

    fn step_while(&mut self, keep: impl Fn(u8) -> bool) {
        while keep(self.step()) {}
    }

    fn lex(&mut self) -> Token {
        if self.at > self.page.len() {
            return Token::Eof;
        }
        self.token = self.at;
        let c = self.byte();
        if is_blank(c) && self.state != State::MetaText {
            self.step_while(is_blank);
            return Token::Whitespace;
        }
        match self.state {
            State::Init => self.lex_line_start(c),
            State::MetaName => self.lex_meta_name(c),
            State::MetaText => self.lex_meta_text(),
            State::Labels => self.lex_label(c),
            State::LabelValue if c == b'"' => self.lex_quoted(Token::LabelValue, State::Labels),
            State::Value => self.lex_value(c),
            State::Timestamp => self.lex_timestamp(c),
            // The comment state never outlives the token that enters it.
            State::LabelValue | State::Comment => Token::Invalid,
        }
    }

    fn lex_line_start(&mut self, c: u8) -> Token {
        match c {
            0 => {
                self.step();
                Token::Eof
            }
            b'\n' => {
                self.step();
                Token::Linebreak
            }
            b'#' => self.lex_comment(),
            b'{' => {
                self.step();
                self.state = State::Labels;
                Token::BraceOpen
            }
            c if is_name_start(c) => {
                self.step_while(is_name);
                self.state = State::Value;
                Token::MetricName
            }
            _ => Token::Invalid,
        }
    }

    fn lex_comment(&mut self) -> Token {
        if !is_blank(self.step()) {
            return self.rest_of_comment();
        }
        self.step_while(is_blank);
        self.state = State::Comment;
        let (token, word) = match self.byte() {
            b'H' => (Token::Help, b"ELP"),
            b'T' => (Token::Type, b"YPE"),
            _ => return self.rest_of_comment(),
        };
        if word.iter().any(|w| self.step() != *w) || !is_blank(self.step()) {
            return self.rest_of_comment();
        }
        self.step_while(is_blank);
        self.state = State::MetaName;
        token
    }

    fn rest_of_comment(&mut self) -> Token {
        let mut c = self.byte();
        loop {
            match c {
                0 => return Token::Eof,
                b'\n' => {
                    self.state = State::Init;
                    return Token::Comment;
                }
                _ => c = self.step(),
            }
        }
    }

    fn lex_meta_name(&mut self, c: u8) -> Token {
        if c == b'"' {
            return self.lex_quoted(Token::MetricName, State::MetaText);
        }
        if !is_name_start(c) {
            return Token::Invalid;
        }
        self.step_while(is_name);
        self.state = State::MetaText;
        Token::MetricName
    }

    /// The rest of the line, which may be empty; blanks alone are only blanks.
    fn lex_meta_text(&mut self) -> Token {
        let (mut c, mut only_blanks) = (self.byte(), true);
        let empty = c == 0 || c == b'\n';
        while c != 0 && c != b'\n' {
            only_blanks &= is_blank(c);
            c = self.step();
        }
        if only_blanks && !empty {
            return Token::Whitespace;
        }
        self.state = State::Init;
        Token::Text
    }

    fn lex_label(&mut self, c: u8) -> Token {
        let (token, state) = match c {
            b'"' => return self.lex_quoted(Token::Quoted, State::Labels),
            b'}' => (Token::BraceClose, State::Value),
            b'=' => (Token::Equal, State::LabelValue),
            b',' => (Token::Comma, State::Labels),
            c if is_name_start(c) && c != b':' => {
                self.step_while(|c| is_name(c) && c != b':');
                return Token::LabelName;
            }
            _ => return Token::Invalid,
        };
        self.step();
        self.state = state;
        token
    }

    /// `"` up to the next `"` without a backslash before it.
    fn lex_quoted(&mut self, token: Token, then: State) -> Token {
        loop {
            match self.step() {
                b'"' => {
                    self.step();
                    self.state = then;
                    return token;
                }
                b'\\' if matches!(self.step(), 0 | b'\n') => return Token::Invalid,
                0 => return Token::Invalid,
                _ => {}
            }
        }
    }

    fn lex_value(&mut self, c: u8) -> Token {
        match c {
            b'{' => {
                self.step();
                self.state = State::Labels;
                Token::BraceOpen
            }
            0 | b'\n' => Token::Invalid,
            _ => {
                self.step_while(|c| !matches!(c, 0 | b'{' | b' ' | b'\t' | b'\n'));
                self.state = State::Timestamp;
                Token::Value
            }
        }
    }

    fn lex_timestamp(&mut self, c: u8) -> Token {
        match c {
            b'\n' => {
                self.step();
                self.state = State::Init;
                Token::Linebreak
            }
            b'0'..=b'9' => {
                self.step_while(|c| c.is_ascii_digit());
                Token::Timestamp
            }
            _ => Token::Invalid,
        }
    }
}

pub(crate) fn malformed(before: &str, quoted: &[u8], after: &str) -> Error {
    let mut out = before.to_owned();
    push_quoted_bytes(&mut out, quoted);
    out.push_str(after);
    Error::Malformed(out)
}

/// A name without the quotes it may stand in.
pub(crate) fn unquote(name: &[u8]) -> &[u8] {
    match name {
        [b'"', inner @ .., b'"'] => inner,
        _ => name,
    }
}

pub(crate) fn is_blank(c: u8) -> bool {
    c == b' ' || c == b'\t'
}

const NAME: u8 = 1;
const NAME_START: u8 = 2;
const PLAIN_VALUE: u8 = 4;

/// What each byte may be part of; a plain label value is printable ASCII without `"` and `\`.
static CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut c = 0usize;
    while c < 256 {
        let b = c as u8;
        if b.is_ascii_alphabetic() || b == b'_' || b == b':' {
            table[c] |= NAME | NAME_START;
        }
        if b.is_ascii_digit() {
            table[c] |= NAME;
        }
        if b >= b' ' && b < 0x7f && b != b'"' && b != b'\\' {
            table[c] |= PLAIN_VALUE;
        }
        c += 1;
    }
    table
};

#[inline]
pub(crate) fn is_name_start(c: u8) -> bool {
    CLASS[c as usize] & NAME_START != 0
}

#[inline]
pub(crate) fn is_name(c: u8) -> bool {
    CLASS[c as usize] & NAME != 0
}

#[inline]
fn skip_class(page: &[u8], mut at: usize, class: u8) -> usize {
    while let Some(c) = page.get(at)
        && CLASS[*c as usize] & class != 0
    {
        at += 1;
    }
    at
}

/// A line of the usual shape without blanks, escapes or a timestamp; `None` says nothing about validity.
#[inline]
pub(crate) fn plain_sample(page: &[u8], start: usize, kind: MetricKind) -> Option<Sample<'_>> {
    if !is_name_start(*page.get(start)?) {
        return None;
    }
    let mut at = skip_class(page, start + 1, NAME);
    if page.get(at) == Some(&b'{') {
        at = plain_labels(page, at + 1)?;
    }
    if page.get(at) != Some(&b' ') {
        return None;
    }
    let value_at = at + 1;
    let (value, end) = number::leading(page, value_at)?;
    if !matches!(page.get(end), None | Some(b'\n')) {
        return None;
    }
    Some(Sample { key: &page[start..at], value, timestamp: None, kind, start, value_at, end, exemplar: None })
}

/// From behind `{` to behind `}`.
#[inline]
fn plain_labels(page: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let name = at;
        at = skip_class(page, at, NAME);
        let ok = at > name && !page[name].is_ascii_digit() && page.get(at..at + 2) == Some(b"=\"");
        if !ok || page[name..at].contains(&b':') {
            return None;
        }
        at = skip_class(page, at + 2, PLAIN_VALUE);
        match page.get(at..at + 2)? {
            b"\"," => at += 2,
            b"\"}" => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(page: &[u8]) -> Result<Vec<Event<'_>>, Error> {
        let mut parser = Parser::new(page);
        let mut out = Vec::new();
        while let Some(event) = parser.next_event()? {
            out.push(event);
        }
        Ok(out)
    }

    /// One word a line: what a page says.
    fn told(page: &[u8]) -> String {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut out = Vec::new();
        match all(page) {
            Err(e) => return format!("error: {e}"),
            Ok(events) => {
                for e in events {
                    out.push(match e {
                        Event::Help { name, text: t } => {
                            format!("help {} \"{}\"", text(name), unescape_help(t))
                        }
                        Event::Type { name, kind } => format!("type {} {}", text(name), kind.as_str()),
                        Event::Unit { name, unit } => format!("unit {} {}", text(name), text(unit)),
                        Event::Comment(t) => format!("comment {}", text(t)),
                        Event::Sample(s) => match s.timestamp {
                            None => format!("[{}] {}", text(s.key), s.value),
                            Some(t) => format!("[{}] {} @{t}", text(s.key), s.value),
                        },
                    });
                }
            }
        }
        out.join("; ")
    }

    fn check(page: impl AsRef<[u8]>, want: &str) {
        let page = page.as_ref();
        assert_eq!(told(page), want, "{}", String::from_utf8_lossy(page));
    }

    #[test]
    fn blanks_may_stand_between_tokens() {
        check("a 1", "[a] 1");
        check("a{b=\"c\"}\t1\n", "[a{b=\"c\"}] 1");
        check("a { q = \"1\" , } 1", "[a { q = \"1\" , }] 1");
        check("a{x=\"2\" y=\"3\"}1", "[a{x=\"2\" y=\"3\"}] 1");
        check("\n\n \t\na 33  \t123123\n\n", "[a] 33 @123123");
        check("some:rate5m{a_b=\"c\"}\t1", "[some:rate5m{a_b=\"c\"}] 1");
        check("a+1", "[a] 1");
        check("", "");
    }

    #[test]
    fn comments_are_help_type_or_nothing() {
        check("# HELP a A summary.\n# \tTYPE a summary\n", "help a \"A summary.\"; type a summary");
        check("# HELP nohelp1\n# HELP nohelp2 \n", "help nohelp1 \"\"; help nohelp2 \"\"");
        check(
            "# Hrandom\n#\n#HELP x y\n# HELP\n",
            "comment # Hrandom; comment #; comment #HELP x y; comment # HELP",
        );
        check("# HELP a \\\\ \\n \\q", "help a \"\\ \n \\q\"");
        check("# TYPE a untyped", "type a unknown");
        check("# HELP \"a.b\" x\n# TYPE \"a.b\" gauge", "help a.b \"x\"; type a.b gauge");
    }

    #[test]
    fn quoted_names_live_inside_the_braces() {
        check("{\"a.b\",q=\"0\"} 1", "[{\"a.b\",q=\"0\"}] 1");
        check("{ \"a.b\", q = \"1\", } 1", "[{ \"a.b\", q = \"1\", }] 1");
        check("{q=\"0\",\"a.b\"} 1 5", "[{q=\"0\",\"a.b\"}] 1 @5");
        check("{\"a.b\",\"l l\"=\"x\"} 1", "[{\"a.b\",\"l l\"=\"x\"}] 1");
        check("{\"a\",\"b\"} 1", "error: metric name already set while parsing: \"{\\\"a\\\",\\\"b\\\"}\"");
        check("a{\"b\"} 1", "error: metric name already set while parsing: \"a{\\\"b\\\"}\"");
    }

    #[test]
    fn label_values_keep_newlines_nul_and_escapes() {
        check("a{b=\"\\\"c\\\"\"} 1", "[a{b=\"\\\"c\\\"\"}] 1");
        check("a{b=\"x\ny\"} 1\nb 2", "[a{b=\"x\ny\"}] 1; [b] 2");
        check("a{b=\"c\0\"} 1", "[a{b=\"c\0\"}] 1");
        check("a{b=\"\0ss\"} 1\n", "[a{b=\"\0ss\"}] 1");
        check("# HELP metric foo\0bar", "help metric \"foo\0bar\"");
    }

    #[test]
    fn nul_at_a_line_start_ends_the_page() {
        check("a 1\n\0garbage {{{", "[a] 1");
        check("a 1\n#x\0y\nb 2", "[a] 1");
        check("# \0x\nb 2", "");
    }

    #[test]
    fn errors_are_worded_as_prometheus_words_them() {
        let got = |want: &str, got: &str, token: &str, line: &str| {
            let q = |s: &str| model::quote::quoted(s);
            format!("error: {want}, got {} ({}) while parsing: {}", q(got), q(token), q(line))
        };
        let value = "expected value after metric";
        check("a", &got(value, "\n", "INVALID", "a\n"));
        check("a{b='c'} 1\n", &got("expected label value", "'", "INVALID", "a{b='"));
        check("a{b=\n", &got("expected label value", "\n", "INVALID", "a{b=\n"));
        check("{\"a\", \"b = \"c\"}", &got("expected equal", "c\"", "LNAME", "{\"a\", \"b = \"c\""));
        check("{\"a\",b\\nc=\"d\"} 1", &got("expected equal", "\\", "INVALID", "{\"a\",b\\"));
        check("w{p=\"", &got("expected label value", "\"\n", "INVALID", "w{p=\"\n"));
        check("e{=\"\"} 0", &got("expected label name", "=\"", "EQUAL", "e{=\""));
        check("foo 0 1_2\n", &got("expected next entry after timestamp", "_", "INVALID", "foo 0 1_"));
        check("foo 0 -1\n", &got("expected timestamp or new record", "-", "INVALID", "foo 0 -"));
        check("foo 1{\n", &got("expected timestamp or new record", "{", "INVALID", "foo 1{"));
        check("# TYPE #\n#EOF\n", &got("expected metric name after TYPE", "#", "INVALID", "# TYPE #"));
        check("# HELP #\n#EOF\n", &got("expected metric name after HELP", "#", "INVALID", "# HELP #"));
        check(
            "a{b=\0\"s\"} 1\n",
            &got("expected label value", "\0", "INVALID", "a{b=\0").replace("\\u0000", "\\x00"),
        );
        check("a{b=\"\0", &got("expected label value", "\"\0\n", "INVALID", "a{b=\"\0\n"));
        check("a{b\0=\"h\"}\t1", &got("expected equal", "\0", "INVALID", "a{b\0"));
        check("a\0{b=\"ddd\"} 1", &got(value, "\0", "INVALID", "a\0"));
        check("a 0 1\0", &got("expected next entry after timestamp", "\0", "INVALID", "a 0 1\0"));
        check("a{b=\"c\"}{", &got(value, "{\n", "BOPEN", "a{b=\"c\"}{\n"));
        check("1a 2", &got("expected a valid start token", "1", "INVALID", "1"));
        check("# HELP foo\0bar", &got("linebreak expected after metadata", "\0b", "EOF", "# HELP foo\0b"));
    }

    #[test]
    fn errors_without_a_token_quote_the_line() {
        check(
            "a{\u{7f}=\"foo\"} 1",
            "error: expected label name, got \"\\x7f\" (\"INVALID\") while parsing: \"a{\\x7f\"",
        );
        check(
            b"a{\xff=\"foo\"} 1",
            "error: expected label name, got \"\\xff\" (\"INVALID\") while parsing: \"a{\\xff\"",
        );
        check(b"a{b=\"\xff\"} 1\n", "error: invalid UTF-8 label value: \"\\\"\\xff\\\"\"");
        let float = "strconv.ParseFloat: parsing";
        check("a true\n", &format!("error: {float} \"true\": invalid syntax while parsing: \"a true\""));
        check("a 1\r\n", &format!("error: {float} \"1\\r\": invalid syntax while parsing: \"a 1\\r\""));
        check("a 1e999", &format!("error: {float} \"1e999\": value out of range while parsing: \"a 1e999\""));
        check("foo 1_2\n", "error: unsupported character in float while parsing: \"foo 1_2\"");
        check("foo 0x1P-3\n", "error: unsupported character in float while parsing: \"foo 0x1P-3\"");
        check("{a=\"ok\"} 1", "error: metric name not set while parsing: \"{a=\\\"ok\\\"} 1\"");
        check("# TYPE a countre\n", "error: invalid metric type \"countre\"");
        check("# TYPE a  counter\n", "error: invalid metric type \" counter\"");
        check(b"# HELP a \xff\n", "error: help text \"\\xff\" is not a valid utf8 string");
        check(
            "a 1 99999999999999999999",
            "error: strconv.ParseInt: parsing \"99999999999999999999\": value out of range while parsing: \
             \"a 1 99999999999999999999\"",
        );
    }

    proptest! {
        /// The quick way and the lexer tell the same story wherever the quick way speaks.
        #[test]
        fn the_quick_way_agrees_with_the_lexer(page in "(a|b:|\\{|\\}|=|\"|,| |\n|x=\"y\"|1|2.5e3|\\\\|#|\0|NaN|z1){0,12}") {
            let page = page.as_bytes();
            if let Some(quick) = plain_sample(page, 0, MetricKind::Unknown) {
                let mut slow = Parser::new(page);
                match slow.next_by_tokens() {
                    Ok(Some(Event::Sample(s))) => {
                        prop_assert_eq!(s.value.to_bits(), quick.value.to_bits());
                        prop_assert_eq!((s.key, s.start, s.value_at, s.end), (quick.key, quick.start, quick.value_at, quick.end));
                        prop_assert_eq!(slow.position(), quick.end + 1);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn any_bytes_end_in_events_or_an_error(page in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&page);
        }

        #[test]
        fn events_cover_the_page_without_gaps(page in "(a 1\n|# HELP a b\n|#\n|\n|\\{\"x\"\\} 2 3\n|  b 1\n){0,20}") {
            let mut parser = Parser::new(page.as_bytes());
            let mut last = 0;
            while let Some(e) = parser.next_event().unwrap() {
                prop_assert!(parser.event_start() >= last && parser.position() > parser.event_start());
                last = parser.position();
                if let Event::Sample(s) = e { prop_assert_eq!(s.end + 1, last); }
            }
        }
    }
}
