//! Sums and means of histograms, compensated bucket by bucket.

use crate::{Answer, Notes};
use model::{CounterResetHint, FloatHistogram};

/// What was seen beside the numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    reset: bool,
    not_reset: bool,
    reconciled: bool,
    incompatible: bool,
}

impl Seen {
    fn hint(&mut self, h: &FloatHistogram) {
        self.reset |= h.counter_reset_hint == CounterResetHint::Reset;
        self.not_reset |= h.counter_reset_hint == CounterResetHint::NotReset;
    }

    fn merge(&mut self, other: Seen) {
        self.reset |= other.reset;
        self.not_reset |= other.not_reset;
        self.reconciled |= other.reconciled;
        self.incompatible |= other.incompatible;
    }

    /// Adds with compensation; false if the histograms do not go together.
    fn add(
        &mut self,
        to: &mut FloatHistogram,
        h: &FloatHistogram,
        comp: &mut Option<FloatHistogram>,
    ) -> bool {
        match to.kahan_add(h, comp) {
            Ok(merged) => {
                self.reconciled |= merged.bounds_reconciled;
                true
            }
            Err(_) => {
                self.incompatible = true;
                false
            }
        }
    }

    fn answer(self, value: FloatHistogram) -> Answer {
        let reconciled = Notes::when(self.reconciled, Notes::BOUNDS_RECONCILED_AGGREGATION);
        if self.incompatible {
            return Answer::none(reconciled | Notes::MIXED_EXPONENTIAL_CUSTOM);
        }
        let collided = Notes::when(self.reset && self.not_reset, Notes::RESET_COLLISION_AGGREGATION);
        Answer::histogram(value, reconciled | collided)
    }
}

/// A compensated sum of histograms.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    sum: FloatHistogram,
    comp: Option<FloatHistogram>,
    seen: Seen,
}

impl HistogramSum {
    pub fn new(first: &FloatHistogram) -> HistogramSum {
        let mut seen = Seen::default();
        seen.hint(first);
        HistogramSum { sum: first.clone(), comp: None, seen }
    }

    pub fn add(&mut self, h: &FloatHistogram) {
        if !self.seen.incompatible {
            self.seen.hint(h);
            self.seen.add(&mut self.sum, h, &mut self.comp);
        }
    }

    /// Takes in the sum of other histograms, with its compensation.
    pub fn merge(&mut self, other: HistogramSum) {
        for part in [Some(&other.sum), other.comp.as_ref()].into_iter().flatten() {
            if !self.seen.incompatible {
                self.seen.add(&mut self.sum, part, &mut self.comp);
            }
        }
        self.seen.merge(other.seen);
    }

    /// The sum, with such empty buckets as there are.
    pub fn finish(mut self) -> Answer {
        if let Some(comp) = &self.comp {
            // Layouts and kinds are the same by now.
            self.seen.incompatible |= self.sum.add(comp).is_err();
        }
        self.seen.answer(self.sum)
    }

    /// The sum without empty buckets.
    pub fn finish_compact(self) -> Answer {
        compacted(self.finish())
    }
}

/// A compensated mean of histograms: of the sum while nothing in it overflows, incremental from there on.
#[derive(Clone, Debug)]
pub struct HistogramAvg {
    /// The sum, or the mean once incremental.
    value: FloatHistogram,
    comp: Option<FloatHistogram>,
    count: f64,
    incremental: bool,
    seen: Seen,
}

impl HistogramAvg {
    pub fn new(first: &FloatHistogram) -> HistogramAvg {
        let mut seen = Seen::default();
        seen.hint(first);
        HistogramAvg { value: first.clone(), comp: None, count: 1.0, incremental: false, seen }
    }

    pub fn add(&mut self, h: &FloatHistogram) {
        if self.seen.incompatible {
            return;
        }
        self.seen.hint(h);
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.value.clone();
            let mut comp = self.comp.clone();
            if !self.seen.add(&mut sum, h, &mut comp) {
                return;
            }
            if !sum.has_overflow() {
                (self.value, self.comp) = (sum, comp);
                return;
            }
            self.turn_incremental(self.count - 1.0);
        }
        let q = (self.count - 1.0) / self.count;
        self.scale(q);
        let mut part = h.clone();
        part.div(self.count);
        self.seen.add(&mut self.value, &part, &mut self.comp);
    }

    fn turn_incremental(&mut self, count: f64) {
        self.incremental = true;
        self.value.div(count);
        if let Some(comp) = &mut self.comp {
            comp.div(count);
        }
    }

    fn scale(&mut self, factor: f64) {
        self.value.mul(factor);
        if let Some(comp) = &mut self.comp {
            comp.mul(factor);
        }
    }

    /// Takes in the mean of other histograms.
    pub fn merge(&mut self, mut other: HistogramAvg) {
        let count = self.count + other.count;
        if !self.seen.incompatible && !other.seen.incompatible {
            if !self.incremental && !other.incremental && self.merge_sums(&other) {
                self.count = count;
                self.seen.merge(other.seen);
                return;
            }
            for side in [&mut *self, &mut other] {
                if !side.incremental {
                    side.turn_incremental(side.count);
                }
            }
            self.scale(self.count / count);
            other.scale(other.count / count);
            for part in [Some(&other.value), other.comp.as_ref()].into_iter().flatten() {
                self.seen.add(&mut self.value, part, &mut self.comp);
            }
        }
        self.count = count;
        self.seen.merge(other.seen);
    }

    fn merge_sums(&mut self, other: &HistogramAvg) -> bool {
        let mut sum = self.value.clone();
        let mut comp = self.comp.clone();
        for part in [Some(&other.value), other.comp.as_ref()].into_iter().flatten() {
            if !self.seen.add(&mut sum, part, &mut comp) {
                return true;
            }
        }
        if sum.has_overflow() {
            return false;
        }
        (self.value, self.comp) = (sum, comp);
        true
    }

    /// The mean, with such empty buckets as there are.
    pub fn finish(mut self) -> Answer {
        if !self.incremental {
            self.value.div(self.count);
            if let Some(comp) = &mut self.comp {
                comp.div(self.count);
            }
        }
        if let Some(comp) = &self.comp {
            // Layouts and kinds are the same by now.
            self.seen.incompatible |= self.value.add(comp).is_err();
        }
        self.seen.answer(self.value)
    }

    /// The mean without empty buckets.
    pub fn finish_compact(self) -> Answer {
        compacted(self.finish())
    }
}

fn compacted(mut answer: Answer) -> Answer {
    if let Some(crate::Value::Histogram(h)) = &mut answer.value {
        h.compact(0);
    }
    answer
}
