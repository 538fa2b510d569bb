//! Range functions: a window of samples into one value. This is the oracle of [`crate::wide`].

mod compare;
mod extended;
mod over_time;
mod rate;
mod regression;
#[cfg(test)]
mod tests;

pub use extended::{extend_floats, smooth_instant};

use crate::{Answer, Notes};
use model::FloatHistogram;
pub(crate) use over_time::{avg_floats, max_floats, min_floats, sum_floats};
pub use rate::{Edges, RateKind, Sampled, extrapolation};

/// A histogram sample, in whatever form the caller keeps it.
pub trait HistogramSample {
    fn time(&self) -> i64;
    /// When its counter began; 0 if that is not known (or not wanted).
    fn start(&self) -> i64;
    fn histogram(&self) -> &FloatHistogram;
}

/// (time, histogram).
impl HistogramSample for (i64, &FloatHistogram) {
    fn time(&self) -> i64 {
        self.0
    }
    fn start(&self) -> i64 {
        0
    }
    fn histogram(&self) -> &FloatHistogram {
        self.1
    }
}

/// (time, start time, histogram).
impl HistogramSample for (i64, i64, &FloatHistogram) {
    fn time(&self) -> i64 {
        self.0
    }
    fn start(&self) -> i64 {
        self.1
    }
    fn histogram(&self) -> &FloatHistogram {
        self.2
    }
}

/// For series that have no histograms: `Window::<NoHistograms>`.
pub type NoHistograms = (i64, &'static FloatHistogram);

/// What a range function sees at one step. All times are in milliseconds; samples ascend by time and have no
/// staleness markers among them.
///
/// Plain selectors give the samples in `(start, end]`. Anchored ones add those of one lookback before `start`,
/// smoothed ones also those of one lookback behind `end`.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, H> {
    /// The time of the step itself, without offset.
    pub at: i64,
    /// Where the range begins (exclusive), after offset and `@`.
    pub start: i64,
    /// Where the range ends (inclusive), after offset and `@`.
    pub end: i64,
    pub times: &'a [i64],
    pub values: &'a [f64],
    /// Start times of the floats, as many as `times`; empty to compute without them.
    pub starts: &'a [i64],
    pub histograms: &'a [H],
    /// Whether the histograms' start times are to be used.
    pub histogram_starts: bool,
    pub modifier: Modifier,
}

/// How a selector treats the edges of its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modifier {
    #[default]
    Plain,
    Anchored,
    Smoothed,
}

/// Every function of a range vector that yields an instant value, with its scalar parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    CountOverTime,
    LastOverTime,
    FirstOverTime,
    PresentOverTime,
    QuantileOverTime(f64),
    StddevOverTime,
    StdvarOverTime,
    MadOverTime,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMinOverTime,
    TsOfMaxOverTime,
    Changes,
    Resets,
    Deriv,
    PredictLinear(f64),
    /// Factors must lie within 0 and 1, both exclusive; see [`RangeFunction::smoothing`].
    DoubleExponentialSmoothing {
        smoothing: f64,
        trend: f64,
    },
}

/// A factor of `double_exponential_smoothing` that is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InvalidFactor {
    Smoothing(f64),
    Trend(f64),
}

impl RangeFunction {
    /// `double_exponential_smoothing` with its factors checked.
    pub fn smoothing(smoothing: f64, trend: f64) -> Result<RangeFunction, InvalidFactor> {
        // Written so that a factor that is not a number passes, as it does in the reference.
        if smoothing <= 0.0 || smoothing >= 1.0 {
            return Err(InvalidFactor::Smoothing(smoothing));
        }
        if trend <= 0.0 || trend >= 1.0 {
            return Err(InvalidFactor::Trend(trend));
        }
        Ok(RangeFunction::DoubleExponentialSmoothing { smoothing, trend })
    }

