//! What the API tells of a target: values that can leave the shard.

use std::sync::Arc;

use crate::scrape::Target;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    pub fn text(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// How the last scrape went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LastScrape {
    pub health: Health,
    /// Empty where it went well.
    pub error: String,
    /// Nanoseconds since the epoch; 0 before the first scrape.
    pub started_ns: i64,
    pub duration_seconds: f64,
    pub samples: u64,
}

#[derive(Clone, Debug)]
pub struct TargetStatus {
    pub job: String,
    pub target: Arc<Target>,
    pub last: LastScrape,
}

/// A family's metadata on one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMetadata {
    pub family: String,
    pub kind: &'static str,
    pub help: String,
    pub unit: String,
}

/// Counters of a shard's scraping, for its own metrics. They only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    pub scrapes: u64,
    pub failures: u64,
    pub samples: u64,
    pub missed_turns: u64,
    pub duplicates: u64,
    pub out_of_bounds: u64,
    /// Those of them that lie in the past.
    pub too_far_back: u64,
    /// Pages with a sample that is too old.
    pub too_old: u64,
    pub out_of_order: u64,
    pub body_limit: u64,
    pub sample_limit: u64,
    pub label_limits: u64,
    pub bucket_limit: u64,
}
