//! A tree as JSON, as `/api/v1/parse_query` gives it to the expression explorer of the user interface.
//!
//! Members are in the order of their names, as Go's maps are written.

use model::Matcher;
use model::float_text::{format_f, push_api};

use crate::ast::*;

impl Expr {
    /// The JSON of the tree. Ranges, steps and offsets that are expressions show as 0, as upstream.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.push_json(&mut out);
        out
    }

    fn push_json(&self, out: &mut String) {
        match self {
            Expr::Aggregate(e) => e.push_json(out),
            Expr::Binary(e) => e.push_json(out),
            Expr::Call(e) => e.push_json(out),
            Expr::Matrix(e) => {
                let v = &e.selector;
                out.push_str("{\"anchored\":");
                push_bool(out, v.anchored);
                out.push_str(",\"matchers\":");
                push_matchers(out, &v.matchers);
                out.push_str(",\"name\":");
                push_string(out, v.name.as_bytes());
                push_millis(out, "offset", &v.offset);
                push_millis(out, "range", &e.range);
                out.push_str(",\"smoothed\":");
                push_bool(out, v.smoothed);
                push_at(out, v.at);
                out.push_str(",\"type\":\"matrixSelector\"}");
            }
            Expr::Number(e) => {
                out.push_str("{\"type\":\"numberLiteral\",\"val\":");
                push_string(out, format_f(e.value).as_bytes());
                out.push('}');
            }
            Expr::Paren(e) => {
                out.push_str("{\"expr\":");
                e.expr.push_json(out);
                out.push_str(",\"type\":\"parenExpr\"}");
            }
            Expr::String(e) => {
                out.push_str("{\"type\":\"stringLiteral\",\"val\":");
                push_string(out, &e.value);
                out.push('}');
            }
            Expr::Subquery(e) => e.push_json(out),
            Expr::Unary(e) => {
                out.push_str("{\"expr\":");
                e.expr.push_json(out);
                out.push_str(",\"op\":\"");
                out.push_str(e.sign());
                out.push_str("\",\"type\":\"unaryExpr\"}");
            }
            Expr::Vector(v) => {
                out.push_str("{\"anchored\":");
                push_bool(out, v.anchored);
                out.push_str(",\"matchers\":");
                push_matchers(out, &v.matchers);
                out.push_str(",\"name\":");
                push_string(out, v.name.as_bytes());
                push_millis(out, "offset", &v.offset);
                out.push_str(",\"smoothed\":");
                push_bool(out, v.smoothed);
                push_at(out, v.at);
                out.push_str(",\"type\":\"vectorSelector\"}");
            }
        }
    }
}

impl AggregateExpr {
    fn push_json(&self, out: &mut String) {
        out.push_str("{\"expr\":");
        self.expr.push_json(out);
        out.push_str(",\"grouping\":");
        push_strings(out, &self.grouping);
        out.push_str(",\"op\":");
        push_string(out, self.op.text().as_bytes());
        out.push_str(",\"param\":");
        match &self.param {
            Some(param) => param.push_json(out),
            None => out.push_str("null"),
        }
        out.push_str(",\"type\":\"aggregation\",\"without\":");
        push_bool(out, self.without);
        out.push('}');
    }
}

impl BinaryExpr {
    fn push_json(&self, out: &mut String) {
        out.push_str("{\"bool\":");
        push_bool(out, self.return_bool);
        out.push_str(",\"lhs\":");
        self.lhs.push_json(out);
        out.push_str(",\"matching\":");
        match &self.matching {
            Some(matching) => matching.push_json(out),
            None => out.push_str("null"),
        }
        out.push_str(",\"op\":");
        push_string(out, self.op.text().as_bytes());
        out.push_str(",\"rhs\":");
        self.rhs.push_json(out);
        out.push_str(",\"type\":\"binaryExpr\"}");
    }
}

impl VectorMatching {
    fn push_json(&self, out: &mut String) {
        out.push_str("{\"card\":");
        push_string(out, self.cardinality.text().as_bytes());
        out.push_str(",\"fillValues\":{\"lhs\":");
        push_fill(out, self.fill.left);
        out.push_str(",\"rhs\":");
        push_fill(out, self.fill.right);
        out.push_str("},\"include\":");
        push_strings(out, &self.include);
        out.push_str(",\"labels\":");
        push_strings(out, &self.labels);
        out.push_str(",\"on\":");
        push_bool(out, self.on);
        out.push('}');
    }
}

impl CallExpr {
    fn push_json(&self, out: &mut String) {
        out.push_str("{\"args\":[");
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            arg.push_json(out);
        }
        let signature = self.function.signature();
        out.push_str("],\"func\":{\"argTypes\":[");
        for (i, t) in signature.args.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            push_string(out, t.text().as_bytes());
        }
        out.push_str("],\"name\":");
        push_string(out, signature.name.as_bytes());
        out.push_str(",\"returnType\":");
        push_string(out, signature.returns.text().as_bytes());
        out.push_str(",\"variadic\":");
        out.push_str(&signature.variadic.to_string());
        out.push_str("},\"type\":\"call\"}");
    }
}

