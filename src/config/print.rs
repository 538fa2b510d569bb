//! The loaded configuration as YAML, laid out and quoted as go-yaml does it, with secrets hidden.

use model::float_text::format_g;
use model::time::format_duration;

use super::schema::{Block, Field, Kind, Value};
use super::size::format_size;
use super::url::redacted;

/// go-yaml folds a text at the first blank past this column.
const WIDTH: usize = 80;
const SECRET: &str = "<secret>";

pub(super) fn print(block: &Block) -> String {
    let mut out = String::new();
    section(&mut out, block, 0, true);
    out
}

/// Writes the entries of a section; the first one follows a dash where `fresh` is false.
fn section(out: &mut String, block: &Block, indent: usize, fresh: bool) {
    let mut fresh = fresh;
    for (field, value) in block.entries().filter(|(f, v)| is_shown(f, v)) {
        begin(out, indent, &mut fresh);
        entry(out, field, value, indent);
    }
    if !block.entries().any(|(f, v)| is_shown(f, v)) {
        out.push_str("{}\n");
    }
}

fn begin(out: &mut String, indent: usize, fresh: &mut bool) {
    if *fresh {
        out.extend(std::iter::repeat_n(' ', indent));
    }
    *fresh = true;
}

fn is_shown(field: &Field, value: &Value) -> bool {
    if let (Kind::Section(_), Value::Section(block)) = (field.kind, value) {
        return field.always || !is_zero(block);
    }
    match value {
        Value::Unset => field.always,
        _ if field.always => true,
        Value::Bool(set) => *set || matches!(field.kind, Kind::Flag),
        Value::Text(text) => !text.is_empty() || matches!(field.kind, Kind::Regex),
        Value::Int(v) | Value::Duration(v) | Value::Size(v) => *v != 0,
        Value::Float(v) => *v != 0.0,
        Value::Texts(v) => !v.is_empty(),
        Value::TextMap(v) => !v.is_empty(),
        Value::ListMap(v) => !v.is_empty(),
        Value::Sections(v) => !v.is_empty(),
        Value::SectionMap(v) => !v.is_empty(),
        Value::Section(_) => true,
    }
}

/// Whether Go would take the section for its type's zero.
fn is_zero(block: &Block) -> bool {
    block.entries().all(|(field, value)| match value {
        Value::Bool(set) => !set && !matches!(field.kind, Kind::Flag),
        Value::Unset => true,
        Value::Section(inner) if matches!(field.kind, Kind::Section(_)) => is_zero(inner),
        value => !is_shown(&Field { always: false, ..*field }, value),
    })
}

fn entry(out: &mut String, field: &Field, value: &Value, indent: usize) {
    out.push_str(field.key);
    out.push(':');
    let column = indent + field.key.len() + 1;
    match value {
        Value::Section(block) => nested(out, block, indent + 2),
        Value::Sections(blocks) if blocks.is_empty() => out.push_str(" []\n"),
        Value::Sections(blocks) => {
            out.push('\n');
            for block in blocks {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str("- ");
                section(out, block, indent + 2, false);
            }
        }
        Value::Texts(texts) if matches!(field.kind, Kind::FlowTexts) => flow(out, texts, column, indent + 2),
        Value::Texts(texts) => list(out, texts, indent, matches!(field.kind, Kind::Secrets)),
        Value::TextMap(map) => text_map(out, map, indent),
        Value::ListMap(map) => {
            let secret = matches!(field.kind, Kind::SecretMap);
            out.push('\n');
            for (name, texts) in map {
                map_key(out, name, indent + 2);
                list(out, texts, indent + 2, secret);
            }
        }
        Value::SectionMap(map) => {
            out.push('\n');
            for (name, block) in map {
                map_key(out, name, indent + 2);
                nested(out, block, indent + 4);
            }
        }
        Value::Unset => out.push_str(match field.kind {
            Kind::Bool | Kind::Flag => " false\n",
            Kind::Int | Kind::Uint | Kind::Float => " 0\n",
            Kind::Duration => " 0s\n",
            Kind::Texts | Kind::FlowTexts | Kind::Paths | Kind::Secrets | Kind::Sections(..) => " []\n",
            Kind::Secret | Kind::Url => " null\n",
            _ => " \"\"\n",
        }),
        value => {
            out.push(' ');
            push_scalar(out, &scalar_text(field.kind, value), column + 1, indent + 2, is_text(value));
            out.push('\n');
        }
    }
}

