//! Workload O1: kill -9 under load, start again: how long until it scrapes, answers, and what was lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock;
use crate::error::Error;
use crate::system::{Sampler, System};
use crate::targets::Targets;

/// Longest wait for each sign of life after the restart.
const WAIT_MAX: Duration = Duration::from_secs(180);
/// How far back the samples are counted before and after.
const WINDOW_SECONDS: i64 = 120;

/// Kills `system` under load and measures its return.
pub fn run(targets: &Targets, system: &mut System) -> Result<Value, Error> {
    settle(targets)?;
    let before = system.usage()?;
    let killed_us = clock::unix_us();
    system.kill();
    let begin = clock::now();
    system.spawn()?;
    let mut sampler = Sampler::start();
    let mut signs = Signs::default();
    while !signs.complete() && begin.elapsed() < WAIT_MAX {
        sampler.poll(system)?;
        signs.look(targets, system, begin, killed_us);
        clock::sleep(Duration::from_millis(5));
    }
    let after = system.usage()?;
    // One more interval, so that what a replay releases is released.
    clock::sleep(targets.options.interval.min(Duration::from_secs(15)));
    let kept = kept_samples(targets, system, killed_us)?;
    Ok(json!({
        "first_scrape_seconds": signs.scrape, "ready_seconds": signs.ready, "all_series_seconds": signs.series,
        "cpu_seconds": after.cpu.as_secs_f64(),
        "rss_before_bytes": before.rss_bytes, "peak_bytes": after.peak_bytes,
        "scrapes_shown": kept.0, "scrapes_kept": kept.1,
        "scrapes_lost": (kept.0 as f64 - kept.1).max(0.0),
    }))
}

/// Lets every target be scraped after the queries, so that the kill meets a working system.
fn settle(targets: &Targets) -> Result<(), Error> {
    let begin = clock::now();
    let since = clock::unix_us();
    let fresh = || targets.log().by_target.iter().all(|t| t.back().is_some_and(|s| s.at_us > since));
    while !fresh() && begin.elapsed() < 3 * targets.options.interval + Duration::from_secs(30) {
        clock::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Seconds from the restart to each sign of life.
#[derive(Default)]
struct Signs {
    scrape: Option<f64>,
    ready: Option<f64>,
    series: Option<f64>,
}

impl Signs {
    fn complete(&self) -> bool {
        self.scrape.is_some() && self.ready.is_some() && self.series.is_some()
    }

    fn look(&mut self, targets: &Targets, system: &System, begin: Instant, killed_us: i64) {
        if self.scrape.is_none() {
            let first = targets
                .log()
                .by_target
                .iter()
                .filter_map(|t| t.iter().rev().take(8).map(|s| s.at_us).filter(|&t| t > killed_us).min())
                .min();
            self.scrape = first.map(|at_us| (at_us - killed_us) as f64 / 1e6);
        }
        if self.ready.is_none() && system.is_ready() {
            self.ready = Some(begin.elapsed().as_secs_f64());
        }
        if self.ready.is_some() && self.series.is_none() {
            // Not the last value by itself: VictoriaMetrics looks back two intervals only, and may have lost those.
            let reach = (8 * targets.options.interval.as_secs()).max(60);
            let query = format!("count(last_over_time(up[{reach}s]) == 1)");
            let data = system.client().query(&query, killed_us as f64 / 1e6);
            let count = data.ok().and_then(|d| d["result"][0]["value"][1].as_str()?.parse::<f64>().ok());
            if count == Some(targets.options.targets as f64) {
                self.series = Some(begin.elapsed().as_secs_f64());
            }
        }
    }
}

/// Scrapes shown in the window before the kill, and those of them that are there now.
fn kept_samples(targets: &Targets, system: &System, killed_us: i64) -> Result<(u64, f64), Error> {
    let oldest =
        targets.log().by_target.iter().filter_map(|t| t.front()).map(|s| s.at_us).min().unwrap_or(killed_us);
    let seconds = ((killed_us - oldest) / 1_000_000 - 2).clamp(1, WINDOW_SECONDS);
    let from = killed_us - seconds * 1_000_000;
    let inside = |t: &&crate::targets::Served| t.at_us > from && t.at_us <= killed_us;
    let shown = targets.log().by_target.iter().map(|t| t.iter().filter(inside).count() as u64).sum();
    let data =
        system.client().query(&format!("sum(sum_over_time(up[{seconds}s]))"), killed_us as f64 / 1e6)?;
    Ok((shown, data["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(0.0)))
}
