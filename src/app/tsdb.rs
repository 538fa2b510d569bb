//! `systole tsdb`: promtool's commands over directories of Prometheus, and the exchange with them.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use model::time::parse_duration;

use crate::app::core::MeshSink;
use crate::app::directory::{self, DataDir};
use crate::exchange::log::Damage;
use crate::exchange::write::BlockWriter;
use crate::exchange::{Error, analyze, bench, create, dump, export, import, list};
use crate::rt::clock::SystemClock;
use crate::rt::probe;
use crate::rt::rng::Rng;
use crate::shard::keeper::Place;
use crate::shard::record::SourceId;
use crate::shard::wal::pending::Owner;

/// Shards of one directory at most, as a server starts them.
const SHARDS_MAX: usize = 1000;

/// The number under which an import is a source: no server has that many shards.
const IMPORT_SHARD: u16 = 1022;

#[derive(Debug, Parser)]
#[command(name = "systole tsdb", about = "Look at, take over and write Prometheus's storage")]
struct Tsdb {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List tsdb blocks.
    List(List),
    /// Analyze churn, label pair cardinality and compaction efficiency.
    Analyze(Analyze),
    /// Dump data (series+samples or optionally just series) from a TSDB.
    Dump(Dump),
    /// Dump data from a TSDB into OpenMetrics text format, excluding native histograms and staleness markers.
    DumpOpenmetrics(DumpOpenMetrics),
    /// Run benchmarks.
    Bench(Bench),
    /// Import samples from files and produce TSDB blocks.
    CreateBlocksFrom(CreateBlocksFrom),
    /// Take over what a directory of Prometheus holds, while no server runs on ours.
    Import(Import),
    /// Write what our directory holds as blocks of Prometheus, while no server runs on it.
    Export(Export),
}

