//! Random questions to a real Prometheus and to us, over the same samples: the answers are the same.
//!
//! `SYSTOLE_DIFF=200000` asks so many; `SYSTOLE_DIFF_SEED` begins elsewhere; `SYSTOLE_DIFF_ALL` goes on after a
//! difference and lists them all at the end.

mod chance;
mod changed;
mod compare;
mod data;
mod expressions;
mod peer;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use promql::Expr;
use promql::ast::{At, Extent, SubqueryExpr, ValueType};
use serde_json::Value;

use crate::differential::chance::Chance;
use crate::differential::changed::{CHANGED, Case};
use crate::differential::compare::{Rules, difference};
use crate::differential::data::{PAGE_MS, PAGES};
use crate::differential::expressions::{Generator, UNKNOWN};
use crate::differential::peer::Line;
use crate::house::{Dir, House, Process, Running, Server, eventually, seconds};
use crate::peers;
use crate::target::{Target, config};

/// The release that is asked; newer ones know more, and some things differently.
const RELEASE: &str = "3.5.3";

/// Questions where nothing is said.
const EXPRESSIONS: usize = 2_000;

/// A test that everyone runs ends within this; what was asked until then is reported.
const TIME_MAX: Duration = Duration::from_secs(45);

/// Two elements in no order come in each order with a chance of a half: a difference that is chance goes unnoticed
/// once in thousands of times.
const ASKED_AGAIN: usize = 12;

/// Of a subquery that gives no step: the default evaluation interval.
const DEFAULT_STEP_MS: i64 = 60_000;

const FEATURES: &str = "--enable-feature=promql-experimental-functions,promql-per-step-stats";

/// Expressions whose statistics are compared.
const MEASURED: usize = 400;

/// One expression and the times it is asked for.
#[derive(Clone, Debug)]
struct Question {
    text: String,
    start: i64,
    end: i64,
    /// `None`: an instant query at `start`.
    step: Option<i64>,
}

impl Question {
    fn rules(&self) -> Rules {
        promql::parse(&self.text, promql::Options::ALL).map_or(Rules::EXACT, |tree| Rules::of(&tree))
    }

    fn ask(&self, line: &mut Line) {
        self.ask_with(line, &[]);
    }

    fn ask_with(&self, line: &mut Line, more: &[(&str, &str)]) {
        let (start, end) = (seconds(self.start), seconds(self.end));
        let step = self.step.map(seconds);
        let mut params = vec![("query", self.text.as_str())];
        match &step {
            None => params.push(("time", &start)),
            Some(step) => params.extend([("start", start.as_str()), ("end", &end), ("step", step)]),
        }
        params.extend(more);
        line.ask(if step.is_some() { "query_range" } else { "query" }, &params);
    }
}

/// Both servers, holding the same.
struct Pair {
    theirs: Line,
    ours: Line,
    first_ms: i64,
    last_ms: i64,
    /// Of the last answers that were compared.
    is_error: bool,
    _prometheus: Process,
    _dir: Dir,
    _running: Running,
    _house: House,
    _target: Target,
}

impl Pair {
    /// `None` where a server cannot be had here.
    fn start(name: &str, seed: u64) -> Option<Pair> {
        let program = peers::find("prometheus")?;
        let version = Command::new(&program).arg("--version").output().expect("its version");
        if !String::from_utf8_lossy(&version.stdout).contains(RELEASE) {
            println!("skipped: the Prometheus that is here is not {RELEASE}");
            return None;
        }
        let now_ms = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970").as_millis() as i64;
        let first_ms = (now_ms - 30 * 60_000) / PAGE_MS * PAGE_MS;
        let last_ms = first_ms + PAGES as i64 * PAGE_MS;
        let target = data::target(seed, first_ms);
        let scrape =
            |path: &str| config("100ms", &[("d", &target.address(), &format!("metrics_path: {path}"))]);

        let house = House::new(name, &scrape("/ours")).with(FEATURES);
        let running = house.start()?;
        let dir = Dir::new(name);
        dir.write("prometheus.yml", &scrape("/theirs"));
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", FEATURES]);
        let mut prometheus = Process::start(&mut command, dir.path().join("log"));
        let port = prometheus.wait_for_port("msg=\"Listening on\" component=web address=127.0.0.1:");
        let peer = Server { port };
        eventually("Prometheus is ready", || peer.is_ready().then_some(()));

        let pair = Pair {
            theirs: Line::open(port),
            ours: Line::open(running.port),
            first_ms,
            last_ms,
            is_error: false,
            _prometheus: prometheus,
            _dir: dir,
            _running: running,
            _house: house,
            _target: target,
        };
        Some(pair.with_all_data())
    }

