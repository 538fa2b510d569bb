//! Aggregations: the values of a group at one step into one.
//!
//! Which results depend on the order of the values, and so on how partial states are merged:
//!
//! | state | order |
//! |---|---|
//! | [`Count`](Extreme), [`Extreme`], quantile's values | free (but for the sign of a zero and the bits of a NaN) |
//! | [`Sum`], [`Avg`] | the compensation takes nearly all of it; the last bit may differ |
//! | [`Deviation`] | not compensated: differs by rounding |
//! | [`TopK`] | which of equal values stay: offer them in label order |
//! | [`HistogramSum`], [`HistogramAvg`] | as [`Sum`]; bucket layouts come out the same |

mod column;
mod histogram;
#[cfg(test)]
mod tests;
mod topk;

pub use column::{AvgColumn, CountColumn, MaxColumn, MinColumn, SumColumn, add_row, overflows};
pub use histogram::{HistogramAvg, HistogramSum};
pub use topk::{Direction, TopK};

use crate::kahan::{self, KahanSum};
use crate::{Answer, Notes, Value};
use model::FloatHistogram;

/// A compensated sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum(KahanSum);

impl Sum {
    #[inline]
    pub fn add(&mut self, v: f64) {
        self.0.add(v);
    }

    /// Takes in the sum of other values, with its compensation.
    pub fn merge(&mut self, other: Sum) {
        self.0.add(other.0.sum);
        if !self.0.sum.is_infinite() {
            self.0.c += other.0.c;
        }
    }

    pub fn value(self) -> f64 {
        self.0.total()
    }
}

/// A mean: of the compensated sum while that is finite; from where it would overflow, incremental.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Avg {
    pub(crate) sum: f64,
    pub(crate) c: f64,
    mean: f64,
    pub(crate) count: f64,
    incremental: bool,
}

impl Avg {
    pub fn new(first: f64) -> Avg {
        Avg::resume(first, 0.0, 1.0)
    }

    pub(crate) fn resume(sum: f64, c: f64, count: f64) -> Avg {
        Avg { sum, c, mean: 0.0, count, incremental: false }
    }

    #[inline]
    pub fn add(&mut self, v: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, c) = kahan::inc(v, self.sum, self.c);
            if !sum.is_infinite() {
                (self.sum, self.c) = (sum, c);
                return;
            }
            self.turn_incremental(self.count - 1.0);
        }
        let q = (self.count - 1.0) / self.count;
        (self.mean, self.c) = kahan::inc(v / self.count, q * self.mean, q * self.c);
    }

    fn turn_incremental(&mut self, count: f64) {
        self.incremental = true;
        self.mean = self.sum / count;
        self.c /= count;
    }

    /// Takes in the mean of other values.
    pub fn merge(&mut self, mut other: Avg) {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let (sum, c) = kahan::inc(other.sum, self.sum, self.c);
            if !sum.is_infinite() {
                (self.sum, self.c, self.count) = (sum, c + other.c, count);
                return;
            }
        }
        for side in [&mut *self, &mut other] {
            if !side.incremental {
                side.turn_incremental(side.count);
            }
        }
        let (own, theirs) = (self.count / count, other.count / count);
        let c = own * self.c + theirs * other.c;
        (self.mean, self.c) = kahan::inc(theirs * other.mean, own * self.mean, c);
        self.count = count;
    }

    pub fn value(self) -> f64 {
        if self.incremental { self.mean + self.c } else { self.sum / self.count + self.c / self.count }
    }
}

/// Least or greatest value; NaN only if all are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extreme<const MAX: bool>(f64);

/// The least value.
pub type Min = Extreme<false>;
/// The greatest value.
pub type Max = Extreme<true>;

impl<const MAX: bool> Extreme<MAX> {
    pub fn new(first: f64) -> Self {
        Extreme(first)
    }

    #[inline(always)]
    pub fn add(&mut self, v: f64) {
        if self.0.is_nan() || (if MAX { v > self.0 } else { v < self.0 }) {
            self.0 = v;
        }
    }

    /// Takes in the extreme of other values.
    pub fn merge(&mut self, other: Self) {
        self.add(other.0);
    }

    pub fn value(self) -> f64 {
        self.0
    }
}

/// Population variance by Welford's pass, uncompensated as the reference has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    mean: f64,
    squares: f64,
    count: f64,
}

impl Deviation {
    pub fn new(first: f64) -> Deviation {
        let squares = if first.is_finite() { 0.0 } else { f64::NAN };
        Deviation { mean: first, squares, count: 1.0 }
    }

    pub fn add(&mut self, v: f64) {
        self.count += 1.0;
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (v - self.mean);
    }

    /// Takes in the deviation of other values (Chan's formula).
    pub fn merge(&mut self, other: Deviation) {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * (self.count * other.count / count);
        self.mean += delta * (other.count / count);
        self.count = count;
    }

    pub fn variance(self) -> f64 {
        self.squares / self.count
    }

    pub fn stddev(self) -> f64 {
        self.variance().sqrt()
    }
}

/// The aggregations whose state is a few numbers or a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
}

/// A group at one step under one aggregation: floats and histograms as they come. Starts empty.
#[derive(Clone, Debug)]
pub struct Group {
    state: State,
    notes: Notes,
}

#[derive(Clone, Debug)]
enum State {
    Empty(Aggregation),
    Sum(Sum),
    Avg(Avg),
    HistogramSum(Box<HistogramSum>),
    HistogramAvg(Box<HistogramAvg>),
    /// Floats and histograms, or buckets that do not go together: there will be no value.
    Spoiled,
    Min(Min),
    Max(Max),
    Count(u64),
    One,
    Deviation(Deviation, bool),
    Quantile(Vec<f64>),
}

