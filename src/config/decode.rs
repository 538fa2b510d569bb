//! From a tree of YAML to sections, by their schemas: unknown keys, wrong types and bad values are refused here,
//! in go-yaml's words and with their place.

use model::time::parse_duration;

use super::error::{Position, Problem};
use super::schema::{Block, Field, Kind, Schema, Value};
use super::size::parse_size;
use super::yaml::{Kind as NodeKind, Node};

/// Reads a section, fills its defaults and checks it.
pub(super) fn decode(schema: &'static Schema, node: &Node) -> Result<Block, Problem> {
    let NodeKind::Map(entries) = &node.kind else {
        let what = format!("cannot unmarshal {} into {}", node.type_text(), schema.go);
        return Err(Problem::of_type(what, node.at).allow(schema.fields().map(|f| f.key)));
    };
    let mut block = Block::new(schema, Some(node.at));
    for (key, value) in entries {
        let name = key.text().unwrap_or("");
        let Some(field) = schema.fields().find(|f| f.key == name) else {
            let what = format!("field {name} not found in type {}", schema.go);
            return Err(Problem::of_type(what, key.at).allow(nearest(name, schema)));
        };
        if block.is_given(name) {
            let what = format!("field {name} already set in type {}", schema.go);
            return Err(Problem::of_type(what, key.at));
        }
        let value = decode_value(field, value).map_err(|p| p.at(Some(key.at)))?;
        block.set(field.key, value, Some(key.at));
    }
    fill_defaults(&mut block)?;
    (schema.check)(&mut block).map_err(|p| p.at(Some(node.at)))?;
    Ok(block)
}

/// A section of which nothing is given: its defaults alone.
pub(super) fn default_block(schema: &'static Schema) -> Result<Block, Problem> {
    let mut block = Block::new(schema, None);
    fill_defaults(&mut block)?;
    (schema.check)(&mut block)?;
    Ok(block)
}

fn fill_defaults(block: &mut Block) -> Result<(), Problem> {
    for field in block.schema.fields() {
        if block.is_given(field.key) {
            continue;
        }
        let value = match field.kind {
            Kind::Section(schema) => Value::Section(Box::new(default_block(schema)?)),
            _ if field.default.is_empty() => continue,
            _ => scalar(field, field.default, Position::default())?,
        };
        block.set(field.key, value, None);
    }
    Ok(())
}

/// All keys of the section, those that look like `name` first.
fn nearest(name: &str, schema: &Schema) -> Vec<&'static str> {
    let mut keys: Vec<&'static str> = schema.fields().map(|f| f.key).collect();
    keys.sort_by_key(|k| {
        let shared = k.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        (std::cmp::Reverse(shared), k.len().abs_diff(name.len()))
    });
    keys
}

fn decode_value(field: &Field, node: &Node) -> Result<Value, Problem> {
    match field.kind {
        Kind::Sections(schema, complaint) => sections(schema, complaint, node),
        Kind::Section(schema) => Ok(Value::Section(Box::new(match node.kind {
            // Go leaves a section that is opened and left empty without its defaults.
            NodeKind::Null => Block::new(schema, Some(node.at)),
            _ => decode(schema, node)?,
        }))),
        Kind::Optional(schema) => match node.kind {
            NodeKind::Null => Ok(Value::Unset),
            _ => Ok(Value::Section(Box::new(decode(schema, node)?))),
        },
        Kind::SectionMap(schema) => {
            let decode_entry = |(name, n): (String, &Node)| match n.kind {
                NodeKind::Null => Ok((name, Block::new(schema, Some(n.at)))),
                _ => Ok((name, decode(schema, n)?)),
            };
            Ok(Value::SectionMap(map(node)?.into_iter().map(decode_entry).collect::<Result<_, _>>()?))
        }
        Kind::Texts | Kind::FlowTexts | Kind::Paths | Kind::Secrets => match node.kind {
            NodeKind::Null => Ok(Value::Unset),
            _ => texts(node).map(Value::Texts),
        },
        Kind::TextMap => {
            let pairs = map(node)?.into_iter().map(|(name, n)| Ok((name, text(n)?)));
            Ok(Value::TextMap(pairs.collect::<Result<_, _>>()?))
        }
        Kind::ListMap | Kind::SecretMap => {
            let pairs = map(node)?.into_iter().map(|(name, n)| Ok((name, texts(n)?)));
            Ok(Value::ListMap(pairs.collect::<Result<_, _>>()?))
        }
        _ => match (&node.kind, field.kind) {
            (NodeKind::Null, Kind::Flag | Kind::Url) => Ok(Value::Unset),
            // Go sets what is given as nothing to its zero, over the default.
            (NodeKind::Null, _) => Ok(Value::Text(String::new())).map(|text| match field.kind {
                Kind::Text | Kind::Secret | Kind::Path | Kind::Regex => text,
                _ => Value::Unset,
            }),
            _ => typed_scalar(field, node),
        },
    }
}

fn sections(schema: &'static Schema, complaint: &str, node: &Node) -> Result<Value, Problem> {
    if let NodeKind::Null = node.kind {
        return Ok(Value::Unset);
    }
    let mut blocks = Vec::new();
    for item in list(node, schema.go)? {
        if let NodeKind::Null = item.kind {
            return Err(Problem::new(complaint).at(Some(item.at)));
        }
        blocks.push(decode(schema, item)?);
    }
    Ok(Value::Sections(blocks))
}

