//! The load generator: shows targets, drives writes and queries, and measures whoever takes them.
//!
//! One command runs a workload against ours, Prometheus and VictoriaMetrics in turn, on loopback, and reports what
//! each used, missed and answered. Order of reading: `shape` (what is shown), `targets` (who shows it), `system`
//! (who is measured), `scrape`, `query`, `restart` (the workloads), `truth` and `oracle` (what is right), `report`.

pub mod bench;
pub mod ceiling;
pub mod client;
pub mod clock;
pub mod dashboard;
pub mod device;
pub mod error;
pub mod fleet_truth;
pub mod goals;
pub mod history;
pub mod html;
pub mod load;
pub mod oracle;
pub mod process;
pub mod query;
pub mod report;
pub mod restart;
pub mod ring;
pub mod scrape;
pub mod shape;
pub mod smoke;
pub mod stored;
pub mod suite;
pub mod system;
pub mod table;
pub mod targets;
pub mod truth;
pub mod tsbs;
pub mod write;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use error::{Context, Error};
use shape::Shape;
use shape::fleet::{Fleet, Sort, Trouble};
use shape::format::Format;
use shape::node::{LINES_MIN, Node};
use shape::recording::Recording;
use write::request::Protocol;

#[derive(Parser)]
#[command(
    name = "systole-loadgen",
    version,
    about = "Measures monitoring servers under load that it knows the truth of"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch Prometheus, VictoriaMetrics and node_exporter from Debian packages into a folder.
    Peers,
    /// Workload S1 (with --queries also Q1, with --restart also O1): targets scraped steadily.
    Scrape(ScrapeArgs),
    /// Workloads W1 (known series), W2 (--new), W3 (--rate), W4 (--late), W5 (--protocol=otlp), Q5 (--beside).
    Write(WriteArgs),
    /// Workload Q2: the devops set of the Time Series Benchmark Suite, as PromQL, on a schedule.
    Tsbs(TsbsArgs),
    /// Workloads O2 and D1: a day of samples, as fast as they are acknowledged: stalls, bytes written and kept.
    History(HistoryArgs),
    /// Workload O3: ever more series inside a memory control group.
    Ceiling(CeilingArgs),
    /// A small S1, Q1, O1 and W1 against every system: under three minutes.
    Smoke(SmokeArgs),
    /// The whole set against every system, within a bounded time.
    Bench(BenchArgs),
    /// Put several JSON reports into one, and judge the goals by all of them: a workload that two have counts as in
    /// the later one.
    Join {
        reports: Vec<PathBuf>,
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Write a report's figures into a text, between the lines that mark their place.
    Table { report: PathBuf, into: PathBuf },
    /// Only show the targets; prints a scrape configuration for them.
    Serve(ServeArgs),
    /// Print the changes between two JSON reports.
    Compare { old: PathBuf, new: PathBuf },
}

