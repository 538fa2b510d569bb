//! Questions asked on a schedule, whether those before were answered or not.
//!
//! In: requests with what their answers must be, a rate. Out: latencies by kind, CPU a question, failures. Runs on: a
//! thread per worker. Invariant: a latency counts from when a question was due, so a stall is charged for all that it
//! held up. Never: times a question whose answer was not found right before.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::clock;
use crate::error::{Context, Error};
use crate::system::System;
use crate::write::latencies;

/// One request of a mix.
pub struct Asked {
    /// Which of the mix's kinds.
    pub kind: usize,
    pub path: String,
}

/// What is asked, in turn, and how fast.
pub struct Mix {
    pub kinds: Vec<&'static str>,
    pub asked: Vec<Asked>,
    /// Requests a second over all workers.
    pub rate: f64,
    pub workers: usize,
    pub window: Duration,
    /// So many requests that follow one another are due at one moment and make one whole, as a dashboard's panels do;
    /// 1 where each stands for itself.
    pub together: usize,
}

/// A schedule further behind than this is given up: the system does not keep up.
const BEHIND_MAX: Duration = Duration::from_secs(30);

struct Shared<'a> {
    mix: &'a Mix,
    turn: AtomicU64,
    failed: AtomicU64,
    behind: AtomicU64,
    first_failure: Mutex<Option<String>>,
    /// Of each whole: how many of its requests are done, and the longest of them in microseconds.
    wholes: Vec<(AtomicU64, AtomicU64)>,
}

/// Runs the mix and reports its latencies.
pub fn run(mix: &Mix, system: &mut System) -> Result<Value, Error> {
    let turns = ((mix.rate * mix.window.as_secs_f64()) as usize / mix.together).max(1) * mix.together;
    let shared = Shared {
        mix,
        turn: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        behind: AtomicU64::new(0),
        first_failure: Mutex::new(None),
        wholes: (0..turns / mix.together).map(|_| Default::default()).collect(),
    };
    let before = system.usage()?.cpu;
    let begin = clock::now();
    let told = std::thread::scope(|scope| -> Result<Vec<Vec<Histogram<u64>>>, Error> {
        let mut workers = Vec::new();
        for _ in 0..mix.workers {
            let client = system.client();
            let empty = vec![latencies()?; mix.kinds.len()];
            let shared = &shared;
            let worker = std::thread::Builder::new().name("asker".into());
            let begun = worker.spawn_scoped(scope, move || shared.work(turns as u64, client, begin, empty));
            workers.push(begun.context(|| "thread".to_string())?);
        }
        Ok(workers.into_iter().filter_map(|w| w.join().ok()).collect())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = (system.usage()?.cpu - before).as_secs_f64();
    shared.tell(&told, seconds, cpu)
}

impl Shared<'_> {
    fn work(
        &self,
        turns: u64,
        mut client: crate::client::Client,
        begin: std::time::Instant,
        mut histograms: Vec<Histogram<u64>>,
    ) -> Vec<Histogram<u64>> {
        let mix = self.mix;
        loop {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            if turn >= turns {
                return histograms;
            }
            let whole = turn / mix.together as u64;
            let due = begin + Duration::from_secs_f64((whole * mix.together as u64) as f64 / mix.rate);
            clock::sleep_until(due);
            if due.elapsed() > BEHIND_MAX {
                self.behind.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let asked = &mix.asked[turn as usize % mix.asked.len()];
            let failure = match client.fetch(&asked.path) {
                Ok(answer) if answer.status == 200 => None,
                Ok(answer) => Some(format!("{} answered {}", asked.path, answer.status)),
                Err(e) => Some(format!("{}: {e}", asked.path)),
            };
            if let Some(why) = failure {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut first = self.first_failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                first.get_or_insert(why);
                continue;
            }
            let micros = due.elapsed().as_micros() as u64;
            histograms[asked.kind].saturating_record(micros.max(1));
            let (done, longest) = &self.wholes[whole as usize];
            longest.fetch_max(micros.max(1), Ordering::Relaxed);
            done.fetch_add(1, Ordering::Release);
        }
    }

    fn tell(&self, told: &[Vec<Histogram<u64>>], seconds: f64, cpu: f64) -> Result<Value, Error> {
        let mix = self.mix;
        let mut all = latencies()?;
        let mut kinds = Vec::new();
        for (k, kind) in mix.kinds.iter().enumerate() {
            let mut of_kind = latencies()?;
            for worker in told {
                let _ = of_kind.add(&worker[k]);
            }
            let _ = all.add(&of_kind);
            if !of_kind.is_empty() {
                kinds.push(json!({"id": kind, "count": of_kind.len(), "ms": quantiles(&of_kind)}));
            }
        }
        let mut wholes = latencies()?;
        for (done, longest) in &self.wholes {
            if done.load(Ordering::Acquire) == mix.together as u64 {
                wholes.saturating_record(longest.load(Ordering::Relaxed));
            }
        }
        let (failed, behind) = (self.failed.load(Ordering::Relaxed), self.behind.load(Ordering::Relaxed));
        let first = self.first_failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Ok(json!({
            "seconds": seconds, "asked": all.len(), "per_second": all.len() as f64 / seconds,
            "rate": mix.rate, "failed": failed, "behind": behind, "first_failure": first,
            "cpu_ms_per_query": cpu * 1e3 / (all.len().max(1) as f64), "cores": cpu / seconds,
            "ms": quantiles(&all), "whole_ms": quantiles(&wholes), "kinds": kinds,
        }))
    }
}

/// Milliseconds at the quantiles of interest, and the curve for the plot.
pub fn quantiles(latency: &Histogram<u64>) -> Value {
    let ms = |us: u64| us as f64 / 1e3;
    let at = |q: f64| ms(latency.value_at_quantile(q));
    let curve = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0].map(|q| json!([q, at(q)]));
    json!({
        "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p999": at(0.999), "max": ms(latency.max()),
        "curve": curve,
    })
}