fn list<'n>(node: &'n Node, of: &str) -> Result<&'n [Node], Problem> {
    match &node.kind {
        NodeKind::Null => Ok(&[]),
        NodeKind::List(items) => Ok(items),
        _ => {
            let what = format!("cannot unmarshal {} into []{of}", node.type_text());
            Err(Problem::of_type(what, node.at).allow(["a list"]))
        }
    }
}

/// The entries of a map, sorted by name as Go prints them.
fn map(node: &Node) -> Result<Vec<(String, &Node)>, Problem> {
    let entries = match &node.kind {
        NodeKind::Null => return Ok(Vec::new()),
        NodeKind::Map(entries) => entries,
        _ => {
            let what = format!("cannot unmarshal {} into map[string]string", node.type_text());
            return Err(Problem::of_type(what, node.at).allow(["a map"]));
        }
    };
    let mut pairs: Vec<(String, &Node)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if let NodeKind::Bytes(bytes) = &key.kind {
            return Err(not_text(bytes, "name", key.at));
        }
        let name = key.text().unwrap_or("").to_owned();
        if pairs.iter().any(|(n, _)| *n == name) {
            let name = model::quote::quoted(&name);
            return Err(Problem::of_type(format!("key {name} already set in map"), key.at));
        }
        pairs.push((name, value));
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(pairs)
}

fn not_text(bytes: &[u8], what: &str, at: Position) -> Problem {
    let mut shown = String::new();
    model::quote::push_quoted_bytes(&mut shown, bytes);
    Problem::new(format!("{shown} is not a valid label {what}")).at(Some(at))
}

fn texts(node: &Node) -> Result<Vec<String>, Problem> {
    list(node, "string")?.iter().map(text).collect()
}

fn text(node: &Node) -> Result<String, Problem> {
    if let NodeKind::Bytes(bytes) = &node.kind {
        return Err(not_text(bytes, "value", node.at));
    }
    node.text().map(str::to_owned).ok_or_else(|| misfit(node, "string"))
}

fn misfit(node: &Node, into: &str) -> Problem {
    let wanted = match into {
        "bool" => vec!["true", "false"],
        "string" => vec!["a text"],
        "float64" => vec!["a number"],
        _ => vec!["an integer"],
    };
    Problem::of_type(format!("cannot unmarshal {} into {into}", node.type_text()), node.at).allow(wanted)
}

fn typed_scalar(field: &Field, node: &Node) -> Result<Value, Problem> {
    match (field.kind, &node.kind) {
        (Kind::Bool | Kind::Flag, NodeKind::Bool(value, _)) => Ok(Value::Bool(*value)),
        (Kind::Bool | Kind::Flag, _) => Err(misfit(node, "bool")),
        (Kind::Int, NodeKind::Number(text)) => {
            integer(text).map(Value::Int).ok_or_else(|| misfit(node, "int"))
        }
        (Kind::Int, _) => Err(misfit(node, "int")),
        (Kind::Uint, NodeKind::Number(text)) => {
            let value = integer(text).filter(|v| *v >= 0);
            value.map(Value::Int).ok_or_else(|| misfit(node, "uint"))
        }
        (Kind::Uint, _) => Err(misfit(node, "uint")),
        (Kind::Float, NodeKind::Number(text)) => {
            float(text).map(Value::Float).ok_or_else(|| misfit(node, "float64"))
        }
        (Kind::Float, _) => Err(misfit(node, "float64")),
        _ => scalar(field, &text(node)?, node.at),
    }
}

/// A value from its text: what is given and what is a default.
fn scalar(field: &Field, text: &str, at: Position) -> Result<Value, Problem> {
    let refuse = |message: String, allowed: &[&str]| {
        Err(Problem::new(message).at(Some(at)).allow(allowed.iter().copied()))
    };
    Ok(match field.kind {
        Kind::Duration => match parse_duration(text) {
            Ok(ms) => Value::Duration(ms),
            Err(e) => return refuse(e.to_string(), &["a duration like 15s, 1m30s or 1h"]),
        },
        Kind::Size => match parse_size(text) {
            Ok(bytes) => Value::Size(bytes),
            Err(e) => return refuse(e, &["a size like 512KB, 10MB or 1GB"]),
        },
        Kind::Bool | Kind::Flag => Value::Bool(text == "true"),
        Kind::Int | Kind::Uint => Value::Int(integer(text).unwrap_or(0)),
        Kind::Float => Value::Float(float(text).unwrap_or(0.0)),
        Kind::Regex => match model::regex::Regex::new(text) {
            Ok(_) => Value::Text(text.to_owned()),
            Err(e) => return refuse(e.0, &["an expression in RE2 syntax"]),
        },
        Kind::Url => match super::url::check(text) {
            Ok(()) => Value::Text(text.to_owned()),
            Err(e) => return refuse(e, &["a URL like http://host:port/path"]),
        },
        _ => Value::Text(text.to_owned()),
    })
}

/// An integer as YAML 1.1 writes it.
fn integer(text: &str) -> Option<i64> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i64::from_str_radix(binary, 2).ok()?
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i64::from_str_radix(octal, 8).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        i64::from_str_radix(digits, 8).ok()?
    } else if let Ok(value) = digits.parse() {
        value
    } else {
        // Go takes a float without a fraction for an integer.
        let value: f64 = digits.parse().ok()?;
        if value.fract() != 0.0 || value.abs() >= 9.0e15 {
            return None;
        }
        value as i64
    };
    Some(sign * value)
}

fn float(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        ".inf" | "+.inf" => Some(f64::INFINITY),
        "-.inf" => Some(f64::NEG_INFINITY),
        ".nan" => Some(f64::NAN),
        plain => plain.replace('_', "").parse().ok(),
    }
}
