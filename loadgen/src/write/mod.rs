//! Workloads W1 and W2: remote write of known series, and of series that are all new.
//!
//! In: a number of series, connections, a batch size, perhaps a rate. Out: samples a second, CPU, latencies of
//! acknowledgement. Runs on: a thread per connection, and the main thread that watches. Invariant: a series is
//! always sent on the same connection, so its samples arrive in order. Never: compresses while it measures.
//!
//! Without a rate the loop is closed: as fast as acknowledged. With one it is open: requests are due at fixed
//! times, and a latency counts from when a request was due, so a stall is charged for all it held up.

pub mod block;
pub mod request;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::client::{Client, excerpt};
use crate::clock;
use crate::device::Watch;
use crate::error::{Context, Error};
use crate::load::quantiles;
use crate::ring;
use crate::shape::mix;
use crate::suite;
use crate::system::{Kind, Sampler, Spec, System};
use request::{Protocol, Request};

#[derive(Clone)]
pub struct Plan {
    pub series: u64,
    pub connections: usize,
    pub batch: u64,
    /// Samples a second over all connections; `None` for as fast as acknowledged.
    pub rate: Option<f64>,
    pub protocol: Protocol,
    /// W2: every request brings series never seen.
    pub fresh: bool,
    /// W4: share of requests whose samples are up to an hour late.
    pub late: f64,
    /// Q5: from the middle of the window on this is asked once in so long.
    pub beside: Option<(String, Duration)>,
    pub window: Duration,
    pub rounds: u32,
    pub seed: u64,
    pub folder: PathBuf,
}

/// Longest wait for what was acknowledged to be visible.
const VISIBLE_MAX: Duration = Duration::from_secs(10);
/// How late what comes late is: past what any system takes for in time, up to an hour.
const LATE_MS_MIN: i64 = 60_000;
const LATE_MS_MAX: i64 = 3_540_000;
/// Latencies are kept in microseconds up to two minutes, the client's own patience.
const LATENCY_US_MAX: u64 = 120_000_000;

impl Plan {
    pub fn workload(&self) -> &'static str {
        match (self.protocol, self.fresh, self.rate.is_some()) {
            _ if self.beside.is_some() => "Q5",
            _ if self.late > 0.0 => "W4",
            (Protocol::Otlp, ..) => "W5",
            (Protocol::V2, false, false) => "W1 by remote write 2.0",
            (_, true, _) => "W2",
            (_, false, false) => "W1",
            (_, false, true) => "W3",
        }
    }

    /// No targets; late samples need to be allowed where they are not by themselves.
    fn config(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Prometheus | Kind::Ours if self.late > 0.0 => {
                "storage: {tsdb: {out_of_order_time_window: 2h}}\nscrape_configs: []\n"
            }
            _ => "global: {}\nscrape_configs: []\n",
        }
    }
}

/// All systems in turn, `rounds` times over.
pub fn run(plan: &Plan, specs: &[Spec]) -> Result<Vec<Value>, Error> {
    if plan.batch == 0 || plan.connections == 0 || plan.series < plan.batch * plan.connections as u64 {
        return Err(Error::Usage("each connection needs at least one batch of series".into()));
    }
    Ok(suite::each(plan.workload(), plan.rounds, specs, |spec| run_one(plan, spec)))
}

/// What the senders share.
#[derive(Default)]
struct Shared {
    acked: AtomicU64,
    refused: AtomicU64,
    /// Connections that have sent each of their series once.
    warm: AtomicU64,
    go: AtomicBool,
    /// The second half of the window has begun, in which questions are asked.
    beside: AtomicBool,
    stop: AtomicBool,
    sender_cpu_ns: AtomicU64,
}

/// What one connection has to tell at the end.
struct Told {
    latency: Histogram<u64>,
    /// Latencies while questions were asked.
    beside: Histogram<u64>,
    series: u64,
    sum: f64,
    failure: Option<String>,
}

