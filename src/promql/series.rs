//! Series descriptions of test scripts: a metric and the values it takes, one a step.
//!
//! `up{job="x"} 1 2+1x3 _ _x2 stale {{schema:1 count:4 sum:10 buckets:[1 2 1]}}`. Histograms come out as they
//! were written: what they are is `model`'s to say.

use std::sync::Arc;

use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder, STALE_NAN};

use crate::ast::{BinaryOp, Span};
use crate::error::Error;
use crate::lexer::{Lexer, is_space, unquote};
use crate::parser::{Parsed, Parser};
use crate::token::{Kind, Token, quoted};

/// How many values a description may unfold to: a year of half-minute steps, at 16 bytes each.
pub const MAX_VALUES: usize = 1_048_576;

#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    pub labels: Labels,
    pub values: Vec<SeriesValue>,
}

/// What a series has at one step.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    Omitted,
    /// A number; `stale` is [`STALE_NAN`].
    Float(f64),
    Histogram(Arc<HistogramText>),
    /// `base + step x times`: `times + 1` values, each the one before with `step` added (or subtracted).
    /// Whether a counter reset hint was written is asked of `step`.
    HistogramRun(Box<HistogramRun>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRun {
    pub base: Arc<HistogramText>,
    pub step: Arc<HistogramText>,
    pub subtract: bool,
    pub times: usize,
}

/// A histogram as written; what was not written is zero or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramText {
    pub schema: i32,
    pub sum: f64,
    pub count: f64,
    pub zero_count: f64,
    pub zero_threshold: f64,
    /// Upper bounds of custom buckets.
    pub custom_values: Vec<f64>,
    /// Index of the first positive bucket.
    pub offset: i32,
    pub buckets: Vec<f64>,
    /// Index of the first negative bucket.
    pub negative_offset: i32,
    pub negative_buckets: Vec<f64>,
    /// `None` where no hint was written.
    pub reset_hint: Option<ResetHint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetHint {
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// Parses a metric: `name`, `name{a="b"}` or `{a="b"}`.
pub fn parse_metric(input: impl AsRef<[u8]>) -> Result<Labels, Error> {
    let mut parser = Parser::new(input.as_ref(), crate::Options::default());
    let parsed = parser.metric().and_then(|labels| parser.expect_end().map(|()| labels));
    parser.finish(parsed, |_, _, _| {})
}

/// Parses a metric and its values.
pub fn parse_series(input: impl AsRef<[u8]>) -> Result<SeriesDescription, Error> {
    let mut parser = Parser::new(input.as_ref(), crate::Options::default());
    let parsed = parser.series();
    parser.finish(parsed, |_, _, _| {})
}

impl Parser<'_> {
    fn metric(&mut self) -> Parsed<Labels> {
        let mut builder = LabelsBuilder::new();
        let mut name = None;
        // A metric may be nothing at all: what stands there then is looked at as a value.
        let first = self.input.iter().find(|b| !is_space(**b)).copied();
        if first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':') {
            let token = self.peek()?;
            if !token.kind.is_metric_name() {
                return self.unexpected_here();
            }
            self.take()?;
            name = Some(String::from_utf8_lossy(token.text(self.input)).into_owned());
        }
        if self.input.get(self.lexer.position()..).is_some_and(|rest| rest.starts_with(b"{")) {
            self.label_set(&mut builder)?;
        }
        if let Some(name) = name {
            builder.set(METRIC_NAME, &name);
        }
        Ok(builder.build())
    }

    fn label_set(&mut self, builder: &mut LabelsBuilder) -> Parsed<()> {
        const RULE: &str = "label set";
        self.take()?;
        if self.peek()?.kind == Kind::RightBrace {
            self.take()?;
            return Ok(());
        }
        loop {
            self.label(builder)?;
            match self.peek()?.kind {
                Kind::Comma => {
                    self.take()?;
                    if self.peek()?.kind == Kind::RightBrace {
                        self.take()?;
                        return Ok(());
                    }
                }
                Kind::RightBrace => {
                    self.take()?;
                    return Ok(());
                }
                _ => return self.unexpected(RULE, "\",\" or \"}\""),
            }
        }
    }

    fn label(&mut self, builder: &mut LabelsBuilder) -> Parsed<()> {
        const RULE: &str = "label set";
        let token = self.peek()?;
        let name = match token.kind {
            Kind::Identifier => token.text(self.input).to_vec(),
            Kind::String => unquote(token.text(self.input)),
            _ => return self.unexpected(RULE, "identifier or \"}\""),
        };
        self.take()?;
        let name = String::from_utf8_lossy(&name).into_owned();
        if self.peek()?.kind != Kind::Assign {
            if token.kind == Kind::String {
                builder.set(METRIC_NAME, &name);
                return Ok(());
            }
            return self.unexpected(RULE, "\"=\"");
        }
        self.take()?;
        let value = self.peek()?;
        if value.kind != Kind::String {
            return self.unexpected(RULE, "string");
        }
        self.take()?;
        builder.set(&name, &String::from_utf8_lossy(&unquote(value.text(self.input))));
        Ok(())
    }

    fn series(&mut self) -> Parsed<SeriesDescription> {
        let labels = self.metric()?;
        let at = self.lexer.position();
        let mut values = Values { parser: self, at, out: Vec::new() };
        values.read()?;
        let values = values.out;
        Ok(SeriesDescription { labels, values })
    }
}

