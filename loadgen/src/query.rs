//! Queries Q1: wide and narrow questions over what was scraped; how long, how much CPU, and whether they are right.
//!
//! In: a loaded system and the log of its targets. Out: wall p50 and CPU-ms by query, and how far each answer is
//! from the truth. Invariant: an answer is compared before its time counts. Never: asks past the moment given.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, query_path, query_range_path};
use crate::clock;
use crate::error::Error;
use crate::fleet_truth::{Asked, FleetTruth, asked};
use crate::shape::Shape;
use crate::system::{Kind, System};
use crate::targets::{Served, Targets};
use crate::truth::{Groups, RateRule, Truth};

/// How far an answer may be from the truth: sums of up to a million values, added in any order.
const TOLERANCE: f64 = 1e-6;
/// Steps of a range query; the longest asks four minutes in 15 s steps, as the figures of record do.
const RANGE_STEPS: f64 = 16.0;
const RANGE_SECONDS_MAX: f64 = 240.0;

/// How a query is asked.
#[derive(Clone, Copy)]
pub enum Form {
    Instant,
    Range,
}

pub struct Question<'a> {
    pub id: &'static str,
    pub query: String,
    pub form: Form,
    /// Labels of the answer that tell its groups apart.
    pub by: &'static [&'static str],
    /// The true answer at a moment; `None` where only counting is possible.
    pub truth: Box<dyn Fn(f64) -> Groups + 'a>,
    /// Errors are taken relative to this where the truth is smaller: a difference of large numbers has their error.
    pub scale: f64,
    /// An answer is a choice of the truth's largest groups.
    pub top: Option<usize>,
}

/// How often each query is asked at least, and how long the system is watched before, while nobody asks.
#[derive(Clone, Copy)]
pub struct Asking {
    pub runs: u32,
    pub idle: Duration,
    /// Prometheus is asked while it scrapes: it takes five seconds to see its targets again.
    pub hurried: bool,
}

/// Runs every query some times at the end of the steady window (unix microseconds). Ranges stay inside the window:
/// before it a system may have dropped scrapes that took too long while it registered series.
pub fn run(
    targets: &Targets,
    system: &mut System,
    steady: (i64, i64),
    asking: Asking,
    stored: &[Vec<Served>],
) -> Result<Value, Error> {
    let rule = match system.spec.kind {
        Kind::VictoriaMetrics => RateRule::neighbor(targets.options.interval.as_millis() as i64),
        Kind::Prometheus | Kind::Ours => RateRule::Extrapolated,
    };
    let (begin, end) = (steady.0 as f64 / 1e6, steady.1 as f64 / 1e6);
    let interval = targets.options.interval.as_secs_f64();
    let window = (4.0 * interval).clamp(10.0, 60.0).max(2.0 * interval).round();
    let span = (end - begin - window - interval).clamp(interval, RANGE_SECONDS_MAX);
    // Whole intervals, so that every step meets the scrapes at the same distance.
    let step = interval * (span / RANGE_STEPS / interval).ceil();
    let range = (end - step * (span / step).floor(), end, step);
    let idle = idle_cpu(system, asking.idle)?;
    let own = own_series(system, end)?;
    let mut results = Vec::new();
    let mut ask_all = |questions: Vec<Question>| -> Result<(), Error> {
        for question in &questions {
            results.push(ask(question, system, range, asking.runs, idle)?);
        }
        Ok(())
    };
    match &*targets.shape {
        Shape::Node(node) => {
            let truth = Truth::of(targets, node, rule, stored);
            let host = truth.clearest_target(end, interval);
            ask_all(questions(&truth, host, window, own))?;
        }
        Shape::Fleet(fleet) => {
            let truth = FleetTruth::of(targets, fleet, rule, stored.to_vec());
            let asked = asked(fleet.sort);
            ask_all(fleet_questions(&truth, &asked, window, own))?;
        }
        // What a recording holds is told by no rule: its raw samples are compared, no more.
        Shape::Recording(_) => {}
    }
    Ok(Value::Array(results))
}

/// CPU a second that the system uses when nobody asks.
fn idle_cpu(system: &mut System, watch: Duration) -> Result<f64, Error> {
    // Merges and collections that the end of the load left behind are given a moment.
    clock::sleep(watch);
    let begin = clock::now();
    let before = system.usage()?.cpu;
    clock::sleep(watch);
    Ok((system.usage()?.cpu - before).as_secs_f64() / begin.elapsed().as_secs_f64())
}

