//! Workload O2, and with it D1: a day of samples, written as fast as they are acknowledged, through everything that a
//! day brings: blocks cut, logs shortened, blocks merged.
//!
//! In: hosts of the `node` shape, hours. Out: acknowledgements' latencies (the longest is the longest stall), bytes
//! written for each byte kept, bytes a sample. Runs on: the main thread, a connection. Invariant: samples lie in the
//! past and come in order, a minute of all hosts a request (a step of some, where they are many), so no system has to
//! sort. Never: counts bytes of logs and of memory images into a sample's, nor files that are about to go: blocks that
//! have settled are divided by the samples that lie in them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exposition::remote_write_build::RequestBuilder;
use exposition::{Event, Parser, key};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::client::{Client, excerpt};
use crate::device::Watch;
use crate::error::{Context, Error};
use crate::load::quantiles;
use crate::shape::node::Node;
use crate::system::{Kind, Sampler, Spec, System};
use crate::write::latencies;
use crate::write::request::Protocol;
use crate::{clock, process, suite};

pub struct Plan {
    pub hosts: usize,
    pub lines: usize,
    pub hours: u64,
    pub rounds: u32,
    pub seed: u64,
    pub folder: PathBuf,
}

const STEP_MS: i64 = 15_000;
const STEPS_A_REQUEST: u64 = 4;
/// At some 200 bytes each they stay below the 32 MiB that Prometheus takes at once.
const SAMPLES_A_REQUEST: usize = 100_000;
/// Hosts read the same counters, so many versions apart.
const HOST_VERSIONS: u64 = 997;
/// Blocks are read when this many looks found the same, and given up after the larger number: 5 s, 90 s. All systems
/// look for blocks to be made or merged more often than that while there are some.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const STILL_LOOKS: u32 = 20;
const LOOKS_MAX: u32 = 360;
/// A head gives blocks up when it is longer than this, in Prometheus as in ours.
const HEAD_MS_MAX: i64 = 3 * 3600 * 1000;
/// Longest wait for what was acknowledged to be visible.
const VISIBLE_MAX: Duration = Duration::from_secs(10);
/// Sums of millions of values, added in any order.
const TOLERANCE: f64 = 1e-6;
/// The family whose samples are summed and compared.
const SUMMED: &str = "node_cpu_seconds_total";

pub fn run(plan: &Plan, specs: &[Spec]) -> Result<Vec<Value>, Error> {
    if plan.hosts == 0 || plan.hours == 0 || plan.hours > 24 {
        return Err(Error::Usage("at least one host, 1 to 24 hours".into()));
    }
    let mut specs = specs.to_vec();
    for spec in specs.iter_mut().filter(|s| s.kind == Kind::Ours) {
        // Ours looks for blocks to be made once a minute, in which hours are written here; in the others what is
        // appended wakes those who make them.
        spec.flags.push("--storage.tsdb.block-reload-interval=1s".into());
    }
    // A day is the workload of record; of two hours, the memory.
    let name = if plan.hours == 24 { "O2".to_string() } else { format!("O2 {} h", plan.hours) };
    Ok(suite::each(&name, plan.rounds, &specs, |spec| run_one(plan, spec)))
}

