//! Counters of remote write on one shard.

use std::cell::Cell;

#[derive(Default)]
pub struct Probe {
    pub requests: Cell<u64>,
    pub samples: Cell<u64>,
    pub histograms: Cell<u64>,
    pub exemplars: Cell<u64>,
    pub body_bytes: Cell<u64>,
    /// Bodies that are not snappy, or not the protocol.
    pub malformed: Cell<u64>,
    pub invalid_labels: Cell<u64>,
    pub out_of_order: Cell<u64>,
    pub out_of_bounds: Cell<u64>,
    pub duplicates: Cell<u64>,
    /// Requests put off: the log or the disk was full.
    pub busy: Cell<u64>,
    pub failed: Cell<u64>,
    pub highest_time: Cell<i64>,
}

/// The same as values that can leave the shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub requests: u64,
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
    pub body_bytes: u64,
    pub malformed: u64,
    pub invalid_labels: u64,
    pub out_of_order: u64,
    pub out_of_bounds: u64,
    pub duplicates: u64,
    pub busy: u64,
    pub failed: u64,
    pub highest_time: i64,
    pub known_series: u64,
    pub known_bytes: u64,
    pub look_ups: u64,
}

pub fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

impl Probe {
    pub fn figures(&self) -> Figures {
        Figures {
            requests: self.requests.get(),
            samples: self.samples.get(),
            histograms: self.histograms.get(),
            exemplars: self.exemplars.get(),
            body_bytes: self.body_bytes.get(),
            malformed: self.malformed.get(),
            invalid_labels: self.invalid_labels.get(),
            out_of_order: self.out_of_order.get(),
            out_of_bounds: self.out_of_bounds.get(),
            duplicates: self.duplicates.get(),
            busy: self.busy.get(),
            failed: self.failed.get(),
            highest_time: self.highest_time.get(),
            ..Figures::default()
        }
    }
}
