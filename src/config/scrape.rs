//! What to scrape and how: one job of the configuration, checked, with its defaults and the global ones filled in.

use std::path::PathBuf;
use std::sync::Arc;

use model::relabel::Rule;
use model::{NameScheme, TargetGroup};

use super::http_client::HttpClient;

/// One entry of `scrape_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub scheme: Scheme,
    pub metrics_path: String,
    /// Query parameters, sorted by name.
    pub params: Vec<(String, Vec<String>)>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub enable_compression: bool,
    /// In the order of preference; never empty.
    pub protocols: Vec<ScrapeProtocol>,
    pub fallback_protocol: Option<ScrapeProtocol>,
    pub limits: ScrapeLimits,
    pub native_histograms: NativeHistograms,
    pub extra_scrape_metrics: bool,
    /// What of a page was read before the deadline is kept.
    pub keeps_partial: bool,
    pub name_scheme: NameScheme,
    pub name_escaping: NameEscaping,
    pub failure_log_file: Option<PathBuf>,
    /// Compiled for `name_scheme`; shared, as every target of the job applies them.
    pub relabel: Arc<[Rule]>,
    pub metric_relabel: Arc<[Rule]>,
    /// `static_configs`: each group's source is its index.
    pub static_groups: Vec<TargetGroup>,
    pub http: HttpClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Bounds of a scrape; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeLimits {
    pub body_bytes: u64,
    pub samples: u64,
    pub targets: u64,
    pub labels: u64,
    pub label_name_bytes: u64,
    pub label_value_bytes: u64,
    pub kept_dropped_targets: u64,
    pub native_histogram_buckets: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NativeHistograms {
    pub scrape: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert_classic: bool,
    /// Classic histograms are kept beside native ones.
    pub always_scrape_classic: bool,
    /// Buckets are merged until they grow by this factor at least; 0 merges none.
    pub min_bucket_factor: f64,
}

/// A form of exposition that a target can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScrapeProtocol {
    OpenMetricsText0_0_1,
    OpenMetricsText1_0_0,
    PrometheusProto,
    PrometheusText0_0_4,
    PrometheusText1_0_0,
}

impl ScrapeProtocol {
    /// All of them, sorted by name.
    pub const ALL: [ScrapeProtocol; 5] = [
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::PrometheusText0_0_4,
        ScrapeProtocol::PrometheusText1_0_0,
    ];

    /// What a job asks for that does not say.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::PrometheusText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4,
    ];

    /// What a job asks for that wants native histograms.
    pub const DEFAULT_PROTO_FIRST: [ScrapeProtocol; 5] = [
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::PrometheusText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4,
    ];

    pub fn text(self) -> &'static str {
        match self {
            ScrapeProtocol::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            ScrapeProtocol::PrometheusProto => "PrometheusProto",
            ScrapeProtocol::PrometheusText0_0_4 => "PrometheusText0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "PrometheusText1.0.0",
        }
    }

    /// The media type of the protocol, as an `Accept` header says it (without weight and escaping).
    pub fn media_type(self) -> &'static str {
        match self {
            ScrapeProtocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.text() == text)
    }
}

/// How a target is asked to write names that are not of the old form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameEscaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl NameEscaping {
    pub const ALL: [NameEscaping; 4] =
        [NameEscaping::AllowUtf8, NameEscaping::Underscores, NameEscaping::Dots, NameEscaping::Values];

    pub fn text(self) -> &'static str {
        match self {
            NameEscaping::AllowUtf8 => "allow-utf-8",
            NameEscaping::Underscores => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.text() == text)
    }
}
