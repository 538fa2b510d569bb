//! Lengths of time that depend on the query: `step()`, `range()` and arithmetic.

use crate::ast::{DurationExpr, DurationKind, DurationOp, Extent};
use crate::error::Error;

/// What a length of time may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryBounds {
    /// Milliseconds; 0 for an instant query.
    pub step: i64,
    /// End minus start, in milliseconds.
    pub range: i64,
}

impl Extent {
    /// Milliseconds of a range or a step, which must be positive.
    pub fn positive_millis(&self, bounds: QueryBounds) -> Result<i64, Error> {
        match self {
            Extent::Literal(ms) => Ok(*ms),
            Extent::Expr(e) => e.positive_millis(bounds),
        }
    }

    /// Milliseconds of an offset, which may have any sign.
    pub fn millis(&self, bounds: QueryBounds) -> Result<i64, Error> {
        match self {
            Extent::Literal(ms) => Ok(*ms),
            Extent::Expr(e) => e.millis(bounds),
        }
    }
}

impl DurationExpr {
    pub fn positive_millis(&self, bounds: QueryBounds) -> Result<i64, Error> {
        let seconds = self.finite_seconds(bounds)?;
        // Before it is cut to milliseconds: what is shorter than one is not refused.
        if seconds <= 0.0 {
            return Err(self.error("duration must be greater than 0"));
        }
        self.to_millis(seconds)
    }

    pub fn millis(&self, bounds: QueryBounds) -> Result<i64, Error> {
        let seconds = self.finite_seconds(bounds)?;
        self.to_millis(seconds)
    }

    fn finite_seconds(&self, bounds: QueryBounds) -> Result<f64, Error> {
        let seconds = self.seconds(bounds)?;
        if !seconds.is_finite() {
            return Err(self.error("duration is NaN or infinite"));
        }
        Ok(seconds)
    }

    fn to_millis(&self, seconds: f64) -> Result<i64, Error> {
        // Prometheus holds it in 63 bits of nanoseconds.
        if !(-9.223_372_036_854_776e9..=9.223_372_036_854_776e9).contains(&seconds) {
            return Err(self.error("duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, bounds: QueryBounds) -> Result<f64, Error> {
        let to_seconds = |ms: i64| ms as f64 / 1000.0;
        Ok(match &self.kind {
            DurationKind::Number(n) => n.value,
            DurationKind::Step => to_seconds(bounds.step),
            DurationKind::Range => to_seconds(bounds.range),
            DurationKind::Negate(e) => -e.seconds(bounds)?,
            DurationKind::Keep(e) => e.seconds(bounds)?,
            DurationKind::Binary(op, left, right) => {
                let (l, r) = (left.seconds(bounds)?, right.seconds(bounds)?);
                match op {
                    DurationOp::Add => l + r,
                    DurationOp::Sub => l - r,
                    DurationOp::Mul => l * r,
                    DurationOp::Div if r == 0.0 => return Err(self.error("division by zero")),
                    DurationOp::Div => l / r,
                    DurationOp::Mod if r == 0.0 => return Err(self.error("modulo by zero")),
                    DurationOp::Mod => l % r,
                    DurationOp::Pow => l.powf(r),
                    // Unlike Rust's, Go's minimum and maximum with NaN are NaN.
                    _ if l.is_nan() || r.is_nan() => f64::NAN,
                    DurationOp::MinOf => l.min(r),
                    DurationOp::MaxOf => l.max(r),
                }
            }
        })
    }

    fn error(&self, message: &'static str) -> Error {
        Error::Duration { span: self.span, message }
    }
}