fn nested(out: &mut String, block: &Block, indent: usize) {
    if block.entries().any(|(f, v)| is_shown(f, v)) {
        out.push('\n');
        section(out, block, indent, true);
    } else {
        out.push_str(" {}\n");
    }
}

fn is_text(value: &Value) -> bool {
    matches!(value, Value::Text(_))
}

fn scalar_text(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Secret, Value::Text(text)) if !text.is_empty() => SECRET.to_owned(),
        (Kind::Url, Value::Text(text)) => redacted(text),
        (_, Value::Text(text)) => text.clone(),
        (_, Value::Bool(v)) => v.to_string(),
        (_, Value::Int(v)) => v.to_string(),
        (_, Value::Float(v)) => format_g(*v),
        (_, Value::Duration(ms)) => format_duration(*ms),
        (_, Value::Size(bytes)) => format_size(*bytes),
        _ => String::new(),
    }
}

fn map_key(out: &mut String, name: &str, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
    push_scalar(out, name, 0, 0, true);
    out.push(':');
}

fn text_map(out: &mut String, map: &[(String, String)], indent: usize) {
    if map.is_empty() {
        out.push_str(" {}\n");
        return;
    }
    out.push('\n');
    for (name, text) in map {
        map_key(out, name, indent + 2);
        out.push(' ');
        push_scalar(out, text, indent + name.len() + 4, indent + 4, true);
        out.push('\n');
    }
}

fn list(out: &mut String, texts: &[String], indent: usize, secret: bool) {
    if texts.is_empty() {
        out.push_str(" []\n");
        return;
    }
    out.push('\n');
    for text in texts {
        out.extend(std::iter::repeat_n(' ', indent));
        out.push_str("- ");
        push_scalar(out, if secret { SECRET } else { text }, indent + 2, indent + 2, true);
        out.push('\n');
    }
}

/// Texts in one line from `column` on, that goes on at `indent` past the width.
fn flow(out: &mut String, texts: &[String], column: usize, indent: usize) {
    out.push_str(" [");
    let mut at = column + 2;
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(',');
            at += 1;
            if at > WIDTH {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                at = indent;
            } else {
                out.push(' ');
                at += 1;
            }
        }
        let start = out.len();
        if resolves_otherwise(text) {
            push_double(out, text);
        } else if plain_in_flow(text) {
            out.push_str(text);
        } else {
            push_quoted(out, text);
        }
        at += out[start..].chars().count();
    }
    out.push_str("]\n");
}

fn plain_in_flow(text: &str) -> bool {
    plain_in_block(text) && !text.contains([',', '?', '[', ']', '{', '}', ':'])
}

/// Writes a scalar that begins at `column`; `indent` is where its further lines would begin.
fn push_scalar(out: &mut String, text: &str, column: usize, indent: usize, is_text: bool) {
    if !is_text {
        out.push_str(text);
    } else if text.contains('\n') {
        let plain_lines = !text.chars().any(|c| c != '\n' && needs_escape(c));
        if plain_lines && !text.contains(" \n") && !text.ends_with(' ') {
            push_literal(out, text, indent);
        } else {
            push_double(out, text);
        }
    } else if resolves_otherwise(text) {
        push_double(out, text);
    } else if plain_in_block(text) {
        push_folded(out, text, column, indent);
    } else {
        push_quoted(out, text);
    }
}

/// A block of lines as they are; `-` and `+` say what the end of the text is.
fn push_literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text.ends_with("\n\n") || text == "\n" {
        out.push('+');
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
    }
}

fn push_folded(out: &mut String, text: &str, column: usize, indent: usize) {
    let mut at = column;
    let mut chars = text.chars().peekable();
    let mut after_blank = false;
    while let Some(c) = chars.next() {
        let fold =
            c == ' ' && !after_blank && at > WIDTH && indent > 0 && chars.peek().is_some_and(|n| *n != ' ');
        after_blank = c == ' ';
        if fold {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            at = indent;
        } else {
            out.push(c);
            at += 1;
        }
    }
}

/// Single quotes where they can hold the text, else double ones.
fn push_quoted(out: &mut String, text: &str) {
    if text.chars().any(needs_escape) {
        push_double(out, text);
        return;
    }
    out.push('\'');
    out.push_str(&text.replace('\'', "''"));
    out.push('\'');
}