    /// Computes the function over one window. A window without samples has no value.
    pub fn eval<H: HistogramSample>(self, w: &Window<'_, H>) -> Answer {
        use RangeFunction::*;
        if w.times.is_empty() && w.histograms.is_empty() {
            return Answer::default();
        }
        match self {
            Rate => rate::eval(w, RateKind::Rate),
            Increase => rate::eval(w, RateKind::Increase),
            Delta => rate::eval(w, RateKind::Delta),
            Irate => rate::instant(w, true),
            Idelta => rate::instant(w, false),
            SumOverTime => over_time::sum(w),
            AvgOverTime => over_time::avg(w),
            CountOverTime => Answer::float((w.values.len() + w.histograms.len()) as f64, Notes::NONE),
            PresentOverTime => Answer::float(1.0, Notes::NONE),
            LastOverTime => over_time::last(w),
            FirstOverTime => over_time::first(w),
            TsOfFirstOverTime => over_time::ts_of_first(w),
            TsOfLastOverTime => over_time::ts_of_last(w),
            Changes => compare::changes(w),
            Resets => compare::resets(w),
            Deriv => regression::deriv(w),
            PredictLinear(seconds) => regression::predict_linear(w, seconds),
            DoubleExponentialSmoothing { smoothing, trend } => regression::smooth(w, smoothing, trend),
            _ => self.eval_floats(w),
        }
    }

    /// Functions that only look at floats and say so where there are histograms too.
    fn eval_floats<H: HistogramSample>(self, w: &Window<'_, H>) -> Answer {
        use RangeFunction::*;
        if w.values.is_empty() {
            return Answer::default();
        }
        let mut notes = Notes::when(!w.histograms.is_empty(), Notes::HISTOGRAMS_IGNORED_IN_RANGE);
        let value = match self {
            MinOverTime => min_floats(w.values),
            MaxOverTime => max_floats(w.values),
            QuantileOverTime(q) => {
                notes |= crate::quantile::check(q);
                crate::quantile::quantile(q, &mut w.values.to_vec())
            }
            StddevOverTime => over_time::variance(w.values).sqrt(),
            StdvarOverTime => over_time::variance(w.values),
            MadOverTime => over_time::mad(w.values),
            TsOfMinOverTime => over_time::ts_of(w.times, w.values, |v, best| v <= best),
            TsOfMaxOverTime => over_time::ts_of(w.times, w.values, |v, best| v >= best),
            _ => return Answer::default(),
        };
        Answer::float(value, notes)
    }
}

/// Milliseconds as seconds, as Go's `Duration.Seconds` rounds them.
pub(crate) fn seconds(ms: i64) -> f64 {
    (ms / 1000) as f64 + ((ms % 1000) * 1_000_000) as f64 / 1e9
}

/// Whether the counter of a sample began after the sample before it, by their start times.
pub(crate) fn start_reset(previous: (i64, i64), current: (i64, i64)) -> bool {
    let ((previous_start, previous_time), (start, time)) = (previous, current);
    if start == 0 || start >= time || start < previous_time {
        return false;
    }
    // A start right at the previous sample: so it is with deltas, unless that sample's start is not known.
    start > previous_time
        || (previous_start <= previous_time && previous_start != 0 && previous_start != previous_time)
}

/// Whether a sample claims to have counted since before the sample before it, though not since that one's start.
pub(crate) fn start_overlap(previous: (i64, i64), start: i64) -> bool {
    start != 0 && start < previous.1 && start != previous.0
}

impl<H: HistogramSample> Window<'_, H> {
    /// (start time or 0, time) of a float.
    fn float_span(&self, i: usize) -> (i64, i64) {
        (self.starts.get(i).copied().unwrap_or(0), self.times[i])
    }

    /// (start time or 0, time) of a histogram.
    fn histogram_span(&self, i: usize) -> (i64, i64) {
        let h = &self.histograms[i];
        (if self.histogram_starts { h.start() } else { 0 }, h.time())
    }

    fn h(&self, i: usize) -> &FloatHistogram {
        self.histograms[i].histogram()
    }
}