impl Group {
    pub fn new(aggregation: Aggregation) -> Group {
        Group { state: State::Empty(aggregation), notes: Notes::NONE }
    }

    pub fn add(&mut self, v: &Value) {
        match v {
            Value::Float(v) => self.add_float(*v),
            Value::Histogram(h) => self.add_histogram(h),
        }
    }

    pub fn add_float(&mut self, v: f64) {
        match &mut self.state {
            State::Empty(aggregation) => self.state = State::first_float(*aggregation, v),
            State::Sum(s) => s.add(v),
            State::Avg(a) => a.add(v),
            State::HistogramSum(_) | State::HistogramAvg(_) => self.spoil(Notes::MIXED_FLOATS_HISTOGRAMS),
            State::Min(m) => m.add(v),
            State::Max(m) => m.add(v),
            State::Count(n) => *n += 1,
            State::Deviation(d, _) => d.add(v),
            State::Quantile(values) => values.push(v),
            State::One | State::Spoiled => {}
        }
    }

    pub fn add_histogram(&mut self, h: &FloatHistogram) {
        match &mut self.state {
            State::Empty(aggregation) => match aggregation {
                Aggregation::Sum => self.state = State::HistogramSum(Box::new(HistogramSum::new(h))),
                Aggregation::Avg => self.state = State::HistogramAvg(Box::new(HistogramAvg::new(h))),
                Aggregation::Count => self.state = State::Count(1),
                Aggregation::Group => self.state = State::One,
                _ => self.notes |= Notes::HISTOGRAM_IGNORED_IN_AGGREGATION,
            },
            State::HistogramSum(s) => s.add(h),
            State::HistogramAvg(a) => a.add(h),
            State::Sum(_) | State::Avg(_) => self.spoil(Notes::MIXED_FLOATS_HISTOGRAMS),
            State::Count(n) => *n += 1,
            State::One | State::Spoiled => {}
            State::Min(_) | State::Max(_) | State::Deviation(..) | State::Quantile(_) => {
                self.notes |= Notes::HISTOGRAM_IGNORED_IN_AGGREGATION;
            }
        }
    }

    fn spoil(&mut self, why: Notes) {
        self.notes |= why;
        self.state = State::Spoiled;
    }

    /// Takes in a group that holds other values of the same group under the same aggregation.
    pub fn merge(&mut self, other: Group) {
        self.notes |= other.notes;
        match (&mut self.state, other.state) {
            (_, State::Empty(_)) => {}
            (State::Empty(_), state) => self.state = state,
            (State::Spoiled, _) => {}
            (_, State::Spoiled) => self.state = State::Spoiled,
            (State::Sum(a), State::Sum(b)) => a.merge(b),
            (State::Avg(a), State::Avg(b)) => a.merge(b),
            (State::HistogramSum(a), State::HistogramSum(b)) => a.merge(*b),
            (State::HistogramAvg(a), State::HistogramAvg(b)) => a.merge(*b),
            (State::Min(a), State::Min(b)) => a.merge(b),
            (State::Max(a), State::Max(b)) => a.merge(b),
            (State::Count(a), State::Count(b)) => *a += b,
            (State::One, State::One) => {}
            (State::Deviation(a, _), State::Deviation(b, _)) => a.merge(b),
            (State::Quantile(a), State::Quantile(b)) => a.extend(b),
            // What is left is floats on one side and histograms on the other.
            _ => self.spoil(Notes::MIXED_FLOATS_HISTOGRAMS),
        }
    }

    /// The group's value; `q` is what `quantile` is asked for.
    pub fn finish(self, q: f64) -> Answer {
        let notes = self.notes;
        let value = match self.state {
            State::Empty(_) | State::Spoiled => return Answer::none(notes),
            State::HistogramSum(s) => return s.finish_compact().noting(notes),
            State::HistogramAvg(a) => return a.finish_compact().noting(notes),
            State::Sum(s) => s.value(),
            State::Avg(a) => a.value(),
            State::Min(m) => m.value(),
            State::Max(m) => m.value(),
            State::Count(n) => n as f64,
            State::One => 1.0,
            State::Deviation(d, root) => {
                if root {
                    d.stddev()
                } else {
                    d.variance()
                }
            }
            State::Quantile(mut values) => crate::quantile::quantile(q, &mut values),
        };
        Answer::float(value, notes)
    }
}

impl State {
    fn first_float(aggregation: Aggregation, v: f64) -> State {
        match aggregation {
            Aggregation::Sum => State::Sum(Sum(KahanSum { sum: v, c: 0.0 })),
            Aggregation::Avg => State::Avg(Avg::new(v)),
            Aggregation::Min => State::Min(Min::new(v)),
            Aggregation::Max => State::Max(Max::new(v)),
            Aggregation::Count => State::Count(1),
            Aggregation::Group => State::One,
            Aggregation::Stddev => State::Deviation(Deviation::new(v), true),
            Aggregation::Stdvar => State::Deviation(Deviation::new(v), false),
            Aggregation::Quantile => State::Quantile(vec![v]),
        }
    }
}

impl Answer {
    fn noting(mut self, notes: Notes) -> Answer {
        self.notes |= notes;
        self
    }
}

/// Whether `limit_ratio` keeps a sample whose labels' hash lies at `offset` (0 to 1) of all hashes. A ratio `r`
/// and the ratio `r - 1` keep complements.
pub fn ratio_keeps(ratio: f64, offset: f64) -> bool {
    (ratio >= 0.0 && offset < ratio) || (ratio < 0.0 && offset >= 1.0 + ratio)
}