/// Reads the values after a metric.
struct Values<'p, 'a> {
    parser: &'p mut Parser<'a>,
    at: usize,
    out: Vec<SeriesValue>,
}

impl Values<'_, '_> {
    fn read(&mut self) -> Parsed<()> {
        loop {
            let had_space = self.skip_spaces();
            let Some(b) = self.byte() else { return Ok(()) };
            if !had_space {
                return self.unexpected("series values", "");
            }
            match b {
                b'_' => self.omitted()?,
                b'{' if self.starts_with(b"{{") => self.histograms()?,
                _ => self.floats()?,
            }
        }
    }

    /// `_` or `_x3`.
    fn omitted(&mut self) -> Parsed<()> {
        self.at += 1;
        let times = if self.accept(b'x') { self.repetitions()? } else { 1 };
        self.push_all(times, |_| SeriesValue::Omitted)
    }

    /// `1`, `1x3`, `1+2x3`, `stale`.
    fn floats(&mut self) -> Parsed<()> {
        let mut value = match self.word() {
            Some(span) if self.text(span) == b"stale" => {
                self.at = span.end as usize;
                STALE_NAN
            }
            _ => self.signed_number("number or \"stale\"")?,
        };
        if self.accept(b'x') {
            let times = self.repetitions()?;
            return self.push_all(times + 1, |_| SeriesValue::Float(value));
        }
        if !matches!(self.byte(), Some(b'+' | b'-')) {
            return self.push_all(1, |_| SeriesValue::Float(value));
        }
        let step = self.signed_number("")?;
        if !self.accept(b'x') {
            return self.unexpected("series values", "");
        }
        let times = self.repetitions()?;
        self.push_all(times + 1, |_| {
            let now = value;
            value += step;
            SeriesValue::Float(now)
        })
    }

    /// `{{..}}`, `{{..}}x3`, `{{..}}+{{..}}x3`.
    fn histograms(&mut self) -> Parsed<()> {
        let base = Arc::new(self.histogram()?);
        if self.accept(b'x') {
            let times = self.repetitions()?;
            return self.push_all(times + 1, |_| SeriesValue::Histogram(base.clone()));
        }
        let subtract = match self.byte() {
            Some(b'+') => false,
            Some(b'-') => true,
            _ => return self.push_all(1, |_| SeriesValue::Histogram(base.clone())),
        };
        self.at += 1;
        if !self.starts_with(b"{{") {
            return self.unexpected("series values", "");
        }
        let step = Arc::new(self.histogram()?);
        if !self.accept(b'x') {
            return self.unexpected("series values", "");
        }
        let start = self.at;
        let times = self.repetitions()?;
        if times > 0 && base.schema > step.schema {
            let what = "error combining histograms: cannot merge from schema";
            let message = format!("{what} {} to {}", step.schema, base.schema);
            return self.parser.stop(Span::new(start, self.at), message);
        }
        if times >= MAX_VALUES {
            return self.too_many();
        }
        let run = HistogramRun { base, step, subtract, times };
        self.push_all(1, |_| SeriesValue::HistogramRun(Box::new(run.clone())))
    }

