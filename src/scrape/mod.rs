//! Scraping: on each shard, the loops that fetch the pages of its targets and make rows of them.
//!
//! In: jobs (a configuration and the targets that discovery found), the pulse. Out: batches for the shards, and what
//! there is to say about each target.
//! Owns: its targets' connections, held pages (of large ones only what their series are) and slots.
//! Runs on: shards; only `job` and `target` on any thread.
//! Invariant: a page is stored whole or not at all (families are, where a job keeps what came before its deadline); what a target showed last is marked stale when it stops.
//! Read as they come are pages of 4 MiB and more, of any form, packed or not, converted or not. Held whole are: pages of
//! jobs that keep what came before a deadline (the last family is taken back), and of OpenMetrics where zeros are written
//! for counters that began (the lines that say when may stand anywhere); of protobuf a family of up to a MiB, one that
//! does not begin with its name, and any where type and unit are labels (the unit stands behind the metrics).
//! Never: discovers targets, knows where batches go, reads a clock but the pulse's.

pub mod job; // a configuration and its targets, ready to be dealt to the shards
pub mod target; // one target: labels, address, schedule

pub mod content; // what to ask for, and what came
pub mod histograms; // native histograms within the job's limits
pub mod intake; // pages to rows: the held page, slots, staleness, limits
pub mod labels; // a sample's labels beside its target's
pub mod partial; // what of a page that was cut off is kept
pub mod reading; // how what came is read
pub mod report; // up and its siblings
pub mod schedule; // when to scrape, and with which timestamp

pub mod client; // one target's page over its connection
pub mod failure_log; // fetches that failed, in a file
pub mod incoming; // a page that comes in pieces
pub mod inflate; // a packed body, unpacked as it comes
pub mod scrape_loop; // one target's life
pub mod scraper; // all loops of a shard
pub mod status; // what the API tells of a target

pub use job::Job;
pub use reading::Features;
pub use scraper::{Scraper, Settings};
pub use status::{Health, TargetStatus};
pub use target::Target;

use model::{ShardId, Timestamp};

use crate::shard::budget::{Refusal, Room};
use crate::shard::commons::Bounds;
use crate::shard::record::SourceId;

/// Where rows go: the wiring gives each shard its own.
pub trait Sink {
    fn shard_count(&self) -> u16;

    /// A source id that was never used before.
    fn new_source(&self) -> SourceId;

    /// Changes whenever some shard refused a batch: rows say only what changed, so every source then begins anew.
    fn generation(&self) -> u64;

    /// Which times are taken of a page that was asked for at `now`.
    fn bounds(&self, now: Timestamp) -> Bounds;

    /// How much room there is for new series.
    fn room(&self) -> Room;

    /// New series of a page were refused at `now`.
    fn note_refusal(&self, refusal: Refusal, now: Timestamp);

    /// Batches wait for their shard's log: who has many more to hand on should wait, too.
    fn has_backlog(&self) -> bool;

    /// Hands on a batch of a source that began in `generation`. False when it is already known to be refused.
    fn deliver(&self, generation: u64, shard: ShardId, batch: &[u8]) -> bool;
}

/// Why a scrape failed; its text is the target's `lastError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The page did not come: connection, status, time.
    #[error("{0}")]
    Fetch(String),
    /// The page came in a form we do not read.
    #[error("{0}")]
    Content(String),
    /// The body was larger than `body_size_limit`.
    #[error("body size limit exceeded")]
    BodyLimit,
    /// The page is malformed, or a series of it is not acceptable.
    #[error("{0}")]
    Page(String),
    /// More samples than `sample_limit` after relabeling.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// A sample with its own timestamp is older than what is taken out of order.
    #[error("too old sample")]
    TooOld,
    /// A native histogram with more buckets than `native_histogram_bucket_limit` that cannot be made coarser.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// A label limit.
    #[error("{0}")]
    LabelLimit(String),
    /// The job has too many targets: nothing was asked.
    #[error("{0}")]
    TargetLimit(String),
}