#[derive(Args)]
struct ShapeArgs {
    /// Number of targets, each with an address of its own on loopback.
    #[arg(long, default_value_t = 1000)]
    targets: usize,
    /// Samples a page of the `node` shape.
    #[arg(long, default_value_t = 1000)]
    lines: usize,
    /// What the targets are: node, kube (the first target is kube-state-metrics), ceph (the first is the manager),
    /// openstack (pairs of a compute host and its virtual machines), snmp.
    #[arg(long, default_value = "node")]
    shape: String,
    /// Of a fleet's pods or machines, the share that is replaced in a time: 10%/10m.
    #[arg(long, value_parser = churn)]
    churn: Option<Churn>,
    /// Counters of each target of a fleet start from zero once in this time.
    #[arg(long, value_parser = duration)]
    resets: Option<Duration>,
    /// From this moment on each page of a fleet has so many lines that are new each time: 500@60s.
    #[arg(long, value_parser = explosion)]
    explode: Option<(u32, Duration)>,
    /// Share of the time that a target is down, as 2%.
    #[arg(long, default_value = "0%", value_parser = percent)]
    down: f64,
    /// Longest delay of an answer; each is drawn anew.
    #[arg(long, default_value = "0s", value_parser = duration)]
    jitter: Duration,
    /// Form of the pages for those who ask for it: text, openmetrics, protobuf.
    #[arg(long, default_value = "text", value_parser = Format::parse)]
    format: Format,
    /// Show a recording (node, prometheus, victoriametrics, alertmanager, or a file) instead of the `node` shape.
    #[arg(long)]
    recording: Option<String>,
    /// Scrape interval, as 15s or 500ms; pages change once in it.
    #[arg(long, default_value = "15s", value_parser = duration)]
    interval: Duration,
    /// Answer in gzip where the scraper accepts it.
    #[arg(long)]
    gzip: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct ServeArgs {
    #[command(flatten)]
    shape: ShapeArgs,
    /// How long to serve.
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
}

#[derive(Args)]
struct ReportArgs {
    /// Write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report as one self-contained HTML file.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Folder for the systems' data and logs; data is removed afterwards, logs stay. Without it, a temporary one.
    #[arg(long)]
    work: Option<PathBuf>,
    /// GiB of resident memory past which a system is ended.
    #[arg(long, default_value_t = system::MEMORY_BYTES_MAX >> 30)]
    memory_max: u64,
}

impl ReportArgs {
    /// The systems named, with the bounds given.
    fn specs(&self, systems: &str) -> Result<Vec<system::Spec>, Error> {
        let mut specs = system::parse_specs(systems)?;
        for spec in &mut specs {
            spec.memory_bytes_max = self.memory_max << 30;
        }
        Ok(specs)
    }
}

#[derive(Args)]
struct ScrapeArgs {
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
    /// Length of the steady window, rounded up to whole intervals.
    #[arg(long, default_value = "120s", value_parser = duration)]
    duration: Duration,
    /// Shortest warm-up; two scrapes of every target come first in any case.
    #[arg(long, default_value = "0s", value_parser = duration)]
    warmup: Duration,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Ask the queries Q1 afterwards.
    #[arg(long)]
    queries: bool,
    /// Runs of each query, at least: short ones are asked for a quarter of a second.
    #[arg(long, default_value_t = 5)]
    query_runs: u32,
    /// Refresh dashboards and look labels up afterwards (Q3, Q4).
    #[arg(long)]
    dashboard: bool,
    /// Users who look at a dashboard each.
    #[arg(long, default_value_t = 20)]
    users: usize,
    /// Kill -9 and restart afterwards (O1).
    #[arg(long)]
    restart: bool,
    /// Double the targets, up to so many, until a scrape is missed; only that is reported.
    #[arg(long)]
    most: Option<usize>,
}

#[derive(Args)]
struct SmokeArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
}

#[derive(Args)]
struct BenchArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
    /// No workload begins later than this.
    #[arg(long, default_value = "23m", value_parser = duration)]
    budget: Duration,
}

#[derive(Args)]
struct HistoryArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
    #[arg(long, default_value_t = 4)]
    hosts: usize,
    /// Series a host.
    #[arg(long, default_value_t = 1000)]
    lines: usize,
    #[arg(long, default_value_t = 24)]
    hours: u64,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct CeilingArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
    /// MiB of the control group; 20480 is the set's own size.
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    /// The longest that series are added.
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct TsbsArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
    /// Hosts with ten gauges each; 4000 hosts and 24 hours are the set's own size.
    #[arg(long, default_value_t = 100)]
    hosts: u64,
    /// Hours of samples every ten seconds.
    #[arg(long, default_value_t = 3)]
    hours: u64,
    /// Questions a second, asked whether those before were answered or not.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    #[arg(long, default_value_t = 16)]
    workers: usize,
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct WriteArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Systems in turn: `ours=PATH[ flags]`, prometheus, victoriametrics.
    #[arg(long, default_value = "prometheus,victoriametrics")]
    systems: String,
    /// Series over all connections; with --new, how many are new with each turn.
    #[arg(long, default_value_t = 1_000_000)]
    series: u64,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Samples a request.
    #[arg(long, default_value_t = 2000)]
    batch: u64,
    /// Send at this many samples a second whether acknowledged or not; latencies count from when requests are due.
    #[arg(long)]
    rate: Option<f64>,
    /// Every request brings series never seen before.
    #[arg(long)]
    new: bool,
    /// How samples are sent: 1.0 and 2.0 for remote write, otlp.
    #[arg(long, default_value = "1.0", value_parser = Protocol::parse)]
    protocol: Protocol,
    /// W4: share of requests whose samples are up to an hour late, as 10%.
    #[arg(long, default_value = "0%", value_parser = percent)]
    late: f64,
    /// Q5: ask this from the middle of the window on.
    #[arg(long)]
    beside: Option<String>,
    #[arg(long, default_value = "10s", value_parser = duration)]
    beside_every: Duration,
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Reads `15s`, `500ms`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| format!("{text:?} is no duration such as 15s"))?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        unit => return Err(format!("{unit:?} is none of ms, s, m, h")),
    };
    let ms = number.checked_mul(unit_ms).filter(|ms| *ms <= 24 * 3_600_000);
    ms.map(Duration::from_millis).ok_or_else(|| "a run is at most 24h".to_string())
}

