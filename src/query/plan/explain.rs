//! A plan as text: what runs on the shards and what above them.

use std::fmt::Write;

use promql::ast::ValueType;

use crate::query::plan::logical::{Kind, Node, Selector};
use crate::query::plan::physical::{Found, FoundMap, FoundRead, Settings, chain, may_fold};

/// One line an operation, operands below and indented.
pub fn explain(node: &Node, settings: &Settings) -> String {
    let mut out = String::new();
    write_node(node, settings, 0, &mut out);
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:1$}{text}", "", depth * 2);
}

fn write_node(node: &Node, settings: &Settings, depth: usize, out: &mut String) {
    if let Some(found) = chain(node) {
        return line(out, depth, &format!("on shards: {}", chain_text(&found)));
    }
    let children: Vec<&Node> = match &node.kind {
        Kind::Number(v) => return line(out, depth, &model::float_text::format_f(*v)),
        Kind::Text(t) => return line(out, depth, &model::quote::quoted(&String::from_utf8_lossy(t))),
        Kind::Vector(s) => return line(out, depth, &selector_text(s)),
        Kind::Range(s, range) => return line(out, depth, &range_text(s, *range)),
        Kind::Aggregate(a) => {
            let by = if a.without { "without" } else { "by" };
            let text = format!("{} {by} ({})", a.op.text(), a.grouping.join(", "));
            if let Some(found) = chain(&a.inner)
                && may_fold(&found, settings)
            {
                return line(out, depth, &format!("on shards, merged: {text}: {}", chain_text(&found)));
            }
            line(out, depth, &text);
            a.param.iter().chain([&a.inner]).collect()
        }
        Kind::Binary(b) => {
            line(out, depth, b.op.text());
            vec![&b.lhs, &b.rhs]
        }
        Kind::Call { function, args } => {
            line(out, depth, &format!("{}()", function.name()));
            args.iter().collect()
        }
        Kind::Negate(inner) => {
            line(out, depth, "-");
            vec![inner]
        }
        Kind::Once(inner) => {
            line(out, depth, "once for all steps");
            vec![inner]
        }
        Kind::Subquery(s) => {
            let length = |ms| model::time::format_duration(ms);
            line(out, depth, &format!("subquery [{}:{}]", length(s.range), length(s.step)));
            vec![&s.inner]
        }
    };
    for child in children {
        write_node(child, settings, depth + 1, out);
    }
}

fn chain_text(found: &Found<'_>) -> String {
    let mut text = match &found.read {
        FoundRead::Latest(s) => selector_text(s),
        FoundRead::LatestTime(s) => format!("timestamp({})", selector_text(s)),
        FoundRead::LatestStart(s) => format!("start_timestamp({})", selector_text(s)),
        FoundRead::Window { function, selector, range, .. } => {
            format!("{}({})", function.name(), range_text(selector, *range))
        }
    };
    for map in &found.maps {
        match map {
            FoundMap::Negate => text.push_str(", negated"),
            FoundMap::Call { function, .. } => {
                let _ = write!(text, ", {}()", function.name());
            }
            FoundMap::Operator { op, scalar, scalar_is_left, .. } => {
                let side = match &scalar.kind {
                    Kind::Number(v) => model::float_text::format_f(*v),
                    _ => ValueType::Scalar.text().to_owned(),
                };
                let op = op.text();
                let _ = if *scalar_is_left {
                    write!(text, ", {side} {op} it")
                } else {
                    write!(text, ", it {op} {side}")
                };
            }
        }
    }
    text
}

fn selector_text(s: &Selector) -> String {
    let matchers: Vec<String> = s.matchers.iter().map(ToString::to_string).collect();
    let mut text = format!("{{{}}}", matchers.join(", "));
    if let Some(at) = s.at {
        let _ = write!(text, " @ {}", at as f64 / 1000.0);
    }
    if s.offset != 0 {
        let _ = write!(text, " offset {}", model::time::format_duration(s.offset));
    }
    text
}

fn range_text(s: &Selector, range: i64) -> String {
    format!("{} over {}", selector_text(s), model::time::format_duration(range))
}
