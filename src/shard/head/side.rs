//! Samples of one series that fit no row: explicit timestamps, histograms, what arrives out of order.

use model::Timestamp;

use crate::shard::select::HistogramPoint;

#[derive(Default)]
pub(in crate::shard) struct SideBuffer {
    pub(in crate::shard) times: Vec<Timestamp>,
    pub(in crate::shard) values: Vec<f64>,
    /// Empty until a start timestamp is known, then as long as `times`.
    pub(in crate::shard) starts: Vec<Timestamp>,
    pub(in crate::shard) histograms: Vec<HistogramPoint>,
}

/// Why a sample was not taken.
///
/// The texts are Prometheus's; that of a duplicate is completed by who knows both values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("out of order sample")]
    OutOfOrder,
    #[error("duplicate sample for timestamp")]
    Duplicate,
    #[error("out of bounds")]
    OutOfBounds,
    #[error("out of bounds: timestamp is too far in the future")]
    TooFar,
}

impl SideBuffer {
    pub(in crate::shard) fn last_time(&self) -> Option<Timestamp> {
        let float = self.times.last().copied();
        let histogram = self.histograms.last().map(|h| h.time);
        float.max(histogram)
    }

    /// Appends a float newer than everything held; the same sample again is taken silently.
    pub(in crate::shard) fn append_float(
        &mut self,
        time: Timestamp,
        start: Timestamp,
        value: f64,
    ) -> Result<(), Refusal> {
        match self.last_time() {
            Some(last) if time < last => return Err(Refusal::OutOfOrder),
            Some(last) if time == last => {
                let same = self.times.last() == Some(&time)
                    && self.values.last().is_some_and(|v| v.to_bits() == value.to_bits());
                return if same { Ok(()) } else { Err(Refusal::Duplicate) };
            }
            _ => {}
        }
        if start != 0 && self.starts.is_empty() {
            self.starts = vec![0; self.times.len()];
        }
        if start != 0 || !self.starts.is_empty() {
            self.starts.push(start);
        }
        self.times.push(time);
        self.values.push(value);
        Ok(())
    }

    pub(in crate::shard) fn append_histogram(&mut self, point: HistogramPoint) -> Result<(), Refusal> {
        match self.last_time() {
            Some(last) if point.time < last => return Err(Refusal::OutOfOrder),
            Some(last) if point.time == last => {
                let same = self
                    .histograms
                    .last()
                    .is_some_and(|h| h.time == point.time && h.histogram.equals(&point.histogram));
                return if same { Ok(()) } else { Err(Refusal::Duplicate) };
            }
            _ => {}
        }
        self.histograms.push(point);
        Ok(())
    }
}
