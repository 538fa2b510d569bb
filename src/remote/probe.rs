//! Counters of remote write on one shard.

use std::cell::Cell;

use crate::shard::head::side::Refusal;

/// Samples refused, by why.
#[derive(Default)]
pub struct Judgments {
    pub out_of_order: Cell<u64>,
    pub too_old: Cell<u64>,
    pub out_of_bounds: Cell<u64>,
    /// Too far in the future.
    pub too_far: Cell<u64>,
    pub duplicates: Cell<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct JudgedCounts {
    pub out_of_order: u64,
    pub too_old: u64,
    pub out_of_bounds: u64,
    pub too_far: u64,
    pub duplicates: u64,
}

impl Judgments {
    pub fn note(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::OutOfOrder => &self.out_of_order,
            Refusal::TooOld => &self.too_old,
            Refusal::OutOfBounds => &self.out_of_bounds,
            Refusal::TooFar => &self.too_far,
            Refusal::Duplicate => &self.duplicates,
        };
        add(counter, 1);
    }

    fn counts(&self) -> JudgedCounts {
        JudgedCounts {
            out_of_order: self.out_of_order.get(),
            too_old: self.too_old.get(),
            out_of_bounds: self.out_of_bounds.get(),
            too_far: self.too_far.get(),
            duplicates: self.duplicates.get(),
        }
    }
}

/// Upper bounds, in seconds, of how late samples are: Prometheus's own.
pub const LATENESS: [f64; 7] = [600.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0];

/// How far behind the newest sample others came that were out of order, taken or not.
#[derive(Default)]
pub struct Lateness {
    buckets: [Cell<u64>; LATENESS.len()],
    count: Cell<u64>,
    seconds: Cell<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct LatenessCounts {
    pub buckets: [u64; LATENESS.len()],
    pub count: u64,
    pub seconds: f64,
}

impl Lateness {
    pub fn note(&self, delta_ms: i64) {
        if delta_ms <= 0 {
            return;
        }
        let seconds = delta_ms as f64 / 1000.0;
        for (bucket, bound) in self.buckets.iter().zip(LATENESS) {
            add(bucket, u64::from(seconds <= bound));
        }
        add(&self.count, 1);
        self.seconds.set(self.seconds.get() + seconds);
    }

    fn counts(&self) -> LatenessCounts {
        let mut buckets = [0; LATENESS.len()];
        buckets.iter_mut().zip(&self.buckets).for_each(|(to, from)| *to = from.get());
        LatenessCounts { buckets, count: self.count.get(), seconds: self.seconds.get() }
    }
}

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
    pub floats: Judgments,
    pub native: Judgments,
    pub lateness: Lateness,
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
    pub floats: JudgedCounts,
    /// Of native histograms.
    pub native: JudgedCounts,
    pub lateness: LatenessCounts,
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
            floats: self.floats.counts(),
            native: self.native.counts(),
            lateness: self.lateness.counts(),
            busy: self.busy.get(),
            failed: self.failed.get(),
            highest_time: self.highest_time.get(),
            ..Figures::default()
        }
    }
}
