//! Workload O3: ever more series inside a memory control group, until they are refused or the program ends.
//!
//! In: a bound of memory. Out: the series taken, and what became of those beyond: refused with a word, or the end.
//! Runs on: the main thread, a connection. Invariant: the group is removed with the run. Never: swaps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::excerpt;
use crate::error::{Context, Error};
use crate::system::{Kind, Spec, System};
use crate::write::request::{Protocol, Request};
use crate::{clock, suite};

pub struct Plan {
    pub memory_bytes: u64,
    /// The longest that series are added.
    pub window: Duration,
    pub rounds: u32,
    pub seed: u64,
    pub folder: PathBuf,
}

const BATCH: u64 = 2000;

pub fn run(plan: &Plan, specs: &[Spec]) -> Vec<Value> {
    suite::each("O3", plan.rounds, specs, |spec| {
        let group = Group::new(plan.memory_bytes)?;
        run_one(plan, &Spec { group: Some(group.folder.clone()), ..spec.clone() })
    })
}

fn run_one(plan: &Plan, spec: &Spec) -> Result<Value, Error> {
    let mut system = System::start(spec, &plan.folder.join(&spec.name), "global: {}\nscrape_configs: []\n")?;
    let mut client = system.client();
    let path = system.write_path(Protocol::V1);
    let mut request = Request::new(Protocol::V1, plan.seed, 0, BATCH, true);
    let (begin, mut series, mut pass) = (clock::now(), 0, 0);
    let (outcome, what) = loop {
        if begin.elapsed() > plan.window {
            break ("neither", format!("no end after {:?}", plan.window));
        }
        let body = request.patch(pass, clock::unix_us() / 1000);
        pass += 1;
        match client.post(path, Protocol::V1.headers(), body) {
            Ok(answer) if (200..300).contains(&answer.status) => series += BATCH,
            Ok(answer) => break ("refused", format!("{}: {}", answer.status, excerpt(&answer.body))),
            Err(e) => {
                clock::sleep(Duration::from_millis(200));
                break match system.usage() {
                    Ok(_) => ("refused", format!("connection: {e}")),
                    Err(_) => ("ended", "the kernel ended it, or it did itself".into()),
                };
            }
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    let alive = system.usage().ok();
    let found = alive.and_then(|_| found(&system));
    let mut complaints = Vec::new();
    if outcome == "ended" && spec.kind == Kind::Ours {
        complaints.push(format!("ended at {series} series in {} MiB", plan.memory_bytes >> 20));
    }
    Ok(json!({
        "ceiling": {
            "memory_bytes": plan.memory_bytes, "series": series, "seconds": seconds,
            "outcome": outcome, "what": what, "answers": found.is_some(), "series_found": found,
            "bytes_per_series": plan.memory_bytes as f64 / series.max(1) as f64,
            "rss_bytes": alive.map(|u| u.rss_bytes), "peak_bytes": alive.map(|u| u.peak_bytes),
        },
        "complaints": complaints,
        "stop_seconds": system.stop().as_secs_f64(),
    }))
}

/// Series that the system answers with, at its limit.
fn found(system: &System) -> Option<f64> {
    let data = system.client().query(r#"count({__name__=~"rw_metric_.+"})"#, clock::unix_us() as f64 / 1e6);
    data.ok()?["result"][0]["value"][1].as_str()?.parse().ok()
}

/// A memory control group of our own, of either version.
struct Group {
    folder: PathBuf,
}

impl Group {
    fn new(bytes: u64) -> Result<Group, Error> {
        let root = Path::new("/sys/fs/cgroup");
        let is_unified = root.join("cgroup.controllers").is_file();
        let base = if is_unified { root.to_path_buf() } else { root.join("memory") };
        let group = Group { folder: base.join(format!("systole-loadgen-{}", std::process::id())) };
        let set = |name: &str, value: String| {
            let file = group.folder.join(name);
            fs::write(&file, value).context(|| file.display().to_string())
        };
        fs::create_dir_all(&group.folder).context(|| "a control group of our own".into())?;
        if is_unified {
            set("memory.max", bytes.to_string())?;
            // Not everywhere there is swap to forbid.
            let _ = set("memory.swap.max", "0".into());
        } else {
            set("memory.limit_in_bytes", bytes.to_string())?;
            let _ = set("memory.memsw.limit_in_bytes", bytes.to_string());
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may be a moment from being gone.
        let begin = clock::now();
        while fs::remove_dir(&self.folder).is_err() && begin.elapsed() < Duration::from_secs(5) {
            clock::sleep(Duration::from_millis(50));
        }
    }
}
