//! Was the counter behind a histogram reset since the sample before?

use super::custom::mismatched_reset;
use super::iter::{Reduced, Side};
use super::{CounterResetHint, FloatHistogram};

impl FloatHistogram {
    /// Whether going from `previous` to this histogram takes a reset: a hint says so, or else any count went
    /// down, a populated bucket vanished, the resolution rose, or the zero bucket shrank. Gauges are treated as
    /// if they were counters; warning about that is the caller's.
    pub fn detect_reset(&self, previous: &FloatHistogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return mismatched_reset(self, previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        if !self.uses_custom_buckets() && previous.uses_custom_buckets() {
            return true;
        }
        let (previous_zero, threshold, _) = previous.zero_count_for(self.zero_threshold, None);
        if threshold != self.zero_threshold || self.zero_count < previous_zero {
            return true;
        }
        self.side_reset(previous, Side::Positive) || self.side_reset(previous, Side::Negative)
    }

    fn side_reset(&self, previous: &FloatHistogram, side: Side) -> bool {
        let mut now = Reduced::new(self, side, self.zero_threshold, self.schema).peekable();
        for (idx, before) in Reduced::new(previous, side, self.zero_threshold, self.schema) {
            while now.peek().is_some_and(|&(at, _)| at < idx) {
                now.next();
            }
            match now.peek() {
                // The reference looks no further than at the first bucket behind the current histogram's last: if
                // that one is empty, so it takes the others to be. Answers follow it.
                None => return before != 0.0,
                Some(&(at, count)) if at == idx && count < before => return true,
                Some(&(at, _)) if at != idx && before != 0.0 => return true,
                Some(_) => {}
            }
        }
        false
    }
}