fn run_one(plan: &Plan, spec: &Spec) -> Result<Value, Error> {
    let mut system = System::start(spec, &plan.folder.join(&spec.name), "global: {}\nscrape_configs: []\n")?;
    let steps = plan.hours * 3600 * 1000 / STEP_MS as u64;
    let begin_ms = (clock::unix_us() / 1000 / STEP_MS - steps as i64) * STEP_MS;
    let mut feed = Feed::new(plan, &system, begin_ms)?;
    let mut sampler = Sampler::start();
    let device = Watch::start(&system.folder)?;
    feed.write(0..steps, &mut system, &mut sampler)?;
    let device_ms = device.finish();
    let busy = system.usage()?;
    let end_ms = begin_ms + (steps as i64 - 1) * STEP_MS;
    let head_from = end_ms.saturating_sub(HEAD_MS_MAX);
    let kept = settled(|| kept(&system), |k| k.until_ms >= head_from, || clock::sleep(LOOK_EVERY))?;
    let disk = system.disk_bytes();
    let written = process::written_bytes(system.pid());
    let usage = system.usage()?;
    let mut complaints = feed.complaints(&system, plan.hours, end_ms)?;
    if kept.is_none() {
        complaints.push(format!("blocks had not settled after {:?}", LOOK_EVERY * LOOKS_MAX));
    }
    let series = feed.keys.len() * plan.hosts;
    let kept_samples = kept.map(|k| steps_before(k.until_ms, begin_ms, steps) * feed.samples / steps);
    let timeline = sampler.points.iter().map(|(t, u)| json!([t, u.cpu.as_secs_f64(), u.rss_bytes]));
    Ok(json!({
        "history": {
            "hours": plan.hours, "series": series, "samples": feed.samples,
            "seconds": feed.seconds, "speed": plan.hours as f64 * 3600.0 / feed.seconds.max(1e-3),
            "samples_per_second": feed.samples as f64 / feed.seconds.max(1e-3),
            "cpu_us_per_sample": usage.cpu.as_secs_f64() * 1e6 / feed.samples.max(1) as f64,
            "cpu_us_per_sample_before_rest": busy.cpu.as_secs_f64() * 1e6 / feed.samples.max(1) as f64,
            "bytes_per_sample": kept.zip(kept_samples.filter(|n| *n > 0)).map(|(k, n)| k.bytes as f64 / n as f64),
            "kept_bytes": kept.map(|k| k.bytes), "kept_samples": kept_samples, "disk_bytes": disk,
            "bytes_per_sample_with_log": disk as f64 / feed.samples.max(1) as f64,
            "written_bytes": written, "peak_bytes": usage.peak_bytes,
            "peak_bytes_per_series": usage.peak_bytes as f64 / series.max(1) as f64,
            "write_amplification": written.map(|w| w as f64 / disk.max(1) as f64),
            "ack_ms": quantiles(&feed.latency),
        },
        "device_ms": device_ms,
        "timeline": timeline.collect::<Vec<_>>(),
        "complaints": complaints,
        "stop_seconds": system.stop().as_secs_f64(),
    }))
}

/// What a system keeps for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    bytes: u64,
    /// Samples before this time are in it.
    until_ms: i64,
}

fn kept(system: &System) -> Result<Kept, Error> {
    let kind = system.spec.kind;
    let until_ms = match kind {
        // It keeps new samples in memory for some seconds; then all are in its parts.
        Kind::VictoriaMetrics => {
            system.client().fetch("/internal/force_flush").context(|| "flushing".into())?;
            i64::MAX
        }
        Kind::Prometheus | Kind::Ours => {
            let page = system.client().fetch("/metrics").context(|| "metrics".into())?;
            let text = String::from_utf8_lossy(&page.body);
            let min = text.lines().find_map(|l| l.strip_prefix("prometheus_tsdb_head_min_time_seconds "));
            min.and_then(|v| v.trim().parse::<f64>().ok()).map_or(i64::MIN, |s| (s * 1e3) as i64)
        }
    };
    let bytes = process::disk_bytes_where(&system.folder.join("data"), &|path| lasts(kind, path));
    Ok(Kept { bytes, until_ms })
}

/// Whether a file, by its path in the data folder, is there for good: no log, no image of memory, none being made.
fn lasts(kind: Kind, path: &Path) -> bool {
    let mut parts = path.iter().map(|p| p.to_string_lossy());
    match kind {
        Kind::Ours => path.extension().is_some_and(|e| e == "block") && parts.any(|p| p == "blocks"),
        // A folder named by a ULID is a block; while it is made or removed, more follows in its name.
        Kind::Prometheus => parts.next().is_some_and(|p| {
            p.len() == 26 && p.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        }),
        Kind::VictoriaMetrics => !parts.any(|p| ["cache", "tmp", "flock.lock"].contains(&&*p)),
    }
}

