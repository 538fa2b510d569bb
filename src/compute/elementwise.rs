//! One value into one: mathematical functions, and operators on floats and histograms.

use crate::{Notes, Value, is_absent};
use model::{CounterResetHint, angles, math};

/// Functions of a float, with their scalar parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryFunction {
    Abs,
    Ceil,
    Floor,
    Exp,
    Sqrt,
    Ln,
    Log2,
    Log10,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Rad,
    Deg,
    Sgn,
    Negate,
    /// To the nearest multiple, halves up.
    Round(f64),
    /// Bounds in order; see [`UnaryFunction::clamp`].
    Clamp {
        min: f64,
        max: f64,
    },
}

impl UnaryFunction {
    /// `clamp`, or `None` if the bounds leave nothing (then the whole result is empty).
    pub fn clamp(min: f64, max: f64) -> Option<UnaryFunction> {
        // NaN bounds pass, as in the reference.
        if max < min { None } else { Some(UnaryFunction::Clamp { min, max }) }
    }

    #[inline(always)]
    pub fn apply(self, v: f64) -> f64 {
        use UnaryFunction::*;
        use std::f64::consts::PI;
        match self {
            Abs => v.abs(),
            Ceil => v.ceil(),
            Floor => v.floor(),
            Exp => math::exp(v),
            Sqrt => v.sqrt(),
            Ln => math::ln(v),
            Log2 => math::log2(v),
            Log10 => math::log10(v),
            Sin => angles::sin(v),
            Cos => angles::cos(v),
            Tan => angles::tan(v),
            Asin => angles::asin(v),
            Acos => angles::acos(v),
            Atan => angles::atan(v),
            Sinh => angles::sinh(v),
            Cosh => angles::cosh(v),
            Tanh => angles::tanh(v),
            Asinh => math::asinh(v),
            Acosh => math::acosh(v),
            Atanh => math::atanh(v),
            Rad => v * PI / 180.0,
            Deg => v * 180.0 / PI,
            Sgn if v < 0.0 => -1.0,
            Sgn if v > 0.0 => 1.0,
            Sgn => v,
            Negate => -v,
            Round(nearest) => {
                let inverse = 1.0 / nearest;
                (v * inverse + 0.5).floor() / inverse
            }
            Clamp { min, max } => max_of(min, min_of(max, v)),
        }
    }

    /// Applies to every present value of a column.
    pub fn map(self, column: &mut [f64]) {
        for v in column {
            if !is_absent(*v) {
                *v = self.apply(*v);
            }
        }
    }
}