fn run_one(plan: &Plan, spec: &Spec) -> Result<Value, Error> {
    let mut system = System::start(spec, &plan.folder.join(&spec.name), plan.config(spec.kind))?;
    let batches = plan.series / plan.batch;
    let shared = Shared::default();
    let empty = latencies()?;
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        for c in 0..plan.connections as u64 {
            let client = system.client();
            let (shared, latency, path) = (&shared, empty.clone(), system.write_path(plan.protocol));
            let mine: Vec<u64> = (c..batches).step_by(plan.connections).collect();
            let sender = std::thread::Builder::new().name(format!("sender-{c}"));
            let begun =
                sender.spawn_scoped(scope, move || send(plan, &mine, (client, path), latency, shared));
            senders.push(begun.context(|| "thread".to_string())?);
        }
        let measured = measure(plan, &mut system, &shared);
        shared.go.store(true, Ordering::Release);
        shared.stop.store(true, Ordering::Release);
        let told: Vec<Told> = senders.into_iter().filter_map(|s| s.join().ok()).collect();
        if let Some(why) = told.iter().find_map(|t| t.failure.clone()) {
            eprintln!("  {}: a connection gave up: {why}", spec.name);
        }
        finish(&mut system, measured?, &told)
    })
}

/// Watches the window from the main thread.
fn measure(plan: &Plan, system: &mut System, shared: &Shared) -> Result<Value, Error> {
    let mut sampler = Sampler::start();
    while shared.warm.load(Ordering::Acquire) < plan.connections as u64 {
        sampler.poll(system)?;
        clock::sleep(Duration::from_millis(20));
    }
    let first_samples = shared.acked.load(Ordering::Relaxed);
    let first_cpu = system.usage()?.cpu;
    shared.go.store(true, Ordering::Release);
    let begin = clock::now();
    let sender_before = shared.sender_cpu_ns.load(Ordering::Relaxed);
    let stop = begin + plan.window;
    let device = Watch::start(&system.folder)?;
    let mut shown = begin;
    let mut asker = None;
    while clock::now() < stop {
        sampler.poll(system)?;
        if asker.is_none() && begin.elapsed() * 2 > plan.window {
            asker = plan.beside.as_ref().map(|(query, every)| Asker::start(system, query, *every, stop));
            shared.beside.store(asker.is_some(), Ordering::Relaxed);
        }
        clock::sleep(stop.saturating_duration_since(clock::now()).min(Duration::from_millis(100)));
        if shown.elapsed() > Duration::from_secs(5) {
            shown = clock::now();
            let rate =
                (shared.acked.load(Ordering::Relaxed) - first_samples) as f64 / begin.elapsed().as_secs_f64();
            eprintln!("  {rate:>9.0} samples/s acknowledged");
        }
    }
    let usage = system.usage()?;
    let seconds = begin.elapsed().as_secs_f64();
    let samples = (shared.acked.load(Ordering::Relaxed) - first_samples) as f64;
    let sender = (shared.sender_cpu_ns.load(Ordering::Relaxed) - sender_before) as f64 / 1e9;
    let cpu = (usage.cpu - first_cpu).as_secs_f64();
    let device_ms = device.finish();
    let (asked, unanswered) = asker.transpose()?.map(Asker::finish).unzip();
    let timeline = sampler.points.iter().map(|(t, u)| json!([t, u.cpu.as_secs_f64(), u.rss_bytes]));
    Ok(json!({
        "timeline": timeline.collect::<Vec<_>>(),
        "first_cpu_seconds": first_cpu.as_secs_f64(),
        "asked_ms": asked,
        "unanswered": unanswered.flatten(),
        "device_ms": device_ms,
        "write": {
            "seconds": seconds, "samples": samples, "samples_per_second": samples / seconds,
            "first_samples": first_samples,
            "refused": shared.refused.load(Ordering::Relaxed),
            "cpu_seconds": cpu, "cores": cpu / seconds, "cpu_us_per_sample": cpu * 1e6 / samples.max(1.0),
            "rss_bytes": usage.rss_bytes, "peak_bytes": usage.peak_bytes,
            "sender_cores": sender / seconds, "sender_us_per_sample": sender * 1e6 / samples.max(1.0),
        },
    }))
}

