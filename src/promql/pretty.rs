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