    /// Waits until both hold every sample, and sees that they are the same.
    fn with_all_data(mut self) -> Pair {
        let text = format!("{{__name__=~\".+\",__name__!~\"up|scrape_.*\"}}[{}ms]", 60 * 60_000);
        let all = Question { text, start: self.last_ms + 60_000, end: 0, step: None };
        eventually("both servers hold the same samples", || {
            let (theirs, ours) = self.ask(&all);
            let is_full = theirs.to_string().contains(&format!("[{},", self.last_ms / 1000 - PAGE_MS / 1000));
            let differs = difference(Rules::EXACT, &theirs, &ours);
            (is_full && differs.is_none()).then_some(())
        });
        self
    }

    fn ask(&mut self, question: &Question) -> (Value, Value) {
        question.ask(&mut self.theirs);
        question.ask(&mut self.ours);
        (self.theirs.answer(), self.ours.answer())
    }

    /// What differs in the answers to a question, if that is not known and explained.
    fn judge(&mut self, question: &Question) -> Verdict {
        let Err(what) = self.compare(question) else {
            return match self.is_error {
                true => Verdict::SameError,
                false => Verdict::Same,
            };
        };
        if self.is_chance(question) {
            return Verdict::Chance;
        }
        let Some(smallest) = self.shrink(question) else { return Verdict::Chance };
        let (theirs, ours) = self.ask(&smallest);
        let Ok(tree) = promql::parse(&smallest.text, promql::Options::ALL) else {
            return Verdict::Differs(what, smallest);
        };
        let has_soft_part = parts(&smallest).into_iter().any(|p| self.compare_by(Rules::EXACT, &p).is_err());
        let case = Case { tree: &tree, theirs: &theirs, ours: &ours, has_soft_part };
        match CHANGED.iter().find(|c| (c.applies)(&case)) {
            Some(changed) => Verdict::Changed(changed.name),
            None => Verdict::Differs(what, smallest),
        }
    }

    /// Errors: what differs.
    fn compare(&mut self, question: &Question) -> Result<(), &'static str> {
        self.compare_by(question.rules(), question)
    }

    fn compare_by(&mut self, rules: Rules, question: &Question) -> Result<(), &'static str> {
        let (theirs, ours) = self.ask(question);
        self.is_error = theirs["status"] == "error";
        difference(rules, &theirs, &ours).map_or(Ok(()), Err)
    }

    /// Whether the reference itself gives several answers: it walks maps in no order, and what depends on the order
    /// of elements (ties of `topk`, which of two culprits an error names, the last bits of a sum) is chance.
    fn is_chance(&mut self, question: &Question) -> bool {
        let (first, _) = self.ask(question);
        (0..ASKED_AGAIN).any(|_| {
            question.ask(&mut self.theirs);
            difference(question.rules(), &first, &self.theirs.answer()).is_some()
        })
    }

    /// The smallest part of a question whose answers differ, too; `None` where what differs in it is chance.
    fn shrink(&mut self, question: &Question) -> Option<Question> {
        let mut smallest = question.clone();
        loop {
            let differing: Vec<Question> =
                parts(&smallest).into_iter().filter(|p| self.compare(p).is_err()).collect();
            if differing.is_empty() {
                return Some(smallest);
            }
            smallest = differing.into_iter().find(|p| !self.is_chance(p))?;
        }
    }
}

