//! What one query has used, and whether it may go on.
//!
//! The clock is not read here: who has one sets the token when time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::query::Error;

/// Tells a running query to stop. Cheap to clone and to look at.
#[derive(Clone, Debug, Default)]
pub struct Token(Arc<AtomicU8>);

const RUNNING: u8 = 0;
const CANCELED: u8 = 1;
const EXPIRED: u8 = 2;

impl Token {
    /// Nobody wants the answer any more.
    pub fn cancel(&self) {
        let _ = self.0.compare_exchange(RUNNING, CANCELED, Relaxed, Relaxed);
    }

    /// The query's time is up.
    pub fn expire(&self) {
        let _ = self.0.compare_exchange(RUNNING, EXPIRED, Relaxed, Relaxed);
    }

    /// Errors: the query is to stop.
    #[inline]
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Relaxed) {
            RUNNING => Ok(()),
            CANCELED => Err(Error::Canceled("expression evaluation")),
            _ => Err(Error::Timeout("expression evaluation")),
        }
    }
}

/// Samples as Prometheus counts them: those that came into the evaluation, each as often as a step saw it, and those
/// that were read for it, which a range that slides reads once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub seen: u64,
    pub read: u64,
    /// The same for each step; empty where nobody asked.
    pub by_step: Vec<(u64, u64)>,
}

impl Load {
    /// A load of nothing yet; with steps where they are counted.
    pub fn new(step_count: usize, is_by_step: bool) -> Load {
        let by_step = if is_by_step { vec![(0, 0); step_count] } else { Vec::new() };
        Load { seen: 0, read: 0, by_step }
    }

    #[inline]
    pub fn add(&mut self, step: usize, seen: u64, read: u64) {
        self.seen += seen;
        self.read += read;
        if let Some(at) = self.by_step.get_mut(step) {
            at.0 += seen;
            at.1 += read;
        }
    }

    pub fn merge(&mut self, other: &Load) {
        self.merge_at(0, other);
    }

    /// Adds a load whose first step is the `at`-th here.
    pub fn merge_at(&mut self, at: usize, other: &Load) {
        self.seen += other.seen;
        self.read += other.read;
        for (mine, theirs) in self.by_step.iter_mut().skip(at).zip(&other.by_step) {
            mine.0 += theirs.0;
            mine.1 += theirs.1;
        }
    }
}

/// Figures of an answered query, for who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub load: Load,
    /// The most samples held at one time.
    pub samples_peak: u64,
}

/// How far a query has come, for the list of those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Series that were selected so far, and how many of them are done with.
    pub series_selected: u64,
    pub series_read: u64,
    pub samples_read: u64,
    pub samples_peak: u64,
    pub bytes: u64,
    pub bytes_peak: u64,
}

/// What a query uses while all who work for it do so, on several shards.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_max: usize,
    /// What results hold, and what fragments under way do.
    held: AtomicUsize,
    growing: AtomicUsize,
    peak: AtomicUsize,
    series_selected: AtomicU64,
    series_read: AtomicU64,
    samples_read: AtomicU64,
}

impl Meter {
    pub fn new(bytes_max: usize) -> Meter {
        Meter { bytes_max, ..Meter::default() }
    }

    /// A fragment is about to read so many series.
    pub fn select(&self, series: u64) {
        self.series_selected.fetch_add(series, Relaxed);
    }

    /// A fragment has done a turn's work and holds so many bytes more.
    ///
    /// Errors: that is more than the query may hold.
    pub fn turn(&self, series: u64, samples: u64, bytes: usize) -> Result<(), Error> {
        self.series_read.fetch_add(series, Relaxed);
        self.samples_read.fetch_add(samples, Relaxed);
        let growing = self.growing.fetch_add(bytes, Relaxed) + bytes;
        self.check(self.held.load(Relaxed) + growing)
    }

    /// All fragments have answered: what they held is a result's now.
    pub fn settle(&self) {
        self.growing.store(0, Relaxed);
    }

    fn hold(&self, bytes: usize) -> Result<(), Error> {
        self.held.store(bytes, Relaxed);
        self.check(bytes + self.growing.load(Relaxed))
    }

    fn check(&self, bytes: usize) -> Result<(), Error> {
        self.peak.fetch_max(bytes, Relaxed);
        if bytes > self.bytes_max { Err(Error::TooManyBytes(self.bytes_max)) } else { Ok(()) }
    }
}

/// What results are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub samples: usize,
    pub bytes: usize,
}

/// The running account of one query.
#[derive(Debug)]
pub struct Account {
    token: Token,
    samples_max: usize,
    held: AtomicUsize,
    peak: AtomicUsize,
    meter: Arc<Meter>,
}

impl Account {
    pub fn new(token: Token, samples_max: usize, bytes_max: usize) -> Account {
        Account {
            token,
            samples_max,
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            meter: Arc::new(Meter::new(bytes_max)),
        }
    }

    pub fn token(&self) -> &Token {
        &self.token
    }

    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Errors: the query is to stop.
    pub fn check(&self) -> Result<(), Error> {
        self.token.check()
    }

    /// What is held now.
    pub fn held(&self) -> Held {
        Held { samples: self.held.load(Relaxed), bytes: self.meter.held.load(Relaxed) }
    }

    /// Samples that may still be held.
    pub fn room(&self) -> usize {
        self.samples_max.saturating_sub(self.held().samples)
    }

    /// From now on `before` and `more` are held.
    ///
    /// Errors: that is more than the query may hold.
    pub fn hold(&self, before: Held, more: Held) -> Result<(), Error> {
        let held = before.samples + more.samples;
        self.held.store(held, Relaxed);
        self.peak.fetch_max(held, Relaxed);
        self.meter.hold(before.bytes + more.bytes)?;
        if held > self.samples_max { Err(Error::TooManySamples) } else { Ok(()) }
    }

    pub fn samples_peak(&self) -> u64 {
        self.peak.load(Relaxed) as u64
    }

    pub fn progress(&self) -> Progress {
        let m = &self.meter;
        Progress {
            series_selected: m.series_selected.load(Relaxed),
            series_read: m.series_read.load(Relaxed),
            samples_read: m.samples_read.load(Relaxed),
            samples_peak: self.samples_peak(),
            bytes: (m.held.load(Relaxed) + m.growing.load(Relaxed)) as u64,
            bytes_peak: m.peak.load(Relaxed) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_results_and_of_fragments_under_way_are_one_budget() {
        let account = Account::new(Token::default(), 10, 100);
        assert_eq!(account.hold(Held::default(), Held { samples: 3, bytes: 60 }), Ok(()));
        account.meter().select(5);
        assert_eq!(account.meter().turn(2, 4, 40), Ok(()));
        assert_eq!(account.meter().turn(1, 4, 1), Err(Error::TooManyBytes(100)));
        let p = account.progress();
        assert_eq!((p.series_selected, p.series_read, p.samples_read, p.bytes), (5, 3, 8, 101));
        account.meter().settle();
        assert_eq!(account.progress().bytes, 60);
        let more = Held { samples: 8, bytes: 1 };
        assert_eq!(account.hold(account.held(), more), Err(Error::TooManySamples));
        assert_eq!(account.progress().bytes_peak, 101);
    }

    #[test]
    fn loads_are_counted_by_step_where_that_is_asked() {
        let (mut a, mut b) = (Load::new(2, true), Load::new(2, false));
        a.add(1, 5, 2);
        b.add(1, 1, 1);
        a.merge(&b);
        assert_eq!(a, Load { seen: 6, read: 3, by_step: vec![(0, 0), (5, 2)] });
        assert!(b.by_step.is_empty());
    }
}
