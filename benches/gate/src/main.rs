//! The gate: instruction counts of hot paths, held against the record in `benches/gate/record.txt`.
//!
//! Instructions, not time: they are the same on a busy machine and an idle one. They are counted by single steps
//! under ptrace, which needs no counter of the processor's and nothing installed; one path is some ten
//! thousand steps. The child is shown a processor without AVX-512, so that all machines with AVX2 run one code.
//!
//! `gate` checks, `gate --record "why"` writes what was counted, with the reason, behind what was recorded before.

mod counter;
mod paths;
mod record;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::record::{Judged, Record};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [counter::CHILD] => return counter::child(),
        [] => check(),
        ["--record", reason] => write(reason),
        _ => Err("usage: gate [--record \"why the numbers changed\"]".to_owned()),
    };
    match outcome {
        Ok(code) => code,
        Err(text) => {
            eprintln!("gate: {text}");
            ExitCode::FAILURE
        }
    }
}

fn record_path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/record.txt"))
}

fn read() -> Result<Record, String> {
    let text = std::fs::read_to_string(record_path()).unwrap_or_default();
    Record::parse(&text).map_err(|e| e.to_string())
}

/// Another compiler makes other code: its counts say nothing about ours.
fn compiler() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("--version").output().map_err(|e| format!("rustc --version: {e}"))?;
    let version = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{} {}", version.trim(), std::env::consts::ARCH))
}

fn check() -> Result<ExitCode, String> {
    let record = read()?;
    let compiler = compiler()?;
    if record.compiler != compiler {
        println!("gate: skipped: other compiler: recorded with {:?}, this is {compiler:?}", record.compiler);
        return Ok(ExitCode::SUCCESS);
    }
    let counts = match counter::count(paths::ALL) {
        Ok(counts) => counts,
        Err(counter::Error::Unable(why)) => {
            println!("gate: skipped: {why}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.to_string()),
    };
    let judged = record.judge(&counts);
    for one in &judged {
        println!("gate: {one}");
    }
    if judged.iter().any(Judged::is_bad) {
        println!(
            "gate: make it cheaper, or record why it costs more, in the same commit: make gate-record REASON=\"...\""
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn write(reason: &str) -> Result<ExitCode, String> {
    let mut record = read()?;
    let counts = counter::count(paths::ALL).map_err(|e| e.to_string())?;
    record.add(compiler()?, &counts, reason).map_err(|e| e.to_string())?;
    std::fs::write(record_path(), record.to_string())
        .map_err(|e| format!("{}: {e}", record_path().display()))?;
    print!("{record}");
    Ok(ExitCode::SUCCESS)
}
