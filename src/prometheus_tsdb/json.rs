//! The little JSON that a block's meta file is.

use std::fmt::Write;

/// A value; numbers are kept as their text.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Deeper than any meta file: a stranger's brackets must not use up the stack.
const DEPTH_MAX: usize = 32;

impl Json {
    /// Parses a whole text. On an error: the byte that does not fit.
    pub fn parse(text: &[u8]) -> Result<Json, usize> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0).ok_or(parser.at)?;
        parser.blanks();
        if parser.at == text.len() { Ok(value) } else { Err(parser.at) }
    }

    /// A field of an object.
    pub fn field(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    /// A whole number.
    pub fn as_i64(&self) -> Option<i64> {
        if let Json::Number(text) = self { text.parse().ok() } else { None }
    }

    pub fn as_list(&self) -> &[Json] {
        if let Json::List(list) = self { list } else { &[] }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        let fits = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(fits);
        fits.then_some(())
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let fits = self.text[self.at..].starts_with(word.as_bytes());
        self.at += if fits { word.len() } else { 0 };
        fits.then_some(value)
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        self.blanks();
        if depth > DEPTH_MAX {
            return None;
        }
        match self.text.get(self.at)? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'"' => self.quoted().map(Json::Text),
            b'[' => self.list(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(b)).count();
        let text = std::str::from_utf8(&rest[..length]).ok()?;
        text.parse::<f64>().ok()?;
        self.at += length;
        Some(Json::Number(text.to_owned()))
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        self.take(b'[')?;
        let mut list = Vec::new();
        if self.take(b']').is_some() {
            return Some(Json::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            if self.take(b',').is_none() {
                return self.take(b']').map(|()| Json::List(list));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.take(b'{')?;
        let mut fields = Vec::new();
        if self.take(b'}').is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.blanks();
            let name = self.quoted()?;
            self.take(b':')?;
            fields.push((name, self.value(depth + 1)?));
            if self.take(b',').is_none() {
                return self.take(b'}').map(|()| Json::Object(fields));
            }
        }
    }

    fn quoted(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut out = Vec::new();
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(out).ok(),
                b'\\' => self.escape(&mut out)?,
                0..0x20 => return None,
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        match byte {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let digits = std::str::from_utf8(self.text.get(self.at..self.at + 4)?).ok()?;
                self.at += 4;
                // Halves of surrogate pairs stand for nothing that a meta file says.
                let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            b'"' | b'\\' | b'/' => out.push(byte),
            _ => return None,
        }
        Some(())
    }
}

/// Appends text between quotes.
pub fn push_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_and_nonsense_is_not() {
        let json =
            Json::parse(br#" {"a": [1, -2.5e3, "x\"\n\u0041"], "b": {"c": null}, "d": true} "#).unwrap();
        assert_eq!(json.field("a").unwrap().as_list()[2].as_text(), Some("x\"\nA"));
        assert_eq!(json.field("a").unwrap().as_list()[0].as_i64(), Some(1));
        assert_eq!(json.field("b").and_then(|b| b.field("c")), Some(&Json::Null));
        for bad in ["", "{", "{\"a\"}", "[1,]", "nul", "\"\\x\"", "1 2", "{\"a\":1,}"] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_safe_and_quoted_text_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in ".*") {
            let _ = Json::parse(&bytes);
            let mut quoted = String::new();
            push_quoted(&text, &mut quoted);
            prop_assert_eq!(Json::parse(quoted.as_bytes()), Ok(Json::Text(text)));
        }
    }
}
