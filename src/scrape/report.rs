//! The series that say how a scrape went.

/// What one scrape came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    pub is_up: bool,
    pub duration_seconds: f64,
    pub scraped: u64,
    pub kept: u64,
    pub added: u64,
    pub timeout_seconds: f64,
    pub sample_limit: f64,
    /// -1 where the limit was exceeded, 0 where nothing came.
    pub body_bytes: f64,
}

/// Always written.
pub const NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Written with `extra_scrape_metrics`.
pub const EXTRA_NAMES: [&str; 3] =
    ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

impl Report {
    /// In the order of [`NAMES`] and [`EXTRA_NAMES`].
    pub fn values(&self) -> [f64; 8] {
        [
            f64::from(u8::from(self.is_up)),
            self.duration_seconds,
            self.scraped as f64,
            self.kept as f64,
            self.added as f64,
            self.timeout_seconds,
            self.sample_limit,
            self.body_bytes,
        ]
    }
}