/// What is kept once it is `through` and looks the same for long; `None` where it does not settle.
fn settled(
    mut look: impl FnMut() -> Result<Kept, Error>,
    through: impl Fn(&Kept) -> bool,
    mut wait: impl FnMut(),
) -> Result<Option<Kept>, Error> {
    let (mut last, mut same) = (look()?, 0);
    for _ in 0..LOOKS_MAX {
        if same >= STILL_LOOKS && through(&last) {
            return Ok(Some(last));
        }
        wait();
        let now = look()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(None)
}

/// Steps of the day before a time.
fn steps_before(until_ms: i64, begin_ms: i64, steps: u64) -> u64 {
    let whole = until_ms.saturating_sub(begin_ms).max(0) as u64;
    whole.div_ceil(STEP_MS as u64).min(steps)
}

/// What writes the day.
struct Feed {
    node: Node,
    hosts: usize,
    begin_ms: i64,
    client: Client,
    path: &'static str,
    /// Labels of each series of a host, without the host's own.
    keys: Vec<Vec<(String, String)>>,
    latency: Histogram<u64>,
    samples: u64,
    sum: f64,
    seconds: f64,
}

impl Feed {
    fn new(plan: &Plan, system: &System, begin_ms: i64) -> Result<Feed, Error> {
        let node = Node::new(plan.seed, plan.lines, STEP_MS as f64 / 1e3);
        let mut feed = Feed {
            keys: Vec::new(),
            node,
            hosts: plan.hosts,
            begin_ms,
            client: system.client(),
            path: system.write_path(Protocol::V1),
            latency: latencies()?,
            samples: 0,
            sum: 0.0,
            seconds: 0.0,
        };
        let body = feed.node.body(0);
        let mut keys = Vec::new();
        each_sample(&body, |raw, kind, _| {
            let mut labels: Vec<(String, String)> = key::decode(raw, kind)
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            labels.push(("job".into(), "history".into()));
            labels.push(("instance".into(), String::new()));
            labels.sort();
            keys.push(labels);
        })?;
        feed.keys = keys;
        Ok(feed)
    }

    /// The request of some steps: hosts at one time, then at the next.
    fn request(&mut self, steps: Range<u64>, hosts: Range<usize>) -> Result<Vec<u8>, Error> {
        let mut builder = RequestBuilder::with_capacity(256 << 10);
        for step in steps {
            let time = self.begin_ms + step as i64 * STEP_MS;
            for host in hosts.clone() {
                let instance = format!("host-{host:05}:9100");
                let body = self.node.body(step + host as u64 * HOST_VERSIONS);
                let (keys, mut i) = (&self.keys, 0);
                let (mut samples, mut sum) = (0, 0.0);
                each_sample(&body, |_, _, value| {
                    let labels = keys[i].iter().map(|(name, value)| match name.as_str() {
                        "instance" => ("instance", instance.as_str()),
                        name => (name, value.as_str()),
                    });
                    builder.float(labels, time, value);
                    if keys[i].iter().any(|(_, value)| value == SUMMED) {
                        sum += value;
                    }
                    samples += 1;
                    i += 1;
                })?;
                self.samples += samples;
                self.sum += sum;
            }
        }
        let packed = snap::raw::Encoder::new().compress_vec(builder.bytes());
        packed.map_err(|e| Error::Usage(format!("a request is too large: {e}")))
    }

    fn write(&mut self, steps: Range<u64>, system: &mut System, sampler: &mut Sampler) -> Result<(), Error> {
        let mut shown = clock::now();
        for (steps, hosts) in pieces(self.hosts, self.keys.len(), steps) {
            let at = steps.end;
            let body = self.request(steps, hosts)?;
            sampler.poll(system)?;
            let begin = clock::now();
            let answer = self.client.post(self.path, Protocol::V1.headers(), &body);
            let taken = begin.elapsed();
            self.seconds += taken.as_secs_f64();
            self.latency.saturating_record((taken.as_micros() as u64).max(1));
            let answer = answer.context(|| format!("{}: write", system.spec.name))?;
            if !(200..300).contains(&answer.status) {
                let what = format!("answered {}: {}", answer.status, excerpt(&answer.body));
                return Err(Error::Answer { url: self.path.into(), what });
            }
            if shown.elapsed() > Duration::from_secs(5) {
                shown = clock::now();
                eprintln!("  {:>5.1} h written", at as f64 * STEP_MS as f64 / 3.6e6);
            }
        }
        Ok(())
    }

    /// All samples, and the sum of one family's, as the system answers them, held against what was written.
    fn complaints(&self, system: &System, hours: u64, end_ms: i64) -> Result<Vec<String>, Error> {
        let mut client = system.client();
        let mut ask = |query: String| -> Result<f64, Error> {
            let data = client.query(&query, end_ms as f64 / 1e3)?;
            Ok(data["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(0.0))
        };
        let range = format!("[{}m]", hours * 60 + 1);
        let begin = clock::now();
        let name = |labels: &Vec<(String, String)>| {
            labels.iter().find(|(name, _)| name == "__name__").map(|(_, value)| value.clone())
        };
        let names: std::collections::BTreeSet<String> = self.keys.iter().filter_map(name).collect();
        loop {
            let mut count = 0.0;
            for name in &names {
                count += ask(format!("sum(count_over_time({name}{{job=\"history\"}}{range}))"))?;
            }
            let sum = ask(format!("sum(sum_over_time({SUMMED}{{job=\"history\"}}{range}))"))?;
            let mut all = Vec::new();
            if count != self.samples as f64 {
                all.push(format!("{count} samples are there, {} were acknowledged", self.samples));
            }
            if (sum - self.sum).abs() > TOLERANCE * self.sum.abs() {
                all.push(format!("{SUMMED} sums to {sum}, what was acknowledged to {}", self.sum));
            }
            if all.is_empty() || begin.elapsed() > VISIBLE_MAX {
                return Ok(all);
            }
            clock::sleep(Duration::from_millis(500));
        }
    }
}

/// What requests hold, in their order: several steps of all hosts, or of many hosts one step of some.
fn pieces(
    hosts: usize,
    series: usize,
    steps: Range<u64>,
) -> impl Iterator<Item = (Range<u64>, Range<usize>)> {
    let fits = hosts * series * STEPS_A_REQUEST as usize <= SAMPLES_A_REQUEST;
    let some = (SAMPLES_A_REQUEST / series.max(1)).clamp(1, hosts.max(1));
    let (each, hosts_each) = if fits { (STEPS_A_REQUEST, hosts.max(1)) } else { (1, some) };
    let end = steps.end;
    steps.step_by(each as usize).flat_map(move |at| {
        let parts = (0..hosts).step_by(hosts_each);
        parts.map(move |host| (at..(at + each).min(end), host..(host + hosts_each).min(hosts)))
    })
}

/// Each sample of a page of the generator's own.
fn each_sample(page: &[u8], mut f: impl FnMut(&[u8], exposition::MetricKind, f64)) -> Result<(), Error> {
    let mut parser = Parser::new(page);
    loop {
        match parser.next_event() {
            Ok(None) => return Ok(()),
            Ok(Some(Event::Sample(sample))) => f(sample.key, sample.kind, sample.value),
            Ok(Some(_)) => {}
            Err(e) => return Err(Error::Usage(format!("a page of our own: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THROUGH: i64 = 100;

    /// What is settled on where looks find these bytes and heads, the last for ever.
    fn check(found: &[(u64, i64)], expect: Option<u64>) -> Result<(), Error> {
        let mut looks = 0;
        let look = || {
            let (bytes, until_ms) = found[looks.min(found.len() - 1)];
            looks += 1;
            Ok(Kept { bytes, until_ms })
        };
        let have = settled(look, |k| k.until_ms >= THROUGH, || {})?;
        assert_eq!(have.map(|k| k.bytes), expect, "{found:?}");
        Ok(())
    }

    #[test]
    fn blocks_are_counted_when_no_more_are_made_and_none_is_about_to_go() -> Result<(), Error> {
        check(&[(7, THROUGH)], Some(7))?;
        // Cut, and cut again; two are merged, and then removed.
        check(&[(0, 0), (0, 0), (3, 50), (6, THROUGH), (12, THROUGH), (6, THROUGH)], Some(6))?;
        // Still, but the head has not given up what it must.
        let slow: Vec<(u64, i64)> = (0..30).map(|_| (3, 50)).chain([(6, THROUGH)]).collect();
        check(&slow, Some(6))?;
        check(&[(3, 50)], None)?;
        let restless: Vec<(u64, i64)> = (0..1000).map(|i| (i % 2, THROUGH)).collect();
        check(&restless, None)
    }

    #[test]
    fn logs_images_and_unfinished_blocks_do_not_last() {
        let check = |kind: Kind, path: &str, expect: bool| {
            assert_eq!(lasts(kind, Path::new(path)), expect, "{kind:?} {path}");
        };
        check(Kind::Ours, "shards/0000-of-0002/blocks/00000001.block", true);
        check(Kind::Ours, "shards/0000-of-0002/blocks/00000001.block.new", false);
        check(Kind::Ours, "shards/0000-of-0002/wal/00000001", false);
        check(Kind::Ours, "shards/0000-of-0002/wal/checkpoint.00000003", false);
        check(Kind::Ours, "first.block", false);
        check(Kind::Prometheus, "01JDB5M1T3J6Y0G3Z6P4X9W8V7/chunks/000001", true);
        check(Kind::Prometheus, "01JDB5M1T3J6Y0G3Z6P4X9W8V7.tmp-for-creation/index", false);
        check(Kind::Prometheus, "wal/00000001", false);
        check(Kind::Prometheus, "chunks_head/000001", false);
        check(Kind::VictoriaMetrics, "data/small/2026_11/18ABF/values.bin", true);
        check(Kind::VictoriaMetrics, "indexdb/18ABF/items.bin", true);
        check(Kind::VictoriaMetrics, "cache/curr_hour_metric_ids", false);
    }

    #[test]
    fn requests_hold_all_samples_in_order_and_never_too_many() {
        for (hosts, series, steps) in
            [(1, 1000, 0..11), (25, 1000, 3..9), (26, 1000, 0..3), (230, 1000, 0..2)]
        {
            let mut have = Vec::new();
            for (some, some_hosts) in pieces(hosts, series, steps.clone()) {
                let samples = (some.end - some.start) as usize * some_hosts.len() * series;
                assert!(samples <= SAMPLES_A_REQUEST, "{hosts} hosts: {samples}");
                have.extend(some.flat_map(|step| some_hosts.clone().map(move |host| (step, host))));
            }
            let all: Vec<_> = steps.flat_map(|step| (0..hosts).map(move |host| (step, host))).collect();
            assert_eq!(have, all, "{hosts} hosts");
        }
    }

    #[test]
    fn samples_are_counted_by_the_steps_before_a_time() {
        for (until_ms, expect) in
            [(i64::MIN, 0), (1000, 0), (1001, 1), (1000 + STEP_MS, 1), (1001 + STEP_MS, 2), (i64::MAX, 10)]
        {
            assert_eq!(steps_before(until_ms, 1000, 10), expect, "{until_ms}");
        }
    }
}
