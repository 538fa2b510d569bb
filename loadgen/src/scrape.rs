//! Workload S1: targets scraped steadily; what that costs a system, and whether it keeps what it was shown.
//!
//! In: a shape, a number of targets, an interval, a list of systems. Out: one JSON run per system and round.
//! Runs on: the main thread; the targets have their own. Invariant: costs are taken over whole intervals of a
//! steady state, after every target has been scraped twice. Never: two systems at once.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::error::Error;
use crate::shape::Shape;
use crate::shape::format::Format;
use crate::system::{Kind, Sampler, Spec, System};
use crate::targets::{Options, Served, Targets};
use crate::{dashboard, oracle, process, query, restart, stored, suite};

#[derive(Clone)]
pub struct Plan {
    pub workload: &'static str,
    pub shape: Arc<Shape>,
    pub options: Options,
    /// Shortest warm-up, beyond two scrapes of every target.
    pub warmup: Duration,
    pub window: Duration,
    pub rounds: u32,
    pub queries: bool,
    pub asking: query::Asking,
    /// Q3 and Q4 afterwards, over the node shape.
    pub dashboard: Option<dashboard::Plan>,
    pub restart: bool,
    pub folder: PathBuf,
}

/// Longest wait for the last scrapes to be visible.
const VISIBLE_MAX: Duration = Duration::from_secs(10);
/// Targets that share a rack label.
pub const RACK_TARGETS: usize = 20;

pub fn rack(target_idx: usize) -> String {
    format!("rack-{:03}", target_idx / RACK_TARGETS)
}

/// The scrape configuration for all targets, by rack.
pub fn config(targets: &Targets, kind: Kind) -> String {
    config_every(targets.options.interval, targets, kind)
}

/// Nearly no target is due while questions are asked.
const PAUSE: Duration = Duration::from_secs(3600);

/// The same targets, asked so rarely that scraping pauses: their series live on, as those of a dashboard do, where
/// targets that went away would leave series that have ended.
pub fn config_idle(targets: &Targets, kind: Kind) -> String {
    config_every(PAUSE, targets, kind)
}

fn config_every(interval: Duration, targets: &Targets, kind: Kind) -> String {
    let timeout = duration_text(targets.options.interval.min(Duration::from_secs(10)));
    let interval = duration_text(interval);
    let mut out = format!("global:\n  scrape_interval: {interval}\n  scrape_timeout: {timeout}\n");
    // VictoriaMetrics has no such key, and does not read this form.
    if kind != Kind::VictoriaMetrics && targets.options.format == Format::Protobuf {
        out.push_str("  scrape_protocols: [PrometheusProto, PrometheusText0.0.4]\n");
    }
    out.push_str("scrape_configs:\n- job_name: load\n  static_configs:\n");
    for first in (0..targets.options.targets).step_by(RACK_TARGETS) {
        let last = (first + RACK_TARGETS).min(targets.options.targets);
        let names: Vec<String> = (first..last).map(|i| format!("'{}'", targets.instance(i))).collect();
        let _ = writeln!(out, "  - targets: [{}]\n    labels: {{rack: {}}}", names.join(", "), rack(first));
    }
    out
}

fn duration_text(d: Duration) -> String {
    if d.subsec_millis() == 0 { format!("{}s", d.as_secs()) } else { format!("{}ms", d.as_millis()) }
}

/// All systems in turn, `rounds` times over.
pub fn run(plan: &Plan, specs: &[Spec]) -> Vec<Value> {
    suite::each(plan.workload, plan.rounds, specs, |spec| run_one(plan, spec))
}

