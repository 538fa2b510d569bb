//! YAML text as a tree in which every node knows its place, and scalars keep the text they were written with.
//!
//! The types of the schema decide what a scalar is: `a: 0123` is a text where a text is wanted. So the tree holds
//! both what YAML makes of a scalar and its source.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::error::{Position, Problem};

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    /// A plain scalar that YAML takes for a boolean, with its text.
    Bool(bool, String),
    /// A plain scalar that YAML takes for a number, with its text.
    Number(String),
    /// A quoted scalar, or a plain one that is nothing else.
    Text(String),
    /// `!!binary` that is no UTF-8.
    Bytes(Vec<u8>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar, whatever its type; a null is the empty text, as in Go.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Null => Some(""),
            Kind::Bool(_, text) | Kind::Number(text) | Kind::Text(text) => Some(text),
            Kind::Bytes(_) | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// How go-yaml names the node when it does not fit.
    pub(super) fn type_text(&self) -> String {
        match &self.kind {
            Kind::Null => "!!null".to_owned(),
            Kind::Bool(_, text) => format!("!!bool `{}`", shortened(text)),
            Kind::Number(text) if text.parse::<i64>().is_ok() => format!("!!int `{}`", shortened(text)),
            Kind::Number(text) => format!("!!float `{}`", shortened(text)),
            Kind::Text(text) => format!("!!str `{}`", shortened(text)),
            Kind::Bytes(_) => "!!binary".to_owned(),
            Kind::List(_) => "!!seq".to_owned(),
            Kind::Map(_) => "!!map".to_owned(),
        }
    }
}

/// go-yaml shows ten characters at most.
fn shortened(text: &str) -> String {
    if text.len() <= 10 {
        return text.to_owned();
    }
    let end = (0..=7).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// Reads one document; an empty one is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        ignore_binary_tag_for_string: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
    };
    if text.lines().all(|l| l.trim_start().is_empty() || l.trim_start().starts_with('#')) {
        return Ok(Node { at: Position { line: 1, column: 1 }, kind: Kind::Null });
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Source { text }.node(raw),
        Err(e) => Err(syntax_problem(&e)),
    }
}

fn syntax_problem(e: &serde_saphyr::Error) -> Problem {
    let e = e.without_snippet();
    let position = e.location().map(|l| position(&l));
    let text = e.to_string();
    // The place is shown apart.
    let message = text.lines().next().unwrap_or("").trim_start_matches("error: ");
    let line = position.map_or(String::new(), |p| format!("line {}: ", p.line));
    Problem { message: format!("yaml: {line}{message}"), position, allowed: Vec::new() }
}

fn position(location: &serde_saphyr::Location) -> Position {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: small(location.line()), column: small(location.column()) }
}

/// What YAML makes of a node.
enum Raw {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(v))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Raw, E> {
        Ok(Raw::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Raw::Map(entries))
    }
}

struct Source<'t> {
    text: &'t str,
}

impl Source<'_> {
    fn node(&self, raw: Spanned<Raw>) -> Result<Node, Problem> {
        let at = position(&raw.referenced);
        let (before, own) = self.around(&raw.defined);
        let kind = match raw.value {
            Raw::Null => Kind::Null,
            Raw::Bool(value) => Kind::Bool(value, own.to_owned()),
            Raw::Number => Kind::Number(own.to_owned()),
            Raw::Text(text) if before.trim_end().ends_with("!!binary") || own.starts_with("!!binary") => {
                binary(&text, at)?
            }
            Raw::Text(text) => Kind::Text(text),
            Raw::List(items) => {
                Kind::List(items.into_iter().map(|i| self.node(i)).collect::<Result<_, _>>()?)
            }
            Raw::Map(entries) => {
                let pair = |(k, v)| Ok((self.node(k)?, self.node(v)?));
                Kind::Map(entries.into_iter().map(pair).collect::<Result<_, _>>()?)
            }
        };
        Ok(Node { at, kind })
    }

    /// The source before a node on its line, and the node's own source.
    fn around(&self, location: &serde_saphyr::Location) -> (&str, &str) {
        let span = location.span();
        let (Some(start), Some(size)) = (span.byte_offset(), span.byte_len()) else {
            return ("", "");
        };
        let (start, end) = (start as usize, (start + size) as usize);
        let before = self.text.get(..start).unwrap_or("");
        let line = before.rfind('\n').map_or(0, |i| i + 1);
        (&before[line..], self.text.get(start..end).unwrap_or("").trim())
    }
}

fn binary(text: &str, at: Position) -> Result<Kind, Problem> {
    let Some(bytes) = base64(text) else {
        let problem = Problem::new("yaml: !!binary value contains invalid base64 data");
        return Err(problem.at(Some(at)));
    };
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Kind::Text(text),
        Err(e) => Kind::Bytes(e.into_bytes()),
    })
}

/// Standard base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let body = digits.iter().take_while(|b| **b != b'=').count();
    if !digits.len().is_multiple_of(4) || digits.len() - body > 2 || digits[body..].iter().any(|b| *b != b'=')
    {
        return None;
    }
    let (mut bits, mut held, mut out) = (0u32, 0u32, Vec::with_capacity(body * 3 / 4));
    for b in &digits[..body] {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        let at = format!("{}:{}", node.at.line, node.at.column);
        match &node.kind {
            Kind::List(items) => format!("{at}[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Kind::Map(entries) => {
                let pair = |(k, v): &(Node, Node)| format!("{}={}", show(k), show(v));
                format!("{at}{{{}}}", entries.iter().map(pair).collect::<Vec<_>>().join(" "))
            }
            _ => format!("{at}{}", node.type_text()),
        }
    }

    fn check(text: &str, want: &str) {
        let got = match parse(text) {
            Ok(node) => show(&node),
            Err(e) => format!("{:?} {}", e.position.map(|p| (p.line, p.column)), e.message),
        };
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn nodes_know_their_places_and_scalars_their_text() {
        check(
            "a: 1\nb: [x, yes, 1.50]\n",
            "1:1{1:1!!str `a`=1:4!!int `1` 2:1!!str `b`=2:4[2:5!!str `x` 2:8!!bool `yes` 2:13!!float `1.50`]}",
        );
        check(
            "a: 0123\nb: \"12\"\nc:\n",
            "1:1{1:1!!str `a`=1:4!!int `0123` 2:1!!str `b`=2:4!!str `12` 3:1!!str `c`=3:2!!null}",
        );
        check("- &x {k: v}\n- *x\n", "1:1[1:6{1:7!!str `k`=1:10!!str `v`} 2:3{2:3!!str `k`=2:3!!str `v`}]");
        check("k: 1\nk: 2\n", "1:1{1:1!!str `k`=1:4!!int `1` 2:1!!str `k`=2:4!!int `2`}");
        check("# nothing\n", "1:1!!null");
        check(
            "a: !!binary \"/w==\"\n!!binary \"/w==\": b\n",
            "1:1{1:1!!str `a`=1:13!!binary 2:10!!binary=2:18!!str `b`}",
        );
    }
}
