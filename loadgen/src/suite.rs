//! What all workloads share: each system in turn, round by round, and a failure that is said and not fatal.

use serde_json::{Value, json};

use crate::error::Error;
use crate::system::{Spec, default_flags, version};

/// All systems in turn, `rounds` times over. A run that fails becomes a run that says so, and the next begins.
pub fn each(
    workload: &str,
    rounds: u32,
    specs: &[Spec],
    mut run_one: impl FnMut(&Spec) -> Result<Value, Error>,
) -> Vec<Value> {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for spec in specs {
            eprintln!("{workload} round {round}/{rounds}: {}", spec.name);
            settle();
            let mut run = run_one(spec).unwrap_or_else(|e| failed(&e));
            if let Some(why) = run["failed"].as_str() {
                eprintln!("  failed: {why}");
            }
            run["workload"] = json!(workload);
            run["system"] = json!(spec.name);
            run["version"] = json!(version(spec));
            let own = spec.flags.iter().map(String::as_str);
            run["flags"] = json!(default_flags(spec.kind).iter().copied().chain(own).collect::<Vec<_>>());
            run["round"] = json!(round);
            runs.push(run);
        }
    }
    runs
}

/// Has the machine write what was left to be written: else one system waits for the disk because of another's files.
fn settle() {
    // Where there is no such program, it is as it was.
    let _ = std::process::Command::new("sync").status();
}

fn failed(e: &Error) -> Value {
    json!({"failed": e.to_string(), "complaints": [format!("failed: {e}")]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    #[test]
    fn a_run_that_fails_is_said_and_the_others_go_on() {
        let exe = std::env::current_exe().unwrap_or_default();
        let specs = crate::system::parse_specs(&format!("ours-a={0},ours-b={0}", exe.display()));
        let runs = each("X1", 2, &specs.unwrap_or_default(), |spec| match spec.name.as_str() {
            "ours-a" => Err(Error::Usage("no".into())),
            _ => Ok(json!({"figure": 1})),
        });
        assert_eq!(runs.len(), 4);
        let report = report::wrap(&[], runs);
        assert_eq!(report::complaints(&report), ["X1 ours-a: failed: no"; 2]);
        assert_eq!(report::figure(&report, "X1", "ours-b", "/figure"), Some(1.0));
    }
}