/// The most that a system scrapes with nothing missed: targets are doubled until something is, or there are
/// `targets_max` of them.
pub fn most(plan: &Plan, targets_max: usize, specs: &[Spec]) -> Vec<Value> {
    suite::each(plan.workload, plan.rounds, specs, |spec| {
        let mut steps = Vec::new();
        let mut best = 0.0;
        let mut step = plan.clone();
        while step.options.targets <= targets_max {
            let targets = step.options.targets;
            let run = run_one(&step, spec)?;
            let figure = |at: &str| run.pointer(at).and_then(Value::as_f64).unwrap_or(0.0);
            let (rate, missed) = (figure("/scrape/samples_per_second"), figure("/scrape/scrapes_missed"));
            steps.push(json!({
                "targets": targets, "samples_per_second": rate, "missed": missed,
                "cores": figure("/scrape/cores"), "cpu_us_per_sample": figure("/scrape/cpu_us_per_sample"),
                "sender_cores": figure("/scrape/sender_cores"), "rss_bytes": figure("/scrape/rss_bytes"),
            }));
            if missed > 0.0 {
                break;
            }
            best = rate;
            step.options.targets *= 2;
        }
        Ok(json!({"most": {"samples_per_second": best, "steps": steps}}))
    })
}

fn run_one(plan: &Plan, spec: &Spec) -> Result<Value, Error> {
    let targets = Targets::start(plan.shape.clone(), plan.options)?;
    let mut system = System::start(spec, &plan.folder.join(&spec.name), &config(&targets, spec.kind))?;
    let mut sampler = Sampler::start();
    warm_up(plan, &targets, &mut system, &mut sampler)?;
    let first = system.usage()?;
    let mut run = json!({
        "shape": plan.shape.name(),
        "ready_seconds": system.ready_after.as_secs_f64(),
        "first_cpu_seconds": first.cpu.as_secs_f64(),
    });
    let window = Window::measure(plan, &targets, &mut system, &mut sampler)?;
    run["scrape"] = window.to_json(&targets, &mut system)?;
    run["turns"] = longest_turns(&system);
    wait_visible(&targets, &system, window.end_us);
    run["up"] = up_counts(&targets, &system, &window)?;
    let stored = stored::read(&targets, &system, window.end_us)?;
    run["oracle"] = oracle::check_raw(&targets, &system, window.end_us, stored.as_ref())?;
    if let (true, Some(stored)) = (plan.queries, &stored) {
        let is_paused = !plan.asking.hurried || spec.kind != Kind::Prometheus;
        let idle = is_paused && system.reload(&config_idle(&targets, spec.kind)).is_ok();
        run["queries"] = query::run(
            &targets,
            &mut system,
            (window.begin.at_us, window.end_us),
            plan.asking,
            &stored.by_target,
        )?;
        run["queries_while_scraping"] = json!(!idle);
        if idle {
            system.reload(&config(&targets, spec.kind))?;
        }
    }
    if let (Some(plan), Some(_)) = (&plan.dashboard, plan.shape.node()) {
        run["dashboard"] = dashboard::run(plan, &targets, &mut system, window.end_us as f64 / 1e6)?;
        run["labels"] = dashboard::labels(&targets, &mut system, plan.window)?;
    }
    if plan.restart {
        run["restart"] = restart::run(&targets, &mut system)?;
    }
    run["timeline"] = timeline(&sampler);
    run["stop_seconds"] = json!(system.stop().as_secs_f64());
    Ok(run)
}

/// For how long one turn of a task held a shard at most, in the last minute or two: what ours says of itself.
fn longest_turns(system: &System) -> Value {
    if system.spec.kind != Kind::Ours {
        return Value::Null;
    }
    let page = system.client().fetch("/metrics").map(|r| String::from_utf8_lossy(&r.body).into_owned());
    longest_of(&page.unwrap_or_default())
}

fn longest_of(page: &str) -> Value {
    let mut by_class = serde_json::Map::new();
    let mut longest: Option<f64> = None;
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("systole_shard_turn_seconds_max{class=\"") else { continue };
        let Some((class, seconds)) = rest.split_once('"').zip(rest.rsplit_once(' ')).map(|(a, b)| (a.0, b.1))
        else {
            continue;
        };
        let ms = seconds.parse::<f64>().unwrap_or(0.0) * 1e3;
        let known = by_class.get(class).and_then(Value::as_f64).unwrap_or(0.0);
        by_class.insert(class.to_owned(), json!(ms.max(known)));
        longest = Some(longest.unwrap_or(0.0).max(ms));
    }
    longest.map_or(Value::Null, |ms| json!({"longest_ms": ms, "by_class_ms": by_class}))
}

