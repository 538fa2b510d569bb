//! The nouns: what every room may name.
//!
//! In: nothing but values. Out: labels, samples, histograms, matchers, times, their text forms.
//! Owns: the meaning of a series' identity (sorted labels and their hash) and of a sample.
//! Runs on: any thread; pure.
//! Invariant: the same labels have the same bytes and the same hash on every machine.
//! Never: reads a clock, a file or a socket; knows shards, scrapes or questions.

#[rustfmt::skip]
pub mod labels; // Label sets, sorted and packed
pub mod angles; // circular and hyperbolic functions, the same on every machine
pub mod civil; // dates as RFC 3339 text
pub mod float_text; // floats as Go's strconv writes and reads them
pub mod histogram; // native histograms and their arithmetic
pub mod kahan; // sums that remember what rounding took
pub mod matcher; // a condition on one label
pub mod math; // logarithms and exponentials, the same on every machine
mod md5; // the digest that relabeling's hashmod is defined by
pub mod quote; // strings as Go quotes them
pub mod regex; // regular expressions as Prometheus means them
pub mod relabel; // relabel rules as a pure function on labels
pub mod sample; // a value at a time, and the values that mean something else
pub mod series; // names of series inside the house
pub mod target_group; // what discovery says to scrape
pub mod time; // durations and timestamps as text

pub use histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
pub use labels::{Labels, LabelsBuilder, NameScheme};
pub use matcher::{MatchOp, Matcher};
pub use sample::{NORMAL_NAN, STALE_NAN, Sample, is_stale};
pub use series::{SeriesHash, SeriesId, ShardId};
pub use target_group::TargetGroup;
pub use time::Timestamp;
