//! The whole set, within a bounded time: every workload against every system, one report.
//!
//! In: the systems, a budget of time. Out: runs. Invariant: a workload that fails, or for which no time is left, is
//! said in the report, and the rest goes on. Sizes are what two CPUs get through in the time; the design's own are
//! reached with the single commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Error;
use crate::shape::Shape;
use crate::shape::fleet::{Fleet, Sort, Trouble};
use crate::shape::format::Format;
use crate::shape::node::Node;
use crate::system::Spec;
use crate::targets::Options;
use crate::write::request::Protocol;
use crate::{ceiling, clock, dashboard, history, query, scrape, tsbs, write};

pub struct Plan {
    pub budget: Duration,
    pub folder: PathBuf,
}

type Work<'a> = Box<dyn Fn(&[Spec]) -> Result<Vec<Value>, Error> + 'a>;

pub fn run(plan: &Plan, specs: &[Spec]) -> Vec<Value> {
    let begin = clock::now();
    let mut runs = Vec::new();
    for (name, work) in workloads(&plan.folder) {
        runs.extend(one(name, &work, specs, begin, plan.budget));
    }
    runs
}

fn one(name: &str, work: &Work, specs: &[Spec], begin: Instant, budget: Duration) -> Vec<Value> {
    let said = |what: String| {
        eprintln!("{name}: {what}");
        vec![json!({"workload": name, "system": "none", "failed": what, "complaints": [what]})]
    };
    if begin.elapsed() > budget {
        return said("left out, the time was spent".into());
    }
    work(specs).unwrap_or_else(|e| said(format!("failed: {e}")))
}

fn work<'a>(work: impl Fn(&[Spec]) -> Result<Vec<Value>, Error> + 'a) -> Work<'a> {
    Box::new(work)
}

/// The most important first, so that a slow machine leaves out the others.
fn workloads(folder: &Path) -> Vec<(&'static str, Work<'_>)> {
    let write = move |change: fn(&mut write::Plan)| -> Work<'_> {
        work(move |specs| {
            let mut plan = write_plan(folder);
            change(&mut plan);
            write::run(&plan, specs)
        })
    };
    let fleet = move |name: &'static str, sort: Sort, targets: usize, churn: bool| -> Work<'_> {
        work(move |specs| Ok(scrape::run(&fleet_plan(folder, name, sort, targets, churn), specs)))
    };
    vec![
        ("S1", work(move |specs| Ok(scrape::run(&steady(folder), specs)))),
        ("W1", write(|p| p.series = 500_000)),
        ("W2", write(|p| p.fresh = true)),
        ("W3", write(|p| (p.rate, p.window) = (Some(100_000.0), Duration::from_secs(30)))),
        ("Q2", work(move |specs| Ok(tsbs::run(&tsbs_plan(folder), specs)))),
        ("S2", fleet("S2", Sort::Kube, 41, true)),
        ("Q5", write(|p| (p.rate, p.window, p.beside) = (Some(50_000.0), Duration::from_secs(60), wide()))),
        ("O2", work(move |specs| history::run(&day(folder), specs))),
        ("O3", work(move |specs| Ok(ceiling::run(&ceiling_plan(folder), specs)))),
        ("S1 most", work(move |specs| Ok(scrape::most(&most(folder), MOST_TARGETS_MAX, specs)))),
        ("S3", work(move |specs| Ok(scrape::run(&giant(folder), specs)))),
        (
            "S1 every second",
            work(move |specs| Ok(scrape::run(&quick(folder, "S1 every second", Format::Text, false), specs))),
        ),
        ("S1 gzip", work(move |specs| Ok(scrape::run(&quick(folder, "S1 gzip", Format::Text, true), specs)))),
        (
            "S1 openmetrics",
            work(move |specs| {
                Ok(scrape::run(&quick(folder, "S1 openmetrics", Format::OpenMetrics, false), specs))
            }),
        ),
        ("W1 by remote write 2.0", write(|p| p.protocol = Protocol::V2)),
        ("W5", write(|p| p.protocol = Protocol::Otlp)),
        ("W4", write(|p| p.late = 0.1)),
        ("S1 ceph", fleet("S1 ceph", Sort::Ceph, 11, false)),
        ("S1 openstack", fleet("S1 openstack", Sort::Openstack, 20, true)),
        ("S1 snmp", fleet("S1 snmp", Sort::Snmp, 40, false)),
    ]
}

fn wide() -> Option<(String, Duration)> {
    // Names are kept: without them, series of two names would be the same, and that is no question.
    let query = r#"sum by (handler) (last_over_time({__name__=~"rw_metric_.+"}[1m]))"#;
    Some((query.into(), Duration::from_secs(3)))
}