fn questions<'a>(truth: &'a Truth<'a>, host: usize, window: f64, own: f64) -> Vec<Question<'a>> {
    let w = format!("{window}s");
    let name = truth.instances[host].clone();
    let cpu = "node_cpu_seconds_total";
    let total = (truth.instances.len() * truth.lines) as f64;
    let question =
        |id, form, by, query: String, truth| Question { id, query, form, by, truth, scale: 1e-9, top: None };
    use Form::{Instant, Range};
    vec![
        question(
            "i1",
            Instant,
            &["mode"],
            format!("sum by (mode) (rate({cpu}[{w}]))"),
            Box::new(move |t| truth.cpu_by_mode(t, window)),
        ),
        Question {
            top: Some(10),
            ..question(
                "i2",
                Instant,
                &["instance"],
                format!("topk(10, sum by (instance) (rate(node_network_receive_bytes_total[{w}])))"),
                Box::new(move |t| truth.net_by_instance(t, window)),
            )
        },
        question(
            "i3",
            Instant,
            &[],
            r#"count({__name__!=""})"#.into(),
            Box::new(move |_| Groups::from([(String::new(), total + own)])),
        ),
        question(
            "i4",
            Instant,
            &["instance"],
            "sum by (instance) (node_filesystem_avail_bytes)".into(),
            Box::new(move |t| truth.fs_by_instance(t)),
        ),
        question(
            "i5",
            Instant,
            &["instance"],
            format!("node_load1{{instance=\"{name}\"}}"),
            Box::new(move |t| truth.load1(host, t)),
        ),
        question(
            "r1",
            Range,
            &["mode"],
            format!("sum by (mode) (rate({cpu}[{w}]))"),
            Box::new(move |t| truth.cpu_by_mode(t, window)),
        ),
        question(
            "r2",
            Range,
            &["cpu", "mode"],
            format!("rate({cpu}{{instance=\"{name}\"}}[{w}])"),
            Box::new(move |t| truth.cpu_of_host(host, t, window)),
        ),
        Question {
            scale: 100.0,
            ..question(
                "r3",
                Range,
                &["rack"],
                format!("avg by (rack) (100 - rate({cpu}{{mode=\"idle\"}}[{w}]) * 100)"),
                Box::new(move |t| truth.busy_by_rack(t, window)),
            )
        },
    ]
}

fn fleet_questions<'a>(
    truth: &'a FleetTruth<'a>,
    asked: &'a [Asked],
    window: f64,
    own: f64,
) -> Vec<Question<'a>> {
    let mut all: Vec<Question> = asked
        .iter()
        .map(|a| Question {
            id: a.id,
            query: a.query.replace("[W]", &format!("[{window}s]")),
            form: if a.range { Form::Range } else { Form::Instant },
            by: a.by,
            truth: Box::new(move |t| truth.answer(a, t, window)),
            scale: 1e-9,
            top: None,
        })
        .collect();
    all.push(Question {
        id: "i3",
        query: r#"count({__name__!=""})"#.into(),
        form: Form::Instant,
        by: &[],
        truth: Box::new(move |t| Groups::from([(String::new(), truth.count(t) + own)])),
        scale: 1e-9,
        top: None,
    });
    all
}