fn timeline(sampler: &Sampler) -> Value {
    let points = sampler.points.iter().map(|(t, u)| json!([t, u.cpu.as_secs_f64(), u.rss_bytes]));
    Value::Array(points.collect())
}

/// Waits for the steady state: every target scraped twice, and an interval in which each was scraped once: a
/// system that still catches up with its first scrapes asks more often. One that never gets there is measured as it
/// is after a bounded time, and told so.
fn warm_up(plan: &Plan, targets: &Targets, system: &mut System, sampler: &mut Sampler) -> Result<(), Error> {
    let begin = clock::now();
    let longest = plan.warmup.max(6 * plan.options.interval) + Duration::from_secs(60);
    let mut mark = (begin, targets.log().requests);
    let mut even = false;
    loop {
        sampler.poll(system)?;
        let behind = targets.log().by_target.iter().filter(|t| t.len() < 2).count();
        if mark.0.elapsed() >= plan.options.interval {
            let requests = targets.log().requests;
            even = requests.abs_diff(mark.1).abs_diff(plan.options.targets as u64)
                <= plan.options.targets as u64 / 50;
            mark = (clock::now(), requests);
        }
        if behind == 0 && even && begin.elapsed() >= plan.warmup {
            return Ok(());
        }
        if begin.elapsed() > longest {
            let name = &system.spec.name;
            eprintln!(
                "{name}: not steady after {longest:?}, {behind} targets not scraped twice; measuring nevertheless"
            );
            return Ok(());
        }
        clock::sleep(Duration::from_millis(20));
    }
}

/// Readings at one end of the window.
struct Reading {
    at_us: i64,
    cpu: Duration,
    sender_cpu: Duration,
    samples: u64,
    requests: u64,
    bytes: u64,
    /// Towards the disk.
    written: Option<u64>,
}

impl Reading {
    fn take(targets: &Targets, system: &mut System) -> Result<Self, Error> {
        let cpu = system.usage()?.cpu;
        let log = targets.log();
        let (samples, requests, bytes) = (log.samples, log.requests, log.bytes);
        let written = process::written_bytes(system.pid());
        Ok(Reading {
            at_us: clock::unix_us(),
            cpu,
            sender_cpu: targets.cpu(),
            samples,
            requests,
            bytes,
            written,
        })
    }
}

/// The steady state as measured.
pub struct Window {
    begin: Reading,
    end: Reading,
    pub end_us: i64,
    expected: u64,
    missed: u64,
}

impl Window {
    fn measure(
        plan: &Plan,
        targets: &Targets,
        system: &mut System,
        sampler: &mut Sampler,
    ) -> Result<Self, Error> {
        let interval = plan.options.interval;
        let intervals = plan.window.as_secs_f64() / interval.as_secs_f64();
        let window = interval.mul_f64(intervals.ceil().max(1.0));
        let begin = Reading::take(targets, system)?;
        let stop = clock::now() + window;
        let mut shown = 0;
        while clock::now() < stop {
            sampler.poll(system)?;
            let left = stop.saturating_duration_since(clock::now());
            if left.as_secs() / 5 != shown {
                shown = left.as_secs() / 5;
                progress(targets, system, &begin, left);
            }
            clock::sleep(left.min(Duration::from_millis(100)));
        }
        let end = Reading::take(targets, system)?;
        let log = targets.log();
        let (from, to, step) = (begin.at_us, end.at_us, interval.as_micros() as i64);
        let missed = log.by_target.iter().map(|served| missed(served, from, to, step)).sum();
        let expected = ((to - from) / step) as u64 * log.by_target.len() as u64;
        Ok(Window { begin, end_us: to, end, expected, missed })
    }