    fn push_all(&mut self, count: usize, value: impl FnMut(usize) -> SeriesValue) -> Parsed<()> {
        if count > MAX_VALUES - self.out.len().min(MAX_VALUES) {
            return self.too_many();
        }
        self.out.extend((0..count).map(value));
        Ok(())
    }

    fn too_many<T>(&mut self) -> Parsed<T> {
        let here = Span::new(self.at, self.at);
        self.parser.stop(here, format!("series description has more than {MAX_VALUES} values"))
    }

    /// The count after `x`.
    fn repetitions(&mut self) -> Parsed<usize> {
        let span = self.number_span()?;
        let text = String::from_utf8_lossy(self.text(span)).into_owned();
        match text.parse::<u64>() {
            // One more value than this may follow; what is too many is refused when it is unfolded.
            Ok(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX).min(usize::MAX - 1)),
            Err(e) => {
                let why = match e.kind() {
                    std::num::IntErrorKind::PosOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                let parsing = format!("strconv.ParseUint: parsing {}: {why}", quoted(text.as_bytes()));
                self.parser.stop(span, format!("invalid repetition in series values: {parsing}"))
            }
        }
    }

    fn signed_number(&mut self, expected: &str) -> Parsed<f64> {
        let negative = match self.byte() {
            Some(b'-') => true,
            Some(b'+') => false,
            _ => return self.number(expected),
        };
        self.at += 1;
        let value = self.number("")?;
        Ok(if negative { -value } else { value })
    }

    fn number(&mut self, expected: &str) -> Parsed<f64> {
        if let Some(span) = self.word() {
            let word = String::from_utf8_lossy(self.text(span)).to_ascii_lowercase();
            let value = match word.as_str() {
                "inf" => f64::INFINITY,
                "nan" => f64::NAN,
                _ => return self.unexpected("series values", expected),
            };
            self.at = span.end as usize;
            return Ok(value);
        }
        let span = self.number_span()?;
        Ok(self.parser.number_value(Token { kind: Kind::Number, span }))
    }

    fn number_span(&mut self) -> Parsed<Span> {
        match self.byte() {
            Some(b'0'..=b'9' | b'.') => {}
            _ => return self.unexpected("series values", ""),
        }
        match Lexer::for_series(self.parser.input, self.at).series_number() {
            Ok(token) => {
                self.at = token.span.end as usize;
                Ok(token.span)
            }
            Err(complaint) => self.parser.stop(complaint.span, complaint.message),
        }
    }

    fn histogram(&mut self) -> Parsed<HistogramText> {
        self.at += 2;
        let mut h = HistogramText::default();
        let mut seen: Vec<&'static str> = Vec::new();
        loop {
            self.skip_spaces();
            if self.starts_with(b"}}") {
                self.at += 2;
                return Ok(h);
            }
            self.histogram_field(&mut h, &mut seen)?;
            if !(self.byte().is_some_and(is_space) || self.starts_with(b"}}")) {
                let key = "histogram description key, e.g. buckets:[5 10 7]";
                return self.unexpected("histogram description", key);
            }
        }
    }

    fn histogram_field(&mut self, h: &mut HistogramText, seen: &mut Vec<&'static str>) -> Parsed<()> {
        const KEYS: [&str; 11] = [
            "schema",
            "sum",
            "count",
            "z_bucket",
            "z_bucket_w",
            "custom_values",
            "offset",
            "buckets",
            "n_offset",
            "n_buckets",
            "counter_reset_hint",
        ];
        let start = self.at;
        let Some(span) = self.letters() else {
            return self.bad_histogram();
        };
        let word = String::from_utf8_lossy(self.text(span)).into_owned();
        let Some(key) = KEYS.into_iter().find(|k| k.eq_ignore_ascii_case(&word)) else {
            let bad = quoted(word.as_bytes());
            return self.stop_at(start, format!("bad histogram descriptor found: {bad}"));
        };
        self.at = span.end as usize;
        if !self.accept(b':') {
            return self.stop_at(start, "missing `:` for histogram descriptor".to_owned());
        }
        if seen.contains(&key) {
            self.parser.complain(Span::default(), format!("duplicate key \"{key}\" in histogram"));
        }
        seen.push(key);
        match key {
            "schema" => h.schema = self.integer()?,
            "sum" => h.sum = self.signed_number("")?,
            "count" => h.count = self.signed_number("")?,
            "z_bucket" => h.zero_count = self.signed_number("")?,
            "z_bucket_w" => h.zero_threshold = self.number("")?,
            "custom_values" => h.custom_values = self.buckets()?,
            "offset" => h.offset = self.integer()?,
            "buckets" => h.buckets = self.buckets()?,
            "n_offset" => h.negative_offset = self.integer()?,
            "n_buckets" => h.negative_buckets = self.buckets()?,
            _ => h.reset_hint = Some(self.reset_hint()?),
        }
        Ok(())
    }