#[derive(Debug, Args)]
struct List {
    /// Print human readable values.
    #[arg(short = 'r', long)]
    human_readable: bool,
    /// Database path.
    #[arg(default_value = "data/")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Analyze {
    /// How many items to show in each list.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Run extended analysis.
    #[arg(long)]
    extended: bool,
    /// Series selector to analyze. Only 1 set of matchers is supported now.
    #[arg(long = "match", default_value = "")]
    selector: String,
    /// Database path.
    #[arg(default_value = "data/")]
    dir: PathBuf,
    /// Block to analyze (default is the last block).
    #[arg(default_value = "")]
    block: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DumpFormat {
    Prom,
    Seriesjson,
}

#[derive(Debug, Args)]
struct DumpOpenMetrics {
    /// Root directory of a sandbox; taken for promtool's sake, nothing is written.
    #[arg(long)]
    sandbox_dir_root: Option<PathBuf>,
    /// Minimum timestamp to dump, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MIN, allow_hyphen_values = true)]
    min_time: i64,
    /// Maximum timestamp to dump, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MAX, allow_hyphen_values = true)]
    max_time: i64,
    /// Series selector. Can be specified multiple times.
    #[arg(long = "match", default_value = "{__name__=~'(?s:.*)'}")]
    selectors: Vec<String>,
    /// Database path.
    #[arg(default_value = "data/")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Dump {
    #[command(flatten)]
    which: DumpOpenMetrics,
    /// Output format.
    #[arg(long, value_enum, default_value = "prom")]
    format: DumpFormat,
}

#[derive(Debug, Args)]
struct CreateBlocksFrom {
    /// Print human readable values.
    #[arg(short = 'r', long, global = true)]
    human_readable: bool,
    /// Do not print created blocks.
    #[arg(short = 'q', long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// Import samples from OpenMetrics input and produce TSDB blocks.
    Openmetrics(OpenMetrics),
}

#[derive(Debug, Args)]
struct OpenMetrics {
    /// Label to attach to metrics, as label_name=label_value. Can be specified multiple times.
    #[arg(long = "label", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// The longest block that may be made.
    #[arg(long, default_value = "2h", value_parser = parse_block_ms)]
    max_block_duration: i64,
    /// OpenMetrics file to read samples from.
    input: PathBuf,
    /// Output directory for generated blocks.
    #[arg(default_value = "data/")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Bench {
    #[command(subcommand)]
    what: BenchWhat,
}

#[derive(Debug, Subcommand)]
enum BenchWhat {
    /// Run a write performance benchmark of one shard.
    Write(BenchWrite),
}

#[derive(Debug, Args)]
struct BenchWrite {
    /// Set the output path.
    #[arg(long, default_value = "benchout")]
    out: PathBuf,
    /// Number of metrics to read.
    #[arg(long, default_value_t = 10_000)]
    metrics: usize,
    /// Number of scrapes to simulate.
    #[arg(long, default_value_t = 3_000)]
    scrapes: usize,
    /// Input file with a line of labels a series; without it they are made up.
    file: Option<PathBuf>,
}

/// Our own directory.
#[derive(Debug, Args)]
struct Ours {
    /// Base path for storage.
    #[arg(long = "storage.tsdb.path", default_value = "data/")]
    data_dir: PathBuf,
    /// Shards of a directory that is new; 0 for one on each CPU. One that is not keeps its own number.
    #[arg(long, default_value_t = 0)]
    shards: u16,
    /// Minimum timestamp, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MIN, allow_hyphen_values = true)]
    min_time: i64,
    /// Maximum timestamp, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MAX, allow_hyphen_values = true)]
    max_time: i64,
}

#[derive(Debug, Args)]
struct Import {
    #[command(flatten)]
    ours: Ours,
    /// More samples are refused before anything is written: they stay in memory, about two bytes each.
    #[arg(long, default_value_t = 1_000_000_000)]
    max_samples: u64,
    /// Directory of Prometheus. It is only read; no Prometheus should be writing to it.
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    ours: Ours,
    /// Print human readable values.
    #[arg(short = 'r', long)]
    human_readable: bool,
    /// Series selector. Can be specified multiple times; all series without it.
    #[arg(long = "match")]
    selectors: Vec<String>,
    /// The longest block that may be made.
    #[arg(long, default_value = "2h", value_parser = parse_block_ms)]
    max_block_duration: i64,
    /// Directory that gets the blocks: a new one, or that of a Prometheus.
    dir: PathBuf,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected label_name=label_value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_block_ms(text: &str) -> Result<i64, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

/// Runs the command of `args`, whose first word is `tsdb`.
pub fn main(args: &[String]) -> ExitCode {
    let parsed = Tsdb::try_parse_from(args).unwrap_or_else(|e| e.exit());
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = run(parsed.command, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Who read has had enough.
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, out: &mut dyn Write) -> Result<(), Error> {
    match command {
        Command::List(c) => list::list(&c.dir, c.human_readable, out),
        Command::Analyze(c) => {
            let question = analyze::Question {
                block: &c.block,
                limit: c.limit,
                is_extended: c.extended,
                selector: &c.selector,
            };
            analyze::analyze(&c.dir, &question, out)
        }
        Command::Dump(c) => {
            let form = match c.format {
                DumpFormat::Prom => dump::Form::Prometheus,
                DumpFormat::Seriesjson => dump::Form::SeriesJson,
            };
            run_dump(&c.which, form, out)
        }
        Command::DumpOpenmetrics(c) => run_dump(&c, dump::Form::OpenMetrics, out),
        Command::Bench(c) => {
            let BenchWhat::Write(c) = c.what;
            let question = bench::Question {
                input: c.file.as_deref(),
                dir: &c.out,
                series: c.metrics,
                scrapes: c.scrapes,
            };
            bench::write(&question, &SystemClock::shared(), out)
        }
        Command::CreateBlocksFrom(c) => run_create(&c, out),
        Command::Import(c) => run_import(&c, out),
        Command::Export(c) => run_export(&c, out),
    }
}

fn run_dump(which: &DumpOpenMetrics, form: dump::Form, out: &mut dyn Write) -> Result<(), Error> {
    let question =
        dump::Question { mint: which.min_time, maxt: which.max_time, selectors: &which.selectors, form };
    let damage = dump::dump(&which.dir, &question, out)?;
    report_damage(&damage);
    Ok(())
}

/// Says what was not read.
fn report_damage(damage: &[Damage]) {
    for d in damage {
        eprintln!("{}: {}: what is behind it was left out", d.path.display(), d.what);
    }
}

fn run_create(command: &CreateBlocksFrom, out: &mut dyn Write) -> Result<(), Error> {
    let Source::Openmetrics(from) = &command.source;
    let clock = SystemClock::shared();
    let dir: &Path = &from.dir;
    let mut writer = BlockWriter { dir, clock: &*clock, rng: Rng::from_entropy() };
    let question = create::Question {
        is_for_people: command.human_readable,
        is_quiet: command.quiet,
        block_ms_max: from.max_block_duration,
        labels: &from.labels,
    };
    create::create(&from.input, &mut writer, &question, out)
}

/// Our directory, locked, and the places of its shards.
fn open_ours(ours: &Ours) -> Result<(DataDir, Vec<Place>), Error> {
    let refused = |e: &dyn std::fmt::Display| Error::Refused(e.to_string());
    let shard_count = match (directory::shard_count(&ours.data_dir), ours.shards) {
        (Some(count), _) => count,
        (None, 0) => probe::probe()
            .and_then(|ground| ground.choose(&[]))
            .map_err(|e| refused(&e))?
            .len()
            .clamp(1, SHARDS_MAX) as u16,
        (None, count) => count.min(SHARDS_MAX as u16),
    };
    let dir = DataDir::open(&ours.data_dir, true, shard_count).map_err(|e| refused(&e))?;
    directory::adopt(&dir, shard_count).map_err(|e| refused(&e))?;
    let owner = |shard| Owner { directory_id: dir.id, shard, shard_count };
    let places = (0..shard_count).map(|shard| Place::new(&dir.path, owner(shard))).collect();
    Ok((dir, places))
}

fn run_import(command: &Import, out: &mut dyn Write) -> Result<(), Error> {
    let (dir, places) = open_ours(&command.ours)?;
    let source = SourceId(MeshSink::source_base(dir.start, IMPORT_SHARD) + 1);
    let target = import::Target { places, source, clock: SystemClock::shared() };
    let question = import::Question {
        mint: command.ours.min_time,
        maxt: command.ours.max_time,
        samples_max: command.max_samples,
    };
    let report = import::import(&command.dir, &target, &question)?;
    report_damage(&report.damage);
    writeln!(
        out,
        "{} series, {} samples taken, {} known before, {} refused",
        report.series, report.taken, report.known, report.refused
    )?;
    Ok(())
}

fn run_export(command: &Export, out: &mut dyn Write) -> Result<(), Error> {
    let (_dir, places) = open_ours(&command.ours)?;
    let clock = SystemClock::shared();
    let mut writer = BlockWriter { dir: &command.dir, clock: &*clock, rng: Rng::from_entropy() };
    let question = export::Question {
        mint: command.ours.min_time,
        maxt: command.ours.max_time,
        selectors: &command.selectors,
        block_ms: create::block_length(command.max_block_duration),
        is_for_people: command.human_readable,
    };
    export::export(&places, &mut writer, &question, out)
}