    fn to_json(&self, targets: &Targets, system: &mut System) -> Result<Value, Error> {
        let (a, b) = (&self.begin, &self.end);
        let usage = system.usage()?;
        let seconds = (b.at_us - a.at_us) as f64 / 1e6;
        let samples = (b.samples - a.samples) as f64;
        let cpu = (b.cpu - a.cpu).as_secs_f64();
        let sender = (b.sender_cpu - a.sender_cpu).as_secs_f64();
        let series = targets.shape.series(targets.options.targets);
        Ok(json!({
            "seconds": seconds,
            "series": series,
            "samples": samples,
            "samples_per_second": samples / seconds,
            "bytes_per_sample": (b.bytes - a.bytes) as f64 / samples.max(1.0),
            "requests": b.requests - a.requests,
            "cpu_seconds": cpu,
            "cores": cpu / seconds,
            "cpu_us_per_sample": cpu * 1e6 / samples.max(1.0),
            "rss_bytes": usage.rss_bytes,
            "peak_bytes": usage.peak_bytes,
            "rss_bytes_per_series": usage.rss_bytes as f64 / series,
            "disk_bytes": system.disk_bytes(),
            "written_bytes_per_sample": b.written.zip(a.written).map(|(b, a)| (b - a) as f64 / samples.max(1.0)),
            "scrapes_expected": self.expected,
            "scrapes_missed": self.missed,
            "scrapes_aborted": targets.log().aborted,
            "scrapes_down": targets.log().downs,
            "scrapes_formatted": targets.log().formatted,
            "sender_cores": sender / seconds,
            "sender_us_per_sample": sender * 1e6 / samples.max(1.0),
        }))
    }
}

fn progress(targets: &Targets, system: &mut System, begin: &Reading, left: Duration) {
    let Ok(now) = Reading::take(targets, system) else { return };
    let seconds = (now.at_us - begin.at_us) as f64 / 1e6;
    let samples = (now.samples - begin.samples) as f64;
    if samples > 0.0 {
        eprintln!(
            "  {:>9.0} samples/s  {:.3} cores  {:.3} us/sample  {}s left",
            samples / seconds,
            (now.cpu - begin.cpu).as_secs_f64() / seconds,
            (now.cpu - begin.cpu).as_secs_f64() * 1e6 / samples,
            left.as_secs()
        );
    }
}

/// Scrapes a target should have seen between `from` and `to` and did not: each gap longer than 1.5 intervals counts
/// for the whole intervals in it.
fn missed(served: &VecDeque<Served>, from: i64, to: i64, step: i64) -> u64 {
    let lost = |gap: i64| if 2 * gap > 3 * step { ((gap + step / 2) / step - 1).max(0) as u64 } else { 0 };
    let mut last = from - step / 2;
    let mut total = 0;
    for s in served.iter().take_while(|s| s.at_us <= to) {
        if s.at_us > from {
            total += lost(s.at_us - last);
        }
        last = s.at_us.max(from - step);
    }
    total + lost(to - last)
}

/// What was scraped last may be a moment from being visible: VictoriaMetrics shows rows after two seconds, and later
/// on a busy machine. Waits until every target's scrape of the window's last interval is there, but not for ever.
fn wait_visible(targets: &Targets, system: &System, end_us: i64) {
    let end = end_us as f64 / 1e6;
    // Aligned times may lie a tenth of an interval before the request.
    let newest = end - 1.2 * targets.options.interval.as_secs_f64();
    let query = format!("count(timestamp(up) > {newest:.3})");
    let begin = clock::now();
    while begin.elapsed() < VISIBLE_MAX {
        let data = system.client().query(&query, end);
        let count = data.ok().and_then(|d| d["result"][0]["value"][1].as_str()?.parse::<f64>().ok());
        if count == Some(targets.options.targets as f64) {
            break;
        }
        clock::sleep(Duration::from_millis(100));
    }
    // What shares the last scrape with `up` may come a moment after it.
    if system.spec.kind != Kind::VictoriaMetrics {
        return clock::sleep(SETTLE);
    }
    // It shows the rows of one moment in several turns, two seconds apart.
    let (begin, shown) = (clock::now(), samples_shown(targets, end_us));
    let all_kept = || Some(samples_kept(targets, system, end_us)? >= shown?);
    while begin.elapsed() < SETTLE_MAX && all_kept() != Some(true) {
        clock::sleep(Duration::from_millis(100));
    }
}

