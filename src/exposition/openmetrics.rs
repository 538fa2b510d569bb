//! OpenMetrics 1.0: a page to flat events, borrowed from it.
//!
//! The form is strict: one blank between tokens, no empty lines, no comments, `# EOF` at the end. Most lines are
//! read at a glance, as in [`crate::text`]; the rest goes through a lexer with Prometheus's states, because error
//! texts quote the very byte at which it stops. Families may be interleaved and in any order: nobody checks that.

use model::quote::{push_quoted_bytes, quoted};

use crate::Error;
use crate::number::{self, NumberError};
use crate::text::{
    Event, Exemplar, MetricKind, Sample, is_name, is_name_start, malformed, plain_sample, unquote,
};
use crate::token::Token;

const NO_END: &str = "data does not end with # EOF";

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
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

/// Reads a page event by event; after an error or the end it is done.
#[derive(Clone, Debug)]
pub struct OpenMetrics<'a> {
    page: &'a [u8],
    at: usize,
    /// Where the last token began.
    token: usize,
    /// Where the event being read began.
    line: usize,
    state: State,
    kind: MetricKind,
}

impl<'a> OpenMetrics<'a> {
    pub fn new(page: &'a [u8]) -> Self {
        Self::resume(page, 0, MetricKind::Unknown)
    }

    /// A parser that stands at `at`, which must be where an event begins.
    pub fn resume(page: &'a [u8], at: usize, kind: MetricKind) -> Self {
        OpenMetrics { page, at, token: at, line: at, state: State::Init, kind }
    }

