//! The same question asked in other ways: pinned by `@`, and as a range.

use model::Timestamp;
use promql::Function;
use promql::ast::{At, Expr, VectorSelector};

use crate::query::value::Value;

/// Functions whose value is not pinned when all selectors are.
fn depends_on_time(f: Function) -> bool {
    use Function::*;
    matches!(
        f,
        DaysInMonth
            | DayOfMonth
            | DayOfWeek
            | DayOfYear
            | Hour
            | Minute
            | Month
            | Year
            | PredictLinear
            | Time
            | Timestamp
            | Start
            | End
            | Step
            | Range
    )
}

/// Functions and modifiers that look at the bounds of the query.
fn depends_on_bounds(f: Function) -> bool {
    matches!(f, Function::Start | Function::End | Function::Step | Function::Range)
}

/// The question with every selector pinned to `at`, and times at which its answer is to be the same.
pub(super) fn pinned(text: &str, at: Timestamp) -> Vec<(String, Timestamp)> {
    let Ok(mut expr) = promql::parse(text, promql::Options::ALL) else { return Vec::new() };
    let mut is_fixed = true;
    expr.walk(&mut |e| {
        if let Expr::Call(c) = e {
            is_fixed &= !depends_on_time(c.function);
        }
    });
    if !is_fixed {
        return Vec::new();
    }
    pin(&mut expr, at);
    let text = expr.to_string();
    let times = if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
    times.into_iter().map(|t| (text.clone(), t)).collect()
}

fn pin(expr: &mut Expr, at: Timestamp) {
    let selector = |s: &mut VectorSelector| {
        s.at.get_or_insert(At::Time(at));
    };
    match expr {
        Expr::Vector(v) => selector(v),
        Expr::Matrix(m) => selector(&mut m.selector),
        // What is inside is evaluated at times relative to the subquery's.
        Expr::Subquery(s) => {
            s.at.get_or_insert(At::Time(at));
        }
        Expr::Aggregate(a) => {
            pin(&mut a.expr, at);
            if let Some(p) = &mut a.param {
                pin(p, at);
            }
        }
        Expr::Binary(b) => {
            pin(&mut b.lhs, at);
            pin(&mut b.rhs, at);
        }
        Expr::Call(c) => c.args.iter_mut().for_each(|a| pin(a, at)),
        Expr::Paren(p) => pin(&mut p.expr, at),
        Expr::Unary(u) => pin(&mut u.expr, at),
        Expr::Number(_) | Expr::String(_) => {}
    }
}

/// Whether a question means the same in the middle of a range.
pub(super) fn fits_range(text: &str, value: &Value) -> bool {
    if matches!(value, Value::Matrix(_) | Value::String(..)) {
        return false;
    }
    let Ok(expr) = promql::parse(text, promql::Options::ALL) else { return false };
    let mut fits = true;
    let bound = |at: &Option<At>| matches!(at, Some(At::Start | At::End));
    expr.walk(&mut |e| match e {
        Expr::Call(c) => fits &= !depends_on_bounds(c.function),
        Expr::Vector(v) => fits &= !bound(&v.at) && v.offset.literal().is_some(),
        Expr::Matrix(m) => {
            fits &= !bound(&m.selector.at)
                && m.selector.offset.literal().is_some()
                && m.range.literal().is_some();
        }
        Expr::Subquery(s) => {
            let step_is_literal = s.step.as_ref().is_none_or(|s| s.literal().is_some());
            fits &= !bound(&s.at)
                && s.offset.literal().is_some()
                && s.range.literal().is_some()
                && step_is_literal;
        }
        _ => {}
    });
    fits
}
