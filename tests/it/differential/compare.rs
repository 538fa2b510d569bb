//! When two answers are the same.

use promql::Expr;
use promql::ast::{Aggregator, BinaryOp};
use serde_json::Value;

/// Functions that a platform's mathematics computes: equal within [`TOLERANCE`], not to the bit.
const INEXACT: &[&str] = &[
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "ln", "log10", "log2", "sin",
    "sinh", "tan", "tanh", "stddev", "stdvar",
];

/// Relative.
const TOLERANCE: f64 = 1e-9;
const VARIANCE_TOLERANCE: f64 = 1e-3;

/// How the answers to an expression are to be compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) is_inexact: bool,
    /// The reference's variance loses digits at every element where the mean is far from zero; ours does not.
    pub(crate) has_variance: bool,
    /// The order of elements says something.
    pub(crate) is_ordered: bool,
}

impl Rules {
    pub(crate) fn of(tree: &Expr) -> Rules {
        let (mut is_inexact, mut has_variance) = (false, false);
        tree.walk(&mut |e| {
            has_variance |=
                matches!(e, Expr::Aggregate(a) if matches!(a.op, Aggregator::Stddev | Aggregator::Stdvar));
            is_inexact |= match e {
                Expr::Call(c) => INEXACT.contains(&c.function.name()),
                Expr::Binary(b) => matches!(b.op, BinaryOp::Pow | BinaryOp::Atan2),
                _ => false,
            };
        });
        let is_ordered = match tree.unparen() {
            Expr::Call(c) => c.function.name().starts_with("sort"),
            Expr::Aggregate(a) => matches!(a.op, Aggregator::TopK | Aggregator::BottomK),
            _ => false,
        };
        Rules { is_inexact, has_variance, is_ordered }
    }
}

impl Rules {
    pub(crate) const EXACT: Rules = Rules { is_inexact: false, has_variance: false, is_ordered: false };

    /// `None`: equal to the bit.
    fn tolerance(self) -> Option<f64> {
        match self {
            Rules { has_variance: true, .. } => Some(VARIANCE_TOLERANCE),
            Rules { is_inexact: true, .. } => Some(TOLERANCE),
            _ => None,
        }
    }
}

/// What differs, if anything does.
pub(crate) fn difference(rules: Rules, theirs: &Value, ours: &Value) -> Option<&'static str> {
    for (name, what) in
        [("status", "status"), ("errorType", "the kind of error"), ("error", "the error's text")]
    {
        if theirs[name] != ours[name] {
            return Some(what);
        }
    }
    for (name, what) in [("warnings", "warnings"), ("infos", "infos")] {
        let (a, b) = (notes(&theirs[name]), notes(&ours[name]));
        // Of more than ten, which are shown is chance in the reference.
        let are_cut = |n: &[&str]| n.iter().any(|t| t.contains("annotations omitted"));
        if a != b && !(are_cut(&a) && are_cut(&b)) {
            return Some(what);
        }
    }
    let (a, b) = (&theirs["data"], &ours["data"]);
    if a["resultType"] != b["resultType"] {
        return Some("the type of the result");
    }
    let same = match (a["result"].as_array(), b["result"].as_array()) {
        (Some(a), Some(b)) if a.first().is_some_and(Value::is_object) => same_elements(rules, a, b),
        _ => same_value(rules, &a["result"], &b["result"]),
    };
    (!same).then_some("the result")
}

fn notes(list: &Value) -> Vec<&str> {
    let mut all: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    all.sort_unstable();
    all
}

fn same_elements(rules: Rules, a: &[Value], b: &[Value]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let value = |e: &Value| e["value"][1].clone();
    if rules.is_ordered && !a.iter().zip(b).all(|(a, b)| same_value(rules, &value(a), &value(b))) {
        return false;
    }
    let sorted = |all: &[Value]| {
        let mut keyed: Vec<(String, Value)> =
            all.iter().map(|e| (e["metric"].to_string(), e.clone())).collect();
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        keyed
    };
    sorted(a).iter().zip(&sorted(b)).all(|(a, b)| a.0 == b.0 && same_value(rules, &a.1, &b.1))
}

fn same_value(rules: Rules, a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(rules, a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same_value(rules, a.1, b.1))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            rules.tolerance().is_some_and(|t| are_near(a, b, t))
        }
        _ => a == b,
    }
}

fn are_near(a: &str, b: &str, tolerance: f64) -> bool {
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    (a - b).abs() <= tolerance * a.abs().max(b.abs())
}
