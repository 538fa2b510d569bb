//! A sample of either kind, as chunks and logs hold it.

use model::{FloatHistogram, Histogram, Timestamp, is_stale};

#[derive(Clone, Debug)]
pub enum Value {
    Float(f64),
    Histogram(Box<Histogram>),
    FloatHistogram(Box<FloatHistogram>),
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub time: Timestamp,
    /// When the counter began; 0 where not known.
    pub start: Timestamp,
    pub value: Value,
}

impl Sample {
    pub fn float(time: Timestamp, value: f64) -> Sample {
        Sample { time, start: 0, value: Value::Float(value) }
    }

    /// Whether the series ended here.
    pub fn is_stale(&self) -> bool {
        match &self.value {
            Value::Float(v) => is_stale(*v),
            Value::Histogram(h) => h.is_stale(),
            Value::FloatHistogram(h) => h.is_stale(),
        }
    }
}

/// Puts samples in order of time; of several for one time the first one given stays.
pub fn merge(samples: &mut Vec<Sample>) {
    if !samples.is_sorted_by(|a, b| a.time < b.time) {
        samples.sort_by_key(|s| s.time);
        samples.dedup_by_key(|s| s.time);
    }
}
