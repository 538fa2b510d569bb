//! Functions and scalar operators that turn one element into one element.

use std::sync::Arc;

use compute::date::DateFunction;
use compute::elementwise::{UnaryFunction, max_of, min_of};
use model::histogram::FloatHistogram;
use promql::Function;
use promql::ast::{BinaryOp, Span};

use crate::query::annotations::Annotations;
use crate::query::exec::operator;
use crate::query::frame::{ABSENT, Cell, Row, is_absent};
use crate::query::plan::physical::{Column, Map};

/// Applies one map to the cells of a row, in place.
pub fn apply(map: &Map, row: &mut Row, notes: &mut Annotations) {
    match map {
        Map::Negate => negate(row),
        Map::Call { function, params, .. } => call(*function, params, row),
        Map::Operator { op, scalar, scalar_is_left, return_bool, span } => {
            let operator = ScalarOperator {
                op: *op,
                scalar,
                scalar_is_left: *scalar_is_left,
                return_bool: *return_bool,
                span: *span,
            };
            operator.apply(row, notes);
        }
    }
}

fn negate(row: &mut Row) {
    UnaryFunction::Negate.map(&mut row.floats);
    for (_, h) in &mut row.histograms {
        Arc::make_mut(h).mul(-1.0);
    }
}

#[inline]
fn each(floats: &mut [f64], f: impl Fn(f64) -> f64) {
    for v in floats {
        if !is_absent(*v) {
            *v = f(*v);
        }
    }
}

fn call(function: Function, params: &[Column], row: &mut Row) {
    if let Some(of_histogram) = histogram_function(function) {
        return histogram_values(of_histogram, row);
    }
    row.histograms.clear();
    if row.floats.is_empty() {
        return;
    }
    match function {
        Function::Clamp => clamp(&mut row.floats, params),
        Function::ClampMin => with_param(&mut row.floats, &params[0], max_of),
        Function::ClampMax => with_param(&mut row.floats, &params[0], min_of),
        Function::Round => round(&mut row.floats, params.first()),
        _ => {
            if let Some(f) = unary_function(function) {
                f.map(&mut row.floats);
            } else if let Some(f) = date_function(function) {
                each(&mut row.floats, |v| f.of_value(v));
            }
        }
    }
}

/// A function from histograms to numbers; floats are left out.
fn histogram_values(f: fn(&FloatHistogram) -> f64, row: &mut Row) {
    let step_count = row.floats.len();
    let last = row.histograms.last().map_or(0, |h| h.0 as usize + 1);
    row.floats.clear();
    row.floats.resize(step_count.max(last), ABSENT);
    for (step, h) in std::mem::take(&mut row.histograms) {
        row.floats[step as usize] = f(&h);
    }
}

fn histogram_function(function: Function) -> Option<fn(&FloatHistogram) -> f64> {
    Some(match function {
        Function::HistogramCount => |h| h.count,
        Function::HistogramSum => |h| h.sum,
        Function::HistogramAvg => compute::histogram::avg,
        Function::HistogramStdvar => compute::histogram::stdvar,
        Function::HistogramStddev => compute::histogram::stddev,
        _ => return None,
    })
}

fn with_param(floats: &mut [f64], param: &Column, f: fn(f64, f64) -> f64) {
    for (v, p) in floats.iter_mut().zip(param.iter()) {
        if !is_absent(*v) {
            *v = f(*v, *p);
        }
    }
}

fn clamp(floats: &mut [f64], params: &[Column]) {
    for (i, v) in floats.iter_mut().enumerate() {
        let (min, max) = (params[0][i], params[1][i]);
        if is_absent(*v) {
            continue;
        }
        *v = if min > max { ABSENT } else { max_of(min, min_of(max, *v)) };
    }
}

fn round(floats: &mut [f64], to: Option<&Column>) {
    for (i, v) in floats.iter_mut().enumerate() {
        if !is_absent(*v) {
            *v = UnaryFunction::Round(to.map_or(1.0, |c| c[i])).apply(*v);
        }
    }
}

/// Functions of a float alone.
fn unary_function(function: Function) -> Option<UnaryFunction> {
    Some(match function {
        Function::Abs => UnaryFunction::Abs,
        Function::Acos => UnaryFunction::Acos,
        Function::Acosh => UnaryFunction::Acosh,
        Function::Asin => UnaryFunction::Asin,
        Function::Asinh => UnaryFunction::Asinh,
        Function::Atan => UnaryFunction::Atan,
        Function::Atanh => UnaryFunction::Atanh,
        Function::Ceil => UnaryFunction::Ceil,
        Function::Cos => UnaryFunction::Cos,
        Function::Cosh => UnaryFunction::Cosh,
        Function::Deg => UnaryFunction::Deg,
        Function::Exp => UnaryFunction::Exp,
        Function::Floor => UnaryFunction::Floor,
        Function::Ln => UnaryFunction::Ln,
        Function::Log10 => UnaryFunction::Log10,
        Function::Log2 => UnaryFunction::Log2,
        Function::Rad => UnaryFunction::Rad,
        Function::Sgn => UnaryFunction::Sgn,
        Function::Sin => UnaryFunction::Sin,
        Function::Sinh => UnaryFunction::Sinh,
        Function::Sqrt => UnaryFunction::Sqrt,
        Function::Tan => UnaryFunction::Tan,
        Function::Tanh => UnaryFunction::Tanh,
        _ => return None,
    })
}

fn date_function(function: Function) -> Option<DateFunction> {
    Some(match function {
        Function::DayOfMonth => DateFunction::DayOfMonth,
        Function::DayOfWeek => DateFunction::DayOfWeek,
        Function::DayOfYear => DateFunction::DayOfYear,
        Function::DaysInMonth => DateFunction::DaysInMonth,
        Function::Hour => DateFunction::Hour,
        Function::Minute => DateFunction::Minute,
        Function::Month => DateFunction::Month,
        Function::Year => DateFunction::Year,
        _ => return None,
    })
}

/// An operator between every element and a scalar.
struct ScalarOperator<'a> {
    op: BinaryOp,
    scalar: &'a [f64],
    scalar_is_left: bool,
    return_bool: bool,
    span: Span,
}

impl ScalarOperator<'_> {
    fn apply(&self, row: &mut Row, notes: &mut Annotations) {
        if row.histograms.is_empty() && !self.op.is_trim() {
            return self.floats(&mut row.floats);
        }
        let step_count = self.scalar.len();
        let mut out = row.emptied();
        for (step, scalar) in self.scalar.iter().enumerate() {
            let Some(cell) = row.cell(step) else { continue };
            let scalar = Cell::Float(*scalar);
            let (l, r) = if self.scalar_is_left { (&scalar, &cell) } else { (&cell, &scalar) };
            let Some((value, keep)) = operator::element(self.op, l, r, self.span, notes) else { continue };
            if self.return_bool {
                out.push(step, Cell::Float(f64::from(u8::from(keep))), step_count);
            } else if keep {
                // A comparison keeps the vector's element, on whichever side it stands.
                out.push(step, if self.op.is_comparison() { cell } else { value }, step_count);
            }
        }
        *row = out;
    }

    fn floats(&self, floats: &mut [f64]) {
        let is_filter = self.op.is_comparison() && !self.return_bool;
        for (v, s) in floats.iter_mut().zip(self.scalar) {
            if is_absent(*v) {
                continue;
            }
            let (l, r) = if self.scalar_is_left { (*s, *v) } else { (*v, *s) };
            if !is_filter {
                *v = operator::float(self.op, l, r);
            } else if !operator::holds(self.op, l, r) {
                *v = ABSENT;
            }
        }
    }
}
