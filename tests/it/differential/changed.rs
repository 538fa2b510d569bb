//! Where two releases differ on purpose, or where an answer is not said by the language at all: the kinds of
//! differences that are no faults. Each is asked about the smallest part of an expression whose answers differ, and
//! looks at how they differ, so that it hides nothing else.

use std::collections::BTreeMap;

use promql::Expr;
use promql::ast::Aggregator;
use serde_json::Value;

use crate::differential::compare::{Rules, difference};

/// Two answers to the smallest expression for which they differ.
pub(crate) struct Case<'a> {
    pub(crate) tree: &'a Expr,
    pub(crate) theirs: &'a Value,
    pub(crate) ours: &'a Value,
    /// A part of it has the same answers within what is allowed, but not to the bit.
    pub(crate) has_soft_part: bool,
}

pub(crate) struct Changed {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&Case<'_>) -> bool,
}

pub(crate) const CHANGED: &[Changed] = &[
    Changed {
        name: "notes in other words: sort is ineffective; no metric name \"\"; how far from monotonic, and where first",
        applies: same_but_notes,
    },
    Changed {
        name: "which two of several series a many-to-many match names depends on the order they come in",
        applies: |c| match (culprits(error(c.theirs)), culprits(error(c.ours))) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => false,
        },
    },
    Changed {
        name: "elements that match too often are an error though a comparison drops them",
        applies: |c| {
            let Expr::Binary(b) = c.tree.unparen() else { return false };
            b.op.is_comparison()
                && !b.return_bool
                && error(c.ours).starts_with("multiple matches for labels: ")
                && !error(c.theirs).starts_with("multiple matches for labels: ")
        },
    },
    Changed {
        name: "which group a many-to-many match names first depends on the order they come in, where nothing orders them",
        applies: |c| {
            let Expr::Binary(b) = c.tree.unparen() else { return false };
            let is_left = error(c.ours).contains("} on the left hand-side");
            let one = if is_left { &b.lhs } else { &b.rhs };
            let text = "found duplicate series for the match group";
            chooses(one) && error(c.ours).starts_with(text) && error(c.theirs).starts_with(text)
        },
    },
    Changed {
        name: "series that take turns and become one by a changed sign or label were an error, and are one series now",
        applies: |c| {
            let is_sign = matches!(c.tree.unparen(), Expr::Unary(_));
            let renames = ["label_replace", "label_join"].iter().any(|f| call(c.tree, f).is_some());
            (is_sign || renames)
                && error(c.theirs) == "vector cannot contain metrics with the same labelset"
                && c.ours["status"] == "success"
        },
    },
    Changed {
        name: "what follows from the last digits of a part, which mathematics or a mean has given otherwise",
        applies: |c| c.has_soft_part,
    },
    Changed {
        name: "parameters of topk, limitk, limit_ratio that are no numbers have texts of their own, and without input, too",
        applies: |c| {
            let refused = ["Parameter value is NaN", "Ratio value is NaN"];
            let ours = error(c.ours);
            let overflows = ours.starts_with("Scalar value") && ours.contains("flows int64");
            (refused.contains(&ours) || overflows)
                && (c.theirs["status"] == "success" || error(c.theirs).contains("NaN"))
        },
    },
    Changed {
        name: "the @ in an aggregation's parameter holds at every step; in the reference it moves along with the steps",
        applies: |c| {
            let Expr::Aggregate(a) = c.tree.unparen() else { return false };
            a.param.as_ref().is_some_and(|p| p.selectors().iter().any(|s| s.at.is_some()))
        },
    },
    Changed {
        name: "an aggregation's parameter counts at each step; in the reference only at the first where the operand has an @",
        applies: |c| {
            let Expr::Aggregate(a) = c.tree.unparen() else { return false };
            let selectors = a.expr.selectors();
            a.param.as_ref().is_some_and(|p| !p.selectors().is_empty())
                && !selectors.is_empty()
                && selectors.iter().all(|s| s.at.is_some())
        },
    },
    Changed {
        name: "info() looks at the time of its argument's @ and offset",
        applies: |c| {
            let Some(args) = call(c.tree, "info") else { return false };
            args[0].selectors().iter().any(|s| s.at.is_some() || !s.offset.is_zero())
                || has_moved_subquery(&args[0])
        },
    },
    Changed {
        name: "info() says which two info series are duplicates",
        applies: |c| {
            let text = "found duplicate series for info metric";
            call(c.tree, "info").is_some()
                && error(c.theirs).starts_with(text)
                && error(c.ours).strip_prefix(text).is_some_and(|rest| rest.starts_with(": existing {"))
        },
    },
    Changed {
        name: "info() with conditions keeps what has no identifying labels, or has the labels already",
        applies: |c| {
            let of = |answer: &Value| answer["data"]["result"].as_array().cloned().unwrap_or_default();
            let (theirs, ours) = (of(c.theirs), of(c.ours));
            call(c.tree, "info").is_some_and(|args| args.len() == 2)
                && c.theirs["status"] == "success"
                && theirs.len() < ours.len()
                && theirs.iter().all(|e| ours.contains(e))
        },
    },
    Changed {
        name: "histogram_fraction knows bounds within the first bucket",
        applies: |c| call(c.tree, "histogram_fraction").is_some() && values_differ_only(c, |t, _| t.is_nan()),
    },
    Changed {
        name: "timestamp() of a selector with @ forgets its offset, and sees what was fetched with it",
        applies: |c| {
            let Some(args) = call(c.tree, "timestamp") else { return false };
            args[0].selectors().iter().any(|s| s.at.is_some() && !s.offset.is_zero())
        },
    },
    Changed {
        name: "ln and log10 of numbers too small to be normal: the reference's assembler takes them for larger",
        applies: |c| {
            let of_subnormal = |bound: f64| values_differ_only(c, |t, o| t < bound && o < bound);
            let smallest = f64::MIN_POSITIVE;
            (call(c.tree, "ln").is_some() && of_subnormal(smallest.ln() + 1.0))
                || (call(c.tree, "log10").is_some() && of_subnormal(smallest.log10() + 1.0))
        },
    },
    Changed {
        name: "mad_over_time of a NaN is NaN",
        applies: |c| call(c.tree, "mad_over_time").is_some() && values_differ_only(c, |_, o| o.is_nan()),
    },
    Changed {
        name: "topk and bottomk choose among equals by label; the reference by how its heap lies",
        applies: |c| {
            matches!(aggregator(c.tree), Some(Aggregator::TopK | Aggregator::BottomK))
                && values_by_time(c.theirs) == values_by_time(c.ours)
        },
    },
    Changed {
        name: "limitk chooses by label; the reference by the order in which its operand gives elements",
        applies: |c| {
            let counts = |v: &Value| -> Vec<(String, usize)> {
                values_by_time(v).into_iter().map(|(t, v)| (t, v.len())).collect()
            };
            aggregator(c.tree) == Some(Aggregator::LimitK) && counts(c.theirs) == counts(c.ours)
        },
    },
    Changed {
        name: "sort_by_label puts what has no such label first; the reference takes it to be after all others and before",
        applies: |c| {
            let sorts = |name| call(c.tree, name).is_some();
            (sorts("sort_by_label") || sorts("sort_by_label_desc"))
                && values_by_time(c.theirs) == values_by_time(c.ours)
        },
    },
    Changed {
        name: "of zeros, which are equal, the one with or without a sign",
        applies: |c| {
            use Aggregator::{Max, Min, Quantile};
            let of_range = ["min_over_time", "max_over_time", "quantile_over_time", "mad_over_time"];
            (matches!(aggregator(c.tree), Some(Min | Max | Quantile))
                || of_range.iter().any(|f| call(c.tree, f).is_some()))
                && values_differ_only(c, |t, o| t == 0.0 && o == 0.0)
        },
    },
    Changed {
        name: "a variance of what is all but equal",
        applies: |c| {
            matches!(aggregator(c.tree), Some(Aggregator::Stddev | Aggregator::Stdvar))
                && values_differ_only(c, |t, o| {
                    (t - o).abs() <= 1e-9 * t.abs().max(o.abs()) || t.abs().max(o.abs()) < 1e-25
                })
        },
    },
    Changed {
        name: "a mean is rounded once; in the reference the sum and what compensates it are rounded apart",
        applies: |c| {
            let near = |t: f64, o: f64| (t - o).abs() <= 2.0 * f64::EPSILON * t.abs().max(o.abs());
            aggregator(c.tree) == Some(Aggregator::Avg) && values_differ_only(c, near)
        },
    },
    Changed {
        name: "count_values of what is equal but for its last digits",
        applies: |c| {
            let Expr::Aggregate(a) = c.tree.unparen() else { return false };
            let rules = Rules::of(&a.expr);
            let mut has_mean = false;
            a.expr.walk(&mut |e| has_mean |= aggregator(e) == Some(Aggregator::Avg));
            a.op == Aggregator::CountValues
                && (rules.is_inexact || rules.has_variance || has_mean)
                && values_by_time(c.theirs) == values_by_time(c.ours)
        },
    },
];

fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_default()
}

/// The arguments of a call of this function.
/// The call, of which a subquery shows what it came to at several times.
fn call<'e>(tree: &'e Expr, name: &str) -> Option<&'e [Expr]> {
    match tree.unparen() {
        Expr::Subquery(s) => call(&s.expr, name),
        Expr::Call(c) if c.function.name() == name => Some(&c.args),
        _ => None,
    }
}

fn aggregator(tree: &Expr) -> Option<Aggregator> {
    match tree.unparen() {
        Expr::Aggregate(a) => Some(a.op),
        _ => None,
    }
}

/// Whether elements come in an order of the reference's own: groups come as the first of each has a sample.
fn chooses(tree: &Expr) -> bool {
    let mut found = false;
    tree.walk(&mut |e| {
        found |= aggregator(e).is_some();
        found |= matches!(e, Expr::Call(c) if c.function.name().starts_with("sort"));
    });
    found
}

fn has_moved_subquery(tree: &Expr) -> bool {
    let mut found = false;
    tree.walk(&mut |e| found |= matches!(e, Expr::Subquery(s) if s.at.is_some() || !s.offset.is_zero()));
    found
}

/// An error of duplicates without the two series that it names.
fn culprits(text: &str) -> Option<(&str, &str)> {
    let (head, rest) = text.split_once(": [{")?;
    let (_, tail) = rest.split_once("}]")?;
    head.starts_with("found duplicate series for the match group").then_some((head, tail))
}

