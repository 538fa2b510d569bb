//! The command line: Prometheus's flags under their own names, and a few of ours.

use std::path::PathBuf;

use clap::Parser;

use crate::config::Config;
use crate::push::otlp;

/// Flags that Prometheus also takes as `--no-<name>`.
const SWITCHES: &[&str] = &[
    "web.enable-lifecycle",
    "web.enable-admin-api",
    "web.enable-remote-write-receiver",
    "web.enable-otlp-receiver",
    "storage.tsdb.no-lockfile",
    "scrape.adjust-timestamps",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ack {
    /// Acknowledged is on the disk.
    Durable,
    /// Acknowledged is in the log's tail: it survives a killed process, not a power cut.
    Relaxed,
}

#[derive(Clone, Debug, Parser)]
#[command(
    name = "systole",
    about = "A monitoring appliance: a drop-in for Prometheus, thread per core",
    version = concat!(env!("CARGO_PKG_VERSION"), " (as prometheus, version 3.14.0)"),
    disable_help_subcommand = true
)]
pub struct Flags {
    /// Prometheus configuration file path. Without it, prometheus.yml where there is one, else an embedded
    /// configuration that scrapes systole itself and a node_exporter on localhost:9100.
    #[arg(long = "config.file")]
    pub config_file: Option<PathBuf>,

    /// Address to listen on for API and telemetry. Can be repeated.
    #[arg(long = "web.listen-address", default_value = "0.0.0.0:9090")]
    pub listen: Vec<String>,

    /// Maximum number of simultaneous requests.
    #[arg(long = "web.max-connections", default_value_t = 512)]
    pub max_connections: usize,

    /// The URL under which it is externally reachable.
    #[arg(long = "web.external-url", default_value = "")]
    pub external_url: String,

    /// Enable shutdown and reload via HTTP request.
    #[arg(long = "web.enable-lifecycle", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub enable_lifecycle: bool,

    /// Enable API endpoints for admin control actions.
    #[arg(long = "web.enable-admin-api", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub enable_admin: bool,

    /// Enable API endpoint accepting remote write requests.
    #[arg(long = "web.enable-remote-write-receiver", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub enable_remote_write: bool,

    /// Enable API endpoint accepting OTLP write requests.
    #[arg(long = "web.enable-otlp-receiver", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub enable_otlp: bool,

    /// Address to receive OTLP over gRPC on, by custom port 4317; empty for none.
    #[arg(long = "otlp.grpc-listen-address", default_value = "")]
    pub grpc_listen: String,

    /// List of the remote write protobuf messages to accept when receiving the remote writes.
    #[arg(long = "web.remote-write-receiver.accepted-protobuf-messages", value_delimiter = ',', default_values = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"], value_parser = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"])]
    pub accepted_messages: Vec<String>,

    /// Base path for storage.
    #[arg(long = "storage.tsdb.path", default_value = "data/")]
    pub data_dir: PathBuf,

    /// Do not create a lockfile in the data directory.
    #[arg(long = "storage.tsdb.no-lockfile", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub no_lockfile: bool,

    /// How long to retain samples in storage, where the configuration says nothing. Without it and a size: 15d.
    #[arg(long = "storage.tsdb.retention.time", default_value = "0s")]
    pub retention_time: String,

    /// Bytes that blocks and log may have, where the configuration says nothing: "512MB". 0 is no bound.
    #[arg(long = "storage.tsdb.retention.size", default_value = "0")]
    pub retention_size: String,

    /// How often is looked for blocks to be made and to be removed.
    #[arg(long = "storage.tsdb.block-reload-interval", default_value = "1m", hide = true)]
    pub block_interval: String,

    /// In how long all blocks are read again, slowly, to see whether their checksums still fit; 0s for never.
    #[arg(long = "storage.scrub-interval", default_value = "1d")]
    pub scrub_pass: String,

    /// Memory for what was read of blocks, all shards together.
    #[arg(long = "storage.block-cache-size", default_value = "256MB")]
    pub block_cache_size: String,

    /// When an append is acknowledged.
    #[arg(long = "storage.ack", value_enum, default_value = "durable")]
    pub ack: Ack,

    /// Series in memory beyond which new ones are refused; 0 for as many as the machine's memory holds.
    #[arg(long = "storage.head.max-series", default_value_t = 0)]
    pub max_series: u64,

    /// Shards to run; 0 for one on each CPU that this process may use.
    #[arg(long = "shards", default_value_t = 0)]
    pub shards: u16,

    /// CPUs to pin shards to, as in 0,2,4-7; empty for all that this process may use.
    #[arg(long = "shards.cpus", default_value = "")]
    pub cpus: String,

    /// Adjust scrape timestamps by up to the tolerance to align them to the interval.
    #[arg(long = "scrape.adjust-timestamps", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub adjust_timestamps: bool,

    /// Timestamp tolerance.
    #[arg(long = "scrape.timestamp-tolerance", default_value = "2ms")]
    pub timestamp_tolerance: String,

    /// The maximum lookback duration for retrieving metrics during expression evaluations.
    #[arg(long = "query.lookback-delta", default_value = "5m")]
    pub lookback: String,

    /// Maximum time a query may take before being aborted.
    #[arg(long = "query.timeout", default_value = "2m")]
    pub query_timeout: String,