impl SubqueryExpr {
    fn push_json(&self, out: &mut String) {
        out.push_str("{\"expr\":");
        self.expr.push_json(out);
        push_millis(out, "offset", &self.offset);
        push_millis(out, "range", &self.range);
        let at = out.len();
        push_at(out, self.at);
        // `step` comes between the two members of `@`.
        let tail = out.split_off(at);
        let (start_or_end, timestamp) = tail.split_at(tail.find(",\"timestamp\"").unwrap_or(tail.len()));
        out.push_str(start_or_end);
        push_millis(out, "step", self.step.as_ref().unwrap_or(&Extent::ZERO));
        out.push_str(timestamp);
        out.push_str(",\"type\":\"subquery\"}");
    }
}

fn push_bool(out: &mut String, v: bool) {
    out.push_str(if v { "true" } else { "false" });
}

/// JSON has no word for what is not finite; Prometheus fails to answer then.
fn push_fill(out: &mut String, v: Option<f64>) {
    match v {
        Some(v) if v.is_finite() => {
            let mut text = Vec::new();
            push_api(&mut text, v);
            out.push_str(&String::from_utf8_lossy(&text));
        }
        _ => out.push_str("null"),
    }
}

fn push_millis(out: &mut String, name: &str, extent: &Extent) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    out.push_str(&extent.literal().unwrap_or(0).to_string());
}

/// `startOrEnd` and `timestamp`, which stand side by side but in subqueries.
fn push_at(out: &mut String, at: Option<At>) {
    out.push_str(",\"startOrEnd\":");
    out.push_str(match at {
        Some(At::Start) => "\"start\"",
        Some(At::End) => "\"end\"",
        _ => "null",
    });
    out.push_str(",\"timestamp\":");
    match at {
        Some(At::Time(t)) => out.push_str(&t.to_string()),
        _ => out.push_str("null"),
    }
}

fn push_matchers(out: &mut String, matchers: &[Matcher]) {
    out.push('[');
    for (i, m) in matchers.iter().enumerate() {
        out.push_str(if i > 0 { ",{\"name\":" } else { "{\"name\":" });
        push_string(out, m.name.as_bytes());
        out.push_str(",\"type\":");
        push_string(out, m.op.text().as_bytes());
        out.push_str(",\"value\":");
        push_string(out, m.value.as_bytes());
        out.push('}');
    }
    out.push(']');
}

fn push_strings(out: &mut String, list: &[String]) {
    out.push('[');
    for (i, s) in list.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, s.as_bytes());
    }
    out.push(']');
}

fn push_string(out: &mut String, text: &[u8]) {
    out.push('"');
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // As Go escapes: also what HTML would take for its own.
            c if (c as u32) < 0x20 || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use crate::{Options, parse};

    #[test]
    fn trees_read_as_the_explorer_expects_them() {
        let vector = |name: &str| {
            format!(
                r#"{{"anchored":false,"matchers":[{{"name":"__name__","type":"=","value":"{name}"}}],"name":"{name}","offset":0,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}}"#
            )
        };
        let (a, b) = (vector("a"), vector("b"));
        for (text, want) in [
            ("-1.5", r#"{"type":"numberLiteral","val":"-1.5"}"#.to_owned()),
            (r#""x\n<""#, r#"{"type":"stringLiteral","val":"x\n\u003c"}"#.to_owned()),
            ("-(a)", format!(r#"{{"expr":{{"expr":{a},"type":"parenExpr"}},"op":"-","type":"unaryExpr"}}"#)),
            (
                "a[5m:1m] @ 2 offset 1s",
                format!(r#"{{"expr":{a},"offset":1000,"range":300000,"startOrEnd":null,"step":60000,"timestamp":2000,"type":"subquery"}}"#),
            ),
            (
                "a[5m] @ end()",
                r#"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"range":300000,"smoothed":false,"startOrEnd":"end","timestamp":null,"type":"matrixSelector"}"#.to_owned(),
            ),
            (
                "sum without (x) (a)",
                format!(r#"{{"expr":{a},"grouping":["x"],"op":"sum","param":null,"type":"aggregation","without":true}}"#),
            ),
            (
                "a > bool on (x) group_left (y) b",
                format!(r#"{{"bool":true,"lhs":{a},"matching":{{"card":"many-to-one","fillValues":{{"lhs":null,"rhs":null}},"include":["y"],"labels":["x"],"on":true}},"op":"\u003e","rhs":{b},"type":"binaryExpr"}}"#),
            ),
            (
                "round(a)",
                format!(r#"{{"args":[{a}],"func":{{"argTypes":["vector","scalar"],"name":"round","returnType":"vector","variadic":1}},"type":"call"}}"#),
            ),
        ] {
            let tree = parse(text, Options::ALL).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(tree.to_json(), want, "{text}");
        }
    }
}