/// The greater: +Inf before all, then NaN; zeros by sign.
pub fn max_of(a: f64, b: f64) -> f64 {
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

/// The lesser: -Inf before all, then NaN; zeros by sign.
pub fn min_of(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

/// Operators between two values, set operators aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    /// `</`
    TrimUpper,
    /// `>/`
    TrimLower,
}

impl Operator {
    pub fn is_comparison(self) -> bool {
        use Operator::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }

    /// The float result of an arithmetic operator; 1 or 0 of a comparison (what scalars with `bool` give).
    #[inline(always)]
    pub fn arithmetic(self, a: f64, b: f64) -> f64 {
        use Operator::*;
        match self {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Mod => a % b,
            Pow => math::pow(a, b),
            Atan2 => angles::atan2(a, b),
            // Trimming has no meaning for floats; `apply` refuses it.
            TrimUpper | TrimLower => f64::NAN,
            _ => f64::from(u8::from(self.compare(a, b))),
        }
    }

    /// Whether a comparison holds.
    #[inline(always)]
    pub fn compare(self, a: f64, b: f64) -> bool {
        use Operator::*;
        match self {
            Eq => a == b,
            Ne => a != b,
            Gt => a > b,
            Lt => a < b,
            Ge => a >= b,
            Le => a <= b,
            _ => false,
        }
    }

    /// An operator between two vector elements.
    pub fn apply(self, a: &Value, b: &Value) -> Applied {
        use Operator::*;
        match (a, b) {
            (Value::Float(_), Value::Float(_)) if matches!(self, TrimUpper | TrimLower) => {
                Applied::Incompatible
            }
            (Value::Float(x), Value::Float(y)) if self.is_comparison() => {
                Applied::compared(Value::Float(*x), self.compare(*x, *y))
            }
            (Value::Float(x), Value::Float(y)) => Applied::value(Value::Float(self.arithmetic(*x, *y))),
            (Value::Float(x), Value::Histogram(h)) => match self {
                Mul => {
                    let mut h = h.clone();
                    h.mul(*x);
                    h.compact(0);
                    Applied::value(Value::Histogram(h))
                }
                _ => Applied::Incompatible,
            },
            (Value::Histogram(h), Value::Float(y)) => {
                let mut h = h.clone();
                match self {
                    Mul => h.mul(*y),
                    Div => h.div(*y),
                    TrimUpper => h.trim_upper(*y),
                    TrimLower => h.trim_lower(*y),
                    _ => return Applied::Incompatible,
                }
                if matches!(self, Mul | Div) {
                    h.compact(0);
                }
                Applied::value(Value::Histogram(h))
            }
            (Value::Histogram(x), Value::Histogram(y)) => match self {
                Add | Sub => self.combine(x, y),
                Eq => Applied::compared(a.clone(), x.equals(y)),
                Ne => Applied::compared(a.clone(), !x.equals(y)),
                _ => Applied::Incompatible,
            },
        }
    }

    fn combine(self, x: &model::FloatHistogram, y: &model::FloatHistogram) -> Applied {
        let add = self == Operator::Add;
        let mut h = Box::new(x.clone());
        let Ok(merged) = (if add { h.add(y) } else { h.sub(y) }) else { return Applied::MixedBuckets };
        if !add {
            h.counter_reset_hint = CounterResetHint::Gauge;
        }
        h.compact(0);
        let [collision, reconciled] = match self {
            Operator::Add => [Notes::RESET_COLLISION_ADD, Notes::BOUNDS_RECONCILED_ADD],
            _ => [Notes::RESET_COLLISION_SUB, Notes::BOUNDS_RECONCILED_SUB],
        };
        let notes = Notes::when(merged.counter_reset_collision, collision)
            | Notes::when(merged.bounds_reconciled, reconciled);
        Applied::Value { value: Value::Histogram(h), keep: true, notes }
    }
}

/// What an operator between two vector elements came to.
#[derive(Clone, Debug)]
pub enum Applied {
    /// `keep` is what a comparison says; its value is the left side.
    Value { value: Value, keep: bool, notes: Notes },
    /// The operator is not defined between these sample types (an info).
    Incompatible,
    /// Exponential against custom buckets (a warning).
    MixedBuckets,
}

impl Applied {
    fn value(value: Value) -> Applied {
        Applied::compared(value, true)
    }

    fn compared(value: Value, keep: bool) -> Applied {
        Applied::Value { value, keep, notes: Notes::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(f: UnaryFunction, v: f64, expect: f64) {
        let got = f.apply(v);
        let close = (got - expect).abs() <= 1e-12 * expect.abs();
        assert!(
            close || got == expect || (got.is_nan() && expect.is_nan()),
            "{f:?}({v}) is {got}, not {expect}"
        );
    }

    #[test]
    fn functions_have_their_edge_values() {
        use UnaryFunction::*;
        check(Sgn, -0.0, -0.0);
        check(Sgn, f64::NAN, f64::NAN);
        check(Sgn, -7.0, -1.0);
        check(Ln, 0.0, f64::NEG_INFINITY);
        check(Ln, -1.0, f64::NAN);
        check(Log2, 8.0, 3.0);
        check(Rad, 180.0, std::f64::consts::PI);
        check(Deg, std::f64::consts::PI, 180.0);
        check(Acosh, 0.5, f64::NAN);
        check(Atanh, 1.0, f64::INFINITY);
        check(Round(1.0), 2.5, 3.0);
        check(Round(1.0), -2.5, -2.0);
        check(Round(5.0), 12.4, 10.0);
        check(Round(0.1), 0.55, 0.6);
    }

    #[test]
    fn clamp_lets_nan_through_and_refuses_crossed_bounds() {
        let clamp = |min, max| UnaryFunction::clamp(min, max);
        assert_eq!(clamp(0.0, -1.0), None);
        check(UnaryFunction::Clamp { min: -25.0, max: 75.0 }, -50.0, -25.0);
        check(UnaryFunction::Clamp { min: -25.0, max: 75.0 }, 100.0, 75.0);
        check(UnaryFunction::Clamp { min: 0.0, max: f64::INFINITY }, f64::NAN, f64::NAN);
        check(UnaryFunction::Clamp { min: f64::NAN, max: 1.0 }, 0.5, f64::NAN);
    }

    #[test]
    fn extremes_of_two_follow_go() {
        assert_eq!(max_of(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert!(max_of(f64::NAN, f64::NEG_INFINITY).is_nan());
        assert_eq!(min_of(f64::NEG_INFINITY, f64::NAN), f64::NEG_INFINITY);
        assert!(max_of(-0.0, 0.0).is_sign_positive() && min_of(0.0, -0.0).is_sign_negative());
    }

    #[test]
    fn modulo_has_the_sign_of_the_dividend() {
        assert_eq!(Operator::Mod.arithmetic(-7.0, 3.0), -1.0);
        assert_eq!(Operator::Mod.arithmetic(7.0, f64::INFINITY), 7.0);
        assert!(Operator::Mod.arithmetic(7.0, 0.0).is_nan());
        assert_eq!(Operator::Pow.arithmetic(-1.0, f64::INFINITY), 1.0);
    }

    #[test]
    fn comparisons_of_floats_keep_the_left_side() {
        let applied = Operator::Gt.apply(&Value::Float(3.0), &Value::Float(2.0));
        assert!(matches!(applied, Applied::Value { value: Value::Float(3.0), keep: true, .. }));
        let applied = Operator::Gt.apply(&Value::Float(f64::NAN), &Value::Float(2.0));
        assert!(matches!(applied, Applied::Value { keep: false, .. }));
    }

    #[test]
    fn absent_steps_stay_absent() {
        let mut column = [1.5, crate::ABSENT];
        UnaryFunction::Floor.map(&mut column);
        assert_eq!(column[0], 1.0);
        assert!(is_absent(column[1]));
    }
}