    /// Maximum number of queries executed concurrently.
    #[arg(long = "query.max-concurrency", default_value_t = 20)]
    pub max_concurrency: usize,

    /// Maximum number of samples a single query can load into memory.
    #[arg(long = "query.max-samples", default_value_t = 50_000_000)]
    pub max_samples: usize,

    /// Maximum memory a single query can use, as in 512MB; 0 for a quarter of the machine's.
    #[arg(long = "query.max-bytes", default_value = "0")]
    pub max_bytes: String,

    /// Comma separated feature names to enable. Can be repeated.
    #[arg(long = "enable-feature", value_delimiter = ',')]
    pub features: Vec<String>,

    /// Only log messages with the given severity or above.
    #[arg(long = "log.level", default_value = "info", value_parser = ["debug", "info", "warn", "error"])]
    pub log_level: String,

    /// Output format of log messages.
    #[arg(long = "log.format", default_value = "logfmt", value_parser = ["logfmt", "json"])]
    pub log_format: String,
}

impl Flags {
    /// Parses the arguments; on `--help` or an error prints and ends the process (2 on errors, as Prometheus).
    pub fn from_args(args: impl Iterator<Item = String>) -> Flags {
        Flags::parse_from(args.map(switched_off))
    }

    /// Whether an optional feature was asked for.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature)
    }

    /// How OTLP is translated under a configuration.
    pub fn otlp(&self, config: &Config, lookback_ms: i64) -> otlp::Settings {
        let delta = match (self.has("otlp-deltatocumulative"), self.has("otlp-native-delta-ingestion")) {
            (true, _) => otlp::Delta::Summed,
            (false, true) => otlp::Delta::Kept,
            (false, false) => otlp::Delta::Refused,
        };
        otlp::Settings::new(&config.otlp, delta, self.has("type-and-unit-labels"), lookback_ms)
    }

    /// All flags and their values as text, for `/api/v1/status/flags`.
    pub fn shown(&self, shard_count: u16) -> Vec<(String, String)> {
        let path = |p: &PathBuf| p.display().to_string();
        let pairs = [
            ("config.file", self.config_file.as_ref().map_or("prometheus.yml".to_owned(), path)),
            ("web.listen-address", self.listen.join(",")),
            ("web.max-connections", self.max_connections.to_string()),
            ("web.external-url", self.external_url.clone()),
            ("web.enable-lifecycle", self.enable_lifecycle.to_string()),
            ("web.enable-admin-api", self.enable_admin.to_string()),
            ("web.enable-remote-write-receiver", self.enable_remote_write.to_string()),
            ("web.enable-otlp-receiver", self.enable_otlp.to_string()),
            ("web.remote-write-receiver.accepted-protobuf-messages", self.accepted_messages.join(",")),
            ("storage.tsdb.path", path(&self.data_dir)),
            ("storage.tsdb.no-lockfile", self.no_lockfile.to_string()),
            ("storage.tsdb.retention.time", self.retention_time.clone()),
            ("storage.tsdb.retention.size", self.retention_size.clone()),
            ("storage.scrub-interval", self.scrub_pass.clone()),
            ("storage.block-cache-size", self.block_cache_size.clone()),
            ("storage.ack", format!("{:?}", self.ack).to_lowercase()),
            ("storage.head.max-series", self.max_series.to_string()),
            ("shards", shard_count.to_string()),
            ("shards.cpus", self.cpus.clone()),
            ("scrape.adjust-timestamps", self.adjust_timestamps.to_string()),
            ("scrape.timestamp-tolerance", self.timestamp_tolerance.clone()),
            ("otlp.grpc-listen-address", self.grpc_listen.clone()),
            ("query.lookback-delta", self.lookback.clone()),
            ("query.timeout", self.query_timeout.clone()),
            ("query.max-concurrency", self.max_concurrency.to_string()),
            ("query.max-samples", self.max_samples.to_string()),
            ("query.max-bytes", self.max_bytes.clone()),
            ("enable-feature", self.features.join(",")),
            ("log.level", self.log_level.clone()),
            ("log.format", self.log_format.clone()),
        ];
        pairs.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
    }
}

/// `--no-web.enable-lifecycle` is `--web.enable-lifecycle=false`.
fn switched_off(arg: String) -> String {
    match arg.strip_prefix("--no-") {
        Some(name) if SWITCHES.contains(&name) => format!("--{name}=false"),
        _ => arg,
    }
}

/// `0,2,4-7` as a list.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number =
            |t: &str| t.parse::<usize>().map_err(|_| format!("--shards.cpus: {part:?} is no CPU or range"));
        let (first, last) = (number(first)?, number(last)?);
        if last < first || last >= 4096 {
            return Err(format!("--shards.cpus: {part:?} is no range of CPUs"));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_can_be_turned_off_and_cpus_listed() {
        let parse = |args: &[&str]| Flags::from_args(args.iter().map(|a| (*a).to_owned()));
        let f = parse(&["systole", "--web.enable-lifecycle", "--no-scrape.adjust-timestamps", "--shards=3"]);
        assert!(f.enable_lifecycle && !f.adjust_timestamps && f.shards == 3);
        assert_eq!(parse_cpus("0,2,4-6"), Ok(vec![0, 2, 4, 5, 6]));
        assert!(parse_cpus("3-1").is_err() && parse_cpus("x").is_err());
    }
}