/// A share, and the time in which it is replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Churn {
    share: f64,
    time: Duration,
}

/// Reads `2%` or `0.5%` as a share.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|t| t.parse::<f64>().ok());
    let share = number.filter(|n| (0.0..=100.0).contains(n)).map(|n| n / 100.0);
    share.ok_or_else(|| format!("{text:?} is no share such as 10%"))
}

/// Reads `10%/10m`.
fn churn(text: &str) -> Result<Churn, String> {
    let (share, time) = text.split_once('/').ok_or_else(|| format!("{text:?} is not of the form 10%/10m"))?;
    let churn = Churn { share: percent(share)?, time: duration(time)? };
    if churn.share == 0.0 { Err("a churn of 0% is none".into()) } else { Ok(churn) }
}

/// Reads `500@60s`.
fn explosion(text: &str) -> Result<(u32, Duration), String> {
    let (lines, at) = text.split_once('@').ok_or_else(|| format!("{text:?} is not of the form 500@60s"))?;
    let lines = lines.parse().ok().filter(|n| *n <= 1_000_000).ok_or("at most 1000000 lines a page")?;
    Ok((lines, duration(at)?))
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("systole-loadgen: {e}");
            ExitCode::from(if matches!(e, Error::NoBinary { .. }) { 3 } else { 1 })
        }
    }
}

