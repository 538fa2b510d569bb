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

/// Whether a map has for a column of floats what it has for their rows.
pub fn takes_columns(map: &Map) -> bool {
    match map {
        Map::Negate => true,
        Map::Call { function, .. } => histogram_function(*function).is_none(),
        // Trimming floats leaves notes.
        Map::Operator { op, .. } => !op.is_trim(),
    }
}

/// Applies a map that [`takes_columns`] to elements of many series at one step, in place.
pub fn apply_at(map: &Map, step: usize, floats: &mut [f64]) {
    match map {
        Map::Negate => UnaryFunction::Negate.map(floats),
        Map::Call { function, params, .. } => {
            float_call(*function, &|p, _| params.get(p).map(|c| c[step]), floats)
        }
        Map::Operator { op, scalar, scalar_is_left, return_bool, .. } => {
            let scalars = std::iter::repeat(scalar[step]);
            float_operator(*op, scalars, *scalar_is_left, *return_bool, floats);
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
    float_call(function, &|p, i| params.get(p).map(|c| c[i]), &mut row.floats);
}

/// A function of floats; `param(p, i)` is its parameter `p` for the float `i`.
fn float_call(function: Function, param: &impl Fn(usize, usize) -> Option<f64>, floats: &mut [f64]) {
    match function {
        Function::Clamp => clamp(floats, param),
        Function::ClampMin => with_param(floats, param, max_of),
        Function::ClampMax => with_param(floats, param, min_of),
        Function::Round => round(floats, param),
        _ => {
            if let Some(f) = unary_function(function) {
                f.map(floats);
            } else if let Some(f) = date_function(function) {
                each(floats, |v| f.of_value(v));
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

fn with_param(floats: &mut [f64], param: &impl Fn(usize, usize) -> Option<f64>, f: fn(f64, f64) -> f64) {
    for (i, v) in floats.iter_mut().enumerate() {
        if let Some(p) = param(0, i).filter(|_| !is_absent(*v)) {
            *v = f(*v, p);
        }
    }
}

fn clamp(floats: &mut [f64], param: &impl Fn(usize, usize) -> Option<f64>) {
    for (i, v) in floats.iter_mut().enumerate() {
        let (Some(min), Some(max)) = (param(0, i), param(1, i)) else { return };
        if is_absent(*v) {
            continue;
        }
        *v = if min > max { ABSENT } else { max_of(min, min_of(max, *v)) };
    }
}

fn round(floats: &mut [f64], param: &impl Fn(usize, usize) -> Option<f64>) {
    for (i, v) in floats.iter_mut().enumerate() {
        if !is_absent(*v) {
            *v = UnaryFunction::Round(param(0, i).unwrap_or(1.0)).apply(*v);
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
            let scalars = self.scalar.iter().copied();
            return float_operator(self.op, scalars, self.scalar_is_left, self.return_bool, &mut row.floats);
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
}

/// An operator between every float and a scalar of its own.
fn float_operator(
    op: BinaryOp,
    scalars: impl Iterator<Item = f64>,
    scalar_is_left: bool,
    return_bool: bool,
    floats: &mut [f64],
) {
    use BinaryOp::{Add, Div, Mul, Sub};
    let is_left = scalar_is_left;
    // Chosen once for all elements: these take a cycle each.
    match op {
        Add => each_pair(floats, scalars, is_left, |l, r| operator::float(Add, l, r)),
        Sub => each_pair(floats, scalars, is_left, |l, r| operator::float(Sub, l, r)),
        Mul => each_pair(floats, scalars, is_left, |l, r| operator::float(Mul, l, r)),
        Div => each_pair(floats, scalars, is_left, |l, r| operator::float(Div, l, r)),
        op if op.is_comparison() && !return_bool => {
            for (v, s) in floats.iter_mut().zip(scalars).filter(|(v, _)| !is_absent(**v)) {
                let (l, r) = if is_left { (s, *v) } else { (*v, s) };
                if !operator::holds(op, l, r) {
                    *v = ABSENT;
                }
            }
        }
        op => each_pair(floats, scalars, is_left, |l, r| operator::float(op, l, r)),
    }
}

#[inline]
fn each_pair(
    floats: &mut [f64],
    scalars: impl Iterator<Item = f64>,
    scalar_is_left: bool,
    f: impl Fn(f64, f64) -> f64,
) {
    for (v, s) in floats.iter_mut().zip(scalars) {
        if !is_absent(*v) {
            *v = if scalar_is_left { f(s, *v) } else { f(*v, s) };
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn operator(op: BinaryOp, scalar: &Column, scalar_is_left: bool, return_bool: bool) -> Map {
        Map::Operator { op, scalar: scalar.clone(), scalar_is_left, return_bool, span: Span::default() }
    }

    #[test]
    fn a_column_is_mapped_as_its_rows_are() {
        const STEPS: usize = 5;
        let values = [0.0, -0.0, 1.5, -2.25, 1e300, f64::INFINITY, f64::NAN, ABSENT, 7.0, 0.5];
        let scalar: Column = [2.0, 0.0, -1.0, f64::NAN, 1e9].into();
        let low: Column = [-1.0, 0.0, 3.0, 0.0, f64::NAN].into();
        let call = |function, params: &[&Column]| Map::Call {
            function,
            params: params.iter().map(|p| (*p).clone()).collect(),
        };
        let mut maps = vec![
            Map::Negate,
            call(Function::Abs, &[]),
            call(Function::Sqrt, &[]),
            call(Function::Hour, &[]),
            call(Function::Round, &[]),
            call(Function::Round, &[&scalar]),
            call(Function::Clamp, &[&low, &scalar]),
            call(Function::ClampMin, &[&low]),
            call(Function::ClampMax, &[&low]),
        ];
        for op in
            [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Div, BinaryOp::Pow, BinaryOp::Greater, BinaryOp::Eq]
        {
            for (is_left, is_bool) in [(false, false), (true, false), (false, true)] {
                maps.push(operator(op, &scalar, is_left, is_bool && op.is_comparison()));
            }
        }
        for map in &maps {
            assert!(takes_columns(map), "{map:?}");
            let rows: Vec<Row> = (0..values.len())
                .map(|i| (0..STEPS).map(|step| values[(i + 3 * step) % values.len()]).collect())
                .map(|floats| Row::of_floats(Labels::empty(), floats))
                .collect();
            for step in 0..STEPS {
                let mut column: Vec<f64> = rows.iter().map(|r| r.floats[step]).collect();
                apply_at(map, step, &mut column);
                for (row, have) in rows.iter().zip(column) {
                    let mut want = row.clone();
                    apply(map, &mut want, &mut Annotations::default());
                    let want = want.floats[step];
                    assert_eq!(is_absent(have), is_absent(want), "{map:?} at {step}");
                    assert!(is_absent(have) || have.to_bits() == want.to_bits(), "{map:?} at {step}");
                }
            }
        }
    }
}
