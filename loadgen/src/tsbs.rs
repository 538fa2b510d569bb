//! Workload Q2: the devops set of the Time Series Benchmark Suite, written as PromQL, one metric a request.
//!
//! In: hosts with ten CPU gauges each, for hours in steps of 10 s, sent by remote write in the order of time. Out: the
//! set's questions, each with its true answer. Invariant: a value is a function of (seed, series, step), so every
//! answer is told without a database. Never: asks outside of what was sent.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::error::Error;
use crate::load::{self, Asked, Mix};
use crate::query::{self, Form, Question};
use crate::shape::format::push_bytes;
use crate::shape::mix;
use crate::suite;
use crate::system::{Spec, System};
use crate::truth::Groups;
use crate::write::block::push_varint;

pub struct Plan {
    pub hosts: u64,
    pub hours: u64,
    /// Requests a second, on a schedule.
    pub rate: f64,
    pub workers: usize,
    pub window: Duration,
    pub rounds: u32,
    pub seed: u64,
    pub folder: PathBuf,
}

const METRICS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];
const STEP_SECONDS: u64 = 10;
/// Samples a request: what senders use by default.
const BATCH: u64 = 2000;
/// Variants of each question, over other hosts.
const VARIANTS: u64 = 4;

/// All systems in turn, `rounds` times over.
pub fn run(plan: &Plan, specs: &[Spec]) -> Vec<Value> {
    suite::each("Q2", plan.rounds, specs, |spec| run_one(plan, spec))
}

fn run_one(plan: &Plan, spec: &Spec) -> Result<Value, Error> {
    let mut system = System::start(spec, &plan.folder.join(&spec.name), "scrape_configs: []\n")?;
    // A whole minute, and far enough back that no system takes the samples for the future's.
    let end = clock::unix_us() / 1_000_000 / 60 * 60 - 60;
    let data = Data { seed: plan.seed, hosts: plan.hosts, begin: end - plan.hours as i64 * 3600, end };
    let begin = clock::now();
    data.send(&mut system)?;
    let load_seconds = begin.elapsed().as_secs_f64();
    let load_cpu = system.usage()?.cpu.as_secs_f64();
    // VictoriaMetrics shows rows after two seconds.
    clock::sleep(Duration::from_secs(4));
    let (kinds, questions) = data.questions();
    let mut verdicts = Vec::new();
    let mut asked = Vec::new();
    for (kind, question, range) in &questions {
        let (path, verdict) = query::verdict(question, &system, *range)?;
        verdicts.push(verdict);
        asked.push(Asked { kind: *kind, path });
    }
    let wrong: Vec<&Value> = verdicts.iter().filter(|v| v["equal"] != true).collect();
    let complaints: Vec<String> = wrong.iter().take(3).map(|v| format!("not the truth: {v}")).collect();
    let mix = Mix { kinds, asked, rate: plan.rate, workers: plan.workers, window: plan.window, together: 1 };
    let mixed = load::run(&mix, &mut system)?;
    Ok(json!({
        "mix": mixed, "complaints": complaints,
        "load": {
            "samples": plan.hosts * 10 * plan.hours * 360, "seconds": load_seconds, "cpu_seconds": load_cpu,
            "rss_bytes": system.usage()?.rss_bytes, "disk_bytes": system.disk_bytes(),
        },
        "answers": {"compared": verdicts.len(), "wrong": wrong.len()},
        "stop_seconds": system.stop().as_secs_f64(),
    }))
}

#[derive(Clone, Copy)]
struct Data {
    seed: u64,
    hosts: u64,
    begin: i64,
    end: i64,
}

impl Data {
    /// A load that holds for five minutes, with a little noise: 0 to 100.
    fn value(&self, host: u64, metric: usize, at: i64) -> f64 {
        let (series, step) = (host * 10 + metric as u64, at as u64 / STEP_SECONDS);
        (mix(self.seed, series, step / 30) % 81 + mix(self.seed ^ 1, series, step) % 21) as f64
    }

    fn labels(&self, host: u64, metric: usize) -> [(&'static str, String); 8] {
        let of = |salt: u64, n: u64| mix(self.seed, host, salt) % n;
        [
            ("__name__", format!("cpu_{}", METRICS[metric])),
            ("arch", ["x64", "x86"][of(1, 2) as usize].into()),
            ("datacenter", format!("eu-central-1{}", (b'a' + of(2, 3) as u8) as char)),
            ("hostname", format!("host_{host}")),
            ("os", ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][of(3, 3) as usize].into()),
            ("rack", of(4, 100).to_string()),
            ("service", of(5, 20).to_string()),
            ("team", ["SF", "NYC", "LON", "CHI"][of(6, 4) as usize].into()),
        ]
    }