fn push_double(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            '\u{feff}' => out.push_str("\\uFEFF"),
            c if c > '\u{ffff}' => out.push_str(&format!("\\U{:08X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\x{:02X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Characters that go-yaml only writes between double quotes.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') || c > '\u{ffff}'
}

/// Whether a plain scalar may hold the text in a block.
fn plain_in_block(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    let next_blank = text[first.len_utf8()..].chars().next().is_none_or(|c| c == ' ');
    let reserved = "#,[]{}&*!|>'\"%@`".contains(first) || ("?:-".contains(first) && next_blank);
    let marked = text.starts_with("---") || text.starts_with("...");
    let edged = text.starts_with(' ') || text.ends_with(' ');
    let breaks = text.contains(": ") || text.ends_with(':') || text.contains(" #");
    !(reserved || marked || edged || breaks || text.chars().any(needs_escape))
}

const WORDS: [&str; 22] = [
    "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE", "n", "N", "no", "No", "NO",
    "off", "Off", "OFF", "false", "False", "FALSE",
];

/// Whether YAML 1.1 would take the plain text for something that is no text.
fn resolves_otherwise(text: &str) -> bool {
    if WORDS.contains(&text) || matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let Some(first) = unsigned.bytes().next().filter(|b| b.is_ascii_digit() || *b == b'.') else {
        return false;
    };
    let plain = unsigned.replace('_', "");
    let radix =
        |prefix: &str, base| plain.strip_prefix(prefix).is_some_and(|d| u64::from_str_radix(d, base).is_ok());
    let number = plain.parse::<f64>().is_ok() || radix("0x", 16) || radix("0b", 2) || radix("0o", 8);
    number || (first != b'.' && (is_sexagesimal(unsigned) || is_date(text)))
}

/// `12:30:00` is a number to base 60; its last part may have a fraction.
fn is_sexagesimal(text: &str) -> bool {
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let head = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    let part_ok = |p: &&str| match p.as_bytes() {
        [ones] => ones.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    };
    !head.is_empty() && digits(head) && digits(fraction) && !rest.is_empty() && rest.iter().all(part_ok)
}

/// `2006-1-2`, with a time or without.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (year, month, rest) = (parts.next(), parts.next(), parts.next());
    let digits = |t: Option<&str>, n: std::ops::RangeInclusive<usize>| {
        t.is_some_and(|t| n.contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit()))
    };
    let (day, time) = match rest.map(|r| r.split_once(['T', 't', ' ']).unwrap_or((r, "0"))) {
        Some((day, time)) => (Some(day), time),
        None => (None, ""),
    };
    let time_ok = time.starts_with(|c: char| c.is_ascii_digit())
        && time.chars().all(|c| c.is_ascii_digit() || ":.Z+-".contains(c));
    digits(year, 4..=4) && digits(month, 1..=2) && digits(day, 1..=2) && time_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        let mut out = String::new();
        push_scalar(&mut out, text, 0, 2, true);
        assert_eq!(out, want);
    }

    #[test]
    fn a_long_line_of_texts_goes_on_below() {
        let texts: Vec<String> =
            ["__meta_kubernetes_namespace", "__meta_kubernetes_pod_label_app_kubernetes_io_name", "b"]
                .map(str::to_owned)
                .to_vec();
        let mut out = String::from("- source_labels:");
        let column = out.len();
        flow(&mut out, &texts, column, 4);
        let want = "- source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_label_app_kubernetes_io_name,\n    b]\n";
        assert_eq!(out, want);
    }

    #[test]
    fn texts_are_quoted_as_go_yaml_quotes_them() {
        for (text, want) in [
            ("", "\"\""),
            ("localhost:9090", "localhost:9090"),
            ("(.*)", "(.*)"),
            ("$1", "$1"),
            (";", ";"),
            ("123", "\"123\""),
            ("yes", "\"yes\""),
            ("1.5", "\"1.5\""),
            ("12:30", "\"12:30\""),
            ("2020-01-02", "\"2020-01-02\""),
            ("1.2.3.4:9093", "1.2.3.4:9093"),
            (",", "','"),
            ("*.yml", "'*.yml'"),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("'x", "'''x'"),
            ("12:30...", "12:30..."),
            ("a\tb\n", "\"a\\tb\\n\""),
            ("😀", "\"\\U0001F600\""),
            ("a\nb", "|-\n  a\n  b"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("a\tb", "\"a\\tb\""),
            ("<secret>", "<secret>"),
        ] {
            check(text, want);
        }
    }
}