    /// Where the next event begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next event, `None` behind `# EOF`.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>, Error> {
        self.line = self.at;
        if let Some(sample) = plain_sample(self.page, self.at, self.kind)
            && sample.end < self.page.len()
        {
            self.at = sample.end + 1;
            return Ok(Some(Event::Sample(sample)));
        }
        self.next_by_tokens()
    }

    fn next_by_tokens(&mut self) -> Result<Option<Event<'a>>, Error> {
        self.line = self.at;
        match self.lex() {
            Token::EofWord => match self.lex() {
                Token::Eof => Ok(None),
                _ => Err(said("unexpected data after # EOF")),
            },
            Token::Eof => Err(said(NO_END)),
            token @ (Token::Help | Token::Type | Token::Unit) => self.metadata(token).map(Some),
            Token::BraceOpen => {
                let named = self.labels(false, false)?;
                let key_end = self.at;
                let token = self.lex();
                if !named {
                    return Err(malformed("metric name not set while parsing: ", self.seen(), ""));
                }
                self.sample(key_end, token).map(Some)
            }
            Token::MetricName => {
                let mut key_end = self.at;
                let mut token = self.lex();
                if token == Token::BraceOpen {
                    self.labels(true, false)?;
                    key_end = self.at;
                    token = self.lex();
                }
                self.sample(key_end, token).map(Some)
            }
            token => Err(self.unexpected("expected a valid start token", token)),
        }
    }

    fn metadata(&mut self, what: Token) -> Result<Event<'a>, Error> {
        let token = self.lex();
        if token != Token::MetricName {
            return Err(self.unexpected(&format!("expected metric name after {}", what.name()), token));
        }
        let name = unquote(&self.page[self.token..self.at]);
        if self.lex() != Token::Text {
            return Err(Error::Malformed(format!("expected text in {}", what.name())));
        }
        // A blank before it, a newline behind it.
        let text = self.page.get(self.token + 1..self.at - 1).unwrap_or_default();
        match what {
            Token::Type => {
                let kind = kind_of(text).ok_or_else(|| malformed("invalid metric type ", text, ""))?;
                self.kind = kind;
                Ok(Event::Type { name, kind })
            }
            Token::Unit => {
                if !is_unit_of(name, text) {
                    let mut out = "unit ".to_owned();
                    push_quoted_bytes(&mut out, text);
                    return Err(malformed(&format!("{out} not a suffix of metric "), name, ""));
                }
                Ok(Event::Unit { name, unit: text })
            }
            _ if std::str::from_utf8(text).is_err() => {
                Err(malformed("help text ", text, " is not a valid utf8 string"))
            }
            _ => Ok(Event::Help { name, text }),
        }
    }

    /// Walks the labels up to the closing brace; says whether the metric has a name, before or inside the braces.
    fn labels(&mut self, mut named: bool, is_exemplar: bool) -> Result<bool, Error> {
        let mut token = self.lex();
        loop {
            match token {
                Token::BraceClose => return Ok(named),
                Token::LabelName | Token::Quoted => {}
                _ => return Err(self.unexpected("expected label name", token)),
            }
            token = self.lex();
            if matches!(token, Token::Comma | Token::BraceClose) {
                if is_exemplar {
                    return Err(self.unexpected("expected label name", token));
                }
                if named {
                    return Err(malformed("metric name already set while parsing: ", self.seen(), ""));
                }
                named = true;
                if token == Token::BraceClose {
                    return Ok(true);
                }
                token = self.lex();
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            token = self.lex();
            if token != Token::LabelValue {
                return Err(self.unexpected("expected label value", token));
            }
            let value = &self.page[self.token..self.at];
            if std::str::from_utf8(value).is_err() {
                return Err(malformed("invalid UTF-8 label value: ", value, ""));
            }
            token = self.lex();
            if token == Token::Comma {
                token = self.lex();
            } else if token != Token::BraceClose {
                return Err(self.unexpected("expected comma or brace close", token));
            }
        }
    }

    fn sample(&mut self, key_end: usize, token: Token) -> Result<Event<'a>, Error> {
        let value = self.value(token, "metric")?;
        let value_at = self.token + 1;
        let (mut timestamp, mut exemplar) = (None, None);
        match self.lex() {
            Token::Eof => return Err(said(NO_END)),
            Token::Linebreak => {}
            Token::Comment => exemplar = Some(self.exemplar()?),
            Token::Timestamp => {
                timestamp = Some(self.timestamp("invalid timestamp")?);
                match self.lex() {
                    Token::Linebreak => {}
                    Token::Comment => exemplar = Some(self.exemplar()?),
                    token => return Err(self.unexpected("expected next entry after timestamp", token)),
                }
            }
            _ => {
                // Prometheus takes the sample and stumbles where the next one should begin.
                self.line = self.at;
                return match self.lex() {
                    Token::Eof => Err(said(NO_END)),
                    token => Err(self.unexpected("expected a valid start token", token)),
                };
            }
        }
        let (start, end) = (self.line, self.at - 1);
        let key = &self.page[start..key_end];
        Ok(Event::Sample(Sample { key, value, timestamp, kind: self.kind, start, value_at, end, exemplar }))
    }

    /// Behind ` # {`.
    fn exemplar(&mut self) -> Result<Exemplar<'a>, Error> {
        let from = self.at;
        self.labels(true, true)?;
        let labels = &self.page[from..self.at - 1];
        let token = self.lex();
        let value = self.value(token, "exemplar labels")?;
        let mut timestamp = None;
        match self.lex() {
            Token::Eof => return Err(said(NO_END)),
            Token::Linebreak => {}
            Token::Timestamp => {
                timestamp = Some(self.timestamp("invalid exemplar timestamp")?);
                match self.lex() {
                    Token::Linebreak => {}
                    token => {
                        return Err(self.unexpected("expected next entry after exemplar timestamp", token));
                    }
                }
            }
            token => return Err(self.unexpected("expected timestamp or comment", token)),
        }
        Ok(Exemplar { labels, value, timestamp })
    }

    fn value(&mut self, token: Token, after: &str) -> Result<f64, Error> {
        if token != Token::Value {
            return Err(self.unexpected(&format!("expected value after {after}"), token));
        }
        self.number()
    }

    /// The number in the last token, which begins with a blank.
    fn number(&self) -> Result<f64, Error> {
        let text = &self.page[self.token + 1..self.at];
        number::parse_value(text).map_err(|e: NumberError| {
            malformed(&format!("{} while parsing: ", e.text("ParseFloat", text)), self.seen(), "")
        })
    }

    fn timestamp(&self, otherwise: &str) -> Result<i64, Error> {
        let seconds = self.number()?;
        if !seconds.is_finite() {
            let shown = model::float_text::format_g(seconds);
            return Err(Error::Malformed(format!("{otherwise} {shown}")));
        }
        Ok((seconds * 1000.0) as i64)
    }

    /// `<expected>, got "<text>" ("<TOKEN>") while parsing: "<line so far>"`.
    fn unexpected(&self, expected: &str, got: Token) -> Error {
        let end = (self.at + 1).min(self.page.len());
        let mut out = format!("{expected}, got ");
        push_quoted_bytes(&mut out, &self.page[self.token.min(end)..end]);
        out.push_str(" (");
        out.push_str(&quoted(got.name()));
        out.push_str(") while parsing: ");
        push_quoted_bytes(&mut out, &self.page[self.line.min(end)..end]);
        Error::Malformed(out)
    }

    fn seen(&self) -> &'a [u8] {
        &self.page[self.line..self.at]
    }

    #[inline]
    fn byte(&self) -> u8 {
        self.page.get(self.at).copied().unwrap_or(0)
    }

    /// Steps on; NUL bytes inside label values, help texts and comments are passed over.
    #[inline]
    fn step(&mut self) -> u8 {
        self.at = (self.at + 1).min(self.page.len());
        if matches!(self.state, State::LabelValue | State::MetaText | State::Comment) {
            while self.page.get(self.at) == Some(&0) {
                self.at += 1;
            }
        }
        self.byte()
    }

    fn step_while(&mut self, class: impl Fn(u8) -> bool) {
        while class(self.step()) {}
    }

    fn lex(&mut self) -> Token {
        if self.at >= self.page.len() {
            return Token::Eof;
        }
        self.token = self.at;
        let c = self.byte();
        match self.state {
            State::Init | State::Comment => self.lex_line_start(c),
            State::MetaName => self.lex_meta_name(c),
            State::MetaText => self.lex_meta_text(c),
            State::Labels => self.lex_label(c),
            State::LabelValue => self.lex_string(c, Token::LabelValue, State::Labels, false),
            State::Value => self.lex_value(c),
            State::Timestamp => self.lex_timestamp(c),
            State::Exemplar => self.lex_exemplar(c),
            State::ExemplarValue if c == b'"' => {
                self.lex_string(c, Token::LabelValue, State::Exemplar, false)
            }
            State::ExemplarValue => self.lex_word(c, Token::Value, State::ExemplarTimestamp),
            State::ExemplarTimestamp if c == b'\n' => self.end_line(),
            State::ExemplarTimestamp => self.lex_word(c, Token::Timestamp, State::ExemplarTimestamp),
        }
    }

    fn take(&mut self, token: Token, then: State) -> Token {
        self.step();
        self.state = then;
        token
    }

    fn end_line(&mut self) -> Token {
        self.take(Token::Linebreak, State::Init)
    }

    fn lex_line_start(&mut self, c: u8) -> Token {
        match c {
            b'#' => self.lex_comment(),
            b'{' => self.take(Token::BraceOpen, State::Labels),
            c if is_name_start(c) => {
                self.step_while(is_name);
                self.state = State::Value;
                Token::MetricName
            }
            _ => Token::Invalid,
        }
    }

    fn lex_comment(&mut self) -> Token {
        if self.step() != b' ' {
            return Token::Invalid;
        }
        let first = self.step();
        self.state = State::Comment;
        let (token, rest): (Token, &[u8]) = match first {
            b'H' => (Token::Help, b"ELP "),
            b'T' => (Token::Type, b"YPE "),
            b'U' => (Token::Unit, b"NIT "),
            b'E' => (Token::EofWord, b"OF"),
            _ => return Token::Invalid,
        };
        if rest.iter().any(|wanted| self.step() != *wanted) {
            return Token::Invalid;
        }
        if token != Token::EofWord {
            return self.take(token, State::MetaName);
        }
        if self.step() == b'\n' {
            self.step();
        }
        self.state = State::Init;
        token
    }

    fn lex_meta_name(&mut self, c: u8) -> Token {
        if c == b'"' {
            return self.lex_string(c, Token::MetricName, State::MetaText, true);
        }
        if !is_name_start(c) {
            return Token::Invalid;
        }
        self.step_while(is_name);
        self.state = State::MetaText;
        Token::MetricName
    }

    /// A blank and the rest of the line with its newline.
    fn lex_meta_text(&mut self, c: u8) -> Token {
        if c != b' ' {
            return Token::Invalid;
        }
        self.step_while(|c| c != b'\n' && c != 0);
        if self.byte() != b'\n' {
            return Token::Invalid;
        }
        self.take(Token::Text, State::Init)
    }

    fn lex_label(&mut self, c: u8) -> Token {
        match c {
            b'"' => self.lex_string(c, Token::Quoted, State::Labels, true),
            b'}' => self.take(Token::BraceClose, State::Value),
            b'=' => self.take(Token::Equal, State::LabelValue),
            b',' => self.take(Token::Comma, State::Labels),
            _ => self.lex_label_name(c),
        }
    }

    fn lex_exemplar(&mut self, c: u8) -> Token {
        match c {
            b'"' => self.lex_string(c, Token::Quoted, State::Exemplar, false),
            b'}' => self.take(Token::BraceClose, State::ExemplarValue),
            b'=' => self.take(Token::Equal, State::ExemplarValue),
            b',' => self.take(Token::Comma, State::Exemplar),
            _ => self.lex_label_name(c),
        }
    }

    fn lex_label_name(&mut self, c: u8) -> Token {
        if !is_name_start(c) || c == b':' {
            return Token::Invalid;
        }
        self.step_while(|c| is_name(c) && c != b':');
        Token::LabelName
    }

    /// `"` up to the next `"` without a backslash before it.
    fn lex_string(&mut self, c: u8, token: Token, then: State, takes_newlines: bool) -> Token {
        if c != b'"' {
            return Token::Invalid;
        }
        loop {
            match self.step() {
                b'"' => return self.take(token, then),
                b'\\' if matches!(self.step(), 0 | b'\n') => return Token::Invalid,
                b'\n' if !takes_newlines => return Token::Invalid,
                0 => return Token::Invalid,
                _ => {}
            }
        }
    }

    fn lex_value(&mut self, c: u8) -> Token {
        match c {
            b'{' => self.take(Token::BraceOpen, State::Labels),
            _ => self.lex_word(c, Token::Value, State::Timestamp),
        }
    }

    /// A blank and what follows up to the next blank or newline.
    fn lex_word(&mut self, c: u8, token: Token, then: State) -> Token {
        if c != b' ' || matches!(self.step(), 0 | b' ' | b'\n') {
            return Token::Invalid;
        }
        self.step_while(|c| !matches!(c, 0 | b' ' | b'\n'));
        self.state = then;
        token
    }

    fn lex_timestamp(&mut self, c: u8) -> Token {
        if c == b'\n' {
            return self.end_line();
        }
        if c != b' ' || self.page.get(self.at + 1) != Some(&b'#') {
            return self.lex_word(c, Token::Timestamp, State::Timestamp);
        }
        self.step();
        if self.step() != b' ' {
            while !matches!(self.byte(), 0 | b' ' | b'\n') {
                self.step();
            }
            return Token::Timestamp;
        }
        match self.step() {
            b'{' => self.take(Token::Comment, State::Exemplar),
            _ => Token::Invalid,
        }
    }
}

