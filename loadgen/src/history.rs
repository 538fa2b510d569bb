//! Workload O2, and with it D1: a day of samples, written as fast as they are acknowledged, through everything that a
//! day brings: blocks cut, logs shortened, blocks merged.
//!
//! In: hosts of the `node` shape, hours. Out: acknowledgements' latencies (the longest is the longest stall), bytes
//! written for each byte kept, bytes a sample. Runs on: the main thread, a connection. Invariant: samples lie in the
//! past and come in order, a minute of all hosts a request, so no system has to sort. Never: counts bytes of the log
//! and of memory images into a sample's: what the last two thirds of the day added is divided by their samples.

use std::path::PathBuf;
use std::time::Duration;

use exposition::remote_write_build::RequestBuilder;
use exposition::{Event, Parser, key};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::client::{Client, excerpt};
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
/// Hosts read the same counters, so many versions apart.
const HOST_VERSIONS: u64 = 997;
/// Disks are read when they have been the same for so long, or after the longer time in any case.
const STILL: Duration = Duration::from_secs(3);
const STILL_MAX: Duration = Duration::from_secs(30);
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
    Ok(suite::each("O2", plan.rounds, &specs, |spec| run_one(plan, spec)))
}

fn run_one(plan: &Plan, spec: &Spec) -> Result<Value, Error> {
    let mut system = System::start(spec, &plan.folder.join(&spec.name), "global: {}\nscrape_configs: []\n")?;
    let steps = plan.hours * 3600 * 1000 / STEP_MS as u64;
    let begin_ms = (clock::unix_us() / 1000 / STEP_MS - steps as i64) * STEP_MS;
    let mut feed = Feed::new(plan, &system, begin_ms)?;
    let mut sampler = Sampler::start();
    let third = (steps / 3 / STEPS_A_REQUEST).max(1) * STEPS_A_REQUEST;
    feed.write(0..third, &mut system, &mut sampler)?;
    let (early_disk, early_samples) = (still_disk(&system), feed.samples);
    feed.write(third..steps, &mut system, &mut sampler)?;
    let busy = system.usage()?;
    let disk = still_disk(&system);
    let written = process::written_bytes(system.pid());
    let usage = system.usage()?;
    let end_ms = begin_ms + (steps as i64 - 1) * STEP_MS;
    let complaints = feed.complaints(&system, plan.hours, end_ms)?;
    let added = disk.saturating_sub(early_disk) as f64 / (feed.samples - early_samples).max(1) as f64;
    let timeline = sampler.points.iter().map(|(t, u)| json!([t, u.cpu.as_secs_f64(), u.rss_bytes]));
    Ok(json!({
        "history": {
            "hours": plan.hours, "series": feed.keys.len() * plan.hosts, "samples": feed.samples,
            "seconds": feed.seconds, "speed": plan.hours as f64 * 3600.0 / feed.seconds.max(1e-3),
            "samples_per_second": feed.samples as f64 / feed.seconds.max(1e-3),
            "cpu_us_per_sample": usage.cpu.as_secs_f64() * 1e6 / feed.samples.max(1) as f64,
            "cpu_us_per_sample_before_rest": busy.cpu.as_secs_f64() * 1e6 / feed.samples.max(1) as f64,
            "bytes_per_sample": added, "disk_bytes": disk, "early_disk_bytes": early_disk,
            "bytes_per_sample_with_log": disk as f64 / feed.samples.max(1) as f64,
            "written_bytes": written, "peak_bytes": usage.peak_bytes,
            "write_amplification": written.map(|w| w as f64 / disk.max(1) as f64),
            "ack_ms": quantiles(&feed.latency),
        },
        "timeline": timeline.collect::<Vec<_>>(),
        "complaints": complaints,
        "stop_seconds": system.stop().as_secs_f64(),
    }))
}

/// Bytes on disk once background work is through.
fn still_disk(system: &System) -> u64 {
    let begin = clock::now();
    let (mut bytes, mut since) = (system.disk_bytes(), clock::now());
    while since.elapsed() < STILL && begin.elapsed() < STILL_MAX {
        clock::sleep(Duration::from_millis(200));
        let now = system.disk_bytes();
        if now != bytes {
            (bytes, since) = (now, clock::now());
        }
    }
    bytes
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

    /// The request of some steps: all hosts at one time, then at the next.
    fn request(&mut self, steps: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
        let mut builder = RequestBuilder::with_capacity(256 << 10);
        for step in steps {
            let time = self.begin_ms + step as i64 * STEP_MS;
            for host in 0..self.hosts {
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

    fn write(
        &mut self,
        steps: std::ops::Range<u64>,
        system: &mut System,
        sampler: &mut Sampler,
    ) -> Result<(), Error> {
        let mut shown = clock::now();
        let mut at = steps.start;
        while at < steps.end {
            let next = (at + STEPS_A_REQUEST).min(steps.end);
            let body = self.request(at..next)?;
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
            at = next;
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