/// One connection: its series once over, then as the plan says until told to stop.
fn send(
    plan: &Plan,
    batches: &[u64],
    (client, path): (Client, &'static str),
    latency: Histogram<u64>,
    shared: &Shared,
) -> Told {
    let requests = batches
        .iter()
        .map(|b| Request::new(plan.protocol, plan.seed, b * plan.batch, plan.batch, plan.fresh));
    let mut sender = Sender {
        plan,
        client,
        path,
        shared,
        requests: requests.collect(),
        passes: Vec::new(),
        beside: latency.clone(),
        latency,
        turn: 0,
    };
    sender.passes = vec![0; sender.requests.len()];
    let mut failure = None;
    if !plan.fresh {
        failure = (0..sender.requests.len()).find_map(|i| sender.send_one(i, None).err());
    }
    shared.warm.fetch_add(1, Ordering::AcqRel);
    while !shared.go.load(Ordering::Acquire) {
        clock::sleep(Duration::from_millis(1));
    }
    sender.latency.reset();
    if failure.is_none() {
        failure = sender.steady().err();
    }
    let (mut series, mut sum) = (0, 0.0);
    for (request, &passes) in sender.requests.iter().zip(&sender.passes).filter(|(_, passes)| **passes > 0) {
        if plan.fresh {
            series += passes * request.series();
            sum += (0..passes).map(|p| request.sum(p)).sum::<f64>();
        } else {
            series += request.series();
            sum += request.sum(passes - 1);
        }
    }
    Told {
        latency: sender.latency,
        beside: sender.beside,
        series,
        sum,
        failure: failure.map(|e| e.to_string()),
    }
}

/// Latencies in microseconds, three digits each.
pub fn latencies() -> Result<Histogram<u64>, Error> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).map_err(|e| Error::Usage(format!("latency bounds: {e}")))
}

struct Sender<'a> {
    plan: &'a Plan,
    client: Client,
    path: &'static str,
    shared: &'a Shared,
    requests: Vec<Request>,
    /// Requests acknowledged of each batch.
    passes: Vec<u64>,
    latency: Histogram<u64>,
    beside: Histogram<u64>,
    turn: u64,
}

impl Sender<'_> {
    fn steady(&mut self) -> std::io::Result<()> {
        let begin = clock::now();
        let per_connection =
            self.plan.rate.map(|r| r / self.plan.connections as f64 / self.plan.batch as f64);
        let mut cpu_before = ring::thread_cpu();
        for turn in 0u64.. {
            if self.shared.stop.load(Ordering::Acquire) {
                break;
            }
            let due = per_connection.map(|r| begin + Duration::from_secs_f64(turn as f64 / r));
            if let Some(due) = due {
                clock::sleep_until(due);
            }
            self.send_one(turn as usize % self.requests.len(), due)?;
            let cpu = ring::thread_cpu();
            self.shared.sender_cpu_ns.fetch_add((cpu - cpu_before).as_nanos() as u64, Ordering::Relaxed);
            cpu_before = cpu;
        }
        Ok(())
    }

    fn send_one(&mut self, i: usize, due: Option<Instant>) -> std::io::Result<()> {
        self.turn += 1;
        let draw = mix(self.plan.seed, self.turn, i as u64);
        // What comes late comes to series that have newer samples already.
        let is_late = self.passes[i] > 0 && ((draw & 0xffff) as f64) < self.plan.late * 65536.0;
        let now_ms = clock::unix_us() / 1000;
        let request = &mut self.requests[i];
        let series = request.series();
        let body = if is_late {
            request.patch_at(self.passes[i], now_ms - LATE_MS_MIN - (draw >> 16) as i64 % LATE_MS_MAX)
        } else {
            request.patch(self.passes[i], now_ms)
        };
        let begin = due.unwrap_or_else(clock::now);
        let answer = self.client.post(self.path, self.plan.protocol.headers(), body)?;
        let micros = begin.elapsed().as_micros() as u64;
        let beside = self.shared.beside.load(Ordering::Relaxed);
        let latency = if beside { &mut self.beside } else { &mut self.latency };
        latency.saturating_record(micros.max(1));
        if (200..300).contains(&answer.status) {
            self.passes[i] += u64::from(!is_late);
            self.shared.acked.fetch_add(series, Ordering::Relaxed);
        } else if self.shared.refused.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("  write answered {}: {}", answer.status, excerpt(&answer.body));
        }
        Ok(())
    }
}

