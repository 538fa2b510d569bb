//! The appliance's own `/metrics`: Prometheus's names where the thing exists, `systole_shard_*` for what is ours.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::float_text::format_g;
use model::quote::quoted;

use crate::push::otlp::Warnings;
use crate::remote::probe::{Figures, LATENESS};
use crate::rt::TaskClass;
use crate::rt::counters::ShardReading;
use crate::scrape::status::Counters;
use crate::shard::exemplars::Exemplars;

/// Figures of one shard, as values that can leave it.
#[derive(Clone, Debug, Default)]
pub struct ShardFigures {
    pub series: u64,
    pub groups: u64,
    pub head_bytes: u64,
    pub page_bytes: u64,
    pub samples: u64,
    pub series_created: u64,
    pub out_of_order: u64,
    pub too_old: u64,
    pub late: u64,
    pub histograms_out_of_order: u64,
    pub histograms_too_old: u64,
    pub histograms_late: u64,
    pub duplicates: u64,
    pub refused_batches: u64,
    pub commits: u64,
    pub commit_bytes: u64,
    pub commit_seconds: f64,
    pub commit_seconds_max: f64,
    pub failed_commits: u64,
    pub checkpoints: u64,
    pub failed_checkpoints: u64,
    pub blocks: BlockFigures,
    /// Places in files that did not fit when the shard started.
    pub damage: u64,
    pub is_refusing: bool,
    pub min_time: Option<i64>,
    pub max_time: Option<i64>,
    pub targets: u64,
    pub scrape: Counters,
    pub exemplars: ExemplarFigures,
    pub remote: Figures,
}

/// What of a shard's figures is about its blocks.
#[derive(Clone, Debug, Default)]
pub struct BlockFigures {
    pub loaded: u64,
    pub bytes: u64,
    pub min_time: Option<i64>,
    /// Blocks cut from the head and blocks made of others: begun, made, failed.
    pub compactions_triggered: u64,
    pub compactions: u64,
    pub failed_compactions: u64,
    pub truncations: u64,
    pub series_removed: u64,
    pub downsamplings: u64,
    pub downsampled_samples: u64,
    pub failed_downsamplings: u64,
    pub time_retentions: u64,
    pub size_retentions: u64,
    pub cache_bytes: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub damage: u64,
    pub scrubs: u64,
    pub scrubbed_bytes: u64,
    pub deposited: u64,
    pub deposits_refused: u64,
    pub deposit_blocks: u64,
}

/// Upper bounds of request durations, Prometheus's own.
const DURATIONS: [f64; 9] = [0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];

