//! The whole set at small scale: S1 with Q1 and O1, then W1, against every system at hand, in under three minutes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;
use crate::shape::Shape;
use crate::shape::node::Node;
use crate::system::Spec;
use crate::targets::Options;
use crate::write::request::Protocol;
use crate::{query, scrape, write};

/// How small.
pub struct Scale {
    pub targets: usize,
    pub lines: usize,
    pub interval: Duration,
    pub warmup: Duration,
    /// How long a system is watched without questions, to know what it uses by itself.
    pub idle: Duration,
    pub hurried: bool,
    pub window: Duration,
    pub write_series: u64,
    pub write_window: Duration,
}

/// What `bench-smoke` runs: 50 000 series every other second, which leaves the slowest room on a busy machine, and 100 000 written as fast as they go.
pub const SMOKE: Scale = Scale {
    targets: 50,
    lines: 1000,
    interval: Duration::from_secs(2),
    warmup: Duration::from_secs(6),
    idle: Duration::from_secs(1),
    hurried: false,
    window: Duration::from_secs(16),
    write_series: 100_000,
    write_window: Duration::from_secs(5),
};

/// What the tests run, so that no part rots: a few seconds a system.
pub const TINY: Scale = Scale {
    targets: 5,
    lines: 100,
    interval: Duration::from_secs(1),
    warmup: Duration::from_secs(2),
    idle: Duration::from_millis(100),
    hurried: true,
    window: Duration::from_secs(4),
    write_series: 400,
    write_window: Duration::from_secs(1),
};

pub fn run(scale: &Scale, specs: &[Spec], folder: PathBuf) -> Result<Vec<Value>, Error> {
    let mut runs = scraped(scale, specs, folder.clone());
    runs.extend(written(scale, specs, folder)?);
    Ok(runs)
}

/// S1 with Q1 and O1.
pub fn scraped(scale: &Scale, specs: &[Spec], folder: PathBuf) -> Vec<Value> {
    let shape = Node::new(1, scale.lines, scale.interval.as_secs_f64());
    let plan = scrape::Plan {
        workload: "S1",
        shape: Arc::new(Shape::Node(shape)),
        options: Options::plain(scale.targets, scale.interval),
        warmup: scale.warmup,
        window: scale.window,
        rounds: 1,
        queries: true,
        asking: query::Asking { runs: 3, idle: scale.idle, hurried: scale.hurried },
        dashboard: None,
        restart: true,
        folder,
    };
    scrape::run(&plan, specs)
}

/// W1.
pub fn written(scale: &Scale, specs: &[Spec], folder: PathBuf) -> Result<Vec<Value>, Error> {
    let plan = write::Plan {
        series: scale.write_series,
        connections: 2,
        batch: scale.write_series.min(2000) / 2,
        rate: None,
        protocol: Protocol::V1,
        fresh: false,
        late: 0.0,
        beside: None,
        window: scale.write_window,
        rounds: 1,
        seed: 1,
        folder,
    };
    write::run(&plan, specs)
}
