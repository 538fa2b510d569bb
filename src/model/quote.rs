//! Strings as Go's `%q` writes them: error texts and printed expressions are compared byte by byte.

use std::fmt::Write;

/// `text` between double quotes, escaped as Go's `strconv.Quote`.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Appends `text` as `strconv.Quote` writes it.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        push_escaped(out, c);
    }
    out.push('"');
}

/// Appends bytes that need not be UTF-8, as `strconv.Quote` of such a Go string.
pub fn push_quoted_bytes(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(out, c);
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_print(c) => out.push(c),
        c if (c as u32) < 0x80 => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if (c as u32) < 0x10000 => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

/// Go's `strconv.IsPrint`, nearly: letters, marks, numbers, punctuation, symbols and the ASCII blank.
///
/// Rust's `escape_debug` asks the same Unicode tables; it also escapes grapheme extenders, which Go prints.
fn is_print(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\u{7f}'..='\u{a0}' | '\u{ad}' => false,
        c => c.escape_debug().count() == 1 || !(c.is_control() || c.is_whitespace() || is_unassigned(c)),
    }
}

/// Code points that `escape_debug` hides and Go hides too: format characters, private use, unassigned ones.
fn is_unassigned(c: char) -> bool {
    matches!(c as u32,
        0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb
        | 0xfffe..=0xffff | 0xe0000..=0xe0fff | 0xf0000..=0x10ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, want) in [
            ("a", r#""a""#),
            ("a\"b\\\n", r#""a\"b\\\n""#),
            ("\x01\x7f\u{ad}", r#""\x01\x7f\u00ad""#),
            ("日本 ☺", "\"日本 ☺\""),
            ("\u{200b}\u{10ffff}", r#""\u200b\U0010ffff""#),
        ] {
            assert_eq!(quoted(text), want);
        }
        let mut out = String::new();
        push_quoted_bytes(&mut out, b"a\xffb");
        assert_eq!(out, r#""a\xffb""#);
    }
}
