//! What the front asks of the house: one trait object at the rim, made by the wiring.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use model::{Labels, Matcher, Timestamp};

use crate::api::doorway::Caller;
use crate::api::error::ApiError;
use crate::push::gateway::Gateway;
use crate::push::{self, otlp};
use crate::query::account::Progress;
use crate::query::plan::physical::MaxResolution;
use crate::query::value::Value;
use crate::remote::{self, Protocol, Terms};

pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

/// A question as the API poses it.
#[derive(Clone, Debug)]
pub struct Question {
    pub text: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 for an instant query.
    pub step: i64,
    pub timeout: Option<Duration>,
    pub lookback_ms: Option<i64>,
    /// How coarse aggregates may be; `None` where nothing is said.
    pub max_resolution: Option<MaxResolution>,
    pub stats: Stats,
    pub origin: Origin,
}

/// Who asks, for the log of queries.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The peer's address, empty where it is not known.
    pub client: String,
    pub method: String,
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stats {
    None,
    Basic,
    /// Per step too.
    All,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    /// The `stats` object as JSON, where it was asked for.
    pub stats: Option<String>,
}

/// A query under way.
#[derive(Clone, Debug)]
pub struct RunningQuery {
    pub id: u64,
    pub text: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 for an instant query.
    pub step: i64,
    pub is_waiting: bool,
    pub elapsed: Duration,
    pub progress: Progress,
}

/// Which series a metadata question is about: any of the selectors, within a time range (inclusive).
#[derive(Clone, Debug)]
pub struct Scope {
    pub selectors: Vec<Vec<Matcher>>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Results wanted at most; 0 for all.
    pub limit: usize,
}

/// Newest samples of series for `/federate`.
#[derive(Clone, Debug)]
pub struct FederatedSample {
    pub labels: Labels,
    pub time: Timestamp,
    pub value: f64,
}

#[derive(Clone, Debug, Default)]
pub struct MetadataEntry {
    pub metric: String,
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// What a target says of a family.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    pub target: Labels,
    pub entry: MetadataEntry,
}

/// An exemplar of a series.
#[derive(Clone, Debug)]
pub struct Exemplar {
    pub labels: Labels,
    pub time: Timestamp,
    pub value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Unknown,
    Up,
    Down,
}

#[derive(Clone, Debug)]
pub struct ActiveTarget {
    pub discovered_labels: Labels,
    pub labels: Labels,
    pub scrape_pool: String,
    pub scrape_url: String,
    pub last_error: String,
    /// Wall clock in milliseconds; `None` before the first scrape.
    pub last_scrape: Option<Timestamp>,
    pub last_scrape_seconds: f64,
    pub health: Health,
    pub interval: String,
    pub timeout: String,
}

#[derive(Clone, Debug)]
pub struct DroppedTarget {
    pub discovered_labels: Labels,
    pub scrape_pool: String,
}

#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub active: Vec<ActiveTarget>,
    pub dropped: Vec<DroppedTarget>,
    pub dropped_counts: Vec<(String, usize)>,
}

/// What `/api/v1/status/runtimeinfo` says, beside what the front knows itself.
#[derive(Clone, Debug, Default)]
pub struct RuntimeInfo {
    pub start_ms: Timestamp,
    pub now_ms: Timestamp,
    pub working_directory: String,
    pub hostname: String,
    pub reload_succeeded: bool,
    pub last_config_ms: Timestamp,
    pub corruption_count: u64,
    pub shard_count: usize,
    pub storage_retention: String,
}

#[derive(Clone, Debug, Default)]
pub struct NamedCount {
    pub name: String,
    pub value: u64,
}

/// What `/api/v1/status/tsdb` says.
#[derive(Clone, Debug, Default)]
pub struct TsdbStatus {
    pub series_count: u64,
    pub label_pair_count: u64,
    pub chunk_count: u64,
    pub min_time: Option<Timestamp>,
    pub max_time: Option<Timestamp>,
    pub series_by_metric: Vec<NamedCount>,
    pub values_by_label: Vec<NamedCount>,
    pub bytes_by_label: Vec<NamedCount>,
    pub series_by_pair: Vec<NamedCount>,
}

/// What is done to the groups at the wall's time; returns the request that says it.
pub type GatewayChange<'c> = &'c mut dyn FnMut(&mut Gateway, Timestamp) -> Result<Vec<u8>, push::Error>;

/// A place in a file that does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageStatus {
    pub shard: usize,
    pub path: String,
    pub offset: u64,
    pub what: String,
}

/// Which snapshot is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotWish {
    /// Also what is in no block yet.
    pub with_head: bool,
    /// As blocks of Prometheus rather than a data directory of ours.
    pub for_prometheus: bool,
}

