//! What one query has used, and whether it may go on.
//!
//! The clock is not read here: who has one sets the token when time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

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
        let _ = self.0.compare_exchange(RUNNING, CANCELED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The query's time is up.
    pub fn expire(&self) {
        let _ = self.0.compare_exchange(RUNNING, EXPIRED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Errors: the query is to stop.
    #[inline]
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Relaxed) {
            RUNNING => Ok(()),
            CANCELED => Err(Error::Canceled("expression evaluation")),
            _ => Err(Error::Timeout("expression evaluation")),
        }
    }
}

/// Figures of a query, for who asked and for the list of running ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Samples looked at, over all steps.
    pub samples_total: u64,
    /// The most samples held at one time.
    pub samples_peak: u64,
    pub series_total: u64,
}

/// The running account of one query.
#[derive(Debug)]
pub struct Account {
    token: Token,
    samples_max: usize,
    held: AtomicUsize,
    peak: AtomicUsize,
    samples_read: AtomicU64,
    series_read: AtomicU64,
}

impl Account {
    /// `samples_max` is also the budget of memory: a sample held costs 8 to 24 bytes.
    pub fn new(token: Token, samples_max: usize) -> Account {
        Account {
            token,
            samples_max,
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            samples_read: AtomicU64::new(0),
            series_read: AtomicU64::new(0),
        }
    }

    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Errors: the query is to stop.
    pub fn check(&self) -> Result<(), Error> {
        self.token.check()
    }

    /// Samples held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Samples that may still be held.
    pub fn room(&self) -> usize {
        self.samples_max.saturating_sub(self.held())
    }

    /// From now on `before` samples and `more` are held.
    ///
    /// Errors: that is more than the query may hold.
    pub fn hold(&self, before: usize, more: usize) -> Result<(), Error> {
        let held = before + more;
        self.held.store(held, Ordering::Relaxed);
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.samples_max { Err(Error::TooManySamples) } else { Ok(()) }
    }

    /// Notes samples looked at.
    pub fn read(&self, samples: u64, series: u64) {
        self.samples_read.fetch_add(samples, Ordering::Relaxed);
        self.series_read.fetch_add(series, Ordering::Relaxed);
    }

    pub fn statistics(&self) -> Statistics {
        Statistics {
            samples_total: self.samples_read.load(Ordering::Relaxed),
            samples_peak: self.peak.load(Ordering::Relaxed) as u64,
            series_total: self.series_read.load(Ordering::Relaxed),
        }
    }
}