/// After the last scrapes' own samples of `up` are there.
const SETTLE: Duration = Duration::from_millis(500);
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Up to so many samples a system is asked how many it has; counting more would be load of its own.
const COUNTED_MAX: f64 = 200_000.0;

/// Samples shown so far, where each page has the same number and there are few.
fn samples_shown(targets: &Targets, end_us: i64) -> Option<f64> {
    let lines = targets.shape.node()?.samples() as f64;
    let log = targets.log();
    let pages = log.by_target.iter().flatten().filter(|s| s.at_us <= end_us && !s.down).count();
    Some(pages as f64 * lines).filter(|n| *n <= COUNTED_MAX)
}

/// Those of them that VictoriaMetrics answers with; others do not count over many names at once.
fn samples_kept(targets: &Targets, system: &System, end_us: i64) -> Option<f64> {
    let seconds = (end_us - targets.epoch_us) / 1_000_000 + 5;
    let query = format!(r#"sum(count_over_time({{job="load",__name__!~"up|scrape_.+"}}[{seconds}s]))"#);
    let data = system.client().query(&query, end_us as f64 / 1e6).ok()?;
    data["result"][0]["value"][1].as_str()?.parse().ok()
}

/// What the system itself says it scraped in the window, by its `up` series.
fn up_counts(targets: &Targets, system: &System, window: &Window) -> Result<Value, Error> {
    let seconds = ((window.end_us - window.begin.at_us) as f64 / 1e6).round().max(1.0);
    let time = window.end_us as f64 / 1e6;
    let mut client = system.client();
    let mut ask = |query: String| -> Result<f64, Error> {
        let data = client.query(&query, time)?;
        Ok(data["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(0.0))
    };
    Ok(json!({
        "count": ask(format!("sum(count_over_time(up[{seconds}s]))"))?,
        "sum": ask(format!("sum(sum_over_time(up[{seconds}s]))"))?,
        "longest_scrape_seconds": ask(format!("max(max_over_time(scrape_duration_seconds[{seconds}s]))"))?,
        "expected": window.expected,
        "targets": targets.options.targets,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(at: &[i64], expect: u64) {
        let served: VecDeque<Served> =
            at.iter().map(|&at_us| Served { at_us, version: 0, down: false }).collect();
        assert_eq!(missed(&served, 1000, 2000, 100), expect, "{at:?}");
    }

    #[test]
    fn the_longest_turn_is_that_of_all_shards() {
        let page = "systole_shard_turn_seconds_max{class=\"ingest\",shard=\"0\"} 0.002\n\
            systole_shard_turn_seconds_max{class=\"ingest\",shard=\"1\"} 0.005\n\
            systole_shard_turn_seconds_max{class=\"rpc\",shard=\"1\"} 0.001\n";
        assert_eq!(longest_of(page), json!({"longest_ms": 5.0, "by_class_ms": {"ingest": 5.0, "rpc": 1.0}}));
        assert_eq!(longest_of("up 1\n"), Value::Null);
    }

    #[test]
    fn gaps_of_whole_intervals_are_missed_scrapes() {
        let all: Vec<i64> = (0..30).map(|i| 40 + i * 100).collect();
        check(&all, 0);
        let jittered: Vec<i64> = all.iter().map(|t| t + t / 100 % 3 * 20).collect();
        check(&jittered, 0);
        let without = |gone: &[i64]| all.iter().copied().filter(|t| !gone.contains(t)).collect::<Vec<_>>();
        check(&without(&[1540]), 1);
        check(&without(&[1040, 1140, 1640]), 3);
        check(&without(&[1740, 1840, 1940, 2040]), 3);
        check(&[], 10);
    }
}
