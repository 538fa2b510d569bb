//! A tree as text in lines of about a hundred characters, as Prometheus's `format_query` gives it.

use crate::ast::*;

/// What is longer than this is split.
const LINE: usize = 100;

impl Expr {
    /// The canonical text where it fits a line, otherwise split and indented by two blanks a level.
    pub fn pretty(&self) -> String {
        pretty(self, 0)
    }
}

fn pretty(e: &Expr, level: usize) -> String {
    let pad = "  ".repeat(level);
    if let Expr::Unary(u) = e {
        return format!("{pad}{}{}", u.sign(), pretty(&u.expr, level).trim());
    }
    let text = e.to_string();
    let fits = text.len() <= LINE;
    match e {
        Expr::Aggregate(a) if !fits => {
            let mut out = format!("{pad}{}(\n", a.head());
            if let Some(param) = &a.param {
                out.push_str(&pretty(param, level + 1));
                out.push_str(",\n");
            }
            out.push_str(&pretty(&a.expr, level + 1));
            format!("{out}\n{pad})")
        }
        Expr::Binary(b) if !fits => {
            let (left, right) = (pretty(&b.lhs, level + 1), pretty(&b.rhs, level + 1));
            format!("{left}\n{pad}{}\n{right}", b.operator())
        }
        Expr::Call(c) if !fits => {
            let args: Vec<String> = c.args.iter().map(|a| pretty(a, level + 1)).collect();
            format!("{pad}{}(\n{}\n{pad})", c.function.name(), args.join(",\n"))
        }
        Expr::Paren(p) if !fits => format!("{pad}(\n{}\n{pad})", pretty(&p.expr, level + 1)),
        // A subquery that fits is not indented: so it is upstream.
        Expr::Subquery(_) if fits => text,
        Expr::Subquery(s) => format!("{}{}", pretty(&s.expr, level), s.suffix()),
        _ => format!("{pad}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, parse};

    #[test]
    fn what_is_longer_than_a_line_is_split() {
        let long = "a_metric_with_a_name_that_is_about_half_as_long_as_a_line_is";
        for (text, want) in [
            ("sum by (x) (rate(a[5m]))".to_owned(), "sum by (x) (rate(a[5m]))".to_owned()),
            (format!("{long} + {long}"), format!("  {long}\n+\n  {long}")),
            (
                format!("sum by (x) ({long} == bool on (x) {long})"),
                format!("sum by (x) (\n    {long}\n  == bool on (x)\n    {long}\n)"),
            ),
            (
                format!("topk(3, -({long} or {long}))"),
                format!("topk(\n  3,\n  -(\n      {long}\n    or\n      {long}\n  )\n)"),
            ),
            (
                format!(
                    "label_replace({long}, \"a\", \"$1\", \"instance\", \"a_rather_long_expression(.*)\")"
                ),
                format!(
                    "label_replace(\n  {long},\n  \"a\",\n  \"$1\",\n  \"instance\",\n  \"a_rather_long_expression(.*)\"\n)"
                ),
            ),
            (format!("({long} + {long})[5m:]"), format!("(\n    {long}\n  +\n    {long}\n)[5m:]")),
        ] {
            let tree = parse(&text, Options::ALL).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(tree.pretty(), want, "{text}");
            let again = parse(tree.pretty(), Options::ALL).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(again.to_string(), tree.to_string());
        }
    }
}