    /// Sends all samples, time by time; a step's series in as many requests as they need.
    fn send(&self, system: &mut System) -> Result<(), Error> {
        let all: Vec<(u64, usize)> = (0..self.hosts).flat_map(|h| (0..10).map(move |m| (h, m))).collect();
        let labels: Vec<Vec<u8>> = all.iter().map(|(h, m)| self.label_bytes(*h, *m)).collect();
        let path = system.write_path(crate::write::request::Protocol::V1);
        let mut client = system.client();
        let mut encoder = snap::raw::Encoder::new();
        for at in (self.begin..=self.end).step_by(STEP_SECONDS as usize) {
            for (part, labels) in all.chunks(BATCH as usize).zip(labels.chunks(BATCH as usize)) {
                let mut bytes = Vec::new();
                for ((host, metric), labels) in part.iter().zip(labels) {
                    let mut sample = vec![9];
                    sample.extend_from_slice(&self.value(*host, *metric, at).to_le_bytes());
                    sample.push(16);
                    push_varint(&mut sample, at as u64 * 1000);
                    let mut one = labels.clone();
                    push_bytes(&mut one, 2, &sample);
                    push_bytes(&mut bytes, 1, &one);
                }
                let fail = |what: String| Error::Answer { url: path.to_string(), what };
                let body = encoder.compress_vec(&bytes).map_err(|e| fail(e.to_string()))?;
                let headers = crate::write::request::Protocol::V1.headers();
                let answer = client.post(path, headers, &body).map_err(|e| fail(e.to_string()))?;
                if !(200..300).contains(&answer.status) {
                    let said = crate::client::excerpt(&answer.body);
                    return Err(fail(format!("status {}: {said}", answer.status)));
                }
            }
        }
        Ok(())
    }

    fn label_bytes(&self, host: u64, metric: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in self.labels(host, metric) {
            let mut label = Vec::new();
            push_bytes(&mut label, 1, name.as_bytes());
            push_bytes(&mut label, 2, value.as_bytes());
            push_bytes(&mut out, 1, &label);
        }
        out
    }

    /// The true answer of one of the set's aggregates at a moment.
    fn truth(&self, t: Truth, time: f64) -> Groups {
        let time = time.round() as i64;
        let mut groups = Groups::new();
        for &host in &t.hosts {
            let first = (time - t.window).max(self.begin - 1).div_euclid(10) * 10 + 10;
            let values = (first..=time.min(self.end)).step_by(10).map(|at| self.value(host, t.metric, at));
            let (n, sum, most, last) = values.fold((0u32, 0.0, f64::MIN, 0.0), |(n, sum, most, _), v| {
                (n + 1, sum + v, f64::max(most, v), v)
            });
            if n == 0 {
                continue;
            }
            let name = if t.by_host { format!("host_{host}") } else { String::new() };
            match t.over {
                Over::Max => {
                    let group = groups.entry(name).or_insert(f64::MIN);
                    *group = group.max(most);
                }
                Over::Avg => *groups.entry(name).or_default() += sum / f64::from(n),
                Over::Last => *groups.entry(name).or_default() += last,
            }
        }
        groups.retain(|_, v| t.above.is_none_or(|least| *v > least));
        groups
    }

    /// The kinds of the set, and its questions with kind and range (start, end, step).
    #[allow(clippy::type_complexity)]
    fn questions(&self) -> (Vec<&'static str>, Vec<(usize, Question<'_>, (f64, f64, f64))>) {
        let hours = (self.end - self.begin) / 3600;
        let mut kinds = Vec::new();
        let mut all = Vec::new();
        for (kind, one) in SET.iter().enumerate() {
            kinds.push(one.name);
            for variant in 0..VARIANTS {
                for metric in 0..one.metrics {
                    let window = one.window;
                    // The first step has its whole window behind it.
                    let span = (one.hours.min(hours) * 3600 - window).max(0) / one.step * one.step;
                    let end = self.end as f64;
                    let range = (end - span as f64, end, one.step as f64);
                    all.push((kind, self.question(one, variant, metric), range));
                }
            }
        }
        (kinds, all)
    }

    fn question(&self, one: &'static Kind, variant: u64, metric: usize) -> Question<'_> {
        let (seed, count) = (self.seed ^ variant, one.hosts.min(self.hosts));
        let start = mix(seed, 3, one.hosts) % (self.hosts - count + 1).max(1);
        let hosts: Vec<u64> =
            if one.hosts == 0 { (0..self.hosts).collect() } else { (start..start + count).collect() };
        let names: Vec<String> = hosts.iter().map(|h| format!("host_{h}")).collect();
        let selector = match one.hosts {
            0 => String::new(),
            1 => format!("{{hostname=\"{}\"}}", names[0]),
            _ => format!("{{hostname=~\"{}\"}}", names.join("|")),
        };
        let name = METRICS[metric];
        let (w, over) = (one.window, one.over.name());
        let by = if one.by_host { " by (hostname)" } else { "" };
        let outer = if one.over == Over::Avg { "avg" } else { "max" };
        let above = one.above.map_or(String::new(), |v| format!(" > {v}"));
        let query = format!("{outer}{by} ({over}(cpu_{name}{selector}[{w}s])){above}");
        let truth =
            Truth { hosts, metric, window: w, over: one.over, by_host: one.by_host, above: one.above };
        Question {
            id: one.name,
            query,
            form: if one.step == 0 { Form::Instant } else { Form::Range },
            by: if one.by_host { &["hostname"] } else { &[] },
            truth: Box::new(move |t| self.truth(truth.clone(), t)),
            scale: 1e-9,
            top: None,
        }
    }
}