enum Verdict {
    Same,
    SameError,
    Chance,
    Changed(&'static str),
    /// What differs, and the smallest part that does.
    Differs(&'static str, Question),
}

/// The question about each direct part of its expression that can be asked for itself.
fn parts(question: &Question) -> Vec<Question> {
    let Ok(tree) = promql::parse(&question.text, promql::Options::ALL) else { return Vec::new() };
    let mut all = Vec::new();
    if let Expr::Subquery(s) = tree.unparen() {
        return inside(question, s).into_iter().collect();
    }
    tree.for_each_child(|child: &Expr| {
        let fits = match (child.value_type(), child.unparen()) {
            (ValueType::Vector | ValueType::Scalar, _) => true,
            (ValueType::Matrix, Expr::Subquery(s)) => {
                all.extend(inside(question, s));
                question.step.is_none()
            }
            (ValueType::Matrix, _) => question.step.is_none(),
            (ValueType::String, _) => false,
        };
        if fits {
            let span = child.span();
            let text = question.text[span.start as usize..span.end as usize].to_owned();
            all.push(Question { text, ..question.clone() });
        }
    });
    all
}

/// The question about what a subquery evaluates, at the times when it does.
fn inside(question: &Question, s: &SubqueryExpr) -> Option<Question> {
    let step = s.step.as_ref().map_or(Some(DEFAULT_STEP_MS), Extent::literal)?;
    let (range, offset) = (s.range.literal()?, s.offset.literal()?);
    let (start, end) = match s.at {
        None => (question.start, question.end),
        Some(At::Time(t)) => (t, t),
        Some(At::Start) => (question.start, question.start),
        Some(At::End) => (question.end, question.end),
    };
    let first = start - offset - range;
    let span = s.expr.span();
    let text = question.text[span.start as usize..span.end as usize].to_owned();
    Some(Question { text, start: (first / step + 1) * step, end: end - offset, step: Some(step) })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

fn next_question(pair: &Pair, chance: &mut Chance) -> Question {
    let is_instant = chance.once_in(2);
    let (first_ms, last_ms) = (pair.first_ms, pair.last_ms);
    let span = (last_ms - first_ms) as u64;
    let text = Generator { chance, first_ms, last_ms }.expression(is_instant);
    let start = first_ms + chance.below(span) as i64;
    // Most dashboards ask for whole steps, where samples stand; nobody else is forbidden.
    let start = if chance.once_in(2) { start / PAGE_MS * PAGE_MS } else { start };
    if is_instant {
        return Question { text, start, end: start, step: None };
    }
    let step = [15_000, 30_000, 7_000, 60_000, 1_234][chance.below(5) as usize];
    let end = start + step * chance.below(40) as i64 + chance.below(2) as i64;
    Question { text, start, end, step: Some(step) }
}

fn shown(answer: &Value) -> String {
    let text = answer.to_string();
    let end = (0..=6_000.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text[..end].to_owned()
}

#[test]
fn random_expressions_have_the_answers_that_prometheus_gives() {
    let count = number("SYSTOLE_DIFF").map_or(EXPRESSIONS, |n| n as usize);
    let time_max = if std::env::var_os("SYSTOLE_DIFF").is_some() { Duration::MAX } else { TIME_MAX };
    let goes_on = std::env::var_os("SYSTOLE_DIFF_ALL").is_some();
    let seed = number("SYSTOLE_DIFF_SEED").unwrap_or(1);
    let Some(mut pair) = Pair::start("differential", seed) else { return };
    check_unknown(&mut pair);
    let mut chance = Chance::new(seed);
    let (mut same, mut errors, mut chances, mut differing) = (0, 0, 0, 0);
    let mut changed: BTreeMap<&str, usize> = BTreeMap::new();
    let started = Instant::now();
    for i in 0..count {
        if started.elapsed() > time_max {
            println!("this machine is slow: {i} of {count} expressions were asked");
            break;
        }
        let question = next_question(&pair, &mut chance);
        match pair.judge(&question) {
            Verdict::Same => same += 1,
            Verdict::SameError => errors += 1,
            Verdict::Chance => chances += 1,
            Verdict::Changed(name) => *changed.entry(name).or_default() += 1,
            Verdict::Differs(what, smallest) => {
                differing += 1;
                let (theirs, ours) = pair.ask(&smallest);
                println!(
                    "--- {what} differs: seed {seed}, number {i}: {}\nshrunk: {smallest:?}\ntheirs: {}\nours:   {}",
                    question.text,
                    shown(&theirs),
                    shown(&ours)
                );
                assert!(goes_on, "the answers differ");
            }
        }
    }
    changed.iter().for_each(|(name, count)| println!("{count} differ on purpose: {name}"));
    println!(
        "{same} the same, {errors} the same error, {chances} chance in the reference, {} differ on purpose, {differing} different, in {:?}",
        changed.values().sum::<usize>(),
        started.elapsed()
    );
    assert_eq!(differing, 0, "of {count} expressions");
}

/// The samples of an answer: how many were seen, and how many at each step.
fn samples_of(answer: &Value) -> (Value, Value) {
    let samples = &answer["data"]["stats"]["samples"];
    (samples["totalQueryableSamples"].clone(), samples["totalQueryableSamplesPerStep"].clone())
}

#[test]
fn as_many_samples_are_seen_as_prometheus_sees() {
    let Some(mut pair) = Pair::start("differential-stats", 5) else { return };
    let mut chance = Chance::new(5);
    let (mut compared, mut differing) = (0, 0);
    for _ in 0..MEASURED {
        let question = next_question(&pair, &mut chance);
        question.ask_with(&mut pair.theirs, &[("stats", "all")]);
        question.ask_with(&mut pair.ours, &[("stats", "all")]);
        let (theirs, ours) = (pair.theirs.answer(), pair.ours.answer());
        if theirs["status"] != "success" || ours["status"] != "success" {
            continue;
        }
        compared += 1;
        if samples_of(&theirs) != samples_of(&ours) {
            differing += 1;
            println!("{question:?}\ntheirs {:?}\nours   {:?}", samples_of(&theirs), samples_of(&ours));
        }
    }
    assert!(compared > MEASURED / 2, "{compared} of {MEASURED} have answers");
    assert_eq!(differing, 0, "of {compared}");
}

/// The list of what is not asked has what the reference does not know, and nothing else.
fn check_unknown(pair: &mut Pair) {
    for f in promql::Function::ALL {
        pair.theirs.ask("query", &[("query", &format!("{}()", f.name()))]);
        let answer = pair.theirs.answer();
        // `start` and `end` are words of their own there.
        let unknown = |e: &str| e.contains("unknown function") || e.contains("unexpected \"(\"");
        let is_unknown = answer["error"].as_str().is_some_and(unknown);
        assert_eq!(is_unknown, UNKNOWN.contains(&f.name()), "{}: {answer}", f.name());
    }
}