    fn integer(&mut self) -> Parsed<i32> {
        let negative = self.accept(b'-');
        let start = self.at;
        let n = self.repetitions()?;
        match i32::try_from(n) {
            Ok(n) => Ok(if negative { -n } else { n }),
            Err(_) => self.stop_at(start, format!("number out of range in histogram description: {n}")),
        }
    }

    /// `[1 2 3]`.
    fn buckets(&mut self) -> Parsed<Vec<f64>> {
        if !self.accept(b'[') {
            return self.bad_histogram();
        }
        let mut out = Vec::new();
        loop {
            out.push(self.signed_number("")?);
            let had_space = self.skip_spaces();
            if self.accept(b']') {
                return Ok(out);
            }
            if !had_space {
                let c = self.shown_char();
                let start = self.at;
                return self.stop_at(start, format!("invalid character in buckets description: {c}"));
            }
        }
    }

    fn reset_hint(&mut self) -> Parsed<ResetHint> {
        let start = self.at;
        let Some(span) = self.letters() else {
            return self.bad_histogram();
        };
        self.at = span.end as usize;
        let word = String::from_utf8_lossy(self.text(span)).to_ascii_lowercase();
        match word.as_str() {
            "unknown" => Ok(ResetHint::Unknown),
            "reset" => Ok(ResetHint::Reset),
            "not_reset" => Ok(ResetHint::NotReset),
            "gauge" => Ok(ResetHint::Gauge),
            _ => {
                let bad = quoted(word.as_bytes());
                self.stop_at(start, format!("bad histogram descriptor found: {bad}"))
            }
        }
    }

    // Bytes.

    fn byte(&self) -> Option<u8> {
        self.parser.input.get(self.at).copied()
    }

    fn starts_with(&self, prefix: &[u8]) -> bool {
        self.parser.input.get(self.at..).is_some_and(|rest| rest.starts_with(prefix))
    }

    fn accept(&mut self, b: u8) -> bool {
        let found = self.byte() == Some(b);
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) -> bool {
        let start = self.at;
        while self.byte().is_some_and(is_space) {
            self.at += 1;
        }
        self.at > start
    }

    /// A run of letters, digits and colons that begins with a letter; it is not passed over.
    fn word(&self) -> Option<Span> {
        let rest = self.parser.input.get(self.at..)?;
        rest.first().filter(|b| b.is_ascii_alphabetic() || **b == b'_')?;
        let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')).count();
        Some(Span::new(self.at, self.at + len))
    }

    /// A run of letters and underscores; it is not passed over.
    fn letters(&self) -> Option<Span> {
        let rest = self.parser.input.get(self.at..)?;
        let len = rest.iter().take_while(|b| b.is_ascii_alphabetic() || **b == b'_').count();
        (len > 0).then(|| Span::new(self.at, self.at + len))
    }

    fn text(&self, span: Span) -> &[u8] {
        &self.parser.input[span.start as usize..span.end as usize]
    }

    // Complaints.

    fn shown_char(&self) -> String {
        let rest = String::from_utf8_lossy(self.parser.input.get(self.at..).unwrap_or(&[]));
        crate::token::quoted_char(rest.chars().next().unwrap_or('\u{fffd}'))
    }

    fn bad_histogram<T>(&mut self) -> Parsed<T> {
        let (c, at) = (self.shown_char(), self.at);
        self.stop_at(at, format!("histogram description incomplete unexpected: {c}"))
    }

