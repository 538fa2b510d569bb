//! Native histograms: counts of observations in exponential or custom buckets.
//!
//! [`FloatHistogram`] is what questions compute with: absolute counts as floats. [`Histogram`] is what senders
//! ship and chunks keep: whole counts, each bucket as the difference from its predecessor.
//!
//! What an operation has to tell beside its result (bounds that had to be reconciled, conflicting reset hints)
//! comes back as a value, [`Merged`]; who asked decides whether to say it.

mod bounds;
mod classic;
mod custom;
mod integer;
mod iter;
mod layout;
mod merge;
mod reset;
#[cfg(test)]
mod tests;
mod text;
mod trim;
mod validate;

pub use classic::{ClassicHistogram, ClassicPart, Converted, classic_part};
pub use validate::{is_known_schema, is_valid_schema};

use thiserror::Error;

/// Finest exponential schema that is kept; finer ones (up to [`SCHEMA_RESERVED_MAX`]) are reduced to it.
pub const SCHEMA_MAX: i32 = 8;
/// Coarsest exponential schema that is kept.
pub const SCHEMA_MIN: i32 = -4;
/// Finest schema that is accepted.
pub const SCHEMA_RESERVED_MAX: i32 = 52;
/// Coarsest schema that is accepted.
pub const SCHEMA_RESERVED_MIN: i32 = -9;
/// The schema of histograms whose bounds are listed one by one.
pub const SCHEMA_CUSTOM: i32 = -53;

/// What is known of whether the counter behind a histogram was reset since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CounterResetHint {
    #[default]
    Unknown = 0,
    Reset = 1,
    NotReset = 2,
    Gauge = 3,
}

/// A run of consecutive buckets: `offset` from the end of the run before (or from index 0), then `length` buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// A histogram with absolute float counts. Custom bounds use the positive side only.
#[derive(Clone, Debug, Default)]
pub struct FloatHistogram {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}

/// A histogram with whole counts; every bucket is the difference from the bucket before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: u64,
    pub count: u64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub positive_deltas: Vec<i64>,
    pub negative_spans: Vec<Span>,
    pub negative_deltas: Vec<i64>,
    pub custom_values: Vec<f64>,
}

/// One bucket with its bounds, as the iterators give it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// Index within the schema; 0 for the zero bucket.
    pub index: i32,
}

/// What adding or subtracting had to do beside the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// One side said "reset", the other "not reset"; the result says "unknown".
    pub counter_reset_collision: bool,
    /// Custom bounds differed and the result has only those that both sides know.
    pub bounds_reconciled: bool,
}

impl Merged {
    /// Both of two reports.
    pub fn and(self, other: Merged) -> Merged {
        Merged {
            counter_reset_collision: self.counter_reset_collision || other.counter_reset_collision,
            bounds_reconciled: self.bounds_reconciled || other.bounds_reconciled,
        }
    }
}

/// Why a histogram is refused; the texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum HistogramError {
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    IncompatibleSchemas,
    #[error("cannot reduce resolution from schema {from} to {to}")]
    CannotReduce { from: i32, to: i32 },
    #[error("{0}")]
    Invalid(String),
}

impl FloatHistogram {
    /// Whether the bounds are listed one by one.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == SCHEMA_CUSTOM
    }

    /// Whether this sample says "this series ended here".
    pub fn is_stale(&self) -> bool {
        crate::sample::is_stale(self.sum)
    }

    /// Bytes that a query's account is charged, as Prometheus counts them.
    pub fn size_bytes(&self) -> usize {
        let slots = self.positive_spans.len()
            + self.negative_spans.len()
            + self.positive_buckets.len()
            + self.negative_buckets.len()
            + self.custom_values.len();
        168 + 8 * slots
    }
}