/// Series that the system makes itself for each target (`up` and its siblings): they differ by system.
fn own_series(system: &System, time: f64) -> Result<f64, Error> {
    let data = system.client().query(r#"count({__name__=~"up|scrape_.+"})"#, time)?;
    Ok(data["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(0.0))
}

fn ask(
    q: &Question,
    system: &mut System,
    range: (f64, f64, f64),
    runs: u32,
    idle: f64,
) -> Result<Value, Error> {
    let (path, mut verdict) = verdict(q, system, range)?;
    if verdict["error"].is_string() {
        return Ok(verdict);
    }
    let mut client = system.client();
    let (wall, cpu) = time(&mut client, &path, system, runs)?;
    let cpu = (cpu - idle * wall.iter().sum::<f64>()).max(0.0) / wall.len() as f64;
    verdict["wall_ms_p50"] = json!(wall[wall.len() / 2] * 1e3);
    verdict["wall_ms_max"] = json!(wall[wall.len() - 1] * 1e3);
    verdict["cpu_ms"] = json!(cpu * 1e3);
    Ok(verdict)
}

/// Asks once over a range (start, end, step; an instant question at its end), and compares the answer with the truth.
/// Returns the request's path, too, for those who time it.
pub fn verdict(q: &Question, system: &System, range: (f64, f64, f64)) -> Result<(String, Value), Error> {
    let path = match q.form {
        Form::Instant => query_path(&q.query, range.1),
        Form::Range => query_range_path(&q.query, range.0, range.1, range.2),
    };
    let (errors, groups) = match system.client().data(&path) {
        Ok(data) => errors(q, &data),
        Err(e) => return Ok((path, json!({"id": q.id, "query": q.query, "error": e.to_string()}))),
    };
    // An empty answer is right where the truth is empty at every step.
    let expected = || steps(q, range).any(|t| !(q.truth)(t).is_empty());
    let nothing = if errors.is_empty() && expected() { f64::INFINITY } else { 0.0 };
    let difference = errors.iter().fold(nothing, |a, e| e.1.max(a));
    let wrong_steps: Vec<Value> = errors
        .iter()
        .filter(|e| e.1 > TOLERANCE)
        .map(|e| json!([e.0 - range.1, if e.1.is_finite() { json!(e.1) } else { json!("shape") }]))
        .collect();
    let verdict = json!({
        "id": q.id, "query": q.query, "groups": groups,
        "largest_relative_error": if difference.is_finite() { json!(difference) } else { json!("shape") },
        "wrong_steps": wrong_steps,
        "equal": difference <= TOLERANCE,
    });
    Ok((path, verdict))
}

/// The moments that a question is asked for.
fn steps(q: &Question, (start, end, step): (f64, f64, f64)) -> impl Iterator<Item = f64> {
    let count = match q.form {
        Form::Instant => 0,
        Form::Range => ((end - start) / step.max(1e-3) + 1e-6) as u64,
    };
    (0..=count).map(move |i| end - (count - i) as f64 * step)
}

/// A question is asked again until its runs took so long together: three runs of a fifth of a millisecond tell nothing.
const ASKED_FOR: Duration = Duration::from_millis(250);
const RUNS_MAX: usize = 1000;

/// Wall seconds of each run in order of length, and CPU seconds of all together. It is asked `runs` times at least.
fn time(client: &mut Client, path: &str, system: &mut System, runs: u32) -> Result<(Vec<f64>, f64), Error> {
    let before = system.usage()?.cpu;
    let (mut wall, until) = (Vec::new(), clock::now() + ASKED_FOR);
    while wall.len() < runs.max(1) as usize || wall.len() < RUNS_MAX && clock::now() < until {
        let begin = clock::now();
        let answer =
            client.fetch(path).map_err(|e| Error::Answer { url: path.to_string(), what: e.to_string() })?;
        if answer.status != 200 {
            return Err(Error::Answer { url: path.to_string(), what: format!("status {}", answer.status) });
        }
        wall.push(begin.elapsed().as_secs_f64());
    }
    let cpu = (system.usage()?.cpu - before).as_secs_f64();
    wall.sort_by(f64::total_cmp);
    Ok((wall, cpu))
}

/// The largest relative error of an answer at each of its steps, infinite where its groups are not the truth's; and
/// how many series it has.
fn errors(q: &Question, data: &Value) -> (Vec<(f64, f64)>, usize) {
    let empty = Vec::new();
    let result = data["result"].as_array().unwrap_or(&empty);
    let mut by_time: BTreeMap<i64, Groups> = BTreeMap::new();
    for series in result {
        let names: Vec<&str> = q.by.iter().map(|l| series["metric"][*l].as_str().unwrap_or("")).collect();
        let single = [series["value"].clone()];
        let points = series["values"].as_array().map_or(&single[..], Vec::as_slice);
        for p in points {
            let time = (p[0].as_f64().unwrap_or(0.0) * 1e3).round() as i64;
            let value = p[1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
            by_time.entry(time).or_default().insert(names.join(" "), value);
        }
    }
    let at = |(&t, got): (&i64, &Groups)| {
        let time = t as f64 / 1e3;
        (time, largest_error(got, &(q.truth)(time), q.top, q.scale))
    };
    (by_time.iter().map(at).collect(), result.len())
}

fn largest_error(got: &Groups, truth: &Groups, top: Option<usize>, scale: f64) -> f64 {
    if got.len() != top.map_or(truth.len(), |k| k.min(truth.len())) {
        return f64::INFINITY;
    }
    let mut ranked: Vec<f64> = truth.values().copied().collect();
    ranked.sort_by(|a, b| b.total_cmp(a));
    let least = top.and_then(|k| ranked.get(k - 1)).map_or(f64::NEG_INFINITY, |v| v * (1.0 - TOLERANCE));
    let error = |(name, v): (&String, &f64)| match truth.get(name) {
        Some(t) if *v >= least => (v - t).abs() / t.abs().max(scale),
        _ => f64::INFINITY,
    };
    got.iter().map(error).fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { a.max(b) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(pairs: &[(&str, f64)]) -> Groups {
        pairs.iter().map(|(n, v)| (n.to_string(), *v)).collect()
    }

    #[test]
    fn answers_are_measured_against_the_truth() {
        let truth = groups(&[("a", 1.0), ("b", 2.0), ("c", 4.0)]);
        let check = |got: &[(&str, f64)], top, expect: f64| {
            assert_eq!(largest_error(&groups(got), &truth, top, 1e-9), expect, "{got:?}");
        };
        check(&[("a", 1.0), ("b", 2.0), ("c", 4.0)], None, 0.0);
        check(&[("a", 1.0), ("b", 3.0), ("c", 4.0)], None, 0.5);
        check(&[("a", 1.0), ("b", 2.0)], None, f64::INFINITY);
        check(&[("a", 1.0), ("b", f64::NAN), ("c", 4.0)], None, f64::INFINITY);
        check(&[("b", 2.0), ("c", 4.0)], Some(2), 0.0);
        check(&[("a", 1.0), ("c", 4.0)], Some(2), f64::INFINITY);
        check(&[("b", 2.0), ("d", 4.0)], Some(2), f64::INFINITY);
    }
}