/// Adds latencies and the verdict to what was measured.
fn finish(system: &mut System, mut run: Value, told: &[Told]) -> Result<Value, Error> {
    let mut latency = latencies()?;
    for t in told {
        let _ = latency.add(&t.latency);
    }
    let series: u64 = told.iter().map(|t| t.series).sum();
    let sum: f64 = told.iter().map(|t| t.sum).sum();
    let (found, got) = wait_visible(system, series as f64, sum)?;
    let mut complaints: Vec<String> = told.iter().filter_map(|t| t.failure.clone()).collect();
    complaints.extend(run["unanswered"].as_str().map(str::to_owned));
    let refused = run["write"]["refused"].as_u64().unwrap_or(0);
    if refused > 0 {
        complaints.push(format!("{refused} writes refused"));
    }
    if found != series as f64 {
        complaints.push(format!("{found} series found, {series} were acknowledged"));
    }
    if !close(got, sum) {
        complaints.push(format!("last values sum to {got}, what was acknowledged sums to {sum}"));
    }
    let write = &mut run["write"];
    write["rss_bytes_per_series"] = json!(write["rss_bytes"].as_f64().unwrap_or(0.0) / series.max(1) as f64);
    write["disk_bytes"] = json!(system.disk_bytes());
    write["series_expected"] = json!(series);
    write["series_found"] = json!(found);
    write["sum_error"] = json!((got - sum).abs() / sum.abs().max(1.0));
    write["ack_ms"] = quantiles(&latency);
    let mut beside = latencies()?;
    for t in told {
        let _ = beside.add(&t.beside);
    }
    if !beside.is_empty() {
        let p99 = |h: &Histogram<u64>| h.value_at_quantile(0.99) as f64;
        write["beside_ratio"] = json!(p99(&beside) / p99(&latency).max(1.0));
        write["ack_beside_ms"] = quantiles(&beside);
    }
    run["complaints"] = json!(complaints);
    run["stop_seconds"] = json!(system.stop().as_secs_f64());
    Ok(run)
}

/// Series found and the sum of their last values, once they are as expected or a bounded time has passed:
/// VictoriaMetrics shows rows after two seconds, and later on a busy machine.
fn wait_visible(system: &System, series: f64, sum: f64) -> Result<(f64, f64), Error> {
    let mut client = system.client();
    let begin = clock::now();
    loop {
        let time = clock::unix_us() as f64 / 1e6;
        let mut ask = |query: &str| -> Result<f64, Error> {
            let data = client.query(query, time)?;
            Ok(data["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(0.0))
        };
        let found = ask(r#"count({__name__=~"rw_metric_.+"})"#)?;
        let got = ask(r#"sum({__name__=~"rw_metric_.+"})"#)?;
        if (found == series && close(got, sum)) || begin.elapsed() > VISIBLE_MAX {
            return Ok((found, got));
        }
        clock::sleep(Duration::from_millis(300));
    }
}

fn close(got: f64, expect: f64) -> bool {
    (got - expect).abs() <= 1e-9 * expect.abs()
}

/// How long each answer took, and why one was not had.
type Asked = (Vec<f64>, Option<String>);

/// Asks one question over and over beside the writes.
struct Asker {
    thread: std::thread::JoinHandle<Asked>,
}

impl Asker {
    fn start(system: &System, query: &str, every: Duration, stop: Instant) -> Result<Asker, Error> {
        let (mut client, query) = (system.client(), query.to_string());
        let work = move || {
            let (mut wall_ms, mut failure) = (Vec::new(), None);
            loop {
                let due = stop.checked_sub(Duration::from_millis(200)).unwrap_or(stop);
                let begin = clock::now();
                if begin >= due {
                    break;
                }
                match client.query(&query, clock::unix_us() as f64 / 1e6) {
                    Ok(_) => wall_ms.push(begin.elapsed().as_secs_f64() * 1e3),
                    Err(e) => failure = Some(format!("the question beside the writes was not answered: {e}")),
                }
                clock::sleep_until((begin + every).min(stop));
            }
            (wall_ms, failure)
        };
        let thread = std::thread::Builder::new().name("asker".into()).spawn(work);
        Ok(Asker { thread: thread.context(|| "thread".to_string())? })
    }

    fn finish(self) -> Asked {
        self.thread.join().unwrap_or_default()
    }
}
