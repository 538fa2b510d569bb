//! A tree as text: Prometheus's canonical form, which parses to the same tree again.

use std::fmt::{self, Display, Write};

use model::float_text::{format_f, format_g};
use model::labels::{METRIC_NAME, is_legacy_label_name};
use model::quote::{push_quoted, push_quoted_bytes};
use model::time::format_duration;
use model::{MatchOp, Matcher};

use crate::ast::*;

/// Go's `%.<digits>f`.
pub(crate) fn fixed(v: f64, digits: usize) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{v:.digits$}")
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Aggregate(e) => e.fmt(f),
            Expr::Binary(e) => e.fmt(f),
            Expr::Call(e) => e.fmt(f),
            Expr::Matrix(e) => e.fmt(f),
            Expr::Number(e) => e.fmt(f),
            Expr::Paren(e) => write!(f, "({})", e.expr),
            Expr::String(e) => e.fmt(f),
            Expr::Subquery(e) => write!(f, "{}{}", e.expr, e.suffix()),
            Expr::Unary(e) => write!(f, "{}{}", e.sign(), e.expr),
            Expr::Vector(e) => e.fmt(f),
        }
    }
}

impl AggregateExpr {
    /// `sum by (job) `, with the blank where there is a modifier.
    pub(crate) fn head(&self) -> String {
        let mut out = self.op.text().to_owned();
        if self.without {
            out.push_str(" without (");
        } else if !self.grouping.is_empty() {
            out.push_str(" by (");
        } else {
            return out;
        }
        push_labels(&mut out, &self.grouping);
        out.push_str(") ");
        out
    }
}

impl Display for AggregateExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.head())?;
        if let Some(param) = &self.param {
            write!(f, "{param}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl BinaryExpr {
    /// `== bool on (job)`: the operator and all its modifiers.
    pub(crate) fn operator(&self) -> String {
        let mut out = self.op.text().to_owned();
        if self.return_bool {
            out.push_str(" bool");
        }
        if let Some(m) = &self.matching {
            m.push(&mut out);
        }
        out
    }
}

impl Display for BinaryExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.lhs, self.operator(), self.rhs)
    }
}

impl VectorMatching {
    fn push(&self, out: &mut String) {
        let side = match self.cardinality {
            Cardinality::ManyToOne => "left",
            Cardinality::OneToMany => "right",
            Cardinality::OneToOne | Cardinality::ManyToMany => "",
        };
        if !self.labels.is_empty() || self.on || !side.is_empty() {
            out.push_str(if self.on { " on (" } else { " ignoring (" });
            push_labels(out, &self.labels);
            out.push(')');
        }
        if !side.is_empty() {
            let _ = write!(out, " group_{side} (");
            push_labels(out, &self.include);
            out.push(')');
        }
        self.fill.push(out);
    }
}

impl Fill {
    fn push(&self, out: &mut String) {
        // NaN is not itself: `fill(NaN)` comes back as two.
        if let (Some(v), true) = (self.left, self.left == self.right) {
            let _ = write!(out, " fill ({})", format_g(v));
            return;
        }
        for (word, value) in [("fill_left", self.left), ("fill_right", self.right)] {
            if let Some(v) = value {
                let _ = write!(out, " {word} ({})", format_g(v));
            }
        }
    }
}

impl Display for CallExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name())?;
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = &self.selector;
        write!(f, "{}[{}]{}{}{}", v.bare(), self.range, v.extension(), at_text(v.at), offset_text(&v.offset))
    }
}

impl SubqueryExpr {
    /// `[5m:1m] @ 10.000 offset 1h`.
    pub(crate) fn suffix(&self) -> String {
        let step = match &self.step {
            Some(step) if !step.is_zero() => step.to_string(),
            _ => String::new(),
        };
        format!("[{}:{step}]{}{}", self.range, at_text(self.at), offset_text(&self.offset))
    }
}

impl VectorSelector {
    /// Name and matchers. The matcher of the name before the braces is that name.
    fn bare(&self) -> String {
        let is_name = |m: &Matcher| {
            let equal = m.name == METRIC_NAME && m.op == MatchOp::Equal;
            equal && m.value == self.name && !m.value.is_empty()
        };
        let mut texts: Vec<String> =
            self.matchers.iter().filter(|m| !is_name(m)).map(Matcher::to_string).collect();
        if texts.is_empty() {
            return self.name.clone();
        }
        texts.sort_unstable();
        format!("{}{{{}}}", self.name, texts.join(","))
    }

    fn extension(&self) -> &'static str {
        if self.anchored {
            " anchored"
        } else if self.smoothed {
            " smoothed"
        } else {
            ""
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}{}", self.bare(), at_text(self.at), self.extension(), offset_text(&self.offset))
    }
}

fn at_text(at: Option<At>) -> String {
    match at {
        None => String::new(),
        Some(At::Time(t)) => format!(" @ {}", fixed(t as f64 / 1000.0, 3)),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
    }
}

fn offset_text(offset: &Extent) -> String {
    if offset.is_zero() { String::new() } else { format!(" offset {offset}") }
}

impl Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Literal(ms) => f.write_str(&format_duration(*ms)),
            Extent::Expr(e) => e.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_str("(")?;
        }
        match &self.kind {
            DurationKind::Number(n) => n.fmt(f)?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Negate(e) => write!(f, "-{e}")?,
            DurationKind::Keep(e) => e.fmt(f)?,
            DurationKind::Binary(op, left, right) => match op {
                DurationOp::MinOf => write!(f, "min_of({left}, {right})")?,
                DurationOp::MaxOf => write!(f, "max_of({left}, {right})")?,
                op => write!(f, "{left} {} {right}", op.text())?,
            },
        }
        if self.wrapped {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl DurationOp {
    fn text(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
            DurationOp::MinOf => "min_of",
            DurationOp::MaxOf => "max_of",
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.duration {
            return f.write_str(&format_f(self.value));
        }
        // Cut to nanoseconds, then to milliseconds, as Go converts.
        let ms = ((self.value.abs() * 1e9) as i64) / 1_000_000;
        let sign = if self.value < 0.0 { "-" } else { "" };
        write!(f, "{sign}{}", format_duration(ms))
    }
}

impl Display for StringLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(self.value.len() + 2);
        push_quoted_bytes(&mut out, &self.value);
        f.write_str(&out)
    }
}

impl UnaryExpr {
    pub(crate) fn sign(&self) -> &'static str {
        if self.negate { "-" } else { "+" }
    }
}

fn push_labels(out: &mut String, labels: &[String]) {
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if is_legacy_label_name(label) {
            out.push_str(label);
        } else {
            push_quoted(out, label);
        }
    }
}