    fn stop_at<T>(&mut self, start: usize, message: String) -> Parsed<T> {
        self.parser.stop(Span::new(start, self.parser.input.len()), message)
    }

    /// The token that stands here is none of what may stand here.
    fn unexpected<T>(&mut self, rule: &str, expected: &str) -> Parsed<T> {
        let token = match (self.word(), self.byte()) {
            (Some(span), _) => {
                let word = String::from_utf8_lossy(self.text(span)).to_ascii_lowercase();
                let plain = if word.contains(':') { Kind::MetricIdentifier } else { Kind::Identifier };
                Token { kind: Kind::of_word(&word).unwrap_or(plain), span }
            }
            (None, None) => Token { kind: Kind::End, span: Span::new(self.at, self.at) },
            (None, Some(b)) => {
                let kind = match b {
                    b'0'..=b'9' => {
                        let start = self.at;
                        let span = self.number_span()?;
                        self.at = start;
                        return self.unexpected_token(Token { kind: Kind::Number, span }, rule, expected);
                    }
                    b'+' => Kind::Op(BinaryOp::Add),
                    b'-' => Kind::Op(BinaryOp::Sub),
                    b'{' if self.starts_with(b"{{") => Kind::LeftBrace,
                    b if is_space(b) => Kind::Comma,
                    _ => {
                        let (c, at) = (self.shown_char(), self.at);
                        return self.stop_at(at, format!("unexpected character in series sequence: {c}"));
                    }
                };
                let len = if kind == Kind::LeftBrace { 2 } else { 1 };
                Token { kind, span: Span::new(self.at, self.at + len) }
            }
        };
        self.unexpected_token(token, rule, expected)
    }

    fn unexpected_token<T>(&mut self, token: Token, rule: &str, expected: &str) -> Parsed<T> {
        let mut message = format!("unexpected {} in {rule}", token.describe(self.parser.input));
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.parser.stop(token.span, message)
    }
}