/// What all shards have of one range of time, as `/api/v1/status/tsdb/blocks` lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStatus {
    pub ulid: String,
    /// `min_time <= t < max_time`.
    pub min_time: Timestamp,
    pub max_time: Timestamp,
    pub level: u32,
    /// The selector of its retention class; empty for none.
    pub class: String,
    /// Length of its windows in ms, where it has aggregates; 0 where it has samples.
    pub resolution_ms: i64,
    pub float_count: u64,
    pub histogram_count: u64,
    pub series_count: u64,
    pub chunk_count: u64,
    /// Spans of time that were deleted of its series.
    pub tombstone_count: u64,
}

pub trait Backend: Send + Sync + 'static {
    fn now_ms(&self) -> Timestamp;
    fn is_ready(&self) -> bool;
    fn is_stopping(&self) -> bool;

    /// Whether a shard would take a sender's connection now.
    fn takes_callers(&self) -> bool {
        false
    }

    /// Gives a connection that begins with remote write to a shard. Asked only where [`Backend::takes_callers`].
    fn take_caller(&self, caller: Caller) {
        drop(caller);
    }

    fn query(&self, question: Question) -> Reply<Answer>;
    /// What of the query language is switched on.
    fn language(&self) -> promql::Options;
    /// Queries that run and those that wait for their turn, oldest first.
    fn running_queries(&self) -> Vec<RunningQuery>;
    /// False where no query of this id is under way.
    fn cancel_query(&self, id: u64) -> bool;
    fn series(&self, scope: Scope) -> Reply<Vec<Labels>>;
    fn label_names(&self, scope: Scope) -> Reply<Vec<String>>;
    fn label_values(&self, name: String, scope: Scope) -> Reply<Vec<String>>;
    fn federate(&self, scope: Scope) -> Reply<Vec<FederatedSample>>;
    fn metadata(&self) -> Reply<Vec<MetadataEntry>>;
    /// The same with the target of each.
    fn target_metadata(&self) -> Reply<Vec<TargetMetadata>>;
    /// Exemplars of the series in a scope with the labels of their series, each series' in the order they came.
    fn exemplars(&self, scope: Scope) -> Reply<Vec<(Labels, Exemplar)>>;
    fn targets(&self) -> Reply<Targets>;
    fn tsdb_status(&self, limit: usize) -> Reply<TsdbStatus>;
    /// Ascending by their times.
    fn tsdb_blocks(&self) -> Reply<Vec<BlockStatus>>;
    /// What of the stored data was found damaged, shard by shard.
    fn damage(&self) -> Reply<Vec<DamageStatus>>;
    /// Takes a remote write body that came by a connection of this number.
    fn write(&self, protocol: Protocol, body: Bytes, connection: u64) -> Reply<remote::Answer>;
    /// Takes a request that another way of pushing was rewritten as: remote write 1.0, not packed.
    fn write_plain(&self, terms: Terms, body: Vec<u8>, connection: u64) -> Reply<remote::Answer>;
    /// Waits until what was imported before, and is older than the heads take, is durable in blocks.
    fn settle_imports(&self) -> Reply<()>;
    /// Runs `change` on the groups that were pushed and stay, with the wall's time.
    fn with_gateway(&self, change: GatewayChange<'_>) -> Result<Vec<u8>, push::Error>;
    /// How OTLP is translated, by the configuration that holds now.
    fn otlp_settings(&self) -> Arc<otlp::Settings>;

    /// Totals of streams that tell only what came since their last point.
    fn otlp_totals(&self) -> Arc<Mutex<otlp::Totals>>;
    /// Counts what was odd about requests of OTLP.
    fn note_otlp(&self, warnings: &otlp::Warnings);
    /// Counts exemplars of OTLP that were left out because their series has newer ones.
    fn note_late_exemplars(&self, count: u64);
    /// The page for `/metrics`, text format 0.0.4.
    fn metrics(&self) -> Reply<String>;

    /// Deletes what the series that all matchers accept have now between two times (inclusive), durably.
    fn delete_series(&self, matchers: Vec<Matcher>, start: Timestamp, end: Timestamp) -> Reply<()>;
    /// Writes again what still holds deleted samples.
    fn clean_tombstones(&self) -> Reply<()>;
    /// Makes a snapshot; says its name.
    fn snapshot(&self, wanted: SnapshotWish) -> Reply<String>;

    fn runtime_info(&self) -> RuntimeInfo;
    fn config_yaml(&self) -> String;
    fn scrape_pools(&self) -> Vec<String>;
    fn external_labels(&self) -> Vec<(String, String)>;
    fn flags(&self) -> Vec<(String, String)>;
    fn reload(self: Arc<Self>) -> Reply<()>;
    fn quit(&self) -> bool;
    /// Notes an answered request, for `prometheus_http_requests_total` and its duration.
    fn note_request(&self, handler: &'static str, status: u16, took: Duration, bytes: usize);
}
