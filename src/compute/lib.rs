//! Arithmetic on columns: everything PromQL computes, as pure functions.
//!
//! In: slices of times and values, histograms, windows by index. Out: values, and [`Notes`] for what has to be
//! said beside them.
//! Owns: the exact arithmetic of every range function, aggregation, operator and histogram function.
//! Runs on: any thread; pure.
//! Invariant: a result has one order of operations, so it is the same to the bit on every machine and by every
//! path; each fast path is tested against the plain one.
//! Never: knows series, labels, texts of annotations, or where samples come from.
//!
//! A column has one value a step. A step without a value holds [`ABSENT`], the staleness marker, which no sample
//! that reaches a computation is and no arithmetic yields.

pub mod aggregate; // many values at one step into one
pub mod arch; // loops compiled for the machine at hand
pub mod classic; // histograms of cumulative `le` buckets
pub mod date; // calendar functions
pub mod elementwise; // one value into one; operators
pub mod histogram; // quantiles, fractions and moments of native histograms
pub mod notes;
pub mod quantile; // of plain values
pub mod range; // a window of samples into one value
pub mod wide; // a range function over all steps of a series

pub use model::kahan;
pub use notes::Notes;

use model::FloatHistogram;

/// In a column: no value at this step.
pub const ABSENT: f64 = model::STALE_NAN;

/// Whether a column has no value at this step.
#[inline(always)]
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// A float or a histogram.
#[derive(Clone, Debug)]
pub enum Value {
    Float(f64),
    Histogram(Box<FloatHistogram>),
}

impl Value {
    pub fn float(&self) -> Option<f64> {
        match self {
            Value::Float(v) => Some(*v),
            Value::Histogram(_) => None,
        }
    }

    pub fn histogram(&self) -> Option<&FloatHistogram> {
        match self {
            Value::Float(_) => None,
            Value::Histogram(h) => Some(h),
        }
    }
}

/// What a computation came to, if anything, and what it has to tell.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub value: Option<Value>,
    pub notes: Notes,
}

impl Answer {
    pub fn none(notes: Notes) -> Answer {
        Answer { value: None, notes }
    }

    pub fn float(value: f64, notes: Notes) -> Answer {
        Answer { value: Some(Value::Float(value)), notes }
    }

    pub fn histogram(value: FloatHistogram, notes: Notes) -> Answer {
        Answer { value: Some(Value::Histogram(Box::new(value))), notes }
    }
}