#[derive(Clone)]
struct Truth {
    hosts: Vec<u64>,
    metric: usize,
    window: i64,
    over: Over,
    by_host: bool,
    above: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Max,
    Avg,
    Last,
}

impl Over {
    fn name(self) -> &'static str {
        match self {
            Over::Max => "max_over_time",
            Over::Avg => "avg_over_time",
            Over::Last => "last_over_time",
        }
    }
}

/// One of the set's questions: metrics, hosts (0 for all), hours looked at, window and step in seconds (0: instant).
struct Kind {
    name: &'static str,
    metrics: usize,
    hosts: u64,
    hours: i64,
    window: i64,
    step: i64,
    over: Over,
    by_host: bool,
    above: Option<f64>,
}

const MINUTE: Kind = Kind {
    name: "",
    metrics: 1,
    hosts: 1,
    hours: 1,
    window: 60,
    step: 60,
    over: Over::Max,
    by_host: false,
    above: None,
};
const HOUR: Kind = Kind { hours: 12, window: 3600, step: 3600, ..MINUTE };

/// The set. Hours beyond those that were sent are cut to them.
static SET: [Kind; 14] = [
    Kind { name: "single-groupby-1-1-1", ..MINUTE },
    Kind { name: "single-groupby-1-1-12", hours: 12, ..MINUTE },
    Kind { name: "single-groupby-1-8-1", hosts: 8, ..MINUTE },
    Kind { name: "single-groupby-5-1-1", metrics: 5, ..MINUTE },
    Kind { name: "single-groupby-5-1-12", metrics: 5, hours: 12, ..MINUTE },
    Kind { name: "single-groupby-5-8-1", metrics: 5, hosts: 8, ..MINUTE },
    Kind { name: "cpu-max-all-1", metrics: 10, hours: 8, ..HOUR },
    Kind { name: "cpu-max-all-8", metrics: 10, hosts: 8, hours: 8, ..HOUR },
    Kind { name: "double-groupby-1", hosts: 0, over: Over::Avg, by_host: true, ..HOUR },
    Kind { name: "double-groupby-5", metrics: 5, hosts: 0, over: Over::Avg, by_host: true, ..HOUR },
    Kind { name: "double-groupby-all", metrics: 10, hosts: 0, over: Over::Avg, by_host: true, ..HOUR },
    Kind {
        name: "lastpoint",
        hosts: 0,
        over: Over::Last,
        by_host: true,
        window: 600,
        step: 60,
        hours: 0,
        ..MINUTE
    },
    Kind { name: "high-cpu-1", hours: 12, by_host: true, above: Some(90.0), ..MINUTE },
    Kind { name: "high-cpu-all", hosts: 0, hours: 12, by_host: true, above: Some(90.0), ..MINUTE },
];

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Data =
        Data { seed: 1, hosts: 12, begin: 1_790_000_000 / 60 * 60, end: 1_790_000_000 / 60 * 60 + 7200 };

    #[test]
    fn every_question_has_an_answer_at_every_step_of_its_range() {
        let (kinds, questions) = DATA.questions();
        assert_eq!(kinds.len(), 14);
        for (kind, question, (start, end, step)) in &questions {
            let mut at = *start;
            let mut answers = 0;
            while at <= *end {
                answers += (question.truth)(at).len();
                at += step.max(1.0);
            }
            let may_be_empty = kinds[*kind].starts_with("high-cpu");
            assert!(answers > 0 || may_be_empty, "{} {}", kinds[*kind], question.query);
        }
    }

    #[test]
    fn windows_are_left_open() {
        let t = |window| Truth {
            hosts: vec![3],
            metric: 0,
            window,
            over: Over::Avg,
            by_host: false,
            above: None,
        };
        let at = DATA.begin + 600;
        let expect = (1..=6).map(|i| DATA.value(3, 0, DATA.begin + 540 + 10 * i)).sum::<f64>() / 6.0;
        assert_eq!(DATA.truth(t(60), at as f64)[""], expect);
        assert_eq!(DATA.truth(t(10), at as f64)[""], DATA.value(3, 0, at));
    }
}