fn texts<'v>(answer: &'v Value, list: &str) -> impl Iterator<Item = &'v str> {
    answer[list].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether answers are the same but for notes that newer releases word otherwise.
fn same_but_notes(c: &Case<'_>) -> bool {
    let (theirs, ours) = (worded_alike(c.theirs), worded_alike(c.ours));
    difference(Rules::of(c.tree), &theirs, &ours).is_none()
}

/// The answer with its notes in the words that both releases have.
fn worded_alike(answer: &Value) -> Value {
    const FIXED: &str = "#histogram_quantile)";
    let mut answer = answer.clone();
    for list in ["warnings", "infos"] {
        let mut all: Vec<String> = texts(&answer, list)
            .filter(|t| !t.contains("sort is ineffective"))
            .map(|t| match (t.find(FIXED), t.find(" value should be between ")) {
                // 3.5.3 says the metric and the last place, 3.14 how far from monotonic and the first.
                (Some(at), _) => t[..at + FIXED.len()].to_owned(),
                // 3.5.3 says one step's, 3.14 those that are furthest off.
                (_, Some(_)) => t.split(", got").next().unwrap_or_default().to_owned(),
                _ => t.replace(" for metric name \"\"", ""),
            })
            .collect();
        all.sort();
        all.dedup();
        answer[list] = if all.is_empty() { Value::Null } else { serde_json::json!(all) };
    }
    answer
}

/// Each value of an answer by its time, ascending; histograms as their text.
fn values_by_time(answer: &Value) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for element in answer["data"]["result"].as_array().into_iter().flatten() {
        let single = ["value", "histogram"].iter().filter(|k| !element[**k].is_null()).map(|k| &element[*k]);
        let several = ["values", "histograms"].iter().filter_map(|k| element[*k].as_array()).flatten();
        for pair in single.chain(several) {
            // Zeros are equal whatever their signs.
            let value = if pair[1] == "-0" { "\"0\"".to_owned() } else { pair[1].to_string() };
            all.entry(pair[0].to_string()).or_default().push(value);
        }
    }
    all.values_mut().for_each(|v| v.sort());
    all
}

/// Whether answers differ in values only, and each pair that differs is one that `may` differ.
fn values_differ_only(c: &Case<'_>, may: impl Fn(f64, f64) -> bool + Copy) -> bool {
    fn all(theirs: &Value, ours: &Value, may: impl Fn(f64, f64) -> bool + Copy) -> bool {
        match (theirs, ours) {
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| all(a, b, may))
            }
            (Value::Object(a), Value::Object(b)) => {
                let notes = ["warnings", "infos"];
                let of = |m: &serde_json::Map<String, Value>| -> Vec<(String, Value)> {
                    let kept = m.iter().filter(|(k, _)| !notes.contains(&k.as_str()));
                    kept.map(|(k, v)| (k.clone(), v.clone())).collect()
                };
                let (a, b) = (of(a), of(b));
                a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && all(&a.1, &b.1, may))
            }
            (Value::String(a), Value::String(b)) if a != b => match (a.parse(), b.parse()) {
                (Ok(a), Ok(b)) => may(a, b),
                _ => false,
            },
            _ => theirs == ours,
        }
    }
    let (mut theirs, mut ours) = (worded_alike(c.theirs), worded_alike(c.ours));
    for answer in [&mut theirs, &mut ours] {
        if let Some(result) = answer["data"]["result"].as_array_mut() {
            result.sort_by_key(|e| e["metric"].to_string());
        }
    }
    theirs["warnings"] == ours["warnings"] && theirs["infos"] == ours["infos"] && all(&theirs, &ours, may)
}
