//! Functions and scalar operators that turn one element into one element.

use std::sync::Arc;

use model::histogram::FloatHistogram;
use promql::Function;
use promql::ast::{BinaryOp, Span};

use crate::query::annotations::Annotations;
use crate::query::civil;
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
    each(&mut row.floats, |v| -v);
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
        Function::ClampMin => with_param(&mut row.floats, &params[0], go_max),
        Function::ClampMax => with_param(&mut row.floats, &params[0], go_min),
        Function::Round => round(&mut row.floats, params.first()),
        _ => {
            if let Some(f) = float_function(function) {
                each(&mut row.floats, f);
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
        Function::HistogramAvg => |h| h.sum / h.count,
        Function::HistogramStdvar => variance,
        Function::HistogramStddev => |h| variance(h).sqrt(),
        _ => return None,
    })
}

/// Population variance as far as buckets tell it: each bucket counts as its middle.
fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut comp) = (0.0, 0.0);
    for b in h.buckets() {
        if b.count == 0.0 {
            continue;
        }
        let middle = if h.uses_custom_buckets() {
            if b.upper.is_infinite() {
                b.lower
            } else if b.lower.is_infinite() {
                b.upper
            } else {
                (b.upper + b.lower) / 2.0
            }
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let m = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -m } else { m }
        };
        let delta = middle - mean;
        (sum, comp) = neumaier(b.count * delta * delta, sum, comp);
    }
    (sum + comp) / h.count
}

/// One step of a compensated sum.
#[inline]
pub fn neumaier(x: f64, sum: f64, comp: f64) -> (f64, f64) {
    let t = sum + x;
    let comp = if t.is_infinite() {
        0.0
    } else if sum.abs() >= x.abs() {
        comp + ((sum - t) + x)
    } else {
        comp + ((x - t) + sum)
    };
    (t, comp)
}

/// Go's `math.Max`: NaN if either is, infinities first.
pub fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`.
pub fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
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
        *v = if min > max { ABSENT } else { go_max(min, go_min(max, *v)) };
    }
}

fn round(floats: &mut [f64], to: Option<&Column>) {
    for (i, v) in floats.iter_mut().enumerate() {
        if !is_absent(*v) {
            // The inverse is what the reference divides by: dividing by `to` would give other last digits.
            let inverse = 1.0 / to.map_or(1.0, |c| c[i]);
            *v = (*v * inverse + 0.5).floor() / inverse;
        }
    }
}

/// Functions of a float alone.
fn float_function(function: Function) -> Option<fn(f64) -> f64> {
    Some(match function {
        Function::Abs => f64::abs,
        Function::Acos => f64::acos,
        Function::Acosh => f64::acosh,
        Function::Asin => f64::asin,
        Function::Asinh => f64::asinh,
        Function::Atan => f64::atan,
        Function::Atanh => f64::atanh,
        Function::Ceil => f64::ceil,
        Function::Cos => f64::cos,
        Function::Cosh => f64::cosh,
        Function::Deg => |v| v * 180.0 / std::f64::consts::PI,
        Function::Exp => f64::exp,
        Function::Floor => f64::floor,
        Function::Ln => f64::ln,
        Function::Log10 => f64::log10,
        Function::Log2 => f64::log2,
        Function::Rad => |v| v * std::f64::consts::PI / 180.0,
        Function::Sgn => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        Function::Sin => f64::sin,
        Function::Sinh => f64::sinh,
        Function::Sqrt => f64::sqrt,
        Function::Tan => f64::tan,
        Function::Tanh => f64::tanh,
        _ => return date_function(function),
    })
}

fn date_function(function: Function) -> Option<fn(f64) -> f64> {
    Some(match function {
        Function::DayOfMonth => |v| f64::from(civil::civil(v as i64).day),
        Function::DayOfWeek => |v| f64::from(civil::civil(v as i64).weekday),
        Function::DayOfYear => |v| f64::from(civil::civil(v as i64).year_day),
        Function::DaysInMonth => |v| {
            let c = civil::civil(v as i64);
            f64::from(civil::days_in_month(c.year, c.month))
        },
        Function::Hour => |v| f64::from(civil::civil(v as i64).hour),
        Function::Minute => |v| f64::from(civil::civil(v as i64).minute),
        Function::Month => |v| f64::from(civil::civil(v as i64).month),
        Function::Year => |v| civil::civil(v as i64).year as f64,
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
