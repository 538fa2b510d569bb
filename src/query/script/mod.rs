//! The test language of PromQL: scripts that load series, ask questions and say what the answers are.
//!
//! In: script files. Out: how many questions were answered as written. Owns: the shards a script fills.
//! Runs on: the caller's thread. Invariant: every instant question is asked again pinned by `@` at other times, and as
//! a range; the answers must be the same. Never: touches a disk but to read scripts.

mod check;
mod load;
mod parse;
mod rerun;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;

use crate::query::engine::{Answer, Engine, Options, Request, When};
use crate::query::merge::Local;
use parse::{Command, Eval, Time};

/// What became of one script.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub path: PathBuf,
    pub passed: usize,
    /// Line and what was wrong there.
    pub failures: Vec<(usize, String)>,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub files: Vec<FileReport>,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.files.iter().map(|f| f.passed).sum()
    }

    pub fn failed(&self) -> usize {
        self.files.iter().map(|f| f.failures.len()).sum()
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed) = (self.passed, self.failures.len());
        write!(f, "{}: {passed} passed, {failed} failed", self.path.display())?;
        for (line, what) in &self.failures {
            write!(f, "\n  line {line}: {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    /// A line for each file, those of its failures, and the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{file}")?;
        }
        write!(f, "{} passed, {} failed", self.passed(), self.failed())
    }
}

/// Runs scripts, and all `*.test` files of directories, over this many shards.
///
/// Errors: a path cannot be read.
pub fn run(paths: &[PathBuf], shard_count: usize) -> std::io::Result<Report> {
    let mut report = Report::default();
    for path in script_paths(paths)? {
        let text = std::fs::read(&path)?;
        report.files.push(run_text(&path, &String::from_utf8_lossy(&text), shard_count));
    }
    Ok(report)
}

fn script_paths(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
        inside.retain(|p| p.extension().is_some_and(|e| e == "test"));
        inside.sort();
        found.extend(inside);
    }
    Ok(found)
}

/// Runs one script.
pub fn run_text(path: &Path, text: &str, shard_count: usize) -> FileReport {
    let mut report = FileReport { path: path.to_owned(), passed: 0, failures: Vec::new() };
    let mut runner = Runner::new(shard_count);
    for (line, command) in parse::commands(text) {
        let result = command.and_then(|c| runner.command(&c));
        match result {
            Ok(true) => report.passed += 1,
            Ok(false) => {}
            Err(what) => report.failures.push((line, what)),
        }
    }
    report
}

struct Runner {
    engine: Engine,
    shard_count: usize,
    data: Local,
}

/// The options of the reference's runner: everything on, little memory.
fn options() -> Options {
    Options {
        language: promql::Options::ALL,
        samples_max: 10_000,
        delayed_name_removal: true,
        use_start_timestamps: true,
        ..Options::default()
    }
}

impl Runner {
    fn new(shard_count: usize) -> Runner {
        Runner { engine: Engine::new(options()), shard_count, data: Local::new(shard_count) }
    }

    /// Gives whether the command was a question, answered as written.
    fn command(&mut self, command: &Command) -> Result<bool, String> {
        match command {
            Command::Clear => self.data = Local::new(self.shard_count),
            Command::Load(load) => load::load(&mut self.data, load)?,
            Command::Eval(eval) => {
                self.eval(eval)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ask(&self, text: &str, when: When) -> Result<Answer, crate::query::Error> {
        block_on(self.engine.run(Request::new(text, when), &self.data))
    }

    fn eval(&self, eval: &Eval) -> Result<(), String> {
        match eval.time {
            Time::Range { start, end, step } => {
                self.checked(eval, &eval.expr, When::Range { start, end, step })?;
                Ok(())
            }
            Time::Instant(at) => {
                self.instant(eval, &eval.expr, at)?;
                for (text, at) in rerun::pinned(&eval.expr, at) {
                    self.instant(eval, &text, at).map_err(|e| format!("as {text} at {at} ms: {e}"))?;
                }
                Ok(())
            }
        }
    }

    /// Asks and compares; `None` where the question was to fail, and did.
    fn checked(&self, eval: &Eval, text: &str, when: When) -> Result<Option<Answer>, String> {
        match self.ask(text, when) {
            Err(e) => {
                check::failure(eval, &e.to_string())?;
                Ok(None)
            }
            Ok(_) if eval.fails() => Err("was to fail, but did not".into()),
            Ok(answer) => {
                check::annotations(eval, &answer.notes.texts(text, usize::MAX))?;
                check::value(eval, &answer.value)?;
                Ok(Some(answer))
            }
        }
    }

    fn instant(&self, eval: &Eval, text: &str, at: i64) -> Result<(), String> {
        let Some(answer) = self.checked(eval, text, When::Instant(at))? else { return Ok(()) };
        if eval.ordered() || !rerun::fits_range(text, &answer.value) {
            return Ok(());
        }
        const MINUTE: i64 = 60_000;
        let when = When::Range { start: at - MINUTE, end: at + MINUTE, step: MINUTE };
        let ranged = self.ask(text, when).map_err(|e| format!("as a range: {e}"))?;
        check::middle(eval, &answer.value, &ranged.value, at).map_err(|e| format!("as a range: {e}"))
    }
}