/// 67 k samples a second of a million series: the set's first line, with the questions, dashboards and the restart.
fn steady(folder: &Path) -> scrape::Plan {
    let interval = Duration::from_secs(15);
    scrape::Plan {
        workload: "S1",
        shape: Arc::new(Shape::Node(Node::new(1, 1000, interval.as_secs_f64()))),
        options: Options::plain(1000, interval),
        warmup: Duration::ZERO,
        window: Duration::from_secs(60),
        rounds: 1,
        queries: true,
        asking: query::Asking { runs: 3, idle: Duration::from_secs(2), hurried: false },
        dashboard: Some(dashboard::Plan {
            users: 5,
            refresh: Duration::from_secs(10),
            window: Duration::from_secs(10),
        }),
        restart: true,
        folder: folder.to_path_buf(),
    }
}

fn quick(folder: &Path, workload: &'static str, format: Format, gzip: bool) -> scrape::Plan {
    let interval = Duration::from_secs(if workload == "S1 every second" { 1 } else { 2 });
    scrape::Plan {
        workload,
        shape: Arc::new(Shape::Node(Node::new(1, 1000, interval.as_secs_f64()))),
        options: Options { format, gzip, ..Options::plain(50, interval) },
        warmup: Duration::ZERO,
        window: Duration::from_secs(10),
        rounds: 1,
        queries: false,
        asking: query::Asking { runs: 1, idle: Duration::from_secs(1), hurried: false },
        dashboard: None,
        restart: false,
        folder: folder.to_path_buf(),
    }
}

/// A fleet with questions; with churn a tenth of its items is replaced every ten intervals, and targets fail.
fn fleet_plan(
    folder: &Path,
    workload: &'static str,
    sort: Sort,
    targets: usize,
    churn: bool,
) -> scrape::Plan {
    let interval = Duration::from_secs(2);
    let trouble = if churn { Trouble { life: 100, reset: 50, explosion: None } } else { Trouble::default() };
    let down = if churn { 65536 / 50 } else { 0 };
    let fleet = Fleet::new(sort, 1, targets, interval.as_secs_f64(), trouble);
    scrape::Plan {
        shape: Arc::new(Shape::Fleet(fleet)),
        options: Options { down, ..Options::plain(targets, interval) },
        window: Duration::from_secs(16),
        queries: true,
        ..quick(folder, workload, Format::Text, false)
    }
}

/// Doubled from 200 000 samples a second on.
const MOST_TARGETS_MAX: usize = 6400;

fn most(folder: &Path) -> scrape::Plan {
    let interval = Duration::from_secs(1);
    scrape::Plan {
        workload: "S1 most",
        shape: Arc::new(Shape::Node(Node::new(1, 1000, interval.as_secs_f64()))),
        options: Options::plain(200, interval),
        window: Duration::from_secs(4),
        ..quick(folder, "S1 most", Format::Text, false)
    }
}

/// One target with a page of a million lines.
fn giant(folder: &Path) -> scrape::Plan {
    let interval = Duration::from_secs(8);
    scrape::Plan {
        workload: "S3",
        shape: Arc::new(Shape::Node(Node::new(1, 1_000_000, interval.as_secs_f64()))),
        options: Options::plain(1, interval),
        window: 2 * interval,
        ..quick(folder, "S3", Format::Text, false)
    }
}

fn day(folder: &Path) -> history::Plan {
    history::Plan { hosts: 1, lines: 1000, hours: 24, rounds: 1, seed: 1, folder: folder.to_path_buf() }
}

fn ceiling_plan(folder: &Path) -> ceiling::Plan {
    ceiling::Plan {
        memory_bytes: 1 << 30,
        window: Duration::from_secs(30),
        rounds: 1,
        seed: 1,
        folder: folder.to_path_buf(),
    }
}

fn write_plan(folder: &Path) -> write::Plan {
    write::Plan {
        series: 200_000,
        protocol: Protocol::V1,
        connections: 4,
        batch: 2000,
        rate: None,
        fresh: false,
        late: 0.0,
        beside: None,
        window: Duration::from_secs(10),
        rounds: 1,
        seed: 1,
        folder: folder.to_path_buf(),
    }
}

fn tsbs_plan(folder: &Path) -> tsbs::Plan {
    tsbs::Plan {
        hosts: 100,
        hours: 3,
        rate: 20.0,
        workers: 16,
        window: Duration::from_secs(15),
        rounds: 1,
        seed: 1,
        folder: folder.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_and_what_is_left_out_is_said() {
        let fails = work(|_| Err(Error::Usage("no".into())));
        let now = clock::now();
        let runs = one("X1", &fails, &[], now, Duration::from_secs(60));
        assert_eq!(runs[0]["complaints"][0], "failed: no");
        let runs = one("X1", &fails, &[], now, Duration::ZERO);
        assert_eq!(runs[0]["failed"], "left out, the time was spent");
        let folder = PathBuf::from("x");
        let mut names: Vec<&str> = workloads(&folder).iter().map(|w| w.0).collect();
        assert_eq!(names.len(), 20);
        names.dedup();
        assert_eq!(names.len(), 20);
    }
}