fn said(text: &str) -> Error {
    Error::Malformed(text.to_owned())
}

fn kind_of(word: &[u8]) -> Option<MetricKind> {
    Some(match word {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"gaugehistogram" => MetricKind::GaugeHistogram,
        b"summary" => MetricKind::Summary,
        b"info" => MetricKind::Info,
        b"stateset" => MetricKind::StateSet,
        b"unknown" => MetricKind::Unknown,
        _ => return None,
    })
}

/// No unit, or the last word of the name.
fn is_unit_of(name: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || name.strip_suffix(unit).is_some_and(|n| n.ends_with(b"_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(page: &[u8]) -> Result<Vec<Event<'_>>, Error> {
        let mut parser = OpenMetrics::new(page);
        let mut out = Vec::new();
        while let Some(event) = parser.next_event()? {
            out.push(event);
        }
        Ok(out)
    }

    fn told(page: &[u8]) -> String {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let told = |e: &Event<'_>| match e {
            Event::Help { name, text: t } => format!("help {} {:?}", text(name), text(t)),
            Event::Type { name, kind } => format!("type {} {}", text(name), kind.as_str()),
            Event::Unit { name, unit } => format!("unit {} {}", text(name), text(unit)),
            Event::Comment(t) => format!("comment {}", text(t)),
            Event::Sample(s) => {
                let mut out = format!("[{}] {}", text(s.key), s.value);
                out.extend(s.timestamp.map(|t| format!(" @{t}")));
                out.extend(
                    s.exemplar.map(|x| format!(" # {} {} {:?}", text(x.labels), x.value, x.timestamp)),
                );
                out
            }
        };
        match all(page) {
            Err(e) => format!("error: {e}"),
            Ok(events) => events.iter().map(told).collect::<Vec<_>>().join("; "),
        }
    }

    fn check(page: &str, want: &str) {
        assert_eq!(told(page.as_bytes()), want, "{page}");
    }

    #[test]
    fn a_page_is_told_event_by_event() {
        check("# EOF", "");
        check("a 1\nb{c=\"d\"} 2.5 1.5\n# EOF\n", "[a] 1; [b{c=\"d\"}] 2.5 @1500");
        check(
            "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds x \\n y\n# EOF\n",
            "type a_seconds counter; unit a_seconds seconds; help a_seconds \"x \\\\n y\"",
        );
        check("a_total 1 # {} 0.5\n# EOF\n", "[a_total] 1 #  0.5 None");
        check(
            "a_total 1 -2.0015 # {id=\"x\",\"u.v\"=\"w\"} 0.5 123.4567\n# EOF\n",
            "[a_total] 1 @-2001 # id=\"x\",\"u.v\"=\"w\" 0.5 Some(123456)",
        );
        check("{\"a.b\",c=\"d\"} 1\n# EOF", "[{\"a.b\",c=\"d\"}] 1");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_events_or_an_error(page in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&page);
        }

        /// The quick way and the lexer tell the same story wherever the quick way speaks.
        #[test]
        fn the_quick_way_agrees_with_the_lexer(
            page in "((a|b:|x_total)(\\{(a=\"b\"|,|\"u\"|c=\"\\\\n\"){0,3}\\})?( 1| NaN| 2.5| #| # \\{(a=\"b\")?\\} 1){0,3}\n|# (HELP|TYPE|UNIT) a_b (b|counter|)\n){0,5}(# EOF\n)?"
        ) {
            let quick = all(page.as_bytes());
            let mut slow = OpenMetrics::new(page.as_bytes());
            let mut events = Vec::new();
            let result = loop {
                match slow.next_by_tokens() {
                    Ok(Some(e)) => events.push(e),
                    Ok(None) => break Ok(events),
                    Err(e) => break Err(e),
                }
            };
            // As text, in which one NaN is like the other.
            prop_assert_eq!(format!("{quick:?}"), format!("{result:?}"));
        }
    }
}