/// Start times of samples, one a value, relative to the sample's own time in milliseconds: `_`, `_x3`, `-1m`,
/// `-1mx3`, `-1m+1sx3`. `None` where a sample has none; `None` as a whole where the text is malformed.
pub fn parse_start_times(text: &str) -> Option<Vec<Option<i64>>> {
    let mut out = Vec::new();
    for item in text.split_ascii_whitespace() {
        let (value, times) = match item.rsplit_once('x') {
            Some((value, times)) => (value, Some(times.parse::<usize>().ok()?)),
            None => (item, None),
        };
        let more = times.unwrap_or(0).checked_add(1)?;
        if more > MAX_VALUES - out.len().min(MAX_VALUES) {
            return None;
        }
        if value == "_" {
            out.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let second =
            value.bytes().skip(1).position(|b| matches!(b, b'+' | b'-')).map_or(value.len(), |i| i + 1);
        let (mut time, step) = (signed_millis(&value[..second])?, signed_millis(&value[second..])?);
        if second < value.len() && times.is_none() {
            return None;
        }
        for _ in 0..more {
            out.push(Some(time));
            time = time.checked_add(step)?;
        }
    }
    Some(out)
}

/// Nothing is zero.
fn signed_millis(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first() {
        None => return Some(0),
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        Some(_) => (1, text),
    };
    model::time::parse_duration(rest).ok().map(|ms| sign * ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<f64> {
        let values = parse_series(text).unwrap_or_else(|e| panic!("{text}: {e}")).values;
        let float = |v: &SeriesValue| match v {
            SeriesValue::Float(f) => *f,
            _ => f64::NEG_INFINITY,
        };
        values.iter().map(float).collect()
    }

    #[test]
    fn values_unfold_one_more_than_their_repetition() {
        let gap = f64::NEG_INFINITY;
        for (text, want) in [
            ("m", vec![]),
            ("m{} ", vec![]),
            ("{} 1 2 3", vec![1.0, 2.0, 3.0]),
            ("m{a='b'} _ 1 _x2", vec![gap, 1.0, gap, gap]),
            ("m 3 3.25 -0.5", vec![3.0, 3.25, -0.5]),
            ("m -3+3x3 4-2x1", vec![-3.0, 0.0, 3.0, 6.0, 4.0, 2.0]),
            ("m 1x2 +Inf", vec![1.0, 1.0, 1.0, f64::INFINITY]),
            ("m 1-0.5x2", vec![1.0, 0.5, 0.0]),
            ("sum 1e2x0", vec![100.0]),
        ] {
            assert_eq!(floats(text), want, "{text}");
        }
        assert_eq!(floats("m stale")[0].to_bits(), STALE_NAN.to_bits());
        assert_eq!(
            parse_series("a:b{c=\"d\", \"e f\"=\"g\"} 1").unwrap().labels.to_string(),
            "{__name__=\"a:b\", c=\"d\", \"e f\"=\"g\"}"
        );
    }

    #[test]
    fn histograms_come_as_written() {
        let text = "m {{schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] \
                    offset:-3 n_buckets:[4.1 5] n_offset:-5 counter_reset_hint:gauge}} \
                    {{}}x1 {{schema:-53 custom_values:[-Inf 2]}}-{{ count:1 }}x4";
        let values = parse_series(text).unwrap_or_else(|e| panic!("{e}")).values;
        let first = HistogramText {
            schema: 1,
            sum: -0.3,
            count: 3.1,
            zero_count: 7.1,
            zero_threshold: 0.05,
            custom_values: vec![],
            offset: -3,
            buckets: vec![5.1, 10.0, 7.0],
            negative_offset: -5,
            negative_buckets: vec![4.1, 5.0],
            reset_hint: Some(ResetHint::Gauge),
        };
        let empty = Arc::new(HistogramText::default());
        let custom =
            HistogramText { schema: -53, custom_values: vec![f64::NEG_INFINITY, 2.0], ..Default::default() };
        let run = HistogramRun {
            base: Arc::new(custom),
            step: Arc::new(HistogramText { count: 1.0, ..Default::default() }),
            subtract: true,
            times: 4,
        };
        assert_eq!(
            values,
            [
                SeriesValue::Histogram(Arc::new(first)),
                SeriesValue::Histogram(empty.clone()),
                SeriesValue::Histogram(empty),
                SeriesValue::HistogramRun(Box::new(run)),
            ]
        );
    }

    #[test]
    fn malformed_descriptions_are_refused_with_their_place() {
        for (text, want) in [
            (
                "m 1 _ foo",
                "1:7: parse error: unexpected identifier \"foo\" in series values, expected number or \"stale\"",
            ),
            ("m 1x-1", "1:5: parse error: unexpected <op:-> in series values"),
            (
                "m 1x1.5",
                "1:5: parse error: invalid repetition in series values: strconv.ParseUint: parsing \"1.5\": invalid syntax",
            ),
            ("m{}1", "1:4: parse error: unexpected number \"1\" in series values"),
            ("m{a} 1", "1:4: parse error: unexpected \"}\" in label set, expected \"=\""),
            ("m 1 ?", "1:5: parse error: unexpected character in series sequence: '?'"),
            ("m 1x99999999", "1:13: parse error: series description has more than 1048576 values"),
            ("m {{bad:1}}", "1:5: parse error: bad histogram descriptor found: \"bad\""),
            ("m {{sum}}", "1:5: parse error: missing `:` for histogram descriptor"),
            ("m {{sum:1 sum:2}}", "1:1: parse error: duplicate key \"sum\" in histogram"),
            (
                "m {{schema:2}}+{{schema:1}}x3",
                "1:29: parse error: error combining histograms: cannot merge from schema 1 to 2",
            ),
        ] {
            assert_eq!(parse_series(text).map_err(|e| e.to_string()), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn start_times_are_relative_to_their_sample() {
        for (text, want) in [
            ("_ -30s", Some(vec![None, Some(-30_000)])),
            ("-30s-1mx2", Some(vec![Some(-30_000), Some(-90_000), Some(-150_000)])),
            ("0-1mx1", Some(vec![Some(0), Some(-60_000)])),
            ("1ms+1sx1 _x2", Some(vec![Some(1), Some(1_001), None, None])),
            ("-0msx1", Some(vec![Some(0), Some(0)])),
            ("-1m+1s", None),
            ("1q", None),
        ] {
            assert_eq!(parse_start_times(text), want, "{text}");
        }
    }
}
