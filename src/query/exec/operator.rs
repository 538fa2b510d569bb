//! Binary operators on two elements: floats, histograms, or one of each.

use std::sync::Arc;

use model::histogram::{CounterResetHint, FloatHistogram, HistogramError, Merged};
use promql::ast::{BinaryOp, Span};

use crate::query::annotations::{Annotations, Merging, Operand};
use crate::query::frame::Cell;

/// An arithmetic operator on floats; for a comparison 1 where it holds, else 0.
#[inline]
pub fn float(op: BinaryOp, l: f64, r: f64) -> f64 {
    match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => model::math::pow(l, r),
        BinaryOp::Atan2 => model::angles::atan2(l, r),
        op => f64::from(u8::from(holds(op, l, r))),
    }
}

/// Whether a comparison holds.
#[inline]
pub fn holds(op: BinaryOp, l: f64, r: f64) -> bool {
    match op {
        BinaryOp::Eq => l == r,
        BinaryOp::NotEq => l != r,
        BinaryOp::Less => l < r,
        BinaryOp::LessEq => l <= r,
        BinaryOp::Greater => l > r,
        BinaryOp::GreaterEq => l >= r,
        _ => false,
    }
}

/// The result of an operator on two elements: a value, and whether a filter would keep it. `None` where the operator
/// does not know such operands; then there is a note.
pub fn element(
    op: BinaryOp,
    lhs: &Cell,
    rhs: &Cell,
    span: Span,
    notes: &mut Annotations,
) -> Option<(Cell, bool)> {
    match (lhs, rhs) {
        (Cell::Float(l), Cell::Float(r)) if !op.is_trim() => Some(floats(op, *l, *r)),
        (Cell::Float(l), Cell::Histogram(r)) if op == BinaryOp::Mul => Some((scaled(r, |h| h.mul(*l)), true)),
        (Cell::Histogram(l), Cell::Float(r)) => match op {
            BinaryOp::Mul => Some((scaled(l, |h| h.mul(*r)), true)),
            BinaryOp::Div => Some((scaled(l, |h| h.div(*r)), true)),
            BinaryOp::TrimUpper => Some((scaled(l, |h| h.trim_upper(*r)), true)),
            BinaryOp::TrimLower => Some((scaled(l, |h| h.trim_lower(*r)), true)),
            _ => unknown(op, lhs, rhs, span, notes),
        },
        (Cell::Histogram(l), Cell::Histogram(r)) => match op {
            BinaryOp::Add | BinaryOp::Sub => merged(op, l, r, span, notes),
            BinaryOp::Eq => Some((lhs.clone(), l.equals(r))),
            BinaryOp::NotEq => Some((lhs.clone(), !l.equals(r))),
            _ => unknown(op, lhs, rhs, span, notes),
        },
        _ => unknown(op, lhs, rhs, span, notes),
    }
}

#[inline]
fn floats(op: BinaryOp, l: f64, r: f64) -> (Cell, bool) {
    if op.is_comparison() { (Cell::Float(l), holds(op, l, r)) } else { (Cell::Float(float(op, l, r)), true) }
}

fn scaled(h: &Arc<FloatHistogram>, change: impl FnOnce(&mut FloatHistogram)) -> Cell {
    let mut h = FloatHistogram::clone(h);
    change(&mut h);
    h.compact(0);
    Cell::Histogram(Arc::new(h))
}

fn merged(
    op: BinaryOp,
    l: &Arc<FloatHistogram>,
    r: &FloatHistogram,
    span: Span,
    notes: &mut Annotations,
) -> Option<(Cell, bool)> {
    let mut h = FloatHistogram::clone(l);
    let (result, merging) = match op {
        BinaryOp::Add => (h.add(r), Merging::Addition),
        _ => (h.sub(r), Merging::Subtraction),
    };
    let merged: Result<Merged, HistogramError> = result;
    match merged {
        Err(_) => {
            notes.incompatible_bucket_layout(op.text(), span);
            return None;
        }
        Ok(m) => {
            if m.counter_reset_collision {
                notes.counter_reset_collision(merging, span);
            }
            if m.bounds_reconciled {
                notes.bounds_reconciled(merging, span);
            }
        }
    }
    if op == BinaryOp::Sub {
        h.counter_reset_hint = CounterResetHint::Gauge;
    }
    h.compact(0);
    Some((Cell::Histogram(Arc::new(h)), true))
}

fn unknown(
    op: BinaryOp,
    lhs: &Cell,
    rhs: &Cell,
    span: Span,
    notes: &mut Annotations,
) -> Option<(Cell, bool)> {
    let kind = |c: &Cell| match c {
        Cell::Float(_) => Operand::Float,
        Cell::Histogram(_) => Operand::Histogram,
    };
    notes.incompatible_types(kind(lhs), op.text(), kind(rhs), span);
    None
}