fn run(task: Task) -> Result<ExitCode, Error> {
    match task {
        Task::Peers => peers(),
        Task::Scrape(args) => scrape(&args),
        Task::Write(args) => write(&args),
        Task::Smoke(args) => {
            let specs = args.report.specs(&args.systems)?;
            finish(&args.report, smoke::run(&smoke::SMOKE, &specs, work_folder(&args.report))?)
        }
        Task::Bench(args) => {
            let specs = args.report.specs(&args.systems)?;
            let plan = bench::Plan { budget: args.budget, folder: work_folder(&args.report) };
            finish(&args.report, bench::run(&plan, &specs))
        }
        Task::History(args) => history(&args),
        Task::Ceiling(args) => ceiling(&args),
        Task::Join { reports, report } => {
            let all = reports.iter().map(|path| report::read(path)).collect::<Result<Vec<_>, _>>()?;
            tell(&report, &report::join(&all))
        }
        Task::Table { report, into } => {
            table::update(&into, &report::read(&report)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Tsbs(args) => tsbs(&args),
        Task::Serve(args) => serve(&args),
        Task::Compare { old, new } => {
            print!("{}", report::compare(&report::read(&old)?, &report::read(&new)?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn peers() -> Result<ExitCode, Error> {
    let script = include_str!("../peers.sh");
    let status = Command::new("bash")
        .args(["-c", script, "peers.sh"])
        .env("SYSTOLE_PEERS", system::peers_folder())
        .status();
    let code = status.context(|| "bash".to_string())?.code().unwrap_or(1);
    Ok(ExitCode::from(code as u8))
}

fn open_shape(args: &ShapeArgs) -> Result<Arc<Shape>, Error> {
    if args.interval.is_zero() {
        return Err(Error::Usage("an interval of 0 is none".into()));
    }
    if args.recording.is_none() && args.lines < LINES_MIN {
        return Err(Error::Usage(format!("a page has at least {LINES_MIN} lines")));
    }
    let step = args.interval.as_secs_f64();
    let troubled = args.churn.is_some() || args.resets.is_some() || args.explode.is_some();
    let shape = match (&args.recording, args.shape.as_str()) {
        (Some(_), _) | (None, "node") if troubled => {
            return Err(Error::Usage(
                "churn, resets and explosions belong to fleets: --shape=kube, for instance".into(),
            ));
        }
        (Some(name), _) => Shape::Recording(Recording::open(name)?),
        (None, "node") => Shape::Node(Node::new(args.seed, args.lines, step)),
        (None, name) => {
            let sort = Sort::parse(name).ok_or_else(|| {
                Error::Usage(format!("{name:?} is none of node, kube, ceph, openstack, snmp"))
            })?;
            Shape::Fleet(Fleet::new(sort, args.seed, args.targets, step, trouble(args)))
        }
    };
    Ok(Arc::new(shape))
}

/// Times as numbers of versions: one an interval.
fn trouble(args: &ShapeArgs) -> Trouble {
    let step = args.interval.as_secs_f64();
    let versions = |d: Duration| (d.as_secs_f64() / step).round().max(1.0) as u64;
    Trouble {
        life: args.churn.map_or(0, |c| versions(c.time.div_f64(c.share))),
        reset: args.resets.map_or(0, versions),
        explosion: args.explode.map(|(lines, at)| (versions(at), lines)),
    }
}

fn options(args: &ShapeArgs) -> targets::Options {
    targets::Options {
        targets: args.targets,
        interval: args.interval,
        gzip: args.gzip,
        format: args.format,
        down: (args.down * 65536.0) as u32,
        jitter: args.jitter,
    }
}

fn work_folder(args: &ReportArgs) -> PathBuf {
    args.work
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("systole-loadgen-{}", std::process::id())))
}

/// What a run is called: some goals are of certain sizes.
fn workload(args: &ScrapeArgs, series: f64) -> &'static str {
    match args {
        _ if args.shape.churn.is_some() => "S2",
        _ if args.most.is_some() => "S1 most",
        _ if args.shape.targets == 1 && series >= 1e6 => "S3",
        _ if series >= 1e7 => "S1 10 M",
        _ => "S1",
    }
}

fn scrape(args: &ScrapeArgs) -> Result<ExitCode, Error> {
    let specs = args.report.specs(&args.systems)?;
    let shape = open_shape(&args.shape)?;
    let plan = scrape::Plan {
        workload: workload(args, shape.series(args.shape.targets)),
        shape,
        options: options(&args.shape),
        warmup: args.warmup,
        window: args.duration,
        rounds: args.rounds.max(1),
        queries: args.queries,
        asking: query::Asking { runs: args.query_runs, idle: Duration::from_secs(2), hurried: false },
        dashboard: args.dashboard.then_some(dashboard::Plan {
            users: args.users,
            refresh: Duration::from_secs(10),
            window: Duration::from_secs(20),
        }),
        restart: args.restart,
        folder: work_folder(&args.report),
    };
    let runs = match args.most {
        Some(targets_max) => scrape::most(&plan, targets_max, &specs),
        None => scrape::run(&plan, &specs),
    };
    finish(&args.report, runs)
}

fn write(args: &WriteArgs) -> Result<ExitCode, Error> {
    let specs = args.report.specs(&args.systems)?;
    if args.rate.is_some_and(|r| !(r.is_finite() && r >= 1.0)) {
        return Err(Error::Usage("a rate is at least 1 sample a second".into()));
    }
    let plan = write::Plan {
        series: args.series,
        connections: args.connections,
        batch: args.batch,
        rate: args.rate,
        protocol: args.protocol,
        fresh: args.new,
        late: args.late,
        beside: args.beside.as_ref().map(|query| (query.clone(), args.beside_every)),
        window: args.duration,
        rounds: args.rounds.max(1),
        seed: args.seed,
        folder: work_folder(&args.report),
    };
    let runs = write::run(&plan, &specs)?;
    finish(&args.report, runs)
}

fn history(args: &HistoryArgs) -> Result<ExitCode, Error> {
    let specs = args.report.specs(&args.systems)?;
    if args.lines < LINES_MIN {
        return Err(Error::Usage(format!("a page has at least {LINES_MIN} lines")));
    }
    let plan = history::Plan {
        hosts: args.hosts,
        lines: args.lines,
        hours: args.hours,
        rounds: args.rounds.max(1),
        seed: args.seed,
        folder: work_folder(&args.report),
    };
    finish(&args.report, history::run(&plan, &specs)?)
}

fn ceiling(args: &CeilingArgs) -> Result<ExitCode, Error> {
    let specs = args.report.specs(&args.systems)?;
    let plan = ceiling::Plan {
        memory_bytes: args.memory.max(64) << 20,
        window: args.duration,
        rounds: args.rounds.max(1),
        seed: args.seed,
        folder: work_folder(&args.report),
    };
    finish(&args.report, ceiling::run(&plan, &specs))
}

fn tsbs(args: &TsbsArgs) -> Result<ExitCode, Error> {
    let specs = args.report.specs(&args.systems)?;
    if args.hosts == 0 || args.hours == 0 || !(args.rate.is_finite() && args.rate > 0.0) || args.workers == 0
    {
        return Err(Error::Usage("hosts, hours, rate and workers are at least one".into()));
    }
    let plan = tsbs::Plan {
        hosts: args.hosts,
        hours: args.hours,
        rate: args.rate,
        workers: args.workers,
        window: args.duration,
        rounds: args.rounds.max(1),
        seed: args.seed,
        folder: work_folder(&args.report),
    };
    finish(&args.report, tsbs::run(&plan, &specs))
}

/// Writes and prints the report; the exit code says whether everything was as shown.
fn finish(args: &ReportArgs, runs: Vec<Value>) -> Result<ExitCode, Error> {
    let command: Vec<String> = std::env::args().collect();
    tell(args, &report::wrap(&command, runs))
}

fn tell(args: &ReportArgs, report: &Value) -> Result<ExitCode, Error> {
    if let Some(path) = &args.json {
        report::write(path, report)?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, html::render(report)).context(|| path.display().to_string())?;
    }
    print!("{}", report::text(report));
    if args.work.is_none() {
        let _ = std::fs::remove_dir_all(work_folder(args));
    }
    Ok(ExitCode::from(if report::complaints(report).is_empty() { 0 } else { 4 }))
}

fn serve(args: &ServeArgs) -> Result<ExitCode, Error> {
    let targets = targets::Targets::start(open_shape(&args.shape)?, options(&args.shape))?;
    print!("{}", scrape::config(&targets, system::Kind::Prometheus));
    let begin = clock::now();
    clock::sleep_until(begin + args.duration);
    let log = targets.log();
    eprintln!(
        "served {} pages, {} samples, {} bytes, {} cut off; {:.3} cores",
        log.requests,
        log.samples,
        log.bytes,
        log.aborted,
        targets.cpu().as_secs_f64() / begin.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_wrong_ones_refused() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(duration(text).ok(), expect.map(Duration::from_millis), "{text}");
        };
        check("15s", Some(15_000));
        check("500ms", Some(500));
        check("2m", Some(120_000));
        check("s", None);
        check("15", None);
        check("99999999999999999999s", None);
        check("25h", None);
    }

    #[test]
    fn shares_in_a_time_are_read_and_wrong_ones_refused() {
        let check = |text: &str, expect: Option<(f64, u64)>| {
            let expect = expect.map(|(share, s)| Churn { share, time: Duration::from_secs(s) });
            assert_eq!(churn(text).ok(), expect, "{text}");
        };
        check("10%/10m", Some((0.1, 600)));
        check("0.5%/1s", Some((0.005, 1)));
        for wrong in ["10%", "10/10m", "0%/10m", "101%/1m", "-1%/1m", "NaN%/1m", "10%/"] {
            check(wrong, None);
        }
        assert_eq!(explosion("500@60s"), Ok((500, Duration::from_secs(60))));
        assert!(explosion("500").is_err() && explosion("9999999@1s").is_err());
    }
}
