//! `systole tune check|apply|undo|facts`: the machine judged from the command line, like a linter.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::rt::probe;
use crate::tune::change::{self, Files, Outcome};
use crate::tune::{Asked, Error, Finding, Level, Sheet, judge, read, report};

/// Something is off, or could not be done. Wrong usage is clap's 2.
const OFF: u8 = 1;

#[derive(Debug, Parser)]
#[command(
    name = "systole tune",
    about = "What is off on this machine, why it matters, and the line that fixes it"
)]
struct Command {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Print what is off; exit code 0 when all is well, 1 when something is off.
    Check(What),
    /// Make the changes that a running kernel takes, and record what was before.
    Apply {
        #[command(flatten)]
        what: What,
        /// Only print what would be written.
        #[arg(long)]
        dry_run: bool,
        /// Also what could be better on a machine of its own.
        #[arg(long)]
        could: bool,
        /// Where to record what was before.
        #[arg(long, default_value = change::RECORD)]
        record: PathBuf,
    },
    /// Put back what `apply` found.
    Undo {
        /// Only print what would be written.
        #[arg(long)]
        dry_run: bool,
        /// Where it was recorded.
        #[arg(long, default_value = change::RECORD)]
        record: PathBuf,
    },
    /// Print what `check` reads, to be judged elsewhere with `check --facts`.
    Facts(What),
}

#[derive(Args, Debug)]
struct What {
    /// Base path for storage.
    #[arg(long = "storage.tsdb.path", default_value = "data/")]
    data_dir: PathBuf,
    /// Shards to run; 0 for one on each CPU that this process may use.
    #[arg(long = "shards", default_value_t = 0)]
    shards: u32,
    /// Judge these facts, printed by `systole tune facts` on another machine, instead of this machine.
    #[arg(long = "facts")]
    facts: Option<PathBuf>,
}

/// Everything after `systole tune`.
pub fn main(args: &[String]) -> ExitCode {
    let words = std::iter::once("systole tune".to_owned()).chain(args.iter().cloned());
    match run(Command::parse_from(words).act) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(OFF),
        Err(error) => {
            eprintln!("systole: {error}");
            ExitCode::from(OFF)
        }
    }
}

/// Whether all is well.
fn run(act: Act) -> Result<bool, Error> {
    match act {
        Act::Check(what) => {
            let findings = findings(&what)?;
            print!("{}", report::findings(&findings));
            Ok(!report::complains(&findings))
        }
        Act::Facts(what) => {
            print!("{}", sheet(&what)?);
            Ok(true)
        }
        Act::Apply { what, dry_run, could, record } => apply(&what, dry_run, could, &record),
        Act::Undo { dry_run, record } => undo(dry_run, &record),
    }
}

fn apply(what: &What, dry_run: bool, could: bool, record: &Path) -> Result<bool, Error> {
    let findings = findings(what)?;
    let (changes, by_hand) = change::plan(&findings, if could { Level::Could } else { Level::Should });
    for finding in &by_hand {
        println!("by hand: {}: {}", finding.name, report::line(&finding.fix));
    }
    // Another machine's facts are no reason to change this one.
    if dry_run || what.facts.is_some() {
        changes.iter().for_each(|c| println!("would write {}: {}", c.path, c.after));
        return Ok(true);
    }
    Ok(said(&change::apply(&this_machine(), record, &changes)?))
}

fn undo(dry_run: bool, record: &Path) -> Result<bool, Error> {
    if dry_run {
        let changes = change::read_record(record)?;
        changes.iter().rev().for_each(|c| println!("would write {}: {}", c.path, c.before));
        return Ok(true);
    }
    Ok(said(&change::undo(&this_machine(), record)?))
}

/// Prints what was done; whether all of it was.
fn said(outcomes: &[Outcome]) -> bool {
    match outcomes.is_empty() {
        true => println!("nothing to change"),
        false => print!("{}", report::outcomes(outcomes)),
    }
    outcomes.iter().all(|o| o.error.is_none())
}

fn this_machine() -> Files {
    Files { root: PathBuf::from("/") }
}

fn findings(what: &What) -> Result<Vec<Finding>, Error> {
    Ok(judge(&sheet(what)?, &Asked { shards: what.shards }))
}

fn sheet(what: &What) -> Result<Sheet, Error> {
    match &what.facts {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path);
            let failed = |source| Error::File { operation: "read", path: name.clone(), source };
            Sheet::parse(&name, &text.map_err(failed)?)
        }
        None => {
            let uring = match probe::ring() {
                Ok(()) => "works".to_owned(),
                Err(error) => error.to_string(),
            };
            Ok(read::machine(Path::new("/"), &whole(&what.data_dir), &uring))
        }
    }
}

/// The data directory, or the nearest that is there already, without links: mounts are compared with it.
fn whole(dir: &Path) -> String {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let real = absolute.ancestors().find_map(|dir| std::fs::canonicalize(dir).ok());
    real.unwrap_or(absolute).display().to_string()
}
