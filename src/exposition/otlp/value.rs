//! Values of attributes, and their text as a label has it.

use model::float_text::{push_e, push_f};

use super::{Error, message_of, text, varint};
use crate::base64::push_base64;
use crate::otlp::Attribute;
use crate::remote_write::{Cursor, FIXED64, expect};

/// Values within values within values: deeper ones are no label.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AnyValue<'a> {
    #[default]
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// The message of a list of values.
    Array(&'a [u8]),
    /// The message of a list of attributes.
    Map(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Error> {
        let (mut value, mut cursor) = (AnyValue::Empty, Cursor::new(message));
        while let Some((field, wire)) = cursor.field("AnyValue")? {
            value = match field {
                1 => AnyValue::Text(text(&mut cursor, wire, "StringValue")?),
                2 => AnyValue::Bool(varint(&mut cursor, wire, "BoolValue")? != 0),
                3 => AnyValue::Int(varint(&mut cursor, wire, "IntValue")? as i64),
                4 => {
                    expect(wire, FIXED64, "DoubleValue")?;
                    AnyValue::Double(cursor.double()?)
                }
                5 => AnyValue::Array(message_of(&mut cursor, wire, "ArrayValue")?),
                6 => AnyValue::Map(message_of(&mut cursor, wire, "KvlistValue")?),
                7 => AnyValue::Bytes(message_of(&mut cursor, wire, "BytesValue")?),
                _ => {
                    cursor.skip(wire)?;
                    value
                }
            };
        }
        Ok(value)
    }

    /// The text of a label with this value: lists and maps as Go writes JSON, empty where JSON has no word for it.
    pub fn push_to(&self, out: &mut String) -> Result<(), Error> {
        match *self {
            AnyValue::Empty => {}
            AnyValue::Text(t) => out.push_str(t),
            AnyValue::Bool(b) => out.push_str(if b { "true" } else { "false" }),
            AnyValue::Int(i) => out.push_str(&i.to_string()),
            AnyValue::Double(d) if d.is_finite() => push_json_float(out, d),
            AnyValue::Double(d) => {
                out.push_str("json: unsupported value: ");
                out.push_str(&model::float_text::format_g(d));
            }
            AnyValue::Bytes(b) => push_base64(out, b),
            AnyValue::Array(_) | AnyValue::Map(_) => {
                let from = out.len();
                if !self.push_json(out, 0)? {
                    out.truncate(from);
                }
            }
        }
        Ok(())
    }

    /// False where JSON cannot say it.
    fn push_json(&self, out: &mut String, depth: usize) -> Result<bool, Error> {
        if depth > DEPTH_MAX {
            return Ok(false);
        }
        match *self {
            AnyValue::Empty => out.push_str("null"),
            AnyValue::Text(t) => push_json_text(out, t),
            AnyValue::Bool(_) | AnyValue::Int(_) => self.push_to(out)?,
            AnyValue::Double(d) if d.is_finite() => push_json_float(out, d),
            AnyValue::Double(_) => return Ok(false),
            AnyValue::Bytes(b) => {
                out.push('"');
                push_base64(out, b);
                out.push('"');
            }
            AnyValue::Array(message) => {
                out.push('[');
                let mut cursor = Cursor::new(message);
                let mut is_first = true;
                while let Some((field, wire)) = cursor.field("ArrayValue")? {
                    if field != 1 {
                        cursor.skip(wire)?;
                        continue;
                    }
                    let value = AnyValue::read(message_of(&mut cursor, wire, "Values")?)?;
                    push_comma(out, &mut is_first);
                    if !value.push_json(out, depth + 1)? {
                        return Ok(false);
                    }
                }
                out.push(']');
            }
            AnyValue::Map(message) => return push_json_map(out, message, depth),
        }
        Ok(true)
    }
}

/// Keys are sorted; of two with one name the last one stays.
fn push_json_map(out: &mut String, message: &[u8], depth: usize) -> Result<bool, Error> {
    let mut attributes: Vec<Attribute<'_>> = Vec::new();
    let mut cursor = Cursor::new(message);
    while let Some((field, wire)) = cursor.field("KeyValueList")? {
        match field {
            1 => super::read_attribute(&mut cursor, wire, &mut attributes)?,
            _ => cursor.skip(wire)?,
        }
    }
    attributes.sort_by(|a, b| a.key.cmp(b.key));
    out.push('{');
    let mut is_first = true;
    for (i, a) in attributes.iter().enumerate() {
        if attributes.get(i + 1).is_some_and(|next| next.key == a.key) {
            continue;
        }
        push_comma(out, &mut is_first);
        push_json_text(out, a.key);
        out.push(':');
        if !a.value.push_json(out, depth + 1)? {
            return Ok(false);
        }
    }
    out.push('}');
    Ok(true)
}

fn push_comma(out: &mut String, is_first: &mut bool) {
    if !std::mem::replace(is_first, false) {
        out.push(',');
    }
}

/// As Go's `encoding/json`: plain between 1e-6 and 1e21, else with an exponent without leading zeros.
pub fn push_json_float(out: &mut String, v: f64) {
    let mut bytes = Vec::with_capacity(24);
    if v != 0.0 && !(1e-6..1e21).contains(&v.abs()) {
        push_e(&mut bytes, v);
        let n = bytes.len();
        if n >= 4 && bytes[n - 4..n - 1] == *b"e-0" {
            bytes.remove(n - 2);
        }
    } else {
        push_f(&mut bytes, v);
    }
    out.push_str(&String::from_utf8_lossy(&bytes));
}

/// As Go's `encoding/json`, which is careful for HTML's sake.
fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: AnyValue<'_>) -> String {
        let mut out = String::new();
        value.push_to(&mut out).unwrap();
        out
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        let check = |value: AnyValue<'_>, expect: &str| assert_eq!(shown(value), expect, "{value:?}");
        check(AnyValue::Empty, "");
        check(AnyValue::Text("a\"b"), "a\"b");
        check(AnyValue::Bool(true), "true");
        check(AnyValue::Int(-3), "-3");
        check(AnyValue::Double(1.5), "1.5");
        check(AnyValue::Double(1e21), "1e+21");
        check(AnyValue::Double(1e-7), "1e-7");
        check(AnyValue::Double(1e-10), "1e-10");
        check(AnyValue::Double(f64::INFINITY), "json: unsupported value: +Inf");
        check(AnyValue::Bytes(b"hi"), "aGk=");
        check(AnyValue::Bytes(b"hi!"), "aGkh");
        check(AnyValue::Bytes(b"h"), "aA==");
        // ["<x>", 1, null]
        check(
            AnyValue::Array(b"\x0a\x05\x0a\x03<x>\x0a\x02\x18\x01\x0a\x00"),
            "[\"\\u003cx\\u003e\",1,null]",
        );
        // {b: 1, a: true}
        let map = b"\x0a\x07\x0a\x01b\x12\x02\x18\x01\x0a\x07\x0a\x01a\x12\x02\x10\x01";
        check(AnyValue::Map(map), "{\"a\":true,\"b\":1}");
    }

    #[test]
    fn values_too_deep_to_be_labels_are_empty() {
        let mut message = vec![0x18, 1];
        for _ in 0..60 {
            let mut array = vec![0x0a, message.len() as u8];
            array.extend_from_slice(&message);
            message = vec![0x2a, array.len() as u8];
            message.extend_from_slice(&array);
            if message.len() > 120 {
                break;
            }
        }
        let value = AnyValue::read(&message).unwrap();
        assert!(shown(value).starts_with("[[["));
        let mut deep = String::new();
        assert!(!value.push_json(&mut deep, DEPTH_MAX).unwrap());
    }
}