/// Requests by handler and code. Handlers are a closed set of routes and codes are few, so it stays small.
#[derive(Default)]
pub struct Requests {
    by_handler: Mutex<BTreeMap<(&'static str, u16), Durations>>,
    /// Oddities of OTLP by [`OTLP_CATEGORIES`].
    otlp: [AtomicU64; OTLP_CATEGORIES.len()],
    late_exemplars: AtomicU64,
    dropped_deltas: AtomicU64,
}

const OTLP_CATEGORIES: [&str; 3] =
    ["empty_data_points", "histogram_zero_count_non_zero_sum", "label_name_collision"];

#[derive(Clone, Default)]
struct Durations {
    count: u64,
    seconds: f64,
    buckets: [u64; DURATIONS.len()],
    bytes: u64,
}

impl Requests {
    pub fn note(&self, handler: &'static str, status: u16, took: Duration, bytes: usize) {
        let mut map = self.by_handler.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let d = map.entry((handler, status)).or_default();
        let seconds = took.as_secs_f64();
        d.count += 1;
        d.seconds += seconds;
        d.bytes += bytes as u64;
        for (bucket, bound) in d.buckets.iter_mut().zip(DURATIONS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub fn note_otlp(&self, warnings: &Warnings) {
        let counts = [warnings.empty_data_points, warnings.zero_counts, warnings.label_name_collisions];
        for (counter, n) in self.otlp.iter().zip(counts).filter(|(_, n)| *n > 0) {
            counter.fetch_add(n, Relaxed);
        }
        self.dropped_deltas.fetch_add(warnings.dropped_deltas, Relaxed);
    }

    pub fn note_late_exemplars(&self, count: u64) {
        self.late_exemplars.fetch_add(count, Relaxed);
    }

    /// Writes the families of requests.
    pub fn push_to(&self, page: &mut Page) {
        let map = self.by_handler.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        page.family("prometheus_http_requests_total", "counter", "Counter of HTTP requests.");
        for ((handler, code), d) in &map {
            let labels = [("code", code.to_string()), ("handler", (*handler).to_owned())];
            page.sample("prometheus_http_requests_total", &labels, d.count as f64);
        }
        let mut by_handler: BTreeMap<&str, Durations> = BTreeMap::new();
        for ((handler, _), d) in &map {
            let sum = by_handler.entry(handler).or_default();
            sum.count += d.count;
            sum.seconds += d.seconds;
            sum.bytes += d.bytes;
            for (a, b) in sum.buckets.iter_mut().zip(d.buckets) {
                *a += b;
            }
        }
        let name = "prometheus_http_request_duration_seconds";
        page.family(name, "histogram", "Histogram of latencies for HTTP requests.");
        for (handler, d) in &by_handler {
            let handler = || ("handler", (*handler).to_owned());
            for (bound, n) in DURATIONS.iter().zip(d.buckets) {
                page.sample(&format!("{name}_bucket"), &[handler(), ("le", format_g(*bound))], n as f64);
            }
            page.sample(&format!("{name}_bucket"), &[handler(), ("le", "+Inf".into())], d.count as f64);
            page.sample(&format!("{name}_sum"), &[handler()], d.seconds);
            page.sample(&format!("{name}_count"), &[handler()], d.count as f64);
        }
        let name = "prometheus_api_otlp_translation_warnings_total";
        page.family(
            name,
            "counter",
            "Total number of warnings issued when translating OTLP metrics, by category.",
        );
        for (category, counter) in OTLP_CATEGORIES.iter().zip(&self.otlp) {
            page.sample(name, &[("category", (*category).to_owned())], counter.load(Relaxed) as f64);
        }
        for (name, help, counter) in [
            (
                "prometheus_api_otlp_out_of_order_exemplars_total",
                "Total number of received OTLP exemplars which were rejected because they were out of order.",
                &self.late_exemplars,
            ),
            (
                "systole_otlp_dropped_delta_points_total",
                "Delta points of OTLP that no total could take: older than their stream, or of another kind.",
                &self.dropped_deltas,
            ),
        ] {
            page.family(name, "counter", help);
            page.sample(name, &[], counter.load(Relaxed) as f64);
        }
    }
}

/// A page of the text format under construction.
#[derive(Default)]
pub struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: f64) {
        self.0.push_str(name);
        for (i, (n, v)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{n}={}", if i == 0 { "{" } else { "," }, quoted(v));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {}", format_g(value));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// The whole page.
pub struct Sources<'a> {
    pub shards: &'a [ShardFigures],
    pub readings: &'a [ShardReading],
    /// Families of requests, already written.
    pub requests: &'a str,
    pub reload_succeeded: bool,
    pub last_reload_seconds: f64,
    pub start_seconds: f64,
    pub is_ready: bool,
    /// 0 for no limit.
    pub series_max: u64,
    pub series_refused: u64,
    /// How often tombstones were cleaned, and for how many seconds in all.
    pub cleanups: (u64, f64),
}

pub fn page(s: &Sources<'_>) -> String {
    let mut p = Page::default();
    build_info(&mut p);
    head(&mut p, s.shards);
    p.single(
        "systole_head_series_max",
        "gauge",
        "Series in memory beyond which new ones are refused; 0 for no limit.",
        s.series_max as f64,
    );
    p.single(
        "systole_head_series_refused_total",
        "counter",
        "New series that were refused for want of room.",
        s.series_refused as f64,
    );
    cleanups(&mut p, s.cleanups);
    checkpoints(&mut p, s.shards);
    scrapes(&mut p, s.shards);
    remote_write(&mut p, s.shards);
    shards(&mut p, s.shards, s.readings);
    p.0.push_str(s.requests);
    let reloaded = f64::from(u8::from(s.reload_succeeded));
    p.single(
        "prometheus_config_last_reload_successful",
        "gauge",
        "Whether the last configuration reload attempt was successful.",
        reloaded,
    );
    p.single(
        "prometheus_config_last_reload_success_timestamp_seconds",
        "gauge",
        "Timestamp of the last successful configuration reload.",
        s.last_reload_seconds,
    );
    let ready = f64::from(u8::from(s.is_ready));
    p.single(
        "prometheus_ready",
        "gauge",
        "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
        ready,
    );
    process(&mut p, s.start_seconds);
    p.into_text()
}

fn cleanups(p: &mut Page, (count, seconds): (u64, f64)) {
    let name = "prometheus_tsdb_tombstone_cleanup_seconds";
    p.family(name, "histogram", "The time taken to recompact blocks to remove tombstones.");
    p.sample(&format!("{name}_bucket"), &[("le", "+Inf".into())], count as f64);
    p.sample(&format!("{name}_sum"), &[], seconds);
    p.sample(&format!("{name}_count"), &[], count as f64);
}

fn build_info(p: &mut Page) {
    let name = "prometheus_build_info";
    p.family(name, "gauge", "A metric with a constant '1' value labeled by version and revision.");
    let revision = concat!("systole-", env!("CARGO_PKG_VERSION")).to_owned();
    p.sample(name, &[("revision", revision), ("version", "3.14.0".to_owned())], 1.0);
}

fn sum(shards: &[ShardFigures], f: impl Fn(&ShardFigures) -> u64) -> f64 {
    shards.iter().map(f).sum::<u64>() as f64
}

fn head(p: &mut Page, shards: &[ShardFigures]) {
    let series = sum(shards, |s| s.series);
    p.single("prometheus_tsdb_head_series", "gauge", "Total number of series in the head block.", series);
    let created = sum(shards, |s| s.series_created);
    p.single(
        "prometheus_tsdb_head_series_created_total",
        "counter",
        "Total number of series created in the head",
        created,
    );
    let name = "prometheus_tsdb_head_samples_appended_total";
    p.family(name, "counter", "Total number of appended samples.");
    p.sample(name, &[("type", "float".into())], sum(shards, |s| s.samples));
    rejects(p, shards);
    let min = shards.iter().filter_map(|s| s.min_time).min();
    let max = shards.iter().filter_map(|s| s.max_time).max();
    if let (Some(min), Some(max)) = (min, max) {
        p.single(
            "prometheus_tsdb_head_min_time",
            "gauge",
            "Minimum time bound of the head block. The unit is decided by the library consumer.",
            min as f64,
        );
        p.single(
            "prometheus_tsdb_head_max_time",
            "gauge",
            "Maximum timestamp of the head block. The unit is decided by the library consumer.",
            max as f64,
        );
        p.single(
            "prometheus_tsdb_head_min_time_seconds",
            "gauge",
            "Minimum time bound of the head block.",
            min as f64 / 1e3,
        );
        p.single(
            "prometheus_tsdb_head_max_time_seconds",
            "gauge",
            "Maximum timestamp of the head block.",
            max as f64 / 1e3,
        );
    }
    let failed = sum(shards, |s| s.failed_commits);
    p.single(
        "prometheus_tsdb_wal_writes_failed_total",
        "counter",
        "Total number of write log writes that failed.",
        failed,
    );
}

/// Samples out of order: those that were taken, and those that were not, floats and histograms each.
fn rejects(p: &mut Page, shards: &[ShardFigures]) {
    let families: [(&str, &str, ByType); 4] = [
        (
            "prometheus_tsdb_out_of_order_samples_total",
            "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
            |s| {
                let (f, h) = (&s.remote.floats, &s.remote.native);
                let histograms = s.histograms_out_of_order;
                (s.out_of_order - histograms + f.out_of_order, histograms + h.out_of_order)
            },
        ),
        (
            "prometheus_tsdb_too_old_samples_total",
            "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
            |s| {
                let (f, h) = (&s.remote.floats, &s.remote.native);
                let histograms = s.histograms_too_old;
                (s.too_old - histograms + f.too_old + s.scrape.too_old, histograms + h.too_old)
            },
        ),
        (
            "prometheus_tsdb_out_of_bound_samples_total",
            "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
            |s| (s.scrape.too_far_back + s.remote.floats.out_of_bounds, s.remote.native.out_of_bounds),
        ),
        (
            "prometheus_tsdb_head_out_of_order_samples_appended_total",
            "Total number of appended out of order samples.",
            |s| (s.late - s.histograms_late, s.histograms_late),
        ),
    ];
    for (name, help, of) in families {
        p.family(name, "counter", help);
        p.sample(name, &[("type", "float".into())], sum(shards, |s| of(s).0));
        // As Prometheus, which shows a kind when there is something to count; of the first both.
        let histograms = sum(shards, |s| of(s).1);
        if histograms > 0.0 || name == families[0].0 {
            p.sample(name, &[("type", "histogram".into())], histograms);
        }
    }
    let name = "prometheus_tsdb_sample_ooo_delta";
    let help = "Delta in seconds by which a sample is considered out of order (reported regardless of OOO time window and whether sample is accepted or not).";
    p.family(name, "histogram", help);
    let all = || shards.iter().map(|s| &s.remote.lateness);
    let count = all().map(|l| l.count).sum::<u64>() as f64;
    let bucket = format!("{name}_bucket");
    for (i, bound) in LATENESS.iter().enumerate() {
        let below = all().map(|l| l.buckets[i]).sum::<u64>() as f64;
        p.sample(&bucket, &[("le", format_g(*bound))], below);
    }
    p.sample(&bucket, &[("le", "+Inf".into())], count);
    p.sample(&format!("{name}_sum"), &[], all().map(|l| l.seconds).sum());
    p.sample(&format!("{name}_count"), &[], count);
}

/// Samples of a shard: floats, histograms.
type ByType = fn(&ShardFigures) -> (u64, u64);

type OfBlocks = fn(&BlockFigures) -> u64;

/// Families of blocks: name, type, help.
const BLOCK_FAMILIES: [(&str, &str, &str, OfBlocks); 22] = [
    ("prometheus_tsdb_blocks_loaded", "gauge", "Number of currently loaded data blocks", |b| b.loaded),
    (
        "prometheus_tsdb_storage_blocks_bytes",
        "gauge",
        "The number of bytes that are currently used for local storage by all blocks.",
        |b| b.bytes,
    ),
    (
        "prometheus_tsdb_compactions_triggered_total",
        "counter",
        "Total number of triggered compactions for the partition.",
        |b| b.compactions_triggered,
    ),
    (
        "prometheus_tsdb_compactions_total",
        "counter",
        "Total number of compactions that were executed for the partition.",
        |b| b.compactions,
    ),
    (
        "prometheus_tsdb_compactions_failed_total",
        "counter",
        "Total number of compactions that failed for the partition.",
        |b| b.failed_compactions,
    ),
    (
        "prometheus_tsdb_head_truncations_total",
        "counter",
        "Total number of head truncations attempted.",
        |b| b.truncations,
    ),
    (
        "prometheus_tsdb_head_series_removed_total",
        "counter",
        "Total number of series removed in the head",
        |b| b.series_removed,
    ),
    (
        "prometheus_tsdb_time_retentions_total",
        "counter",
        "The number of times that blocks were deleted because the maximum time limit was exceeded.",
        |b| b.time_retentions,
    ),
    (
        "prometheus_tsdb_size_retentions_total",
        "counter",
        "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
        |b| b.size_retentions,
    ),
    (
        "systole_downsampled_blocks_total",
        "counter",
        "Blocks of aggregates that were made of samples or of other aggregates.",
        |b| b.downsamplings,
    ),
    ("systole_downsampled_samples_total", "counter", "Samples that aggregates were made of.", |b| {
        b.downsampled_samples
    }),
    ("systole_downsampling_failures_total", "counter", "How often aggregates could not be written.", |b| {
        b.failed_downsamplings
    }),
    ("systole_block_cache_bytes", "gauge", "Bytes read of blocks and kept.", |b| b.cache_bytes),
    ("systole_block_cache_hits_total", "counter", "Pieces of blocks found in the cache.", |b| b.cache_hits),
    ("systole_block_cache_misses_total", "counter", "Pieces of blocks that were not in the cache.", |b| {
        b.cache_misses
    }),
    (
        "systole_block_damages_total",
        "counter",
        "Places in block files that did not fit and were set aside.",
        |b| b.damage,
    ),
    (
        "systole_import_old_samples_total",
        "counter",
        "Imported samples that were older than the head takes, and went to blocks.",
        |b| b.deposited,
    ),
    (
        "systole_import_too_old_samples_total",
        "counter",
        "Imported samples that were refused: older than the retention time.",
        |b| b.deposits_refused,
    ),
    ("systole_import_blocks_total", "counter", "Blocks that were written of imported samples.", |b| {
        b.deposit_blocks
    }),
    ("systole_scrubs_total", "counter", "How often a shard read all its blocks again.", |b| b.scrubs),
    (
        "systole_scrubbed_bytes_total",
        "counter",
        "Bytes of blocks that were read again and held against their checksums.",
        |b| b.scrubbed_bytes,
    ),
    ("systole_shards_with_blocks", "gauge", "Shards that have blocks.", |b| u64::from(b.loaded > 0)),
];

fn blocks(p: &mut Page, shards: &[ShardFigures]) {
    for (name, kind, help, f) in BLOCK_FAMILIES {
        p.single(name, kind, help, shards.iter().map(|s| f(&s.blocks)).sum::<u64>() as f64);
    }
    let oldest = shards.iter().flat_map(|s| s.blocks.min_time.or(s.min_time)).min();
    if let Some(oldest) = oldest {
        p.single(
            "prometheus_tsdb_lowest_timestamp",
            "gauge",
            "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
            oldest as f64,
        );
        p.single(
            "prometheus_tsdb_lowest_timestamp_seconds",
            "gauge",
            "Lowest timestamp value stored in the database.",
            oldest as f64 / 1e3,
        );
    }
}

fn checkpoints(p: &mut Page, shards: &[ShardFigures]) {
    blocks(p, shards);
    for (name, help, f) in [
        (
            "prometheus_tsdb_checkpoint_creations_total",
            "Total number of checkpoint creations attempted.",
            (|s| s.checkpoints + s.failed_checkpoints) as fn(&ShardFigures) -> u64,
        ),
        (
            "prometheus_tsdb_checkpoint_creations_failed_total",
            "Total number of checkpoint creations that failed.",
            |s| s.failed_checkpoints,
        ),
        ("prometheus_tsdb_wal_corruptions_total", "Total number of WAL corruptions.", |s| s.damage),
    ] {
        p.single(name, "counter", help, sum(shards, f));
    }
}

fn scrapes(p: &mut Page, shards: &[ShardFigures]) {
    for (name, help, f) in [
        (
            "prometheus_target_scrapes_exceeded_body_size_limit_total",
            "Total number of scrapes that hit the body size limit",
            (|s| s.scrape.body_limit) as fn(&ShardFigures) -> u64,
        ),
        (
            "prometheus_target_scrapes_exceeded_sample_limit_total",
            "Total number of scrapes that hit the sample limit and were rejected.",
            |s| s.scrape.sample_limit,
        ),
        (
            "prometheus_target_scrapes_sample_duplicate_timestamp_total",
            "Total number of samples rejected due to duplicate timestamps but different values.",
            |s| s.scrape.duplicates,
        ),
        (
            "prometheus_target_scrapes_sample_out_of_bounds_total",
            "Total number of samples rejected due to timestamp falling outside of the time bounds.",
            |s| s.scrape.out_of_bounds,
        ),
        (
            "prometheus_target_scrapes_sample_out_of_order_total",
            "Total number of samples rejected due to not being out of the expected order.",
            |s| s.scrape.out_of_order + s.out_of_order,
        ),
        (
            "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
            "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
            |s| s.scrape.bucket_limit,
        ),
        (
            "prometheus_target_scrape_pool_exceeded_label_limits_total",
            "Total number of times scrape pools hit the label limits, during sync or config reload.",
            |s| s.scrape.label_limits,
        ),
        (
            "prometheus_target_scrapes_exemplar_out_of_order_total",
            "Total number of exemplar rejected due to not being out of the expected order.",
            |s| s.exemplars.out_of_order,
        ),
        ("prometheus_tsdb_exemplar_exemplars_appended_total", "Total number of appended exemplars.", |s| {
            s.exemplars.appended
        }),
        (
            "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
            "Total number of out of order exemplar ingestion failed attempts.",
            |s| s.exemplars.out_of_order,
        ),
        ("systole_scrapes_total", "Scrapes that were begun.", |s| s.scrape.scrapes),
        ("systole_scrape_failures_total", "Scrapes that failed.", |s| s.scrape.failures),
        ("systole_scrape_missed_turns_total", "Turns at which a target was not scraped.", |s| {
            s.scrape.missed_turns
        }),
        ("systole_scrape_samples_total", "Samples on scraped pages.", |s| s.scrape.samples),
    ] {
        p.single(name, "counter", help, sum(shards, f));
    }
    for (name, help, f) in [
        (
            "prometheus_tsdb_exemplar_exemplars_in_storage",
            "Number of exemplars currently in circular storage.",
            (|s| s.exemplars.held) as fn(&ShardFigures) -> u64,
        ),
        (
            "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
            "Number of series with exemplars currently in circular storage.",
            |s| s.exemplars.series,
        ),
        (
            "prometheus_tsdb_exemplar_max_exemplars",
            "Total number of exemplars the exemplar storage can store, resizeable.",
            |s| s.exemplars.max,
        ),
    ] {
        p.single(name, "gauge", help, sum(shards, f));
    }
    p.single("systole_targets", "gauge", "Targets that are scraped.", sum(shards, |s| s.targets));
}

/// What a shard keeps of exemplars.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExemplarFigures {
    pub held: u64,
    pub series: u64,
    pub max: u64,
    pub appended: u64,
    pub out_of_order: u64,
}

impl ExemplarFigures {
    pub fn of(exemplars: &Exemplars) -> Self {
        ExemplarFigures {
            held: exemplars.len() as u64,
            series: exemplars.series_count() as u64,
            max: exemplars.max() as u64,
            appended: exemplars.counts.appended,
            out_of_order: exemplars.counts.out_of_order,
        }
    }
}

/// Name, kind, help, and how a shard's value is found.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);
/// What was received; Prometheus's names where it has them.
fn remote_write(p: &mut Page, shards: &[ShardFigures]) {
    for (name, help, f) in [
        (
            "prometheus_remote_storage_samples_in_total",
            "Samples in to remote storage, compare to samples out for queue managers.",
            (|r| r.samples) as fn(&Figures) -> u64,
        ),
        (
            "prometheus_remote_storage_histograms_in_total",
            "HistogramSamples in to remote storage, compare to histograms out for queue managers.",
            |r| r.histograms,
        ),
        (
            "prometheus_remote_storage_exemplars_in_total",
            "Exemplars in to remote storage, compare to exemplars out for queue managers.",
            |r| r.exemplars,
        ),
        (
            "prometheus_api_remote_write_invalid_labels_samples_total",
            "The total number of received remote write samples and histogram samples which were rejected due to invalid labels.",
            |r| r.invalid_labels,
        ),
        (
            "prometheus_api_remote_write_without_metadata_appended_samples_total",
            "The total number of received remote write samples (and histogram samples) which were ingested without corresponding metadata.",
            |r| r.samples + r.histograms,
        ),
        ("systole_remote_write_requests_total", "Remote write requests that were read.", |r| r.requests),
        ("systole_remote_write_body_bytes_total", "Bytes of their bodies, compressed.", |r| r.body_bytes),
        ("systole_remote_write_malformed_total", "Requests that are not snappy, or not the protocol.", |r| {
            r.malformed
        }),
        (
            "systole_remote_write_put_off_total",
            "Requests answered with 503: the log or the disk was full.",
            |r| r.busy,
        ),
        ("systole_remote_write_failed_total", "Requests answered with 500: the log failed.", |r| r.failed),
        ("systole_remote_write_out_of_order_total", "Samples refused as out of order.", |r| {
            r.floats.out_of_order + r.native.out_of_order + r.floats.too_old + r.native.too_old
        }),
        ("systole_remote_write_out_of_bounds_total", "Samples refused as out of bounds.", |r| {
            let [f, h] = [r.floats, r.native];
            f.out_of_bounds + f.too_far + h.out_of_bounds + h.too_far
        }),
        ("systole_remote_write_duplicates_total", "Samples refused as duplicates.", |r| {
            r.floats.duplicates + r.native.duplicates
        }),
        ("systole_remote_write_look_ups_total", "Series found by a look-up: not where expected.", |r| {
            r.look_ups
        }),
    ] {
        p.single(name, "counter", help, shards.iter().map(|s| f(&s.remote)).sum::<u64>() as f64);
    }
    let sum = |f: fn(&Figures) -> u64| shards.iter().map(|s| f(&s.remote)).sum::<u64>() as f64;
    p.single(
        "prometheus_remote_storage_highest_timestamp_in_seconds",
        "gauge",
        "Highest timestamp that has come into the remote storage via the Appender interface, in seconds since epoch. Initialized to 0 when no data has been received yet.",
        shards.iter().map(|s| s.remote.highest_time).max().unwrap_or(0) as f64 / 1e3,
    );
    p.single(
        "systole_remote_write_known_series",
        "gauge",
        "Label sets that reading shards remember.",
        sum(|r| r.known_series),
    );
    p.single(
        "systole_remote_write_known_bytes",
        "gauge",
        "Bytes of what they remember.",
        sum(|r| r.known_bytes),
    );
}

fn per_shard(p: &mut Page, name: &str, kind: &str, help: &str, values: impl Iterator<Item = f64>) {
    p.family(name, kind, help);
    for (i, v) in values.enumerate() {
        p.sample(name, &[("shard", i.to_string())], v);
    }
}

fn shards(p: &mut Page, shards: &[ShardFigures], readings: &[ShardReading]) {
    let figures: [Family<ShardFigures>; 10] = [
        ("systole_shard_series", "gauge", "Series of the shard.", |s| s.series as f64),
        ("systole_shard_groups", "gauge", "Groups of the shard.", |s| s.groups as f64),
        ("systole_shard_head_bytes", "gauge", "Bytes of rows and windows in memory.", |s| {
            s.head_bytes as f64
        }),
        ("systole_shard_page_bytes", "gauge", "Bytes of held pages and their slots.", |s| {
            s.page_bytes as f64
        }),
        ("systole_shard_commits_total", "counter", "Commits of the log.", |s| s.commits as f64),
        ("systole_shard_commit_bytes_total", "counter", "Bytes of records committed.", |s| {
            s.commit_bytes as f64
        }),
        ("systole_shard_commit_seconds_total", "counter", "Time commits took.", |s| s.commit_seconds),
        ("systole_shard_commit_seconds_max", "gauge", "The longest commit.", |s| s.commit_seconds_max),
        ("systole_shard_refused_batches_total", "counter", "Batches that were refused.", |s| {
            s.refused_batches as f64
        }),
        ("systole_shard_refusing", "gauge", "Whether the shard takes no samples.", |s| {
            f64::from(u8::from(s.is_refusing))
        }),
    ];
    for (name, kind, help, f) in figures {
        per_shard(p, name, kind, help, shards.iter().map(f));
    }
    let readings_of: [Family<ShardReading>; 8] = [
        ("systole_shard_busy_seconds_total", "counter", "Time the shard worked.", |r| r.busy_seconds),
        ("systole_shard_cpu_seconds_total", "counter", "CPU time of the shard's thread.", |r| r.cpu_seconds),
        ("systole_shard_beats_total", "counter", "Beats of the pulse.", |r| r.beats as f64),
        ("systole_shard_beat_late_seconds_max", "gauge", "The latest beat.", |r| r.late_max_seconds),
        ("systole_shard_mailbox_depth", "gauge", "Jobs and batches waiting.", |r| r.mailbox_depth as f64),
        ("systole_shard_mailbox_refused_total", "counter", "Messages and jobs refused.", |r| {
            r.refused as f64
        }),
        ("systole_shard_messages_total", "counter", "Messages received.", |r| r.messages as f64),
        ("systole_shard_jobs_total", "counter", "Jobs run for others.", |r| r.jobs as f64),
    ];
    for (name, kind, help, f) in readings_of {
        per_shard(p, name, kind, help, readings.iter().map(f));
    }
    turns(p, readings);
}

fn turns(p: &mut Page, readings: &[ShardReading]) {
    let name = "systole_shard_turn_seconds_max";
    p.family(
        name,
        "gauge",
        "The longest time for which one turn of a task held the shard, in the last minute or two; 0 where none took half a millisecond.",
    );
    for (shard, reading) in readings.iter().enumerate() {
        for (class, seconds) in TaskClass::ALL.iter().zip(reading.turn_max_seconds) {
            p.sample(name, &[("class", class.name().to_owned()), ("shard", shard.to_string())], seconds);
        }
    }
}

/// `process_*`, as Prometheus's client library reads them from `/proc`.
fn process(p: &mut Page, start_seconds: f64) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The command name may hold blanks; the fields after it do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Linux reports these in ticks of 10 ms and pages of 4 KiB.
    let cpu = (field(11) + field(12)) / 100.0;
    p.single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu);
    p.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(20));
    p.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", field(21) * 4096.0);
    p.single(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        start_seconds,
    );
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    p.single("process_open_fds", "gauge", "Number of open file descriptors.", open as f64);
}
