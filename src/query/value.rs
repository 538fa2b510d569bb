//! Answers: what a query gives to who asked.

use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::{Labels, Timestamp};

/// A sample's value.
#[derive(Clone, Debug)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A series with its samples, floats and histograms each ascending by time.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Labels,
    pub floats: Vec<(Timestamp, f64)>,
    pub histograms: Vec<(Timestamp, Arc<FloatHistogram>)>,
}

impl Series {
    /// Memory that the series takes, nearly.
    pub fn bytes(&self) -> usize {
        let histograms: usize = self.histograms.iter().map(|(_, h)| 16 + h.size_bytes()).sum();
        size_of::<Series>() + self.labels.bytes().len() + 16 * self.floats.len() + histograms
    }
}

/// One element of an instant vector.
#[derive(Clone, Debug)]
pub struct Element {
    pub labels: Labels,
    pub time: Timestamp,
    pub value: SampleValue,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Timestamp, f64),
    String(Timestamp, Arc<str>),
    Vector(Vec<Element>),
    Matrix(Vec<Series>),
}

impl Value {
    /// The word of the HTTP API (`resultType`).
    pub fn type_text(&self) -> &'static str {
        match self {
            Value::Scalar(..) => "scalar",
            Value::String(..) => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        }
    }
}
